//! What is told of sessions.

use super::tests::{Client, bench, config, ip_frame, names, tcp_frame};
use super::*;
use crate::node::testing::Bench;
use crate::wire::{Duration, flag};

#[test]
fn echo_keeps_payload_and_leaves_one_session() {
    let mut bench = bench();
    for seq in 0..5u8 {
        let frame = ip_frame(&bench, proto::ICMP, &[8, 0, 0, 0, 1, 2, 0, seq, 9, 9, 9]);
        let out = bench.rx(0, &frame);
        let packet = Packet::parse(&out[0].1).unwrap();
        assert!(packet.checksum_ok(&out[0].1));
        assert_eq!(packet.ttl, 64);
        let message = packet.payload(&out[0].1);
        assert_eq!((message[0], &message[4..]), (0, &[1, 2, 0, seq, 9, 9, 9][..]));
    }
    assert_eq!(names(&bench), ["icmp.echo", "session.start"]);
    assert_eq!(bench.node.sessions.len(), 1);
    bench.now += Duration::from_secs(400);
    bench.with(|node, cx| node.tick(cx));
    assert_eq!(names(&bench).last(), Some(&"session.end"));
    let end = &bench.events.last().unwrap().0;
    assert_eq!((end.count, end.bytes_in, end.bytes_out), (5, 5 * 31, 5 * 31));
}

#[test]
fn whoever_looks_once_leaves_one_record_and_whoever_says_nothing_that_is_told_too() {
    let told = |frame: &[u8]| {
        let mut bench = bench();
        bench.rx(0, frame);
        let before = names(&bench);
        bench.now += Duration::from_secs(400);
        bench.with(|node, cx| node.tick(cx));
        assert!(bench.node.sessions.len() == 0 && bench.events.iter().all(|(event, _)| event.session.0 != 0));
        assert_eq!(firsts(&bench), 1, "counted once");
        (before, names(&bench))
    };
    let bench = bench();
    for (frame, name) in [
        (ip_frame(&bench, proto::ICMP, &[8, 0, 0, 0, 1, 2, 0, 1, 9, 9, 9]), "icmp.echo"),
        (tcp_frame(&bench, 40000, 81, 100, 0, flag::SYN, b""), "tcp.probe"),
        (ip_frame(&bench, proto::UDP, &[1, 2, 0, 99, 0, 8, 0, 0]), "udp.datagram"),
    ] {
        assert_eq!(told(&frame), (vec![name], vec![name]));
    }
    // Nothing else tells of a stray reset.
    let stray = tcp_frame(&bench, 40000, 81, 100, 0, flag::RST, b"");
    assert_eq!(told(&stray), (vec!["session.start"], vec!["session.start", "session.end"]));
    // The start has the time of the first frame.
    let mut bench = self::bench();
    let began = bench.now;
    for _ in 0..2 {
        bench.rx(0, &tcp_frame(&bench, 40000, 81, 100, 0, flag::SYN, b""));
        bench.now += Duration::from_secs(7);
    }
    assert_eq!(names(&bench), ["tcp.probe", "session.start", "tcp.probe"]);
    assert_eq!((bench.events[1].0.at, bench.events[1].0.dst.l4_port), (began, 81));
    assert!(bench.events[0].0.first && firsts(&bench) == 1, "the start tells of a session that was counted");
}

/// A session whose first frame was no record of its own is counted, too.
#[test]
fn each_session_is_counted_by_the_first_record_of_it() {
    let mut bench = bench();
    for (port, flags) in [(1u16, flag::RST), (2, flag::ACK), (3, flag::SYN)] {
        bench.rx(0, &tcp_frame(&bench, port, 81, 100, 0, flags, b""));
        bench.now += Duration::from_secs(400);
        bench.with(|node, cx| node.tick(cx));
        assert_eq!(firsts(&bench), usize::from(port), "{:?}", names(&bench));
    }
    let sessions: std::collections::HashSet<u64> = bench.events.iter().map(|(event, _)| event.session.0).collect();
    assert_eq!(sessions.len(), 3);
}

/// Events that say that they are the first of their session.
fn firsts(bench: &Bench<Hosts>) -> usize {
    bench.events.iter().filter(|(event, _)| event.first).count()
}

/// What there is is known by the table, whatever was told of beginnings and ends, and to whom.
#[test]
fn what_there_is_is_counted_where_it_is() {
    let mut bench = bench();
    let now = |bench: &Bench<Hosts>| bench.node.standing().map(|now| (now.sessions, now.flows));
    bench.rx(0, &tcp_frame(&bench, 40000, 81, 100, 0, flag::SYN, b""));
    assert_eq!(now(&bench), Some((0, 0)), "whoever looked once");
    let mut client = Client::new(&bench, 21);
    client.run(&mut bench, Duration::from_millis(500));
    assert_eq!(now(&bench), Some((1, 1)));
    client.conn.close();
    client.run(&mut bench, Duration::from_millis(500));
    assert_eq!(now(&bench), Some((1, 0)));
    bench.now += Duration::from_secs(400);
    bench.with(|node, cx| node.tick(cx));
    assert_eq!((now(&bench), names(&bench).last()), (Some((0, 0)), Some(&"session.end")));
}

/// A table that is full: who gives way is not open any more.
#[test]
fn a_session_that_gives_way_is_not_counted() {
    let mut few = config();
    few.limits.sessions = 1;
    let mut bench = Bench::new(Hosts::new(few, Identity::new(crate::emulate::Secret([3; 16]), "hosts"), 5), 2);
    for _ in 0..3 {
        for host in 1..=200 {
            let frame = echo(&bench, &format!("10.0.1.{host}"));
            bench.rx(0, &frame);
            bench.rx(0, &frame);
        }
    }
    let of = |name: &str| names(&bench).iter().filter(|id| **id == name).count();
    assert!(of("session.end") > 0);
    assert_eq!(bench.node.standing().unwrap().sessions, of("session.start") - of("session.end"));
}

/// The honeynet ends: whoever is connected is told of with what passed.
#[test]
fn connections_that_are_open_at_the_end_have_one() {
    let mut bench = bench();
    let mut client = Client::new(&bench, 21);
    client.run(&mut bench, Duration::from_millis(500));
    client.send(&bench, b"USER anonymous\r\n");
    client.run(&mut bench, Duration::from_millis(500));
    bench.now += Duration::from_secs(9);
    bench.with(|node, cx| node.end(cx));
    let closed: Vec<Event> =
        bench.events.iter().map(|(event, _)| *event).filter(|event| event.id == EventId::TcpClose).collect();
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].code, closed[0].bytes_in, closed[0].bytes_out), (5, 16, 11));
    assert!(closed[0].count >= 9_000_000 && closed[0].session.0 != 0);
    assert!(bench.node.flows.slab.is_empty());
    // Once is enough.
    bench.with(|node, cx| node.end(cx));
    assert_eq!(names(&bench).iter().filter(|id| **id == "tcp.close").count(), 1);
}

/// An echo request to `host`.
fn echo(bench: &Bench<Hosts>, host: &str) -> Vec<u8> {
    let mut frame = ip_frame(bench, proto::ICMP, &[8, 0, 0, 0, 1, 2, 0, 1, 9, 9, 9]);
    let headers = crate::wire::Headers {
        dst_mac: super::tests::mac_of(bench, host),
        src_mac: super::tests::ATTACKER,
        src: super::tests::ATTACKER_IP.parse().unwrap(),
        dst: host.parse().unwrap(),
        proto: proto::ICMP,
        ttl: 64,
        tos: 0,
        ip_id: 7,
        df: false,
    };
    let at = headers.write(&mut frame, 11);
    headers.fill_checksum(&mut frame[at..]);
    frame
}
