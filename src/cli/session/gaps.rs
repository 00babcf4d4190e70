//! What recordings do not have, in words.

use super::super::status;
use crate::record::escape;

/// Characters of what a cast says of itself.
const WIDE: usize = 200;

/// What a cast says of itself by a marker: where something is missing.
pub fn of_marker(text: &str) -> String {
    let text: String = text.chars().take(WIDE).collect();
    format!("(recording: {})", escape(&text))
}

/// That so many lines of a tape and octets of its connection are not recorded, if there are some.
pub fn of_connection(lines: u64, octets: u64) -> Option<String> {
    let count = |count: u64, one: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{} {one}s", status::count(count))),
    };
    let lost: Vec<String> = [count(lines, "line"), count(octets, "octet")].into_iter().flatten().collect();
    (!lost.is_empty()).then(|| format!("not recorded: {}", lost.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_and_nothing_else() {
        assert_eq!(of_connection(0, 0), None);
        assert_eq!(of_connection(1, 0).unwrap(), "not recorded: 1 line");
        assert_eq!(of_connection(68, 6126).unwrap(), "not recorded: 68 lines and 6,126 octets");
        assert_eq!(of_marker("\u{1b}[2Jx"), "(recording: \\u{1b}[2Jx)");
    }
}
