//! Points in time as people and programs read them: RFC 3339 in UTC.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY: i64 = 86_400;
/// A time, its digits at zero.
const SHAPE: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";

/// Microseconds since 1970-01-01T00:00:00Z, without leap seconds, from year 0 to year 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Utc(i64);

/// A point in time by two clocks: the one that people read, which may be set, and one that only runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// By the wall's clock.
    pub utc: Utc,
    /// Microseconds of a clock that nobody sets.
    pub steady: i64,
}

/// As if nobody had ever set the wall's clock.
impl From<Utc> for Now {
    fn from(utc: Utc) -> Now {
        Now { utc, steady: utc.micros() }
    }
}

impl Utc {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Utc = Utc(0);
    const MIN: i64 = -62_167_219_200_000_000;
    const MAX: i64 = 253_402_300_799_999_999;

    /// The point `micros` microseconds after the epoch, moved into the years 0 to 9999.
    pub fn from_micros(micros: i64) -> Utc {
        Utc(micros.clamp(Utc::MIN, Utc::MAX))
    }

    /// Microseconds since the epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// As part of a file name: `20260131T235959Z`.
    pub fn compact(self) -> String {
        let (year, month, day) = self.date();
        let second = self.0.div_euclid(1_000_000).rem_euclid(DAY);
        format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }

    /// As HTTP writes it (RFC 9110 §5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn http(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (year, month, day) = self.date();
        let second = self.0.div_euclid(1_000_000);
        let (weekday, second) = (second.div_euclid(DAY).rem_euclid(7), second.rem_euclid(DAY));
        let (name, month) = (DAYS[weekday as usize], MONTHS[month as usize - 1]);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
    }

    // Days are counted in eras of 400 years that begin on 1 March, so that the leap day is the last of its year.
    fn date(self) -> (i64, i64, i64) {
        let days = self.0.div_euclid(1_000_000 * DAY) + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        (year_of_era + era * 400 + i64::from(month <= 2), month, day)
    }
}

fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let micros = self.0.rem_euclid(1_000_000);
        let second = self.0.div_euclid(1_000_000).rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// The text is not a time of the form `2026-01-31T23:59:59.000000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is UTC with six digits of a second, such as 2026-01-31T23:59:59.000000Z")]
pub struct ParseUtcError;

impl FromStr for Utc {
    type Err = ParseUtcError;

    fn from_str(text: &str) -> Result<Utc, ParseUtcError> {
        let bytes = text.as_bytes();
        let shaped = bytes.len() == SHAPE.len()
            && bytes.iter().zip(SHAPE).all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == s });
        if !shaped {
            return Err(ParseUtcError);
        }
        let number = |from: usize, to: usize| {
            bytes[from..to].iter().fold(0i64, |number, digit| number * 10 + i64::from(digit - b'0'))
        };
        let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
        let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
        if !(1..=12).contains(&month) || day < 1 || hour > 23 || minute > 59 || second > 59 {
            return Err(ParseUtcError);
        }
        let seconds = days_of(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        let utc = Utc(seconds * 1_000_000 + number(20, 26));
        // A day that the month does not have comes back as one of the next month.
        if utc.date() == (year, month, day) { Ok(utc) } else { Err(ParseUtcError) }
    }
}

impl Serialize for Utc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = *SHAPE;
        let (year, month, day) = self.date();
        let micros = self.0.rem_euclid(1_000_000);
        let second = self.0.div_euclid(1_000_000).rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let parts = [(year, 0..4), (month, 5..7), (day, 8..10), (hour, 11..13), (minute, 14..16), (second, 17..19)];
        for (mut number, at) in parts.into_iter().chain([(micros, 20..26)]) {
            for digit in text[at].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Utc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Utc, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The moment as file systems have it; nothing before 1970.
impl From<std::time::SystemTime> for Utc {
    fn from(time: std::time::SystemTime) -> Utc {
        let micros = |elapsed: std::time::Duration| i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let epoch = std::time::SystemTime::UNIX_EPOCH;
        Utc::from_micros(time.duration_since(epoch).map_or_else(|before| -micros(before.duration()), micros))
    }
}

impl From<Utc> for std::time::SystemTime {
    fn from(time: Utc) -> std::time::SystemTime {
        let since = std::time::Duration::from_micros(u64::try_from(time.micros()).unwrap_or(0));
        std::time::SystemTime::UNIX_EPOCH + since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (Utc::MIN, "0000-01-01T00:00:00.000000Z"),
            (Utc::MAX, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Utc::from_micros(micros).to_string(), text);
            assert_eq!(text.parse(), Ok(Utc::from_micros(micros)));
        }
        assert_eq!(Utc::from_micros(1_709_251_199_999_999).http(), "Thu, 29 Feb 2024 23:59:59 GMT");
        assert_eq!(Utc::from_micros(1_709_251_199_999_999).compact(), "20240229T235959Z");
    }

    #[test]
    fn refuses_what_is_no_time() {
        for bad in [
            "",
            "2026-02-30T00:00:00.000000Z",
            "2026-13-01T00:00:00.000000Z",
            "2026-00-01T00:00:00.000000Z",
            "2026-01-00T00:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "2026-01-01T00:00:60.000000Z",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000000+00:00",
        ] {
            assert_eq!(bad.parse::<Utc>(), Err(ParseUtcError), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_point_round_trips(micros in Utc::MIN..=Utc::MAX) {
            let utc = Utc::from_micros(micros);
            proptest::prop_assert_eq!(utc.to_string().parse(), Ok(utc));
            proptest::prop_assert_eq!(serde_json::to_string(&utc).unwrap(), format!("\"{utc}\""));
        }
    }
}
