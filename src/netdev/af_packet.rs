//! A real interface through a packet socket. The keeper opens the socket
//! ([`crate::sys::packet::open`]); here it is only used.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::intake::{BURST_OCTETS, Intake, fits, overflowed};
use super::{Caps, Netdev};
use crate::event::{Counters, DropReason};
use crate::frame::{Batch, HEAD_FRAME, Pool};
use crate::sys::packet::{self, BURST, Burst, Received, is_bound, overruns};
use crate::sys::packet_ring::{RxRing, Slot};
use crate::wire::{Duration, Instant};

/// How often the kernel is asked what found no room in the socket's buffer.
const OVERRUNS: Duration = Duration::from_secs(1);
/// Batches whose super-frames are cut here after the device has refused one, before the next one is tried whole.
const CUT: u32 = 1000;

/// A bound packet socket.
pub struct AfPacket {
    /// Where frames are found; without it each is fetched by a call.
    ring: Option<RxRing>,
    fd: OwnedFd,
    /// The socket by which frames are sent, if that is another.
    tx: Option<OwnedFd>,
    mtu: u32,
    burst: Burst,
    discards: Counters,
    gone: bool,
    /// Batches whose super-frames are to be cut without asking.
    cut: u32,
    /// Where they are cut.
    segments: Batch,
    /// When to ask the kernel again what it threw away.
    ask_overruns: Instant,
}

/// What one look at the socket has found.
enum Found {
    /// A frame, or one that was discarded and counted.
    Something,
    /// Nothing, so far.
    Nothing,
    /// No buffer to put it into.
    NoBuffer,
}

impl AfPacket {
    /// Takes over a socket of [`crate::sys::packet::open`], whose interface has that `mtu`.
    pub fn new(fd: OwnedFd, mtu: u32) -> AfPacket {
        AfPacket { ring: RxRing::map(fd.as_fd()).ok(), ..AfPacket::sender(fd, mtu) }
    }

    /// Has frames be sent by `tx`, a socket of [`crate::sys::packet::open_sender`].
    pub fn sending_by(self, tx: OwnedFd) -> AfPacket {
        AfPacket { tx: Some(tx), ..self }
    }

    /// A socket of [`crate::sys::packet::open_sender`], by which nothing comes.
    pub fn sender(fd: OwnedFd, mtu: u32) -> AfPacket {
        AfPacket {
            ring: None,
            fd,
            tx: None,
            mtu,
            burst: Burst::new(),
            discards: Counters::default(),
            gone: false,
            cut: 0,
            segments: Batch::default(),
            ask_overruns: Instant::ZERO,
        }
    }

    /// What was received and discarded, to be counted on.
    pub(super) fn counters(&mut self) -> &mut Counters {
        &mut self.discards
    }

    /// Whether it is known, without a system call, that there is nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| !ring.has_frames())
    }

    /// Takes the next frame of the ring.
    #[inline]
    fn next(&mut self, pool: &mut Pool, batch: &mut Batch, first: bool) -> io::Result<Found> {
        let Some(ring) = &mut self.ring else { return self.fetch(pool, batch) };
        match ring.peek() {
            // A socket that is readable without a frame has an error to tell.
            Slot::Empty if first => self.trouble(),
            Slot::Empty => Ok(Found::Nothing),
            Slot::Frame(got, bytes) => {
                let frame = if bytes.len() <= HEAD_FRAME { pool.head() } else { pool.tail() };
                let Some(mut frame) = frame else { return Ok(Found::NoBuffer) };
                frame.space()[..bytes.len()].copy_from_slice(bytes);
                frame.set_len(bytes.len());
                ring.release();
                Intake { pool, batch, discards: &mut self.discards }.take(frame, got);
                Ok(Found::Something)
            }
            Slot::Queued => match self.fetch(pool, batch)? {
                Found::NoBuffer => Ok(Found::NoBuffer),
                _ => {
                    self.release();
                    Ok(Found::Something)
                }
            },
            Slot::Lost => {
                self.discards.discard(DropReason::TailDrop);
                self.release();
                Ok(Found::Something)
            }
        }
    }

    fn release(&mut self) {
        self.ring.iter_mut().for_each(RxRing::release);
    }

    /// Fetches a frame of any length from the socket's queue.
    fn fetch(&mut self, pool: &mut Pool, batch: &mut Batch) -> io::Result<Found> {
        let Some(mut head) = pool.head() else { return Ok(Found::NoBuffer) };
        let Some(mut tail) = pool.tail() else {
            pool.put(head);
            return Ok(Found::NoBuffer);
        };
        let rest = &mut tail.space()[HEAD_FRAME..];
        let got = match packet::recv(&self.fd, head.space_and_header(), rest) {
            Ok(got) => Received { header: head.received_header(), ..got },
            Err(error) => {
                pool.put(head);
                pool.put(tail);
                return self.failed(&error);
            }
        };
        let (frame, other) = if got.len > HEAD_FRAME && !got.truncated {
            tail.space()[..HEAD_FRAME].copy_from_slice(&head.space()[..HEAD_FRAME]);
            tail.set_len(got.len);
            (tail, head)
        } else {
            head.set_len(got.len.min(HEAD_FRAME));
            (head, tail)
        };
        pool.put(other);
        let mut intake = Intake { pool, batch, discards: &mut self.discards };
        if got.truncated {
            intake.discard(frame, DropReason::TooBig);
        } else {
            intake.take(frame, got);
        }
        Ok(Found::Something)
    }

    /// Why there is nothing: the interface may be down or gone.
    fn trouble(&mut self) -> io::Result<Found> {
        match packet::take_error(self.fd.as_fd())? {
            None => Ok(Found::Nothing),
            Some(error) => self.failed(&error),
        }
    }

    /// Cuts the super-frames among `batch`, none of which has been sent. What finds no buffer is lost.
    fn cut(&mut self, pool: &mut Pool, batch: &mut Batch) {
        for frame in batch.drain(..) {
            pool.segment(frame, &mut self.segments);
        }
        std::mem::swap(batch, &mut self.segments);
    }

    fn failed(&mut self, error: &io::Error) -> io::Result<Found> {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN | Errno::NOBUFS) => Ok(Found::Nothing),
            // A frame whose offload has no name in the header: the kernel has thrown it away.
            Some(Errno::INVAL) => {
                self.discards.discard(DropReason::Unsupported);
                Ok(Found::Something)
            }
            Some(Errno::INTR) => Ok(Found::Something),
            // The socket goes on by itself when the interface is up again, unless that has been removed.
            Some(Errno::NETDOWN) if is_bound(self.fd.as_fd()) => Ok(Found::Nothing),
            errno => {
                self.gone = true;
                Err(errno.unwrap_or(Errno::NODEV).into())
            }
        }
    }
}

impl Netdev for AfPacket {
    fn rx(&mut self, now: Instant, pool: &mut Pool, batch: &mut Batch) -> io::Result<bool> {
        if self.gone {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        if now >= self.ask_overruns {
            self.ask_overruns = now + OVERRUNS;
            self.discards.drops[DropReason::TailDrop as usize] += u64::from(overruns(self.fd.as_fd()).unwrap_or(0));
        }
        let mut octets = 0;
        for found in 0..BURST {
            match self.next(pool, batch, found == 0)? {
                Found::Something => octets += batch.last().map_or(0, |frame| frame.len()),
                Found::Nothing | Found::NoBuffer => return Ok(false),
            }
            if octets > BURST_OCTETS {
                break;
            }
        }
        Ok(true)
    }

    fn tx(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let (mut taken, mut next) = (0, 0);
        let mtu = self.mtu;
        batch
            .extract_if(.., |frame| !fits(frame, mtu) || frame.with_header().is_none())
            .for_each(|frame| pool.put(frame));
        if self.cut > 0 && batch.iter().any(|frame| frame.meta.offload.is_gso()) {
            self.cut -= 1;
            self.cut(pool, batch);
        }
        while next < batch.len() {
            match self.burst.send(
                self.tx.as_ref().unwrap_or(&self.fd),
                batch[next..].iter_mut().filter_map(|frame| frame.with_header()),
            ) {
                Ok(n) => {
                    taken += batch[next..next + n].iter().map(|frame| frame.segments()).sum::<usize>();
                    next += n;
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    // Past its queues (`PACKET_QDISC_BYPASS`), a device gets super-frames only if it cuts them itself.
                    Some(Errno::NOBUFS) if batch[next].meta.offload.is_gso() => {
                        batch.drain(..next).for_each(|frame| pool.put(frame));
                        (self.cut, next) = (CUT, 0);
                        self.cut(pool, batch);
                    }
                    // This frame only: a queue of the device that is full at the moment, or its size.
                    Some(Errno::NOBUFS) => {
                        self.discards.discard(DropReason::TailDrop);
                        next += 1;
                    }
                    Some(Errno::MSGSIZE | Errno::INVAL) => next += 1,
                    Some(Errno::AGAIN) => {
                        overflowed(&mut self.discards, &batch[next..]);
                        break;
                    }
                    Some(Errno::NETDOWN) => break,
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

    fn has_frames(&self) -> bool {
        self.ring.as_ref().is_some_and(RxRing::has_frames)
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.fd.as_fd()]
    }

    fn caps(&self) -> Caps {
        Caps { mtu: self.mtu, offload: true }
    }

    fn kind(&self) -> &'static str {
        if self.ring.is_some() { "packet (ring)" } else { "packet" }
    }

    fn discards(&self) -> Option<&Counters> {
        Some(&self.discards)
    }
}
