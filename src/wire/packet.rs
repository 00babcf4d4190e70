//! One pass over a frame's headers: what every node needs to know of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Mac;

/// Octets of an Ethernet header without a tag.
pub const ETH: usize = 14;

/// Ethertypes that nodes look at.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// An 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
}

/// IP protocol numbers that nodes look at.
pub mod proto {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// Bits of the TCP flags octet.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field counts.
    pub const ACK: u8 = 0x10;
}

/// The destination MAC of a frame; all zero if it is too short.
#[inline]
pub fn dst_mac(frame: &[u8]) -> Mac {
    Mac::from_slice(frame).unwrap_or_default()
}

/// The source MAC of a frame; all zero if it is too short.
#[inline]
pub fn src_mac(frame: &[u8]) -> Mac {
    frame.get(6..).and_then(Mac::from_slice).unwrap_or_default()
}

/// The Ethertype of a frame; 0 if it is too short.
#[inline]
pub fn ethertype_of(frame: &[u8]) -> u16 {
    be16(frame, 12)
}

/// Writes an Ethernet header's addresses.
#[inline]
pub fn set_macs(frame: &mut [u8], dst: Mac, src: Mac) {
    frame[..6].copy_from_slice(&dst.0);
    frame[6..12].copy_from_slice(&src.0);
}

/// The big-endian 16-bit word at `at`; 0 beyond the end.
#[inline]
pub fn be16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(b) => u16::from_be_bytes([b[0], b[1]]),
        None => 0,
    }
}

/// The big-endian 32-bit word at `at`; 0 beyond the end.
#[inline]
pub fn be32(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(b) => u32::from_be_bytes([b[0], b[1], b[2], b[3]]),
        None => 0,
    }
}

/// What is wrong with a packet that cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Shorter than its headers say, or headers that contradict themselves.
    Malformed,
    /// The IPv4 header checksum is wrong.
    BadChecksum,
    /// Neither IPv4 nor IPv6, or too many extension headers.
    Unsupported,
}

/// An IP packet within an untagged frame: where its parts lie and what they say.
///
/// Whatever the parser returns is in bounds: `ETH ≤ l4 ≤ end ≤ frame.len()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address, as [`word_of`] makes it.
    pub src_word: u128,
    /// Destination address, as [`word_of`] makes it.
    pub dst_word: u128,
    /// Protocol of what lies at `l4`.
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Whether it is a fragment (any but the whole packet).
    pub fragment: bool,
    /// Offset of the transport header in the frame.
    pub l4: usize,
    /// Offset of the first octet behind the packet (Ethernet padding follows).
    pub end: usize,
}

impl Packet {
    /// A packet to be filled in by [`Packet::read`].
    pub const EMPTY: Packet = Packet { src_word: 0, dst_word: 0, proto: 0, ttl: 0, fragment: false, l4: 0, end: 0 };

    /// Parses the IPv4 or IPv6 packet of an untagged frame and verifies the
    /// IPv4 header checksum (RFC 791 §3.1, RFC 8200 §3).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(frame: &[u8]) -> Result<Packet, Flaw> {
        let mut packet = Packet::EMPTY;
        packet.read(frame)?;
        Ok(packet)
    }

    /// The same, in place: a packet that is handed over by value is written in
    /// small pieces and read in large ones at once, on which processors stall.
    ///
    /// # Errors
    /// What is wrong with the frame; the packet is undefined then.
    #[inline]
    pub fn read(&mut self, frame: &[u8]) -> Result<(), Flaw> {
        match ethertype_of(frame) {
            ethertype::IPV4 => self.read_v4(frame),
            ethertype::IPV6 => self.read_v6(frame),
            _ => Err(Flaw::Unsupported),
        }
    }

    #[inline]
    fn read_v4(&mut self, frame: &[u8]) -> Result<(), Flaw> {
        let ip = &frame[ETH..];
        let Some(header) = ip.first_chunk::<20>() else { return Err(Flaw::Malformed) };
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] >> 4 != 4 || header_len < 20 || total < header_len || total > ip.len() {
            return Err(Flaw::Malformed);
        }
        if super::checksum::of(&ip[..header_len]) != 0 {
            return Err(Flaw::BadChecksum);
        }
        self.src_word = mapped(be32(header, 12));
        self.dst_word = mapped(be32(header, 16));
        self.proto = header[9];
        self.ttl = header[8];
        self.fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        self.l4 = ETH + header_len;
        self.end = ETH + total;
        Ok(())
    }

    fn read_v6(&mut self, frame: &[u8]) -> Result<(), Flaw> {
        let ip = &frame[ETH..];
        let Some(header) = ip.first_chunk::<40>() else { return Err(Flaw::Malformed) };
        let total = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || total > ip.len() {
            return Err(Flaw::Malformed);
        }
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&header[at..at + 16]);
            u128::from_be_bytes(octets)
        };
        *self = Packet {
            src_word: address(8),
            dst_word: address(24),
            proto: header[6],
            ttl: header[7],
            fragment: false,
            l4: ETH + 40,
            end: ETH + total,
        };
        if is_mapped(self.src_word) || is_mapped(self.dst_word) {
            return Err(Flaw::Malformed);
        }
        // Extension headers (RFC 8200 §4): a host here reads past those that
        // normal senders use, and no more than four of them.
        for _ in 0..4 {
            let rest = &frame[self.l4..self.end];
            match self.proto {
                0 | 43 | 60 => {
                    let [next, len, ..] = *rest else { return Err(Flaw::Malformed) };
                    let len = (usize::from(len) + 1) * 8;
                    if len > rest.len() {
                        return Err(Flaw::Malformed);
                    }
                    self.proto = next;
                    self.l4 += len;
                }
                44 => {
                    self.fragment = true;
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
        Err(Flaw::Unsupported)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> IpAddr {
        ip_of(self.src_word)
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> IpAddr {
        ip_of(self.dst_word)
    }

    /// Whether the addresses are IPv4. One on the wire that only pretends to be
    /// (mapped into IPv6, which RFC 4942 §2.2 warns of) was refused as malformed.
    #[inline]
    pub fn is_v4(&self) -> bool {
        is_mapped(self.src_word)
    }

    /// The transport header and what follows.
    #[inline]
    pub fn payload<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        &frame[self.l4..self.end]
    }

    /// Whether the checksum of the TCP, UDP or ICMP message is right (a UDP
    /// checksum of 0 over IPv4 means that there is none, RFC 768).
    #[inline]
    pub fn checksum_ok(&self, frame: &[u8]) -> bool {
        let l4 = self.payload(frame);
        if self.proto == proto::ICMP {
            return super::checksum::of(l4) == 0;
        }
        if self.proto == proto::UDP && self.is_v4() && be16(l4, 6) == 0 {
            return true;
        }
        // The pseudo header's addresses lie in the frame next to each other.
        let addresses = if self.is_v4() { &frame[ETH + 12..ETH + 20] } else { &frame[ETH + 8..ETH + 40] };
        let pseudo = super::checksum::sum(u64::from(self.proto) + l4.len() as u64, addresses);
        super::checksum::finish(super::checksum::sum(pseudo, l4)) == 0
    }
}

/// An address as one word, IPv4 mapped into IPv6 (RFC 4291 §2.5.5.2): words
/// compare and hash faster than an enum.
#[inline]
pub fn word_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => mapped(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// An IPv4 address as one word.
#[inline]
fn mapped(ip: u32) -> u128 {
    0xffff_0000_0000 | u128::from(ip)
}

/// Whether a word stands for an IPv4 address.
#[inline]
pub fn is_mapped(word: u128) -> bool {
    word >> 32 == 0xffff
}

/// The address that [`word_of`] made a word of.
#[inline]
pub fn ip_of(word: u128) -> IpAddr {
    if is_mapped(word) { IpAddr::V4(Ipv4Addr::from(word as u32)) } else { IpAddr::V6(Ipv6Addr::from(word)) }
}

/// A TCP header, parsed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpHeader {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags of the low octet (see [`flag`]).
    pub flags: u8,
    /// Window field, not scaled.
    pub window: u16,
    /// Length of the header, options included.
    pub len: usize,
}

impl TcpHeader {
    /// Parses the header at the start of `l4` (RFC 9293 §3.1).
    #[inline]
    pub fn parse(l4: &[u8]) -> Option<TcpHeader> {
        let h = l4.first_chunk::<20>()?;
        let len = usize::from(h[12] >> 4) * 4;
        if len < 20 || len > l4.len() {
            return None;
        }
        Some(TcpHeader {
            src: u16::from_be_bytes([h[0], h[1]]),
            dst: u16::from_be_bytes([h[2], h[3]]),
            seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
            ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
            flags: h[13],
            window: u16::from_be_bytes([h[14], h[15]]),
            len,
        })
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// The options of a TCP header that matter to a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale, at most 14 (RFC 7323 §2.3).
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// Timestamp value and echo.
    pub timestamps: Option<(u32, u32)>,
}

impl TcpOptions {
    /// Parses what lies between the fixed header and the data. What is malformed ends the list.
    #[inline]
    pub fn parse(mut options: &[u8]) -> TcpOptions {
        let mut found = TcpOptions::default();
        while let [kind, rest @ ..] = options {
            match kind {
                0 => break,
                1 => options = rest,
                _ => {
                    let Some(&len) = rest.first() else { break };
                    let len = usize::from(len);
                    if len < 2 || len > options.len() {
                        break;
                    }
                    match (kind, &options[2..len]) {
                        (2, [a, b]) => found.mss = Some(u16::from_be_bytes([*a, *b])),
                        (3, [shift]) => found.window_scale = Some((*shift).min(14)),
                        (4, []) => found.sack_permitted = true,
                        (8, body) if body.len() == 8 => found.timestamps = Some((be32(body, 0), be32(body, 4))),
                        _ => {}
                    }
                    options = &options[len..];
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn absurd_frames_stay_in_bounds(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..3) {
            let mut bytes = bytes;
            if bytes.len() > 54 {
                let (et, first) = [(0x0800u16, 0x45u8), (0x86dd, 0x60), (0x0806, 0)][kind as usize];
                bytes[12..14].copy_from_slice(&et.to_be_bytes());
                bytes[14] = first;
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(ETH <= packet.l4 && packet.l4 <= packet.end && packet.end <= bytes.len());
                let l4 = packet.payload(&bytes);
                packet.checksum_ok(&bytes);
                if let Some(tcp) = TcpHeader::parse(l4) {
                    TcpOptions::parse(&l4[20..tcp.len]);
                }
            }
        }
    }

    #[test]
    fn options_are_read_in_any_order() {
        let options = [1, 3, 3, 7, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 2, 4, 5, 0xb4, 0, 9, 9];
        let found = TcpOptions::parse(&options);
        assert_eq!(found.mss, Some(1460));
        assert_eq!(found.window_scale, Some(7));
        assert!(found.sack_permitted);
        assert_eq!(found.timestamps, Some((1, 2)));
        assert_eq!(TcpOptions::parse(&[2, 0]), TcpOptions::default());
        assert_eq!(TcpOptions::parse(&[2, 40, 1]), TcpOptions::default());
    }
}
