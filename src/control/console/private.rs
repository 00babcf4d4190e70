//! What the recorder leaves out, and what it forgets.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::sinks;
use crate::event::Utc;
use crate::record::privacy::{Mask, Privacy, redact, rewrite, without_payload};
use crate::record::tape::{self, Space};
use crate::record::{Edit, Record, Retention};

/// What a topology says of privacy, done.
pub struct Private {
    redacts: bool,
    /// Frames go through it, too, and it learns of our hosts' addresses by records.
    mask: Option<Arc<Mutex<Mask>>>,
    retention: Retention,
    captures: PathBuf,
    sinks: PathBuf,
}

impl Private {
    /// As `privacy` says, for the honeynet in `dir`.
    pub fn new(privacy: Privacy, mask: Mask, dir: &Path) -> Private {
        let mask = mask.is_any().then(|| Arc::new(Mutex::new(mask)));
        let (captures, sinks) = (dir.join("captures"), dir.join("sinks"));
        let retention = Retention::new(privacy.retention_secs);
        Private { redacts: privacy.redact, mask, retention, captures, sinks }
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

    /// How much room there is on the disk that captures are on.
    pub fn space(&self) -> Option<Space> {
        tape::space(&self.captures).ok()
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
