//! Whether the wall's clock may be believed when it says that something is old.
//!
//! Deleting cannot be undone, and a machine whose clock is wrong once, by its battery, its hypervisor or whoever answers its
//! NTP, would find everything old at once. So ages count only as long as that clock agrees with one that nobody sets.

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

impl Steps {
    /// From `now` on, where something was written last at `newest`, if anything was.
    pub fn new(newest: Option<Utc>, now: Now) -> Steps {
        let away = newest.map_or(0, |newest| now.utc.micros().saturating_sub(newest.micros()));
        Steps { last: now, ahead: away.saturating_sub(DAY).max(0), since: now.steady }
    }

    /// Whether what is old at `now` is so. `now` never lies before what it was the last time by the steady clock.
    pub fn is_believed(&mut self, now: Now) -> bool {
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
