//! What a population costs in memory: a /8 that nobody has spoken to, a million
//! hosts that someone has, a hundred thousand connections that are open, a million
//! that are half-open. Fails if it is more than was promised.

#[path = "common/mod.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use common::{BANNER, Peer, RELAY, Rig, population};
use honeyweave::control::build_fabric;
use honeyweave::emulate::{Identity, Secret};
use honeyweave::event::Counters;
use honeyweave::frame::{Batch, Pool, PortNo};
use honeyweave::node::{Cx, Hosts, HostsConfig, Node, NodeConfig, NodeIdx, Request, Rng, Shard, Show};
use honeyweave::relay;
use honeyweave::stack::Wake;
use honeyweave::topology::{self, Options};
use honeyweave::wire::{Headers, Instant, Mac, proto};

/// Resident memory allowed for a process with an untouched /8, in MiB.
const RESIDENT_MIB: f64 = 64.0;
/// Octets allowed for each host that was spoken to.
const PER_HOST: f64 = 256.0;
const HOSTS: u32 = 1_000_000;
/// Octets allowed for each connection that is open and idle, its session included: to a service of the data plane,
/// and to a relay, that included, too.
const PER_OPEN: f64 = 2048.0;
const PER_RELAYED: f64 = 4096.0;
const OPEN: usize = 100_000;
const RELAYED: usize = 400;
/// Octets allowed for each half-open connection.
const PER_HALF_OPEN: f64 = 160.0;
const HALF_OPEN: usize = 1_000_000;

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
    let options = Options { uplink: Some("memory".into()), ..Options::default() };
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
            shard: Shard::ALONE,
            handed: &mut Vec::new(),
        };
        node.process(&mut rx, &mut cx);
        for frame in out[0].drain(..) {
            answered += 1;
            pool.put(frame);
        }
    }
    assert_eq!(answered, HOSTS, "{:?}", counters.reasons().collect::<Vec<_>>());
}

/// Octets that are allocated for each of `count` things that `f` makes.
fn cost<T>(count: usize, f: impl FnOnce() -> T) -> (f64, T) {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let made = f();
    ((ALLOCATED.load(Ordering::Relaxed) - before) as f64 / count as f64, made)
}

/// The rig in which `peers` have gone through `stages`, and what it costs for each of them.
fn connections(mut peers: Vec<Peer>, stages: usize) -> (f64, Rig) {
    let mut rig = Rig::new(population());
    // What is kept for every node does not count.
    rig.go(&mut peers[..1], 0..stages);
    let (each, ()) = cost(peers.len() - 1, || drop(rig.go(&mut peers[1..], 0..stages)));
    (each, rig)
}

/// Idle connections with everything that a relay has for them, but for what the kernel has.
fn relayed() -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut peers = Peer::many(RELAYED, RELAY);
    let mut rig = Rig::new(population());
    runtime.block_on(async {
        let (each, programs) = cost(RELAYED, || {
            drop(rig.go(&mut peers, 0..2));
            let serve = |request| {
                let Request::Open { pipe, .. } = request else { panic!("a relay is asked for") };
                let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
                (tokio::spawn(relay::serve(pipe, ours.into())), theirs)
            };
            rig.requests.drain(..).map(serve).collect::<Vec<_>>()
        });
        tokio::task::yield_now().await;
        assert_eq!((rig.told.opened, programs.len()), (RELAYED, RELAYED));
        programs.iter().for_each(|(relay, _)| relay.abort());
        each
    })
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
    let (each, node) = cost(HOSTS as usize, || {
        let mut node = Hosts::new(config.clone(), identity.clone(), 1);
        speak_to(&config, &identity, &mut node);
        node
    });
    println!("{HOSTS} hosts spoken to: {each:.0} octets each (at most {PER_HOST})");
    drop(node);

    let (open, rig) = connections(Peer::many(OPEN, BANNER), 3);
    println!("{OPEN} open connections: {open:.0} octets each (at most {PER_OPEN})");
    assert_eq!((rig.told.opened, rig.told.closed), (OPEN, 0), "{}", rig.discarded());
    drop(rig);
    let relayed = relayed();
    println!("{RELAYED} relayed connections: {relayed:.0} octets each (at most {PER_RELAYED})");
    let (half_open, rig) = connections(Peer::many(HALF_OPEN, BANNER), 1);
    let kept = rig.node.show(Show::Flows, rig.now, usize::MAX).map_or(0, |rows| rows.len());
    println!("{HALF_OPEN} half-open connections: {half_open:.0} octets each (at most {PER_HALF_OPEN})");
    assert_eq!(kept, HALF_OPEN, "{}", rig.discarded());

    assert!(addresses >= 1 << 24 || addresses >= 16_000_000, "the campus is a /8");
    assert!(resident <= RESIDENT_MIB && each <= PER_HOST);
    assert!(open <= PER_OPEN && relayed <= PER_RELAYED && half_open <= PER_HALF_OPEN);
}
