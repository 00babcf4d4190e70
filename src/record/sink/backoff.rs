//! How long to wait before a receiver that failed is tried again.

use std::time::Duration;

/// The longest pause.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);
const FIRST: u64 = 1000;

/// The pause after the failure number `failures` in a row, counted from 1: twice the last one, 1 s to 5 min, of which
/// `chance` takes away up to a half, so that those who failed together do not come back together.
pub fn pause(failures: u32, chance: u64) -> Duration {
    let whole = FIRST << failures.saturating_sub(1).min(16);
    let whole = whole.min(LONGEST_PAUSE.as_millis() as u64);
    Duration::from_millis((whole - chance % (whole / 2 + 1)).max(FIRST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_differ() {
        let whole = |failures| pause(failures, 0);
        assert_eq!([1, 2, 3, 9].map(whole), [1, 2, 4, 256].map(Duration::from_secs));
        assert_eq!([10, 100, u32::MAX].map(whole), [LONGEST_PAUSE; 3]);
        for failures in 0..40 {
            for chance in [0, 1, 7_000, u64::MAX] {
                let pause = pause(failures, chance);
                assert!((Duration::from_secs(1)..=LONGEST_PAUSE).contains(&pause), "{failures} {chance}");
                assert!(pause >= whole(failures) / 2);
            }
        }
        assert_ne!(pause(9, 1_000), pause(9, 100_000));
    }
}
