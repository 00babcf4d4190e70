//! Hosts that are something else to some, in virtual time.

use super::tests::{ATTACKER, HOST_IP, config, mac_of, tcp_frame, tcp_of};
use super::*;
use crate::emulate::WallClock;
use crate::emulate::{Case, OsFamily, Secret, Window};
use crate::node::testing::Bench;
use crate::wire::{Duration, Headers, Segment, TcpHeader, flag, word_of};

const DAY: u64 = 86_400;
const LINUX: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
const WINDOWS: &[u8] = &[2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2];

/// Hosts whose ports 21 and 119 are open, but for those to whom one of `cases` closes them; port 80 is closed to nobody.
fn bench(cases: Vec<Case>, wall: WallClock) -> Bench<Hosts> {
    let mut config = config();
    let mut closed = config.templates[0].clone();
    closed.personality = Builtin::Windows.into();
    closed.tcp.extend([(21, TcpPort::Closed), (119, TcpPort::Closed)]);
    closed.udp.insert(7, UdpPort::Closed);
    closed.ping = false;
    config.templates[0].cases = cases;
    config.templates.push(closed);
    let identity = Identity::new(Secret([3; 16]), "hosts");
    let mut bench = Bench::new(Hosts::replica(config, identity, 5, Together { wall, ..Together::default() }), 2);
    bench.with(|node, cx| node.tick(cx));
    bench
}

fn case() -> Case {
    Case { template: 1, ..Case::default() }
}

/// A packet from `src` with what an operating system gives its SYN, or without it.
fn packet(bench: &Bench<Hosts>, src: &str, ttl: u8, proto: u8, l4: &dyn Fn(&Headers) -> Vec<u8>) -> Vec<u8> {
    let headers = Headers {
        dst_mac: mac_of(bench, HOST_IP),
        src_mac: ATTACKER,
        src: src.parse().unwrap(),
        dst: HOST_IP.parse().unwrap(),
        proto,
        ttl,
        tos: 0,
        ip_id: 7,
        df: true,
    };
    l4(&headers)
}

fn segment(bench: &Bench<Hosts>, src: &str, ttl: u8, dst: u16, flags: u8, options: &[u8]) -> Vec<u8> {
    packet(bench, src, ttl, proto::TCP, &|headers| {
        let segment = Segment { src: 999, dst, seq: 5, ack: 0, flags, window: 64_240, options, payload: &[] };
        let mut frame = vec![0; headers.len() + segment.len()];
        segment.write(headers, &mut frame);
        frame
    })
}

/// The flags of the answer to a SYN, and its TTL.
fn syn(bench: &mut Bench<Hosts>, src: &str, ttl: u8, options: &[u8]) -> (u8, u8) {
    let frame = segment(bench, src, ttl, 21, flag::SYN, options);
    let out = bench.rx(0, &frame);
    let (packet, tcp, _) = tcp_of(&out[0].1);
    (tcp.flags, packet.ttl)
}

const OPEN: (u8, u8) = (flag::SYN | flag::ACK, 64);
const CLOSED: (u8, u8) = (flag::RST | flag::ACK, 128);

#[test]
fn sources_are_told_apart_and_the_hosts_mac_stays() {
    let net = (word_of("10.0.9.0".parse().unwrap()), word_of("10.0.9.255".parse().unwrap()));
    let mut bench = bench(vec![Case { from: vec![net], ..case() }], WallClock::default());
    let mac = mac_of(&bench, HOST_IP);
    assert_eq!(syn(&mut bench, "10.0.8.1", 64, LINUX), OPEN);
    assert_eq!(syn(&mut bench, "10.0.9.1", 64, LINUX), CLOSED);
    let frame = segment(&bench, "10.0.9.1", 64, 21, flag::SYN, LINUX);
    assert_eq!(src_mac(&bench.rx(0, &frame)[0].1), mac);
    // What the case says of ping and UDP, too.
    let echo = |bench: &Bench<Hosts>, src: &str| {
        packet(bench, src, 64, proto::ICMP, &|headers| {
            let mut frame = vec![0; headers.len() + 8];
            let at = headers.write(&mut frame, 8);
            frame[at] = 8;
            headers.fill_checksum(&mut frame[at..]);
            frame
        })
    };
    let (ours, theirs) = (echo(&bench, "10.0.8.1"), echo(&bench, "10.0.9.1"));
    assert_eq!((bench.rx(0, &ours).len(), bench.rx(0, &theirs).len()), (1, 0));
}

#[test]
fn the_first_case_that_applies_counts() {
    let all = Case { template: 0, ..Case::default() };
    let mut bench = bench(vec![all, case()], WallClock::default());
    assert_eq!(syn(&mut bench, "10.0.8.1", 64, LINUX), OPEN);
}

#[test]
fn a_source_keeps_the_time_of_day_at_which_it_came() {
    // Open until 08:00 on any day. It is 07:59:30, and the monotonic clock stands at a thousand seconds.
    let night = Window { days: 0x7f, from: 480, to: 1440, ahead: 0 };
    let wall = WallClock { zero_micros: (479 * 60 + 30 - 1000) * 1_000_000 };
    let mut bench = bench(vec![Case { during: vec![night], ..case() }], wall);
    assert_eq!(syn(&mut bench, "10.0.8.1", 64, LINUX), OPEN);
    bench.now += Duration::from_secs(200);
    // 08:02: who began before is met as before, who begins now is not.
    assert_eq!(syn(&mut bench, "10.0.8.1", 64, LINUX), OPEN);
    assert_eq!(syn(&mut bench, "10.0.8.2", 64, LINUX), CLOSED);
    // After a pause of more than five minutes it is a new contact.
    bench.now += Duration::from_secs(301);
    assert_eq!(syn(&mut bench, "10.0.8.1", 64, LINUX), CLOSED);
    bench.now += Duration::from_secs(DAY - 600);
    assert_eq!(syn(&mut bench, "10.0.8.1", 64, LINUX), OPEN);
}

#[test]
fn a_connection_outlives_the_change_of_its_case() {
    let until = Window { days: 0x7f, from: 20, to: 1440, ahead: 0 };
    let mut bench = bench(vec![Case { during: vec![until], ..case() }], WallClock::default());
    let frame = tcp_frame(&bench, 5000, 119, 100, 0, flag::SYN, b"");
    let (_, tcp, _) = tcp_of(&bench.rx(0, &frame)[0].1);
    let ack = tcp_frame(&bench, 5000, 119, 101, tcp.seq.wrapping_add(1), flag::ACK, b"");
    let out = bench.rx(0, &ack);
    let said = out.iter().map(|(_, frame)| tcp_of(frame)).find(|(_, _, payload)| !payload.is_empty());
    let (_, banner, payload) = said.unwrap();
    assert_eq!(payload, b"200 ready\r\n");
    bench.now += Duration::from_secs(400);
    let next = banner.seq.wrapping_add(payload.len() as u32);
    let data = tcp_frame(&bench, 5000, 119, 101, next, flag::ACK | flag::PSH, b"USER x\r\n");
    let mut out = bench.rx(0, &data);
    out.extend(bench.run_until(bench.now + Duration::from_secs(1)));
    let answers: Vec<_> = out.iter().map(|(_, frame)| tcp_of(frame).1).collect();
    let acknowledged = |tcp: &TcpHeader| tcp.flags & flag::RST == 0 && tcp.ack == 109;
    assert!(!answers.is_empty() && answers.iter().all(acknowledged), "{answers:?}");
    // A new one meets the new case.
    let frame = tcp_frame(&bench, 5001, 119, 100, 0, flag::SYN, b"");
    assert_eq!(tcp_of(&bench.rx(0, &frame)[0].1).1.flags, flag::RST | flag::ACK);
}

#[test]
fn the_system_of_the_first_syn_decides_for_all_that_follows() {
    let mut bench = bench(vec![Case { os: vec![OsFamily::Windows], ..case() }], WallClock::default());
    assert_eq!(syn(&mut bench, "10.0.8.1", 64, LINUX), OPEN);
    assert_eq!(syn(&mut bench, "10.0.8.2", 120, WINDOWS), CLOSED);
    // By then, datagrams and other segments are met alike; before its SYN a source is nobody.
    let datagram = |bench: &Bench<Hosts>, src: &str| {
        packet(bench, src, 128, proto::UDP, &|headers| {
            let mut frame = vec![0; headers.len() + 12];
            let at = headers.write(&mut frame, 12);
            frame[at..at + 8].copy_from_slice(&[3, 0, 0, 7, 0, 12, 0, 0]);
            headers.fill_checksum(&mut frame[at..]);
            frame
        })
    };
    let proto_of = |bench: &mut Bench<Hosts>, src: &str| {
        let frame = datagram(bench, src);
        Packet::parse(&bench.rx(0, &frame)[0].1).unwrap().proto
    };
    assert_eq!(proto_of(&mut bench, "10.0.8.2"), proto::ICMP);
    assert_eq!(proto_of(&mut bench, "10.0.8.1"), proto::UDP);
    assert_eq!(proto_of(&mut bench, "10.0.8.3"), proto::UDP);
    // What looks like another system later comes from the same machine.
    assert_eq!(syn(&mut bench, "10.0.8.2", 64, LINUX), CLOSED);
    let told: Vec<u16> = bench
        .events
        .iter()
        .filter(|(event, _)| event.id == EventId::TcpProbe)
        .map(|(event, _)| event.code >> 8)
        .collect();
    assert_eq!(told, [OsFamily::Linux as u16, OsFamily::Windows as u16, 0]);
}

#[test]
fn syn_acks_sent_again_are_those_of_the_case() {
    // Windows' schedule and TTL, on an open port.
    let mut bench = bench(vec![case()], WallClock::default());
    let frame = segment(&bench, "10.0.8.1", 64, 80, flag::SYN, LINUX);
    let (first, syn_ack, _) = tcp_of(&bench.rx(0, &frame)[0].1);
    let out = bench.run_until(bench.now + Duration::from_secs(4));
    let again: Vec<_> = out.iter().map(|(_, frame)| tcp_of(frame)).collect();
    assert_eq!(again.len(), 1, "Windows sends it again after three seconds, Linux after one");
    assert_eq!((first.ttl, again[0].0.ttl, again[0].1.seq), (128, 128, syn_ack.seq));
}
