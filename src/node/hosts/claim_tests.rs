//! Addresses that nobody answers for, in virtual time.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::tests::{ATTACKER, ATTACKER_IP, Client, HOST_IP, config, ip_frame, mac_of, names, tcp_frame};
use super::*;
use crate::emulate::Secret;
use crate::event::Release;
use crate::frame::PortNo;
use crate::node::testing::Bench;
use crate::node::{ClaimConfig, Request, Shard};
use crate::wire::{ARP_FRAME, Arp, Duration, Headers, Neighbor, flag, solicited_node};

/// Somebody whose machine is one of the segment's.
pub(super) const OWNER: Mac = Mac([2, 0xbb, 0, 0, 0, 2]);
const GATEWAY: Mac = Mac([2, 0xcc, 0, 0, 0, 3]);
pub(super) const HOST_IP6: &str = "fd00::1:7";

pub(super) type Sent = Vec<(PortNo, Vec<u8>)>;

pub(super) fn claiming(claim: ClaimConfig) -> Bench<Hosts> {
    sharded(claim, Shard::ALONE)
}

pub(super) fn sharded(claim: ClaimConfig, shard: Shard) -> Bench<Hosts> {
    let config = HostsConfig { claim: Some(Box::new(claim)), ..config() };
    let identity = Identity::new(Secret([3; 16]), "hosts");
    let mut bench =
        Bench::new(Hosts::replica(config, identity, 5, Together { replicas: shard.count, ..Together::default() }), 2);
    bench.shard = shard;
    bench.with(|node, cx| node.tick(cx));
    bench
}

fn arp(operation: u16, (sender_mac, sender): (Mac, &str), dst: Mac, target: &str) -> [u8; ARP_FRAME] {
    let (sender, target) = (sender.parse().unwrap(), target.parse().unwrap());
    let mut frame = [0; ARP_FRAME];
    Arp { operation, sender_mac, sender, target_mac: Mac::ZERO, target }.write(dst, sender_mac, &mut frame);
    frame
}

/// The attacker asks for `target`.
pub(super) fn ask(bench: &mut Bench<Hosts>, target: &str) -> Sent {
    bench.rx(0, &arp(Arp::REQUEST, (ATTACKER, ATTACKER_IP), Mac::BROADCAST, target))
}

pub(super) fn wait(bench: &mut Bench<Hosts>, millis: u64) -> Sent {
    let until = bench.now + Duration::from_millis(millis);
    bench.run_until(until)
}

/// As Linux asks: three times, a second apart. What comes out all in all.
fn ask_three_times(bench: &mut Bench<Hosts>, target: &str) -> Sent {
    let mut sent = Sent::new();
    for _ in 0..3 {
        sent.extend(ask(bench, target));
        sent.extend(wait(bench, 1000));
    }
    sent
}

/// Whether exactly the reply of `target`'s host to the attacker was sent.
pub(super) fn is_reply(bench: &Bench<Hosts>, sent: &Sent, target: &str) -> bool {
    let [(PortNo(0), frame)] = sent.as_slice() else { return false };
    let mac = mac_of(bench, target);
    let (reply, ip) = (Arp::parse(frame).unwrap(), target.parse::<Ipv4Addr>().unwrap());
    (reply.operation, reply.sender_mac, reply.sender) == (Arp::REPLY, mac, ip)
        && (reply.target_mac, reply.target.to_string().as_str()) == (ATTACKER, ATTACKER_IP)
        && (dst_mac(frame), src_mac(frame)) == (ATTACKER, mac)
}

/// Whether exactly a probe for `target` was sent (RFC 5227 §2.1.1).
pub(super) fn is_probe(bench: &Bench<Hosts>, sent: &Sent, target: &str) -> bool {
    let [(PortNo(0), frame)] = sent.as_slice() else { return false };
    let probe = Arp::parse(frame).unwrap();
    (probe.operation, probe.sender, probe.target) == (Arp::REQUEST, Ipv4Addr::UNSPECIFIED, target.parse().unwrap())
        && (probe.sender_mac, probe.target_mac) == (mac_of(bench, target), Mac::ZERO)
        && (dst_mac(frame), src_mac(frame)) == (Mac::BROADCAST, probe.sender_mac)
}

/// A bench that has claimed [`HOST_IP`].
fn claimed() -> Bench<Hosts> {
    let mut bench = claiming(ClaimConfig::default());
    ask_three_times(&mut bench, HOST_IP);
    assert!(has(&bench, HOST_IP));
    bench.events.clear();
    bench
}

pub(super) fn has(bench: &Bench<Hosts>, ip: &str) -> bool {
    bench.node.claims.as_ref().unwrap().has(word_of(ip.parse().unwrap()))
}

fn ping(bench: &mut Bench<Hosts>) -> Sent {
    let echo = ip_frame(bench, proto::ICMP, &[8, 0, 0, 0, 1, 2, 0, 1, 9, 9]);
    bench.rx(0, &echo)
}

pub(super) fn releases(bench: &Bench<Hosts>) -> Vec<(u16, Event)> {
    let released = bench.events.iter().filter(|(event, _)| event.id == EventId::AddressReleased);
    released.map(|(event, _)| (event.code, *event)).collect()
}

#[test]
fn the_third_request_that_nobody_answers_is_answered() {
    let mut bench = claiming(ClaimConfig::default());
    assert!(ping(&mut bench).is_empty(), "what is not claimed is silent");
    assert!(ask(&mut bench, HOST_IP).is_empty());
    wait(&mut bench, 1000);
    let sent = ask(&mut bench, HOST_IP);
    assert!(is_probe(&bench, &sent, HOST_IP), "{sent:?}");
    assert!(wait(&mut bench, 1000).is_empty());
    assert!(names(&bench).is_empty());
    let sent = ask(&mut bench, HOST_IP);
    assert!(is_reply(&bench, &sent, HOST_IP), "{sent:?}");
    assert_eq!(names(&bench), ["address.claimed", "arp.request"]);
    let (event, _) = bench.events[0];
    assert_eq!(
        (event.src.ip, event.src.mac, event.count),
        (ATTACKER_IP.parse::<IpAddr>().unwrap().into(), ATTACKER, 3)
    );
    assert_eq!(event.dst.mac, mac_of(&bench, HOST_IP));
    assert_eq!(ping(&mut bench).len(), 1);
    let sent = ask(&mut bench, HOST_IP);
    assert!(is_reply(&bench, &sent, HOST_IP));
    let rows = bench.node.show(Show::Hosts, bench.now, 10).unwrap();
    assert_eq!((rows.len(), &rows[0]["ip"], &rows[0]["state"]), (1, &HOST_IP.into(), &"claimed".into()));
    assert_eq!(bench.pool.in_use(), 0);
}

#[test]
fn requests_count_only_within_the_time_given() {
    let mut bench = claiming(ClaimConfig::default());
    for (after, claimed) in [(0, false), (6000, false), (6000, false), (6000, false), (1000, true)] {
        wait(&mut bench, after);
        ask(&mut bench, HOST_IP);
        wait(&mut bench, 0);
        assert_eq!(has(&bench, HOST_IP), claimed, "{after}");
    }
    // Those of everybody count together, and those for one address do not count for its neighbor.
    let mut bench = claiming(ClaimConfig::default());
    for (sender, target) in [("10.0.0.3", HOST_IP), ("10.0.0.4", HOST_IP), ("10.0.0.5", "10.0.1.8")] {
        bench.rx(0, &arp(Arp::REQUEST, (ATTACKER, sender), Mac::BROADCAST, target));
        wait(&mut bench, 1000);
    }
    assert!(!has(&bench, HOST_IP) && !has(&bench, "10.0.1.8"));
    bench.rx(0, &arp(Arp::REQUEST, (ATTACKER, "10.0.0.6"), Mac::BROADCAST, HOST_IP));
    assert!(has(&bench, HOST_IP));
}

#[test]
fn an_owner_is_given_a_second_to_answer_however_fast_the_requests_are() {
    for probe in [true, false] {
        let mut bench = claiming(ClaimConfig { probe, ..ClaimConfig::default() });
        let sent: Sent = (0..50).flat_map(|_| ask(&mut bench, HOST_IP)).collect();
        assert_eq!(sent.len(), usize::from(probe), "{sent:?}");
        assert!(wait(&mut bench, 990).is_empty());
        assert!(!has(&bench, HOST_IP));
        // Then the last one to have asked is answered, as by a slow host.
        let sent = wait(&mut bench, 20);
        assert!(is_reply(&bench, &sent, HOST_IP), "{sent:?}");
        assert_eq!(names(&bench), ["address.claimed", "arp.request"]);
    }
    let mut bench = claiming(ClaimConfig { after: 1, ..ClaimConfig::default() });
    let sent = ask(&mut bench, HOST_IP);
    assert!(is_probe(&bench, &sent, HOST_IP));
    assert_eq!(wait(&mut bench, 1000).len(), 1);
}

#[test]
fn who_answers_the_probe_keeps_the_address_however_often_it_is_asked_for() {
    let mut bench = claiming(ClaimConfig::default());
    let mut probes = 0;
    // For an hour. Nobody hears the owner but who asks it.
    for _ in 0..3600 {
        for (_, frame) in ask(&mut bench, HOST_IP) {
            let probe = Arp::parse(&frame).unwrap();
            assert_eq!((probe.operation, probe.sender), (Arp::REQUEST, Ipv4Addr::UNSPECIFIED));
            probes += 1;
            let answer = arp(Arp::REPLY, (OWNER, HOST_IP), probe.sender_mac, "0.0.0.0");
            assert!(bench.rx(0, &answer).is_empty());
        }
        assert!(wait(&mut bench, 1000).is_empty());
    }
    assert!((5..=7).contains(&probes), "{probes}: one whenever it was not heard for ten minutes");
    assert!(names(&bench).is_empty());
    assert!(ping(&mut bench).is_empty());
}

#[test]
fn tests_for_duplicates_are_neither_counted_nor_answered() {
    let mut bench = claiming(ClaimConfig { after: 1, probe: false, ..ClaimConfig::default() });
    let test = arp(Arp::REQUEST, (OWNER, "0.0.0.0"), Mac::BROADCAST, HOST_IP);
    for _ in 0..20 {
        assert!(bench.rx(0, &test).is_empty());
        assert!(wait(&mut bench, 2000).is_empty());
    }
    assert!(names(&bench).is_empty());
    // Who tests will own it: those who wait for the new machine do not make it ours.
    ask_three_times(&mut bench, HOST_IP);
    assert!(!has(&bench, HOST_IP));
    // It has chosen another address.
    wait(&mut bench, 30_000);
    ask_three_times(&mut bench, HOST_IP);
    assert!(has(&bench, HOST_IP));
}

#[test]
fn a_test_for_duplicates_finds_a_claimed_address_free() {
    let mut bench = claimed();
    let test = arp(Arp::REQUEST, (OWNER, "0.0.0.0"), Mac::BROADCAST, HOST_IP);
    assert!(bench.rx(0, &test).is_empty());
    let [(code, event)] = releases(&bench)[..] else { panic!("{:?}", names(&bench)) };
    assert_eq!((code, event.src.mac, event.src.ip), (Release::Probe as u16, OWNER, MaybeIp::NONE));
    assert_eq!((event.dst.ip.get(), event.dst.mac), (HOST_IP.parse().ok(), mac_of(&bench, HOST_IP)));
    assert!(ping(&mut bench).is_empty() && ask(&mut bench, HOST_IP).is_empty());
    assert!(ask_three_times(&mut bench, HOST_IP).is_empty());
    // Announced (RFC 5227 §2.3), it stays its owner's.
    bench.rx(0, &arp(Arp::REQUEST, (OWNER, HOST_IP), Mac::BROADCAST, HOST_IP));
    wait(&mut bench, 60_000);
    assert!(ask_three_times(&mut bench, HOST_IP).is_empty());
    // One of our own that comes back is none, and neither is a test with an oddity: that is a scanner's.
    let mut bench = claimed();
    bench.rx(0, &arp(Arp::REQUEST, (mac_of(&bench, HOST_IP), "0.0.0.0"), Mac::BROADCAST, HOST_IP));
    let mut odd = test;
    odd[ETH + 1] = 6;
    assert!(bench.rx(0, &odd).is_empty());
    assert!(has(&bench, HOST_IP));
}

/// What an owner may be heard by.
pub(super) fn words_of_an_owner() -> Vec<Vec<u8>> {
    let own = (OWNER, HOST_IP);
    let headers = Headers {
        dst_mac: ATTACKER,
        src_mac: OWNER,
        src: HOST_IP.parse().unwrap(),
        dst: ATTACKER_IP.parse().unwrap(),
        proto: proto::UDP,
        ttl: 64,
        tos: 0,
        ip_id: 1,
        df: false,
    };
    let mut packet = vec![0; headers.len() + 8];
    headers.write(&mut packet, 8);
    vec![
        arp(Arp::REQUEST, own, Mac::BROADCAST, HOST_IP).to_vec(),
        arp(Arp::REPLY, own, Mac::BROADCAST, HOST_IP).to_vec(),
        arp(Arp::REPLY, own, ATTACKER, ATTACKER_IP).to_vec(),
        arp(Arp::REQUEST, own, Mac::BROADCAST, "10.0.77.77").to_vec(),
        packet,
    ]
}

#[test]
fn whatever_its_owner_says_ends_a_claim_at_once() {
    for words in words_of_an_owner() {
        let mut bench = claimed();
        assert!(bench.rx(0, &words).is_empty());
        let [(code, event)] = releases(&bench)[..] else { panic!("{words:?}: {:?}", names(&bench)) };
        let owner = (event.src.ip.get(), event.src.mac);
        assert_eq!((code, owner), (Release::Owner as u16, (HOST_IP.parse().ok(), OWNER)));
        assert!(ping(&mut bench).is_empty());
        assert!(ask_three_times(&mut bench, HOST_IP).is_empty());
        assert_eq!(bench.node.show(Show::Hosts, bench.now, 10).unwrap()[0]["state"], "released");
        // And before there is one.
        let mut bench = claiming(ClaimConfig::default());
        (0..3).for_each(|_| drop(ask(&mut bench, HOST_IP)));
        bench.rx(0, &words);
        assert!(wait(&mut bench, 5000).is_empty(), "{words:?}");
        // Ten minutes later it may be gone.
        wait(&mut bench, 600_000);
        ask_three_times(&mut bench, HOST_IP);
        assert!(has(&bench, HOST_IP));
    }
}

#[test]
fn routers_do_not_speak_for_whom_they_forward() {
    let mut bench = claimed();
    bench.rx(0, &arp(Arp::REQUEST, (GATEWAY, "10.0.0.1"), Mac::BROADCAST, HOST_IP));
    let mut spoofed = words_of_an_owner().pop().unwrap();
    spoofed[6..12].copy_from_slice(&GATEWAY.0);
    bench.rx(0, &spoofed);
    assert!(has(&bench, HOST_IP));
    // Nor do ours, whose frames name whoever sent them first.
    spoofed[6..12].copy_from_slice(&OWNER.0);
    let mut frame = bench.pool.copy_of(&spoofed).unwrap();
    (frame.meta.port, frame.meta.origin) = (PortNo(0), ATTACKER);
    let mut batch = Batch::default();
    batch.push(frame);
    bench.with(|node, cx| node.process(&mut batch, cx));
    assert!(has(&bench, HOST_IP));
    bench.rx(0, &spoofed);
    assert!(!has(&bench, HOST_IP));
}

#[test]
fn nothing_is_sent_with_an_address_that_was_let_go() {
    let mut bench = claimed();
    let mut client = Client::new(&bench, 22);
    client.run(&mut bench, Duration::from_millis(5));
    client.send(&bench, b"SSH-2.0-client\r\n");
    client.run(&mut bench, Duration::from_millis(5));
    let Some(Request::Lease { lease, .. }) = bench.requests.pop() else { panic!("no lease") };
    bench.with(|node, cx| node.command(Command::LeaseTap { lease, port: PortNo(1) }, cx));
    let syn = tcp_frame(&bench, 5, 80, 100, 0, flag::SYN, b"");
    assert_eq!(bench.rx(0, &syn).len(), 1);
    assert_eq!(bench.node.flows.slab.len(), 1);
    bench.rx(0, &words_of_an_owner()[0]);
    assert!(matches!(bench.requests.as_slice(), [Request::Release { lease: ended, keep: false }] if *ended == lease));
    assert!(bench.node.flows.slab.is_empty());
    assert!(names(&bench).contains(&"tcp.close"));
    // Not even a SYN/ACK once more, and nothing of what the container says meanwhile.
    let mac = mac_of(&bench, HOST_IP);
    let question = arp(Arp::REQUEST, (mac, HOST_IP), Mac::BROADCAST, "10.0.0.1");
    let mut sent = bench.rx(1, &question);
    sent.extend(wait(&mut bench, 200_000));
    assert!(sent.iter().all(|(port, _)| *port == PortNo(1)), "{sent:?}");
    assert!(wait(&mut bench, 200_000).is_empty());
}

#[test]
fn the_machine_itself_and_what_is_no_address_of_the_population_is_never_claimed() {
    let machine = vec![HOST_IP.parse().unwrap(), HOST_IP6.parse().unwrap()];
    let mut bench = claiming(ClaimConfig { machine, ..ClaimConfig::default() });
    for target in [HOST_IP, "10.0.0.1", "10.0.2.1"] {
        for _ in 0..4 {
            assert!(ask_three_times(&mut bench, target).is_empty(), "{target}");
        }
    }
    assert!((0..9).all(|_| solicit(&mut bench, HOST_IP6).is_empty() && wait(&mut bench, 500).is_empty()));
    assert!(names(&bench).is_empty());
}

#[test]
fn questions_of_hosts_that_are_ours_and_those_to_others_do_not_count() {
    let mut bench = claimed();
    let own = mac_of(&bench, HOST_IP);
    let questions = [
        arp(Arp::REQUEST, (own, HOST_IP), Mac::BROADCAST, "10.0.1.8"),
        arp(Arp::REQUEST, (ATTACKER, ATTACKER_IP), OWNER, "10.0.1.8"),
        arp(Arp::REQUEST, (ATTACKER, "224.0.0.1"), Mac::BROADCAST, "10.0.1.8"),
        arp(Arp::REQUEST, (ATTACKER, "192.0.2.1"), Mac::BROADCAST, "10.0.1.8"),
    ];
    for question in questions.iter().cycle().take(40) {
        assert!(bench.rx(0, question).is_empty());
        assert!(wait(&mut bench, 200).is_empty());
    }
    assert!(!has(&bench, "10.0.1.8"));
}

#[test]
fn claims_in_use_are_not_pushed_out() {
    let mut bench = claiming(ClaimConfig { limit: 2, release_secs: 0, ..ClaimConfig::default() });
    for target in [HOST_IP, "10.0.1.8", "10.0.1.9"] {
        ask_three_times(&mut bench, target);
    }
    assert!(has(&bench, HOST_IP) && has(&bench, "10.0.1.8") && !has(&bench, "10.0.1.9"));
    // One is spoken to every minute. The other gives way after five.
    for _ in 0..6 {
        assert_eq!(ping(&mut bench).len(), 1);
        assert!(!has(&bench, "10.0.1.9"));
        wait(&mut bench, 60_000);
    }
    for _ in 0..2 {
        ask_three_times(&mut bench, "10.0.1.9");
    }
    assert!(has(&bench, HOST_IP) && !has(&bench, "10.0.1.8") && has(&bench, "10.0.1.9"));
    let [(code, event)] = releases(&bench)[..] else { panic!("{:?}", names(&bench)) };
    assert_eq!((code, event.dst.ip.get()), (Release::Evicted as u16, "10.0.1.8".parse().ok()));
}

#[test]
fn a_sweep_of_a_slash_8_is_bounded_and_disturbs_nobody() {
    let claim = ClaimConfig { limit: 50, ..ClaimConfig::default() };
    let mut config = HostsConfig { claim: Some(Box::new(claim)), ..config() };
    config.ranges = vec![super::super::AddrRange { first: [10, 0, 1, 0].into(), last: [10, 255, 255, 255].into() }];
    config.segment.prefixes = vec!["10.0.0.0/8".parse().unwrap()];
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    ask_three_times(&mut bench, HOST_IP);
    let mut probes = 0;
    for i in 0..120_000u32 {
        // Each three times at once, as a sweep that wants answers from all.
        let target = Ipv4Addr::from_bits(0x0a10_0000 + i / 3).to_string();
        probes += ask(&mut bench, &target).len();
        if i % 1000 == 0 {
            wait(&mut bench, 10);
        }
        // Owners that are nobody's, either.
        let forged = Ipv4Addr::from_bits(0x0ac0_0000 + i).to_string();
        bench.rx(0, &arp(Arp::REPLY, (OWNER, &forged), ATTACKER, ATTACKER_IP));
    }
    let claims = bench.node.claims.as_ref().unwrap();
    assert!(has(&bench, HOST_IP));
    assert_eq!(claims.held.len(), 50);
    assert!(claims.wanted.len() <= 8192 && claims.owners.len() <= 16_384 && claims.due.len() <= 1024);
    // 2.4 seconds with a budget of 200 and 100 a second.
    assert!(probes <= 440, "{probes}");
    assert_eq!(bench.pool.in_use(), 0);
}

#[test]
fn what_nobody_speaks_to_is_let_go_but_for_connections() {
    let mut bench = claiming(ClaimConfig { release_secs: 120, ..ClaimConfig::default() });
    ask_three_times(&mut bench, HOST_IP);
    ask_three_times(&mut bench, "10.0.1.8");
    let mut client = Client::new(&bench, 119);
    client.run(&mut bench, Duration::from_millis(5));
    assert_eq!(bench.node.flows.slab.len(), 1);
    wait(&mut bench, 100_000);
    assert!(has(&bench, "10.0.1.8"));
    wait(&mut bench, 60_000);
    let [(code, event)] = releases(&bench)[..] else { panic!("{:?}", names(&bench)) };
    assert_eq!((code, event.dst.ip.get()), (Release::Idle as u16, "10.0.1.8".parse().ok()));
    assert_eq!(event.src, Party::default());
    assert!(has(&bench, HOST_IP));
    // It may come back.
    ask_three_times(&mut bench, "10.0.1.8");
    assert!(has(&bench, "10.0.1.8"));
}

pub(super) fn solicit_from(bench: &mut Bench<Hosts>, (mac, src): (Mac, &str), target: &str) -> Sent {
    let (src, target): (Ipv6Addr, Ipv6Addr) = (src.parse().unwrap(), target.parse().unwrap());
    let group = solicited_node(target);
    let option = (!src.is_unspecified()).then_some(mac);
    let mut frame = [0; 86];
    let question = Neighbor { advert: false, target, mac: option };
    let len = question.write(Mac::ipv6_multicast(group), mac, src, group, 0, &mut frame);
    bench.rx(0, &frame[..len])
}

pub(super) fn solicit(bench: &mut Bench<Hosts>, target: &str) -> Sent {
    solicit_from(bench, (ATTACKER, "fd00::9"), target)
}
