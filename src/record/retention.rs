//! How long anything is kept, whatever room there is.

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
}
