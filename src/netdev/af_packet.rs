//! A real interface through a packet socket. The keeper opens the socket
//! ([`crate::sys::packet::open`]); here it is only used.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::intake::{Handed, Intake, fits};
use super::{Caps, Netdev};
use crate::event::{Counters, DropReason};
use crate::frame::{Batch, Frame, HEAD_FRAME, Pool};
use crate::sys::packet::{BURST, Burst, Received, is_bound, overruns};
use crate::wire::{Duration, Instant};

/// Octets of a super-frame besides what a head takes.
const OVERFLOW: usize = 64 * 1024;
/// Each frame of a burst has a slot of its own for what its head does not hold.
const SLOT: usize = HEAD_FRAME + OVERFLOW;

/// How often the kernel is asked what found no room in the socket's buffer.
const OVERRUNS: Duration = Duration::from_secs(1);

/// A bound packet socket.
pub struct AfPacket {
    fd: OwnedFd,
    mtu: u32,
    burst: Burst,
    frames: Vec<Frame>,
    received: Vec<Received>,
    /// Memory that the kernel provides only where super-frames really come.
    slots: Box<[u8]>,
    /// Frames to ask for: as many as came last time and some more.
    ask: usize,
    discards: Counters,
    gone: bool,
    /// When to ask the kernel again what it threw away.
    ask_overruns: Instant,
}

impl AfPacket {
    /// Takes over a socket of [`crate::sys::packet::open`], whose interface has that `mtu`.
    pub fn new(fd: OwnedFd, mtu: u32) -> AfPacket {
        AfPacket {
            fd,
            mtu,
            burst: Burst::new(),
            frames: Vec::with_capacity(BURST),
            received: Vec::with_capacity(BURST),
            slots: vec![0; BURST * SLOT].into_boxed_slice(),
            ask: 8,
            discards: Counters::default(),
            gone: false,
            ask_overruns: Instant::ZERO,
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        // A slot begins with room for the head's part, so that a long frame can be put together in it.
        let slots = self.slots.chunks_exact_mut(SLOT).map(|slot| &mut slot[HEAD_FRAME..]);
        let buffers = self.frames.iter_mut().zip(slots).map(|(frame, slot)| [frame.space(), slot]);
        self.burst.recv(&self.fd, buffers, &mut self.received)
    }
}

impl Netdev for AfPacket {
    fn rx(&mut self, now: Instant, pool: &mut Pool, batch: &mut Batch) -> io::Result<bool> {
        if self.gone {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        while self.frames.len() < self.ask {
            let Some(frame) = pool.head() else { break };
            self.frames.push(frame);
        }
        if now >= self.ask_overruns {
            self.ask_overruns = now + OVERRUNS;
            self.discards.drops[DropReason::TailDrop as usize] += u64::from(overruns(self.fd.as_fd()).unwrap_or(0));
        }
        self.received.clear();
        let asked = self.frames.len();
        let result = self.receive();
        let mut intake = Intake { now, pool, batch, discards: &mut self.discards };
        let slots = self.slots.chunks_exact_mut(SLOT);
        for ((mut frame, slot), got) in self.frames.drain(..self.received.len()).zip(slots).zip(&self.received) {
            let handed = Handed { header: got.header, vlan: got.vlan, csum_valid: got.csum_valid };
            if got.truncated {
                intake.discard(frame, DropReason::TooBig);
            } else if got.len > HEAD_FRAME {
                slot[..HEAD_FRAME].copy_from_slice(&frame.space()[..HEAD_FRAME]);
                intake.pool.put(frame);
                intake.take_long(&mut slot[..got.len], handed);
            } else {
                frame.set_len(got.len);
                intake.take(frame, handed);
            }
        }
        self.frames.drain(..).for_each(|frame| pool.put(frame));
        let full = asked > 0 && self.received.len() == asked;
        self.ask = if full { BURST } else { (self.received.len() * 2).clamp(8, BURST) };
        match result.map_err(|error| Errno::from_io_error(&error)) {
            Ok(()) => Ok(full),
            Err(Some(Errno::AGAIN | Errno::NOBUFS)) => Ok(false),
            // A frame whose offload has no name in the header: the kernel has thrown it away.
            Err(Some(Errno::INVAL)) => {
                self.discards.discard(DropReason::Unsupported);
                Ok(true)
            }
            Err(Some(Errno::INTR)) => Ok(true),
            // The socket goes on by itself when the interface is up again, unless that has been removed.
            Err(Some(Errno::NETDOWN)) if is_bound(self.fd.as_fd()) => Ok(false),
            Err(errno) => {
                self.gone = true;
                Err(errno.unwrap_or(Errno::NODEV).into())
            }
        }
    }

    fn tx(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let (mut taken, mut next) = (0, 0);
        let mtu = self.mtu;
        batch.extract_if(.., |frame| !fits(frame.bytes(), mtu)).for_each(|frame| pool.put(frame));
        while next < batch.len() {
            match self.burst.send(&self.fd, batch[next..].iter().map(|frame| frame.bytes())) {
                Ok(n) => {
                    taken += n;
                    next += n;
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    // This frame only: its size, or a queue of the device that is full at the moment.
                    Some(Errno::MSGSIZE | Errno::INVAL | Errno::NOBUFS) => next += 1,
                    Some(Errno::AGAIN | Errno::NETDOWN) => break,
                    _ => {
                        self.gone = !is_bound(self.fd.as_fd());
                        break;
                    }
                },
            }
        }
        batch.drain(..).for_each(|frame| pool.put(frame));
        taken
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn caps(&self) -> Caps {
        Caps { mtu: self.mtu }
    }

    fn discards(&self) -> Option<&Counters> {
        Some(&self.discards)
    }
}
