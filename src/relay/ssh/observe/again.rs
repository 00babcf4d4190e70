//! What of a file moves more than once.
//!
//! A client of SFTP says where in a file what it reads or writes belongs, and may come back to it. Paramiko does so when it
//! downloads: a thread asks for the whole file ahead, and where the answers overtake that thread what wants the octets asks for
//! them, too, one request after the other. All of the file but its beginning moves twice then, and yet it is one file.
//!
//! What is the same as before is nothing new; what is not makes it unknown what the file is. Its octets are not held here, so
//! they are compared by their digest, from where a request began to where one ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ring::digest::Context;

/// Parts of a file that are told apart. Who reads it from its beginning has one, and a second one where it reads ahead.
const PARTS: usize = 64;
/// Places that are remembered of all files in a connection that move: of 32 KiB each 32 MiB. One is some 250 octets.
const MARKS: u32 = 1024;

/// Which octets of a file have moved.
#[derive(Default)]
pub(super) struct Parts(Vec<(u64, u64)>);

impl Parts {
    /// So many octets at `start` move; returns how many of them have before.
    pub(super) fn add(&mut self, start: u64, count: u64) -> u64 {
        let end = start.saturating_add(count);
        // Those that it overlaps, or is next to.
        let from = self.0.partition_point(|(_, last)| *last < start);
        let to = self.0.partition_point(|(first, _)| *first <= end);
        let touched = self.0.get(from..to).unwrap_or_default();
        let overlap = |(first, last): &(u64, u64)| end.min(*last).saturating_sub(start.max(*first));
        let before = touched.iter().map(overlap).sum();
        let is_full = self.0.len() >= PARTS;
        let first = match touched.first() {
            None if is_full => return before,
            None => start,
            // What is before it may come octet by octet, and would be one more part then.
            Some((first, _)) if is_full => *first,
            Some((first, _)) => start.min(*first),
        };
        let last = touched.last().map_or(end, |(_, last)| end.max(*last));
        self.0.splice(from..to, [(first, last)]);
        before
    }
}

/// How much more may be remembered in a connection.
#[derive(Clone)]
pub(super) struct Room(Arc<AtomicU32>);

impl Default for Room {
    fn default() -> Room {
        Room(Arc::new(AtomicU32::new(MARKS)))
    }
}

/// The digest of what comes before a place in a file, at places at which requests begin.
pub(super) struct Marks {
    room: Room,
    at: BTreeMap<u64, Context>,
}

impl Marks {
    pub(super) fn new(room: Room) -> Marks {
        Marks { room, at: BTreeMap::new() }
    }

    /// Remembers `digest`, of all before `offset`, if there is room.
    pub(super) fn put(&mut self, offset: u64, digest: &Context) {
        let take = |room: u32| room.checked_sub(1);
        if !self.at.contains_key(&offset)
            && self.room.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
        {
            self.at.insert(offset, digest.clone());
        }
    }

    pub(super) fn get(&self, offset: u64) -> Option<&Context> {
        self.at.get(&offset)
    }

    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        self.room.0.fetch_add(u32::try_from(self.at.len()).unwrap_or(MARKS), Ordering::Relaxed);
        self.at.clear();
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What moves once more.
pub(super) struct Reread {
    at: u64,
    digest: Context,
}

impl Reread {
    /// From `at` on; `digest` is that of all before.
    pub(super) fn new(at: u64, digest: Context) -> Reread {
        Reread { at, digest }
    }

    /// Where it goes on.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        self.digest.update(data);
        self.at = self.at.saturating_add(data.len() as u64);
    }

    /// Whether all up to there is what has `digest`.
    pub(super) fn is(self, digest: &Context) -> bool {
        self.digest.finish().as_ref() == digest.clone().finish().as_ref()
    }
}
