//! What a container sends by itself: to a neighbor, into the fabric, or as far
//! as its template's policy goes.

use std::net::IpAddr;

use super::super::Cx;
use super::gate::{Policy, Told, Unsayable, begins_anew, unsayable};
use super::grant::Whose;
use super::{Hosts, Target, elsewhere, is_single};
use crate::emulate::Outward;
use crate::event::{Blocked, DropReason};
use crate::frame::Frame;
use crate::stack::FlowKey;
use crate::wire::{
    ETH, Mac, Packet, TcpHeader, be16, dst_mac, ethertype, ethertype_of, flag, icmp6, proto, src_mac, word_of,
};

/// What a container has begun, or may answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct OutwardKey {
    pub proto: u8,
    pub flow: FlowKey,
}

/// Octets that a container may still send in answer to datagrams: three times
/// what came, because nobody has proven that they came from there. None for a
/// flow that it began itself.
#[derive(Clone, Copy, Default)]
pub(super) struct Allowance {
    left: u32,
    /// The container began it, and was let.
    begun: bool,
}

impl Allowance {
    /// Most that is saved up.
    const MOST: u32 = 1 << 20;

    /// A packet of `len` octets came.
    pub(super) fn asked(&mut self, len: usize) {
        self.left = self.left.saturating_add(3 * len as u32).min(Allowance::MOST);
    }

    /// Takes `len` octets for an answer, if so much is left.
    fn take(&mut self, len: usize) -> bool {
        match self.left.checked_sub(len as u32) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    pub(super) fn is_begun(self) -> bool {
        self.begun
    }
}

impl Hosts {
    /// A frame from a container's TAP.
    pub(super) fn from_container(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        self.sessions.leave();
        let Some(whose) = self.leases.by_port.get(&frame.meta.port).copied() else {
            return cx.discard(frame, DropReason::LinkDown);
        };
        let host = whose.host;
        let bytes = frame.bytes();
        if bytes.len() < ETH {
            return cx.discard(frame, DropReason::Malformed);
        }
        if Some(src_mac(bytes)) != self.leases.mac_of(whose) {
            return self.block(frame, whose, Blocked::ForeignMac, cx);
        }
        self.heard_inside(whose, &frame, cx.now);
        if !self.holds(word_of(host), cx.now) {
            // It has an owner now, who is not to be disturbed while the container is being stopped.
            return cx.discard(frame, DropReason::Policy);
        }
        if ethertype_of(bytes) == ethertype::ARP {
            let Some(frame) = self.admit(frame, whose, cx) else { return };
            return self.container_arp(frame, whose, cx);
        }
        let mut packet = Packet::EMPTY;
        if let Err(flaw) = packet.read(bytes) {
            return cx.discard(frame, flaw.into());
        }
        if packet.proto == proto::ICMPV6 {
            let kind = packet.payload(bytes).first().copied();
            if matches!(kind, Some(icmp6::NEIGHBOR_SOLICIT | icmp6::NEIGHBOR_ADVERT)) {
                let Some(frame) = self.admit(frame, whose, cx) else { return };
                return self.container_neighbor(frame, &packet, whose, cx);
            }
        }
        match unsayable(bytes, &packet) {
            Some(Unsayable::Told(why)) => return self.block(frame, whose, why, cx),
            Some(Unsayable::Usual) => return cx.discard(frame, DropReason::Gate),
            None => {}
        }
        // Multicast and broadcast of a container reach nobody.
        if !is_single(packet.dst_word) || dst_mac(bytes).is_group() {
            return cx.discard(frame, DropReason::Policy);
        }
        if !self.is_own(packet.src(), host) {
            return self.block(frame, whose, Blocked::SpoofedSource, cx);
        }
        if is_source_routed(bytes, &packet) {
            return self.block(frame, whose, Blocked::SourceRoute, cx);
        }
        if packet.proto == proto::TCP {
            let Some(tcp) = TcpHeader::parse(packet.payload(bytes)) else {
                return cx.discard(frame, DropReason::Malformed);
            };
            let key = FlowKey { local: packet.src(), remote: packet.dst(), local_port: tcp.src, remote_port: tcp.dst };
            if let Some(index) = self.flows.find(&key) {
                return self.inner_ingress(index, frame, &packet, &tcp, whose, cx);
            }
            if tcp.has(flag::SYN) {
                self.ended.forget(&key);
            } else if self.ended.has(&key, cx.now) {
                return cx.consume(frame);
            }
            if let Some(held) = self.held.peek(&key) {
                // Another container of the same host is not asked.
                if held.inside != frame.meta.port {
                    return cx.discard(frame, DropReason::Policy);
                }
                let open = tcp.has(flag::SYN | flag::ACK);
                if open || tcp.has(flag::RST) {
                    return self.held_answer(frame, key, &tcp, open, cx);
                }
            }
        }
        let Some(frame) = self.refused_inside(frame, &packet, whose, cx) else { return };
        let Some(frame) = self.admit(frame, whose, cx) else { return };
        if let Some(lease) = self.leases.by_host.get_mut(&whose) {
            lease.last = cx.now;
        }
        self.outward(frame, &packet, whose, cx);
    }

    /// What a container sends by itself: to a neighbor of this node, into the
    /// fabric, or as far as its template's policy goes.
    fn outward(&mut self, mut frame: Frame, packet: &Packet, whose: Whose, cx: &mut Cx<'_>) {
        if let Some(target) = self.target(packet.dst_word).filter(|target| self.is_ours(target.word)) {
            if !self.may_own(&frame, packet, whose, cx.now) {
                return cx.discard(frame, DropReason::Policy);
            }
            let mut packet = *packet;
            self.rewrite(&mut frame, &mut packet, whose, true, cx);
            return match self.other_owner(target.word, cx) {
                Some(owner) => cx.hand_over(owner, frame),
                None => self.meet(frame, &packet, &target, cx),
            };
        }
        let key = outward_key(packet, frame.bytes(), false);
        let Policy { outward, solicited } = self.policy_of(&frame, packet, whose);
        let entry = self.leases.by_host.get_mut(&whose).and_then(|lease| lease.begun.get(&key));
        let (known, begun) = (entry.is_some(), entry.as_ref().is_some_and(|entry| entry.begun));
        let answers = entry.is_some_and(|left| left.take(packet.end - ETH));
        let passes = answers
            || match outward {
                Outward::Allow => true,
                Outward::Limit if begun && !begins_anew(frame.bytes(), packet) => true,
                Outward::Limit => self.may_begin(packet, whose, cx.now),
                Outward::Drop | Outward::Reflect => false,
            };
        // What a limit refuses is not remembered: it may try again.
        let begins = !solicited && !answers && !begun && (passes || outward != Outward::Limit);
        if begins && let Some(lease) = self.leases.by_host.get_mut(&whose) {
            let left = lease.begun.get(&key).map_or(0, |entry| entry.left);
            lease.begun.insert(key, Allowance { left, begun: passes });
        }
        if passes {
            if !known && !solicited {
                self.note(Told::Flow, &frame, packet, whose, cx);
            }
            // Whatever MAC the container wrote: an intruder could name any machine of the uplink's.
            let Some(mac) = self.next_hop(whose, packet.dst()).filter(|_| self.may_own(&frame, packet, whose, cx.now))
            else {
                return cx.discard(frame, DropReason::Policy);
            };
            frame.bytes_mut()[..6].copy_from_slice(&mac.0);
            return self.leave(frame, *packet, whose, cx);
        }
        match outward {
            Outward::Limit => {
                self.note(Told::Limit, &frame, packet, whose, cx);
                cx.discard(frame, DropReason::Policy);
            }
            Outward::Drop | Outward::Allow => {
                if !known {
                    self.note(Told::Drop, &frame, packet, whose, cx);
                }
                cx.discard(frame, DropReason::Policy);
            }
            Outward::Reflect => {
                if !known {
                    self.note(Told::Reflect, &frame, packet, whose, cx);
                }
                let hops = if self.is_gateway(packet.dst()) { 0 } else { elsewhere::hops_to(packet.dst()) };
                let target =
                    Target { word: packet.dst_word, template: self.elsewhere, mac: dst_mac(frame.bytes()), hops };
                if packet.ttl <= hops {
                    return self.expire(frame, packet, &target, cx);
                }
                self.meet(frame, packet, &target, cx);
            }
        }
    }

    /// The MAC that leads to `dst`, as ARP and neighbor discovery have told the container's host.
    fn next_hop(&self, whose: Whose, dst: IpAddr) -> Option<Mac> {
        let gateway = || self.config.segment.gateways.iter().find(|gateway| gateway.is_ipv4() == dst.is_ipv4());
        let on_link = self.config.segment.prefixes.iter().any(|net| net.contains(&dst));
        let known = self.leases.peer_mac(whose, dst);
        if on_link { known } else { known.or_else(|| self.leases.peer_mac(whose, *gateway()?)) }
    }
}

/// Whether a packet is an ICMP error about one that its receiver has sent to its
/// sender: hosts say so even to who they would not talk to.
pub(super) fn is_error_about(frame: &[u8], packet: &Packet) -> bool {
    // As much as fits into the least MTU that everybody takes (RFC 1122 §3.2.2, RFC 4443 §2.4).
    let (kinds, most) = if packet.is_v4() { ([3, 11, 12, 3], 576) } else { ([1, 2, 3, 4], 1280) };
    let message = packet.payload(frame);
    let is_error = matches!(packet.proto, proto::ICMP | proto::ICMPV6)
        && message.first().is_some_and(|kind| kinds.contains(kind))
        && packet.end - ETH <= most;
    let Some(quoted) = message.get(8..).filter(|_| is_error) else { return false };
    match (packet.src(), packet.dst()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            quoted.get(12..16) == Some(&dst.octets()) && quoted.get(16..20) == Some(&src.octets())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            quoted.get(8..24) == Some(&dst.octets()) && quoted.get(24..40) == Some(&src.octets())
        }
        _ => false,
    }
}

/// Whether a packet names its own way: what is inside for us need not be its
/// end (RFC 791 §3.1, RFC 5095).
fn is_source_routed(frame: &[u8], packet: &Packet) -> bool {
    if packet.is_v4() {
        let header = 20 + usize::from(frame[ETH] & 15).saturating_sub(5) * 4;
        let mut options = frame.get(ETH + 20..ETH + header).unwrap_or_default();
        while let [kind, rest @ ..] = options {
            match (kind, rest.first()) {
                (0, _) => break,
                (1, _) => options = rest,
                (131 | 137, _) => return true,
                (_, Some(len)) => options = options.get(usize::from(*len).max(2)..).unwrap_or_default(),
                (_, None) => break,
            }
        }
        return false;
    }
    let (mut next, mut at) = (frame[ETH + 6], ETH + 40);
    // As far as the packet was parsed, the headers are whole.
    while at < packet.l4 {
        if next == 43 {
            return true;
        }
        (next, at) = (frame[at], at + (usize::from(frame[at + 1]) + 1) * 8);
    }
    false
}

/// The key of a packet from a container (or, `inward`, to one) in the table of what it began.
pub(super) fn outward_key(packet: &Packet, frame: &[u8], inward: bool) -> OutwardKey {
    let l4 = packet.payload(frame);
    let has_ports = matches!(packet.proto, proto::TCP | proto::UDP);
    let (src, dst) = if has_ports { (be16(l4, 0), be16(l4, 2)) } else { (0, 0) };
    let flow = if inward {
        FlowKey { local: packet.dst(), remote: packet.src(), local_port: dst, remote_port: src }
    } else {
        FlowKey { local: packet.src(), remote: packet.dst(), local_port: src, remote_port: dst }
    };
    OutwardKey { proto: packet.proto, flow }
}
