//! Containers that are one attacker's, and how many a source may have.

use super::abuse_tests::{datagram, packet};
use super::tests::{HOST_IP, config, mac_of, names, tcp_of};
use super::*;
use crate::emulate::Secret;
use crate::frame::PortNo;
use crate::node::testing::Bench;
use crate::node::{LeaseId, Request};
use crate::wire::{ARP_FRAME, Arp, Duration, Headers, Segment as TcpSegment, flag};

type Frames = Vec<(PortNo, Vec<u8>)>;

const A: &str = "203.0.113.7";
const B: &str = "198.51.100.9";
/// Whoever comes from outside the segment has its router's MAC.
const GATEWAY: Mac = Mac([2, 0xee, 0, 0, 0, 9]);
const OUTSIDE: &str = "8.8.8.8";

fn bench_with(change: impl FnOnce(&mut HostsConfig)) -> Bench<Hosts> {
    let mut config = config();
    config.templates[0].backend.as_mut().unwrap().grant = Grant::PerAttacker;
    config.templates[0].udp.insert(53, UdpPort::Container);
    config.templates[0].outward = Outward::Allow;
    change(&mut config);
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 6);
    bench.with(|node, cx| node.tick(cx));
    bench
}

fn bench() -> Bench<Hosts> {
    bench_with(|_| {})
}

#[allow(clippy::too_many_arguments)]
fn segment(
    bench: &Bench<Hosts>,
    (src, dst): (&str, &str),
    ports: (u16, u16),
    numbers: (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let own = bench.node.target(word_of(dst.parse().unwrap())).is_some();
    let (host, outside) = if own { (dst, true) } else { (src, false) };
    let mac = mac_of(bench, host);
    let inside = !outside || bench.node.target(word_of(src.parse().unwrap())).is_some();
    let from = if inside { mac_of(bench, src) } else { GATEWAY };
    let headers = Headers {
        dst_mac: if own { mac } else { GATEWAY },
        src_mac: from,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        proto: proto::TCP,
        ttl: 64,
        tos: 0,
        ip_id: 7,
        df: true,
    };
    let options: &[u8] = if flags & flag::SYN != 0 { &[2, 4, 5, 0xb4] } else { &[] };
    let (src, dst) = ports;
    let segment = TcpSegment { src, dst, seq: numbers.0, ack: numbers.1, flags, window: 64240, options, payload };
    let mut frame = vec![0; headers.len() + segment.len()];
    segment.write(&headers, &mut frame);
    frame
}

/// `who` completes a handshake with port 22 of `host` from `sport`; the numbers of what it sends next, and what came out.
fn connect(bench: &mut Bench<Hosts>, who: &str, host: &str, sport: u16) -> ((u32, u32), Frames) {
    let syn = segment(bench, (who, host), (sport, 22), (100, 0), flag::SYN, b"");
    let out = bench.rx(0, &syn);
    let [(PortNo(0), answer)] = out.as_slice() else { panic!("{out:?}") };
    let seq = tcp_of(answer).1.seq.wrapping_add(1);
    let ack = segment(bench, (who, host), (sport, 22), (101, seq), flag::ACK, b"");
    let out = bench.rx(0, &ack);
    ((101, seq), out)
}

/// The leases that were asked for since the last call: for whom, and their hosts.
fn leases(bench: &mut Bench<Hosts>) -> Vec<(LeaseId, String, Option<String>)> {
    let of = |request: Request| match request {
        Request::Lease { lease, host, attacker, .. } => {
            Some((lease, host.to_string(), attacker.map(|ip| ip.to_string())))
        }
        _ => None,
    };
    bench.requests.drain(..).filter_map(of).collect()
}

/// The container of a lease runs behind `port`.
fn comes(bench: &mut Bench<Hosts>, lease: LeaseId, port: u16) -> Frames {
    bench.with(|node, cx| node.command(Command::LeaseTap { lease, port: PortNo(port) }, cx));
    bench.with(|node, cx| node.command(Command::LeaseLive { lease }, cx))
}

/// Two attackers of one host, whose containers are behind the ports 1 and 2.
fn two(bench: &mut Bench<Hosts>) -> [(u32, u32); 2] {
    [(A, 1), (B, 2)].map(|(who, port)| {
        let (numbers, _) = connect(bench, who, HOST_IP, 41_000);
        let [(lease, _, _)] = leases(bench).try_into().unwrap();
        comes(bench, lease, port);
        // Both know the way out.
        let whose = grant::Whose { host: HOST_IP.parse().unwrap(), attacker: who.parse().ok() };
        bench.node.leases.learn_peer(whose, "10.0.0.1".parse().unwrap(), GATEWAY);
        numbers
    })
}

fn ports(out: &Frames) -> Vec<u16> {
    out.iter().map(|(port, _)| port.0).collect()
}

/// A packet between a host and somebody outside, as it is on the segment or (`inside`) in the container's network.
fn between(bench: &Bench<Hosts>, src: &str, dst: &str, proto: u8, l4: &[u8]) -> Vec<u8> {
    let own = mac_of(bench, HOST_IP);
    let macs = if src == HOST_IP { (GATEWAY, own) } else { (own, GATEWAY) };
    packet(macs, src, dst, proto, 64, l4)
}

fn echo(kind: u8, id: u16) -> Vec<u8> {
    let [a, b] = id.to_be_bytes();
    vec![kind, 0, 0, 0, a, b, 0, 1, b'h', b'i']
}

#[test]
fn each_attacker_has_a_machine_of_the_same_looks() {
    let mut bench = bench();
    connect(&mut bench, A, HOST_IP, 41_000);
    connect(&mut bench, B, HOST_IP, 41_000);
    let asked = leases(&mut bench);
    let whose: Vec<_> = asked.iter().map(|(_, host, who)| (host.as_str(), who.as_deref())).collect();
    assert_eq!(whose, [(HOST_IP, Some(A)), (HOST_IP, Some(B))]);
    for ((lease, ..), (port, who)) in asked.iter().zip([(1, A), (2, B)]) {
        let out = comes(&mut bench, *lease, port);
        assert_eq!(ports(&out), [port], "nothing for the other one");
        let (packet, syn, _) = tcp_of(&out[0].1);
        assert_eq!((packet.src().to_string().as_str(), syn.flags), (who, flag::SYN));
        assert_eq!(dst_mac(&out[0].1), mac_of(&bench, HOST_IP));
    }
    // The same attacker again, by another connection.
    let (_, out) = connect(&mut bench, A, HOST_IP, 41_001);
    assert!(leases(&mut bench).is_empty());
    assert_eq!(ports(&out), [1]);
    let who: Vec<_> =
        bench.events.iter().filter(|(event, _)| event.id == EventId::ContainerStart).map(|(e, _)| e.src.ip).collect();
    assert_eq!(who, [MaybeIp::of_word(word_of(A.parse().unwrap())), MaybeIp::of_word(word_of(B.parse().unwrap()))]);
    let shown = bench.node.show(Show::Hosts, bench.now, 10).unwrap();
    assert_eq!(shown[0]["state"], "live");
    let mut granted: Vec<_> = shown[0]["granted"].as_array().unwrap().iter().map(|ip| ip.as_str().unwrap()).collect();
    granted.sort_unstable();
    assert_eq!(granted, [B, A]);
}

/// Shared containers stay what they were.
#[test]
fn a_host_with_one_container_has_one_for_all() {
    let mut bench = bench_with(|config| config.templates[0].backend.as_mut().unwrap().grant = Grant::PerHost);
    connect(&mut bench, A, HOST_IP, 41_000);
    connect(&mut bench, B, HOST_IP, 41_000);
    let asked = leases(&mut bench);
    assert_eq!((asked.len(), &asked[0].2), (1, &None));
}

#[test]
fn an_ipv6_network_is_one_attacker() {
    const HOST6: &str = "fd00::1:0";
    let mut bench = bench_with(|config| config.single = true);
    for (who, sport) in [("2001:db8:1::1", 1), ("2001:db8:1:0:ffff::2", 2), ("2001:db8:2::1", 3)] {
        connect(&mut bench, who, HOST6, 40_000 + sport);
    }
    let who: Vec<_> = leases(&mut bench).into_iter().map(|(_, host, who)| (host, who.unwrap())).collect();
    let first = "10.0.1.0".to_owned();
    assert_eq!(who, [(first.clone(), "2001:db8:1::".to_owned()), (first, "2001:db8:2::".to_owned())]);
}

#[test]
fn no_container_reaches_into_the_connection_of_another() {
    let mut bench = bench();
    let [(seq, ack), _] = two(&mut bench);
    let of_flow = |bench: &Bench<Hosts>| bench.node.flows.slab.iter().filter(|(_, flow)| flow.is_spliced()).count();
    // The first one's server takes the connection.
    let syn_ack = |bench: &Bench<Hosts>| {
        let syn = bench.node.flows.slab.iter().next().unwrap().1.wire.key;
        assert_eq!(syn.remote.to_string(), A);
        segment(bench, (HOST_IP, A), (22, 41_000), (9000, 0), flag::RST | flag::ACK, b"")
    };
    let forged = syn_ack(&bench);
    let before = bench.counters.discarded(DropReason::Policy);
    assert!(bench.rx(2, &forged).is_empty(), "a reset by the second one's intruder");
    assert_eq!(bench.counters.discarded(DropReason::Policy), before + 1);
    let data = segment(&bench, (A, HOST_IP), (41_000, 22), (seq, ack), flag::ACK | flag::PSH, b"id");
    let out = bench.rx(0, &data);
    assert!(out.iter().all(|(port, frame)| *port != PortNo(2) && !tcp_of(frame).1.has(flag::RST)), "{out:?}");
    assert_eq!((of_flow(&bench), bench.node.flows.slab.len()), (0, 2));
    // Nor does it answer for the first one what was asked of that.
    let syn = segment(&bench, (A, HOST_IP), (41_002, 31_337), (100, 0), flag::SYN, b"");
    assert_eq!(ports(&bench.rx(0, &syn)), [1], "an intruder's own listener is asked, the attacker's own one");
    let refusal = segment(&bench, (HOST_IP, A), (31_337, 41_002), (0, 101), flag::RST | flag::ACK, b"");
    assert!(bench.rx(2, &refusal).is_empty());
    assert_eq!(ports(&bench.rx(1, &refusal)), [0]);
    // Who has no container meets the emulated host.
    let syn = segment(&bench, ("192.0.2.77", HOST_IP), (41_000, 31_337), (100, 0), flag::SYN, b"");
    let out = bench.rx(0, &syn);
    assert!(tcp_of(&out[0].1).1.has(flag::RST) && ports(&out) == [0]);
}

#[test]
fn what_answers_a_container_reaches_that_one() {
    let mut bench = bench();
    two(&mut bench);
    // Echo requests of the same kernel's numbers, to the same address.
    for (port, id) in [(1, 7), (2, 8)] {
        let request = between(&bench, HOST_IP, OUTSIDE, proto::ICMP, &echo(8, id));
        assert_eq!(ports(&bench.rx(port, &request)), [0]);
    }
    for (port, id) in [(2, 8), (1, 7)] {
        let reply = between(&bench, OUTSIDE, HOST_IP, proto::ICMP, &echo(0, id));
        assert_eq!(ports(&bench.rx(0, &reply)), [port]);
    }
    // Datagrams, and what is said about them, by whomever.
    for (port, sport) in [(1, 5001), (2, 5002)] {
        let question = between(&bench, HOST_IP, OUTSIDE, proto::UDP, &datagram(sport, 53, 9));
        assert_eq!(ports(&bench.rx(port, &question)), [0]);
        let answer = between(&bench, OUTSIDE, HOST_IP, proto::UDP, &datagram(53, sport, 9));
        assert_eq!(ports(&bench.rx(0, &answer)), [port]);
        let mut error = vec![11, 0, 0, 0, 0, 0, 0, 0];
        error.extend_from_slice(&question[ETH..]);
        let error = between(&bench, "192.0.2.254", HOST_IP, proto::ICMP, &error);
        assert_eq!(ports(&bench.rx(0, &error)), [port], "from a router on the way");
    }
    // A connection, whose later segments only the one may send who has begun it.
    let syn = segment(&bench, (HOST_IP, OUTSIDE), (5003, 80), (700, 0), flag::SYN, b"");
    let out = bench.rx(2, &syn);
    assert_eq!(ports(&out), [0]);
    let seq = tcp_of(&out[0].1).1.seq.wrapping_add(1);
    let answer = segment(&bench, (OUTSIDE, HOST_IP), (80, 5003), (1, seq), flag::SYN | flag::ACK, b"");
    assert_eq!(ports(&bench.rx(0, &answer)), [2]);
    let forged = segment(&bench, (HOST_IP, OUTSIDE), (5003, 80), (701, 2), flag::ACK, b"GET");
    assert!(bench.rx(1, &forged).is_empty());
    assert_eq!(ports(&bench.rx(2, &forged)), [0]);
    let syn = segment(&bench, (HOST_IP, OUTSIDE), (5003, 80), (900, 0), flag::SYN, b"");
    assert!(bench.rx(1, &syn).is_empty(), "while it lasts");
    // Who speaks to the host itself speaks to their own.
    for (port, who) in [(1, A), (2, B)] {
        let unlisted = between(&bench, who, HOST_IP, proto::UDP, &datagram(9, 4444, 9));
        assert_eq!(ports(&bench.rx(0, &unlisted)), [port]);
        let reply = between(&bench, who, HOST_IP, proto::ICMP, &echo(0, 99));
        assert_eq!(ports(&bench.rx(0, &reply)), [port]);
    }
    bench.now += Duration::from_secs(61);
    let out = bench.rx(1, &syn);
    let leaves = |frame: &[u8]| tcp_of(frame).1.src == 5003 && tcp_of(frame).1.flags == flag::SYN;
    assert!(out.iter().any(|(port, frame)| *port == PortNo(0) && leaves(frame)), "it was forgotten: {out:?}");
}

#[test]
fn who_asks_for_a_neighbor_gets_the_answer() {
    let mut bench = bench();
    two(&mut bench);
    let own = mac_of(&bench, HOST_IP);
    let arp = |operation, sender_mac, sender: &str, target_mac, target: &str| {
        let arp =
            Arp { operation, sender_mac, sender: sender.parse().unwrap(), target_mac, target: target.parse().unwrap() };
        let mut frame = [0; ARP_FRAME];
        let to = if operation == Arp::REPLY { target_mac } else { Mac::BROADCAST };
        arp.write(to, sender_mac, &mut frame);
        frame
    };
    for port in [2, 1] {
        let question = arp(Arp::REQUEST, own, HOST_IP, Mac::ZERO, "10.0.9.9");
        assert_eq!(ports(&bench.rx(port, &question)), [0]);
        let answer = arp(Arp::REPLY, GATEWAY, "10.0.9.9", own, HOST_IP);
        assert_eq!(ports(&bench.rx(0, &answer)), [port]);
        let again = arp(Arp::REQUEST, own, HOST_IP, Mac::ZERO, "10.0.9.9");
        assert_eq!(ports(&bench.rx(port, &again)), [port], "it is known by now");
    }
}

/// Any source can be written into a frame.
#[test]
fn forged_sources_get_no_containers() {
    let mut bench = bench();
    let now = bench.now;
    for number in 0..10_000u32 {
        let who = Ipv4Addr::from(0x0b00_0000 + number).to_string();
        let syn = segment(&bench, (&who, HOST_IP), (1234, 22), (100, 0), flag::SYN, b"");
        bench.rx(0, &syn);
        let guess = segment(&bench, (&who, HOST_IP), (1234, 22), (101, number), flag::ACK | flag::PSH, b"root");
        bench.rx(0, &guess);
    }
    assert!(leases(&mut bench).is_empty());
    // Datagrams start a few, and one for all that have none of their own.
    for number in 0..10_000u32 {
        let who = Ipv4Addr::from(0x0b00_0000 + number).to_string();
        let question = between(&bench, &who, HOST_IP, proto::UDP, &datagram(9, 53, 9));
        bench.rx(0, &question);
    }
    assert_eq!(bench.now, now);
    let asked = leases(&mut bench);
    assert_eq!((asked.len(), &asked[0].2), (1, &None));
}

#[test]
fn even_those_who_complete_handshakes_get_no_more_than_there_may_be() {
    let mut bench = bench_with(|config| config.limits.containers = 5);
    for number in 0..500u32 {
        let who = Ipv4Addr::from(0x0b00_0000 + number).to_string();
        let (_, out) = connect(&mut bench, &who, HOST_IP, 1234);
        assert!(out.is_empty(), "nobody is reset");
    }
    assert_eq!((leases(&mut bench).len(), bench.node.flows.slab.len()), (5, 500));
}

#[test]
fn one_source_leaves_containers_to_others() {
    let mut bench = bench_with(|config| {
        config.limits.containers_per_source = 3;
        config.templates[0].backend.as_mut().unwrap().grant = Grant::PerHost;
    });
    for number in 1..=5 {
        let (_, out) = connect(&mut bench, A, &format!("10.0.1.{number}"), 41_000);
        assert!(out.is_empty(), "it is open, as with a server that has no time");
    }
    let asked = leases(&mut bench);
    assert_eq!(asked.len(), 3);
    let held = |bench: &Bench<Hosts>| names(bench).iter().filter(|name| **name == "container.held").count();
    assert_eq!(held(&bench), 1, "told once");
    let event = bench.events.iter().find(|(event, _)| event.id == EventId::ContainerHeld).unwrap().0;
    assert_eq!((event.count, event.src.ip), (3, MaybeIp::of_word(word_of(A.parse().unwrap()))));
    connect(&mut bench, B, "10.0.1.9", 41_000);
    assert_eq!(leases(&mut bench).len(), 1, "another source has room");
    // A container that runs already is open to all, of course.
    connect(&mut bench, B, "10.0.1.1", 41_001);
    connect(&mut bench, A, "10.0.1.9", 41_001);
    assert!(leases(&mut bench).is_empty());
    let until = bench.now + Duration::from_secs(15);
    let out = bench.run_until(until);
    assert!(out.iter().all(|(_, frame)| tcp_of(frame).1.flags & (flag::RST | flag::FIN) == 0), "{out:?}");
    assert_eq!(held(&bench), 1);
    // One of theirs does not start: the next that waits is served, and another source's connection to it as well.
    bench.with(|node, cx| node.command(Command::LeaseGone { lease: asked[0].0, why: "broken".into() }, cx));
    let until = bench.now + Duration::from_secs(2);
    bench.run_until(until);
    assert_eq!(leases(&mut bench).len(), 2);
    let until = bench.now + Duration::from_secs(60);
    bench.run_until(until);
    connect(&mut bench, A, "10.0.1.77", 41_000);
    assert_eq!(held(&bench), 2, "told again after a while");
}

/// A worm that goes on from machine to machine is held to account as the one who let it in.
#[test]
fn what_a_container_wakes_is_the_attackers() {
    let mut bench = bench_with(|config| config.limits.containers_per_source = 2);
    two(&mut bench);
    for (port, sport) in [(2, 5001), (1, 5002)] {
        for neighbor in ["10.0.1.77", "10.0.1.78"] {
            let ends = (HOST_IP, neighbor);
            let syn = segment(&bench, ends, (sport, 22), (100, 0), flag::SYN, b"");
            let out = bench.rx(port, &syn);
            assert_eq!(ports(&out), [port]);
            let seq = tcp_of(&out[0].1).1.seq.wrapping_add(1);
            let ack = segment(&bench, ends, (sport, 22), (101, seq), flag::ACK, b"");
            bench.rx(port, &ack);
        }
    }
    let whose: Vec<_> = leases(&mut bench).into_iter().map(|(_, host, who)| (host, who.unwrap())).collect();
    let first = "10.0.1.77".to_owned();
    assert_eq!(whose, [(first.clone(), B.to_owned()), (first, A.to_owned())], "a clean one for each, and no third");
}
