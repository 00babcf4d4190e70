//! Two devices that are each other's wire, for tests and examples.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Caps, Netdev};
use crate::frame::{Batch, Pool};
use crate::sys::eventfd::EventFd;
use crate::wire::Instant;

/// Frames that one direction holds.
const QUEUE: usize = 65_536;

struct Wire {
    frames: Mutex<VecDeque<Vec<u8>>>,
    due: EventFd,
}

/// One end of a wire in memory. Frames that the other end does not fetch are
/// lost beyond 65,536.
pub struct Memory {
    rx: Arc<Wire>,
    tx: Arc<Wire>,
    mtu: u32,
}

impl Memory {
    /// Both ends.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn pair(mtu: u32) -> io::Result<(Memory, Memory)> {
        let wire = || io::Result::Ok(Arc::new(Wire { frames: Mutex::default(), due: EventFd::new()? }));
        let (there, back) = (wire()?, wire()?);
        let one = Memory { rx: back.clone(), tx: there.clone(), mtu };
        Ok((one, Memory { rx: there, tx: back, mtu }))
    }

    /// Sends a frame without a pool.
    pub fn send(&self, bytes: &[u8]) -> bool {
        let mut frames = self.tx.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let room = frames.len() < QUEUE;
        if room {
            frames.push_back(bytes.to_vec());
            self.tx.due.raise();
        }
        room
    }

    /// Fetches a frame without a pool.
    pub fn recv(&self) -> Option<Vec<u8>> {
        self.rx.frames.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Netdev for Memory {
    fn rx(&mut self, _now: Instant, pool: &mut Pool, batch: &mut Batch) -> io::Result<bool> {
        self.rx.due.take();
        let mut frames = self.rx.frames.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..64 {
            let Some(bytes) = frames.pop_front() else { break };
            if let Some(frame) = pool.copy_of(&bytes) {
                batch.push(frame);
            }
        }
        let more = !frames.is_empty();
        if more {
            self.rx.due.raise();
        }
        Ok(more)
    }

    fn tx(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let mut taken = 0;
        for frame in batch.drain(..) {
            taken += usize::from(self.send(frame.bytes()));
            pool.put(frame);
        }
        taken
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.rx.due.as_fd()]
    }

    fn caps(&self) -> Caps {
        Caps { mtu: self.mtu, offload: false }
    }

    fn kind(&self) -> &'static str {
        "memory"
    }
}
