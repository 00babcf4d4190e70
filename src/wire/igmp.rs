//! Membership of IPv4 multicast groups, as hosts report it to routers and snooping switches: IGMPv3 (RFC 3376), and
//! IGMPv2 (RFC 2236) to an older querier.

use std::net::{IpAddr, Ipv4Addr};

use super::packet::{ETH, ethertype, proto};
use super::{Mac, Packet, checksum, set_macs};

/// Where reports of version 3 go (RFC 3376 §4.2.14).
const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
const QUERY: u8 = 0x11;
const REPORT_V2: u8 = 0x16;
const REPORT_V3: u8 = 0x22;
/// The router alert (RFC 2113 §2.1).
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
/// Octets of an Ethernet and an IPv4 header with that option.
const HEADERS: usize = ETH + 24;

/// Why a group is reported (RFC 3376 §4.2.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberRecord {
    /// Somebody asked: the group is listened to, whoever sends.
    IsExclude = 2,
    /// It is from now on.
    ToExclude = 4,
}

/// Most groups of one report.
pub const MAX_GROUPS: usize = 16;

/// Who reports, and what its system writes into the IPv4 header.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its MAC.
    pub mac: Mac,
    /// Its address.
    pub ip: Ipv4Addr,
    /// TOS.
    pub tos: u8,
    /// Identification.
    pub ip_id: u16,
    /// Don't fragment.
    pub df: bool,
}

impl Member {
    /// Writes a report of version 3 of `groups`, at most `MAX_GROUPS`; returns the frame's length.
    ///
    /// # Panics
    /// If `frame` does not hold 46 octets and 8 for each group.
    pub fn report(&self, record: MemberRecord, groups: &[Ipv4Addr], frame: &mut [u8]) -> usize {
        let groups = &groups[..groups.len().min(MAX_GROUPS)];
        let message = self.headers(ALL_ROUTERS, 8 + 8 * groups.len(), frame);
        message[0] = REPORT_V3;
        message[7] = groups.len() as u8;
        for (into, group) in message[8..].chunks_exact_mut(8).zip(groups) {
            into[0] = record as u8;
            into[4..].copy_from_slice(&group.octets());
        }
        finish(message)
    }

    /// Writes a report of version 2, which is about one group and goes to it; returns the frame's length.
    ///
    /// # Panics
    /// If `frame` does not hold 46 octets.
    pub fn report_v2(&self, group: Ipv4Addr, frame: &mut [u8]) -> usize {
        let message = self.headers(group, 8, frame);
        message[0] = REPORT_V2;
        message[4..8].copy_from_slice(&group.octets());
        finish(message)
    }

    /// Writes the headers of a message of `len` octets, which is all zero.
    fn headers<'f>(&self, dst: Ipv4Addr, len: usize, frame: &'f mut [u8]) -> &'f mut [u8] {
        let frame = &mut frame[..HEADERS + len];
        frame.fill(0);
        set_macs(frame, Mac::ipv4_multicast(dst), self.mac);
        frame[12..14].copy_from_slice(&ethertype::IPV4.to_be_bytes());
        let ip = &mut frame[ETH..HEADERS];
        ip[..2].copy_from_slice(&[0x46, self.tos]);
        ip[2..4].copy_from_slice(&((24 + len) as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&self.ip_id.to_be_bytes());
        ip[6] = if self.df { 0x40 } else { 0 };
        ip[8..10].copy_from_slice(&[1, proto::IGMP]);
        ip[12..16].copy_from_slice(&self.ip.octets());
        ip[16..20].copy_from_slice(&dst.octets());
        ip[20..].copy_from_slice(&ROUTER_ALERT);
        let sum = checksum::of(ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        &mut frame[HEADERS..]
    }
}

fn finish(message: &mut [u8]) -> usize {
    let sum = checksum::of(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    HEADERS + message.len()
}

/// A query for members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberQuery {
    /// Milliseconds within which to answer.
    pub max_delay_ms: u32,
    /// The group asked for; `None` asks for all.
    pub group: Option<Ipv4Addr>,
    /// Whether the querier is of version 1 or 2, which does not understand reports of version 3 (RFC 3376 §7.2.1).
    pub is_old: bool,
}

impl MemberQuery {
    /// Parses the message of a packet; what may have come through a router is none (RFC 3376 §4).
    pub fn parse(packet: &Packet, frame: &[u8]) -> Option<MemberQuery> {
        let message = packet.payload(frame);
        if packet.proto != proto::IGMP || packet.ttl != 1 || !matches!(packet.src(), IpAddr::V4(_)) {
            return None;
        }
        if message.len() < 8 || message[0] != QUERY || checksum::of(message) != 0 {
            return None;
        }
        let code = u32::from(message[1]);
        let is_old = message.len() < 12;
        // RFC 3376 §4.1.1: tenths of a second; large values have an exponent. Version 1 says nothing and means ten seconds.
        let tenths = match code {
            0 if is_old => 100,
            128.. if !is_old => ((code & 15) | 16) << (((code >> 4) & 7) + 3),
            _ => code,
        };
        let group = Ipv4Addr::from(<[u8; 4]>::try_from(&message[4..8]).ok()?);
        Some(MemberQuery { max_delay_ms: 100 * tenths, group: (!group.is_unspecified()).then_some(group), is_old })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: Member =
        Member { mac: Mac([0, 0x0c, 0x29, 1, 2, 3]), ip: Ipv4Addr::new(10, 0, 0, 7), tos: 0xc0, ip_id: 0, df: true };
    const GROUPS: [Ipv4Addr; 2] = [Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::new(239, 255, 255, 250)];

    #[test]
    fn reports_are_alerts_for_routers_of_the_link() {
        let mut frame = [0xff; 128];
        let len = MEMBER.report(MemberRecord::ToExclude, &GROUPS, &mut frame);
        let packet = Packet::parse(&frame[..len]).unwrap();
        assert_eq!((packet.proto, packet.ttl, packet.end, packet.l4), (proto::IGMP, 1, len, HEADERS));
        assert_eq!(packet.dst().to_string(), "224.0.0.22");
        let message = packet.payload(&frame);
        assert_eq!(checksum::of(message), 0);
        assert_eq!(message[4..], [0, 0, 0, 2, 4, 0, 0, 0, 224, 0, 0, 251, 4, 0, 0, 0, 239, 255, 255, 250]);
        assert_eq!(frame[34..38], ROUTER_ALERT);

        let len = MEMBER.report_v2(GROUPS[0], &mut frame);
        let packet = Packet::parse(&frame[..len]).unwrap();
        assert_eq!(packet.dst(), IpAddr::V4(GROUPS[0]));
        assert_eq!((packet.payload(&frame)[0], &packet.payload(&frame)[4..]), (0x16, &[224, 0, 0, 251][..]));
    }

    #[test]
    fn only_queries_of_the_link_count() {
        let query = |ttl: u8, code: u8, group: [u8; 4], len: usize| {
            let mut frame = [0; 128];
            let message = MEMBER.headers(Ipv4Addr::new(224, 0, 0, 1), len, &mut frame);
            message[..2].copy_from_slice(&[QUERY, code]);
            message[4..8].copy_from_slice(&group);
            let len = finish(message);
            frame[ETH + 8] = ttl;
            frame[ETH + 10..ETH + 12].fill(0);
            let sum = checksum::of(&frame[ETH..HEADERS]);
            frame[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
            MemberQuery::parse(&Packet::parse(&frame[..len]).unwrap(), &frame[..len])
        };
        let all = |max_delay_ms, is_old| Some(MemberQuery { max_delay_ms, group: None, is_old });
        assert_eq!(query(1, 100, [0; 4], 12), all(10_000, false));
        assert_eq!(query(1, 0x80, [0; 4], 12), all(12_800, false));
        assert_eq!(query(1, 0xff, [0; 4], 8), all(25_500, true));
        assert_eq!(query(1, 0, [0; 4], 8), all(10_000, true));
        let one = MemberQuery { max_delay_ms: 1000, group: Some(GROUPS[0]), is_old: false };
        assert_eq!(query(1, 10, GROUPS[0].octets(), 12), Some(one));
        assert_eq!(query(64, 10, [0; 4], 12), None);
    }
}
