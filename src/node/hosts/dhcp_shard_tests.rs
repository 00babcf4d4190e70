//! Leases with several shards: one leases, the one that keeps an address answers for it.

use std::net::Ipv4Addr;

use super::dhcp_tests::{PEER, Said, arp_frame, dhcp, frame_of, leasing, ping, terms, who_has};
use super::*;
use crate::emulate::dhcp::testing::reply;
use crate::frame::PortNo;
use crate::node::Shard;
use crate::node::testing::Bench;
use crate::wire::{Arp, Duration};

type Sent = Vec<(PortNo, Vec<u8>)>;

/// Gives the shards what they have handed to each other, until that is nothing.
fn exchange(shards: &mut [Bench<Hosts>]) -> Sent {
    let mut sent = Sent::new();
    for round in 0.. {
        let mut handed = Vec::new();
        for shard in &mut *shards {
            for (to, frame) in std::mem::take(&mut shard.handed) {
                handed.push((to, frame.bytes().to_vec(), frame.meta.port));
                shard.pool.put(frame);
            }
        }
        if handed.is_empty() {
            break;
        }
        assert!(round < 8, "they hand it around");
        for (to, bytes, port) in handed {
            let shard = &mut shards[usize::from(to)];
            let mut copy = shard.pool.copy_of(&bytes).unwrap();
            (copy.meta.port, copy.meta.handed) = (port, true);
            let mut batch = Batch::default();
            batch.push(copy);
            sent.extend(shard.with(|node, cx| {
                node.process(&mut batch, cx);
                node.tick(cx);
            }));
        }
    }
    sent
}

fn run(shards: &mut [Bench<Hosts>], secs: u64) -> Sent {
    let mut sent = Sent::new();
    for _ in 0..secs * 10 {
        for shard in &mut *shards {
            let until = shard.now + Duration::from_millis(100);
            sent.extend(shard.run_until(until));
        }
        sent.extend(exchange(shards));
    }
    sent
}

fn rx(shards: &mut [Bench<Hosts>], at: usize, frame: &[u8]) -> Sent {
    let mut sent = shards[at].rx(0, frame);
    sent.extend(exchange(shards));
    sent
}

/// Has the only host lease `ip`; whatever a server says comes to the shard `at`.
fn lease(shards: &mut [Bench<Hosts>], at: usize, ip: Ipv4Addr) -> Mac {
    let mut sent = run(shards, 40);
    for kind in [2, 5] {
        let said = sent.iter().rev().find_map(|(_, frame)| Said::of(frame)).unwrap();
        let answer = frame_of(Mac::BROADCAST, &reply(kind, (said.xid, said.mac), ip, &terms()));
        sent = rx(shards, at, &answer);
        if kind == 5 {
            run(shards, 10);
            return said.mac;
        }
    }
    unreachable!()
}

fn shards() -> Vec<Bench<Hosts>> {
    (0..3).map(|index| leasing(dhcp(1, 16), Shard { index, count: 3 })).collect()
}

#[test]
fn the_shard_that_keeps_a_leased_address_answers_for_it() {
    for last in [40, 41, 42, 43] {
        let mut shards = shards();
        let ip = Ipv4Addr::new(10, 7, 0, last);
        let keeper = usize::from(shards[0].shard.owner_of(word_of(ip.into())));
        let mac = lease(&mut shards, 2, ip);
        for at in 0..3 {
            assert_eq!(rx(&mut shards, at, &who_has(ip)).len(), 1);
            assert_eq!(rx(&mut shards, at, &ping(mac, ip)).len(), 1);
        }
        let sessions: Vec<usize> = shards.iter().map(|shard| shard.node.sessions.iter().count()).collect();
        assert!((0..3).all(|at| (sessions[at] > 0) == (at == keeper)), "{sessions:?}, kept by {keeper}");
        let rows: usize = shards.iter().map(|shard| shard.node.show(Show::Hosts, shard.now, 100).unwrap().len()).sum();
        assert_eq!(rows, 1, "told once");
        // Whichever shard hears of somebody else with that address.
        let (operation, sender_mac, target_mac) = (Arp::REQUEST, Mac([2, 9, 9, 9, 9, 9]), Mac::ZERO);
        let rival = Arp { operation, sender_mac, sender: ip, target_mac, target: PEER };
        rx(&mut shards, 1, &arp_frame(&rival, Mac::BROADCAST));
        run(&mut shards, 1);
        let sent = rx(&mut shards, 2, &arp_frame(&rival, Mac::BROADCAST));
        assert!(sent.iter().any(|(_, frame)| Said::of(frame).is_some_and(|said| said.kind == 4)), "{sent:?}");
        for at in 0..3 {
            assert!(rx(&mut shards, at, &who_has(ip)).is_empty());
            assert!(rx(&mut shards, at, &ping(mac, ip)).is_empty());
        }
        let lost = |shard: &Bench<Hosts>| shard.events.iter().filter(|(e, _)| e.id == EventId::DhcpLost).count();
        assert_eq!(shards.iter().map(lost).collect::<Vec<_>>(), [1, 0, 0]);
        assert!(shards.iter().all(|shard| shard.pool.in_use() == 0));
    }
}

#[test]
fn a_replica_that_is_made_anew_learns_again() {
    let mut all = shards();
    let ip = Ipv4Addr::new(10, 7, 0, 40);
    let keeper = usize::from(all[0].shard.owner_of(word_of(ip.into())));
    let other = (1..3).find(|at| *at != keeper).unwrap();
    let mac = lease(&mut all, 0, ip);
    let now = all[0].now;
    let anew = |at: usize| {
        let mut shard = leasing(dhcp(1, 16), Shard { index: at as u16, count: 3 });
        shard.now = now;
        shard
    };
    all[other] = anew(other);
    assert!(rx(&mut all, other, &ping(mac, ip)).is_empty());
    run(&mut all, 10);
    assert_eq!(rx(&mut all, other, &ping(mac, ip)).len(), 1);
    // The one that leases has forgotten everything: nobody has that address until it is leased again.
    all[0] = anew(0);
    all[0].with(|node, cx| node.tick(cx));
    exchange(&mut all);
    assert!((0..3).all(|at| rx(&mut all, at, &ping(mac, ip)).is_empty()));
    assert_eq!(lease(&mut all, 1, ip), mac);
    assert!((0..3).all(|at| rx(&mut all, at, &ping(mac, ip)).len() == 1));
}
