use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::container_tests::live;
use super::*;
use crate::emulate::StartPolicy;
use crate::emulate::{OsFamily, Secret, Splicing};
use crate::node::testing::{Bench, eth};
use crate::node::{AddrRange, Limits, MacMode, Request, Segment};
use crate::service::{HttpSite, Page};
use crate::stack::{Budget, Conn, Incoming, Outgoing, Sockets};
use crate::wire::{
    ARP_FRAME, Arp, Duration, Headers, Neighbor, Segment as TcpSegment, TcpHeader, TcpOptions, flag, solicited_node,
};

pub(super) const ATTACKER: Mac = Mac([2, 0xaa, 0, 0, 0, 1]);
pub(super) const ATTACKER_IP: &str = "10.0.0.200";
pub(super) const HOST_IP: &str = "10.0.1.7";

fn service(name: &str, kind: ServiceKind) -> Service {
    Service { name: name.into(), kind }
}

fn template() -> Template {
    Template {
        name: "server".into(),
        personality: Builtin::Linux.into(),
        oui: [0, 0x0c, 0x29],
        tcp: BTreeMap::from([
            (21, TcpPort::Open(ServiceId(0))),
            (22, TcpPort::Open(ServiceId(2))),
            (23, TcpPort::Tarpit),
            (25, TcpPort::Filtered),
            (80, TcpPort::Open(ServiceId(1))),
            (119, TcpPort::Open(ServiceId(4))),
            (9000, TcpPort::Open(ServiceId(3))),
        ]),
        tcp_default: TcpPort::Closed,
        udp: BTreeMap::from([(69, UdpPort::Filtered), (7, UdpPort::Open(Some(ServiceId(0))))]),
        udp_default: UdpPort::Closed,
        normalize: Default::default(),
        ping: true,
        backend: Some(Backend {
            image: "small".into(),
            start: StartPolicy::OnAccess,
            grant: Grant::PerHost,
            predefined: false,
            freeze_secs: 20,
            idle_secs: 60,
            destroy_secs: 3600,
            splice: Splicing::Auto,
            limits: Default::default(),
            hardware: Default::default(),
            no_new_privs: false,
        }),
        outward: Outward::Reflect,
        gate: Default::default(),
        cases: vec![],
        talk: Default::default(),
    }
}

pub(super) fn config() -> HostsConfig {
    let page = Page { content_type: "text/html".into(), body: vec![b'~'; 20_000] };
    let pages = BTreeMap::from([("/".to_owned(), page)]);
    let v6 = AddrRange { first: "fd00::1:0".parse().unwrap(), last: "fd00::1:ffff".parse().unwrap() };
    HostsConfig {
        ranges: vec![AddrRange { first: "10.0.1.0".parse().unwrap(), last: "10.0.1.255".parse().unwrap() }, v6],
        single: false,
        hostname: None,
        mix: vec![(0, 1)],
        templates: vec![template()],
        services: vec![
            service("ftp", ServiceKind::Banner { banner: b"220 ready\r\n".to_vec(), close_after_secs: 30 }),
            service("http", ServiceKind::Http(HttpSite { server: "nginx".into(), pages, ..HttpSite::default() })),
            service("ssh", ServiceKind::Container),
            service("script", ServiceKind::Script(0)),
            service("nntp", ServiceKind::Banner { banner: b"200 ready\r\n".to_vec(), close_after_secs: 0 }),
        ],
        mac_mode: MacMode::PerHost,
        mac: None,
        segment: Segment {
            prefixes: vec!["10.0.0.0/16".parse().unwrap()],
            gateways: vec!["10.0.0.1".parse().unwrap()],
        },
        claim: None,
        dhcp: None,
        inside: vec!["10.0.0.0/16".parse().unwrap()],
        response_time: crate::node::ResponseTime::None,
        limits: Limits::default(),
    }
}

pub(super) fn bench() -> Bench<Hosts> {
    let identity = Identity::new(Secret([3; 16]), "hosts");
    let mut bench = Bench::new(Hosts::new(config(), identity, 5), 2);
    bench.with(|node, cx| node.tick(cx));
    bench
}

pub(super) fn mac_of(bench: &Bench<Hosts>, ip: &str) -> Mac {
    bench.node.target(crate::wire::word_of(ip.parse().unwrap())).unwrap().mac
}

pub(super) fn ip_frame(bench: &Bench<Hosts>, proto: u8, l4: &[u8]) -> Vec<u8> {
    let headers = Headers {
        dst_mac: mac_of(bench, HOST_IP),
        src_mac: ATTACKER,
        src: ATTACKER_IP.parse().unwrap(),
        dst: HOST_IP.parse().unwrap(),
        proto,
        ttl: 64,
        tos: 0,
        ip_id: 7,
        df: false,
    };
    let mut frame = vec![0; headers.len() + l4.len()];
    let at = headers.write(&mut frame, l4.len());
    frame[at..].copy_from_slice(l4);
    headers.fill_checksum(&mut frame[at..]);
    frame
}

pub(super) fn tcp_frame(
    bench: &Bench<Hosts>,
    sport: u16,
    dport: u16,
    seq: u32,
    ack: u32,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let headers = Headers {
        dst_mac: mac_of(bench, HOST_IP),
        src_mac: ATTACKER,
        src: ATTACKER_IP.parse().unwrap(),
        dst: HOST_IP.parse().unwrap(),
        proto: proto::TCP,
        ttl: 64,
        tos: 0,
        ip_id: 7,
        df: true,
    };
    let options: &[u8] =
        if flags & flag::SYN != 0 { &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7] } else { &[] };
    let segment = TcpSegment { src: sport, dst: dport, seq, ack, flags, window: 64240, options, payload };
    let mut frame = vec![0; headers.len() + segment.len()];
    segment.write(&headers, &mut frame);
    frame
}

/// Parses an answer and verifies its checksums.
pub(super) fn tcp_of(frame: &[u8]) -> (Packet, TcpHeader, Vec<u8>) {
    let packet = Packet::parse(frame).unwrap();
    assert!(packet.checksum_ok(frame));
    let l4 = packet.payload(frame);
    let tcp = TcpHeader::parse(l4).unwrap();
    (packet, tcp, l4[tcp.len..].to_vec())
}

pub(super) fn names(bench: &Bench<Hosts>) -> Vec<&'static str> {
    bench.events.iter().map(|(event, _)| event.id.as_str()).collect()
}

#[test]
fn arp_is_answered_with_the_hosts_own_mac() {
    let mut bench = bench();
    let arp = Arp {
        operation: Arp::REQUEST,
        sender_mac: ATTACKER,
        sender: Ipv4Addr::new(10, 0, 0, 200),
        target_mac: Mac::ZERO,
        target: Ipv4Addr::new(10, 0, 1, 7),
    };
    let mut frame = [0; ARP_FRAME];
    arp.write(Mac::BROADCAST, ATTACKER, &mut frame);
    let out = bench.rx(0, &frame);
    let reply = Arp::parse(&out[0].1).unwrap();
    assert_eq!((reply.operation, reply.sender_mac, reply.sender), (Arp::REPLY, mac_of(&bench, HOST_IP), arp.target));
    assert_eq!((dst_mac(&out[0].1), src_mac(&out[0].1)), (ATTACKER, reply.sender_mac));
    assert_eq!(names(&bench), ["arp.request"]);
    let nobody = Arp { target: Ipv4Addr::new(10, 0, 9, 9), ..arp };
    nobody.write(Mac::BROADCAST, ATTACKER, &mut frame);
    assert!(bench.rx(0, &frame).is_empty());
    assert_eq!(bench.counters.discarded(DropReason::NoHost), 1);
}

#[test]
fn neighbor_discovery_and_ping6_are_answered() {
    let mut bench = bench();
    let target = "fd00::1:5".parse().unwrap();
    let src: std::net::Ipv6Addr = "fd00::9".parse().unwrap();
    let group = solicited_node(target);
    let solicit = Neighbor { advert: false, target, mac: Some(ATTACKER) };
    let mut frame = [0; 86];
    solicit.write(Mac::ipv6_multicast(group), ATTACKER, src, group, 0, &mut frame);
    let out = bench.rx(0, &frame);
    let packet = Packet::parse(&out[0].1).unwrap();
    assert!(packet.checksum_ok(&out[0].1));
    let advert = Neighbor::parse(&packet, &out[0].1).unwrap();
    assert_eq!((advert.advert, advert.mac), (true, Some(mac_of(&bench, "fd00::1:5"))));
    let headers = Headers {
        dst_mac: mac_of(&bench, "fd00::1:5"),
        src_mac: ATTACKER,
        src: src.into(),
        dst: target.into(),
        proto: proto::ICMPV6,
        ttl: 64,
        tos: 0,
        ip_id: 0,
        df: false,
    };
    let mut echo = vec![0; headers.len() + 16];
    let at = headers.write(&mut echo, 16);
    echo[at] = icmp6::ECHO_REQUEST;
    echo[at + 8..].copy_from_slice(b"abcdefgh");
    headers.fill_checksum(&mut echo[at..]);
    let out = bench.rx(0, &echo);
    let packet = Packet::parse(&out[0].1).unwrap();
    assert!(packet.checksum_ok(&out[0].1));
    assert_eq!(packet.payload(&out[0].1)[0], icmp6::ECHO_REPLY);
    assert_eq!((packet.src(), packet.dst()), (target.into(), src.into()));
}

#[test]
fn ports_are_closed_filtered_and_tarpits_as_the_template_says() {
    let mut bench = bench();
    let frame = tcp_frame(&bench, 40000, 81, 100, 0, flag::SYN, b"");
    let (packet, tcp, _) = tcp_of(&bench.rx(0, &frame)[0].1);
    assert_eq!((tcp.flags, tcp.seq, tcp.ack, tcp.window), (flag::RST | flag::ACK, 0, 101, 0));
    assert_eq!(packet.ttl, 64);
    let frame = tcp_frame(&bench, 40000, 81, 100, 555, flag::ACK, b"");
    let (_, tcp, _) = tcp_of(&bench.rx(0, &frame)[0].1);
    assert_eq!((tcp.flags, tcp.seq), (flag::RST, 555));
    let frame = tcp_frame(&bench, 40000, 25, 100, 0, flag::SYN, b"");
    assert!(bench.rx(0, &frame).is_empty());
    let frame = tcp_frame(&bench, 40000, 23, 100, 0, flag::SYN, b"");
    let (_, tcp, _) = tcp_of(&bench.rx(0, &frame)[0].1);
    assert_eq!((tcp.flags, tcp.window), (flag::SYN | flag::ACK, 0));
    let frame = tcp_frame(&bench, 40000, 23, 101, tcp.seq + 1, flag::ACK, b"x");
    let (_, probe, _) = tcp_of(&bench.rx(0, &frame)[0].1);
    assert_eq!((probe.flags, probe.window, probe.ack), (flag::ACK, 0, 101));
    let answers: Vec<u16> =
        bench.events.iter().filter(|(e, _)| e.id == EventId::TcpProbe).map(|(e, _)| e.code).collect();
    // The first says what system the attacker has.
    assert_eq!(answers, [(OsFamily::Linux as u16) << 8, 0, 2, 3]);
}

#[test]
fn udp_ports_answer_as_the_template_says() {
    let mut bench = bench();
    let datagram = |port: u8| [0x9c, 0x40, 0, port, 0, 12, 0, 0, b'a', b'b', b'c', b'd'];
    let frame = ip_frame(&bench, proto::UDP, &datagram(53));
    let out = bench.rx(0, &frame);
    let packet = Packet::parse(&out[0].1).unwrap();
    assert!(packet.checksum_ok(&out[0].1));
    let message = packet.payload(&out[0].1);
    assert_eq!(message[..2], [3, 3]);
    assert_eq!(message[8..], frame[ETH..], "the packet is quoted whole");
    let frame = ip_frame(&bench, proto::UDP, &datagram(69));
    assert!(bench.rx(0, &frame).is_empty());
    let frame = ip_frame(&bench, proto::UDP, &datagram(7));
    let out = bench.rx(0, &frame);
    let packet = Packet::parse(&out[0].1).unwrap();
    assert!(packet.checksum_ok(&out[0].1));
    assert_eq!(&packet.payload(&out[0].1)[8..], b"220 ready\r\n");
}

#[test]
fn a_syn_ack_is_sent_again_until_the_schedule_ends() {
    let mut bench = bench();
    let frame = tcp_frame(&bench, 40000, 21, 100, 0, flag::SYN, b"");
    let (_, first, _) = tcp_of(&bench.rx(0, &frame)[0].1);
    assert_eq!(first.window, 65160);
    let until = bench.now + Duration::from_secs(100);
    let again = bench.run_until(until);
    assert_eq!(again.len(), 5);
    for (_, frame) in again {
        assert_eq!(tcp_of(&frame).1.seq, first.seq);
    }
    assert!(bench.node.half_open.is_empty());
}

#[test]
fn a_flood_of_syns_is_answered_once_each() {
    let mut bench = bench();
    for source in 0..20_000u32 {
        let frame = tcp_frame(&bench, (source % 60_000) as u16 + 1024, 21, source, 0, flag::SYN, b"");
        assert_eq!(bench.rx(0, &frame).len(), 1);
    }
    let until = bench.now + Duration::from_secs(60);
    let again = bench.run_until(until).len();
    assert!(again < 15_000, "{again} retransmissions");
}

#[test]
fn an_idle_connection_stays() {
    let mut bench = bench();
    let mut client = Client::new(&bench, 119);
    client.run(&mut bench, Duration::from_secs(1));
    // It asks whether the node is there; the node does not.
    client.conn.rest(bench.now, &mut client.sockets);
    client.run(&mut bench, Duration::from_secs(8 * 3600));
    assert!(client.conn.is_open());
    assert_eq!(client.got, b"200 ready\r\n");
    client.send(&bench, b"ARTICLE 1\r\n");
    client.run(&mut bench, Duration::from_secs(1));
    assert!(bench.events.iter().any(|(event, data)| event.id == EventId::TcpData && data == b"ARTICLE 1\r\n"));
}

/// A client that speaks to the node through real frames.
pub(super) struct Client {
    pub conn: Conn,
    pub sockets: Sockets,
    port: u16,
    pub got: Vec<u8>,
    /// Sequence numbers of what would be sent next: the node's and the client's.
    pub next: (u32, u32),
    /// Identifications of what came.
    pub ids: Vec<u16>,
}

impl Client {
    pub fn new(bench: &Bench<Hosts>, port: u16) -> Client {
        let mut sockets = Sockets::new(Budget::new(1 << 20), 77);
        let conn = Conn::connect(bench.now, &mut sockets).unwrap();
        Client { conn, sockets, port, got: Vec::new(), next: (0, 0), ids: Vec::new() }
    }

    /// Queues `bytes`.
    pub fn send(&mut self, bench: &Bench<Hosts>, bytes: &[u8]) {
        assert_eq!(self.conn.send(bytes, bench.now, &mut self.sockets), bytes.len());
    }

    /// Exchanges frames until both sides are quiet, letting time pass in between up to `limit`.
    pub fn run(&mut self, bench: &mut Bench<Hosts>, limit: Duration) {
        let end = bench.now + limit;
        let mut to_node = Vec::new();
        loop {
            let port = self.port;
            let mut keep = |s: &Outgoing<'_>| to_node.push((s.seq, s.ack, s.flags, s.payload.to_vec()));
            self.conn.egress(bench.now, &mut self.sockets, false, &mut keep);
            let mut to_client = Vec::new();
            for (seq, ack, flags, payload) in to_node.drain(..) {
                let controls = u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0);
                self.next = (ack, seq.wrapping_add(payload.len() as u32 + controls));
                let frame = tcp_frame(bench, 41000, port, seq, ack, flags, &payload);
                to_client.extend(bench.rx(0, &frame));
            }
            to_client.extend(bench.with(|node, cx| node.tick(cx)));
            let quiet = to_client.is_empty();
            for (out, frame) in to_client {
                if out != PortNo(0) {
                    continue;
                }
                let packet = Packet::parse(&frame).unwrap();
                assert!(packet.checksum_ok(&frame) && frame.len() <= ETH + 1500);
                self.ids.push(be16(&frame, ETH + 4));
                let l4 = packet.payload(&frame);
                let tcp = TcpHeader::parse(l4).unwrap();
                let segment = Incoming::of(&tcp, l4);
                if tcp.flags & flag::RST == 0 {
                    assert!(TcpOptions::parse(segment.options).timestamps.is_some(), "timestamps were negotiated");
                }
                // What it answers at once, such as the question whether it is still there.
                let answer = |s: &Outgoing<'_>| to_node.push((s.seq, s.ack, s.flags, s.payload.to_vec()));
                assert!(self.conn.ingress(&segment, bench.now, &mut self.sockets, answer));
            }
            while self.conn.recv(|bytes| {
                self.got.extend_from_slice(bytes);
                bytes.len()
            }) > 0
            {}
            if quiet {
                let next = self
                    .conn
                    .deadline(bench.now, &mut self.sockets)
                    .into_iter()
                    .chain(bench.node.next_deadline())
                    .min();
                match next {
                    Some(next) if next <= end => bench.now = next.max(bench.now + Duration::from_micros(100)),
                    _ => return,
                }
            }
        }
    }
}

use crate::frame::PortNo;

#[test]
fn a_banner_is_read_by_who_completes_the_handshake() {
    let mut bench = bench();
    let mut client = Client::new(&bench, 21);
    client.run(&mut bench, Duration::from_millis(500));
    assert_eq!(client.got, b"220 ready\r\n");
    client.send(&bench, b"USER anonymous\r\n");
    client.conn.close();
    client.run(&mut bench, Duration::from_millis(500));
    assert!(bench.node.flows.slab.is_empty());
    let closed = bench.events.iter().find(|(e, _)| e.id == EventId::TcpClose).unwrap().0;
    assert_eq!((closed.bytes_in, closed.bytes_out, closed.code), (16, 11, 0));
    let data = bench.events.iter().find(|(e, _)| e.id == EventId::TcpData).unwrap();
    assert_eq!(data.1, b"USER anonymous\r\n");
    assert_eq!(bench.pool.in_use(), 0);
    // The peer's FIN once more, though it has acknowledged ours: nothing is left of the connection. Nobody probes anything.
    let (told, (ours, theirs)) = (bench.events.len(), client.next);
    let again = tcp_frame(&bench, 41000, 21, theirs.wrapping_sub(1), ours, flag::FIN | flag::ACK, b"");
    let (_, tcp, _) = tcp_of(&bench.rx(0, &again)[0].1);
    assert_eq!((tcp.flags, tcp.seq), (flag::RST, ours));
    assert_eq!(bench.events.len(), told);
    bench.now += Duration::from_secs(61);
    let (_, tcp, _) = tcp_of(&bench.rx(0, &again)[0].1);
    assert_eq!((tcp.flags, names(&bench).last()), (flag::RST, Some(&"tcp.probe")));
}

#[test]
fn a_page_larger_than_the_buffers_arrives_whole() {
    let mut bench = bench();
    let mut client = Client::new(&bench, 80);
    client.run(&mut bench, Duration::from_millis(100));
    client.send(&bench, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    client.run(&mut bench, Duration::from_secs(5));
    assert!(client.got.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert_eq!(client.got.iter().filter(|b| **b == b'~').count(), 20_000);
    assert!(client.conn.at_end());
    let request = bench.events.iter().find(|(e, _)| e.id == EventId::ServiceRequest).unwrap();
    assert!(request.1.starts_with(b"GET / HTTP/1.1\r\n"));
}

#[test]
fn a_script_gets_a_pipe_and_its_failure_is_a_reset() {
    let mut bench = bench();
    let mut client = Client::new(&bench, 9000);
    client.run(&mut bench, Duration::from_millis(50));
    assert!(client.conn.is_open());
    let request = bench.requests.pop().unwrap();
    let Request::Open { pipe, service, .. } = request else { panic!("a pipe is asked for") };
    assert_eq!(service.kind, ServiceKind::Script(0));
    drop(pipe);
    client.run(&mut bench, Duration::from_millis(50));
    assert!(client.conn.is_closed());
    assert!(bench.node.flows.slab.is_empty());
}

#[test]
fn absurd_frames_are_counted_and_leave_nothing_behind() {
    use proptest::prelude::*;
    let mut runner = proptest::test_runner::TestRunner::default();
    let mut bench = bench();
    live(&mut bench);
    let bytes = proptest::collection::vec(any::<u8>(), 0..120);
    let shapes = (bytes, 0usize..5, 0u16..2, 0u8..60);
    let result = std::cell::RefCell::new(&mut bench);
    runner
        .run(&shapes, |(noise, shape, port, cut)| {
            let mut bench = result.borrow_mut();
            let own = mac_of(&bench, HOST_IP);
            let mut frame = match shape {
                0 => noise.clone(),
                1 => tcp_frame(&bench, 41000, 22, 5, 6, noise.first().copied().unwrap_or(0), &noise),
                // Long enough for a checksum, whatever the protocol; what is cut off later may take that away.
                2 => ip_frame(&bench, noise.first().copied().unwrap_or(1), &[&[8u8; 18], &noise[..]].concat()),
                3 => eth(own, ATTACKER, 0x0806, &noise),
                _ => eth(own, ATTACKER, 0x86dd, &noise),
            };
            if port == 1 && frame.len() > 12 {
                frame[6..12].copy_from_slice(&own.0);
            }
            frame.truncate(frame.len().saturating_sub(usize::from(cut) / 2));
            for (_, out) in bench.rx(port, &frame) {
                prop_assert!(out.len() >= 42 && out.len() <= 1514 + 54, "{} octets", out.len());
            }
            bench.requests.clear();
            bench.events.clear();
            prop_assert_eq!(bench.pool.in_use(), 0);
            Ok(())
        })
        .unwrap();
}
