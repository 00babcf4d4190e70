//! Who has which MAC on a router's links (RFC 826, RFC 4861 §7.3), and the
//! packets that wait until that is known.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::emulate::{Announced, ClockTable};
use crate::frame::Frame;
use crate::wire::{Duration, Instant, Mac, ip_of, word_of};

/// How long a MAC is believed before its owner is asked again.
const REACHABLE: Duration = Duration::from_secs(300);
/// How long a stale MAC is used while its owner does not answer.
const PROBE: Duration = Duration::from_secs(5);
/// Time between two requests for an unknown neighbor (RFC 4861 §10, RETRANS_TIMER).
const RETRY: Duration = Duration::from_secs(1);
/// Requests before a neighbor is given up.
const TRIES: u8 = 3;
/// Packets that wait for one neighbor.
const QUEUE: usize = 16;
/// Packets that wait for all of them: a small part of all buffers.
const WAITING: usize = 4096;
/// Neighbors that may be asked for at once.
const PENDING: usize = 4096;

/// Port and address as words: they compare and hash faster than an enum.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
// In a table of them, 16 octets more for the alignment of a `u128` are 16 octets more to fetch.
#[repr(C, packed(8))]
struct Key {
    ip: u128,
    port: u16,
}

impl Key {
    #[inline]
    fn new(port: u16, ip: IpAddr) -> Key {
        Key { ip: word_of(ip), port }
    }

    fn ip(self) -> IpAddr {
        ip_of(self.ip)
    }
}

enum State {
    Reachable { mac: Mac, until: Instant, probing: bool },
    Incomplete { tries: u8, waiting: Vec<Frame> },
}

/// What is known of a next hop.
pub(super) enum Resolved {
    /// Its MAC.
    Known(Mac),
    /// Its MAC of a while ago: use it, and ask again.
    Stale(Mac),
    /// Nothing; `true` if it is to be asked for now.
    Unknown(bool),
}

/// What is due for a neighbor that has not answered.
pub(super) enum Ask {
    /// Another request.
    Again,
    /// It is given up; these packets waited.
    Failed(Vec<Frame>),
}

/// What a router learns of a neighbor, and tells its replicas.
#[derive(Clone, Copy)]
pub(super) struct Lesson {
    pub ip: IpAddr,
    pub mac: Mac,
    /// Whether it is to be remembered even if nobody has asked for it.
    pub create: bool,
}

impl Lesson {
    pub(super) fn to_bytes(&self) -> [u8; 23] {
        let mut bytes = [0; 23];
        bytes[..16].copy_from_slice(&word_of(self.ip).to_ne_bytes());
        bytes[16..22].copy_from_slice(&self.mac.0);
        bytes[22] = self.create.into();
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Lesson> {
        let (ip, rest) = bytes.split_first_chunk()?;
        let (mac, rest) = rest.split_first_chunk()?;
        Some(Lesson { ip: ip_of(u128::from_ne_bytes(*ip)), mac: Mac(*mac), create: *rest.first()? != 0 })
    }
}

/// The table.
pub(super) struct Neighbors {
    table: ClockTable<Key, State>,
    /// When which unanswered request is repeated; the delay is the same for all, so they come in order.
    due: VecDeque<(Instant, Key)>,
    pending: usize,
    waiting: usize,
    /// Packets whose neighbor made room for another: to be discarded at the next tick.
    pub(super) lost: Vec<Frame>,
}

impl Neighbors {
    pub(super) fn new(capacity: usize, seed: u64) -> Neighbors {
        let table = ClockTable::new(capacity, seed);
        Neighbors { table, due: VecDeque::new(), pending: 0, waiting: 0, lost: Vec::new() }
    }

    #[inline]
    pub(super) fn announce(&self, port: u16, ip: u128) -> Announced {
        self.table.announce(&Key { ip, port })
    }

    #[inline]
    pub(super) fn prefetch(&self, neighbor: Announced) {
        self.table.prefetch(neighbor);
    }

    /// The state of a neighbor, which may have been announced.
    #[inline]
    pub(super) fn resolve(&mut self, port: u16, ip: u128, announced: Option<Announced>, now: Instant) -> Resolved {
        let key = Key { ip, port };
        let at = match announced {
            Some(announced) => self.table.slot_of(&key, announced),
            None => self.table.slot(&key),
        };
        if let Ok(at) = at {
            match self.table.value(at) {
                State::Reachable { mac, until, .. } if now < *until => return Resolved::Known(*mac),
                State::Reachable { mac, until, probing } if !*probing => {
                    (*until, *probing) = (now + PROBE, true);
                    return Resolved::Stale(*mac);
                }
                State::Incomplete { .. } => return Resolved::Unknown(false),
                State::Reachable { .. } => {}
            }
        }
        if self.pending >= PENDING {
            self.give_up_oldest();
        }
        self.pending += 1;
        let old = self.table.insert(key, State::Incomplete { tries: 1, waiting: Vec::new() });
        self.evicted(old);
        self.due.push_back((now + RETRY, key));
        Resolved::Unknown(true)
    }

    /// An entry made room for another.
    fn evicted(&mut self, old: Option<(Key, State)>) {
        if let Some((_, State::Incomplete { waiting, .. })) = old {
            let waiting = self.settled(waiting);
            self.lost.extend(waiting);
        }
    }

    /// A neighbor is no longer asked for; `waiting` no longer waits.
    fn settled(&mut self, waiting: Vec<Frame>) -> Vec<Frame> {
        self.pending = self.pending.saturating_sub(1);
        self.waiting = self.waiting.saturating_sub(waiting.len());
        waiting
    }

    /// Too many are asked for: the one that was asked for longest ago hardly
    /// answers any more, and must not keep those that would from being asked.
    fn give_up_oldest(&mut self) {
        while let Some((_, key)) = self.due.pop_front() {
            if matches!(self.table.peek(&key), Some(State::Incomplete { .. })) {
                let old = self.table.remove(&key).map(|state| (key, state));
                return self.evicted(old);
            }
        }
    }

    /// Has a packet wait for an unknown neighbor; gives it back if too many do.
    pub(super) fn wait(&mut self, port: u16, ip: u128, frame: Frame) -> Result<(), Frame> {
        // Neither waiting for it nor its answer is use: who was only asked for once makes room for others.
        match self.table.peek_mut(&Key { ip, port }) {
            Some(State::Incomplete { waiting, .. }) if waiting.len() < QUEUE && self.waiting < WAITING => {
                waiting.push(frame);
                self.waiting += 1;
                Ok(())
            }
            _ => Err(frame),
        }
    }

    /// Whether replicas may not know yet who has which MAC.
    pub(super) fn is_news(&self, port: u16, neighbor: &Lesson, now: Instant) -> bool {
        match self.table.peek(&Key::new(port, neighbor.ip)) {
            // Told again long before it is forgotten.
            Some(State::Reachable { mac, until, .. }) => *mac != neighbor.mac || *until < now + REACHABLE / 2,
            _ => true,
        }
    }

    /// Whether it has another MAC than the one that is known, as far as one is.
    pub(super) fn is_changed(&self, port: u16, neighbor: &Lesson) -> bool {
        let known = self.table.peek(&Key::new(port, neighbor.ip));
        !matches!(known, Some(State::Reachable { mac, .. }) if *mac == neighbor.mac)
    }

    /// Takes in a MAC. A neighbor that is not known yet is remembered only if
    /// `create` says so. Returns what waited for it.
    pub(super) fn learn(&mut self, port: u16, ip: IpAddr, mac: Mac, create: bool, now: Instant) -> Vec<Frame> {
        let state = State::Reachable { mac, until: now + REACHABLE, probing: false };
        let key = Key::new(port, ip);
        match self.table.peek_mut(&key) {
            Some(old) => match std::mem::replace(old, state) {
                State::Incomplete { waiting, .. } => self.settled(waiting),
                State::Reachable { .. } => Vec::new(),
            },
            None => {
                if create {
                    let old = self.table.insert(key, state);
                    self.evicted(old);
                }
                Vec::new()
            }
        }
    }

    /// The next neighbor for which something is due by `now`.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<(u16, IpAddr, Ask)> {
        loop {
            let (at, key) = *self.due.front()?;
            if at > now {
                return None;
            }
            self.due.pop_front();
            match self.table.get(&key) {
                Some(State::Incomplete { tries, .. }) if *tries < TRIES => {
                    *tries += 1;
                    self.due.push_back((now + RETRY, key));
                    return Some((key.port, key.ip(), Ask::Again));
                }
                Some(State::Incomplete { .. }) => {
                    if let Some(State::Incomplete { waiting, .. }) = self.table.remove(&key) {
                        let waiting = self.settled(waiting);
                        return Some((key.port, key.ip(), Ask::Failed(waiting)));
                    }
                }
                _ => {}
            }
        }
    }

    /// Packets that wait, or have waited.
    pub(super) fn held(&self) -> usize {
        self.waiting + self.lost.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.front().map(|(at, _)| *at)
    }

    /// Port, address, MAC and state of every neighbor.
    pub(super) fn iter(&self, now: Instant) -> impl Iterator<Item = (u16, IpAddr, Option<Mac>, &'static str)> {
        self.table.iter().map(move |(key, state)| match state {
            State::Reachable { mac, until, probing } => {
                (key.port, key.ip(), Some(*mac), if now < *until && !probing { "reachable" } else { "stale" })
            }
            State::Incomplete { .. } => (key.port, key.ip(), None, "incomplete"),
        })
    }
}
