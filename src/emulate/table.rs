//! A hash table of bounded size that forgets fairly.
//!
//! Everything that an attacker can make us remember lives in one of these: FDB,
//! neighbors, sessions, half-open connections. When it is full, a clock hand
//! looks for an entry that was not used since the hand last came by, so that a
//! flood of new keys pushes out other new keys before those in use.

use std::hash::{BuildHasher, Hash};

use crate::sys::prefetch::prefetch;

/// Every octet of a word 1, and every way's highest bit.
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x0080_8080_8080_8080;
/// Set in a slot's place if its bucket is not the first that its hash leads to.
const DISPLACED: u32 = 1 << 31;

/// Finds entries by their hash. A bucket has a word of seven tags (the highest
/// bit and seven bits of the hash; 0 where it is empty), compared all at once, and
/// the slots that they stand for. A full bucket sends new entries to the next one
/// and counts them in the eighth octet of its word: while that is 0, a search ends here.
struct Index {
    tags: Vec<u64>,
    slots: Vec<[u32; 8]>,
}

/// The highest bit of each octet of `word` that is 0, the eighth excepted.
#[inline]
fn zero_octets(word: u64) -> u64 {
    let low = word & !(ONES << 7);
    !((low + !(ONES << 7)) | word) & HIGH
}

impl Index {
    fn new(buckets: usize) -> Index {
        Index { tags: vec![0; buckets], slots: vec![[0; 8]; buckets] }
    }

    /// Fetches where a search for this hash begins.
    #[inline]
    fn prefetch(&self, hash: u32) {
        let bucket = hash as usize & (self.tags.len() - 1);
        prefetch(&self.tags[bucket]);
        prefetch(&self.slots[bucket]);
    }

    /// Slots of entries that have this hash, and sometimes of others.
    #[inline]
    fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.tags.len() - 1;
        let wanted = u64::from(hash >> 25 | 0x80) * ONES;
        let mut bucket = hash as usize & mask;
        // One round for nearly all, and never more than there are buckets.
        for _ in 0..self.tags.len() {
            let tags = self.tags[bucket];
            let mut found = zero_octets(tags ^ wanted);
            while found != 0 {
                let slot = self.slots[bucket][found.trailing_zeros() as usize / 8];
                if is_it(slot) {
                    return Some(slot);
                }
                found &= found - 1;
            }
            if tags >> 56 == 0 {
                return None;
            }
            bucket = (bucket + 1) & mask;
        }
        None
    }

    /// Adds an entry, for which there is room. Returns its place.
    #[inline]
    fn enter(&mut self, hash: u32, slot: u32) -> u32 {
        let mask = self.tags.len() - 1;
        let mut bucket = hash as usize & mask;
        let mut displaced = 0;
        loop {
            let empty = !self.tags[bucket] & HIGH;
            if empty != 0 {
                let way = empty.trailing_zeros() / 8;
                self.tags[bucket] |= u64::from(hash >> 25 | 0x80) << (8 * way);
                self.slots[bucket][way as usize] = slot;
                return (8 * bucket as u32 + way) | displaced;
            }
            displaced = DISPLACED;
            // At 255 nobody knows any longer, and it stays.
            if self.tags[bucket] >> 56 != 255 {
                self.tags[bucket] += 1 << 56;
            }
            bucket = (bucket + 1) & mask;
        }
    }

    /// Takes the entry at `place` out. Its hash is asked for only where it matters.
    #[inline]
    fn leave(&mut self, place: u32, hash: impl FnOnce() -> u32) {
        let at = place & !DISPLACED;
        let bucket = at as usize / 8;
        self.tags[bucket] &= !(0xff << (at % 8 * 8));
        if place & DISPLACED != 0 {
            let mask = self.tags.len() - 1;
            let mut passed = hash() as usize & mask;
            while passed != bucket {
                if self.tags[passed] >> 56 != 255 {
                    self.tags[passed] -= 1 << 56;
                }
                passed = (passed + 1) & mask;
            }
        }
    }
}

struct Slot<K, V> {
    key: K,
    value: V,
    /// Where the index has it.
    place: u32,
    used: bool,
}

/// The table. Memory grows by doubling up to `capacity` entries and stays there.
///
/// Entries lie in `slots`, in the order that the hand goes round; the index is
/// small, so that a look-up that finds nothing reads no entry.
pub struct ClockTable<K, V> {
    index: Index,
    slots: Vec<Option<Slot<K, V>>>,
    free: Vec<u32>,
    len: usize,
    capacity: usize,
    hand: usize,
    hasher: foldhash::fast::FixedState,
}

/// Where an entry lies, until the next insertion or removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotIdx(u32);

/// The hash of a key that has no entry; [`ClockTable::insert_new`] takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vacant(u32);

/// The hash of a key that is going to be looked for; [`ClockTable::slot_of`] takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced(u32);

impl<K: Hash + Eq + Copy, V> ClockTable<K, V> {
    /// A table of at most `capacity` entries (at least one).
    pub fn new(capacity: usize, seed: u64) -> ClockTable<K, V> {
        ClockTable {
            index: Index::new(4),
            slots: Vec::new(),
            free: Vec::new(),
            len: 0,
            capacity: capacity.max(1),
            hand: 0,
            hasher: foldhash::fast::FixedState::with_seed(seed),
        }
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn hash(&self, key: &K) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    #[inline]
    fn find(&self, key: &K, hash: u32) -> Option<u32> {
        self.index.find(hash, |slot| self.slots[slot as usize].as_ref().is_some_and(|slot| slot.key == *key))
    }

    /// Where the entry of `key` lies, marked as used; if it has none, what
    /// [`ClockTable::insert_new`] needs.
    ///
    /// # Errors
    /// The hash of a key that has no entry.
    #[inline]
    pub fn slot(&mut self, key: &K) -> Result<SlotIdx, Vacant> {
        self.slot_hashed(key, self.hash(key))
    }

    #[inline]
    fn slot_hashed(&mut self, key: &K, hash: u32) -> Result<SlotIdx, Vacant> {
        let Some(at) = self.find(key, hash) else { return Err(Vacant(hash)) };
        if let Some(slot) = self.slots[at as usize].as_mut() {
            slot.used = true;
        }
        Ok(SlotIdx(at))
    }

    /// The hash of a key that is going to be looked for, with the part of the index that tells where it is.
    #[inline]
    pub fn announce(&self, key: &K) -> Announced {
        let hash = self.hash(key);
        self.index.prefetch(hash);
        Announced(hash)
    }

    /// Fetches the entry of an announced key, to which the index has come meanwhile.
    #[inline]
    pub fn prefetch(&self, key: Announced) {
        if let Some(slot) = self.index.find(key.0, |_| true).and_then(|slot| self.slots.get(slot as usize)) {
            prefetch(slot);
        }
    }

    /// The same as [`ClockTable::slot`] for a `key` that was announced.
    ///
    /// # Errors
    /// The hash of a key that has no entry.
    #[inline]
    pub fn slot_of(&mut self, key: &K, announced: Announced) -> Result<SlotIdx, Vacant> {
        debug_assert_eq!(self.hash(key), announced.0);
        self.slot_hashed(key, announced.0)
    }

    /// The value at a place that was found or filled just now.
    ///
    /// # Panics
    /// If the entry was removed since.
    #[inline]
    pub fn value(&mut self, at: SlotIdx) -> &mut V {
        match self.slots[at.0 as usize].as_mut() {
            Some(slot) => &mut slot.value,
            None => panic!("the slot was emptied since it was looked up"),
        }
    }

    /// The same of a place that may be empty, or another entry's, by now.
    #[inline]
    pub fn at(&mut self, at: SlotIdx) -> Option<&mut V> {
        self.slots.get_mut(at.0 as usize)?.as_mut().map(|slot| &mut slot.value)
    }

    /// The entry of `key`, marked as used.
    #[inline]
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        // Most tables are empty while nobody does more than scan: that is known without a hash.
        if self.len == 0 {
            return None;
        }
        let at = self.slot(key).ok()?;
        Some(self.value(at))
    }

    /// The entry of `key`, without marking it.
    #[inline]
    pub fn peek(&self, key: &K) -> Option<&V> {
        let at = self.find(key, self.hash(key))?;
        self.slots[at as usize].as_ref().map(|slot| &slot.value)
    }

    /// Adds an entry for a key that has none, or replaces the one it has.
    /// Returns what was replaced or evicted for it.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        match self.slot(&key) {
            Ok(at) => Some((key, std::mem::replace(self.value(at), value))),
            Err(vacant) => self.insert_new(key, vacant, value).1,
        }
    }

    /// Adds an entry for a key that was just found to have none. Returns where
    /// it lies and what was evicted for it. It is not marked: it has to be used again to outlive a flood.
    #[inline(always)]
    pub fn insert_new(&mut self, key: K, vacant: Vacant, value: V) -> (SlotIdx, Option<(K, V)>) {
        let hash = vacant.0;
        if self.len >= self.capacity
            && let Some(at) = self.victim()
        {
            let evicted = self.put_over(at, hash, key, value);
            return (SlotIdx(at), evicted);
        }
        // Four of seven ways in use on average: few buckets are full.
        if self.len >= 4 * self.index.tags.len() {
            self.grow();
        }
        let at = self.free.pop().unwrap_or(self.slots.len() as u32);
        let slot = Some(Slot { key, value, place: self.index.enter(hash, at), used: false });
        match self.slots.get_mut(at as usize) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        self.len += 1;
        (SlotIdx(at), None)
    }

    /// The same as [`ClockTable::insert`], but in a full table only over an entry
    /// that `may_go`. One entry is looked at for it; the next time the next one is.
    ///
    /// # Errors
    /// The value, if that entry stays.
    pub fn insert_over(&mut self, key: K, value: V, may_go: impl Fn(&V) -> bool) -> Result<Option<(K, V)>, V> {
        match self.slot(&key) {
            Ok(at) => Ok(Some((key, std::mem::replace(self.value(at), value)))),
            Err(vacant) if self.len < self.capacity => Ok(self.insert_new(key, vacant, value).1),
            Err(Vacant(hash)) => {
                let victim = self.victim();
                let goes = |at: &u32| self.slots[*at as usize].as_ref().is_some_and(|slot| may_go(&slot.value));
                match victim.filter(goes) {
                    Some(at) => Ok(self.put_over(at, hash, key, value)),
                    None => Err(value),
                }
            }
        }
    }

    /// Puts an entry into the place of another one. Returns that.
    #[inline(always)]
    fn put_over(&mut self, at: u32, hash: u32, key: K, value: V) -> Option<(K, V)> {
        self.forget(at);
        let place = self.index.enter(hash, at);
        let old = self.slots[at as usize].replace(Slot { key, value, place, used: false });
        old.map(|slot| (slot.key, slot.value))
    }

    /// Takes a slot out of the index.
    #[inline]
    fn forget(&mut self, at: u32) {
        if let Some(slot) = &self.slots[at as usize] {
            self.index.leave(slot.place, || self.hasher.hash_one(slot.key) as u32);
        }
    }

    /// Removes the entry of `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.find(key, self.hash(key))?;
        self.remove_at(at).map(|(_, value)| value)
    }

    /// Empties a slot.
    fn remove_at(&mut self, at: u32) -> Option<(K, V)> {
        self.forget(at);
        let slot = self.slots[at as usize].take()?;
        self.len -= 1;
        self.free.push(at);
        Some((slot.key, slot.value))
    }

    /// The entry that the clock hand finds unused.
    #[inline]
    fn victim(&mut self) -> Option<u32> {
        for _ in 0..2 * self.slots.len() {
            self.hand += 1;
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            if let Some(slot) = self.slots[self.hand].as_mut()
                && !std::mem::replace(&mut slot.used, false)
            {
                return Some(self.hand as u32);
            }
        }
        None
    }

    /// Looks at up to `budget` slots from where the last call stopped and
    /// removes those entries that `stale` says are; each goes to `gone`.
    pub fn sweep(&mut self, budget: usize, mut stale: impl FnMut(&K, &V) -> bool, mut gone: impl FnMut(K, V)) {
        for _ in 0..budget.min(self.slots.len()) {
            self.hand = (self.hand + 1) % self.slots.len();
            if let Some(slot) = self.slots[self.hand].as_ref()
                && stale(&slot.key, &slot.value)
                && let Some((key, value)) = self.remove_at(self.hand as u32)
            {
                gone(key, value);
            }
        }
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().flatten().map(|slot| (&slot.key, &slot.value))
    }

    fn grow(&mut self) {
        self.index = Index::new(2 * self.index.tags.len());
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if let Some(slot) = slot {
                slot.place = self.index.enter(self.hasher.hash_one(slot.key) as u32, at as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_map_within_its_capacity(ops in prop::collection::vec((0u8..3, 0u16..64, any::<u32>()), 0..400)) {
            let mut table = ClockTable::new(64, 1);
            let mut model = HashMap::new();
            for (op, key, value) in ops {
                match op {
                    0 => prop_assert_eq!(table.insert(key, value), model.insert(key, value).map(|old| (key, old))),
                    1 => prop_assert_eq!(table.remove(&key), model.remove(&key)),
                    _ => prop_assert_eq!(table.get(&key).copied(), model.get(&key).copied()),
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }

    #[test]
    fn a_full_bucket_passes_entries_on_and_takes_them_back() {
        let mut index = Index::new(2);
        let hash = 0x1234_5678;
        let places: Vec<u32> = (0..12).map(|slot| index.enter(hash, slot)).collect();
        let found = |index: &Index, slot| index.find(hash, |found| found == slot);
        assert!((0..12).all(|slot| found(&index, slot) == Some(slot)));
        assert_eq!(places.iter().filter(|place| **place & DISPLACED != 0).count(), 5);
        // In the first bucket there is room again; those that went on are found yet.
        for place in &places[..7] {
            index.leave(*place, || hash);
        }
        assert!((0..7).all(|slot| found(&index, slot).is_none()) && found(&index, 11) == Some(11));
        for place in &places[7..] {
            index.leave(*place, || hash);
        }
        assert_eq!(index.tags, [0, 0]);
    }

    #[test]
    fn zero_octets_are_found_exactly() {
        assert_eq!(zero_octets(0), HIGH);
        assert_eq!(zero_octets(0xff01_8000_01ff_7f00), 0x0000_0080_0000_0080);
    }

    proptest! {
        /// Few buckets, many collisions: every entry is found whatever was evicted and removed before.
        #[test]
        fn nothing_is_lost_from_the_index(ops in prop::collection::vec((any::<bool>(), 0u16..64), 0..400), capacity in 1usize..20) {
            let mut table = ClockTable::new(capacity, 1);
            for (put, key) in ops {
                if put {
                    table.insert(key, key);
                    prop_assert_eq!(table.peek(&key), Some(&key));
                } else {
                    table.remove(&key);
                    prop_assert_eq!(table.peek(&key), None);
                }
                let keys: Vec<u16> = table.iter().map(|(key, _)| *key).collect();
                prop_assert!(keys.len() == table.len() && keys.len() <= capacity);
                for key in keys {
                    prop_assert_eq!(table.peek(&key), Some(&key));
                }
                let tags = table.index.tags.iter().map(|tags| (tags & HIGH).count_ones() as usize);
                prop_assert_eq!(tags.sum::<usize>(), table.len());
            }
        }
    }

    #[test]
    fn a_flood_does_not_push_out_what_is_in_use() {
        let mut table = ClockTable::new(100, 1);
        for key in 0..50u32 {
            table.insert(key, ());
        }
        for key in 1000..100_000u32 {
            table.insert(key, ());
            for key in 0..50u32 {
                assert!(table.get(&key).is_some(), "{key}");
            }
        }
        assert_eq!(table.len(), 100);
    }

    #[test]
    fn an_announced_key_is_found_whatever_happened_since() {
        let mut table = ClockTable::new(2, 1);
        table.insert(1, 'a');
        let (one, two) = (table.announce(&1), table.announce(&2));
        table.prefetch(one);
        table.prefetch(two);
        let vacant = table.slot_of(&2, two).unwrap_err();
        table.insert_new(2, vacant, 'b');
        let at = table.slot_of(&2, two).unwrap();
        assert_eq!(table.value(at), &'b');
        table.remove(&1);
        table.insert(3, 'c');
        assert!(table.slot_of(&1, one).is_err());
    }

    #[test]
    fn a_sweep_takes_what_is_stale() {
        let mut table = ClockTable::new(100, 1);
        for key in 0..100u32 {
            table.insert(key, key);
        }
        let mut gone = Vec::new();
        table.sweep(1000, |_, value| value % 2 == 0, |key, _| gone.push(key));
        assert_eq!(gone.len(), 50);
        assert_eq!(table.len(), 50);
    }
}
