//! Points in time as people type them.

use std::str::FromStr;

use crate::record::Utc;
use crate::topology::units::duration_us;

/// A hundred years in microseconds.
const LONGEST: u64 = 100 * 365 * 86_400 * 1_000_000;

/// A point in time, or how long ago it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Then.
    At(Utc),
    /// So many microseconds ago.
    Ago(i64),
}

impl When {
    /// When that was, if it is `now`, in microseconds since 1970.
    pub fn at(self, now: i64) -> Utc {
        match self {
            When::At(at) => at,
            When::Ago(micros) => Utc::from_micros(now.saturating_sub(micros)),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        const WHOLE: &str = "0000-01-01T00:00:00.000000Z";
        let wrong = || {
            "a time is UTC, such as 2026-01-31 or 2026-01-31T12:00:00Z, or how long ago it was, such as 90s, 5m, 2h or 7d".to_owned()
        };
        // A number alone is a year.
        if let Some(micros) = duration_us(text, LONGEST).ok().filter(|_| !text.ends_with(|c: char| c.is_ascii_digit()))
        {
            return Ok(When::Ago(micros.cast_signed()));
        }
        let begun = text.strip_suffix('Z').unwrap_or(text);
        let whole = WHOLE.get(begun.len()..).filter(|_| begun.len() >= 4).ok_or_else(wrong)?;
        // A dot needs a digit behind it, and so does every other sign.
        let whole =
            if begun.ends_with(|c: char| c.is_ascii_digit()) { format!("{begun}{whole}") } else { String::new() };
        whole.parse().map(When::At).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type() {
        let now = "2026-01-31T12:00:00.000000Z".parse::<Utc>().unwrap().micros();
        for (text, meant) in [
            ("2026-01-31", "2026-01-31T00:00:00.000000Z"),
            ("2026", "2026-01-01T00:00:00.000000Z"),
            ("0000", "0000-01-01T00:00:00.000000Z"),
            ("2026-01-31T12:30", "2026-01-31T12:30:00.000000Z"),
            ("2026-01-31T12:30:05Z", "2026-01-31T12:30:05.000000Z"),
            ("2026-01-31T12:30:05.25Z", "2026-01-31T12:30:05.250000Z"),
            ("90s", "2026-01-31T11:58:30.000000Z"),
            ("2h", "2026-01-31T10:00:00.000000Z"),
            ("31d", "2025-12-31T12:00:00.000000Z"),
        ] {
            assert_eq!(text.parse::<When>().map(|when| when.at(now).to_string()), Ok(meant.into()), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-01-",
            "-2h",
            "2w",
            "5",
            "0",
            "2026-01-31T12:30:05.1234567",
            "\u{e9}\u{e9}",
        ] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
    }
}
