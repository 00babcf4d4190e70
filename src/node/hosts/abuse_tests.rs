//! What attackers and intruders try: to wear the node out, to end others'
//! connections, to get out of a container.

use std::net::Ipv6Addr;

use super::container_tests::{introduce, live};
use super::tests::{ATTACKER, ATTACKER_IP, HOST_IP, bench, config, ip_frame, mac_of, names, tcp_frame, tcp_of};
use super::*;
use crate::emulate::Secret;
use crate::frame::PortNo;
use crate::node::testing::Bench;
use crate::wire::{ARP_FRAME, Arp, Duration, Headers, Neighbor, Segment as TcpSegment, flag, solicited_node};

pub(super) fn bench_of(config: HostsConfig) -> Bench<Hosts> {
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    bench
}

/// A packet as it comes from `src` with MAC `src_mac`.
pub(super) fn packet(macs: (Mac, Mac), src: &str, dst: &str, proto: u8, ttl: u8, l4: &[u8]) -> Vec<u8> {
    let headers = Headers {
        dst_mac: macs.0,
        src_mac: macs.1,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        proto,
        ttl,
        tos: 0,
        ip_id: 1,
        df: false,
    };
    let mut frame = vec![0; headers.len() + l4.len()];
    let at = headers.write(&mut frame, l4.len());
    frame[at..].copy_from_slice(l4);
    headers.fill_checksum(&mut frame[at..]);
    frame
}

pub(super) fn datagram(src: u16, dst: u16, len: usize) -> Vec<u8> {
    let mut l4 = vec![b'x'; 8 + len];
    l4[0..2].copy_from_slice(&src.to_be_bytes());
    l4[2..4].copy_from_slice(&dst.to_be_bytes());
    l4[4..6].copy_from_slice(&(8 + len as u16).to_be_bytes());
    l4[6..8].fill(0);
    l4
}

/// Completes a handshake from port `sport`; returns our sequence number and the node's.
pub(super) fn connect(bench: &mut Bench<Hosts>, sport: u16, dport: u16) -> (u32, u32) {
    let syn = tcp_frame(bench, sport, dport, 100, 0, flag::SYN, b"");
    let seq = tcp_of(&bench.rx(0, &syn)[0].1).1.seq.wrapping_add(1);
    let ack = tcp_frame(bench, sport, dport, 101, seq, flag::ACK, b"");
    bench.rx(0, &ack);
    (101, seq)
}

/// The times at which the node wants to be called until `until`.
fn calls(bench: &mut Bench<Hosts>, until: Instant) -> usize {
    let mut calls = 0;
    while let Some(deadline) = bench.node.next_deadline().filter(|at| *at <= until) {
        bench.now = bench.now.max(deadline);
        bench.with(|node, cx| node.tick(cx));
        calls += 1;
        assert!(calls < 100_000, "it never rests");
    }
    bench.now = until;
    calls
}

#[test]
fn a_peer_that_ignores_our_end_costs_little() {
    let mut bench = bench();
    let (seq, ack) = connect(&mut bench, 40_000, 21);
    // It acknowledges the banner and, half a minute later, the FIN, but never ends its own side.
    let heard = tcp_frame(&bench, 40_000, 21, seq, ack + 11, flag::ACK, b"");
    bench.rx(0, &heard);
    bench.run_until(bench.now + Duration::from_secs(31));
    let end = tcp_frame(&bench, 40_000, 21, seq, ack + 12, flag::ACK, b"");
    bench.rx(0, &end);
    assert_eq!(bench.node.flows.slab.len(), 1);
    let until = bench.now + Duration::from_secs(80);
    let calls = calls(&mut bench, until);
    assert!(calls < 300, "{calls} calls");
    assert!(bench.node.flows.slab.is_empty());
}

#[test]
fn a_peer_that_vanished_does_not_keep_its_connection_forever() {
    let mut bench = bench();
    connect(&mut bench, 40_000, 80);
    let out = bench.run_until(bench.now + Duration::from_secs(6 * 3600));
    assert!(bench.node.flows.slab.is_empty());
    assert!(out.len() >= 2, "it is asked whether it is still there");
}

#[test]
fn deadlines_that_are_no_longer_meant_are_forgotten() {
    let mut bench = bench();
    let (mut seq, ack) = connect(&mut bench, 40_000, 21);
    for _ in 0..5000 {
        let data = tcp_frame(&bench, 40_000, 21, seq, ack + 11, flag::ACK, b"x");
        bench.rx(0, &data);
        seq += 1;
        bench.run_until(bench.now + Duration::from_millis(20));
    }
    assert!(bench.node.flows.deadlines.len() < 1200, "{}", bench.node.flows.deadlines.len());
}

#[test]
fn relayed_connections_are_listed_once() {
    let mut bench = bench();
    let mut last = None;
    for sport in 1000..1050 {
        let syn = tcp_frame(&bench, sport, 9000, 100, 0, flag::SYN, b"");
        let ack = tcp_of(&bench.rx(0, &syn)[0].1).1.seq.wrapping_add(1);
        if let Some((sport, ack)) = last.replace((sport, ack)) {
            let rst = tcp_frame(&bench, sport, 9000, 101, ack, flag::RST | flag::ACK, b"");
            bench.rx(0, &rst);
        }
        let complete = tcp_frame(&bench, sport, 9000, 101, ack, flag::ACK, b"");
        bench.rx(0, &complete);
    }
    assert_eq!(bench.node.flows.slab.len(), 1);
}

#[test]
fn a_reset_outside_the_window_ends_nothing() {
    let mut bench = bench();
    let (seq, ack) = connect(&mut bench, 40_000, 80);
    let rst = tcp_frame(&bench, 40_000, 80, seq.wrapping_add(1 << 20), 0, flag::RST, b"");
    bench.rx(0, &rst);
    let flow = bench.node.flows.slab.iter().next().unwrap().1;
    assert!(flow.conn.is_open() && flow.ending.is_none());
    let rst = tcp_frame(&bench, 40_000, 80, seq, ack, flag::RST, b"");
    bench.rx(0, &rst);
    assert!(bench.node.flows.slab.is_empty());
    assert_eq!(bench.events.iter().find(|(e, _)| e.id == EventId::TcpClose).unwrap().0.code, 1);
}

#[test]
fn a_syn_in_an_open_connection_is_challenged() {
    let mut bench = bench();
    let (seq, ack) = connect(&mut bench, 40_000, 80);
    // The peer has restarted and uses its port again (RFC 5961 §4.2).
    let syn = tcp_frame(&bench, 40_000, 80, 77_000, 0, flag::SYN, b"");
    let out = bench.rx(0, &syn);
    let (_, challenge, _) = tcp_of(&out[0].1);
    assert_eq!((challenge.flags, challenge.seq, challenge.ack), (flag::ACK, ack, seq));
    let rst = tcp_frame(&bench, 40_000, 80, challenge.ack, 0, flag::RST, b"");
    bench.rx(0, &rst);
    assert!(bench.node.flows.slab.is_empty());
    let (_, again, _) = tcp_of(&bench.rx(0, &syn)[0].1);
    assert_eq!((again.flags, again.ack), (flag::SYN | flag::ACK, 77_001));
}

#[test]
fn an_acknowledgment_from_nowhere_completes_nothing() {
    let mut bench = bench();
    let syn = tcp_frame(&bench, 40_000, 21, 100, 0, flag::SYN, b"");
    let ack = tcp_of(&bench.rx(0, &syn)[0].1).1.seq.wrapping_add(1);
    let far = tcp_frame(&bench, 40_000, 21, 101 + (1 << 20), ack, flag::ACK, b"");
    assert!(bench.rx(0, &far).is_empty());
    assert!(bench.node.flows.slab.is_empty());
    // The ACK itself was lost, and so was the first half of what followed: its second half is early, not wrong.
    let early = tcp_frame(&bench, 40_000, 21, 101 + 9000, ack, flag::ACK | flag::PSH, b"late");
    bench.rx(0, &early);
    let flow = bench.node.flows.slab.iter().next().unwrap().1;
    assert!(flow.conn.is_open());
}

#[test]
fn a_datagram_does_not_go_round_forever() {
    let mut bench = bench();
    let (a, b) = (mac_of(&bench, "10.0.1.7"), mac_of(&bench, "10.0.1.8"));
    // One host's service seems to ask another's, by way of a router.
    let mut frame = packet((a, ATTACKER), "10.0.1.8", "10.0.1.7", proto::UDP, 64, &datagram(7, 7, 20));
    for round in 0.. {
        assert!(round < 1000, "it goes round and round");
        bench.now += Duration::from_micros(100);
        let Some((_, answer)) = bench.rx(0, &frame).pop() else { break };
        frame = answer;
        frame[..6].copy_from_slice(if round % 2 == 0 { &b.0 } else { &a.0 });
        frame[6..12].copy_from_slice(&ATTACKER.0);
    }
}

#[test]
fn a_single_hosts_container_meets_the_internet_made_up() {
    let mut config = config();
    config.single = true;
    let mut bench = bench_of(config);
    live(&mut bench);
    let own = mac_of(&bench, HOST_IP);
    let far = Mac([2, 0xee, 0, 0, 0, 9]);
    let headers = Headers {
        dst_mac: far,
        src_mac: own,
        src: HOST_IP.parse().unwrap(),
        dst: "8.8.8.8".parse().unwrap(),
        proto: proto::TCP,
        ttl: 64,
        tos: 0,
        ip_id: 1,
        df: true,
    };
    let syn =
        TcpSegment { src: 5, dst: 445, seq: 1, ack: 0, flags: flag::SYN, window: 64000, options: &[], payload: &[] };
    let mut frame = vec![0; headers.len() + syn.len()];
    syn.write(&headers, &mut frame);
    let out = bench.rx(1, &frame);
    let (answer, tcp, _) = tcp_of(&out[0].1);
    assert_eq!((out[0].0, answer.src().to_string().as_str()), (PortNo(1), "8.8.8.8"));
    assert_eq!(tcp.flags, flag::SYN | flag::ACK);
    let query = packet((far, own), HOST_IP, "8.8.8.8", proto::UDP, 64, &datagram(5, 53, 10));
    assert!(bench.rx(1, &query).is_empty(), "nothing comes back as if it were the container's own");
}

/// A live container at an address of both families, and its MAC.
pub(super) fn dual() -> (Bench<Hosts>, Mac) {
    let mut config = config();
    (config.single, config.inside) = (true, vec!["10.0.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()]);
    let mut bench = bench_of(config);
    live(&mut bench);
    let own = mac_of(&bench, HOST_IP);
    (bench, own)
}

#[test]
fn a_container_asks_for_neighbors_and_says_nothing_else() {
    let (mut bench, own) = dual();
    let production = Mac([2, 0xbb, 0, 0, 0, 1]);
    let own_ip: Ipv6Addr = "fd00::1:0".parse().unwrap();
    let target: Ipv6Addr = "fd00::77".parse().unwrap();
    let mut message = vec![icmp6::NEIGHBOR_SOLICIT, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&target.octets());
    let mut told = message.clone();
    told.extend_from_slice(&[1, 1, 2, 0xbb, 0, 0, 0, 1]);
    told.extend_from_slice(&[253, 4]);
    told.extend_from_slice(&[b'S'; 30]);
    // To an address outside, with somebody's secrets behind the question.
    let leak = packet((production, own), "fd00::1:0", "2001:db8::1", proto::ICMPV6, 255, &told);
    // In another's name.
    let poison = packet((production, own), "fd00::99", "fd00::77", proto::ICMPV6, 255, &message);
    for frame in [leak, poison] {
        for (port, out) in bench.rx(1, &frame) {
            assert_eq!(port, PortNo(0));
            let packet = Packet::parse(&out).unwrap();
            assert_eq!((packet.src(), packet.dst()), (own_ip.into(), solicited_node(target).into()));
            assert_eq!(out.len(), 86);
            assert_eq!(Neighbor::parse(&packet, &out).unwrap().mac, Some(own));
        }
    }
    let group = solicited_node(target);
    let asked = packet(
        (Mac::ipv6_multicast(group), own),
        "fd00::1:0",
        &group.to_string(),
        proto::ICMPV6,
        255,
        &[&message[..], &[1, 1], &own.0].concat(),
    );
    assert_eq!(bench.rx(1, &asked), vec![(PortNo(0), asked)], "an honest question passes");
    let arp = Arp {
        operation: Arp::REQUEST,
        sender_mac: own,
        sender: HOST_IP.parse().unwrap(),
        target_mac: Mac::ZERO,
        target: "10.0.99.1".parse().unwrap(),
    };
    let mut frame = vec![b'S'; 300];
    arp.write(production, own, &mut frame);
    let out = bench.rx(1, &frame);
    assert_eq!((out.len(), out[0].1.len(), dst_mac(&out[0].1)), (1, ARP_FRAME, Mac::BROADCAST));
}

#[test]
fn a_container_answers_who_asked_and_no_more() {
    let mut config = config();
    config.inside = vec!["10.0.1.0/24".parse().unwrap()];
    let mut bench = bench_of(config);
    live(&mut bench);
    let own = mac_of(&bench, HOST_IP);
    let question = ip_frame(&bench, proto::UDP, &datagram(6000, 53, 20));
    assert_eq!(bench.rx(0, &question)[0].0, PortNo(1));
    let out = |bench: &mut Bench<Hosts>, src: u16, dst: u16, len: usize| {
        let answer = packet((ATTACKER, own), HOST_IP, ATTACKER_IP, proto::UDP, 64, &datagram(src, dst, len));
        bench.rx(1, &answer).iter().filter(|(port, _)| *port == PortNo(0)).count()
    };
    assert_eq!(out(&mut bench, 53, 6001, 20), 0, "another port did not ask");
    assert_eq!(out(&mut bench, 53, 6000, 20), 1);
    let more: usize = (0..10).map(|_| out(&mut bench, 53, 6000, 60)).sum();
    assert_eq!(more, 1, "three times what was asked, no more");
    // An error about what was never sent is a way out, too.
    let quote = |src: &str, dst: &str| {
        let inner = packet((own, ATTACKER), src, dst, proto::UDP, 60, &datagram(6000, 9, 4));
        let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
        error.extend_from_slice(&inner[ETH..]);
        packet((ATTACKER, own), HOST_IP, ATTACKER_IP, proto::ICMP, 64, &error)
    };
    let network = |out: Vec<(PortNo, Vec<u8>)>| out.iter().filter(|(port, _)| *port == PortNo(0)).count();
    let honest = quote(ATTACKER_IP, HOST_IP);
    assert_eq!(network(bench.rx(1, &honest)), 1);
    let forged = quote("9.9.9.9", HOST_IP);
    assert_eq!(network(bench.rx(1, &forged)), 0);
    let echo = packet((ATTACKER, own), HOST_IP, ATTACKER_IP, proto::ICMP, 64, &[0, 0, 0, 0, 0, 1, 0, 1, b'S']);
    assert_eq!(network(bench.rx(1, &echo)), 0);
}

#[test]
fn a_container_does_not_choose_its_packets_way() {
    let (mut bench, own) = dual();
    let far = Mac([2, 0xee, 0, 0, 0, 9]);
    introduce(&mut bench, Ipv4Addr::new(10, 0, 99, 1), far);
    let plain = packet((far, own), HOST_IP, "10.0.99.1", proto::UDP, 64, &datagram(5, 53, 10));
    assert_eq!(bench.rx(1, &plain).len(), 1);
    let mut routed = plain[..ETH + 20].to_vec();
    // Loose source and record route over one address outside (RFC 791 §3.1).
    routed.extend_from_slice(&[131, 7, 4, 8, 8, 8, 8, 0]);
    routed.extend_from_slice(&plain[ETH + 20..]);
    routed[ETH] = 0x47;
    let total = (routed.len() - ETH) as u16;
    routed[ETH + 2..ETH + 4].copy_from_slice(&total.to_be_bytes());
    routed[ETH + 10..ETH + 12].fill(0);
    let sum = crate::wire::checksum::of(&routed[ETH..ETH + 28]);
    routed[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
    assert!(bench.rx(1, &routed).is_empty());
    assert_eq!(bench.counters.discarded(DropReason::Policy), 1);
    let mut header = vec![proto::UDP, 2, 0, 1, 0, 0, 0, 0];
    header.extend_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    header.extend_from_slice(&datagram(5, 53, 10));
    let routed = packet((far, own), "fd00::1:0", "fd00::77", 43, 64, &header);
    assert!(bench.rx(1, &routed).is_empty());
    assert_eq!(bench.counters.discarded(DropReason::Policy), 2);
}

#[test]
fn a_test_for_duplicates_finds_our_hosts_and_no_others() {
    let mut bench = bench();
    let mut probe = |target: &str| {
        let target: Ipv6Addr = target.parse().unwrap();
        let group = solicited_node(target);
        let message = Neighbor { advert: false, target, mac: None };
        let mut frame = [0; 86];
        let len = message.write(Mac::ipv6_multicast(group), ATTACKER, Ipv6Addr::UNSPECIFIED, group, 0, &mut frame);
        bench.rx(0, &frame[..len])
    };
    assert!(probe("fd00::2:5").is_empty());
    let out = probe("fd00::1:5");
    let packet = Packet::parse(&out[0].1).unwrap();
    assert!(packet.checksum_ok(&out[0].1));
    // RFC 4861 §7.2.4: to everybody, and not as if asked for.
    assert_eq!(packet.dst(), "ff02::1".parse::<IpAddr>().unwrap());
    assert_eq!(dst_mac(&out[0].1), Mac([0x33, 0x33, 0, 0, 0, 1]));
    assert_eq!(packet.payload(&out[0].1)[4], 0x20);
    assert!(!names(&bench).contains(&"arp.request"));
}

#[test]
fn a_source_from_afar_does_not_become_the_gateway() {
    let mut config = config();
    config.inside.push("10.9.0.0/16".parse().unwrap());
    let mut bench = bench_of(config);
    live(&mut bench);
    let (own, gateway) = (mac_of(&bench, HOST_IP), Mac([2, 0xcc, 0, 0, 0, 1]));
    introduce(&mut bench, Ipv4Addr::new(10, 0, 0, 1), gateway);
    let spoofed = packet((own, ATTACKER), "10.9.0.1", HOST_IP, proto::UDP, 64, &datagram(6000, 53, 20));
    assert_eq!(bench.rx(0, &spoofed)[0].0, PortNo(1));
    let asked = packet((gateway, own), HOST_IP, "10.9.0.2", proto::UDP, 64, &datagram(53, 53, 20));
    let out = bench.rx(1, &asked);
    assert_eq!((out.len(), dst_mac(&out[0].1)), (1, gateway));
}
