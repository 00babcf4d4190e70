//! How many connections a second one core serves: handshake, banner and close on
//! emulated hosts, each from another address and port. No I/O: frames go into the
//! node and come out of it. Fails if it is fewer than was promised.
//!
//! The node answers everything from a seed, so that the segments of its peers are
//! recorded in one run and measured in another: what is timed is copying frames
//! into buffers, as a device does, and the node.

// What is measured is real time.
#![allow(clippy::disallowed_methods)]

#[path = "common/mod.rs"]
mod common;

use std::time::Instant as Clock;

use common::{Arrival, BANNER, BATCH, Peer, Rig, population};

/// Promised connections a second.
const PROMISED: f64 = 100_000.0;
const CONNECTIONS: usize = 200_000;

/// Has all connections take place, `open` at a time, and keeps what the peers send.
fn record(open: usize) -> Vec<Arrival> {
    let mut rig = Rig::new(population());
    let mut peers = Peer::many(CONNECTIONS, BANNER);
    let arrivals: Vec<Arrival> = peers.chunks_mut(open).flat_map(|together| rig.go(together, 0..5)).collect();
    assert_eq!((rig.told.opened, rig.told.closed), (CONNECTIONS, CONNECTIONS), "{}", rig.discarded());
    arrivals
}

fn main() {
    let mut least = f64::INFINITY;
    for open in [BATCH, 128 * BATCH] {
        let arrivals = record(open);
        let mut rates: Vec<f64> = (0..5)
            .map(|_| {
                let mut rig = Rig::new(population());
                let start = Clock::now();
                for arrival in &arrivals {
                    rig.arrive(arrival, |frame| {
                        std::hint::black_box(frame);
                    });
                }
                let rate = CONNECTIONS as f64 / start.elapsed().as_secs_f64();
                assert_eq!(rig.told.closed, CONNECTIONS);
                rate
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        let median = rates[rates.len() / 2];
        println!("{open} at a time: {median:.0} connections a second (at least {PROMISED:.0})");
        least = least.min(median);
    }
    assert!(least >= PROMISED);
}
