//! What one frame costs in each node, and that it costs no allocation.
//!
//! 65,536 distinct frames to random destinations, in batches of 64. The time
//! includes copying the frame into a buffer, as a device does, and giving the
//! buffer back. Every answer is verified once before anything is measured.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use honeyweave::emulate::{
    Builtin, Fingerprint, IdPattern, Identity, Interned, IsnPattern, Outward, Personality, Secret, Sequence, TcpPort,
    Template, UdpPort,
};
use honeyweave::event::Counters;
use honeyweave::frame::{Batch, Pool, PortNo};
use honeyweave::node::{
    AddrRange, Bridge, BridgeConfig, BridgePort, Cx, Hosts, HostsConfig, Limits, MacMode, Node, NodeIdx, PortVlan, Rng,
    Router, RouterConfig, RouterInterface, Segment, Shard,
};
use honeyweave::stack::Wake;
use honeyweave::wire::{self, Arp, Headers, Instant, Mac, Packet, TcpHeader, flag, proto};

/// Counts what is allocated.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FRAMES: usize = 65_536;
const BATCH: usize = 64;
/// A 64-octet frame without its FCS.
const LEN: usize = 60;

/// A node, the frames that it is given, and everything it needs to work.
struct Rig<N> {
    node: N,
    /// One after the other, as in the ring of a device.
    frames: Vec<[u8; 64]>,
    /// Where they come in.
    port: PortNo,
    at: usize,
    now: Instant,
    pool: Pool,
    counters: Counters,
    out: Vec<Batch>,
    linked: Vec<bool>,
    rx: Batch,
    rng: Rng,
    waker: Arc<dyn Wake>,
}

impl<N: Node> Rig<N> {
    fn new(node: N, ports: usize) -> Rig<N> {
        Rig {
            node,
            frames: Vec::new(),
            port: PortNo(0),
            at: 0,
            now: Instant::from_secs(1000),
            pool: Pool::new(4096),
            counters: Counters::default(),
            out: (0..ports).map(|_| Batch::with_capacity(BATCH)).collect(),
            linked: vec![true; ports],
            rx: Batch::with_capacity(BATCH),
            rng: Rng::new(1),
            waker: Arc::new(()),
        }
    }

    /// From now on `frames` come in by `port`.
    fn receives(&mut self, port: u16, frames: impl Iterator<Item = Vec<u8>>) {
        let aligned = |frame: Vec<u8>| {
            let mut slot = [0; 64];
            assert!(frame.len() <= LEN, "{} octets", frame.len());
            slot[..frame.len()].copy_from_slice(&frame);
            slot
        };
        (self.port, self.at, self.frames) = (PortNo(port), 0, frames.map(aligned).collect());
    }

    /// One batch; returns how many frames came out.
    #[inline]
    fn batch(&mut self, mut look: impl FnMut(&[u8], &[u8])) -> usize {
        let start = self.at;
        for bytes in &self.frames[start..start + BATCH] {
            if let Some(mut frame) = self.pool.copy_of(&bytes[..LEN]) {
                frame.meta.port = self.port;
                self.rx.push(frame);
            }
        }
        self.at = (start + BATCH) % self.frames.len();
        self.now += wire::Duration::from_micros(20);
        let mut cx = Cx {
            now: self.now,
            pool: &mut self.pool,
            counters: &mut self.counters,
            out: &mut self.out,
            linked: &self.linked,
            sink: &mut (),
            requests: &mut Vec::new(),
            rng: &mut self.rng,
            waker: &self.waker,
            node: NodeIdx(0),
            shard: Shard::ALONE,
            handed: &mut Vec::new(),
        };
        self.node.process(&mut self.rx, &mut cx);
        self.node.tick(&mut cx);
        let mut sent = 0;
        for batch in &mut self.out {
            for frame in batch.drain(..) {
                look(&self.frames[start + sent][..LEN], frame.bytes());
                sent += 1;
                self.pool.put(frame);
            }
        }
        sent
    }
}

/// Verifies every answer, then asserts that a full round allocates nothing, then measures.
fn measure<N: Node>(c: &mut Criterion, name: &str, mut rig: Rig<N>, verify: impl Fn(&[u8], &[u8])) {
    // Tables fill and grow to their caps first.
    for _ in 0..8 * FRAMES / BATCH {
        let sent = rig.batch(&verify);
        assert_eq!(sent, BATCH, "{name}: {:?}", rig.counters.reasons().collect::<Vec<_>>());
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..4 * FRAMES / BATCH {
        rig.batch(|_, _| ());
    }
    let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(allocated, 0, "{name}: {allocated} allocations in {} frames", 4 * FRAMES);
    let mut group = c.benchmark_group("frame");
    // One iteration is one frame: batches are spread over as many as were asked for.
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(3));
    group.bench_function(name, |b| {
        b.iter_custom(|iterations| {
            let batches = iterations.div_ceil(BATCH as u64);
            let start = clock();
            for _ in 0..batches {
                black_box(rig.batch(|_, frame| {
                    black_box(frame);
                }));
            }
            start.elapsed().mul_f64(iterations as f64 / (batches * BATCH as u64) as f64)
        });
    });
    group.finish();
}

#[allow(clippy::disallowed_methods)]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

fn random_mac(rng: &mut Rng) -> Mac {
    let [a, b, c, d, e, ..] = rng.next_u64().to_be_bytes();
    Mac([2, a, b, c, d, e])
}

fn bridge(c: &mut Criterion) {
    let ports = ["1", "2"].map(|name| BridgePort { name: name.into(), vlan: PortVlan::Access(1) });
    let config = BridgeConfig { ports: ports.into(), fdb_capacity: 8192, aging_secs: 300 };
    let mut rng = Rng::new(3);
    let macs: Vec<Mac> = (0..FRAMES).map(|_| random_mac(&mut rng)).collect();
    // Eight times as many sources as the FDB holds; the destinations are behind the other port.
    let frames = (0..FRAMES).map(|i| {
        let to = random_mac(&mut rng);
        let mut frame = vec![0; LEN];
        wire::set_macs(&mut frame, to, macs[i]);
        frame[12] = 0x12;
        frame[20..24].copy_from_slice(&(i as u32).to_be_bytes());
        frame
    });
    let mut rig = Rig::new(Bridge::new(config.clone(), 1), 2);
    rig.receives(0, frames);
    measure(c, "bridge, FDB overflowing", rig, |asked, sent| assert_eq!(asked, sent));

    // The same with destinations that are known: 8,192 of them behind port 2.
    let mut rig = Rig::new(Bridge::new(config, 1), 2);
    let teach = |mac: &Mac| {
        let mut frame = vec![0; LEN];
        wire::set_macs(&mut frame, Mac([2, 0, 0, 0, 0, 9]), *mac);
        frame
    };
    rig.receives(1, macs[..8128].iter().map(teach));
    for _ in 0..8128 / BATCH {
        rig.batch(|_, _| ());
    }
    let send = |i| {
        let mut frame = vec![0; LEN];
        wire::set_macs(&mut frame, macs[rng.next_u32() as usize % 8128], Mac([2, 0, 0, 0, 0, i as u8 & 31]));
        frame[20..24].copy_from_slice(&(i as u32).to_be_bytes());
        frame
    };
    rig.receives(0, (0..FRAMES).map(send));
    measure(c, "bridge, 8,192 known", rig, |asked, sent| assert_eq!(asked, sent));
}

fn packet(dst_mac: Mac, dst: u32, protocol: u8, l4: &[u8]) -> Vec<u8> {
    let headers = Headers {
        dst_mac,
        src_mac: Mac([2, 0xaa, 0, 0, 0, 1]),
        src: [192, 0, 2, 66].into(),
        dst: dst.to_be_bytes().into(),
        proto: protocol,
        ttl: 64,
        tos: 0,
        ip_id: dst as u16,
        df: true,
    };
    let mut frame = vec![0; headers.len() + l4.len()];
    let at = headers.write(&mut frame, l4.len());
    frame[at..].copy_from_slice(l4);
    headers.fill_checksum(&mut frame[at..]);
    frame
}

fn router(c: &mut Criterion) {
    let interface = |name: &str, net: &str| RouterInterface {
        name: name.into(),
        mac: None,
        addresses: vec![net.parse().expect("a prefix")],
        mtu: 1500,
    };
    let config = RouterConfig {
        interfaces: vec![interface("wan", "192.0.2.1/24"), interface("lan", "10.0.0.1/8")],
        routes: vec![],
        oui: [0, 0, 0x0c],
        neighbor_capacity: 131_072,
    };
    let identity = Identity::new(Secret([1; 16]), "router");
    let wan = Router::mac(&config, &identity, 0).expect("an interface");
    let lan = Router::mac(&config, &identity, 1).expect("an interface");
    let mut rng = Rng::new(4);
    let host = |i: u32| 0x0a01_0000 | i;
    let macs: Vec<Mac> = (0..FRAMES).map(|_| random_mac(&mut rng)).collect();
    // Every neighbor makes itself known by asking for the router.
    let ask = |i: usize| {
        let arp = Arp {
            operation: Arp::REQUEST,
            sender_mac: macs[i],
            sender: host(i as u32).into(),
            target_mac: Mac::ZERO,
            target: [10, 0, 0, 1].into(),
        };
        let mut frame = vec![0; LEN];
        arp.write(Mac::BROADCAST, macs[i], &mut frame);
        frame
    };
    let mut rig = Rig::new(Router::new(config, identity, 1), 2);
    rig.receives(1, (0..FRAMES).map(ask));
    for _ in 0..FRAMES / BATCH {
        rig.batch(|_, _| ());
    }
    let forward = |_| {
        let to = rng.next_u32() as usize % FRAMES;
        packet(wan, host(to as u32), proto::UDP, &[0, 7, 0, 9, 0, 10, 0, 0, 1, 2])
    };
    rig.receives(0, (0..FRAMES).map(forward));
    measure(c, "router hop", rig, |asked, sent| {
        let (before, after) = (Packet::parse(asked).expect("ours"), Packet::parse(sent).expect("a valid packet"));
        assert_eq!(
            (after.ttl, after.dst(), after.payload(sent)),
            (before.ttl - 1, before.dst(), before.payload(asked))
        );
        assert_eq!(wire::src_mac(sent), lan);
    });
}

/// Linux, with answers to OS detection that no packet of the bench asks for: what it costs everybody else to look.
fn fingerprinted() -> Interned {
    let seq = Sequence {
        isn: IsnPattern::Constant(1),
        ti: IdPattern::Zero,
        ci: IdPattern::Zero,
        ii: IdPattern::Zero,
        ii_shares_ti: false,
        ts_hz: 0,
    };
    let none = || [None, None, None];
    let fingerprint =
        Fingerprint { seq, syn: None, t1: None, ecn: None, open: none(), closed: none(), udp: None, echo: None };
    let personality = Personality { fingerprint: Some(Box::new(fingerprint)), ..Builtin::Linux.get().clone() };
    Interned::new(personality)
}

fn population(personality: Interned) -> HostsConfig {
    let template = Template {
        name: "server".into(),
        personality,
        oui: [0, 0x0c, 0x29],
        tcp: [(22, TcpPort::Filtered)].into(),
        tcp_default: TcpPort::Closed,
        udp: Default::default(),
        udp_default: UdpPort::Closed,
        normalize: Default::default(),
        ping: true,
        backend: None,
        outward: Outward::Reflect,
        gate: Default::default(),
        cases: vec![],
        talk: Default::default(),
    };
    HostsConfig {
        ranges: vec![AddrRange { first: [10, 0, 0, 0].into(), last: [10, 255, 255, 255].into() }],
        single: false,
        hostname: None,
        mix: vec![(0, 70), (1, 30)],
        templates: vec![template.clone(), template],
        services: vec![],
        mac_mode: MacMode::PerHost,
        mac: None,
        segment: Segment::default(),
        claim: None,
        dhcp: None,
        inside: vec![],
        response_time: honeyweave::node::ResponseTime::None,
        // Half as many sessions as destinations: every other frame evicts one.
        limits: Limits { sessions: 32_768, ..Limits::default() },
    }
}

fn hosts(c: &mut Criterion) {
    let identity = Identity::new(Secret([1; 16]), "hosts");
    let all = [
        (Builtin::Linux.into(), "linux"),
        (Builtin::Windows.into(), "windows"),
        (fingerprinted(), "linux, fingerprinted"),
    ];
    for (personality, label) in all {
        let config = population(personality);
        let rig = |l4: &mut dyn FnMut(u32, Mac, &mut Rng) -> Vec<u8>| {
            let mut rng = Rng::new(5);
            let frames = (0..FRAMES).map(|_| {
                let ip = 0x0a00_0000 | (rng.next_u32() >> 8);
                let mac = config.mac_of(&identity, ip.to_be_bytes().into()).expect("one of ours");
                l4(ip, mac, &mut rng)
            });
            let mut rig = Rig::new(Hosts::new(config.clone(), identity.clone(), 1), 1);
            rig.receives(0, frames);
            rig
        };
        let echo = rig(&mut |ip, mac, rng| {
            let [a, b, ..] = rng.next_u64().to_be_bytes();
            packet(mac, ip, proto::ICMP, &[8, 0, 0, 0, a, b, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8])
        });
        measure(c, &format!("echo reply, {label}"), echo, |asked, sent| {
            let (question, answer) = (Packet::parse(asked).expect("ours"), Packet::parse(sent).expect("valid"));
            assert!(answer.checksum_ok(sent) && answer.src() == question.dst() && answer.dst() == question.src());
            assert_eq!(answer.payload(sent)[0], 0);
            assert_eq!(answer.payload(sent)[4..], question.payload(asked)[4..]);
        });
        let rst = rig(&mut |ip, mac, rng| {
            let mut syn = vec![0; 20];
            syn[..2].copy_from_slice(&(1024 + (rng.next_u32() as u16 >> 1)).to_be_bytes());
            syn[2..4].copy_from_slice(&(1000 + (rng.next_u32() as u16 >> 2)).to_be_bytes());
            syn[4..8].copy_from_slice(&rng.next_u32().to_be_bytes());
            syn[12] = 0x50;
            syn[13] = flag::SYN;
            packet(mac, ip, proto::TCP, &syn)
        });
        measure(c, &format!("RST, {label}"), rst, |asked, sent| {
            let (question, answer) = (Packet::parse(asked).expect("ours"), Packet::parse(sent).expect("valid"));
            assert!(answer.checksum_ok(sent) && answer.src() == question.dst());
            let (syn, rst) = (TcpHeader::parse(question.payload(asked)), TcpHeader::parse(answer.payload(sent)));
            let (syn, rst) = (syn.expect("ours"), rst.expect("a TCP header"));
            assert_eq!((rst.flags, rst.ack), (flag::RST | flag::ACK, syn.seq.wrapping_add(1)));
        });
        let arp = rig(&mut |ip, _, _| {
            let sender_mac = Mac([2, 0xaa, 0, 0, 0, 1]);
            let arp = Arp {
                operation: Arp::REQUEST,
                sender_mac,
                sender: [192, 0, 2, 66].into(),
                target_mac: Mac::ZERO,
                target: ip.into(),
            };
            let mut frame = vec![0; LEN];
            arp.write(Mac::BROADCAST, sender_mac, &mut frame);
            frame
        });
        measure(c, &format!("ARP reply, {label}"), arp, |asked, sent| {
            let (question, answer) = (Arp::parse(asked).expect("ours"), Arp::parse(sent).expect("an ARP message"));
            assert_eq!((answer.operation, answer.sender), (Arp::REPLY, question.target));
        });
    }
}

criterion_group!(benches, bridge, router, hosts);
criterion_main!(benches);
