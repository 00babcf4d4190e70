//! Connections whose container is not there.

use super::container_tests::live;
use super::tests::{Client, HOST_IP, bench, config, names, tcp_frame, tcp_of};
use super::*;
use crate::emulate::Secret;
use crate::frame::PortNo;
use crate::node::testing::Bench;
use crate::node::{LeaseId, Request};
use crate::wire::{ARP_FRAME, Arp, Duration, flag};

fn lease(bench: &mut Bench<Hosts>) -> Option<LeaseId> {
    let lease = bench.requests.iter().rev().find_map(|request| match request {
        Request::Lease { lease, .. } => Some(*lease),
        _ => None,
    });
    bench.requests.clear();
    lease
}

fn released(bench: &Bench<Hosts>) -> Vec<LeaseId> {
    let of = |request: &Request| match request {
        Request::Release { lease, .. } => Some(*lease),
        _ => None,
    };
    bench.requests.iter().filter_map(of).collect()
}

/// What the attacker sees of a connection meanwhile.
fn flags_until(bench: &mut Bench<Hosts>, after: Duration) -> Vec<u8> {
    let until = bench.now + after;
    let out = bench.run_until(until);
    out.iter().filter(|(port, _)| *port == PortNo(0)).map(|(_, frame)| tcp_of(frame).1.flags).collect()
}

#[test]
fn past_the_limit_nobody_is_reset() {
    let mut config = config();
    config.limits.containers = 1;
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    // Another host has the one container that there may be.
    let other = bench.node.target(word_of("10.0.1.9".parse().unwrap())).unwrap();
    bench.with(|node, cx| {
        node.begin_lease(&other, other.ip().into(), (Party::default(), HostsConfig::LAN), SessionId(1), cx).unwrap();
    });
    let first = lease(&mut bench).unwrap();
    let mut client = Client::new(&bench, 22);
    client.run(&mut bench, Duration::from_millis(5));
    client.send(&bench, b"SSH-2.0-client\r\n");
    client.run(&mut bench, Duration::from_millis(5));
    assert!(client.conn.is_open());
    assert_eq!(names(&bench).iter().filter(|name| **name == "container.failed").count(), 1);
    let seen = flags_until(&mut bench, Duration::from_secs(100));
    assert!(seen.iter().all(|flags| *flags == flag::ACK), "it is open, and silent: {seen:?}");
    assert_eq!(lease(&mut bench), None);
    // A container ends: the next is for the one who waits.
    bench.with(|node, cx| node.command(Command::LeaseGone { lease: first, why: "idle".into() }, cx));
    assert!(lease(&mut bench).is_some());
    assert_eq!(bench.node.leases.states()[&HOST_IP.parse::<IpAddr>().unwrap()].0.as_str(), "starting");
}

#[test]
fn who_waits_too_long_is_said_goodbye() {
    let mut config = config();
    config.limits.containers = 0;
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    let mut client = Client::new(&bench, 22);
    client.run(&mut bench, Duration::from_millis(5));
    assert!(flags_until(&mut bench, Duration::from_secs(119)).is_empty());
    let seen = flags_until(&mut bench, Duration::from_secs(2));
    assert!(!seen.is_empty() && seen.iter().all(|flags| flags & (flag::FIN | flag::RST) == flag::FIN), "{seen:?}");
    assert_eq!(names(&bench).iter().filter(|name| **name == "container.failed").count(), 1, "told once");
}

#[test]
fn a_container_that_is_being_stopped_is_followed_by_another() {
    let mut bench = bench();
    let first = live(&mut bench);
    let reset = tcp_frame(&bench, 41000, 22, 0, 0, flag::RST, b"");
    bench.rx(0, &reset);
    bench.node.leases.by_host.values_mut().for_each(|lease| lease.releasing = true);
    bench.requests.clear();
    let syn = tcp_frame(&bench, 43000, 22, 100, 0, flag::SYN, b"");
    let syn_ack = tcp_of(&bench.rx(0, &syn)[0].1).1;
    let ack = tcp_frame(&bench, 43000, 22, 101, syn_ack.seq.wrapping_add(1), flag::ACK, b"");
    assert!(bench.rx(0, &ack).is_empty(), "no reset");
    assert_eq!(lease(&mut bench), None, "it has not ended yet");
    bench.with(|node, cx| node.command(Command::LeaseGone { lease: first, why: "idle".into() }, cx));
    let second = lease(&mut bench).unwrap();
    assert_ne!(first, second);
    bench.with(|node, cx| node.command(Command::LeaseTap { lease: second, port: PortNo(1) }, cx));
    let out = bench.with(|node, cx| node.command(Command::LeaseLive { lease: second }, cx));
    let inside = out.iter().filter(|(port, _)| *port == PortNo(1)).map(|(_, frame)| tcp_of(frame).1);
    assert!(inside.into_iter().any(|tcp| tcp.src == 43_000 && tcp.flags == flag::SYN));
}

/// `ip link set eth0 down` inside: the attacker waits a few seconds and meets a new container.
#[test]
fn a_container_that_is_deaf_is_replaced() {
    let mut bench = bench();
    let first = live(&mut bench);
    let until = bench.now + Duration::from_secs(6);
    let out = bench.run_until(until);
    let asked: Vec<Arp> =
        out.iter().filter(|(port, _)| *port == PortNo(1)).filter_map(|(_, f)| Arp::parse(f)).collect();
    assert_eq!(asked.len(), 1, "whether its link is up");
    assert_eq!(asked[0].target, HOST_IP.parse::<Ipv4Addr>().unwrap());
    assert_eq!(released(&bench), [first]);
    bench.requests.clear();
    bench.with(|node, cx| node.command(Command::LeaseGone { lease: first, why: "released".into() }, cx));
    let second = lease(&mut bench).unwrap();
    bench.with(|node, cx| node.command(Command::LeaseTap { lease: second, port: PortNo(1) }, cx));
    let out = bench.with(|node, cx| node.command(Command::LeaseLive { lease: second }, cx));
    assert!(out.iter().any(|(port, frame)| *port == PortNo(1) && tcp_of(frame).1.flags == flag::SYN));
    assert_eq!(bench.node.flows.slab.len(), 1, "the attacker's connection is the same");
}

/// A firewall inside is no reason.
#[test]
fn a_container_that_tells_its_mac_stays() {
    let mut bench = bench();
    live(&mut bench);
    let until = bench.now + Duration::from_millis(400);
    let out = bench.run_until(until);
    let question = out.iter().find_map(|(_, frame)| Arp::parse(frame)).expect("it is asked");
    let answer = Arp {
        operation: Arp::REPLY,
        sender_mac: question.target_mac,
        sender: question.target,
        target_mac: question.sender_mac,
        target: question.sender,
    };
    let mut frame = [0; ARP_FRAME];
    answer.write(question.sender_mac, question.target_mac, &mut frame);
    assert!(bench.rx(1, &frame).is_empty(), "nobody else hears that");
    let until = bench.now + Duration::from_secs(10);
    bench.run_until(until);
    assert_eq!(released(&bench), []);
}

/// What has answered dies: the next connection, and the one that was not answered yet, have another.
#[test]
fn connections_that_were_not_answered_outlive_their_container() {
    let mut bench = bench();
    let first = live(&mut bench);
    let out = bench.with(|node, cx| node.command(Command::LeaseGone { lease: first, why: "killed".into() }, cx));
    assert!(out.iter().all(|(port, _)| *port != PortNo(0)), "no reset: {out:?}");
    assert!(lease(&mut bench).is_some());
    // One that dies again and again is given up.
    for _ in 0..5 {
        let Some(host) = bench.node.leases.by_host.values_mut().next() else { break };
        host.live = Some(bench.now);
        let id = host.id;
        bench.with(|node, cx| node.command(Command::LeaseGone { lease: id, why: "killed".into() }, cx));
    }
    assert!(bench.node.leases.by_host.is_empty());
    bench.requests.clear();
}
