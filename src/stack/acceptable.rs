//! Which segments have a place in an open connection (RFC 9293 §3.10.7.4), and what
//! becomes of those that have none: with the challenges of RFC 5961, or as
//! before it.

use super::Incoming;
use super::tcb::{WINDOW, after};
use crate::wire::flag;

/// What is done with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is taken.
    Take,
    /// It is not, and nothing is said.
    Ignore,
    /// It is old, or a question whether there is a window: it is answered by what we expect.
    Acknowledge,
    /// The same, but not as often as somebody likes: it makes no sense.
    Challenge,
    /// It is answered by a RST, and the connection is over.
    Refuse,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Our oldest octet that was not acknowledged.
    pub una: u32,
    /// Behind everything that we have sent.
    pub nxt: u32,
    /// The peer's next octet.
    pub rcv: u32,
    /// The peer's window in octets.
    pub window: u32,
    /// Whether what is at a wrong place in the window is questioned (RFC 5961).
    pub challenges: bool,
}

impl Place {
    /// What is done with `segment`. What depends on how much of our window is open is left to who takes it.
    pub(super) fn judge(&self, segment: &Incoming<'_>) -> Verdict {
        let Place { una, nxt, rcv, window, challenges } = *self;
        let (seq, flags) = (segment.seq, segment.flags);
        let begins_within = seq.wrapping_sub(rcv) <= WINDOW;
        if flags & flag::RST != 0 {
            // RFC 5961 §3.2.
            return if seq == rcv || (begins_within && !challenges) {
                Verdict::Take
            } else if begins_within {
                Verdict::Challenge
            } else {
                Verdict::Ignore
            };
        }
        if flags & flag::SYN != 0 {
            // RFC 5961 §4.2; RFC 793 §3.9 ("fourth, check the SYN bit").
            return if challenges || !begins_within { Verdict::Challenge } else { Verdict::Refuse };
        }
        let len = segment.payload.len() as u32 + u32::from(flags & flag::FIN != 0);
        let end = seq.wrapping_add(len);
        if after(rcv, seq) && !after(end, rcv) {
            // Data whose acknowledgment was lost; or a keep-alive, with an octet or without (§3.8.4).
            return if len > 0 { Verdict::Acknowledge } else { Verdict::Challenge };
        }
        if !begins_within && !after(rcv, seq) {
            return Verdict::Challenge;
        }
        if flags & flag::ACK == 0 {
            return Verdict::Ignore;
        }
        // RFC 5961 §5.2. The largest window that the peer ever had is not known; ours is as good.
        let too_old = challenges && after(una.wrapping_sub(window.max(WINDOW)), segment.ack);
        if after(segment.ack, nxt) || too_old { Verdict::Challenge } else { Verdict::Take }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_segment_has_its_place() {
        use Verdict::{Acknowledge, Challenge, Ignore, Refuse, Take};
        const ACK: u8 = flag::ACK;
        const RST: u8 = flag::RST;
        const SYN: u8 = flag::SYN;
        // Sequence number from the one expected, acknowledgment from the oldest that is missing, flags, octets; with
        // RFC 5961, and without.
        let cases: [(i32, i32, u8, usize, Verdict, Verdict); 19] = [
            (0, 0, ACK, 0, Take, Take),
            (0, 100, ACK, 10, Take, Take),
            (60_000, 0, ACK, 10, Take, Take),
            (-5, 0, ACK, 10, Take, Take),
            (70_000, 0, ACK, 10, Challenge, Challenge),
            (-10, 0, ACK, 10, Acknowledge, Acknowledge),
            (-1, 0, ACK | flag::FIN, 0, Acknowledge, Acknowledge),
            (-1, 0, ACK, 0, Challenge, Challenge),
            (-1, 0, ACK, 1, Acknowledge, Acknowledge),
            (0, 101, ACK, 0, Challenge, Challenge),
            (0, -65_000, ACK, 5, Take, Take),
            (0, -65_536, ACK, 5, Challenge, Take),
            (0, 0, 0, 5, Ignore, Ignore),
            (0, 0, RST, 0, Take, Take),
            (1, 0, RST, 0, Challenge, Take),
            (-1, 0, RST, 0, Ignore, Ignore),
            (0, 0, SYN, 0, Challenge, Refuse),
            (40, 0, SYN | ACK, 0, Challenge, Refuse),
            (-40, 0, SYN, 0, Challenge, Challenge),
        ];
        // Around the end of the numbers.
        for rcv in [7000u32, 0xffff_fff0, 5] {
            for (seq, ack, flags, len, modern, classic) in cases {
                let payload = &[0; 10][..len];
                let segment = Incoming {
                    seq: rcv.wrapping_add_signed(seq),
                    ack: rcv.wrapping_add_signed(ack),
                    flags,
                    window: 0,
                    options: &[],
                    payload,
                };
                for (challenges, verdict) in [(true, modern), (false, classic)] {
                    let place = Place { una: rcv, nxt: rcv.wrapping_add(100), rcv, window: 500, challenges };
                    assert_eq!(place.judge(&segment), verdict, "{seq} {ack} {flags:#x} {len} {challenges}");
                }
            }
        }
    }
}
