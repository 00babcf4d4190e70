//! What hosts say by themselves, in virtual time, and how their IPv6 headers look.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv6Addr;

use super::tests::{ATTACKER, config};
use super::*;
use crate::emulate::{Interned, Says, Secret};
use crate::node::testing::Bench;
use crate::node::{AddrRange, Limits, Shard};
use crate::wire::{
    ARP_FRAME, Arp, Duration, Headers, Neighbor, Segment as TcpSegment, TcpHeader, flag, link_local, solicited_node,
};

pub(super) fn host(personality: Interned, addresses: &[&str], talk: Says) -> HostsConfig {
    let mut config = config();
    let one = |ip: &&str| AddrRange { first: ip.parse().unwrap(), last: ip.parse().unwrap() };
    (config.ranges, config.single, config.hostname) = (addresses.iter().map(one).collect(), true, Some("web01".into()));
    (config.templates[0].personality, config.templates[0].backend, config.templates[0].talk) =
        (personality, None, talk);
    config
}

pub(super) fn bench_of(config: HostsConfig) -> Bench<Hosts> {
    Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2)
}

/// Everything that is said within so many seconds, and when, in milliseconds since the start.
pub(super) fn said(bench: &mut Bench<Hosts>, secs: u64) -> Vec<(u64, Vec<u8>)> {
    let begin = bench.now;
    let mut all = Vec::new();
    for _ in 0..secs * 100 {
        let until = bench.now + Duration::from_millis(10);
        let at = (bench.now - begin).total_millis();
        all.extend(bench.run_until(until).into_iter().map(|(port, frame)| {
            assert_eq!(port, HostsConfig::LAN);
            (at, frame)
        }));
    }
    assert_eq!(bench.pool.in_use(), 0);
    all
}

/// The datagrams among `frames` to `port`: source port, destination, TTL, payload. All checksums are right.
pub(super) fn datagrams(frames: &[(u64, Vec<u8>)], port: u16) -> Vec<(u16, IpAddr, u8, Vec<u8>)> {
    let of = |(_, frame): &(u64, Vec<u8>)| {
        let packet = Packet::parse(frame).ok()?;
        let message = packet.payload(frame);
        assert!(packet.proto == proto::IGMP || packet.checksum_ok(frame));
        (packet.proto == proto::UDP && be16(message, 2) == port).then(|| {
            assert_eq!(usize::from(be16(message, 4)), message.len());
            (be16(message, 0), packet.dst(), packet.ttl, message[8..].to_vec())
        })
    };
    frames.iter().filter_map(of).collect()
}

fn arps(frames: &[(u64, Vec<u8>)]) -> Vec<(u64, Mac, Arp)> {
    frames.iter().filter_map(|(at, frame)| Some((*at, dst_mac(frame), Arp::parse(frame)?))).collect()
}

#[test]
fn addresses_are_announced_as_each_system_does() {
    let cases: [(Builtin, usize, usize, u64); 6] = [
        (Builtin::Windows, 3, 1, 1000),
        (Builtin::WindowsXp, 0, 3, 1000),
        (Builtin::MacOs, 3, 2, 320),
        (Builtin::Linux, 0, 2, 2000),
        (Builtin::FreeBsd, 0, 1, 1000),
        (Builtin::Android, 0, 0, 2000),
    ];
    for (system, probes, announcements, gap) in cases {
        let mut bench = bench_of(host(system.into(), &["10.0.1.7"], Says::ARP));
        let frames = said(&mut bench, 10);
        assert!(frames.iter().all(|(_, frame)| frame.len() == ARP_FRAME));
        let own: Ipv4Addr = "10.0.1.7".parse().unwrap();
        let arps = arps(&frames);
        let of_own: Vec<_> = arps.iter().filter(|(.., arp)| arp.target == own).collect();
        let is_probe = |arp: &Arp| arp.sender.is_unspecified();
        assert_eq!(of_own.iter().filter(|(.., arp)| is_probe(arp)).count(), probes, "{system:?}");
        assert_eq!(of_own.iter().filter(|(.., arp)| arp.sender == own).count(), announcements, "{system:?}");
        assert!(of_own.iter().is_sorted_by_key(|(.., arp)| !is_probe(arp)), "probes come first");
        for pair in of_own.windows(2) {
            assert!((pair[1].0 - pair[0].0).abs_diff(gap) <= 10, "{system:?}");
        }
        for (_, dst, arp) in &of_own {
            let mac = bench.node.target(word_of(own.into())).unwrap().mac;
            assert_eq!((*dst, arp.operation, arp.target_mac), (Mac::BROADCAST, Arp::REQUEST, Mac::ZERO));
            assert_eq!(arp.sender_mac, mac);
        }
        // Then it looks for its gateway.
        let (_, _, last) = arps.iter().find(|(.., arp)| arp.target != own).unwrap();
        assert_eq!((last.sender, last.target.to_string().as_str()), (own, "10.0.0.1"));
    }
}

#[test]
fn a_known_gateway_is_asked_itself() {
    let mut bench = bench_of(host(Builtin::Linux.into(), &["10.0.1.7"], Says::ARP));
    said(&mut bench, 5);
    let own = bench.node.target(word_of("10.0.1.7".parse().unwrap())).unwrap().mac;
    let mut answer = [0; ARP_FRAME];
    let gateway = Arp {
        operation: Arp::REPLY,
        sender_mac: ATTACKER,
        sender: "10.0.0.1".parse().unwrap(),
        target_mac: own,
        target: "10.0.1.7".parse().unwrap(),
    };
    gateway.write(own, ATTACKER, &mut answer);
    assert_eq!(bench.rx(0, &answer), []);
    let again = said(&mut bench, 80);
    let arps = arps(&again);
    assert_eq!(arps.len(), 1, "once in about a minute");
    assert_eq!((arps[0].1, arps[0].2.target.to_string().as_str()), (ATTACKER, "10.0.0.1"));
}

#[test]
fn windows_claims_its_names_and_looks_around() {
    let talk = Builtin::Windows.get().talk.says;
    let mut bench = bench_of(host(Builtin::Windows.into(), &["10.0.1.7"], talk));
    let frames = said(&mut bench, 20);
    let names = datagrams(&frames, 137);
    assert_eq!(names.len(), 12);
    assert!(names.iter().all(|(port, dst, ttl, _)| (*port, *ttl) == (137, 128) && dst.to_string() == "10.0.255.255"));
    let browser = datagrams(&frames, 138);
    assert_eq!((browser.len(), browser[0].2), (1, 128));
    assert!(browser[0].3.windows(5).any(|part| part == b"WEB01"));
    let llmnr = datagrams(&frames, 5355);
    assert_eq!(llmnr.len(), 4, "twice by either family");
    assert!(
        llmnr
            .iter()
            .all(|(port, _, ttl, message)| *port >= 0xc000 && *ttl == 1 && message[12..].starts_with(b"\x05web01"))
    );
    let mdns = datagrams(&frames, 5353);
    assert_eq!(mdns.len(), 10, "three probes and two announcements by either family");
    assert!(mdns.iter().all(|(port, _, ttl, _)| (*port, *ttl) == (5353, 1)));
    let search = datagrams(&frames, 1900);
    assert_eq!(search.len(), 3);
    assert!(search.iter().all(|(_, dst, ttl, text)| {
        dst.to_string() == "239.255.255.250" && *ttl == 1 && text.starts_with(b"M-SEARCH * HTTP/1.1\r\n")
    }));
    // It counts all its packets in one.
    let ids: Vec<u16> = frames
        .iter()
        .filter(|(_, frame)| Packet::parse(frame).is_ok_and(|packet| packet.is_v4()))
        .map(|(_, frame)| be16(frame, ETH + 4))
        .collect();
    assert!(ids.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{ids:?}");
}

#[test]
fn others_say_what_theirs_say() {
    let macos = Builtin::MacOs.get().talk.says;
    let mut bench = bench_of(host(Builtin::MacOs.into(), &["10.0.1.7"], macos));
    let frames = said(&mut bench, 20);
    for port in [137, 138, 1900, 5355] {
        assert_eq!(datagrams(&frames, port), [], "{port}");
    }
    let mdns = datagrams(&frames, 5353);
    assert!(mdns.len() > 14 && mdns.iter().all(|(.., ttl, _)| *ttl == 255));
    assert!(mdns.iter().any(|(.., message)| message[12..].starts_with(b"\x08_airplay\x04_tcp\x05local\0\0\x0c")));
    let mut quiet = bench_of(host(Builtin::Windows.into(), &["10.0.1.7"], Says::NONE));
    assert_eq!(said(&mut quiet, 20), []);
}

#[test]
fn large_populations_are_no_flood() {
    let mut all = host(Builtin::Windows.into(), &[], Builtin::Windows.get().talk.says);
    all.ranges = vec![AddrRange { first: "10.0.0.0".parse().unwrap(), last: "10.255.255.255".parse().unwrap() }];
    (all.single, all.hostname) = (false, Some("pc".into()));
    let mut bench = bench_of(all);
    let frames = said(&mut bench, 150);
    let mut by_second: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, _) in &frames {
        *by_second.entry(at / 1000).or_default() += 1;
    }
    // Most acts are one or two frames.
    assert!(by_second.values().all(|count| *count <= 2 * 150), "{by_second:?}");
    let speakers: HashSet<Mac> = frames.iter().map(|(_, frame)| src_mac(frame)).collect();
    assert_eq!(speakers.len(), 256);
    let announced: HashSet<Ipv4Addr> =
        arps(&frames).iter().filter(|(.., arp)| arp.sender == arp.target).map(|(.., arp)| arp.sender).collect();
    let sixteenths: HashSet<u8> = announced.iter().map(|ip| ip.octets()[1] >> 4).collect();
    assert_eq!((announced.len(), sixteenths.len()), (256, 16), "all over the population");
}

#[test]
fn nobody_speaks_for_addresses_that_may_be_anothers() {
    let mut config = host(Builtin::Windows.into(), &["10.0.1.7"], Builtin::Windows.get().talk.says);
    config.claim = Some(Default::default());
    assert_eq!(said(&mut bench_of(config), 20), []);
}

#[test]
fn replicas_share_the_talking() {
    let talkers = |shard: Shard| -> HashSet<Mac> {
        let mut all = host(Builtin::FreeBsd.into(), &[], Says::ARP);
        all.ranges = vec![AddrRange { first: "10.0.1.0".parse().unwrap(), last: "10.0.1.99".parse().unwrap() }];
        (all.single, all.hostname, all.limits) = (false, None, Limits { talkers: 40, ..Limits::default() });
        let mut bench = bench_of(all);
        bench.shard = shard;
        said(&mut bench, 60).iter().map(|(_, frame)| src_mac(frame)).collect()
    };
    let (all, a, b) =
        (talkers(Shard::ALONE), talkers(Shard { index: 0, count: 2 }), talkers(Shard { index: 1, count: 2 }));
    assert_eq!(all.len(), 40);
    assert!(a.is_disjoint(&b) && !a.is_empty() && !b.is_empty());
    assert_eq!(a.union(&b).copied().collect::<HashSet<_>>(), all);
}

/// A packet to an IPv6 address of the host.
pub(super) fn v6(src: &str, dst: &str, dst_mac: Mac, ttl: u8, proto: u8, l4: &[u8]) -> Vec<u8> {
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    let headers = Headers { dst_mac, src_mac: ATTACKER, src, dst, proto, ttl, tos: 0, ip_id: 0, df: false };
    let mut frame = vec![0; headers.len() + l4.len()];
    let at = headers.write(&mut frame, l4.len());
    frame[at..].copy_from_slice(l4);
    headers.fill_checksum(&mut frame[at..]);
    frame
}

#[test]
fn ipv6_begins_with_detection_and_reports() {
    let mut bench = bench_of(host(Builtin::Linux.into(), &["10.0.1.7", "fd00::7"], Says::IPV6));
    let frames = said(&mut bench, 12);
    let mac = src_mac(&frames[0].1);
    let own = link_local(mac);
    let messages: Vec<(Packet, Vec<u8>)> =
        frames.iter().map(|(_, frame)| (Packet::parse(frame).unwrap(), frame.clone())).collect();
    let detected: Vec<Ipv6Addr> = messages
        .iter()
        .filter_map(|(packet, frame)| Neighbor::parse(packet, frame))
        .inspect(|message| assert!(!message.advert && message.mac.is_none()))
        .map(|message| message.target)
        .collect();
    assert_eq!(detected, [own, "fd00::7".parse::<Ipv6Addr>().unwrap()]);
    let kinds: Vec<u8> = messages.iter().map(|(packet, frame)| packet.payload(frame)[0]).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == 143).count(), 2);
    assert_eq!(kinds.iter().filter(|kind| **kind == 133).count(), 3);
    assert_eq!(kinds[..3], [135, 135, 143]);
    let (report, frame) = &messages[2];
    assert_eq!((report.src(), report.ttl), (own.into(), 1));
    let groups = &report.payload(frame)[8..];
    for ip in detected {
        assert!(groups.chunks(20).any(|record| record[0] == 4 && record[4..] == solicited_node(ip).octets()));
    }
    // Nothing of it has a flow label.
    assert!(messages.iter().all(|(_, frame)| crate::wire::be32(frame, ETH) == 0x6000_0000));
}

#[test]
fn listener_queries_are_answered_once_and_in_time() {
    let mut bench = bench_of(host(Builtin::Linux.into(), &["fd00::7"], Says::IPV6));
    said(&mut bench, 12);
    let mut query = [0; 28];
    query[0] = 130;
    query[4..6].copy_from_slice(&1000u16.to_be_bytes());
    let all = Mac::ipv6_multicast("ff02::1".parse().unwrap());
    let alerted = |src: &str, ttl: u8| v6(src, "ff02::1", all, ttl, proto::ICMPV6, &query);
    assert_eq!(bench.rx(0, &alerted("fe80::1", 1)), []);
    assert_eq!(bench.rx(0, &alerted("fe80::1", 1)), []);
    let answers = said(&mut bench, 2);
    assert_eq!(answers.len(), 1);
    let packet = Packet::parse(&answers[0].1).unwrap();
    assert_eq!(
        packet.payload(&answers[0].1)[..9],
        [143, 0, packet.payload(&answers[0].1)[2], packet.payload(&answers[0].1)[3], 0, 0, 0, 2, 2]
    );
    assert!(packet.checksum_ok(&answers[0].1));
    for stranger in [alerted("fe80::1", 64), alerted("fd00::1", 1)] {
        assert_eq!(bench.rx(0, &stranger), []);
    }
    assert_eq!(said(&mut bench, 2), []);
    // One group alone, which it listens to or not.
    query[8..24].copy_from_slice(&solicited_node("fd00::7".parse().unwrap()).octets());
    bench.rx(0, &v6("fe80::1", "ff02::1", all, 1, proto::ICMPV6, &query));
    assert_eq!(said(&mut bench, 2).len(), 1);
    query[23] ^= 1;
    bench.rx(0, &v6("fe80::1", "ff02::1", all, 1, proto::ICMPV6, &query));
    assert_eq!(said(&mut bench, 2), []);
}

const ECHO: [u8; 16] = [icmp6::ECHO_REQUEST, 0, 0, 0, 0, 7, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn link_local_addresses_are_the_hosts_own() {
    let mut bench = bench_of(host(Builtin::Linux.into(), &["10.0.1.7"], Says::IPV6));
    let silent = bench_of(host(Builtin::Linux.into(), &["10.0.1.7"], Says::NONE));
    said(&mut bench, 1);
    let mac = bench.node.target(word_of("10.0.1.7".parse().unwrap())).unwrap().mac;
    let own = link_local(mac);
    let question = Neighbor { advert: false, target: own, mac: Some(ATTACKER) };
    let (group, peer) = (solicited_node(own), "fe80::aa".parse().unwrap());
    for (mut bench, answers) in [(silent, 0), (bench, 1)] {
        bench.with(|node, cx| node.tick(cx));
        let mut frame = vec![0; 86];
        question.write(Mac::ipv6_multicast(group), ATTACKER, peer, group, 0, &mut frame);
        let out = bench.rx(0, &frame);
        assert_eq!(out.len(), answers);
        let echo = v6("fe80::aa", &own.to_string(), mac, 64, proto::ICMPV6, &ECHO);
        let replies = bench.rx(0, &echo);
        assert_eq!(replies.len(), answers);
        if answers > 0 {
            let advert = Neighbor::parse(&Packet::parse(&out[0].1).unwrap(), &out[0].1).unwrap();
            assert_eq!((advert.advert, advert.mac), (true, Some(mac)));
            assert_eq!(Packet::parse(&replies[0].1).unwrap().src(), IpAddr::V6(own));
        }
    }
}

#[test]
fn flow_labels_and_hop_limits_are_the_systems() {
    // Of a SYN/ACK, of the RST of a closed port, of an echo reply and of an ICMP error; and the hop limit.
    let cases: [(Builtin, [bool; 4], u8); 7] = [
        (Builtin::Linux, [true; 4], 64),
        (Builtin::Android, [true; 4], 64),
        (Builtin::Linux26, [false; 4], 64),
        (Builtin::Windows, [false; 4], 128),
        (Builtin::FreeBsd, [true, false, false, false], 64),
        (Builtin::MacOs, [true, false, false, false], 64),
        (Builtin::CiscoIos, [false; 4], 64),
    ];
    for (system, labeled, hop_limit) in cases {
        let mut bench = bench_of(host(system.into(), &["fd00::7"], Says::NONE));
        bench.with(|node, cx| node.tick(cx));
        let mac = bench.node.target(word_of("fd00::7".parse().unwrap())).unwrap().mac;
        let syn = |sport: u16, dport: u16| {
            let mut segment = [0; 20];
            let headers: [&[u8]; 3] =
                [&sport.to_be_bytes(), &dport.to_be_bytes(), &[0, 0, 0, 9, 0, 0, 0, 0, 0x50, flag::SYN, 0x20, 0]];
            segment[..16].copy_from_slice(&headers.concat());
            v6("fd00::aa", "fd00::7", mac, 64, proto::TCP, &segment)
        };
        let udp = [0x20, 0, 0, 99, 0, 8, 0, 0];
        // The peer's own label is never taken for ours.
        let mut echo = v6("fd00::aa", "fd00::7", mac, 64, proto::ICMPV6, &ECHO);
        crate::wire::set_flow_label(&mut echo, 0x12345);
        let questions = [syn(4000, 21), syn(4000, 99), echo, v6("fd00::aa", "fd00::7", mac, 64, proto::UDP, &udp)];
        let label = |bench: &mut Bench<Hosts>, question: &[u8]| {
            let out = bench.rx(0, question);
            let packet = Packet::parse(&out[0].1).unwrap();
            assert!(packet.checksum_ok(&out[0].1));
            assert_eq!(packet.ttl, hop_limit, "{system:?}");
            crate::wire::be32(&out[0].1, ETH) & 0x000f_ffff
        };
        let labels = questions.each_ref().map(|question| label(&mut bench, question));
        assert_eq!(labels.map(|label| label != 0), labeled, "{system:?} {labels:x?}");
        assert_eq!(questions.each_ref().map(|question| label(&mut bench, question)), labels, "the same of the same");
        let other = label(&mut bench, &syn(4001, 21));
        assert_eq!(other != labels[0], labeled[0], "each connection has its own");
        // All segments of a connection have one.
        let out = bench.rx(0, &syn(4002, 21));
        let packet = Packet::parse(&out[0].1).unwrap();
        let tcp = TcpHeader::parse(packet.payload(&out[0].1)).unwrap();
        let headers = Headers {
            dst_mac: mac,
            src_mac: ATTACKER,
            src: "fd00::aa".parse().unwrap(),
            dst: "fd00::7".parse().unwrap(),
            proto: proto::TCP,
            ttl: 64,
            tos: 0,
            ip_id: 0,
            df: false,
        };
        let ack = TcpSegment {
            src: 4002,
            dst: 21,
            seq: 10,
            ack: tcp.seq.wrapping_add(1),
            flags: flag::ACK,
            window: 8192,
            options: &[],
            payload: &[],
        };
        let mut frame = vec![0; headers.len() + ack.len()];
        ack.write(&headers, &mut frame);
        let banner = bench.rx(0, &frame);
        assert_eq!(crate::wire::be32(&banner[0].1, ETH), crate::wire::be32(&out[0].1, ETH), "{system:?}");
        assert_eq!(Packet::parse(&banner[0].1).unwrap().ttl, hop_limit);
    }
}
