//! A ring of records in shared memory, from one process to another.
//!
//! The memory outlives both sides (the supervisor holds its descriptors): each
//! may die at any moment, and the next one continues where the shared positions
//! stand. A record becomes visible only when its last octet is written, so a
//! writer that dies in the middle leaves nothing behind. The writer never waits:
//! what finds no room is counted. Neither side trusts the other: positions and
//! lengths are checked before use, and the content is read and written as
//! atomic words, so that a peer which scribbles over it gets wrong bytes into a
//! record and nothing more.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::eventfd::EventFd;

/// The two descriptors of a ring, which travel together.
#[derive(Debug)]
pub struct RingFds {
    /// The memory.
    pub memory: OwnedFd,
    /// An eventfd that is raised for a reader that sleeps.
    pub wake: OwnedFd,
}

impl RingFds {
    /// Further descriptors of the same ring.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<RingFds> {
        Ok(RingFds { memory: self.memory.try_clone()?, wake: self.wake.try_clone()? })
    }
}

/// Makes a ring with room for `size` octets, rounded up to a power of two (at least 4 KiB).
///
/// # Errors
/// If there is no memory or no descriptor left.
pub fn create(name: &CStr, size: usize) -> io::Result<RingFds> {
    let size = size.max(4096).next_power_of_two();
    let memory = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&memory, (HEADER + size) as u64)?;
    // A peer that could shrink the memory could kill this side with SIGBUS.
    rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(RingFds { memory, wake: EventFd::new()?.into_fd() })
}

/// Octets before the data: each position has a cache line of its own.
const HEADER: usize = 512;
/// Octets of a word.
const WORD: u64 = 8;

#[repr(C, align(64))]
struct Line<T>(T);

/// The beginning of the memory.
#[repr(C)]
struct Shared {
    /// Octets ever written. Only the writer changes it.
    head: Line<AtomicU64>,
    /// Octets ever read. Only the reader changes it.
    tail: Line<AtomicU64>,
    /// Records that found no room, ever.
    lost: Line<AtomicU64>,
    /// How many of those the reader has told of. Only the reader changes it.
    told: Line<AtomicU64>,
    /// The reader waits for the eventfd.
    sleeping: Line<AtomicU32>,
}

const _: () = assert!(size_of::<Shared>() <= HEADER);

struct Mapping {
    address: *mut std::ffi::c_void,
    len: usize,
    /// Words of data; a power of two.
    words: usize,
    wake: EventFd,
}

// SAFETY: the mapping is plain shared memory that is only accessed through atomics; it belongs to no thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn open(fds: RingFds) -> io::Result<Mapping> {
        let len = rustix::fs::fstat(&fds.memory)?.st_size as usize;
        let data = len.saturating_sub(HEADER);
        let seals = rustix::fs::fcntl_get_seals(&fds.memory)?;
        if data < 4096 || !data.is_power_of_two() || !seals.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the descriptor is no ring"));
        }
        // SAFETY: a new mapping at an address that the kernel chooses; the file cannot shrink below `len`, as its seal
        // was checked. It is unmapped in `drop` only.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &fds.memory,
                0,
            )
        }?;
        Ok(Mapping { address, len, words: data / WORD as usize, wake: EventFd::from_fd(fds.wake) })
    }

    fn shared(&self) -> &Shared {
        // SAFETY: the mapping is page-aligned, longer than `HEADER`, lives as long as `self`, and every bit pattern is a
        // valid `Shared`, which consists of atomics.
        unsafe { &*self.address.cast::<Shared>() }
    }

    fn data(&self) -> &[AtomicU64] {
        // SAFETY: `HEADER` is a multiple of 8, and `open` has derived `words` from the mapping's length behind it; atomics
        // may be shared with whoever else maps the memory.
        unsafe { std::slice::from_raw_parts(self.address.cast::<u8>().add(HEADER).cast::<AtomicU64>(), self.words) }
    }

    fn size(&self) -> u64 {
        self.words as u64 * WORD
    }

    /// The word at position `at`, counted in octets since ever.
    fn word(&self, at: u64) -> &AtomicU64 {
        &self.data()[(at / WORD) as usize & (self.words - 1)]
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `open` has mapped, and every reference into it was bounded by `self`.
        let _ = unsafe { rustix::mm::munmap(self.address, self.len) };
    }
}

/// Octets that a record of `len` takes: its length, and padding to whole words.
fn footprint(len: u64) -> u64 {
    WORD + len.next_multiple_of(WORD)
}

/// The side that writes.
pub struct RingWriter {
    map: Mapping,
    /// How far the reader was when there last seemed to be no room: asked for each time, its
    /// cache line would travel between two processors with every record.
    tail: u64,
    /// Something was written since the reader was last woken.
    pushed: bool,
}

impl RingWriter {
    /// Continues where the last writer's records end.
    ///
    /// # Errors
    /// `InvalidData` if the descriptor is none of [`create`].
    pub fn open(fds: RingFds) -> io::Result<RingWriter> {
        let map = Mapping::open(fds)?;
        let tail = map.shared().tail.0.load(Ordering::Acquire);
        Ok(RingWriter { map, tail, pushed: false })
    }

    /// Where a record of `len` octets goes, if there is room for it and for `spared` octets more.
    #[inline]
    fn room(&mut self, len: u64, spared: u64) -> Option<u64> {
        let shared = self.map.shared();
        let (head, size) = (shared.head.0.load(Ordering::Relaxed) & !(WORD - 1), self.map.size());
        // A reader that has lost its mind makes `used` huge, which is no room.
        let fits = |tail: u64| {
            let used = head.wrapping_sub(tail);
            len <= u64::from(u32::MAX) && used <= size && size - used >= footprint(len) + spared
        };
        if !fits(self.tail) {
            // Acquire: the reader has taken out what is about to be overwritten.
            self.tail = shared.tail.0.load(Ordering::Acquire);
            if !fits(self.tail) {
                shared.lost.0.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        }
        Some(head)
    }

    /// Appends one record: the octets of `words`, lowest first, and `data`. Returns
    /// `false`, counting it as lost, if there is no room. A reader that is awake finds it
    /// at once, one that sleeps after [`RingWriter::wake`].
    #[inline]
    pub fn push(&mut self, words: &[u64], data: &[u8]) -> bool {
        self.push_sparing(0, words, data)
    }

    /// The same of a record before which others go: the last eighth of the ring is theirs.
    #[inline]
    pub fn push_bulk(&mut self, words: &[u64], data: &[u8]) -> bool {
        self.push_sparing(self.map.size() / 8, words, data)
    }

    #[inline(always)]
    fn push_sparing(&mut self, spared: u64, words: &[u64], data: &[u8]) -> bool {
        let len = words.len() as u64 * WORD + data.len() as u64;
        let Some(head) = self.room(len, spared) else { return false };
        let put = |at: u64, word: u64| self.map.word(at).store(word, Ordering::Relaxed);
        put(head, len);
        let mut at = head + WORD;
        for word in words {
            put(at, word.to_le());
            at += WORD;
        }
        let (whole, rest) = data.as_chunks::<8>();
        for octets in whole {
            put(at, u64::from_ne_bytes(*octets));
            at += WORD;
        }
        if !rest.is_empty() {
            let mut octets = [0; 8];
            octets[..rest.len()].copy_from_slice(rest);
            put(at, u64::from_ne_bytes(octets));
        }
        self.map.shared().head.0.store(head + footprint(len), Ordering::Release);
        self.pushed = true;
        true
    }

    /// Wakes the reader if it sleeps and something was pushed since this was last called. Once for
    /// many records: it waits until all of them are visible, which takes longer than writing one.
    pub fn wake(&mut self) {
        if !std::mem::take(&mut self.pushed) {
            return;
        }
        let sleeping = &self.map.shared().sleeping.0;
        // Either this sees that the reader sleeps, or the reader sees the records before it does.
        fence(Ordering::SeqCst);
        if sleeping.load(Ordering::Relaxed) != 0 && sleeping.swap(0, Ordering::Relaxed) != 0 {
            self.map.wake.raise();
        }
    }

    /// Records that found no room, ever, counting those of earlier writers.
    pub fn lost(&self) -> u64 {
        self.map.shared().lost.0.load(Ordering::Relaxed)
    }

    /// Counts `n` records as lost that never came as far as the ring.
    pub fn count_lost(&mut self, n: u64) {
        self.map.shared().lost.0.fetch_add(n, Ordering::Relaxed);
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        self.wake();
    }
}

/// The side that reads.
pub struct RingReader {
    map: Mapping,
    /// Octets ever read, of which the writer does not know yet.
    next: u64,
}

impl RingReader {
    /// Continues where the last reader stopped.
    ///
    /// # Errors
    /// `InvalidData` if the descriptor is none of [`create`].
    pub fn open(fds: RingFds) -> io::Result<RingReader> {
        let map = Mapping::open(fds)?;
        let next = map.shared().tail.0.load(Ordering::Relaxed) & !(WORD - 1);
        Ok(RingReader { map, next })
    }

    /// Takes the oldest record out into `into`, replacing what is there.
    /// Returns `false` if there is none. See [`RingReader::read`].
    pub fn pop(&mut self, into: &mut Vec<u8>) -> bool {
        let there = self.read(into);
        self.release();
        there
    }

    /// Gives the room of everything that was read back to the writer. Until
    /// then a reader that follows this one meets it again.
    pub fn release(&mut self) {
        // Release: the words were read before the writer may use them again.
        self.map.shared().tail.0.store(self.next, Ordering::Release);
    }

    /// Copies the oldest record that was not read yet into `into`, replacing
    /// what is there. Returns `false` if there is none.
    ///
    /// A length or position that cannot be (the writer is broken or hostile)
    /// skips everything that is there and counts one record as lost.
    pub fn read(&mut self, into: &mut Vec<u8>) -> bool {
        let shared = self.map.shared();
        let tail = self.next;
        let head = shared.head.0.load(Ordering::Acquire);
        if head == tail {
            return false;
        }
        let there = head.wrapping_sub(tail);
        // Read once: what is checked is what is used.
        let len = self.map.word(tail).load(Ordering::Relaxed);
        if there > self.map.size() || len > self.map.size() || footprint(len) > there || !head.is_multiple_of(WORD) {
            self.next = head & !(WORD - 1);
            shared.tail.0.store(self.next, Ordering::Release);
            shared.lost.0.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        into.clear();
        into.reserve(len.next_multiple_of(WORD) as usize);
        for at in (0..len).step_by(WORD as usize) {
            into.extend_from_slice(&self.map.word(tail.wrapping_add(WORD + at)).load(Ordering::Relaxed).to_ne_bytes());
        }
        into.truncate(len as usize);
        self.next = tail.wrapping_add(footprint(len));
        true
    }

    /// Octets that wait to be read, and how many there is room for.
    pub fn fill(&self) -> (u64, u64) {
        let head = self.map.shared().head.0.load(Ordering::Relaxed);
        (head.wrapping_sub(self.next).min(self.map.size()), self.map.size())
    }

    /// Records that were lost and that no reader has told of.
    pub fn untold(&self) -> u64 {
        let shared = self.map.shared();
        shared.lost.0.load(Ordering::Relaxed).saturating_sub(shared.told.0.load(Ordering::Relaxed))
    }

    /// Notes that `n` of the lost records were told of, for this reader and those that follow it.
    pub fn tell(&mut self, n: u64) {
        self.map.shared().told.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Records that were lost, ever; see [`RingWriter::lost`].
    pub fn lost(&self) -> u64 {
        self.map.shared().lost.0.load(Ordering::Relaxed)
    }

    /// Announces that this side is about to wait for [`RingReader::wake_fd`].
    /// Returns `false`, taking that back, if a record is there already.
    pub fn prepare_sleep(&self) -> bool {
        let shared = self.map.shared();
        shared.sleeping.0.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if shared.head.0.load(Ordering::Acquire) == self.next {
            return true;
        }
        shared.sleeping.0.store(0, Ordering::Relaxed);
        false
    }

    /// Lowers the eventfd again after waiting.
    pub fn awake(&self) {
        self.map.shared().sleeping.0.store(0, Ordering::Relaxed);
        self.map.wake.take();
    }

    /// Becomes readable when a record comes after [`RingReader::prepare_sleep`] and its writer says so.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.map.wake.as_fd()
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
