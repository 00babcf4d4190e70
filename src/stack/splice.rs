//! Two TCP connections made into one, once both are open: segments pass from the
//! attacker to the container and back with their numbers changed, whole
//! super-frames included, and no byte of them is copied. From then on the two ends
//! acknowledge, retransmit and slow down by themselves.
//!
//! What differs between the two connections is constant: initial sequence numbers
//! (RFC 9293 §3.4.1), the offset of the host's timestamp clock (RFC 7323 §5.4) and
//! the scale of the window that the host announces (RFC 7323 §2). What else was
//! negotiated must be the same on both.

use crate::wire::{be16, be32, checksum, flag};

/// What is added to the numbers of segments in one direction, modulo 2³².
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shift {
    /// To the sequence number.
    pub seq: u32,
    /// To the acknowledgment number, and to the edges of SACK blocks (RFC 2018 §3).
    pub ack: u32,
    /// To the value of a timestamp.
    pub ts_value: u32,
    /// To its echo.
    pub ts_echo: u32,
    /// The shifts of the window as the sender counts it and as the receiver does.
    pub window: (u8, u8),
    /// The largest window field.
    pub most_window: u16,
}

impl Default for Shift {
    fn default() -> Shift {
        Shift { seq: 0, ack: 0, ts_value: 0, ts_echo: 0, window: (0, 0), most_window: u16::MAX }
    }
}

impl Shift {
    /// Changes the TCP header that `l4` begins with, and its checksum unless that is
    /// partial: the pseudo header's sum stays what it is.
    pub fn apply(&self, l4: &mut [u8], partial: bool) {
        let header_len = usize::from(l4.get(12).map_or(0, |first| first >> 4)) * 4;
        let Some(header) = l4.get_mut(..header_len).filter(|header| header.len() >= 20) else { return };
        let before = checksum::sum(0, header);
        add(header, 4, self.seq);
        let has_ack = header[13] & flag::ACK != 0;
        if has_ack {
            add(header, 8, self.ack);
        }
        let (from, to) = self.window;
        if from != to || self.most_window < u16::MAX {
            let window = (u64::from(be16(header, 14)) << from >> to).min(u64::from(self.most_window)) as u16;
            header[14..16].copy_from_slice(&window.to_be_bytes());
        }
        self.options(&mut header[20..], has_ack);
        if !partial {
            // RFC 1624 §3, over all words that have changed: ~(~HC + ~m + m').
            let after = checksum::sum(0, header);
            let old = u64::from(!be16(header, 16)) + u64::from(checksum::finish(before)) + u64::from(fold(after));
            header[16..18].copy_from_slice(&checksum::finish(old).to_be_bytes());
        }
    }

    fn options(&self, mut options: &mut [u8], has_ack: bool) {
        loop {
            let len = match *options {
                [] | [0, ..] => return,
                [1, ..] => 1,
                [_, len, ..] if len >= 2 => usize::from(len),
                _ => return,
            };
            if len > options.len() {
                return;
            }
            let (option, rest) = options.split_at_mut(len);
            match option[0] {
                5 => (2..len.saturating_sub(3)).step_by(4).for_each(|at| add(option, at, self.ack)),
                8 if len == 10 => {
                    add(option, 2, self.ts_value);
                    if has_ack {
                        add(option, 6, self.ts_echo);
                    }
                }
                _ => {}
            }
            options = rest;
        }
    }
}

/// A sum folded to 16 bits, not complemented.
fn fold(sum: u64) -> u16 {
    !checksum::finish(sum)
}

fn add(bytes: &mut [u8], at: usize, n: u32) {
    let value = be32(bytes, at).wrapping_add(n);
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Where an open connection stands that is about to pass through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenEnd {
    /// The sequence number of what we would send next.
    pub next: u32,
    /// The sequence number of what the peer will send next.
    pub heard: u32,
    /// The shift of the windows that we announce.
    pub own_scale: u8,
    /// The shift of the windows that the peer announces.
    pub peer_scale: u8,
    /// Our timestamp clock (towards the attacker), or the peer's (towards the container), now.
    pub ts_clock: u32,
}

/// What passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    /// The connection goes on.
    On,
    /// Both sides have said that they send no more, and have been heard.
    Closed,
    /// The sender has reset it.
    Reset,
}

/// One side of the connection, in the numbers of its own segments.
#[derive(Clone, Copy, Debug)]
struct Side {
    /// What follows the last octet that it has sent.
    next: u32,
    /// What it has acknowledged of the other's, in the other's numbers.
    heard: u32,
    /// What follows its FIN.
    fin: Option<u32>,
}

/// A connection that passes through.
#[derive(Clone, Copy, Debug)]
pub struct Splice {
    inward: Shift,
    outward: Shift,
    /// The attacker.
    outer: Side,
    /// The container.
    inner: Side,
}

impl Splice {
    /// Makes one of the connection to the attacker (`outer`) and the one to the
    /// container (`inner`). Nothing that was received may be left to pass on, and
    /// nothing that was sent to be acknowledged.
    pub fn new(outer: &OpenEnd, inner: &OpenEnd) -> Splice {
        let data = inner.next.wrapping_sub(outer.heard);
        let answers = outer.next.wrapping_sub(inner.heard);
        let clock = outer.ts_clock.wrapping_sub(inner.ts_clock);
        Splice {
            inward: Shift {
                seq: data,
                ack: answers.wrapping_neg(),
                ts_value: 0,
                ts_echo: clock.wrapping_neg(),
                ..Shift::default()
            },
            outward: Shift {
                seq: answers,
                ack: data.wrapping_neg(),
                ts_value: clock,
                ts_echo: 0,
                window: (inner.peer_scale, outer.own_scale),
                ..Shift::default()
            },
            outer: Side { next: outer.heard, heard: outer.next, fin: None },
            inner: Side { next: inner.heard, heard: inner.next, fin: None },
        }
    }

    /// Changes a segment of the attacker's, which begins with its TCP header and
    /// carries `payload` octets.
    pub fn inward(&mut self, l4: &mut [u8], payload: usize, partial: bool) -> Passed {
        let passed = pass(l4, payload, &mut self.outer, &self.inner, &self.inward);
        self.inward.apply(l4, partial);
        passed
    }

    /// Changes a segment of the container's.
    pub fn outward(&mut self, l4: &mut [u8], payload: usize, partial: bool) -> Passed {
        let passed = pass(l4, payload, &mut self.inner, &self.outer, &self.outward);
        self.outward.apply(l4, partial);
        passed
    }

    /// The sequence and acknowledgment numbers of what the host would send next, to the attacker.
    pub fn next_outward(&self) -> (u32, u32) {
        (self.inner.next.wrapping_add(self.outward.seq), self.inner.heard.wrapping_add(self.outward.ack))
    }

    /// The same, to the container.
    pub fn next_inward(&self) -> (u32, u32) {
        (self.outer.next.wrapping_add(self.inward.seq), self.outer.heard.wrapping_add(self.inward.ack))
    }
}

/// Takes note of a segment that `from` sends to `to`, in the sender's numbers.
fn pass(l4: &[u8], payload: usize, from: &mut Side, to: &Side, shift: &Shift) -> Passed {
    let (seq, flags) = (be32(l4, 4), l4.get(13).copied().unwrap_or(0));
    let heard_by_peer = to.heard.wrapping_sub(shift.seq);
    if flags & flag::RST != 0 {
        // RFC 5961 §3.2: elsewhere in the window it is only a question, which the other end answers.
        return if seq == heard_by_peer { Passed::Reset } else { Passed::On };
    }
    let end = seq.wrapping_add(payload as u32).wrapping_add(u32::from(flags & flag::FIN != 0));
    if flags & flag::FIN != 0 {
        from.fin = Some(end);
    }
    if is_after(end, from.next) {
        from.next = end;
    }
    if flags & flag::ACK != 0 && is_after(be32(l4, 8), from.heard) {
        from.heard = be32(l4, 8);
    }
    let is_heard = |fin: Option<u32>, heard: u32| fin.is_some_and(|fin| !is_after(fin, heard));
    let both = is_heard(from.fin, heard_by_peer) && is_heard(to.fin, from.heard.wrapping_add(shift.ack));
    if both { Passed::Closed } else { Passed::On }
}

/// Whether a number lies behind another on the circle (RFC 9293 §3.4).
fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::{ETH, Headers, Mac, Packet, Segment, TcpHeader, TcpOptions, proto};

    fn frame(seq: u32, ack: u32, flags: u8, options: &[u8], payload: &[u8], v4: bool) -> Vec<u8> {
        let ip = |last: u8| -> IpAddr {
            if v4 { [10, 0, 0, last].into() } else { [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)].into() }
        };
        let headers = Headers {
            dst_mac: Mac::ZERO,
            src_mac: Mac::ZERO,
            src: ip(1),
            dst: ip(2),
            proto: proto::TCP,
            ttl: 64,
            tos: 0,
            ip_id: 7,
            df: true,
        };
        let segment = Segment { src: 1, dst: 2, seq, ack, flags, window: 500, options, payload };
        let mut bytes = vec![0; headers.len() + segment.len()];
        segment.write(&headers, &mut bytes);
        bytes
    }

    /// The attacker's last octet was 999, the host's 4,999; the container knows them as 77 and 0xffff_fffe.
    fn splice() -> Splice {
        let outer = OpenEnd { next: 5000, heard: 1000, own_scale: 7, peer_scale: 8, ts_clock: 1_000_000 };
        let inner = OpenEnd { next: 78, heard: 0xffff_ffff, own_scale: 8, peer_scale: 9, ts_clock: 400 };
        Splice::new(&outer, &inner)
    }

    fn passed(splice: &mut Splice, inward: bool, bytes: &mut [u8]) -> (Passed, TcpHeader) {
        let packet = Packet::parse(bytes).unwrap();
        let tcp = TcpHeader::parse(packet.payload(bytes)).unwrap();
        let (payload, end) = (packet.end - packet.l4 - tcp.len, packet.end);
        let l4 = &mut bytes[packet.l4..end];
        let passed = if inward { splice.inward(l4, payload, false) } else { splice.outward(l4, payload, false) };
        assert!(packet.checksum_ok(bytes));
        (passed, TcpHeader::parse(packet.payload(bytes)).unwrap())
    }

    #[test]
    fn numbers_windows_and_timestamps_change() {
        let mut splice = splice();
        // SACK of the host's 6,000 to 7,000, and timestamps, at an odd place.
        let options = [1, 5, 10, 0, 0, 0x17, 0x70, 0, 0, 0x1b, 0x58, 8, 10, 0, 0, 0, 9, 0, 0x0f, 0x42, 0x4a, 0, 0, 0];
        let mut bytes = frame(1000, 5000, flag::ACK, &options, b"hello", true);
        let (what, tcp) = passed(&mut splice, true, &mut bytes);
        assert_eq!((what, tcp.seq, tcp.ack, tcp.window), (Passed::On, 78, 0xffff_ffff, 500));
        let l4 = &bytes[ETH + 20..];
        assert_eq!((be32(l4, 23), be32(l4, 27)), (999, 1999), "SACK");
        assert_eq!(TcpOptions::parse(&l4[20..44]).timestamps, Some((9, 410)), "the echo is of the container's clock");
        let mut bytes = frame(0xffff_ffff, 83, flag::ACK, &[8, 10, 0, 0, 1, 0xf4, 0, 0, 0, 9, 1, 1], b"you", false);
        let (what, tcp) = passed(&mut splice, false, &mut bytes);
        assert_eq!((what, tcp.seq, tcp.ack, tcp.window), (Passed::On, 5000, 1005, 2000));
        let l4 = &bytes[ETH + 40..];
        assert_eq!(TcpOptions::parse(&l4[20..32]).timestamps, Some((1_000_100, 9)));
        assert_eq!((splice.next_outward(), splice.next_inward()), ((5003, 1005), (83, 0xffff_ffff)));
    }

    #[test]
    fn it_ends_when_both_fins_were_heard() {
        let mut splice = splice();
        let mut segment = |inward, seq, ack, flags, payload: &[u8]| {
            passed(&mut splice, inward, &mut frame(seq, ack, flags, &[], payload, true)).0
        };
        let fin = flag::FIN | flag::ACK;
        assert_eq!(segment(true, 1000, 5000, fin, b"bye"), Passed::On);
        assert_eq!(segment(false, 0xffff_ffff, 82, flag::ACK, b"."), Passed::On);
        assert_eq!(segment(false, 0, 82, fin, b""), Passed::On);
        assert_eq!(segment(true, 1004, 5001, flag::ACK, b""), Passed::On, "the FIN is not acknowledged yet");
        assert_eq!(segment(true, 1004, 5002, flag::ACK, b""), Passed::Closed);
    }

    #[test]
    fn a_reset_counts_where_it_is_expected() {
        for (inward, near, exact) in [(true, 1001, 1000), (false, 1, 0xffff_ffff)] {
            let mut splice = splice();
            let mut reset = |seq| passed(&mut splice, inward, &mut frame(seq, 0, flag::RST, &[], b"", true)).0;
            assert_eq!(reset(near), Passed::On);
            assert_eq!(reset(exact), Passed::Reset);
        }
    }

    #[test]
    fn a_partial_checksum_stays_as_it_is() {
        let mut bytes = frame(1000, 5000, flag::ACK, &[], b"x", true);
        let before = be16(&bytes, ETH + 36);
        splice().inward(&mut bytes[ETH + 20..], 1, true);
        assert_eq!((be32(&bytes, ETH + 24), be16(&bytes, ETH + 36)), (78, before));
    }

    proptest! {
        #[test]
        fn checksums_stay_right(
            outer in any::<[u32; 3]>(), inner in any::<[u32; 3]>(), scales in (0u8..15, 0u8..15), numbers in any::<[u32; 4]>(),
            pad in 0usize..4, payload in prop::collection::vec(any::<u8>(), 0..40), v4 in any::<bool>(),
        ) {
            let end = |n: [u32; 3], own_scale, peer_scale| {
                OpenEnd { next: n[0], heard: n[1], own_scale, peer_scale, ts_clock: n[2] }
            };
            let mut splice = Splice::new(&end(outer, scales.0, 0), &end(inner, 0, scales.1));
            let mut options = vec![1; pad];
            options.extend_from_slice(&[8, 10]);
            options.extend(numbers[2..].iter().flat_map(|n| n.to_be_bytes()));
            options.resize(options.len().next_multiple_of(4), 0);
            for inward in [true, false] {
                passed(&mut splice, inward, &mut frame(numbers[0], numbers[1], flag::ACK, &options, &payload, v4));
            }
        }

        #[test]
        fn absurd_headers_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..80), payload in 0usize..70_000) {
            let mut bytes = bytes;
            splice().inward(&mut bytes, payload, false);
            splice().outward(&mut bytes, payload, true);
        }
    }
}
