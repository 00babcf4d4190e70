//! Who has an address: ARP (RFC 826, RFC 5227) and neighbor discovery (RFC 4861)
//! as an emulated host answers them, and as its container's questions are met.
//!
//! Requests that are odd in one of arp-fingerprint's ways are answered if the
//! personality answers such. Nothing is learned from them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::super::{Cx, HostsConfig};
use super::dhcp::Dhcp;
use super::grant::Whose;
use super::session::Contact;
use super::{Hosts, is_single};
use crate::emulate::reply;
use crate::event::{Blocked, DropReason, Event, EventId, Party};
use crate::frame::Frame;
use crate::wire::{
    ARP_FRAME, Arp, ArpOddities, Mac, Neighbor, Packet, dst_mac, icmp6, solicited_node, src_mac, word_of,
};

impl Hosts {
    /// ARP that came from the network.
    pub(super) fn arp(&mut self, mut frame: Frame, cx: &mut Cx<'_>) {
        let normal = Arp::parse(frame.bytes()).filter(|arp| matches!(arp.operation, Arp::REQUEST | Arp::REPLY));
        let normal = normal.map(|arp| (arp, ArpOddities::NONE));
        let Some((arp, form)) = normal.or_else(|| Arp::parse_odd(frame.bytes())) else {
            return cx.discard(frame, DropReason::Malformed);
        };
        if self.claims.is_some() && form.is_empty() {
            self.hear_arp(&arp, cx);
        }
        if self.dhcp.is_some() && form.is_empty() {
            self.hear_rival(&arp, cx);
        }
        let Some(target) = self.target(word_of(IpAddr::V4(arp.target))) else {
            return cx.discard(frame, if form.is_empty() { DropReason::NoHost } else { DropReason::Malformed });
        };
        if let Some(owner) = self.other_owner(target.word, cx) {
            return cx.hand_over(owner, frame);
        }
        if self.claims.is_some() && !self.is_claimed_by_arp(&frame, &arp, form, &target, cx) {
            return cx.discard(frame, DropReason::NoHost);
        }
        if arp.operation == Arp::REPLY {
            self.heard_gateway(arp.sender, arp.sender_mac);
            // An answer to what a container asked.
            let whose = self.grants.seeker(self.config.host_of(target.ip()), IpAddr::V4(arp.sender));
            if dst_mac(frame.bytes()) == target.mac
                && let Some(port) = self.leases.port_of(whose)
            {
                self.leases.learn_peer(whose, IpAddr::V4(arp.sender), arp.sender_mac);
                return cx.send(port, frame);
            }
            return cx.consume(frame);
        }
        let dst = dst_mac(frame.bytes());
        if dst != target.mac && dst != Mac::BROADCAST {
            return cx.discard(frame, DropReason::NotForUs);
        }
        if arp.sender == arp.target {
            return cx.discard(frame, DropReason::BadSource);
        }
        let habits = self.template(target.template).personality.get().arp;
        if !habits.answers(form) {
            return cx.discard(frame, DropReason::Malformed);
        }
        let is_answered = if is_single(word_of(IpAddr::V4(arp.sender))) {
            self.asked(IpAddr::V4(arp.sender), target.ip(), arp.sender_mac, cx);
            habits.answers(form.and(ArpOddities::OFF_NET)) || self.is_near(arp.sender)
        } else {
            odd_sender(arp.sender).is_some_and(|sender| habits.answers(form.and(sender)))
        };
        if !is_answered {
            return cx.discard(frame, DropReason::BadSource);
        }
        reply::arp(&mut frame, &arp, target.mac);
        let port = frame.meta.port;
        cx.send(port, frame);
    }

    /// Whether `ip` seems to be on the hosts' own network. Without a router, its prefix is a guess that may be
    /// narrower than the real one: what it shares the first 16 bits with is no stranger then, since a host that
    /// is silent to its own neighbors is worse than one that talks to a few more.
    pub(super) fn is_near(&self, ip: Ipv4Addr) -> bool {
        let mut nets = self.config.segment.prefixes.iter().filter_map(|net| match net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        });
        let near = nets.any(|net| {
            let length = net.prefix_len().min(16);
            (u32::from(net.addr()) ^ u32::from(ip)).leading_zeros() >= u32::from(length)
        });
        near || self.dhcp.as_ref().is_some_and(|dhcp| dhcp.tenants.is_near(ip))
    }

    /// Takes note of who looked for a host. Routers ask for everybody's sake.
    pub(super) fn asked(&mut self, who: IpAddr, host: IpAddr, mac: Mac, cx: &mut Cx<'_>) {
        if !is_single(word_of(who)) || self.is_gateway(who) {
            return;
        }
        let touch = super::Touch {
            pair: super::Pair::new(who, host),
            contact: Contact::Arp,
            mac,
            proto: 0,
            l4_port: 0,
            len: 28,
            tells_itself: true,
        };
        let (session, first) = self.sessions.touch(&touch, cx);
        if first {
            let mut event = Event::new(EventId::ArpRequest, cx.now);
            event.session = session.id;
            event.src = Party { ip: who.into(), mac, l4_port: 0 };
            event.dst = Party { ip: host.into(), mac: Mac::ZERO, l4_port: 0 };
            event.first = self.sessions.is_first_record();
            cx.emit(&mut event, &[]);
        }
    }

    /// Whether an address is the hosts' way out of their network.
    pub(super) fn is_gateway(&self, ip: IpAddr) -> bool {
        let leased = |dhcp: &Dhcp| dhcp.tenants.is_router(ip);
        self.config.segment.gateways.contains(&ip) || self.dhcp.as_deref().is_some_and(leased)
    }

    pub(super) fn is_neighbor_message(&self, frame: &Frame, packet: &Packet) -> bool {
        matches!(packet.payload(frame.bytes()).first(), Some(&(icmp6::NEIGHBOR_SOLICIT | icmp6::NEIGHBOR_ADVERT)))
    }

    /// Neighbor discovery that came from the network.
    pub(super) fn neighbor(&mut self, mut frame: Frame, packet: &Packet, cx: &mut Cx<'_>) {
        let Some(message) = self.checked_neighbor(&frame, packet) else {
            return cx.discard(frame, DropReason::Malformed);
        };
        if self.claims.is_some() && message.advert {
            self.hear_advert(&message, &frame, cx);
        }
        let host = if message.advert { packet.dst_word } else { word_of(IpAddr::V6(message.target)) };
        if let Some(owner) = self.target(host).and_then(|target| self.other_owner(target.word, cx)) {
            return cx.hand_over(owner, frame);
        }
        if message.advert {
            let whose = self.grants.seeker(self.config.host_of(packet.dst()), IpAddr::V6(message.target));
            if let (Some(port), Some(target)) = (self.leases.port_of(whose), self.target(packet.dst_word))
                && dst_mac(frame.bytes()) == target.mac
            {
                if let Some(mac) = message.mac.filter(|mac| !mac.is_group()) {
                    self.leases.learn_peer(whose, IpAddr::V6(message.target), mac);
                }
                return cx.send(port, frame);
            }
            return cx.consume(frame);
        }
        let Some(target) = self.target(word_of(IpAddr::V6(message.target))) else {
            return cx.discard(frame, DropReason::NoHost);
        };
        let unspecified = packet.src() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        if !is_single(packet.src_word) && !unspecified {
            return cx.discard(frame, DropReason::BadSource);
        }
        if self.claims.is_some() && !self.is_claimed_by_neighbor(&frame, packet, &target, cx) {
            return cx.discard(frame, DropReason::NoHost);
        }
        let link_local = matches!(packet.src(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !link_local && !unspecified {
            self.asked(packet.src(), target.ip(), src_mac(frame.bytes()), cx);
        }
        if reply::neighbor(&mut frame, packet, message.target, target.mac, false) {
            let port = frame.meta.port;
            cx.send(port, frame);
        } else {
            cx.discard(frame, DropReason::TooBig);
        }
    }

    fn checked_neighbor(&self, frame: &Frame, packet: &Packet) -> Option<Neighbor> {
        let ok = frame.meta.csum_ok || packet.checksum_ok(frame.bytes());
        if ok { Neighbor::parse(packet, frame.bytes()) } else { None }
    }

    /// ARP from a container: who it asks for decides who answers.
    pub(super) fn container_arp(&mut self, mut frame: Frame, whose: Whose, cx: &mut Cx<'_>) {
        let host = whose.host;
        let Some(arp) = Arp::parse(frame.bytes()) else {
            return cx.discard(frame, DropReason::Malformed);
        };
        let Some(mac) = self.leases.mac_of(whose) else {
            return cx.discard(frame, DropReason::LinkDown);
        };
        let own = |ip: IpAddr| self.is_own(ip, host);
        if arp.sender_mac != mac || !(arp.sender.is_unspecified() || own(IpAddr::V4(arp.sender))) {
            // Another's address: the poisoning of a cache.
            return self.block(frame, whose, Blocked::Neighbor, cx);
        }
        let target = IpAddr::V4(arp.target);
        if own(target) || arp.sender.is_unspecified() {
            // Its own test for duplicates: the host node holds that address for it.
            return cx.consume(frame);
        }
        if arp.operation != Arp::REQUEST {
            return cx.discard(frame, DropReason::Policy);
        }
        match self.who_has(whose, target) {
            Holder::Us(mac) => {
                reply::arp(&mut frame, &arp, mac);
                let port = frame.meta.port;
                cx.send(port, frame);
            }
            Holder::Network => {
                // Nothing but the question leaves, whatever it came with.
                self.seeks(whose, target);
                arp.write(Mac::BROADCAST, mac, frame.bytes_mut());
                frame.set_len(ARP_FRAME);
                cx.send(HostsConfig::LAN, frame);
            }
            Holder::Nobody => cx.discard(frame, DropReason::Policy),
        }
    }

    /// Neighbor discovery from a container.
    pub(super) fn container_neighbor(&mut self, mut frame: Frame, packet: &Packet, whose: Whose, cx: &mut Cx<'_>) {
        let host = whose.host;
        let Some(message) = self.checked_neighbor(&frame, packet) else {
            return cx.discard(frame, DropReason::Malformed);
        };
        let target = IpAddr::V6(message.target);
        let unspecified = packet.src() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let own = self.is_own(target, host);
        let is_link_local = matches!(packet.src(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        if (message.advert && !own && !message.target.is_unicast_link_local())
            || !(unspecified || is_link_local || self.is_own(packet.src(), host))
        {
            return self.block(frame, whose, Blocked::Neighbor, cx);
        }
        if message.advert || unspecified || own {
            // Adverts answer what nobody asked of it: the host node answers in its place.
            return cx.consume(frame);
        }
        match self.who_has(whose, target) {
            Holder::Us(mac) => {
                if reply::neighbor(&mut frame, packet, message.target, mac, false) {
                    let port = frame.meta.port;
                    cx.send(port, frame);
                } else {
                    cx.discard(frame, DropReason::TooBig);
                }
            }
            Holder::Network => {
                let Some(mac) = self.leases.mac_of(whose) else { return cx.discard(frame, DropReason::LinkDown) };
                let IpAddr::V6(src) = packet.src() else { return cx.discard(frame, DropReason::Malformed) };
                if self.config.number_of(packet.src()).is_none() || self.config.host_of(packet.src()) != host {
                    return cx.discard(frame, DropReason::BadSource);
                }
                // Nothing but the question leaves, whatever it came with.
                self.seeks(whose, target);
                let group = solicited_node(message.target);
                let question = Neighbor { advert: false, target: message.target, mac: Some(mac) };
                let len = question.write(Mac::ipv6_multicast(group), mac, src, group, 0, frame.space());
                frame.set_len(len);
                cx.send(HostsConfig::LAN, frame);
            }
            Holder::Nobody => cx.discard(frame, DropReason::Policy),
        }
    }

    /// Who answers a container that looks for `ip`.
    fn who_has(&self, whose: Whose, ip: IpAddr) -> Holder {
        if let Some(mac) = self.leases.peer_mac(whose, ip) {
            return Holder::Us(mac);
        }
        if let Some(target) = self.target(word_of(ip)).filter(|target| self.is_ours(target.word)) {
            return Holder::Us(target.mac);
        }
        if self.config.segment.gateways.contains(&ip) || self.is_inside(ip) {
            return Holder::Network;
        }
        match self.outward_of(whose) {
            crate::emulate::Outward::Allow | crate::emulate::Outward::Limit => Holder::Network,
            crate::emulate::Outward::Drop => Holder::Nobody,
            // Made up, but always the same, and not one of our hosts'.
            crate::emulate::Outward::Reflect => {
                Holder::Us(self.identity.mac([0x00, 0x50, 0x56], u64::MAX ^ hash_of(ip)))
            }
        }
    }

    /// Whether an address belongs to the honeynet.
    pub(super) fn is_inside(&self, ip: IpAddr) -> bool {
        let leased = |dhcp: &Dhcp| dhcp.tenants.target(word_of(ip)).is_some();
        self.config.inside.iter().any(|net| net.contains(&ip)) || self.dhcp.as_deref().is_some_and(leased)
    }
}

/// What is odd about a sender that is no single host; `None` if nobody answers it.
fn odd_sender(sender: Ipv4Addr) -> Option<ArpOddities> {
    match sender {
        Ipv4Addr::UNSPECIFIED => Some(ArpOddities::UNSPECIFIED),
        Ipv4Addr::BROADCAST => Some(ArpOddities::BROADCAST),
        _ if sender.is_loopback() => Some(ArpOddities::LOOPBACK),
        _ => None,
    }
}

enum Holder {
    Us(Mac),
    Network,
    Nobody,
}

fn hash_of(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip) as u64,
    }
}
