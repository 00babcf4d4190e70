mod mirrors;
mod offloads;

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::emulate::{Identity, Secret};
use crate::netdev::Netdev;
use crate::node::testing::eth;
use crate::node::{Bridge, BridgeConfig, BridgePort, PortVlan, Route, Router, RouterConfig, RouterInterface};
use crate::wire::{Arp, Duration, Headers, Mac, Packet, ethertype, ethertype_of, proto};

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Sends back what it is given, and breaks on demand.
struct Mirror {
    break_on: u8,
}

impl Node for Mirror {
    fn process(&mut self, rx: &mut Batch, cx: &mut Cx<'_>) {
        for frame in rx.drain(..) {
            assert_ne!(frame.bytes()[0], self.break_on, "asked to break");
            let port = frame.meta.port;
            cx.send(port, frame);
        }
    }
}

fn fabric() -> Fabric {
    Fabric::new(Box::new(Vec::new()), 1, Arc::new(()))
}

fn bridge(fabric: &mut Fabric, name: &str, ports: usize) -> NodeIdx {
    let port = |_| BridgePort { name: String::new(), vlan: PortVlan::Access(1) };
    let config = BridgeConfig { ports: (0..ports).map(port).collect(), fdb_capacity: 1024, aging_secs: 300 };
    fabric.add(name, ports, Box::new(move || Box::new(Bridge::new(config.clone(), 1))))
}

fn wire(fabric: &mut Fabric, node: NodeIdx, port: u16) -> crate::netdev::Memory {
    let (inside, outside) = crate::netdev::Memory::pair(1500).unwrap();
    fabric.attach(node, Some(PortNo(port)), Box::new(inside), "wire", None);
    outside
}

/// Steps through every deadline up to `until`.
fn run(fabric: &mut Fabric, now: &mut Instant, until: Instant) {
    loop {
        while fabric.step(*now, None) {}
        match fabric.next_deadline().filter(|next| *next <= until) {
            Some(next) => *now = next.max(*now),
            None => break,
        }
    }
    *now = until;
}

#[test]
fn who_sleeps_before_an_event_is_woken_in_the_same_step() {
    use crate::event::RingSink;
    use crate::sys::ring::{RingReader, RingWriter, create};
    let fds = create(c"honeyweave-test", 4096).unwrap();
    let reader = RingReader::open(fds.try_clone().unwrap()).unwrap();
    let sink = RingSink::new(RingWriter::open(fds).unwrap());
    let mut fabric = Fabric::new(Box::new(sink), 1, Arc::new(()));
    let node = fabric.add("mirror", 1, Box::new(|| Box::new(Mirror { break_on: 0xee })));
    let woken = || crate::sys::eventfd::wait_readable(&[reader.wake_fd()], 0).unwrap();
    assert!(reader.prepare_sleep());
    fabric.step(Instant::from_secs(1), None);
    assert_eq!(woken(), 0, "nothing happened");
    fabric.inject(node, PortNo(0), &[0xee; 60]);
    fabric.step(Instant::from_secs(2), None);
    assert_eq!(woken(), 1);
}

#[test]
fn a_panic_costs_its_batch_and_nothing_else() {
    let mut fabric = fabric();
    let node = fabric.add("mirror", 1, Box::new(|| Box::new(Mirror { break_on: 0xee })));
    let wire = wire(&mut fabric, node, 0);
    let now = Instant::from_secs(1);
    wire.send(&eth(Mac([0xee; 6]), A, 0x1234, b""));
    wire.send(&eth(B, A, 0x1234, b""));
    fabric.step(now, None);
    assert_eq!(wire.recv(), None);
    assert_eq!(fabric.counters(node).discarded(DropReason::Panic), 2);
    wire.send(&eth(B, A, 0x1234, b"again"));
    fabric.step(now, None);
    assert_eq!(wire.recv(), Some(eth(B, A, 0x1234, b"again")));
    assert_eq!(fabric.frames_in_use(), 0);
}

/// Keeps what it is given, until it breaks.
struct Hoard(Vec<Frame>);

impl Node for Hoard {
    fn process(&mut self, rx: &mut Batch, cx: &mut Cx<'_>) {
        for frame in rx.drain(..) {
            match frame.bytes()[0] {
                0xee => panic!("asked to break"),
                0xdd => cx.consume(frame),
                _ => self.0.push(frame),
            }
        }
    }

    fn held(&self) -> usize {
        self.0.len()
    }
}

#[test]
fn what_a_broken_node_kept_is_not_missed() {
    let mut fabric = fabric();
    let node = fabric.add("hoard", 1, Box::new(|| Box::new(Hoard(Vec::new()))));
    let other = fabric.add("other", 1, Box::new(|| Box::new(Hoard(Vec::new()))));
    let (wire, other) = (wire(&mut fabric, node, 0), self::wire(&mut fabric, other, 0));
    let now = Instant::from_secs(1);
    for _ in 0..5 {
        wire.send(&eth(B, A, 0x1234, b"kept"));
    }
    for _ in 0..3 {
        other.send(&eth(B, A, 0x1234, b"kept elsewhere"));
    }
    fabric.step(now, None);
    assert_eq!(fabric.frames_in_use(), 8);
    for _ in 0..4 {
        wire.send(&eth(Mac([0xdd; 6]), A, 0x1234, b"done with"));
    }
    wire.send(&eth(Mac([0xee; 6]), A, 0x1234, b""));
    fabric.step(now, None);
    assert_eq!(fabric.frames_in_use(), 3);
    assert!(matches!(fabric.take_requests().as_slice(), [Request::Rebuilt { node: NodeIdx(0) }]));
}

#[test]
fn a_command_leaves_waiting_frames_alone() {
    let mut fabric = fabric();
    let node = fabric.add("mirror", 1, Box::new(|| Box::new(Mirror { break_on: 0xee })));
    let wire = wire(&mut fabric, node, 0);
    fabric.inject(node, PortNo(0), &eth(B, A, 0x1234, b"waits"));
    let now = Instant::from_secs(1);
    fabric.command(node, Command::LeaseLive { lease: crate::node::LeaseId(1) }, now);
    fabric.step(now, None);
    assert_eq!(wire.recv(), Some(eth(B, A, 0x1234, b"waits")));
}

#[test]
fn devices_come_and_go() {
    let mut fabric = fabric();
    let node = bridge(&mut fabric, "core", 8);
    let one = wire(&mut fabric, node, 0);
    let now = Instant::from_secs(1);
    one.send(&eth(B, A, 0x1234, b"nobody"));
    fabric.step(now, None);
    assert_eq!(fabric.counters(node).discarded(DropReason::LinkDown), 1);
    let (inside, two) = crate::netdev::Memory::pair(1500).unwrap();
    let port = fabric.attach(node, None, Box::new(inside), "two", None);
    assert_eq!(port, PortNo(1));
    one.send(&eth(B, A, 0x1234, b"somebody"));
    fabric.step(now, None);
    assert_eq!(two.recv(), Some(eth(B, A, 0x1234, b"somebody")));
    fabric.detach(node, port);
    one.send(&eth(B, A, 0x1234, b"gone"));
    fabric.step(now, None);
    assert_eq!(two.recv(), None);
    assert_eq!(fabric.frames_in_use(), 0);
    assert_eq!(fabric.show_devices().as_array().map(Vec::len), Some(1), "it is not missed");
}

#[test]
fn a_device_that_is_to_come_back_stays_listed_and_is_counted_on() {
    let mut fabric = fabric();
    let node = bridge(&mut fabric, "core", 8);
    let row = |fabric: &Fabric| {
        let all = fabric.show_devices();
        assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
        let state = all[0]["state"].as_str().unwrap().to_owned();
        assert_eq!(fabric.show_links()[0]["state"], state);
        (state, all[0]["rx"].as_u64().unwrap())
    };
    // It was never there.
    fabric.unplug(node, PortNo(3), "eth7", true);
    assert_eq!(row(&fabric), ("gone".into(), 0));
    for (round, gone) in [(1, false), (2, true)] {
        let (inside, wire) = crate::netdev::Memory::pair(1500).unwrap();
        fabric.attach(node, Some(PortNo(3)), Box::new(inside), "eth7", None);
        assert_eq!(row(&fabric), ("up".into(), round - 1));
        wire.send(&eth(B, A, 0x1234, b"counted"));
        fabric.step(Instant::from_secs(1), None);
        fabric.unplug(node, PortNo(3), "eth7", gone);
        assert_eq!(row(&fabric), (if gone { "gone" } else { "down" }.into(), round));
    }
    // Removed when it was down already, or replaced without having been missed.
    fabric.unplug(node, PortNo(3), "eth7", true);
    assert_eq!(row(&fabric), ("gone".into(), 2));
    for _ in 0..2 {
        let (inside, _) = crate::netdev::Memory::pair(1500).unwrap();
        fabric.attach(node, Some(PortNo(3)), Box::new(inside), "eth7", None);
        assert_eq!(row(&fabric), ("up".into(), 2));
    }
    // Another one begins anew.
    let (inside, _) = crate::netdev::Memory::pair(1500).unwrap();
    fabric.attach(node, Some(PortNo(3)), Box::new(inside), "eth8", None);
    assert_eq!(row(&fabric), ("up".into(), 0));
}

/// A device behind which nobody reads: its queue takes a few frames, and then no more.
struct Stuck {
    room: usize,
    discards: Counters,
}

impl Netdev for Stuck {
    fn rx(&mut self, _: Instant, _: &mut Pool, _: &mut Batch) -> std::io::Result<bool> {
        Ok(false)
    }

    fn tx(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let taken = batch.len().min(self.room);
        self.room -= taken;
        self.discards.drops[DropReason::TailDrop as usize] += (batch.len() - taken) as u64;
        batch.drain(..).for_each(|frame| pool.put(frame));
        taken
    }

    fn fds(&self) -> Vec<std::os::fd::BorrowedFd<'_>> {
        Vec::new()
    }

    fn caps(&self) -> crate::netdev::Caps {
        crate::netdev::Caps { mtu: 1500, offload: true }
    }

    fn kind(&self) -> &'static str {
        "stuck"
    }

    fn discards(&self) -> Option<&Counters> {
        Some(&self.discards)
    }
}

#[test]
fn a_peer_that_never_reads_costs_its_own_queue_only() {
    const STUCK: Mac = Mac([2, 0, 0, 0, 0, 3]);
    const SLOW: Mac = Mac([2, 0, 0, 0, 0, 4]);
    let mut fabric = fabric();
    let core = bridge(&mut fabric, "core", 8);
    let (a, b) = (wire(&mut fabric, core, 0), wire(&mut fabric, core, 1));
    let stuck = || Box::new(Stuck { room: 100, discards: Counters::default() });
    fabric.attach(core, Some(PortNo(2)), stuck(), "stuck", None);
    // Another one that nobody reads, behind a link with a rate and a queue of its own.
    let far = bridge(&mut fabric, "far", 2);
    let narrow = LinkConfig { rate_bytes: 100_000, queue: 50, ..LinkConfig::default() };
    fabric.link((core, PortNo(3)), (far, PortNo(0)), narrow);
    fabric.attach(far, Some(PortNo(1)), stuck(), "slow", None);
    let mut now = Instant::from_secs(1);
    // Everybody is known to the bridges.
    b.send(&eth(A, B, 0x1234, b"here"));
    for (port, mac) in [(2, STUCK), (3, SLOW)] {
        fabric.inject(core, PortNo(port), &eth(A, mac, 0x1234, b"here"));
    }
    fabric.inject(far, PortNo(1), &eth(Mac::BROADCAST, SLOW, 0x1234, b"here"));
    let until = now + Duration::from_secs(1);
    run(&mut fabric, &mut now, until);
    while a.recv().or_else(|| b.recv()).is_some() {}
    assert_eq!(fabric.show_drops(), serde_json::json!([]));
    let sent = |fabric: &Fabric| [2, 3].map(|at| fabric.show_devices()[at]["tx"].as_u64().unwrap());
    let before = sent(&fabric);
    // Two floods, and a conversation that takes the same way.
    for round in 0..2_000u32 {
        for _ in 0..5 {
            a.send(&eth(STUCK, A, 0x1234, &[0; 500]));
            a.send(&eth(SLOW, A, 0x1234, &[0; 500]));
        }
        a.send(&eth(B, A, 0x1234, &round.to_be_bytes()));
        let until = now + Duration::from_micros(100);
        run(&mut fabric, &mut now, until);
        // At once, not only in the end: each question has its answer before the next one.
        assert_eq!(b.recv(), Some(eth(B, A, 0x1234, &round.to_be_bytes())));
        b.send(&eth(A, B, 0x1234, &round.to_be_bytes()));
        run(&mut fabric, &mut now, until);
        assert_eq!(a.recv(), Some(eth(A, B, 0x1234, &round.to_be_bytes())));
        assert!(fabric.frames_in_use() <= 50, "{} frames are kept", fabric.frames_in_use());
    }
    let until = now + Duration::from_secs(1);
    run(&mut fabric, &mut now, until);
    assert_eq!(fabric.frames_in_use(), 0);
    let (drops, sent) = (fabric.show_drops(), sent(&fabric));
    let count = |node: &str| {
        let rows = drops.as_array().unwrap();
        let row = rows.iter().find(|row| row["node"] == node && row["reason"] == "tail-drop");
        row.map_or(0, |row| row["count"].as_u64().unwrap())
    };
    assert_eq!(sent[0], 100, "what there was room for");
    assert_eq!(sent[0] - before[0] + count("stuck"), 10_000, "{drops}");
    assert_eq!(sent[1] - before[1] + count("->far:"), 10_000, "{drops}");
    assert_eq!(drops.as_array().unwrap().len(), 2, "nobody else lost anything: {drops}");
}

fn router(fabric: &mut Fabric, name: &str, interfaces: &[(&str, &str)], routes: &[(&str, &str)]) -> NodeIdx {
    let interface = |(name, net): &(&str, &str)| RouterInterface {
        name: (*name).into(),
        mac: None,
        addresses: vec![net.parse().unwrap()],
        mtu: 1500,
    };
    let config = RouterConfig {
        interfaces: interfaces.iter().map(interface).collect(),
        routes: routes.iter().map(|(to, via)| Route { to: to.parse().unwrap(), via: via.parse().unwrap() }).collect(),
        oui: [0, 0, 0x0c],
        neighbor_capacity: 1024,
    };
    let identity = Identity::new(Secret([1; 16]), name);
    let ports = interfaces.len();
    fabric.add(name, ports, Box::new(move || Box::new(Router::new(config.clone(), identity.clone(), 1))))
}

/// Three routers in a chain, 5, 10 and 20 ms apart, and a wire at the first.
fn chain() -> (Fabric, crate::netdev::Memory) {
    let mut fabric = fabric();
    let r1 = router(&mut fabric, "r1", &[("w", "192.0.2.1/24"), ("e", "10.0.1.1/24")], &[("10.0.0.0/8", "10.0.1.2")]);
    let r2 = router(
        &mut fabric,
        "r2",
        &[("w", "10.0.1.2/24"), ("e", "10.0.2.1/24")],
        &[("192.0.2.0/24", "10.0.1.1"), ("10.0.3.0/24", "10.0.2.2")],
    );
    let r3 = router(&mut fabric, "r3", &[("w", "10.0.2.2/24"), ("e", "10.0.3.1/24")], &[("0.0.0.0/0", "10.0.2.1")]);
    let delay = |ms: u32| LinkConfig { delay_us: ms * 1000, ..LinkConfig::default() };
    fabric.link((r1, PortNo(1)), (r2, PortNo(0)), delay(5));
    fabric.link((r2, PortNo(1)), (r3, PortNo(0)), delay(10));
    let wire = wire(&mut fabric, r1, 0);
    (fabric, wire)
}

fn arp_for(ip: [u8; 4]) -> Vec<u8> {
    let arp = Arp {
        operation: Arp::REQUEST,
        sender_mac: A,
        sender: Ipv4Addr::new(192, 0, 2, 66),
        target_mac: Mac::ZERO,
        target: ip.into(),
    };
    let mut frame = vec![0; 42];
    arp.write(Mac::BROADCAST, A, &mut frame);
    frame
}

fn datagram(gateway: Mac, dst: [u8; 4], ttl: u8) -> Vec<u8> {
    let headers = Headers {
        dst_mac: gateway,
        src_mac: A,
        src: Ipv4Addr::new(192, 0, 2, 66).into(),
        dst: IpAddr::from(dst),
        proto: proto::UDP,
        ttl,
        tos: 0,
        ip_id: 1,
        df: false,
    };
    let l4 = [0x82, 0x9a, 0x82, 0x9b, 0, 12, 0, 0, 1, 2, 3, 4];
    let mut frame = vec![0; headers.len() + l4.len()];
    let at = headers.write(&mut frame, l4.len());
    frame[at..].copy_from_slice(&l4);
    headers.fill_checksum(&mut frame[at..]);
    frame
}

/// Source, type, code of the ICMP error that came, and when.
fn complaint(wire: &crate::netdev::Memory) -> Option<(String, u8, u8)> {
    while let Some(frame) = wire.recv() {
        if ethertype_of(&frame) == ethertype::ARP {
            continue;
        }
        let packet = Packet::parse(&frame).unwrap();
        assert!(packet.checksum_ok(&frame));
        let message = packet.payload(&frame);
        return Some((packet.src().to_string(), message[0], message[1]));
    }
    None
}

#[test]
fn traceroute_sees_the_routers_in_their_order_and_at_their_distance() {
    let (mut fabric, wire) = chain();
    let mut now = Instant::from_secs(1);
    wire.send(&arp_for([192, 0, 2, 1]));
    let until = now + Duration::from_millis(1);
    run(&mut fabric, &mut now, until);
    let gateway = Arp::parse(&wire.recv().unwrap()).unwrap().sender_mac;
    let hops = [("192.0.2.1", 0u64), ("10.0.1.2", 10), ("10.0.2.2", 30)];
    // The first round lets the routers find each other.
    for round in 0..2 {
        for (ttl, (hop, millis)) in (1u8..).zip(hops) {
            wire.send(&datagram(gateway, [10, 0, 3, 9], ttl));
            let sent = now;
            let mut came = None;
            while came.is_none() && now < sent + Duration::from_secs(1) {
                let until = now + Duration::from_micros(100);
                run(&mut fabric, &mut now, until);
                came = complaint(&wire);
            }
            assert_eq!(came, Some((hop.to_string(), 11, 0)), "ttl {ttl}");
            let took = (now - sent).total_micros();
            if round == 1 {
                assert!(took >= millis * 1000 && took <= millis * 1000 + 300, "{took} µs to {hop}");
            }
        }
    }
}

#[test]
fn what_leads_nowhere_is_complained_about() {
    let (mut fabric, wire) = chain();
    let mut now = Instant::from_secs(1);
    wire.send(&arp_for([192, 0, 2, 1]));
    let until = now + Duration::from_millis(1);
    run(&mut fabric, &mut now, until);
    let gateway = Arp::parse(&wire.recv().unwrap()).unwrap().sender_mac;
    wire.send(&datagram(gateway, [172, 16, 0, 1], 64));
    let until = now + Duration::from_millis(1);
    run(&mut fabric, &mut now, until);
    assert_eq!(complaint(&wire), Some(("192.0.2.1".into(), 3, 0)), "no route");
    // Nobody has 10.0.3.9: its router gives up after three requests.
    wire.send(&datagram(gateway, [10, 0, 3, 9], 64));
    let until = now + Duration::from_millis(2900);
    run(&mut fabric, &mut now, until);
    assert_eq!(complaint(&wire), None);
    let until = now + Duration::from_millis(300);
    run(&mut fabric, &mut now, until);
    assert_eq!(complaint(&wire), Some(("10.0.2.2".into(), 3, 1)), "host unreachable");
    assert_eq!(fabric.frames_in_use(), 0);
}

#[test]
fn one_seed_gives_one_history() {
    let history = |seed: u64| {
        let mut fabric = Fabric::new(Box::new(()), seed, Arc::new(()));
        let (a, b) = (bridge(&mut fabric, "a", 8), bridge(&mut fabric, "b", 8));
        let lossy = LinkConfig { delay_us: 1000, jitter_us: 900, loss: 0.2, rate_bytes: 200_000, queue: 20 };
        fabric.link((a, PortNo(1)), (b, PortNo(1)), lossy);
        let (left, right) = (wire(&mut fabric, a, 0), wire(&mut fabric, b, 0));
        let (mut now, mut seen) = (Instant::from_secs(1), Vec::new());
        for i in 0..500u32 {
            left.send(&eth(B, A, 0x1234, &i.to_be_bytes()));
            let until = now + Duration::from_micros(300);
            run(&mut fabric, &mut now, until);
            while let Some(frame) = right.recv() {
                seen.push((now, frame));
            }
        }
        assert!(seen.is_sorted_by(|x, y| x.1[14..18] < y.1[14..18]), "nothing overtakes, nothing comes twice");
        seen
    };
    let one = history(7);
    assert_eq!(one, history(7));
    assert_ne!(one, history(8));
    assert!((300..450).contains(&one.len()), "{}", one.len());
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever comes in: nothing panics, no frame is invented, every buffer comes back.
        #[test]
        fn frames_are_never_invented(frames in prop::collection::vec((0u16..3, prop::collection::vec(any::<u8>(), 0..80)), 0..60)) {
            let mut fabric = fabric();
            let core = bridge(&mut fabric, "core", 8);
            let wires: Vec<_> = (0..3).map(|port| wire(&mut fabric, core, port)).collect();
            let mut now = Instant::from_secs(1);
            for (port, bytes) in &frames {
                wires[usize::from(*port)].send(bytes);
                let until = now + Duration::from_micros(10);
                run(&mut fabric, &mut now, until);
                for (other, wire) in wires.iter().enumerate() {
                    let mut copies = 0;
                    while let Some(frame) = wire.recv() {
                        prop_assert_ne!(other, usize::from(*port));
                        prop_assert!(frame == *bytes || bytes.get(12..14) == Some(&[0x81, 0][..]));
                        copies += 1;
                    }
                    prop_assert!(copies <= 1);
                }
            }
            prop_assert_eq!(fabric.frames_in_use(), 0);
        }
    }
}
