//! What the recorder leaves out, and what it forgets.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::sinks;
use crate::event::Utc;
use crate::record::privacy::{Mask, Privacy, redact, rewrite, without_payload};
use crate::record::tape;
use crate::record::{Edit, Record, Retention};

/// How often a capture may have to go, in microseconds.
const EVERY: i64 = 1_000_000;

/// What a topology says of privacy, done.
pub struct Private {
    redacts: bool,
    /// Frames go through it, too, and it learns of our hosts' addresses by records.
    mask: Option<Arc<Mutex<Mask>>>,
    retention: Retention,
    captures: PathBuf,
    sinks: PathBuf,
    /// When the disk is looked at next, in microseconds of the monotonic clock.
    look: i64,
}

impl Private {
    /// As `privacy` says, for the honeynet in `dir`.
    pub fn new(privacy: Privacy, mask: Mask, dir: &Path) -> Private {
        let mask = mask.is_any().then(|| Arc::new(Mutex::new(mask)));
        let (captures, sinks) = (dir.join("captures"), dir.join("sinks"));
        let retention = Retention::new(privacy.retention_secs);
        Private { redacts: privacy.redact, mask, retention, captures, sinks, look: 0 }
    }

    /// What is done to frames, if anything is.
    pub fn edit(&self) -> Option<Edit> {
        let (mask, redacts) = (self.mask.clone(), self.redacts);
        if mask.is_none() && !redacts {
            return None;
        }
        Some(Box::new(move |frame| {
            if redacts {
                frame.truncate(without_payload(frame));
            }
            if let Some(mask) = &mask {
                let mask = mask.lock().unwrap_or_else(PoisonError::into_inner);
                rewrite(frame, &|ip| mask.ip(ip));
            }
        }))
    }

    /// Whether the oldest capture has to go: events last longest, so it goes as soon as contents of files are not kept any
    /// more, and when the log itself finds the disk `full`. Whatever else the log fails of, no capture is in its way.
    pub fn is_short(&mut self, monotonic: i64, full: bool) -> bool {
        if monotonic < self.look {
            return false;
        }
        self.look = monotonic.saturating_add(EVERY);
        full || tape::space(&self.captures).is_ok_and(|space| space.is_short())
    }

    /// Leaves out of `record` what is to be left out.
    pub fn apply(&self, record: &mut Record) {
        if let Some(mask) = &self.mask {
            mask.lock().unwrap_or_else(PoisonError::into_inner).apply(record);
        }
        if self.redacts {
            redact(record);
        }
    }

    /// What is from before that time is to go now, if it is time to look.
    pub fn due(&mut self, now: Utc) -> Option<Utc> {
        let before = self.retention.due(now)?;
        sinks::forget(&self.sinks, before.into());
        Some(before)
    }
}
