use super::*;
use crate::emulate::Secret;
use crate::node::testing::Bench;
use crate::node::{RouterConfig, RouterInterface};
use crate::wire::{ARP_FRAME, Arp, solicited_node};
use crate::wire::{Duration, Headers};

const PEER: Mac = Mac([2, 0xaa, 0, 0, 0, 1]);

fn config() -> RouterConfig {
    let interface = |name: &str, mac: u8, addresses: &[&str]| RouterInterface {
        name: name.into(),
        mac: Some(Mac([2, 0, 0, 0, 0, mac])),
        addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        mtu: 1500,
    };
    RouterConfig {
        interfaces: vec![
            interface("wan", 1, &["192.0.2.1/24", "2001:db8:1::1/64"]),
            interface("lan", 2, &["10.0.0.1/8", "2001:db8:2::1/64"]),
        ],
        routes: vec![
            crate::node::Route { to: "0.0.0.0/0".parse().unwrap(), via: "192.0.2.254".parse().unwrap() },
            crate::node::Route { to: "::/0".parse().unwrap(), via: "2001:db8:1::fe".parse().unwrap() },
        ],
        oui: [0, 0, 0x0c],
        neighbor_capacity: 16_384,
    }
}

fn bench() -> Bench<Router> {
    Bench::new(Router::new(config(), Identity::new(Secret([3; 16]), "r"), 5), 2)
}

fn datagram(src: &str, dst: &str, ttl: u8) -> Vec<u8> {
    let headers = Headers {
        dst_mac: Mac([2, 0, 0, 0, 0, 1]),
        src_mac: PEER,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        proto: proto::UDP,
        ttl,
        tos: 0,
        ip_id: 1,
        df: false,
    };
    let mut frame = vec![0; headers.len() + 12];
    let at = headers.write(&mut frame, 12);
    frame[at + 4..at + 6].copy_from_slice(&12u16.to_be_bytes());
    headers.fill_checksum(&mut frame[at..]);
    frame
}

/// What `ip` on `port` says when it is asked who it is, or by itself.
fn tell(bench: &mut Bench<Router>, port: u16, ip: &str, mac: Mac) -> Vec<(PortNo, Vec<u8>)> {
    let IpAddr::V4(sender) = ip.parse().unwrap() else { unreachable!() };
    let target = if port == 0 { Ipv4Addr::new(192, 0, 2, 1) } else { Ipv4Addr::new(10, 0, 0, 1) };
    let own = Mac([2, 0, 0, 0, 0, port as u8 + 1]);
    let arp = Arp { operation: Arp::REPLY, sender_mac: mac, sender, target_mac: own, target };
    let mut frame = [0; ARP_FRAME];
    arp.write(own, mac, &mut frame);
    bench.rx(port, &frame)
}

#[test]
fn packets_that_wait_leave_room_for_others() {
    let mut bench = bench();
    bench.pool = crate::frame::Pool::new(100_000);
    for host in 0..4096u32 {
        for _ in 0..16 {
            let dst = Ipv4Addr::from(0x0a01_0000 + host).to_string();
            bench.rx(0, &datagram("192.0.2.9", &dst, 64));
        }
    }
    assert!(bench.pool.in_use() <= 4096, "{} buffers wait", bench.pool.in_use());
    let until = bench.now + Duration::from_secs(10);
    bench.run_until(until);
    assert_eq!(bench.pool.in_use(), 0);
}

#[test]
fn a_sweep_of_nobody_does_not_hide_who_is_there() {
    let mut bench = bench();
    bench.pool = crate::frame::Pool::new(100_000);
    for host in 0..20_000u32 {
        bench.rx(0, &datagram("192.0.2.9", &Ipv4Addr::from(0x0a01_0000 + host).to_string(), 64));
    }
    let out = bench.rx(0, &datagram("192.0.2.9", "10.99.0.1", 64));
    assert_eq!(Arp::parse(&out[0].1).unwrap().target, Ipv4Addr::new(10, 99, 0, 1));
    let out = tell(&mut bench, 1, "10.99.0.1", PEER);
    assert_eq!(Packet::parse(&out[0].1).unwrap().dst(), "10.99.0.1".parse::<IpAddr>().unwrap());
    let until = bench.now + Duration::from_secs(10);
    bench.run_until(until);
    assert_eq!(bench.pool.in_use(), 0);
}

#[test]
fn what_has_no_place_beyond_its_link_is_not_forwarded() {
    let mut bench = bench();
    tell(&mut bench, 0, "192.0.2.254", PEER);
    for (src, dst) in [
        ("192.0.2.9", "127.0.0.1"),
        ("192.0.2.9", "0.0.0.0"),
        ("192.0.2.9", "255.255.255.255"),
        ("192.0.2.9", "169.254.1.1"),
        ("127.0.0.1", "10.0.0.9"),
        ("0.0.0.0", "10.0.0.9"),
        ("224.0.0.1", "10.0.0.9"),
        ("255.255.255.255", "10.0.0.9"),
        ("169.254.7.7", "10.0.0.9"),
        ("fe80::1", "2001:db8:2::9"),
        ("2001:db8:1::9", "fe80::9"),
        ("2001:db8:1::9", "::1"),
        ("::", "2001:db8:2::9"),
        ("ff02::1", "2001:db8:2::9"),
    ] {
        assert!(bench.rx(0, &datagram(src, dst, 64)).is_empty(), "{src} to {dst}");
    }
    assert_eq!(bench.counters.discarded(DropReason::BadSource) + bench.counters.discarded(DropReason::NoRoute), 14);
}

#[test]
fn a_group_is_nobodys_neighbor() {
    let mut bench = bench();
    let target = "2001:db8:2::9".parse().unwrap();
    bench.rx(0, &datagram("2001:db8:1::9", "2001:db8:2::9", 64));
    let own: Ipv6Addr = "2001:db8:2::1".parse().unwrap();
    let mut advert = |mac: Mac| {
        let message = Neighbor { advert: true, target, mac: Some(mac) };
        let mut frame = [0; 86];
        message.write(Mac([2, 0, 0, 0, 0, 2]), PEER, target, own, 0x60, &mut frame);
        bench.rx(1, &frame).len()
    };
    assert_eq!(advert(Mac::BROADCAST), 0);
    assert_eq!(advert(PEER), 1);
}

#[test]
fn a_test_for_duplicates_finds_the_router() {
    let mut bench = bench();
    let mut probe = |target: &str| {
        let target: Ipv6Addr = target.parse().unwrap();
        let group = solicited_node(target);
        let message = Neighbor { advert: false, target, mac: None };
        let mut frame = [0; 86];
        let len = message.write(Mac::ipv6_multicast(group), PEER, Ipv6Addr::UNSPECIFIED, group, 0, &mut frame);
        bench.rx(1, &frame[..len])
    };
    assert!(probe("2001:db8:2::77").is_empty());
    assert!(probe("2001:db8:1::1").is_empty(), "an address of another link");
    let out = probe("2001:db8:2::1");
    let packet = Packet::parse(&out[0].1).unwrap();
    assert_eq!(packet.dst(), "ff02::1".parse::<IpAddr>().unwrap());
}

#[test]
fn who_sends_too_far_is_told() {
    let mut bench = bench();
    let out = bench.rx(0, &datagram("192.0.2.9", "10.0.0.9", 1));
    let packet = Packet::parse(&out[0].1).unwrap();
    assert!(packet.checksum_ok(&out[0].1));
    assert_eq!((packet.src().to_string().as_str(), packet.payload(&out[0].1)[0]), ("192.0.2.1", 11));
    let out = bench.rx(0, &datagram("2001:db8:1::9", "2001:db8:2::9", 1));
    let packet = Packet::parse(&out[0].1).unwrap();
    assert!(packet.checksum_ok(&out[0].1));
    assert_eq!((packet.src().to_string().as_str(), packet.payload(&out[0].1)[0]), ("2001:db8:1::1", 3));
    assert!(bench.rx(0, &datagram("192.0.2.9", "224.0.0.9", 1)).is_empty());
}

#[test]
fn who_is_talked_to_stays_known_while_others_are_swept() {
    let capacity = 256;
    let config = RouterConfig { neighbor_capacity: capacity, ..config() };
    let mut neighbors = Neighbors::new(config.neighbor_capacity as usize, 1);
    let now = Instant::from_secs(1);
    let talker = IpAddr::from([192, 0, 2, 2]);
    neighbors.learn(0, talker, PEER, true, now);
    for n in 0..20 * capacity {
        let swept = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
        assert!(matches!(neighbors.resolve(1, word_of(swept), None, now), Resolved::Unknown(true)), "{n}");
        let frame = crate::frame::Pool::new(1).head().unwrap();
        assert!(neighbors.wait(1, word_of(swept), frame).is_ok());
        assert_eq!(neighbors.learn(1, swept, PEER, false, now).len(), 1);
        assert!(matches!(neighbors.resolve(0, word_of(talker), None, now), Resolved::Known(PEER)), "{n}");
    }
}
