//! The same for IPv6, and with several shards.

use std::net::Ipv6Addr;

use super::claim_tests::{
    HOST_IP6, OWNER, Sent, ask, claiming, has, is_probe, is_reply, releases, sharded, solicit, solicit_from, wait,
    words_of_an_owner,
};
use super::tests::{HOST_IP, mac_of, names};
use super::*;
use crate::event::Release;
use crate::frame::PortNo;
use crate::node::testing::Bench;
use crate::node::{ClaimConfig, Shard};
use crate::wire::{Neighbor, solicited_node};

fn neighbor_of(sent: &Sent) -> (Packet, Neighbor) {
    let [(PortNo(0), frame)] = sent.as_slice() else { panic!("{sent:?}") };
    let packet = Packet::parse(frame).unwrap();
    assert!(packet.checksum_ok(frame));
    (packet, Neighbor::parse(&packet, frame).unwrap())
}

#[test]
fn ipv6_addresses_are_claimed_and_let_go_alike() {
    let mut bench = claiming(ClaimConfig::default());
    let target: Ipv6Addr = HOST_IP6.parse().unwrap();
    let claim = |bench: &mut Bench<Hosts>| {
        assert!(solicit(bench, HOST_IP6).is_empty());
        wait(bench, 1000);
        let sent = solicit(bench, HOST_IP6);
        let (packet, probe) = neighbor_of(&sent);
        // RFC 4862 §5.4.2.
        assert_eq!(probe, Neighbor { advert: false, target, mac: None });
        assert_eq!((packet.src(), packet.dst()), (Ipv6Addr::UNSPECIFIED.into(), solicited_node(target).into()));
        assert_eq!(src_mac(&sent[0].1), mac_of(bench, HOST_IP6));
        wait(bench, 1000);
        let (packet, advert) = neighbor_of(&solicit(bench, HOST_IP6));
        assert_eq!(advert, Neighbor { advert: true, target, mac: Some(mac_of(bench, HOST_IP6)) });
        assert_eq!((packet.src(), packet.dst()), (target.into(), "fd00::9".parse::<IpAddr>().unwrap()));
        assert!(has(bench, HOST_IP6));
    };
    claim(&mut bench);
    assert_eq!(names(&bench), ["address.claimed", "arp.request"]);
    // A test for duplicates.
    assert!(solicit_from(&mut bench, (OWNER, "::"), HOST_IP6).is_empty());
    assert!(!has(&bench, HOST_IP6));
    assert_eq!(releases(&bench)[0].0, Release::Probe as u16);
    assert!((0..9).all(|_| solicit(&mut bench, HOST_IP6).is_empty() && wait(&mut bench, 1000).is_empty()));
    wait(&mut bench, 30_000);
    claim(&mut bench);
    // An unsolicited advertisement.
    let mut frame = [0; 86];
    let everybody: Ipv6Addr = "ff02::1".parse().unwrap();
    let advert = Neighbor { advert: true, target, mac: Some(OWNER) };
    advert.write(Mac::ipv6_multicast(everybody), OWNER, target, everybody, 0x20, &mut frame);
    assert!(bench.rx(0, &frame).is_empty());
    assert!(!has(&bench, HOST_IP6));
    wait(&mut bench, 600_000);
    claim(&mut bench);
    // Its owner looks for somebody else.
    assert!(solicit_from(&mut bench, (OWNER, HOST_IP6), "fd00::1:8").is_empty());
    assert!(!has(&bench, HOST_IP6));
    assert_eq!(releases(&bench).iter().map(|(code, _)| *code).collect::<Vec<_>>(), [1, 0, 0]);
    // A burst is answered when the second is over.
    let sent: Sent = (0..5).flat_map(|_| solicit(&mut bench, "fd00::1:9")).collect();
    assert!(!neighbor_of(&sent).1.advert);
    let (packet, advert) = neighbor_of(&wait(&mut bench, 1000));
    assert_eq!((advert.advert, packet.dst()), (true, "fd00::9".parse::<IpAddr>().unwrap()));
}

/// Gives both shards what they have handed to each other.
fn exchange(shards: &mut [Bench<Hosts>; 2]) -> Sent {
    let mut sent = Sent::new();
    for _ in 0..4 {
        for at in 0..2 {
            for (to, frame) in std::mem::take(&mut shards[at].handed) {
                let (bytes, port) = (frame.bytes().to_vec(), frame.meta.port);
                shards[at].pool.put(frame);
                let other = &mut shards[usize::from(to)];
                let mut batch = Batch::default();
                let mut copy = other.pool.copy_of(&bytes).unwrap();
                (copy.meta.port, copy.meta.handed) = (port, true);
                batch.push(copy);
                sent.extend(other.with(|node, cx| node.process(&mut batch, cx)));
            }
        }
    }
    sent
}

#[test]
fn the_shard_that_keeps_an_address_decides_whoever_hears_of_it() {
    let shard = |index| sharded(ClaimConfig::default(), Shard { index, count: 2 });
    let mut shards = [shard(0), shard(1)];
    let keeper = usize::from(shards[0].shard.owner_of(word_of(HOST_IP.parse().unwrap())));
    let other = 1 - keeper;
    let claim = |shards: &mut [Bench<Hosts>; 2]| {
        let mut sent = Sent::new();
        for _ in 0..3 {
            sent.extend(ask(&mut shards[other], HOST_IP));
            sent.extend(exchange(shards));
            shards.iter_mut().for_each(|bench| sent.extend(wait(bench, 1000)));
        }
        let keeps = &shards[keeper];
        assert_eq!(sent.len(), 2);
        assert!(is_probe(keeps, &sent[..1].to_vec(), HOST_IP) && is_reply(keeps, &sent[1..].to_vec(), HOST_IP));
        exchange(shards);
        assert!(has(&shards[keeper], HOST_IP) && !has(&shards[other], HOST_IP));
        let word = word_of(HOST_IP.parse().unwrap());
        assert!(shards.iter().all(|bench| bench.node.is_ours(word)), "containers may be anywhere");
    };
    claim(&mut shards);
    // A packet of the owner's comes to whoever keeps the one it is for.
    shards[other].rx(0, &words_of_an_owner()[4]);
    exchange(&mut shards);
    let word = word_of(HOST_IP.parse().unwrap());
    assert!(shards.iter().all(|bench| !bench.node.is_ours(word)));
    assert_eq!(releases(&shards[keeper]).len(), 1);
    assert!(releases(&shards[other]).is_empty());
    // What follows is no news, but for once in a while.
    let mut told = 0;
    for _ in 0..20 {
        shards[other].rx(0, &words_of_an_owner()[4]);
        told += shards[other].handed.len();
        exchange(&mut shards);
        shards.iter_mut().for_each(|bench| drop(wait(bench, 1000)));
    }
    assert_eq!(told, 1);
    // Its silence makes it ours again, and then the first word counts.
    shards.iter_mut().for_each(|bench| drop(wait(bench, 600_000)));
    claim(&mut shards);
    shards[other].rx(0, &words_of_an_owner()[4]);
    exchange(&mut shards);
    assert!(!has(&shards[keeper], HOST_IP));
    assert!(shards.iter().all(|bench| bench.pool.in_use() == 0));
}
