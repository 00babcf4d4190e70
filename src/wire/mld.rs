//! IPv6 messages of a host that comes to a link: multicast listener reports (MLDv2, RFC 3810) and router
//! solicitations (RFC 4861 §4.1).

use std::net::{IpAddr, Ipv6Addr};

use super::packet::{ETH, proto};
use super::{Headers, Mac, Packet, be16};

/// Where reports go (RFC 3810 §5.2.14).
const ALL_MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const QUERY: u8 = 130;
const REPORT: u8 = 143;
const ROUTER_SOLICIT: u8 = 133;
/// A hop-by-hop options header with the router alert of MLD (RFC 2711 §2.1), and padding.
const ROUTER_ALERT: [u8; 8] = [proto::ICMPV6, 0, 5, 2, 0, 0, 1, 0];

/// Why a group is reported (RFC 3810 §5.2.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerRecord {
    /// Somebody asked: the group is listened to, whoever sends.
    IsExclude = 2,
    /// It is from now on.
    ToExclude = 4,
}

/// Most groups of one report.
pub const MAX_GROUPS: usize = 16;

/// Writes a report of `groups`, at most `MAX_GROUPS`; returns the frame's length. `src` is link-local, or `::`
/// as long as the host has no address (RFC 3590 §4).
///
/// # Panics
/// If `frame` does not hold 70 octets and 20 for each group.
pub fn write_report(
    src_mac: Mac,
    src: Ipv6Addr,
    record: ListenerRecord,
    groups: &[Ipv6Addr],
    frame: &mut [u8],
) -> usize {
    let groups = &groups[..groups.len().min(MAX_GROUPS)];
    let headers = local_headers(src_mac, src, ALL_MLDV2_ROUTERS, 1);
    let len = 8 + 20 * groups.len();
    let at = headers.write(frame, ROUTER_ALERT.len() + len);
    // The payload begins with the hop-by-hop header.
    frame[ETH + 6] = 0;
    frame[at..at + 8].copy_from_slice(&ROUTER_ALERT);
    let message = &mut frame[at + 8..at + 8 + len];
    message[..8].copy_from_slice(&[REPORT, 0, 0, 0, 0, 0, 0, groups.len() as u8]);
    for (into, group) in message[8..].chunks_exact_mut(20).zip(groups) {
        into[..4].copy_from_slice(&[record as u8, 0, 0, 0]);
        into[4..].copy_from_slice(&group.octets());
    }
    headers.fill_checksum(message);
    at + 8 + len
}

/// Writes a router solicitation; returns the frame's length. From `::` it does not say whose it is.
///
/// # Panics
/// If `frame` does not hold 70 octets.
pub fn write_router_solicit(src_mac: Mac, src: Ipv6Addr, frame: &mut [u8]) -> usize {
    let headers = local_headers(src_mac, src, ALL_ROUTERS, 255);
    let len = if src.is_unspecified() { 8 } else { 16 };
    let at = headers.write(frame, len);
    let message = &mut frame[at..at + len];
    message[..8].copy_from_slice(&[ROUTER_SOLICIT, 0, 0, 0, 0, 0, 0, 0]);
    if let Some(option) = message.get_mut(8..16) {
        option[..2].copy_from_slice(&[1, 1]);
        option[2..].copy_from_slice(&src_mac.0);
    }
    headers.fill_checksum(message);
    at + len
}

fn local_headers(src_mac: Mac, src: Ipv6Addr, dst: Ipv6Addr, ttl: u8) -> Headers {
    Headers {
        dst_mac: Mac::ipv6_multicast(dst),
        src_mac,
        src: IpAddr::V6(src),
        dst: IpAddr::V6(dst),
        proto: proto::ICMPV6,
        ttl,
        tos: 0,
        ip_id: 0,
        df: false,
    }
}

/// A multicast listener query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerQuery {
    /// Milliseconds within which to answer.
    pub max_delay_ms: u32,
    /// The group asked for; `None` asks for all.
    pub group: Option<Ipv6Addr>,
}

impl ListenerQuery {
    /// Parses the message of a packet; what did not come from a link-local address with a hop limit
    /// of 1 is none (RFC 3810 §6.2).
    pub fn parse(packet: &Packet, frame: &[u8]) -> Option<ListenerQuery> {
        let message = packet.payload(frame);
        let IpAddr::V6(src) = packet.src() else { return None };
        if packet.proto != proto::ICMPV6 || packet.ttl != 1 || !src.is_unicast_link_local() {
            return None;
        }
        if message.len() < 24 || message[0] != QUERY {
            return None;
        }
        let code = u32::from(be16(message, 4));
        // RFC 3810 §5.1.3: large values have an exponent. Version 1 has plain milliseconds, which are the same below.
        let max_delay_ms = if code < 0x8000 || message.len() < 28 {
            code
        } else {
            ((code & 0xfff) | 0x1000) << (((code >> 12) & 7) + 3)
        };
        let group: [u8; 16] = message[8..24].try_into().ok()?;
        let group = Ipv6Addr::from(group);
        Some(ListenerQuery { max_delay_ms, group: (!group.is_unspecified()).then_some(group) })
    }
}

/// The link-local address that a MAC stands for (RFC 4291 §2.5.6 and appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let mut octets = [0; 16];
    octets[0] = 0xfe;
    octets[1] = 0x80;
    octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    octets.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0, 0x0c, 0x29, 1, 2, 3]);

    #[test]
    fn reports_are_alerts_for_routers_of_the_link() {
        let own = link_local(MAC);
        assert_eq!(own.to_string(), "fe80::20c:29ff:fe01:203");
        let groups = ["ff02::1:ff00:7".parse().unwrap(), "ff02::fb".parse().unwrap()];
        let mut frame = [0; 128];
        let len = write_report(MAC, own, ListenerRecord::ToExclude, &groups, &mut frame);
        let packet = Packet::parse(&frame[..len]).unwrap();
        assert_eq!((packet.proto, packet.ttl, packet.end), (proto::ICMPV6, 1, len));
        assert_eq!(packet.dst().to_string(), "ff02::16");
        assert!(packet.checksum_ok(&frame));
        let message = packet.payload(&frame);
        assert_eq!((message[0], message[7], message[8], message.len()), (143, 2, 4, 48));
        assert_eq!(&message[32..48], &groups[1].octets());
        assert_eq!(frame[54..62], ROUTER_ALERT);
    }

    #[test]
    fn solicitations_name_their_sender() {
        let mut frame = [0; 70];
        assert_eq!(write_router_solicit(MAC, link_local(MAC), &mut frame), 70);
        let packet = Packet::parse(&frame).unwrap();
        assert!(packet.checksum_ok(&frame) && packet.ttl == 255);
        assert_eq!(packet.payload(&frame)[8..], [1, 1, 0, 0x0c, 0x29, 1, 2, 3]);
        assert_eq!(write_router_solicit(MAC, Ipv6Addr::UNSPECIFIED, &mut frame), 62);
    }

    #[test]
    fn only_queries_of_the_link_count() {
        let query = |src: &str, ttl: u8, code: u16, len: usize| {
            let headers =
                Headers { src: src.parse().unwrap(), ..local_headers(MAC, Ipv6Addr::LOCALHOST, ALL_ROUTERS, ttl) };
            let mut frame = vec![0; ETH + 40 + len];
            let at = headers.write(&mut frame, len);
            frame[at] = QUERY;
            frame[at + 4..at + 6].copy_from_slice(&code.to_be_bytes());
            let packet = Packet::parse(&frame).unwrap();
            ListenerQuery::parse(&packet, &frame).map(|query| query.max_delay_ms)
        };
        assert_eq!(query("fe80::1", 1, 1000, 28), Some(1000));
        assert_eq!(query("fe80::1", 1, 0x8000, 28), Some(0x1000 << 3));
        assert_eq!(query("fe80::1", 1, 0x9000, 24), Some(0x9000));
        assert_eq!(query("fe80::1", 2, 1000, 28), None);
        assert_eq!(query("fd00::1", 1, 1000, 28), None);
        assert_eq!(query("fe80::1", 1, 1000, 20), None);
    }
}
