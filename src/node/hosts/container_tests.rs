//! Hosts with a container behind them.

use std::net::Ipv4Addr;

use super::tests::{ATTACKER, ATTACKER_IP, Client, HOST_IP, bench, config, ip_frame, mac_of, names, tcp_frame, tcp_of};
use super::*;
use crate::emulate::StartPolicy;
use crate::emulate::{Secret, Splicing};
use crate::frame::PortNo;
use crate::node::Request;
use crate::node::testing::Bench;
use crate::wire::{ARP_FRAME, Arp, Duration, Headers, Segment as TcpSegment, TcpOptions, flag};

#[test]
fn a_handshake_asks_for_a_container_and_a_ping_does_not() {
    let mut bench = bench();
    let echo = ip_frame(&bench, proto::ICMP, &[8, 0, 0, 0, 1, 2, 0, 1, 9, 9]);
    bench.rx(0, &echo);
    let syn = tcp_frame(&bench, 5, 22, 100, 0, flag::SYN, b"");
    bench.rx(0, &syn);
    assert!(bench.requests.is_empty());
    let mut client = Client::new(&bench, 22);
    client.run(&mut bench, Duration::from_millis(5));
    assert!(client.conn.is_open(), "the emulator answers at once");
    client.send(&bench, b"SSH-2.0-client\r\n");
    client.run(&mut bench, Duration::from_millis(5));
    assert!(
        matches!(bench.requests.as_slice(), [Request::Lease { host, .. }] if *host == HOST_IP.parse::<IpAddr>().unwrap())
    );
    assert_eq!(bench.node.leases.states()[&HOST_IP.parse::<IpAddr>().unwrap()].0.as_str(), "starting");
    // It never comes. As a busy host would, ours keeps the attacker waiting, and hangs up in the end.
    let flags = |said: &[(PortNo, Vec<u8>)]| -> Vec<u8> {
        let to_client = said.iter().map(|(_, frame)| tcp_of(frame).1).filter(|tcp| tcp.dst == 41000);
        to_client.map(|tcp| tcp.flags).collect()
    };
    for wait in 1..=4u64 {
        let Some(Request::Lease { lease, .. }) = bench.requests.pop() else { panic!("attempt {wait}") };
        bench.with(|node, cx| node.command(Command::LeaseGone { lease, why: "no image".into() }, cx));
        let until = bench.now + Duration::from_millis(wait * 1000 - 50);
        let said = flags(&bench.run_until(until));
        assert!(said.iter().all(|flags| *flags == flag::ACK) && bench.requests.is_empty(), "attempt {wait}: {said:?}");
        let until = bench.now + Duration::from_millis(100);
        let said = flags(&bench.run_until(until));
        let wanted = if wait < 4 { (1, vec![]) } else { (0, vec![flag::FIN | flag::ACK]) };
        assert_eq!((bench.requests.len(), said), wanted, "attempt {wait}");
    }
    assert_eq!(names(&bench).iter().filter(|name| **name == "container.failed").count(), 4);
}

#[test]
fn a_container_of_the_system_is_started_again() {
    let mut config = config();
    (config.single, config.templates[0].backend.as_mut().unwrap().start) = (true, StartPolicy::WithSystem);
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    let Some(Request::Lease { lease, .. }) = bench.requests.pop() else { panic!("no lease") };
    assert!(bench.requests.is_empty(), "one host, one container");
    bench.with(|node, cx| node.command(Command::LeaseGone { lease, why: "killed".into() }, cx));
    let until = bench.now + Duration::from_secs(4);
    bench.run_until(until);
    assert!(bench.requests.is_empty());
    let until = bench.now + Duration::from_secs(2);
    bench.run_until(until);
    assert!(matches!(bench.requests.as_slice(), [Request::Lease { .. }]));
}

#[test]
fn a_container_is_reached_from_the_attackers_own_address() {
    let mut bench = bench();
    let mut client = Client::new(&bench, 22);
    client.run(&mut bench, Duration::from_millis(5));
    client.send(&bench, b"hello");
    client.run(&mut bench, Duration::from_millis(5));
    let Some(Request::Lease { lease, .. }) = bench.requests.pop() else { panic!("no lease") };
    bench.with(|node, cx| node.command(Command::LeaseTap { lease, port: PortNo(1) }, cx));
    let out = bench.with(|node, cx| node.command(Command::LeaseLive { lease }, cx));
    let (port, frame) = out.iter().find(|(port, _)| *port == PortNo(1)).unwrap();
    let (packet, syn, _) = tcp_of(frame);
    assert_eq!(
        (port, packet.src(), packet.dst()),
        (&PortNo(1), ATTACKER_IP.parse().unwrap(), HOST_IP.parse().unwrap())
    );
    assert_eq!((syn.src, syn.dst, syn.flags), (41000, 22, flag::SYN));
    assert_eq!((src_mac(frame), dst_mac(frame)), (ATTACKER, mac_of(&bench, HOST_IP)));
    let options = &packet.payload(frame)[20..syn.len];
    let expected = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
    assert_eq!(options, expected, "the attacker's order, and what was agreed on with it");
    // The container answers; its data reaches the attacker, the attacker's reaches it.
    let answer = |bench: &Bench<Hosts>, seq: u32, ack: u32, flags: u8, payload: &[u8]| {
        let segment = TcpSegment { src: 22, dst: 41000, seq, ack, flags, window: 64000, options: &[], payload };
        to_attacker(bench, 64, &segment)
    };
    let frame = answer(&bench, 9000, syn.seq.wrapping_add(1), flag::SYN | flag::ACK, b"");
    let out = bench.rx(1, &frame);
    let data: Vec<u8> = out.iter().filter(|(port, _)| *port == PortNo(1)).flat_map(|(_, f)| tcp_of(f).2).collect();
    assert_eq!(data, b"hello");
    let frame = answer(&bench, 9001, syn.seq.wrapping_add(6), flag::ACK | flag::PSH, b"SSH-2.0-server\r\n");
    let out = bench.rx(1, &frame);
    let to_attacker: Vec<u8> =
        out.iter().filter(|(port, _)| *port == PortNo(0)).flat_map(|(_, f)| tcp_of(f).2).collect();
    assert_eq!(to_attacker, b"SSH-2.0-server\r\n");
    assert!(names(&bench).contains(&"container.live"));
    // What was on its way when the attacker hung up is nothing that the container begins.
    let seq = client.next.1;
    let reset = tcp_frame(&bench, 41000, 22, seq, 0, flag::RST, b"");
    bench.rx(0, &reset);
    bench.with(|node, cx| node.tick(cx));
    assert_eq!(names(&bench).last(), Some(&"tcp.close"));
    let told = bench.events.len();
    let late = answer(&bench, 9017, syn.seq.wrapping_add(6), flag::ACK | flag::PSH, b"more");
    assert!(bench.rx(1, &late).is_empty());
    assert_eq!(bench.events.len(), told);
}

/// A segment that the container sends to the attacker.
fn to_attacker(bench: &Bench<Hosts>, ttl: u8, segment: &TcpSegment<'_>) -> Vec<u8> {
    let headers = Headers {
        dst_mac: ATTACKER,
        src_mac: mac_of(bench, HOST_IP),
        src: HOST_IP.parse().unwrap(),
        dst: ATTACKER_IP.parse().unwrap(),
        proto: proto::TCP,
        ttl,
        tos: 0,
        ip_id: 1,
        df: true,
    };
    let mut frame = vec![0; headers.len() + segment.len()];
    segment.write(&headers, &mut frame);
    frame
}

/// The same of its connection with the client.
pub(super) fn inside(bench: &Bench<Hosts>, seq: u32, ack: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let segment = TcpSegment { src: 22, dst: 41000, seq, ack, flags, window: 500, options, payload };
    to_attacker(bench, 63, &segment)
}

/// What came out by `port`.
pub(super) fn by(port: u16, out: &[(PortNo, Vec<u8>)]) -> Vec<&[u8]> {
    out.iter().filter(|(at, _)| *at == PortNo(port)).map(|(_, frame)| frame.as_slice()).collect()
}

/// A connection that the container has taken; the container's next numbers.
fn open_inside(bench: &mut Bench<Hosts>) -> (Client, (u32, u32)) {
    let mut client = Client::new(bench, 22);
    client.run(bench, Duration::from_millis(5));
    let Some(Request::Lease { lease, .. }) = bench.requests.pop() else { panic!("no lease") };
    bench.with(|node, cx| node.command(Command::LeaseTap { lease, port: PortNo(1) }, cx));
    let out = bench.with(|node, cx| node.command(Command::LeaseLive { lease }, cx));
    let (_, syn, _) = tcp_of(by(1, &out)[0]);
    let ack = syn.seq.wrapping_add(1);
    let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 4, 0, 0, 0, 0, 9, 1, 3, 3, 9];
    let answer = inside(bench, 9000, ack, flag::SYN | flag::ACK, &options, b"");
    bench.rx(1, &answer);
    (client, (9001, ack))
}

#[test]
fn an_open_connection_passes_through() {
    let mut bench = bench();
    let (client, (seq, ack)) = open_inside(&mut bench);
    assert!(bench.node.flows.slab.iter().all(|(_, flow)| flow.is_spliced()));
    let (theirs, ours) = (client.next.1, client.next.0);
    // The attacker's own segment arrives, its numbers changed, and no other.
    let frame = tcp_frame(&bench, 41000, 22, theirs, ours, flag::ACK | flag::PSH, b"uname -a");
    let out = bench.rx(0, &frame);
    let [segment] = by(1, &out)[..] else { panic!("{out:?}") };
    let (packet, tcp, payload) = tcp_of(segment);
    assert_eq!((tcp.seq, tcp.ack, payload.as_slice()), (ack, seq, &b"uname -a"[..]));
    assert!(packet.checksum_ok(segment) && by(0, &out).is_empty());
    assert_eq!((src_mac(segment), dst_mac(segment)), (ATTACKER, mac_of(&bench, HOST_IP)));
    // The container's does, as the host's system would have written it.
    let clock = [1, 1, 8, 10, 0, 0, 4, 0, 0, 0, 0, 9];
    let frame = inside(&bench, seq, ack.wrapping_add(8), flag::ACK | flag::PSH, &clock, b"Linux");
    let out = bench.rx(1, &frame);
    let [segment] = by(0, &out)[..] else { panic!("{out:?}") };
    let (packet, tcp, payload) = tcp_of(segment);
    assert_eq!((tcp.seq, tcp.ack, payload.as_slice()), (ours, theirs.wrapping_add(8), &b"Linux"[..]));
    assert_eq!((packet.ttl, tcp.window), (64, 2000));
    assert!(packet.checksum_ok(segment) && by(1, &out).is_empty());
    assert_ne!(TcpOptions::parse(&packet.payload(segment)[20..tcp.len]).timestamps, Some((0x400, 9)));
    assert!(names(&bench).contains(&"tcp.data"));
    // Both say goodbye.
    let fin = flag::FIN | flag::ACK;
    let frame = tcp_frame(&bench, 41000, 22, theirs.wrapping_add(8), ours.wrapping_add(5), fin, b"");
    bench.rx(0, &frame);
    let frame = inside(&bench, seq.wrapping_add(5), ack.wrapping_add(9), fin, &clock, b"");
    bench.rx(1, &frame);
    let frame = tcp_frame(&bench, 41000, 22, theirs.wrapping_add(9), ours.wrapping_add(6), flag::ACK, b"");
    let out = bench.rx(0, &frame);
    assert_eq!(by(1, &out).len(), 1, "the last acknowledgment, too");
    assert!(bench.node.flows.slab.is_empty());
    assert_eq!(names(&bench).last(), Some(&"tcp.close"));
    let close = bench.events.last().unwrap().0;
    assert_eq!((close.code, close.bytes_in, close.bytes_out), (0, 9, 6), "data, and a FIN each");
}

#[test]
fn a_container_that_dies_resets_what_passes_through() {
    let mut bench = bench();
    let (client, _) = open_inside(&mut bench);
    let lease = bench.node.leases.by_host.values().next().unwrap().id;
    let out = bench.with(|node, cx| node.command(Command::LeaseGone { lease, why: "killed".into() }, cx));
    let [segment] = by(0, &out)[..] else { panic!("{out:?}") };
    let (_, tcp, _) = tcp_of(segment);
    assert!(tcp.has(flag::RST));
    assert_eq!(tcp.seq, client.next.0);
    assert!(bench.node.flows.slab.is_empty());
}

#[test]
fn a_template_may_forbid_it() {
    let mut config = config();
    config.templates[0].backend.as_mut().unwrap().splice = Splicing::Never;
    let mut template = config.templates[0].clone();
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    open_inside(&mut bench);
    assert!(bench.node.flows.slab.iter().all(|(_, flow)| !flow.is_spliced()));
    for (personality, splice, expected) in [
        (Builtin::Linux, Splicing::Never, false),
        (Builtin::Linux, Splicing::Auto, true),
        (Builtin::Windows, Splicing::Auto, false),
        (Builtin::Windows, Splicing::Always, true),
    ] {
        template.personality = personality.into();
        template.backend.as_mut().unwrap().splice = splice;
        assert_eq!(splice::is_allowed(&template), expected, "{personality:?} {splice:?}");
    }
}

/// The container has said goodbye, and the attacker answers with a reset: the next one may begin from the same port.
#[test]
fn a_reset_ends_what_the_container_has_closed() {
    let mut config = config();
    config.templates[0].backend.as_mut().unwrap().splice = Splicing::Never;
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    let (client, (seq, ack)) = open_inside(&mut bench);
    let clock = [1, 1, 8, 10, 0, 0, 4, 0, 0, 0, 0, 9];
    let goodbye = inside(&bench, seq, ack, flag::FIN | flag::ACK, &clock, b"");
    bench.rx(1, &goodbye);
    let reset = tcp_frame(&bench, 41000, 22, client.next.1, 0, flag::RST, b"");
    let out = bench.rx(0, &reset);
    assert!(by(1, &out).iter().any(|frame| tcp_of(frame).1.has(flag::RST)), "the container hears of it: {out:?}");
    assert!(bench.node.flows.slab.is_empty());
    assert_eq!((names(&bench).last(), bench.events.last().unwrap().0.code), (Some(&"tcp.close"), 1));
}

/// The container has said goodbye first, and takes its time: it gets everything all the same.
#[test]
fn what_was_sent_last_arrives_after_both_have_closed() {
    let mut config = config();
    config.templates[0].backend.as_mut().unwrap().splice = Splicing::Never;
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    let (client, (seq, ack)) = open_inside(&mut bench);
    let (theirs, ours) = (client.next.1, client.next.0);
    let clock = [1, 1, 8, 10, 0, 0, 4, 0, 0, 0, 0, 9];
    let goodbye = inside(&bench, seq, ack, flag::FIN | flag::ACK, &clock, b"");
    let out = bench.rx(1, &goodbye);
    assert!(by(0, &out).iter().any(|frame| tcp_of(frame).1.has(flag::FIN)), "{out:?}");
    let last =
        tcp_frame(&bench, 41000, 22, theirs, ours.wrapping_add(1), flag::FIN | flag::PSH | flag::ACK, b"the end");
    let mut out = bench.rx(0, &last);
    let until = bench.now + Duration::from_secs(5);
    out.extend(bench.run_until(until));
    assert!(by(0, &out).iter().any(|frame| tcp_of(frame).1.ack == theirs.wrapping_add(8)), "it is acknowledged");
    let inward: Vec<_> = by(1, &out).iter().map(|frame| tcp_of(frame)).collect();
    assert!(inward.iter().any(|(_, _, payload)| payload == b"the end"));
    assert!(inward.iter().all(|(_, tcp, _)| !tcp.has(flag::RST)));
    assert_eq!(bench.node.flows.slab.len(), 1, "until it has arrived");
    let heard = inside(&bench, seq.wrapping_add(1), ack.wrapping_add(8), flag::ACK, &clock, b"");
    let out = bench.rx(1, &heard);
    assert!(by(1, &out).is_empty() && bench.node.flows.slab.is_empty());
    let close = bench.events.last().unwrap().0;
    assert_eq!((names(&bench).last(), close.code, close.bytes_in), (Some(&"tcp.close"), 0, 7));
}

pub(super) fn live(bench: &mut Bench<Hosts>) -> LeaseIdOf {
    let mut client = Client::new(bench, 22);
    client.run(bench, Duration::from_millis(5));
    let Some(Request::Lease { lease, .. }) = bench.requests.pop() else { panic!("no lease") };
    bench.with(|node, cx| node.command(Command::LeaseTap { lease, port: PortNo(1) }, cx));
    bench.with(|node, cx| node.command(Command::LeaseLive { lease }, cx));
    lease
}

pub(super) type LeaseIdOf = crate::node::LeaseId;

/// A SYN that the container sends by itself.
fn from_inside(bench: &Bench<Hosts>, src_mac: Mac, src: &str, dst: &str) -> Vec<u8> {
    let headers = Headers {
        dst_mac: Mac([2, 0xee, 0, 0, 0, 9]),
        src_mac,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        proto: proto::TCP,
        ttl: 64,
        tos: 0,
        ip_id: 1,
        df: true,
    };
    let segment = TcpSegment {
        src: 50000,
        dst: 445,
        seq: 1,
        ack: 0,
        flags: flag::SYN,
        window: 64000,
        options: &[],
        payload: &[],
    };
    let mut frame = vec![0; headers.len() + segment.len()];
    segment.write(&headers, &mut frame);
    let _ = bench;
    frame
}

/// The network tells the container of [`HOST_IP`] who has `ip`.
pub(super) fn introduce(bench: &mut Bench<Hosts>, ip: Ipv4Addr, mac: Mac) {
    let own = mac_of(bench, HOST_IP);
    let reply =
        Arp { operation: Arp::REPLY, sender_mac: mac, sender: ip, target_mac: own, target: HOST_IP.parse().unwrap() };
    let mut said = [0; ARP_FRAME];
    reply.write(own, mac, &mut said);
    assert_eq!(bench.rx(0, &said).len(), 1, "the container hears the answer");
}

#[test]
fn what_a_container_begins_stays_inside() {
    let mut bench = bench();
    live(&mut bench);
    let own = mac_of(&bench, HOST_IP);
    let out = bench.rx(1, &from_inside(&bench, own, HOST_IP, "10.0.99.1"));
    assert_eq!(out, [], "nobody has said where 10.0.99.1 is");
    let neighbor = Mac([2, 0xcc, 0, 0, 0, 1]);
    introduce(&mut bench, Ipv4Addr::new(10, 0, 99, 1), neighbor);
    let out = bench.rx(1, &from_inside(&bench, own, HOST_IP, "10.0.99.1"));
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].0, PortNo(0), "a neighbor inside is reached through the fabric");
    assert_eq!(dst_mac(&out[0].1), neighbor, "whatever MAC the container wrote");
    let out = bench.rx(1, &from_inside(&bench, own, HOST_IP, "8.8.8.8"));
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].0, PortNo(1), "the Internet is answered in its place");
    let (packet, tcp, _) = tcp_of(&out[0].1);
    assert_eq!((packet.src().to_string().as_str(), tcp.flags), ("8.8.8.8", flag::SYN | flag::ACK));
    assert!((50..=58).contains(&packet.ttl), "as far away as it seems: {}", packet.ttl);
    let spoofed = from_inside(&bench, own, "10.0.1.8", "10.0.99.1");
    assert!(bench.rx(1, &spoofed).is_empty());
    let foreign = from_inside(&bench, ATTACKER, HOST_IP, "10.0.99.1");
    assert!(bench.rx(1, &foreign).is_empty());
    assert_eq!(bench.counters.discarded(DropReason::BadSource), 2);
    let happened = names(&bench);
    assert!(happened.contains(&"outward.flow") && happened.contains(&"outward.reflect"));
}

#[test]
fn an_unlisted_port_is_held_until_the_container_has_answered() {
    let mut bench = bench();
    live(&mut bench);
    let syn = tcp_frame(&bench, 42000, 4444, 700, 0, flag::SYN, b"");
    let out = bench.rx(0, &syn);
    assert_eq!(out, vec![(PortNo(1), syn.clone())], "the SYN goes inside as it is, and nothing to the attacker");
    let answer = |bench: &Bench<Hosts>, flags| {
        let segment =
            TcpSegment { src: 4444, dst: 42000, seq: 31, ack: 701, flags, window: 9, options: &[], payload: &[] };
        to_attacker(bench, 64, &segment)
    };
    let refusal = answer(&bench, flag::RST | flag::ACK);
    let out = bench.rx(1, &refusal);
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].0, tcp_of(&out[0].1).1.flags), (PortNo(0), flag::RST | flag::ACK));
    bench.rx(0, &syn);
    let consent = answer(&bench, flag::SYN | flag::ACK);
    let out = bench.rx(1, &consent);
    let to_attacker = tcp_of(&out.iter().find(|(port, _)| *port == PortNo(0)).unwrap().1).1;
    assert_eq!((to_attacker.flags, to_attacker.ack, to_attacker.window), (flag::SYN | flag::ACK, 701, 65160));
    let inside = tcp_of(&out.iter().find(|(port, _)| *port == PortNo(1)).unwrap().1).1;
    assert_eq!((inside.flags, inside.seq), (flag::RST, 701), "the container's half is called off");
    // A connection that ended a moment ago does not swallow the answer to the next one from the same port.
    let ack = tcp_frame(&bench, 42000, 4444, 701, to_attacker.seq.wrapping_add(1), flag::ACK, b"");
    let reset = tcp_frame(&bench, 42000, 4444, 701, 0, flag::RST, b"");
    bench.rx(0, &ack);
    bench.rx(0, &reset);
    bench.with(|node, cx| node.tick(cx));
    assert_eq!(names(&bench).last(), Some(&"tcp.close"));
    assert_eq!(bench.rx(0, &syn)[0].0, PortNo(1));
    let out = bench.rx(1, &refusal);
    assert_eq!((out[0].0, tcp_of(&out[0].1).1.flags), (PortNo(0), flag::RST | flag::ACK));
}
