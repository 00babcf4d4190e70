//! The rings that a process shares with the kernel: each has one side that
//! produces and one that consumes, and two positions that only grow.
//!
//! The kernel is trusted, but not to the point of memory safety: whatever it
//! writes is taken modulo the ring's size, and what it hands over is checked by
//! whoever uses it as an address.

use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

/// Memory shared with the kernel or another process; unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    address: *mut u8,
    len: usize,
}

// SAFETY: plain shared memory that belongs to no thread; whoever accesses it holds the only reference to the wrapper.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` octets of `fd` from `offset` on. What `fd` stands for must not shrink below that.
    pub fn new(fd: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Mapping> {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: a new mapping at an address that the kernel chooses, unmapped in `drop` only.
        let address = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, flags, fd, offset) }?;
        Ok(Mapping { address: address.cast(), len })
    }

    pub fn address(&self) -> *mut u8 {
        self.address
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with that length, and nothing borrows from it any more.
        let _ = unsafe { rustix::mm::munmap(self.address.cast(), self.len) };
    }
}

/// One side of a ring of `T`, which is plain data.
#[derive(Debug)]
pub(super) struct Ring<T> {
    memory: Mapping,
    at: libc::xdp_ring_offset,
    mask: u32,
    /// The position of this side, as the kernel knows it from the last [`Ring::hand_over`] on.
    own: u32,
    /// Where the kernel was when it was last looked at.
    theirs: u32,
    producing: bool,
    entries: PhantomData<T>,
}

impl<T: Copy> Ring<T> {
    /// Maps the ring of socket `fd` at `offset`, which has `entries` (a power of two) of them, and goes on where its
    /// positions stand.
    pub fn open(
        fd: BorrowedFd<'_>,
        offset: u64,
        at: libc::xdp_ring_offset,
        entries: u32,
        producing: bool,
    ) -> io::Result<Ring<T>> {
        let len = at.desc as usize + entries as usize * size_of::<T>();
        let inside = [at.producer, at.consumer, at.flags].iter().all(|o| o.is_multiple_of(4) && *o as usize + 4 <= len);
        if !inside || !(at.desc as usize).is_multiple_of(align_of::<T>()) || !entries.is_power_of_two() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a ring of a shape that is not known"));
        }
        let memory = Mapping::new(fd, offset, len)?;
        let mut ring = Ring { memory, at, mask: entries - 1, own: 0, theirs: 0, producing, entries: PhantomData };
        let (producer, consumer) = (ring.word(at.producer), ring.word(at.consumer));
        let (own, theirs) = if producing { (producer, consumer) } else { (consumer, producer) };
        (ring.own, ring.theirs) = (own.load(Ordering::Relaxed), theirs.load(Ordering::Acquire));
        Ok(ring)
    }

    fn word(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: `open` has checked that the offset is aligned and within the mapping, which lives as long as `self`;
        // the kernel accesses the word atomically, too.
        unsafe { &*self.memory.address().add(offset as usize).cast::<AtomicU32>() }
    }

    fn entry(&self, position: u32) -> *mut T {
        // SAFETY: masked, the index is below the number of entries, for which `open` has mapped room.
        unsafe { self.memory.address().add(self.at.desc as usize).cast::<T>().add((position & self.mask) as usize) }
    }

    /// Entries that this side may use now: to be read, or free to be written. Asks for `wanted`, so as to look at the
    /// kernel's position no oftener than needed.
    #[inline]
    pub fn available(&mut self, wanted: u32) -> u32 {
        let count = |ring: &Ring<T>| match ring.producing {
            true => ring.mask + 1 - ring.own.wrapping_sub(ring.theirs).min(ring.mask + 1),
            false => ring.theirs.wrapping_sub(ring.own).min(ring.mask + 1),
        };
        if count(self) < wanted {
            let theirs = if self.producing { self.at.consumer } else { self.at.producer };
            self.theirs = self.word(theirs).load(Ordering::Acquire);
        }
        count(self).min(wanted)
    }

    /// Whether there is anything to be read.
    #[inline]
    pub fn has_entries(&self) -> bool {
        debug_assert!(!self.producing);
        self.word(self.at.producer).load(Ordering::Relaxed) != self.own
    }

    /// The next entry; only after [`Ring::available`] has promised it.
    pub fn read(&mut self) -> T {
        debug_assert!(!self.producing);
        // SAFETY: the entry is within the mapping and aligned, plain data for which every bit pattern is valid, and the
        // kernel does not write it again before it is handed over.
        let entry = unsafe { self.entry(self.own).read_volatile() };
        self.own = self.own.wrapping_add(1);
        entry
    }

    /// Writes the next entry; only after [`Ring::available`] has promised it.
    pub fn write(&mut self, entry: T) {
        debug_assert!(self.producing);
        // SAFETY: as in `read`; the kernel does not read it before it is handed over.
        unsafe { self.entry(self.own).write_volatile(entry) };
        self.own = self.own.wrapping_add(1);
    }

    /// Lets the kernel have what was read or written since the last time.
    pub fn hand_over(&mut self) {
        let own = if self.producing { self.at.producer } else { self.at.consumer };
        self.word(own).store(self.own, Ordering::Release);
    }

    /// Whether the kernel wants a system call before it goes on with this ring.
    pub fn wants_wakeup(&self) -> bool {
        self.word(self.at.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}
