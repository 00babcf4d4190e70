//! The kernel's edge as the fabric sees it, and its stand-ins for tests.

mod af_packet;
mod intake;
mod memory;
mod pcap;
mod tap;
mod tap_ring;
mod xdp;

use std::os::fd::BorrowedFd;

use crate::event::Counters;
use crate::frame::{Batch, Pool};
use crate::wire::Instant;

pub use af_packet::AfPacket;
pub use memory::Memory;
pub use pcap::Pcap;
pub use tap::Tap;
pub use tap_ring::TapRing;
pub use xdp::Xdp;

/// What a device can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Caps {
    /// Largest IP packet it carries, in octets.
    pub mtu: u32,
    /// Whether it takes super-frames and partial checksums ([`crate::frame::Meta::offload`]).
    pub offload: bool,
}

/// A device that frames come from and go to. Never blocks.
pub trait Netdev: Send {
    /// Receives up to one burst (64 frames) into buffers of `pool` and appends
    /// them to `batch`, stamped with `now`.
    ///
    /// Returns whether there may be more to read at once. An `Err` means that
    /// the device is down or gone: the caller says so and polls it no more until
    /// it is replaced.
    fn rx(&mut self, now: Instant, pool: &mut Pool, batch: &mut Batch) -> std::io::Result<bool>;

    /// Sends the frames of `batch` in order, giving their buffers back to
    /// `pool`. Returns how many the device took, a super-frame counting as its
    /// segments. The rest was discarded: what found a full queue is counted as a
    /// `TailDrop` of [`Netdev::discards`], everything else (a device that is down, a
    /// frame too long for it) by the caller.
    fn tx(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize;

    /// Whether a frame has come, as far as that is seen without a system call.
    fn has_frames(&self) -> bool {
        false
    }

    /// What to wait on for received frames: any of these is readable then. None if it is only ever polled.
    ///
    /// Not one epoll descriptor for all: the kernel wakes who waits for a socket where the frame came in, but who
    /// waits for such a descriptor anywhere, on a processor that may be asleep.
    fn fds(&self) -> Vec<BorrowedFd<'_>>;

    /// What it can do.
    fn caps(&self) -> Caps;

    /// By what means frames pass, for people.
    fn kind(&self) -> &'static str;

    /// What was received and what of it was discarded at the edge already
    /// (malformed, an unknown offload, no buffer) or at the kernel's full queues in
    /// either direction (`TailDrop`), ever.
    fn discards(&self) -> Option<&Counters> {
        None
    }
}

#[cfg(test)]
mod tests;
