//! `captures`: how much is kept of frames.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::{At, Text};
use super::check::Checker;
use super::evidence::told;
use super::raw::mapping;
use super::source::Span;
use super::units;
use crate::record::CaptureLimits;

/// The shortest time that a file is written: there would be too many of them.
const SHORTEST: u32 = 60;
const LEAST_FILE: u64 = 1 << 20;
const MOST_FILE: u64 = 4 << 30;
const LEAST_KEPT: u64 = 16 << 20;
const MOST_KEPT: u64 = 64 << 40;
const LEAST_FLOW: u64 = 64 << 10;
const LEAST_RATE: u64 = 64 << 10;

mapping! {
    /// How much is kept of captured frames.
    struct CaptureKeys {
        /// Octets after which a file is followed by the next (default `64M`).
        file: Text,
        /// Time after which it is, too (default `1h`).
        age: Text,
        /// Octets of the files of one device, as they lie on the disk; the oldest go first (default `512M`).
        series: Text,
        /// Octets of all files, as they lie on the disk; the oldest go first (default `2G`).
        total: Text,
        /// Octets of one flow that are kept whole, and then its headers only (default `64M`); `none` without limit.
        flow: Text,
        /// Octets a second of one device that are kept whole, and twice as many at once; of what is beyond, headers (default `32M`); `none` without limit.
        rate: Text,
        /// Whether files are compressed when they are no longer written (default true).
        compress: bool,
    }
}

/// What was written, with the defaults for what was not.
pub fn read(c: &mut Checker<'_>) -> CaptureLimits {
    let plain = CaptureLimits::default();
    let Some(keys) = c.raw.captures.as_ref() else { return plain };
    let mut size = |text: Option<&At<Text>>, default: u64, least: u64, most: u64| -> u64 {
        let Some(text) = text else { return default };
        let Some(octets) = c.unit(text.span, units::size_bytes(text)) else { return default };
        if !(least..=most).contains(&octets) {
            let message = format!("captures cannot be kept within `{}`", text.value.0);
            c.error(text.span, message, "out of range", format!("write {} to {}", told(least), told(most)));
        }
        octets
    };
    let file_bytes = size(keys.file.as_ref(), plain.file_bytes, LEAST_FILE, MOST_FILE);
    let total_bytes = size(keys.total.as_ref(), plain.total_bytes, LEAST_KEPT, MOST_KEPT);
    let series = keys.series.as_ref();
    let series_bytes = size(series, plain.series_bytes.min(total_bytes), LEAST_KEPT, MOST_KEPT);
    let mut or_none = |text: Option<&At<Text>>, default: u64, least: u64| match text {
        Some(text) if text.value.0 == "none" => u64::MAX,
        text => size(text, default, least, MOST_KEPT),
    };
    let flow_bytes = or_none(keys.flow.as_ref(), plain.flow_bytes, LEAST_FLOW);
    let rate_bytes = or_none(keys.rate.as_ref(), plain.rate_bytes, LEAST_RATE);
    if let Some(text) = series.filter(|_| series_bytes > total_bytes) {
        let message = format!("one device cannot have `{}` of {}", text.value.0, told(total_bytes));
        c.error(text.span, message, "more than all have", "write less, or a larger `total`");
    }
    // The file that is being written is not deleted, and one that is over has to be there for some time.
    if let Some(text) = [keys.file.as_ref(), series].into_iter().flatten().next()
        && file_bytes > series_bytes / 2
    {
        let message = format!("of files of {} no two fit into {}", told(file_bytes), told(series_bytes));
        c.error(text.span, message, "here", "write a smaller `file`, or a larger `series`");
    }
    let mut age_secs = plain.age_secs;
    if let Some(age) = &keys.age
        && let Some(secs) = c.unit(age.span, units::duration_secs(age))
    {
        if secs < SHORTEST {
            let message = format!("a new file each `{}` makes too many of them", age.value.0);
            c.error(age.span, message, "too short", "write 1m or more");
        }
        age_secs = secs.into();
    }
    let compress = keys.compress.as_ref().map_or(plain.compress, |at| at.value);
    CaptureLimits { file_bytes, age_secs, series_bytes, total_bytes, flow_bytes, rate_bytes, compress, ..plain }
}

#[cfg(test)]
mod tests {
    use crate::record::CaptureLimits;
    use crate::topology::{parse, tests::good};

    #[test]
    fn what_is_not_written_has_its_default() {
        let read = |captures: &str| good(&format!("{captures}nodes: {{s: {{kind: switch}}}}\n")).captures;
        let plain = CaptureLimits::default();
        assert_eq!(read(""), plain);
        let some = read("captures: {file: 16M, age: 10m, total: 100G, compress: false}\n");
        let (file_bytes, age_secs, total_bytes) = (16 << 20, 600, 100 << 30);
        assert_eq!(some, CaptureLimits { file_bytes, age_secs, total_bytes, compress: false, ..plain });
        let all = read("captures: {series: 1G, flow: 1M}\n");
        assert_eq!((all.series_bytes, all.flow_bytes), (1 << 30, 1 << 20));
        let none = read("captures: {flow: none, rate: none}\n");
        assert_eq!((none.flow_bytes, none.rate_bytes), (u64::MAX, u64::MAX));
        assert_eq!(read("captures: {rate: 1M}\n").rate_bytes, 1 << 20);
        // A small total is a device's, too.
        assert_eq!(read("captures: {total: 128M}\n").series_bytes, 128 << 20);
    }

    #[test]
    fn what_would_keep_nothing_is_refused() {
        for (keys, message) in [
            ("file: 1K", "cannot be kept within `1K`"),
            ("file: 512M", "no two fit into 512M"),
            ("age: 5s", "makes too many"),
            ("age: 90", "has no unit"),
            ("total: 1M", "cannot be kept within `1M`"),
            ("series: 4G", "one device cannot have `4G` of 2G"),
            ("flow: 0", "cannot be kept within `0`"),
            ("flow: 100", "has no unit"),
            ("rate: 1K", "cannot be kept within `1K`"),
            ("totals: 1G", "unknown key `totals`"),
        ] {
            let text = format!("captures: {{{keys}}}\nnodes: {{s: {{kind: switch}}}}\n");
            let mistakes = parse("t", &text).unwrap_err();
            assert!(mistakes.errors.iter().any(|error| error.message.contains(message)), "{keys}: {mistakes:?}");
        }
    }
}
