//! How far a sink is in the log: a number that outlives the process.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CURSOR;
use crate::event::Utc;
use crate::record::file::open_regular;

/// More than a cursor has.
const MOST: u64 = 4096;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Kept {
    seq: u64,
    sent: u64,
    lost: u64,
    #[serde(default)]
    at: Option<Utc>,
}

/// A sink's place in the log, and what became of what lies before it.
#[derive(Clone, Debug)]
pub struct Cursor {
    path: PathBuf,
    kept: Kept,
    /// What the file says.
    written: Option<Kept>,
}

impl Cursor {
    /// The cursor of the sink called `name`, whose files lie in `dir`. A new one begins with what happens from now on,
    /// with record `next`; one that is ahead of the log (a power cut took its end) begins there, too.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn open(dir: &Path, name: &str, next: u64) -> io::Result<Cursor> {
        let path = dir.join(format!("{name}{CURSOR}"));
        let newest = next.saturating_sub(1);
        let mut written = None;
        let kept = match open_regular(&path) {
            Ok(file) => {
                let mut text = String::new();
                file.take(MOST).read_to_string(&mut text)?;
                let kept: Kept = serde_json::from_str(&text).unwrap_or_else(|error| {
                    // Everything once more rather than something never.
                    tracing::warn!(%error, path = %path.display(), "a sink's place in the log cannot be read");
                    Kept::default()
                });
                written = Some(kept);
                Kept { seq: kept.seq.min(newest), ..kept }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept { seq: newest, ..Kept::default() },
            Err(error) => return Err(error),
        };
        Ok(Cursor { path, kept, written })
    }

    /// The newest record that is done with.
    pub fn seq(&self) -> u64 {
        self.kept.seq
    }

    /// Messages that were sent, ever.
    pub fn sent(&self) -> u64 {
        self.kept.sent
    }

    /// Records that the log deleted before, ever.
    pub fn lost(&self) -> u64 {
        self.kept.lost
    }

    /// The time of the newest record that was read, if that is known.
    pub fn at(&self) -> Option<Utc> {
        self.kept.at
    }

    /// All up to `seq`, a record of the time `at`, is done with, by so many messages.
    pub fn done(&mut self, seq: u64, messages: u64, at: Option<Utc>) {
        self.kept.seq = self.kept.seq.max(seq);
        self.kept.sent += messages;
        self.kept.at = at.or(self.kept.at);
    }

    /// The log has deleted so many.
    pub fn lose(&mut self, records: u64) {
        self.kept.lost += records;
    }

    /// Writes down what has changed, at once or not at all. What the disk does not take is tried again the next time.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&mut self) -> io::Result<()> {
        if self.written == Some(self.kept) {
            return Ok(());
        }
        let half = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&half)?;
        file.write_all(serde_json::to_string(&self.kept)?.as_bytes())?;
        file.sync_data()?;
        fs::rename(&half, &self.path)?;
        self.written = Some(self.kept);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_outlives_its_process_and_the_logs_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::open(dir.path(), "siem", 8).unwrap();
        assert_eq!((cursor.seq(), cursor.sent(), cursor.at()), (7, 0, None));
        let at = Some(Utc::from_micros(9));
        cursor.done(9, 2, at);
        cursor.done(8, 1, None);
        cursor.lose(5);
        cursor.save().unwrap();
        let again = Cursor::open(dir.path(), "siem", 100).unwrap();
        assert_eq!((again.seq(), again.sent(), again.lost(), again.at()), (9, 3, 5, at));
        // A power cut took records 8 and 9, whose numbers others get.
        assert_eq!(Cursor::open(dir.path(), "siem", 8).unwrap().seq(), 7);
        std::fs::write(dir.path().join("siem.cursor"), "{\"seq\":4,\"sent\":3,\"lost\":2}").unwrap();
        let before = Cursor::open(dir.path(), "siem", 8).unwrap();
        assert_eq!((before.seq(), before.at()), (4, None), "one of an earlier version");
        std::fs::write(dir.path().join("siem.cursor"), "{\"seq\":").unwrap();
        assert_eq!(Cursor::open(dir.path(), "siem", 8).unwrap().seq(), 0);
        std::fs::remove_file(dir.path().join("siem.cursor")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("siem.cursor")).unwrap();
        assert!(Cursor::open(dir.path(), "siem", 8).is_err());
    }
}
