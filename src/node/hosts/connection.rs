//! Open connections of emulated hosts: from a completed handshake to the last
//! segment.

use super::super::{Cx, Request, ResponseTime};
use super::flow::{App, Ending, Flow, Inner, Normal, Wire, poll_inline, poll_pipe};
use super::middle::Middle;
use super::pace::Wait;
use super::tcp::Answer;
use super::{Hosts, Target, patience, splice};
use crate::emulate::ServiceId;
use crate::event::{DropReason, EventId, Party, SessionId};
use crate::frame::Frame;
use crate::service::{Caller, Inline, Service, ServiceKind};
use crate::stack::{Agreed, Conn, FlowKey, HalfOpen, Incoming, KEEP_ALIVE, pipe};
use crate::wire::{Duration, Mac, Packet, TcpHeader, TcpOptions, flag};

/// Octets that wait at most in each direction between a connection and its relay.
const PIPE: usize = 256 * 1024;
/// How long the first attempt to connect to a service may take.
pub(super) const FIRST_ATTEMPT: Duration = Duration::from_millis(20);
/// How long data may stay unacknowledged before a connection is given up.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How long a peer may be silent before it is taken for gone: long enough to be asked twice. An idle
/// connection keeps a container alive, and there are few of those.
const GONE: Duration = Duration::from_secs(2 * KEEP_ALIVE.total_millis() / 1000 + 75);
/// Ports whose servers want to know whether a silent client is still there: sshd (TCPKeepAlive), telnetd, SMB, MySQL
/// and PostgreSQL. Connections of all others end when they were silent for too long.
const KEPT_ALIVE: [u16; 5] = [22, 23, 445, 3306, 5432];
/// How long a peer may keep its side open after we have closed ours (as Linux's tcp_fin_timeout).
const LINGER: Duration = Duration::from_secs(60);
/// When a connection tries again that found all buffers in use.
const AGAIN: Duration = Duration::from_millis(100);
/// Connections that may wait to be looked at before the batch is interrupted for them: what they
/// borrow to work with is still in the processor's caches then, and it is little.
pub(super) const TOGETHER: usize = 32;

/// Who completes a handshake.
#[derive(Clone, Copy)]
pub(super) struct Who {
    pub session: SessionId,
    /// The attacker's MAC, which is not the next hop's if there is a router between.
    pub origin: Mac,
}

impl Hosts {
    /// Gives a completed handshake its connection and what answers it.
    pub(super) fn open(
        &mut self,
        key: &FlowKey,
        entry: &HalfOpen<Answer>,
        target: &Target,
        who: Who,
        cx: &mut Cx<'_>,
    ) -> Option<usize> {
        if self.flows.slab.len() >= self.config.limits.flows as usize
            && let Some(victim) = self.flows.victim(cx.rng)
        {
            self.evict(victim, cx);
        }
        let personality = self.template(target.template).personality.get();
        let scales = entry.window_scales(personality);
        let offered = entry.offered();
        let agreed = Agreed {
            peer_isn: entry.peer_isn,
            isn: entry.isn,
            scale: scales.map_or(0, |(peer, _)| peer),
            mss: entry.mss(personality, key.local.is_ipv4()),
            sack: entry.agreed(personality).sack_permitted,
            habits: personality.tcp,
            keep_alive: KEPT_ALIVE.contains(&key.local_port),
            trip: entry.trip(cx.now),
        };
        let clock = entry.has_timestamps(personality).then(|| self.ts_offset(personality, key));
        let wire = Wire {
            key: *key,
            mac: target.mac,
            peer_mac: entry.peer_mac,
            port: entry.port,
            personality,
            hops: entry.hops,
            scale: scales.map_or(0, |(_, ours)| ours),
            ts: clock.map(|offset| (offset, offered.timestamps.map_or(0, |(value, _)| value))),
            ip_id: cx.rng.next_u32() as u16,
            flow_label: self.label_of(personality, key),
            next: (entry.isn.wrapping_add(1), entry.peer_isn.wrapping_add(1)),
            bytes_out: 0,
            octets_out: 0,
        };
        let app = self.answer(key, entry, target, who, cx)?;
        let mut flow = Flow::new(wire, Conn::accept(&agreed, cx.now), app, (who.session, who.origin), cx.now);
        if let App::Inline(_, id, _) = &flow.app
            && self.config.response_time == ResponseTime::Auto
            && self.service(*id).is_some_and(|service| service.kind.speaks_first())
        {
            flow.watch.keep_quiet(&self.pace, key.local_port, Wait::Greeting, cx);
        }
        let mut event = flow.event(EventId::TcpOpen, cx.now);
        cx.emit(&mut event, &[]);
        Some(self.flows.insert(flow))
    }

    fn service(&self, id: ServiceId) -> Option<&Service> {
        self.config.services.get(usize::from(id.0))
    }

    /// What answers a connection.
    fn answer(
        &mut self,
        key: &FlowKey,
        entry: &HalfOpen<Answer>,
        target: &Target,
        who: Who,
        cx: &mut Cx<'_>,
    ) -> Option<App> {
        let service = match entry.owner {
            Answer::Service(id) => self.service(id).map(|service| (id, service)),
            Answer::Container => None,
        };
        let has_challenges = service.is_some_and(|(_, service)| service.kind.has_challenges());
        let seed = if has_challenges { cx.rng.next_u64() } else { 0 };
        let caller = Caller { from: key.remote, seed, now: cx.now };
        match service {
            Some((id, service)) if let Some(inline) = Inline::new(service, caller) => {
                Some(App::Inline(inline, id, Box::default()))
            }
            Some((_, service)) if !matches!(service.kind, ServiceKind::Container) => {
                let is_inside = matches!(service.kind, ServiceKind::Recorded(_));
                if is_inside {
                    self.backend(target)?;
                }
                let (plane, pipe) = pipe(PIPE, self.flows.due(cx.waker), self.sockets.budget().clone());
                let (service, peer, local) = (Box::new(service.clone()), key.remote(), key.local());
                cx.requests.push(Request::Open { node: cx.node, service, session: who.session, peer, local, pipe });
                match is_inside {
                    true => {
                        let middle = Middle { attacker: plane, inside: None };
                        self.into_container(key, entry, target, who, Some(middle), cx)
                    }
                    false => Some(App::Pipe(Box::new(plane))),
                }
            }
            _ => self.into_container(key, entry, target, who, None, cx),
        }
    }

    fn into_container(
        &mut self,
        key: &FlowKey,
        entry: &HalfOpen<Answer>,
        target: &Target,
        who: Who,
        middle: Option<Middle>,
        cx: &mut Cx<'_>,
    ) -> Option<App> {
        let whose = self.whose(target, key.remote, entry.port);
        let party = Party { ip: key.remote.into(), mac: who.origin, l4_port: key.remote_port };
        self.backend(target)?;
        // Without a lease it waits for one: a RST after our SYN/ACK would say that nobody means it. Whoever is in the
        // middle dials when there is a reason to.
        let lease = match middle {
            None => self.begin_lease(target, whose, (party, entry.port), who.session, cx),
            Some(_) => None,
        };
        self.leases.learn_peer(whose, key.remote, entry.peer_mac);
        self.learn_gateway(whose, key.remote, entry.peer_mac);
        let template = self.template(target.template);
        let personality = template.personality.get();
        let banner = self.banners.of(target.template).filter(|_| middle.is_none());
        let normalize = &template.normalize;
        Some(App::Inner(Box::new(Inner {
            whose,
            lease: lease.unwrap_or(patience::NONE),
            leased: cx.now,
            given: 1,
            look: entry.look,
            offered: entry.agreed(personality),
            since: cx.now,
            conn: None,
            retry_at: cx.now,
            attempt: FIRST_ATTEMPT,
            attempt_until: cx.now,
            tries: 0,
            deaf_since: None,
            banner,
            normal: Normal { ttl: normalize.ttl, ip_id: normalize.ip_id, tos: normalize.tos },
            established: false,
            may_splice: middle.is_none() && splice::is_allowed(template),
            splice: None,
            clock: None,
            middle,
        })))
    }

    pub(super) fn flow_ingress(
        &mut self,
        index: usize,
        frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        cx: &mut Cx<'_>,
    ) {
        let Hosts { flows, sockets, ids, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return cx.consume(frame) };
        if flow.is_spliced() {
            return self.splice_inward(index, frame, packet, tcp, cx);
        }
        let segment = Incoming::of(tcp, packet.payload(frame.bytes()));
        let was_open = flow.conn.is_open();
        flow.last = cx.now;
        let is_old = flow.is_old(tcp, &TcpOptions::parse(segment.options));
        let news = if flow.conn.is_news(&segment) { segment.payload } else { &[] };
        let is_late = flow.is_deaf() && !news.is_empty();
        let Flow { conn, wire, .. } = flow;
        if is_old {
            conn.challenge(cx.now, |out| wire.send(out, ids, cx));
            return cx.consume(frame);
        }
        if is_late {
            conn.refuse(&segment, sockets, |out| wire.send(out, ids, cx));
            flow.ending = Some(Ending::ResetByUs);
            flows.dirty.push(index);
            return cx.consume(frame);
        }
        let mut taken = conn.ingress(&segment, cx.now, sockets, |out| wire.send(out, ids, cx));
        if !taken && self.relieve(index, cx) {
            let Hosts { flows, sockets, ids, .. } = self;
            let Some(Flow { conn, wire, .. }) = flows.slab.get_mut(index) else { return cx.consume(frame) };
            taken = conn.ingress(&segment, cx.now, sockets, |out| wire.send(out, ids, cx));
        }
        if !taken {
            // Lost, as segments may be: the peer sends it again.
            return cx.discard(frame, DropReason::NoBuffer);
        }
        let Hosts { flows, pace, config, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return cx.consume(frame) };
        flow.bytes_in += news.len() as u64;
        if !news.is_empty() {
            flow.watch.ask(cx.now);
            if matches!(flow.app, App::Inline(..)) && config.response_time == ResponseTime::Auto {
                flow.watch.keep_quiet(pace, flow.wire.key.local_port, Wait::Answer, cx);
            }
        }
        if !news.is_empty() && !flow.told {
            flow.told = true;
            let mut event = flow.event(EventId::TcpData, cx.now);
            cx.emit(&mut event, news);
        }
        // A RST or SYN outside the window has ended nothing.
        if was_open && flow.conn.is_closed() && tcp.flags & (flag::RST | flag::SYN) != 0 {
            let by_peer = tcp.has(flag::RST);
            let ending = if by_peer { Ending::ResetByPeer } else { Ending::ResetByUs };
            match &mut flow.ending {
                // A goodbye of ours has not been heard then, and nobody owes anything any more.
                Some(closed @ Ending::Closed) => *closed = ending,
                before => drop(before.get_or_insert(ending)),
            }
        }
        self.flows.dirty.push(index);
        cx.consume(frame);
    }

    /// Takes the buffers of a connection other than that at `asking`. Whether there was one to be had.
    fn relieve(&mut self, asking: usize, cx: &mut Cx<'_>) -> bool {
        self.sockets.take_refused();
        let victim = self.flows.holder(cx.now, cx.rng).filter(|victim| *victim != asking);
        if let Some(victim) = victim {
            self.evict(victim, cx);
        }
        victim.is_some()
    }

    /// Ends a connection with a RST, and at once.
    fn evict(&mut self, index: usize, cx: &mut Cx<'_>) {
        let Hosts { flows, sockets, ids, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return };
        flow.abort(cx.now);
        flow.ending = Some(Ending::Evicted);
        let Flow { conn, wire, .. } = flow;
        conn.egress(cx.now, sockets, wire.may_gather(), |out| wire.send(out, ids, cx));
        self.finish(index, cx);
    }

    /// Has every connection that something happened to do what it can.
    pub(super) fn drive(&mut self, cx: &mut Cx<'_>) {
        self.flows.wake_due_pipes();
        // What is driven may mark others; each is driven at most so often a batch.
        for _ in 0..4 {
            let mut dirty = std::mem::take(&mut self.flows.dirty);
            if dirty.is_empty() {
                return;
            }
            dirty.sort_unstable();
            dirty.dedup();
            for index in dirty.drain(..) {
                self.drive_one(index, cx);
            }
            if self.flows.dirty.is_empty() {
                self.flows.dirty = dirty;
            }
        }
    }

    pub(super) fn drive_one(&mut self, index: usize, cx: &mut Cx<'_>) {
        if self.flows.slab.get(index).is_some_and(|flow| matches!(flow.app, App::Inner(_))) {
            self.drive_inner(index, cx);
        }
        let Hosts { flows, sockets, ids, config, unread, pace, identity, notary, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return };
        if flow.is_spliced() {
            // Its ends look after themselves, as long as they are there.
            let at = flow.last + GONE;
            if cx.now < at {
                flows.schedule(index, Some(at));
                return self.account(index, cx);
            }
            flow.abort(cx.now);
        }
        match flow.app {
            App::Inline(..) if !flow.watch.may_speak(pace, cx.now) => {}
            App::Inline(..) => poll_inline(flow, (config, identity, notary), sockets, unread, cx),
            App::Pipe(_) => poll_pipe(flow, sockets, cx),
            App::Inner(_) => {}
        }
        let Flow { conn, wire, .. } = flow;
        conn.egress(cx.now, sockets, wire.may_gather(), |out| wire.send(out, ids, cx));
        if conn.is_closed() {
            // Nobody has said anything: nobody has answered.
            flow.ending.get_or_insert(Ending::TimedOut);
        }
        if (conn.is_closed() || (flow.closing.is_some() && conn.is_time_wait())) && !flow.owes() {
            return self.finish(index, cx);
        }
        flow.conn.rest(cx.now, sockets);
        if flow.try_splice(cx.now) {
            return self.spliced(index, cx);
        }
        let Flow { conn, .. } = flow;
        let mut deadline = conn.deadline(cx.now, sockets);
        let mut sooner = |at| deadline = deadline.into_iter().chain([at]).min();
        if let App::Inline(inline, id, _) = &flow.app
            && flow.closing.is_none()
            && let Some(at) = config.services.get(usize::from(id.0)).and_then(|service| inline.deadline(service))
        {
            sooner(at);
        }
        // smoltcp's own timeout knows no difference between the two.
        let silent = flow.last + if flow.conn.is_unacknowledged() { TIMEOUT } else { GONE };
        if cx.now >= silent {
            flow.ending.get_or_insert(Ending::TimedOut);
            flow.abort(cx.now);
            return self.finish(index, cx);
        }
        sooner(silent);
        if let Some(since) = flow.closing {
            // Whoever never finishes the own side, or takes what is left, is left to itself.
            if cx.now >= since + LINGER {
                // Whose FIN was acknowledged has nothing more to say: only what still comes is answered by a RST.
                let is_done = flow.conn.is_half_closed();
                flow.abort(cx.now);
                let Flow { conn, wire, .. } = flow;
                if !is_done {
                    conn.egress(cx.now, sockets, wire.may_gather(), |out| wire.send(out, ids, cx));
                }
                return self.finish(index, cx);
            }
            sooner(since + LINGER);
        }
        // smoltcp's "now" means that it waits for room in the window: the peer will tell.
        let deadline = deadline.map(|at| at.max(cx.now + Duration::from_micros(500)));
        let quiet = flow.watch.quiet(cx.now);
        flows.schedule(index, deadline.into_iter().chain(quiet).min());
        self.account(index, cx);
    }

    /// Charges the budget with what a connection holds; if that is too much, somebody has to go.
    fn account(&mut self, index: usize, cx: &mut Cx<'_>) {
        let Hosts { flows, sockets, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return };
        let kept = flow.kept();
        sockets.budget().charge(kept);
        sockets.budget().release(std::mem::replace(&mut flow.charged, kept));
        flows.account(index);
        let refused = sockets.take_refused();
        if !refused && !sockets.budget().lacks(0) {
            return;
        }
        if self.relieve(index, cx) && refused {
            self.flows.dirty.push(index);
        } else if refused {
            self.flows.schedule(index, Some(cx.now + AGAIN));
        }
    }

    /// Forgets a connection and says how it ended.
    pub(super) fn finish(&mut self, index: usize, cx: &mut Cx<'_>) {
        let Some(mut flow) = self.flows.remove(index) else { return };
        if flow.ending != Some(Ending::Closed)
            && let Some(pipe) = flow.app.pipe()
        {
            pipe.reset();
        }
        if let App::Inner(_) = &flow.app {
            self.end_inner(&mut flow, cx);
        }
        self.sockets.budget().release(flow.charged);
        self.ended.remember(&flow, cx.now);
        if let Some(session) = self.sessions.get(&flow.pair()) {
            session.bytes_out += flow.wire.octets_out;
        }
        let mut event = flow.event(EventId::TcpClose, cx.now);
        event.code = flow.ending.unwrap_or(Ending::Closed) as u16;
        event.bytes_in = flow.bytes_in;
        event.bytes_out = flow.wire.bytes_out;
        event.count = (cx.now - flow.opened).total_micros();
        cx.emit(&mut event, &[]);
        flow.conn.end(&mut self.sockets);
    }

    /// Says of each connection that the honeynet's end is its own, and what passed it by then. Nobody at the other end hears
    /// of that: a machine that is switched off says nothing either.
    pub(super) fn end_connections(&mut self, cx: &mut Cx<'_>) {
        let open: Vec<usize> = self.flows.slab.iter().map(|(index, _)| index).collect();
        for index in open {
            if let Some(flow) = self.flows.slab.get_mut(index) {
                flow.ending.get_or_insert(Ending::HoneynetEnded);
            }
            self.finish(index, cx);
        }
    }
}
