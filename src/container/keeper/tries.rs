//! What failed and is tried again, each time later and with more patience, until it has failed too often.

use std::collections::HashMap;
use std::hash::Hash;

use super::process::SECOND;

/// How long the first try may take, and the first pause after it; each further one is twice as long.
const FIRST: i64 = 60 * SECOND;
/// How often it is tried: the last time some half an hour after the first.
const TRIES: u32 = 5;
/// Failures that are remembered.
const MOST: usize = 4096;

/// What has failed so far.
#[derive(Debug)]
pub struct Tries<T>(HashMap<T, Tried>);

#[derive(Clone, Copy, Debug)]
struct Tried {
    failed: u32,
    /// When it is tried again; never if somebody has it in hand.
    again: i64,
}

impl<T> Default for Tries<T> {
    fn default() -> Tries<T> {
        Tries(HashMap::new())
    }
}

impl<T: Copy + Eq + Hash> Tries<T> {
    /// How long the next try of `it` may take. Whoever asks has it in hand.
    pub fn patience(&mut self, it: T) -> i64 {
        self.0.get_mut(&it).map_or(FIRST, |tried| {
            tried.again = i64::MAX;
            FIRST << tried.failed
        })
    }

    /// A try has failed at `now`; whether there is another one.
    pub fn failed(&mut self, it: T, now: i64) -> bool {
        let failed = self.0.get(&it).map_or(0, |tried| tried.failed) + 1;
        if failed >= TRIES || (failed == 1 && self.0.len() >= MOST) {
            self.0.remove(&it);
            return false;
        }
        self.0.insert(it, Tried { failed, again: now.saturating_add(FIRST << (failed - 1)) });
        true
    }

    /// It need not be tried again.
    pub fn done(&mut self, it: T) {
        self.0.remove(&it);
    }

    /// What is to be tried again at `now`, which is in hand from then on.
    pub fn due(&mut self, now: i64) -> Vec<T> {
        let due = self.0.iter_mut().filter(|(_, tried)| tried.again <= now);
        due.map(|(it, tried)| {
            tried.again = i64::MAX;
            *it
        })
        .collect()
    }

    /// When something is to be tried again.
    pub fn next(&self) -> i64 {
        self.0.values().map(|tried| tried.again).min().unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60 * SECOND;

    #[test]
    fn a_search_that_is_starved_is_tried_again_and_not_for_ever() {
        let mut tries = Tries::default();
        let (mut now, mut begun) = (0, Vec::new());
        loop {
            let patience = tries.patience('a');
            begun.push((now / MINUTE, patience / MINUTE));
            now += patience;
            if !tries.failed('a', now) {
                break;
            }
            assert!(tries.due(now).is_empty() && tries.due(tries.next() - 1).is_empty());
            now = tries.next();
            assert_eq!(tries.due(now), ['a']);
            assert!(tries.due(now).is_empty(), "it is in hand");
        }
        assert_eq!(begun, [(0, 1), (2, 2), (6, 4), (14, 8), (30, 16)]);
        assert_eq!((tries.next(), tries.patience('a')), (i64::MAX, MINUTE), "who needs it later begins anew");
    }

    #[test]
    fn who_needs_it_meanwhile_does_not_wait_and_what_is_found_is_forgotten() {
        let mut tries = Tries::default();
        assert!(tries.failed('a', 0));
        assert_eq!(tries.patience('a'), 2 * MINUTE);
        assert!(tries.due(i64::MAX - 1).is_empty(), "somebody has it in hand");
        tries.done('a');
        assert_eq!((tries.next(), tries.patience('a')), (i64::MAX, MINUTE));
        for number in 0..MOST {
            assert!(tries.failed(char::from_u32(0x1_0000 + number as u32).unwrap(), 0));
        }
        assert!(!tries.failed('b', 0), "so many are remembered");
    }
}
