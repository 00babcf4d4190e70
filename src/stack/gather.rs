//! Segments that follow each other, put together into one that the device cuts again (TCP segmentation offload): what passes
//! through nodes, a device and the receiver's stack is then one frame, and not dozens.

use super::segment::Outgoing;
use crate::wire::flag;

/// Octets of data that are put together at most: with the longest headers, what the length field of IPv4 can say.
const MOST: usize = 65_535 - 20 - 60;

/// What has been put together and not sent.
pub(super) struct Gather<'a, F: FnMut(&Outgoing<'_>)> {
    send: F,
    /// Whether anything is.
    together: bool,
    /// The first segment.
    first: Option<Outgoing<'a>>,
    /// Its data and that of those behind it, if there are any.
    data: &'a mut Vec<u8>,
    /// Nothing more goes behind it: the last one was short, or pushed.
    is_full: bool,
}

impl<'a, F: FnMut(&Outgoing<'_>)> Gather<'a, F> {
    /// Puts nothing together unless it is to be done `together`; `data` is memory for it.
    pub(super) fn new(together: bool, data: &'a mut Vec<u8>, send: F) -> Gather<'a, F> {
        data.clear();
        Gather { send, together, first: None, data, is_full: false }
    }

    /// Sends a segment, or keeps it until it is known what follows.
    pub(super) fn put(&mut self, segment: Outgoing<'a>) {
        if !self.append(&segment) {
            self.flush();
            if self.together && is_data(&segment) {
                self.is_full = segment.flags & flag::PSH != 0;
                self.first = Some(segment);
            } else {
                (self.send)(&segment);
            }
        }
    }

    fn append(&mut self, segment: &Outgoing<'_>) -> bool {
        let Some(first) = self.first.as_mut().filter(|_| !self.is_full) else { return false };
        let len = first.payload.len().max(self.data.len());
        let follows = is_data(segment)
            && segment.seq == first.seq.wrapping_add(len as u32)
            && (segment.ack, segment.window) == (first.ack, first.window)
            && segment.payload.len() <= first.payload.len()
            && len + segment.payload.len() <= MOST;
        if follows {
            if self.data.is_empty() {
                self.data.extend_from_slice(first.payload);
            }
            self.data.extend_from_slice(segment.payload);
            first.flags |= segment.flags;
            self.is_full = segment.flags & flag::PSH != 0 || segment.payload.len() < first.payload.len();
        }
        follows
    }

    /// Sends what was kept.
    pub(super) fn flush(&mut self) {
        let Some(first) = self.first.take() else { return };
        if self.data.is_empty() {
            (self.send)(&first);
        } else {
            (self.send)(&Outgoing { payload: self.data, mss: first.payload.len() as u16, ..first });
            self.data.clear();
        }
    }
}

/// Whether it has data and nothing else to say.
fn is_data(segment: &Outgoing<'_>) -> bool {
    !segment.payload.is_empty() && segment.flags & !flag::PSH == flag::ACK && segment.sack.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: Outgoing<'_> =
        Outgoing { seq: 0, ack: 7, flags: flag::ACK, window: 99, sack: &[], payload: &[], mss: 0 };

    /// What is sent of segments: their first octet's number, how many there are, those of each segment, flags.
    fn sent(together: bool, segments: &[Outgoing<'_>]) -> Vec<(u32, usize, u16, u8)> {
        let (mut sent, mut data) = (Vec::new(), vec![1, 2, 3]);
        let mut gather = Gather::new(together, &mut data, |out: &Outgoing<'_>| {
            // The octets are those of their places.
            assert!(out.payload.iter().zip(out.seq..).all(|(octet, at)| *octet == at as u8), "{out:?}");
            sent.push((out.seq, out.payload.len(), out.mss, out.flags));
        });
        segments.iter().for_each(|segment| gather.put(*segment));
        gather.flush();
        sent
    }

    fn octets(from: u32, len: usize) -> Vec<u8> {
        (from..).take(len).map(|at| at as u8).collect()
    }

    #[test]
    fn what_follows_is_put_together_up_to_a_push_or_a_short_one() {
        let (a, b, c, d) = (octets(0, 100), octets(100, 100), octets(200, 30), octets(230, 100));
        let all = [
            Outgoing { payload: &a, ..DATA },
            Outgoing { seq: 100, payload: &b, ..DATA },
            Outgoing { seq: 200, payload: &c, ..DATA },
            Outgoing { seq: 230, payload: &d, flags: flag::ACK | flag::PSH, ..DATA },
        ];
        assert_eq!(sent(true, &all), [(0, 230, 100, flag::ACK), (230, 100, 0, flag::ACK | flag::PSH)]);
        let pushed = [all[0], Outgoing { flags: flag::ACK | flag::PSH, ..all[1] }, all[2]];
        assert_eq!(sent(true, &pushed), [(0, 200, 100, flag::ACK | flag::PSH), (200, 30, 0, flag::ACK)]);
        assert_eq!(sent(false, &all).len(), 4);
    }

    #[test]
    fn what_differs_stays_apart() {
        let (a, b) = (octets(0, 100), octets(100, 100));
        let first = Outgoing { payload: &a, ..DATA };
        let second = Outgoing { seq: 100, payload: &b, ..DATA };
        let far = octets(101, 100);
        for other in [
            Outgoing { ack: 8, ..second },
            Outgoing { window: 98, ..second },
            Outgoing { flags: flag::ACK | flag::FIN, ..second },
            Outgoing { seq: 101, payload: &far, ..second },
            Outgoing { payload: &[], ..second },
        ] {
            assert_eq!(sent(true, &[first, other]).len(), 2, "{other:?}");
        }
        assert_eq!(sent(true, &[first, second]).len(), 1);
    }

    #[test]
    fn no_more_is_put_together_than_a_packet_holds() {
        let all = octets(0, 50 * 1448);
        let segments: Vec<_> = all
            .chunks(1448)
            .enumerate()
            .map(|(at, payload)| Outgoing { seq: at as u32 * 1448, payload, ..DATA })
            .collect();
        let sent = sent(true, &segments);
        assert_eq!(sent, [(0, 45 * 1448, 1448, flag::ACK), (45 * 1448, 5 * 1448, 1448, flag::ACK)]);
        assert!(sent[0].1 <= MOST);
    }
}
