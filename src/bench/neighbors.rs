//! Which MAC belongs to whom, asked before anything is measured.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::BenchError;
use super::arp::Ask;
use super::drive::{Lane, Phase, Watch, drive};
use super::options::Load;
use super::station::Station;
use super::tally::Tally;
use super::targets::{Aim, Entry, Targets};
use crate::wire::{Mac, word_of};

/// Questions a second at most: each one interrupts everybody on the link.
const RATE: u64 = 50_000;
/// How often somebody who does not answer is asked.
const TIMES: usize = 3;

/// Who has answered, in the order of their offsets, and whether asking was interrupted.
pub struct Learned {
    /// Offsets and MACs.
    pub entries: Vec<Entry>,
    /// Whether asking was ended before its time.
    pub interrupted: bool,
}

/// Asks everybody in `prefix` but the station's own addresses, at the rate of `load` or a moderate one.
///
/// # Errors
/// If an interface fails.
pub fn learn(
    lane: &mut Lane,
    station: &Station,
    prefix: IpNet,
    load: &Load,
    watch: &mut dyn Watch,
) -> Result<Learned, BenchError> {
    let base = word_of(prefix.network());
    let mut targets = Targets::all(prefix, &station.sources, Mac::ZERO);
    let mut learned = Learned { entries: Vec::new(), interrupted: false };
    for _ in 0..TIMES {
        let count = targets.len();
        if count == 0 || learned.interrupted {
            break;
        }
        let offsets: Vec<u32> = (0..count).map(|at| targets.get(at).1).collect();
        let mut ask = Ask::learning(station.clone(), Aim::new(targets, station.sources.clone()));
        let mut tally = Tally::new(count, count);
        let rate = Some(load.rate.map_or(RATE, |rate| rate.min(RATE)));
        let once = Load { rate, count: Some(count), duration: Duration::MAX, wait: load.wait, spin: false };
        let run = drive(lane, &once, Phase::Learning, &mut ask, &mut tally, watch)?;
        learned.interrupted = run.interrupted;
        learned.entries.extend(ask.learned());
        learned.entries.sort_unstable_by_key(|entry| entry.0);
        let known = |offset: u32| learned.entries.binary_search_by_key(&offset, |entry| entry.0).is_ok();
        let silent = offsets.into_iter().filter(|offset| !known(*offset)).map(|offset| (offset, Mac::ZERO));
        targets = Targets::Some { base, entries: silent.collect() };
    }
    Ok(learned)
}

/// Asks for one MAC.
///
/// # Errors
/// If nobody answers, or an interface fails.
pub fn resolve(
    lane: &mut Lane,
    station: &Station,
    ip: IpAddr,
    load: &Load,
    watch: &mut dyn Watch,
) -> Result<Mac, BenchError> {
    let learned = learn(lane, station, IpNet::from(ip), load, watch)?;
    match learned.entries.first() {
        Some((_, mac)) => Ok(*mac),
        None if learned.interrupted => Err(BenchError::Interrupted),
        None => Err(BenchError::SilentRouter(ip)),
    }
}
