//! What the replicas of a node share, and what belongs to another of them.

use std::sync::Arc;

use super::super::Cx;
use super::{Admission, Hosts, Pace};
use crate::emulate::WallClock;
use crate::event::DropReason;
use crate::frame::Frame;
use crate::wire::{Packet, ip_of, word_of};

/// What the replicas of a node have in common, and with it those of others.
#[derive(Clone)]
pub struct Together {
    /// How many there are.
    pub replicas: u16,
    /// Containers of all of them.
    pub containers: Arc<Admission>,
    /// What the honeynet knows of how long services take.
    pub pace: Arc<Pace>,
    /// What time it is.
    pub wall: WallClock,
}

impl Default for Together {
    fn default() -> Together {
        Together { replicas: 1, containers: Arc::default(), pace: Arc::default(), wall: WallClock::default() }
    }
}

impl Hosts {
    /// The other shard that keeps what is known of the host with address `word`, unless it is this one.
    #[inline(always)]
    pub(super) fn other_owner(&self, word: u128, cx: &Cx<'_>) -> Option<u16> {
        if cx.shard.is_alone() {
            return None;
        }
        let owner = cx.shard.owner_of(word_of(self.config.host_of(ip_of(word))));
        (owner != cx.shard.index).then_some(owner)
    }

    /// A packet of a container that another shard keeps, which has looked at it already.
    pub(super) fn from_neighbor(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        self.sessions.leave();
        let mut packet = Packet::EMPTY;
        if let Err(flaw) = packet.read(frame.bytes()) {
            return cx.discard(frame, flaw.into());
        }
        let Some(frame) = self.answered_elsewhere(frame, &packet, cx) else { return };
        match self.target(packet.dst_word) {
            Some(target) if self.holds(target.word, cx.now) => self.meet(frame, &packet, &target, cx),
            _ => cx.discard(frame, DropReason::NoHost),
        }
    }
}
