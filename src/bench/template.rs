//! A packet that was prepared once, of which each probe changes a few fields.
//!
//! What stays the same is summed once; a probe adds its own words to that
//! (one's complement sums can be taken in any order, RFC 1071 §2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::Frame;
use crate::wire::{ETH, Headers, Mac, checksum, proto};

/// The longest packet that is prepared, Ethernet header included.
const LONGEST: usize = 96;

/// An Ethernet frame with an IP packet that lacks its addresses.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: [u8; LONGEST],
    len: usize,
    l4: usize,
    v4: bool,
    /// Whether the message's checksum covers the addresses (RFC 9293 §3.1, RFC 4443 §2.3).
    pseudo: bool,
    /// Sum of the IPv4 header without addresses and identification.
    l3_sum: u64,
    /// Sum of the message and of the pseudo header without addresses.
    l4_sum: u64,
}

impl Template {
    /// A packet with the message `l4`, in which the checksum and whatever each
    /// probe sets are zero.
    ///
    /// # Panics
    /// If it is longer than 96 octets altogether, or not a multiple of four octets.
    pub fn new(src_mac: Mac, v4: bool, proto: u8, l4: &[u8]) -> Template {
        assert!(l4.len().is_multiple_of(4));
        let nobody: IpAddr = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let (src, dst) = (nobody, nobody);
        let headers = Headers { dst_mac: Mac::ZERO, src_mac, src, dst, proto, ttl: 64, tos: 0, ip_id: 0, df: true };
        let mut bytes = [0; LONGEST];
        let at = headers.write(&mut bytes, l4.len());
        bytes[at..at + l4.len()].copy_from_slice(l4);
        if v4 {
            bytes[ETH + 10..ETH + 12].fill(0);
        }
        let pseudo = !(v4 && proto == proto::ICMP);
        let start = if pseudo { u64::from(proto) + l4.len() as u64 } else { 0 };
        let l3_sum = checksum::sum(0, &bytes[ETH..at]);
        Template { bytes, len: at + l4.len(), l4: at, v4, pseudo, l3_sum, l4_sum: checksum::sum(start, l4) }
    }

    /// Puts the packet into `frame`; returns its message and the sum to which the
    /// words that it gets are to be added before the checksum is written.
    #[inline]
    pub fn write<'f>(&self, frame: &'f mut Frame, to: Mac, src: u128, dst: u128, ip_id: u16) -> (&'f mut [u8], u64) {
        frame.space()[..LONGEST].copy_from_slice(&self.bytes);
        frame.set_len(self.len);
        let bytes = frame.bytes_mut();
        bytes[..6].copy_from_slice(&to.0);
        let addresses = if self.v4 {
            let (src, dst) = (src as u32, dst as u32);
            let sum = u64::from(src) + u64::from(dst);
            let header = checksum::finish(self.l3_sum + sum + u64::from(ip_id));
            bytes[ETH + 4..ETH + 6].copy_from_slice(&ip_id.to_be_bytes());
            bytes[ETH + 10..ETH + 12].copy_from_slice(&header.to_be_bytes());
            bytes[ETH + 12..ETH + 16].copy_from_slice(&src.to_be_bytes());
            bytes[ETH + 16..ETH + 20].copy_from_slice(&dst.to_be_bytes());
            sum
        } else {
            bytes[ETH + 8..ETH + 24].copy_from_slice(&src.to_be_bytes());
            bytes[ETH + 24..ETH + 40].copy_from_slice(&dst.to_be_bytes());
            words(src) + words(dst)
        };
        let sum = if self.pseudo { self.l4_sum + addresses } else { self.l4_sum };
        (&mut bytes[self.l4..], sum)
    }
}

/// The sum of an IPv6 address.
#[inline]
fn words(address: u128) -> u64 {
    (0..4).map(|at| (address >> (32 * at)) as u32).map(u64::from).sum()
}

/// Writes a checksum.
#[inline]
pub fn finish(message: &mut [u8], at: usize, sum: u64) {
    message[at..at + 2].copy_from_slice(&checksum::finish(sum).to_be_bytes());
}
