//! The mapped receive ring of a packet socket (`TPACKET_V2`, Linux's
//! `Documentation/networking/packet_mmap.rst`): frames are found in memory
//! without a system call. Version 3 hands over whole blocks and lets a lone frame
//! wait for half a millisecond, so version 2 it is.
//!
//! A slot holds any frame of a normal MTU. What is longer (a super-frame) is left
//! in the socket's queue, and its slot says so.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::packet::{Received, set_option};
use super::vnet::{VNET_HEADER, VnetHeader};

/// Octets of a slot.
const SLOT: usize = 2048;
/// Slots of a ring: what comes in 40 ms, at 200,000 frames a second.
const SLOTS: usize = 8192;
/// Octets that the kernel allocates in one piece.
const BLOCK: usize = 64 * 1024;
/// Octets of the whole ring.
const RING: usize = SLOT * SLOTS;

/// Has the kernel put what a socket receives into a ring. To be done before the
/// socket is bound and after `PACKET_VNET_HDR`.
///
/// # Errors
/// `ENOMEM` without 16 MiB of memory for it.
pub fn install(fd: &OwnedFd) -> io::Result<()> {
    const TPACKET_V2: libc::c_int = 1;
    set_option(fd, libc::SOL_PACKET, libc::PACKET_VERSION, &TPACKET_V2)?;
    // Frames that are longer than a slot are put into the socket's queue, too.
    let one: libc::c_int = 1;
    set_option(fd, libc::SOL_PACKET, libc::PACKET_COPY_THRESH, &one)?;
    let request = libc::tpacket_req {
        tp_block_size: BLOCK as u32,
        tp_block_nr: (RING / BLOCK) as u32,
        tp_frame_size: SLOT as u32,
        tp_frame_nr: SLOTS as u32,
    };
    set_option(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
}

/// What the next slot of a ring holds.
pub enum Slot<'a> {
    /// Nothing yet.
    Empty,
    /// A frame.
    Frame(Received, &'a [u8]),
    /// A frame that is longer than a slot and waits in the socket's queue.
    Queued,
    /// A frame that was longer than a slot and found no room in the socket's queue.
    Lost,
}

/// A ring that is mapped into this process.
pub struct RxRing {
    memory: NonNull<u8>,
    /// The slot that is looked at next.
    next: usize,
}

// SAFETY: the mapping belongs to this value alone, and the kernel's side of it knows no thread.
unsafe impl Send for RxRing {}

impl RxRing {
    /// Maps the ring of a socket whose first reader this is.
    ///
    /// # Errors
    /// `EINVAL` if it has none.
    pub fn map(fd: BorrowedFd<'_>) -> io::Result<RxRing> {
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else is touched.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                RING,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(RxRing { memory, next: 0 })
    }

    fn slot(&self) -> NonNull<u8> {
        // SAFETY: `next < SLOTS`, so the slot lies within the mapping of `RING` octets.
        unsafe { self.memory.add(self.next * SLOT) }
    }

    /// The state of the next slot, which the kernel writes last and reads first.
    fn status(&self) -> &AtomicU32 {
        // SAFETY: a slot begins with `tp_status`, 32 bits, aligned since slots are; kernel and process both access it as
        // an atomic only, for as long as the mapping lives, which is as long as `self`.
        unsafe { AtomicU32::from_ptr(self.slot().as_ptr().cast()) }
    }

    /// Whether the next slot holds something.
    #[inline]
    pub fn has_frames(&self) -> bool {
        self.status().load(Ordering::Relaxed) & libc::TP_STATUS_USER != 0
    }

    /// Looks at the next slot. What it holds stays there until [`RxRing::release`].
    #[inline]
    pub fn peek(&self) -> Slot<'_> {
        let status = self.status().load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return Slot::Empty;
        }
        if status & libc::TP_STATUS_COPY != 0 {
            return Slot::Queued;
        }
        // SAFETY: the slot is this process's until its state is set back: the kernel has written a `tpacket2_hdr` at its
        // start and will not touch it; the reference lives no longer than the borrow of `self`, and `release`, which gives
        // the slot back, needs `self` exclusively.
        let slot = unsafe { std::slice::from_raw_parts(self.slot().as_ptr(), SLOT) };
        // SAFETY: plain integers, valid whatever their bits are, at the start of an aligned slot.
        let header = unsafe { slot.as_ptr().cast::<libc::tpacket2_hdr>().read() };
        let (start, len) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        let virtio = start.checked_sub(VNET_HEADER).and_then(|at| slot.get(at..)?.first_chunk());
        let (Some(virtio), Some(bytes)) = (virtio, slot.get(start..).and_then(|rest| rest.get(..len))) else {
            return Slot::Lost;
        };
        if header.tp_len > header.tp_snaplen {
            return Slot::Lost;
        }
        let mut received = Received { len, header: VnetHeader::from_bytes(virtio), ..Received::default() };
        received.describe(status, header.tp_vlan_tpid, header.tp_vlan_tci);
        Slot::Frame(received, bytes)
    }

    /// Gives the slot that was looked at back to the kernel.
    #[inline]
    pub fn release(&mut self) {
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % SLOTS;
    }
}

impl Drop for RxRing {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length and nobody refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), RING) };
    }
}
