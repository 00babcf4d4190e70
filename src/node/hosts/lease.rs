//! Containers behind hosts: when one is asked for, what passes between it and an
//! attacker, and what it may do by itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::{AddrRange, Command, Cx, LeaseId, Request};
use super::flow::{App, Flow};
use super::gate::Gate;
use super::outward::{Allowance, OutwardKey, outward_key};
use super::{Hosts, Target, patience};
use crate::emulate::{Backend, ClockTable, Outward, StartPolicy, Template};
use crate::event::{DropReason, Event, EventId, Party, SessionId};
use crate::frame::{Frame, PortNo};
use crate::stack::FlowKey;
use crate::wire::{Duration, ETH, Instant, Mac, Packet, proto, src_mac, word_of};

/// Flows that a container may have begun and that are remembered.
const BEGUN: usize = 8192;
/// Peers whose MAC a lease remembers.
const PEERS: usize = 4096;
/// How long after its end a container that belongs to the system is started again.
const RESTART: Duration = Duration::from_secs(5);
/// How often idle leases are looked for.
const REAP: Duration = Duration::from_secs(1);

pub(super) struct Lease {
    pub id: LeaseId,
    pub target: Target,
    /// Without a frame for so long it is frozen, if that is not zero.
    pub freeze: Duration,
    /// The same until it is stopped.
    pub idle: Duration,
    /// The port of its TAP.
    pub port: Option<PortNo>,
    /// Its init runs since then.
    pub live: Option<Instant>,
    pub asked: Instant,
    /// Last frame to or from it.
    pub last: Instant,
    /// Last frame from it; zero before the first.
    pub heard: Instant,
    /// It has told its MAC: its address is configured.
    pub reachable: bool,
    /// A service of it has answered: `container.live` was said.
    pub answered: bool,
    pub releasing: bool,
    /// How far it is frozen.
    pub rest: Rest,
    pub peers: ClockTable<IpAddr, Mac>,
    /// What it has begun, or may answer.
    pub begun: ClockTable<OutwardKey, Allowance>,
    pub gate: Gate,
    pub session: SessionId,
    pub for_whom: Party,
}

/// Whether the processes of a container rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// They run.
    Awake,
    /// It was asked then that they be frozen.
    Asked(Instant),
    /// They are frozen.
    Frozen,
}

/// The leases of a node, by the address that stands for their host.
pub(super) struct Leases {
    pub by_host: HashMap<IpAddr, Lease>,
    pub by_port: HashMap<PortNo, IpAddr>,
    seed: u64,
    next_reap: Instant,
    /// Leases of all replicas of the node: its limit is theirs together.
    total: Arc<AtomicU32>,
}

/// A replica that panicked leaves its containers to those who end them.
impl Drop for Leases {
    fn drop(&mut self) {
        self.total.fetch_sub(self.by_host.len() as u32, Ordering::Relaxed);
    }
}

impl Lease {
    /// Somebody speaks to it: if its processes are frozen, they go on. Those of the kernel that take frames always do,
    /// so that nothing has to wait for that.
    #[inline]
    pub(super) fn spoken_to(&mut self, who: Party, cx: &mut Cx<'_>) {
        self.last = cx.now;
        if self.rest == Rest::Frozen {
            self.thaw(who, cx);
        }
    }

    #[cold]
    fn thaw(&mut self, who: Party, cx: &mut Cx<'_>) {
        cx.requests.push(Request::Thaw { lease: self.id });
        self.thawed(who, cx);
    }

    fn thawed(&mut self, who: Party, cx: &mut Cx<'_>) {
        self.rest = Rest::Awake;
        let mut event = Event::new(EventId::ContainerThawed, cx.now);
        event.session = self.session;
        event.src = who;
        event.dst = Party { ip: self.target.ip().into(), mac: self.target.mac, l4_port: 0 };
        cx.emit(&mut event, &[]);
    }
}

impl Leases {
    pub(super) fn new(seed: u64, total: Arc<AtomicU32>) -> Leases {
        Leases { by_host: HashMap::new(), by_port: HashMap::new(), seed, next_reap: Instant::ZERO, total }
    }

    /// Whether there may be one more, which is counted then.
    fn admit(&self, limit: u32) -> bool {
        let more = |count| (count < limit).then_some(count + 1);
        self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Whether there are as many as may be.
    pub(super) fn is_full(&self, limit: u32) -> bool {
        self.total.load(Ordering::Relaxed) >= limit
    }

    fn remove(&mut self, host: IpAddr) -> Option<Lease> {
        let lease = self.by_host.remove(&host)?;
        self.total.fetch_sub(1, Ordering::Relaxed);
        Some(lease)
    }

    pub(super) fn has(&self, host: IpAddr) -> bool {
        self.by_host.contains_key(&host)
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

    /// Somebody speaks to the container of `host`.
    pub(super) fn spoken_to(&mut self, host: IpAddr, who: Party, cx: &mut Cx<'_>) {
        if let Some(lease) = self.by_host.get_mut(&host) {
            lease.spoken_to(who, cx);
        }
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

    /// `emulated`, `starting`, `live` or `frozen`.
    pub(super) fn state(&self, host: IpAddr) -> &'static str {
        match self.by_host.get(&host) {
            None => "emulated",
            Some(lease) if lease.rest == Rest::Frozen => "frozen",
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
        let host = self.config.host_of(target.ip());
        if let Some(lease) = self.leases.by_host.get_mut(&host) {
            lease.spoken_to(who, cx);
            return (!lease.releasing).then_some(lease.id);
        }
        let backend = self.backend(target)?;
        // What was started with the system stays as long as the system.
        let secs = |secs: u32| match backend.start {
            StartPolicy::WithSystem => Duration::ZERO,
            StartPolicy::OnAccess => Duration::from_secs(u64::from(secs)),
        };
        let (freeze, idle) = (secs(backend.freeze_secs), secs(backend.idle_secs));
        let mut event = Event::new(EventId::ContainerStart, cx.now);
        event.session = session;
        event.src = who;
        event.dst = Party { ip: host.into(), mac: target.mac, l4_port: 0 };
        if !self.leases.admit(self.config.limits.containers) {
            event.id = EventId::ContainerFailed;
            cx.emit(&mut event, b"as many containers as the topology allows are running");
            return None;
        }
        let id = LeaseId(cx.rng.next_u64());
        let by = who.ip.get().map(|ip| (ip, session));
        cx.requests.push(Request::Lease { node: cx.node, lease: id, host, by });
        cx.emit(&mut event, &[]);
        let lease = Lease {
            id,
            target: *target,
            freeze,
            idle,
            port: None,
            live: None,
            asked: cx.now,
            last: cx.now,
            heard: Instant::ZERO,
            reachable: false,
            answered: false,
            releasing: false,
            rest: Rest::Awake,
            peers: ClockTable::new(PEERS, self.leases.seed),
            begun: ClockTable::new(BEGUN, self.leases.seed),
            gate: Gate::default(),
            session,
            for_whom: who,
        };
        self.leases.by_host.insert(host, lease);
        self.leases.next_reap = self.leases.next_reap.max(cx.now);
        Some(id)
    }

    /// A peer that is not on the link was seen behind its router's MAC. What ARP or
    /// neighbor discovery told is worth more: anybody can write any source.
    pub(super) fn learn_gateway(&mut self, host: IpAddr, peer: IpAddr, mac: Mac) {
        let on_link = self.config.segment.prefixes.iter().any(|net| net.contains(&peer));
        if on_link {
            return;
        }
        if let Some(gateway) = self.config.segment.gateways.iter().find(|gateway| gateway.is_ipv4() == peer.is_ipv4())
            && self.leases.peer_mac(host, *gateway).is_none()
        {
            self.leases.learn_peer(host, *gateway, mac);
        }
    }

    /// The lease and port of the container that stands behind `target`, if it
    /// runs. Whoever answers in the place of the rest of the world has none.
    #[inline]
    pub(super) fn live_lease(&self, target: &Target) -> Option<(LeaseId, PortNo)> {
        if target.template == self.elsewhere {
            return None;
        }
        self.leases.live(self.config.host_of(target.ip()))
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
            Command::LeaseFrozen { lease } => self.lease_frozen(lease, cx),
            Command::LeaseBusy { lease } => {
                let Some((_, lease)) = self.leases.by_id(lease) else { return };
                lease.last = cx.now;
                match lease.rest {
                    // By hand.
                    Rest::Frozen => lease.thawed(Party::default(), cx),
                    Rest::Asked(_) | Rest::Awake => lease.rest = Rest::Awake,
                }
            }
            Command::LeaseGone { lease, why } => {
                self.lease_gone(lease, &why, cx);
                self.drive(cx);
            }
        }
    }

    fn mark_inner(&mut self, lease: LeaseId) {
        // Those that wait for one may have one now.
        let of_lease = |flow: &Flow| matches!(&flow.app, App::Inner(inner) if inner.lease == lease || inner.lease == patience::NONE);
        let marked: Vec<usize> =
            self.flows.slab.iter().filter(|(_, flow)| of_lease(flow)).map(|(index, _)| index).collect();
        self.flows.dirty.extend(marked);
    }

    fn lease_gone(&mut self, id: LeaseId, why: &str, cx: &mut Cx<'_>) {
        let Some(host) = self.leases.by_id(id).map(|(host, _)| *host) else { return };
        let Some(mut lease) = self.leases.remove(host) else { return };
        lease.tell(host, cx);
        if let Some(port) = lease.port {
            self.leases.by_port.remove(&port);
        }
        self.mark_inner(id);
        for index in self.flows.dirty.clone() {
            if let Some(flow) = self.flows.slab.get_mut(index).filter(|flow| {
                // What it has not answered yet may have another, unless there is none to be had.
                let ends = |begun: bool| begun || lease.live.is_none();
                matches!(&flow.app, App::Inner(inner) if inner.lease == id && ends(inner.established))
            }) {
                flow.abort(cx.now);
            }
        }
        // One that belongs to the system is started again, but not in a loop.
        let belongs = |b: &Backend| b.start == StartPolicy::WithSystem;
        if !lease.releasing && self.backend(&lease.target).is_some_and(belongs) {
            self.start_at.get_or_insert(cx.now + RESTART);
        }
        let never_came = lease.live.is_none() && !lease.releasing;
        let mut event = Event::new(if never_came { EventId::ContainerFailed } else { EventId::ContainerStop }, cx.now);
        event.session = lease.session;
        event.src = lease.for_whom;
        event.dst = Party { ip: host.into(), mac: lease.target.mac, l4_port: 0 };
        event.count = (cx.now - lease.asked).total_micros();
        cx.emit(&mut event, why.as_bytes());
    }

    /// Ends leases that nobody needs any more.
    pub(super) fn reap_leases(&mut self, cx: &mut Cx<'_>) {
        if self.leases.by_host.is_empty() || cx.now < self.leases.next_reap {
            return;
        }
        self.leases.next_reap = cx.now + REAP;
        for (host, lease) in &mut self.leases.by_host {
            lease.tell(*host, cx);
            let is_over = |after: Duration| after > Duration::ZERO && cx.now - lease.last > after;
            let (idle, tired) = (is_over(lease.idle), is_over(lease.freeze));
            if lease.releasing || !(idle || tired) || self.flows.has_lease(lease.id) {
                continue;
            }
            if idle {
                lease.releasing = true;
                cx.requests.push(Request::Release { lease: lease.id, keep: true });
            } else if lease.rest == Rest::Awake && lease.live.is_some() {
                lease.rest = Rest::Asked(cx.now);
                cx.requests.push(Request::Freeze { lease: lease.id });
            }
        }
    }

    fn lease_frozen(&mut self, id: LeaseId, cx: &mut Cx<'_>) {
        let Some((host, lease)) = self.leases.by_id(id) else { return };
        // It may be that nobody asked, and somebody at the machine has frozen it.
        let asked = match lease.rest {
            Rest::Asked(asked) => Some(asked),
            Rest::Awake => None,
            Rest::Frozen => return,
        };
        let mut event = Event::new(EventId::ContainerFrozen, cx.now);
        event.session = lease.session;
        event.dst = Party { ip: (*host).into(), mac: lease.target.mac, l4_port: 0 };
        cx.emit(&mut event, &[]);
        lease.rest = Rest::Frozen;
        if asked.is_some_and(|asked| lease.last >= asked) {
            // Somebody has spoken to it while it was being frozen.
            lease.spoken_to(lease.for_whom, cx);
        }
    }

    /// Hands a packet from the network to the host's container, if it lives.
    pub(super) fn to_container(&mut self, mut frame: Frame, packet: &Packet, target: &Target, cx: &mut Cx<'_>) {
        let host = self.config.host_of(target.ip());
        let Some((_, port)) = self.live_lease(target) else {
            return cx.discard(frame, DropReason::NoFlow);
        };
        if let Some(lease) = self.leases.by_host.get_mut(&host) {
            lease.spoken_to(Party { ip: packet.src().into(), ..Party::default() }, cx);
            lease.peers.insert(packet.src(), src_mac(frame.bytes()));
            if packet.proto == proto::UDP {
                // What it answers to this is no flow of its own.
                let key = outward_key(packet, frame.bytes(), true);
                let mut allowance = lease.begun.get(&key).copied().unwrap_or_default();
                allowance.asked(packet.end - ETH);
                lease.begun.insert(key, allowance);
            }
        }
        self.learn_gateway(host, packet.src(), src_mac(frame.bytes()));
        self.rewrite_back(&mut frame, packet);
        cx.send(port, frame);
    }

    /// Whether a segment from the network belongs to what the container began.
    pub(super) fn is_outward(&mut self, proto: u8, flow: &FlowKey) -> bool {
        if self.leases.by_host.is_empty() {
            return false;
        }
        let lease = self.leases.by_host.get_mut(&self.config.host_of(flow.local));
        lease
            .and_then(|lease| lease.begun.get(&OutwardKey { proto, flow: *flow }))
            .is_some_and(|entry| entry.is_begun())
    }

    /// Asks for the containers that belong to the system.
    pub(super) fn start_with_system(&mut self, cx: &mut Cx<'_>) {
        let starts = |t: &Template| t.backend.as_ref().is_some_and(|b| b.start == StartPolicy::WithSystem);
        if !self.config.templates.iter().any(starts) {
            return;
        }
        let most = self.config.limits.containers;
        let addresses: Vec<IpAddr> = self.config.ranges.iter().flat_map(addresses_of).take(65_536).collect();
        for ip in addresses {
            let Some(target) = self.target(word_of(ip)).filter(|_| !self.leases.is_full(most)) else { continue };
            if self.other_owner(target.word, cx).is_some() {
                continue;
            }
            if starts(self.template(target.template)) && !self.leases.has(self.config.host_of(ip)) {
                self.begin_lease(&target, Party::default(), SessionId(0), cx);
            }
        }
    }
}

fn addresses_of(range: &AddrRange) -> Box<dyn Iterator<Item = IpAddr>> {
    match (range.first, range.last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Box::new((u32::from(a)..=u32::from(b)).map(|ip| IpAddr::V4(ip.into()))),
        (IpAddr::V6(a), IpAddr::V6(b)) => Box::new((u128::from(a)..=u128::from(b)).map(|ip| IpAddr::V6(ip.into()))),
        _ => Box::new(std::iter::empty()),
    }
}
