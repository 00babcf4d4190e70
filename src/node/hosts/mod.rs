//! Emulated hosts on one segment, with or without containers behind them.
//!
//! A frame is met in this order, each step cheaper than the next: not for one of
//! our addresses; answered in its own buffer (ARP, echo, RST, port unreachable);
//! a handshake held by the half-open table; an open connection; a container.
//! Only the last three keep state for a host, all of it bounded.
//!
//! * `arp`: who has an address, ARP and neighbor discovery; `claim`, `claims`: those that nobody else answers for
//! * `dhcp`, `tenants`: hosts that lease their addresses
//! * `icmp`: echoes
//! * `tcp`: probes and handshakes; `connection`: open ones, and `ended` ones; `flow`: what one is; `flows`: all of them
//! * `lease`: containers; `grant`: whose they are; `inner`: the connection into one, `patience`: without one, `splice`: passing through it
//! * `waiting`: datagrams for one; `outward`: what one begins, `rewrite`, `fragments`, `quote`: how that looks, `beside`: and
//!   what its neighbors here answer; `banner`: what it says
//! * `gate`: what a container may not send, and how much of the rest; `elsewhere`: who answers in the place of the world
//! * `cases`: hosts that are something else to some
//! * `talk`: what hosts say by themselves, and when; `say`: how; `answer`: to whoever asks the segment
//! * `tarpit`: connections that get nowhere
//! * `datagram`: UDP; `session`: who talked to whom; `voice`: IP identification; `scan`: OS detection

#[cfg(test)]
mod abuse_tests;
mod answer;
#[cfg(test)]
mod answer_tests;
mod arp;
#[cfg(test)]
mod arp_tests;
mod banner;
mod beside;
#[cfg(test)]
mod beside_tests;
mod cases;
#[cfg(test)]
mod cases_tests;
mod claim;
#[cfg(test)]
mod claim_shard_tests;
#[cfg(test)]
mod claim_tests;
mod claims;
mod connection;
#[cfg(test)]
mod container_tests;
#[cfg(test)]
mod crowd_tests;
mod datagram;
mod dhcp;
#[cfg(test)]
mod dhcp_hostile_tests;
#[cfg(test)]
mod dhcp_shard_tests;
#[cfg(test)]
mod dhcp_tests;
mod elsewhere;
#[cfg(test)]
mod elsewhere_tests;
mod ended;
mod flow;
mod flows;
mod fragments;
#[cfg(test)]
mod fragments_tests;
#[cfg(test)]
mod freeze_tests;
mod gate;
#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod gather_tests;
mod grant;
#[cfg(test)]
mod grant_tests;
mod icmp;
mod inner;
mod lease;
mod middle;
mod outward;
mod pace;
#[cfg(test)]
mod pace_tests;
mod patience;
#[cfg(test)]
mod patience_tests;
mod quote;
mod rewrite;
#[cfg(test)]
mod rewrite_tests;
mod say;
mod scan;
mod session;
#[cfg(test)]
mod session_tests;
mod show;
mod splice;
mod talk;
#[cfg(test)]
mod talk_tests;
mod tarpit;
mod tcp;
#[cfg(test)]
mod tcp_tests;
mod tenants;
#[cfg(test)]
mod tests;
mod together;
mod voice;
mod waiting;
#[cfg(test)]
mod waiting_tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::{Command, Cx, HostsConfig, Node, Show, Standing};
#[cfg(test)]
use crate::emulate::{Backend, Builtin, Grant, Outward, ServiceId, TcpPort, UdpPort};
use crate::emulate::{ClockTable, Identity, Scan, Template};
use crate::event::{DropReason, Event, EventId, MaybeIp, Party, SessionId};
use crate::frame::{Batch, Frame};
use crate::service::tls::Notary;
#[cfg(test)]
use crate::service::{Service, ServiceKind};
use crate::stack::{Budget, FlowKey, HalfOpenTable, Sockets};
use crate::wire::{ETH, Instant, Mac, Packet, be16, dst_mac, ethertype, ethertype_of, ip_of, proto, src_mac};
#[cfg(test)]
use crate::wire::{icmp6, word_of};
use cases::Sources;
use claims::Claims;
use dhcp::Dhcp;
use ended::Ended;
use flows::Flows;
use grant::Grants;
pub use grant::{Admission, attacker_of};
use lease::Leases;
pub use pace::Pace;
use session::{Contact, Pair, Sessions, Touch};
use talk::Talk;
pub use together::Together;
use voice::IpIds;

/// The host that a packet is for.
#[derive(Clone, Copy)]
struct Target {
    /// Its address, as a word: copying a freshly written `IpAddr` stalls a processor.
    word: u128,
    /// Index into the node's templates.
    template: u16,
    mac: Mac,
    /// Hops that it seems to be away from the one who asks.
    hops: u8,
}

impl Target {
    /// Its address.
    #[inline]
    fn ip(&self) -> IpAddr {
        ip_of(self.word)
    }
}

/// The node.
pub struct Hosts {
    config: HostsConfig,
    identity: Identity,
    sessions: Sessions,
    ids: IpIds,
    half_open: HalfOpenTable<tcp::Answer>,
    /// Until then, handshakes may be complete that the table does not know.
    cookies_until: Instant,
    /// SYN/ACKs that may be sent again: to sources that have not proven that they
    /// exist, hence few. Normal clients need none.
    retransmissions: tcp::Budget,
    /// Datagrams that services may answer to addresses of the honeynet: two
    /// services that were made to talk to each other would never stop.
    inside_answers: tcp::Budget,
    flows: Flows,
    pace: Arc<Pace>,
    ended: Ended,
    /// SYNs that wait for a container's answer.
    held: ClockTable<FlowKey, tcp::Held>,
    leases: Leases,
    grants: Grants,
    /// What containers have begun, and how it was changed on its way out.
    rewritten: rewrite::Rewritten,
    /// What they send in pieces.
    fragments: fragments::Fragments,
    /// Datagrams that wait for containers.
    waiting: waiting::Waiting,
    banners: banner::Banners,
    /// What is known of addresses that have to be claimed, in a node whose addresses have to be.
    claims: Option<Box<Claims>>,
    /// Hosts that lease their addresses, in a node that has such.
    dhcp: Option<Box<Dhcp>>,
    /// Who has fingerprints taken of whom.
    scans: ClockTable<Pair, Scan>,
    sockets: Sockets,
    /// Certificates of services within TLS.
    notary: Notary,
    talk: Talk,
    /// Memory for what an inline service looks at.
    unread: Vec<u8>,
    /// The template of hosts that answer in the place of the rest of the world, behind the plan's.
    elsewhere: u16,
    /// Who asks, for templates that have cases.
    sources: Sources,
    /// When containers that belong to the system are looked after next.
    start_at: Option<Instant>,
}

impl Hosts {
    /// The hosts of `config`. Nobody has spoken to them yet. The monotonic clock has begun with 1970.
    pub fn new(config: HostsConfig, identity: Identity, seed: u64) -> Hosts {
        Hosts::replica(config, identity, seed, Together::default())
    }

    /// One of several replicas.
    pub fn replica(
        mut config: HostsConfig,
        identity: Identity,
        seed: u64,
        Together { replicas, containers, pace, wall }: Together,
    ) -> Hosts {
        let share = |limit: u32| limit.div_ceil(u32::from(replicas));
        let elsewhere = config.templates.len() as u16;
        let (world, services) = elsewhere::world(&config, &identity);
        config.services.extend(services);
        config.templates.push(world);
        let limits = config.limits;
        Hosts {
            identity: identity.clone(),
            notary: Notary::new(identity.clone(), wall, replicas, seed),
            sessions: Sessions::new(limits.sessions as usize, limits.session_idle_secs, seed),
            ids: IpIds::new(identity.clone(), &config),
            half_open: HalfOpenTable::new(limits.half_open as usize, seed),
            cookies_until: Instant::ZERO,
            retransmissions: tcp::Budget::new(share(1000), share(200)),
            inside_answers: tcp::Budget::new(share(100), share(20)),
            flows: Flows::new(seed),
            pace,
            ended: Ended::new(seed),
            held: ClockTable::new(1024, seed),
            leases: Leases::new(seed, containers),
            grants: Grants::new(&config, seed),
            rewritten: rewrite::Rewritten::new(seed),
            fragments: fragments::Fragments::new(seed),
            waiting: waiting::Waiting::new(replicas),
            banners: banner::Banners::new(&config.templates),
            claims: config.claim.as_ref().map(|claim| Box::new(Claims::new(claim, replicas, seed))),
            dhcp: config.dhcp.as_ref().map(|dhcp| Box::new(Dhcp::new(dhcp, &config, &identity))),
            scans: ClockTable::new(scan::SCANS, seed),
            sockets: Sockets::new(Budget::new((limits.buffers as usize) << 20), seed),
            talk: Talk::new(share),
            unread: Vec::new(),
            elsewhere,
            sources: Sources::new(&config, wall, seed),
            config,
            start_at: Some(Instant::ZERO),
        }
    }

    #[inline]
    fn template(&self, index: u16) -> &Template {
        &self.config.templates[usize::from(index)]
    }

    /// The host whose address is `word`, if it is one of ours.
    #[inline(always)]
    fn target(&self, word: u128) -> Option<Target> {
        let Some(number) = self.config.number_of_word(word) else { return self.unlisted_target(word) };
        let (template, kind) = self.config.template_of_word(&self.identity, word)?;
        Some(Target { word, template, mac: self.config.mac_for(&self.identity, number, kind), hops: 0 })
    }

    fn from_lan(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        let bytes = frame.bytes();
        if bytes.len() < ETH {
            return cx.discard(frame, DropReason::Malformed);
        }
        if src_mac(bytes).is_group() {
            return cx.discard(frame, DropReason::BadSource);
        }
        if ethertype_of(bytes) == ethertype::ARP {
            return self.arp(frame, cx);
        }
        let mut packet = Packet::EMPTY;
        if let Err(flaw) = packet.read(bytes) {
            return cx.discard(frame, flaw.into());
        }
        if self.claims.is_some() {
            self.hear_packet(&frame, &packet, cx);
        }
        if self.dhcp.is_some() && self.is_dhcp_reply(&frame, &packet) {
            return self.dhcp_reply(frame, &packet, cx);
        }
        if packet.proto == proto::ICMPV6 && self.is_neighbor_message(&frame, &packet) {
            return self.neighbor(frame, &packet, cx);
        }
        let Some(target) = self.target(packet.dst_word) else {
            return self.overhear(frame, &packet, cx);
        };
        match self.other_owner(target.word, cx) {
            Some(owner) => cx.hand_over(owner, frame),
            None if self.holds(target.word, cx.now) => self.meet(frame, &packet, &target, cx),
            None => cx.discard(frame, DropReason::NoHost),
        }
    }

    /// A packet for one of our hosts.
    #[inline]
    fn meet(&mut self, frame: Frame, packet: &Packet, target: &Target, cx: &mut Cx<'_>) {
        if dst_mac(frame.bytes()) != target.mac {
            return cx.discard(frame, DropReason::NotForUs);
        }
        if !is_single(packet.src_word) || packet.src_word == packet.dst_word {
            return cx.discard(frame, DropReason::BadSource);
        }
        if packet.fragment {
            return cx.discard(frame, DropReason::Fragment);
        }
        let checked = matches!(packet.proto, proto::ICMP | proto::ICMPV6 | proto::TCP | proto::UDP);
        if checked && !frame.meta.csum_ok && !packet.checksum_ok(frame.bytes()) {
            return cx.discard(frame, DropReason::BadChecksum);
        }
        let in_case;
        let target = if self.sources.any {
            in_case = self.in_case(&frame, packet, target, cx);
            &in_case
        } else {
            target
        };
        match packet.proto {
            proto::ICMP | proto::ICMPV6 => self.icmp(frame, packet, target, cx),
            proto::TCP => self.tcp(frame, packet, target, cx),
            proto::UDP => self.udp(frame, packet, target, cx),
            _ => cx.discard(frame, DropReason::Unsupported),
        }
    }

    #[inline(always)]
    fn touch(
        &mut self,
        frame: &Frame,
        packet: &Packet,
        contact: Contact,
        (l4_port, tells_itself): (u16, bool),
        cx: &mut Cx<'_>,
    ) -> (SessionId, u16, bool) {
        let touch = Touch {
            pair: Pair::of(packet),
            contact,
            mac: origin(frame),
            proto: packet.proto,
            l4_port,
            len: packet.end - ETH,
            tells_itself,
        };
        let (session, first) = self.sessions.touch(&touch, cx);
        session.ip_id = session.ip_id.wrapping_add(1);
        (session.id, session.ip_id, first)
    }
}

/// The MAC of whoever sent a frame, routers left out.
#[inline]
fn origin(frame: &Frame) -> Mac {
    if frame.meta.origin == Mac::ZERO { src_mac(frame.bytes()) } else { frame.meta.origin }
}

/// An event about a packet to one of our hosts.
#[inline(always)]
fn event_of(id: EventId, frame: &Frame, packet: &Packet, session: SessionId, now: Instant) -> Event {
    let mut event = Event::new(id, now);
    let ports = matches!(packet.proto, proto::TCP | proto::UDP);
    let l4 = packet.payload(frame.bytes());
    event.session = session;
    event.proto = packet.proto;
    event.src = Party {
        ip: MaybeIp::of_word(packet.src_word),
        mac: origin(frame),
        l4_port: if ports { be16(l4, 0) } else { 0 },
    };
    event.dst = Party {
        ip: MaybeIp::of_word(packet.dst_word),
        mac: dst_mac(frame.bytes()),
        l4_port: if ports { be16(l4, 2) } else { 0 },
    };
    event
}

/// Whether a source address can be one host's.
#[inline]
fn is_single(src: u128) -> bool {
    match ip_of(src) {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST || ip.is_loopback()),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback()),
    }
}

impl Node for Hosts {
    fn process(&mut self, rx: &mut Batch, cx: &mut Cx<'_>) {
        self.sessions.look_ahead(rx);
        for (i, mut frame) in rx.drain(..).enumerate() {
            self.sessions.turn_to(i);
            // The answer is written over it, and goes to other nodes.
            let handed = std::mem::take(&mut frame.meta.handed);
            if frame.meta.port == HostsConfig::LAN {
                self.from_lan(frame, cx);
            } else if handed && frame.meta.port == claims::LESSON {
                self.taught(frame, cx);
            } else if handed && frame.meta.port == tenants::LESSON {
                self.taught_lease(frame, cx);
            } else if handed {
                self.from_neighbor(frame, cx);
            } else {
                self.from_container(frame, cx);
            }
            if self.flows.dirty.len() >= connection::TOGETHER {
                self.drive(cx);
            }
        }
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        if self.start_at.is_some_and(|at| at <= cx.now) {
            self.start_at = None;
            self.ids.begin(cx.now);
            self.start_with_system(cx);
            self.begin_talk(cx);
        }
        self.talk(cx);
        self.retransmit_syn_acks(cx);
        self.deliver(cx);
        self.flows.wake_due(cx.now);
        self.drive(cx);
        self.sessions.tick(cx);
        self.reap_leases(cx);
        if self.claims.is_some() {
            self.tend_claims(cx);
        }
        if self.dhcp.is_some() {
            self.tend_leases(cx);
        }
        self.answer_beside(cx);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.start_at,
            self.half_open.next_deadline(),
            self.flows.next_deadline(),
            self.sessions.next_deadline(),
            self.leases.next_deadline(),
            self.waiting.next_deadline(),
            self.claims.as_ref().and_then(|claims| claims.next_deadline()),
            self.dhcp.as_ref().and_then(|dhcp| dhcp.next_deadline()),
            self.talk.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn command(&mut self, command: Command, cx: &mut Cx<'_>) {
        self.obey(command, cx);
        self.deliver_soon(cx);
        self.answer_beside(cx);
    }

    fn show(&self, what: Show, now: Instant, limit: usize) -> Option<Vec<serde_json::Value>> {
        match what {
            Show::Hosts => Some(self.show_hosts(now, limit)),
            Show::Flows => Some(self.show_flows(now, limit)),
            _ => None,
        }
    }

    fn standing(&self) -> Option<Standing> {
        Some(Standing { sessions: self.sessions.told(), flows: self.flows.slab.len() })
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        self.end_connections(cx);
    }
}
