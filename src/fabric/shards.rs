//! What passes between the shards of one network: bounded queues, one from each to each other.
//!
//! A frame changes its owner, never its place; for each that came, an empty
//! buffer goes back as soon as there is one, so that no shard's pool runs dry. A shard
//! that sleeps is woken once for all that was put into its queues.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rtrb::{Consumer, Producer, RingBuffer};

use super::{Fabric, INPUT_LIMIT};
use crate::event::DropReason;
use crate::frame::{Frame, Pool};
use crate::node::{NodeIdx, Shard};
use crate::stack::Wake;

/// Frames that may be on their way from one shard to another.
const LANE: usize = 4096;
/// Of them, taken in one step: so that no neighbor keeps a shard from its own devices.
const AT_ONCE: usize = 1024;

/// What a frame is handed over for.
enum To {
    /// To be processed by a node's replica; the port is in the frame.
    Node(NodeIdx),
    /// To be sent over a direction of a link whose rate and queue are kept here.
    Link(usize),
}

struct Parcel {
    to: To,
    frame: Frame,
}

/// How a shard that sleeps is woken.
#[derive(Default)]
struct Bell {
    asleep: AtomicBool,
    waker: OnceLock<Arc<dyn Wake>>,
}

/// A way out.
struct Out {
    parcels: Producer<Parcel>,
    /// Buffers that come back.
    empties: Consumer<Frame>,
    bell: Arc<Bell>,
    rung: bool,
}

/// A way in.
struct In {
    parcels: Consumer<Parcel>,
    empties: Producer<Frame>,
}

/// One shard's ends of all queues.
pub struct Lanes {
    shard: Shard,
    /// By shard; `None` for its own.
    out: Vec<Option<Out>>,
    inn: Vec<In>,
    bell: Arc<Bell>,
}

/// The queues between `count` shards.
pub fn lanes(count: u16) -> Vec<Lanes> {
    let bells: Vec<Arc<Bell>> = (0..count).map(|_| Arc::default()).collect();
    let mut lanes: Vec<Lanes> = (0..count)
        .map(|index| Lanes {
            shard: Shard { index, count },
            out: (0..count).map(|_| None).collect(),
            inn: Vec::new(),
            bell: bells[usize::from(index)].clone(),
        })
        .collect();
    for from in 0..usize::from(count) {
        for to in (0..usize::from(count)).filter(|to| *to != from) {
            let (parcels, incoming) = RingBuffer::new(LANE);
            let (back, empties) = RingBuffer::new(LANE);
            lanes[from].out[to] = Some(Out { parcels, empties, bell: bells[to].clone(), rung: true });
            lanes[to].inn.push(In { parcels: incoming, empties: back });
        }
    }
    lanes
}

impl Lanes {
    /// Which shard's they are.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Puts a frame into a queue; gives it back if that is full.
    fn push(&mut self, shard: u16, parcel: Parcel, pool: &mut Pool) -> Result<(), Frame> {
        let Some(Some(out)) = self.out.get_mut(usize::from(shard)) else { return Err(parcel.frame) };
        pool.part_with(&parcel.frame);
        match out.parcels.push(parcel) {
            Ok(()) => {
                out.rung = false;
                Ok(())
            }
            Err(rtrb::PushError::Full(parcel)) => {
                pool.adopt(&parcel.frame);
                Err(parcel.frame)
            }
        }
    }

    /// Wakes those who were given something and sleep.
    fn ring(&mut self) {
        for out in self.out.iter_mut().flatten().filter(|out| !out.rung) {
            out.rung = true;
            // Either this sees that it sleeps, or it sees the frame before it does (`Fabric::may_sleep`).
            fence(Ordering::SeqCst);
            if out.bell.asleep.swap(false, Ordering::AcqRel)
                && let Some(waker) = out.bell.waker.get()
            {
                waker.wake();
            }
        }
    }
}

impl Fabric {
    /// Makes this fabric one shard of several.
    pub fn join(&mut self, lanes: Lanes) {
        self.shard = lanes.shard;
        self.lanes = Some(lanes);
    }

    /// Which shard it is.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Has other shards wake this one by `waker`.
    pub(super) fn be_woken_by(&mut self, waker: &Arc<dyn Wake>) {
        if let Some(lanes) = &self.lanes {
            // A second worker for one fabric does not exist.
            let _ = lanes.bell.waker.set(waker.clone());
        }
    }

    /// Whether another shard has handed something over.
    pub(super) fn has_parcels(&self) -> bool {
        self.lanes.as_ref().is_some_and(|lanes| lanes.inn.iter().any(|lane| !lane.parcels.is_empty()))
    }

    /// Says that this shard is about to sleep. `false`: it must not, something has come.
    pub(super) fn may_sleep(&self) -> bool {
        let Some(lanes) = &self.lanes else { return true };
        lanes.bell.asleep.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        !self.has_parcels()
    }

    /// Says that it no longer sleeps.
    pub(super) fn is_awake(&self) {
        if let Some(lanes) = &self.lanes {
            lanes.bell.asleep.store(false, Ordering::Release);
        }
    }

    /// Takes in what other shards have handed over. Returns whether there is more.
    pub(super) fn collect(&mut self) -> bool {
        let Some(mut lanes) = self.lanes.take() else { return false };
        let mut more = false;
        for out in lanes.out.iter_mut().flatten() {
            while let Ok(empty) = out.empties.pop() {
                self.pool.adopt(&empty);
                self.pool.put(empty);
            }
        }
        for lane in &mut lanes.inn {
            for _ in 0..AT_ONCE {
                let Ok(Parcel { to, frame }) = lane.parcels.pop() else { break };
                self.pool.adopt(&frame);
                if let Some(empty) = self.pool.spare_like(&frame) {
                    // If there is no room, the other side has enough of them.
                    if let Err(rtrb::PushError::Full(empty)) = lane.empties.push(empty) {
                        self.pool.adopt(&empty);
                        self.pool.put(empty);
                    }
                }
                match to {
                    To::Node(node) => self.take_over(node, frame),
                    To::Link(link) => self.links.send(link, frame, self.now, &mut self.rng, &mut self.pool),
                }
            }
            more |= !lane.parcels.is_empty();
        }
        self.lanes = Some(lanes);
        more
    }

    /// A frame for a node that its replica has counted already.
    fn take_over(&mut self, node: NodeIdx, frame: Frame) {
        let Some(slot) = self.slots.get_mut(usize::from(node.0)) else { return self.pool.put(frame) };
        if slot.input.len() >= INPUT_LIMIT {
            slot.counters.discard(DropReason::TailDrop);
            return self.pool.put(frame);
        }
        slot.input.push(frame);
        self.enqueue(usize::from(node.0));
    }

    /// Moves on what a node has handed to its replicas.
    pub(super) fn pass_on(&mut self, node: usize) {
        let Some(lanes) = &mut self.lanes else { return };
        for (shard, frame) in self.handed.drain(..) {
            let parcel = Parcel { to: To::Node(NodeIdx(node as u16)), frame };
            if let Err(frame) = lanes.push(shard, parcel, &mut self.pool) {
                self.slots[node].counters.discard(DropReason::TailDrop);
                self.pool.put(frame);
            }
        }
    }

    /// The shard that keeps rate and queue of a link's direction; `None` if it is this one, or each its own.
    pub(super) fn link_owner(&self, link: usize) -> Option<u16> {
        let owner = (link % usize::from(self.shard.count)) as u16;
        (owner != self.shard.index && self.links.is_shared(link)).then_some(owner)
    }

    /// Has another shard send a frame over a link.
    pub(super) fn send_elsewhere(&mut self, owner: u16, link: usize, frame: Frame) {
        let Some(lanes) = &mut self.lanes else { return self.pool.put(frame) };
        if let Err(frame) = lanes.push(owner, Parcel { to: To::Link(link), frame }, &mut self.pool) {
            self.links.direction(link).counters.discard(DropReason::TailDrop);
            self.pool.put(frame);
        }
    }

    /// Wakes the shards that were given something.
    pub(super) fn ring(&mut self) {
        if let Some(lanes) = &mut self.lanes {
            lanes.ring();
        }
    }
}
