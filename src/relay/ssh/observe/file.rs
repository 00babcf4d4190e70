//! One file on its way.

use bytes::Bytes;
use ring::digest::{Context, SHA256};

use super::again::{Marks, Parts, Reread};
use crate::relay::tape::{Entry, PIECE};
use crate::wire::hex;

/// A file that moves.
pub(in crate::relay::ssh) struct Moving {
    file: u32,
    /// Octets of it so far, each counted once. As long as they are in order that is where the next ones belong.
    size: u64,
    /// Octets that were among them before.
    again: u64,
    parts: Parts,
    digest: Context,
    marks: Marks,
    /// What moves once more, and is not known yet to be the same.
    reread: Option<Reread>,
    /// Every piece was the next one, or what had moved before.
    in_order: bool,
    /// How much more is kept.
    keep: u64,
    kept: bool,
}

impl Moving {
    pub(super) fn new(file: u32, keep: u64, marks: Marks) -> Moving {
        Moving {
            file,
            size: 0,
            again: 0,
            parts: Parts::default(),
            digest: Context::new(&SHA256),
            marks,
            reread: None,
            in_order: true,
            keep,
            kept: true,
        }
    }

    /// Its number.
    pub(super) fn file(&self) -> u32 {
        self.file
    }

    /// A request, or an answer, begins whose octets belong at `offset`: what moves once more is likely to begin at such a place.
    pub(super) fn begins(&mut self, offset: u64) {
        if self.in_order && self.reread.as_ref().is_none_or(|reread| reread.at() != offset) {
            self.settle();
        }
        if self.in_order && offset == self.size {
            self.marks.put(offset, &self.digest);
        }
    }

    /// Octets that belong at `offset`.
    pub(super) fn data(&mut self, offset: u64, mut data: Bytes, told: &mut Vec<Entry>) {
        let (count, next) = (data.len() as u64, self.size);
        let again = self.parts.add(offset, count);
        (self.size, self.again) = (self.size.saturating_add(count - again), self.again.saturating_add(again));
        if offset > next {
            self.miss();
        }
        if !self.in_order {
            return;
        }
        let before = usize::try_from(next - offset).map_or(data.len(), |before| before.min(data.len()));
        let before = data.split_to(before);
        if !before.is_empty() {
            self.compare(offset, &before);
            if offset + before.len() as u64 == next {
                self.settle_at(next);
            }
        }
        if data.is_empty() || !self.in_order {
            return;
        }
        self.digest.update(&data);
        let keep = usize::try_from(self.keep).map_or(data.len(), |keep| keep.min(data.len()));
        self.kept &= keep == data.len();
        self.keep -= keep as u64;
        let pieces = (0..keep).step_by(PIECE).map(|at| (next + at as u64, data.slice(at..keep.min(at + PIECE))));
        told.extend(pieces.map(|(offset, data)| Entry::FilePiece { file: self.file, offset, data }));
    }

    /// The next octets.
    pub(super) fn next(&mut self, data: Bytes, told: &mut Vec<Entry>) {
        self.data(self.size, data, told);
    }

    /// Octets that have moved before: they have to be the same.
    fn compare(&mut self, offset: u64, data: &[u8]) {
        if self.reread.as_ref().is_none_or(|reread| reread.at() != offset) {
            self.settle();
            self.reread = self.marks.get(offset).map(|digest| Reread::new(offset, digest.clone()));
        }
        match &mut self.reread {
            Some(reread) => reread.update(data),
            None => self.miss(),
        }
    }

    /// What has moved once more ends where it does.
    fn settle(&mut self) {
        self.settle_at(self.size);
    }

    /// The same where the next octets belong at `next`.
    fn settle_at(&mut self, next: u64) {
        let Some(reread) = self.reread.take() else { return };
        let first = if reread.at() == next { Some(&self.digest) } else { self.marks.get(reread.at()) };
        // Where nobody has looked it may be the same or not.
        if !first.is_some_and(|first| reread.is(first)) {
            self.miss();
        }
    }

    /// Something of it was not seen, or is not what it was.
    pub(super) fn miss(&mut self) {
        self.in_order = false;
        self.kept = false;
        self.reread = None;
        self.marks.clear();
    }

    /// Nothing more of it comes.
    pub(super) fn end(mut self) -> Entry {
        self.settle();
        let sha256 = self.in_order.then(|| hex(self.digest.finish().as_ref()));
        Entry::FileEnd { file: self.file, size: self.size, again: self.again, sha256, kept: self.kept }
    }
}
