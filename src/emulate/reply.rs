//! Answers written into the buffer that the question came in: no allocation, no
//! state, no copy of the payload.
//!
//! Each function takes a frame whose packet was parsed, and leaves a complete
//! frame to be sent back by the port it came from. What the caller chooses per
//! host (MAC, TTL, IP ID) comes in a [`Voice`].

use std::net::IpAddr;

use super::Personality;
use crate::frame::Frame;
use crate::wire::{
    ARP_FRAME, Arp, ETH, Headers, Ipv4Words, Mac, Neighbor, Packet, Segment, TcpHeader, TcpWords, be16, be32, checksum,
    flag, icmp6, proto, set_flow_label, set_macs, src_mac,
};

/// How a host speaks in one packet.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    /// Its MAC.
    pub mac: Mac,
    /// Its personality.
    pub personality: &'static Personality,
    /// IPv4 identification of this packet.
    pub ip_id: u16,
    /// Hops that the packet seems to have taken already.
    pub hops: u8,
    /// IPv6 flow label of this packet.
    pub flow_label: u32,
}

impl Voice {
    #[inline]
    fn ttl(&self, initial: u8) -> u8 {
        initial.saturating_sub(self.hops).max(1)
    }
}

/// Turns an ARP request into its reply.
#[inline]
pub fn arp(frame: &mut Frame, request: &Arp, mac: Mac) {
    let reply = Arp {
        operation: Arp::REPLY,
        sender_mac: mac,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    // The answer goes to the frame's sender, who need not be the one named inside.
    let dst = src_mac(frame.bytes());
    reply.write(dst, mac, frame.bytes_mut());
    frame.set_len(ARP_FRAME);
}

/// Turns a neighbor solicitation into its advertisement; `false` if the buffer
/// is too small, which no received solicitation makes it. Who tests for
/// duplicates has no address yet: everybody is told (RFC 4861 §7.2.4).
pub fn neighbor(frame: &mut Frame, packet: &Packet, target: std::net::Ipv6Addr, mac: Mac, router: bool) -> bool {
    let IpAddr::V6(asker) = packet.src() else { return false };
    let (dst, asker, solicited) = if asker.is_unspecified() {
        let everybody = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        (Mac::ipv6_multicast(everybody), everybody, 0)
    } else {
        (src_mac(frame.bytes()), asker, 0x40)
    };
    let advert = Neighbor { advert: true, target, mac: Some(mac) };
    let flags = 0x20 | solicited | if router { 0x80 } else { 0 };
    let space = frame.space();
    if space.len() < 86 {
        return false;
    }
    let len = advert.write(dst, mac, target, asker, flags, space);
    frame.set_len(len);
    true
}

/// Turns an echo request (ICMP or ICMPv6) into its reply. The checksums are
/// updated, not computed anew, so a wrong one stays wrong.
#[inline(always)]
pub fn echo(frame: &mut Frame, packet: &Packet, voice: &Voice) {
    let requester = src_mac(frame.bytes());
    let v4 = packet.is_v4();
    frame.set_len(packet.end);
    let bytes = frame.bytes_mut();
    set_macs(bytes, requester, voice.mac);
    if v4 {
        let p = voice.personality;
        let header_len = packet.l4 - ETH;
        let ip = Ipv4Words {
            tos: bytes[ETH + 1],
            total: (packet.end - ETH) as u16,
            ip_id: voice.ip_id,
            df: p.echo_df.unwrap_or(bytes[ETH + 6] & 0x40 != 0),
            ttl: voice.ttl(p.icmp_ttl),
            proto: proto::ICMP,
            src: be32(bytes, ETH + 16),
            dst: be32(bytes, ETH + 12),
        };
        if let Some(header) = bytes[ETH..].first_chunk_mut() {
            ip.write(header);
        }
        if header_len > 20 {
            // Options go back as they came, as most systems do it.
            bytes[ETH] = 0x40 | (header_len / 4) as u8;
            bytes[ETH + 10..ETH + 12].fill(0);
            let sum = checksum::of(&bytes[ETH..packet.l4]);
            bytes[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
        }
    } else {
        let ip = &mut bytes[ETH..];
        let (src, dst) = ip[8..40].split_at_mut(16);
        src.swap_with_slice(dst);
        ip[7] = voice.ttl(voice.personality.hop_limit);
        set_flow_label(bytes, voice.flow_label);
    }
    let icmp = &mut bytes[packet.l4..];
    // Type and code as one word: an octet written and then read as part of a word is waited for.
    let old = be16(icmp, 0);
    let kind = if v4 { 0 } else { icmp6::ECHO_REPLY };
    let code = if v4 && voice.personality.echo_code_zero { 0 } else { old & 0xff };
    let new = u16::from(kind) << 8 | code;
    let sum = checksum::update(be16(icmp, 2), old, new);
    icmp[..2].copy_from_slice(&new.to_be_bytes());
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// TTL or hop limit used up on the way.
    TimeExceeded,
    /// No route (ICMP 3/0, ICMPv6 1/0).
    NetUnreachable,
    /// The host does not answer (ICMP 3/1, ICMPv6 1/3).
    HostUnreachable,
    /// Nobody listens on that UDP port (ICMP 3/3, ICMPv6 1/4).
    PortUnreachable,
    /// It does not fit into that MTU (ICMP 3/4, ICMPv6 2/0).
    TooBig(u16),
}

impl IcmpError {
    fn code(self, v4: bool) -> (u8, u8, u32) {
        match (self, v4) {
            (IcmpError::TimeExceeded, true) => (11, 0, 0),
            (IcmpError::TimeExceeded, false) => (icmp6::TIME_EXCEEDED, 0, 0),
            (IcmpError::NetUnreachable, true) => (3, 0, 0),
            (IcmpError::NetUnreachable, false) => (icmp6::UNREACHABLE, 0, 0),
            (IcmpError::HostUnreachable, true) => (3, 1, 0),
            (IcmpError::HostUnreachable, false) => (icmp6::UNREACHABLE, 3, 0),
            (IcmpError::PortUnreachable, true) => (3, 3, 0),
            (IcmpError::PortUnreachable, false) => (icmp6::UNREACHABLE, 4, 0),
            (IcmpError::TooBig(mtu), true) => (3, 4, u32::from(mtu)),
            (IcmpError::TooBig(mtu), false) => (icmp6::TOO_BIG, 0, u32::from(mtu)),
        }
    }
}

/// Whether an ICMP error may be sent about a packet: never about an ICMP error,
/// a fragment, or to a source that is not one host (RFC 1122 §3.2.2, RFC 4443 §2.4).
pub fn may_complain(frame: &[u8], packet: &Packet) -> bool {
    let single = match packet.src() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast() && !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    let kind = packet.payload(frame).first().copied();
    let is_error = match packet.proto {
        proto::ICMP => !matches!(kind, Some(0 | 8 | 13 | 14 | 15 | 16 | 17 | 18)),
        proto::ICMPV6 => kind.is_none_or(|kind| kind < 128),
        _ => false,
    };
    single && !packet.fragment && !is_error && !packet.dst().is_multicast()
}

/// Turns a packet into the ICMP error about it, from `src`: the packet moves
/// behind the new headers, cut to what the personality quotes.
///
/// Returns `false`, leaving the frame in an undefined state, if the buffer is too small.
pub fn icmp_error(frame: &mut Frame, packet: &Packet, error: IcmpError, src: IpAddr, voice: &Voice) -> bool {
    let v4 = packet.is_v4();
    // What is quoted was on a wire.
    frame.complete();
    let (kind, code, word) = error.code(v4);
    let header_len = packet.l4 - ETH;
    let room = if v4 {
        // RFC 1812 §4.3.2.3 asks for as much as fits into 576 octets; older systems quote less.
        header_len + usize::from(voice.personality.icmp_quote)
    } else {
        // RFC 4443 §3: as much as fits into the minimum MTU.
        1280 - 48
    };
    let quoted = (packet.end - ETH).min(room);
    let headers = Headers {
        dst_mac: src_mac(frame.bytes()),
        src_mac: voice.mac,
        src,
        dst: packet.src(),
        proto: if v4 { proto::ICMP } else { proto::ICMPV6 },
        ttl: voice.ttl(voice.personality.icmp_ttl_of(v4)),
        tos: if v4 { voice.personality.icmp_error_tos } else { 0 },
        ip_id: voice.ip_id,
        df: false,
    };
    let at = headers.len();
    let total = at + 8 + quoted;
    let old_len = frame.len();
    if frame.capacity() < total.max(old_len) {
        return false;
    }
    frame.set_len(total.max(old_len));
    let bytes = frame.bytes_mut();
    bytes.copy_within(ETH..ETH + quoted, at + 8);
    headers.write(bytes, 8 + quoted);
    let message = &mut bytes[at..total];
    message[..4].copy_from_slice(&[kind, code, 0, 0]);
    message[4..8].copy_from_slice(&word.to_be_bytes());
    headers.fill_checksum(message);
    frame.set_len(total);
    set_flow_label(frame.bytes_mut(), voice.flow_label);
    true
}

/// Turns a TCP segment into the RST that answers it when no connection is there
/// (RFC 9293 §3.10.7.1). A RST is never answered: the caller has seen to that.
#[inline(always)]
pub fn rst(frame: &mut Frame, packet: &Packet, tcp: &TcpHeader, voice: &Voice) {
    let data = (packet.end - packet.l4 - tcp.len) as u32;
    let length = data + u32::from(tcp.has(flag::SYN)) + u32::from(tcp.has(flag::FIN));
    let (seq, ack, flags) = if tcp.has(flag::ACK) {
        (tcp.ack, 0, flag::RST)
    } else {
        (0, tcp.seq.wrapping_add(length), flag::RST | flag::ACK)
    };
    if packet.is_v4() && packet.l4 == ETH + 20 {
        return rst_v4(frame, tcp, seq, ack, flags, voice);
    }
    let segment = Segment { src: tcp.dst, dst: tcp.src, seq, ack, flags, window: 0, options: &[], payload: &[] };
    answer(frame, packet, &segment, voice, voice.personality.rst_df);
}

/// The same for what nearly all segments are: the headers are turned round where they lie.
#[inline(always)]
fn rst_v4(frame: &mut Frame, tcp: &TcpHeader, seq: u32, ack: u32, flags: u8, voice: &Voice) {
    let requester = src_mac(frame.bytes());
    frame.set_len(ETH + 40);
    let bytes = frame.bytes_mut();
    set_macs(bytes, requester, voice.mac);
    let (src, dst) = (be32(bytes, ETH + 16), be32(bytes, ETH + 12));
    let ip = Ipv4Words {
        tos: 0,
        total: 40,
        ip_id: voice.ip_id,
        df: voice.personality.rst_df,
        ttl: voice.ttl(voice.personality.ttl),
        proto: proto::TCP,
        src,
        dst,
    };
    let words = TcpWords { src: tcp.dst, dst: tcp.src, seq, ack, header_len: 20, flags, window: 0 };
    if let Some((header, rest)) = bytes[ETH..].split_first_chunk_mut()
        && let Some(segment) = rest.first_chunk_mut()
    {
        ip.write(header);
        words.write(segment, u64::from(src) + u64::from(dst) + u64::from(proto::TCP) + 20);
    }
}

/// Writes `segment` over the frame, back to where it came from.
#[inline]
pub fn answer(frame: &mut Frame, packet: &Packet, segment: &Segment<'_>, voice: &Voice, df: bool) {
    let headers = Headers {
        dst_mac: src_mac(frame.bytes()),
        src_mac: voice.mac,
        src: packet.dst(),
        dst: packet.src(),
        proto: proto::TCP,
        ttl: voice.ttl(voice.personality.ttl_of(packet.is_v4())),
        tos: 0,
        ip_id: voice.ip_id,
        df,
    };
    let len = segment.write(&headers, frame.space());
    frame.set_len(len);
    set_flow_label(frame.bytes_mut(), voice.flow_label);
}
