//! Reading the ring that the programs write (`Documentation/bpf/ringbuf.rst` of the kernel): two mappings of its
//! descriptor, which take no rights.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// In the first word of a record: it is being written; it was given up.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Octets before a record.
const HEADER: u64 = 8;

struct Mapping {
    address: *mut std::ffi::c_void,
    len: usize,
}

// SAFETY: it is memory that belongs to the process, wherever it is used from.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: &OwnedFd, offset: u64, len: usize, protection: ProtFlags) -> io::Result<Mapping> {
        // SAFETY: a new mapping at an address that the kernel chooses, unmapped in `drop` only. What the kernel maps of a
        // BPF map cannot shrink.
        let address = unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, fd, offset) }?;
        Ok(Mapping { address, len })
    }

    fn u64_at(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.len && offset.is_multiple_of(8));
        // SAFETY: within the mapping and aligned; it lives as long as `self`, and an atomic may be anybody's, too.
        unsafe { &*self.address.cast::<u8>().add(offset).cast::<AtomicU64>() }
    }

    fn u32_at(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + 4 <= self.len && offset.is_multiple_of(4));
        // SAFETY: as above.
        unsafe { &*self.address.cast::<u8>().add(offset).cast::<AtomicU32>() }
    }

    fn copy(&self, offset: usize, len: usize, into: &mut Vec<u8>) {
        into.clear();
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: within the mapping; whoever writes there writes records, and this one is whole until the reader says
        // that it has been read.
        into.extend_from_slice(unsafe { std::slice::from_raw_parts(self.address.cast::<u8>().add(offset), len) });
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and every reference into it was bounded by `self`.
        let _ = unsafe { munmap(self.address, self.len) };
    }
}

/// The side that reads.
pub struct Reader {
    /// Up to where it has been read.
    consumer: Mapping,
    /// Up to where it has been written, and the records, twice, so that each is in one piece.
    producer: Mapping,
    lost: Mapping,
    page: usize,
    size: u64,
    ring: OwnedFd,
    told: u64,
}

impl Reader {
    /// Maps a ring of `size` octets, and the counter of what did not fit into it.
    ///
    /// # Errors
    /// If they are none.
    pub fn open(ring: OwnedFd, lost: &OwnedFd, size: u32) -> io::Result<Reader> {
        let page = rustix::param::page_size();
        let both = ProtFlags::READ | ProtFlags::WRITE;
        let consumer = Mapping::new(&ring, 0, page, both)?;
        let producer = Mapping::new(&ring, page as u64, page + 2 * size as usize, ProtFlags::READ)?;
        let lost = Mapping::new(lost, 0, page, ProtFlags::READ)?;
        let mut reader = Reader { consumer, producer, lost, page, size: u64::from(size), ring, told: 0 };
        reader.told = reader.all_lost();
        Ok(reader)
    }

    /// Copies the next record into `record`; returns whether there is one.
    pub fn read(&mut self, record: &mut Vec<u8>) -> bool {
        let consumed = self.consumer.u64_at(0);
        loop {
            let at = consumed.load(Ordering::Relaxed);
            if at >= self.producer.u64_at(0).load(Ordering::Acquire) {
                return false;
            }
            let offset = self.page + (at & (self.size - 1)) as usize;
            let header = self.producer.u32_at(offset & !3).load(Ordering::Acquire);
            if header & BUSY != 0 {
                return false;
            }
            let len = u64::from(header & !DISCARDED);
            let next = at + (HEADER + len).next_multiple_of(8);
            let is_one = header & DISCARDED == 0 && len <= self.size - HEADER;
            if is_one {
                self.producer.copy(offset + HEADER as usize, len as usize, record);
            }
            consumed.store(next, Ordering::Release);
            if is_one {
                return true;
            }
        }
    }

    /// Has the kernel say when there is more. Returns whether there is nothing now.
    pub fn is_empty(&self) -> bool {
        // The kernel wakes whoever had read everything; it has to see that before the ring is looked at once more.
        fence(Ordering::SeqCst);
        self.consumer.u64_at(0).load(Ordering::Relaxed) >= self.producer.u64_at(0).load(Ordering::Acquire)
    }

    fn all_lost(&self) -> u64 {
        self.lost.u64_at(0).load(Ordering::Relaxed)
    }

    /// Records that were lost since this was asked last.
    pub fn lost(&mut self) -> u64 {
        let all = self.all_lost();
        all.wrapping_sub(std::mem::replace(&mut self.told, all))
    }
}

/// Something to read when there is a record.
impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
