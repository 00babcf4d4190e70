//! Which odd ARP requests a system answers.
//!
//! RFC 826 says what to check, and in which order; systems check less, and no two families the same. The tool
//! arp-fingerprint asks in eleven wrong ways and takes the answers for a fingerprint; what it knows of the systems
//! is where the built-in values come from.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::ArpOddities;

/// The odd ARP requests that are answered.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArpHabits(ArpOddities);

impl ArpHabits {
    /// The habits that arp-fingerprint prints as `digits`.
    ///
    /// # Panics
    /// Unless there are eleven, each `0` or `1`; for a constant, that is an error of the compiler.
    pub const fn new(digits: &str) -> ArpHabits {
        match ArpHabits::parse(digits) {
            Some(habits) => habits,
            None => panic!("eleven digits, 0 or 1"),
        }
    }

    /// The habits that arp-fingerprint prints as `digits`; `None` unless there are eleven, each `0` or `1`.
    pub const fn parse(digits: &str) -> Option<ArpHabits> {
        let digits = digits.as_bytes();
        if digits.len() != ArpOddities::COUNT {
            return None;
        }
        let (mut answered, mut at) = (ArpOddities::NONE, 0);
        while at < digits.len() {
            match digits[at] {
                b'0' => (),
                b'1' => answered = answered.and(ArpOddities::nth(at)),
                _ => return None,
            }
            at += 1;
        }
        Some(ArpHabits(answered))
    }

    /// Whether a request that is odd in all of these ways is answered.
    #[inline]
    pub const fn answers(self, oddities: ArpOddities) -> bool {
        self.0.contains(oddities)
    }
}

impl fmt::Display for ArpHabits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |at| if self.answers(ArpOddities::nth(at)) { "1" } else { "0" };
        (0..ArpOddities::COUNT).try_for_each(|at| f.write_str(digit(at)))
    }
}

impl fmt::Debug for ArpHabits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArpHabits({self})")
    }
}

impl From<ArpHabits> for String {
    fn from(habits: ArpHabits) -> String {
        habits.to_string()
    }
}

impl TryFrom<String> for ArpHabits {
    type Error = &'static str;

    fn try_from(digits: String) -> Result<ArpHabits, &'static str> {
        ArpHabits::parse(&digits).ok_or("ARP habits are eleven digits, 0 or 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_habits() {
        const LINUX: ArpHabits = ArpHabits::new("01010100000");
        assert!(LINUX.answers(ArpOddities::NONE) && LINUX.answers(ArpOddities::OFF_NET));
        assert!(LINUX.answers(ArpOddities::OFF_NET.and(ArpOddities::IEEE_802)));
        assert!(!LINUX.answers(ArpOddities::OFF_NET.and(ArpOddities::HARDWARE)));
        let json = serde_json::to_string(&LINUX).unwrap();
        assert_eq!(json, "\"01010100000\"");
        assert_eq!(serde_json::from_str::<ArpHabits>(&json).unwrap(), LINUX);
        for bad in ["", "0101010000", "010101000000", "0101010000x"] {
            assert_eq!(ArpHabits::parse(bad), None, "{bad}");
        }
        assert!(serde_json::from_str::<ArpHabits>("\"2\"").is_err());
    }
}
