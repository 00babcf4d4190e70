//! One file on its way.

use bytes::Bytes;
use ring::digest::{Context, SHA256};

use crate::relay::tape::{Entry, PIECE};
use crate::wire::hex;

/// A file that moves.
pub(in crate::relay::ssh) struct Moving {
    file: u32,
    /// Octets so far, which is where the next ones belong.
    size: u64,
    digest: Context,
    /// Every piece was the next one.
    in_order: bool,
    /// How much more is kept.
    keep: u64,
    kept: bool,
}

impl Moving {
    pub(super) fn new(file: u32, keep: u64) -> Moving {
        Moving { file, size: 0, digest: Context::new(&SHA256), in_order: true, keep, kept: true }
    }

    /// Its number.
    pub(super) fn file(&self) -> u32 {
        self.file
    }

    /// Octets that belong at `offset`.
    pub(super) fn data(&mut self, offset: u64, data: Bytes, told: &mut Vec<Entry>) {
        self.in_order &= offset == self.size;
        self.size += data.len() as u64;
        if !self.in_order {
            self.kept = false;
            return;
        }
        self.digest.update(&data);
        let keep = usize::try_from(self.keep).map_or(data.len(), |keep| keep.min(data.len()));
        self.kept &= keep == data.len();
        self.keep -= keep as u64;
        let pieces = (0..keep).step_by(PIECE).map(|at| (offset + at as u64, data.slice(at..keep.min(at + PIECE))));
        told.extend(pieces.map(|(offset, data)| Entry::FilePiece { file: self.file, offset, data }));
    }

    /// The next octets.
    pub(super) fn next(&mut self, data: Bytes, told: &mut Vec<Entry>) {
        self.data(self.size, data, told);
    }

    /// Something of it was not seen.
    pub(super) fn miss(&mut self) {
        self.in_order = false;
        self.kept = false;
    }

    /// Nothing more of it comes.
    pub(super) fn end(self) -> Entry {
        let sha256 = self.in_order.then(|| hex(self.digest.finish().as_ref()));
        Entry::FileEnd { file: self.file, size: self.size, sha256, kept: self.kept }
    }
}
