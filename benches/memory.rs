//! What a population costs in memory: a /8 that nobody has spoken to, and a
//! million hosts that someone has. Fails if it is more than was promised.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use honeyweave::control::build_fabric;
use honeyweave::emulate::{Identity, Secret};
use honeyweave::event::Counters;
use honeyweave::frame::{Batch, Pool, PortNo};
use honeyweave::node::{Cx, Hosts, HostsConfig, Node, NodeConfig, NodeIdx, Rng};
use honeyweave::stack::Wake;
use honeyweave::topology::{self, Options};
use honeyweave::wire::{Headers, Instant, Mac, proto};

/// Resident memory allowed for a process with an untouched /8, in MiB.
const RESIDENT_MIB: f64 = 64.0;
/// Octets allowed for each host that was spoken to.
const PER_HOST: f64 = 256.0;
const HOSTS: u32 = 1_000_000;

/// Counts the octets that are allocated at the moment.
struct Counting;

static ALLOCATED: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number of KiB") / 1024.0
}

/// The largest population of `topologies/campus.yaml`.
fn campus() -> (topology::Plan, HostsConfig) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/campus.yaml");
    let text = std::fs::read_to_string(path).expect("it is part of the repository");
    let options = Options { uplink: Some("memory".into()) };
    let plan = topology::parse_with(path, &text, &options).expect("it is checked by a test");
    let largest = plan
        .nodes
        .iter()
        .filter_map(|node| match &node.config {
            NodeConfig::Hosts(config) => Some(config.clone()),
            _ => None,
        })
        .max_by_key(|config| config.ranges.iter().map(|range| range.len()).sum::<u64>());
    (plan, largest.expect("it has a population"))
}

fn speak_to(config: &HostsConfig, identity: &Identity, node: &mut Hosts) {
    let waker: Arc<dyn Wake> = Arc::new(());
    let (mut pool, mut counters, mut rng) = (Pool::new(64), Counters::default(), Rng::new(1));
    let mut out = [Batch::with_capacity(64)];
    let mut rx = Batch::with_capacity(64);
    let first = match config.ranges[0].first {
        std::net::IpAddr::V4(ip) => u32::from(ip),
        std::net::IpAddr::V6(_) => unreachable!("the campus is IPv4"),
    };
    let mut answered = 0;
    for i in 0..HOSTS {
        let dst = (first + i).to_be_bytes().into();
        let headers = Headers {
            dst_mac: config.mac_of(identity, dst).expect("one of ours"),
            src_mac: Mac([2, 0, 0, 0, 0, 1]),
            src: [192, 0, 2, 66].into(),
            dst,
            proto: proto::ICMP,
            ttl: 64,
            tos: 0,
            ip_id: 1,
            df: false,
        };
        let mut frame = [0; 50];
        let at = headers.write(&mut frame, 16);
        frame[at] = 8;
        headers.fill_checksum(&mut frame[at..]);
        let mut frame = pool.copy_of(&frame).expect("a buffer");
        frame.meta.port = PortNo(0);
        rx.push(frame);
        let mut cx = Cx {
            now: Instant::from_secs(1000),
            pool: &mut pool,
            counters: &mut counters,
            out: &mut out,
            linked: &[true],
            sink: &mut (),
            requests: &mut Vec::new(),
            rng: &mut rng,
            waker: &waker,
            node: NodeIdx(0),
        };
        node.process(&mut rx, &mut cx);
        for frame in out[0].drain(..) {
            answered += 1;
            pool.put(frame);
        }
    }
    assert_eq!(answered, HOSTS, "{:?}", counters.reasons().collect::<Vec<_>>());
}

fn main() {
    let (plan, mut config) = campus();
    let addresses: u64 = config.ranges.iter().map(|range| range.len()).sum();
    let fabric = build_fabric(&plan, Secret([1; 16]), 1, Box::new(()));
    let resident = resident_mib();
    println!("{addresses} addresses, nobody spoken to: {resident:.1} MiB resident (at most {RESIDENT_MIB})");
    drop(fabric);

    config.limits.sessions = HOSTS;
    let identity = Identity::new(Secret([1; 16]), "campus");
    let before = ALLOCATED.load(Ordering::Relaxed);
    let mut node = Hosts::new(config.clone(), identity.clone(), 1);
    speak_to(&config, &identity, &mut node);
    let each = (ALLOCATED.load(Ordering::Relaxed) - before) as f64 / f64::from(HOSTS);
    println!("{HOSTS} hosts spoken to: {each:.0} octets each (at most {PER_HOST})");
    assert!(addresses >= 1 << 24 || addresses >= 16_000_000, "the campus is a /8");
    assert!(resident <= RESIDENT_MIB && each <= PER_HOST);
}
