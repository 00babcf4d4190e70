//! Whether the wall's clock may be believed when it says that something is old.
//!
//! Deleting cannot be undone, and a machine whose clock is wrong once, by its battery, its hypervisor or whoever answers its
//! NTP, would find everything old at once. So ages count only as long as that clock agrees with one that nobody sets.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Now, Utc};

/// What both clocks may differ by, in microseconds: an hour, such as by a wrong time zone.
const APART: i64 = 3_600_000_000;
/// How long the wall's clock has to stay where it is before it is believed again, in microseconds: a day, in which it is
/// set right where it was wrong. As long may nobody have written anything before the start.
const DAY: i64 = 86_400_000_000;

/// The steps that the wall's clock has made forward.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    last: Now,
    /// How far it is ahead of what it should be.
    ahead: i64,
    /// Since when it has been that far ahead, by the steady clock.
    since: i64,
}

/// What is kept of a clock that is not believed, for who starts next: what was written meanwhile says that it is right.
#[derive(Serialize, Deserialize)]
struct Kept {
    utc: i64,
    ahead: i64,
    /// For how long it was not believed.
    doubted: i64,
}

impl Steps {
    /// From `now` on, where something was written last at `newest`, if anything was.
    pub fn new(newest: Option<Utc>, now: Now) -> Steps {
        let away = newest.map_or(0, |newest| now.utc.micros().saturating_sub(newest.micros()));
        Steps { last: now, ahead: away.saturating_sub(DAY).max(0), since: now.steady }
    }

    /// The same for who goes on where another process has left its doubts in the file at `path`.
    pub fn resume(path: &Path, newest: Option<Utc>, now: Now) -> Steps {
        let kept = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
        let Some(kept) = kept else { return Steps::new(newest, now) };
        // Meanwhile it ran, or was set back.
        let back = kept.utc.saturating_sub(now.utc.micros()).max(0);
        let ahead = kept.ahead.saturating_sub(back).max(Steps::new(newest, now).ahead);
        Steps { last: now, ahead, since: now.steady.saturating_sub(kept.doubted.clamp(0, DAY)) }
    }

    /// Leaves doubts in the file at `path`, or removes it if there are none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(&self, path: &Path) -> std::io::Result<()> {
        if !self.is_apart() {
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let doubted = self.last.steady.saturating_sub(self.since);
        let kept = Kept { utc: self.last.utc.micros(), ahead: self.ahead, doubted };
        let half = path.with_extension("new");
        std::fs::write(&half, serde_json::to_vec(&kept)?)?;
        std::fs::rename(half, path)
    }

    /// Whether what is old at `now` is so.
    pub fn is_believed(&mut self, now: Now) -> bool {
        // Of two threads that look, the one that has read the clocks first may come last.
        if now.steady < self.last.steady {
            return !self.is_apart();
        }
        let passed = now.steady.saturating_sub(self.last.steady);
        let step = now.utc.micros().saturating_sub(self.last.utc.micros()).saturating_sub(passed);
        let was_apart = self.is_apart();
        // Set back it makes nothing old, and what it was ahead is mended.
        self.ahead = self.ahead.saturating_add(step).max(0);
        self.last = now;
        if self.is_apart() && (!was_apart || step > APART) {
            self.since = now.steady;
        }
        if self.is_apart() && now.steady.saturating_sub(self.since) >= DAY {
            self.ahead = 0;
        }
        !self.is_apart()
    }

    /// Whether it was looked at a time such as `utc`. Who has read the wall's clock before it was set, and the other one
    /// afterward, seems to find it set back: what is believed then is not what the clock says by now.
    pub fn has_seen(&self, utc: Utc) -> bool {
        utc.micros().saturating_sub(self.last.utc.micros()) <= APART
    }

    /// By how many seconds the clock seems to be ahead.
    pub fn ahead_secs(&self) -> i64 {
        self.ahead / 1_000_000
    }

    fn is_apart(&self) -> bool {
        self.ahead > APART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const BEGAN: i64 = 1_800_000_000_000_000;

    fn now(hours: i64, ahead: i64) -> Now {
        Now { utc: Utc::from_micros(BEGAN + (hours + ahead) * HOUR), steady: hours * HOUR }
    }

    #[test]
    fn a_step_forward_is_believed_after_a_day() {
        let mut steps = Steps::new(Some(now(0, 0).utc), now(0, 0));
        assert!(steps.is_believed(now(0, 0)) && steps.is_believed(now(1, 0)));
        assert!(steps.is_believed(now(2, 1)), "an hour is a time zone");
        assert!(!steps.is_believed(now(3, 91 * 24)));
        assert_eq!(steps.ahead_secs(), 91 * 86_400);
        assert!(!steps.is_believed(now(26, 91 * 24)));
        assert!(steps.is_believed(now(27, 91 * 24)), "it stayed there for a day");
        assert!(steps.is_believed(now(28, 91 * 24)));
    }

    #[test]
    fn a_step_that_is_taken_back_is_forgotten_and_another_one_counts_anew() {
        let mut steps = Steps::new(None, now(0, 0));
        assert!(!steps.is_believed(now(1, 48)));
        assert!(steps.is_believed(now(2, 0)));
        assert!(steps.is_believed(now(3, -48)), "nothing is older than it was");
        assert!(!steps.is_believed(now(4, 0)), "nor is it known which of both was right");
        assert!(!steps.is_believed(now(20, 48)), "it jumps again, and the day begins anew");
        assert!(!steps.is_believed(now(43, 48)));
        assert!(steps.is_believed(now(44, 48)));
    }

    #[test]
    fn who_has_read_the_clocks_before_it_was_set_and_comes_last_ends_no_doubt() {
        let mut steps = Steps::new(None, now(0, 0));
        assert!(!steps.is_believed(now(2, 91 * 24)));
        assert!(!steps.is_believed(now(1, 0)), "that was before");
        assert!(!steps.is_believed(now(3, 91 * 24)) && steps.has_seen(now(3, 91 * 24).utc));
        // One clock was read before, and the other one afterward.
        steps.is_believed(Now { utc: now(2, 0).utc, steady: now(4, 0).steady });
        assert!(!steps.has_seen(now(3, 91 * 24).utc) && steps.has_seen(now(3, 0).utc));
        assert!(!steps.is_believed(now(5, 91 * 24)));
    }

    #[test]
    fn a_doubt_outlives_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock");
        let mut steps = Steps::new(Some(now(0, 0).utc), now(0, 0));
        assert!(steps.is_believed(now(1, 0)));
        steps.keep(&path).unwrap();
        assert!(!path.exists());
        assert!(!steps.is_believed(now(2, 91 * 24)) && !steps.is_believed(now(12, 91 * 24)));
        steps.keep(&path).unwrap();
        // Whatever was written last, that was by the clock in question. The machine was started anew, too.
        let newest = Some(now(12, 91 * 24).utc);
        let at = |hours: i64, ahead: i64| Now { steady: (hours - 12) * HOUR, ..now(hours, ahead) };
        let mut again = Steps::resume(&path, newest, at(13, 91 * 24));
        assert!(!again.is_believed(at(13, 91 * 24)) && !again.is_believed(at(26, 91 * 24)));
        assert!(again.is_believed(at(27, 91 * 24)), "ten hours before, and fourteen since");
        again.keep(&path).unwrap();
        assert!(!path.exists());
        // It was set right before the next one starts.
        steps.keep(&path).unwrap();
        let mut right = Steps::resume(&path, newest, at(13, 0));
        assert!(right.is_believed(at(13, 0)));
        std::fs::write(&path, "{").unwrap();
        assert!(Steps::resume(&path, newest, at(13, 91 * 24)).is_believed(at(13, 91 * 24)));
    }

    #[test]
    fn who_was_away_for_more_than_a_day_waits_for_another() {
        let mut steps = Steps::new(Some(now(-23, 0).utc), now(0, 0));
        assert!(steps.is_believed(now(0, 0)));
        let mut steps = Steps::new(Some(now(-91 * 24, 0).utc), now(0, 0));
        assert!(!steps.is_believed(now(0, 0)) && !steps.is_believed(now(23, 0)));
        assert!(steps.is_believed(now(24, 0)));
        // The clock was wrong when the machine started, and is set right.
        let mut steps = Steps::new(Some(now(-91 * 24, 0).utc), now(0, 0));
        assert!(!steps.is_believed(now(0, 0)));
        assert!(steps.is_believed(now(1, -91 * 24)));
    }
}
