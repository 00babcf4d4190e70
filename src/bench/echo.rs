//! ICMP echo (RFC 792) and ICMPv6 echo (RFC 4443 §4): the payload carries the
//! probe's number and the mark of this run.

use super::drive::Probe;
use super::station::{Heard, Station};
use super::tally::Tally;
use super::targets::Aim;
use super::template::{self, Template};
use crate::frame::Frame;
use crate::wire::{Packet, be16, be32, icmp6, proto};

/// Type of an ICMP echo request; a reply has 0.
const REQUEST: u8 = 8;
/// Octets of the message: header, number, mark, and what makes the frame one of 64 octets.
const MESSAGE: usize = 8 + 8 + 8;

/// Echo requests.
pub struct Echo {
    station: Station,
    aim: Aim,
    template: Template,
    v4: bool,
    mark: u64,
}

impl Echo {
    /// Requests by `station`; `mark` tells this run from others.
    pub fn new(station: Station, aim: Aim, v4: bool, mark: u64) -> Echo {
        let mut message = [0; MESSAGE];
        message[0] = if v4 { REQUEST } else { icmp6::ECHO_REQUEST };
        message[4..6].copy_from_slice(&(mark as u16).to_be_bytes());
        message[16..24].copy_from_slice(&mark.to_be_bytes());
        let protocol = if v4 { proto::ICMP } else { proto::ICMPV6 };
        Echo { template: Template::new(station.mac, v4, protocol, &message), station, aim, v4, mark }
    }

    fn answer(&self, now: u64, packet: &Packet, bytes: &[u8], tally: &mut Tally) {
        let message = packet.payload(bytes);
        let kind = message.first().copied().unwrap_or_default();
        let (protocol, reply) = if self.v4 { (proto::ICMP, 0) } else { (proto::ICMPV6, icmp6::ECHO_REPLY) };
        if packet.proto != protocol {
            return;
        }
        if is_error(kind, self.v4) {
            tally.icmp_errors += 1;
            return;
        }
        if kind != reply || be16(message, 4) != self.mark as u16 {
            return;
        }
        let number = u64::from(be32(message, 8)) << 32 | u64::from(be32(message, 12));
        let mark = u64::from(be32(message, 16)) << 32 | u64::from(be32(message, 20));
        let shot = self.aim.at(number);
        if mark != self.mark || shot.dst != packet.src_word || shot.src != packet.dst_word {
            tally.unexpected += 1;
            return;
        }
        tally.answer(number, shot.position, now);
    }
}

/// Whether a message of that type is an error: unreachable, time exceeded, too big, a parameter problem.
pub fn is_error(kind: u8, v4: bool) -> bool {
    if v4 { matches!(kind, 3 | 4 | 11 | 12) } else { matches!(kind, 1..=4) }
}

impl Probe for Echo {
    #[inline]
    fn write(&mut self, n: u64, frame: &mut Frame) {
        let shot = self.aim.at(n);
        let (message, sum) = self.template.write(frame, shot.mac, shot.src, shot.dst, n as u16);
        message[6..8].copy_from_slice(&(n as u16).to_be_bytes());
        message[8..16].copy_from_slice(&n.to_be_bytes());
        template::finish(message, 2, sum + (n & 0xffff) + (n >> 32) + (n & 0xffff_ffff));
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
