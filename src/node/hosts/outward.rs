//! What a container sends by itself: to a neighbor, into the fabric, or as far
//! as its template's policy goes.

use std::net::IpAddr;

use super::super::{Cx, HostsConfig};
use super::{Hosts, Pair, Target, event_of, is_single};
use crate::emulate::Outward;
use crate::event::{DropReason, EventId, SessionId};
use crate::frame::Frame;
use crate::stack::FlowKey;
use crate::wire::{ETH, Packet, TcpHeader, be16, dst_mac, ethertype, ethertype_of, flag, icmp6, proto, src_mac};

/// What a container has begun, or may answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct OutwardKey {
    pub proto: u8,
    pub flow: FlowKey,
}

impl Hosts {
    /// A frame from a container's TAP.
    pub(super) fn from_container(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        let Some(host) = self.leases.by_port.get(&frame.meta.port).copied() else {
            return cx.discard(frame, DropReason::LinkDown);
        };
        let bytes = frame.bytes();
        if bytes.len() < ETH {
            return cx.discard(frame, DropReason::Malformed);
        }
        if Some(src_mac(bytes)) != self.leases.mac_of(host) {
            return cx.discard(frame, DropReason::BadSource);
        }
        if ethertype_of(bytes) == ethertype::ARP {
            return self.container_arp(frame, host, cx);
        }
        let mut packet = Packet::EMPTY;
        if let Err(flaw) = packet.read(bytes) {
            return cx.discard(frame, flaw.into());
        }
        if packet.proto == proto::ICMPV6 {
            let kind = packet.payload(bytes).first().copied();
            if matches!(kind, Some(icmp6::NEIGHBOR_SOLICIT | icmp6::NEIGHBOR_ADVERT)) {
                return self.container_neighbor(frame, &packet, host, cx);
            }
        }
        // DHCP, multicast and broadcast of a container reach nobody.
        if !is_single(packet.dst) || dst_mac(bytes).is_group() {
            return cx.discard(frame, DropReason::Policy);
        }
        if self.config.number_of(packet.src).is_none() || self.config.host_of(packet.src) != host {
            return cx.discard(frame, DropReason::BadSource);
        }
        if packet.proto == proto::TCP {
            let Some(tcp) = TcpHeader::parse(packet.payload(bytes)) else {
                return cx.discard(frame, DropReason::Malformed);
            };
            let key = FlowKey { local: packet.src, remote: packet.dst, local_port: tcp.src, remote_port: tcp.dst };
            if let Some(index) = self.flows.find(&key) {
                return self.inner_ingress(index, frame, &packet, &tcp, cx);
            }
            if self.held.peek(&key).is_some() {
                let open = tcp.has(flag::SYN | flag::ACK);
                if open || tcp.has(flag::RST) {
                    return self.held_answer(frame, key, &tcp, open, cx);
                }
            }
        }
        if let Some(lease) = self.leases.by_host.get_mut(&host) {
            lease.last = cx.now;
        }
        self.outward(frame, &packet, host, cx);
    }

    /// What a container sends by itself: to a neighbor of this node, into the
    /// fabric, or as far as its template's policy goes.
    fn outward(&mut self, frame: Frame, packet: &Packet, host: IpAddr, cx: &mut Cx<'_>) {
        if let Some(target) = self.target(packet.dst) {
            return self.meet(frame, packet, &target, cx);
        }
        let key = outward_key(packet, frame.bytes(), false);
        let known = self.leases.outward.get(&key).is_some();
        // An ICMP error answers what its receiver sent.
        let errs = packet.proto == proto::ICMP && matches!(packet.payload(frame.bytes()).first(), Some(3 | 11 | 0));
        let solicited = errs && self.sessions.get(&Pair::new(packet.dst, packet.src)).is_some();
        if !known && !solicited {
            self.leases.outward.insert(key, ());
        }
        let inside = self.is_inside(packet.dst);
        let policy = if inside || solicited { Outward::Allow } else { self.outward_of(host) };
        if policy == Outward::Allow || (known && policy == Outward::Drop && self.was_asked(packet)) {
            if !known && !solicited {
                self.note(EventId::OutwardFlow, &frame, packet, host, cx);
            }
            return cx.send(HostsConfig::LAN, frame);
        }
        match policy {
            Outward::Drop | Outward::Allow => {
                if !known {
                    self.note(EventId::OutwardDrop, &frame, packet, host, cx);
                }
                cx.discard(frame, DropReason::Policy);
            }
            Outward::Reflect => {
                if self.was_asked(packet) {
                    return cx.send(HostsConfig::LAN, frame);
                }
                if !known {
                    self.note(EventId::OutwardReflect, &frame, packet, host, cx);
                }
                let hops = 6 + (u64::from(be16(frame.bytes(), ETH + 16)) % 9) as u8;
                let target = Target { ip: packet.dst, template: self.elsewhere, mac: dst_mac(frame.bytes()), hops };
                self.meet(frame, packet, &target, cx);
            }
        }
    }

    /// Tells of what a container began, in the session that brought it to life.
    fn note(&self, id: EventId, frame: &Frame, packet: &Packet, host: IpAddr, cx: &mut Cx<'_>) {
        let session = self.leases.by_host.get(&host).map_or(SessionId(0), |lease| lease.session);
        cx.emit(&mut event_of(id, frame, packet, session, cx.now), &[]);
    }

    /// Whether a datagram from a container answers one that came from the network.
    fn was_asked(&self, packet: &Packet) -> bool {
        let pair = Pair::new(packet.dst, packet.src);
        packet.proto == proto::UDP && self.sessions.peek(&pair).is_some()
    }
}

/// The key of a packet from a container (or, `inward`, to one) in the table of what it began.
pub(super) fn outward_key(packet: &Packet, frame: &[u8], inward: bool) -> OutwardKey {
    let l4 = packet.payload(frame);
    let has_ports = matches!(packet.proto, proto::TCP | proto::UDP);
    let (src, dst) = if has_ports { (be16(l4, 0), be16(l4, 2)) } else { (0, 0) };
    let flow = if inward {
        FlowKey { local: packet.dst, remote: packet.src, local_port: dst, remote_port: src }
    } else {
        FlowKey { local: packet.src, remote: packet.dst, local_port: src, remote_port: dst }
    };
    OutwardKey { proto: packet.proto, flow }
}
