//! The graph: nodes, what links them, devices at its edges, and the loop that
//! moves batches until nothing is left to move.
//!
//! A [`Fabric`] owns no clock and no thread. [`Fabric::step`] is given the time;
//! tests and examples call it with a virtual one, [`Workers`] with the machine's.
//!
//! * `devices`: the edges; `link`: what is between nodes; `recorder`: captures; `mirror`: copies for sensors; `show`: what `status` and `show` print
//! * `shards`: several fabrics that are one network, `merge`: what they say as one
//! * `worker`: the thread that runs a fabric, `workers`: all of them

mod devices;
mod link;
mod merge;
mod mirror;
mod recorder;
mod shards;
mod show;
mod worker;
mod workers;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::event::{Capture, Counters, DropReason, Event, EventId, Sink};
use crate::frame::{Batch, Frame, Pool, PortNo};
use crate::node::{Command, Cx, LinkConfig, Node, NodeIdx, Request, Rng, Shard};
use crate::stack::Wake;
use crate::wire::Instant;

pub use devices::DeviceIdx;
use devices::{Absent, Device, settle};
use link::Links;
pub use shards::{Lanes, lanes};
pub use workers::{Attachment, Workers};

/// Frames that may wait for a node within one step.
const INPUT_LIMIT: usize = 16_384;
/// Batches that nodes may be given in one step, before devices are looked at again.
const ROUNDS: usize = 256;

/// Makes a node, at the start and again after it panicked.
pub type Build = Box<dyn Fn() -> Box<dyn Node> + Send>;

/// What is at the other side of a port.
#[derive(Clone, Copy)]
enum Peer {
    Nothing,
    Link(usize),
    Device(usize),
}

struct Slot {
    name: String,
    node: Box<dyn Node>,
    build: Build,
    input: Batch,
    out: Vec<Batch>,
    peers: Vec<Peer>,
    linked: Vec<bool>,
    /// For each port, the mirrors that want what crosses it; empty if none does.
    mirrored: Vec<u8>,
    counters: Counters,
    queued: bool,
}

/// The graph and everything in it.
pub struct Fabric {
    slots: Vec<Slot>,
    links: Links,
    devices: Vec<Option<Device>>,
    /// Devices that are to come back.
    absent: Vec<Absent>,
    ready: VecDeque<usize>,
    pool: Pool,
    sink: Box<dyn Sink + Send>,
    capture: Option<Box<dyn Capture + Send>>,
    /// Octets a second of each device that are captured whole.
    captured_whole: u64,
    requests: Vec<Request>,
    rng: Rng,
    waker: Arc<dyn Wake>,
    now: Instant,
    /// Raised whenever a device comes, goes or fails.
    devices_version: u64,
    shard: Shard,
    /// What connects it to the other shards, if there are any.
    lanes: Option<Lanes>,
    /// The mirrors, each a bit of the marks on frames.
    mirrors: Vec<NodeIdx>,
    /// What a node has just handed to its replicas.
    handed: Vec<(u16, Frame)>,
}

impl Fabric {
    /// An empty fabric whose nodes draw their randomness from `seed`.
    pub fn new(sink: Box<dyn Sink + Send>, seed: u64, waker: Arc<dyn Wake>) -> Fabric {
        Fabric {
            slots: Vec::new(),
            links: Links::default(),
            devices: Vec::new(),
            absent: Vec::new(),
            ready: VecDeque::new(),
            pool: Pool::new(65_536),
            sink,
            capture: None,
            captured_whole: 0,
            requests: Vec::new(),
            rng: Rng::new(seed),
            waker,
            now: Instant::ZERO,
            devices_version: 0,
            shard: Shard::ALONE,
            lanes: None,
            mirrors: Vec::new(),
            handed: Vec::new(),
        }
    }

    /// Copies the frames of devices that are attached from now on to `capture`, so many octets a second of each whole.
    pub fn capture_to(&mut self, capture: Box<dyn Capture + Send>, whole: u64) {
        self.capture = Some(capture);
        self.captured_whole = whole;
    }

    /// What wakes this fabric's thread.
    pub fn set_waker(&mut self, waker: Arc<dyn Wake>) {
        self.be_woken_by(&waker);
        self.waker = waker;
    }

    /// Adds a node with `ports` ports.
    pub fn add(&mut self, name: &str, ports: usize, build: Build) -> NodeIdx {
        self.slots.push(Slot {
            name: name.to_owned(),
            node: build(),
            build,
            input: Batch::default(),
            out: (0..ports).map(|_| Batch::default()).collect(),
            peers: vec![Peer::Nothing; ports],
            linked: vec![false; ports],
            mirrored: Vec::new(),
            counters: Counters::default(),
            queued: false,
        });
        NodeIdx((self.slots.len() - 1) as u16)
    }

    /// Links two ports; both must exist and be free.
    pub fn link(&mut self, a: (NodeIdx, PortNo), b: (NodeIdx, PortNo), config: LinkConfig) {
        let forth = self.links.add(config, b);
        let back = self.links.add(config, a);
        self.set_peer(a, Peer::Link(forth));
        self.set_peer(b, Peer::Link(back));
    }

    fn set_peer(&mut self, at: (NodeIdx, PortNo), peer: Peer) {
        let slot = &mut self.slots[usize::from(at.0.0)];
        let port = usize::from(at.1.0);
        while slot.peers.len() <= port {
            slot.peers.push(Peer::Nothing);
            slot.linked.push(false);
            slot.out.push(Batch::default());
        }
        slot.linked[port] = !matches!(peer, Peer::Nothing);
        slot.peers[port] = peer;
    }

    /// Puts a frame into a node, as if it had come in by `port`.
    pub fn inject(&mut self, node: NodeIdx, port: PortNo, bytes: &[u8]) {
        if let Some(frame) = self.pool.copy_of(bytes) {
            self.deliver((node, port), frame);
        }
    }

    /// Buffers that are on their way at the moment.
    pub fn frames_in_use(&self) -> usize {
        self.pool.in_use()
    }

    /// What nodes asked of the control side since the last call.
    pub fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// Tells a node something.
    pub fn command(&mut self, node: NodeIdx, command: Command, now: Instant) {
        self.now = now;
        if usize::from(node.0) < self.slots.len() {
            self.run(usize::from(node.0), |node, _, cx| node.command(command, cx));
        }
    }

    /// Receives one burst of every device that has frames (all of them, if
    /// `ready` is `None`), moves frames and time to `now`, and sends what comes
    /// out. Returns whether a device may have more at once.
    pub fn step(&mut self, now: Instant, ready: Option<&[DeviceIdx]>) -> bool {
        self.now = now;
        let mut more = self.collect();
        match ready {
            Some(ready) => ready.iter().for_each(|index| more |= self.receive(index.0)),
            None => (0..self.devices.len()).for_each(|index| more |= self.receive(index)),
        }
        while let Some((to, frame)) = self.links.pop_due(now) {
            self.deliver(to, frame);
        }
        for index in 0..self.slots.len() {
            if self.slots[index].node.next_deadline().is_some_and(|deadline| deadline <= now) {
                self.enqueue(index);
            }
        }
        let mut rounds = 0;
        while let Some(index) = self.ready.pop_front() {
            self.slots[index].queued = false;
            if !self.mirrors.is_empty() {
                self.mirror_in(index);
            }
            self.run(index, |node, rx, cx| {
                if !rx.is_empty() {
                    node.process(rx, cx);
                    debug_assert!(rx.is_empty(), "frames were left behind");
                }
                node.tick(cx);
            });
            rounds += 1;
            if rounds == ROUNDS {
                more |= !self.ready.is_empty();
                break;
            }
        }
        self.transmit_all();
        self.ring();
        self.sink.flush();
        self.capture.iter_mut().for_each(|capture| capture.flush());
        more
    }

    /// Has every node look at its pipes in the next step.
    pub fn wake(&mut self) {
        (0..self.slots.len()).for_each(|index| self.enqueue(index));
    }

    /// Ends the network: its nodes say what ends with it. No frame leaves any more.
    pub fn end(&mut self, now: Instant) {
        self.now = now;
        (0..self.slots.len()).for_each(|index| self.run(index, |node, _, cx| node.end(cx)));
        self.sink.flush();
    }

    /// When [`Fabric::step`] wants to be called although no device has frames.
    pub fn next_deadline(&self) -> Option<Instant> {
        let nodes = self.slots.iter().filter_map(|slot| slot.node.next_deadline());
        nodes.chain(self.links.next_due()).min()
    }

    #[inline]
    fn enqueue(&mut self, index: usize) {
        if !self.slots[index].queued {
            self.slots[index].queued = true;
            self.ready.push_back(index);
        }
    }

    #[inline]
    fn deliver(&mut self, to: (NodeIdx, PortNo), mut frame: Frame) {
        let index = usize::from(to.0.0);
        let slot = &mut self.slots[index];
        if slot.input.len() >= INPUT_LIMIT {
            slot.counters.discard(DropReason::TailDrop);
            return self.pool.put(frame);
        }
        frame.meta.port = to.1;
        slot.counters.rx += frame.segments() as u64;
        slot.input.push(frame);
        self.enqueue(index);
    }

    /// Calls `f` with a node, then moves what it sent.
    fn run(&mut self, index: usize, f: impl FnOnce(&mut dyn Node, &mut Batch, &mut Cx<'_>)) {
        let slot = &mut self.slots[index];
        let mut rx = std::mem::take(&mut slot.input);
        let offered = rx.len();
        let mut cx = Cx {
            now: self.now,
            pool: &mut self.pool,
            counters: &mut slot.counters,
            out: &mut slot.out,
            linked: &slot.linked,
            sink: &mut *self.sink,
            requests: &mut self.requests,
            rng: &mut self.rng,
            waker: &self.waker,
            node: NodeIdx(index as u16),
            shard: self.shard,
            handed: &mut self.handed,
        };
        // A panic costs its batch: the state of the node is suspect, so it is
        // built anew, and everything else goes on.
        let outcome = catch_unwind(AssertUnwindSafe(|| f(&mut *slot.node, &mut rx, &mut cx)));
        if let Err(panic) = outcome {
            rx.clear();
            slot.node = (slot.build)();
            self.requests.push(Request::Rebuilt { node: NodeIdx(index as u16) });
            slot.counters.drops[DropReason::Panic as usize] += offered as u64;
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            let mut event = Event::new(EventId::NodePanic, self.now);
            (event.node, event.count) = (index as u16, offered as u64);
            self.sink.emit(&event, message.as_bytes());
            self.recount();
        }
        let slot = &mut self.slots[index];
        // The emptied batch keeps its memory for the next one.
        if slot.input.is_empty() {
            slot.input = rx;
        }
        if !self.handed.is_empty() {
            self.pass_on(index);
        }
        self.dispatch(index);
    }

    /// Counts the buffers on their way: a node that panicked took some with it.
    fn recount(&mut self) {
        let Fabric { slots, links, devices, pool, handed, .. } = self;
        let nodes = slots.iter().flat_map(|slot| slot.out.iter().chain([&slot.input]));
        let batches = nodes.chain(devices.iter().flatten().map(|device| &device.tx));
        let held = slots.iter().map(|slot| slot.node.held()).sum();
        pool.recount(
            batches.flat_map(|batch| batch.iter()).chain(links.frames()).chain(handed.iter().map(|(_, frame)| frame)),
            held,
        );
    }

    /// Moves what a node sent to where its ports lead.
    fn dispatch(&mut self, index: usize) {
        for port in 0..self.slots[index].out.len() {
            if self.slots[index].out[port].is_empty() {
                continue;
            }
            let mut out = std::mem::take(&mut self.slots[index].out[port]);
            if !self.mirrors.is_empty() && !matches!(self.slots[index].peers[port], Peer::Nothing) {
                self.mirror_out(index, port, &mut out);
            }
            match self.slots[index].peers[port] {
                Peer::Device(device) => match self.devices[device].as_mut() {
                    Some(device) if device.tx.is_empty() => std::mem::swap(&mut device.tx, &mut out),
                    Some(device) => device.tx.append(&mut out),
                    None => {}
                },
                Peer::Link(link) if self.links.is_ideal(link) => {
                    let direction = self.links.direction(link);
                    let segments: usize = out.iter().map(|frame| frame.segments()).sum();
                    direction.counters.rx += segments as u64;
                    direction.counters.tx += segments as u64;
                    let to = direction.to;
                    for frame in out.drain(..) {
                        self.deliver(to, frame);
                    }
                }
                Peer::Link(link) => {
                    // Delay, loss, rate and queue act on what a wire would carry.
                    let lost = settle(&mut out, &mut self.pool);
                    self.links.direction(link).counters.drops[DropReason::NoBuffer as usize] += lost as u64;
                    match self.link_owner(link) {
                        Some(owner) => out.drain(..).for_each(|frame| self.send_elsewhere(owner, link, frame)),
                        None => out.drain(..).for_each(|frame| {
                            self.links.send(link, frame, self.now, &mut self.rng, &mut self.pool);
                        }),
                    }
                }
                Peer::Nothing => {}
            }
            for frame in out.drain(..) {
                self.slots[index].counters.discard(DropReason::LinkDown);
                self.pool.put(frame);
            }
            self.slots[index].out[port] = out;
        }
    }

    /// The counters of a node.
    pub fn counters(&self, node: NodeIdx) -> &Counters {
        &self.slots[usize::from(node.0)].counters
    }
}

#[cfg(test)]
mod tests;
