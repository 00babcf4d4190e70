//! What the recorder leaves out, and what it forgets.

use std::path::{Path, PathBuf};

use super::sinks;
use crate::event::Utc;
use crate::record::privacy::{Mask, Privacy, redact, rewrite, without_payload};
use crate::record::tape::{self, Space};
use crate::record::{Edit, Record, Retention, Trust};

/// What a topology says of privacy, done.
pub struct Private {
    redacts: bool,
    /// Frames go through it, too, and it learns of our hosts' addresses by records.
    mask: Mask,
    retention: Retention,
    captures: PathBuf,
    sinks: PathBuf,
}

impl Private {
    /// As `privacy` says, for the honeynet in `dir`; nothing goes for being old while `trust` says so.
    pub fn new(privacy: Privacy, mask: Mask, dir: &Path, trust: Trust) -> Private {
        let (captures, sinks) = (dir.join("captures"), dir.join("sinks"));
        let mut retention = Retention::new(privacy.retention_secs);
        retention.trusting(trust);
        Private { redacts: privacy.redact, mask, retention, captures, sinks }
    }

    /// What is done to frames, if anything is.
    pub fn edit(&self) -> Option<Edit> {
        let (mask, redacts) = (self.mask.clone(), self.redacts);
        if !mask.is_any() && !redacts {
            return None;
        }
        Some(Box::new(move |frame| {
            if redacts {
                frame.truncate(without_payload(frame));
            }
            if mask.is_any() {
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
        self.mask.apply(record);
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
