//! A hash table of bounded size that forgets fairly.
//!
//! Everything that an attacker can make us remember lives in one of these: FDB,
//! neighbors, sessions, half-open connections. When it is full, a clock hand
//! looks for an entry that was not used since the hand last came by, so that a
//! flood of new keys pushes out other new keys before those in use.

use std::hash::{BuildHasher, Hash};

const NONE: u32 = u32::MAX;

struct Slot<K, V> {
    key: K,
    value: V,
    next: u32,
    /// Kept, so that neither eviction nor growth has to hash again.
    hash: u32,
    used: bool,
}

/// The table. Memory grows by doubling up to `capacity` entries and stays there.
pub struct ClockTable<K, V> {
    heads: Vec<u32>,
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

impl<K: Hash + Eq + Copy, V> ClockTable<K, V> {
    /// A table of at most `capacity` entries (at least one).
    pub fn new(capacity: usize, seed: u64) -> ClockTable<K, V> {
        ClockTable {
            heads: vec![NONE; 16],
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
    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.heads.len() - 1)
    }

    #[inline]
    fn find(&self, key: &K, hash: u32) -> Option<u32> {
        let mut at = self.heads[self.bucket(hash)];
        while at != NONE {
            let slot = self.slots[at as usize].as_ref()?;
            if slot.hash == hash && slot.key == *key {
                return Some(at);
            }
            at = slot.next;
        }
        None
    }

    /// Where the entry of `key` lies, marked as used; if it has none, what
    /// [`ClockTable::insert_new`] needs.
    ///
    /// # Errors
    /// The hash of a key that has no entry.
    #[inline]
    pub fn slot(&mut self, key: &K) -> Result<SlotIdx, Vacant> {
        let hash = self.hash(key);
        let Some(at) = self.find(key, hash) else { return Err(Vacant(hash)) };
        if let Some(slot) = self.slots[at as usize].as_mut() {
            slot.used = true;
        }
        Ok(SlotIdx(at))
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

    /// The entry of `key`, marked as used.
    #[inline]
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
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
    /// it lies and what was evicted for it.
    #[inline(always)]
    pub fn insert_new(&mut self, key: K, vacant: Vacant, value: V) -> (SlotIdx, Option<(K, V)>) {
        let hash = vacant.0;
        // A new entry is not marked: it has to be used again to outlive a flood.
        let new = |next| Some(Slot { key, value, next, hash, used: false });
        if self.len >= self.capacity
            && let Some(at) = self.victim()
        {
            self.unlink(at);
            let bucket = self.bucket(hash);
            let next = std::mem::replace(&mut self.heads[bucket], at);
            let old = std::mem::replace(&mut self.slots[at as usize], new(next));
            return (SlotIdx(at), old.map(|slot| (slot.key, slot.value)));
        }
        if self.len >= self.heads.len() {
            self.grow();
        }
        let bucket = self.bucket(hash);
        let slot = new(self.heads[bucket]);
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.heads[bucket] = at;
        self.len += 1;
        (SlotIdx(at), None)
    }

    /// Removes the entry of `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.find(key, self.hash(key))?;
        self.remove_at(at).map(|(_, value)| value)
    }

    /// Takes a slot out of its bucket's list.
    #[inline]
    fn unlink(&mut self, at: u32) {
        let Some(slot) = self.slots[at as usize].as_ref() else { return };
        let (bucket, next) = (self.bucket(slot.hash), slot.next);
        if self.heads[bucket] == at {
            self.heads[bucket] = next;
            return;
        }
        let mut previous = self.heads[bucket];
        while previous != NONE {
            let Some(slot) = self.slots[previous as usize].as_mut() else { return };
            if slot.next == at {
                slot.next = next;
                return;
            }
            previous = slot.next;
        }
    }

    /// Unlinks and empties a slot.
    fn remove_at(&mut self, at: u32) -> Option<(K, V)> {
        self.unlink(at);
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
        let size = self.heads.len() * 2;
        self.heads = vec![NONE; size];
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots[at].as_ref() else { continue };
            let bucket = slot.hash as usize & (size - 1);
            let next = std::mem::replace(&mut self.heads[bucket], at as u32);
            if let Some(slot) = self.slots[at].as_mut() {
                slot.next = next;
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
