//! Links between nodes: latency, jitter, loss, rate, and a queue that fills.
//!
//! An ideal link is no more than a place to count. One with impairments keeps
//! frames until they are due; the frames of one direction never overtake each
//! other, as on a wire, whatever the jitter.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::event::{Counters, DropReason};
use crate::frame::{Frame, Pool, PortNo};
use crate::node::{LinkConfig, NodeIdx, Rng};
use crate::wire::{Duration, Instant};

/// Frames that may wait in a link's direction if the topology does not say.
const DEFAULT_QUEUE: usize = 1000;

/// One direction of a link.
pub struct Direction {
    config: LinkConfig,
    /// Where frames come out.
    pub to: (NodeIdx, PortNo),
    /// Frames passed and discarded.
    pub counters: Counters,
    waiting: usize,
    /// When the sender is done with the frames given so far.
    free_at: Instant,
    /// When the last frame comes out.
    last_due: Instant,
}

/// A frame on its way, and where it comes out.
struct InFlight {
    due: Instant,
    order: u64,
    direction: usize,
    frame: Frame,
}

impl PartialEq for InFlight {
    fn eq(&self, other: &InFlight) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for InFlight {}

impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &InFlight) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for InFlight {
    /// The earliest is the greatest, so that a `BinaryHeap` gives it first.
    fn cmp(&self, other: &InFlight) -> Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

/// All links of a fabric.
#[derive(Default)]
pub struct Links {
    directions: Vec<Direction>,
    in_flight: BinaryHeap<InFlight>,
    order: u64,
}

impl Direction {
    /// When a frame of `len` octets given now comes out, or why it does not.
    fn accept(&mut self, now: Instant, len: usize, rng: &mut Rng) -> Result<Instant, DropReason> {
        let config = &self.config;
        if config.loss > 0.0 && rng.unit() < config.loss {
            return Err(DropReason::LinkLoss);
        }
        let queue = if config.queue == 0 { DEFAULT_QUEUE } else { config.queue as usize };
        if self.waiting >= queue {
            return Err(DropReason::TailDrop);
        }
        let mut sent_at = now;
        if config.rate_bytes > 0 {
            let micros = (len as u64 * 1_000_000).div_ceil(config.rate_bytes);
            sent_at = self.free_at.max(now) + Duration::from_micros(micros);
            self.free_at = sent_at;
        }
        let mut micros = u64::from(config.delay_us);
        if config.jitter_us > 0 {
            let swing = rng.next_u64() % (2 * u64::from(config.jitter_us) + 1);
            micros = (micros + swing).saturating_sub(u64::from(config.jitter_us));
        }
        let due = (sent_at + Duration::from_micros(micros)).max(self.last_due);
        self.last_due = due;
        self.waiting += 1;
        Ok(due)
    }
}

impl Links {
    /// Adds a direction that ends at `to`; returns its index.
    pub fn add(&mut self, config: LinkConfig, to: (NodeIdx, PortNo)) -> usize {
        self.directions.push(Direction {
            config,
            to,
            counters: Counters::default(),
            waiting: 0,
            free_at: Instant::ZERO,
            last_due: Instant::ZERO,
        });
        self.directions.len() - 1
    }

    /// A direction.
    #[inline]
    pub fn direction(&mut self, index: usize) -> &mut Direction {
        &mut self.directions[index]
    }

    /// All directions.
    pub fn directions(&self) -> &[Direction] {
        &self.directions
    }

    /// Whether frames of that direction pass at once.
    #[inline]
    pub fn is_ideal(&self, index: usize) -> bool {
        self.directions[index].config.is_ideal()
    }

    /// Whether what a direction carries depends on everything that it carries: its rate and queue
    /// cannot be kept by several shards.
    pub fn is_shared(&self, index: usize) -> bool {
        let config = &self.directions[index].config;
        config.rate_bytes > 0 || config.queue > 0
    }

    /// Takes a frame into a direction that is not ideal.
    pub fn send(&mut self, index: usize, frame: Frame, now: Instant, rng: &mut Rng, pool: &mut Pool) {
        let direction = &mut self.directions[index];
        direction.counters.rx += 1;
        match direction.accept(now, frame.len(), rng) {
            Ok(due) => {
                self.order += 1;
                self.in_flight.push(InFlight { due, order: self.order, direction: index, frame });
            }
            Err(reason) => {
                direction.counters.discard(reason);
                pool.put(frame);
            }
        }
    }

    /// The next frame that has come out by `now`, and where.
    pub fn pop_due(&mut self, now: Instant) -> Option<((NodeIdx, PortNo), Frame)> {
        if self.in_flight.peek()?.due > now {
            return None;
        }
        let InFlight { direction, frame, .. } = self.in_flight.pop()?;
        let direction = &mut self.directions[direction];
        direction.waiting -= 1;
        direction.counters.tx += 1;
        Some((direction.to, frame))
    }

    /// The frames on their way.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.in_flight.iter().map(|in_flight| &in_flight.frame)
    }

    /// When the next frame comes out.
    pub fn next_due(&self) -> Option<Instant> {
        self.in_flight.peek().map(|next| next.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(config: LinkConfig, frames: usize, spacing: Duration) -> (Vec<(Instant, Vec<u8>)>, Counters) {
        let (mut links, mut pool, mut rng) = (Links::default(), Pool::new(10_000), Rng::new(7));
        let index = links.add(config, (NodeIdx(0), PortNo(0)));
        let mut now = Instant::from_secs(1);
        for i in 0..frames {
            let mut bytes = vec![0; 1000];
            bytes[..8].copy_from_slice(&(i as u64).to_be_bytes());
            if let Some(frame) = pool.copy_of(&bytes) {
                links.send(index, frame, now, &mut rng, &mut pool);
            }
            now += spacing;
        }
        let mut came = Vec::new();
        while let Some(due) = links.next_due() {
            while let Some((_, frame)) = links.pop_due(due) {
                came.push((due, frame.bytes()[..8].to_vec()));
                pool.put(frame);
            }
        }
        assert_eq!(pool.in_use(), 0);
        (came, links.directions()[index].counters.clone())
    }

    #[test]
    fn delays_and_keeps_order_under_jitter() {
        let config = LinkConfig { delay_us: 5000, jitter_us: 4000, ..LinkConfig::default() };
        let (came, _) = run(config, 500, Duration::from_micros(100));
        assert_eq!(came.len(), 500);
        assert!(came.is_sorted_by(|a, b| a.1 < b.1 && a.0 <= b.0));
        assert!(came[0].0 >= Instant::from_micros(1_001_000) && came[0].0 <= Instant::from_micros(1_009_000));
    }

    #[test]
    fn loses_the_share_asked_for() {
        let (came, counters) = run(LinkConfig { loss: 0.1, ..LinkConfig::default() }, 5000, Duration::from_micros(1));
        assert!((4300..4700).contains(&came.len()) || counters.discarded(DropReason::TailDrop) > 0, "{}", came.len());
        assert!((400..600).contains(&counters.discarded(DropReason::LinkLoss)));
    }

    #[test]
    fn holds_the_rate_and_drops_when_full() {
        // 1,000-octet frames at 1 MB/s: one each millisecond.
        let config = LinkConfig { rate_bytes: 1_000_000, queue: 10, ..LinkConfig::default() };
        let (came, counters) = run(config, 30, Duration::from_micros(0));
        assert_eq!(came.len(), 10);
        assert_eq!(came[9].0, Instant::from_millis(1010));
        assert_eq!(counters.discarded(DropReason::TailDrop), 20);
    }
}
