//! The second half of a comparison: what is in the files that were found, the smallest of them first.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use sha2::{Digest, Sha256};

use super::diff::{Diff, Keep, Offer, opened, unreadable};
use super::limits::Limits;
use super::listing::Known;
use super::manifest::{Change, Counts, Differs, How, Kind, Sha256Hex, Why};
use super::name::Name;
use super::tree;
use crate::sys::clock;

/// Tells of every path of a file what was found by the one that was read.
fn tell_links(changes: &mut [Change]) {
    let read: HashMap<Name, Change> = {
        let named = changes.iter().filter_map(|change| change.same_as.as_ref()).collect::<HashSet<_>>();
        let first = changes.iter().filter(|change| change.same_as.is_none() && named.contains(&change.path));
        first.map(|change| (change.path.clone(), change.clone())).collect()
    };
    for change in changes {
        let Some(first) = change.same_as.as_ref().and_then(|name| read.get(name)) else { continue };
        (change.sha256, change.kept, change.sample, change.why) = (first.sha256, first.kept, first.sample, first.why);
        let is_new = first.change == How::Added || first.differs.contains(&Differs::Content);
        if change.change == How::Changed && is_new && !change.differs.contains(&Differs::Content) {
            change.differs.insert(0, Differs::Content);
        }
    }
}

/// Reads what was listed.
pub(super) struct Reading<'a> {
    pub upper: &'a File,
    pub lower: &'a File,
    pub limits: &'a Limits,
    /// What is known of files that were read before.
    pub known: &'a Known<'a>,
    /// Whether the container still rests. What is read of one that does not is not what was there when it did.
    pub rests: &'a dyn Fn() -> bool,
    /// Octets that may still be read.
    pub left: u64,
    /// When no more is read.
    pub until: i64,
    pub keep: &'a mut dyn Keep,
}

/// What reading a file gave.
struct Contents {
    hash: Sha256Hex,
    /// The octets, unless they are too many.
    octets: Option<Vec<u8>>,
    script: bool,
    changed: bool,
}

impl Reading<'_> {
    pub fn read_all(mut self, diff: &mut Diff) -> io::Result<()> {
        let mut order: Vec<usize> = (0..diff.changes.len()).collect();
        order.retain(|at| {
            let change = &diff.changes[*at];
            change.change != How::Deleted && change.entry.kind == Kind::File && change.same_as.is_none()
        });
        order.sort_by_key(|at| diff.changes[*at].entry.size);
        for at in order {
            self.read(&mut diff.changes[at], &mut diff.counts)?;
        }
        tell_links(&mut diff.changes);
        // Opened for writing, and left as it was.
        let before = diff.changes.len();
        diff.changes.retain(|change| change.change != How::Changed || change.opaque || !change.differs.is_empty());
        diff.counts.passed_over += (before - diff.changes.len()) as u64;
        Ok(())
    }

    fn read(&mut self, change: &mut Change, counts: &mut Counts) -> io::Result<()> {
        if let Some(before) = self.known.of(change) {
            (change.sha256, change.sample) = (before.sha256, before.sample);
            if before.differs.contains(&Differs::Content) && !change.differs.contains(&Differs::Content) {
                change.differs.insert(0, Differs::Content);
            }
            counts.samples += u64::from(change.sample);
            if let (true, Some(hash)) = (change.sample, change.sha256) {
                self.keep.kept_before(hash);
            }
            return Ok(());
        }
        let path = opened(&change.path);
        let contents = match self.contents(self.upper, path, change.entry.size) {
            Ok(contents) => contents,
            Err(why) => {
                change.why = Some(why);
                // Not known to be the image's.
                if change.change == How::Changed && !change.differs.contains(&Differs::Content) {
                    change.differs.insert(0, Differs::Content);
                }
                return Ok(());
            }
        };
        change.sha256 = Some(contents.hash);
        if contents.changed {
            change.why = Some(Why::ChangedMeanwhile);
        }
        if let Some(was) = &change.was
            && was.kind == Kind::File
            && was.size == change.entry.size
        {
            match self.contents(self.lower, path, was.size) {
                Ok(old) if old.hash == contents.hash => return Ok(()),
                _ => change.differs.insert(0, Differs::Content),
            }
        }
        change.sample = contents.script || change.entry.mode.0 & 0o111 != 0;
        counts.samples += u64::from(change.sample);
        let Some(octets) = contents.octets else {
            change.why.get_or_insert(Why::FileTooLarge);
            return Ok(());
        };
        if change.sample {
            self.keep.sample(contents.hash, &octets)?;
        }
        match self.keep.content(contents.hash, &octets)? {
            Offer::Kept => {
                change.kept = true;
                counts.kept += 1;
                counts.octets += octets.len() as u64;
            }
            Offer::Full => drop(change.why.get_or_insert(Why::ArchiveFull)),
            Offer::Unwanted => {}
        }
        Ok(())
    }

    fn contents(&mut self, root: &File, path: &[u8], size: u64) -> Result<Contents, Why> {
        if !(self.rests)() {
            return Err(Why::WentOn);
        }
        // A file with holes may claim more than any disk has.
        if size > self.left || clock::monotonic_micros() >= self.until {
            return Err(Why::ReadEnough);
        }
        let file = tree::file(root, path).map_err(|error| unreadable(&error))?;
        let before = file.metadata().map_err(|_| Why::Unreadable)?;
        let mut digest = Sha256::new();
        let mut octets = Some(Vec::new());
        let most = self.limits.file;
        let mut in_time = true;
        let read = tree::read(&file, self.left, |piece| {
            digest.update(piece);
            match &mut octets {
                Some(all) if all.len() as u64 + piece.len() as u64 <= most => all.extend_from_slice(piece),
                _ => octets = None,
            }
            in_time = clock::monotonic_micros() < self.until;
            in_time && (self.rests)()
        });
        let read = read.map_err(|_| Why::Unreadable)?;
        self.left -= read;
        let after = file.metadata().map_err(|_| Why::Unreadable)?;
        if !(self.rests)() {
            return Err(Why::WentOn);
        }
        if (self.left == 0 || !in_time) && after.size() > read {
            return Err(Why::ReadEnough);
        }
        let state = |meta: &Metadata| (meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        let script = octets.as_ref().is_some_and(|octets| octets.starts_with(b"\x7fELF") || octets.starts_with(b"#!"));
        Ok(Contents {
            hash: Sha256Hex(digest.finalize().into()),
            octets,
            script,
            changed: state(&before) != state(&after) || read != size,
        })
    }
}
