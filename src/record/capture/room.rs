//! Which captures go so that there is room for others, and for what tells more in less room.
//!
//! Where a disk gets full, captures give way first: those that are over go, the oldest before others, while contents of
//! files are kept still; then no frame is taken any more; at last those that were being written go as well.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::time::SystemTime;

use super::compress::Compressor;
use super::{CaptureLimits, CaptureSet, CaptureSource, Kept, names};
use crate::event::Utc;
use crate::record::tape::Space;

/// How often the oldest capture goes while the disk takes nothing.
const RELIEF_NANOS: u64 = 1_000_000_000;
/// Octets that a frame takes beside its own.
const AROUND: u64 = 48;
/// Why frames are left out.
const LEFT_OUT: &str = "disk: it is nearly full; frames are not captured until there is room again";

/// Why files were deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// All of them were too large.
    Total,
    /// A series was.
    Series,
    /// They were too many.
    Files,
    /// The disk took nothing any more.
    Disk,
    /// They are from before a time.
    Age,
}

/// Files that were deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deleted {
    /// How many.
    pub files: u64,
    /// Why, in a sentence.
    pub reason: String,
}

/// What the disk has room for.
#[derive(Debug)]
pub(super) struct Relief {
    /// When something went for it last.
    at_nanos: u64,
    /// The disk was full when something was written last.
    full: bool,
    /// Octets that are to go, and whether those that are being written go, too.
    lack: u64,
    all: bool,
    /// Octets that frames may take until somebody looks again.
    room: u64,
    /// Whether frames are being left out, and whether that is to be told, or was since there was plenty of room.
    short: bool,
    untold: bool,
    told: bool,
}

impl Default for Relief {
    fn default() -> Relief {
        let room = u64::MAX;
        Relief { at_nanos: 0, full: false, lack: 0, all: false, room, short: false, untold: false, told: false }
    }
}

impl Relief {
    /// Whether so many octets more may be written.
    pub fn has_room(&self, octets: u64) -> bool {
        self.room >= octets.saturating_add(AROUND)
    }

    /// Whether frames are being left out.
    pub fn leaves_out(&self) -> bool {
        self.short
    }

    /// So many were.
    pub fn took(&mut self, octets: u64) {
        self.room = self.room.saturating_sub(octets.saturating_add(AROUND));
    }
}

pub(super) struct Deletion {
    why: Why,
    files: u64,
    bytes: u64,
    oldest: String,
}

impl CaptureSet {
    /// What was deleted since the last call.
    pub fn take_deleted(&mut self) -> Vec<Deleted> {
        let limits = &self.limits;
        let told = |deletion: Deletion| {
            let Deletion { why, files, bytes, oldest } = deletion;
            let why = match why {
                Why::Total => format!("limit: all exceeded {} octets", limits.total_bytes),
                Why::Series => format!("limit: those of its device exceeded {} octets", limits.series_bytes),
                Why::Files => format!("limit: there were more than {}", limits.total_files),
                Why::Disk => "disk: it is full".to_owned(),
                Why::Age => "retention: they are older than what was recorded may be".to_owned(),
            };
            Deleted { files, reason: format!("{why}; {bytes} octets, the oldest was {oldest}") }
        };
        self.deleted.drain(..).map(told).collect()
    }

    /// Deletes those to which nothing was written since `before`.
    pub fn forget(&mut self, before: Utc) {
        let before = SystemTime::from(before);
        let is_old = |file: &Kept| {
            let written = fs::symlink_metadata(&file.path).and_then(|about| about.modified());
            written.is_ok_and(|written| written < before)
        };
        let (old, kept): (VecDeque<Kept>, _) = self.kept.drain(..).partition(is_old);
        self.kept = kept;
        old.iter().for_each(|file| self.delete(file, Why::Age));
    }

    /// Has the oldest file that is written no longer go at the next [`CaptureSet::flush`], as the disk takes nothing: what
    /// happens now is worth more.
    pub fn make_room(&mut self) {
        self.relief.full = true;
    }

    /// Learns how much room there is on the disk, once everything is handed to the kernel.
    pub fn look(&mut self, space: Space) {
        let relief = &mut self.relief;
        (relief.lack, relief.all, relief.room) = (space.lack(), space.is_short(), space.for_frames());
        relief.told &= space.free < 2 * space.for_contents();
        if relief.short && relief.room > 0 {
            relief.short = false;
            self.stats.failing = None;
        }
    }

    /// That frames are left out, once until there is plenty of room again.
    pub fn take_trouble(&mut self) -> Option<&'static str> {
        std::mem::take(&mut self.relief.untold).then_some(LEFT_OUT)
    }

    /// Whether a frame of so many octets may be written, or else counts it as dropped.
    pub(super) fn has_room(&mut self, source: &CaptureSource, octets: u64) -> bool {
        if self.relief.has_room(octets) {
            return true;
        }
        self.stats.dropped += 1;
        if let Some(series) = self.open.get_mut(source) {
            series.file.count_left_out();
        }
        let Relief { short, untold, told, .. } = &mut self.relief;
        *short = true;
        *untold |= !std::mem::replace(told, true);
        self.stats.failing.get_or_insert_with(|| LEFT_OUT.to_owned());
        false
    }

    /// Makes room on a disk that is full: what happens now is worth more than the oldest of what happened before.
    pub(super) fn relieve(&mut self, now_nanos: u64) {
        let Relief { at_nanos, full, lack, all, .. } = self.relief;
        let lack = lack.max(u64::from(full));
        let since = now_nanos.saturating_sub(at_nanos);
        if lack == 0 || (since < RELIEF_NANOS && now_nanos >= at_nanos) {
            return;
        }
        let relief = &mut self.relief;
        (relief.at_nanos, relief.full, relief.lack) = (now_nanos, false, 0);
        let mut gone = 0;
        while gone < lack {
            let Some(oldest) = self.kept.pop_front() else {
                let first = self.open.iter().min_by_key(|(_, series)| series.opened_nanos);
                let Some(first) = first.filter(|_| all).map(|(source, _)| source.clone()) else { return };
                self.close(&first);
                continue;
            };
            gone += oldest.bytes.max(1);
            self.delete(&oldest, Why::Disk);
        }
    }

    /// Octets after which a file ends. Only what is over can be deleted: so all that are written have half of what all may
    /// have at most, and that of a series has half of its.
    pub(super) fn most_of_file(&self) -> u64 {
        let CaptureLimits { file_bytes, series_bytes, total_bytes, .. } = self.limits;
        file_bytes.min(series_bytes / 2).min(total_bytes / 2 / self.open.len().max(1) as u64)
    }

    /// Sees to it that one more file can be written: half of all may be, and the file of a device that is talking goes on,
    /// whoever else wants one. Otherwise each frame of one too many would end a file, and have another's deleted.
    ///
    /// # Errors
    /// If none of them has been silent for long.
    pub(super) fn make_place(&mut self, nanos: u64) -> io::Result<()> {
        let most = (self.limits.total_files / 2).max(1);
        if self.open.len() < most {
            return Ok(());
        }
        let silent = self.limits.idle_secs.saturating_mul(1_000_000_000) / 10;
        let last = self.open.iter().min_by_key(|(_, series)| series.used_nanos);
        match last.filter(|(_, series)| nanos.saturating_sub(series.used_nanos) >= silent) {
            Some((source, _)) => {
                let source = source.clone();
                self.close(&source);
                Ok(())
            }
            None => Err(io::Error::other(format!("more than {most} devices talk at once"))),
        }
    }

    /// Deletes the oldest of a series, or of all, until they are within the limits.
    pub(super) fn prune(&mut self) {
        let mut per_series: HashMap<String, u64> = HashMap::new();
        let open = self.open.iter().map(|(source, series)| (names::safe(&source.series), series.file.bytes()));
        for (series, bytes) in open {
            *per_series.entry(series).or_default() += bytes;
        }
        for file in &self.kept {
            match per_series.get_mut(&file.series) {
                Some(bytes) => *bytes += file.bytes,
                None => drop(per_series.insert(file.series.clone(), file.bytes)),
            }
        }
        let halves = self.compressor.as_ref().map_or(0, Compressor::octets);
        let mut bytes = per_series.values().sum::<u64>() + halves;
        let mut files = self.kept.len() + self.open.len();
        let is_over = |bytes: u64, files: usize, of_series: u64| {
            let CaptureLimits { total_bytes, series_bytes, total_files, .. } = self.limits;
            let why = [(bytes > total_bytes, Why::Total), (files > total_files, Why::Files)];
            let of_series = (of_series > series_bytes, Why::Series);
            why.into_iter().chain([of_series]).find_map(|(is_over, why)| is_over.then_some(why))
        };
        let most = per_series.values().max().copied().unwrap_or(0);
        if is_over(bytes, files, most).is_none() {
            return;
        }
        let mut kept = VecDeque::with_capacity(self.kept.len());
        let mut over = Vec::new();
        while let Some(file) = self.kept.pop_front() {
            let of_series = per_series.get(&file.series).copied().unwrap_or(0);
            let Some(why) = is_over(bytes, files, of_series) else {
                kept.push_back(file);
                continue;
            };
            per_series.insert(file.series.clone(), of_series.saturating_sub(file.bytes));
            bytes = bytes.saturating_sub(file.bytes);
            files -= 1;
            over.push((file, why));
        }
        self.kept = kept;
        for (file, why) in over {
            self.delete(&file, why);
        }
    }

    /// Deletes a file that is kept no longer.
    fn delete(&mut self, file: &Kept, why: Why) {
        if let Err(error) = fs::remove_file(&file.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %file.path.display(), "cannot delete an old capture");
            return;
        }
        self.stats.deleted += 1;
        match self.deleted.iter_mut().find(|deletion| deletion.why == why) {
            Some(deletion) => {
                deletion.files += 1;
                deletion.bytes = deletion.bytes.saturating_add(file.bytes);
            }
            None => {
                let oldest = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.deleted.push(Deletion { why, files: 1, bytes: file.bytes, oldest });
            }
        }
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
