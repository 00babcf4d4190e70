//! What a container sends, as the network sees it.

use proptest::prelude::*;

use super::container_tests::introduce;
use super::tests::{HOST_IP, config, mac_of, tcp_of};
use super::*;
use crate::emulate::{Normalize, Secret};
use crate::frame::{PortNo, TAIL};
use crate::node::testing::Bench;
use crate::stack::timestamp;
use crate::sys::vnet::VnetHeader;
use crate::wire::{Duration, Headers, Segment as TcpSegment, TcpOptions, be32, flag};

const PEER: &str = "10.0.99.1";
const PEER_MAC: Mac = Mac([2, 0xcc, 0, 0, 0, 1]);
/// Linux, its clock at 5000.
pub(super) const SYN: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0x13, 0x88, 0, 0, 0, 0, 1, 3, 3, 9];

/// A host of that system whose container lives, and a neighbor of it on the network.
pub(super) fn bench_of(system: Builtin, normalize: Normalize) -> Bench<Hosts> {
    let mut config = config();
    config.templates[0].personality = system.into();
    config.templates[0].normalize = normalize;
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    open_lease(&mut bench);
    introduce(&mut bench, PEER.parse().unwrap(), PEER_MAC);
    bench
}

/// A container that nobody is connected to.
pub(super) fn open_lease(bench: &mut Bench<Hosts>) {
    let target = bench.node.target(word_of(HOST_IP.parse().unwrap())).unwrap();
    bench.with(|node, cx| {
        node.begin_lease(&target, target.ip().into(), (Party::default(), HostsConfig::LAN), SessionId(1), cx).unwrap();
    });
    let Some(crate::node::Request::Lease { lease, .. }) = bench.requests.pop() else { panic!("no lease") };
    bench.with(|node, cx| node.command(Command::LeaseTap { lease, port: PortNo(1) }, cx));
    bench.with(|node, cx| node.command(Command::LeaseLive { lease }, cx));
}

pub(super) fn headers(bench: &Bench<Hosts>, proto: u8, outward: bool) -> Headers {
    let own = mac_of(bench, HOST_IP);
    let (host, peer) = (HOST_IP.parse().unwrap(), PEER.parse().unwrap());
    let (src, dst) = if outward { (host, peer) } else { (peer, host) };
    let (src_mac, dst_mac) = if outward { (own, PEER_MAC) } else { (PEER_MAC, own) };
    Headers { dst_mac, src_mac, src, dst, proto, ttl: 64, tos: 0, ip_id: 0x1234, df: true }
}

/// A segment between the container's port 50000 and the neighbor's 445, sent from one side; what the other gets.
fn pass(
    bench: &mut Bench<Hosts>,
    outward: bool,
    change: impl Fn(&mut Headers),
    (seq, ack, flags, window): (u32, u32, u8, u16),
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let (src, dst) = if outward { (50000, 445) } else { (445, 50000) };
    let segment = TcpSegment { src, dst, seq, ack, flags, window, options, payload };
    let mut headers = headers(bench, proto::TCP, outward);
    change(&mut headers);
    let mut frame = vec![0; headers.len() + segment.len()];
    segment.write(&headers, &mut frame);
    let out = bench.rx(u16::from(outward), &frame);
    let [(port, passed)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(*port, PortNo(u16::from(!outward)));
    passed.clone()
}

fn options_of(frame: &[u8]) -> Vec<u8> {
    let (packet, tcp, _) = tcp_of(frame);
    packet.payload(frame)[20..tcp.len].to_vec()
}

fn same(_: &mut Headers) {}

#[test]
fn a_containers_connection_begins_as_its_hosts_system_begins_one() {
    for (system, options, window, ttl) in [
        (Builtin::Windows, &[2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2][..], 64_240, 128),
        (Builtin::CiscoIos, &[2, 4, 2, 0x18], 4_128, 255),
        (Builtin::WindowsXp, &[2, 4, 5, 0xb4, 1, 1, 4, 2], 65_535, 128),
    ] {
        let mut bench = bench_of(system, Normalize::default());
        // dropbear's client asks for little delay.
        let hurried = |headers: &mut Headers| (headers.tos, headers.ttl) = (0x48, ttl);
        let syn = pass(&mut bench, true, hurried, (700, 0, flag::SYN, 64_000), &SYN, b"");
        let (packet, tcp, _) = tcp_of(&syn);
        assert_eq!((options_of(&syn), tcp.window, packet.ttl), (options.to_vec(), window, ttl), "{system:?}");
        assert_eq!((syn[ETH + 1], tcp.flags, dst_mac(&syn)), (0, flag::SYN, PEER_MAC));
        assert_eq!(syn[ETH + 6] & 0x40 != 0, system.get().tcp_df);
        assert_ne!(tcp.seq, 700, "the host's numbers, not the container's");
        bench.now += Duration::from_secs(1);
        let again = pass(&mut bench, true, hurried, (700, 0, flag::SYN, 64_000), &SYN, b"");
        assert_eq!(tcp_of(&again).1, tcp, "the same SYN again");
        assert_ne!(again[ETH + 4..ETH + 6], syn[ETH + 4..ETH + 6]);
        // The answer is one to what the container has sent.
        let agreed = if system == Builtin::Windows { &options[..8] } else { &options[..4] };
        let answer = (9000, tcp.seq + 1, flag::SYN | flag::ACK, 64_000);
        let inside = tcp_of(&pass(&mut bench, false, same, answer, agreed, b"")).1;
        assert_eq!((inside.seq, inside.ack), (9000, 701), "{system:?}");
        let out = pass(&mut bench, true, same, (701, 9001, flag::ACK, 500), &[], b"hello");
        let (_, out, payload) = tcp_of(&out);
        // The container counts in 512 octets, Windows in 256, the others in one if the peer does not scale.
        let seen = if system == Builtin::Windows { 1000 } else { 500 };
        assert_eq!((out.seq, out.ack, out.window, &*payload), (tcp.seq + 1, 9001, seen, &b"hello"[..]));
        let out = pass(&mut bench, true, same, (706, 9001, flag::ACK, 65_000), &[], b"");
        let most = match system {
            Builtin::Windows => 65_535,
            Builtin::CiscoIos => 4_128,
            _ => 65_000,
        };
        assert_eq!(tcp_of(&out).1.window, most);
    }
}

#[test]
fn timestamps_are_of_the_hosts_clock_and_come_back_as_the_containers() {
    for (system, hz) in [(Builtin::Linux, 1000), (Builtin::Linux26, 250), (Builtin::OpenBsd, 2)] {
        let mut bench = bench_of(system, Normalize::default());
        let syn = pass(&mut bench, true, same, (700, 0, flag::SYN, 64_000), &SYN, b"");
        let key = FlowKey {
            local: HOST_IP.parse().unwrap(),
            remote: PEER.parse().unwrap(),
            local_port: 50_000,
            remote_port: 445,
        };
        let offset = bench.node.ts_offset(system.get(), &key);
        let clock = |now| timestamp(offset, hz, now);
        let began = TcpOptions::parse(&options_of(&syn)).timestamps.unwrap();
        assert_eq!(began, (clock(bench.now), 0), "{system:?}");
        let isn = tcp_of(&syn).1.seq;
        let [a, b, c, d] = began.0.to_be_bytes();
        let options = [2, 4, 5, 0xb4, 1, 1, 8, 10, 0, 0, 0, 77, a, b, c, d];
        let inside = pass(&mut bench, false, same, (9000, isn + 1, flag::SYN | flag::ACK, 64_000), &options, b"");
        assert_eq!(TcpOptions::parse(&options_of(&inside)).timestamps, Some((77, 5000)));
        // Ten seconds later its clock shows 15,000.
        bench.now += Duration::from_secs(10);
        let options = [1, 1, 8, 10, 0, 0, 0x3a, 0x98, 0, 0, 0, 77];
        let out = pass(&mut bench, true, same, (701, 9001, flag::ACK, 500), &options, b"x");
        let said = TcpOptions::parse(&options_of(&out)).timestamps.unwrap();
        assert_eq!(said, (clock(bench.now), 77), "{system:?}");
        let [a, b, c, d] = said.0.to_be_bytes();
        let options = [1, 1, 8, 10, 0, 0, 0, 90, a, b, c, d];
        let inside = pass(&mut bench, false, same, (9001, isn + 2, flag::ACK, 64_000), &options, b"");
        assert_eq!(TcpOptions::parse(&options_of(&inside)).timestamps, Some((90, 15_000)));
        assert_eq!(tcp_of(&inside).1.ack, 702);
    }
}

#[test]
fn a_linux_host_sends_what_linux_sends() {
    let mut bench = bench_of(Builtin::Linux, Normalize::default());
    let syn = pass(&mut bench, true, same, (700, 0, flag::SYN, 64_000), &SYN, b"");
    let options = options_of(&syn);
    assert_eq!((&options[..8], &options[16..]), (&SYN[..8], &[1, 3, 3, 7][..]), "its own order, the persona's scale");
    let id = |frame: &[u8]| be16(frame, ETH + 4);
    let first = id(&syn);
    let next = pass(&mut bench, true, same, (701, 9001, flag::ACK, 500), &[], b"x");
    let last = pass(&mut bench, true, same, (702, 9001, flag::ACK, 500), &[], b"x");
    assert_eq!((id(&next), id(&last)), (first.wrapping_add(1), first.wrapping_add(2)), "each connection counts");
}

#[test]
fn what_a_program_writes_itself_stays() {
    let mut bench = bench_of(Builtin::Windows, Normalize::default());
    // nmap -sS.
    let raw = |headers: &mut Headers| (headers.ttl, headers.df) = (43, false);
    let syn = pass(&mut bench, true, raw, (700, 0, flag::SYN, 1024), &[2, 4, 5, 0xb4], b"");
    let (packet, tcp, _) = tcp_of(&syn);
    assert_eq!((packet.ttl, tcp.seq, tcp.window, options_of(&syn)), (43, 700, 1024, vec![2, 4, 5, 0xb4]));
    assert_eq!(be32(&syn, ETH + 4), 0x1234_0000);
    let answer = (9000, 701, flag::SYN | flag::ACK, 64_000);
    assert_eq!(tcp_of(&pass(&mut bench, false, same, answer, &[], b"")).1.ack, 701);
    // A traceroute.
    let mut headers = headers(&bench, proto::UDP, true);
    (headers.ttl, headers.df) = (3, false);
    let mut frame = vec![0; 80];
    let len = headers.write_udp((40_000, 33_434), b"@ABCDEFG", &mut frame);
    let out = bench.rx(1, &frame[..len]);
    assert_eq!((out.len(), out[0].1[ETH + 8]), (1, 3));
}

fn error_about(bench: &Bench<Hosts>, kind: [u8; 2], quoted: &[u8], outward: bool) -> Vec<u8> {
    let mut headers = headers(bench, proto::ICMP, outward);
    headers.df = false;
    let mut frame = vec![0; headers.len() + 8 + quoted.len()];
    let at = headers.write(&mut frame, 8 + quoted.len());
    frame[at..at + 2].copy_from_slice(&kind);
    frame[at + 8..].copy_from_slice(quoted);
    headers.fill_checksum(&mut frame[at..]);
    frame
}

#[test]
fn errors_on_the_way_are_about_what_the_container_sent() {
    let mut bench = bench_of(Builtin::Windows, Normalize::default());
    let syn = pass(&mut bench, true, same, (700, 0, flag::SYN, 64_000), &SYN, b"");
    let error = error_about(&bench, [11, 0], &syn[ETH..], false);
    let out = bench.rx(0, &error);
    let packet = Packet::parse(&out[0].1).unwrap();
    assert!(packet.checksum_ok(&out[0].1));
    let quoted = &packet.payload(&out[0].1)[8..];
    assert_eq!((be16(quoted, 4), be32(quoted, 24)), (0x1234, 700), "identification and sequence number");
    assert_eq!(crate::wire::checksum::of(&quoted[..20]), 0);
}

#[test]
fn an_error_of_the_containers_is_as_short_as_its_systems() {
    let mut bench = bench_of(Builtin::CiscoIos, Normalize::default());
    // Somebody from outside has spoken to it: it may complain.
    let mut asked = vec![0; 200];
    let mut headers = headers(&bench, proto::UDP, false);
    headers.df = false;
    let len = headers.write_udp((5000, 6000), &[7; 60], &mut asked);
    bench.rx(0, &asked[..len]);
    let error = error_about(&bench, [3, 13], &asked[ETH..len], true);
    let out = bench.rx(1, &error);
    let packet = Packet::parse(&out[0].1).unwrap();
    assert!(packet.checksum_ok(&out[0].1));
    assert_eq!((packet.end - packet.l4, packet.ttl), (8 + 28, 255));
    assert_eq!(out[0].1.len(), packet.end);
}

#[test]
fn a_host_that_counts_all_it_sends_counts_its_containers_packets() {
    let mut bench = bench_of(Builtin::Windows, Normalize::default());
    let id = |frame: &[u8]| be16(frame, ETH + 4);
    let syn = pass(&mut bench, true, same, (700, 0, flag::SYN, 64_000), &SYN, b"");
    let echo = super::tests::ip_frame(&bench, proto::ICMP, &[8, 0, 0, 0, 1, 2, 0, 1, 9, 9]);
    let reply = id(&bench.rx(0, &echo)[0].1);
    assert_eq!(reply, id(&syn).wrapping_add(1));
    let next = pass(&mut bench, true, same, (701, 9001, flag::ACK, 500), &[], b"x");
    assert_eq!(id(&next), reply.wrapping_add(1));
}

/// A super-frame with `count` segments of 100 octets.
fn super_frame(bench: &mut Bench<Hosts>, count: usize) -> Vec<(PortNo, Vec<u8>)> {
    let headers = headers(bench, proto::TCP, true);
    let payload = vec![9; 100 * count];
    let segment = TcpSegment {
        src: 50_000,
        dst: 445,
        seq: 701,
        ack: 9001,
        flags: flag::ACK,
        window: 500,
        options: &[],
        payload: &payload,
    };
    let mut bytes = vec![0; headers.len() + segment.len()];
    segment.write(&headers, &mut bytes);
    let mut frame = bench.pool.tail().unwrap();
    assert!(bytes.len() < TAIL);
    frame.space()[..bytes.len()].copy_from_slice(&bytes);
    frame.set_len(bytes.len());
    frame.meta.port = PortNo(1);
    frame.meta.csum_ok = true;
    frame.meta.offload =
        VnetHeader { flags: 1, gso_type: 1, hdr_len: 54, gso_size: 100, csum_start: 34, csum_offset: 16 };
    bench.with(|node, cx| {
        let mut batch = Batch::default();
        batch.push(frame);
        node.process(&mut batch, cx);
    })
}

#[test]
fn super_frames_stay_whole_unless_their_numbers_would_tell() {
    let mut bench = bench_of(Builtin::Windows, Normalize::default());
    let id = |frame: &[u8]| be16(frame, ETH + 4);
    pass(&mut bench, true, same, (700, 0, flag::SYN, 64_000), &SYN, b"");
    let out = super_frame(&mut bench, 5);
    assert_eq!((out.len(), out[0].0, bench.super_frames), (5, PortNo(0), 1));
    let next = pass(&mut bench, true, same, (1201, 9001, flag::ACK, 500), &[], b"x");
    assert_eq!(id(&next), id(&out[0].1).wrapping_add(5), "one for each segment");
    // Segments of a super-frame are numbered one after the other, which macOS never does.
    let mut bench = bench_of(Builtin::MacOs, Normalize::default());
    let isn = tcp_of(&pass(&mut bench, true, same, (700, 0, flag::SYN, 64_000), &SYN, b"")).1.seq;
    let out = super_frame(&mut bench, 5);
    assert_eq!((out.len(), bench.super_frames), (5, 0));
    for (at, (_, frame)) in (0..).zip(&out) {
        let (_, tcp, payload) = tcp_of(frame);
        assert_eq!((id(frame), tcp.seq, payload.len()), (0, isn + 1 + 100 * at, 100));
    }
}

#[test]
fn nothing_is_normalized_that_the_template_leaves() {
    let off =
        Normalize { ttl: false, options: false, ip_id: false, tos: false, timestamps: false, ..Normalize::default() };
    let mut bench = bench_of(Builtin::Windows, off);
    let own = |headers: &mut Headers| (headers.tos, headers.ttl) = (0x48, 64);
    let syn = pass(&mut bench, true, own, (700, 0, flag::SYN, 64_000), &SYN, b"");
    let (packet, tcp, _) = tcp_of(&syn);
    assert_eq!((packet.ttl, syn[ETH + 1], be16(&syn, ETH + 4)), (64, 0x48, 0x1234));
    assert_eq!((tcp.seq, tcp.window, options_of(&syn)), (700, 64_000, SYN.to_vec()));
}

proptest! {
    /// Whatever a container writes behind a sound header, and whatever is written to it.
    #[test]
    fn absurd_packets_do_no_harm(
        l4 in prop::collection::vec(any::<u8>(), 0..120), kind in 0usize..4, outward in any::<bool>(), inner in any::<bool>(),
    ) {
        let mut bench = bench_of(Builtin::CiscoIos, Normalize::default());
        pass(&mut bench, true, same, (700, 0, flag::SYN, 64_000), &SYN, b"");
        let proto = [proto::TCP, proto::UDP, proto::ICMP, 47][kind];
        let mut l4 = l4;
        if inner && l4.len() > 40 {
            // An error about the connection.
            (l4[0], l4[1]) = (3, 3);
            let quoted = Headers { proto: proto::TCP, ..headers(&bench, proto::TCP, !outward) };
            let mut ip = [0; 34];
            quoted.write(&mut ip, usize::from(l4[30]));
            l4[8..28].copy_from_slice(&ip[14..]);
        }
        let headers = headers(&bench, proto, outward);
        let mut frame = vec![0; headers.len() + l4.len()];
        let at = headers.write(&mut frame, l4.len());
        frame[at..].copy_from_slice(&l4);
        if l4.len() >= 18 {
            headers.fill_checksum(&mut frame[at..]);
        }
        for (_, frame) in bench.rx(u16::from(outward), &frame) {
            let packet = Packet::parse(&frame).unwrap();
            prop_assert_eq!(packet.end, frame.len());
        }
    }
}
