//! What hosts that talk answer to those who ask the whole segment, or ask them in the way of segments: for names
//! (multicast DNS, LLMNR, NetBIOS) and for the groups that they listen to (IGMP, MLD).
//!
//! Questions come from anybody and cost more than echoes: so many a second are looked at, so many answers wait, and one
//! who may not exist gets at most three times the octets that it sent.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::super::Cx;
use super::say::{Envelope, LLMNR_PORT, MDNS_PORT, MDNS_V4, MDNS_V6, Speech};
use super::talk::{Act, Talk, Talker};
use super::{Hosts, Target, is_single};
use crate::emulate::talk::answer::{self, Asker, Own};
use crate::emulate::talk::query::Query;
use crate::emulate::talk::{netbios, ssdp};
use crate::emulate::{Says, Template};
use crate::event::DropReason;
use crate::frame::Frame;
use crate::wire::{
    Duration, ETH, Instant, ListenerQuery, MemberQuery, Packet, be16, is_mapped, proto, src_mac, word_of,
};

/// Octets of an answer by multicast: what no Ethernet has to fragment (RFC 6762 §17).
const MOST: usize = 1400;
/// Answers that wait for their moment.
const WAITING: usize = 64;

/// An answer that waits, since others may have the same.
pub(super) struct Later {
    pub at: Instant,
    pub talker: u16,
    src: IpAddr,
    to: Envelope,
    payload: Vec<u8>,
}

/// What is asked at a port, by whose rules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Mdns,
    Llmnr,
    Netbios,
}

impl Ask {
    fn of(port: u16) -> Option<(Ask, Says)> {
        Some(match port {
            MDNS_PORT => (Ask::Mdns, Says::MDNS),
            LLMNR_PORT => (Ask::Llmnr, Says::LLMNR),
            netbios::NAME_PORT => (Ask::Netbios, Says::NETBIOS),
            _ => return None,
        })
    }
}

/// A datagram with a question.
struct Asked<'f> {
    ask: Ask,
    /// What whoever sent it may get back from all hosts together, in octets from the IP header on.
    left: usize,
    /// Octets of IP and UDP headers.
    headers: usize,
    src_port: u16,
    payload: &'f [u8],
}

impl<'f> Asked<'f> {
    fn of(frame: &'f Frame, packet: &Packet) -> Option<(Asked<'f>, Says)> {
        let message = packet.payload(frame.bytes());
        let (src_port, dst_port, len) = (be16(message, 0), be16(message, 2), usize::from(be16(message, 4)));
        let payload = message.get(8..len)?;
        let (ask, says) = Ask::of(dst_port).filter(|_| src_port != 0)?;
        // Ours have no options.
        let headers = if packet.is_v4() { 28 } else { 48 };
        Some((Asked { ask, left: 3 * (packet.end - ETH), headers, src_port, payload }, says))
    }

    /// Octets that an answer to its sender may have behind the UDP header.
    fn limit(&self) -> usize {
        self.left.saturating_sub(self.headers).min(MOST)
    }
}

/// Whether a host of `template` has a UDP port open because it talks, though the topology does not list it.
pub(super) fn listens(template: &Template, port: u16) -> bool {
    let says = match port {
        netbios::NAME_PORT | netbios::DATAGRAM_PORT => Says::NETBIOS,
        ssdp::PORT => Says::SSDP,
        MDNS_PORT => Says::MDNS,
        LLMNR_PORT => Says::LLMNR,
        _ => return false,
    };
    template.talk.contains(says) && !template.udp.contains_key(&port)
}

impl Hosts {
    /// A packet that is for none of our hosts, and perhaps for all that listen.
    #[cold]
    pub(super) fn overhear(&mut self, frame: Frame, packet: &Packet, cx: &mut Cx<'_>) {
        if self.talk.talkers.is_empty() || packet.fragment {
            return cx.discard(frame, DropReason::NoHost);
        }
        match packet.proto {
            proto::IGMP | proto::ICMPV6 if !self.talk.questions.take(cx.now) => {
                return cx.discard(frame, DropReason::RateLimit);
            }
            proto::IGMP => {
                if let Some(query) = MemberQuery::parse(packet, frame.bytes()) {
                    self.asked_for_members(&query, cx);
                    return cx.consume(frame);
                }
            }
            proto::ICMPV6 if frame.meta.csum_ok || packet.checksum_ok(frame.bytes()) => {
                if let Some(query) = ListenerQuery::parse(packet, frame.bytes()) {
                    self.asked_for_listeners(&query, cx);
                    return cx.consume(frame);
                }
            }
            proto::UDP if self.is_for_all(packet) => return self.asked_all(frame, packet, cx),
            _ => {}
        }
        cx.discard(frame, DropReason::NoHost);
    }

    fn asked_for_listeners(&mut self, query: &ListenerQuery, cx: &mut Cx<'_>) {
        let Talk { talkers, due, .. } = &mut self.talk;
        for (at, talker) in talkers.iter_mut().enumerate() {
            if talker.v6.is_empty() || talker.answers {
                continue;
            }
            talker.answers = query.group.is_none_or(|group| talker.groups().contains(&group));
            if !talker.answers {
                continue;
            }
            due.push(Reverse((cx.now + within(query.max_delay_ms, cx), at as u16, Act::ListenAnswer)));
        }
    }

    fn asked_for_members(&mut self, query: &MemberQuery, cx: &mut Cx<'_>) {
        let Talk { talkers, due, .. } = &mut self.talk;
        for (at, talker) in talkers.iter_mut().enumerate() {
            if talker.answers_v4 {
                continue;
            }
            let groups = talker.groups_v4();
            talker.answers_v4 = query.group.map_or(!groups.is_empty(), |group| groups.contains(&group));
            if !talker.answers_v4 {
                continue;
            }
            let act = Act::MemberAnswer { is_old: query.is_old };
            due.push(Reverse((cx.now + within(query.max_delay_ms, cx), at as u16, act)));
        }
    }

    /// Whether a packet goes to everybody on the segment, or to a group of those who are asked for names there.
    fn is_for_all(&self, packet: &Packet) -> bool {
        match packet.dst() {
            IpAddr::V4(ip) => {
                ip == MDNS_V4
                    || ip == super::say::LLMNR_V4
                    || ip.is_broadcast()
                    || self
                        .config
                        .segment
                        .prefixes
                        .iter()
                        .any(|net| matches!(net, IpNet::V4(net) if net.broadcast() == ip))
            }
            IpAddr::V6(ip) => ip == MDNS_V6 || ip == super::say::LLMNR_V6,
        }
    }

    /// Whether an address is one of this segment: those who ask from elsewhere are not answered by multicast DNS and
    /// LLMNR (RFC 6762 §11, RFC 4795 §2.5).
    fn is_on_link(&self, ip: IpAddr) -> bool {
        let local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        local || self.config.segment.prefixes.iter().any(|net| net.contains(&ip))
    }

    /// Whether there is time for one more question.
    fn may_ask(&mut self, frame: &Frame, packet: &Packet, cx: &Cx<'_>) -> Result<(), DropReason> {
        if !is_single(packet.src_word) {
            return Err(DropReason::BadSource);
        }
        if !frame.meta.csum_ok && !packet.checksum_ok(frame.bytes()) {
            return Err(DropReason::BadChecksum);
        }
        if self.talk.questions.take(cx.now) { Ok(()) } else { Err(DropReason::RateLimit) }
    }

    /// A question for everybody on the segment.
    fn asked_all(&mut self, frame: Frame, packet: &Packet, cx: &mut Cx<'_>) {
        // It is in no host's session.
        self.sessions.leave();
        let Some((mut asked, says)) = Asked::of(&frame, packet) else { return cx.discard(frame, DropReason::NoHost) };
        if let Err(reason) = self.may_ask(&frame, packet, cx) {
            return cx.discard(frame, reason);
        }
        if self.is_on_link(packet.src()) {
            let query = Query::parse(asked.payload);
            for at in 0..self.talk.talkers.len() {
                let talker = &self.talk.talkers[at];
                if talker.says.contains(says) && talker.target.word != packet.src_word {
                    self.answer_as(at, &frame, packet, &mut asked, query.as_ref(), cx);
                }
            }
        }
        cx.consume(frame);
    }

    /// A datagram to a port that one of our hosts has open because it talks.
    pub(super) fn asked_one(&mut self, frame: Frame, packet: &Packet, target: &Target, cx: &mut Cx<'_>) {
        let asked = Asked::of(&frame, packet);
        let Some((mut asked, _)) = asked.filter(|(asked, _)| asked.ask != Ask::Llmnr) else {
            return cx.discard(frame, DropReason::Filtered);
        };
        if asked.ask == Ask::Mdns && !self.is_on_link(packet.src()) {
            return cx.discard(frame, DropReason::Filtered);
        }
        if let Err(reason) = self.may_ask(&frame, packet, cx) {
            return cx.discard(frame, reason);
        }
        let query = Query::parse(asked.payload);
        // Hosts beyond those that say something by themselves answer, too, for the moment of the question.
        let known = self.talk.talkers.iter().position(|talker| talker.has(packet.dst()));
        let number = self.config.number_of_word(target.word);
        let guest = if known.is_none() { number.and_then(|number| self.talker(number, target.ip())) } else { None };
        let at = match (known, guest) {
            (Some(at), _) => at,
            (None, Some(guest)) => {
                self.talk.talkers.push(guest);
                self.talk.talkers.len() - 1
            }
            (None, None) => return cx.discard(frame, DropReason::Filtered),
        };
        self.answer_as(at, &frame, packet, &mut asked, query.as_ref(), cx);
        if known.is_none() {
            self.talk.talkers.pop();
        }
        cx.consume(frame);
    }

    /// Has the talker at `at` answer a question that is about it; others say nothing.
    fn answer_as(
        &mut self,
        at: usize,
        frame: &Frame,
        packet: &Packet,
        asked: &mut Asked<'_>,
        query: Option<&Query>,
        cx: &mut Cx<'_>,
    ) {
        let Hosts { talk: Talk { talkers, scratch, later, multicasts, .. }, config, identity, ids, sessions, .. } =
            self;
        let Some(talker) = talkers.get(at) else { return };
        let mut speech = Speech { config, identity, ids };
        let habits = speech.habits(talker);
        let to_host = is_mapped(packet.dst_word) && Some(packet.dst()) == talker.v4.map(IpAddr::V4)
            || talker.v6.iter().any(|ip| IpAddr::V6(*ip) == packet.dst());
        let src = match (packet.is_v4(), to_host) {
            (_, true) => packet.dst(),
            (true, false) => match talker.v4 {
                Some(ip) => IpAddr::V4(ip),
                None => return,
            },
            (false, false) => match talker.link_local() {
                Some(ip) => IpAddr::V6(ip),
                None => return,
            },
        };
        let own = Own {
            name: &talker.name,
            v4: talker.v4,
            v6: &talker.v6,
            mac: talker.target.mac,
            services: &talker.services,
        };
        let src_port = asked.src_port;
        let back = |port: u16, ttl: u8| Envelope {
            dst: packet.src(),
            ports: (port, src_port),
            ttl,
            mac: Some(src_mac(frame.bytes())),
        };
        let (to, wait) = match asked.ask {
            Ask::Mdns => {
                let Some(query) = query else { return };
                let asker = if asked.src_port == MDNS_PORT { Asker::Participant } else { Asker::Resolver };
                let by_unicast = to_host || asker == Asker::Resolver;
                // By multicast, all of the segment asked, and it is answered alike.
                let limit = if by_unicast || query.questions.iter().all(|q| q.unicast) { asked.limit() } else { MOST };
                let Some(manner) = answer::mdns(scratch, query, &own, asker, limit) else { return };
                let to = if by_unicast || manner.unicast {
                    back(MDNS_PORT, habits.mdns_ttl)
                } else {
                    let group: IpAddr = if packet.is_v4() { MDNS_V4.into() } else { MDNS_V6.into() };
                    Envelope { dst: group, ports: (MDNS_PORT, MDNS_PORT), ttl: habits.mdns_ttl, mac: None }
                };
                // RFC 6762 §6: 20 to 120 ms.
                let wait = if manner.shared { 20 + cx.rng.next_u64() % 101 } else { 0 };
                (to, wait)
            }
            Ask::Llmnr => match query {
                Some(query) if answer::llmnr(scratch, query, &own, asked.limit()) => {
                    (back(LLMNR_PORT, speech.ttl(talker)), 0)
                }
                _ => return,
            },
            Ask::Netbios if answer::netbios(scratch, asked.payload, &own) && scratch.len() <= asked.limit() => {
                (back(netbios::NAME_PORT, speech.ttl(talker)), 0)
            }
            Ask::Netbios => return,
        };
        if to.dst == packet.src() {
            asked.left = asked.left.saturating_sub(asked.headers + scratch.len());
        } else if !multicasts.take(cx.now) {
            return cx.counters.discard(DropReason::RateLimit);
        }
        if wait == 0 || to_host {
            sessions.answered(scratch.len());
            speech.send(talker, src, &to, scratch, cx);
        } else if later.len() < WAITING {
            let at = at as u16;
            later.push(Later {
                at: cx.now + Duration::from_millis(wait),
                talker: at,
                src,
                to,
                payload: scratch.clone(),
            });
        } else {
            cx.counters.discard(DropReason::RateLimit);
        }
    }

    /// Sends the answers whose time has come.
    pub(super) fn answer_later(&mut self, cx: &mut Cx<'_>) {
        let Hosts { talk: Talk { talkers, later, .. }, config, identity, ids, .. } = self;
        let mut speech = Speech { config, identity, ids };
        later.retain(|answer| {
            if answer.at > cx.now {
                return true;
            }
            if let Some(talker) = talkers.get(usize::from(answer.talker)) {
                speech.send(talker, answer.src, &answer.to, &answer.payload, cx);
            }
            false
        });
    }
}

fn within(max_delay_ms: u32, cx: &mut Cx<'_>) -> Duration {
    Duration::from_millis((cx.rng.unit() * f64::from(max_delay_ms)) as u64)
}

impl Talker {
    /// Whether an address is one of its own.
    fn has(&self, ip: IpAddr) -> bool {
        self.target.word == word_of(ip)
            || match ip {
                IpAddr::V4(ip) => self.v4 == Some(ip),
                IpAddr::V6(ip) => self.v6.contains(&ip),
            }
    }

    /// The IPv4 multicast groups that it listens to.
    pub(super) fn groups_v4(&self) -> Vec<Ipv4Addr> {
        let kinds = [(Says::MDNS, MDNS_V4), (Says::LLMNR, super::say::LLMNR_V4), (Says::SSDP, super::say::SSDP_V4)];
        let joined = kinds.into_iter().filter(|(kind, _)| self.v4.is_some() && self.says.contains(*kind));
        joined.map(|(_, group)| group).collect()
    }
}
