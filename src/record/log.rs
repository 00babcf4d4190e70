//! The event log: NDJSON in `events.ndjson`, rotated by size, and by age where records are kept only for a time.
//!
//! A full file is renamed to `events-N.ndjson`, N being the number of its first
//! record, and the oldest of those are deleted when all together exceed the
//! total limit, or when one has only records that are older than they may be, which a `log.deleted` record says.
//!
//! What the disk is promised: a record is handed to the kernel with the batch it
//! came in, so it survives the death of any process at once; `fdatasync` is
//! called at most every [`LogLimits::sync_secs`], at rotation and at the end, so
//! a machine that loses power loses at most that many seconds. Lines are
//! appended whole: what a full disk or a power cut left of one is cut off when
//! the log is opened next, and numbering goes on after the last good record.
//!
//! When the disk takes nothing, lines wait in memory up to
//! [`LogLimits::pending_bytes`] and are tried again every second; what finds no
//! room is told by a `gap` record once there is space.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use super::file::{Appender, is_full};
use super::retention::{Retention, Trust};
use super::schema::Record;
use super::search::{CURRENT, first_seq, first_time, rotated_files};
use crate::event::EventId;
use crate::event::Utc;

const RETRY_MICROS: i64 = 1_000_000;

/// Bounds of the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Octets after which a file is rotated.
    pub file_bytes: u64,
    /// Octets of all files together.
    pub total_bytes: u64,
    /// Octets of lines that wait for the disk.
    pub pending_bytes: usize,
    /// Seconds between two calls of `fdatasync`.
    pub sync_secs: u32,
    /// Seconds that a record is kept, where there is such a limit.
    pub age_secs: Option<u64>,
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits { file_bytes: 64 << 20, total_bytes: 1 << 30, pending_bytes: 4 << 20, sync_secs: 5, age_secs: None }
    }
}

/// The log could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {source}")]
pub struct LogError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What the log has been through since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogStats {
    /// Records written.
    pub records: u64,
    /// Octets written.
    pub bytes: u64,
    /// Records that found no room while the disk took nothing.
    pub lost: u64,
    /// Attempts to write that failed.
    pub write_errors: u64,
    /// The last failure, until a write succeeds.
    pub failing: Option<String>,
}

/// The log, open for appending.
#[derive(Debug)]
pub struct EventLog {
    dir: PathBuf,
    limits: LogLimits,
    file: Option<Appender>,
    file_first: u64,
    /// Since when the file is written.
    begun: Utc,
    retention: Retention,
    next_seq: u64,
    /// The last line.
    line: String,
    pending: Vec<u8>,
    pending_records: u64,
    pending_first: u64,
    // Records not even kept in `pending` since the last successful write.
    unkept: u64,
    retry_at: Option<Utc>,
    synced_at: Utc,
    unsynced: bool,
    /// The disk had no room for what was written last.
    full: bool,
    stats: LogStats,
}

impl EventLog {
    /// Opens the log in `dir`, which must exist, repairing what a crash left.
    pub fn open(dir: &Path, limits: LogLimits, now: Utc) -> Result<EventLog, LogError> {
        let path = dir.join(CURRENT);
        let fail = |what, source| LogError { what, path: path.clone(), source };
        let rotated = rotated_files(dir).map_err(|e| LogError { what: "list", path: dir.to_owned(), source: e })?;
        let mut log = EventLog {
            dir: dir.to_owned(),
            limits,
            file: None,
            file_first: 0,
            begun: now,
            retention: Retention::new(limits.age_secs),
            next_seq: 1,
            line: String::new(),
            pending: Vec::new(),
            pending_records: 0,
            pending_first: 0,
            unkept: 0,
            retry_at: None,
            synced_at: now,
            unsynced: false,
            full: false,
            stats: LogStats::default(),
        };
        let mut torn = false;
        let mut tail = None;
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail("look at", error)),
            Ok(meta) if !meta.is_file() => return Err(fail("open", io::Error::other("it is not a regular file"))),
            Ok(meta) => {
                let mut file = File::open(&path).map_err(|e| fail("open", e))?;
                let good = last_record(&mut file, meta.len()).map_err(|e| fail("read", e))?;
                torn = good.end < meta.len();
                if good.end == 0 && meta.len() > 0 {
                    // Nothing in it is ours: keep it for a person to look at.
                    let aside = dir.join(format!("events.damaged-{}", now.compact()));
                    fs::rename(&path, &aside).map_err(|e| fail("move aside the damaged", e))?;
                } else {
                    log.file = Some(Appender::reopen(&path, good.end).map_err(|e| fail("open", e))?);
                    log.file_first = first_seq(&path).unwrap_or(good.seq);
                    log.begun = first_time(&path).unwrap_or(now);
                }
                tail = (good.end > 0).then_some(good.seq);
            }
        }
        if tail.is_none()
            && let Some(newest) = rotated.last()
        {
            let mut file = File::open(&newest.path).map_err(|e| fail("open the predecessor of", e))?;
            let good = last_record(&mut file, newest.bytes).map_err(|e| fail("read the predecessor of", e))?;
            tail = Some(good.seq.max(newest.first_seq));
        }
        log.next_seq = tail.map_or(1, |seq| seq.saturating_add(1));
        if log.file.as_ref().is_none_or(Appender::is_empty) {
            log.file_first = log.next_seq;
        }
        if torn {
            let mut gap = Record::bare(0, now, EventId::Gap);
            gap.count = Some(1);
            gap.reason = Some("torn: the last line was incomplete when the log was opened".into());
            log.push(&mut gap);
        }
        log.hand_over(now, &mut Vec::new());
        if log.file.is_none() {
            log.create_file(now).map_err(|e| fail("create", e))?;
        }
        Ok(log)
    }

    /// The number that the next record gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// What happened to the log so far.
    pub fn stats(&self) -> &LogStats {
        &self.stats
    }

    /// Whether it cannot be written because the disk has no room.
    pub fn is_disk_full(&self) -> bool {
        self.full
    }

    /// Numbers `record` and takes it for the next [`EventLog::flush`]. Returns its line.
    pub fn push(&mut self, record: &mut Record) -> Option<&str> {
        record.seq = self.next_seq;
        if let Err(error) = record.write_line(&mut self.line) {
            self.stats.failing = Some(error.to_string());
            return None;
        }
        let line = &self.line;
        self.next_seq += 1;
        // After the first that found no room none is kept, so that the gap is one and its place is known.
        if self.unkept > 0 || (self.retry_at.is_some() && self.pending.len() + line.len() > self.limits.pending_bytes) {
            self.unkept += 1;
            self.stats.lost += 1;
            return Some(line);
        }
        if self.pending_records == 0 {
            self.pending_first = record.seq;
        }
        self.pending.extend_from_slice(line.as_bytes());
        self.pending_records += 1;
        Some(line)
    }

    /// Hands what waits to the kernel. Failure is counted and tried again, at
    /// most once a second. Returns the lines of records that the log wrote by itself.
    pub fn flush(&mut self, now: Utc) -> Vec<String> {
        let mut own = Vec::new();
        if self.retry_at.is_some_and(|at| now < at && at.micros() - now.micros() <= RETRY_MICROS) {
            return own;
        }
        self.forget(now, &mut own);
        self.hand_over(now, &mut own);
        own
    }

    /// Writes what waits, and in `own` the records that the log has of itself.
    fn hand_over(&mut self, now: Utc, own: &mut Vec<String>) {
        if self.pending.is_empty() && self.unkept == 0 {
            self.sync_if_due(now);
            return;
        }
        let mut result = self.write_pending(now, own);
        if result.is_ok() && self.unkept > 0 {
            let mut gap = Record::bare(0, now, EventId::Gap);
            gap.count = Some(self.unkept);
            gap.reason = Some(format!(
                "disk: the log could not be written ({})",
                self.stats.failing.as_deref().unwrap_or("full")
            ));
            let unkept = std::mem::take(&mut self.unkept);
            own.extend(self.push(&mut gap).map(str::to_owned));
            result = self.write_pending(now, own);
            if result.is_err() {
                tracing::debug!(unkept, "the gap itself waits for the disk");
            }
        }
        match result {
            Ok(()) => {
                (self.retry_at, self.full) = (None, false);
                if self.stats.failing.take().is_some() {
                    tracing::info!("the event log is being written again");
                }
            }
            Err(error) => {
                if self.retry_at.is_none() {
                    let dir = self.dir.display();
                    tracing::error!(%error, %dir, "the event log cannot be written; trying again every second");
                }
                self.stats.write_errors += 1;
                self.full = is_full(&error);
                self.stats.failing = Some(error.to_string());
                self.retry_at = Some(Utc::from_micros(now.micros() + RETRY_MICROS));
                // What came in one burst before the disk failed may exceed the bound: cut it to whole lines.
                self.trim_pending();
            }
        }
        self.sync_if_due(now);
    }

    /// Deletes nothing for being old while `trust` says so.
    pub fn trusting(&mut self, trust: Trust) {
        self.retention.trusting(trust);
    }

    /// Hands everything to the disk and waits for it.
    pub fn close(&mut self, now: Utc) {
        self.retry_at = None;
        self.flush(now);
        if let Some(file) = &self.file
            && let Err(error) = file.sync()
        {
            tracing::warn!(%error, "the end of the event log may not be on the disk");
        }
        self.unsynced = false;
    }

    fn create_file(&mut self, now: Utc) -> io::Result<()> {
        self.begun = now;
        self.file = Some(Appender::create(&self.dir.join(CURRENT))?);
        self.file_first = if self.pending_records > 0 { self.pending_first } else { self.next_seq };
        Ok(())
    }

    fn write_pending(&mut self, now: Utc, own: &mut Vec<String>) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let full = |file: &Appender, limits: &LogLimits, more: usize| {
            !file.is_empty() && file.len() + more as u64 > limits.file_bytes
        };
        if self.file.as_ref().is_some_and(|file| full(file, &self.limits, self.pending.len())) {
            self.rotate(now, own)?;
        }
        if self.file.as_ref().is_some_and(Appender::is_deleted) {
            // What is written to it would be gone with nobody told: it goes on in a new one, or fails aloud.
            tracing::warn!(dir = %self.dir.display(), "the event log was deleted; another one is begun");
            self.file = None;
        }
        if self.file.is_none() {
            self.create_file(now)?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.append(&self.pending)?;
        self.unsynced = true;
        self.stats.bytes += self.pending.len() as u64;
        self.stats.records += self.pending_records;
        self.pending.clear();
        self.pending_records = 0;
        Ok(())
    }

    fn rotate(&mut self, now: Utc, own: &mut Vec<String>) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            // Failing to sync is no reason to stop writing.
            let _ = file.sync();
            let name = format!("events-{:020}.ndjson", self.file_first);
            if let Err(error) = fs::rename(self.dir.join(CURRENT), self.dir.join(name)) {
                self.file = Some(file);
                return Err(error);
            }
        }
        self.create_file(now)?;
        let mut files = rotated_files(&self.dir)?;
        let mut total: u64 = files.iter().map(|file| file.bytes).sum::<u64>() + self.pending.len() as u64;
        while total > self.limits.total_bytes && !files.is_empty() {
            let oldest = files.remove(0);
            fs::remove_file(&oldest.path)?;
            total = total.saturating_sub(oldest.bytes);
            let next = files.first().map_or(self.file_first, |file| file.first_seq);
            let mut record = Record::bare(0, now, EventId::LogDeleted);
            record.count = Some(next.saturating_sub(oldest.first_seq));
            record.reason = Some(format!("limit: the files exceeded {} octets", self.limits.total_bytes));
            own.extend(self.push(&mut record).map(str::to_owned));
        }
        Ok(())
    }

    /// Begins another file when this one is old enough, and deletes those whose last record is too old.
    fn forget(&mut self, now: Utc, own: &mut Vec<String>) {
        let age = now.micros().saturating_sub(self.begun.micros());
        let is_begun = self.file.as_ref().is_some_and(|file| !file.is_empty());
        if is_begun
            && self.retention.longest().is_some_and(|longest| age >= longest)
            && let Err(error) = self.rotate(now, own)
        {
            // Tried again when the disk takes something.
            tracing::warn!(%error, "the event log cannot be rotated");
        }
        let Some(before) = self.retention.due(now) else { return };
        let files = match rotated_files(&self.dir) {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "old files of the event log cannot be looked for");
                return;
            }
        };
        let mut gone = 0;
        for (index, file) in files.iter().enumerate() {
            let modified = fs::symlink_metadata(&file.path).and_then(|about| about.modified());
            // They follow each other: behind one that stays none goes.
            if !modified.is_ok_and(|modified| modified < SystemTime::from(before)) {
                break;
            }
            if let Err(error) = fs::remove_file(&file.path) {
                tracing::warn!(%error, path = %file.path.display(), "cannot delete an old file of the event log");
                break;
            }
            let next = files.get(index + 1).map_or(self.file_first, |file| file.first_seq);
            gone += next.saturating_sub(file.first_seq);
        }
        if gone > 0 {
            let mut record = Record::bare(0, now, EventId::LogDeleted);
            record.count = Some(gone);
            record.reason = Some(format!("retention: the records were from before {before}"));
            own.extend(self.push(&mut record).map(str::to_owned));
        }
    }

    fn trim_pending(&mut self) {
        if self.pending.len() <= self.limits.pending_bytes {
            return;
        }
        let keep =
            self.pending[..self.limits.pending_bytes].iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
        let cut = self.pending[keep..].iter().filter(|octet| **octet == b'\n').count() as u64;
        self.pending.truncate(keep);
        self.pending_records -= cut.min(self.pending_records);
        self.unkept += cut;
        self.stats.lost += cut;
    }

    fn sync_if_due(&mut self, now: Utc) {
        let elapsed = now.micros() - self.synced_at.micros();
        let due = elapsed >= i64::from(self.limits.sync_secs) * 1_000_000 || elapsed < 0;
        if !self.unsynced || !due {
            return;
        }
        self.synced_at = now;
        if let Some(file) = &self.file {
            match file.sync() {
                Ok(()) => self.unsynced = false,
                Err(error) => tracing::warn!(%error, "fdatasync of the event log failed"),
            }
        }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        if let (Some(file), false) = (&mut self.file, self.pending.is_empty()) {
            let _ = file.append(&self.pending);
        }
    }
}

struct LastRecord {
    seq: u64,
    // Octets up to and including its line feed; 0 if there is no record.
    end: u64,
}

#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

// The last line that is whole and a record. Lines are short, so the end of the file nearly always suffices.
fn last_record(file: &mut File, len: u64) -> io::Result<LastRecord> {
    let mut window = 64 << 10;
    loop {
        let from = len.saturating_sub(window);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(len - from).read_to_end(&mut bytes)?;
        let mut end = bytes.iter().rposition(|octet| *octet == b'\n').map(|at| at + 1);
        while let Some(after) = end {
            let start = bytes[..after - 1].iter().rposition(|octet| *octet == b'\n').map(|at| at + 1);
            if start.is_none() && from > 0 {
                break;
            }
            if let Ok(Numbered { seq }) = serde_json::from_slice(&bytes[start.unwrap_or(0)..after]) {
                return Ok(LastRecord { seq, end: from + after as u64 });
            }
            end = start;
        }
        if from == 0 {
            return Ok(LastRecord { seq: 0, end: 0 });
        }
        window *= 8;
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
