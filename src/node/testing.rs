//! A node on its own: frames in, frames out, virtual time. For tests and benches.

use std::sync::Arc;

use super::{Cx, Node, NodeIdx, Request, Rng, Shard};
use crate::event::{Counters, Event};
use crate::frame::{Batch, Frame, Pool, PortNo};
use crate::stack::Wake;
use crate::wire::{Instant, Mac};

/// A node with nothing around it.
pub struct Bench<N> {
    /// The node.
    pub node: N,
    /// The clock.
    pub now: Instant,
    /// Buffers.
    pub pool: Pool,
    /// The node's counters.
    pub counters: Counters,
    /// What it emitted.
    pub events: Vec<(Event, Vec<u8>)>,
    /// What it asked for.
    pub requests: Vec<Request>,
    /// Which replica it is.
    pub shard: Shard,
    /// How many super-frames it has sent.
    pub super_frames: usize,
    /// What it has handed to other replicas.
    pub handed: Vec<(u16, Frame)>,
    out: Vec<Batch>,
    linked: Vec<bool>,
    rng: Rng,
    waker: Arc<dyn Wake>,
}

impl<N: Node> Bench<N> {
    /// `node` with `ports` ports, all of them linked.
    pub fn new(node: N, ports: usize) -> Bench<N> {
        Bench {
            node,
            now: Instant::from_secs(1000),
            pool: Pool::new(4096),
            counters: Counters::default(),
            events: Vec::new(),
            requests: Vec::new(),
            super_frames: 0,
            shard: Shard::ALONE,
            handed: Vec::new(),
            out: (0..ports).map(|_| Batch::default()).collect(),
            linked: vec![true; ports],
            rng: Rng::new(42),
            waker: Arc::new(()),
        }
    }

    /// Calls `f` with the node and a context; returns what was sent, as a wire carries it: super-frames cut, checksums complete.
    pub fn with(&mut self, f: impl FnOnce(&mut N, &mut Cx<'_>)) -> Vec<(PortNo, Vec<u8>)> {
        let mut cx = Cx {
            now: self.now,
            pool: &mut self.pool,
            counters: &mut self.counters,
            out: &mut self.out,
            linked: &self.linked,
            sink: &mut self.events,
            requests: &mut self.requests,
            rng: &mut self.rng,
            waker: &self.waker,
            node: NodeIdx(0),
            shard: self.shard,
            handed: &mut self.handed,
        };
        f(&mut self.node, &mut cx);
        let (mut sent, mut on_wire) = (Vec::new(), Batch::default());
        for (port, batch) in self.out.iter_mut().enumerate() {
            for frame in batch.drain(..) {
                self.super_frames += usize::from(frame.segments() > 1);
                self.pool.segment(frame, &mut on_wire);
                for frame in on_wire.drain(..) {
                    sent.push((PortNo(port as u16), frame.bytes().to_vec()));
                    self.pool.put(frame);
                }
            }
        }
        sent
    }

    /// One frame in by `port`; returns what comes out, a tick included.
    pub fn rx(&mut self, port: u16, bytes: &[u8]) -> Vec<(PortNo, Vec<u8>)> {
        self.rx_batch(port, &[bytes])
    }

    /// The same of several frames, which come together.
    pub fn rx_batch(&mut self, port: u16, frames: &[&[u8]]) -> Vec<(PortNo, Vec<u8>)> {
        let mut batch = Batch::default();
        for bytes in frames {
            if let Some(mut frame) = self.pool.copy_of(bytes) {
                frame.meta.port = PortNo(port);
                batch.push(frame);
            }
        }
        self.with(|node, cx| {
            node.process(&mut batch, cx);
            node.tick(cx);
        })
    }

    /// Moves the clock to the node's next deadline and ticks, until `until`; returns what comes out.
    pub fn run_until(&mut self, until: Instant) -> Vec<(PortNo, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(deadline) = self.node.next_deadline().filter(|d| *d <= until) {
            self.now = self.now.max(deadline);
            sent.extend(self.with(|node, cx| node.tick(cx)));
        }
        self.now = until;
        sent
    }
}

/// An Ethernet frame.
pub fn eth(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    frame.extend_from_slice(&dst.0);
    frame.extend_from_slice(&src.0);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
