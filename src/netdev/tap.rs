//! A TAP: where a container's network ends. The keeper opens it
//! ([`crate::sys::tap::open`]); here it is only used, wherever its device has
//! been moved.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::intake::{Handed, Intake, fits};
use super::{Caps, Netdev};
use crate::event::{Counters, DropReason};
use crate::frame::{Batch, Frame, HEAD_FRAME, Pool};
use crate::sys::packet::BURST;
use crate::sys::vnet::{VNET_HEADER, VnetHeader};
use crate::wire::Instant;

/// Octets of the longest frame that a device can have, besides what a head takes.
const OVERFLOW: usize = 64 * 1024;

/// A TAP with the virtio header.
pub struct Tap {
    fd: OwnedFd,
    mtu: u32,
    slot: Box<[u8]>,
    discards: Counters,
}

impl Tap {
    /// Takes over a descriptor of [`crate::sys::tap::open`] with `vnet_hdr`, whose device has that `mtu`.
    pub fn new(fd: OwnedFd, mtu: u32) -> Tap {
        let slot = vec![0; HEAD_FRAME + OVERFLOW].into_boxed_slice();
        Tap { fd, mtu, slot, discards: Counters::default() }
    }
}

impl Netdev for Tap {
    fn rx(&mut self, now: Instant, pool: &mut Pool, batch: &mut Batch) -> io::Result<bool> {
        for _ in 0..BURST {
            let Some(mut frame) = pool.head() else { return Ok(false) };
            let mut header = [0; VNET_HEADER];
            let parts = &mut [
                IoSliceMut::new(&mut header),
                IoSliceMut::new(frame.space()),
                IoSliceMut::new(&mut self.slot[HEAD_FRAME..]),
            ];
            let got = match rustix::io::readv(&self.fd, parts) {
                Ok(got) => got,
                Err(error) => {
                    pool.put(frame);
                    return match error {
                        // EIO: the device is down.
                        Errno::AGAIN | Errno::IO => Ok(false),
                        Errno::INTR => Ok(true),
                        error => Err(error.into()),
                    };
                }
            };
            let mut intake = Intake { now, pool: &mut *pool, batch: &mut *batch, discards: &mut self.discards };
            let handed = Handed { header: VnetHeader::from_bytes(&header), ..Handed::default() };
            match got.checked_sub(VNET_HEADER) {
                None => intake.discard(frame, DropReason::Malformed),
                Some(len) if len > HEAD_FRAME => {
                    self.slot[..HEAD_FRAME].copy_from_slice(&frame.space()[..HEAD_FRAME]);
                    intake.pool.put(frame);
                    intake.take_long(&mut self.slot[..len], handed);
                }
                Some(len) => {
                    frame.set_len(len);
                    intake.take(frame, handed);
                }
            }
        }
        Ok(true)
    }

    fn tx(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let mut taken = 0;
        let mut open = true;
        for frame in batch.drain(..) {
            if open && fits(frame.bytes(), self.mtu) {
                match write(&self.fd, &frame) {
                    Ok(()) => taken += 1,
                    // A queue that is full stays full for the rest of a burst; a device that is down, too.
                    Err(Errno::AGAIN | Errno::IO | Errno::BADFD) => open = false,
                    Err(_) => {}
                }
            }
            pool.put(frame);
        }
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

fn write(fd: &OwnedFd, frame: &Frame) -> rustix::io::Result<()> {
    let parts = [IoSlice::new(&[0; VNET_HEADER]), IoSlice::new(frame.bytes())];
    loop {
        match rustix::io::writev(fd, &parts) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}
