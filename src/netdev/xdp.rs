//! A real interface that is received from by AF_XDP sockets and, for what those
//! do not take (super-frames, long frames, partial checksums, tags), by a packet
//! socket, which also sends everything ([`crate::sys::xdp`]). Each frame comes
//! by exactly one of the two: the packet socket sees only what the program on
//! the interface has left.
//!
//! Two frames of one flow can change places where they come by different ways.
//! TCP from this machine comes by one (all of it has partial checksums), TCP
//! from elsewhere by the other (none has), but for one segment in 65,536.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::intake::Intake;
use super::{AfPacket, Caps, Netdev};
use crate::event::{Counters, DropReason};
use crate::frame::{Batch, Pool};
use crate::sys::packet::{BURST, Received};
use crate::sys::xdp::{Mode, Socket};
use crate::wire::{Duration, Instant};

/// How often the kernel is asked what found no room.
const ASK_DROPPED: Duration = Duration::from_secs(1);

/// AF_XDP sockets and a packet socket of one interface.
pub struct Xdp {
    packet: AfPacket,
    /// One for each hardware queue that has one.
    sockets: Vec<Socket>,
    /// Which of them is asked first.
    first: usize,
    kind: &'static str,
    /// What of the sockets' drops is counted already.
    dropped: u64,
    ask_dropped: Instant,
}

impl Xdp {
    /// Takes over the sockets of an interface whose program is attached in that `mode`, and its packet socket.
    ///
    /// # Errors
    /// If there is no socket.
    pub fn new(packet: AfPacket, sockets: Vec<Socket>, mode: Mode) -> io::Result<Xdp> {
        let Some(first) = sockets.first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no socket"));
        };
        let kind = match mode {
            Mode::Generic => "xdp (generic, copy)",
            Mode::Native if first.is_zero_copy()? => "xdp (native, zero-copy)",
            Mode::Native => "xdp (native, copy)",
        };
        Ok(Xdp { packet, sockets, first: 0, kind, dropped: 0, ask_dropped: Instant::ZERO })
    }

    fn count_dropped(&mut self, now: Instant) {
        if now < self.ask_dropped {
            return;
        }
        self.ask_dropped = now + ASK_DROPPED;
        let all: u64 = self.sockets.iter().map(|socket| socket.dropped().unwrap_or(0)).sum();
        let more = all.saturating_sub(std::mem::replace(&mut self.dropped, all));
        self.packet.counters().drops[DropReason::TailDrop as usize] += more;
    }
}

impl Netdev for Xdp {
    fn rx(&mut self, now: Instant, pool: &mut Pool, batch: &mut Batch) -> io::Result<bool> {
        self.count_dropped(now);
        let mut left = BURST;
        let (before, after) = self.sockets.split_at_mut(self.first);
        let mut intake = Intake { pool, batch, discards: self.packet.counters() };
        for socket in after.iter_mut().chain(before) {
            left -= socket.recv(left, |bytes| match intake.pool.copy_of(bytes) {
                Some(frame) => intake.take(frame, Received::default()),
                None => intake.discards.discard(DropReason::NoBuffer),
            });
        }
        self.first = (self.first + 1) % self.sockets.len();
        let more = left == 0;
        // Nothing anywhere: then the packet socket may have an error to tell.
        if left < BURST && self.packet.is_idle() {
            return Ok(more);
        }
        Ok(self.packet.rx(now, pool, batch)? || more)
    }

    fn tx(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        self.packet.tx(pool, batch)
    }

    fn has_frames(&self) -> bool {
        self.sockets.iter().any(Socket::has_frames) || self.packet.has_frames()
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd).chain(self.packet.fds()).collect()
    }

    fn caps(&self) -> Caps {
        self.packet.caps()
    }

    fn discards(&self) -> Option<&Counters> {
        self.packet.discards()
    }

    fn kind(&self) -> &'static str {
        self.kind
    }
}
