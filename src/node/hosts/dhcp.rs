//! Hosts that lease their addresses from the segment's DHCP server.
//!
//! Each of them is a client of its own (`emulate::dhcp`); one replica of the node, the first, has all of these, tells the
//! others who has which address, and is told by them what they hear: a server's words, and ARP of somebody who uses such an
//! address. Frames for a leased address are met like any other host's, by the replica that keeps it.
//!
//! No pool runs dry by it. A host begins to look for an address only if those that have one or are about to, and the
//! addresses that were declined within a day (a server puts such aside), are fewer than the limit.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use super::super::{Cx, DhcpConfig, HostsConfig, Shard};
use super::say::{ask, emit};
use super::tcp::Budget;
use super::tenants::{Hold, LESSON, Lesson, Tenant, Tenants, home_of};
use super::{Hosts, Target, is_single};
use crate::emulate::Identity;
use crate::emulate::dhcp::{
    Act, CLIENT_PORT, Lease, Loss, Machine, Message, Pace, RawId, Refusal, Reply, SERVER_PORT, Speaker, State,
};
use crate::event::{DropReason, Event, EventId, Party};
use crate::frame::Frame;
use crate::wire::{Arp, Duration, Headers, Instant, Mac, Packet, be16, be32, dst_mac, proto, src_mac, word_of};

/// Hosts that begin at once, and in a second.
const BURST: u32 = 10;
const RATE: u32 = 5;
/// When a host looks again whether it may begin.
const AGAIN: Duration = Duration::from_millis(200);
const FULL: Duration = Duration::from_secs(60);
/// RFC 2131 §4.4.1: from one to ten seconds after a host was switched on.
const BEGIN_MS: (u64, u64) = (1000, 9000);
/// How long a server puts an address aside that was declined; as long as ISC's does.
const ASIDE: Duration = Duration::from_secs(86_400);
/// How often other replicas are told what they should know: one that was made anew does not.
const REMIND: Duration = Duration::from_secs(10);
/// One `dhcp.refused` of a host in so long.
const QUIET: Duration = Duration::from_secs(60);

/// One host's client.
struct Client {
    machine: Machine,
    /// Where its server's words come from: the server, or the relay before it.
    server: Mac,
    /// When it was told last that it was refused something.
    told: Option<Instant>,
}

/// What a node knows of leases.
pub(super) struct Dhcp {
    pub tenants: Tenants,
    /// In the replica that leases, one for each tenant; elsewhere none.
    clients: Vec<Client>,
    limit: usize,
    /// The servers that are believed; all of them, if there are none.
    servers: Vec<Ipv4Addr>,
    /// The machine's own addresses.
    machine: Vec<IpAddr>,
    /// When addresses were declined, within a day.
    declined: VecDeque<Instant>,
    budget: Budget,
    pub shard: Shard,
    /// When one of the clients, or the reminder, is due.
    next: Instant,
    /// When other replicas are reminded.
    remind: Option<Instant>,
    /// Memory for a message.
    scratch: Vec<u8>,
    begun: bool,
}

impl Dhcp {
    pub(super) fn new(dhcp: &DhcpConfig, config: &HostsConfig, identity: &Identity) -> Dhcp {
        Dhcp {
            tenants: Tenants::new(config, identity, dhcp.hosts),
            clients: Vec::new(),
            limit: usize::from(dhcp.limit),
            servers: dhcp.servers.clone(),
            machine: dhcp.machine.clone(),
            declined: VecDeque::new(),
            budget: Budget::new(BURST, RATE),
            shard: Shard::ALONE,
            next: Instant::ZERO,
            remind: None,
            scratch: Vec::new(),
            begun: false,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        // In a replica that does not lease nothing is ever due.
        (!self.begun || !self.clients.is_empty()).then_some(self.next)
    }

    fn look_ahead(&mut self) {
        let deadlines = self.clients.iter().map(|client| client.machine.deadline());
        self.next = deadlines.chain(self.remind).min().unwrap_or(Instant::ZERO);
    }

    /// Addresses of hosts that this replica keeps, and since when they have them.
    pub(super) fn kept_here(&self) -> impl Iterator<Item = (IpAddr, Instant)> {
        let leased = self.tenants.all.iter().filter_map(|tenant| Some((IpAddr::V4(tenant.place()?.ip), tenant.since)));
        leased.filter(|(ip, _)| self.shard.owner_of(word_of(*ip)) == self.shard.index)
    }

    /// Hosts without an address, if this replica leases for them, and what they are about.
    pub(super) fn seekers(&self) -> impl Iterator<Item = (&Tenant, &'static str)> {
        let all = self.tenants.all.iter().zip(&self.clients);
        all.filter(|(tenant, _)| tenant.place().is_none()).map(|(tenant, client)| {
            let state = match client.machine.state() {
                State::Init => "waiting",
                State::Testing => "testing",
                _ => "seeking",
            };
            (tenant, state)
        })
    }

    /// Whether one more host may look for an address.
    fn has_room(&mut self, now: Instant) -> bool {
        while self.declined.front().is_some_and(|at| now - *at > ASIDE) {
            self.declined.pop_front();
        }
        let busy = self.clients.iter().filter(|client| client.machine.state() != State::Init).count();
        busy + self.declined.len() < self.limit
    }
}

impl Hosts {
    /// Has those clients act whose time has come.
    pub(super) fn tend_leases(&mut self, cx: &mut Cx<'_>) {
        self.begin_leasing(cx);
        let Some(dhcp) = self.dhcp.as_ref().filter(|dhcp| dhcp.next <= cx.now) else { return };
        let due = dhcp.clients.iter().zip(0..).filter(|(client, _)| client.machine.deadline() <= cx.now);
        let due: Vec<u16> = due.map(|(_, number)| number).collect();
        for number in due {
            while let Some(act) = self.next_act(number, cx) {
                self.act(number, act, cx);
            }
        }
        self.remind(cx);
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.look_ahead();
        }
    }

    fn next_act(&mut self, number: u16, cx: &mut Cx<'_>) -> Option<Act> {
        let dhcp = self.dhcp.as_mut()?;
        let machine = &dhcp.clients.get(usize::from(number))?.machine;
        if machine.deadline() > cx.now {
            return None;
        }
        let wait = match machine.state() {
            State::Init if !dhcp.has_room(cx.now) => Some(FULL),
            State::Init if !dhcp.budget.take(cx.now) => Some(AGAIN),
            _ => None,
        };
        let machine = &mut dhcp.clients.get_mut(usize::from(number))?.machine;
        match wait {
            Some(wait) => {
                machine.postpone(cx.now + wait);
                None
            }
            None => machine.due(cx.now, cx.rng.next_u64()),
        }
    }

    /// Gives each host its client, in the replica that leases, once the time is known.
    fn begin_leasing(&mut self, cx: &mut Cx<'_>) {
        let Hosts { dhcp: Some(dhcp), config, .. } = self else { return };
        if std::mem::replace(&mut dhcp.begun, true) {
            return;
        }
        dhcp.shard = cx.shard;
        if cx.shard.index != 0 {
            return;
        }
        for tenant in &dhcp.tenants.all {
            let talk = config.templates.get(usize::from(tenant.template)).map(|t| t.personality.get().talk);
            let Some(talk) = talk else { continue };
            // Some systems do not test at all; a decoy always does.
            let pace = Pace {
                probes: talk.arp_probes.max(1),
                announcements: talk.arp_announcements.max(1),
                gap: Duration::from_millis(u64::from(talk.arp_gap_ms)),
            };
            let begin = cx.now + Duration::from_millis(BEGIN_MS.0 + cx.rng.next_u64() % BEGIN_MS.1);
            dhcp.clients.push(Client { machine: Machine::new(tenant.mac, pace, begin), server: Mac::ZERO, told: None });
        }
        // Replicas may know of leases from before this one was made anew.
        dhcp.remind = (!cx.shard.is_alone()).then_some(cx.now);
    }

    fn remind(&mut self, cx: &mut Cx<'_>) {
        let Some(dhcp) = &mut self.dhcp else { return };
        if dhcp.remind.is_none_or(|at| at > cx.now) {
            return;
        }
        dhcp.remind = Some(cx.now + REMIND);
        for (tenant, number) in dhcp.tenants.all.iter().zip(0..) {
            cx.teach(LESSON, &Lesson::Holds(number, tenant.hold).write());
        }
    }

    /// Does one thing for a host.
    fn act(&mut self, number: u16, act: Act, cx: &mut Cx<'_>) {
        let Some(tenant) = self.dhcp.as_ref().and_then(|dhcp| dhcp.tenants.all.get(usize::from(number))) else {
            return;
        };
        let mac = tenant.mac;
        match act {
            Act::Say(message) => self.tell_server(number, &message, cx),
            Act::Probe(ip) => {
                // A server may have given two of us the same, before either was known to have it.
                let tenants = self.dhcp.as_ref().map(|dhcp| &dhcp.tenants);
                let other = tenants.and_then(|tenants| Some((tenants, tenants.of_ip(ip)?)));
                if let Some((tenants, (other, _))) = other.filter(|(_, (other, _))| *other != number) {
                    let mac = tenants.all.get(usize::from(other)).map_or(Mac::ZERO, |tenant| tenant.mac);
                    return self.rival(number, mac, cx);
                }
                self.holds_now(number, Hold::Tests(ip), cx);
                ask(Mac::BROADCAST, mac, Ipv4Addr::UNSPECIFIED, ip, cx);
            }
            Act::Announce(ip) => ask(Mac::BROADCAST, mac, ip, ip, cx),
            Act::Take(lease) => {
                self.holds_now(number, Hold::Has((&lease).into()), cx);
                let mut event = self.lease_event(EventId::DhcpLeased, number, lease.ip, cx.now);
                event.src = self.server_of(number, Some(&lease));
                event.count = u64::from(lease.secs);
                cx.emit(&mut event, &[]);
            }
            Act::LetGo(ip, why) => {
                let mut event = self.lease_event(EventId::DhcpLost, number, ip, cx.now);
                event.code = why as u16;
                event.src = match self.client(number) {
                    Some(client) if why == Loss::Conflict => {
                        Party { ip: IpAddr::V4(ip).into(), mac: client.machine.rival(), l4_port: 0 }
                    }
                    Some(client) => self.server_of(number, client.machine.lease()),
                    None => Party::default(),
                };
                cx.emit(&mut event, &[]);
                self.holds_now(number, Hold::Nothing, cx);
            }
            Act::Decline(message, rival) => {
                let ip = message.requested.unwrap_or(Ipv4Addr::UNSPECIFIED);
                let mut event = self.lease_event(EventId::DhcpDeclined, number, ip, cx.now);
                event.src = Party { ip: IpAddr::V4(ip).into(), mac: rival, l4_port: 0 };
                cx.emit(&mut event, &[]);
                self.holds_now(number, Hold::Nothing, cx);
                if let Some(dhcp) = &mut self.dhcp {
                    dhcp.declined.push_back(cx.now);
                }
                self.tell_server(number, &message, cx);
            }
        }
    }

    fn client(&self, number: u16) -> Option<&Client> {
        self.dhcp.as_ref()?.clients.get(usize::from(number))
    }

    fn server_of(&self, number: u16, lease: Option<&Lease>) -> Party {
        let mac = self.client(number).map_or(Mac::ZERO, |client| client.server);
        Party { ip: lease.map(|lease| IpAddr::V4(lease.server)).into(), mac, l4_port: 0 }
    }

    fn lease_event(&self, id: EventId, number: u16, ip: Ipv4Addr, now: Instant) -> Event {
        let mac = self.dhcp.as_ref().and_then(|dhcp| dhcp.tenants.all.get(usize::from(number)));
        let mut event = Event::new(id, now);
        event.dst = Party { ip: IpAddr::V4(ip).into(), mac: mac.map_or(Mac::ZERO, |tenant| tenant.mac), l4_port: 0 };
        event
    }

    /// Gives a host what it has from now on, here and in other replicas.
    fn holds_now(&mut self, number: u16, hold: Hold, cx: &mut Cx<'_>) {
        self.learn_hold(number, hold, cx);
        cx.teach(LESSON, &Lesson::Holds(number, hold).write());
    }

    fn learn_hold(&mut self, number: u16, hold: Hold, cx: &mut Cx<'_>) {
        let Some(dhcp) = &mut self.dhcp else { return };
        let Some(before) = dhcp.tenants.set(number, hold, cx.now) else { return };
        self.ids.set_homes(dhcp.tenants.homes());
        let after = if let Hold::Has(place) = hold { Some(place) } else { None };
        if before == after {
            return;
        }
        if let Some(place) = before {
            self.forget_host(IpAddr::V4(place.ip), cx);
        }
        self.talk_at(number, after, cx);
    }

    /// Sends what a host says to servers.
    fn tell_server(&mut self, number: u16, message: &Message, cx: &mut Cx<'_>) {
        let Hosts { dhcp: Some(dhcp), config, ids, .. } = self else { return };
        let (Some(tenant), Some(client)) =
            (dhcp.tenants.all.get(usize::from(number)), dhcp.clients.get(usize::from(number)))
        else {
            return;
        };
        let Some(template) = config.templates.get(usize::from(tenant.template)) else { return };
        let personality = template.personality.get();
        let habits = personality.talk.dhcp.habits();
        message.write(&Speaker { habits, mac: tenant.mac, name: &tenant.name }, &mut dhcp.scratch);
        // With an address the system sends it like anything else.
        let raw = message.ciaddr.is_none();
        let server = client.machine.lease().map(|lease| lease.server).filter(|_| message.to_server);
        let ip_id = match habits.raw_id {
            RawId::Zero if raw => 0,
            _ => ids.next(personality.ip_id, home_of(number), Some(cx.rng.next_u32() as u16), cx),
        };
        let headers = Headers {
            dst_mac: if server.is_some() { client.server } else { Mac::BROADCAST },
            src_mac: tenant.mac,
            src: message.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED).into(),
            dst: server.unwrap_or(Ipv4Addr::BROADCAST).into(),
            proto: proto::UDP,
            ttl: habits.ttl.filter(|_| raw).unwrap_or(personality.ttl),
            tos: if raw { habits.tos } else { 0 },
            ip_id,
            df: raw && habits.df,
        };
        let payload = &dhcp.scratch;
        emit(cx, |space| headers.write_udp((CLIENT_PORT, SERVER_PORT), payload, space));
    }

    /// Whether a packet is what a DHCP server says to a client.
    #[inline]
    pub(super) fn is_dhcp_reply(&self, frame: &Frame, packet: &Packet) -> bool {
        const PORTS: u32 = (SERVER_PORT as u32) << 16 | CLIENT_PORT as u32;
        let l4 = packet.payload(frame.bytes());
        packet.proto == proto::UDP && packet.is_v4() && !packet.fragment && l4.len() >= 8 && be32(l4, 0) == PORTS
    }

    /// Takes in what a server says.
    pub(super) fn dhcp_reply(&mut self, frame: Frame, packet: &Packet, cx: &mut Cx<'_>) {
        if cx.shard.index != 0 {
            return cx.hand_over(0, frame);
        }
        let l4 = packet.payload(frame.bytes());
        let Some(payload) = l4.get(8..usize::from(be16(l4, 4))) else {
            return cx.discard(frame, DropReason::Malformed);
        };
        let Hosts { dhcp: Some(dhcp), config, .. } = self else { return cx.discard(frame, DropReason::NoHost) };
        let found = Reply::addressee(payload).and_then(|(mac, xid)| Some((dhcp.tenants.of_mac(mac)?, mac, xid)));
        let Some((number, mac, xid)) = found else { return cx.discard(frame, DropReason::NoHost) };
        let dst = dst_mac(frame.bytes());
        if dst != mac && dst != Mac::BROADCAST {
            return cx.discard(frame, DropReason::NotForUs);
        }
        let server = src_mac(frame.bytes());
        if !is_single(packet.src_word) || dhcp.tenants.of_mac(server).is_some() {
            return cx.discard(frame, DropReason::BadSource);
        }
        if !frame.meta.csum_ok && !packet.checksum_ok(frame.bytes()) {
            return cx.discard(frame, DropReason::BadChecksum);
        }
        let Dhcp { tenants, clients, servers, machine: own, next, .. } = &mut **dhcp;
        let Some(client) = clients.get_mut(usize::from(number)).filter(|client| client.machine.expects(xid)) else {
            return cx.discard(frame, DropReason::NoHost);
        };
        let forbids = |lease: &Lease| {
            let ip = IpAddr::V4(lease.ip);
            let another = tenants.of_ip(lease.ip).is_some_and(|(other, _)| other != number);
            if !(servers.is_empty() || servers.contains(&lease.server)) {
                Some(Refusal::Server)
            } else if config.segment.gateways.contains(&ip) {
                Some(Refusal::Gateway)
            } else if another || own.contains(&ip) || config.number_of_word(word_of(ip)).is_some() {
                Some(Refusal::Ours)
            } else {
                None
            }
        };
        let roll = cx.rng.next_u64();
        let heard = Reply::parse(payload).and_then(|reply| client.machine.hear(&reply, cx.now, roll, forbids));
        *next = cx.now;
        match heard {
            Ok(act) => {
                if client.machine.lease().is_some() {
                    client.server = server;
                }
                if let Some(act) = act {
                    self.act(number, act, cx);
                }
                cx.consume(frame);
            }
            Err(refusal) => {
                if client.told.is_none_or(|at| cx.now - at >= QUIET) {
                    client.told = Some(cx.now);
                    let offered = payload.get(16..20).map_or(0, |ip| be32(ip, 0));
                    let mut event = self.lease_event(EventId::DhcpRefused, number, Ipv4Addr::from(offered), cx.now);
                    event.code = refusal as u16;
                    event.src = Party { ip: packet.src().into(), mac: server, l4_port: 0 };
                    cx.emit(&mut event, &[]);
                }
                cx.discard(frame, DropReason::Refused);
            }
        }
    }

    /// Whoever speaks with an address that is leased or tested, or tests one that is being tested, uses it
    /// (RFC 5227 §2.1.1, §2.4).
    pub(super) fn hear_rival(&mut self, arp: &Arp, cx: &mut Cx<'_>) {
        let Some(dhcp) = &self.dhcp else { return };
        let tenants = &dhcp.tenants;
        let ip = match arp.sender.is_unspecified() {
            true if arp.operation == Arp::REQUEST => arp.target,
            _ => arp.sender,
        };
        let Some((number, tenant)) = tenants.of_ip(ip) else { return };
        let tests = tenant.place().is_none();
        let mac = arp.sender_mac;
        if (arp.sender.is_unspecified() && !tests) || mac.is_group() || tenants.of_mac(mac).is_some() {
            return;
        }
        if cx.shard.index == 0 {
            return self.rival(number, mac, cx);
        }
        if let Some(mut lesson) = cx.pool.copy_of(&Lesson::Rival(ip, mac).write()) {
            lesson.meta.port = LESSON;
            cx.hand_over(0, lesson);
        }
    }

    fn rival(&mut self, number: u16, mac: Mac, cx: &mut Cx<'_>) {
        let Some(dhcp) = &mut self.dhcp else { return };
        dhcp.next = cx.now;
        let client = dhcp.clients.get_mut(usize::from(number));
        if let Some(act) = client.and_then(|client| client.machine.conflict(mac, cx.now)) {
            self.act(number, act, cx);
        }
    }

    /// Takes in what another replica says of leases.
    pub(super) fn taught_lease(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        let lesson = Lesson::read(frame.bytes());
        cx.consume(frame);
        match lesson {
            Some(Lesson::Holds(number, hold)) if cx.shard.index != 0 => self.learn_hold(number, hold, cx),
            Some(Lesson::Rival(ip, mac)) => {
                let found = self.dhcp.as_ref().and_then(|dhcp| dhcp.tenants.of_ip(ip));
                if let Some((number, _)) = found {
                    self.rival(number, mac, cx);
                }
            }
            _ => {}
        }
    }

    /// The host that has an address, which is none of those that the topology lists.
    #[inline(never)]
    pub(super) fn unlisted_target(&self, word: u128) -> Option<Target> {
        let leased = self.dhcp.as_ref().and_then(|dhcp| dhcp.tenants.target(word));
        leased.or_else(|| self.link_local_target(word))
    }
}
