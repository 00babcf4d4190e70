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
