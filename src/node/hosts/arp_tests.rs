//! The eleven questions of arp-fingerprint, in the order of its digits.

use std::net::Ipv4Addr;

use super::container_tests::live;
use super::tests::{ATTACKER, HOST_IP, bench, config, mac_of, names};
use super::*;
use crate::emulate::{ArpHabits, Interned, Secret};
use crate::node::testing::Bench;
use crate::wire::{ARP_FRAME, Arp};

/// A normal request for [`HOST_IP`] of who says that `sender` is its address.
fn request(sender: [u8; 4]) -> [u8; ARP_FRAME] {
    let arp = Arp {
        operation: Arp::REQUEST,
        sender_mac: ATTACKER,
        sender: sender.into(),
        target_mac: Mac::ZERO,
        target: HOST_IP.parse().unwrap(),
    };
    let mut frame = [0; ARP_FRAME];
    arp.write(Mac::BROADCAST, ATTACKER, &mut frame);
    frame
}

/// A request with other octets `at` that place of the message.
fn odd(at: usize, octets: &[u8]) -> [u8; ARP_FRAME] {
    let mut frame = request([10, 0, 0, 200]);
    frame[ETH + at..ETH + at + octets.len()].copy_from_slice(octets);
    frame
}

fn questions() -> [[u8; ARP_FRAME]; 11] {
    [
        request([127, 0, 0, 1]),
        request([0, 0, 0, 0]),
        request([255, 255, 255, 255]),
        request([1, 0, 0, 1]),
        odd(6, &[0, 255]),
        odd(0, &[0, 6]),
        odd(0, &[0, 255]),
        odd(2, &[0xff, 0xff]),
        odd(2, &[0x81, 0x37]),
        odd(5, &[6]),
        odd(4, &[8]),
    ]
}

fn bench_of(personality: Interned) -> Bench<Hosts> {
    let mut config = config();
    config.templates[0].personality = personality;
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    bench
}

fn with_habits(digits: &str) -> Interned {
    let linux = Builtin::Linux.get().clone();
    Interned::new(crate::emulate::Personality { arp: ArpHabits::parse(digits).unwrap(), ..linux })
}

/// What arp-fingerprint prints of the host. Every answer is a normal one to who asked.
fn fingerprint(bench: &mut Bench<Hosts>) -> String {
    let own = mac_of(bench, HOST_IP);
    let digit = |question: [u8; ARP_FRAME]| {
        let out = bench.rx(0, &question);
        let Some((port, answer)) = out.first() else { return '0' };
        assert_eq!((out.len(), port.0, dst_mac(answer), src_mac(answer)), (1, 0, ATTACKER, own));
        let answer = Arp::parse(answer).unwrap();
        let asker = Ipv4Addr::new(question[28], question[29], question[30], question[31]);
        assert_eq!((answer.operation, answer.sender_mac, answer.target), (Arp::REPLY, own, asker));
        assert_eq!((answer.sender.to_string().as_str(), answer.target_mac), (HOST_IP, ATTACKER));
        '1'
    };
    let digits = questions().map(digit).iter().collect();
    assert_eq!(bench.pool.in_use(), 0);
    digits
}

#[test]
fn personalities_are_told_apart_by_what_they_answer() {
    let linux = Builtin::Linux.into();
    let cases: [(Interned, &str); 9] = [
        (linux, "01010100000"),
        (Builtin::Windows.into(), "01010100000"),
        (Builtin::CiscoIos.into(), "00000100000"),
        (Builtin::WindowsXp.into(), "11110100000"),
        (Builtin::OpenBsd.into(), "11110000011"),
        (Builtin::Printer.into(), "01010100000"),
        (with_habits("01000111111"), "01000111111"),
        (with_habits("00000000000"), "00000000000"),
        (with_habits("11111111111"), "11111111111"),
    ];
    for (personality, digits) in cases {
        let mut bench = bench_of(personality);
        assert_eq!(fingerprint(&mut bench), digits, "{personality:?}");
        assert_eq!(bench.rx(0, &request([10, 0, 0, 200])).len(), 1, "{personality:?} answers normal requests");
    }
}

#[test]
fn several_oddities_at_once_are_answered_by_who_answers_each() {
    let mut probe_with_802 = request([0, 0, 0, 0]);
    probe_with_802[ETH + 1] = 6;
    assert_eq!(bench_of(Builtin::Linux.into()).rx(0, &probe_with_802).len(), 1);
    assert_eq!(bench_of(Builtin::CiscoIos.into()).rx(0, &probe_with_802), []);
}

#[test]
fn neighbors_beyond_a_guessed_prefix_are_no_strangers() {
    let mut bench = bench_of(Builtin::CiscoIos.into());
    bench.node.config.segment.prefixes = vec!["fd00::/64".parse().unwrap(), "10.0.1.0/28".parse().unwrap()];
    assert_eq!(bench.rx(0, &request([10, 0, 0, 200])).len(), 1);
    assert_eq!(bench.rx(0, &request([10, 1, 0, 200])), []);
    assert_eq!(bench.counters.discarded(DropReason::BadSource), 1);
}

#[test]
fn what_nobody_answers_stays_unanswered() {
    let all = with_habits("11111111111");
    let mut bench = bench_of(all);
    for sender in [[224, 0, 0, 1], [10, 0, 1, 7]] {
        assert_eq!(bench.rx(0, &request(sender)), [], "{sender:?}");
    }
    // To another station, for nobody, cut short.
    let mut frame = odd(0, &[0, 6]);
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    assert_eq!(bench.rx(0, &frame), []);
    frame = odd(0, &[0, 6]);
    frame[ETH + 26] = 9;
    assert_eq!(bench.rx(0, &frame), []);
    assert_eq!(bench.rx(0, &odd(0, &[0, 6])[..41]), []);
    assert!(bench.events.is_empty());
}

#[test]
fn one_event_tells_of_a_fingerprint_and_none_of_senders_that_are_nobody() {
    let mut bench = bench();
    assert_eq!(bench.rx(0, &request([0, 0, 0, 0])).len(), 1);
    assert_eq!(bench.rx(0, &request([127, 0, 0, 1])), []);
    assert_eq!(names(&bench), Vec::<&str>::new());
    for _ in 0..3 {
        assert_eq!(bench.rx(0, &odd(0, &[0, 6])).len(), 1);
        assert_eq!(bench.rx(0, &odd(0, &[0, 255])), []);
    }
    assert_eq!(names(&bench), ["arp.request", "session.start"]);
}

#[test]
fn nothing_is_learned_from_what_is_odd() {
    let mut bench = bench_of(with_habits("11111111111"));
    live(&mut bench);
    let own = mac_of(&bench, HOST_IP);
    let host: IpAddr = HOST_IP.parse().unwrap();
    for mut question in questions() {
        question[..6].copy_from_slice(&own.0);
        // Another than the one who has spoken to the container already.
        if question[28..32] == [10, 0, 0, 200] {
            question[31] = 77;
        }
        assert_eq!(bench.rx(0, &question)[0].0.0, 0, "the container hears nothing of it");
        let sender = Ipv4Addr::new(question[28], question[29], question[30], question[31]);
        assert_eq!(bench.node.leases.peer_mac(host, sender.into()), None);
    }
    // A reply in an odd form is no reply.
    let mut reply = odd(0, &[0, 6, 8, 0, 6, 4, 0, 2]);
    reply[..6].copy_from_slice(&own.0);
    reply[31] = 77;
    assert_eq!(bench.rx(0, &reply), []);
    assert_eq!(bench.node.leases.peer_mac(host, "10.0.0.77".parse().unwrap()), None);
}
