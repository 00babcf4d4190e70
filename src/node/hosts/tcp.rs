//! TCP as an emulated host meets it: probes, handshakes, open connections.

use super::super::{Cx, Request};
use super::flow::{App, Ending, Flow, Inner, SynLook, Wire, poll_inline, poll_pipe};
use super::session::Contact;
use super::{Hosts, Target, event_of};
use crate::emulate::reply::{self, Voice};
use crate::emulate::{ServiceId, TcpPort};
use crate::event::{DropReason, EventId, PortAnswer, SessionId};
use crate::frame::Frame;
use crate::service::{Inline, Service, ServiceKind};
use crate::stack::{Buffers, Conn, FlowKey, HalfOpen, Incoming, SynInfo, pipe};
use crate::wire::{Duration, Headers, Instant, Mac, Packet, Segment, TcpHeader, TcpOptions, flag, proto, src_mac};

/// Octets that wait in each direction between a connection and its relay.
const PIPE: usize = 65_536;
/// How long data may stay unacknowledged before a connection is given up.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How long a peer may keep its side open after we have closed ours (as Linux's tcp_fin_timeout).
const LINGER: Duration = Duration::from_secs(60);

/// SYN/ACKs that a node may send again: to sources that have not proven that
/// they exist, hence few. Normal clients need none.
pub(super) struct Budget {
    left: u32,
    refilled: Instant,
}

/// Retransmissions at once, and a second.
const BURST: u32 = 1000;
const RATE: u64 = 200;

impl Default for Budget {
    fn default() -> Budget {
        Budget { left: BURST, refilled: Instant::ZERO }
    }
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        let earned = (now - self.refilled).total_millis() * RATE / 1000;
        if earned > 0 {
            self.left = BURST.min(self.left.saturating_add(earned.min(u64::from(BURST)) as u32));
            self.refilled = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// Who answers once a handshake is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A service of the template.
    Service(ServiceId),
    /// The live container, at a port that the template does not list.
    Container,
}

/// What a handshake's entry remembers besides the handshake.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    answer: Answer,
    session: SessionId,
    template: u16,
    look: SynLook,
}

/// A SYN that waits for the container's answer.
#[derive(Clone, Copy)]
pub(super) struct Held {
    half_open: HalfOpen<Owner>,
}

impl Hosts {
    #[inline]
    pub(super) fn tcp(&mut self, frame: Frame, packet: &Packet, target: &Target, cx: &mut Cx<'_>) {
        let l4 = packet.payload(frame.bytes());
        let Some(tcp) = TcpHeader::parse(l4) else {
            return cx.discard(frame, DropReason::Malformed);
        };
        let key = FlowKey { local: packet.dst, remote: packet.src, local_port: tcp.dst, remote_port: tcp.src };
        let (session, ip_id, _) = self.touch(&frame, packet, Contact::Tcp, tcp.dst, cx);
        if let Some(index) = self.flows.find(&key) {
            return self.flow_ingress(index, frame, packet, &tcp, cx);
        }
        if tcp.flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN {
            return self.syn(frame, packet, &tcp, key, target, session, ip_id, cx);
        }
        if self.half_open.get(&key).is_some() {
            return self.handshake(frame, packet, &tcp, key, target, ip_id, cx);
        }
        if self.is_outward(proto::TCP, &key) {
            return self.to_container(frame, packet, target, cx);
        }
        if tcp.has(flag::RST) {
            return cx.discard(frame, DropReason::NoFlow);
        }
        match self.port_state(target, tcp.dst) {
            TcpPort::Filtered => cx.discard(frame, DropReason::Filtered),
            TcpPort::Tarpit if tcp.has(flag::ACK) => self.tarpit_ack(frame, packet, &tcp, target, ip_id, cx),
            _ => {
                self.probe(&frame, packet, session, PortAnswer::Closed, cx);
                self.rst(frame, packet, &tcp, target, ip_id, cx);
            }
        }
    }

    fn probe(&self, frame: &Frame, packet: &Packet, session: SessionId, answer: PortAnswer, cx: &mut Cx<'_>) {
        let mut event = event_of(EventId::TcpProbe, frame, packet, session, cx.now);
        event.code = answer as u16;
        cx.emit(&mut event, &[]);
    }

    #[inline]
    fn rst(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        target: &Target,
        ip_id: u16,
        cx: &mut Cx<'_>,
    ) {
        let voice = self.voice(target, ip_id, cx);
        reply::rst(&mut frame, packet, tcp, &voice);
        let port = frame.meta.port;
        cx.send(port, frame);
    }

    #[inline]
    fn port_state(&self, target: &Target, l4_port: u16) -> TcpPort {
        let template = self.template(target.template);
        template.tcp.get(&l4_port).copied().unwrap_or(template.tcp_default)
    }

    #[allow(clippy::too_many_arguments)]
    #[inline]
    fn syn(
        &mut self,
        frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        key: FlowKey,
        target: &Target,
        session: SessionId,
        ip_id: u16,
        cx: &mut Cx<'_>,
    ) {
        let syn = SynInfo {
            isn: tcp.seq,
            window: tcp.window,
            options: TcpOptions::parse(&packet.payload(frame.bytes())[20..tcp.len]),
        };
        if let Some(entry) = self.half_open.get(&key).copied().filter(|entry| entry.syn.isn == syn.isn) {
            // The same SYN again: our answer was lost, or the peer is impatient.
            return self.send_syn_ack(frame, &key, &entry, cx);
        }
        let listed = self.template(target.template).tcp.contains_key(&tcp.dst);
        let state = self.port_state(target, tcp.dst);
        let lease = if listed { None } else { self.leases.live(self.config.host_of(target.ip)) };
        let answer = match (state, lease) {
            (_, Some(_)) => PortAnswer::Held,
            (TcpPort::Closed, _) => PortAnswer::Closed,
            (TcpPort::Filtered, _) => PortAnswer::Filtered,
            (TcpPort::Tarpit, _) => PortAnswer::Tarpit,
            (TcpPort::Open(_), _) => PortAnswer::Open,
        };
        self.probe(&frame, packet, session, answer, cx);
        let answered_by = match (state, lease) {
            (_, Some((_, port))) => {
                let entry = self.half_open_of(&frame, packet, tcp, syn, target, session, Answer::Container, cx.now);
                self.held.insert(key, Held { half_open: entry });
                // The container sees the attacker's own SYN, from the MAC that it came from.
                return cx.send(port, frame);
            }
            (TcpPort::Closed, _) => return self.rst(frame, packet, tcp, target, ip_id, cx),
            (TcpPort::Filtered, _) => return cx.discard(frame, DropReason::Filtered),
            (TcpPort::Tarpit, _) => return self.tarpit_syn(frame, packet, tcp, syn, target, cx),
            (TcpPort::Open(service), _) => Answer::Service(service),
        };
        let entry = self.half_open_of(&frame, packet, tcp, syn, target, session, answered_by, cx.now);
        if self.half_open.insert(key, entry, cx.now).is_some() {
            cx.counters.discard(DropReason::TableFull);
        }
        self.send_syn_ack(frame, &key, &entry, cx);
    }

    #[allow(clippy::too_many_arguments)]
    fn half_open_of(
        &self,
        frame: &Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        syn: SynInfo,
        target: &Target,
        session: SessionId,
        answer: Answer,
        now: Instant,
    ) -> HalfOpen<Owner> {
        let personality = self.template(target.template).personality.get();
        // RFC 6528 §3: a clock of four microseconds and a keyed function of the connection.
        let clock = (now.total_micros() / 4) as u32;
        let isn = self.identity.isn(packet.dst, tcp.dst, packet.src, tcp.src).wrapping_add(clock);
        let ts_offset = (personality.ts_hz > 0 && syn.options.timestamps.is_some()).then(|| {
            if personality.ts_per_peer {
                self.identity.ts_offset(packet.dst, packet.src)
            } else {
                (self.identity.uptime_secs(packet.dst) as u32).wrapping_mul(personality.ts_hz)
            }
        });
        HalfOpen {
            syn,
            isn,
            ts_offset,
            personality,
            mac: target.mac,
            peer_mac: src_mac(frame.bytes()),
            port: frame.meta.port,
            hops: target.hops,
            retries: 0,
            owner: Owner {
                answer,
                session,
                template: target.template,
                look: SynLook::new(&packet.payload(frame.bytes())[20..tcp.len], packet.ttl),
            },
        }
    }

    /// Writes the SYN/ACK of a handshake over `frame` and sends it.
    fn send_syn_ack(&mut self, mut frame: Frame, key: &FlowKey, entry: &HalfOpen<Owner>, cx: &mut Cx<'_>) {
        let p = entry.personality;
        let mut options = [0; 40];
        let len = entry.syn_ack_options(key.local.is_ipv4(), cx.now, &mut options);
        let headers = Headers {
            dst_mac: entry.peer_mac,
            src_mac: entry.mac,
            src: key.local,
            dst: key.remote,
            proto: proto::TCP,
            ttl: p.ttl.saturating_sub(entry.hops).max(1),
            tos: 0,
            ip_id: self.ids.next(p.syn_ack_ip_id, key.local, None, cx),
            df: p.tcp_df,
        };
        let segment = Segment {
            src: key.local_port,
            dst: key.remote_port,
            seq: entry.isn,
            ack: entry.syn.isn.wrapping_add(1),
            flags: flag::SYN | flag::ACK,
            window: p.syn_ack_window,
            options: &options[..len],
            payload: &[],
        };
        let len = segment.write(&headers, frame.space());
        frame.set_len(len);
        cx.send(entry.port, frame);
    }

    pub(super) fn retransmit_syn_acks(&mut self, cx: &mut Cx<'_>) {
        while let Some((key, entry)) = self.half_open.next_due(cx.now) {
            if !self.retransmissions.take(cx.now) {
                continue;
            }
            match cx.pool.head() {
                Some(frame) => self.send_syn_ack(frame, &key, &entry, cx),
                None => return cx.counters.discard(DropReason::NoBuffer),
            }
        }
    }

    /// SYN/ACK with a window of zero, without remembering anything.
    fn tarpit_syn(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        syn: SynInfo,
        target: &Target,
        cx: &mut Cx<'_>,
    ) {
        let clock = (cx.now.total_micros() / 4) as u32;
        let isn = self.identity.isn(packet.dst, tcp.dst, packet.src, tcp.src).wrapping_add(clock);
        let voice = self.voice(target, 0, cx);
        let [a, b] = voice.personality.mss.to_be_bytes();
        let segment = Segment {
            src: tcp.dst,
            dst: tcp.src,
            seq: isn,
            ack: syn.isn.wrapping_add(1),
            flags: flag::SYN | flag::ACK,
            window: 0,
            options: &[2, 4, a, b],
            payload: &[],
        };
        reply::answer(&mut frame, packet, &segment, &voice, voice.personality.tcp_df);
        let port = frame.meta.port;
        cx.send(port, frame);
    }

    /// Acknowledges nothing and opens no window, for as long as the peer tries.
    fn tarpit_ack(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        target: &Target,
        ip_id: u16,
        cx: &mut Cx<'_>,
    ) {
        if packet.end - packet.l4 == tcp.len && !tcp.has(flag::FIN) {
            // A bare ACK completes the handshake and needs no answer.
            return cx.consume(frame);
        }
        let voice = self.voice(target, ip_id, cx);
        let segment = Segment {
            src: tcp.dst,
            dst: tcp.src,
            seq: tcp.ack,
            ack: tcp.seq,
            flags: flag::ACK,
            window: 0,
            options: &[],
            payload: &[],
        };
        reply::answer(&mut frame, packet, &segment, &voice, voice.personality.tcp_df);
        let port = frame.meta.port;
        cx.send(port, frame);
    }

    /// A segment of a connection whose handshake is not complete.
    #[allow(clippy::too_many_arguments)]
    fn handshake(
        &mut self,
        frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        key: FlowKey,
        target: &Target,
        ip_id: u16,
        cx: &mut Cx<'_>,
    ) {
        let Some(entry) = self.half_open.get(&key).copied() else { return cx.consume(frame) };
        if tcp.has(flag::RST) {
            // RFC 5961 §3.2: only a RST at the very sequence number that we expect counts.
            if tcp.seq == entry.syn.isn.wrapping_add(1) {
                self.half_open.remove(&key);
            }
            return cx.consume(frame);
        }
        if !tcp.has(flag::ACK) || tcp.ack != entry.isn.wrapping_add(1) {
            return self.rst(frame, packet, tcp, target, ip_id, cx);
        }
        self.half_open.remove(&key);
        match self.open(&key, &entry, cx) {
            Some(index) => self.flow_ingress(index, frame, packet, tcp, cx),
            None => self.rst(frame, packet, tcp, target, ip_id, cx),
        }
    }

    /// Gives a completed handshake its connection and what answers it.
    fn open(&mut self, key: &FlowKey, entry: &HalfOpen<Owner>, cx: &mut Cx<'_>) -> Option<usize> {
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
        let target = Target { ip: key.local, template: entry.owner.template, mac: entry.mac, hops: entry.hops };
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
            bytes_out: 0,
        };
        let app = match (inline, service) {
            (Some(inline), Some((Some(id), _))) => App::Inline(inline, id, Vec::new()),
            (_, Some((_, service))) if !matches!(service.kind, ServiceKind::Container) => self.relay(key, service, cx),
            _ => self.into_container(key, entry, &target, cx)?,
        };
        let flow = Flow::new(wire, conn, app, entry.owner.session, cx.now);
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
        let who = crate::event::Party { ip: Some(key.remote), mac: entry.peer_mac, l4_port: key.remote_port };
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

    fn flow_ingress(&mut self, index: usize, frame: Frame, packet: &Packet, tcp: &TcpHeader, cx: &mut Cx<'_>) {
        let Hosts { flows, scratch, ids, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return cx.consume(frame) };
        let l4 = packet.payload(frame.bytes());
        let (options, payload) = (&l4[20..tcp.len], &l4[tcp.len..]);
        flow.heard(&TcpOptions::parse(options), payload.len(), cx.now);
        if !payload.is_empty() && !flow.told {
            flow.told = true;
            let mut event = flow.event(EventId::TcpData, cx.now);
            cx.emit(&mut event, payload);
        }
        if tcp.has(flag::RST) && flow.conn.is_open() {
            flow.ending.get_or_insert(Ending::ResetByPeer);
        }
        let segment = Incoming { seq: tcp.seq, ack: tcp.ack, flags: tcp.flags, window: tcp.window, options, payload };
        let Flow { conn, wire, .. } = flow;
        conn.ingress(&segment, cx.now, scratch, |out| wire.send(out, ids, cx));
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
        match flow.app {
            App::Inline(..) => poll_inline(flow, &config.services, cx),
            App::Pipe(_) => poll_pipe(flow, cx),
            App::Inner(_) => {}
        }
        let Flow { conn, wire, .. } = flow;
        conn.egress(cx.now, scratch, |out| wire.send(out, ids, cx));
        // What was acknowledged made room for more.
        if flow.closing.is_none() {
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
            && let Some(service) = config.services.get(usize::from(id.0))
        {
            deadline = deadline.into_iter().chain(inline.deadline(service)).min();
        }
        // smoltcp's own timeout would end idle connections as well.
        if flow.conn.is_unacknowledged() && cx.now - flow.last > TIMEOUT {
            flow.abort(cx.now);
            return self.finish(index, cx);
        }
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
        if let Some(session) = self.sessions.get(&flow.pair()) {
            session.bytes_out += flow.wire.bytes_out;
        }
        let mut event = flow.event(EventId::TcpClose, cx.now);
        event.code = flow.ending.unwrap_or(Ending::Closed) as u16;
        event.bytes_in = flow.bytes_in;
        event.bytes_out = flow.wire.bytes_out;
        event.count = (cx.now - flow.opened).total_micros();
        cx.emit(&mut event, &[]);
    }

    /// The container has answered a held SYN: with SYN/ACK (`open`) or RST.
    pub(super) fn held_answer(&mut self, frame: Frame, key: FlowKey, tcp: &TcpHeader, open: bool, cx: &mut Cx<'_>) {
        let Some(Held { half_open: entry }) = self.held.remove(&key) else { return cx.consume(frame) };
        let container_port = frame.meta.port;
        if open {
            // The container's own half of that handshake is called off; the
            // connection proper follows when the attacker's is complete.
            if let Some(mut rst) = cx.pool.head() {
                let headers = inward(&key, &entry.owner.look, entry.mac, entry.peer_mac);
                let segment = Segment {
                    src: key.remote_port,
                    dst: key.local_port,
                    seq: tcp.ack,
                    ack: 0,
                    flags: flag::RST,
                    window: 0,
                    options: &[],
                    payload: &[],
                };
                let len = segment.write(&headers, rst.space());
                rst.set_len(len);
                cx.send(container_port, rst);
            }
            self.half_open.insert(key, entry, cx.now);
            return self.send_syn_ack(frame, &key, &entry, cx);
        }
        self.refuse(frame, &key, &entry, cx);
    }

    /// Answers a held SYN with the RST of a closed port.
    fn refuse(&mut self, mut frame: Frame, key: &FlowKey, entry: &HalfOpen<Owner>, cx: &mut Cx<'_>) {
        let voice = Voice { mac: entry.mac, personality: entry.personality, ip_id: 0, hops: entry.hops };
        let headers = Headers {
            dst_mac: entry.peer_mac,
            src_mac: voice.mac,
            src: key.local,
            dst: key.remote,
            proto: proto::TCP,
            ttl: voice.personality.ttl.saturating_sub(voice.hops).max(1),
            tos: 0,
            ip_id: self.ids.next(entry.personality.ip_id, key.local, None, cx),
            df: voice.personality.rst_df,
        };
        let segment = Segment {
            src: key.local_port,
            dst: key.remote_port,
            seq: 0,
            ack: entry.syn.isn.wrapping_add(1),
            flags: flag::RST | flag::ACK,
            window: 0,
            options: &[],
            payload: &[],
        };
        let len = segment.write(&headers, frame.space());
        frame.set_len(len);
        cx.send(entry.port, frame);
    }
}

/// Headers of what a container sees of the attacker.
pub(super) fn inward(key: &FlowKey, look: &SynLook, host_mac: Mac, peer_mac: Mac) -> Headers {
    Headers {
        dst_mac: host_mac,
        src_mac: peer_mac,
        src: key.remote,
        dst: key.local,
        proto: proto::TCP,
        ttl: look.ttl,
        tos: 0,
        ip_id: 0,
        df: true,
    }
}
