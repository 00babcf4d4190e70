//! What the recorder and those who answer questions or send know together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};

use super::metrics::Metrics;
use crate::control::protocol::FIRST_TAP;
use crate::node::{NodeConfig, NodeIdx};
use crate::record::privacy::{Mask, Privacy};
use crate::record::sink::SinkStatus;
use crate::record::tape::TapeStats;
use crate::record::{CaptureSource, CaptureStats, LogStats, Summary};
use crate::topology::Plan;

/// Records that a reader of the feed may be behind.
const FEED: usize = 8192;
/// Interfaces that are known by number; those of the oldest containers are forgotten.
const INTERFACES: usize = 16_384;

/// What the thread shares with those who answer questions.
pub struct Shared {
    summary: Mutex<Summary>,
    pub(super) stats: Mutex<(LogStats, CaptureStats)>,
    pub(super) interfaces: Mutex<BTreeMap<u32, Arc<CaptureSource>>>,
    pub(super) nodes: Vec<String>,
    pub(super) feed: broadcast::Sender<Arc<str>>,
    /// The newest record.
    newest: watch::Sender<u64>,
    sinks: Mutex<Vec<SinkStatus>>,
    /// Another console was there before this one.
    follows: AtomicBool,
    /// Why less is recorded of connections than should be.
    recordings_error: Mutex<Option<String>>,
    /// The figures for Prometheus.
    pub metrics: Metrics,
    pub(super) privacy: Privacy,
    /// The only one there is, of which everybody has a clone: what the recorder learns of leases all of them know.
    pub(super) mask: Mask,
}

/// Whoever panicked while it had it has left nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Nothing has happened yet.
    pub fn new(plan: &Plan) -> Shared {
        let nodes: Vec<String> = plan.nodes.iter().map(|node| node.name.clone()).collect();
        let interfaces = plan.nodes.iter().enumerate().filter_map(|(index, node)| match &node.config {
            NodeConfig::Uplink(uplink) => Some((index as u32, source("uplink", &node.name, &uplink.interface))),
            NodeConfig::Tap(tap) => Some((index as u32, source("tap", &node.name, &tap.interface))),
            _ => None,
        });
        Shared {
            summary: Mutex::default(),
            stats: Mutex::default(),
            interfaces: Mutex::new(interfaces.collect()),
            metrics: Metrics::new(nodes.clone()),
            privacy: plan.privacy,
            mask: Mask::new(plan.privacy, plan.addresses()),
            nodes,
            feed: broadcast::channel(FEED).0,
            newest: watch::Sender::new(0),
            sinks: Mutex::default(),
            follows: AtomicBool::new(false),
            recordings_error: Mutex::default(),
        }
    }

    /// The figures.
    pub fn summary(&self) -> MutexGuard<'_, Summary> {
        lock(&self.summary)
    }

    /// How log and captures are doing.
    pub fn stats(&self) -> (LogStats, CaptureStats) {
        lock(&self.stats).clone()
    }

    /// Records from now on, each as a line without its line feed.
    pub fn feed(&self) -> broadcast::Receiver<Arc<str>> {
        self.feed.subscribe()
    }

    /// The number of the newest record of the log, as it grows.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Learns the number of the newest record.
    pub fn grown(&self, newest: u64) {
        self.newest.send_if_modified(|known| std::mem::replace(known, newest) != newest);
    }

    /// Learns that this console is not the first one.
    pub fn follow(&self) {
        self.follows.store(true, Ordering::Relaxed);
    }

    /// Whether another one was there before it, which has counted what happened until then.
    pub fn follows(&self) -> bool {
        self.follows.load(Ordering::Relaxed)
    }

    /// Why less is recorded of connections than should be, if that is so.
    pub fn recordings_error(&self) -> Option<String> {
        lock(&self.recordings_error).clone()
    }

    /// Learns how recordings of connections are doing.
    pub fn recordings(&self, stats: TapeStats) {
        self.metrics.tapes(&stats);
        *lock(&self.recordings_error) = stats.failing;
    }

    /// How each sink is doing.
    pub fn sinks(&self) -> Vec<SinkStatus> {
        lock(&self.sinks).clone()
    }

    /// Learns how one of them is doing.
    pub fn sink(&self, status: SinkStatus) {
        let mut sinks = lock(&self.sinks);
        match sinks.iter_mut().find(|known| known.sink == status.sink) {
            Some(known) => *known = status,
            None => sinks.push(status),
        }
    }

    /// Learns that the frames of the container of `host` carry `number` in the capture ring.
    pub fn interface(&self, number: u32, node: NodeIdx, host: IpAddr) {
        if number < FIRST_TAP {
            return;
        }
        let name = self.nodes.get(usize::from(node.0)).map_or("unknown", String::as_str);
        let source = CaptureSource {
            series: format!("{name}-{}", host.to_string().replace(':', "-")),
            interface: host.to_string(),
            about: format!("container of {host} on node {name}"),
        };
        let mut interfaces = lock(&self.interfaces);
        interfaces.insert(number, Arc::new(source));
        if interfaces.len() > INTERFACES
            && let Some(oldest) = interfaces.range(FIRST_TAP..).next().map(|(number, _)| *number)
        {
            interfaces.remove(&oldest);
        }
    }
}

fn source(kind: &str, node: &str, interface: &str) -> Arc<CaptureSource> {
    let about = format!("{kind} {node}");
    Arc::new(CaptureSource { series: node.to_owned(), interface: interface.to_owned(), about })
}
