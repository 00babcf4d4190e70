//! What a node knows of addresses that have to be claimed: who looks for which, which are ours, and whose
//! owners were heard. Each of these tables is bounded.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr};

use super::super::ClaimConfig;
use super::tcp::Budget;
use crate::emulate::ClockTable;
use crate::frame::PortNo;
use crate::wire::{Duration, Instant, Mac, ip_of, word_of};

/// The port by which replicas tell each other of addresses: no node has so many.
pub(super) const LESSON: PortNo = PortNo(u16::MAX);

/// Addresses that somebody looks for, and addresses whose owner was heard, that a node remembers.
const WANTED: usize = 8192;
const OWNERS: usize = 16_384;
/// Probes, and claims without one, that a node makes at once and in a second.
const BURST: u32 = 200;
const RATE: u32 = 100;

/// How long an owner has to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(1);

pub(super) const MOST: usize = ClaimConfig::MOST_REQUESTS as usize;

/// Who looks for an address.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    pub ip: IpAddr,
    pub mac: Mac,
    pub port: PortNo,
}

/// An address that somebody looks for.
pub(super) struct Wanted {
    /// The latest requests, the last one first.
    pub times: [Instant; MOST],
    pub count: u8,
    /// When we asked for it.
    pub probed: Option<Instant>,
    /// Whether it is looked at again without a request.
    pub is_due: bool,
    pub asker: Asker,
}

impl Wanted {
    pub(super) fn note(&mut self, asker: Asker, now: Instant) {
        self.times.copy_within(..MOST - 1, 1);
        self.times[0] = now;
        self.count = (self.count + 1).min(ClaimConfig::MOST_REQUESTS);
        self.asker = asker;
    }

    /// Whether it is the owner's turn, or that of who asks once more: a flood of others does not end that. There are no
    /// more of these than may be due, or probed for, in so short a time.
    pub(super) fn waits(&self, now: Instant) -> bool {
        self.is_due || self.probed.is_some_and(|at| now - at <= ANSWER + ANSWER)
    }

    /// How many requests came within that time up to the last one.
    pub(super) fn recent(&self, within: Duration) -> u8 {
        let times = &self.times[..usize::from(self.count)];
        times.iter().filter(|at| self.times[0] - **at <= within).count() as u8
    }
}

/// An address of somebody else's.
pub(super) struct Owner {
    pub mac: Mac,
    pub until: Instant,
}

/// An address of ours.
pub(super) struct Claim {
    /// The last frame to it.
    pub last: Instant,
}

/// What a node knows of addresses that have to be claimed.
pub(super) struct Claims {
    pub after: u8,
    pub within: Duration,
    pub probe: bool,
    pub release: Option<Duration>,
    pub limit: usize,
    /// The machine's own addresses, sorted.
    machine: Vec<u128>,
    pub wanted: ClockTable<u128, Wanted>,
    pub held: ClockTable<u128, Claim>,
    pub owners: ClockTable<u128, Owner>,
    /// What other shards have claimed.
    pub elsewhere: ClockTable<u128, ()>,
    /// Addresses that have been asked for often enough, and when they have had the time to answer.
    pub due: BinaryHeap<Reverse<(Instant, u128)>>,
    pub budget: Budget,
    pub full_until: Instant,
    /// The MACs of gateways: what comes from them has its source elsewhere.
    pub gateways: Vec<(Ipv4Addr, Mac)>,
    pub next_sweep: Instant,
    /// Memory for a sweep.
    pub gone: Vec<u128>,
}

impl Claims {
    /// Nothing is known yet of the addresses of one of so many replicas.
    pub(super) fn new(config: &ClaimConfig, replicas: u16, seed: u64) -> Claims {
        let share = |limit: usize| limit.div_ceil(usize::from(replicas.max(1)));
        let limit = share(config.limit as usize);
        let mut machine: Vec<u128> = config.machine.iter().map(|ip| word_of(*ip)).collect();
        machine.sort_unstable();
        let release = Duration::from_secs(u64::from(config.release_secs));
        Claims {
            after: config.after.clamp(1, ClaimConfig::MOST_REQUESTS),
            within: Duration::from_secs(u64::from(config.within_secs)),
            probe: config.probe,
            release: (release > Duration::ZERO).then_some(release),
            limit,
            machine,
            wanted: ClockTable::new(share(WANTED), seed),
            held: ClockTable::new(limit, seed),
            owners: ClockTable::new(share(OWNERS), seed),
            elsewhere: ClockTable::new(config.limit as usize, seed),
            due: BinaryHeap::new(),
            budget: Budget::new(share(BURST as usize) as u32, share(RATE as usize) as u32),
            full_until: Instant::ZERO,
            gateways: Vec::new(),
            next_sweep: Instant::ZERO,
            gone: Vec::new(),
        }
    }

    /// What is claimed here.
    pub(super) fn all(&self) -> impl Iterator<Item = (IpAddr, &Claim)> {
        self.held.iter().map(|(word, claim)| (ip_of(*word), claim))
    }

    pub(super) fn has(&self, word: u128) -> bool {
        self.held.peek(&word).is_some()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let due = self.due.peek().map(|Reverse((at, _))| *at);
        let sweep = (!self.held.is_empty()).then_some(self.next_sweep);
        due.into_iter().chain(sweep).min()
    }

    /// How often it is looked who has been silent for too long.
    pub(super) fn period(&self) -> Duration {
        let often = self.release.map_or(u64::MAX, |release| release.total_millis() / 8);
        Duration::from_millis(often.clamp(1000, 60_000))
    }

    /// Whether an address is known to be somebody else's.
    pub(super) fn is_taken(&self, word: u128, now: Instant) -> bool {
        self.machine.binary_search(&word).is_ok() || self.owners.peek(&word).is_some_and(|owner| now < owner.until)
    }

    pub(super) fn own(&mut self, word: u128, mac: Mac, until: Instant) {
        match self.owners.get(&word) {
            Some(owner) => *owner = Owner { mac, until: owner.until.max(until) },
            None => {
                self.owners.insert(word, Owner { mac, until });
            }
        }
    }
}

/// What one shard tells others of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lesson {
    Claimed,
    LetGo,
    Spoke(Mac),
}

impl Lesson {
    pub(super) fn write(self, word: u128) -> [u8; 23] {
        let (kind, mac) = match self {
            Lesson::Claimed => (0, Mac::ZERO),
            Lesson::LetGo => (1, Mac::ZERO),
            Lesson::Spoke(mac) => (2, mac),
        };
        let mut bytes = [kind; 23];
        bytes[1..7].copy_from_slice(&mac.0);
        bytes[7..].copy_from_slice(&word.to_be_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<(u128, Lesson)> {
        let word = u128::from_be_bytes(*bytes.get(7..)?.first_chunk()?);
        let lesson = match bytes.first()? {
            0 => Lesson::Claimed,
            1 => Lesson::LetGo,
            _ => Lesson::Spoke(Mac::from_slice(&bytes[1..])?),
        };
        Some((word, lesson))
    }
}
