//! Servers that mean no good, and words that are for others.

use std::net::Ipv4Addr;

use super::dhcp_tests::{LEASE, Net, SERVER, SERVER_MAC, Said, dhcp, frame_of, packet, terms};
use super::tests::ATTACKER;
use super::*;
use crate::emulate::dhcp::testing::{option, reply};
use crate::node::DhcpConfig;
use crate::wire::DhcpMessageType;

#[test]
fn what_a_server_may_not_give_is_refused_and_told() {
    let config = DhcpConfig { machine: vec!["10.7.0.50".parse().unwrap()], servers: vec![SERVER], ..dhcp(2, 16) };
    let mut net = Net::new(config);
    net.bench.node.config.segment.gateways = vec!["10.7.0.254".parse().unwrap()];
    net.run(60);
    let (_, ip) = net.given[0];
    assert_eq!(net.events(EventId::DhcpLeased).len(), 2);
    // The other one begins anew, and is offered this and that.
    let (mac, _) = net.given[1];
    net.serves = false;
    net.run(u64::from(LEASE / 2));
    let renewal = net.said().into_iter().rev().find(|said| said.mac == mac).unwrap();
    let nak = reply(6, (renewal.xid, mac), Ipv4Addr::UNSPECIFIED, &option(54, &SERVER.octets()));
    net.bench.rx(0, &frame_of(mac, &nak));
    let mut refused = Vec::new();
    let own = frame_of(mac, &[]);
    assert!(net.bench.rx(0, &own).is_empty());
    let mut server = terms();
    server[2..6].copy_from_slice(&[10, 7, 0, 9]);
    for (offered, terms) in [
        (Ipv4Addr::new(10, 7, 0, 254), terms()),
        (Ipv4Addr::new(10, 7, 0, 50), terms()),
        (ip, terms()),
        (Ipv4Addr::new(10, 7, 0, 60), server),
        (SERVER, terms()),
        (Ipv4Addr::new(10, 7, 0, 255), terms()),
        (Ipv4Addr::new(10, 7, 0, 61), [terms(), terms()].concat()),
    ] {
        net.run(61);
        net.sent.clear();
        let looks = |net: &Net| net.said().into_iter().rfind(|said| said.mac == mac);
        let said = (0..600).find_map(|_| {
            net.run(1);
            looks(&net)
        });
        let said = said.unwrap();
        assert!(said.is(DhcpMessageType::Discover));
        net.bench.events.clear();
        let answer = frame_of(mac, &reply(2, (said.xid, mac), offered, &terms));
        let sent = net.bench.rx(0, &answer);
        assert!(sent.iter().all(|(_, frame)| Said::of(frame).is_none_or(|said| said.kind != 3)), "{offered}");
        let event = net.events(EventId::DhcpRefused)[0];
        assert_eq!((event.dst.mac, event.src.mac), (mac, SERVER_MAC));
        refused.push(crate::emulate::dhcp::Refusal::NAMES[usize::from(event.code)]);
        net.bench.rx(0, &answer);
        assert_eq!(net.events(EventId::DhcpRefused).len(), 1, "once a minute is enough");
    }
    assert_eq!(refused, ["gateway", "ours", "ours", "server", "gateway", "address", "duplicate-option"]);
    assert_eq!(net.bench.counters.discarded(DropReason::Refused), 14);
}

#[test]
fn nobody_else_is_served_or_believed() {
    let mut net = Net::new(dhcp(1, 16));
    net.serves = false;
    net.run(12);
    let said = net.said().pop().unwrap();
    let good = reply(2, (said.xid, said.mac), Ipv4Addr::new(10, 7, 0, 70), &terms());
    // Another's, another's MAC, a wrong checksum, a fragment, our own MAC as the server's.
    let others = reply(2, (said.xid, ATTACKER), Ipv4Addr::new(10, 7, 0, 70), &terms());
    let mut broken = frame_of(said.mac, &good);
    broken[60] ^= 1;
    let mut part = frame_of(said.mac, &good);
    part[20] = 0x20;
    let mut own = frame_of(said.mac, &good);
    own[6..12].copy_from_slice(&said.mac.0);
    for frame in [frame_of(Mac::BROADCAST, &others), frame_of(ATTACKER, &good), broken, part, own] {
        assert!(net.bench.rx(0, &frame).is_empty());
    }
    assert!(net.bench.rx(0, &frame_of(said.mac, &good)).len() == 1, "but to that there is an answer");
    // What clients say is heard by servers, of which there is none here.
    net.run(60);
    let mut discover = said.frame.clone();
    discover[6..12].copy_from_slice(&ATTACKER.0);
    assert!(net.bench.rx(0, &discover).is_empty());
    let mut net = Net::new(dhcp(1, 16));
    net.run(60);
    let (mac, ip) = net.given[0];
    let payload = [&[0, 68, 0, 67, 1, 8, 0, 0][..], &[1, 1, 6, 0], &[0; 252]].concat();
    let sent = net.bench.rx(0, &packet(mac, ip, proto::UDP, &payload));
    assert!(
        sent.iter().all(|(_, frame)| Packet::parse(frame).unwrap().proto == proto::ICMP),
        "unreachable, that is all"
    );
}

#[test]
fn an_address_that_two_are_given_is_taken_by_one() {
    let mut net = Net::new(dhcp(2, 16));
    net.serves = false;
    net.run(20);
    let ip = Ipv4Addr::new(10, 7, 0, 77);
    let mut macs: Vec<Mac> = net.said().iter().map(|said| said.mac).collect();
    macs.sort_unstable();
    macs.dedup();
    assert_eq!(macs.len(), 2);
    // Offers to both, and then acknowledgments to both at once, before either tests the address.
    for kind in [2, 5] {
        let answers = macs.iter().map(|mac| {
            let said = net.said().into_iter().rfind(|said| said.mac == *mac).unwrap();
            frame_of(*mac, &reply(kind, (said.xid, *mac), ip, &terms()))
        });
        let answers: Vec<Vec<u8>> = answers.collect();
        let sent = net.bench.rx_batch(0, &answers.iter().map(Vec::as_slice).collect::<Vec<_>>());
        net.sent.extend(sent.into_iter().map(|(_, frame)| frame));
    }
    net.run(15);
    assert_eq!(net.events(EventId::DhcpLeased).len(), 1);
    assert_eq!(net.events(EventId::DhcpDeclined).len(), 1);
}
