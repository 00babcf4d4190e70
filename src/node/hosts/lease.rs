//! Containers behind hosts: when one is asked for, what passes between it and an
//! attacker, and what it may do by itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::super::{AddrRange, Command, Cx, HostsConfig, LeaseId, Request};
use super::flow::{App, Flow};
use super::gate::Gate;
use super::grant::{Admission, Refusal, Whose};
use super::outward::{Allowance, OutwardKey, outward_key};
use super::{Hosts, Target, patience};
use crate::emulate::{Backend, ClockTable, Outward, StartPolicy, Template};
use crate::event::{DropReason, Event, EventId, Party, SessionId};
use crate::frame::{Frame, PortNo};
use crate::wire::{Duration, ETH, Instant, Mac, Packet, proto, src_mac, word_of};

/// Flows that a container may have begun and that are remembered.
const BEGUN: usize = 8192;
/// Peers whose MAC a lease remembers.
const PEERS: usize = 4096;
/// How long after its end a container that belongs to the system is started again.
const RESTART: Duration = Duration::from_secs(5);

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
    /// Who is held to account for it; nobody if it belongs to the system.
    pub source: Option<IpAddr>,
    /// Whether its host has one for each attacker.
    pub is_one_of_several: bool,
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

/// The leases of a node, by whose they are.
pub(super) struct Leases {
    pub by_host: HashMap<Whose, Lease, foldhash::fast::FixedState>,
    pub by_port: HashMap<PortNo, Whose>,
    seed: u64,
    next_reap: Instant,
    /// Leases of all replicas of the node: its limits are theirs together.
    pub admission: Arc<Admission>,
}

/// A replica that panicked leaves its containers to those who end them.
impl Drop for Leases {
    fn drop(&mut self) {
        self.by_host.values().for_each(|lease| self.admission.leave(lease.source));
    }
}

/// What a host is at present; of several containers the one counts that is most alive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum State {
    #[default]
    Emulated,
    Starting,
    Frozen,
    Live,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            State::Emulated => "emulated",
            State::Starting => "starting",
            State::Frozen => "frozen",
            State::Live => "live",
        }
    }
}

impl Lease {
    fn state(&self) -> State {
        match self.live {
            _ if self.rest == Rest::Frozen => State::Frozen,
            Some(_) => State::Live,
            None => State::Starting,
        }
    }

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
    pub(super) fn new(seed: u64, admission: Arc<Admission>) -> Leases {
        let by_host = HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed));
        Leases { by_host, by_port: HashMap::new(), seed, next_reap: Instant::ZERO, admission }
    }

    fn remove(&mut self, whose: Whose) -> Option<Lease> {
        let lease = self.by_host.remove(&whose)?;
        self.admission.leave(lease.source);
        Some(lease)
    }

    pub(super) fn has(&self, whose: Whose) -> bool {
        self.by_host.contains_key(&whose)
    }

    /// The port of a container that runs.
    #[inline]
    pub(super) fn live(&self, whose: Whose) -> Option<PortNo> {
        let lease = self.by_host.get(&whose).filter(|lease| lease.live.is_some() && !lease.releasing)?;
        lease.port
    }

    /// Somebody speaks to a container.
    pub(super) fn spoken_to(&mut self, whose: Whose, who: Party, cx: &mut Cx<'_>) {
        if let Some(lease) = self.by_host.get_mut(&whose) {
            lease.spoken_to(who, cx);
        }
    }

    pub(super) fn port_of(&self, whose: Whose) -> Option<PortNo> {
        self.by_host.get(&whose)?.port
    }

    pub(super) fn mac_of(&self, whose: Whose) -> Option<Mac> {
        Some(self.by_host.get(&whose)?.target.mac)
    }

    /// The hosts of the containers; those that have several come several times.
    pub(super) fn hosts(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.by_host.keys().map(|whose| whose.host)
    }

    pub(super) fn learn_peer(&mut self, whose: impl Into<Whose>, peer: IpAddr, mac: Mac) {
        if let Some(lease) = self.by_host.get_mut(&whose.into()) {
            lease.peers.insert(peer, mac);
        }
    }

    pub(super) fn peer_mac(&self, whose: impl Into<Whose>, peer: IpAddr) -> Option<Mac> {
        self.by_host.get(&whose.into())?.peers.peek(&peer).copied()
    }

    /// What becomes of the containers of each host, and whom they were granted to where there are several.
    pub(super) fn states(&self) -> HashMap<IpAddr, (State, Vec<IpAddr>)> {
        let mut states: HashMap<IpAddr, (State, Vec<IpAddr>)> = HashMap::new();
        for (whose, lease) in &self.by_host {
            let (state, attackers) = states.entry(whose.host).or_default();
            *state = lease.state().max(*state);
            attackers.extend(whose.attacker);
        }
        states
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (!self.by_host.is_empty()).then_some(self.next_reap)
    }

    fn by_id(&mut self, id: LeaseId) -> Option<(&Whose, &mut Lease)> {
        self.by_host.iter_mut().find(|(_, lease)| lease.id == id)
    }
}

impl Hosts {
    /// The lease of a container; asks for one if there is none, for `who`, whose frames come by `port`. `None` if
    /// the host cannot have one, or there are too many already.
    pub(super) fn begin_lease(
        &mut self,
        target: &Target,
        whose: Whose,
        (who, port): (Party, PortNo),
        session: SessionId,
        cx: &mut Cx<'_>,
    ) -> Option<LeaseId> {
        let Whose { host, attacker } = whose;
        if let Some(lease) = self.leases.by_host.get_mut(&whose) {
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
        let by: Option<IpAddr> = who.ip.into();
        let source = by.and_then(|by| self.source_of(by, port));
        match self.leases.admission.admit(source, &self.config.limits) {
            Ok(()) => {}
            Err(Refusal::Full) => {
                event.id = EventId::ContainerFailed;
                cx.emit(&mut event, b"as many containers as the topology allows are running");
                return None;
            }
            Err(Refusal::Source(source, has)) => {
                self.tell_held((source, has), event, cx);
                return None;
            }
        }
        let id = LeaseId(cx.rng.next_u64());
        let by = who.ip.get().map(|ip| (ip, session));
        cx.requests.push(Request::Lease { node: cx.node, lease: id, host, by, attacker });
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
            source,
            is_one_of_several: self.grants_each(target.template),
        };
        self.leases.by_host.insert(whose, lease);
        self.leases.next_reap = self.leases.next_reap.max(cx.now);
        Some(id)
    }

    /// A peer that is not on the link was seen behind its router's MAC. What ARP or
    /// neighbor discovery told is worth more: anybody can write any source.
    pub(super) fn learn_gateway(&mut self, whose: Whose, peer: IpAddr, mac: Mac) {
        let on_link = self.config.segment.prefixes.iter().any(|net| net.contains(&peer));
        if on_link {
            return;
        }
        if let Some(gateway) = self.config.segment.gateways.iter().find(|gateway| gateway.is_ipv4() == peer.is_ipv4())
            && self.leases.peer_mac(whose, *gateway).is_none()
        {
            self.leases.learn_peer(whose, *gateway, mac);
        }
    }

    /// Whose container `src`, whose frames come by `port`, meets behind `target`, and its port, if it runs. Whoever
    /// answers in the place of the rest of the world has none.
    #[inline]
    pub(super) fn live_lease(&self, target: &Target, src: IpAddr, port: PortNo) -> Option<(Whose, PortNo)> {
        if target.template == self.elsewhere || self.leases.by_host.is_empty() {
            return None;
        }
        let whose = self.whose(target, src, port);
        self.leases.live(whose).map(|port| (whose, port))
    }

    pub(super) fn outward_of(&self, whose: Whose) -> Outward {
        let template = self.leases.by_host.get(&whose).map_or(self.elsewhere, |lease| lease.target.template);
        self.template(template).outward
    }

    pub(super) fn obey(&mut self, command: Command, cx: &mut Cx<'_>) {
        match command {
            Command::LeaseTap { lease, port } => {
                if let Some((whose, lease)) = self.leases.by_id(lease) {
                    lease.port = Some(port);
                    let whose = *whose;
                    self.leases.by_port.insert(port, whose);
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
        let Some(whose) = self.leases.by_id(id).map(|(whose, _)| *whose) else { return };
        let Some(mut lease) = self.leases.remove(whose) else { return };
        let host = whose.host;
        lease.tell(host, cx);
        if let Some(port) = lease.port {
            self.leases.by_port.remove(&port);
        }
        self.mark_inner(id);
        for index in self.flows.dirty.clone() {
            let Some(flow) = self.flows.slab.get_mut(index) else { continue };
            match &mut flow.app {
                App::Inner(inner) if inner.lease != id => {}
                App::Inner(inner) if inner.established => flow.fail(cx.now),
                // What it has not answered yet may have another; one that did not start is not asked for again at once.
                App::Inner(inner) if lease.live.is_none() => inner.retry_at = cx.now + patience::after(inner.given),
                _ => {}
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
        self.leases.next_reap = crate::node::next_second(cx.now);
        for (whose, lease) in &mut self.leases.by_host {
            lease.tell(whose.host, cx);
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
        let Some((whose, lease)) = self.leases.by_id(id) else { return };
        // It may be that nobody asked, and somebody at the machine has frozen it.
        let asked = match lease.rest {
            Rest::Asked(asked) => Some(asked),
            Rest::Awake => None,
            Rest::Frozen => return,
        };
        let mut event = Event::new(EventId::ContainerFrozen, cx.now);
        event.session = lease.session;
        event.src.ip = whose.attacker.into();
        event.dst = Party { ip: whose.host.into(), mac: lease.target.mac, l4_port: 0 };
        cx.emit(&mut event, &[]);
        lease.rest = Rest::Frozen;
        if asked.is_some_and(|asked| lease.last >= asked) {
            // Somebody has spoken to it while it was being frozen.
            lease.spoken_to(lease.for_whom, cx);
        }
    }

    /// Hands a packet from the network to a container behind `target`, if it lives.
    pub(super) fn to_container(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        target: &Target,
        whose: Whose,
        cx: &mut Cx<'_>,
    ) {
        let Some(port) = self.leases.live(whose).filter(|_| target.template != self.elsewhere) else {
            return cx.discard(frame, DropReason::NoFlow);
        };
        if let Some(lease) = self.leases.by_host.get_mut(&whose) {
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
        self.learn_gateway(whose, packet.src(), src_mac(frame.bytes()));
        self.rewrite_back(&mut frame, packet, false);
        cx.send(port, frame);
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
            let Some(target) = self.target(word_of(ip)).filter(|_| !self.leases.admission.is_full(most)) else {
                continue;
            };
            if self.other_owner(target.word, cx).is_some() {
                continue;
            }
            let whose = Whose::from(self.config.host_of(ip));
            if starts(self.template(target.template)) && !self.leases.has(whose) {
                self.begin_lease(&target, whose, (Party::default(), HostsConfig::LAN), SessionId(0), cx);
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
