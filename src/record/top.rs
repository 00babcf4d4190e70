//! Which keys occur most often, in bounded memory, however many there are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;

use foldhash::{HashMap, HashMapExt};

/// Counts the most frequent keys in bounded memory (Space-Saving, Metwally et
/// al. 2005): a key that occurs more often than total/capacity is never missed,
/// and no count is too low.
///
/// Who floods sends a new key each time, and each makes the least one give way. That one is found through a heap whose
/// counts may be old: counts only rise, so what is at its top with the count of today is the least of all. A key is put
/// in its place there at most once for each time that it was counted, which makes it O(log capacity) for one key, whatever
/// comes, and a key that is known costs the heap nothing.
#[derive(Clone, Debug)]
pub struct Top<K: Ord> {
    capacity: usize,
    counts: HashMap<K, u64>,
    /// Every key once, with a count that it had.
    least: BinaryHeap<Reverse<(u64, K)>>,
}

impl<K: Copy + Eq + Hash + Ord> Top<K> {
    /// Keeps `capacity` keys, at least one.
    pub fn new(capacity: usize) -> Top<K> {
        Top { capacity: capacity.max(1), counts: HashMap::new(), least: BinaryHeap::new() }
    }

    /// Counts `key`, `by` times; returns the key that had to give way.
    pub fn count(&mut self, key: K, by: u64) -> Option<K> {
        if let Some(count) = self.counts.get_mut(&key) {
            *count = count.saturating_add(by);
            return None;
        }
        if self.counts.len() < self.capacity {
            self.counts.insert(key, by);
            self.least.push(Reverse((by, key)));
            return None;
        }
        loop {
            let mut top = self.least.peek_mut()?;
            let Reverse((known, least)) = *top;
            let count = self.counts.get(&least).copied().unwrap_or(known);
            if count == known {
                let count = count.saturating_add(by);
                *top = Reverse((count, key));
                self.counts.remove(&least);
                self.counts.insert(key, count);
                return Some(least);
            }
            *top = Reverse((count, least));
        }
    }

    /// The `n` most frequent keys, the first the most frequent.
    pub fn first(&self, n: usize) -> Vec<(K, u64)> {
        let mut all: Vec<(K, u64)> = self.counts.iter().map(|(key, count)| (*key, *count)).collect();
        all.sort_by(|(a_key, a), (b_key, b)| b.cmp(a).then(a_key.cmp(b_key)));
        all.truncate(n);
        all
    }

    /// How many keys are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::clock;

    /// What a new key costs, in microseconds of this thread, once `capacity` are known; every tenth key is a known one.
    fn cost(capacity: u32) -> f64 {
        let mut top = Top::new(capacity as usize);
        for key in 0..capacity {
            top.count(key, 1);
        }
        let floods = 100_000;
        let begin = clock::thread_micros();
        for key in 0..floods {
            assert!(top.count(u32::MAX - key, 1).is_some());
            if key % 10 == 0 {
                assert_eq!(top.count(u32::MAX - key, 3), None);
            }
        }
        let took = clock::thread_micros() - begin;
        assert_eq!((top.counts.len(), top.least.len()), (capacity as usize, capacity as usize));
        took as f64 / f64::from(floods)
    }

    #[test]
    fn a_flood_of_new_keys_does_not_look_at_all_that_are_kept() {
        let (few, many) = (cost(64), cost(64 * 256));
        // Looked at one by one, 256 times as many take 256 times as long; the heap is 14 levels deep in place of 6.
        assert!(many < 24.0 * few.max(0.05), "{few} us, {many} us");
    }

    #[test]
    fn whoever_comes_often_stays_in_a_flood() {
        let mut top = Top::new(512);
        for key in 0..200_000u32 {
            top.count(key, 1);
            // Twice as often as 1 in 512.
            if key % 256 == 0 {
                top.count(u32::MAX, 1);
            }
        }
        let [(busiest, count), (_, next)] = top.first(2)[..] else { panic!() };
        assert_eq!(busiest, u32::MAX);
        assert!(count >= 782 && next <= 200_782 / 512 + 1, "{count} {next}");
    }

    proptest! {
        #[test]
        fn no_count_is_too_low_and_no_frequent_key_is_missed(
            keys in proptest::collection::vec((0u8..40, 0u64..4), 1..400),
        ) {
            let mut top = Top::new(10);
            let (mut kept, mut total) = (std::collections::BTreeSet::new(), 0);
            for (key, by) in &keys {
                let gone = top.count(*key, *by);
                kept.insert(*key);
                if let Some(gone) = gone {
                    prop_assert!(kept.remove(&gone) && gone != *key);
                }
                total += by;
            }
            let counts: HashMap<u8, u64> = top.first(10).into_iter().collect();
            prop_assert!(kept.iter().eq(counts.keys().collect::<std::collections::BTreeSet<_>>()));
            for key in 0u8..40 {
                let true_count: u64 = keys.iter().filter(|(k, _)| *k == key).map(|(_, by)| by).sum();
                match counts.get(&key) {
                    Some(count) => prop_assert!(*count >= true_count),
                    None => prop_assert!(true_count <= total / 10),
                }
            }
        }
    }
}
