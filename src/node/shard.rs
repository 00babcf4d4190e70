//! Nodes on several threads: each thread has a fabric of its own, a *shard*, with a replica of every node.
//!
//! What is known of an emulated host (sessions, flows, its container) lives in one shard, which follows
//! from the host's address: whoever receives a frame for a host of another shard hands it over. All frames
//! of a flow take the same way, so their order is kept. What routers, bridges and guards learn is needed
//! everywhere and changes seldom: the replica that learns tells the others.

use super::Cx;
use crate::frame::{Frame, PortNo};

/// Which of how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Counted from 0.
    pub index: u16,
    /// At least 1.
    pub count: u16,
}

/// Most shards of a network.
pub const MAX_SHARDS: u16 = 16;

impl Shard {
    /// The only one.
    pub const ALONE: Shard = Shard { index: 0, count: 1 };

    /// Whether there is no other.
    #[inline]
    pub fn is_alone(self) -> bool {
        self.count == 1
    }

    /// The shard that keeps what is known of the host with address `word`. The
    /// kernel's fanout program ([`crate::sys::fanout`]) calculates the same of a frame's destination.
    #[inline]
    pub fn owner_of(self, word: u128) -> u16 {
        ((word as u32).wrapping_mul(Shard::SPREAD) >> 16) as u16 % self.count
    }

    /// Neighboring addresses fall into different shards (Knuth's multiplicative hashing).
    pub const SPREAD: u32 = 0x9e37_79b1;
}

impl Cx<'_> {
    /// Gives a frame to this node's replica in another shard, which finds it with `meta.handed` set.
    pub fn hand_over(&mut self, shard: u16, mut frame: Frame) {
        frame.meta.handed = true;
        self.handed.push((shard, frame));
    }

    /// Tells this node's replicas what it has learned by `port`: they get `lesson`, whose form is
    /// the node's own, as a frame with `meta.handed` set.
    pub fn teach(&mut self, port: PortNo, lesson: &[u8]) {
        let Shard { index, count } = self.shard;
        for shard in (0..count).filter(|shard| *shard != index) {
            // Without a buffer they have to find out by themselves.
            let Some(mut frame) = self.pool.copy_of(lesson) else { return };
            frame.meta.port = port;
            self.hand_over(shard, frame);
        }
    }
}
