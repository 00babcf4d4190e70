//! SYNs and what comes back, SYN/ACK or RST. Nothing is sent in return: a target
//! that says SYN/ACK keeps a half-open connection, as under a SYN flood.

use super::drive::Probe;
use super::echo::is_error;
use super::station::{Heard, Station};
use super::tally::{Answer, Tally};
use super::tcp::Tcp;
use crate::frame::Frame;
use crate::wire::{Packet, TcpHeader, flag, proto};

/// SYNs.
pub struct Syn {
    station: Station,
    tcp: Tcp,
    /// Probes that were answered by SYN/ACK.
    pub syn_ack: u64,
    /// Probes that were answered by RST.
    pub rst: u64,
}

impl Syn {
    /// SYNs by `station`.
    pub fn new(station: Station, tcp: Tcp) -> Syn {
        Syn { station, tcp, syn_ack: 0, rst: 0 }
    }

    fn answer(&mut self, now: u64, packet: &Packet, bytes: &[u8], tally: &mut Tally) {
        let payload = packet.payload(bytes);
        if packet.proto != proto::TCP {
            count_error(packet, payload, tally);
            return;
        }
        let Some(header) = TcpHeader::parse(payload).filter(|tcp| tcp.src == self.tcp.port()) else { return };
        let kind = match header.flags & (flag::SYN | flag::ACK | flag::RST) {
            kind if kind == flag::SYN | flag::ACK => &mut self.syn_ack,
            kind if kind == flag::RST | flag::ACK => &mut self.rst,
            _ => return,
        };
        let found = self
            .tcp
            .by_ack(header.ack, tally.next)
            .and_then(|n| Some((n, self.tcp.is_answer(n, packet.src_word, packet.dst_word, &header)?)));
        match found {
            None => tally.unexpected += 1,
            Some((n, shot)) => *kind += u64::from(tally.answer(n, shot.position, now) == Answer::First),
        }
    }
}

/// Counts an ICMP error.
pub fn count_error(packet: &Packet, message: &[u8], tally: &mut Tally) {
    let v4 = packet.is_v4();
    let icmp = if v4 { proto::ICMP } else { proto::ICMPV6 };
    if packet.proto == icmp && message.first().is_some_and(|kind| is_error(*kind, v4)) {
        tally.icmp_errors += 1;
    }
}

impl Probe for Syn {
    #[inline]
    fn write(&mut self, n: u64, frame: &mut Frame) {
        self.tcp.syn(n, frame);
    }

    #[inline]
    fn hear(&mut self, now: u64, frame: &mut Frame, tally: &mut Tally) -> bool {
        match self.station.hear(frame) {
            Heard::Packet(packet) => self.answer(now, &packet, frame.bytes(), tally),
            Heard::Asked => return true,
            _ => {}
        }
        false
    }
}
