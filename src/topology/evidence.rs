//! `evidence`: how much is kept of what intruders change in containers.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::{At, Text};
use super::check::Checker;
use super::raw::mapping;
use super::source::Span;
use super::units;
use crate::container::inspector::Limits;

/// The shortest time that evidence is kept.
const SHORTEST: u32 = 3600;
const LEAST_TOTAL: u64 = 16 << 20;
const LEAST_ARCHIVE: u64 = 1 << 20;
const LEAST_FILE: u64 = 1 << 10;

mapping! {
    /// How much evidence is kept, and for how long.
    struct EvidenceKeys {
        /// Time after which archives and samples go (default `90d`).
        age: Text,
        /// Octets of all archives and samples of the honeynet; the oldest go first (default `2G`).
        total: Text,
        /// Octets of contents in one archive (default `256M`).
        archive: Text,
        /// Octets of the largest file whose contents are kept (default `32M`).
        file: Text,
    }
}

/// What was written, with the defaults for what was not.
pub fn read(c: &mut Checker<'_>) -> Limits {
    let plain = Limits::default();
    let Some(keys) = c.raw.evidence.as_ref() else { return plain };
    let mut size = |text: Option<&At<Text>>, default: u64, least: u64, most: u64| -> u64 {
        let Some(text) = text else { return default };
        let Some(octets) = c.unit(text.span, units::size_bytes(text)) else { return default };
        if !(least..=most).contains(&octets) {
            let message = format!("evidence cannot be kept within `{}`", text.value.0);
            let help = format!("write {} to {}", told(least), told(most));
            c.error(text.span, message, "out of range", help);
        }
        octets
    };
    let total = size(keys.total.as_ref(), plain.total, LEAST_TOTAL, Limits::MOST_TOTAL);
    let archive = size(keys.archive.as_ref(), plain.archive, LEAST_ARCHIVE, Limits::MOST_ARCHIVE);
    let file = size(keys.file.as_ref(), plain.file, LEAST_FILE, Limits::MOST_FILE);
    let mut age_secs = plain.age_secs;
    if let Some(age) = &keys.age
        && let Some(secs) = c.unit(age.span, units::duration_secs(age))
    {
        if secs < SHORTEST {
            let message = format!("evidence would go after `{}`, before anybody has looked at it", age.value.0);
            c.error(age.span, message, "too short", "write 1h or more");
        }
        age_secs = secs.into();
    }
    Limits { total, archive, file, age_secs, ..plain }
}

/// A size as it is written.
pub fn told(octets: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let fitting = units.into_iter().find(|(bits, _)| octets >= 1 << bits);
    fitting.map_or_else(|| octets.to_string(), |(bits, unit)| format!("{}{unit}", octets >> bits))
}

#[cfg(test)]
mod tests {
    use crate::container::inspector::Limits;
    use crate::topology::{parse, tests::good};

    #[test]
    fn what_is_not_written_has_its_default() {
        let read = |evidence: &str| good(&format!("{evidence}nodes: {{s: {{kind: switch}}}}\n")).evidence;
        assert_eq!(read(""), Limits::default());
        let some = read("evidence: {age: 7d, total: 100M}\n");
        assert_eq!(some, Limits { age_secs: 7 * 86_400, total: 100 << 20, ..Limits::default() });
        let all = read("evidence: {file: 64M, archive: 1G}\n");
        assert_eq!((all.file, all.archive, all.age_secs), (64 << 20, 1 << 30, 90 * 86_400));
    }

    #[test]
    fn what_would_keep_nothing_is_refused() {
        for (keys, message) in [
            ("age: 5m", "before anybody has looked"),
            ("age: 90", "has no unit"),
            ("total: 1M", "cannot be kept within `1M`"),
            ("total: 9999T", "cannot be kept within"),
            ("archive: 1K", "cannot be kept within"),
            ("file: 1G", "cannot be kept within"),
            ("files: 1G", "unknown key `files`"),
        ] {
            let text = format!("evidence: {{{keys}}}\nnodes: {{s: {{kind: switch}}}}\n");
            let mistakes = parse("t", &text).unwrap_err();
            assert!(mistakes.errors.iter().any(|error| error.message.contains(message)), "{keys}: {mistakes:?}");
        }
    }
}
