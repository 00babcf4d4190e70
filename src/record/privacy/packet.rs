//! Addresses in a frame, and the checksums that cover them.
//!
//! Those of ARP, IPv4, IPv6 and neighbor discovery are rewritten, and in an ICMP error those of the packet that it is
//! about. A checksum that was right is right afterward, and one that was wrong is wrong by the same. What else names an
//! address (DHCP, DNS, text, a tunnel's inner packet) is payload, and stays.

use std::net::IpAddr;

use crate::record::flow::word;
use crate::wire::{checksum, ethertype};

/// IPv6 extension headers that are passed over.
const EXTENSIONS: usize = 8;

/// Gives each address in `frame` the form that `shown` gives it.
pub fn rewrite(frame: &mut [u8], shown: &dyn Fn(IpAddr) -> IpAddr) {
    let Some((kind, at)) = network(frame) else { return };
    match kind {
        ethertype::ARP => {
            for at in [at + 14, at + 24] {
                address(frame, at, 4, &Sums::default(), shown);
            }
        }
        _ => packet(frame, at, kind == ethertype::IPV6, None, shown),
    }
}

/// The type of what a frame carries, and where that begins.
pub(super) fn network(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = 12;
    // A frame has at most two tags.
    for _ in 0..2 {
        if !matches!(word(frame, at)?, 0x8100 | 0x88a8) {
            break;
        }
        at += 4;
    }
    let kind = word(frame, at)?;
    matches!(kind, ethertype::ARP | ethertype::IPV4 | ethertype::IPV6).then_some((kind, at + 2))
}

/// What an IP packet carries.
pub(super) struct Carried {
    /// Its protocol.
    pub proto: u8,
    /// Where it begins.
    pub at: usize,
    /// Whether it is the first fragment, or all of it.
    pub is_first: bool,
}

/// What the packet at `at` carries.
pub(super) fn carried(frame: &[u8], at: usize, is_v6: bool) -> Option<Carried> {
    if !is_v6 {
        let header = usize::from(frame.get(at)? & 15) * 4;
        let is_first = word(frame, at + 6)? & 0x1fff == 0;
        return (header >= 20).then_some(Carried { proto: *frame.get(at + 9)?, at: at + header, is_first });
    }
    let (mut proto, mut at, mut is_first) = (*frame.get(at + 6)?, at + 40, true);
    for _ in 0..EXTENSIONS {
        let len = match proto {
            0 | 43 | 60 => (usize::from(*frame.get(at + 1)?) + 1) * 8,
            51 => (usize::from(*frame.get(at + 1)?) + 2) * 4,
            44 => {
                is_first = word(frame, at + 2)? & 0xfff8 == 0;
                8
            }
            _ => return Some(Carried { proto, at, is_first }),
        };
        let next = *frame.get(at)?;
        // What follows in a later fragment is no header.
        if !is_first {
            return Some(Carried { proto: next, at: at + len, is_first });
        }
        (proto, at) = (next, at + len);
    }
    None
}

/// The checksums that a word is covered by.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// That of the IPv4 header, and that of what the packet carries.
    own: [Option<usize>; 2],
    /// Where in that a 0 says that there is none.
    udp: Option<usize>,
    /// That of the ICMP error which the packet is part of: it covers those above, too.
    outer: Option<usize>,
}

fn packet(frame: &mut [u8], at: usize, is_v6: bool, outer: Option<usize>, shown: &dyn Fn(IpAddr) -> IpAddr) {
    let carried = carried(frame, at, is_v6);
    let first = carried.as_ref().filter(|carried| carried.is_first);
    let mut sums = Sums { own: [(!is_v6).then_some(at + 10), None], udp: None, outer };
    if let Some(Carried { proto, at, .. }) = first {
        let sum = match proto {
            6 => Some(at + 16),
            17 => Some(at + 6),
            58 if is_v6 => Some(at + 2),
            _ => None,
        };
        sums.own[1] = sum.filter(|sum| *proto != 17 || word(frame, *sum).is_some_and(|sum| sum != 0));
        sums.udp = sums.own[1].filter(|_| *proto == 17);
    }
    let (src, dst, len) = if is_v6 { (at + 8, at + 24, 16) } else { (at + 12, at + 16, 4) };
    address(frame, src, len, &sums, shown);
    address(frame, dst, len, &sums, shown);
    // What is within an error is part of no other.
    let Some(Carried { proto, at, .. }) = first.filter(|_| outer.is_none()) else { return };
    let (inner, sum) = (at + 8, at + 2);
    match (proto, frame.get(*at).copied()) {
        (1, Some(3 | 4 | 5 | 11 | 12)) if frame.get(inner).is_some_and(|first| first >> 4 == 4) => {
            packet(frame, inner, false, Some(sum), shown);
        }
        (58, Some(1..=4)) if frame.get(inner).is_some_and(|first| first >> 4 == 6) => {
            packet(frame, inner, true, Some(sum), shown);
        }
        (58, Some(135 | 136)) => {
            address(frame, inner, 16, &Sums { outer: Some(sum), ..Sums::default() }, shown);
        }
        _ => {}
    }
}

/// Rewrites the address at `at`.
fn address(frame: &mut [u8], at: usize, len: usize, sums: &Sums, shown: &dyn Fn(IpAddr) -> IpAddr) {
    let Some(octets) = frame.get(at..at + len) else { return };
    let ip = match len {
        4 => octets.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        _ => octets.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
    };
    let Some(ip) = ip else { return };
    let new = match shown(ip) {
        same if same == ip => return,
        IpAddr::V4(new) if len == 4 => new.octets().to_vec(),
        IpAddr::V6(new) if len == 16 => new.octets().to_vec(),
        _ => return,
    };
    for (index, to) in new.chunks_exact(2).enumerate() {
        let (at, to) = (at + 2 * index, u16::from_be_bytes([to[0], to[1]]));
        let Some(from) = word(frame, at) else { return };
        put(frame, at, to, sums.outer);
        for sum in sums.own.into_iter().flatten() {
            let Some(old) = word(frame, sum) else { continue };
            let mut new = checksum::update(old, from, to);
            if new == 0 && sums.udp == Some(sum) {
                new = 0xffff;
            }
            put(frame, sum, new, sums.outer);
        }
    }
}

/// Writes a word, and what that makes of the checksum at `sum`.
fn put(frame: &mut [u8], at: usize, to: u16, sum: Option<usize>) {
    let Some(from) = word(frame, at) else { return };
    set(frame, at, to);
    if let Some((sum, old)) = sum.and_then(|sum| Some((sum, word(frame, sum)?))) {
        set(frame, sum, checksum::update(old, from, to));
    }
}

fn set(frame: &mut [u8], at: usize, to: u16) {
    if let Some(place) = frame.get_mut(at..at + 2) {
        place.copy_from_slice(&to.to_be_bytes());
    }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
