//! TCP as an emulated host meets it: probes, handshakes, open connections.

use super::super::Cx;
use super::connection::Who;
use super::inner::inward;
use super::outward::OutwardKey;
use super::session::Contact;
use super::{Hosts, Target, origin};
use crate::emulate::reply;
use crate::emulate::{FlowLabel, Personality, ServiceId, TcpPort};
use crate::event::{DropReason, Party, PortAnswer, SessionId};
use crate::frame::{Frame, PortNo};
use crate::stack::{FlowKey, HalfOpen, Remembered, SynInfo, SynLook, cookie, timestamp};
use crate::wire::{
    ETH, Headers, Instant, Packet, Segment, TcpHeader, TcpOptions, flag, proto, set_flow_label, src_mac, word_of,
};

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

/// A SYN that waits for a container's answer.
#[derive(Clone, Copy)]
pub(super) struct Held {
    entry: HalfOpen<Answer>,
    /// What its session counted then: the identification of a refusal.
    ip_id: u16,
    /// The port of the container that was asked.
    pub inside: PortNo,
}

impl Hosts {
    #[inline]
    pub(super) fn tcp(&mut self, frame: Frame, packet: &Packet, target: &Target, cx: &mut Cx<'_>) {
        let l4 = packet.payload(frame.bytes());
        let Some(tcp) = TcpHeader::parse(l4) else {
            return cx.discard(frame, DropReason::Malformed);
        };
        let key = FlowKey { local: packet.dst(), remote: packet.src(), local_port: tcp.dst, remote_port: tcp.src };
        let opens = tcp.flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN;
        let (session, ip_id, _) = self.touch(&frame, packet, Contact::Tcp, (tcp.dst, opens), cx);
        if let Some(index) = self.flows.find(&key) {
            return self.flow_ingress(index, frame, packet, &tcp, cx);
        }
        let Some(frame) = self.os_probe(frame, packet, &tcp, target, session, cx) else { return };
        if opens {
            let options = TcpOptions::parse(&packet.payload(frame.bytes())[20..tcp.len]);
            if self.ended.keeps_out(&key, &tcp, &options, cx.now) {
                self.after_the_end(frame, packet, &tcp, &key, target, cx);
                return;
            }
            self.ended.forget(&key);
            return self.syn(frame, packet, &tcp, &key, target, session, ip_id, cx);
        }
        if let Some(entry) = self.half_open.get(&key, cx.now).copied() {
            let who = Who { session, origin: origin(&frame) };
            return self.handshake(frame, packet, &tcp, key, &entry, target, who, ip_id, cx);
        }
        if let Some(whose) = self.whose_outward(OutwardKey { proto: proto::TCP, flow: key }, target) {
            return self.to_container(frame, packet, target, whose, cx);
        }
        let Some(frame) = self.after_the_end(frame, packet, &tcp, &key, target, cx) else { return };
        if let Some(entry) = self.recall(&frame, packet, &tcp, &key, target, cx.now) {
            let who = Who { session, origin: origin(&frame) };
            return self.complete(frame, packet, &tcp, key, &entry, target, who, ip_id, cx);
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
        let ports = u32::from(tcp.dst) << 16 | u32::from(tcp.src);
        let voice = self.voice(target, packet, ports, ip_id, cx);
        reply::rst(&mut frame, packet, tcp, &voice);
        self.reply(frame, cx);
    }

    #[inline]
    pub(super) fn port_state(&self, target: &Target, l4_port: u16) -> TcpPort {
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
        key: &FlowKey,
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
        if let Some(entry) = self.half_open.get(key, cx.now).filter(|entry| entry.peer_isn == syn.isn) {
            // The same SYN again: our answer was lost, or the peer is impatient.
            entry.repeat();
            let entry = *entry;
            return self.send_syn_ack(frame, key, &entry, target, cx);
        }
        let template = self.template(target.template);
        let listed = template.tcp.get(&tcp.dst).copied();
        let state = listed.unwrap_or(template.tcp_default);
        let lease = if listed.is_some() { None } else { self.live_lease(target, key.remote, frame.meta.port) };
        let answer = match (state, lease) {
            (_, Some(_)) => PortAnswer::Held,
            (TcpPort::Closed, _) => PortAnswer::Closed,
            (TcpPort::Filtered, _) => PortAnswer::Filtered,
            (TcpPort::Tarpit, _) => PortAnswer::Tarpit,
            (TcpPort::Open(_), _) => PortAnswer::Open,
        };
        self.probe(&frame, packet, session, answer, cx);
        let answered_by = match (state, lease) {
            (_, Some((whose, inside))) => {
                let entry = self.half_open_of(&frame, packet, tcp, &syn, target, Answer::Container, cx.now);
                self.held.insert(*key, Held { entry, ip_id, inside });
                let who = Party { ip: key.remote.into(), mac: origin(&frame), l4_port: key.remote_port };
                self.leases.spoken_to(whose, who, cx);
                // The container sees the attacker's own SYN, from the MAC that it came from.
                return cx.send(inside, frame);
            }
            (TcpPort::Closed, _) => return self.rst(frame, packet, tcp, target, ip_id, cx),
            (TcpPort::Filtered, _) => return cx.discard(frame, DropReason::Filtered),
            (TcpPort::Tarpit, _) => return self.tarpit_syn(frame, packet, tcp, syn, target, cx),
            (TcpPort::Open(service), _) => Answer::Service(service),
        };
        let entry = self.half_open_of(&frame, packet, tcp, &syn, target, answered_by, cx.now);
        self.begin(frame, *key, entry, target, cx);
    }

    /// Answers a SYN and remembers that: in the table, or, if that is full of recent handshakes, in a cookie.
    fn begin(&mut self, frame: Frame, key: FlowKey, mut entry: HalfOpen<Answer>, target: &Target, cx: &mut Cx<'_>) {
        match self.half_open.insert(key, entry, self.schedule(target), cx.now) {
            Remembered::Kept => {}
            Remembered::Evicted => cx.counters.discard(DropReason::TableFull),
            Remembered::Full => {
                entry.isn = cookie::make(&entry.offered(), cx.now, self.cookie_of(&key, entry.peer_isn));
                self.cookies_until = cx.now + cookie::LIFETIME;
            }
        }
        self.send_syn_ack(frame, &key, &entry, target, cx);
    }

    /// When SYN/ACKs are sent again. Never to a container: nothing gets lost on the way there.
    fn schedule(&self, target: &Target) -> &'static [u32] {
        if target.template == self.elsewhere { &[] } else { &self.personality(target).syn_ack_retries_ms }
    }

    pub(super) fn personality(&self, target: &Target) -> &'static Personality {
        self.template(target.template).personality.get()
    }

    fn cookie_of(&self, key: &FlowKey, peer_isn: u32) -> impl Fn(u64) -> u64 {
        let (local, remote) = ((key.local, key.local_port), (key.remote, key.remote_port));
        move |value| self.identity.cookie(local, remote, peer_isn, value)
    }

    /// The handshake that a segment completes which acknowledges a cookie.
    fn recall(
        &self,
        frame: &Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        key: &FlowKey,
        target: &Target,
        now: Instant,
    ) -> Option<HalfOpen<Answer>> {
        if now >= self.cookies_until || tcp.flags & (flag::SYN | flag::RST | flag::ACK) != flag::ACK {
            return None;
        }
        let TcpPort::Open(service) = self.port_state(target, tcp.dst) else { return None };
        let (isn, peer_isn) = (tcp.ack.wrapping_sub(1), tcp.seq.wrapping_sub(1));
        let mut options = cookie::read(isn, now, self.cookie_of(key, peer_isn))?;
        // Both use timestamps, or neither.
        options.timestamps = TcpOptions::parse(&packet.payload(frame.bytes())[20..tcp.len]).timestamps;
        // What the order of its options was, nobody knows any more: most attackers are Linux.
        let look = SynLook::of(&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7], packet.ttl);
        let syn = SynInfo { isn: peer_isn, window: tcp.window, options };
        let peer_mac = src_mac(frame.bytes());
        let owner = Answer::Service(service);
        Some(HalfOpen::new(&syn, isn, look, peer_mac, frame.meta.port, target.hops, owner, now))
    }

    #[allow(clippy::too_many_arguments)]
    fn half_open_of(
        &self,
        frame: &Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        syn: &SynInfo,
        target: &Target,
        answer: Answer,
        now: Instant,
    ) -> HalfOpen<Answer> {
        // RFC 6528 §3: a clock of four microseconds and a keyed function of the connection.
        let clock = (now.total_micros() / 4) as u32;
        let isn = self.identity.isn(packet.dst(), tcp.dst, packet.src(), tcp.src).wrapping_add(clock);
        let look = SynLook::of(&packet.payload(frame.bytes())[20..tcp.len], packet.ttl);
        HalfOpen::new(syn, isn, look, src_mac(frame.bytes()), frame.meta.port, target.hops, answer, now)
    }

    /// Where the timestamp clock that a peer sees stands at monotonic time 0.
    pub(super) fn ts_offset(&self, personality: &Personality, key: &FlowKey) -> u32 {
        if personality.ts_per_peer {
            self.identity.ts_offset(key.local, key.remote)
        } else {
            let home = crate::wire::ip_of(self.ids.home(word_of(key.local)));
            (self.identity.uptime_secs(home) as u32).wrapping_mul(personality.ts_hz)
        }
    }

    /// Writes the SYN/ACK of a handshake over `frame` and sends it.
    fn send_syn_ack(
        &mut self,
        mut frame: Frame,
        key: &FlowKey,
        entry: &HalfOpen<Answer>,
        target: &Target,
        cx: &mut Cx<'_>,
    ) {
        let p = self.personality(target);
        let mut options = [0; 40];
        let clock = if entry.has_timestamps(p) { timestamp(self.ts_offset(p, key), p.ts_hz, cx.now) } else { 0 };
        let len = entry.syn_ack_options(p, clock, key.local.is_ipv4(), &mut options);
        let headers = Headers {
            dst_mac: entry.peer_mac,
            src_mac: target.mac,
            src: key.local,
            dst: key.remote,
            proto: proto::TCP,
            ttl: p.ttl_of(key.local.is_ipv4()).saturating_sub(entry.hops).max(1),
            tos: 0,
            ip_id: self.ids.next(p.syn_ack_ip_id, word_of(key.local), None, cx),
            df: p.tcp_df,
        };
        let segment = Segment {
            src: key.local_port,
            dst: key.remote_port,
            seq: entry.isn,
            ack: entry.peer_isn.wrapping_add(1),
            flags: flag::SYN | flag::ACK,
            window: p.syn_ack_window,
            options: &options[..len],
            payload: &[],
        };
        let len = segment.write(&headers, frame.space());
        frame.set_len(len);
        set_flow_label(frame.bytes_mut(), self.label_of(p, key));
        self.sessions.answered(frame.len() - ETH);
        cx.send(entry.port, frame);
    }

    pub(super) fn retransmit_syn_acks(&mut self, cx: &mut Cx<'_>) {
        self.half_open.sweep(cx.now);
        loop {
            let Hosts { half_open, config, identity, sources, .. } = self;
            // All entries of a table have a schedule, or they were not waiting for it.
            let schedule = |key: &FlowKey| {
                let template = config.template_of_word(identity, word_of(key.local)).map(|(template, _)| template);
                let in_case = |base| sources.known(&config.templates, base, word_of(key.remote));
                let template = template.map(|base| if sources.any { in_case(base) } else { base });
                let template = template.and_then(|template| config.templates.get(usize::from(template)));
                template.map_or(&[][..], |template| &*template.personality.get().syn_ack_retries_ms)
            };
            let Some((key, entry)) = half_open.next_due(cx.now, schedule) else { return };
            let target =
                self.target_to(word_of(key.local), word_of(key.remote)).filter(|target| self.is_ours(target.word));
            let Some(target) = target else { continue };
            if !self.retransmissions.take(cx.now) {
                continue;
            }
            match cx.pool.head() {
                Some(frame) => self.send_syn_ack(frame, &key, &entry, &target, cx),
                None => return cx.counters.discard(DropReason::NoBuffer),
            }
        }
    }

    /// A segment of a connection whose handshake is not complete.
    #[allow(clippy::too_many_arguments)]
    fn handshake(
        &mut self,
        frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        key: FlowKey,
        entry: &HalfOpen<Answer>,
        target: &Target,
        who: Who,
        ip_id: u16,
        cx: &mut Cx<'_>,
    ) {
        if tcp.has(flag::RST) {
            // RFC 5961 §3.2: only a RST at the very sequence number that we expect counts.
            if tcp.seq == entry.peer_isn.wrapping_add(1) {
                self.half_open.remove(&key);
            }
            return cx.consume(frame);
        }
        if !tcp.has(flag::ACK) || tcp.ack != entry.isn.wrapping_add(1) {
            return self.rst(frame, packet, tcp, target, ip_id, cx);
        }
        // RFC 9293 §3.10.7.4: what lies outside the window completes nothing.
        if tcp.has(flag::SYN) || tcp.seq.wrapping_sub(entry.peer_isn.wrapping_add(1)) > u32::from(u16::MAX) {
            return cx.discard(frame, DropReason::NoFlow);
        }
        self.half_open.remove(&key);
        self.complete(frame, packet, tcp, key, entry, target, who, ip_id, cx);
    }

    /// Opens the connection whose handshake the segment in hand completes.
    #[allow(clippy::too_many_arguments)]
    fn complete(
        &mut self,
        frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        key: FlowKey,
        entry: &HalfOpen<Answer>,
        target: &Target,
        who: Who,
        ip_id: u16,
        cx: &mut Cx<'_>,
    ) {
        match self.open(&key, entry, target, who, cx) {
            Some(index) => self.flow_ingress(index, frame, packet, tcp, cx),
            None => self.rst(frame, packet, tcp, target, ip_id, cx),
        }
    }

    /// The container has answered a held SYN: with SYN/ACK (`open`) or RST.
    pub(super) fn held_answer(&mut self, frame: Frame, key: FlowKey, tcp: &TcpHeader, open: bool, cx: &mut Cx<'_>) {
        let target = self.target_to(word_of(key.local), word_of(key.remote));
        let (Some(held), Some(target)) = (self.held.remove(&key), target) else { return cx.consume(frame) };
        let Held { entry, ip_id, .. } = held;
        let container_port = frame.meta.port;
        if open {
            // The container's own half of that handshake is called off; the
            // connection proper follows when the attacker's is complete.
            if let Some(mut rst) = cx.pool.head() {
                let headers = inward(&key, &entry.look, target.mac, entry.peer_mac);
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
            return self.begin(frame, key, entry, &target, cx);
        }
        // A firewall that drops what the host does not offer drops it while the container lives, too.
        if self.port_state(&target, key.local_port) == TcpPort::Filtered {
            return cx.discard(frame, DropReason::Filtered);
        }
        self.refuse(frame, &key, &entry, &target, ip_id, cx);
    }

    /// Answers a held SYN with the RST of a closed port.
    fn refuse(
        &mut self,
        mut frame: Frame,
        key: &FlowKey,
        entry: &HalfOpen<Answer>,
        target: &Target,
        ip_id: u16,
        cx: &mut Cx<'_>,
    ) {
        let personality = self.personality(target);
        let headers = Headers {
            dst_mac: entry.peer_mac,
            src_mac: target.mac,
            src: key.local,
            dst: key.remote,
            proto: proto::TCP,
            ttl: personality.ttl_of(key.local.is_ipv4()).saturating_sub(entry.hops).max(1),
            tos: 0,
            ip_id: self.ids.next(personality.ip_id, word_of(key.local), Some(ip_id), cx),
            df: personality.rst_df,
        };
        let segment = Segment {
            src: key.local_port,
            dst: key.remote_port,
            seq: 0,
            ack: entry.peer_isn.wrapping_add(1),
            flags: flag::RST | flag::ACK,
            window: 0,
            options: &[],
            payload: &[],
        };
        let len = segment.write(&headers, frame.space());
        frame.set_len(len);
        // To the one who asks, it is no connection's.
        if personality.flow_label == FlowLabel::Always {
            set_flow_label(frame.bytes_mut(), self.label_of(personality, key));
        }
        cx.send(entry.port, frame);
    }
}
