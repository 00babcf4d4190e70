//! From what the kernel hands over to frames as they would have been on a wire:
//! checksums complete, super-frames cut, tags in place.

use crate::event::{Counters, DropReason};
use crate::frame::{Batch, Frame, HEAD_FRAME, Pool};
use crate::sys::vnet::{DATA_VALID, VnetHeader};
use crate::wire::Instant;
use crate::wire::gso::{Segments, complete_checksum};

/// Octets of an Ethernet header.
const ETHERNET: usize = 14;
/// Octets of an 802.1Q tag.
const TAG: usize = 4;
/// The marker of congestion notification in the type of a super-frame.
const GSO_ECN: u8 = 0x80;
/// Super-frames that become segments: TCP over IPv4, TCP over IPv6, UDP.
const SEGMENTED: [u8; 3] = [1, 4, 5];

/// Octets of payload below which no system cuts segments (Linux's `tcp_min_snd_mss`): smaller ones are
/// asked for only to turn one frame into tens of thousands.
const LEAST_SEGMENT: u16 = 48;

/// What is known of a frame that the kernel handed over.
#[derive(Clone, Copy, Default)]
pub(super) struct Handed {
    pub header: VnetHeader,
    pub vlan: Option<(u16, u16)>,
    pub csum_valid: bool,
}

/// Where received frames go, and what is counted on the way.
pub(super) struct Intake<'a> {
    pub now: Instant,
    pub pool: &'a mut Pool,
    pub batch: &'a mut Batch,
    pub discards: &'a mut Counters,
}

impl Intake<'_> {
    /// Takes a frame that lies whole in its buffer.
    pub fn take(&mut self, mut frame: Frame, handed: Handed) {
        if frame.len() < ETHERNET {
            return self.discard(frame, DropReason::Malformed);
        }
        if handed.header.gso_type & !GSO_ECN != 0 {
            self.segment(frame.bytes(), handed);
            self.pool.put(frame);
            return;
        }
        let csum_ok = match finish(frame.bytes_mut(), handed) {
            Some(csum_ok) => csum_ok,
            None => return self.discard(frame, DropReason::Malformed),
        };
        self.deliver(frame, handed, csum_ok);
    }

    /// Takes a frame that lies outside of the pool's buffers, because it is longer than a head.
    pub fn take_long(&mut self, bytes: &mut [u8], handed: Handed) {
        if handed.header.gso_type & !GSO_ECN != 0 {
            return self.segment(bytes, handed);
        }
        let Some(csum_ok) = finish(bytes, handed) else { return self.discards.discard(DropReason::Malformed) };
        match self.pool.copy_of(bytes) {
            Some(frame) => self.deliver(frame, handed, csum_ok),
            None => self.discards.discard(DropReason::NoBuffer),
        }
    }

    fn segment(&mut self, bytes: &[u8], handed: Handed) {
        let kind = handed.header.gso_type & !GSO_ECN;
        let cut = SEGMENTED.contains(&kind) && handed.header.gso_size >= LEAST_SEGMENT;
        let segments = cut.then(|| Segments::new(bytes, usize::from(handed.header.gso_size)));
        let Some(mut segments) = segments.flatten() else { return self.discards.discard(DropReason::Unsupported) };
        let long = segments.frame_len() > HEAD_FRAME;
        loop {
            let frame = if long { self.pool.tail() } else { self.pool.head() };
            let Some(mut frame) = frame else { return self.discards.discard(DropReason::NoBuffer) };
            let Some(len) = segments.next_into(frame.space()) else { return self.pool.put(frame) };
            frame.set_len(len);
            self.deliver(frame, handed, true);
        }
    }

    fn deliver(&mut self, mut frame: Frame, handed: Handed, csum_ok: bool) {
        if let Some((tpid, tci)) = handed.vlan {
            // The headroom is there: the frame has just been received behind it.
            if !frame.grow_front(TAG) {
                return self.discard(frame, DropReason::TooBig);
            }
            let bytes = frame.bytes_mut();
            bytes.copy_within(TAG..TAG + 12, 0);
            bytes[12..14].copy_from_slice(&tpid.to_be_bytes());
            bytes[14..16].copy_from_slice(&tci.to_be_bytes());
        }
        frame.meta.at = self.now;
        frame.meta.csum_ok = csum_ok;
        self.discards.rx += 1;
        self.batch.push(frame);
    }

    pub fn discard(&mut self, frame: Frame, reason: DropReason) {
        self.discards.discard(reason);
        self.pool.put(frame);
    }
}

/// Completes the checksum if it is partial; returns whether it is known to be
/// right, and `None` if the header points outside of the frame.
fn finish(bytes: &mut [u8], handed: Handed) -> Option<bool> {
    let header = handed.header;
    if header.needs_csum() {
        return complete_checksum(bytes, usize::from(header.csum_start), usize::from(header.csum_offset))
            .then_some(true);
    }
    Some(header.flags & DATA_VALID != 0 || handed.csum_valid)
}

/// Whether a frame may leave by a device of that MTU.
pub(super) fn fits(bytes: &[u8], mtu: u32) -> bool {
    let tagged = matches!(bytes.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
    bytes.len() >= ETHERNET && bytes.len() <= mtu as usize + ETHERNET + if tagged { TAG } else { 0 }
}
