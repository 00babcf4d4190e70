//! What a sender has left to the device, done in software where somebody needs
//! it done: an impaired link, a capture, a device in memory, an ICMP error.

use super::{Batch, Buffer, Frame, HEAD_FRAME, Pool};
use crate::sys::vnet::{GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, VnetHeader};
use crate::wire::gso::{self, Segments};
use crate::wire::{Headers, Segment};

impl Buffer {
    /// Fills in the checksum if that was left to the device. A super-frame stays
    /// one: its checksums are those of its segments ([`Pool::segment`]).
    pub fn complete(&mut self) {
        let offload = self.meta.offload;
        if offload.needs_csum() && !offload.is_gso() {
            gso::complete_checksum(self.bytes_mut(), offload.csum_start.into(), offload.csum_offset.into());
            self.meta.offload = VnetHeader::PLAIN;
        }
    }

    /// How many frames it is on a wire.
    #[inline]
    pub fn segments(&self) -> usize {
        if self.meta.offload.is_gso() { self.segments_of_super_frame() } else { 1 }
    }

    fn segments_of_super_frame(&self) -> usize {
        let payload = self.len().saturating_sub(self.meta.offload.hdr_len.into());
        payload.div_ceil(usize::from(self.meta.offload.gso_size).max(1)).max(1)
    }

    /// Octets of its longest segment: what an MTU is compared with.
    #[inline]
    pub fn segment_len(&self) -> usize {
        let offload = &self.meta.offload;
        if offload.is_gso() {
            self.len().min(usize::from(offload.hdr_len) + usize::from(offload.gso_size))
        } else {
            self.len()
        }
    }

    /// Octets of all its segments together: what a rate is compared with.
    #[inline]
    pub fn wire_len(&self) -> usize {
        self.len() + (self.segments() - 1) * usize::from(self.meta.offload.hdr_len)
    }

    /// Its segments, to be written one by one; `None` if it is no super-frame.
    pub fn as_segments(&self) -> Option<Segments<'_>> {
        let offload = &self.meta.offload;
        if offload.is_gso() { Segments::new(self.bytes(), offload.gso_size.into()) } else { None }
    }
}

impl Pool {
    /// A frame of a TCP segment: a super-frame, whose segments have `mss` octets of data each, unless that is 0. `None` if there
    /// is no buffer for it.
    #[inline]
    pub fn frame_of(&mut self, segment: &Segment<'_>, headers: &Headers, mss: u16) -> Option<Frame> {
        let len = headers.len() + segment.len();
        let mut frame = if len > HEAD_FRAME { self.tail() } else { self.head() }?;
        if mss == 0 {
            let len = segment.write(headers, frame.space());
            frame.set_len(len);
        } else {
            let len = segment.write_unsummed(headers, frame.space());
            frame.set_len(len);
            frame.meta.csum_ok = true;
            frame.meta.offload = VnetHeader {
                flags: NEEDS_CSUM,
                gso_type: if headers.src.is_ipv4() { GSO_TCPV4 } else { GSO_TCPV6 },
                hdr_len: (len - segment.payload.len()) as u16,
                gso_size: mss,
                csum_start: headers.len() as u16,
                csum_offset: 16,
            };
        }
        Some(frame)
    }

    /// The first segment of a super-frame in its place; `None` if there is no buffer for it.
    pub fn first_segment(&mut self, frame: Frame) -> Option<Frame> {
        let Some(mut segments) = frame.as_segments() else { return Some(frame) };
        let part = if segments.frame_len() > HEAD_FRAME { self.tail() } else { self.head() };
        let part = part.and_then(|mut part| {
            let len = segments.next_into(part.space())?;
            part.meta = frame.meta;
            part.set_len(len);
            Some(part)
        });
        self.put(frame);
        part
    }

    /// Appends to `into` what a wire would carry in the place of `frame`: the frame
    /// itself with its checksum complete, or its segments. Returns how many
    /// segments found no buffer.
    pub fn segment(&mut self, mut frame: Frame, into: &mut Batch) -> usize {
        let Some(mut segments) = frame.as_segments() else {
            frame.complete();
            into.push(frame);
            return 0;
        };
        let long = segments.frame_len() > HEAD_FRAME;
        let (all, before) = (frame.segments(), into.len());
        while let Some(mut part) = if long { self.tail() } else { self.head() } {
            let Some(len) = segments.next_into(part.space()) else {
                self.put(part);
                break;
            };
            part.meta = frame.meta;
            part.set_len(len);
            into.push(part);
        }
        let lost = all.saturating_sub(into.len() - before);
        self.put(frame);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::vnet::{GSO_TCPV4, NEEDS_CSUM};

    fn super_frame(pool: &mut Pool, payload: usize) -> Frame {
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1, 2, 1000, 512)
            .write(&mut bytes, &vec![7; payload])
            .unwrap();
        let mut frame = pool.copy_of(&bytes).unwrap();
        frame.meta.csum_ok = true;
        frame.meta.offload = VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            hdr_len: 54,
            gso_size: 1000,
            csum_start: 34,
            csum_offset: 16,
        };
        frame
    }

    #[test]
    fn lengths_are_those_on_the_wire() {
        let mut pool = Pool::new(64);
        let frame = super_frame(&mut pool, 10_001);
        assert_eq!((frame.segments(), frame.segment_len(), frame.wire_len()), (11, 1054, 10_001 + 11 * 54));
        let plain = pool.copy_of(&[0; 60]).unwrap();
        assert_eq!((plain.segments(), plain.segment_len(), plain.wire_len()), (1, 60, 60));
    }

    #[test]
    fn segments_take_small_buffers_and_are_plain() {
        let (mut pool, mut batch) = (Pool::new(64), Batch::default());
        let frame = super_frame(&mut pool, 10_001);
        assert_eq!(pool.segment(frame, &mut batch), 0);
        assert_eq!((batch.len(), pool.in_use()), (11, 11));
        let good = |frame: &Frame| {
            let packet = crate::wire::Packet::parse(frame.bytes()).unwrap();
            packet.checksum_ok(frame.bytes()) && frame.meta.offload == VnetHeader::PLAIN && frame.capacity() < 2048
        };
        assert!(batch.iter().all(good));
        batch.drain(..).for_each(|frame| pool.put(frame));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn what_finds_no_buffer_is_counted() {
        let (mut pool, mut batch) = (Pool::new(4), Batch::default());
        let frame = super_frame(&mut pool, 10_001);
        assert_eq!((pool.segment(frame, &mut batch), batch.len()), (7, 4));
    }

    #[test]
    fn a_tag_moves_the_checksum() {
        let mut pool = Pool::new(4);
        let mut frame = super_frame(&mut pool, 100);
        frame.meta.offload.gso_type = 0;
        assert!(frame.grow_front(4));
        let bytes = frame.bytes_mut();
        bytes.copy_within(4..16, 0);
        bytes[12..16].copy_from_slice(&[0x81, 0, 0, 7]);
        assert_eq!(frame.meta.offload.csum_start, 38);
        frame.bytes_mut().copy_within(0..12, 4);
        frame.strip_front(4);
        assert_eq!(frame.meta.offload.csum_start, 34);
        // The pseudo header's sum, as a sender leaves it.
        let sum = [10u64 << 8, 1, 10 << 8, 2, 6, 120].iter().sum::<u64>() as u16;
        frame.bytes_mut()[50..52].copy_from_slice(&sum.to_be_bytes());
        frame.complete();
        let packet = crate::wire::Packet::parse(frame.bytes()).unwrap();
        assert!(packet.checksum_ok(frame.bytes()));
        assert_eq!(frame.meta.offload, VnetHeader::PLAIN);
    }
}
