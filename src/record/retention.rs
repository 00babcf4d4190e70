//! How long anything is kept, whatever room there is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Now, Steps, Utc};

/// How often it is looked what is too old, in microseconds.
const EVERY: i64 = 3_600_000_000;
/// The longest that a file of the log is written where its records are to go some day: it goes as a whole.
const LONGEST: i64 = 86_400_000_000;

/// The file in which a clock that is not believed is remembered.
const CLOCK: &str = "clock";
/// How often that is written down meanwhile, in microseconds.
const KEEP: i64 = 600_000_000;

/// Whether the wall's clock may be believed, and anything may go for being old: one for all who delete. It believes until
/// somebody looks.
#[derive(Clone, Debug)]
pub struct Trust(Arc<Mutex<Looked>>);

#[derive(Debug)]
struct Looked {
    steps: Option<Steps>,
    is_believed: bool,
    path: PathBuf,
    kept: i64,
}

impl Default for Trust {
    fn default() -> Trust {
        Trust::with(None, PathBuf::new())
    }
}

impl Trust {
    fn with(steps: Option<Steps>, path: PathBuf) -> Trust {
        Trust(Arc::new(Mutex::new(Looked { steps, is_believed: true, path, kept: i64::MIN })))
    }

    /// From `now` on, for a honeynet whose log lies in `events`: how old that is tells whether it was away, or the clock is wrong.
    /// The steady clock is one that runs on in suspend.
    pub fn new(events: &Path, now: Now) -> Trust {
        let files = std::fs::read_dir(events).into_iter().flatten().flatten();
        let written = files.filter_map(|file| file.metadata().ok()?.modified().ok()).max();
        let path = events.join(CLOCK);
        let trust = Trust::with(Some(Steps::resume(&path, written.map(Utc::from), now)), path);
        trust.look(now);
        trust
    }

    /// Looks at both clocks: whoever deletes does so first.
    pub fn look(&self, now: Now) {
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = &mut *looked;
        let Some(steps) = &mut looked.steps else { return };
        let is_believed = steps.is_believed(now);
        let is_news = std::mem::replace(&mut looked.is_believed, is_believed) != is_believed;
        if is_news || (!is_believed && now.steady.saturating_sub(looked.kept) >= KEEP) {
            looked.kept = now.steady;
            if let Err(error) = steps.keep(&looked.path) {
                tracing::warn!(%error, path = %looked.path.display(), "it cannot be written down that the clock is not believed");
            }
        }
        if is_news && is_believed {
            tracing::info!(now = %now.utc, "the machine's clock is believed again: what is too old is deleted");
        } else if is_news {
            let ahead_secs = steps.ahead_secs();
            tracing::warn!(
                now = %now.utc, ahead_secs,
                "the machine's clock has jumped forward, or nothing was recorded for days: nothing is deleted for being old until \
                 it has stayed there for a day, or is set right"
            );
        }
    }

    /// Whether what is old at `now` is so. That has to be a time at which somebody has looked: another thread may have done so since,
    /// which had read the clock before it was set.
    fn is_believed(&self, now: Utc) -> bool {
        let looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looked.is_believed && looked.steps.as_ref().is_none_or(|steps| steps.has_seen(now))
    }
}

/// When what is too old goes: at the start, and hourly.
#[derive(Clone, Debug)]
pub struct Retention {
    micros: Option<i64>,
    looked: Option<Utc>,
    trust: Trust,
}

impl Retention {
    /// What is older than so many seconds goes; nothing without.
    pub fn new(secs: Option<u64>) -> Retention {
        let micros = secs.map(|secs| i64::try_from(secs.saturating_mul(1_000_000)).unwrap_or(i64::MAX));
        Retention { micros, looked: None, trust: Trust::default() }
    }

    /// Nothing goes for being old while `trust` says so.
    pub fn trusting(&mut self, trust: Trust) {
        self.trust = trust;
    }

    /// What is from before that time is to go now, if it is time to look. A clock that was set back looks again.
    pub fn due(&mut self, now: Utc) -> Option<Utc> {
        let micros = self.micros?;
        let since = |looked: Utc| now.micros().saturating_sub(looked.micros());
        if self.looked.is_some_and(|looked| (0..EVERY).contains(&since(looked))) || !self.trust.is_believed(now) {
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
    fn nothing_is_old_by_a_clock_that_nobody_believes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("events.ndjson"), "").unwrap();
        let written = std::fs::metadata(dir.path().join("events.ndjson")).unwrap().modified().unwrap();
        let now = |hours: i64, ahead: i64| Now {
            utc: Utc::from_micros(Utc::from(written).micros() + (hours + ahead) * HOUR),
            steady: hours * HOUR,
        };
        let trust = Trust::new(dir.path(), now(0, 0));
        let mut retention = Retention::new(Some(30 * 86_400));
        retention.trusting(trust.clone());
        let mut due = |hours: i64, ahead: i64| {
            trust.look(now(hours, ahead));
            retention.due(now(hours, ahead).utc).is_some()
        };
        assert!(due(1, 0));
        assert!(!due(2, 91 * 24), "a jump of 91 days");
        assert!(!due(25, 91 * 24));
        assert!(due(26, 91 * 24), "that was right after all");
        // Two threads look, of which one has read both clocks before the jump, or one of them, and comes last.
        let trust = Trust::new(dir.path(), now(0, 0));
        let mut retention = Retention::new(Some(30 * 86_400));
        retention.trusting(trust.clone());
        for late in [now(1, 0), Now { utc: now(1, 0).utc, steady: now(3, 0).steady }] {
            trust.look(now(2, 91 * 24));
            trust.look(late);
            assert!(retention.due(now(2, 91 * 24).utc).is_none(), "{late:?}");
        }
        // A machine that starts with a wrong clock.
        let trust = Trust::new(dir.path(), now(0, 91 * 24));
        let mut retention = Retention::new(Some(30 * 86_400));
        retention.trusting(trust.clone());
        assert!(retention.due(now(0, 91 * 24).utc).is_none());
        trust.look(now(1, 0));
        assert!(retention.due(now(1, 0).utc).is_some());
    }
}
