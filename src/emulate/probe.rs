//! The probes of nmap's OS detection: which packet is one, how one scanner's round
//! goes on, and how an answer of a [`Fingerprint`] is written.
//!
//! Nobody else sends such packets: options, windows and lengths are odd enough to
//! tell them from what clients and port scans send ("Remote OS Detection" in
//! nmap's documentation describes each). So only they need peculiar answers.

use super::fingerprint::{Fingerprint, IdPattern, IsnPattern, SeqNumber};
use crate::wire::{Duration, ETH, Instant, Packet, TcpHeader, be16, flag};

pub use super::probe_write::{Speaker, write_echo, write_tcp, write_udp};

/// A probe for TCP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// The SYN of SEQ with that number, from 0 on; also of OPS, and T1 for 0.
    Syn(usize),
    /// ECN.
    Ecn,
    /// T2, T3 or T4, from 0 on: for an open port.
    Open(usize),
    /// T5, T6 or T7, from 0 on: for a closed port.
    Closed(usize),
}

/// The SYNs' windows and options.
const SYNS: [(u16, &[u8]); 6] = [
    (1, &[3, 3, 10, 1, 2, 4, 5, 0xb4, 8, 10, 255, 255, 255, 255, 0, 0, 0, 0, 4, 2]),
    (63, &[2, 4, 5, 0x78, 3, 3, 0, 4, 2, 8, 10, 255, 255, 255, 255, 0, 0, 0, 0, 0]),
    (4, &[8, 10, 255, 255, 255, 255, 0, 0, 0, 0, 1, 1, 3, 3, 5, 1, 2, 4, 2, 0x80]),
    (4, &[4, 2, 8, 10, 255, 255, 255, 255, 0, 0, 0, 0, 3, 3, 10, 0]),
    (16, &[2, 4, 2, 0x18, 4, 2, 8, 10, 255, 255, 255, 255, 0, 0, 0, 0, 3, 3, 10, 0]),
    (512, &[2, 4, 1, 9, 4, 2, 8, 10, 255, 255, 255, 255, 0, 0, 0, 0]),
];
const ECN: (u16, &[u8]) = (3, &[3, 3, 10, 1, 2, 4, 5, 0xb4, 4, 2, 1, 1]);
/// Of T2 to T7; the shift of T7 is 15.
const OTHERS: &[u8] = &[3, 3, 10, 1, 2, 4, 1, 9, 8, 10, 255, 255, 255, 255, 0, 0, 0, 0, 4, 2];
const URG: u8 = 0x20;
const ECE_CWR: u8 = 0xc0;
/// Flags and window of T2 to T7.
const FLAGS: [(u8, u16); 6] = [
    (0, 128),
    (flag::SYN | flag::FIN | URG | flag::PSH, 256),
    (flag::ACK, 1024),
    (flag::SYN, 31337),
    (flag::ACK, 32768),
    (flag::FIN | flag::PSH | URG, 65535),
];

/// Which probe a segment is, if it is one.
#[inline]
pub fn recognize(tcp: &TcpHeader, options: &[u8]) -> Option<Probe> {
    if options.len() < 12 {
        return None;
    }
    if tcp.flags == flag::SYN
        && let Some(number) = SYNS.iter().position(|syn| *syn == (tcp.window, options))
    {
        return Some(Probe::Syn(number));
    }
    if tcp.flags == flag::SYN | ECE_CWR {
        return (ECN == (tcp.window, options)).then_some(Probe::Ecn);
    }
    let number = FLAGS.iter().position(|probe| *probe == (tcp.flags, tcp.window))?;
    let shift = if number == 5 { 15 } else { 10 };
    let same = options[..2] == OTHERS[..2] && options[2] == shift && options[3..] == OTHERS[3..];
    same.then_some(if number < 3 { Probe::Open(number) } else { Probe::Closed(number - 3) })
}

/// Whether an ICMP message is one of IE's two echo requests.
pub fn is_echo_probe(message: &[u8]) -> bool {
    let one = message.len() == 8 + 120 && message[..2] == [8, 9] && be16(message, 6) == 295;
    let two = message.len() == 8 + 150 && message[..2] == [8, 0] && be16(message, 6) == 296;
    (one || two) && message[8..].iter().all(|octet| *octet == 0)
}

/// Whether a packet is the datagram of U1.
pub fn is_udp_probe(frame: &[u8], packet: &Packet) -> bool {
    let message = packet.payload(frame);
    packet.l4 == ETH + 20
        && be16(frame, ETH + 4) == 0x1042
        && message.len() == 8 + 300
        && message[8..].iter().all(|octet| *octet == b'C')
}

/// Where one scanner stands with one host.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    /// Source port of SEQ's first SYN, and its sequence number.
    port: u16,
    seq: u32,
    heard: bool,
    began: Instant,
    last: Instant,
    /// SYNs of SEQ that were answered in this round, as bits, and with which numbers.
    answered: u8,
    numbers: [u32; 6],
    /// How many of them count.
    counted: usize,
    isn: u32,
    /// The greatest common divisor of the differences so far, as multiples of the pattern's.
    divisor: u32,
    seed: u32,
    tcp: Counter,
    closed: Counter,
    icmp: Counter,
}

/// IP identification of one kind of packet.
#[derive(Clone, Copy, Debug)]
struct Counter {
    at: u16,
    sent: u8,
}

impl Counter {
    fn next(&mut self, pattern: IdPattern, seed: u32) -> u16 {
        let sent = self.sent;
        self.sent = sent.wrapping_add(1);
        match pattern {
            IdPattern::Zero => 0,
            IdPattern::Constant(id) => id,
            IdPattern::Step(step) => self.go(step),
            IdPattern::Unclassified => self.go([11, 37, 101][usize::from(sent) % 3]),
            IdPattern::Random => {
                let some = (seed.wrapping_add(u32::from(sent)).wrapping_mul(0x9e37_79b1) >> 19) as u16;
                if sent.is_multiple_of(2) { 0x0400 + some } else { 0xb000 + some }
            }
        }
    }

    fn go(&mut self, step: u16) -> u16 {
        self.at = self.at.wrapping_add(step);
        self.at
    }
}

/// What a SYN with the options of SEQ is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// SEQ's own: the sequence number of the answer.
    Seq(u32),
    /// One of OPS: the same.
    Ops(u32),
    /// T1, SEQ's first SYN once more: the same.
    T1(u32),
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Scan {
    /// A scan that begins now; `random` decides where its counters start.
    pub fn new(random: u64, now: Instant) -> Scan {
        // Low enough that nothing wraps within a scan, and ICMP's counter far above TCP's.
        let start = 0x1000 + (random as u16 & 0x3fff);
        Scan {
            port: 0,
            seq: 0,
            heard: false,
            began: now,
            last: now,
            answered: 0,
            numbers: [0; 6],
            counted: 0,
            isn: (random >> 32) as u32 | 1,
            divisor: 0,
            seed: (random >> 16) as u32,
            tcp: Counter { at: start, sent: 0 },
            closed: Counter { at: start ^ 0x0fff, sent: 0 },
            icmp: Counter { at: start + 0x8800, sent: 0 },
        }
    }

    /// The IP identification of the next answer to `probe`.
    pub fn ip_id(&mut self, fingerprint: &Fingerprint, probe: Probe) -> u16 {
        let seq = &fingerprint.seq;
        match (probe, seq.ci) {
            (Probe::Closed(_), IdPattern::Step(_)) if seq.ci == seq.ti => self.tcp.next(seq.ti, self.seed),
            (Probe::Closed(_), ci) => self.closed.next(ci, self.seed),
            _ => self.tcp.next(seq.ti, self.seed),
        }
    }

    /// The same of the answer to a datagram.
    pub fn udp_id(&mut self, fingerprint: &Fingerprint) -> u16 {
        self.tcp.next(fingerprint.seq.ti, self.seed)
    }

    /// The same of an echo reply.
    pub fn echo_id(&mut self, fingerprint: &Fingerprint) -> u16 {
        let seq = &fingerprint.seq;
        if !seq.ii_shares_ti {
            return self.icmp.next(seq.ii, self.seed);
        }
        // The first of two goes on where TCP stands: its distance from there is what tells that they share a counter.
        let first = self.icmp.sent.is_multiple_of(2);
        self.icmp.sent = self.icmp.sent.wrapping_add(1);
        self.tcp.next(if first { seq.ti } else { seq.ii }, self.seed)
    }

    /// SYN number `number` of SEQ, OPS or T1 has come.
    pub fn syn(
        &mut self,
        fingerprint: &Fingerprint,
        number: usize,
        tcp: &TcpHeader,
        random: u64,
        now: Instant,
    ) -> Turn {
        let offset = tcp.src.wrapping_sub(self.port);
        if number == 0 && offset == 13 && self.heard {
            return Turn::T1(self.advance(fingerprint, now));
        }
        if usize::from(offset) == 6 + number && self.heard {
            return Turn::Ops(self.advance(fingerprint, now));
        }
        if self.hear(number, tcp, random, now) && self.answered & 1 << number != 0 {
            return Turn::Seq(self.numbers[number]);
        }
        let at = match fingerprint.t1.as_ref().map(|t1| t1.seq) {
            Some(SeqNumber::Zero) if number == 0 => 0,
            Some(SeqNumber::Ack) if number == 0 => self.start(tcp.ack, now),
            Some(SeqNumber::AckPlus) if number == 0 => self.start(tcp.ack.wrapping_add(1), now),
            _ => self.count(fingerprint, now),
        };
        self.answered |= 1 << number;
        self.numbers[number] = at;
        Turn::Seq(at)
    }

    /// SYN number `number` of SEQ has come, whether it is answered or not. Returns whether it belongs to the present
    /// round; otherwise another one begins.
    pub fn hear(&mut self, number: usize, tcp: &TcpHeader, random: u64, now: Instant) -> bool {
        let offset = usize::from(tcp.src.wrapping_sub(self.port));
        if self.heard && offset == number && tcp.seq == self.seq.wrapping_add(number as u32) {
            return true;
        }
        // Another round, or another scan: counters go on, numbers do not.
        *self = Scan {
            port: tcp.src.wrapping_sub(number as u16),
            seq: tcp.seq.wrapping_sub(number as u32),
            heard: true,
            tcp: self.tcp,
            closed: self.closed,
            icmp: self.icmp,
            ..Scan::new(random, now)
        };
        self.settle();
        false
    }

    /// Whether a SYN of SEQ is one that has not come before.
    pub fn is_first(&self, number: usize, tcp: &TcpHeader) -> bool {
        let offset = usize::from(tcp.src.wrapping_sub(self.port));
        let later = offset == 6 + number || number == 0 && offset == 13;
        !(later && self.seq == tcp.seq)
    }

    /// The sequence number of another SYN/ACK.
    pub fn next_isn(&mut self, fingerprint: &Fingerprint, now: Instant) -> u32 {
        self.advance(fingerprint, now)
    }

    /// Counters that are about to wrap start anew: within a round that would show as chance.
    fn settle(&mut self) {
        for (counter, most) in [(&mut self.tcp, 0x7000), (&mut self.closed, 0xe000), (&mut self.icmp, 0xf800)] {
            if counter.at > most {
                counter.at -= 0x4000;
            }
        }
        // Echo replies that have a counter of their own keep it above.
        self.icmp.at = self.icmp.at.max(self.tcp.at.saturating_add(0x8400));
    }

    fn start(&mut self, isn: u32, now: Instant) -> u32 {
        (self.isn, self.last, self.counted) = (isn, now, 1);
        isn
    }

    /// The number of the next answer within the pattern.
    fn count(&mut self, fingerprint: &Fingerprint, now: Instant) -> u32 {
        let gap = match self.counted.checked_sub(1) {
            None => {
                let first = match fingerprint.seq.isn {
                    IsnPattern::Constant(isn) => isn,
                    _ => self.isn,
                };
                return self.start(first, now);
            }
            Some(gap) => gap.min(4),
        };
        self.counted += 1;
        let step = match fingerprint.seq.isn {
            IsnPattern::Constant(_) => 0,
            IsnPattern::Steps(steps) => steps[gap],
            IsnPattern::Rates { gcd: of, per_second } => {
                let of = of.max(1);
                let mut times = (far(per_second[gap], now - self.last) + u64::from(of / 2)) / u64::from(of);
                times = times.max(1);
                self.divisor = gcd(times as u32, self.divisor);
                if gap >= 3 && self.divisor != 1 {
                    times += 1;
                    self.divisor = 1;
                }
                (times as u32).wrapping_mul(of)
            }
        };
        self.last = now;
        self.isn = self.isn.wrapping_add(step);
        // Zero is what nmap takes for no answer.
        if self.isn == 0 {
            self.isn = step.max(1);
        }
        self.isn
    }

    /// A number beyond the pattern.
    fn advance(&mut self, fingerprint: &Fingerprint, now: Instant) -> u32 {
        let step = match fingerprint.seq.isn {
            IsnPattern::Constant(_) => 0,
            IsnPattern::Steps(steps) => steps[0],
            IsnPattern::Rates { gcd, per_second } => {
                (far(per_second[0], now - self.last) as u32).next_multiple_of(gcd.max(1)).max(gcd)
            }
        };
        self.isn = self.isn.wrapping_add(step).max(1);
        self.last = now;
        self.isn
    }

    /// The value of the timestamp clock. `clock` is where the host's own stands.
    pub fn timestamp(&self, hz: u64, clock: impl Fn(Instant) -> u32, now: Instant) -> u32 {
        let value = match hz {
            // A clock this slow ticks once within a round, or nobody sees that it does.
            1..7 => {
                let micros = hz * (now - self.began).total_micros() + 1_000_000 - hz * 250_000 % 1_000_000;
                clock(self.began).wrapping_add((micros / 1_000_000) as u32)
            }
            _ => clock(now),
        };
        value.max(1)
    }
}

/// How far something goes at so many a second.
fn far(per_second: u64, time: Duration) -> u64 {
    let product = u128::from(per_second) * u128::from(time.total_micros()) / 1_000_000;
    u64::try_from(product).unwrap_or(u64::MAX).min(0x7fff_ffff)
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
