//! Datagrams for containers.

use super::tests::{ATTACKER, ATTACKER_IP, HOST_IP, config, ip_frame, mac_of, names};
use super::*;
use crate::emulate::Secret;
use crate::frame::PortNo;
use crate::node::testing::Bench;
use crate::node::{LeaseId, Request};
use crate::wire::{ARP_FRAME, Arp, Duration, Headers};

/// A host whose UDP port 53 is its container's.
fn bench_with(change: impl Fn(&mut Template)) -> Bench<Hosts> {
    let mut config = config();
    config.templates[0].udp.insert(53, UdpPort::Container);
    change(&mut config.templates[0]);
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    bench
}

fn datagram(bench: &Bench<Hosts>, from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let mut l4 = [from.to_be_bytes(), to.to_be_bytes(), (8 + data.len() as u16).to_be_bytes(), [0; 2]].concat();
    l4.extend_from_slice(data);
    ip_frame(bench, proto::UDP, &l4)
}

fn asked(bench: &mut Bench<Hosts>) -> LeaseId {
    let Some(Request::Lease { lease, .. }) = bench.requests.pop() else { panic!("no lease") };
    lease
}

/// The container runs, and tells its MAC; what it is given.
fn comes(bench: &mut Bench<Hosts>, lease: LeaseId) -> Vec<Vec<u8>> {
    bench.with(|node, cx| node.command(Command::LeaseTap { lease, port: PortNo(1) }, cx));
    let out = bench.with(|node, cx| node.command(Command::LeaseLive { lease }, cx));
    let questions: Vec<Arp> = out.iter().filter_map(|(_, frame)| Arp::parse(frame)).collect();
    assert_eq!((out.len(), questions.len()), (1, 1), "nothing but the question for its MAC: {out:?}");
    let own = mac_of(bench, HOST_IP);
    let answer = Arp {
        operation: Arp::REPLY,
        sender_mac: own,
        sender: questions[0].target,
        target_mac: questions[0].sender_mac,
        target: questions[0].sender,
    };
    let mut frame = [0; ARP_FRAME];
    answer.write(questions[0].sender_mac, own, &mut frame);
    let mut out = bench.rx(1, &frame);
    out.extend(bench.with(|node, cx| node.tick(cx)));
    out.into_iter().filter(|(port, _)| *port == PortNo(1)).map(|(_, frame)| frame).collect()
}

/// What a container's kernel says of a datagram to a port that nobody has.
fn unreachable(bench: &Bench<Hosts>, about: &[u8]) -> Vec<u8> {
    let quoted = &about[ETH..];
    let headers = Headers {
        dst_mac: ATTACKER,
        src_mac: mac_of(bench, HOST_IP),
        src: HOST_IP.parse().unwrap(),
        dst: ATTACKER_IP.parse().unwrap(),
        proto: proto::ICMP,
        ttl: 64,
        tos: 0xc0,
        ip_id: 900,
        df: false,
    };
    let mut frame = vec![0; headers.len() + 8 + quoted.len()];
    let at = headers.write(&mut frame, 8 + quoted.len());
    frame[at..at + 2].copy_from_slice(&[3, 3]);
    frame[at + 8..].copy_from_slice(quoted);
    headers.fill_checksum(&mut frame[at..]);
    frame
}

#[test]
fn a_datagram_starts_a_container_and_is_answered_once() {
    let mut bench = bench_with(|_| {});
    let question = datagram(&bench, 5000, 53, b"who?");
    assert!(bench.rx(0, &question).is_empty());
    let lease = asked(&mut bench);
    // It asks again, and somebody else does.
    bench.rx(0, &question);
    let other = datagram(&bench, 5001, 53, b"who?");
    bench.rx(0, &other);
    assert!(bench.requests.is_empty(), "one container");
    let until = bench.now + Duration::from_secs(3);
    assert!(bench.run_until(until).is_empty());
    assert_eq!(comes(&mut bench, lease), [question.clone(), other]);
    let headers = Headers {
        dst_mac: ATTACKER,
        src_mac: mac_of(&bench, HOST_IP),
        src: HOST_IP.parse().unwrap(),
        dst: ATTACKER_IP.parse().unwrap(),
        proto: proto::UDP,
        ttl: 64,
        tos: 0x10,
        ip_id: 900,
        df: true,
    };
    let mut answer = vec![0; 100];
    let len = headers.write_udp((53, 5000), b"me", &mut answer);
    let out = bench.rx(1, &answer[..len]);
    assert_eq!((out.len(), out[0].0), (1, PortNo(0)));
    let packet = Packet::parse(&out[0].1).unwrap();
    assert!(packet.checksum_ok(&out[0].1));
    assert_eq!((&packet.payload(&out[0].1)[8..], out[0].1[ETH + 1], out[0].1[ETH + 6]), (&b"me"[..], 0, 0));
    let until = bench.now + Duration::from_secs(5);
    assert!(bench.run_until(until).is_empty(), "nothing is delivered twice");
    assert_eq!(bench.rx(0, &question), [(PortNo(1), question.clone())], "later ones pass at once");
}

/// veth peers leave checksums to a device that is not there.
#[test]
fn a_checksum_that_was_left_out_is_filled_in() {
    let mut bench = bench_with(|_| {});
    let whole = datagram(&bench, 5000, 53, b"who?");
    let mut frame = bench.pool.head().unwrap();
    frame.space()[..whole.len()].copy_from_slice(&whole);
    frame.set_len(whole.len());
    let addresses = crate::wire::checksum::pseudo(
        ATTACKER_IP.parse().unwrap(),
        HOST_IP.parse().unwrap(),
        proto::UDP,
        whole.len() - ETH - 20,
    );
    let begun = !crate::wire::checksum::finish(addresses);
    frame.bytes_mut()[ETH + 26..ETH + 28].copy_from_slice(&begun.to_be_bytes());
    frame.meta.csum_ok = true;
    frame.meta.offload = crate::sys::vnet::VnetHeader {
        flags: 1,
        gso_type: 0,
        hdr_len: 42,
        gso_size: 0,
        csum_start: 34,
        csum_offset: 6,
    };
    bench.with(|node, cx| {
        let mut batch = Batch::default();
        batch.push(frame);
        node.process(&mut batch, cx);
    });
    let lease = asked(&mut bench);
    assert_eq!(comes(&mut bench, lease), [whole]);
}

#[test]
fn a_container_that_tells_no_mac_is_given_them_all_the_same() {
    let mut bench = bench_with(|_| {});
    let question = datagram(&bench, 5000, 53, b"who?");
    bench.rx(0, &question);
    let lease = asked(&mut bench);
    bench.with(|node, cx| node.command(Command::LeaseTap { lease, port: PortNo(1) }, cx));
    bench.with(|node, cx| node.command(Command::LeaseLive { lease }, cx));
    let until = bench.now + Duration::from_millis(1900);
    assert!(bench.run_until(until).iter().all(|(_, frame)| Arp::parse(frame).is_some()));
    let until = bench.now + Duration::from_secs(5);
    let given = bench.run_until(until).into_iter().filter(|(_, frame)| *frame == question).count();
    assert_eq!(given, 1);
}

#[test]
fn a_service_that_is_not_there_yet_gets_it_again() {
    let mut bench = bench_with(|_| {});
    let question = datagram(&bench, 5000, 53, b"who?");
    bench.rx(0, &question);
    let lease = asked(&mut bench);
    comes(&mut bench, lease);
    for _ in 0..3 {
        let refusal = unreachable(&bench, &question);
        assert!(bench.rx(1, &refusal).is_empty(), "the attacker hears nothing of it");
        let until = bench.now + Duration::from_millis(250);
        assert_eq!(bench.run_until(until), [(PortNo(1), question.clone())]);
    }
    let until = bench.now + Duration::from_secs(20);
    assert!(bench.run_until(until).is_empty());
}

#[test]
fn few_containers_and_few_datagrams_wait() {
    let mut bench = bench_with(|_| {});
    for port in 0..40 {
        let one = datagram(&bench, 5000 + port, 53, b"?");
        bench.rx(0, &one);
    }
    let lease = asked(&mut bench);
    assert_eq!(comes(&mut bench, lease).len(), 16);
    // Sources are forgeable: other hosts are not woken without end.
    let wake = |bench: &mut Bench<Hosts>, host: u8| {
        let ip = format!("10.0.1.{host}");
        let headers = Headers {
            dst_mac: mac_of(bench, &ip),
            src_mac: ATTACKER,
            src: ATTACKER_IP.parse().unwrap(),
            dst: ip.parse().unwrap(),
            proto: proto::UDP,
            ttl: 64,
            tos: 0,
            ip_id: 7,
            df: false,
        };
        let mut frame = vec![0; 60];
        let len = headers.write_udp((5000, 53), b"?", &mut frame);
        bench.rx(0, &frame[..len]);
    };
    (100..150).for_each(|host| wake(&mut bench, host));
    assert_eq!(bench.requests.len(), 7, "eight at once");
    bench.now += Duration::from_secs(20);
    (150..200).for_each(|host| wake(&mut bench, host));
    assert_eq!(bench.requests.len(), 9, "and one every ten seconds");
}

#[test]
fn closed_ports_are_refused_alike_before_and_while_a_container_lives() {
    for (system, len) in
        [(Builtin::Linux, 20), (Builtin::Windows, 300), (Builtin::CiscoIos, 700), (Builtin::Linux, 900)]
    {
        let mut bench = bench_with(|template| template.personality = system.into());
        let question = datagram(&bench, 5000, 31_000, &vec![b'C'; len]);
        let before = bench.rx(0, &question);
        assert_eq!((before.len(), before[0].0), (1, PortNo(0)));
        let start = datagram(&bench, 5000, 53, b"?");
        bench.rx(0, &start);
        let lease = asked(&mut bench);
        comes(&mut bench, lease);
        assert_eq!(bench.rx(0, &question), [(PortNo(1), question.clone())], "the port is the container's");
        // Linux quotes as much as 576 octets hold.
        let mut refusal = unreachable(&bench, &question);
        if refusal.len() > ETH + 576 {
            refusal.truncate(ETH + 576);
            refusal[ETH + 2..ETH + 4].copy_from_slice(&576u16.to_be_bytes());
            refusal[ETH + 10..ETH + 12].fill(0);
            let sum = crate::wire::checksum::of(&refusal[ETH..ETH + 20]);
            refusal[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
        }
        let after = bench.rx(1, &refusal);
        assert_eq!((after.len(), after[0].0), (1, PortNo(0)));
        let plain = |frame: &[u8]| {
            let mut frame = frame.to_vec();
            frame[ETH + 4..ETH + 6].fill(0);
            frame[ETH + 10..ETH + 12].fill(0);
            frame
        };
        assert_eq!(plain(&after[0].1), plain(&before[0].1), "{system:?}");
        let packet = Packet::parse(&after[0].1).unwrap();
        assert!(packet.checksum_ok(&after[0].1));
    }
}

/// A node of one host: whatever address is asked about, it is that host's.
#[test]
fn a_single_host_refuses_towards_the_network() {
    let mut config = config();
    config.single = true;
    config.templates[0].udp.insert(53, UdpPort::Container);
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    let start = datagram(&bench, 5000, 53, b"?");
    bench.rx(0, &start);
    let lease = asked(&mut bench);
    comes(&mut bench, lease);
    let question = datagram(&bench, 5000, 31_000, b"?");
    bench.rx(0, &question);
    let refusal = unreachable(&bench, &question);
    let out = bench.rx(1, &refusal);
    assert_eq!((out.len(), out[0].0), (1, PortNo(0)));
}

#[test]
fn what_the_template_lists_stays_the_emulators() {
    let mut bench = bench_with(|_| {});
    let start = datagram(&bench, 5000, 53, b"?");
    bench.rx(0, &start);
    let lease = asked(&mut bench);
    comes(&mut bench, lease);
    let question = datagram(&bench, 5000, 7, b"hello there");
    let out = bench.rx(0, &question);
    assert_eq!((out.len(), out[0].0), (1, PortNo(0)), "port 7 is a service of the template's");
    let filtered = datagram(&bench, 5000, 69, b"hello");
    assert!(bench.rx(0, &filtered).is_empty());
    assert!(names(&bench).contains(&"udp.datagram"));
}

#[test]
fn what_is_filtered_stays_silent() {
    let mut bench = bench_with(|template| template.udp_default = UdpPort::Filtered);
    let start = datagram(&bench, 5000, 53, b"?");
    bench.rx(0, &start);
    let lease = asked(&mut bench);
    comes(&mut bench, lease);
    let question = datagram(&bench, 5000, 31_000, b"?");
    assert_eq!(bench.rx(0, &question).len(), 1, "somebody may listen inside");
    let refusal = unreachable(&bench, &question);
    assert!(bench.rx(1, &refusal).is_empty());
}

/// Neither before nor afterwards: a container would answer.
#[test]
fn nobody_asks_a_container_for_the_time() {
    let mut bench = bench_with(|_| {});
    let stamp = ip_frame(&bench, proto::ICMP, &[13, 0, 0, 0, 1, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(bench.rx(0, &stamp).is_empty());
    let start = datagram(&bench, 5000, 53, b"?");
    bench.rx(0, &start);
    let lease = asked(&mut bench);
    comes(&mut bench, lease);
    assert!(bench.rx(0, &stamp).is_empty());
}
