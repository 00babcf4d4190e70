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

    /// The same, to be changed.
    #[inline]
    pub fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.find(key, self.hash(key))?;
        self.slots[at as usize].as_mut().map(|slot| &mut slot.value)
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
mod tests;
