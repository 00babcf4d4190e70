//! What is recorded of a device's frames: all of them, as a wire would carry them.
//!
//! Captures have a limit on the disk, past which the oldest go. So that nobody can
//! push out what was recorded before, or keep the recorder from its work, by moving
//! gigabytes or millions of small frames, each device has a budget of octets
//! that are recorded whole. Past it, frames are cut to their headers: they are all there, with their
//! lengths, but not what they carried. Past [`RECORDS`], too, they are counted as lost.

use crate::event::Capture;
use crate::frame::Frame;
use crate::wire::{Instant, gso};

/// Frames a second of each device that are recorded past that, and how many at once.
const RECORDS: (u64, u64) = (20_000, 200_000);
/// What the shortest frame counts for, in octets: a record costs more than its frame.
const LEAST: usize = 256;
/// Octets that are kept of a frame past the first budget.
const HEADERS: usize = 128;

/// What may be spent: so much a second, and so much after a pause.
struct Budget {
    left: u64,
    rate: u64,
    burst: u64,
    since: Instant,
}

impl Budget {
    fn new((rate, burst): (u64, u64)) -> Budget {
        Budget { left: burst, rate, burst, since: Instant::ZERO }
    }

    fn refill(&mut self, now: Instant) {
        let earned = (now - self.since).total_micros().saturating_mul(self.rate) / 1_000_000;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(self.burst);
            self.since = now;
        }
    }

    fn take(&mut self, n: u64) -> bool {
        let enough = n <= self.left;
        if enough {
            self.left -= n;
        }
        enough
    }
}

/// A device's records.
pub(super) struct Recorder {
    /// The number of the device's interface in captures.
    interface: u32,
    octets: Budget,
    records: Budget,
    /// Where a segment is put together.
    scratch: Vec<u8>,
}

impl Recorder {
    /// Records whole so many `octets` a second, and twice as many at once after a pause.
    pub(super) fn new(interface: u32, octets: u64) -> Recorder {
        let octets = Budget::new((octets, octets.saturating_mul(2)));
        Recorder { interface, octets, records: Budget::new(RECORDS), scratch: Vec::new() }
    }

    /// Records frames that entered (or, `outgoing`, left) at `now`.
    pub(super) fn record(&mut self, capture: &mut dyn Capture, frames: &[Frame], outgoing: bool, now: Instant) {
        self.octets.refill(now);
        self.records.refill(now);
        let mut lost = 0;
        for frame in frames {
            if self.octets.take(frame.wire_len().max(LEAST) as u64) {
                self.whole(capture, frame, outgoing, now);
            } else if self.records.take(1) {
                let bytes = &frame.bytes()[..frame.len().min(HEADERS)];
                capture.frame(self.interface, outgoing, now, frame.len(), bytes);
            } else {
                lost += frame.segments() as u64;
            }
        }
        if lost > 0 {
            capture.lost(lost);
        }
    }

    fn whole(&mut self, capture: &mut dyn Capture, frame: &Frame, outgoing: bool, now: Instant) {
        let (interface, offload) = (self.interface, frame.meta.offload);
        if let Some(mut segments) = frame.as_segments() {
            self.scratch.resize(segments.frame_len(), 0);
            while let Some(len) = segments.next_into(&mut self.scratch) {
                capture.frame(interface, outgoing, now, len, &self.scratch[..len]);
            }
        } else if offload.needs_csum() {
            self.scratch.clear();
            self.scratch.extend_from_slice(frame.bytes());
            gso::complete_checksum(&mut self.scratch, offload.csum_start.into(), offload.csum_offset.into());
            capture.frame(interface, outgoing, now, frame.len(), &self.scratch);
        } else {
            capture.frame(interface, outgoing, now, frame.len(), frame.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Pool;
    use crate::sys::vnet::{GSO_TCPV4, NEEDS_CSUM, VnetHeader};
    use crate::wire::{Duration, Packet};

    const OCTETS: u64 = 32 << 20;

    /// Original length and kept octets of each frame.
    #[derive(Default)]
    struct Kept(Vec<(usize, Vec<u8>)>, u64);

    impl Capture for Kept {
        fn frame(&mut self, _: u32, _: bool, _: Instant, original: usize, bytes: &[u8]) {
            self.0.push((original, bytes.to_vec()));
        }
        fn lost(&mut self, frames: u64) {
            self.1 += frames;
        }
    }

    fn tcp(pool: &mut Pool, payload: usize, gso_size: u16) -> Frame {
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1, 2, 1000, 512)
            .write(&mut bytes, &vec![7; payload])
            .unwrap();
        // The pseudo header's sum, as a sender leaves it.
        let sum = [10u64 << 8, 1, 10 << 8, 2, 6, 20 + payload as u64].iter().sum::<u64>() as u16;
        bytes[50..52].copy_from_slice(&sum.to_be_bytes());
        let mut frame = pool.copy_of(&bytes).unwrap();
        let gso_type = if gso_size > 0 { GSO_TCPV4 } else { 0 };
        frame.meta.offload =
            VnetHeader { flags: NEEDS_CSUM, gso_type, hdr_len: 54, gso_size, csum_start: 34, csum_offset: 16 };
        frame
    }

    #[test]
    fn a_capture_sees_what_a_wire_would() {
        let (mut pool, mut kept) = (Pool::new(8), Kept::default());
        let frames = [tcp(&mut pool, 3500, 1460), tcp(&mut pool, 9, 0)];
        Recorder::new(1, OCTETS).record(&mut kept, &frames, false, Instant::from_secs(1));
        assert_eq!(kept.0.iter().map(|(len, _)| *len).collect::<Vec<_>>(), [1514, 1514, 634, 63]);
        for (len, bytes) in &kept.0 {
            assert_eq!(*len, bytes.len());
            assert!(Packet::parse(bytes).unwrap().checksum_ok(bytes));
        }
        assert!(frames[1].meta.offload.needs_csum(), "what passes on stays as it is");
    }

    #[test]
    fn bulk_is_cut_to_its_headers_until_it_slows_down() {
        let (mut pool, mut kept) = (Pool::new(8), Kept::default());
        let frames = [tcp(&mut pool, 60_000, 1460)];
        let (mut recorder, mut now) = (Recorder::new(1, OCTETS), Instant::from_secs(1));
        for _ in 0..2000 {
            recorder.record(&mut kept, &frames, false, now);
        }
        let whole: usize = kept.0.iter().filter(|(len, bytes)| *len == bytes.len()).map(|(len, _)| len).sum();
        let most = 2 * OCTETS as usize;
        assert!((most - 70_000..=most).contains(&whole), "{whole}");
        assert_eq!(kept.0.last().map(|(len, bytes)| (*len, bytes.len())), Some((60_054, HEADERS)));
        now += Duration::from_millis(10);
        kept.0.clear();
        recorder.record(&mut kept, &frames, false, now);
        assert_eq!(kept.0.len(), 42, "segments again");
    }

    #[test]
    fn without_a_limit_all_of_it_is_recorded() {
        let (mut pool, mut kept) = (Pool::new(8), Kept::default());
        let frames = [tcp(&mut pool, 60_000, 1460)];
        let mut recorder = Recorder::new(1, u64::MAX);
        for second in [1, 1, 1, 2, 1_000_000_000] {
            (0..600).for_each(|_| recorder.record(&mut kept, &frames, false, Instant::from_secs(second)));
        }
        assert_eq!((kept.0.len(), kept.1), (5 * 600 * 42, 0));
        assert!(kept.0.iter().all(|(len, bytes)| *len == bytes.len()));
    }

    #[test]
    fn a_flood_of_small_frames_ends_in_a_count() {
        let (mut pool, mut kept) = (Pool::new(8), Kept::default());
        let frames = [pool.copy_of(&[1; 60]).unwrap()];
        let mut recorder = Recorder::new(1, OCTETS);
        let total = 1_000_000;
        (0..total).for_each(|_| recorder.record(&mut kept, &frames, false, Instant::from_secs(1)));
        assert_eq!(kept.0.len() as u64, 2 * OCTETS / LEAST as u64 + RECORDS.1);
        assert_eq!(kept.0.len() as u64 + kept.1, total);
        kept.0.clear();
        (0..30_000).for_each(|_| recorder.record(&mut kept, &frames, false, Instant::from_millis(1010)));
        assert_eq!(kept.0.len(), (32 << 20) / 256 / 100 + 200);
    }
}
