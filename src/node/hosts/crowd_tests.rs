//! Many connections at once: floods of SYNs, crowds of idle peers, and those who
//! want all of our memory for themselves.

use super::tests::{ATTACKER, HOST_IP, config, mac_of, tcp_of};
use super::*;
use crate::emulate::Secret;
use crate::frame::PortNo;
use crate::node::testing::Bench;
use crate::node::{Limits, Request};
use crate::wire::{Duration, Headers, Segment as TcpSegment, TcpHeader, TcpOptions, flag};

const ACK: u8 = flag::ACK;
const PSH: u8 = flag::ACK | flag::PSH;

fn bench_of(limits: Limits, personality: Builtin) -> Bench<Hosts> {
    let mut config = config();
    config.limits = limits;
    config.templates[0].personality = personality.into();
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    bench
}

/// A peer somewhere on the link.
#[derive(Clone, Copy)]
struct Peer {
    ip: Ipv4Addr,
    port: u16,
    to: u16,
    /// The numbers of what it sends and expects next.
    seq: u32,
    ack: u32,
    window: u16,
}

impl Peer {
    fn new(ip: [u8; 4], port: u16, to: u16) -> Peer {
        Peer { ip: ip.into(), port, to, seq: 7000, ack: 0, window: 502 }
    }

    fn frame(&self, bench: &Bench<Hosts>, flags: u8, payload: &[u8]) -> Vec<u8> {
        let headers = Headers {
            dst_mac: mac_of(bench, HOST_IP),
            src_mac: ATTACKER,
            src: self.ip.into(),
            dst: HOST_IP.parse().unwrap(),
            proto: proto::TCP,
            ttl: 60,
            tos: 0,
            ip_id: 7,
            df: true,
        };
        let options: &[u8] = match flags {
            flag::SYN => &[2, 4, 5, 0x78, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7],
            _ => &[1, 1, 8, 10, 0, 0, 0, 10, 0, 0, 0, 1],
        };
        let (src, dst, seq, ack, window) = (self.port, self.to, self.seq, self.ack, self.window);
        let segment = TcpSegment { src, dst, seq, ack, flags, window, options, payload };
        let mut frame = vec![0; headers.len() + segment.len()];
        segment.write(&headers, &mut frame);
        frame
    }

    /// Sends a segment; returns what it is answered.
    fn say(&mut self, bench: &mut Bench<Hosts>, flags: u8, payload: &[u8]) -> Vec<(TcpHeader, Vec<u8>)> {
        let frame = self.frame(bench, flags, payload);
        self.seq = self.seq.wrapping_add(payload.len() as u32 + u32::from(flags & (flag::SYN | flag::FIN) != 0));
        let out = bench.rx(0, &frame);
        self.hear(out)
    }

    /// What of `out` is for it, acknowledged with the next segment.
    fn hear(&mut self, out: Vec<(PortNo, Vec<u8>)>) -> Vec<(TcpHeader, Vec<u8>)> {
        let mut heard = Vec::new();
        for (_, frame) in out {
            let (packet, tcp, data) = tcp_of(&frame);
            if packet.dst() == IpAddr::from(self.ip) && tcp.dst == self.port {
                let controls = u32::from(tcp.has(flag::SYN)) + u32::from(tcp.has(flag::FIN));
                let end = tcp.seq.wrapping_add(data.len() as u32 + controls);
                if self.ack == 0 || tcp.seq == self.ack {
                    self.ack = end;
                }
                heard.push((tcp, data));
            }
        }
        heard
    }

    /// Goes through the handshake; returns what the completing segment is answered.
    fn connect(&mut self, bench: &mut Bench<Hosts>) -> Vec<(TcpHeader, Vec<u8>)> {
        assert_eq!(self.say(bench, flag::SYN, b"").len(), 1);
        self.say(bench, ACK, b"")
    }
}

/// SYNs from all over the place, each answered.
fn flood(bench: &mut Bench<Hosts>, count: u32, salt: u32) {
    for i in 0..count {
        let mixed = (i + 1).wrapping_mul(0x9e37_79b1) ^ salt;
        let [a, b, c, d] = mixed.to_be_bytes();
        let mut peer = Peer::new([10, 0, 2 + b % 200, c], 1024 + u16::from(d) * 99 + u16::from(a), 21);
        peer.seq = mixed;
        assert_eq!(peer.say(bench, flag::SYN, b"").len(), 1, "{i}");
    }
}

#[test]
fn clients_connect_while_a_flood_fills_the_table_ten_times() {
    for personality in [Builtin::Linux, Builtin::Windows, Builtin::CiscoIos] {
        let limits = Limits { half_open: 1000, ..Limits::default() };
        let mut bench = bench_of(limits, personality);
        // One begins before the flood and waits as long as a client waits for a far answer, one amid it.
        let mut early = Peer::new([10, 0, 0, 1], 999, 21);
        assert_eq!(early.say(&mut bench, flag::SYN, b"").len(), 1);
        for wave in 0..5 {
            flood(&mut bench, 2000, wave << 24);
            bench.now += Duration::from_millis(100);
        }
        assert!(bench.node.half_open.len() <= 1000);
        let mut amid = Peer::new([10, 0, 0, 2], 999, 21);
        let syn_ack = amid.say(&mut bench, flag::SYN, b"");
        bench.now += Duration::from_millis(25);
        flood(&mut bench, 10_000, 77);
        bench.now += Duration::from_millis(25);
        let frame = amid.frame(&bench, ACK, b"");
        for client in [&mut early, &mut amid] {
            let heard = client.say(&mut bench, ACK, b"");
            assert_eq!(heard[0].1, b"220 ready\r\n", "{personality:?}");
            assert_eq!(client.say(&mut bench, PSH, b"USER x\r\n"), []);
        }
        assert_eq!(bench.node.flows.slab.len(), 2);
        // The same once more, somebody else's, and one that is a little wrong, open nothing.
        let old = bench.rx(0, &frame);
        assert_eq!((old.len(), tcp_of(&old[0].1).1.flags), (1, ACK), "it is the connection's by now, and old");
        let mut guess = Peer { ack: syn_ack[0].0.seq.wrapping_add(2), ..Peer::new([10, 0, 0, 2], 998, 21) };
        guess.seq = amid.seq;
        assert!(guess.say(&mut bench, ACK, b"")[0].0.has(flag::RST));
        assert_eq!(bench.node.flows.slab.len(), 2);
    }
}

#[test]
fn a_cookie_keeps_what_the_syn_offered_and_not_for_long() {
    let limits = Limits { half_open: 4, ..Limits::default() };
    let mut bench = bench_of(limits, Builtin::Linux);
    flood(&mut bench, 10, 0);
    let mut client = Peer::new([10, 0, 0, 2], 999, 80);
    let (syn_ack, _) = client.say(&mut bench, flag::SYN, b"")[0];
    assert_eq!(bench.node.half_open.len(), 4);
    assert_eq!((syn_ack.window, syn_ack.ack), (65160, client.seq));
    let late = client;
    // Its ACK gets lost; what it says completes the handshake as well.
    let heard = client.say(&mut bench, PSH, b"GET / HTTP/1.1\r\n\r\n");
    // MSS 1400 without timestamps, a window of 502 << 7.
    assert!(heard.len() > 10 && heard.iter().all(|(_, data)| data.len() <= 1388));
    assert_eq!(heard.iter().map(|(_, data)| data.len()).max(), Some(1388));
    let flow = bench.node.flows.slab.iter().next().unwrap().1;
    assert_eq!((flow.wire.scale, flow.wire.ts.is_some()), (7, true));
    let (mut other, mut late) = (Peer { port: 1, ..late }, late);
    assert!(other.say(&mut bench, ACK, b"")[0].0.has(flag::RST), "it is good for one connection only");
    client.say(&mut bench, flag::RST, b"");
    bench.now += Duration::from_secs(200);
    bench.with(|node, cx| node.tick(cx));
    assert!(late.say(&mut bench, ACK, b"")[0].0.has(flag::RST));
}

#[test]
fn idle_connections_hold_no_sockets_and_are_there() {
    let mut bench = bench_of(Limits { buffers: 1, ..Limits::default() }, Builtin::Linux);
    let mut peers: Vec<Peer> = (0..300).map(|i| Peer::new([10, 0, 3, (i % 250) as u8], 1000 + i, 119)).collect();
    for peer in &mut peers {
        assert_eq!(peer.connect(&mut bench)[0].1, b"200 ready\r\n");
    }
    // Nobody has acknowledged the banner yet.
    let used = bench.node.sockets.budget().used();
    assert_eq!(used, 300 * 11);
    for peer in &mut peers {
        assert_eq!(peer.say(&mut bench, ACK, b""), []);
    }
    assert_eq!(bench.node.sockets.budget().used(), 0);
    assert!(bench.node.flows.slab.iter().all(|(_, flow)| flow.conn.is_resting()));
    bench.run_until(bench.now + Duration::from_secs(300));
    for peer in &mut peers {
        peer.say(&mut bench, PSH, b"QUIT\r\n");
        let heard = peer.say(&mut bench, flag::FIN | ACK, b"");
        assert!(heard[0].0.has(flag::FIN | ACK) && heard[0].0.ack == peer.seq);
        assert_eq!(peer.say(&mut bench, ACK, b""), []);
    }
    assert!(bench.node.flows.slab.is_empty());
    assert_eq!((bench.node.sockets.budget().used(), bench.pool.in_use()), (0, 0));
    let closed = bench.events.iter().filter(|(event, _)| event.id == EventId::TcpClose);
    assert!(closed.clone().count() == 300 && closed.clone().all(|(event, _)| (event.code, event.bytes_in) == (0, 6)));
}

#[test]
fn one_source_does_not_push_out_the_connections_of_others() {
    let mut bench = bench_of(Limits { flows: 64, ..Limits::default() }, Builtin::Linux);
    let mut others: Vec<Peer> = (0..20).map(|i| Peer::new([10, 0, 4, i], 1000, 119)).collect();
    for peer in &mut others {
        peer.connect(&mut bench);
        peer.say(&mut bench, ACK, b"");
    }
    // They stay silent; a scanner opens one connection after the other.
    bench.now += Duration::from_secs(60);
    for port in 1000..3000 {
        let mut greedy = Peer::new([10, 0, 5, 5], port, 119);
        assert_eq!(greedy.connect(&mut bench).len(), 1);
    }
    assert_eq!(bench.node.flows.slab.len(), 64);
    for peer in &mut others {
        assert_eq!(peer.say(&mut bench, ACK, b"x"), [], "it is still open");
    }
}

/// A peer that has asked for a page and takes nothing of it: more than a connection rests with stays unsent.
fn stalled(bench: &mut Bench<Hosts>, ip: [u8; 4], port: u16) -> Peer {
    let mut peer = Peer::new(ip, port, 80);
    peer.connect(bench);
    peer.window = 1;
    peer.say(bench, PSH, b"GET / HTTP/1.1\r\n\r\n");
    peer
}

#[test]
fn a_source_that_holds_all_buffers_loses_some() {
    let mut bench = bench_of(Limits { buffers: 1, ..Limits::default() }, Builtin::Linux);
    let limit = 1 << 20;
    for port in 1000..1040 {
        stalled(&mut bench, [10, 0, 5, 5], port);
        assert!(bench.node.sockets.budget().used() <= limit);
    }
    let evicted =
        |bench: &Bench<Hosts>| bench.events.iter().filter(|(e, _)| e.id == EventId::TcpClose && e.code == 4).count();
    let before = evicted(&bench);
    assert!(before > 20, "{before}");
    let mut honest = Peer::new([10, 0, 6, 6], 1, 80);
    honest.connect(&mut bench);
    let heard = honest.say(&mut bench, PSH, b"GET / HTTP/1.1\r\n\r\n");
    assert!(heard.iter().map(|(_, data)| data.len()).sum::<usize>() > 10_000);
    assert_eq!(evicted(&bench), before + 1);
}

#[test]
fn many_who_hold_buffers_lose_them_when_they_are_silent() {
    let mut bench = bench_of(Limits { buffers: 1, ..Limits::default() }, Builtin::Linux);
    let most = (1 << 20) / Sockets::COST;
    let mut peers: Vec<Peer> = (0..most as u8).map(|i| stalled(&mut bench, [10, 0, 7, i], 1)).collect();
    let mut late = Peer::new([10, 0, 6, 6], 1, 80);
    late.connect(&mut bench);
    let request = late;
    assert_eq!(late.say(&mut bench, PSH, b"GET / HTTP/1.1\r\n\r\n"), [], "as if it were lost");
    bench.now += Duration::from_secs(1);
    // All but one go on.
    for peer in &mut peers[1..] {
        peer.say(&mut bench, ACK, b"");
    }
    bench.now += Duration::from_millis(1500);
    late = request;
    let heard = late.say(&mut bench, PSH, b"GET / HTTP/1.1\r\n\r\n");
    assert!(heard.iter().map(|(_, data)| data.len()).sum::<usize>() > 10_000);
    let mut closed = bench.events.iter().filter(|(e, _)| e.id == EventId::TcpClose);
    assert_eq!(closed.next().map(|(e, _)| (e.code, e.src.ip)), Some((4, IpAddr::from(peers[0].ip).into())));
    assert!(closed.next().is_none());
}

#[test]
fn what_peers_leave_unsaid_and_unread_is_counted() {
    let mut bench = bench_of(Limits { buffers: 1, ..Limits::default() }, Builtin::Linux);
    // Half a request each, from one source: together more than there may be.
    for port in 1000..1400 {
        let mut slow = Peer::new([10, 0, 5, 5], port, 80);
        slow.connect(&mut bench);
        for _ in 0..3 {
            slow.say(&mut bench, PSH, &[b'a'; 1300]);
        }
    }
    let used = bench.node.sockets.budget().used();
    assert!(used <= 1 << 20 && used > 1 << 19, "{used}");
    // What a relay does not take.
    let mut piped = Peer::new([10, 0, 6, 6], 1, 9000);
    piped.connect(&mut bench);
    let Some(Request::Open { pipe, .. }) = bench.requests.pop() else { panic!("a relay is asked for") };
    for _ in 0..100 {
        piped.say(&mut bench, PSH, &[b'b'; 1300]);
    }
    let index = bench.node.flows.slab.iter().find(|(_, flow)| flow.wire.key.remote_port == 1).unwrap().0;
    assert!(bench.node.flows.slab[index].held() > 100_000);
    assert!(bench.node.sockets.budget().used() <= 1 << 20);
    drop(pipe);
    bench.with(|node, cx| node.tick(cx));
    assert!(bench.node.flows.slab.get(index).is_none(), "its end is an end of the connection");
}

#[test]
fn who_holds_nothing_any_more_is_not_ended_for_others() {
    let mut bench = bench_of(Limits { buffers: 1, ..Limits::default() }, Builtin::Linux);
    let mut piped = Peer::new([10, 0, 5, 5], 1, 9000);
    piped.connect(&mut bench);
    let Some(Request::Open { mut pipe, .. }) = bench.requests.pop() else { panic!("a relay is asked for") };
    piped.say(&mut bench, PSH, &[b'b'; 1300]);
    bench.run_until(bench.now + Duration::from_secs(1));
    let index = bench.node.flows.slab.iter().find(|(_, flow)| flow.wire.key.remote_port == 1).unwrap().0;
    let place = |bench: &Bench<Hosts>| bench.node.flows.slab.get(index).map(|flow| (flow.held(), flow.place.is_some()));
    assert_eq!(place(&bench), Some((1300, true)));
    // The relay takes all of it, of which the data plane is told nothing: it has not waited for room.
    let (mut reader, _) = pipe.halves();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let len = runtime.block_on(reader.peek()).unwrap().len();
    reader.consume(len);
    assert_eq!(place(&bench), Some((0, true)));
    // Of its source, which holds more than there may be, it is the one that was silent longest.
    for port in 1000..1040 {
        stalled(&mut bench, [10, 0, 5, 5], port);
    }
    let evicted = bench.events.iter().filter(|(e, _)| e.id == EventId::TcpClose && e.code == 4).count();
    assert!(evicted > 20, "{evicted}");
    assert_eq!(place(&bench), Some((0, false)));
}

#[test]
fn a_window_is_announced_as_in_the_syn_ack() {
    for (personality, first, later) in
        [(Builtin::Linux, 65160, 510), (Builtin::Windows, 65535, 255), (Builtin::CiscoIos, 4128, 4128)]
    {
        let mut bench = bench_of(Limits::default(), personality);
        let mut peer = Peer::new([10, 0, 6, 6], 1, 21);
        let (syn_ack, _) = peer.say(&mut bench, flag::SYN, b"")[0];
        let (banner, _) = peer.say(&mut bench, ACK, b"")[0];
        assert_eq!((syn_ack.window, banner.window), (first, later), "{personality:?}");
        let frame = peer.frame(&bench, PSH, b"x");
        bench.rx(0, &frame);
        let ack = bench.run_until(bench.now + Duration::from_millis(20));
        assert_eq!(tcp_of(&ack[0].1).1.window, later);
        let options = tcp_of(&ack[0].1).0.payload(&ack[0].1)[20..].to_vec();
        let clock = TcpOptions::parse(&options).timestamps;
        assert_eq!(clock.is_some(), personality == Builtin::Linux);
    }
}
