//! Executables and scripts, kept once by their hash for all of a honeynet's evidence.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::archive::{LEVEL, SAMPLE_ENDING, UNFINISHED, create};
use super::diff::{Keep, Offer};
use super::manifest::Sha256Hex;
use crate::event::Utc;

/// Takes samples, and nothing else.
pub struct Samples<'a> {
    directory: BorrowedFd<'a>,
    /// What tells this inspector's unfinished files from another's.
    stem: String,
    taken: Utc,
    /// Octets of new samples that still fit: one container must not drive out the evidence of all others.
    room: u64,
    used: BTreeSet<Sha256Hex>,
    /// Those that were not there before.
    pub new: u64,
    /// Octets of these, as they were.
    pub octets: u64,
}

impl<'a> Samples<'a> {
    /// Those in `directory`, of which `room` octets may be new.
    pub fn new(directory: BorrowedFd<'a>, stem: String, taken: Utc, room: u64) -> Samples<'a> {
        Samples { directory, stem, taken, room, used: BTreeSet::new(), new: 0, octets: 0 }
    }

    /// Has those that belong to what was taken be as old as that.
    pub fn touch(&self) {
        let now = Timespec { tv_sec: self.taken.micros() / 1_000_000, tv_nsec: 0 };
        for hash in &self.used {
            let times = Timestamps { last_access: now, last_modification: now };
            let name = format!("{hash}{SAMPLE_ENDING}");
            let _ = rustix::fs::utimensat(self.directory, name, &times, AtFlags::SYMLINK_NOFOLLOW);
        }
    }
}

impl Keep for Samples<'_> {
    fn content(&mut self, _: Sha256Hex, _: &[u8]) -> io::Result<Offer> {
        Ok(Offer::Unwanted)
    }

    fn sample(&mut self, hash: Sha256Hex, octets: &[u8]) -> io::Result<()> {
        let name = format!("{hash}{SAMPLE_ENDING}");
        let there = rustix::fs::statat(self.directory, &*name, AtFlags::SYMLINK_NOFOLLOW);
        if there.is_err() {
            let Some(room) = self.room.checked_sub(octets.len() as u64) else { return Ok(()) };
            // Two inspectors may write the same one at once, each under a name of its own. One that was killed may have
            // left it.
            let unfinished = format!("{UNFINISHED}{}-{hash}", self.stem);
            let _ = rustix::fs::unlinkat(self.directory, &*unfinished, AtFlags::empty());
            let written = create(self.directory, &unfinished).and_then(|file| {
                let mut encoder = zstd::Encoder::new(file, LEVEL)?;
                encoder.write_all(octets)?;
                encoder.finish()?.sync_all()?;
                Ok(rustix::fs::renameat(self.directory, &*unfinished, self.directory, &*name)?)
            });
            if let Err(error) = written {
                let _ = rustix::fs::unlinkat(self.directory, &*unfinished, AtFlags::empty());
                return Err(error);
            }
            self.room = room;
            self.new += 1;
            self.octets += octets.len() as u64;
        }
        self.used.insert(hash);
        Ok(())
    }

    fn kept_before(&mut self, hash: Sha256Hex) {
        self.used.insert(hash);
    }
}
