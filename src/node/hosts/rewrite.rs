//! What a container sends by itself, as its host's system would have written it: changed in place, never terminated, so
//! that scans and path traces from inside work. Headers that a program has written itself (nmap's raw SYNs, the TTLs of
//! a traceroute) stay as they are; a real host's would, too.
//!
//! Whatever changes a number that the peer repeats (sequence numbers, timestamps, the scale of windows) has to be undone
//! on the way back, for which a connection has an entry in a bounded table. Neighbors on the same node answer past that
//! way, straight into the container's port: see `beside`.

use super::super::{Cx, HostsConfig};
use super::grant::Whose;
use super::outward::{OutwardKey, outward_key};
use super::session::Pair;
use super::{Hosts, fragments, quote};
use crate::emulate::{ClockTable, FlowLabel, IpIdClass, Normalize, Opt, Personality, write_options};
use crate::frame::{Batch, Frame};
use crate::stack::{FlowKey, Shift, timestamp};
use crate::wire::{ETH, Instant, Packet, TcpHeader, TcpOptions, be32, checksum, flag, proto, set_flow_label, word_of};

/// Flows of a node's containers that are remembered.
const FLOWS: usize = 65_536;
/// The least TTL that systems begin with but for a few devices; programs that choose one choose less.
const LEAST_TTL: u8 = 64;

/// A container's timestamp clock (1000 ticks a second) and its host's, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Clocks {
    own: u32,
    host: u32,
    /// The host's ticks a second, more than 0.
    hz: u32,
}

impl Clocks {
    const OWN_HZ: i64 = 1000;

    /// The host's clock when the container's shows `own`.
    fn outward(&self, own: u32) -> u32 {
        let passed = i64::from(own.wrapping_sub(self.own) as i32);
        self.host.wrapping_add((passed * i64::from(self.hz)).div_euclid(Clocks::OWN_HZ) as u32)
    }

    /// The first moment at which the host's clock shows `host`, by the container's.
    fn inward(&self, host: u32) -> u32 {
        let passed = i64::from(host.wrapping_sub(self.host) as i32) * Clocks::OWN_HZ;
        let hz = i64::from(self.hz.max(1));
        self.own.wrapping_add((passed.div_euclid(hz) + i64::from(passed.rem_euclid(hz) != 0)) as u32)
    }
}

/// What is known of one flow.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// Its other end is a neighbor on the same node.
    beside: bool,
    /// The container's initial sequence number, and what is added to its numbers on the way out.
    isn: u32,
    shift: u32,
    /// The shifts of windows that the container and the host announce, if both ends scale.
    scales: (u8, u8),
    scaled: bool,
    /// The largest window field.
    most: u16,
    clocks: Option<Clocks>,
    /// The last identification, as the container wrote it and as it left, for what quotes it.
    ids: (u16, u16),
    /// Counts the packets.
    ip_id: u16,
}

impl Begun {
    fn new(beside: bool, cx: &mut Cx<'_>) -> Begun {
        let (scales, ip_id) = ((0, 0), cx.rng.next_u32() as u16);
        Begun { beside, isn: 0, shift: 0, scales, scaled: false, most: u16::MAX, clocks: None, ids: (0, 0), ip_id }
    }
}

/// The flows of a node's containers.
pub(super) struct Rewritten {
    flows: ClockTable<OutwardKey, Begun>,
    /// Memory for the segments of a super-frame.
    pub parts: Batch,
    /// A container has spoken to a neighbor on this node.
    pub beside: bool,
}

impl Rewritten {
    pub(super) fn new(seed: u64) -> Rewritten {
        Rewritten { flows: ClockTable::new(FLOWS, seed), parts: Batch::default(), beside: false }
    }
}

/// Whether a SYN is the container's kernel's own: options as Linux orders them, with timestamps or without.
fn is_kernels(options: &[u8]) -> bool {
    match options {
        [2, 4, _, _, 4, 2, 8, 10, rest @ ..] => rest.len() == 12 && rest[8..11] == [1, 3, 3],
        [2, 4, _, _, 1, 1, 4, 2, 1, 3, 3, _] => true,
        [2, 4, _, _, 4, 2, 1, 1] | [2, 4, _, _, 1, 1, 4, 2] => true,
        _ => false,
    }
}

/// Whether an ICMP message is an error (RFC 792, RFC 4443 §2.1).
fn is_error(packet: &Packet, frame: &[u8]) -> bool {
    if fragments::is_later(packet, frame) {
        return false;
    }
    let kind = packet.payload(frame).first().copied().unwrap_or(0);
    match packet.proto {
        proto::ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
        proto::ICMPV6 => kind < 128,
        _ => false,
    }
}

impl Hosts {
    /// Sends a container's packet to the network as its host's system would have written it.
    pub(super) fn leave(&mut self, mut frame: Frame, mut packet: Packet, whose: Whose, cx: &mut Cx<'_>) {
        let class = self.speaker(whose).map(|(personality, normalize)| (personality.ip_id, normalize.ip_id));
        // The device counts identifications up within a super-frame, which these do not do.
        let counts = !matches!(class, Some((IpIdClass::Zero | IpIdClass::Random, true)) if packet.is_v4());
        if counts || frame.segments() == 1 {
            self.rewrite(&mut frame, &mut packet, whose, false, cx);
            return cx.send(HostsConfig::LAN, frame);
        }
        let mut parts = std::mem::take(&mut self.rewritten.parts);
        cx.pool.segment(frame, &mut parts);
        for mut part in parts.drain(..) {
            if packet.read(part.bytes()).is_ok() {
                self.rewrite(&mut part, &mut packet, whose, false, cx);
                cx.send(HostsConfig::LAN, part);
            }
        }
        self.rewritten.parts = parts;
    }

    fn speaker(&self, whose: Whose) -> Option<(&'static Personality, &Normalize)> {
        let lease = self.leases.by_host.get(&whose)?;
        let template = self.template(lease.target.template);
        Some((template.personality.get(), &template.normalize))
    }

    /// Changes a packet that leaves a container, and `packet` with it. `beside` says that it is for a neighbor on this node.
    pub(super) fn rewrite(
        &mut self,
        frame: &mut Frame,
        packet: &mut Packet,
        whose: Whose,
        beside: bool,
        cx: &mut Cx<'_>,
    ) {
        let Some((personality, normalize)) = self.speaker(whose) else { return };
        let (ttl, tos, ip_id) = (normalize.ttl, normalize.tos, normalize.ip_id);
        let (options, timestamps) = (normalize.options, normalize.timestamps);
        self.rewritten.beside |= beside;
        let key = outward_key(packet, frame.bytes(), false);
        let mut raw = false;
        if packet.proto == proto::TCP && !packet.fragment {
            if options {
                raw = !self.rewrite_tcp(frame, packet, &key, personality, beside, timestamps, cx);
            }
        } else if is_error(packet, frame.bytes()) && !packet.fragment {
            quote::shorten(frame, packet, personality);
        }
        let is_error = is_error(packet, frame.bytes());
        let l4 = packet.payload(frame.bytes());
        let is_rst = packet.proto == proto::TCP && l4.get(13).is_some_and(|flags| flags & flag::RST != 0);
        let is_icmp = matches!(packet.proto, proto::ICMP | proto::ICMPV6);
        if ttl {
            let v4 = packet.is_v4();
            let initial = if is_icmp { personality.icmp_ttl_of(v4) } else { personality.ttl_of(v4) };
            if is_error || packet.ttl >= LEAST_TTL || packet.ttl == personality.ttl_of(v4) {
                packet.ttl = initial;
            }
        }
        let number = match packet.is_v4() && ip_id && !raw {
            true if packet.fragment => self.number_of_fragment(&key, personality, frame, packet, beside, cx),
            true => Some(self.number(&key, personality, frame, packet, beside, cx)),
            false => None,
        };
        let label = match personality.flow_label {
            FlowLabel::Zero => 0,
            FlowLabel::Connections if packet.proto != proto::TCP => 0,
            _ => self.label_of(personality, &key.flow),
        };
        let bytes = frame.bytes_mut();
        if !packet.is_v4() {
            let Some(ip) = bytes.get_mut(ETH..ETH + 40) else { return };
            ip[7] = packet.ttl;
            if tos {
                (ip[0], ip[1]) = (0x60, ip[1] & 0x0f);
            }
            if ip_id && !packet.fragment {
                set_flow_label(bytes, label);
            }
            return;
        }
        let header = ETH + usize::from(bytes[ETH] & 0x0f) * 4;
        let Some(ip) = bytes.get_mut(ETH..header).filter(|ip| ip.len() >= 20) else { return };
        ip[8] = packet.ttl;
        if tos {
            ip[1] = if is_error { personality.icmp_error_tos } else { 0 };
        }
        if let Some(number) = number {
            ip[4..6].copy_from_slice(&number.to_be_bytes());
        }
        if number.is_some() && !packet.fragment {
            let df = match packet.proto {
                proto::TCP => {
                    if is_rst {
                        personality.rst_df
                    } else {
                        personality.tcp_df
                    }
                }
                // ping on Linux finds the MTU of its way; others let it be fragmented.
                proto::ICMP if !is_error && personality.is_linux => ip[6] & 0x40 != 0,
                _ => false,
            };
            ip[6] = if df { 0x40 } else { 0 };
        }
        ip[10..12].fill(0);
        let sum = checksum::of(ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    /// The identification of a packet, and of as many more as it has segments.
    pub(super) fn number(
        &mut self,
        key: &OutwardKey,
        personality: &Personality,
        frame: &Frame,
        packet: &Packet,
        beside: bool,
        cx: &mut Cx<'_>,
    ) -> u16 {
        // Who sends no identification does with what is in pieces.
        let class = match personality.ip_id {
            IpIdClass::Zero if packet.fragment => IpIdClass::Random,
            class => class,
        };
        let (written, more) = (be32(frame.bytes(), ETH + 4) >> 16, frame.segments() as u16 - 1);
        let flows = &mut self.rewritten.flows;
        if flows.get(key).is_none() {
            flows.insert(*key, Begun::new(beside, cx));
        }
        let Some(flow) = flows.get(key) else { return 0 };
        // What belongs to no connection counts with whatever else the host says to that peer.
        let session = if packet.proto == proto::TCP {
            None
        } else {
            self.sessions.get(&Pair::new(packet.dst(), packet.src())).map(|session| &mut session.ip_id)
        };
        let counter = session.unwrap_or(&mut flow.ip_id);
        *counter = counter.wrapping_add(1);
        let number = self.ids.next(class, word_of(key.flow.local), Some(*counter), cx);
        *counter = counter.wrapping_add(more);
        self.ids.skip(class, word_of(key.flow.local), more);
        flow.ids = (written as u16, number);
        number
    }

    /// Changes a segment of a connection that the container begins. Whether the container's kernel wrote it.
    #[allow(clippy::too_many_arguments)]
    fn rewrite_tcp(
        &mut self,
        frame: &mut Frame,
        packet: &mut Packet,
        key: &OutwardKey,
        personality: &'static Personality,
        beside: bool,
        timestamps: bool,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some(tcp) = TcpHeader::parse(packet.payload(frame.bytes())) else { return true };
        if tcp.flags & (flag::SYN | flag::ACK) == flag::SYN {
            let kernels = is_kernels(&packet.payload(frame.bytes())[20..tcp.len]);
            if kernels {
                self.begin_anew(frame, packet, &tcp, key, personality, beside, timestamps, cx);
            } else {
                self.rewritten.flows.remove(key);
            }
            return kernels;
        }
        let Some(flow) = self.rewritten.flows.get(key) else { return true };
        let l4 = &mut frame.bytes_mut()[packet.l4..packet.end];
        let clock = TcpOptions::parse(&l4[20..tcp.len])
            .timestamps
            .map_or(0, |(own, _)| flow.clocks.map_or(0, |clocks| clocks.outward(own).wrapping_sub(own)));
        // The answer to a segment that acknowledges nothing: no number of the connection's.
        let is_alone = tcp.has(flag::RST | flag::ACK) && tcp.seq == 0;
        let shift = Shift {
            seq: if is_alone { 0 } else { flow.shift },
            ts_value: clock,
            window: if flow.scaled { flow.scales } else { (0, 0) },
            most_window: flow.most,
            ..Shift::default()
        };
        let partial = frame.meta.offload.needs_csum();
        shift.apply(&mut frame.bytes_mut()[packet.l4..packet.end], partial);
        true
    }

    /// Writes a SYN of the container's kernel as the host's system would, and takes note of what that changes.
    #[allow(clippy::too_many_arguments)]
    fn begin_anew(
        &mut self,
        frame: &mut Frame,
        packet: &mut Packet,
        tcp: &TcpHeader,
        key: &OutwardKey,
        personality: &'static Personality,
        beside: bool,
        timestamps: bool,
        cx: &mut Cx<'_>,
    ) {
        frame.complete();
        let v4 = packet.is_v4();
        let offered = TcpOptions::parse(&packet.payload(frame.bytes())[20..tcp.len]);
        let can = |option: bool| option;
        let scale = offered.window_scale;
        let syn = personality.own_syn(scale.is_some(), can(offered.sack_permitted), offered.timestamps.is_some());
        let known = self.rewritten.flows.get(key).copied().filter(|flow| flow.isn == tcp.seq && flow.most != 0);
        let flow = match known {
            // Sent again.
            Some(flow) => flow,
            None => {
                let isn = self.isn_of(&key.flow, cx.now);
                let own = offered.timestamps.map_or(0, |(own, _)| own);
                let hz = personality.ts_hz;
                let host = || timestamp(self.ts_offset(personality, &key.flow), hz, cx.now);
                let scales = syn.options.iter().any(|option| matches!(option, Opt::Scale(_)));
                Begun {
                    isn: tcp.seq,
                    shift: isn.wrapping_sub(tcp.seq),
                    scales: (scale.unwrap_or(0), personality.window_scale),
                    most: if scales { u16::MAX } else { syn.window.max(1) },
                    clocks: (timestamps && hz > 0).then(|| Clocks { own, host: host(), hz }),
                    ..Begun::new(beside, cx)
                }
            }
        };
        let mss = offered.mss.unwrap_or(536).min(personality.mss - if v4 { 0 } else { 20 });
        let list = syn.options.iter().map(|option| match option {
            Opt::Mss(_) => Opt::Mss(mss),
            Opt::Scale(_) => Opt::Scale(flow.scales.1),
            other => *other,
        });
        let own = offered.timestamps.map_or(0, |(own, _)| own);
        let clock = flow.clocks.map_or(own, |clocks| clocks.outward(own));
        let mut octets = [0; 40];
        let len = write_options(list, clock, 0, &mut octets);
        self.rewritten.flows.insert(*key, flow);
        write_syn(frame, packet, tcp, (&octets[..len], syn.window), tcp.seq.wrapping_add(flow.shift));
    }

    /// The initial sequence number of a connection that a host begins now (RFC 6528 §3), from the generator of those that
    /// it answers.
    fn isn_of(&self, key: &FlowKey, now: Instant) -> u32 {
        let clock = (now.total_micros() / 4) as u32;
        self.identity.isn(key.local, key.local_port, key.remote, key.remote_port).wrapping_add(clock)
    }

    /// Changes a packet from the network, or from a neighbor `beside` on this node, into what a container expects in answer
    /// to what it wrote itself.
    pub(super) fn rewrite_back(&mut self, frame: &mut Frame, packet: &Packet, beside: bool) {
        if packet.proto == proto::TCP {
            let key = outward_key(packet, frame.bytes(), true);
            let Some(flow) = self.rewritten.flows.get(&key).filter(|flow| flow.beside == beside) else { return };
            let partial = frame.meta.offload.needs_csum();
            let l4 = &mut frame.bytes_mut()[packet.l4..packet.end];
            let Some(tcp) = TcpHeader::parse(l4) else { return };
            let options = TcpOptions::parse(&l4[20..tcp.len]);
            if tcp.has(flag::SYN | flag::ACK) {
                flow.scaled = options.window_scale.is_some();
            }
            let echo = options
                .timestamps
                .map_or(0, |(_, echo)| flow.clocks.map_or(0, |clocks| clocks.inward(echo).wrapping_sub(echo)));
            let shift = Shift { ack: flow.shift.wrapping_neg(), ts_echo: echo, ..Shift::default() };
            shift.apply(l4, partial);
        } else if is_error(packet, frame.bytes())
            && let Some((key, at)) = quote::key(packet, frame.bytes())
            && let Some(flow) = self.rewritten.flows.get(&key).filter(|flow| flow.beside == beside)
        {
            let (shift, ids) = (flow.shift.wrapping_neg(), flow.ids);
            frame.complete();
            quote::restore(frame.bytes_mut(), packet, at, &key, shift, ids);
        }
    }
}

/// Writes a SYN with other options, window and sequence number over the one in hand; its data, if it has any, move.
fn write_syn(frame: &mut Frame, packet: &mut Packet, tcp: &TcpHeader, (options, window): (&[u8], u16), seq: u32) {
    let (old, new) = (packet.l4 + tcp.len, packet.l4 + 20 + options.len());
    let (before, end) = (packet.end, packet.end - old + new);
    if frame.capacity() < end.max(before) {
        return;
    }
    frame.set_len(end.max(before));
    let bytes = frame.bytes_mut();
    bytes.copy_within(old..before, new);
    bytes[packet.l4 + 20..new].copy_from_slice(options);
    let payload = (end - packet.l4) as u16;
    if packet.is_v4() {
        // The header's checksum is made when all of it is known.
        bytes[ETH + 2..ETH + 4].copy_from_slice(&((end - ETH) as u16).to_be_bytes());
    } else {
        bytes[ETH + 4..ETH + 6].copy_from_slice(&((end - ETH - 40) as u16).to_be_bytes());
    }
    let pseudo = checksum::pseudo(packet.src(), packet.dst(), proto::TCP, payload.into());
    let l4 = &mut bytes[packet.l4..end];
    l4[4..8].copy_from_slice(&seq.to_be_bytes());
    l4[12] = ((20 + options.len()) as u8 / 4) << 4 | (l4[12] & 0x0f);
    l4[14..16].copy_from_slice(&window.to_be_bytes());
    l4[16..18].fill(0);
    let sum = checksum::finish(checksum::sum(pseudo, l4));
    l4[16..18].copy_from_slice(&sum.to_be_bytes());
    frame.set_len(end);
    packet.end = end;
}
