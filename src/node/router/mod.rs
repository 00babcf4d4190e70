//! An IPv4 and IPv6 router: longest-prefix match, neighbors, TTL, and the ICMP
//! errors that RFC 1812 and RFC 4443 ask for.
//!
//! It answers for its own addresses as a host of the `cisco-ios` personality
//! would. A packet whose next hop is not known yet waits in the neighbor table;
//! everything else leaves in the buffer that it came in.

mod neighbor;
mod resolve;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use serde_json::json;

use super::{Cx, Node, RouterConfig, Show};
use crate::emulate::reply::{self, IcmpError, Voice};
use crate::emulate::{Announced, Builtin, Identity, Personality};
use crate::event::DropReason;
use crate::frame::{Batch, Frame, PortNo};
use crate::wire::{
    ETH, Instant, Mac, Neighbor, Packet, TcpHeader, be16, be32, checksum, dst_mac, ethertype, ethertype_of, flag,
    icmp6, ip_of, proto, set_macs, src_mac, word_of,
};
use neighbor::{Ask, Lesson, Neighbors, Resolved};
use resolve::News;

/// Where a route leads: a port, and the next router if the prefix is not on its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hop {
    port: u16,
    via: Option<u128>,
}

struct Interface {
    mac: Mac,
    addresses: Vec<IpNet>,
    mtu: usize,
}

/// The way of a packet that is looked up before its turn.
#[derive(Clone, Copy)]
struct Ahead {
    dst: u128,
    hop: Hop,
    neighbor: Announced,
}

/// The node.
pub struct Router {
    config: RouterConfig,
    interfaces: Vec<Interface>,
    fib4: PrefixMap<Ipv4Net, Hop>,
    fib6: PrefixMap<Ipv6Net, Hop>,
    /// Where the packets of the present batch go.
    ahead: Vec<Option<Ahead>>,
    /// Where the present packet goes, if it is known already.
    cached: Option<Ahead>,
    /// All own addresses, as words.
    own: Vec<u128>,
    neighbors: Neighbors,
    /// Counted by all replicas together: they are one router.
    ip_id: Arc<AtomicU16>,
}

impl Router {
    /// A router that knows its connected prefixes and its static routes.
    pub fn new(config: RouterConfig, identity: Identity, seed: u64) -> Router {
        Router::replica(config, identity, seed, Arc::new(AtomicU16::new(seed as u16)))
    }

    /// One of several replicas, which number their packets by one counter.
    pub fn replica(config: RouterConfig, identity: Identity, seed: u64, ip_id: Arc<AtomicU16>) -> Router {
        let interfaces: Vec<Interface> = config
            .interfaces
            .iter()
            .enumerate()
            .map(|(number, interface)| Interface {
                mac: interface.mac.unwrap_or_else(|| identity.mac(config.oui, number as u64)),
                addresses: interface.addresses.clone(),
                mtu: interface.mtu as usize,
            })
            .collect();
        let (mut fib4, mut fib6) = (PrefixMap::new(), PrefixMap::new());
        let mut add = |to: IpNet, hop: Hop| match to {
            IpNet::V4(net) => drop(fib4.insert(net.trunc(), hop)),
            IpNet::V6(net) => drop(fib6.insert(net.trunc(), hop)),
        };
        for route in &config.routes {
            let on_link = |i: &Interface| i.addresses.iter().any(|net| net.contains(&route.via));
            if let Some(port) = interfaces.iter().position(on_link) {
                add(route.to, Hop { port: port as u16, via: Some(word_of(route.via)) });
            }
        }
        for (port, interface) in interfaces.iter().enumerate() {
            for net in &interface.addresses {
                add(*net, Hop { port: port as u16, via: None });
            }
        }
        let neighbors = Neighbors::new(config.neighbor_capacity as usize, seed);
        let own = interfaces.iter().flat_map(|i| &i.addresses).map(|net| word_of(net.addr())).collect();
        Router { own, config, interfaces, fib4, fib6, ahead: Vec::new(), cached: None, neighbors, ip_id }
    }

    fn personality() -> &'static Personality {
        Builtin::CiscoIos.get()
    }

    fn voice(&mut self, port: usize) -> Voice {
        let ip_id = self.ip_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Voice { mac: self.interfaces[port].mac, personality: Router::personality(), ip_id, hops: 0, flow_label: 0 }
    }

    #[inline]
    fn is_own(&self, ip: u128) -> bool {
        self.own.contains(&ip)
    }

    /// Our address on `port` for talking to `peer`: one of its family, on its prefix if there is one.
    fn source(&self, port: usize, peer: IpAddr) -> Option<IpAddr> {
        let family = || self.interfaces[port].addresses.iter().filter(|net| net.addr().is_ipv4() == peer.is_ipv4());
        family().find(|net| net.contains(&peer)).or_else(|| family().next()).map(IpNet::addr)
    }

    #[inline]
    fn lookup(&self, dst: u128) -> Option<Hop> {
        match ip_of(dst) {
            IpAddr::V4(ip) => Some(*self.fib4.get_lpm(&Ipv4Net::from(ip))?.1),
            IpAddr::V6(ip) => Some(*self.fib6.get_lpm(&Ipv6Net::from(ip))?.1),
        }
    }

    /// Looks up where a batch goes. One packet after the other, each waits for
    /// its neighbor's entry to come from memory; here, the processor fetches all
    /// of them at once, first the index and then the entries.
    fn look_ahead(&mut self, rx: &Batch) {
        self.ahead.clear();
        for frame in rx.iter() {
            let bytes = frame.bytes();
            let ahead = (ethertype_of(bytes) == ethertype::IPV4).then(|| {
                let dst = word_of(IpAddr::V4(Ipv4Addr::from_bits(be32(bytes, ETH + 16))));
                let hop = self.lookup(dst)?;
                Some(Ahead { dst, hop, neighbor: self.neighbors.announce(hop.port, hop.via.unwrap_or(dst)) })
            });
            self.ahead.push(ahead.flatten());
        }
        for ahead in self.ahead.iter().flatten() {
            self.neighbors.prefetch(ahead.neighbor);
        }
    }

    #[inline]
    fn receive(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        let port = usize::from(frame.meta.port.0);
        let Some(interface) = self.interfaces.get(port) else {
            return cx.discard(frame, DropReason::LinkDown);
        };
        if frame.meta.handed {
            if let Some(neighbor) = Lesson::from_bytes(frame.bytes()) {
                self.remember(port, neighbor, cx);
            }
            return cx.consume(frame);
        }
        let bytes = frame.bytes();
        if bytes.len() < ETH {
            return cx.discard(frame, DropReason::Malformed);
        }
        let dst = dst_mac(bytes);
        if dst != interface.mac && !dst.is_group() {
            return cx.discard(frame, DropReason::NotForUs);
        }
        if src_mac(bytes).is_group() {
            return cx.discard(frame, DropReason::BadSource);
        }
        if ethertype_of(bytes) == ethertype::ARP {
            return self.arp(frame, port, cx);
        }
        let mut packet = Packet::EMPTY;
        if let Err(flaw) = packet.read(bytes) {
            return cx.discard(frame, flaw.into());
        }
        if self.is_own(packet.dst_word) || packet.dst().is_multicast() {
            return self.local(frame, &packet, port, cx);
        }
        if dst.is_group() {
            // A unicast packet in a broadcast frame is not forwarded (RFC 1812 §5.3.4).
            return cx.discard(frame, DropReason::NotForUs);
        }
        self.forward(frame, &packet, port, cx);
    }

    /// A packet to one of our addresses, or to a group.
    fn local(&mut self, mut frame: Frame, packet: &Packet, port: usize, cx: &mut Cx<'_>) {
        if packet.fragment {
            return cx.discard(frame, DropReason::Fragment);
        }
        if !frame.meta.csum_ok
            && matches!(packet.proto, proto::ICMP | proto::ICMPV6 | proto::TCP | proto::UDP)
            && !packet.checksum_ok(frame.bytes())
        {
            return cx.discard(frame, DropReason::BadChecksum);
        }
        if packet.proto == proto::ICMPV6 {
            match Neighbor::parse(packet, frame.bytes()) {
                Some(message) if message.advert => {
                    if let Some(mac) = message.mac.filter(|mac| !mac.is_group()) {
                        let neighbor = Lesson { ip: IpAddr::V6(message.target), mac, create: false };
                        let news = if self.is_own(packet.dst_word) { News::Answer } else { News::Overheard };
                        self.learn(port, neighbor, news, cx);
                    }
                    return cx.consume(frame);
                }
                Some(message) => return self.solicited(frame, packet, &message, port, cx),
                None => {}
            }
        }
        if packet.dst().is_multicast() || !may_answer(packet.src()) {
            return cx.discard(frame, DropReason::NotForUs);
        }
        let message = packet.payload(frame.bytes());
        match packet.proto {
            proto::ICMP if message.len() >= 8 && message[0] == 8 => {
                let voice = self.voice(port);
                reply::echo(&mut frame, packet, &voice);
            }
            proto::ICMPV6 if message.len() >= 8 && message[0] == icmp6::ECHO_REQUEST => {
                let voice = self.voice(port);
                reply::echo(&mut frame, packet, &voice);
            }
            proto::TCP => match TcpHeader::parse(message) {
                Some(tcp) if !tcp.has(flag::RST) => {
                    let voice = self.voice(port);
                    reply::rst(&mut frame, packet, &tcp, &voice);
                }
                Some(_) => return cx.consume(frame),
                None => return cx.discard(frame, DropReason::Malformed),
            },
            proto::UDP => {
                return self.complain(frame, packet, IcmpError::PortUnreachable, port, DropReason::Unsupported, cx);
            }
            _ => return cx.discard(frame, DropReason::Unsupported),
        }
        cx.send(PortNo(port as u16), frame);
    }

    /// Sends an ICMP error about `frame` back by the port it came from, or discards it for `reason`.
    fn complain(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        error: IcmpError,
        port: usize,
        reason: DropReason,
        cx: &mut Cx<'_>,
    ) {
        let Some(src) = self.source(port, packet.src()) else { return cx.discard(frame, reason) };
        if frame.meta.offload.is_gso() {
            // One complaint is enough for all of its segments.
            let Some(first) = cx.pool.first_segment(frame) else { return cx.counters.discard(reason) };
            let Ok(packet) = Packet::parse(first.bytes()) else { return cx.discard(first, reason) };
            return self.complain(first, &packet, error, port, reason, cx);
        }
        if !reply::may_complain(frame.bytes(), packet) || dst_mac(frame.bytes()).is_group() {
            return cx.discard(frame, reason);
        }
        let voice = self.voice(port);
        if reply::icmp_error(&mut frame, packet, error, src, &voice) {
            cx.counters.discard(reason);
            cx.send(PortNo(port as u16), frame);
        } else {
            cx.discard(frame, reason);
        }
    }

    #[inline]
    fn forward(&mut self, mut frame: Frame, packet: &Packet, port: usize, cx: &mut Cx<'_>) {
        if let Some(reason) = stays_on_link(packet) {
            return cx.discard(frame, reason);
        }
        if packet.ttl <= 1 {
            return self.complain(frame, packet, IcmpError::TimeExceeded, port, DropReason::TtlExceeded, cx);
        }
        let ahead = self.cached.filter(|ahead| ahead.dst == packet.dst_word);
        let Some(hop) = ahead.map(|ahead| ahead.hop).or_else(|| self.lookup(packet.dst_word)) else {
            return self.complain(frame, packet, IcmpError::NetUnreachable, port, DropReason::NoRoute, cx);
        };
        let out = usize::from(hop.port);
        let mtu = self.interfaces[out].mtu;
        // A super-frame passes if its segments do.
        let len = if frame.meta.offload.is_gso() { frame.segment_len() } else { packet.end };
        if len - ETH > mtu {
            return self.complain(frame, packet, IcmpError::TooBig(mtu as u16), port, DropReason::TooBig, cx);
        }
        let bytes = frame.bytes_mut();
        if packet.is_v4() {
            // TTL and protocol as one word: an octet written and then read as part of a word is waited for.
            let old = be16(bytes, ETH + 8);
            let new = old - 0x100;
            let sum = checksum::update(be16(bytes, ETH + 10), old, new);
            bytes[ETH + 8..ETH + 10].copy_from_slice(&new.to_be_bytes());
            bytes[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
        } else {
            bytes[ETH + 7] -= 1;
        }
        let next = hop.via.unwrap_or(packet.dst_word);
        match self.neighbors.resolve(hop.port, next, ahead.map(|ahead| ahead.neighbor), cx.now) {
            Resolved::Known(mac) => {
                set_macs(frame.bytes_mut(), mac, self.interfaces[out].mac);
                cx.send(PortNo(hop.port), frame);
            }
            Resolved::Stale(mac) => {
                set_macs(frame.bytes_mut(), mac, self.interfaces[out].mac);
                cx.send(PortNo(hop.port), frame);
                self.ask(hop.port, ip_of(next), Some(mac), cx);
            }
            Resolved::Unknown(first) => {
                if let Err(frame) = self.neighbors.wait(hop.port, next, frame) {
                    cx.discard(frame, DropReason::NeighborQueue);
                }
                if first {
                    self.ask(hop.port, ip_of(next), None, cx);
                }
            }
        }
    }
}

/// Why a packet must not be forwarded, if its addresses mean nothing beyond its
/// link (RFC 1812 §5.3.7, RFC 3927 §2.7, RFC 4291 §2.5.6).
#[inline]
fn stays_on_link(packet: &Packet) -> Option<DropReason> {
    let (from_nobody, to_nobody) = match (packet.src(), packet.dst()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let local = |ip: Ipv4Addr| matches!(ip.octets(), [0 | 127 | 240..=255, ..] | [169, 254, ..]);
            (local(src) || src.is_multicast(), local(dst))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let local = |ip: Ipv6Addr| ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_loopback();
            (local(src) || src.is_multicast(), local(dst))
        }
        _ => (true, true),
    };
    if from_nobody { Some(DropReason::BadSource) } else { to_nobody.then_some(DropReason::NoRoute) }
}

/// Whether an answer to that source can be meant for one host.
fn may_answer(src: IpAddr) -> bool {
    match src {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST || ip.is_loopback()),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip == Ipv6Addr::LOCALHOST),
    }
}

impl Node for Router {
    fn process(&mut self, rx: &mut Batch, cx: &mut Cx<'_>) {
        self.look_ahead(rx);
        for (i, frame) in rx.drain(..).enumerate() {
            self.cached = self.ahead[i];
            self.receive(frame, cx);
        }
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        for frame in self.neighbors.lost.drain(..) {
            cx.discard(frame, DropReason::NeighborQueue);
        }
        while let Some((port, ip, ask)) = self.neighbors.next_due(cx.now) {
            match ask {
                Ask::Again => self.ask(port, ip, None, cx),
                Ask::Failed(waiting) => {
                    for frame in waiting {
                        self.failed(frame, cx);
                    }
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.neighbors.next_deadline()
    }

    fn port_name(&self, port: PortNo) -> Option<&str> {
        self.config.interfaces.get(usize::from(port.0)).map(|interface| interface.name.as_str())
    }

    fn held(&self) -> usize {
        self.neighbors.held()
    }

    fn show(&self, what: Show, now: Instant, limit: usize) -> Option<Vec<serde_json::Value>> {
        let name = |port: u16| self.config.interfaces[usize::from(port)].name.clone();
        match what {
            Show::Fib => {
                let row = |to: String, hop: &Hop| json!({"to": to, "via": hop.via.map(|word| ip_of(word).to_string()), "interface": name(hop.port)});
                let v4 = self.fib4.iter().map(|(net, hop)| row(net.to_string(), hop));
                Some(v4.chain(self.fib6.iter().map(|(net, hop)| row(net.to_string(), hop))).take(limit).collect())
            }
            Show::Neigh => Some(
                self.neighbors
                    .iter(now)
                    .take(limit)
                    .map(|(port, ip, mac, state)| {
                        json!({
                            "ip": ip.to_string(), "mac": mac.map(|mac| mac.to_string()),
                            "interface": name(port), "state": state,
                        })
                    })
                    .collect(),
            ),
            _ => None,
        }
    }
}

impl Router {
    /// A packet whose next hop did not answer: its sender is told, by whatever way leads there.
    fn failed(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        let port = usize::from(frame.meta.port.0);
        match Packet::parse(frame.bytes()) {
            Ok(packet) if port < self.interfaces.len() => {
                self.complain(frame, &packet, IcmpError::HostUnreachable, port, DropReason::NeighborFailed, cx);
            }
            _ => cx.discard(frame, DropReason::NeighborFailed),
        }
    }

    /// The MAC of interface `number`, for the plan's other nodes and for tests.
    pub fn mac(config: &RouterConfig, identity: &Identity, number: usize) -> Option<Mac> {
        let interface = config.interfaces.get(number)?;
        Some(interface.mac.unwrap_or_else(|| identity.mac(config.oui, number as u64)))
    }
}
