//! How a host that has a fingerprint meets nmap's OS detection. Each scanner has a
//! state of its own with each host, so that scans do not disturb each other.

use super::super::Cx;
use super::session::Pair;
use super::{Hosts, Target};
use crate::emulate::{Fingerprint, Probe, Scan, SeqNumber, Speaker, TcpAnswer, TcpPort, Turn, probe};
use crate::event::{DropReason, PortAnswer, SessionId};
use crate::frame::Frame;
use crate::stack::{FlowKey, timestamp};
use crate::wire::{Packet, TcpHeader, flag};

/// Scans that a node remembers.
pub(super) const SCANS: usize = 4096;

impl Hosts {
    /// The fingerprint of a host, if its personality has one and `packet` is of the family that it is about.
    #[inline(always)]
    pub(super) fn fingerprint(&self, packet: &Packet, target: &Target) -> Option<&'static Fingerprint> {
        let fingerprint = self.template(target.template).personality.get().fingerprint.as_deref();
        fingerprint.filter(|_| packet.is_v4())
    }

    fn scan(&mut self, packet: &Packet, cx: &mut Cx<'_>) -> &mut Scan {
        let at = match self.scans.slot(&Pair::of(packet)) {
            Ok(at) => at,
            Err(vacant) => self.scans.insert_new(Pair::of(packet), vacant, Scan::new(cx.rng.next_u64(), cx.now)).0,
        };
        self.scans.value(at)
    }

    /// Answers a segment that is a probe, or leaves it without an answer as the system would; any other is given back.
    pub(super) fn os_probe(
        &mut self,
        frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        target: &Target,
        session: SessionId,
        cx: &mut Cx<'_>,
    ) -> Option<Frame> {
        let Some(fingerprint) = self.fingerprint(packet, target) else { return Some(frame) };
        let Some(probe) = probe::recognize(tcp, &packet.payload(frame.bytes())[20..tcp.len]) else {
            return Some(frame);
        };
        let answer = match (probe, self.port_state(target, tcp.dst)) {
            (Probe::Closed(_), TcpPort::Closed) => PortAnswer::Closed,
            (Probe::Syn(_) | Probe::Ecn | Probe::Open(_), TcpPort::Open(_)) => PortAnswer::Open,
            _ => return Some(frame),
        };
        self.probe(&frame, packet, session, answer, cx);
        self.answer_probe(frame, packet, tcp, target, fingerprint, probe, cx);
        None
    }

    #[allow(clippy::too_many_arguments)]
    fn answer_probe(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        target: &Target,
        fingerprint: &'static Fingerprint,
        probe: Probe,
        cx: &mut Cx<'_>,
    ) {
        let (now, random) = (cx.now, cx.rng.next_u64());
        let personality = self.template(target.template).personality.get();
        let key = FlowKey { local: packet.dst(), remote: packet.src(), local_port: tcp.dst, remote_port: tcp.src };
        let (offset, hz) = (self.ts_offset(personality, &key), fingerprint.seq.ts_hz);
        let scan = self.scan(packet, cx);
        let plain;
        let mut own = random as u32 | 1;
        let (answer, options, window) = match probe {
            Probe::Syn(number) => {
                let Some(syn) = fingerprint.syn.as_ref().map(|syns| &syns[number]) else {
                    return cx.discard(frame, DropReason::Filtered);
                };
                let first = tcp.src != 0 && syn.only_repeated && scan.is_first(number, tcp);
                if first {
                    scan.hear(number, tcp, random, now);
                    return cx.discard(frame, DropReason::Filtered);
                }
                let turn = scan.syn(fingerprint, number, tcp, random, now);
                let (Turn::Seq(isn) | Turn::Ops(isn) | Turn::T1(isn)) = turn;
                own = isn;
                let answer = match (&fingerprint.t1, turn) {
                    (Some(t1), Turn::Seq(_) | Turn::T1(_)) if number == 0 => t1,
                    (None, Turn::T1(_)) => return cx.discard(frame, DropReason::Filtered),
                    (t1, _) => {
                        plain = syn_ack(t1.as_ref(), personality.ttl, personality.tcp_df);
                        &plain
                    }
                };
                (answer, &syn.options, syn.window)
            }
            other => {
                let answer = match other {
                    Probe::Ecn => &fingerprint.ecn,
                    Probe::Open(number) => &fingerprint.open[number],
                    Probe::Closed(number) => &fingerprint.closed[number],
                    Probe::Syn(_) => &None,
                };
                let Some(answer) = answer else { return cx.discard(frame, DropReason::Filtered) };
                if answer.flags & flag::SYN != 0 {
                    own = scan.next_isn(fingerprint, now);
                }
                (answer, &answer.options, answer.window)
            }
        };
        let clock = scan.timestamp(hz, |at| timestamp(offset, hz, at), now);
        let ip_id = scan.ip_id(fingerprint, probe);
        let speaker = Speaker { mac: target.mac, ip_id, hops: target.hops };
        probe::write_tcp(&mut frame, packet, tcp, answer, (options, window), (own, clock), &speaker);
        self.reply(frame, cx);
    }

    /// Answers an echo request of IE.
    pub(super) fn echo_probe(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        target: &Target,
        fingerprint: &'static Fingerprint,
        cx: &mut Cx<'_>,
    ) {
        let Some(answer) = &fingerprint.echo else { return cx.discard(frame, DropReason::Filtered) };
        let ip_id = self.scan(packet, cx).echo_id(fingerprint);
        let speaker = Speaker { mac: target.mac, ip_id, hops: target.hops };
        probe::write_echo(&mut frame, packet, answer, &speaker);
        self.reply(frame, cx);
    }

    /// Answers the datagram of U1.
    pub(super) fn udp_probe(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        target: &Target,
        fingerprint: &'static Fingerprint,
        cx: &mut Cx<'_>,
    ) {
        let Some(answer) = &fingerprint.udp else { return cx.discard(frame, DropReason::Filtered) };
        let tos = self.template(target.template).personality.get().icmp_error_tos;
        let ip_id = self.scan(packet, cx).udp_id(fingerprint);
        let speaker = Speaker { mac: target.mac, ip_id, hops: target.hops };
        if probe::write_udp(&mut frame, packet, answer, tos, &speaker) {
            self.reply(frame, cx);
        } else {
            cx.discard(frame, DropReason::TooBig);
        }
    }
}

/// The SYN/ACK to SYNs whose answer is known by options and window only.
fn syn_ack(t1: Option<&TcpAnswer>, ttl: u8, df: bool) -> TcpAnswer {
    TcpAnswer {
        df: t1.map_or(df, |t1| t1.df),
        ttl: t1.map_or(ttl, |t1| t1.ttl),
        window: 0,
        options: Vec::new(),
        seq: SeqNumber::Own,
        ack: crate::emulate::AckNumber::SeqPlus,
        flags: flag::SYN | flag::ACK,
        reserved: false,
        urgent: false,
        data: Vec::new(),
    }
}
