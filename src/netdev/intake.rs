//! From what the kernel hands over to frames of the fabric: tags in place, and what
//! its sender left to the device either kept, and then known to fit, or done.
//!
//! A TCP super-frame stays whole and a partial checksum of TCP or UDP stays partial,
//! because whoever receives it next is likely to be a kernel, too. An intruder with
//! a packet socket of his own can ask for absurd things here; what is not exactly
//! what a network stack would ask for is done in software, or refused.

use crate::event::{Counters, DropReason};
use crate::frame::{Batch, Frame, HEAD_FRAME, Pool};
use crate::sys::packet::Received;
use crate::sys::vnet::{DATA_VALID, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHeader};
use crate::wire::gso::{Segments, complete_checksum};
use crate::wire::{be16, ethertype, ethertype_of, proto};

/// Octets after which a burst ends: what is read is sent on while it is still in the processor's cache.
pub(super) const BURST_OCTETS: usize = 128 * 1024;

/// Octets of an Ethernet header.
const ETHERNET: usize = 14;
/// Octets of an 802.1Q tag.
const TAG: usize = 4;
/// Octets of payload below which no system cuts segments (Linux's `tcp_min_snd_mss`): smaller ones are
/// asked for only to turn one frame into tens of thousands.
const LEAST_SEGMENT: u16 = 48;

/// Where received frames go, and what is counted on the way.
pub(super) struct Intake<'a> {
    pub pool: &'a mut Pool,
    pub batch: &'a mut Batch,
    pub discards: &'a mut Counters,
}

impl Intake<'_> {
    /// Takes a frame that lies whole in its buffer.
    pub fn take(&mut self, mut frame: Frame, handed: Received) {
        if frame.len() < ETHERNET {
            return self.discard(frame, DropReason::Malformed);
        }
        let header = handed.header;
        if header.is_gso() {
            match keep_whole(frame.bytes(), header) {
                Some(offload) => frame.meta.offload = offload,
                None => return self.segment(frame, handed),
            }
        } else if header.needs_csum() {
            if is_transport_checksum(frame.bytes(), header) {
                frame.meta.offload = VnetHeader { flags: NEEDS_CSUM, gso_size: 0, ..header };
            } else if !complete_checksum(frame.bytes_mut(), header.csum_start.into(), header.csum_offset.into()) {
                return self.discard(frame, DropReason::Malformed);
            }
        }
        let csum_ok = header.needs_csum() || header.flags & DATA_VALID != 0 || handed.csum_valid;
        self.deliver(frame, handed.vlan, csum_ok);
    }

    /// Cuts what does not stay whole.
    fn segment(&mut self, frame: Frame, handed: Received) {
        let kind = handed.header.gso_type & !GSO_ECN;
        let cut = [GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4].contains(&kind) && handed.header.gso_size >= LEAST_SEGMENT;
        let segments = cut.then(|| Segments::new(frame.bytes(), usize::from(handed.header.gso_size)));
        let Some(mut segments) = segments.flatten() else { return self.discard(frame, DropReason::Unsupported) };
        let long = segments.frame_len() > HEAD_FRAME;
        loop {
            let part = if long { self.pool.tail() } else { self.pool.head() };
            let Some(mut part) = part else {
                self.discards.discard(DropReason::NoBuffer);
                break;
            };
            let Some(len) = segments.next_into(part.space()) else {
                self.pool.put(part);
                break;
            };
            part.set_len(len);
            self.deliver(part, handed.vlan, true);
        }
        self.pool.put(frame);
    }

    fn deliver(&mut self, mut frame: Frame, vlan: Option<(u16, u16)>, csum_ok: bool) {
        if let Some((tpid, tci)) = vlan {
            // The headroom is there: the frame has just been received behind it.
            if !frame.grow_front(TAG) {
                return self.discard(frame, DropReason::TooBig);
            }
            let bytes = frame.bytes_mut();
            bytes.copy_within(TAG..TAG + 12, 0);
            bytes[12..14].copy_from_slice(&tpid.to_be_bytes());
            bytes[14..16].copy_from_slice(&tci.to_be_bytes());
        }
        frame.meta.csum_ok = csum_ok;
        self.discards.rx += frame.segments() as u64;
        self.batch.push(frame);
    }

    pub fn discard(&mut self, frame: Frame, reason: DropReason) {
        self.discards.discard(reason);
        self.pool.put(frame);
    }
}

/// What is known of a TCP super-frame that stays whole; `None` if it is another
/// one, or its header does not say what a network stack would.
fn keep_whole(bytes: &[u8], header: VnetHeader) -> Option<VnetHeader> {
    let kind = header.gso_type & !GSO_ECN;
    if !matches!(kind, GSO_TCPV4 | GSO_TCPV6) || header.gso_size < LEAST_SEGMENT || !header.needs_csum() {
        return None;
    }
    let segments = Segments::new(bytes, header.gso_size.into())?;
    let (l4, headers) = segments.tcp_at()?;
    let fits = segments.is_v4() == (kind == GSO_TCPV4)
        && (usize::from(header.csum_start), header.csum_offset) == (l4, 16)
        && segments.end() == bytes.len();
    fits.then_some(VnetHeader { flags: NEEDS_CSUM, hdr_len: headers as u16, ..header })
}

/// Whether the checksum that is left to the device is that of the TCP or UDP
/// packet in an untagged frame.
fn is_transport_checksum(bytes: &[u8], header: VnetHeader) -> bool {
    let (start, offset) = (usize::from(header.csum_start), usize::from(header.csum_offset));
    let (l4, protocol, fragment) = match ethertype_of(bytes) {
        ethertype::IPV4 if bytes.len() >= 34 => {
            (ETHERNET + usize::from(bytes[14] & 15) * 4, bytes[23], be16(bytes, 20) & 0x3fff != 0)
        }
        ethertype::IPV6 if bytes.len() >= 54 => (ETHERNET + 40, bytes[20], false),
        _ => return false,
    };
    let transport = matches!((protocol, offset), (proto::TCP, 16) | (proto::UDP, 6));
    transport && !fragment && start == l4 && start >= 34 && start + offset + 2 <= bytes.len()
}

/// Whether a frame, or each segment of a super-frame, may leave by a device of that MTU.
#[inline]
pub(super) fn fits(frame: &Frame, mtu: u32) -> bool {
    let tagged = matches!(frame.bytes().get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
    frame.len() >= ETHERNET && frame.segment_len() <= mtu as usize + ETHERNET + if tagged { TAG } else { 0 }
}

/// Counts frames that a device's queue has no room for.
pub(super) fn overflowed(discards: &mut Counters, frames: &[Frame]) {
    discards.drops[DropReason::TailDrop as usize] += frames.iter().map(|frame| frame.segments() as u64).sum::<u64>();
}
