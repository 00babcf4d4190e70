//! Open connections of emulated hosts: from a completed handshake to the last
//! segment.

use super::super::{Cx, Request};
use super::flow::{App, Ending, Flow, Inner, Wire, poll_inline, poll_pipe};
use super::tcp::{Answer, Owner};
use super::{Hosts, Target};
use crate::event::EventId;
use crate::frame::Frame;
use crate::service::{Inline, Service, ServiceKind};
use crate::stack::{Buffers, Conn, FlowKey, HalfOpen, Incoming, KEEP_ALIVE, pipe};
use crate::wire::{Duration, Packet, TcpHeader, TcpOptions, flag, word_of};

/// Octets that wait in each direction between a connection and its relay.
const PIPE: usize = 65_536;
/// How long data may stay unacknowledged before a connection is given up.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How long a peer may be silent before it is taken for gone: long enough to be asked twice. An idle
/// connection keeps a container alive, and there are few of those.
const GONE: Duration = Duration::from_secs(2 * KEEP_ALIVE.total_millis() / 1000 + 75);
/// How long a peer may keep its side open after we have closed ours (as Linux's tcp_fin_timeout).
const LINGER: Duration = Duration::from_secs(60);

impl Hosts {
    /// Gives a completed handshake its connection and what answers it.
    pub(super) fn open(&mut self, key: &FlowKey, entry: &HalfOpen<Owner>, cx: &mut Cx<'_>) -> Option<usize> {
        if self.flows.slab.len() >= self.config.limits.flows as usize
            && let Some(victim) = self.flows.victim(cx.rng)
        {
            if let Some(flow) = self.flows.slab.get_mut(victim) {
                flow.abort(cx.now);
                flow.ending = Some(Ending::Evicted);
            }
            self.drive_one(victim, cx);
            self.finish(victim, cx);
        }
        let target =
            Target { word: word_of(key.local), template: entry.owner.template, mac: entry.mac, hops: entry.hops };
        let service = match entry.owner.answer {
            Answer::Service(id) => {
                self.config.services.get(usize::from(id.0)).cloned().map(|service| (Some(id), service))
            }
            Answer::Container => None,
        };
        let inline = service.as_ref().and_then(|(_, service)| Inline::new(service, cx.now));
        let buffers = if inline.is_some() { Buffers::SMALL } else { Buffers::LARGE };
        let mut syn = entry.syn;
        if entry.window_scale().is_none() {
            syn.options.window_scale = None;
        }
        let seed = cx.rng.next_u64();
        let mss = entry.mss(key.local.is_ipv4());
        let conn =
            Conn::accept(key.local(), key.remote(), &syn, entry.isn, mss, buffers, seed, cx.now, &mut self.scratch);
        let conn = conn?;
        let wire = Wire {
            key: *key,
            mac: entry.mac,
            peer_mac: entry.peer_mac,
            port: entry.port,
            personality: entry.personality,
            hops: entry.hops,
            scale: entry.window_scale().unwrap_or(0),
            ts: entry.ts_offset.map(|offset| (offset, entry.syn.options.timestamps.map_or(0, |(value, _)| value))),
            ip_id: cx.rng.next_u32() as u16,
            next: (entry.isn.wrapping_add(1), entry.syn.isn.wrapping_add(1)),
            bytes_out: 0,
            octets_out: 0,
        };
        let app = match (inline, service) {
            (Some(inline), Some((Some(id), _))) => App::Inline(inline, id, Vec::new()),
            (_, Some((_, service))) if !matches!(service.kind, ServiceKind::Container) => self.relay(key, service, cx),
            _ => self.into_container(key, entry, &target, cx)?,
        };
        let flow = Flow::new(wire, conn, app, (entry.owner.session, entry.owner.origin), cx.now);
        let mut event = flow.event(EventId::TcpOpen, cx.now);
        cx.emit(&mut event, &[]);
        Some(self.flows.insert(flow))
    }

    fn relay(&mut self, key: &FlowKey, service: Service, cx: &mut Cx<'_>) -> App {
        let (plane, relay) = pipe(PIPE, cx.waker.clone());
        cx.requests.push(Request::Open { service, peer: key.remote(), local: key.local(), pipe: relay });
        App::Pipe(plane)
    }

    fn into_container(
        &mut self,
        key: &FlowKey,
        entry: &HalfOpen<Owner>,
        target: &Target,
        cx: &mut Cx<'_>,
    ) -> Option<App> {
        let host = self.config.host_of(key.local);
        let who = crate::event::Party { ip: Some(key.remote), mac: entry.owner.origin, l4_port: key.remote_port };
        let lease = self.begin_lease(target, who, entry.owner.session, cx)?;
        self.leases.learn_peer(host, key.remote, entry.peer_mac);
        self.learn_gateway(host, key.remote, entry.peer_mac);
        Some(App::Inner(Box::new(Inner {
            lease,
            look: entry.owner.look,
            since: cx.now,
            conn: None,
            retry_at: cx.now,
            attempt: Duration::from_millis(20),
            attempt_until: cx.now,
            established: false,
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
        let Hosts { flows, scratch, ids, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return cx.consume(frame) };
        if tcp.flags & (flag::SYN | flag::RST) == flag::SYN {
            // A peer that has restarted answers the challenge with a RST, and its next SYN finds the port free.
            let Flow { conn, wire, .. } = flow;
            conn.challenge(cx.now, scratch, |out| wire.send(out, ids, cx));
            return cx.consume(frame);
        }
        let segment = Incoming::of(tcp, packet.payload(frame.bytes()));
        flow.heard(&TcpOptions::parse(segment.options), segment.payload.len(), cx.now);
        if !segment.payload.is_empty() && !flow.told {
            flow.told = true;
            let mut event = flow.event(EventId::TcpData, cx.now);
            cx.emit(&mut event, segment.payload);
        }
        let was_open = flow.conn.is_open();
        let Flow { conn, wire, .. } = flow;
        conn.ingress(&segment, cx.now, scratch, |out| wire.send(out, ids, cx));
        // A RST outside the window has ended nothing.
        if tcp.has(flag::RST) && was_open && flow.conn.is_closed() {
            flow.ending.get_or_insert(Ending::ResetByPeer);
        }
        flows.dirty.push(index);
        cx.consume(frame);
    }

    /// Has every connection that something happened to do what it can.
    pub(super) fn drive(&mut self, cx: &mut Cx<'_>) {
        self.flows.wake_piped();
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
        let Hosts { flows, scratch, ids, config, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return };
        // What is sent at first makes room for more.
        for again in [false, true] {
            if again && flow.closing.is_some() {
                break;
            }
            match flow.app {
                App::Inline(..) => poll_inline(flow, &config.services, cx),
                App::Pipe(_) => poll_pipe(flow, cx),
                App::Inner(_) => {}
            }
            let Flow { conn, wire, .. } = flow;
            conn.egress(cx.now, scratch, |out| wire.send(out, ids, cx));
        }
        if flow.conn.is_closed() || (flow.closing.is_some() && flow.conn.is_time_wait()) {
            return self.finish(index, cx);
        }
        let mut deadline = flow.conn.deadline(cx.now);
        if let App::Inline(inline, id, _) = &flow.app
            && flow.closing.is_none()
            && let Some(service) = config.services.get(usize::from(id.0))
        {
            deadline = deadline.into_iter().chain(inline.deadline(service)).min();
        }
        // smoltcp's own timeout knows no difference between the two.
        let silent = flow.last + if flow.conn.is_unacknowledged() { TIMEOUT } else { GONE };
        if cx.now >= silent {
            flow.abort(cx.now);
            return self.finish(index, cx);
        }
        deadline = deadline.into_iter().chain([silent]).min();
        if let Some(since) = flow.closing {
            // A peer that never finishes its own side is left to itself.
            if cx.now >= since + LINGER {
                flow.abort(cx.now);
                let Flow { conn, wire, .. } = flow;
                conn.egress(cx.now, scratch, |out| wire.send(out, ids, cx));
                return self.finish(index, cx);
            }
            deadline = deadline.into_iter().chain([since + LINGER]).min();
        }
        // smoltcp's "now" means that it waits for room in the window: the peer will tell.
        let deadline = deadline.map(|at| at.max(cx.now + Duration::from_micros(500)));
        flows.schedule(index, deadline);
    }

    /// Forgets a connection and says how it ended.
    pub(super) fn finish(&mut self, index: usize, cx: &mut Cx<'_>) {
        let Some(mut flow) = self.flows.remove(index) else { return };
        if let App::Pipe(pipe) = &mut flow.app
            && flow.ending != Some(Ending::Closed)
        {
            pipe.reset();
        }
        if let App::Inner(_) = &flow.app {
            self.end_inner(&mut flow, cx);
        }
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
    }
}
