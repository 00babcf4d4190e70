//! What recordings take on the disk: the directories of sessions, how much of them is kept, and what is left out first
//! where the disk is nearly full.
//!
//! Of a disk a part stays free for what tells most in least room: contents of files (and raw octets) end where less than
//! 5 % of it or 512 MiB is left, whichever is less, transcripts where less than 2 % or 128 MiB is, tapes where less than
//! 1 % or 64 MiB is. The event log goes on until it takes nothing.
//!
//! Nobody's recordings take the place of everybody else's. Sessions that go on share half of the whole: one of them may
//! have a quarter of what the others leave of it, so an eighth if it is alone. Like that a few that take all they can
//! leave little to those who come later, so each has a small part for certain, as long as those that go on have no
//! more than three quarters. Where sessions that are over have to make room, large ones go first.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::TapeLimits;
use super::notice::Notice;
use super::room::{Kind, Limit, Look, Scarce, share, takes};
use crate::event::{EventId, SessionId, Utc};
use crate::record::{Retention, Trust};

/// A session with more than this part of the whole (32 MiB of 8 GiB) is large.
const LARGE: u64 = 256;
/// One session may have a quarter of the parts that are written at once.
const PARTS: usize = 4;
/// The directory beside those of sessions that tells which connections are being recorded.
const OPEN: &str = "open";
/// What a file takes at least.
pub const BLOCK: u64 = 4096;
/// Octets that are written before the disk is looked at again: a part of what is free, and this at most and at least.
const UNSEEN: u64 = 4 << 20;
const UNSEEN_PART: u64 = 16;
const UNSEEN_LEAST: u64 = 64 << 10;

#[derive(Debug)]
struct Held {
    octets: u64,
    files: u64,
    /// When something was written there last, in microseconds since 1970; and to the file that was left alone longest.
    latest: i64,
    earliest: i64,
    /// Connections that are being recorded.
    open: u32,
    /// Parts that are being written.
    parts: usize,
    /// Of which limits it was told that they are reached.
    told: [bool; Limit::COUNT],
}

/// The directories of sessions.
pub struct Store {
    dir: PathBuf,
    limits: TapeLimits,
    look: Look,
    held: HashMap<SessionId, Held>,
    total: u64,
    /// Octets of the sessions that go on.
    ongoing: u64,
    /// Sessions that came back and found no room for what was theirs.
    returned: u64,
    /// Files that are open, but for tapes.
    parts: usize,
    /// Limits that were reached and are not told of yet.
    limited: Vec<(SessionId, Limit)>,
    scarce: Scarce,
    /// The worst that was told since there was plenty.
    told: Scarce,
    retention: Retention,
    unseen: u64,
    /// How many octets are written before the disk is looked at again.
    look_after: u64,
    /// What the disk said last, if that was not told yet; and if it has taken nothing since.
    refused: Option<String>,
    refusing: Option<String>,
}

impl Store {
    /// What lies in `dir`, which is made if need be.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub fn open(dir: PathBuf, limits: TapeLimits, look: Look) -> io::Result<Store> {
        make(&dir.join(OPEN))?;
        let mut held = HashMap::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| name.parse::<SessionId>().ok());
            let Some(id) = id.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) else { continue };
            held.insert(id, Held::of(&entry.path()).unwrap_or_default());
        }
        let total = held.values().map(|held| held.octets).sum();
        let mut store = Store {
            dir,
            limits,
            look,
            held,
            total,
            ongoing: 0,
            returned: 0,
            parts: 0,
            limited: Vec::new(),
            scarce: Scarce::Nothing,
            told: Scarce::Nothing,
            retention: Retention::new(limits.age_secs),
            unseen: 0,
            look_after: UNSEEN_LEAST,
            refused: None,
            refusing: None,
        };
        store.measure();
        Ok(store)
    }

    /// Deletes nothing for being old while `trust` says so.
    pub fn trusting(&mut self, trust: Trust) {
        self.retention.trusting(trust);
    }

    /// The directory of session `id`, made if need be, in which a connection is being recorded from now on.
    pub fn enter(&mut self, id: SessionId, now: Utc) -> PathBuf {
        // What was over goes on again, and cannot make room any more: whoever has much takes that from their own.
        let total = self.limits.total;
        let is_too_much = |held: &Held| {
            held.open == 0 && held.octets > total / LARGE && self.ongoing.saturating_add(held.octets) > total / 2
        };
        if self.held.get(&id).is_some_and(is_too_much) {
            self.returned += u64::from(self.remove(id));
        }
        self.enter_again(id, now)
    }

    /// The same where it goes on with what it was recording.
    pub fn enter_again(&mut self, id: SessionId, now: Utc) -> PathBuf {
        if let Err(error) = self.make(id) {
            self.refuse(&error);
        }
        // While nothing was recorded, nobody has looked.
        self.measure();
        let held = self.held.entry(id).or_default();
        if held.open == 0 {
            self.ongoing += held.octets;
        }
        held.open += 1;
        held.latest = held.latest.max(now.micros());
        held.earliest = held.earliest.min(now.micros());
        self.dir.join(id.to_string())
    }

    /// The directory of session `id`.
    pub fn path(&self, id: SessionId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// Where it is written down which connections are being recorded.
    pub fn open_connections(&self) -> PathBuf {
        self.dir.join(OPEN)
    }

    /// Makes the directory of session `id`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn make(&self, id: SessionId) -> io::Result<()> {
        make(&self.dir.join(id.to_string()))
    }

    /// The connection is over.
    pub fn leave(&mut self, id: SessionId, now: Utc) {
        if let Some(held) = self.held.get_mut(&id) {
            if held.open == 1 {
                self.ongoing = self.ongoing.saturating_sub(held.octets);
            }
            held.open = held.open.saturating_sub(1);
            held.latest = held.latest.max(now.micros());
        }
    }

    /// Whether `octets` more may be written for session `id`, of one thing that has `has` of the session's so far.
    pub fn has_room(&mut self, id: SessionId, kind: Kind, has: u64, octets: u64) -> bool {
        let own = self.held.get(&id).map_or(0, |held| held.octets);
        let (total, others) = (self.limits.total, self.ongoing.saturating_sub(own));
        let limit = takes(kind, share(total, others), own, has, octets).err();
        limit.inspect(|limit| self.limited(id, *limit)).is_none()
    }

    /// Whether one more connection of session `id` may have a tape.
    pub fn has_room_for_tape(&mut self, id: SessionId) -> bool {
        if self.files(id) >= self.limits.files {
            self.limited(id, Limit::Files);
            return false;
        }
        self.has_room(id, Kind::Tape, 0, BLOCK)
    }

    /// Whether a connection of session `id` that is over keeps its files, where that many may be there at most.
    pub fn may_stay(&mut self, id: SessionId, limit: Limit) -> bool {
        let most = match limit {
            Limit::Strangers => self.limits.strangers,
            Limit::Unsure => self.limits.unsure,
            _ => self.limits.files,
        };
        let may_stay = self.files(id) <= most;
        if !may_stay {
            self.limited(id, limit);
        }
        may_stay
    }

    /// Octets of session `id`.
    #[cfg(test)]
    pub fn octets(&self, id: SessionId) -> u64 {
        self.held.get(&id).map_or(0, |held| held.octets)
    }

    /// Files of session `id`.
    pub fn files(&self, id: SessionId) -> u64 {
        self.held.get(&id).map_or(0, |held| held.files)
    }

    /// Whether one more part may be written for session `id`; it counts until [`Store::end_part`].
    pub fn begin_part(&mut self, id: SessionId, kind: Kind) -> bool {
        let held = self.held.entry(id).or_default();
        if held.files >= kind.of(self.limits.files) {
            self.limited(id, Limit::Files);
            return false;
        }
        self.begin_part_again(id)
    }

    /// The same of a part that another process has begun.
    pub fn begin_part_again(&mut self, id: SessionId) -> bool {
        let TapeLimits { parts, .. } = self.limits;
        let held = self.held.entry(id).or_default();
        if self.parts >= parts || held.parts >= (parts / PARTS).max(1) {
            self.limited(id, Limit::Parts);
            return false;
        }
        held.parts += 1;
        self.parts += 1;
        true
    }

    /// A part of session `id` is written no longer.
    pub fn end_part(&mut self, id: SessionId) {
        self.parts = self.parts.saturating_sub(1);
        if let Some(held) = self.held.get_mut(&id) {
            held.parts = held.parts.saturating_sub(1);
        }
    }

    fn limited(&mut self, id: SessionId, limit: Limit) {
        if let Some(held) = self.held.get_mut(&id)
            && !std::mem::replace(&mut held.told[limit as usize], true)
        {
            self.limited.push((id, limit));
        }
    }

    /// A file was created for session `id`.
    pub fn created(&mut self, id: SessionId) {
        self.held.entry(id).or_default().files += 1;
        self.wrote(id, BLOCK);
    }

    /// So many octets were written, of which the disk has taken all.
    pub fn wrote(&mut self, id: SessionId, octets: u64) {
        let held = self.held.entry(id).or_default();
        held.octets += octets;
        if held.open > 0 {
            self.ongoing += octets;
        }
        self.total += octets;
        self.unseen += octets;
        if self.unseen >= self.look_after {
            self.measure();
        }
    }

    /// Deletes a file of session `id`, if it is there.
    pub fn discard(&mut self, id: SessionId, path: &Path) {
        let Ok(about) = path.symlink_metadata() else { return };
        match fs::remove_file(path) {
            Ok(()) => self.removed(id, about.len()),
            Err(error) => tracing::warn!(%error, path = %path.display(), "cannot delete a recording"),
        }
    }

    /// A file of so many octets is gone again.
    pub fn removed(&mut self, id: SessionId, octets: u64) {
        let octets = octets + BLOCK;
        if let Some(held) = self.held.get_mut(&id) {
            held.files = held.files.saturating_sub(1);
            held.octets = held.octets.saturating_sub(octets);
            if held.open > 0 {
                self.ongoing = self.ongoing.saturating_sub(octets);
            }
        }
        self.total = self.total.saturating_sub(octets);
    }

    /// The disk did not take something.
    pub fn refuse(&mut self, error: &io::Error) {
        if self.refusing.is_none() {
            tracing::error!(%error, dir = %self.dir.display(), "connections cannot be recorded to the disk");
            self.refused = Some(error.to_string());
            self.refusing = self.refused.clone();
        }
    }

    /// The same of something of session `id`.
    pub fn refuse_of(&mut self, id: SessionId, error: &io::Error) {
        self.refuse(error);
        self.limited(id, Limit::Disk);
    }

    /// It takes something.
    pub fn accept(&mut self) {
        self.refusing = None;
    }

    /// What there is no room for.
    pub fn scarce(&self) -> Scarce {
        self.scarce
    }

    /// Why less is kept than should be, if that is so.
    pub fn trouble(&self) -> Option<String> {
        match (&self.refusing, self.scarce.left_out()) {
            (Some(error), _) => Some(refused(error)),
            (None, left_out) => left_out.map(nearly_full),
        }
    }

    /// Makes room and looks whether there is, and tells of both.
    pub fn tend(&mut self, now: Utc, told: &mut Vec<Notice>) {
        let gone = self.prune() + std::mem::take(&mut self.returned);
        if gone > 0 {
            let TapeLimits { total, sessions, .. } = self.limits;
            let why = format!("limit: recordings of connections exceeded {total} octets or {sessions} sessions");
            told.push(Notice::of_recording(EventId::RecordingDeleted, now, gone, &why));
        }
        let old = self.retention.due(now).map(|before| (before, self.forget(before)));
        if let Some((before, sessions)) = old.filter(|(_, sessions)| *sessions > 0) {
            let why = format!("retention: recordings of connections were from before {before}");
            told.push(Notice::of_recording(EventId::RecordingDeleted, now, sessions, &why));
        }
        if self.unseen > 0 || gone > 0 || old.is_some() || self.scarce != Scarce::Nothing {
            self.measure();
        }
        if self.scarce > self.told {
            self.told = self.scarce;
            let why = self.scarce.left_out().map(nearly_full);
            told.extend(why.map(|why| Notice::of_recording(EventId::RecordingFailed, now, 1, &why)));
        }
        let why = self.refused.take().map(|error| refused(&error));
        told.extend(why.map(|why| Notice::of_recording(EventId::RecordingFailed, now, 1, &why)));
        for (id, limit) in std::mem::take(&mut self.limited) {
            told.push(Notice::of_session(EventId::RecordingFailed, now, id, &limit.told(&self.limits)));
        }
    }

    fn measure(&mut self) {
        self.unseen = 0;
        let Ok(space) = (self.look)(&self.dir) else { return };
        self.scarce = space.scarce();
        self.look_after = (space.free / UNSEEN_PART).clamp(UNSEEN_LEAST, UNSEEN);
        // A little more and a little less by turns is one story.
        if space.free >= 2 * space.for_contents() {
            self.told = Scarce::Nothing;
        }
    }

    /// Forgets sessions, but for those that go on, a tenth more than needed: large ones first, as each stands for many,
    /// where octets are too many; then those that were heard of longest ago.
    fn prune(&mut self) -> u64 {
        let TapeLimits { total, sessions, .. } = self.limits;
        if self.total < total && self.held.len() < sessions {
            return 0;
        }
        let ended = self.held.iter().filter(|(_, held)| held.open == 0);
        let is_large = |octets| self.total >= total && octets > total / LARGE;
        let order = |held: &Held| {
            if is_large(held.octets) { (false, !held.octets, held.latest) } else { (true, 0, held.latest) }
        };
        let mut ended: Vec<_> = ended.map(|(id, held)| (order(held), *id)).collect();
        ended.sort_unstable();
        let (mut gone, enough) = (0, (total - total / 10, sessions - sessions / 10));
        for (_, id) in ended {
            if self.total <= enough.0 && self.held.len() <= enough.1 {
                break;
            }
            gone += u64::from(self.remove(id));
        }
        gone
    }

    /// Forgets a session in which nothing is recorded; returns whether that has gone.
    fn remove(&mut self, id: SessionId) -> bool {
        let dir = self.dir.join(id.to_string());
        // Whatever lies in it lies flat; what cannot go is not counted again before the next start.
        let removed = fs::remove_dir_all(&dir);
        self.total -= self.held.remove(&id).map_or(0, |held| held.octets).min(self.total);
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, dir = %dir.display(), "cannot delete an old session's recordings");
                false
            }
            _ => true,
        }
    }
}

impl Store {
    /// Deletes files that nothing was written to since `before`, but for those of sessions that go on. Returns of how many
    /// sessions there were some.
    fn forget(&mut self, before: Utc) -> u64 {
        let before = before.micros();
        let old = self.held.iter().filter(|(_, held)| held.open == 0 && held.earliest < before);
        let old: Vec<(SessionId, bool)> = old.map(|(id, held)| (*id, held.latest < before)).collect();
        let mut gone = 0;
        for (id, is_all) in old {
            let dir = self.dir.join(id.to_string());
            let removed = if is_all { fs::remove_dir_all(&dir).map(|()| 1) } else { remove_old(&dir, before) };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, dir = %dir.display(), "cannot delete an old session's recordings");
                    continue;
                }
                removed => gone += u64::from(removed.is_ok_and(|count| count > 0)),
            }
            let before = self.held.remove(&id).map_or(0, |held| held.octets);
            self.total = self.total.saturating_sub(before);
            if !is_all && let Ok(held) = Held::of(&dir) {
                self.total += held.octets;
                self.held.insert(id, held);
            }
        }
        gone
    }
}

fn nearly_full(left_out: &str) -> String {
    format!("disk: it is nearly full; {left_out} recorded until there is room again")
}

fn refused(error: &str) -> String {
    format!("disk: connections cannot be recorded ({error}); events go on")
}

/// Removes files in `dir` to which nothing was written since `before`, and returns how many.
fn remove_old(dir: &Path, before: i64) -> io::Result<u64> {
    let mut gone = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.metadata().is_ok_and(|about| about.is_file() && modified(&about) < before) {
            fs::remove_file(entry.path())?;
            gone += 1;
        }
    }
    Ok(gone)
}

/// When something was written last, in microseconds since 1970.
fn modified(about: &fs::Metadata) -> i64 {
    let since = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_micros().try_into().unwrap_or(0))
}

impl Default for Held {
    fn default() -> Held {
        Held { octets: 0, files: 0, latest: 0, earliest: i64::MAX, open: 0, parts: 0, told: [false; Limit::COUNT] }
    }
}

impl Held {
    fn of(dir: &Path) -> io::Result<Held> {
        let mut held = Held::default();
        for entry in fs::read_dir(dir)? {
            let Ok(about) = entry?.metadata() else { continue };
            held.files += 1;
            held.octets += about.len() + BLOCK;
            let modified = modified(&about);
            (held.latest, held.earliest) = (held.latest.max(modified), held.earliest.min(modified));
        }
        Ok(held)
    }
}

fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
