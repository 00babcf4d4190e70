use super::*;
use crate::frame::Pool;
use crate::node::testing::{Bench, eth};

fn bridge(ports: Vec<PortVlan>, capacity: u32) -> Bench<Bridge> {
    let count = ports.len();
    let ports = ports
        .into_iter()
        .enumerate()
        .map(|(i, vlan)| crate::node::BridgePort { name: (i + 1).to_string(), vlan })
        .collect();
    Bench::new(Bridge::new(BridgeConfig { ports, fdb_capacity: capacity, aging_secs: 300 }, 1), count)
}

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

#[test]
fn learns_and_then_forwards_to_one_port() {
    let mut bench = bridge(vec![PortVlan::Access(1); 4], 64);
    assert_eq!(bench.rx(0, &eth(B, A, 0x1234, b"one")).len(), 3);
    let out = bench.rx(2, &eth(A, B, 0x1234, b"two"));
    assert_eq!(out, vec![(PortNo(0), eth(A, B, 0x1234, b"two"))]);
    let out = bench.rx(0, &eth(B, A, 0x1234, b"three"));
    assert_eq!(out, vec![(PortNo(2), eth(B, A, 0x1234, b"three"))]);
}

#[test]
fn forgets_after_the_aging_time() {
    let mut bench = bridge(vec![PortVlan::Access(1); 3], 64);
    bench.rx(0, &eth(B, A, 0x1234, b""));
    assert_eq!(bench.rx(1, &eth(A, B, 0x1234, b"")).len(), 1);
    bench.now += Duration::from_secs(301);
    assert_eq!(bench.rx(1, &eth(A, B, 0x1234, b"")).len(), 2);
}

#[test]
fn tags_and_untags() {
    let trunk = PortVlan::Trunk { native: Some(1), allowed: vec![10, 20] };
    let mut bench = bridge(vec![PortVlan::Access(10), PortVlan::Access(20), trunk], 64);
    let out = bench.rx(0, &eth(B, A, 0x1234, b"payload"));
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].0, PortNo(2));
    assert_eq!(&out[0].1[12..18], &[0x81, 0, 0, 10, 0x12, 0x34]);
    let mut tagged = eth(A, B, 0x8100, &[0, 20, 0x12, 0x34]);
    tagged.extend_from_slice(b"answer");
    let out = bench.rx(2, &tagged);
    assert_eq!(out, vec![(PortNo(1), eth(A, B, 0x1234, b"answer"))]);
    let mut foreign = eth(A, B, 0x8100, &[0, 30, 0x12, 0x34]);
    foreign.extend_from_slice(b"answer");
    assert!(bench.rx(2, &foreign).is_empty());
    assert_eq!(bench.counters.discarded(DropReason::Vlan), 1);
}

#[test]
fn a_full_fdb_keeps_who_talks() {
    let mut bench = bridge(vec![PortVlan::Access(1); 3], 32);
    bench.rx(0, &eth(B, A, 0x1234, b""));
    for i in 0..10_000u32 {
        let [a, b, c, d] = i.to_be_bytes();
        bench.rx(1, &eth(Mac::BROADCAST, Mac([2, 9, a, b, c, d]), 0x1234, b""));
        if i % 16 == 0 {
            assert_eq!(bench.rx(2, &eth(A, B, 0x1234, b"")).len(), 1, "after {i}");
            bench.rx(0, &eth(B, A, 0x1234, b""));
        }
    }
    assert!(bench.node.fdb.len() <= 32);
}

#[test]
fn absurd_frames_are_counted_and_dropped() {
    let mut bench = bridge(vec![PortVlan::Access(1); 3], 32);
    assert!(bench.rx(0, &[1, 2, 3]).is_empty());
    assert!(bench.rx(0, &eth(B, Mac::BROADCAST, 0x1234, b"")).is_empty());
    assert!(bench.rx(0, &eth(Mac([1, 0x80, 0xc2, 0, 0, 0]), A, 0x1234, b"")).is_empty());
    assert!(bench.rx(0, &eth(B, A, 0x8100, b"")).is_empty());
    assert_eq!(bench.counters.drops.iter().sum::<u64>(), 4);
    assert_eq!(bench.pool.in_use(), 0);
    let _: &Pool = &bench.pool;
}
