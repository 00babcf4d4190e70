//! Containers behind hosts: when one is asked for, what passes between it and an
//! attacker, and what it may do by itself.

use std::collections::HashMap;
use std::net::IpAddr;

use super::super::{Command, Cx, HostsConfig, LeaseId, Request};
use super::flow::{App, Ending, Flow, Inner};
use super::tcp::inward;
use super::{Hosts, Pair, Target, event_of, is_single};
use crate::emulate::{ClockTable, Outward};
use crate::event::{DropReason, Event, EventId, Party, SessionId};
use crate::frame::{Frame, PortNo};
use crate::stack::{Buffers, Conn, FlowKey, Incoming};
use crate::wire::{
    Duration, ETH, Instant, Mac, Packet, Segment, TcpHeader, be16, dst_mac, ethertype, ethertype_of, flag, icmp6,
    proto, src_mac,
};

/// How long a container may take from the request until its service answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts to connect to a service that does not listen yet.
const RETRY: Duration = Duration::from_millis(4);
/// A service that refuses although the container has run for so long is not there.
const SETTLED: Duration = Duration::from_secs(10);
/// Flows that containers of one node may have begun and that are remembered.
const OUTWARD: usize = 65_536;
/// Peers whose MAC a lease remembers.
const PEERS: usize = 1024;
/// How often idle leases are looked for.
const REAP: Duration = Duration::from_secs(1);

struct Lease {
    id: LeaseId,
    target: Target,
    idle: Duration,
    /// The port of its TAP.
    port: Option<PortNo>,
    /// Its init runs since then.
    live: Option<Instant>,
    asked: Instant,
    /// Last frame to or from it.
    last: Instant,
    /// A service of it has answered: `container.live` was said.
    answered: bool,
    releasing: bool,
    peers: ClockTable<IpAddr, Mac>,
    session: SessionId,
    for_whom: Party,
}

/// What a container has begun, or may answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct OutwardKey {
    proto: u8,
    flow: FlowKey,
}

/// The leases of a node, by the address that stands for their host.
pub(super) struct Leases {
    by_host: HashMap<IpAddr, Lease>,
    by_port: HashMap<PortNo, IpAddr>,
    outward: ClockTable<OutwardKey, ()>,
    seed: u64,
    next_reap: Instant,
}

impl Leases {
    pub(super) fn new(seed: u64) -> Leases {
        Leases {
            by_host: HashMap::new(),
            by_port: HashMap::new(),
            outward: ClockTable::new(OUTWARD, seed),
            seed,
            next_reap: Instant::ZERO,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_host.len()
    }

    pub(super) fn has(&self, host: IpAddr) -> bool {
        self.by_host.contains_key(&host)
    }

    #[inline]
    pub(super) fn is_live(&self, host: IpAddr) -> bool {
        self.live(host).is_some()
    }

    /// The lease and port of a host whose container runs.
    #[inline]
    pub(super) fn live(&self, host: IpAddr) -> Option<(LeaseId, PortNo)> {
        if self.by_host.is_empty() {
            return None;
        }
        let lease = self.by_host.get(&host).filter(|lease| lease.live.is_some() && !lease.releasing)?;
        Some((lease.id, lease.port?))
    }

    pub(super) fn port_of(&self, host: IpAddr) -> Option<PortNo> {
        self.by_host.get(&host)?.port
    }

    pub(super) fn mac_of(&self, host: IpAddr) -> Option<Mac> {
        Some(self.by_host.get(&host)?.target.mac)
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.by_host.keys().copied()
    }

    /// `emulated`, `starting` or `live`.
    pub(super) fn state(&self, host: IpAddr) -> &'static str {
        match self.by_host.get(&host) {
            None => "emulated",
            Some(lease) if lease.live.is_some() => "live",
            Some(_) => "starting",
        }
    }

    pub(super) fn learn_peer(&mut self, host: IpAddr, peer: IpAddr, mac: Mac) {
        if let Some(lease) = self.by_host.get_mut(&host) {
            lease.peers.insert(peer, mac);
        }
    }

    pub(super) fn peer_mac(&self, host: IpAddr, peer: IpAddr) -> Option<Mac> {
        self.by_host.get(&host)?.peers.peek(&peer).copied()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (!self.by_host.is_empty()).then_some(self.next_reap)
    }

    fn by_id(&mut self, id: LeaseId) -> Option<(&IpAddr, &mut Lease)> {
        self.by_host.iter_mut().find(|(_, lease)| lease.id == id)
    }
}

impl Hosts {
    /// The lease of a host's container; asks for one if there is none. `None` if
    /// the host cannot have one, or there are too many already.
    pub(super) fn begin_lease(
        &mut self,
        target: &Target,
        who: Party,
        session: SessionId,
        cx: &mut Cx<'_>,
    ) -> Option<LeaseId> {
        let host = self.config.host_of(target.ip);
        if let Some(lease) = self.leases.by_host.get_mut(&host) {
            lease.last = cx.now;
            return (!lease.releasing).then_some(lease.id);
        }
        let idle = Duration::from_secs(u64::from(self.backend(target)?.idle_secs));
        let mut event = Event::new(EventId::ContainerStart, cx.now);
        event.session = session;
        event.src = who;
        event.dst = Party { ip: Some(host), mac: target.mac, l4_port: 0 };
        if self.leases.len() >= self.config.limits.containers as usize {
            event.id = EventId::ContainerFailed;
            cx.emit(&mut event, b"as many containers as the topology allows are running");
            return None;
        }
        let id = LeaseId(cx.rng.next_u64());
        cx.requests.push(Request::Lease { node: cx.node, lease: id, host });
        cx.emit(&mut event, &[]);
        let lease = Lease {
            id,
            target: *target,
            idle,
            port: None,
            live: None,
            asked: cx.now,
            last: cx.now,
            answered: false,
            releasing: false,
            peers: ClockTable::new(PEERS, self.leases.seed),
            session,
            for_whom: who,
        };
        self.leases.by_host.insert(host, lease);
        self.leases.next_reap = self.leases.next_reap.max(cx.now);
        Some(id)
    }

    /// A peer that is not on the link was seen behind its router's MAC.
    pub(super) fn learn_gateway(&mut self, host: IpAddr, peer: IpAddr, mac: Mac) {
        let on_link = self.config.segment.prefixes.iter().any(|net| net.contains(&peer));
        if on_link {
            return;
        }
        if let Some(gateway) = self.config.segment.gateways.iter().find(|gateway| gateway.is_ipv4() == peer.is_ipv4()) {
            self.leases.learn_peer(host, *gateway, mac);
        }
    }

    pub(super) fn outward_of(&self, host: IpAddr) -> Outward {
        let template = self.leases.by_host.get(&host).map_or(self.elsewhere, |lease| lease.target.template);
        self.template(template).outward
    }

    pub(super) fn obey(&mut self, command: Command, cx: &mut Cx<'_>) {
        match command {
            Command::LeaseTap { lease, port } => {
                if let Some((host, lease)) = self.leases.by_id(lease) {
                    lease.port = Some(port);
                    let host = *host;
                    self.leases.by_port.insert(port, host);
                }
            }
            Command::LeaseLive { lease } => {
                let now = cx.now;
                if let Some((_, entry)) = self.leases.by_id(lease) {
                    entry.live = Some(now);
                    entry.last = now;
                }
                self.mark_inner(lease);
                self.drive(cx);
            }
            Command::LeaseGone { lease, why } => {
                self.lease_gone(lease, &why, cx);
                self.drive(cx);
            }
        }
    }

    fn mark_inner(&mut self, lease: LeaseId) {
        let of_lease = |flow: &Flow| matches!(&flow.app, App::Inner(inner) if inner.lease == lease);
        let marked: Vec<usize> =
            self.flows.slab.iter().filter(|(_, flow)| of_lease(flow)).map(|(index, _)| index).collect();
        self.flows.dirty.extend(marked);
    }

    fn lease_gone(&mut self, id: LeaseId, why: &str, cx: &mut Cx<'_>) {
        let Some(host) = self.leases.by_id(id).map(|(host, _)| *host) else { return };
        let Some(lease) = self.leases.by_host.remove(&host) else { return };
        if let Some(port) = lease.port {
            self.leases.by_port.remove(&port);
        }
        self.mark_inner(id);
        for index in self.flows.dirty.clone() {
            if let Some(flow) = self
                .flows
                .slab
                .get_mut(index)
                .filter(|flow| matches!(&flow.app, App::Inner(inner) if inner.lease == id))
            {
                flow.abort(cx.now);
            }
        }
        let never_came = lease.live.is_none() && !lease.releasing;
        let mut event = Event::new(if never_came { EventId::ContainerFailed } else { EventId::ContainerStop }, cx.now);
        event.session = lease.session;
        event.src = lease.for_whom;
        event.dst = Party { ip: Some(host), mac: lease.target.mac, l4_port: 0 };
        event.count = (cx.now - lease.asked).total_micros();
        cx.emit(&mut event, why.as_bytes());
    }

    /// Ends leases that nobody needs any more.
    pub(super) fn reap_leases(&mut self, cx: &mut Cx<'_>) {
        if self.leases.by_host.is_empty() || cx.now < self.leases.next_reap {
            return;
        }
        self.leases.next_reap = cx.now + REAP;
        let in_use: std::collections::HashSet<LeaseId> = self
            .flows
            .slab
            .iter()
            .filter_map(|(_, flow)| match &flow.app {
                App::Inner(inner) => Some(inner.lease),
                _ => None,
            })
            .collect();
        for lease in self.leases.by_host.values_mut() {
            let idle = lease.idle > Duration::ZERO && cx.now - lease.last > lease.idle;
            if idle && !lease.releasing && !in_use.contains(&lease.id) {
                lease.releasing = true;
                cx.requests.push(Request::Release { lease: lease.id });
            }
        }
    }

    /// Hands a packet from the network to the host's container, if it lives.
    pub(super) fn to_container(&mut self, frame: Frame, packet: &Packet, target: &Target, cx: &mut Cx<'_>) {
        let host = self.config.host_of(target.ip);
        let Some((_, port)) = self.leases.live(host) else {
            return cx.discard(frame, DropReason::NoFlow);
        };
        if let Some(lease) = self.leases.by_host.get_mut(&host) {
            lease.last = cx.now;
            lease.peers.insert(packet.src, src_mac(frame.bytes()));
        }
        self.learn_gateway(host, packet.src, src_mac(frame.bytes()));
        if packet.proto == proto::UDP {
            // What it answers to this is no flow of its own.
            let key = outward_key(packet, frame.bytes(), true);
            self.leases.outward.insert(key, ());
        }
        cx.send(port, frame);
    }

    /// Whether a segment from the network belongs to what the container began.
    pub(super) fn is_outward(&mut self, proto: u8, flow: &FlowKey) -> bool {
        !self.leases.by_host.is_empty() && self.leases.outward.get(&OutwardKey { proto, flow: *flow }).is_some()
    }

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
        let packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(flaw) => return cx.discard(frame, flaw.into()),
        };
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

    /// A segment of the container in a connection that we opened into it.
    fn inner_ingress(&mut self, index: usize, frame: Frame, packet: &Packet, tcp: &TcpHeader, cx: &mut Cx<'_>) {
        let Hosts { flows, scratch, leases, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return cx.consume(frame) };
        let (mac, peer_mac, key) = (flow.wire.mac, flow.wire.peer_mac, flow.wire.key);
        if let App::Inner(inner) = &mut flow.app {
            if let Some(lease) = leases.by_host.get_mut(&self.config.host_of(key.local)) {
                lease.last = cx.now;
            }
            let l4 = packet.payload(frame.bytes());
            let (options, payload) = (&l4[20..tcp.len], &l4[tcp.len..]);
            let segment =
                Incoming { seq: tcp.seq, ack: tcp.ack, flags: tcp.flags, window: tcp.window, options, payload };
            let Inner { conn, look, .. } = &mut **inner;
            if let Some(conn) = conn {
                let port = frame.meta.port;
                conn.ingress(&segment, cx.now, scratch, |out| {
                    send_inward(&key, look, mac, peer_mac, port, out, cx);
                });
            }
            flows.dirty.push(index);
        }
        cx.consume(frame);
    }

    /// Moves what a connection into a container has to move.
    pub(super) fn drive_inner(&mut self, index: usize, cx: &mut Cx<'_>) {
        let Hosts { flows, scratch, leases, config, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return };
        let key = flow.wire.key;
        let (mac, peer_mac) = (flow.wire.mac, flow.wire.peer_mac);
        let App::Inner(inner) = &mut flow.app else { return };
        let host = config.host_of(key.local);
        let lease = leases.by_host.get_mut(&host).filter(|lease| lease.id == inner.lease);
        let Some((lease, port)) = lease.and_then(|lease| Some((lease.port?, lease)).map(|(port, lease)| (lease, port)))
        else {
            if cx.now - inner.since > PATIENCE {
                flow.abort(cx.now);
            } else {
                let at = inner.since + PATIENCE;
                flows.schedule(index, Some(at));
            }
            return;
        };
        lease.last = cx.now;
        let refused = inner.conn.as_ref().is_some_and(Conn::is_closed);
        if refused && !inner.established {
            let settled = lease.live.is_some_and(|live| cx.now - live > SETTLED);
            if settled || cx.now - inner.since > PATIENCE {
                let mut event = flow.event(EventId::ServiceFailed, cx.now);
                cx.emit(&mut event, b"the container refuses the connection");
                return flow.abort(cx.now);
            }
            inner.conn = None;
            inner.retry_at = cx.now + RETRY;
        }
        if inner.conn.is_none() {
            if cx.now - inner.since > PATIENCE {
                let mut event = flow.event(EventId::ServiceFailed, cx.now);
                cx.emit(&mut event, b"the container does not answer");
                return flow.abort(cx.now);
            }
            if lease.live.is_none() {
                let at = inner.since + PATIENCE;
                flows.schedule(index, Some(at));
                return;
            }
            if cx.now < inner.retry_at {
                let at = inner.retry_at;
                flows.schedule(index, Some(at));
                return;
            }
            let seed = cx.rng.next_u64();
            inner.attempt_until = cx.now + inner.attempt;
            inner.attempt = (inner.attempt * 2).min(Duration::from_secs(2));
            inner.conn = Conn::connect(key.remote(), key.local(), Buffers::LARGE, seed, cx.now, scratch);
        }
        let Some(conn) = inner.conn.as_mut() else { return flow.abort(cx.now) };
        if !inner.established && conn.is_open() {
            inner.established = true;
            if !std::mem::replace(&mut lease.answered, true) {
                let mut event = Event::new(EventId::ContainerLive, cx.now);
                event.session = lease.session;
                event.src = lease.for_whom;
                event.dst = Party { ip: Some(host), mac: lease.target.mac, l4_port: key.local_port };
                event.count = (cx.now - lease.asked).total_micros();
                cx.emit(&mut event, &[]);
            }
        }
        let outer = &mut flow.conn;
        while conn.room() > 0 && outer.recv(|bytes| conn.send(bytes)) > 0 {}
        while outer.room() > 0 && conn.recv(|bytes| outer.send(bytes)) > 0 {}
        if inner.established {
            if conn.is_closed() && !conn.has_data() && flow.closing.is_none() {
                // Closed without our having closed it: a reset from inside.
                if flow.conn.at_end() {
                    flow.close(cx.now)
                } else {
                    flow.abort(cx.now)
                }
                return;
            }
            if outer.at_end() {
                conn.close();
            }
            if flow.ending == Some(Ending::ResetByPeer) {
                conn.abort();
            }
        }
        let ended = inner.established && conn.at_end();
        conn.egress(cx.now, scratch, |out| send_inward(&key, &inner.look, mac, peer_mac, port, out, cx));
        let deadline = conn.deadline(cx.now).map(|at| at.max(cx.now + Duration::from_micros(500)));
        // A SYN into a network that is not up yet is lost: smoltcp's own retry, a second later, would be felt.
        let waiting = !inner.established && !conn.is_closed();
        if waiting && inner.attempt_until <= cx.now {
            inner.conn = None;
            inner.retry_at = cx.now;
            flows.dirty.push(index);
            return;
        }
        let retry = waiting.then_some(inner.attempt_until);
        if ended {
            flow.close(cx.now);
        }
        flows.schedule(index, deadline.into_iter().chain(retry).min());
    }

    /// The attacker's side is gone: so is the container's.
    pub(super) fn end_inner(&mut self, flow: &mut Flow, cx: &mut Cx<'_>) {
        let host = self.config.host_of(flow.wire.key.local);
        let port = self.leases.port_of(host);
        let (key, mac, peer_mac) = (flow.wire.key, flow.wire.mac, flow.wire.peer_mac);
        if let (App::Inner(inner), Some(port)) = (&mut flow.app, port) {
            let Inner { conn, look, .. } = &mut **inner;
            if let Some(conn) = conn.as_mut().filter(|conn| !conn.is_closed() && !conn.is_time_wait()) {
                conn.abort();
                conn.egress(cx.now, &mut self.scratch, |out| send_inward(&key, look, mac, peer_mac, port, out, cx));
            }
        }
    }
}

/// Sends a segment into a container as if it came from the attacker.
fn send_inward(
    key: &FlowKey,
    look: &super::flow::SynLook,
    mac: Mac,
    peer_mac: Mac,
    port: PortNo,
    out: &crate::stack::Outgoing<'_>,
    cx: &mut Cx<'_>,
) {
    let Some(mut frame) = cx.pool.head() else { return cx.counters.discard(DropReason::NoBuffer) };
    let options = &look.options[..usize::from(look.options_len)];
    let is_syn = out.flags & flag::SYN != 0;
    let scale = if is_syn { 0 } else { crate::wire::TcpOptions::parse(options).window_scale.unwrap_or(0) };
    let segment = Segment {
        src: key.remote_port,
        dst: key.local_port,
        seq: out.seq,
        ack: out.ack,
        flags: out.flags,
        window: (out.window >> scale).min(65_535) as u16,
        options: if is_syn { options } else { &[] },
        payload: out.payload,
    };
    let headers = inward(key, look, mac, peer_mac);
    let len = segment.write(&headers, frame.space());
    frame.set_len(len);
    frame.meta.at = cx.now;
    cx.send(port, frame);
}

/// The key of a packet from a container (or, `inward`, to one) in the table of what it began.
fn outward_key(packet: &Packet, frame: &[u8], inward: bool) -> OutwardKey {
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
