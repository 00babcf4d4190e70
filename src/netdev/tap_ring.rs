//! A TAP by io_uring: a burst of frames in one system call, instead of one in each.
//!
//! On a TAP a frame of 64 octets costs little but its system calls. A read that finds nothing
//! costs less than a call of its own would, so a burst asks for more than the last one found.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use super::intake::{BURST_OCTETS, Intake, fits, overflowed};
use crate::event::{Counters, DropReason};
use crate::frame::{Batch, Frame, HEAD_FRAME};
use crate::sys::packet::Received;
use crate::sys::uring::{BURST, File, Ring};
use crate::sys::vnet::VNET_HEADER;

/// Reads that a burst tries at least.
const LEAST: usize = 4;
/// Fewer frames than that at once are moved by calls of their own, which take less time for one.
pub(super) const FEW: usize = 4;

/// A ring for the TAPs of one thread, which is the only one to call their `rx` and `tx`; others would wait.
#[derive(Clone)]
pub struct TapRing(Arc<Mutex<Shared>>);

struct Shared {
    ring: Ring,
    /// What is read into. Between bursts it is empty: the buffers are the pool's.
    slots: Vec<Frame>,
}

impl TapRing {
    /// A ring without TAPs.
    ///
    /// # Errors
    /// What [`Ring::new`] says.
    pub fn new() -> io::Result<TapRing> {
        Ok(TapRing(Arc::new(Mutex::new(Shared { ring: Ring::new()?, slots: Vec::with_capacity(BURST) }))))
    }
}

/// A TAP's place in a ring.
pub(super) struct Place {
    ring: TapRing,
    file: File,
    /// Reads that the next burst tries.
    depth: usize,
    /// Whether frames came in bursts lately.
    busy: bool,
    /// Whether the kernel does what is asked for.
    pub works: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Without it, the device would live as long as the ring.
        if let Ok(mut shared) = self.ring.0.lock() {
            shared.ring.remove(self.file);
        }
    }
}

impl Place {
    /// Takes a place for `fd`; `None` if the ring is full or has failed.
    pub fn new(ring: &TapRing, fd: BorrowedFd<'_>) -> Option<Place> {
        let file = ring.0.lock().ok()?.ring.add(fd).ok()?;
        Some(Place { ring: ring.clone(), file, depth: LEAST, busy: false, works: true })
    }

    /// Whether frames come in bursts, for which the ring is.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// So many frames were read by calls of their own.
    pub fn saw(&mut self, frames: usize) {
        self.busy = frames >= 2 * FEW;
        self.depth = (frames + LEAST).min(BURST);
    }

    /// As [`super::Netdev::rx`]; `None` if the frames have to be read in another way.
    pub fn rx(&mut self, mut intake: Intake<'_>) -> Option<io::Result<bool>> {
        let mut shared = self.ring.0.lock().ok()?;
        let Shared { ring, slots } = &mut *shared;
        slots.extend(std::iter::from_fn(|| intake.pool.tail()).take(self.depth));
        let asked = slots.len();
        let results = ring.read(self.file, slots.iter_mut().map(|slot| slot.space_and_header()));
        let (mut frames, mut octets, mut failed) = (0, 0, None);
        self.works &= results.is_ok();
        let results = results.unwrap_or(&[]);
        for (at, slot) in slots.drain(..).enumerate() {
            match results.get(at).map_or(-libc::EAGAIN, |result| *result) {
                got @ 0.. => {
                    frames += 1;
                    octets += got as usize;
                    take(&mut intake, slot, got as usize);
                    continue;
                }
                // EIO: the device is down.
                error if error == -libc::EAGAIN || error == -libc::EIO || error == -libc::EINTR => {}
                // An old kernel cannot be told not to wait for a TAP.
                error if error == -libc::EOPNOTSUPP => self.works = false,
                error => failed = Some(io::Error::from_raw_os_error(-error)),
            }
            intake.pool.put(slot);
        }
        if let Some(error) = failed {
            return Some(Err(error));
        }
        self.busy = frames >= FEW;
        self.depth = if octets > BURST_OCTETS {
            (self.depth / 2).max(LEAST)
        } else if frames == asked {
            (self.depth * 2).min(BURST)
        } else {
            (frames + LEAST).min(self.depth)
        };
        (self.works && asked > 0).then_some(Ok(frames == asked))
    }

    /// As [`super::Netdev::tx`] but for the buffers, which stay where they are; `None` if the frames have to be
    /// written in another way.
    pub fn tx(&mut self, batch: &mut Batch, mtu: u32, discards: &mut Counters) -> Option<usize> {
        let mut shared = self.ring.0.lock().ok()?;
        let mut taken = 0;
        for frames in batch.chunks_mut(BURST) {
            // A TAP refuses what is empty.
            let bytes = frames.iter_mut().map(|frame| match fits(frame, mtu) {
                true => frame.with_header().unwrap_or_default(),
                false => &[],
            });
            let Ok(results) = shared.ring.write(self.file, bytes) else {
                self.works = false;
                break;
            };
            if results.contains(&-libc::EOPNOTSUPP) {
                // An old kernel cannot be told not to wait for a TAP.
                self.works = false;
                break;
            }
            for (result, frame) in results.iter().zip(frames) {
                match *result {
                    1.. => taken += frame.segments(),
                    full if full == -libc::EAGAIN => overflowed(discards, std::slice::from_ref(frame)),
                    _ => {}
                }
            }
        }
        // What was not taken at all is still there to be written singly.
        (self.works || taken > 0).then_some(taken)
    }
}

/// Takes what was read: a super-frame as it is, a smaller frame into a buffer of its size.
fn take(intake: &mut Intake<'_>, mut slot: Frame, got: usize) {
    let handed = Received { header: slot.received_header(), ..Received::default() };
    match got.checked_sub(VNET_HEADER) {
        None => intake.discard(slot, DropReason::Malformed),
        Some(len) if len > HEAD_FRAME => {
            slot.set_len(len);
            intake.take(slot, handed);
        }
        Some(len) => {
            let Some(mut head) = intake.pool.head() else { return intake.discard(slot, DropReason::NoBuffer) };
            head.space()[..len].copy_from_slice(&slot.space()[..len]);
            head.set_len(len);
            intake.pool.put(slot);
            intake.take(head, handed);
        }
    }
}
