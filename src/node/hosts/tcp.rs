//! TCP as an emulated host meets it: probes, handshakes, open connections.

use super::super::Cx;
use super::flow::SynLook;
use super::inner::inward;
use super::session::Contact;
use super::{Hosts, Target, event_of, origin};
use crate::emulate::reply::{self, Voice};
use crate::emulate::{ServiceId, TcpPort};
use crate::event::{DropReason, EventId, PortAnswer, SessionId};
use crate::frame::Frame;
use crate::stack::{FlowKey, HalfOpen, SynInfo};
use crate::wire::{ETH, Headers, Instant, Mac, Packet, Segment, TcpHeader, TcpOptions, flag, proto, src_mac, word_of};

/// How many packets of a kind a node may send: some at once, then so many a second.
pub(super) struct Budget {
    left: u32,
    /// Most that are saved up.
    burst: u32,
    /// How many are earned a second.
    rate: u32,
    refilled: Instant,
}

impl Budget {
    pub(super) fn new(burst: u32, rate: u32) -> Budget {
        Budget { left: burst, burst, rate, refilled: Instant::ZERO }
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        let earned = (now - self.refilled).total_millis() * u64::from(self.rate) / 1000;
        if earned > 0 {
            self.left = self.burst.min(self.left.saturating_add(earned.min(u64::from(self.burst)) as u32));
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
    pub answer: Answer,
    pub session: SessionId,
    /// The attacker's MAC, which is not the next hop's if there is a router between.
    pub origin: Mac,
    pub template: u16,
    pub look: SynLook,
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
        let key = FlowKey { local: packet.dst(), remote: packet.src(), local_port: tcp.dst, remote_port: tcp.src };
        let (session, ip_id, _) = self.touch(&frame, packet, Contact::Tcp, tcp.dst, cx);
        if let Some(index) = self.flows.find(&key) {
            return self.flow_ingress(index, frame, packet, &tcp, cx);
        }
        if tcp.flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN {
            self.ended.forget(&key);
            return self.syn(frame, packet, &tcp, key, target, session, ip_id, cx);
        }
        if self.half_open.get(&key).is_some() {
            return self.handshake(frame, packet, &tcp, key, target, ip_id, cx);
        }
        if self.is_outward(proto::TCP, &key) {
            return self.to_container(frame, packet, target, cx);
        }
        let Some(frame) = self.after_the_end(frame, packet, &tcp, &key, target, cx) else { return };
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
    pub(super) fn rst(
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
        self.reply(frame, cx);
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
        let lease = if listed { None } else { self.live_lease(target) };
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
        if self.half_open.insert(key, entry, cx.now).is_some_and(|(other, _)| other != key) {
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
        let isn = self.identity.isn(packet.dst(), tcp.dst, packet.src(), tcp.src).wrapping_add(clock);
        let ts_offset = (personality.ts_hz > 0 && syn.options.timestamps.is_some()).then(|| {
            if personality.ts_per_peer {
                self.identity.ts_offset(packet.dst(), packet.src())
            } else {
                (self.identity.uptime_secs(packet.dst()) as u32).wrapping_mul(personality.ts_hz)
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
                origin: origin(frame),
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
            ip_id: self.ids.next(p.syn_ack_ip_id, word_of(key.local), None, cx),
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
        self.sessions.answered(frame.len() - ETH);
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
        let isn = self.identity.isn(packet.dst(), tcp.dst, packet.src(), tcp.src).wrapping_add(clock);
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
        self.reply(frame, cx);
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
        self.reply(frame, cx);
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
        // RFC 9293 §3.10.7.4: what lies outside the window completes nothing.
        if tcp.has(flag::SYN) || tcp.seq.wrapping_sub(entry.syn.isn.wrapping_add(1)) > u32::from(u16::MAX) {
            return cx.discard(frame, DropReason::NoFlow);
        }
        self.half_open.remove(&key);
        match self.open(&key, &entry, cx) {
            Some(index) => self.flow_ingress(index, frame, packet, tcp, cx),
            None => self.rst(frame, packet, tcp, target, ip_id, cx),
        }
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
            ip_id: self.ids.next(entry.personality.ip_id, word_of(key.local), None, cx),
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
