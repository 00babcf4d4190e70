//! Which captures go so that there is room for others.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::time::SystemTime;

use super::compress::Compressor;
use super::{CaptureLimits, CaptureSet, Kept, names};
use crate::event::Utc;

/// How often the oldest capture goes while the disk takes nothing.
const RELIEF_NANOS: u64 = 1_000_000_000;

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

    /// Makes room on a disk that is full: what happens now is worth more than the oldest of what happened before.
    pub(super) fn relieve(&mut self, now_nanos: u64) {
        let since = now_nanos.saturating_sub(self.relieved_nanos);
        if !self.full || (since < RELIEF_NANOS && now_nanos >= self.relieved_nanos) {
            return;
        }
        (self.full, self.relieved_nanos) = (false, now_nanos);
        if let Some(oldest) = self.kept.pop_front() {
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
