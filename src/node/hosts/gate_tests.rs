//! How far a container gets by each policy, and what it cannot say at all.

use std::net::Ipv6Addr;

use super::abuse_tests::{bench_of, datagram, packet};
use super::container_tests::live;
use super::tests::{ATTACKER, ATTACKER_IP, HOST_IP, config, mac_of};
use super::*;
use crate::emulate::{FlowLimit, GateLimits};
use crate::event::Blocked;
use crate::frame::PortNo;
use crate::node::Request;
use crate::node::testing::{Bench, eth};
use crate::wire::{ARP_FRAME, Arp, Duration, Neighbor, flag, solicited_node};

const OWN_V6: &str = "fd00::1:0";
pub(super) const GATEWAYS: [&str; 2] = ["10.0.0.1", "fd00::ffff"];
pub(super) const GATEWAY_MAC: Mac = Mac([2, 0xee, 0, 0, 0, 9]);
/// Addresses outside the honeynet.
pub(super) const OUTSIDE: [&str; 2] = ["8.8.8.8", "2001:4860::8888"];
pub(super) const LIMITS: GateLimits = GateLimits {
    tcp: FlowLimit { burst: 3, period_secs: 60 },
    udp: FlowLimit { burst: 4, period_secs: 60 },
    icmp: FlowLimit { burst: 5, period_secs: 60 },
    rate_bytes: 125_000_000,
};

/// A live container with addresses of both families, which knows its gateways.
pub(super) fn bench(outward: Outward, gate: GateLimits) -> Bench<Hosts> {
    let mut config = config();
    config.single = true;
    config.inside = vec!["10.0.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()];
    config.segment.prefixes.push("fd00::/64".parse().unwrap());
    config.segment.gateways = GATEWAYS.map(|ip| ip.parse().unwrap()).into();
    (config.templates[0].outward, config.templates[0].gate) = (outward, gate);
    let mut bench = bench_of(config);
    live(&mut bench);
    let host = bench.node.config.host_of(HOST_IP.parse().unwrap());
    for gateway in GATEWAYS {
        bench.node.leases.learn_peer(host, gateway.parse().unwrap(), GATEWAY_MAC);
    }
    bench.events.clear();
    bench
}

/// Writes the message with that number, for IPv6 or IPv4.
type Writes = fn(bool, u16) -> Vec<u8>;

pub(super) fn own_of(dst: &str) -> &'static str {
    if dst.contains(':') { OWN_V6 } else { HOST_IP }
}

/// A packet of the container to `dst` by its gateway.
pub(super) fn outward(bench: &Bench<Hosts>, dst: &str, proto: u8, ttl: u8, l4: &[u8]) -> Vec<u8> {
    packet((GATEWAY_MAC, mac_of(bench, HOST_IP)), own_of(dst), dst, proto, ttl, l4)
}

pub(super) fn syn(sport: u16, dport: u16) -> Vec<u8> {
    segment(sport, dport, flag::SYN)
}

fn segment(sport: u16, dport: u16, flags: u8) -> Vec<u8> {
    let mut l4 = vec![0; 20];
    l4[..2].copy_from_slice(&sport.to_be_bytes());
    l4[2..4].copy_from_slice(&dport.to_be_bytes());
    (l4[12], l4[13], l4[14]) = (0x50, flags, 0x40);
    l4
}

/// A question for the address of `worm.example.com`.
pub(super) fn question(sport: u16) -> Vec<u8> {
    let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04worm\x07example\x03com\0\0\x01\0\x01";
    let mut l4 = datagram(sport, 53, query.len());
    l4[8..].copy_from_slice(query);
    l4
}

pub(super) fn echo(v6: bool, number: u16) -> Vec<u8> {
    let [a, b] = number.to_be_bytes();
    vec![if v6 { 128 } else { 8 }, 0, 0, 0, 0, 1, a, b, b'h', b'i']
}

/// Frames that came out by `port`.
pub(super) fn by(port: u16, out: &[(PortNo, Vec<u8>)]) -> usize {
    out.iter().filter(|(at, _)| *at == PortNo(port)).count()
}

/// The events of an id: code and count.
fn told(bench: &Bench<Hosts>, id: EventId) -> Vec<(u16, u64)> {
    bench.events.iter().filter(|(event, _)| event.id == id).map(|(event, _)| (event.code, event.count)).collect()
}

/// Lets a second pass, and forgets what was sent meanwhile.
fn a_second_later(bench: &mut Bench<Hosts>) {
    let until = bench.now + Duration::from_millis(1100);
    bench.run_until(until);
}

#[test]
fn each_policy_holds_for_each_protocol_in_both_families() {
    for dst in OUTSIDE {
        let v6 = dst.contains(':');
        let icmp = if v6 { proto::ICMPV6 } else { proto::ICMP };
        let kinds: [(u8, usize, Writes); 3] = [
            (proto::TCP, 3, |_, number| syn(40_000 + number, 80)),
            (proto::UDP, 4, |_, number| question(40_000 + number)),
            (icmp, 5, echo),
        ];
        for (proto, limit, l4) in kinds {
            for (policy, leave, come_back) in
                [(Outward::Reflect, 0, 12), (Outward::Drop, 0, 0), (Outward::Limit, limit, 0), (Outward::Allow, 12, 0)]
            {
                let case = format!("{policy:?} {proto} to {dst}");
                let mut bench = bench(policy, LIMITS);
                let send = |bench: &mut Bench<Hosts>, from: u16| {
                    let (mut left, mut back) = (0, 0);
                    for number in from..from + 12 {
                        let frame = outward(bench, dst, proto, 64, &l4(v6, number));
                        let out = bench.rx(1, &frame);
                        (left, back) = (left + by(0, &out), back + by(1, &out));
                    }
                    (left, back)
                };
                assert_eq!(send(&mut bench, 0), (leave, come_back), "{case}");
                a_second_later(&mut bench);
                let dropped: u64 = told(&bench, EventId::OutwardDrop).iter().map(|(_, count)| count).sum();
                match policy {
                    Outward::Limit => {
                        assert_eq!(told(&bench, EventId::OutwardDrop), [(1, 12 - limit as u64)], "{case}");
                        assert_eq!(bench.counters.discarded(DropReason::Policy), 12 - limit as u64, "{case}");
                        // As many again in each period, and not before.
                        assert_eq!(send(&mut bench, 20).0, 0, "{case}");
                        bench.run_until(bench.now + Duration::from_secs(60));
                        assert_eq!(send(&mut bench, 40).0, limit, "{case}");
                    }
                    // Pings to one address are one flow.
                    Outward::Drop => assert_eq!(dropped, if proto == icmp { 1 } else { 12 }, "{case}"),
                    Outward::Allow => assert!(!told(&bench, EventId::OutwardFlow).is_empty(), "{case}"),
                    Outward::Reflect => assert!(!told(&bench, EventId::OutwardReflect).is_empty(), "{case}"),
                }
            }
        }
    }
}

#[test]
fn what_a_limit_let_out_goes_on() {
    let mut bench = bench(Outward::Limit, LIMITS);
    let send = |bench: &mut Bench<Hosts>, proto: u8, l4: Vec<u8>| {
        let frame = outward(bench, OUTSIDE[0], proto, 64, &l4);
        by(0, &bench.rx(1, &frame))
    };
    assert_eq!(send(&mut bench, proto::TCP, syn(40_000, 80)), 1);
    for _ in 0..50 {
        assert_eq!(send(&mut bench, proto::TCP, segment(40_000, 80, flag::ACK)), 1);
    }
    // A flood of SYNs is none of a connection, whatever ports it has.
    let out: usize = (0..50).map(|_| send(&mut bench, proto::TCP, syn(40_000, 80))).sum();
    assert_eq!(out, 2, "three connections, one of which is open");
    assert_eq!(send(&mut bench, proto::UDP, question(5)), 1);
    assert_eq!((0..50).map(|_| send(&mut bench, proto::UDP, question(5))).sum::<usize>(), 50);
    // What has no flows, and what tells no ports, does not leave at all.
    assert_eq!(send(&mut bench, 47, vec![0; 20]), 0);
    let mut fragment = outward(&bench, OUTSIDE[0], proto::UDP, 64, &question(6));
    fragment[ETH + 6..ETH + 8].copy_from_slice(&[0x20, 0]);
    fragment[ETH + 10..ETH + 12].fill(0);
    let sum = crate::wire::checksum::of(&fragment[ETH..ETH + 20]);
    fragment[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(by(0, &bench.rx(1, &fragment)), 0);
    // Neighbors inside are no matter of the policy.
    let peer = "10.0.99.1";
    let host = bench.node.config.host_of(HOST_IP.parse().unwrap());
    bench.node.leases.learn_peer(host, peer.parse().unwrap(), ATTACKER);
    for sport in 0..50 {
        let frame = outward(&bench, peer, proto::TCP, 64, &syn(sport, 80));
        assert_eq!(by(0, &bench.rx(1, &frame)), 1);
    }
}

#[test]
fn an_answer_that_was_asked_for_is_no_flow_and_opens_none() {
    let mut bench = bench(Outward::Limit, GateLimits { udp: FlowLimit { burst: 1, period_secs: 60 }, ..LIMITS });
    let own = mac_of(&bench, HOST_IP);
    let asked = packet((own, GATEWAY_MAC), OUTSIDE[0], HOST_IP, proto::UDP, 64, &datagram(6000, 161, 20));
    assert_eq!(by(1, &bench.rx(0, &asked)), 1);
    let mut answer = |len: usize| {
        let frame = outward(&bench, OUTSIDE[0], proto::UDP, 64, &datagram(161, 6000, len));
        by(0, &bench.rx(1, &frame))
    };
    assert_eq!(answer(80), 1, "within three times of what came");
    assert_eq!(answer(80), 1, "the one flow that it may begin");
    assert_eq!((0..9).map(|_| answer(80)).sum::<usize>(), 9, "which goes on");
    let other = outward(&bench, OUTSIDE[0], proto::UDP, 64, &datagram(161, 6001, 20));
    assert_eq!(by(0, &bench.rx(1, &other)), 0);
}

#[test]
fn what_no_container_may_say_reaches_nobody() {
    let udp = |src: u16, dst: u16| (proto::UDP, datagram(src, dst, 240));
    let icmp6 = |kind: u8| (proto::ICMPV6, [&[kind, 0, 0, 0][..], &[0; 28]].concat());
    let icmp = |kind: u8| (proto::ICMP, vec![kind, 0, 0, 0, 0, 0, 0, 0]);
    let cases = [
        ("10.0.0.9", udp(67, 68), Blocked::Dhcp),
        ("10.0.0.9", udp(68, 67), Blocked::Dhcp),
        ("255.255.255.255", udp(67, 68), Blocked::Dhcp),
        ("8.8.8.8", udp(67, 67), Blocked::Dhcp),
        ("fd00::9", udp(547, 546), Blocked::Dhcp),
        ("fd00::9", udp(546, 547), Blocked::Dhcp),
        ("fd00::9", icmp6(134), Blocked::RouterAdvert),
        ("ff02::1", icmp6(134), Blocked::RouterAdvert),
        ("fd00::9", icmp6(133), Blocked::RouterAdvert),
        ("fd00::9", icmp6(137), Blocked::Redirect),
        ("10.0.0.9", icmp(5), Blocked::Redirect),
        ("10.0.0.9", icmp(9), Blocked::RouterAdvert),
        ("fd00::9", icmp6(130), Blocked::Group),
        ("ff02::1", icmp6(130), Blocked::Group),
        ("10.0.0.9", (proto::IGMP, vec![0x11, 100, 0, 0, 0, 0, 0, 0]), Blocked::Group),
        ("224.0.0.1", (proto::IGMP, vec![0x11, 100, 0, 0, 0, 0, 0, 0]), Blocked::Group),
        ("10.0.0.9", (89, vec![2, 1, 0, 44]), Blocked::Routing),
        ("10.0.0.9", udp(520, 520), Blocked::Routing),
        ("fd00::9", udp(521, 521), Blocked::Routing),
        // An advertisement that is its own only fragment, a header that goes on elsewhere, a server's first fragment.
        ("fd00::9", (44, [&[58, 0, 0, 0, 0, 0, 0, 1, 136, 0, 0, 0][..], &[0x20; 28]].concat()), Blocked::Fragment),
        ("fd00::9", (44, vec![60, 0, 0, 1, 0, 0, 0, 1, 58, 0, 0, 0, 0, 0, 0, 0]), Blocked::Fragment),
        ("fd00::9", (44, [&[17, 0, 0, 1, 0, 0, 0, 1][..], &datagram(547, 546, 40)].concat()), Blocked::Dhcp),
    ];
    for policy in [Outward::Allow, Outward::Reflect] {
        for (dst, (proto, l4), why) in &cases {
            let case = format!("{policy:?} {dst} {proto} {l4:?}");
            let mut bench = bench(policy, LIMITS);
            let host = bench.node.config.host_of(HOST_IP.parse().unwrap());
            bench.node.leases.learn_peer(host, dst.parse().unwrap(), ATTACKER);
            let own = mac_of(&bench, HOST_IP);
            // To whom it is, to a neighbor and to everybody.
            for mac in [ATTACKER, Mac::BROADCAST, Mac([0x33, 0x33, 0, 0, 0, 1])] {
                let mut frame = packet((mac, own), own_of(dst), dst, *proto, 255, l4);
                if *proto == 44 {
                    // A fragment header has no checksum.
                    let at = frame.len() - l4.len();
                    frame[at..].copy_from_slice(l4);
                }
                assert_eq!(bench.rx(1, &frame), [], "{case}");
            }
            assert_eq!(bench.counters.discarded(DropReason::Gate), 3, "{case}");
            a_second_later(&mut bench);
            assert_eq!(told(&bench, EventId::GateBlock), [(*why as u16, 3)], "{case}");
        }
    }
    // What every system says when its interface comes up is no news.
    let mut bench = bench(Outward::Allow, LIMITS);
    let own = mac_of(&bench, HOST_IP);
    let usual = [
        ("0.0.0.0", "255.255.255.255", udp(68, 67)),
        ("fe80::1", "ff02::1:2", udp(546, 547)),
        ("fe80::1", "ff02::2", icmp6(133)),
        ("::", "ff02::16", icmp6(143)),
        (HOST_IP, "224.0.0.22", (proto::IGMP, vec![0x22, 0, 0, 0, 0, 0, 0, 0])),
    ];
    for (src, dst, (proto, l4)) in &usual {
        assert_eq!(bench.rx(1, &packet((Mac::BROADCAST, own), src, dst, *proto, 255, l4)), [], "{dst}");
    }
    assert_eq!(bench.counters.discarded(DropReason::Gate), usual.len() as u64);
    // Neither is IP at all: spanning tree, LLDP, a frame for another VLAN.
    let tagged = eth(ATTACKER, own, 0x8100, &[0, 9, 8, 0, 0x45, 0, 0, 20]);
    for frame in
        [tagged, eth(Mac([1, 0x80, 0xc2, 0, 0, 0]), own, 38, &[0x42; 38]), eth(ATTACKER, own, 0x88cc, &[0; 46])]
    {
        assert_eq!(bench.rx(1, &frame), []);
    }
    a_second_later(&mut bench);
    assert_eq!(told(&bench, EventId::GateBlock), []);
}

/// A second container beside that of [`HOST_IP`], by port 2.
fn with_neighbor() -> Bench<Hosts> {
    let mut config = config();
    config.templates[0].outward = Outward::Allow;
    let mut bench = Bench::new(Hosts::new(config, Identity::new(crate::emulate::Secret([3; 16]), "hosts"), 5), 3);
    bench.with(|node, cx| node.tick(cx));
    live(&mut bench);
    let neighbor = word_of("10.0.1.8".parse().unwrap());
    bench.with(|node, cx| {
        let target = node.target(neighbor).unwrap();
        node.begin_lease(&target, target.ip().into(), (Party::default(), HostsConfig::LAN), SessionId(9), cx);
    });
    let Some(Request::Lease { lease, .. }) = bench.requests.pop() else { panic!("no lease") };
    bench.with(|node, cx| node.command(Command::LeaseTap { lease, port: PortNo(2) }, cx));
    bench.with(|node, cx| node.command(Command::LeaseLive { lease }, cx));
    bench.events.clear();
    bench
}

/// Claims that the container could poison somebody's ARP cache with: of the gateway's address, of the attacker's and of
/// another container's, as a reply, as a question, and unasked.
#[test]
fn a_container_poisons_no_arp_cache() {
    let mut bench = with_neighbor();
    let (own, other) = (mac_of(&bench, HOST_IP), mac_of(&bench, "10.0.1.8"));
    let mut lies = 0;
    for (claimed, target) in
        [("10.0.0.1", ATTACKER_IP), ("10.0.0.1", "10.0.1.8"), (ATTACKER_IP, "10.0.1.8"), ("10.0.1.8", ATTACKER_IP)]
    {
        let (claimed, target): (Ipv4Addr, Ipv4Addr) = (claimed.parse().unwrap(), target.parse().unwrap());
        for operation in [Arp::REQUEST, Arp::REPLY] {
            for (target, to) in
                [(target, ATTACKER), (target, other), (target, Mac::BROADCAST), (claimed, Mac::BROADCAST)]
            {
                let lie = Arp { operation, sender_mac: own, sender: claimed, target_mac: to, target };
                let mut frame = [0; ARP_FRAME];
                lie.write(to, own, &mut frame);
                assert_eq!(bench.rx(1, &frame), [], "{lie:?}");
                // The same with a MAC within that is another's.
                Arp { sender_mac: GATEWAY_MAC, sender: HOST_IP.parse().unwrap(), ..lie }.write(to, own, &mut frame);
                assert_eq!(bench.rx(1, &frame), [], "{lie:?}");
                lies += 2;
            }
        }
    }
    assert_eq!(bench.counters.discarded(DropReason::BadSource), lies);
    a_second_later(&mut bench);
    assert_eq!(told(&bench, EventId::GateBlock), [(Blocked::Neighbor as u16, lies)]);
    let block = bench.events.iter().find(|(event, _)| event.id == EventId::GateBlock).unwrap().0;
    assert_eq!((block.src.ip.get(), block.src.mac), (Some(HOST_IP.parse().unwrap()), own));
    // What it says of itself unasked leads nobody astray, and reaches nobody either.
    let own_reply = Arp {
        operation: Arp::REPLY,
        sender_mac: own,
        sender: HOST_IP.parse().unwrap(),
        target_mac: ATTACKER,
        target: ATTACKER_IP.parse().unwrap(),
    };
    let mut frame = [0; ARP_FRAME];
    own_reply.write(ATTACKER, own, &mut frame);
    assert_eq!(bench.rx(1, &frame), []);
    // Whoever asks is told the truth.
    let asks = Arp {
        operation: Arp::REQUEST,
        sender_mac: ATTACKER,
        sender: ATTACKER_IP.parse().unwrap(),
        target_mac: Mac::ZERO,
        target: "10.0.1.8".parse().unwrap(),
    };
    asks.write(Mac::BROADCAST, ATTACKER, &mut frame);
    assert_eq!(Arp::parse(&bench.rx(0, &frame)[0].1).unwrap().sender_mac, other);
}

#[test]
fn a_container_poisons_no_neighbor_cache() {
    let mut bench = bench(Outward::Allow, LIMITS);
    let own = mac_of(&bench, HOST_IP);
    let mut lies = 0;
    for claimed in [GATEWAYS[1], "fd00::77", "2001:4860::8888"] {
        let claimed: Ipv6Addr = claimed.parse().unwrap();
        for (to, mac) in [("ff02::1", Mac([0x33, 0x33, 0, 0, 0, 1])), ("fd00::77", ATTACKER)] {
            let to: Ipv6Addr = to.parse().unwrap();
            let mut frame = [0; 86];
            // An advertisement from its own address or in the other's name, and a question in the other's name.
            for (src, advert) in [(OWN_V6.parse().unwrap(), true), (claimed, true), (claimed, false)] {
                let message = Neighbor {
                    advert,
                    target: if advert { claimed } else { "fd00::78".parse().unwrap() },
                    mac: Some(own),
                };
                let len = message.write(mac, own, src, to, 0x60, &mut frame);
                assert_eq!(bench.rx(1, &frame[..len]), [], "{message:?} from {src} to {to}");
                lies += 1;
            }
        }
    }
    assert_eq!(bench.counters.discarded(DropReason::BadSource), lies);
    a_second_later(&mut bench);
    assert_eq!(told(&bench, EventId::GateBlock), [(Blocked::Neighbor as u16, lies)]);
    // An honest question passes, with its own address only.
    let target: Ipv6Addr = "fd00::78".parse().unwrap();
    let (group, mut frame) = (solicited_node(target), [0; 86]);
    let asks = Neighbor { advert: false, target, mac: Some(own) };
    let len = asks.write(Mac::ipv6_multicast(group), own, OWN_V6.parse().unwrap(), group, 0, &mut frame);
    assert_eq!(by(0, &bench.rx(1, &frame[..len])), 1);
}

#[test]
fn sources_and_macs_of_others_are_stopped() {
    let mut bench = with_neighbor();
    let (own, other) = (mac_of(&bench, HOST_IP), mac_of(&bench, "10.0.1.8"));
    for (macs, src) in [
        ((ATTACKER, own), "10.0.1.8"),
        ((ATTACKER, own), "10.0.0.1"),
        ((ATTACKER, own), "8.8.8.8"),
        ((other, own), ATTACKER_IP),
        ((ATTACKER, other), HOST_IP),
        ((ATTACKER, GATEWAY_MAC), HOST_IP),
    ] {
        for (proto, l4) in [(proto::TCP, syn(5, 80)), (proto::UDP, question(5)), (proto::ICMP, echo(false, 1))] {
            for dst in [ATTACKER_IP, "10.0.1.8"] {
                if src != dst {
                    assert_eq!(bench.rx(1, &packet(macs, src, dst, proto, 64, &l4)), [], "{src} to {dst}");
                }
            }
        }
    }
    a_second_later(&mut bench);
    let told = told(&bench, EventId::GateBlock);
    assert!(matches!(told[..], [(0, 18..), (1, 12)]), "{told:?}");
}

#[test]
fn a_flood_from_inside_is_its_own_containers_loss() {
    let mut bench = with_neighbor();
    bench.node.config.templates[0].outward = Outward::Reflect;
    let (own, other) = (mac_of(&bench, HOST_IP), mac_of(&bench, "10.0.1.8"));
    let honest = packet((GATEWAY_MAC, other), "10.0.1.8", OUTSIDE[0], proto::TCP, 64, &syn(5, 80));
    assert_eq!(by(2, &bench.rx(2, &honest)), 1);
    let (mut answered, flood) = (0, 30_000u32);
    for number in 0..flood {
        let dst = format!("8.{}.{}.8", number >> 8 & 0xff, number & 0xff);
        let frame = packet((GATEWAY_MAC, own), HOST_IP, &dst, proto::TCP, 64, &syn(number as u16, 80));
        answered += by(1, &bench.rx(1, &frame));
    }
    assert_eq!(answered, 2000, "what comes in a tenth of a second");
    assert_eq!(bench.counters.discarded(DropReason::RateLimit), u64::from(flood) - 2000);
    // The neighbor is served meanwhile, and what it began is remembered.
    let ours = bench.node.config.host_of("10.0.1.8".parse().unwrap());
    assert_eq!(bench.node.leases.by_host[&ours.into()].begun.len(), 1);
    let next = packet((GATEWAY_MAC, other), "10.0.1.8", OUTSIDE[0], proto::TCP, 64, &syn(6, 80));
    assert_eq!(by(2, &bench.rx(2, &next)), 1);
    a_second_later(&mut bench);
    let reflected = told(&bench, EventId::OutwardReflect);
    assert!(reflected.len() < 80, "{} events", reflected.len());
    let counted: u64 = reflected.iter().map(|(_, count)| count).sum();
    assert_eq!(counted, 2002, "each flow is in one of them");
    assert_eq!(told(&bench, EventId::GateBlock), [(Blocked::Rate as u16, u64::from(flood) - 2000)]);
    // A second later there is room again.
    let frame = packet((GATEWAY_MAC, own), HOST_IP, "9.9.9.9", proto::TCP, 64, &syn(7, 80));
    assert_eq!(by(1, &bench.rx(1, &frame)), 1);
}

#[test]
fn a_rate_holds_whatever_the_policy() {
    for policy in [Outward::Reflect, Outward::Drop, Outward::Limit, Outward::Allow] {
        let mut bench = bench(policy, GateLimits { rate_bytes: 100_000, ..LIMITS });
        let host = bench.node.config.host_of(HOST_IP.parse().unwrap());
        bench.node.leases.learn_peer(host, "10.0.99.1".parse().unwrap(), ATTACKER);
        // To a neighbor inside: no policy applies there.
        let frame = outward(&bench, "10.0.99.1", proto::UDP, 64, &datagram(5, 9, 958));
        assert_eq!(frame.len(), 1000);
        let burst = |bench: &mut Bench<Hosts>| (0..200).map(|_| by(0, &bench.rx(1, &frame))).sum::<usize>();
        assert_eq!(burst(&mut bench), 65, "the longest frame's worth at once, {policy:?}");
        bench.now += Duration::from_millis(500);
        assert!((49..=50).contains(&burst(&mut bench)), "{policy:?}");
    }
}
