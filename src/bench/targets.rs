//! Who is asked in which order, and by whom.
//!
//! Probe `n` goes to position `n * step mod len`, with a step that has no divisor
//! in common with the length: each position comes once before any comes
//! again, and neighbors in time are no neighbors in the prefix. The step lies near the
//! golden section of the length, which spreads what was asked so far evenly.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use crate::wire::{Mac, word_of};

/// A target that was found: its offset in the prefix, and its MAC.
pub type Entry = (u32, Mac);

/// The targets of a run, by position.
#[derive(Clone, Debug)]
pub enum Targets {
    /// Every address of a prefix but those of a hole, all behind one MAC.
    All {
        /// The first address, as [`word_of`] makes it.
        base: u128,
        /// Addresses in the prefix.
        size: u64,
        /// Offsets that are left out: the addresses that are sent from.
        hole: Range<u64>,
        /// Where frames for them go.
        mac: Mac,
    },
    /// Some addresses of a prefix, in the order of their offsets.
    Some {
        /// The first address of the prefix.
        base: u128,
        /// Who they are.
        entries: Box<[Entry]>,
    },
}

impl Targets {
    /// All of `prefix` but the addresses of `sources`.
    pub fn all(prefix: IpNet, sources: &Sources, mac: Mac) -> Targets {
        let base = word_of(prefix.network());
        let size = size_of_prefix(prefix).min(u128::from(u64::MAX)) as u64;
        // What lies before the prefix is cut off at 0, what lies behind it at its size.
        let offset = |word: u128| word.saturating_sub(base).min(u128::from(size)) as u64;
        let hole = offset(sources.base)..offset(sources.base + u128::from(sources.count));
        Targets::All { base, size, hole, mac }
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> u64 {
        match self {
            Targets::All { size, hole, .. } => size - (hole.end - hole.start),
            Targets::Some { entries, .. } => entries.len() as u64,
        }
    }

    /// The address (as a word) at a position, its offset in the prefix, and where its frames go.
    ///
    /// # Panics
    /// From [`Targets::len`] on.
    #[inline]
    pub fn get(&self, position: u64) -> (u128, u32, Mac) {
        match self {
            Targets::All { base, hole, mac, .. } => {
                let offset = if position < hole.start { position } else { position + (hole.end - hole.start) };
                (base + u128::from(offset), offset as u32, *mac)
            }
            Targets::Some { base, entries } => {
                let (offset, mac) = entries[position as usize];
                (base + u128::from(offset), offset, mac)
            }
        }
    }

    /// Where an address stands, if it is a target.
    #[inline]
    pub fn position(&self, word: u128) -> Option<u64> {
        match self {
            Targets::All { base, size, hole, .. } => {
                let offset = u64::try_from(word.checked_sub(*base)?).ok().filter(|offset| offset < size)?;
                match offset {
                    offset if offset < hole.start => Some(offset),
                    offset if offset >= hole.end => Some(offset - (hole.end - hole.start)),
                    _ => None,
                }
            }
            Targets::Some { base, entries } => {
                let offset = u32::try_from(word.checked_sub(*base)?).ok()?;
                entries.binary_search_by_key(&offset, |entry| entry.0).ok().map(|at| at as u64)
            }
        }
    }
}

/// Addresses in a prefix.
pub fn size_of_prefix(prefix: IpNet) -> u128 {
    let bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
    1u128.checked_shl(bits).unwrap_or(u128::MAX)
}

/// In which order positions are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    len: u64,
    step: u64,
    /// `step * inverse mod len = 1`.
    inverse: u64,
}

impl Order {
    /// An order of `len` positions, 1 to 2³².
    ///
    /// # Panics
    /// If there are none, or more.
    pub fn new(len: u64) -> Order {
        assert!((1..=1 << 32).contains(&len), "{len} positions");
        let mut step = (len as f64 * 0.618_033_988_75) as u64 | 1;
        loop {
            match inverse_of(step % len, len) {
                Some(inverse) => return Order { len, step: step % len, inverse },
                None => step += 2,
            }
        }
    }

    /// Where probe `n` goes.
    #[inline]
    pub fn position(&self, n: u64) -> u64 {
        (n % self.len) * self.step % self.len
    }

    /// The last probe before `next` that went to `position`, if one did.
    #[inline]
    pub fn latest(&self, position: u64, next: u64) -> Option<u64> {
        let first = (position % self.len) * self.inverse % self.len;
        let rounds = next.checked_sub(first + 1)? / self.len;
        Some(first + rounds * self.len)
    }
}

/// The inverse of `a` modulo `m`, by Euclid; `None` if they have a divisor in common.
fn inverse_of(a: u64, m: u64) -> Option<u64> {
    let (mut r0, mut r1) = (i128::from(m), i128::from(a));
    let (mut t0, mut t1) = (0i128, 1i128);
    while r1 != 0 {
        let quotient = r0 / r1;
        (r0, r1) = (r1, r0 - quotient * r1);
        (t0, t1) = (t1, t0 - quotient * t1);
    }
    (r0 == 1).then(|| t0.rem_euclid(i128::from(m)) as u64)
}

/// The addresses that probes come from, in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The first, as [`word_of`] makes it.
    pub base: u128,
    /// How many.
    pub count: u64,
}

impl Sources {
    /// One address.
    pub fn one(ip: IpAddr) -> Sources {
        Sources { base: word_of(ip), count: 1 }
    }

    /// The address of probe `n`.
    #[inline]
    pub fn of(&self, n: u64) -> u128 {
        // Most have one, and a division is not free.
        if self.count == 1 { self.base } else { self.base + u128::from(n % self.count) }
    }

    /// Which of them an address is.
    #[inline]
    pub fn index(&self, word: u128) -> Option<u64> {
        word.checked_sub(self.base).and_then(|at| u64::try_from(at).ok()).filter(|at| *at < self.count)
    }
}

/// Where a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// The target's position.
    pub position: u64,
    /// Its offset in the prefix.
    pub offset: u32,
    /// Its address.
    pub dst: u128,
    /// Where frames for it go.
    pub mac: Mac,
    /// The address that asks.
    pub src: u128,
}

/// Targets in their order and the sources that ask them.
#[derive(Clone, Debug)]
pub struct Aim {
    /// Who is asked.
    pub targets: Targets,
    /// In which order.
    pub order: Order,
    /// By whom.
    pub sources: Sources,
}

impl Aim {
    /// All targets, which are not none.
    pub fn new(targets: Targets, sources: Sources) -> Aim {
        let order = Order::new(targets.len());
        Aim { targets, order, sources }
    }

    /// Where probe `n` goes.
    #[inline]
    pub fn at(&self, n: u64) -> Shot {
        let position = self.order.position(n);
        let (dst, offset, mac) = self.targets.get(position);
        Shot { position, offset, dst, mac, src: self.sources.of(n) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::ip_of;

    proptest! {
        #[test]
        fn every_position_comes_once_before_any_comes_again(len in 1u64..3000) {
            let order = Order::new(len);
            let mut visits = vec![0; len as usize];
            for n in 0..len {
                visits[order.position(n) as usize] += 1;
            }
            prop_assert!(visits.iter().all(|times| *times == 1));
            prop_assert_eq!(order.position(len), order.position(0));
        }

        #[test]
        fn an_answer_belongs_to_the_latest_probe_of_its_target(len in 1u64..1 << 24, n in 0u64..1 << 40, later in 0u64..1 << 24) {
            let order = Order::new(len);
            let position = order.position(n);
            prop_assert_eq!(order.latest(position, n + 1), Some(n));
            prop_assert_eq!(order.latest(position, n + 1 + later % len), Some(n));
            prop_assert_eq!(order.latest(position, n + 1 + len), Some(n + len));
            prop_assert_eq!(order.latest(position, n), n.checked_sub(len));
        }
    }

    #[test]
    fn neighbors_in_time_are_far_apart() {
        let order = Order::new(65_536);
        for n in 0..100 {
            let (a, b) = (order.position(n), order.position(n + 1));
            assert!((10_000..55_536).contains(&a.abs_diff(b)), "{a} {b}");
        }
    }

    #[test]
    fn the_addresses_that_ask_are_not_asked() {
        let prefix: IpNet = "10.0.0.0/29".parse().unwrap();
        let word = |text: &str| word_of(text.parse().unwrap());
        let sources = Sources { base: word("10.0.0.2"), count: 3 };
        let targets = Targets::all(prefix, &sources, Mac::BROADCAST);
        let all: Vec<String> = (0..targets.len()).map(|at| ip_of(targets.get(at).0).to_string()).collect();
        assert_eq!(all, ["10.0.0.0", "10.0.0.1", "10.0.0.5", "10.0.0.6", "10.0.0.7"]);
        for at in 0..targets.len() {
            assert_eq!(targets.position(targets.get(at).0), Some(at));
        }
        for other in ["9.255.255.255", "10.0.0.2", "10.0.0.4", "10.0.0.8", "fd00::1"] {
            assert_eq!(targets.position(word(other)), None, "{other}");
        }
        for (base, left) in [("9.0.0.1", 8), ("10.0.0.6", 6), ("10.0.1.0", 8), ("9.255.255.254", 7)] {
            assert_eq!(Targets::all(prefix, &Sources { base: word(base), count: 3 }, Mac::ZERO).len(), left, "{base}");
        }
    }

    #[test]
    fn some_targets_are_found_by_their_address() {
        let base = word_of("fd00::".parse().unwrap());
        let entries = [(1, Mac([2; 6])), (7, Mac([4; 6])), (900, Mac([6; 6]))];
        let targets = Targets::Some { base, entries: entries.into() };
        assert_eq!(targets.len(), 3);
        assert_eq!(targets.get(1), (base + 7, 7, Mac([4; 6])));
        assert_eq!([1, 2, 7, 900].map(|at| targets.position(base + at)), [Some(0), None, Some(1), Some(2)]);
        assert_eq!(targets.position(base - 1), None);
    }

    #[test]
    fn sources_take_turns() {
        let sources = Sources { base: word_of("10.0.0.250".parse().unwrap()), count: 10 };
        assert_eq!(ip_of(sources.of(19)).to_string(), "10.0.1.3");
        assert_eq!(sources.index(sources.of(19)), Some(9));
        assert_eq!(sources.index(sources.base + 10), None);
        assert_eq!(sources.index(sources.base - 1), None);
    }
}
