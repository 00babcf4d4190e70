//! When the next frames are due.

/// What a schedule may catch up with after the machine did something else for a
/// while: 10 ms of it. More would be a burst that nobody asked for.
const CATCH_UP_PER_SECOND: u64 = 100;
/// Frames that may always be caught up with.
const CATCH_UP_LEAST: u64 = 64;
const SECOND: u128 = 1_000_000_000;

/// A schedule of evenly spaced frames. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: Option<u64>,
    start: u64,
    released: u64,
    behind: u64,
}

impl Pace {
    /// A schedule of `rate` frames a second from `now` on, the first at once; `None` has no limit.
    pub fn new(rate: Option<u64>, now: u64) -> Pace {
        Pace { rate, start: now, released: 0, behind: 0 }
    }

    /// How many frames are due.
    #[inline]
    pub fn due(&mut self, now: u64) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        let passed = u128::from(now.saturating_sub(self.start));
        let due = (passed * u128::from(rate) / SECOND) as u64 + 1;
        let behind = due.saturating_sub(self.released);
        let most = (rate / CATCH_UP_PER_SECOND).max(CATCH_UP_LEAST);
        if behind > most {
            let late = span(rate, behind - most);
            self.start += late;
            self.behind += late;
            return most;
        }
        behind
    }

    /// `n` of them have been sent.
    #[inline]
    pub fn release(&mut self, n: u64) {
        self.released += n;
    }

    /// By how much the schedule was put off altogether, because frames could not be sent when they were due.
    pub fn behind(&self) -> u64 {
        self.behind
    }

    /// When the next frame is due.
    #[inline]
    pub fn next(&self) -> u64 {
        self.rate.map_or(0, |rate| self.start + span(rate, self.released))
    }
}

/// How long `frames` take, rounded up.
fn span(rate: u64, frames: u64) -> u64 {
    (u128::from(frames) * SECOND).div_ceil(u128::from(rate.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_evenly_spaced() {
        let mut pace = Pace::new(Some(10_000), 5);
        assert_eq!(pace.due(5), 1);
        pace.release(1);
        assert_eq!((pace.due(5), pace.next()), (0, 100_005));
        assert_eq!((pace.due(100_004), pace.due(100_005)), (0, 1));
        pace.release(1);
        // Nothing is lost by rounding: a second is a second.
        let mut pace = Pace::new(Some(700_001), 0);
        let mut sent = 0;
        for at in (0..1_000_000_000).step_by(77_777) {
            let due = pace.due(at);
            pace.release(due);
            sent += due;
        }
        assert!((699_900..=700_001).contains(&sent), "{sent}");
    }

    #[test]
    fn a_break_is_not_made_up_for_by_a_burst() {
        let mut pace = Pace::new(Some(100_000), 0);
        pace.release(1);
        assert_eq!(pace.due(5_000_000), 500);
        let due = pace.due(1_000_000_000);
        assert_eq!((due, pace.behind()), (1000, 990_000_000));
        pace.release(due);
        assert_eq!(pace.due(1_000_000_000), 0);
        assert_eq!(pace.due(1_000_010_000), 1);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut pace = Pace::new(None, 7);
        assert_eq!((pace.due(7), pace.next()), (u64::MAX, 0));
    }
}
