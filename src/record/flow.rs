//! What a frame is between, and tables that remember what was used last.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;

use foldhash::HashMap;
use foldhash::fast::RandomState;

use crate::wire::{ethertype, proto};

/// The ends of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ends {
    /// The address that it is from; of ARP, the one that asks or answers.
    pub src: IpAddr,
    /// The address that it is for; of ARP, the one that it is about.
    pub dst: IpAddr,
    /// The IP protocol; 0 of ARP.
    pub proto: u8,
    /// TCP or UDP ports of source and destination; none of other protocols, and of fragments.
    pub ports: Option<(u16, u16)>,
}

impl Ends {
    /// The ends of the frame that begins with `frame`, which may have up to two tags. `None` if it is neither IP nor ARP, or
    /// too short to tell.
    pub fn of(frame: &[u8]) -> Option<Ends> {
        const TAG: usize = 4;
        let mut at = 12;
        for _ in 0..2 {
            if !matches!(word(frame, at)?, 0x8100 | 0x88a8) {
                break;
            }
            at += TAG;
        }
        let kind = word(frame, at)?;
        at += 2;
        match kind {
            ethertype::IPV4 => {
                let (head, proto) = (*frame.get(at)?, *frame.get(at + 9)?);
                let l4 = at + 4 * usize::from(head & 15);
                let whole = word(frame, at + 6)? & 0x3fff == 0;
                let ports = if whole { ports(frame, l4, proto) } else { None };
                Some(Ends { src: v4(frame, at + 12)?, dst: v4(frame, at + 16)?, proto, ports })
            }
            ethertype::IPV6 => {
                // What follows an extension header is told apart by its addresses alone.
                let proto = *frame.get(at + 6)?;
                Some(Ends {
                    src: v6(frame, at + 8)?,
                    dst: v6(frame, at + 24)?,
                    proto,
                    ports: ports(frame, at + 40, proto),
                })
            }
            ethertype::ARP => Some(Ends { src: v4(frame, at + 14)?, dst: v4(frame, at + 24)?, proto: 0, ports: None }),
            _ => None,
        }
    }

    /// Both addresses, the same for both directions.
    pub fn pair(&self) -> (IpAddr, IpAddr) {
        (self.src.min(self.dst), self.src.max(self.dst))
    }

    /// The flow, the same for both directions.
    pub fn flow(&self) -> Ends {
        let (a, b) = self.ports.unwrap_or_default();
        if (self.src, a) <= (self.dst, b) {
            return *self;
        }
        Ends { src: self.dst, dst: self.src, proto: self.proto, ports: self.ports.map(|(a, b)| (b, a)) }
    }
}

pub(super) fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(at..at + 2)?.first_chunk()?))
}

fn v4(frame: &[u8], at: usize) -> Option<IpAddr> {
    Some(IpAddr::from(*frame.get(at..at + 4)?.first_chunk::<4>()?))
}

fn v6(frame: &[u8], at: usize) -> Option<IpAddr> {
    Some(IpAddr::from(*frame.get(at..at + 16)?.first_chunk::<16>()?))
}

fn ports(frame: &[u8], at: usize, of: u8) -> Option<(u16, u16)> {
    matches!(of, proto::TCP | proto::UDP).then(|| Some((word(frame, at)?, word(frame, at + 2)?)))?
}

/// A table of a bounded size that forgets, half of it at a time, what was used longest ago.
#[derive(Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// An empty table of at most `most` entries.
    pub fn new(most: usize) -> Recent<K, V> {
        Recent { young: HashMap::default(), old: HashMap::default(), half: (most / 2).max(1) }
    }

    /// What is known of `key`, and if nothing is, `new`: it is not forgotten for some time now.
    pub fn get_or(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        let known = self.old.remove(&key);
        if known.is_some() || !self.young.contains_key(&key) {
            self.age();
        }
        self.young.entry(key).or_insert_with(|| known.unwrap_or_else(new))
    }

    /// What is known of `key`, which is no use of it.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Forgets `key`; returns what was known of it.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// Entries.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn age(&mut self) {
        if self.young.len() >= self.half {
            // The memory of the one is the other's from now on.
            self.old.clear();
            std::mem::swap(&mut self.young, &mut self.old);
        }
    }
}

/// How much of each flow was kept: of more flows than it remembers, those that were heard of last.
#[derive(Debug)]
pub(super) struct Kept {
    flows: Recent<u64, u64>,
    hasher: RandomState,
    most: u64,
}

impl Kept {
    /// Flows that are remembered.
    const FLOWS: usize = 131_072;

    /// Keeps `most` octets of each flow.
    pub fn new(most: u64) -> Kept {
        Kept { flows: Recent::new(Kept::FLOWS), hasher: RandomState::default(), most }
    }

    /// Whether a frame of `len` octets of that flow, at `place`, is kept whole.
    pub fn take(&mut self, place: impl Hash, ends: &Ends, len: usize) -> bool {
        if self.most == u64::MAX {
            return true;
        }
        // Two flows of one number share what is kept of them: among so few, and nobody knows which, that happens to nobody.
        let flow = self.hasher.hash_one((place, ends.flow()));
        let kept = self.flows.get_or(flow, || 0);
        let is_whole = *kept < self.most;
        if is_whole {
            *kept = kept.saturating_add(len as u64);
        }
        is_whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(src: [u8; 4], dst: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(src, dst, 64)
            .tcp(ports.0, ports.1, 1, 512)
            .write(&mut bytes, b"hello")
            .unwrap();
        bytes
    }

    #[test]
    fn a_flow_is_the_same_in_both_directions() {
        let there = Ends::of(&tcp([10, 0, 0, 1], [10, 0, 0, 2], (40_000, 22))).unwrap();
        let back = Ends::of(&tcp([10, 0, 0, 2], [10, 0, 0, 1], (22, 40_000))).unwrap();
        assert_eq!((there.proto, there.ports), (6, Some((40_000, 22))));
        assert_ne!(there, back);
        assert_eq!((there.flow(), there.pair()), (back.flow(), back.pair()));
        let other = Ends::of(&tcp([10, 0, 0, 1], [10, 0, 0, 2], (40_001, 22))).unwrap();
        assert_eq!(other.pair(), there.pair());
        assert_ne!(other.flow(), there.flow());
        // One host that talks to itself.
        let own = Ends::of(&tcp([10, 0, 0, 1], [10, 0, 0, 1], (5, 4))).unwrap();
        assert_eq!(own.flow().ports, Some((4, 5)));
    }

    #[test]
    fn tags_fragments_and_other_protocols() {
        let plain = tcp([10, 0, 0, 1], [10, 0, 0, 2], (40_000, 22));
        let mut tagged = plain.clone();
        tagged.splice(12..12, [0x88, 0xa8, 0, 5, 0x81, 0, 0, 7]);
        assert_eq!(Ends::of(&tagged), Ends::of(&plain));
        let mut fragment = plain.clone();
        fragment[20] = 0x20;
        assert_eq!(Ends::of(&fragment).unwrap().ports, None);
        let mut v6 = Vec::new();
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64);
        builder.udp(53, 1053).write(&mut v6, b"x").unwrap();
        assert_eq!(Ends::of(&v6).unwrap().ports, Some((53, 1053)));
        assert_eq!(Ends::of(&v6).unwrap().dst, IpAddr::from([2; 16]));
        assert_eq!(Ends::of(&plain[..33]), None);
        assert_eq!(Ends::of(&plain[..36]).unwrap().ports, None, "the addresses are still there");
        assert_eq!(Ends::of(b""), None);
    }

    #[test]
    fn a_flow_is_kept_up_to_a_limit_and_others_are_not_touched() {
        let mut kept = Kept::new(1000);
        let first = Ends::of(&tcp([10, 0, 0, 1], [10, 0, 0, 2], (1, 2))).unwrap();
        let back = Ends::of(&tcp([10, 0, 0, 2], [10, 0, 0, 1], (2, 1))).unwrap();
        let other = Ends::of(&tcp([10, 0, 0, 1], [10, 0, 0, 2], (1, 3))).unwrap();
        let whole: usize = (0..10).filter(|n| kept.take("wan", if n % 2 == 0 { &first } else { &back }, 400)).count();
        assert_eq!(whole, 3);
        assert!(kept.take("wan", &other, 400));
        assert!(kept.take("lan", &first, 400), "elsewhere it is another");
        assert!((0..10).all(|_| Kept::new(u64::MAX).take("wan", &first, usize::MAX)));
    }

    #[test]
    fn what_is_used_is_remembered_and_the_rest_is_bounded() {
        let mut recent = Recent::new(100);
        *recent.get_or(7, || 0) = 1;
        for number in 1000..2000 {
            recent.get_or(number, || 0);
            assert!(recent.len() <= 101, "{}", recent.len());
            if number % 20 == 0 {
                assert_eq!(*recent.get_or(7, || 0), 1, "{number}");
            }
        }
        assert_eq!((recent.peek(&1000), recent.peek(&1999)), (None, Some(&0)));
    }

    proptest! {
        #[test]
        fn any_octets_have_ends_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80), kind in 0usize..4) {
            let mut bytes = bytes;
            if let Some(place) = bytes.get_mut(12..14) {
                place.copy_from_slice(&[[8, 0], [0x86, 0xdd], [0x81, 0], [8, 6]][kind]);
            }
            if let Some(ends) = Ends::of(&bytes) {
                prop_assert_eq!(ends.flow(), ends.flow().flow());
            }
        }
    }
}
