//! TCP as the named system does it, once a connection is open and after it has ended.

use super::tests::{ATTACKER, ATTACKER_IP, Client, HOST_IP, bench, config, mac_of, names, tcp_frame, tcp_of};
use super::*;
use crate::emulate::Secret;
use crate::frame::PortNo;
use crate::node::testing::Bench;
use crate::wire::{Duration, Headers, Segment as TcpSegment, TcpHeader, flag};

const ACK: u8 = flag::ACK;
const PSH: u8 = flag::ACK | flag::PSH;

fn bench_of(personality: Builtin) -> Bench<Hosts> {
    let mut config = config();
    config.templates[0].personality = personality.into();
    config.templates[0].tcp.insert(3306, TcpPort::Open(ServiceId(4)));
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    bench
}

/// A peer that sends what it is told to.
struct Peer {
    port: u16,
    /// The number of its next octet, and of the host's.
    next: u32,
    heard: u32,
    /// Its timestamp.
    clock: u32,
}

impl Peer {
    /// One that has heard the host's banner and acknowledged it.
    fn new(bench: &mut Bench<Hosts>, port: u16) -> Peer {
        let mut peer = Peer { port, next: 5000, heard: 0, clock: 1000 };
        let syn_ack = peer.sends(bench, 0, flag::SYN, b"")[0].0;
        (peer.next, peer.heard) = (5001, syn_ack.seq.wrapping_add(1));
        for (tcp, data) in peer.sends(bench, 0, ACK, b"") {
            assert_eq!(tcp.seq, peer.heard);
            peer.heard = peer.heard.wrapping_add(data.len() as u32);
        }
        assert_eq!(peer.sends(bench, 0, ACK, b""), []);
        peer
    }

    /// Sends a segment `off` octets from where its next one belongs; what is answered.
    fn sends(&self, bench: &mut Bench<Hosts>, off: i32, flags: u8, payload: &[u8]) -> Vec<(TcpHeader, Vec<u8>)> {
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
        let mut options = vec![2, 4, 5, 0xb4, 4, 2, 1, 1, 1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
        options[12..16].copy_from_slice(&self.clock.to_be_bytes());
        let options = if flags & flag::SYN != 0 { &options[..] } else { &options[8..] };
        let segment = TcpSegment {
            src: 42_000,
            dst: self.port,
            seq: self.next.wrapping_add_signed(off),
            ack: if flags & ACK != 0 { self.heard } else { 0 },
            flags,
            window: 64_240,
            options,
            payload,
        };
        let mut frame = vec![0; headers.len() + segment.len()];
        segment.write(&headers, &mut frame);
        seen(bench.rx(0, &frame))
    }

    /// What a host says that only acknowledges.
    fn repeated(&self, off: u32) -> (u32, u32, u8) {
        (self.heard, self.next.wrapping_add(off), ACK)
    }
}

fn seen(out: Vec<(PortNo, Vec<u8>)>) -> Vec<(TcpHeader, Vec<u8>)> {
    out.iter().map(|(_, frame)| tcp_of(frame)).map(|(_, tcp, data)| (tcp, data)).collect()
}

fn numbers(out: &[(TcpHeader, Vec<u8>)]) -> Vec<(u32, u32, u8)> {
    out.iter().map(|(tcp, _)| (tcp.seq, tcp.ack, tcp.flags)).collect()
}

#[test]
fn a_question_whether_it_is_there_is_answered() {
    for personality in Builtin::ALL {
        let mut bench = bench_of(personality);
        let peer = Peer::new(&mut bench, 119);
        for (octets, later) in [(&b""[..], 60), (b"\0", 0), (b"", 1)] {
            bench.now += Duration::from_secs(later);
            let answer = peer.sends(&mut bench, -1, ACK, octets);
            assert_eq!(numbers(&answer), [peer.repeated(0)], "{personality:?}");
            assert!(answer[0].0.window > 0 && answer[0].1.is_empty());
        }
        assert_eq!(bench.node.flows.slab.len(), 1);
        assert!(!names(&bench).contains(&"tcp.data"));
    }
}

#[test]
fn a_server_that_wants_to_know_asks_and_gives_up() {
    for (personality, interval, probes) in
        [(Builtin::Linux, 75, 9), (Builtin::Windows, 1, 10), (Builtin::FreeBsd, 75, 8), (Builtin::WindowsXp, 1, 10)]
    {
        let mut bench = bench_of(personality);
        let (peer, start) = (Peer::new(&mut bench, 3306), bench.now);
        let until = bench.now + Duration::from_secs(9000);
        let asked = seen(bench.run_until(until));
        let before = (peer.heard.wrapping_sub(1), peer.next, ACK);
        assert_eq!(numbers(&asked[..probes]), vec![before; probes], "{personality:?}");
        let [(rst, _)] = &asked[probes..] else { panic!("{personality:?}: {asked:?}") };
        assert_eq!((rst.seq, rst.flags & flag::RST), (peer.heard, flag::RST));
        let close = &bench.events.iter().find(|(event, _)| event.id == EventId::TcpClose).unwrap().0;
        assert_eq!((close.count / 1_000_000, close.code), (7200 + interval * probes as u64, 3));
        assert!(bench.node.flows.slab.is_empty() && bench.now - start > Duration::from_secs(7200));
        // Others do not ask.
        let mut bench = bench_of(personality);
        Peer::new(&mut bench, 119);
        let until = bench.now + Duration::from_secs(9000);
        assert_eq!(seen(bench.run_until(until)), []);
        assert_eq!(bench.node.flows.slab.len(), 1);
    }
}

#[test]
fn what_has_no_place_in_a_connection_is_met_as_the_system_does() {
    for personality in Builtin::ALL {
        let challenges = personality.get().tcp.challenges;
        let old = [Builtin::Linux26, Builtin::WindowsXp, Builtin::Printer, Builtin::Plc];
        assert_eq!(challenges, !old.contains(&personality));
        // Far outside of the window, whatever it is; and once only, however many come.
        let mut bench = bench_of(personality);
        let peer = Peer::new(&mut bench, 119);
        for (flags, answers) in [(PSH, 1), (flag::RST, 0), (flag::SYN, 1)] {
            bench.now += Duration::from_secs(1);
            let answer: Vec<_> = (0..20).flat_map(|_| peer.sends(&mut bench, 1_000_000, flags, b"")).collect();
            assert_eq!(numbers(&answer), vec![peer.repeated(0); answers], "{personality:?} {flags:#x}");
        }
        // Data that was acknowledged long ago: as often as it comes.
        let answer: Vec<_> = (0..3).flat_map(|_| peer.sends(&mut bench, -10, PSH, b"long since")).collect();
        assert_eq!(numbers(&answer), [peer.repeated(0); 3]);
        assert_eq!(bench.node.flows.slab.len(), 1);
        // In the window, but not where it is expected.
        let small = 50;
        let answer = peer.sends(&mut bench, small, flag::RST, b"");
        assert_eq!((numbers(&answer), bench.node.flows.slab.len()), {
            if challenges { (vec![], 1) } else { (vec![], 0) }
        });
        bench.now += Duration::from_secs(1);
        if challenges {
            assert_eq!(numbers(&peer.sends(&mut bench, small, flag::RST, b"")), [peer.repeated(0)]);
            bench.now += Duration::from_secs(1);
        }
        let mut bench = bench_of(personality);
        let peer = Peer::new(&mut bench, 119);
        let answer = numbers(&peer.sends(&mut bench, small, flag::SYN, b""));
        let refusal = (0, peer.next + small as u32 + 1, flag::RST | ACK);
        assert_eq!(answer, [if challenges { peer.repeated(0) } else { refusal }], "{personality:?}");
        assert_eq!(bench.node.flows.slab.len(), usize::from(challenges));
        if challenges {
            // Whoever has restarted says so, and begins anew.
            assert_eq!(peer.sends(&mut bench, 0, flag::RST, b""), []);
        }
        assert!(bench.node.flows.slab.is_empty());
        let answer = peer.sends(&mut bench, small, flag::SYN, b"");
        assert_eq!(answer[0].0.flags, flag::SYN | ACK);
    }
}

#[test]
fn an_old_segment_is_known_by_its_timestamp() {
    let mut bench = bench_of(Builtin::Linux);
    let mut peer = Peer::new(&mut bench, 119);
    let mut sends = |bench: &mut Bench<Hosts>, clock: u32, off: i32, data: &[u8]| {
        peer.clock = clock;
        bench.now += Duration::from_secs(1);
        let mut out = peer.sends(bench, off, PSH, data);
        let until = bench.now + Duration::from_millis(20);
        out.extend(seen(bench.run_until(until)));
        out.last().map(|(tcp, _)| tcp.ack.wrapping_sub(5001))
    };
    assert_eq!(sends(&mut bench, 2000, 0, b"a"), Some(1));
    // From before the numbers came round (RFC 7323 §5).
    assert_eq!(sends(&mut bench, 1999, 1, b"b"), Some(1));
    assert_eq!(sends(&mut bench, 2001, 1, b"b"), Some(2));
    // What was overtaken is not old.
    assert_eq!(sends(&mut bench, 2005, 3, b"d"), Some(2));
    assert_eq!(sends(&mut bench, 2004, 2, b"c"), Some(4));
    // A RST counts, whatever its timestamp.
    peer.clock = 1;
    peer.sends(&mut bench, 4, flag::RST, b"");
    assert!(bench.node.flows.slab.is_empty());
    // Who has no clock cannot tell.
    let mut bench = bench_of(Builtin::Windows);
    let mut peer = Peer::new(&mut bench, 119);
    peer.clock = 1;
    peer.sends(&mut bench, 0, PSH, b"a");
    let until = bench.now + Duration::from_millis(20);
    assert_eq!(numbers(&seen(bench.run_until(until))), [peer.repeated(1)]);
}

/// A connection that the host has closed first: its page is read.
fn page(bench: &mut Bench<Hosts>) -> Client {
    let mut client = Client::new(bench, 80);
    client.run(bench, Duration::from_millis(100));
    client.send(bench, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    client.run(bench, Duration::from_secs(5));
    assert!(client.conn.at_end());
    client
}

#[test]
fn what_comes_in_time_wait_is_acknowledged() {
    let mut bench = bench();
    let mut client = page(&mut bench);
    client.conn.close();
    client.run(&mut bench, Duration::from_millis(500));
    assert!(bench.node.flows.slab.is_empty());
    let (told, (ours, theirs)) = (bench.events.len(), client.next);
    let sends = |bench: &mut Bench<Hosts>, off: i32, flags| {
        let frame = tcp_frame(bench, 41_000, 80, theirs.wrapping_add_signed(off), ours, flags, b"");
        numbers(&seen(bench.rx(0, &frame)))
    };
    let again = (ours, theirs, ACK);
    // Our last acknowledgment was lost; a SYN that is older than the connection; nothing new.
    assert_eq!(sends(&mut bench, -1, flag::FIN | ACK), [again]);
    assert_eq!(sends(&mut bench, -70_000, flag::SYN), [again]);
    assert_eq!(sends(&mut bench, 0, ACK), []);
    assert_eq!(sends(&mut bench, 7, flag::RST), []);
    assert_eq!(bench.events.len(), told, "nothing of it is an event");
    bench.now += Duration::from_secs(59);
    assert_eq!(sends(&mut bench, -70_000, flag::SYN), [again]);
    // A number that lies behind the last begins a connection.
    let answer = sends(&mut bench, 1, flag::SYN);
    assert_eq!((answer[0].1, answer[0].2), (theirs.wrapping_add(2), flag::SYN | ACK));
    // When the time is over, or a RST was where it is expected, any does.
    let mut bench = super::tests::bench();
    let mut client = page(&mut bench);
    client.conn.close();
    client.run(&mut bench, Duration::from_millis(500));
    assert_eq!(sends(&mut bench, -70_000, flag::SYN), [again], "the same run");
    bench.now += Duration::from_secs(60);
    assert_eq!(sends(&mut bench, -70_000, flag::SYN)[0].2, flag::SYN | ACK);
}

#[test]
fn data_after_the_last_word_is_refused() {
    let mut bench = bench();
    let mut client = page(&mut bench);
    let (ours, theirs) = client.next;
    client.send(&bench, b"and another thing");
    client.run(&mut bench, Duration::from_millis(50));
    assert!(client.conn.is_closed(), "reset");
    let close = &bench.events.iter().find(|(event, _)| event.id == EventId::TcpClose).unwrap().0;
    assert_eq!((close.code, bench.node.flows.slab.len()), (2, 0));
    // And so is all that follows: the RST has the number that is expected (RFC 9293 §3.10.7.1).
    let more = tcp_frame(&bench, 41_000, 80, theirs, ours, PSH, b"hello?");
    assert_eq!(numbers(&seen(bench.rx(0, &more))), [(ours, 0, flag::RST)]);
}

#[test]
fn a_host_that_asked_for_nothing_refuses_the_answer() {
    let mut bench = bench();
    for port in [21, 81] {
        // Nothing is under way; or a handshake that the peer began (RFC 9293 §3.10.7.1, §3.10.7.4).
        for begun in [false, true] {
            if begun {
                let frame = tcp_frame(&bench, 43_000, port, 100, 0, flag::SYN, b"");
                bench.rx(0, &frame);
            }
            let frame = tcp_frame(&bench, 43_000, port, 700, 900, flag::SYN | ACK, b"");
            assert_eq!(numbers(&seen(bench.rx(0, &frame))), [(900, 0, flag::RST)], "{port} {begun}");
        }
    }
}
