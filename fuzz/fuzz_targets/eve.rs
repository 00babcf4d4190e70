//! What a sensor tells, which quotes what attackers sent: an alert is bounded and harmless, and lines are the same however
//! they come in pieces.
#![no_main]

use honeyweave::event::MAX_DATA;
use honeyweave::record::Rule;
use honeyweave::record::eve::{Lines, alert};
use libfuzzer_sys::fuzz_target;

fn lines(data: &[u8], most: usize) -> (Vec<Vec<u8>>, u64) {
    let (mut lines, mut all) = (Lines::default(), Vec::new());
    data.chunks(most).for_each(|piece| lines.push(piece, |line| all.push(line.to_vec())));
    (all, lines.open())
}

fuzz_target!(|data: &[u8]| {
    let (whole, open) = lines(data, usize::MAX);
    assert_eq!((&whole, open), (&lines(data, data.len() % 17 + 1).0, lines(data, 1).1));
    let rest = &data[data.len() - open as usize..];
    for line in whole.iter().map(Vec::as_slice).chain([rest]) {
        let Some(seen) = alert(line) else { continue };
        assert!(seen.data.len() <= MAX_DATA && seen.data.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{seen:?}");
        let rule: Rule = serde_json::from_str(&seen.data).expect("an object");
        assert!(rule.signature.len() <= 400 && rule.category.len() <= 400, "{rule:?}");
        assert_eq!(seen.at.to_string().parse(), Ok(seen.at));
    }
});
