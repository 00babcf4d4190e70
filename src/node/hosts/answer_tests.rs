//! Questions for the whole segment, in virtual time.

use super::talk_tests::{bench_of, datagrams, host, said, v6};
use super::tests::ATTACKER;
use super::*;
use crate::emulate::{ServiceId, TcpPort};
use crate::node::AddrRange;
use crate::node::testing::Bench;
use crate::wire::{Duration, Headers, checksum};

/// A datagram of the attacker's.
fn datagram(src: &str, dst: &str, dst_mac: Mac, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    let headers =
        Headers { dst_mac, src_mac: ATTACKER, src, dst, proto: proto::UDP, ttl: 255, tos: 0, ip_id: 7, df: false };
    let mut frame = vec![0; headers.len() + 8 + payload.len()];
    let at = headers.write(&mut frame, 8 + payload.len());
    let message = &mut frame[at..];
    message[..2].copy_from_slice(&ports.0.to_be_bytes());
    message[2..4].copy_from_slice(&ports.1.to_be_bytes());
    message[4..6].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    message[8..].copy_from_slice(payload);
    headers.fill_checksum(message);
    frame
}

fn to_group(src: &str, dst: &str, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mac = match dst.parse().unwrap() {
        IpAddr::V4(ip) if ip.is_multicast() => Mac::ipv4_multicast(ip),
        IpAddr::V4(_) => Mac::BROADCAST,
        IpAddr::V6(ip) => Mac::ipv6_multicast(ip),
    };
    datagram(src, dst, mac, ports, payload)
}

/// A question of the DNS.
fn question(name: &str, kind: u8, class: [u8; 2]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, kind, class[0], class[1]]);
    message
}

fn nbns(name: &[u8; 16], kind: u8) -> Vec<u8> {
    let mut message = b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\0\x20".to_vec();
    message.extend(name.iter().flat_map(|octet| [b'A' + (octet >> 4), b'A' + (octet & 15)]));
    message.extend_from_slice(&[0, 0, kind, 0, 1]);
    message
}

fn windows() -> Bench<Hosts> {
    let mut bench = bench_of(host(Builtin::Windows.into(), &["10.0.1.7"], Builtin::Windows.get().talk.says));
    said(&mut bench, 10);
    bench
}

/// What comes back at once: datagrams to `port`.
fn at_once(bench: &mut Bench<Hosts>, frame: &[u8], port: u16) -> Vec<(u16, IpAddr, u8, Vec<u8>)> {
    let out: Vec<(u64, Vec<u8>)> = bench.rx(0, frame).into_iter().map(|(_, frame)| (0, frame)).collect();
    datagrams(&out, port)
}

#[test]
fn each_way_of_asking_for_a_name_is_answered_in_its_own() {
    let mut bench = windows();
    // Multicast DNS: to all, as all asked; by unicast to whoever wants that, or knows no better.
    let ask = question("WEB01.local", 1, [0, 1]);
    let out = at_once(&mut bench, &to_group("10.0.0.9", "224.0.0.251", (5353, 5353), &ask), 5353);
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].0, out[0].1.to_string().as_str(), out[0].2), (5353, "224.0.0.251", 1));
    assert_eq!(out[0].3[..8], [0, 0, 0x84, 0, 0, 0, 0, 1]);
    let unicast = question("web01.local", 1, [0x80, 1]);
    let out = at_once(&mut bench, &to_group("10.0.0.9", "224.0.0.251", (5353, 5353), &unicast), 5353);
    assert_eq!(out[0].1.to_string(), "10.0.0.9");
    let out = at_once(&mut bench, &to_group("10.0.0.9", "224.0.0.251", (40_000, 5353), &ask), 40_000);
    assert_eq!((out[0].0, out[0].1.to_string().as_str(), &out[0].3[..2]), (5353, "10.0.0.9", &[0x12, 0x34][..]));
    // LLMNR, by either family.
    let ask = question("web01", 1, [0, 1]);
    let out = at_once(&mut bench, &to_group("10.0.0.9", "224.0.0.252", (40_000, 5355), &ask), 40_000);
    assert_eq!((out[0].0, out[0].2, &out[0].3[..4]), (5355, 128, &[0x12, 0x34, 0x80, 0][..]));
    let group = Mac::ipv6_multicast("ff02::1:3".parse().unwrap());
    let udp = [&[0x9c, 0x40, 0x14, 0xeb, 0, 8 + ask.len() as u8, 0, 0][..], &ask].concat();
    let out = at_once(&mut bench, &v6("fe80::9", "ff02::1:3", group, 1, proto::UDP, &udp), 40_000);
    assert!(out.len() == 1 && out[0].3.ends_with(&[10, 0, 1, 7]));
    // NetBIOS, by broadcast.
    let ask = nbns(b"WEB01          \x20", 0x20);
    let out = at_once(&mut bench, &to_group("10.0.0.9", "10.0.255.255", (137, 137), &ask), 137);
    assert!(out.len() == 1 && out[0].3.ends_with(&[10, 0, 1, 7]));
    // Nobody has these.
    for (dst, ports, ask) in [
        ("224.0.0.251", (5353, 5353), question("web02.local", 1, [0, 1])),
        ("224.0.0.252", (40_000, 5355), question("wpad", 1, [0, 1])),
        ("10.0.255.255", (137, 137), nbns(b"WORKGROUP      \x1d", 0x20)),
        ("224.0.0.251", (5353, 5353), question("_services._dns-sd._udp.local", 12, [0, 1])),
    ] {
        assert_eq!(bench.rx(0, &to_group("10.0.0.9", dst, ports, &ask)), [], "{ports:?}");
    }
    // Whoever asks from elsewhere is answered by none of the two.
    let ask = question("web01", 1, [0, 1]);
    assert_eq!(bench.rx(0, &to_group("192.0.2.9", "224.0.0.252", (40_000, 5355), &ask)), []);
}

#[test]
fn systems_answer_only_what_they_speak() {
    let asks = [
        ("224.0.0.251", (5353, 5353), question("web01.local", 1, [0, 1])),
        ("224.0.0.252", (5355, 5355), question("web01", 1, [0, 1])),
        ("10.0.255.255", (137, 137), nbns(b"WEB01          \0", 0x20)),
    ];
    let cases = [
        (Builtin::Windows, [true, true, true]),
        (Builtin::Windows7, [false, true, true]),
        (Builtin::WindowsXp, [false, false, true]),
        (Builtin::MacOs, [true, false, false]),
        (Builtin::Linux, [false, false, false]),
    ];
    for (system, answered) in cases {
        let mut bench = bench_of(host(system.into(), &["10.0.1.7"], system.get().talk.says));
        said(&mut bench, 10);
        for ((dst, ports, ask), answered) in asks.iter().zip(answered) {
            let frame = to_group("10.0.0.9", dst, *ports, ask);
            assert_eq!(at_once(&mut bench, &frame, ports.0).len(), usize::from(answered), "{system:?} {ports:?}");
        }
    }
}

#[test]
fn services_are_listed_after_a_moment() {
    let mut config = host(Builtin::Printer.into(), &["10.0.1.7"], Builtin::Printer.get().talk.says);
    config.templates[0].tcp.insert(631, TcpPort::Open(ServiceId(0)));
    let mut bench = bench_of(config);
    said(&mut bench, 10);
    let ask = to_group("10.0.0.9", "224.0.0.251", (5353, 5353), &question("_services._dns-sd._udp.local", 12, [0, 1]));
    assert_eq!(bench.rx(0, &ask), []);
    let begin = bench.now;
    let out = said(&mut bench, 1);
    let answers = datagrams(&out, 5353);
    assert_eq!(answers.len(), 1, "the port of the others is closed");
    assert!(answers[0].3.windows(5).any(|part| part == b"\x04_ipp"));
    assert!((20..=130).contains(&out[0].0), "{} ms after {begin}", out[0].0);
}

#[test]
fn a_host_tells_its_names_to_whoever_asks_it() {
    // One of a population that says nothing by itself, for there are too many.
    let mut config = host(Builtin::Windows.into(), &[], Builtin::Windows.get().talk.says);
    config.ranges = vec![AddrRange { first: "10.0.1.0".parse().unwrap(), last: "10.0.1.255".parse().unwrap() }];
    (config.single, config.limits.talkers) = (false, 1);
    let mut bench = bench_of(config);
    bench.with(|node, cx| node.tick(cx));
    let talkers = bench.node.talk.talkers.len();
    let mut names = std::collections::HashSet::new();
    for last in 0..=255 {
        let ip = format!("10.0.1.{last}");
        let mac = bench.node.target(word_of(ip.parse().unwrap())).unwrap().mac;
        let ask = nbns(b"*\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 0x21);
        let frame = datagram("192.0.2.9", &ip, mac, (40_000, 137), &ask);
        bench.now += Duration::from_millis(20);
        let out = bench.rx(0, &frame);
        assert!(out[0].1.len() - ETH <= 3 * (frame.len() - ETH));
        let packet = Packet::parse(&out[0].1).unwrap();
        assert_eq!((packet.src().to_string(), packet.ttl), (ip, 128));
        let status = &packet.payload(&out[0].1)[8..];
        assert!(status.windows(6).any(|part| part == mac.0));
        names.insert(status[57..72].to_vec());
    }
    assert_eq!(names.len(), 256);
    assert_eq!(bench.node.talk.talkers.len(), talkers);
    assert_eq!(bench.pool.in_use(), 0);
}

#[test]
fn ports_of_talk_are_open_and_others_are_not() {
    let mut bench = windows();
    let mac = bench.node.target(word_of("10.0.1.7".parse().unwrap())).unwrap().mac;
    for (port, closed) in [(137, false), (138, false), (1900, false), (5353, false), (5355, false), (5354, true)] {
        let out = bench.rx(0, &datagram("10.0.0.9", "10.0.1.7", mac, (4000, port), b"nonsense"));
        assert_eq!(out.len(), usize::from(closed), "{port}");
    }
}

#[test]
fn questions_are_bounded() {
    let mut bench = windows();
    let ask = to_group("10.0.0.9", "224.0.0.252", (40_000, 5355), &question("web01", 1, [0, 1]));
    let answered = (0..1000).filter(|_| !bench.rx(0, &ask).is_empty()).count();
    assert_eq!(answered, 100);
    bench.now += Duration::from_secs(1);
    assert!(!bench.rx(0, &ask).is_empty());
    // Answers that wait are as well.
    let mut config = host(Builtin::Printer.into(), &[], Builtin::Printer.get().talk.says);
    config.ranges = vec![AddrRange { first: "10.0.1.0".parse().unwrap(), last: "10.0.1.255".parse().unwrap() }];
    (config.single, config.hostname) = (false, None);
    config.templates[0].tcp.insert(631, TcpPort::Open(ServiceId(0)));
    let mut bench = bench_of(config);
    bench.with(|node, cx| node.tick(cx));
    let ask = to_group("10.0.0.9", "224.0.0.251", (5353, 5353), &question("_ipp._tcp.local", 12, [0, 1]));
    for _ in 0..10 {
        bench.rx(0, &ask);
    }
    assert_eq!(bench.node.talk.later.len(), 64);
    said(&mut bench, 1);
    assert_eq!(bench.node.talk.later.len(), 0);
}

#[test]
fn nobody_gets_more_than_three_times_from_all_together() {
    let mut config = host(Builtin::Windows.into(), &[], Builtin::Windows.get().talk.says);
    config.ranges = vec![AddrRange { first: "10.0.1.0".parse().unwrap(), last: "10.0.1.255".parse().unwrap() }];
    (config.single, config.hostname) = (false, None);
    let mut bench = bench_of(config);
    bench.with(|node, cx| node.tick(cx));
    assert!(bench.node.talk.talkers.len() > 100);
    // Whose address it is, nobody has proven.
    let status = nbns(b"*\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 0x21);
    let ask = to_group("10.0.0.9", "255.255.255.255", (137, 137), &status);
    let answers = bench.rx(0, &ask);
    let octets: usize = answers.iter().map(|(_, frame)| frame.len() - ETH).sum();
    assert!(!answers.is_empty() && octets <= 3 * (ask.len() - ETH), "{octets} for {}", ask.len() - ETH);
    // A resolver asks one thing at a time (RFC 6762 §6.7); who asks more has each host write and search it all.
    let mut two = question("a.local", 1, [0, 1]);
    two[5] = 2;
    two.extend_from_slice(&question("b.local", 1, [0, 1])[12..]);
    assert!(bench.rx(0, &to_group("10.0.0.9", "224.0.0.251", (40_000, 5353), &two)).is_empty());
    // Queriers are listened to as often as others.
    bench.now += Duration::from_secs(1);
    let query = member_query([0; 4], 10, 12);
    for _ in 0..1000 {
        bench.rx(0, &query);
    }
    assert!(bench.counters.discarded(DropReason::RateLimit) >= 900);
}

/// A query for members of IPv4 groups.
fn member_query(group: [u8; 4], code: u8, len: usize) -> Vec<u8> {
    let headers = Headers {
        dst_mac: Mac::ipv4_multicast("224.0.0.1".parse().unwrap()),
        src_mac: ATTACKER,
        src: "10.0.0.9".parse().unwrap(),
        dst: "224.0.0.1".parse().unwrap(),
        proto: proto::IGMP,
        ttl: 1,
        tos: 0xc0,
        ip_id: 0,
        df: false,
    };
    let mut frame = vec![0; headers.len() + len];
    let at = headers.write(&mut frame, len);
    let message = &mut frame[at..];
    message[..2].copy_from_slice(&[0x11, code]);
    message[4..8].copy_from_slice(&group);
    let sum = checksum::of(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn groups_are_reported_at_first_and_when_a_querier_asks() {
    let talk = Builtin::Windows.get().talk.says;
    let mut bench = bench_of(host(Builtin::Windows.into(), &["10.0.1.7"], talk));
    let reports = |frames: &[(u64, Vec<u8>)]| -> Vec<(String, Vec<u8>)> {
        let of = |(_, frame): &(u64, Vec<u8>)| {
            let packet = Packet::parse(frame).ok().filter(|packet| packet.proto == proto::IGMP)?;
            assert_eq!((packet.ttl, checksum::of(packet.payload(frame))), (1, 0));
            Some((packet.dst().to_string(), packet.payload(frame).to_vec()))
        };
        frames.iter().filter_map(of).collect()
    };
    let first = reports(&said(&mut bench, 20));
    assert_eq!(first.len(), 2, "once more for what gets lost");
    assert_eq!((first[0].0.as_str(), &first[0].1[..9]), ("224.0.0.22", &first[1].1[..9]));
    assert_eq!((first[0].1[7], first[0].1[8]), (3, 4));
    for group in [[224, 0, 0, 251], [224, 0, 0, 252], [239, 255, 255, 250]] {
        assert!(first[0].1.windows(4).any(|part| part == group));
    }
    // Once, however often it is asked meanwhile.
    for _ in 0..3 {
        assert_eq!(bench.rx(0, &member_query([0; 4], 10, 12)), []);
    }
    let answers = reports(&said(&mut bench, 2));
    assert_eq!((answers.len(), answers[0].1[8]), (1, 2));
    // To an old querier in the old way: each group, to itself.
    bench.rx(0, &member_query([0; 4], 10, 8));
    let answers = reports(&said(&mut bench, 2));
    assert_eq!(
        answers.iter().map(|(dst, _)| dst.as_str()).collect::<Vec<_>>(),
        ["224.0.0.251", "224.0.0.252", "239.255.255.250"]
    );
    assert!(answers.iter().all(|(_, message)| message[0] == 0x16));
    bench.rx(0, &member_query([224, 0, 0, 9], 10, 12));
    assert_eq!(reports(&said(&mut bench, 2)), []);
    let mut linux = bench_of(host(Builtin::Linux.into(), &["10.0.1.7"], Builtin::Linux.get().talk.says));
    assert_eq!(reports(&said(&mut linux, 20)), [], "it listens to no group");
}
