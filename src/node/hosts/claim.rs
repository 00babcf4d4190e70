//! Addresses that become ours because nobody answers for them, and that we let go of once somebody does.
//!
//! A request that stays unanswered (ARP, RFC 826; a neighbor solicitation, RFC 4861) is counted. When there were enough
//! of them within the time given, and the address did not answer a probe of our own either (RFC 5227 §2.1.1, RFC 4862
//! §5.4), it is claimed: from then on it is a host like those that the topology lists. The probe leaves one request
//! ahead, so that the request that completes the count is answered, as a host that is there would answer it.
//!
//! Whoever else speaks with such an address owns it: we fall silent at once, forget its connections, and do not take
//! it again as long as its owner was heard lately. A test for duplicates (sender 0.0.0.0, or `::`) comes from who is
//! about to own it: it counts as no request and is answered never. Three tables hold all this, so that no flood
//! of one kind pushes out another: a sweep through a /8 displaces other addresses that were asked for once, and a claimed
//! address gives way only if nobody has spoken to it for minutes.
//!
//! With several shards, the one that keeps an address decides about it. It hears of owners from the shard that
//! their frames came to, and tells all of what it claims: containers ask for their neighbors wherever they are.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::{Cx, Request};
use super::claims::{ANSWER, Asker, Claim, Claims, LESSON, Lesson, MOST, Owner, Wanted};
use super::flow::Ending;
use super::lease::Lease;
use super::{Hosts, Target, is_single};
use crate::event::{DropReason, Event, EventId, MaybeIp, Party, Release};
use crate::frame::{Frame, PortNo};
use crate::wire::{
    ARP_FRAME, Arp, ArpOddities, Duration, Instant, Mac, Neighbor, Packet, dst_mac, ip_of, solicited_node, src_mac,
    word_of,
};

/// Addresses whose time has come soon. Others wait for one more request.
const DUE: usize = 1024;
/// How long an address is known to be in use after its owner was heard.
const IN_USE: Duration = Duration::from_secs(600);
/// The same after a test for duplicates, which takes ten seconds at most until the address is announced (RFC 5227 §1.1).
const TESTED: Duration = Duration::from_secs(30);
/// How often the shard that keeps an address is told that its owner speaks.
const TELL: Duration = Duration::from_secs(10);
/// How long a claimed address has to be silent before it may give way to another one: the uplink's guard has
/// forgotten its MAC then.
const SPARE: Duration = Duration::from_secs(300);
/// How long nothing more is tried when there are as many as may be, none of which may give way.
const FULL: Duration = Duration::from_secs(1);

impl Hosts {
    /// Whether the address that is `word` is ours at present, which this shard keeps. It is in use then.
    #[inline(always)]
    pub(super) fn holds(&mut self, word: u128, now: Instant) -> bool {
        let Some(claims) = &mut self.claims else { return true };
        match claims.held.get(&word) {
            Some(claim) => {
                claim.last = now;
                true
            }
            None => false,
        }
    }

    /// Whether an address of the node's is ours at present, whichever shard keeps it.
    #[inline]
    pub(super) fn is_ours(&self, word: u128) -> bool {
        self.claims.as_ref().is_none_or(|claims| claims.has(word) || claims.elsewhere.peek(&word).is_some())
    }

    /// Whoever sends ARP with an address owns it.
    pub(super) fn hear_arp(&mut self, arp: &Arp, cx: &mut Cx<'_>) {
        if self.config.segment.gateways.contains(&IpAddr::V4(arp.sender))
            && let Some(claims) = &mut self.claims
        {
            match claims.gateways.iter_mut().find(|(ip, _)| *ip == arp.sender) {
                Some((_, mac)) => *mac = arp.sender_mac,
                None => claims.gateways.push((arp.sender, arp.sender_mac)),
            }
        }
        self.hear(word_of(IpAddr::V4(arp.sender)), arp.sender_mac, cx);
    }

    /// So does who advertises it.
    pub(super) fn hear_advert(&mut self, message: &Neighbor, frame: &Frame, cx: &mut Cx<'_>) {
        self.hear(word_of(IpAddr::V6(message.target)), message.mac.unwrap_or(src_mac(frame.bytes())), cx);
    }

    /// And who sends packets with it, unless a router sends them on: anybody can write any source.
    pub(super) fn hear_packet(&mut self, frame: &Frame, packet: &Packet, cx: &mut Cx<'_>) {
        let mac = src_mac(frame.bytes());
        let routed = frame.meta.origin != Mac::ZERO && frame.meta.origin != mac;
        let is_gateway = |claims: &Claims| claims.gateways.iter().any(|(_, gateway)| *gateway == mac);
        if !routed && !self.claims.as_deref().is_some_and(is_gateway) {
            self.hear(packet.src_word, mac, cx);
        }
    }

    /// `mac` speaks with the address that is `word`.
    fn hear(&mut self, word: u128, mac: Mac, cx: &mut Cx<'_>) {
        // Ourselves, or nobody.
        let Some(target) = self.target(word).filter(|target| target.mac != mac && !mac.is_group()) else { return };
        let keeper = self.other_owner(word, cx);
        let Some(claims) = &mut self.claims else { return };
        let Some(keeper) = keeper else { return self.spoke(&target, mac, Release::Owner, cx) };
        let until = cx.now + IN_USE;
        let told = claims.owners.get(&word).is_some_and(|owner| owner.mac == mac && until - owner.until < TELL);
        if told && claims.elsewhere.peek(&word).is_none() {
            return;
        }
        claims.owners.insert(word, Owner { mac, until });
        if let Some(mut lesson) = cx.pool.copy_of(&Lesson::Spoke(mac).write(word)) {
            lesson.meta.port = LESSON;
            cx.hand_over(keeper, lesson);
        }
    }

    /// An address has an owner, or will have one soon.
    fn spoke(&mut self, target: &Target, mac: Mac, why: Release, cx: &mut Cx<'_>) {
        let Some(claims) = &mut self.claims else { return };
        claims.own(target.word, mac, cx.now + if why == Release::Probe { TESTED } else { IN_USE });
        claims.wanted.remove(&target.word);
        if claims.held.remove(&target.word).is_some() {
            let ip = if why == Release::Probe { MaybeIp::NONE } else { MaybeIp::of_word(target.word) };
            self.let_go(target.word, why, Party { ip, mac, l4_port: 0 }, cx);
        }
    }

    /// Whether ARP to an address, which this shard keeps, is for a host of ours. A request counts.
    pub(super) fn is_claimed_by_arp(
        &mut self,
        frame: &Frame,
        arp: &Arp,
        form: ArpOddities,
        target: &Target,
        cx: &mut Cx<'_>,
    ) -> bool {
        let is_request = arp.operation != Arp::REPLY;
        if is_request && arp.sender.is_unspecified() {
            if form.is_empty() && arp.sender_mac != target.mac {
                self.spoke(target, arp.sender_mac, Release::Probe, cx);
            }
            return false;
        }
        if self.holds(target.word, cx.now) {
            return true;
        }
        let asker = Asker { ip: IpAddr::V4(arp.sender), mac: arp.sender_mac, port: frame.meta.port };
        is_request
            && form.is_empty()
            && arp.sender != arp.target
            && self.is_near(arp.sender)
            && self.is_question(frame, target, &asker)
            && self.wanted(target, asker, cx)
    }

    /// The same for a neighbor solicitation.
    pub(super) fn is_claimed_by_neighbor(
        &mut self,
        frame: &Frame,
        packet: &Packet,
        target: &Target,
        cx: &mut Cx<'_>,
    ) -> bool {
        let mac = src_mac(frame.bytes());
        if packet.src().is_unspecified() {
            if mac != target.mac {
                self.spoke(target, mac, Release::Probe, cx);
            }
            return false;
        }
        if self.holds(target.word, cx.now) {
            return true;
        }
        let asker = Asker { ip: packet.src(), mac, port: frame.meta.port };
        packet.src_word != target.word && self.is_question(frame, target, &asker) && self.wanted(target, asker, cx)
    }

    /// Whether somebody else asks everybody, or asks us.
    fn is_question(&self, frame: &Frame, target: &Target, asker: &Asker) -> bool {
        let dst = dst_mac(frame.bytes());
        let sender = word_of(asker.ip);
        (dst.is_group() || dst == target.mac)
            && is_single(sender)
            && self.target(sender).is_none_or(|own| own.mac != asker.mac)
    }

    /// Somebody looks for an address that is nobody's. Whether it is ours from now on.
    fn wanted(&mut self, target: &Target, asker: Asker, cx: &mut Cx<'_>) -> bool {
        let Some(claims) = &mut self.claims else { return false };
        if claims.is_taken(target.word, cx.now) || cx.now < claims.full_until {
            return false;
        }
        if claims.wanted.get(&target.word).is_none() {
            let new = Wanted { times: [cx.now; MOST], count: 0, probed: None, is_due: false, asker };
            let may_go = |other: &Wanted| !other.waits(cx.now);
            if claims.wanted.insert_over(target.word, new, may_go).is_err() {
                return false;
            }
        }
        let Some(entry) = claims.wanted.peek_mut(&target.word) else { return false };
        entry.note(asker, cx.now);
        let recent = entry.recent(claims.within);
        let mut since = Some(entry.times[usize::from(claims.after - 1).min(MOST - 1)]);
        if claims.probe {
            since = entry.probed.filter(|at| cx.now - *at <= claims.within.max(ANSWER));
            if since.is_none() && recent + 1 >= claims.after && claims.budget.take(cx.now) {
                since = Some(cx.now);
                entry.probed = since;
                probe(target, asker.port, cx);
            }
        }
        let Some(ready) = since.map(|at| at + ANSWER).filter(|_| recent >= claims.after) else { return false };
        if ready <= cx.now {
            return self.claim(target, cx);
        }
        if !entry.is_due && claims.due.len() < DUE {
            entry.is_due = true;
            claims.due.push(Reverse((ready, target.word)));
        }
        false
    }

    /// Takes an address, unless there are too many already.
    fn claim(&mut self, target: &Target, cx: &mut Cx<'_>) -> bool {
        let Some(claims) = &mut self.claims else { return false };
        if !claims.probe && !claims.budget.take(cx.now) {
            return false;
        }
        let spare = |claim: &Claim| cx.now - claim.last > SPARE;
        let Ok(evicted) = claims.held.insert_over(target.word, Claim { last: cx.now }, spare) else {
            claims.full_until = cx.now + FULL;
            return false;
        };
        if claims.held.len() == 1 {
            claims.next_sweep = cx.now + claims.period();
        }
        let mut event = Event::new(EventId::AddressClaimed, cx.now);
        if let Some(entry) = claims.wanted.remove(&target.word) {
            event.src = Party { ip: entry.asker.ip.into(), mac: entry.asker.mac, l4_port: 0 };
            event.count = u64::from(entry.recent(claims.within));
        }
        event.dst = Party { ip: MaybeIp::of_word(target.word), mac: target.mac, l4_port: 0 };
        if let Some((word, _)) = evicted {
            self.let_go(word, Release::Evicted, Party::default(), cx);
        }
        cx.emit(&mut event, &[]);
        cx.teach(LESSON, &Lesson::Claimed.write(target.word));
        true
    }

    /// Says that an address is ours no longer, and sends nothing more with it.
    fn let_go(&mut self, word: u128, why: Release, who: Party, cx: &mut Cx<'_>) {
        let ip = ip_of(word);
        let mut event = Event::new(EventId::AddressReleased, cx.now);
        event.code = why as u16;
        event.src = who;
        event.dst = Party { ip: ip.into(), mac: self.target(word).map_or(Mac::ZERO, |target| target.mac), l4_port: 0 };
        cx.emit(&mut event, &[]);
        cx.teach(LESSON, &Lesson::LetGo.write(word));
        self.forget_host(ip, cx);
    }

    /// Sends nothing more with an address: its connections end without a word, its container is stopped.
    pub(super) fn forget_host(&mut self, ip: IpAddr, cx: &mut Cx<'_>) {
        // Half-open connections are asked for theirs when something of them would be sent.
        let of_it = self.flows.slab.iter().filter(|(_, flow)| flow.wire.key.local == ip);
        // Most have none, and all connections of the node are many.
        let flows: Vec<usize> =
            if self.flows.has_host(ip) { of_it.map(|(index, _)| index).collect() } else { Vec::new() };
        for index in flows {
            if let Some(flow) = self.flows.slab.get_mut(index) {
                flow.ending = Some(Ending::Evicted);
            }
            self.finish(index, cx);
        }
        let mut release = |lease: &mut Lease| {
            if !std::mem::replace(&mut lease.releasing, true) {
                cx.requests.push(Request::Release { lease: lease.id, keep: false });
            }
        };
        if self.grants.any {
            let all = self.leases.by_host.iter_mut();
            all.filter(|(whose, _)| whose.host == ip).for_each(|(_, lease)| release(lease));
        } else if let Some(lease) = self.leases.by_host.get_mut(&ip.into()) {
            release(lease);
        }
    }

    /// Takes addresses that were given the time to answer, and lets go of those that nobody speaks to.
    pub(super) fn tend_claims(&mut self, cx: &mut Cx<'_>) {
        while let Some(claims) = &mut self.claims
            && let Some(Reverse((at, word))) = claims.due.peek().copied()
            && at <= cx.now
        {
            claims.due.pop();
            let Some(entry) = claims.wanted.peek_mut(&word) else { continue };
            entry.is_due = false;
            let asker = entry.asker;
            if entry.recent(claims.within) >= claims.after
                && let Some(target) = self.target(word)
                && self.claim(&target, cx)
            {
                self.answer_late(&target, &asker, cx);
            }
        }
        let Hosts { claims: Some(claims), flows, leases, .. } = self else { return };
        if claims.held.is_empty() || cx.now < claims.next_sweep {
            return;
        }
        claims.next_sweep = cx.now + claims.period();
        let in_use = flows.slab.iter().map(|(_, flow)| flow.wire.key.local).chain(leases.hosts());
        for ip in in_use {
            if let Some(claim) = claims.held.peek_mut(&word_of(ip)) {
                claim.last = cx.now;
            }
        }
        let Some(release) = claims.release else { return };
        let mut gone = std::mem::take(&mut claims.gone);
        claims.held.sweep(claims.limit, |_, claim| cx.now - claim.last > release, |word, _| gone.push(word));
        for word in gone.drain(..) {
            self.let_go(word, Release::Idle, Party::default(), cx);
        }
        if let Some(claims) = &mut self.claims {
            claims.gone = gone;
        }
    }

    /// Answers the last request for an address, which came before it was ours.
    fn answer_late(&mut self, target: &Target, asker: &Asker, cx: &mut Cx<'_>) {
        self.asked(asker.ip, target.ip(), asker.mac, cx);
        self.sessions.leave();
        let Some(mut frame) = cx.pool.head() else { return cx.counters.discard(DropReason::NoBuffer) };
        let len = match (target.ip(), asker.ip) {
            (IpAddr::V4(sender), IpAddr::V4(ip)) => {
                let (operation, sender_mac, target_mac) = (Arp::REPLY, target.mac, asker.mac);
                let reply = Arp { operation, sender_mac, sender, target_mac, target: ip };
                reply.write(asker.mac, target.mac, frame.space());
                ARP_FRAME
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let advert = Neighbor { advert: true, target: own, mac: Some(target.mac) };
                advert.write(asker.mac, target.mac, own, ip, 0x60, frame.space())
            }
            _ => return cx.discard(frame, DropReason::Malformed),
        };
        frame.set_len(len);
        cx.send(asker.port, frame);
    }

    /// Takes in what another shard says of an address.
    pub(super) fn taught(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        let lesson = Lesson::read(frame.bytes());
        cx.consume(frame);
        let Some((word, lesson)) = lesson else { return };
        let Some(target) = self.target(word) else { return };
        let Some(claims) = &mut self.claims else { return };
        match lesson {
            Lesson::Spoke(mac) => self.spoke(&target, mac, Release::Owner, cx),
            Lesson::Claimed => {
                claims.elsewhere.insert(word, ());
            }
            Lesson::LetGo => {
                claims.elsewhere.remove(&word);
            }
        }
    }
}

/// Asks whether somebody has an address, as a host does that is about to take it.
fn probe(target: &Target, port: PortNo, cx: &mut Cx<'_>) {
    let Some(mut frame) = cx.pool.head() else { return cx.counters.discard(DropReason::NoBuffer) };
    let len = match target.ip() {
        IpAddr::V4(ip) => {
            let (sender_mac, sender, target_mac) = (target.mac, Ipv4Addr::UNSPECIFIED, Mac::ZERO);
            let question = Arp { operation: Arp::REQUEST, sender_mac, sender, target_mac, target: ip };
            question.write(Mac::BROADCAST, target.mac, frame.space());
            ARP_FRAME
        }
        IpAddr::V6(ip) => {
            let group = solicited_node(ip);
            let question = Neighbor { advert: false, target: ip, mac: None };
            let src = Ipv6Addr::UNSPECIFIED;
            question.write(Mac::ipv6_multicast(group), target.mac, src, group, 0, frame.space())
        }
    };
    frame.set_len(len);
    cx.send(port, frame);
}
