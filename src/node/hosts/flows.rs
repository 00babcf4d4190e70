//! The table of open connections: who they are, when they want to be looked at,
//! and which of them goes when there are too many.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use slab::Slab;

use super::super::{LeaseId, Rng};
use super::flow::{App, Flow};
use crate::stack::{Due, FlowKey, Wake};
use crate::wire::{Duration, Instant, word_of};

/// Deadlines that may be left over, besides a few for each connection, before they are cleared away.
const STALE: usize = 1024;
/// Connections among which one that has to go is sought.
const SAMPLE: usize = 16;
/// Connections that are drawn for as many that hold something.
const DRAWN: usize = 16 * SAMPLE;
/// How long a connection whose source holds no more than others has to be silent before its buffers are taken.
const PATIENCE: Duration = Duration::from_secs(2);

/// The table of open connections.
pub(super) struct Flows {
    pub slab: Slab<Flow>,
    by_key: HashMap<FlowKey, u32, foldhash::fast::FixedState>,
    pub deadlines: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Connections to be looked at before the batch ends.
    pub dirty: Vec<usize>,
    /// Connections that make us hold more than themselves, and some whose relay has taken all since they were looked at.
    holders: Vec<u32>,
    /// How many connections each container has.
    per_lease: HashMap<LeaseId, u32>,
    /// How many each host has.
    per_host: HashMap<IpAddr, u32>,
    /// Connections whose relay did something.
    due: Receiver<u32>,
    tell: Sender<u32>,
}

/// One less of what is counted as `key`.
fn count_down<K: Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Flows {
    pub(super) fn new(seed: u64) -> Flows {
        let (tell, due) = channel();
        Flows {
            slab: Slab::new(),
            by_key: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            deadlines: BinaryHeap::new(),
            dirty: Vec::new(),
            holders: Vec::new(),
            per_lease: HashMap::new(),
            per_host: HashMap::new(),
            due,
            tell,
        }
    }

    #[inline]
    pub(super) fn find(&self, key: &FlowKey) -> Option<usize> {
        if self.by_key.is_empty() {
            return None;
        }
        self.by_key.get(key).map(|index| *index as usize)
    }

    /// How the relay of the connection that is inserted next tells of news.
    pub(super) fn due(&self, waker: &Arc<dyn Wake>) -> Due {
        Due { queue: self.tell.clone(), token: self.slab.vacant_key() as u32, waker: waker.clone() }
    }

    pub(super) fn insert(&mut self, flow: Flow) -> usize {
        let key = flow.wire.key;
        if let App::Inner(inner) = &flow.app {
            *self.per_lease.entry(inner.lease).or_default() += 1;
        }
        *self.per_host.entry(key.local).or_default() += 1;
        let index = self.slab.insert(flow);
        self.by_key.insert(key, index as u32);
        self.dirty.push(index);
        index
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Flow> {
        let flow = self.slab.try_remove(index)?;
        self.by_key.remove(&flow.wire.key);
        self.leave_holders(flow.place);
        count_down(&mut self.per_host, &flow.wire.key.local);
        if let App::Inner(inner) = &flow.app {
            count_down(&mut self.per_lease, &inner.lease);
        }
        Some(flow)
    }

    /// Has a connection into a container belong to another lease.
    pub(super) fn adopt(&mut self, index: usize, lease: LeaseId, now: Instant) {
        let Some(Flow { app: App::Inner(inner), .. }) = self.slab.get_mut(index) else { return };
        if inner.lease != lease {
            count_down(&mut self.per_lease, &inner.lease);
            *self.per_lease.entry(lease).or_default() += 1;
            (inner.lease, inner.leased, inner.retry_at) = (lease, now, now);
        }
    }

    /// Whether a host has connections.
    pub(super) fn has_host(&self, ip: IpAddr) -> bool {
        self.per_host.contains_key(&ip)
    }

    /// Whether a container has connections.
    pub(super) fn has_lease(&self, lease: LeaseId) -> bool {
        self.per_lease.contains_key(&lease)
    }

    /// Marks the connections whose relay did something.
    pub(super) fn wake_due_pipes(&mut self) {
        // Each pipe is in the queue once at most. A token may be another connection's by now, to whom it is no news.
        self.dirty.extend(self.due.try_iter().map(|token| token as usize));
    }

    /// Takes note of whether a connection holds something.
    pub(super) fn account(&mut self, index: usize) {
        let Some(flow) = self.slab.get_mut(index) else { return };
        match (flow.held() > 0, flow.place) {
            (true, None) => {
                flow.place = Some(self.holders.len() as u32);
                self.holders.push(index as u32);
            }
            (false, Some(_)) => {
                let place = flow.place.take();
                self.leave_holders(place);
            }
            _ => {}
        }
    }

    fn leave_holders(&mut self, place: Option<u32>) {
        let Some(place) = place.map(|place| place as usize).filter(|place| *place < self.holders.len()) else { return };
        self.holders.swap_remove(place);
        if let Some(moved) = self.holders.get(place)
            && let Some(flow) = self.slab.get_mut(*moved as usize)
        {
            flow.place = Some(place as u32);
        }
    }

    /// Has the flow looked at again at `at`.
    pub(super) fn schedule(&mut self, index: usize, at: Option<Instant>) {
        let (Some(flow), Some(at)) = (self.slab.get_mut(index), at) else { return };
        if flow.scheduled.is_none_or(|scheduled| at < scheduled) {
            flow.scheduled = Some(at);
            self.deadlines.push(Reverse((at, index as u32)));
            // Each earlier deadline leaves the later one behind.
            if self.deadlines.len() > 4 * self.slab.len() + STALE {
                let Flows { slab, deadlines, .. } = self;
                let is_meant = |at, index| slab.get(index).is_some_and(|flow| flow.scheduled == Some(at));
                deadlines.retain(|Reverse((at, index))| is_meant(*at, *index as usize));
            }
        }
    }

    /// Marks the flows whose time has come.
    pub(super) fn wake_due(&mut self, now: Instant) {
        while let Some(Reverse((at, index))) = self.deadlines.peek().copied() {
            if at > now {
                return;
            }
            self.deadlines.pop();
            // The slot may be another flow's by now, and the flow's deadline another.
            let is_meant = |flow: &&mut Flow| flow.scheduled == Some(at);
            if let Some(flow) = self.slab.get_mut(index as usize).filter(is_meant) {
                flow.scheduled = None;
                self.dirty.push(index as usize);
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, ..))| *at)
    }

    /// The connection that goes when there are too many: among some drawn at
    /// random, of the source that has most of them the one that was silent longest.
    pub(super) fn victim(&self, rng: &mut Rng) -> Option<usize> {
        let capacity = self.slab.capacity().max(1) as u64;
        let drawn = (0..SAMPLE).filter_map(|_| self.sampled((rng.next_u64() % capacity) as u32, |_| 1));
        let (most, _) = fairest(drawn)?;
        Some(most.index as usize)
    }

    /// The same when too much is buffered: of the source that makes us hold most. A source that holds
    /// no more than others is spared while it is not silent.
    pub(super) fn holder(&mut self, now: Instant, rng: &mut Rng) -> Option<usize> {
        let drawn = (0..DRAWN).filter_map(|_| {
            let count = self.holders.len() as u64;
            let place = (count > 0).then(|| rng.next_u64() % count)?;
            let index = *self.holders.get(place as usize)?;
            let one = self.sampled(index, Flow::held)?;
            if one.weight == 0 {
                // To end it would free nothing.
                self.account(index as usize);
            }
            (one.weight > 0).then_some(one)
        });
        let (most, several) = fairest(drawn.take(SAMPLE))?;
        (several || now - most.last >= PATIENCE).then_some(most.index as usize)
    }

    fn sampled(&self, index: u32, weight: impl Fn(&Flow) -> usize) -> Option<Sampled> {
        let flow = self.slab.get(index as usize)?;
        Some(Sampled { index, source: source(flow.wire.key.remote), last: flow.last, weight: weight(flow) })
    }
}

/// Who a connection belongs to: an IPv4 address, or an IPv6 network, any of whose addresses one attacker may use.
fn source(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(_) => word_of(ip),
        IpAddr::V6(ip) => u128::from(ip) >> 64,
    }
}

#[derive(Clone, Copy)]
struct Sampled {
    index: u32,
    source: u128,
    last: Instant,
    weight: usize,
}

/// Of the source with the greatest weight the one that was silent longest, and whether it has several.
fn fairest(drawn: impl Iterator<Item = Sampled>) -> Option<(Sampled, bool)> {
    let mut sample = [None; SAMPLE];
    let mut len = 0;
    for one in drawn {
        // What is drawn twice counts once.
        if !sample[..len].iter().flatten().any(|other: &Sampled| other.index == one.index)
            && let Some(place) = sample.get_mut(len)
        {
            *place = Some(one);
            len += 1;
        }
    }
    let all = || sample[..len].iter().flatten();
    let weight = |source: u128| all().filter(|one| one.source == source).map(|one| one.weight).sum::<usize>();
    let longest = all().max_by_key(|one| (weight(one.source), Reverse(one.last)))?;
    let several = all().filter(|one| one.source == longest.source).count() > 1;
    Some((*longest, several))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_loses_one() {
        let one = |index, source, last, weight| Sampled { index, source, last: Instant::from_secs(last), weight };
        let sample = [one(1, 7, 50, 10), one(2, 8, 9, 10), one(3, 7, 40, 10), one(4, 9, 1, 15), one(3, 7, 40, 10)];
        let (victim, several) = fairest(sample.into_iter()).unwrap();
        assert_eq!((victim.index, several), (3, true));
        let (victim, several) = fairest(sample.into_iter().skip(3)).unwrap();
        assert_eq!((victim.index, several), (4, false));
        assert!(fairest([].into_iter()).is_none());
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let of = |ip: &str| source(ip.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
