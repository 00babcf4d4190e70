//! Small frames of no protocol (Ethertype 0x88b5, IEEE 802's for experiments),
//! with which forwarding is measured: one station sends, another counts.
//!
//! A frame says that it is one of ours, of which run, and its number. With
//! several flows its source MAC changes from frame to frame, so that a switch has
//! that many stations to learn.

use super::drive::Probe;
use super::tally::Tally;
use crate::frame::{Frame, HEAD_FRAME};
use crate::wire::{ETH, Mac, be32, ethertype_of, set_macs};

/// IEEE Std 802 local experimental Ethertype 1.
pub const ETHERTYPE: u16 = 0x88b5;
/// What our frames begin with behind the Ethertype.
const MAGIC: u32 = u32::from_be_bytes(*b"hwbn");
/// Octets of the FCS, which interfaces add.
pub const FCS: usize = 4;
/// The least that is sent, FCS included (IEEE Std 802.3 §4A.4.2).
pub const LEAST: usize = 64;
/// The most, FCS included.
pub const MOST: usize = HEAD_FRAME + FCS;

/// What a frame says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The run that it belongs to.
    pub run: u32,
    /// Its number; `None` for one that only shows where its sender is.
    pub number: Option<u64>,
}

/// Reads a frame of ours.
#[inline]
pub fn read(frame: &[u8]) -> Option<Mark> {
    if ethertype_of(frame) != ETHERTYPE || frame.len() < LEAST - FCS || be32(frame, ETH) != MAGIC {
        return None;
    }
    let number = u64::from(be32(frame, ETH + 8)) << 32 | u64::from(be32(frame, ETH + 12));
    Some(Mark { run: be32(frame, ETH + 4), number: number.checked_sub(1) })
}

/// Writes a frame of `len` octets without its FCS.
fn write(frame: &mut Frame, len: usize, to: Mac, from: Mac, mark: Mark) {
    let bytes = &mut frame.space()[..len];
    bytes.fill(0);
    set_macs(bytes, to, from);
    bytes[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    bytes[ETH..ETH + 4].copy_from_slice(&MAGIC.to_be_bytes());
    bytes[ETH + 4..ETH + 8].copy_from_slice(&mark.run.to_be_bytes());
    bytes[ETH + 8..ETH + 16].copy_from_slice(&mark.number.map_or(0, |n| n + 1).to_be_bytes());
    frame.set_len(len);
}

/// Writes a frame that shows switches where `from` is.
pub fn announce(frame: &mut Frame, from: Mac) {
    write(frame, LEAST - FCS, Mac::BROADCAST, from, Mark { run: 0, number: None });
}

/// Frames to one MAC.
pub struct Frames {
    to: Mac,
    from: Mac,
    flows: u64,
    len: usize,
    run: u32,
}

impl Frames {
    /// Frames of `size` octets on the wire, FCS included, from one MAC or several.
    pub fn new(to: Mac, from: Mac, flows: u64, size: usize, run: u32) -> Frames {
        Frames { to, from, flows, len: size - FCS, run }
    }

    /// The source MAC of frame `n`: the interface's own, or one that is locally administered.
    fn source(&self, n: u64) -> Mac {
        if self.flows <= 1 {
            return self.from;
        }
        let [_, _, _, a, b, c] = (n % self.flows).to_be_bytes()[2..].try_into().unwrap_or_default();
        Mac([0x02, 0x68, 0x77, a, b, c])
    }
}

impl Probe for Frames {
    #[inline]
    fn write(&mut self, n: u64, frame: &mut Frame) {
        write(frame, self.len, self.to, self.source(n), Mark { run: self.run, number: Some(n) });
    }

    #[inline]
    fn hear(&mut self, now: u64, frame: &mut Frame, tally: &mut Tally) -> bool {
        match read(frame.bytes()) {
            Some(Mark { run, number: Some(n) }) if run == self.run => {
                tally.answer(n, 0, now);
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Pool;
    use crate::wire::{dst_mac, src_mac};

    #[test]
    fn frames_are_numbered_and_of_the_size_that_was_asked_for() {
        let (to, from) = (Mac([2; 6]), Mac([4; 6]));
        let mut frame = Pool::new(1).head().unwrap();
        let mut one = Frames::new(to, from, 1, 64, 7);
        one.write(u64::from(u32::MAX) + 5, &mut frame);
        assert_eq!((frame.len(), dst_mac(frame.bytes()), src_mac(frame.bytes())), (60, to, from));
        assert_eq!(read(frame.bytes()), Some(Mark { run: 7, number: Some(u64::from(u32::MAX) + 5) }));
        let mut many = Frames::new(to, from, 300, 1518, 7);
        let mut sources = std::collections::HashSet::new();
        for n in 0..900 {
            many.write(n, &mut frame);
            assert_eq!(frame.len(), 1514);
            sources.insert(src_mac(frame.bytes()));
        }
        assert_eq!(sources.len(), 300);
        assert!(sources.iter().all(|mac| !mac.is_group()));
        announce(&mut frame, from);
        assert_eq!(read(frame.bytes()), Some(Mark { run: 0, number: None }));
        frame.bytes_mut()[12] = 8;
        assert_eq!(read(frame.bytes()), None);
    }
}
