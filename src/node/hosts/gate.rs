//! The gate of a container: what it may not say to anybody, how much it may send by itself, and what is told of it.
//!
//! A container is an intruder's. It speaks with its own MAC and addresses or not at all (dynamic ARP inspection and IP
//! source guard, as switches call it); it is no router, no DHCP server and nobody's client of one (DHCP snooping, RA
//! guard, RFC 6105); it asks no groups and takes part in no routing. What it floods is its own loss: rates, the memory of
//! what it began and the events about it are each container's own.

use std::net::IpAddr;

use super::super::Cx;
use super::grant::Whose;
use super::lease::Lease;
use super::outward::is_error_about;
use super::{Hosts, Pair, event_of, is_single};
use crate::emulate::{FlowLimit, GateLimits, Outward};
use crate::event::{Blocked, DropReason, Event, EventId, Party};
use crate::frame::Frame;
use crate::wire::{Duration, Instant, Packet, TcpHeader, be16, dst_mac, flag, icmp6, proto};

/// Frames a second that a container may send by itself: a scanner at full speed finds the loss of a slow host.
const FRAMES: u64 = 20_000;
/// What may come at once after a pause, of frames and of octets.
const SAVED: Duration = Duration::from_millis(100);
/// Flows of a container that are told one by one, at once and each second; all others of a second are told together.
const TOLD: (u64, u64) = (64, 8);
const SECOND: u64 = 1_000_000_000;

/// What was taken of something that comes at a rate: the time in nanoseconds at which all of it has come (the virtual
/// scheduling algorithm of ITU-T I.371 annex A).
#[derive(Clone, Copy, Default)]
struct Meter(u64);

impl Meter {
    /// Takes what takes `cost` nanoseconds to come, if what was taken before and not come yet leaves room below `depth`.
    fn take(&mut self, cost: u64, depth: u64, now: Instant) -> bool {
        let now = (now.total_micros().max(0) as u64).saturating_mul(1000);
        let next = self.0.max(now).saturating_add(cost);
        let is_in_time = next <= now.saturating_add(depth);
        if is_in_time {
            self.0 = next;
        }
        is_in_time
    }

    /// Takes one of so many a period.
    fn take_flow(&mut self, limit: FlowLimit, now: Instant) -> bool {
        let period = u64::from(limit.period_secs.max(1)) * SECOND;
        match period.checked_div(u64::from(limit.burst)) {
            // No whole period: the last of a burst would have to wait for what the division left over.
            Some(each) => self.take(each, each * u64::from(limit.burst), now),
            None => false,
        }
    }
}

/// The IPv6 fragment header (RFC 8200 §4.5).
const FRAGMENT: u8 = 44;

/// Kinds of events about a container that are told together.
const KINDS: usize = 4 + Blocked::ALL.len();

/// What is told together, as its id and code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    Flow,
    Reflect,
    Drop,
    Limit,
    Blocked(Blocked),
}

impl Told {
    fn place(self) -> usize {
        match self {
            Told::Flow => 0,
            Told::Reflect => 1,
            Told::Drop => 2,
            Told::Limit => 3,
            Told::Blocked(why) => 4 + why as usize,
        }
    }

    fn of_place(place: usize) -> Told {
        match place {
            0 => Told::Flow,
            1 => Told::Reflect,
            2 => Told::Drop,
            3 => Told::Limit,
            place => Told::Blocked(Blocked::ALL[place - 4]),
        }
    }

    fn id_and_code(self) -> (EventId, u16) {
        match self {
            Told::Flow => (EventId::OutwardFlow, 0),
            Told::Reflect => (EventId::OutwardReflect, 0),
            Told::Drop => (EventId::OutwardDrop, 0),
            Told::Limit => (EventId::OutwardDrop, 1),
            Told::Blocked(why) => (EventId::GateBlock, why as u16),
        }
    }
}

/// What will be told together.
#[derive(Clone, Copy, Default)]
struct Tally {
    count: u64,
    /// To whom the last of it was.
    dst: Party,
    proto: u8,
}

/// The gate of one container.
#[derive(Clone)]
pub(super) struct Gate {
    octets: Meter,
    frames: Meter,
    /// Flows outward: TCP, UDP, ICMP.
    flows: [Meter; 3],
    told: Meter,
    tallies: [Tally; KINDS],
}

impl Default for Gate {
    fn default() -> Gate {
        let none = Meter::default();
        Gate { octets: none, frames: none, flows: [none; 3], told: none, tallies: [Tally::default(); KINDS] }
    }
}

impl Gate {
    /// Whether a frame is within the rates. A super-frame is one: it costs no more, and its octets count.
    fn admits(&mut self, len: usize, rate_bytes: u64, now: Instant) -> bool {
        let saved = SAVED.total_micros() * 1000;
        let rate = rate_bytes.max(1);
        // A slow rate lets the longest frame pass all the same.
        let whole = |octets: u64| octets.saturating_mul(SECOND) / rate;
        let before = self.frames;
        if !self.frames.take(SECOND / FRAMES, saved, now) {
            return false;
        }
        let fits = self.octets.take(whole(len as u64), saved.max(whole(1 << 16)), now);
        if !fits {
            self.frames = before;
        }
        fits
    }

    /// Whether one more flow may leave, by a policy of limits.
    pub(super) fn begins(&mut self, packet: &Packet, limits: &GateLimits, now: Instant) -> bool {
        let (meter, limit) = match packet.proto {
            proto::TCP => (0, limits.tcp),
            proto::UDP => (1, limits.udp),
            proto::ICMP | proto::ICMPV6 => (2, limits.icmp),
            _ => return false,
        };
        self.flows[meter].take_flow(limit, now)
    }

    /// Whether a flow is told by an event of its own.
    fn is_told(&mut self, now: Instant) -> bool {
        let (burst, rate) = TOLD;
        self.told.take(SECOND / rate, burst * SECOND / rate, now)
    }

    fn count(&mut self, told: Told, dst: Party, proto: u8) {
        let tally = &mut self.tallies[told.place()];
        *tally = Tally { count: tally.count + 1, dst, proto };
    }
}

impl Lease {
    /// Tells what is to be told together.
    pub(super) fn tell(&mut self, host: IpAddr, cx: &mut Cx<'_>) {
        for place in 0..KINDS {
            let tally = std::mem::take(&mut self.gate.tallies[place]);
            if tally.count == 0 {
                continue;
            }
            let (id, code) = Told::of_place(place).id_and_code();
            let mut event = Event::new(id, cx.now);
            (event.code, event.count, event.proto) = (code, tally.count, tally.proto);
            event.session = self.session;
            event.src = Party { ip: host.into(), mac: self.target.mac, l4_port: 0 };
            event.dst = tally.dst;
            cx.emit(&mut event, &[]);
        }
    }
}

impl Hosts {
    /// Whether a frame that a container sends by itself is within its rates; one that is not is discarded.
    pub(super) fn admit(&mut self, frame: Frame, whose: Whose, cx: &mut Cx<'_>) -> Option<Frame> {
        let Hosts { leases, config, .. } = self;
        let lease = leases.by_host.get_mut(&whose)?;
        let limits = config.templates.get(usize::from(lease.target.template)).map(|template| template.gate);
        let rate = limits.unwrap_or_default().rate_bytes;
        if lease.gate.admits(frame.len(), rate, cx.now) {
            return Some(frame);
        }
        self.block(frame, whose, Blocked::Rate, cx);
        None
    }

    /// Discards what a container may not send, and tells of it.
    pub(super) fn block(&mut self, frame: Frame, whose: Whose, why: Blocked, cx: &mut Cx<'_>) {
        if let Some(lease) = self.leases.by_host.get_mut(&whose) {
            let packet = Packet::parse(frame.bytes()).ok();
            let dst = packet.as_ref().map(|packet| packet.dst());
            let dst = Party { ip: dst.into(), mac: dst_mac(frame.bytes()), l4_port: 0 };
            lease.gate.count(Told::Blocked(why), dst, packet.map_or(0, |packet| packet.proto));
        }
        cx.discard(frame, reason_of(why));
    }

    /// Tells of what a container began, in the session that brought it to life: at once, or together with others.
    pub(super) fn note(&mut self, told: Told, frame: &Frame, packet: &Packet, whose: Whose, cx: &mut Cx<'_>) {
        let Some(lease) = self.leases.by_host.get_mut(&whose) else { return };
        let (id, code) = told.id_and_code();
        let mut event = event_of(id, frame, packet, lease.session, cx.now);
        event.code = code;
        // What is over a limit comes again and again.
        if told != Told::Limit && lease.gate.is_told(cx.now) {
            return cx.emit(&mut event, &[]);
        }
        lease.gate.count(told, Party { l4_port: 0, ..event.dst }, event.proto);
    }

    /// What a packet of a container is to which the policy applies.
    pub(super) fn policy_of(&mut self, frame: &Frame, packet: &Packet, whose: Whose) -> Policy {
        let outward = self.outward_of(whose);
        if is_error_about(frame.bytes(), packet) && self.sessions.get(&Pair::new(packet.dst(), packet.src())).is_some()
        {
            return Policy { outward: Outward::Allow, solicited: true };
        }
        // The name server of a container is its gateway, which is a router: names are part of what is made up.
        let asks = outward == Outward::Reflect && is_name_query(frame.bytes(), packet) && self.is_gateway(packet.dst());
        let inside = !asks && self.is_inside(packet.dst());
        Policy { outward: if inside { Outward::Allow } else { outward }, solicited: false }
    }

    /// Whether one more flow of a container may leave by a policy of limits.
    pub(super) fn may_begin(&mut self, packet: &Packet, whose: Whose, now: Instant) -> bool {
        let Hosts { leases, config, .. } = self;
        let Some(lease) = leases.by_host.get_mut(&whose) else { return false };
        let limits = config.templates.get(usize::from(lease.target.template)).map(|template| template.gate);
        // The rest of a fragmented packet tells no ports.
        !packet.fragment && lease.gate.begins(packet, &limits.unwrap_or_default(), now)
    }

    /// Whether `ip` is the host's own.
    pub(super) fn is_own(&self, ip: IpAddr, host: IpAddr) -> bool {
        self.config.number_of(ip).is_some() && self.config.host_of(ip) == host
    }
}

/// What applies to a packet.
#[derive(Clone, Copy)]
pub(super) struct Policy {
    pub outward: Outward,
    /// It answers somebody who came by himself.
    pub solicited: bool,
}

fn reason_of(why: Blocked) -> DropReason {
    match why {
        Blocked::SpoofedSource | Blocked::ForeignMac | Blocked::Neighbor => DropReason::BadSource,
        Blocked::SourceRoute => DropReason::Policy,
        Blocked::Rate => DropReason::RateLimit,
        Blocked::Dhcp | Blocked::RouterAdvert | Blocked::Redirect => DropReason::Gate,
        Blocked::Group | Blocked::Routing | Blocked::Fragment => DropReason::Gate,
    }
}

/// What every system says as soon as its interface is up, and nobody has to hear of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unsayable {
    /// It is told.
    Told(Blocked),
    /// It is not.
    Usual,
}

/// Whether nobody, inside or outside, may hear such a packet from a container, whatever the policy.
pub(super) fn unsayable(frame: &[u8], packet: &Packet) -> Option<Unsayable> {
    let (mut protocol, mut l4) = (packet.proto, packet.payload(frame));
    let to_group = !is_single(packet.dst_word);
    let told = |why| Some(Unsayable::Told(why));
    // A system that looks for its own configuration says so to groups; to a single host, it is an intruder's tool.
    let usual = |why| Some(if to_group { Unsayable::Usual } else { Unsayable::Told(why) });
    if protocol == FRAGMENT && !packet.is_v4() {
        let next = l4.first().copied().unwrap_or(FRAGMENT);
        // What neighbors and routers say never comes in fragments (RFC 6980), but not every system knows that; and
        // headers that go on in the next fragment hide what follows (RFC 7112).
        if matches!(next, proto::ICMPV6 | FRAGMENT | 0 | 43 | 60) {
            return told(Blocked::Fragment);
        }
        let is_first = be16(l4, 2) >> 3 == 0;
        (protocol, l4) = (next, l4.get(8..).filter(|_| is_first).unwrap_or_default());
    }
    match protocol {
        proto::UDP => {
            let (src, dst) = (be16(l4, 0), be16(l4, 2));
            let (server, client) = if packet.is_v4() { (67, 68) } else { (547, 546) };
            if dst == server || dst == client {
                let is_client = (src, dst) == (client, server);
                return if is_client { usual(Blocked::Dhcp) } else { told(Blocked::Dhcp) };
            }
            // RIP, RIPng, HSRP.
            matches!(dst, 520 | 521 | 1985).then_some(Unsayable::Told(Blocked::Routing))
        }
        proto::ICMP => match l4.first()? {
            5 => told(Blocked::Redirect),
            9 => told(Blocked::RouterAdvert),
            10 => usual(Blocked::RouterAdvert),
            _ => None,
        },
        proto::ICMPV6 => match *l4.first()? {
            icmp6::ROUTER_SOLICIT => usual(Blocked::RouterAdvert),
            icmp6::ROUTER_ADVERT => told(Blocked::RouterAdvert),
            icmp6::REDIRECT => told(Blocked::Redirect),
            // Listener reports of both versions, and the end of listening.
            131 | 132 | 143 => usual(Blocked::Group),
            // Listener queries; multicast router discovery (RFC 4286).
            130 | 151..=153 => told(Blocked::Group),
            // Renumbering of routers (RFC 2894).
            138 => told(Blocked::RouterAdvert),
            _ => None,
        },
        // Queries (RFC 3376 §4), and what is neither query nor report, such as DVMRP.
        proto::IGMP => match l4.first()? {
            0x12 | 0x16 | 0x17 | 0x22 => usual(Blocked::Group),
            _ => told(Blocked::Group),
        },
        // EGP, IGRP, EIGRP, OSPF, PIM, VRRP and CARP, IS-IS.
        8 | 9 | 88 | 89 | 103 | 112 | 124 => told(Blocked::Routing),
        _ => None,
    }
}

/// Whether a packet begins something anew, although its ends are known: a connection, or a message for which none is
/// needed.
pub(super) fn begins_anew(frame: &[u8], packet: &Packet) -> bool {
    match packet.proto {
        proto::TCP => {
            let tcp = TcpHeader::parse(packet.payload(frame));
            tcp.is_none_or(|tcp| tcp.flags & (flag::SYN | flag::ACK) == flag::SYN)
        }
        proto::ICMP | proto::ICMPV6 => true,
        _ => false,
    }
}

/// Whether a packet is meant for a name server.
fn is_name_query(frame: &[u8], packet: &Packet) -> bool {
    matches!(packet.proto, proto::TCP | proto::UDP) && be16(packet.payload(frame), 2) == 53
}
