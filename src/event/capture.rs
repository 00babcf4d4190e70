//! Frames as they cross a device, for whoever records them.

use crate::sys::ring::RingWriter;
use crate::wire::Instant;

/// Takes copies of frames. Never waits.
pub trait Capture: Send {
    /// One frame of `original` octets that crossed `interface`; `bytes` is its
    /// beginning, or all of it.
    fn frame(&mut self, interface: u32, outgoing: bool, at: Instant, original: usize, bytes: &[u8]);
    /// So many frames are not recorded.
    fn lost(&mut self, frames: u64);
    /// For now that was all: whoever waits for frames may look.
    fn flush(&mut self) {}
}

/// One recorded frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Captured<'a> {
    /// The number that its interface was attached with.
    pub interface: u32,
    /// It left by that interface; otherwise it entered.
    pub outgoing: bool,
    /// When, on the machine's monotonic clock.
    pub at: Instant,
    /// Its length on the wire, in octets.
    pub original: u32,
    /// Its octets, as far as they were kept.
    pub bytes: &'a [u8],
}

/// Octets before the frame's own: interface, direction and original length, time.
const HEADER: usize = 16;

impl<'a> Captured<'a> {
    fn header(&self) -> [u64; HEADER / 8] {
        let length = u64::from(self.original) << 1 | u64::from(self.outgoing);
        [u64::from(self.interface) | length << 32, self.at.total_micros() as u64]
    }

    /// Reads a record of the capture ring; `None` for what is none.
    pub fn decode(record: &'a [u8]) -> Option<Captured<'a>> {
        let (first, rest) = record.split_first_chunk::<8>()?;
        let (at, bytes) = rest.split_first_chunk::<8>()?;
        let first = u64::from_le_bytes(*first);
        let captured = Captured {
            interface: first as u32,
            outgoing: first >> 32 & 1 != 0,
            at: Instant::from_micros(i64::from_le_bytes(*at)),
            original: (first >> 33) as u32,
            bytes,
        };
        (captured.original as usize >= bytes.len()).then_some(captured)
    }
}

/// Writes frames into a ring, cut to a length. What finds no room is counted there as lost.
pub struct RingCapture {
    ring: RingWriter,
    snap: usize,
}

impl RingCapture {
    /// Keeps the first `snap` octets of each frame.
    pub fn new(ring: RingWriter, snap: usize) -> RingCapture {
        RingCapture { ring, snap }
    }
}

impl Capture for RingCapture {
    fn frame(&mut self, interface: u32, outgoing: bool, at: Instant, original: usize, bytes: &[u8]) {
        let captured = Captured {
            interface,
            outgoing,
            at,
            original: original as u32,
            bytes: &bytes[..bytes.len().min(self.snap)],
        };
        self.ring.push(&captured.header(), captured.bytes);
    }

    fn lost(&mut self, frames: u64) {
        self.ring.count_lost(frames);
    }

    fn flush(&mut self) {
        self.ring.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ring::{self, RingReader};

    #[test]
    fn frames_pass_cut_to_length() {
        let fds = ring::create(c"honeyweave-test", 4096).unwrap();
        let mut reader = RingReader::open(fds.try_clone().unwrap()).unwrap();
        let mut capture = RingCapture::new(RingWriter::open(fds).unwrap(), 64);
        capture.frame(7, true, Instant::from_micros(-5), 100, &[9; 100]);
        capture.frame(u32::MAX, false, Instant::from_micros(i64::MAX), 1, b"x");
        let mut record = Vec::new();
        assert!(reader.pop(&mut record));
        let at = Instant::from_micros(-5);
        let cut = Captured { interface: 7, outgoing: true, at, original: 100, bytes: &[9; 64] };
        assert_eq!(Captured::decode(&record), Some(cut));
        assert!(reader.pop(&mut record));
        let whole = Captured::decode(&record).unwrap();
        assert_eq!((whole.interface, whole.outgoing, whole.original, whole.bytes), (u32::MAX, false, 1, &b"x"[..]));
        assert!(!reader.pop(&mut record));
        assert_eq!(Captured::decode(&record[..15]), None);
        record.push(0);
        assert_eq!(Captured::decode(&record), None, "longer than it was on the wire");
    }
}
