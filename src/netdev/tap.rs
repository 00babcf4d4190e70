//! A TAP: where a container's network ends. The keeper opens it
//! ([`crate::sys::tap::open`]); here it is only used, wherever its device has
//! been moved. Its frames pass by io_uring where there is a ring for it
//! ([`TapRing`]), and one in each system call where there is none.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::intake::{BURST_OCTETS, Intake, fits, overflowed};
use super::tap_ring::{FEW, Place, TapRing};
use super::{Caps, Netdev};
use crate::event::{Counters, DropReason};
use crate::frame::{Batch, HEAD_FRAME, Pool};
use crate::sys::packet::{BURST, Received};
use crate::sys::vnet::VNET_HEADER;
use crate::wire::Instant;

/// A TAP with the virtio header.
pub struct Tap {
    fd: OwnedFd,
    mtu: u32,
    offload: bool,
    discards: Counters,
    /// By which its frames pass, if there is one.
    place: Option<Place>,
}

impl Tap {
    /// Takes over a descriptor of [`crate::sys::tap::open`] whose device has that `mtu`.
    pub fn new(fd: OwnedFd, mtu: u32) -> Tap {
        Tap { fd, mtu, offload: true, discards: Counters::default(), place: None }
    }

    /// Has it given only what a wire would carry: segments, with their checksums.
    pub fn without_offload(mut self) -> Tap {
        self.offload = false;
        self
    }

    /// Has its frames pass by `ring`, if that has a place left.
    pub fn through(mut self, ring: Option<&TapRing>) -> Tap {
        self.place = ring.and_then(|ring| Place::new(ring, self.fd.as_fd()));
        self
    }

    /// One frame in each system call.
    fn rx_singly(&mut self, pool: &mut Pool, batch: &mut Batch) -> io::Result<bool> {
        // What a head does not hold goes on in a tail, which is kept only by a frame that needs it.
        let mut spare = None;
        let (mut frames, mut octets) = (0, 0);
        let result = loop {
            if frames == BURST || octets > BURST_OCTETS {
                break Ok(true);
            }
            frames += 1;
            let Some(mut head) = pool.head() else { break Ok(false) };
            spare = spare.or_else(|| pool.tail());
            let rest = spare.as_mut().map_or(&mut [][..], |tail| &mut tail.space()[HEAD_FRAME..]);
            let parts = &mut [IoSliceMut::new(head.space_and_header()), IoSliceMut::new(rest)];
            let got = match rustix::io::readv(&self.fd, parts) {
                Ok(got) => got,
                Err(error) => {
                    pool.put(head);
                    break match error {
                        // EIO: the device is down.
                        Errno::AGAIN | Errno::IO => Ok(false),
                        Errno::INTR => Ok(true),
                        error => Err(error.into()),
                    };
                }
            };
            octets += got;
            let handed = Received { header: head.received_header(), ..Received::default() };
            let mut intake = Intake { pool: &mut *pool, batch: &mut *batch, discards: &mut self.discards };
            match (got.checked_sub(VNET_HEADER), &mut spare) {
                (None, _) => intake.discard(head, DropReason::Malformed),
                (Some(len), _) if len <= HEAD_FRAME => {
                    head.set_len(len);
                    intake.take(head, handed);
                }
                (Some(len), place @ Some(_)) => {
                    if let Some(mut tail) = place.take_if(|tail| len <= tail.capacity()) {
                        tail.space()[..HEAD_FRAME].copy_from_slice(&head.space()[..HEAD_FRAME]);
                        tail.set_len(len);
                        intake.pool.put(head);
                        intake.take(tail, handed);
                    } else {
                        intake.discard(head, DropReason::TooBig);
                    }
                }
                (Some(_), None) => intake.discard(head, DropReason::NoBuffer),
            }
        };
        spare.into_iter().for_each(|tail| pool.put(tail));
        self.place.iter_mut().for_each(|place| place.saw(frames - 1));
        result
    }

    /// One frame in each system call.
    fn tx_singly(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let mut taken = 0;
        let (mut open, mut full) = (true, false);
        for mut frame in batch.drain(..) {
            if open && fits(&frame, self.mtu) {
                let segments = frame.segments();
                match frame.with_header().map_or(Err(Errno::NOBUFS), |bytes| write(&self.fd, bytes)) {
                    Ok(()) => taken += segments,
                    // A queue that is full stays full for the rest of a burst; a device that is down, too.
                    Err(Errno::AGAIN) => (open, full) = (false, true),
                    Err(Errno::IO | Errno::BADFD) => open = false,
                    Err(_) => {}
                }
            }
            if full {
                overflowed(&mut self.discards, std::slice::from_ref(&frame));
            }
            pool.put(frame);
        }
        taken
    }
}

impl Netdev for Tap {
    fn rx(&mut self, _now: Instant, pool: &mut Pool, batch: &mut Batch) -> io::Result<bool> {
        if let Some(place) = self.place.as_mut().filter(|place| place.works && place.is_busy()) {
            let intake = Intake { pool: &mut *pool, batch: &mut *batch, discards: &mut self.discards };
            if let Some(result) = place.rx(intake) {
                return result;
            }
        }
        self.rx_singly(pool, batch)
    }

    fn tx(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        if let Some(place) = self.place.as_mut().filter(|place| place.works && batch.len() >= FEW)
            && let Some(taken) = place.tx(batch, self.mtu, &mut self.discards)
        {
            batch.drain(..).for_each(|frame| pool.put(frame));
            return taken;
        }
        self.tx_singly(pool, batch)
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.fd.as_fd()]
    }

    fn caps(&self) -> Caps {
        Caps { mtu: self.mtu, offload: self.offload }
    }

    fn kind(&self) -> &'static str {
        if self.place.as_ref().is_some_and(|place| place.works) { "tap (io_uring)" } else { "tap" }
    }

    fn discards(&self) -> Option<&Counters> {
        Some(&self.discards)
    }
}

fn write(fd: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<()> {
    loop {
        match rustix::io::write(fd, bytes) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}
