use super::rewrite_tests::{SYN, bench_of, open_lease};
use super::tests::{HOST_IP, config, mac_of, tcp_of};
use super::*;
use crate::emulate::{Normalize, Secret};
use crate::frame::PortNo;
use crate::node::Shard;
use crate::node::testing::Bench;
use crate::stack::timestamp;
use crate::wire::{Duration, Headers, Segment as TcpSegment, TcpOptions, be32, flag};

/// A neighbor on the same node; its port 21 is open, 81 is closed.
const NEIGHBOR: &str = "10.0.1.8";

fn headers(bench: &Bench<Hosts>, proto: u8) -> Headers {
    Headers {
        dst_mac: mac_of(bench, NEIGHBOR),
        src_mac: mac_of(bench, HOST_IP),
        src: HOST_IP.parse().unwrap(),
        dst: NEIGHBOR.parse().unwrap(),
        proto,
        ttl: 64,
        tos: 0,
        ip_id: 0x1234,
        df: true,
    }
}

/// A segment of the container's to the neighbor.
fn segment(
    bench: &Bench<Hosts>,
    dst: u16,
    (seq, ack, flags): (u32, u32, u8),
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let segment = TcpSegment { src: 50_000, dst, seq, ack, flags, window: 500, options, payload };
    let headers = headers(bench, proto::TCP);
    let mut frame = vec![0; headers.len() + segment.len()];
    segment.write(&headers, &mut frame);
    frame
}

/// The segments that the container gets in answer.
fn answers(sent: &[(PortNo, Vec<u8>)]) -> Vec<(crate::wire::TcpHeader, TcpOptions, Vec<u8>)> {
    let answer = |(port, frame): &(PortNo, Vec<u8>)| {
        assert_eq!(*port, PortNo(1));
        let (packet, tcp, payload) = tcp_of(frame);
        (tcp, TcpOptions::parse(&packet.payload(frame)[20..tcp.len]), payload)
    };
    sent.iter().map(answer).collect()
}

fn key(l4_port: u16) -> FlowKey {
    FlowKey {
        local: NEIGHBOR.parse().unwrap(),
        remote: HOST_IP.parse().unwrap(),
        local_port: l4_port,
        remote_port: 50_000,
    }
}

/// What a host of `system` would begin that connection with.
fn own_isn(bench: &Bench<Hosts>, l4_port: u16) -> u32 {
    let FlowKey { local, remote, local_port, remote_port } = key(l4_port);
    let own = FlowKey { local: remote, remote: local, local_port: remote_port, remote_port: local_port };
    let clock = (bench.now.total_micros() / 4) as u32;
    bench.node.identity.isn(own.local, own.local_port, own.remote, own.remote_port).wrapping_add(clock)
}

#[test]
fn a_neighbor_sees_the_hosts_numbers_and_clock_and_the_container_its_own() {
    let mut bench = bench_of(Builtin::Linux26, Normalize::default());
    let isn = own_isn(&bench, 21);
    let syn = segment(&bench, 21, (700, 0, flag::SYN), &SYN, b"");
    let sent = bench.rx(1, &syn);
    let [(syn_ack, options, _)] = &answers(&sent)[..] else { panic!("{sent:?}") };
    assert_eq!((syn_ack.flags, syn_ack.ack), (flag::SYN | flag::ACK, 701));
    let (theirs, echoed) = options.timestamps.unwrap();
    assert_eq!(echoed, 5000, "the container's clock");
    let half = bench.node.half_open.get(&key(21), bench.now).copied().unwrap();
    assert_eq!(half.peer_isn, isn);
    assert_ne!(half.peer_isn, 700);
    // Ten seconds later its clock shows 15,000, and the host's 2,500 ticks more.
    bench.now += Duration::from_secs(10);
    let mut stamps = [1, 1, 8, 10, 0, 0, 0x3a, 0x98, 0, 0, 0, 0];
    stamps[8..].copy_from_slice(&theirs.to_be_bytes());
    let ack = segment(&bench, 21, (701, syn_ack.seq.wrapping_add(1), flag::ACK), &stamps, b"");
    let said = answers(&bench.rx(1, &ack));
    let (banner, options, payload) = said.last().unwrap();
    assert_eq!((banner.ack, &payload[..]), (701, &b"220 ready\r\n"[..]));
    assert_eq!(options.timestamps.unwrap().1, 15_000);
    let index = bench.node.flows.find(&key(21)).unwrap();
    let personality = Builtin::Linux26.get();
    let outward = FlowKey { local: key(21).remote, remote: key(21).local, local_port: 50_000, remote_port: 21 };
    let clock = timestamp(bench.node.ts_offset(personality, &outward), personality.ts_hz, bench.now);
    assert_eq!(bench.node.flows.slab.get_mut(index).unwrap().wire.ts.map(|(_, recent)| recent), Some(clock));
    // What the node says by itself later is changed back, too.
    let until = bench.now + Duration::from_secs(40);
    let later = answers(&bench.run_until(until));
    assert!(later.iter().any(|(tcp, ..)| tcp.flags & flag::FIN != 0), "{later:?}");
    assert!(later.iter().all(|(tcp, ..)| tcp.ack == 701), "{later:?}");
}

#[test]
fn refusals_are_of_what_the_container_sent() {
    let mut bench = bench_of(Builtin::Windows, Normalize::default());
    let syn = segment(&bench, 81, (700, 0, flag::SYN), &SYN, b"");
    let sent = bench.rx(1, &syn);
    let [(rst, ..)] = &answers(&sent)[..] else { panic!("{sent:?}") };
    assert_eq!((rst.flags, rst.ack), (flag::RST | flag::ACK, 701));
    let mut frame = vec![0; 80];
    let len = headers(&bench, proto::UDP).write_udp((40_000, 99), b"hello", &mut frame);
    let sent = bench.rx(1, &frame[..len]);
    let [(PortNo(1), error)] = &sent[..] else { panic!("{sent:?}") };
    let packet = Packet::parse(error).unwrap();
    assert!(packet.checksum_ok(error));
    let quoted = &packet.payload(error)[8..];
    assert_eq!((be16(quoted, 4), crate::wire::checksum::of(&quoted[..20])), (0x1234, 0));
    // The peer of an attacker's connection into the container is no neighbor: nothing of it is changed.
    assert!(bench.node.rewritten.beside);
}

#[test]
fn a_neighbor_whom_another_shard_keeps_sees_the_same() {
    let mut shards = [0, 1].map(|index| {
        let identity = Identity::new(Secret([3; 16]), "hosts");
        let together = Together { replicas: 2, ..Together::default() };
        let mut bench = Bench::new(Hosts::replica(config(), identity, 5, together), 2);
        bench.shard = Shard { index, count: 2 };
        bench.with(|node, cx| node.tick(cx));
        bench
    });
    let owner = |ip: &str| Shard { index: 0, count: 2 }.owner_of(word_of(ip.parse().unwrap()));
    let (own, other) = (usize::from(owner(HOST_IP)), usize::from(owner(NEIGHBOR)));
    assert_ne!(own, other, "the test is about two shards");
    open_lease(&mut shards[own]);
    let syn = segment(&shards[own], 21, (700, 0, flag::SYN), &SYN, b"");
    let isn = own_isn(&shards[own], 21);
    let mut sent = shards[own].rx(1, &syn);
    for at in [own, other] {
        for (to, frame) in std::mem::take(&mut shards[at].handed) {
            assert_ne!(usize::from(to), at);
            let (bytes, port) = (frame.bytes().to_vec(), frame.meta.port);
            shards[at].pool.put(frame);
            let there = &mut shards[usize::from(to)];
            let mut batch = Batch::default();
            let mut copy = there.pool.copy_of(&bytes).unwrap();
            (copy.meta.port, copy.meta.handed) = (port, true);
            batch.push(copy);
            sent.extend(there.with(|node, cx| {
                node.process(&mut batch, cx);
                node.tick(cx);
            }));
        }
    }
    let [(syn_ack, options, _)] = &answers(&sent)[..] else { panic!("{sent:?}") };
    assert_eq!((syn_ack.flags, syn_ack.ack), (flag::SYN | flag::ACK, 701));
    assert_eq!(options.timestamps.unwrap().1, 5000);
    let now = shards[other].now;
    assert_eq!(shards[other].node.half_open.get(&key(21), now).map(|half| half.peer_isn), Some(isn));
    assert_eq!(be32(&sent[0].1, ETH + 16), 0x0a00_0107, "to the container");
}
