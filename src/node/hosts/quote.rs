//! What ICMP errors quote (RFC 792, RFC 4443): a packet in another packet, cut somewhere. A container's are cut as its
//! host's system cuts them; those about its own packets quote them as it wrote them, not as they left.

use std::net::IpAddr;

use super::outward::OutwardKey;
use crate::emulate::Personality;
use crate::frame::Frame;
use crate::stack::FlowKey;
use crate::wire::{ETH, Mac, Packet, be16, be32, checksum, ethertype, proto, set_macs};

/// Where the quoted packet begins in the frame, its header's length and its protocol.
fn inner(packet: &Packet, frame: &[u8]) -> Option<(usize, usize, u8)> {
    let at = packet.l4 + 8;
    let ip = frame.get(at..packet.end)?;
    let (len, proto) =
        if packet.is_v4() { (usize::from(ip.first()? & 0x0f) * 4, *ip.get(9)?) } else { (40, *ip.get(6)?) };
    let version = ip.first()? >> 4;
    let right = version == if packet.is_v4() { 4 } else { 6 } && len >= 20;
    (right && ip.len() >= len + 8).then_some((at, len, proto))
}

/// The flow that an error is about, as the sender of the quoted packet sees it, and where the quoted transport header
/// begins. Only of packets that the error's receiver has sent.
pub(super) fn key(packet: &Packet, frame: &[u8]) -> Option<(OutwardKey, usize)> {
    let (at, len, proto) = inner(packet, frame)?;
    let (local, remote) = ends(packet, frame, at)?;
    if local != packet.dst() {
        return None;
    }
    let l4 = at + len;
    let has_ports = matches!(proto, proto::TCP | proto::UDP);
    let (local_port, remote_port) = if has_ports { (be16(frame, l4), be16(frame, l4 + 2)) } else { (0, 0) };
    Some((OutwardKey { proto, flow: FlowKey { local, remote, local_port, remote_port } }, l4))
}

/// Source and destination of the packet at `at`.
fn ends(packet: &Packet, frame: &[u8], at: usize) -> Option<(IpAddr, IpAddr)> {
    if packet.is_v4() {
        let word = |offset: usize| IpAddr::V4(be32(frame, at + offset).into());
        return Some((word(12), word(16)));
    }
    let word = |offset: usize| {
        let octets: [u8; 16] = frame.get(at + offset..at + offset + 16)?.try_into().ok()?;
        Some(IpAddr::V6(octets.into()))
    };
    Some((word(8)?, word(24)?))
}

/// Writes the quoted packet of an error as the container wrote it: its sequence number, less by what was added (`shift`
/// undoes that), and its identification, if it is the last one that left.
pub(super) fn restore(
    bytes: &mut [u8],
    packet: &Packet,
    l4: usize,
    key: &OutwardKey,
    shift: u32,
    (written, sent): (u16, u16),
) {
    if key.proto == proto::TCP {
        let seq = be32(bytes, l4 + 4).wrapping_add(shift);
        bytes[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
    }
    let at = packet.l4 + 8;
    if packet.is_v4() && be16(bytes, at + 4) == sent {
        let sum = checksum::update(be16(bytes, at + 10), sent, written);
        bytes[at + 4..at + 6].copy_from_slice(&written.to_be_bytes());
        bytes[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
    }
    seal(bytes, packet);
}

/// Fills in the checksum of an ICMP message.
fn seal(bytes: &mut [u8], packet: &Packet) {
    let message = &mut bytes[packet.l4..packet.end];
    let pseudo =
        if packet.is_v4() { 0 } else { checksum::pseudo(packet.src(), packet.dst(), packet.proto, message.len()) };
    message[2..4].fill(0);
    let sum = checksum::finish(checksum::sum(pseudo, message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// Cuts what an IPv4 error quotes to what a system quotes. The header's checksum is left to the caller.
pub(super) fn shorten(frame: &mut Frame, packet: &mut Packet, personality: &Personality) {
    let Some((at, len, _)) = inner(packet, frame.bytes()).filter(|_| packet.is_v4()) else { return };
    let end = at + len + usize::from(personality.icmp_quote);
    if end >= packet.end {
        return;
    }
    packet.end = end;
    frame.set_len(end);
    let bytes = frame.bytes_mut();
    bytes[ETH + 2..ETH + 4].copy_from_slice(&((end - ETH) as u16).to_be_bytes());
    seal(bytes, packet);
}

/// Whether a packet says that nobody listens on a UDP port of its sender's, and which flow it is about, as that sees it.
pub(super) fn refused(packet: &Packet, frame: &[u8]) -> Option<FlowKey> {
    let kind = match packet.proto {
        proto::ICMP => [3, 3],
        proto::ICMPV6 => [1, 4],
        _ => return None,
    };
    if packet.fragment || packet.payload(frame).get(..2) != Some(&kind) {
        return None;
    }
    let (at, len, proto) = inner(packet, frame)?;
    let (remote, local) = ends(packet, frame, at)?;
    let is_udp = proto == proto::UDP && local == packet.src() && remote == packet.dst();
    let (remote_port, local_port) = (be16(frame, at + len), be16(frame, at + len + 2));
    is_udp.then_some(FlowKey { local, remote, local_port, remote_port })
}

/// Turns an error into the packet that it quotes, as it came from the sender's MAC to the host's. What the error has
/// cut off is missing at its end. `None` if the packet is none, or does not fit into the buffer.
pub(super) fn unwrap(frame: &mut Frame, packet: &Packet, host: Mac, sender: Mac) -> Option<Packet> {
    let (at, _, _) = inner(packet, frame.bytes())?;
    let there = packet.end - at;
    let bytes = frame.bytes();
    let whole = if packet.is_v4() { usize::from(be16(bytes, at + 2)) } else { 40 + usize::from(be16(bytes, at + 4)) };
    let len = ETH + whole.max(there);
    let room = len.max(frame.len());
    if frame.capacity() < room {
        return None;
    }
    frame.set_len(room);
    let bytes = frame.bytes_mut();
    bytes.copy_within(at..at + there, ETH);
    bytes[ETH + there..].fill(0);
    set_macs(bytes, host, sender);
    let kind = if packet.is_v4() { ethertype::IPV4 } else { ethertype::IPV6 };
    bytes[12..14].copy_from_slice(&kind.to_be_bytes());
    frame.set_len(len);
    let mut quoted = Packet::parse(frame.bytes()).ok()?;
    quoted.end = quoted.end.min(ETH + there);
    (quoted.proto == proto::UDP && quoted.l4 + 8 <= quoted.end).then_some(quoted)
}
