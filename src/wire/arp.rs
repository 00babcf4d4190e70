//! ARP over Ethernet (RFC 826) and IPv6 neighbor discovery (RFC 4861): the
//! messages that ask who has an address, and the answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{ETH, ethertype, proto};
use super::{Headers, Mac, Packet, be16, set_macs};

/// Octets of an ARP frame without padding.
pub const ARP_FRAME: usize = ETH + 28;

/// An ARP message for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 for a request, 2 for a reply.
    pub operation: u16,
    /// Sender's MAC.
    pub sender_mac: Mac,
    /// Sender's address; 0.0.0.0 in a probe for duplicates (RFC 5227 §1.1).
    pub sender: Ipv4Addr,
    /// Target's MAC; zero in a request.
    pub target_mac: Mac,
    /// Target's address.
    pub target: Ipv4Addr,
}

impl Arp {
    /// `operation` of a request.
    pub const REQUEST: u16 = 1;
    /// `operation` of a reply.
    pub const REPLY: u16 = 2;

    /// Parses the ARP message of an untagged frame.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Arp> {
        let arp = frame.get(ETH..ARP_FRAME)?;
        // Ethernet, IPv4, and their lengths.
        if arp[..6] != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        Arp::fields(arp)
    }

    /// Writes a frame of [`ARP_FRAME`] octets.
    ///
    /// # Panics
    /// If `frame` does not hold it.
    #[inline]
    pub fn write(&self, dst: Mac, src: Mac, frame: &mut [u8]) {
        set_macs(frame, dst, src);
        frame[12..14].copy_from_slice(&ethertype::ARP.to_be_bytes());
        let arp = &mut frame[ETH..ARP_FRAME];
        arp[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        arp[6..8].copy_from_slice(&self.operation.to_be_bytes());
        arp[8..14].copy_from_slice(&self.sender_mac.0);
        arp[14..18].copy_from_slice(&self.sender.octets());
        arp[18..24].copy_from_slice(&self.target_mac.0);
        arp[24..28].copy_from_slice(&self.target.octets());
    }
}

/// In what an ARP request differs from a normal one: a set of the eleven ways that arp-fingerprint tries, in the
/// order of the digits that it prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ArpOddities(u16);

impl ArpOddities {
    /// How many there are.
    pub const COUNT: usize = 11;
    /// A normal request.
    pub const NONE: ArpOddities = ArpOddities(0);
    /// The sender is of 127.0.0.0/8.
    pub const LOOPBACK: ArpOddities = ArpOddities(1);
    /// The sender is 0.0.0.0, as in a probe for duplicates (RFC 5227 §1.1).
    pub const UNSPECIFIED: ArpOddities = ArpOddities(1 << 1);
    /// The sender is 255.255.255.255.
    pub const BROADCAST: ArpOddities = ArpOddities(1 << 2);
    /// The sender is on none of the target's prefixes.
    pub const OFF_NET: ArpOddities = ArpOddities(1 << 3);
    /// The operation is neither a request nor a reply.
    pub const OPERATION: ArpOddities = ArpOddities(1 << 4);
    /// The hardware type is 6, IEEE 802.
    pub const IEEE_802: ArpOddities = ArpOddities(1 << 5);
    /// The hardware type is another than Ethernet's and that.
    pub const HARDWARE: ArpOddities = ArpOddities(1 << 6);
    /// The protocol type is another than IPv4's and IPX's.
    pub const PROTOCOL: ArpOddities = ArpOddities(1 << 7);
    /// The protocol type is 0x8137, IPX.
    pub const IPX: ArpOddities = ArpOddities(1 << 8);
    /// The length of protocol addresses is not 4.
    pub const PROTOCOL_LENGTH: ArpOddities = ArpOddities(1 << 9);
    /// The length of hardware addresses is not 6.
    pub const HARDWARE_LENGTH: ArpOddities = ArpOddities(1 << 10);

    /// The one at `at` of arp-fingerprint's order; none beyond the last.
    pub const fn nth(at: usize) -> ArpOddities {
        if at < Self::COUNT { ArpOddities(1 << at) } else { Self::NONE }
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets together.
    #[inline]
    pub const fn and(self, other: ArpOddities) -> ArpOddities {
        ArpOddities(self.0 | other.0)
    }

    /// Whether all of `other` are among them.
    #[inline]
    pub const fn contains(self, other: ArpOddities) -> bool {
        other.0 & !self.0 == 0
    }
}

impl Arp {
    /// What looks like a request of an untagged frame in spite of its first fields, and what is odd about those. The
    /// addresses are taken from where they are in a normal message, whatever length it states: that is where
    /// arp-scan writes them, and where the systems that answer look for them. A reply is none, however odd.
    #[cold]
    pub fn parse_odd(frame: &[u8]) -> Option<(Arp, ArpOddities)> {
        let arp = frame.get(ETH..ARP_FRAME)?;
        let operation = be16(arp, 6);
        let odd = |is: bool, oddity| if is { oddity } else { ArpOddities::NONE };
        let hardware = match be16(arp, 0) {
            1 => ArpOddities::NONE,
            6 => ArpOddities::IEEE_802,
            _ => ArpOddities::HARDWARE,
        };
        let protocol = match be16(arp, 2) {
            ethertype::IPV4 => ArpOddities::NONE,
            0x8137 => ArpOddities::IPX,
            _ => ArpOddities::PROTOCOL,
        };
        let oddities = hardware
            .and(protocol)
            .and(odd(arp[4] != 6, ArpOddities::HARDWARE_LENGTH))
            .and(odd(arp[5] != 4, ArpOddities::PROTOCOL_LENGTH))
            .and(odd(operation != Arp::REQUEST, ArpOddities::OPERATION));
        (operation != Arp::REPLY).then_some((Arp::fields(arp)?, oddities))
    }

    /// The fields behind the lengths.
    #[inline]
    fn fields(arp: &[u8]) -> Option<Arp> {
        Some(Arp {
            operation: be16(arp, 6),
            sender_mac: Mac::from_slice(&arp[8..])?,
            sender: Ipv4Addr::new(arp[14], arp[15], arp[16], arp[17]),
            target_mac: Mac::from_slice(&arp[18..])?,
            target: Ipv4Addr::new(arp[24], arp[25], arp[26], arp[27]),
        })
    }
}

/// ICMPv6 types that nodes look at.
pub mod icmp6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Router solicitation.
    pub const ROUTER_SOLICIT: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERT: u8 = 134;
    /// Neighbor solicitation.
    pub const NEIGHBOR_SOLICIT: u8 = 135;
    /// Neighbor advertisement.
    pub const NEIGHBOR_ADVERT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
}

/// A neighbor solicitation or advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Whether it is an advertisement.
    pub advert: bool,
    /// The address asked for or told of.
    pub target: Ipv6Addr,
    /// The link-layer address option (the source's of a solicitation, the target's of an advertisement).
    pub mac: Option<Mac>,
}

/// The solicited-node multicast group of an address (RFC 4291 §2.7.1).
pub fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let o = ip.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(o[13]), u16::from(o[14]) << 8 | u16::from(o[15]))
}

impl Neighbor {
    /// Parses the message of a packet; a hop limit other than 255 came from
    /// beyond the link and is none (RFC 4861 §7.1).
    pub fn parse(packet: &Packet, frame: &[u8]) -> Option<Neighbor> {
        let message = packet.payload(frame);
        let kind = *message.first()?;
        if packet.proto != proto::ICMPV6 || packet.ttl != 255 || message.len() < 24 || message[1] != 0 {
            return None;
        }
        let advert = match kind {
            icmp6::NEIGHBOR_SOLICIT => false,
            icmp6::NEIGHBOR_ADVERT => true,
            _ => return None,
        };
        let target: [u8; 16] = message[8..24].try_into().ok()?;
        let wanted = if advert { 2 } else { 1 };
        let mut options = &message[24..];
        let mut mac = None;
        while options.len() >= 8 && options[1] != 0 {
            if options[0] == wanted {
                mac = Mac::from_slice(&options[2..]);
                break;
            }
            options = options.get(usize::from(options[1]) * 8..).unwrap_or_default();
        }
        Some(Neighbor { advert, target: target.into(), mac })
    }

    /// Writes a frame; returns its length. `flags` are those of an
    /// advertisement (RFC 4861 §4.4): 0x80 router, 0x40 solicited, 0x20 override.
    ///
    /// # Panics
    /// If `frame` does not hold 86 octets.
    pub fn write(
        &self,
        dst_mac: Mac,
        src_mac: Mac,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        flags: u8,
        frame: &mut [u8],
    ) -> usize {
        let headers = Headers {
            dst_mac,
            src_mac,
            src: IpAddr::V6(src),
            dst: IpAddr::V6(dst),
            proto: proto::ICMPV6,
            ttl: 255,
            tos: 0,
            ip_id: 0,
            df: false,
        };
        let len = if self.mac.is_some() { 32 } else { 24 };
        let at = headers.write(frame, len);
        let message = &mut frame[at..at + len];
        message[0] = if self.advert { icmp6::NEIGHBOR_ADVERT } else { icmp6::NEIGHBOR_SOLICIT };
        message[1] = 0;
        message[4..8].copy_from_slice(&[flags, 0, 0, 0]);
        message[8..24].copy_from_slice(&self.target.octets());
        if let Some(mac) = self.mac {
            message[24..26].copy_from_slice(&[if self.advert { 2 } else { 1 }, 1]);
            message[26..32].copy_from_slice(&mac.0);
        }
        headers.fill_checksum(message);
        at + len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arp_round_trips() {
        let arp = Arp {
            operation: Arp::REQUEST,
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: Mac::ZERO,
            target: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut frame = [0; ARP_FRAME];
        arp.write(Mac::BROADCAST, arp.sender_mac, &mut frame);
        assert_eq!(Arp::parse(&frame), Some(arp));
        assert_eq!(Arp::parse(&frame[..41]), None);
        assert_eq!(Arp::parse_odd(&frame), Some((arp, ArpOddities::NONE)));
        assert_eq!(Arp::parse_odd(&frame[..41]), None);
    }

    #[test]
    fn oddities_are_named_one_by_one() {
        let arp = Arp {
            operation: Arp::REQUEST,
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: Mac::ZERO,
            target: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut normal = [0; ARP_FRAME];
        arp.write(Mac::BROADCAST, arp.sender_mac, &mut normal);
        let odd = |at: usize, value: &[u8]| {
            let mut frame = normal;
            frame[ETH + at..ETH + at + value.len()].copy_from_slice(value);
            Arp::parse_odd(&frame).map(|(arp, oddities)| (arp.sender, arp.target, oddities))
        };
        let cases: [(usize, &[u8], ArpOddities); 8] = [
            (6, &[0, 255], ArpOddities::OPERATION),
            (0, &[0, 6], ArpOddities::IEEE_802),
            (0, &[0, 255], ArpOddities::HARDWARE),
            (2, &[0xff, 0xff], ArpOddities::PROTOCOL),
            (2, &[0x81, 0x37], ArpOddities::IPX),
            (5, &[6], ArpOddities::PROTOCOL_LENGTH),
            (4, &[8], ArpOddities::HARDWARE_LENGTH),
            (4, &[8, 6], ArpOddities::HARDWARE_LENGTH.and(ArpOddities::PROTOCOL_LENGTH)),
        ];
        for (at, value, oddities) in cases {
            assert_eq!(odd(at, value), Some((arp.sender, arp.target, oddities)), "{at} {value:?}");
        }
        assert_eq!(odd(0, &[0, 6, 8, 0, 6, 4, 0, 2]), None, "an odd reply is nothing");
        assert_eq!(ArpOddities::nth(10), ArpOddities::HARDWARE_LENGTH);
        assert_eq!(ArpOddities::nth(11), ArpOddities::NONE);
    }

    #[test]
    fn neighbor_messages_round_trip() {
        let target: Ipv6Addr = "fd00::1:2:3".parse().unwrap();
        let message = Neighbor { advert: false, target, mac: Some(Mac([2, 0, 0, 0, 0, 1])) };
        let mut frame = [0; 86];
        let group = solicited_node(target);
        let src = "fd00::9".parse().unwrap();
        let len = message.write(Mac::ipv6_multicast(group), Mac([2, 0, 0, 0, 0, 1]), src, group, 0, &mut frame);
        assert_eq!(len, 86);
        let packet = Packet::parse(&frame).unwrap();
        assert!(packet.checksum_ok(&frame));
        assert_eq!(Neighbor::parse(&packet, &frame), Some(message));
    }
}
