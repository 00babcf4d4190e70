//! How long anything is kept, whatever room there is.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::event::Utc;

/// How often it is looked what is too old, in microseconds.
const EVERY: i64 = 3_600_000_000;
/// The longest that a file of the log is written where its records are to go some day: it goes as a whole.
const LONGEST: i64 = 86_400_000_000;

/// When what is too old goes: at the start, and hourly.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    micros: Option<i64>,
    looked: Option<Utc>,
}

impl Retention {
    /// What is older than so many seconds goes; nothing without.
    pub fn new(secs: Option<u64>) -> Retention {
        let micros = secs.map(|secs| i64::try_from(secs.saturating_mul(1_000_000)).unwrap_or(i64::MAX));
        Retention { micros, looked: None }
    }

    /// What is from before that time is to go now, if it is time to look. A clock that was set back looks again.
    pub fn due(&mut self, now: Utc) -> Option<Utc> {
        let micros = self.micros?;
        let since = |looked: Utc| now.micros().saturating_sub(looked.micros());
        if self.looked.is_some_and(|looked| (0..EVERY).contains(&since(looked))) {
            return None;
        }
        self.looked = Some(now);
        Some(Utc::from_micros(now.micros().saturating_sub(micros)))
    }

    /// The longest that a file is written before the next one is begun, in microseconds.
    pub fn longest(&self) -> Option<i64> {
        self.micros.map(|micros| (micros / 8).min(LONGEST))
    }
}

/// The moment as the file system has it.
pub(super) fn system(time: Utc) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(time.micros()).unwrap_or(0))
}

/// Deletes the captures in `dir` to which nothing was written since `before`, compressed or not, and returns how many
/// those were. One that is being written is closed long before it is as old as that.
///
/// # Errors
/// If they cannot be listed. What cannot be deleted is passed over.
pub fn delete_captures(dir: &Path, before: Utc) -> io::Result<u64> {
    let (mut gone, before) = (0, system(before));
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_one = name.to_str().is_some_and(|name| name.contains(".pcapng"));
        // Of the entry itself: a link is not followed.
        let Ok(about) = entry.metadata() else { continue };
        if !is_one || !about.is_file() || about.modified().is_ok_and(|modified| modified >= before) {
            continue;
        }
        match fs::remove_file(entry.path()) {
            Ok(()) => gone += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, path = %entry.path().display(), "cannot delete an old capture"),
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = EVERY;

    #[test]
    fn it_is_looked_at_the_start_and_hourly_whatever_the_clock_does() {
        let mut retention = Retention::new(Some(86_400));
        let utc = |micros: i64| Utc::from_micros(1_000 * HOUR + micros);
        assert_eq!(retention.due(utc(0)), Some(utc(-24 * HOUR)));
        assert_eq!(retention.due(utc(HOUR - 1)), None);
        assert_eq!(retention.due(utc(HOUR)), Some(utc(-23 * HOUR)));
        assert_eq!(retention.due(utc(-5)), Some(utc(-24 * HOUR - 5)), "the clock was set back");
        assert_eq!(retention.due(utc(0)), None);
        assert_eq!(retention.longest(), Some(3 * HOUR));
        assert_eq!(Retention::new(Some(30 * 86_400)).longest(), Some(24 * HOUR));
        assert_eq!(Retention::new(None).due(utc(0)), None);
    }

    #[test]
    fn only_old_captures_go() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, secs: u64| {
            let path = dir.path().join(name);
            fs::write(&path, "x").unwrap();
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(UNIX_EPOCH + Duration::from_secs(secs))
                .unwrap();
        };
        at("wan-000001.pcapng.zst", 100);
        at("wan-000002.pcapng", 100);
        at("wan-000003.pcapng", 200);
        at("notes.txt", 100);
        std::os::unix::fs::symlink("notes.txt", dir.path().join("wan-000004.pcapng")).unwrap();
        assert_eq!(delete_captures(dir.path(), Utc::from_micros(200_000_000)).unwrap(), 2);
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["notes.txt", "wan-000003.pcapng", "wan-000004.pcapng"]);
        assert!(delete_captures(&dir.path().join("none"), Utc::EPOCH).is_err());
    }
}
