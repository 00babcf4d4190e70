//! Whole TCP connections: SYN, ACK with the request if there is one, then FIN as
//! soon as the target has said something.
//!
//! There is no TCP stack behind it. A segment's source and port give the probe's
//! number, and what to answer follows from that and from the segment itself; a
//! few bits tell how far the connection has come, so that everything is counted
//! once. Nothing is sent again on a timer, and nothing has to be: a target that
//! missed an answer repeats what was answered. Data is acknowledged as far as it
//! was seen and thrown away. What is still open when it is forgotten is reset,
//! so that targets do not keep it.

use super::drive::Probe;
use super::station::{Heard, Station};
use super::syn::count_error;
use super::tally::{Answer, Latencies, Tally, latencies};
use super::tcp::{Tcp, WINDOW};
use crate::frame::Frame;
use crate::wire::{Headers, Packet, Segment, TcpHeader, flag, ip_of, proto, src_mac};

/// The longest request.
pub const LONGEST_REQUEST: usize = 1400;

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The SYN was sent, or there is no such connection.
    Asked,
    /// SYN/ACK came, and nothing since.
    Open,
    /// The target has said something and was told that this is enough.
    Answered,
    /// Both sides have ended it, or one has reset it.
    Over,
}

/// Whole connections.
pub struct Handshake {
    station: Station,
    tcp: Tcp,
    request: Box<[u8]>,
    phases: Box<[Phase]>,
    /// Connections that stood.
    pub completed: u64,
    /// SYNs that were answered by RST.
    pub refused: u64,
    /// Connections on which the target said something.
    pub responses: u64,
    /// Connections that both sides have ended.
    pub closed: u64,
    /// Connections that the target has reset.
    pub reset: u64,
    /// From the SYN to the first data.
    pub response_latency: Latencies,
}

impl Handshake {
    /// Connections by `station`; `capacity` is that of the run's tally.
    pub fn new(station: Station, tcp: Tcp, request: &[u8], capacity: u64) -> Handshake {
        Handshake {
            station,
            tcp,
            request: request.into(),
            phases: vec![Phase::Asked; capacity as usize].into(),
            completed: 0,
            refused: 0,
            responses: 0,
            closed: 0,
            reset: 0,
            response_latency: latencies(),
        }
    }

    /// Our sequence numbers on connection `n`: behind the SYN, and behind the request.
    fn bounds(&self, n: u64) -> (u32, u32) {
        let begin = self.tcp.isn(n).wrapping_add(1);
        (begin, begin.wrapping_add(self.request.len() as u32))
    }

    /// Looks at a segment; returns whether `frame` has become the answer.
    fn answer(&mut self, now: u64, packet: &Packet, frame: &mut Frame, tally: &mut Tally) -> bool {
        let payload = packet.payload(frame.bytes());
        if packet.proto != proto::TCP {
            count_error(packet, payload, tally);
            return false;
        }
        let Some(header) = TcpHeader::parse(payload).filter(|tcp| tcp.src == self.tcp.port()) else { return false };
        let len = payload.len() - header.len;
        let found = self.station.sources.index(packet.dst_word).and_then(|source| {
            let n = self.tcp.by_port(source, header.dst, tally.next).filter(|n| tally.knows(*n))?;
            Some((n, self.tcp.is_answer(n, packet.src_word, packet.dst_word, &header)?))
        });
        let Some((n, shot)) = found else {
            tally.unexpected += 1;
            return false;
        };
        let slot = tally.slot(n);
        let (begin, end) = self.bounds(n);
        let phase = self.phases[slot];
        if header.has(flag::RST) {
            match phase {
                Phase::Asked if header.ack == begin => {
                    tally.answer(n, shot.position, now);
                    self.refused += 1;
                    self.phases[slot] = Phase::Over;
                }
                Phase::Open | Phase::Answered => {
                    self.reset += 1;
                    self.phases[slot] = Phase::Over;
                }
                _ => {}
            }
            return false;
        }
        if header.has(flag::SYN) {
            if header.flags & flag::ACK == 0 || header.ack != begin || phase == Phase::Over {
                tally.unexpected += 1;
                return false;
            }
            if tally.answer(n, shot.position, now) == Answer::First {
                self.completed += 1;
                self.phases[slot] = Phase::Open;
            }
            let flags = if self.request.is_empty() { flag::ACK } else { flag::ACK | flag::PSH };
            self.reply(n, packet, &header, frame, flags, begin, header.seq.wrapping_add(1));
            return true;
        }
        let fin = header.has(flag::FIN);
        if phase == Phase::Asked || (len == 0 && !fin) {
            return false;
        }
        if phase == Phase::Open {
            self.phases[slot] = Phase::Answered;
            if len > 0 {
                self.responses += 1;
                self.response_latency.saturating_record(now.saturating_sub(tally.sent_at(n)).max(1));
            }
        }
        if fin && phase != Phase::Over {
            self.closed += 1;
            self.phases[slot] = Phase::Over;
        }
        let seen = header.seq.wrapping_add(len as u32).wrapping_add(u32::from(fin));
        // A target that has our FIN gets an acknowledgment only; one that has not gets it, once more if need be.
        let told = header.ack == end.wrapping_add(1);
        let (flags, seq) = if told { (flag::ACK, end.wrapping_add(1)) } else { (flag::FIN | flag::ACK, end) };
        self.reply(n, packet, &header, frame, flags, seq, seen);
        true
    }

    /// Turns a received segment into the answer to it.
    #[allow(clippy::too_many_arguments)]
    fn reply(&self, n: u64, packet: &Packet, tcp: &TcpHeader, frame: &mut Frame, flags: u8, seq: u32, ack: u32) {
        let headers = Headers {
            dst_mac: src_mac(frame.bytes()),
            src_mac: self.tcp.mac(),
            src: packet.dst(),
            dst: packet.src(),
            proto: proto::TCP,
            ttl: 64,
            tos: 0,
            ip_id: n as u16,
            df: true,
        };
        let payload: &[u8] = if flags & flag::PSH != 0 { &self.request } else { &[] };
        let (src, dst) = (tcp.dst, tcp.src);
        let segment = Segment { src, dst, seq, ack, flags, window: WINDOW, options: &[], payload };
        let written = segment.write(&headers, frame.space());
        frame.set_len(written);
    }

    /// Handshakes that are neither closed nor reset.
    fn open(&self) -> u64 {
        self.completed - self.closed - self.reset
    }
}

impl Probe for Handshake {
    const FORGETS: bool = true;

    #[inline]
    fn write(&mut self, n: u64, frame: &mut Frame) {
        self.tcp.syn(n, frame);
    }

    #[inline]
    fn hear(&mut self, now: u64, frame: &mut Frame, tally: &mut Tally) -> bool {
        match self.station.hear(frame) {
            Heard::Packet(packet) => self.answer(now, &packet, frame, tally),
            Heard::Asked => true,
            _ => false,
        }
    }

    fn is_settled(&self, tally: &Tally) -> bool {
        tally.lost() == 0 && self.open() == 0
    }

    fn forget(&mut self, n: u64, frame: &mut Frame) -> bool {
        let slot = n as usize & (self.phases.len() - 1);
        let (_, end) = self.bounds(n);
        let seq = match std::mem::replace(&mut self.phases[slot], Phase::Asked) {
            Phase::Asked | Phase::Over => return false,
            Phase::Open => end,
            Phase::Answered => end.wrapping_add(1),
        };
        let shot = self.tcp.aim.at(n);
        let headers = Headers {
            dst_mac: shot.mac,
            src_mac: self.tcp.mac(),
            src: ip_of(shot.src),
            dst: ip_of(shot.dst),
            proto: proto::TCP,
            ttl: 64,
            tos: 0,
            ip_id: n as u16,
            df: true,
        };
        let (src, dst) = (self.tcp.port_of(n), self.tcp.port());
        let (options, payload): (&[u8], &[u8]) = (&[], &[]);
        let segment = Segment { src, dst, seq, ack: 0, flags: flag::RST, window: 0, options, payload };
        let written = segment.write(&headers, frame.space());
        frame.set_len(written);
        true
    }
}
