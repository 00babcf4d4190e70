//! Who owns a buffer: `Frame`, its `Meta`, the `Pool` it comes from and the
//! `Batch` it travels in.
//!
//! A frame owns its bytes; sending it moves a pointer, never the payload: what is
//! known of a frame lies in front of its bytes, as in a kernel's packet buffers. Buffers
//! come in two sizes: a 2 KiB *head* that holds any frame of a normal MTU, and a
//! 64 KiB *tail* for GSO super-frames. Both keep [`HEADROOM`] free in front, so
//! that an 802.1Q tag or a virtio header is put there without moving anything.
//! A frame that is done goes back with [`Pool::put`]; a frame that is merely
//! dropped frees its memory, which is correct but slower.

mod pool;
mod segment;

use crate::sys::vnet::{VNET_HEADER, VnetHeader};
use crate::wire::Mac;

pub use pool::Pool;

/// Octets kept free before a received frame. With what is known of it they fill a
/// cache line, and the frame's first 64 octets the next one.
pub const HEADROOM: usize = 64 - size_of::<Meta>().next_multiple_of(align_of::<u32>()) - 2 * size_of::<u32>();
/// Size of a head buffer, headroom included.
pub const HEAD: usize = 2048;
/// Size of a tail buffer, headroom included.
pub const TAIL: usize = 65536 + 256;
/// The longest frame that fits into a head buffer.
pub const HEAD_FRAME: usize = HEAD - HEADROOM;

/// A node's attachment, counted from 0 within its node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct PortNo(pub u16);

/// What is known of a frame besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The port of the present node by which it came in.
    pub port: PortNo,
    /// The L4 checksum is known to be right, or is left unfilled by a sender on
    /// this machine (see `offload`).
    pub csum_ok: bool,
    /// A replica of the present node in another shard has handed it over ([`crate::node::Shard`]).
    pub handed: bool,
    /// The mirrors that have a copy of it, one a bit.
    pub mirrored: u8,
    /// What its sender has left to the device: a TCP or UDP checksum that is only
    /// begun, the cutting of a TCP super-frame into segments. The receiving edge has
    /// verified that it fits the frame, and that `hdr_len` of a super-frame is the
    /// length of its headers. `flags` is 0 or `NEEDS_CSUM`.
    pub offload: VnetHeader,
    /// Who sent it onto the device by which it entered: routers on its way replace
    /// its source MAC, but not this. Zero if it entered by no device.
    pub origin: Mac,
}

impl Default for Meta {
    fn default() -> Meta {
        let (port, offload, origin) = (PortNo(0), VnetHeader::PLAIN, Mac::ZERO);
        Meta { port, csum_ok: false, handed: false, mirrored: 0, offload, origin }
    }
}

/// What lies behind a frame's pointer.
#[repr(C, align(64))]
pub struct Buffer<B: ?Sized = [u8]> {
    /// What is known of the frame besides its bytes.
    pub meta: Meta,
    off: u32,
    len: u32,
    space: B,
}

/// An Ethernet frame without its FCS, and the buffer that it lies in.
pub struct Frame(Box<Buffer>);

impl std::ops::Deref for Frame {
    type Target = Buffer;
    #[inline]
    fn deref(&self) -> &Buffer {
        &self.0
    }
}

impl std::ops::DerefMut for Frame {
    #[inline]
    fn deref_mut(&mut self) -> &mut Buffer {
        &mut self.0
    }
}

impl Frame {
    /// A new buffer of `SIZE` octets.
    fn allocate<const SIZE: usize>() -> Frame {
        Frame(Box::new(Buffer { meta: Meta::default(), off: HEADROOM as u32, len: 0, space: [0; SIZE] }))
    }
}

impl Buffer {
    /// Makes an old buffer as good as a new one, but for its bytes.
    #[inline]
    fn reset(&mut self) {
        self.meta = Meta::default();
        self.off = HEADROOM as u32;
        self.len = 0;
    }

    /// The bytes, from the destination MAC on.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.space[self.off as usize..][..self.len as usize]
    }

    /// The bytes, to be changed in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.space[self.off as usize..][..self.len as usize]
    }

    /// Length in octets.
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Everything behind the headroom, as space to receive into; follow with
    /// [`Buffer::set_len`].
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        // What is written now is another's.
        self.meta.origin = Mac::ZERO;
        self.off = HEADROOM as u32;
        &mut self.space[HEADROOM..]
    }

    /// The same, with room for a virtio header before it.
    #[inline]
    pub fn space_and_header(&mut self) -> &mut [u8] {
        self.space();
        &mut self.space[HEADROOM - VNET_HEADER..]
    }

    /// The virtio header that [`Buffer::space_and_header`] was filled in with.
    #[inline]
    pub fn received_header(&self) -> VnetHeader {
        let bytes = self.space[HEADROOM - VNET_HEADER..].first_chunk();
        bytes.map_or(VnetHeader::PLAIN, VnetHeader::from_bytes)
    }

    /// The frame with its virtio header before it, for the kernel; `None` if the headroom is used up.
    #[inline]
    pub fn with_header(&mut self) -> Option<&[u8]> {
        let (start, end) = ((self.off as usize).checked_sub(VNET_HEADER)?, (self.off + self.len) as usize);
        self.space[start..start + VNET_HEADER].copy_from_slice(&self.meta.offload.to_bytes());
        Some(&self.space[start..end])
    }

    /// Sets the length, keeping the start. Who does so has written a complete frame.
    ///
    /// # Panics
    /// If the buffer does not hold `len` octets behind the start.
    #[inline]
    pub fn set_len(&mut self, len: usize) {
        assert!(self.off as usize + len <= self.space.len());
        self.len = len as u32;
        self.meta.offload = VnetHeader::PLAIN;
    }

    /// The longest frame that this buffer can hold from its present start.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.space.len() - self.off as usize
    }

    /// Moves the start forward by `n` octets, dropping them from the frame.
    #[inline]
    pub fn strip_front(&mut self, n: usize) {
        assert!(n <= self.len as usize);
        self.off += n as u32;
        self.len -= n as u32;
        if self.meta.offload.needs_csum() {
            let offload = &mut self.meta.offload;
            offload.csum_start = offload.csum_start.saturating_sub(n as u16);
            offload.hdr_len = offload.hdr_len.saturating_sub(n as u16);
        }
    }

    /// Moves the start back by `n` octets, whose content is whatever was there.
    ///
    /// Returns `false`, changing nothing, if the headroom is used up.
    #[inline]
    pub fn grow_front(&mut self, n: usize) -> bool {
        if n > self.off as usize {
            return false;
        }
        self.off -= n as u32;
        self.len += n as u32;
        if self.meta.offload.needs_csum() {
            self.meta.offload.csum_start += n as u16;
            self.meta.offload.hdr_len += n as u16;
        }
        true
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame").field("len", &self.len).field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// Frames that travel together.
#[derive(Default, Debug)]
pub struct Batch {
    frames: Vec<Frame>,
}

impl Batch {
    /// An empty batch with room for `n` frames.
    pub fn with_capacity(n: usize) -> Batch {
        Batch { frames: Vec::with_capacity(n) }
    }
}

impl std::ops::Deref for Batch {
    type Target = Vec<Frame>;
    #[inline]
    fn deref(&self) -> &Vec<Frame> {
        &self.frames
    }
}

impl std::ops::DerefMut for Batch {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<Frame> {
        &mut self.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_moves_in_few_octets() {
        assert!(std::mem::size_of::<Frame>() <= 16, "{}", std::mem::size_of::<Frame>());
    }

    #[test]
    fn a_small_frame_takes_two_cache_lines() {
        let frame = Pool::new(1).head().unwrap();
        let (start, bytes) = (std::ptr::from_ref(&frame.meta).addr(), frame.bytes().as_ptr().addr());
        assert_eq!((start % 64, bytes - start), (0, 64));
    }

    #[test]
    fn headroom_takes_a_tag() {
        let mut pool = Pool::new(4);
        let mut frame = pool.copy_of(&[1, 2, 3, 4]).unwrap();
        assert!(frame.grow_front(4));
        assert_eq!(frame.len(), 8);
        frame.strip_front(4);
        assert_eq!(frame.bytes(), [1, 2, 3, 4]);
        assert!(!frame.grow_front(HEADROOM + 1));
    }
}
