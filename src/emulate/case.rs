//! What a host passes for may depend on who asks, and when: the cases of a template.

use serde::{Deserialize, Serialize};

use super::OsFamily;
use crate::wire::Instant;

/// Minutes of a day.
const DAY: i64 = 24 * 60;

/// Tells the time of day where only a monotonic clock is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WallClock {
    /// Microseconds since 1970, UTC, when the monotonic clock stood at zero.
    pub zero_micros: i64,
}

impl WallClock {
    /// Minutes since 1970, UTC; 0 for what was before.
    pub fn minute(self, at: Instant) -> u32 {
        u32::try_from(self.second(at) / 60).unwrap_or(0)
    }

    /// Seconds since 1970, UTC; negative for what was before.
    pub fn second(self, at: Instant) -> i64 {
        self.zero_micros.saturating_add(at.total_micros()).div_euclid(1_000_000)
    }
}

/// A time of the week that recurs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Window {
    /// The days on which it begins, Monday in the lowest bit.
    pub days: u8,
    /// Minute of the day with which it begins, 0 to 1,439.
    pub from: u16,
    /// Minute of the day before which it ends, 1 to 1,440; if it is not after `from`, that is on the next day.
    pub to: u16,
    /// Minutes by which its clock is ahead of UTC.
    pub ahead: i16,
}

impl Window {
    /// Whether a minute since 1970, UTC, lies in it.
    pub fn contains(&self, minute: u32) -> bool {
        let local = i64::from(minute) + i64::from(self.ahead);
        let (day, now) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        // 1970 began on a Thursday.
        let on = |day: i64| self.days & 1 << (day + 3).rem_euclid(7) != 0;
        let (from, to) = (i64::from(self.from), i64::from(self.to));
        if from < to {
            on(day) && (from..to).contains(&now)
        } else {
            (on(day) && now >= from) || (on(day - 1) && now < to)
        }
    }
}

/// What is known of who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asker {
    /// Its address, as [`crate::wire::word_of`] makes it.
    pub word: u128,
    /// Minutes since 1970, UTC, when it was first heard.
    pub minute: u32,
    /// Its system, once it has sent a SYN.
    pub os: Option<OsFamily>,
}

/// One case: all that it names has to apply.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Case {
    /// Sources, the first and the last word of each range: sorted, free of overlap. None for any.
    pub from: Vec<(u128, u128)>,
    /// Times. None for any.
    pub during: Vec<Window>,
    /// Systems. None for any, and for one that is not known yet.
    pub os: Vec<OsFamily>,
    /// Index of the template that the host has then.
    pub template: u16,
}

impl Case {
    /// Whether it is this one's case.
    pub fn applies(&self, asker: &Asker) -> bool {
        let from = || {
            let after = self.from.partition_point(|(first, _)| *first <= asker.word);
            after.checked_sub(1).and_then(|at| self.from.get(at)).is_some_and(|(_, last)| asker.word <= *last)
        };
        (self.from.is_empty() || from())
            && (self.during.is_empty() || self.during.iter().any(|window| window.contains(asker.minute)))
            && (self.os.is_empty() || asker.os.is_some_and(|os| self.os.contains(&os)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::word_of;

    /// Minutes of a time in the week that began on Monday, 1970-01-05.
    fn at(day: u32, hour: u32, minute: u32) -> u32 {
        (4 + day) * 1440 + hour * 60 + minute
    }

    #[test]
    fn windows_recur_by_day() {
        let office = Window { days: 0b001_1111, from: 8 * 60, to: 18 * 60, ahead: 0 };
        assert!(office.contains(at(0, 8, 0)) && office.contains(at(4, 17, 59)) && office.contains(at(700, 12, 0)));
        assert!(!office.contains(at(0, 7, 59)) && !office.contains(at(0, 18, 0)) && !office.contains(at(5, 12, 0)));
        // In a zone that is two hours ahead, it is 08:00 two hours earlier.
        let ahead = Window { ahead: 120, ..office };
        assert!(ahead.contains(at(0, 6, 0)) && !ahead.contains(at(0, 16, 0)));
    }

    #[test]
    fn windows_that_end_on_the_next_day_belong_to_the_first() {
        let sunday_night = Window { days: 0b100_0000, from: 22 * 60, to: 5 * 60, ahead: 0 };
        assert!(sunday_night.contains(at(6, 22, 0)) && sunday_night.contains(at(7, 4, 59)));
        assert!(!sunday_night.contains(at(6, 4, 0)) && !sunday_night.contains(at(7, 5, 0)));
        assert!(!sunday_night.contains(at(7, 22, 0)));
        let all_day = Window { days: 0b100_0000, from: 0, to: 1440, ahead: 0 };
        assert!(all_day.contains(at(6, 0, 0)) && all_day.contains(at(6, 23, 59)) && !all_day.contains(at(7, 0, 0)));
    }

    #[test]
    fn the_wall_clock_counts_from_an_offset() {
        let clock = WallClock { zero_micros: 1_700_000_000_000_000 };
        assert_eq!(clock.minute(Instant::from_micros(120_000_000)), 1_700_000_000 / 60 + 2);
        assert_eq!(WallClock { zero_micros: -1 }.minute(Instant::ZERO), 0);
    }

    #[test]
    fn all_that_a_case_names_has_to_apply() {
        let word = |text: &str| word_of(text.parse().unwrap());
        let net = (word("10.0.0.0"), word("10.0.0.255"));
        let v6 = (word("2001:db8::"), word("2001:db8::ffff"));
        let case = Case { from: vec![net, v6], os: vec![OsFamily::Linux], ..Case::default() };
        let asker = |ip, os| Asker { word: word(ip), minute: 0, os };
        assert!(case.applies(&asker("10.0.0.0", Some(OsFamily::Linux))));
        assert!(case.applies(&asker("2001:db8::5", Some(OsFamily::Linux))));
        for (ip, os) in [
            ("10.0.0.5", None),
            ("10.0.0.5", Some(OsFamily::Windows)),
            ("10.0.1.0", Some(OsFamily::Linux)),
            ("9.255.255.255", Some(OsFamily::Linux)),
            ("2001:db8::1:0", Some(OsFamily::Linux)),
        ] {
            assert!(!case.applies(&asker(ip, os)), "{ip}");
        }
        assert!(Case::default().applies(&asker("192.0.2.1", None)));
    }
}
