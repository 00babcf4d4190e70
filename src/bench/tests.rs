//! Probes against targets that are played by the test: what belongs to what, in virtual time.

use std::net::IpAddr;

use super::arp::Ask;
use super::drive::Probe;
use super::echo::Echo;
use super::handshake::Handshake;
use super::station::Station;
use super::syn::Syn;
use super::tally::Tally;
use super::targets::{Aim, Sources, Targets};
use super::tcp::{PORTS, Tcp};
use crate::frame::{Frame, Pool};
use crate::wire::{
    Arp, Headers, Mac, Neighbor, Packet, Segment, TcpHeader, be16, dst_mac, flag, icmp6, proto, src_mac, word_of,
};

const OURS: Mac = Mac([2, 0, 0, 0, 0, 9]);
const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const V4: (&str, &str) = ("10.0.0.0/24", "10.1.0.1");
const V6: (&str, &str) = ("fd00::/120", "fd01::1");

/// Three sources that ask every address of a prefix.
fn world((prefix, source): (&str, &str)) -> (Station, Aim) {
    let sources = Sources { base: word_of(source.parse().unwrap()), count: 3 };
    let targets = Targets::all(prefix.parse().unwrap(), &sources, THEIRS);
    (Station { mac: OURS, sources: sources.clone(), answers: true }, Aim::new(targets, sources))
}

struct Rig<P> {
    probe: P,
    tally: Tally,
    pool: Pool,
    now: u64,
}

impl<P: Probe> Rig<P> {
    fn new(probe: P, capacity: u64) -> Rig<P> {
        Rig { probe, tally: Tally::new(256, capacity), pool: Pool::new(1 << 20), now: 1000 }
    }

    /// Sends the next probe.
    fn send(&mut self) -> Frame {
        let n = self.tally.next;
        self.tally.next += 1;
        self.tally.sent += 1;
        self.tally.stamp(n, self.now);
        self.now += 10;
        let mut frame = self.pool.head().unwrap();
        self.probe.write(n, &mut frame);
        let bytes = frame.bytes();
        assert_eq!(src_mac(bytes), OURS);
        if let Ok(packet) = Packet::parse(bytes) {
            assert!(packet.checksum_ok(bytes), "probe {n}");
            assert_eq!(packet.end, bytes.len());
        }
        frame
    }

    /// A frame arrives; returns what is sent in return.
    fn hear(&mut self, bytes: &[u8]) -> Option<Frame> {
        let mut frame = self.pool.copy_of(bytes).unwrap();
        self.now += 10;
        self.probe.hear(self.now, &mut frame, &mut self.tally).then(|| {
            let packet = Packet::parse(frame.bytes()).unwrap();
            assert!(packet.checksum_ok(frame.bytes()));
            assert_eq!((dst_mac(frame.bytes()), src_mac(frame.bytes())), (THEIRS, OURS));
            frame
        })
    }

    fn counts(&self) -> [u64; 4] {
        [self.tally.answered, self.tally.duplicates, self.tally.unexpected, self.tally.responders]
    }
}

/// Headers back to who sent `packet`.
fn back(packet: &Packet) -> Headers {
    let (src, dst) = (packet.dst(), packet.src());
    Headers { dst_mac: OURS, src_mac: THEIRS, src, dst, proto: packet.proto, ttl: 64, tos: 0, ip_id: 0, df: true }
}

/// The reply to an echo request.
fn echo_reply(request: &Frame) -> Vec<u8> {
    let packet = Packet::parse(request.bytes()).unwrap();
    let mut bytes = request.bytes().to_vec();
    let headers = back(&packet);
    let at = headers.write(&mut bytes, packet.end - packet.l4);
    bytes[at] = if packet.is_v4() { 0 } else { icmp6::ECHO_REPLY };
    headers.fill_checksum(&mut bytes[at..]);
    bytes
}

#[test]
fn echo_replies_belong_to_their_requests() {
    for family in [V4, V6] {
        let (station, aim) = world(family);
        let mut rig = Rig::new(Echo::new(station, aim, family == V4, 0x1234_5678_9abc_def0), 1024);
        let requests: Vec<Frame> = (0..512).map(|_| rig.send()).collect();
        let targets: std::collections::HashSet<IpAddr> =
            requests[..256].iter().map(|frame| Packet::parse(frame.bytes()).unwrap().dst()).collect();
        assert_eq!(targets.len(), 256, "each address before any comes again");
        // In any order.
        for request in requests.iter().rev().step_by(2) {
            assert!(rig.hear(&echo_reply(request)).is_none());
        }
        assert_eq!(rig.counts(), [256, 0, 0, 128]);
        rig.hear(&echo_reply(&requests[511]));
        assert_eq!(rig.counts(), [256, 1, 0, 128]);
        // Somebody else's address, another run's mark, a number of the future, a wrong checksum.
        let reply = echo_reply(&requests[0]);
        let v4 = family == V4;
        let (src, l4) = if v4 { (29, 34) } else { (37, 54) };
        for (at, ours) in [(src, true), (l4 + 20, true), (l4 + 12, true), (l4 + 5, false)] {
            let mut wrong = reply.clone();
            wrong[at] ^= 1;
            let packet = Packet::parse(requests[0].bytes()).unwrap();
            let mut headers = back(&packet);
            if at == src {
                let other = word_of(headers.src) ^ 1;
                headers.src = crate::wire::ip_of(other);
            }
            let begin = headers.write(&mut wrong, packet.end - packet.l4);
            headers.fill_checksum(&mut wrong[begin..]);
            let before = rig.tally.unexpected;
            rig.hear(&wrong);
            assert_eq!(rig.tally.unexpected - before, u64::from(ours), "octet {at}");
        }
        let mut broken = reply.clone();
        broken[l4 + 23] ^= 1;
        rig.hear(&broken);
        rig.hear(&reply[..l4 + 4]);
        assert_eq!(rig.tally.answered, 256);
        rig.hear(&reply);
        assert_eq!(rig.tally.answered, 257);
    }
}

#[test]
fn icmp_errors_are_counted_and_are_no_answers() {
    let (station, aim) = world(V4);
    let mut rig = Rig::new(Echo::new(station, aim, true, 7), 64);
    let request = rig.send();
    let mut error = echo_reply(&request);
    let headers = back(&Packet::parse(request.bytes()).unwrap());
    error[34] = 3;
    headers.fill_checksum(&mut error[34..]);
    rig.hear(&error);
    assert_eq!((rig.tally.icmp_errors, rig.tally.answered), (1, 0));
}

#[test]
fn arp_replies_belong_to_the_last_question() {
    let (station, aim) = world(V4);
    let mut rig = Rig::new(Ask::learning(station, aim), 1024);
    let asked: Vec<Arp> = (0..512).map(|_| Arp::parse(rig.send().bytes()).unwrap()).collect();
    let reply = |arp: &Arp, mac: Mac| {
        let mut bytes = [0; 42];
        let reply =
            Arp { operation: Arp::REPLY, sender_mac: mac, sender: arp.target, target_mac: OURS, target: arp.sender };
        reply.write(OURS, mac, &mut bytes);
        bytes
    };
    // Nobody may claim a group's MAC.
    rig.hear(&reply(&asked[300], Mac::BROADCAST));
    assert_eq!(rig.counts(), [0, 0, 0, 0]);
    let sent_at = rig.tally.sent_at(300);
    rig.hear(&reply(&asked[300], THEIRS));
    assert_eq!(rig.counts(), [1, 0, 0, 1]);
    assert_eq!(rig.tally.latency.max(), rig.tally.latency.highest_equivalent(rig.now - sent_at));
    rig.hear(&reply(&asked[300 - 256], THEIRS));
    assert_eq!(rig.counts(), [1, 1, 0, 1], "the same target");
    let mut other = asked[5];
    other.target = "10.0.1.5".parse().unwrap();
    rig.hear(&reply(&other, THEIRS));
    assert_eq!(rig.counts(), [1, 1, 0, 1], "nobody who was asked");
    assert_eq!(rig.probe.learned(), [(u32::from(asked[300].target.octets()[3]), THEIRS)]);
}

#[test]
fn neighbor_advertisements_belong_to_their_targets() {
    let (station, aim) = world(V6);
    let mut rig = Rig::new(Ask::learning(station, aim), 1024);
    let question = rig.send();
    let packet = Packet::parse(question.bytes()).unwrap();
    let asked = Neighbor::parse(&packet, question.bytes()).unwrap();
    assert_eq!((asked.advert, asked.mac), (false, Some(OURS)));
    let IpAddr::V6(asker) = packet.src() else { panic!("{packet:?}") };
    let mut bytes = [0; 86];
    let answer = Neighbor { advert: true, target: asked.target, mac: Some(THEIRS) };
    answer.write(OURS, THEIRS, asked.target, asker, 0x60, &mut bytes);
    rig.hear(&bytes);
    assert_eq!(rig.counts(), [1, 0, 0, 1]);
    assert_eq!(rig.probe.learned(), [(0, THEIRS)]);
}

fn tcp(frame: &Frame) -> (Packet, TcpHeader) {
    let packet = Packet::parse(frame.bytes()).unwrap();
    (packet, TcpHeader::parse(packet.payload(frame.bytes())).unwrap())
}

/// A segment back to who sent `frame`.
fn segment(frame: &Frame, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let (packet, header) = tcp(frame);
    let mut bytes = vec![0; 200];
    let answer = Segment { src: header.dst, dst: header.src, seq, ack, flags, window: 1000, options: &[], payload };
    let len = answer.write(&back(&packet), &mut bytes);
    bytes.truncate(len);
    bytes
}

#[test]
fn syns_are_told_by_what_is_acknowledged() {
    for family in [V4, V6] {
        let (station, aim) = world(family);
        let tcp_probe = Tcp::new(aim, OURS, family == V4, 80, u64::from(u32::MAX) - 100);
        let mut rig = Rig::new(Syn::new(station, tcp_probe), 1 << 18);
        // More than there are ports: they are used again, and sequence numbers wrap.
        let mut syns: Vec<Frame> = Vec::new();
        for n in 0..PORTS * 3 + 200 {
            let frame = rig.send();
            if !(200..PORTS * 3).contains(&n) {
                syns.push(frame);
            } else {
                rig.pool.put(frame);
            }
        }
        assert_eq!(tcp(&syns[0]).1.src, tcp(&syns[200]).1.src, "the port is used again");
        for (at, syn) in syns.iter().enumerate() {
            let (_, header) = tcp(syn);
            assert_eq!((header.flags, header.dst), (flag::SYN, 80));
            let flags = if at % 2 == 0 { flag::SYN } else { flag::RST };
            rig.hear(&segment(syn, flags | flag::ACK, 5, header.seq.wrapping_add(1), &[]));
        }
        assert_eq!((rig.probe.syn_ack, rig.probe.rst), (200, 200));
        assert_eq!(rig.counts()[..3], [400, 0, 0]);
        // A retransmission, what acknowledges something else, and what is no answer to a SYN.
        let (_, header) = tcp(&syns[0]);
        rig.hear(&segment(&syns[0], flag::SYN | flag::ACK, 5, header.seq.wrapping_add(1), &[]));
        rig.hear(&segment(&syns[0], flag::SYN | flag::ACK, 5, header.seq.wrapping_add(2), &[]));
        rig.hear(&segment(&syns[0], flag::ACK, 5, header.seq.wrapping_add(1), b"data"));
        assert_eq!(rig.counts()[..3], [400, 1, 1]);
        assert_eq!((rig.probe.syn_ack, rig.probe.rst), (200, 200));
    }
}

fn handshakes(family: (&str, &str), request: &[u8], capacity: u64) -> Rig<Handshake> {
    let (station, aim) = world(family);
    let tcp = Tcp::new(aim, OURS, family == V4, 22, 99);
    Rig::new(Handshake::new(station, tcp, request, capacity), capacity)
}

#[test]
fn a_connection_is_opened_used_and_closed() {
    for family in [V4, V6] {
        let mut rig = handshakes(family, b"hello", 64);
        let syn = rig.send();
        let isn = tcp(&syn).1.seq;
        let syn_ack = segment(&syn, flag::SYN | flag::ACK, 1000, isn.wrapping_add(1), &[]);
        for _ in 0..2 {
            // The second time because our answer was lost.
            let ack = rig.hear(&syn_ack).unwrap();
            let (packet, header) = tcp(&ack);
            assert_eq!((header.seq, header.ack, header.flags), (isn + 1, 1001, flag::ACK | flag::PSH));
            assert_eq!(&packet.payload(ack.bytes())[20..], b"hello");
        }
        assert!(!rig.probe.is_settled(&rig.tally));
        assert!(rig.hear(&segment(&syn, flag::ACK, 1001, isn + 6, &[])).is_none(), "nothing to say to that");
        let data = segment(&syn, flag::ACK, 1001, isn + 6, b"banner");
        for _ in 0..2 {
            let (_, header) = tcp(&rig.hear(&data).unwrap());
            assert_eq!((header.seq, header.ack, header.flags), (isn + 6, 1007, flag::FIN | flag::ACK));
        }
        // More data, now with our FIN acknowledged.
        let more = rig.hear(&segment(&syn, flag::ACK, 1007, isn + 7, b"more")).unwrap();
        let (_, header) = tcp(&more);
        assert_eq!((header.seq, header.ack, header.flags), (isn + 7, 1011, flag::ACK));
        let fin = segment(&syn, flag::FIN | flag::ACK, 1011, isn + 7, &[]);
        for _ in 0..2 {
            let (_, header) = tcp(&rig.hear(&fin).unwrap());
            assert_eq!((header.seq, header.ack, header.flags), (isn + 7, 1012, flag::ACK));
        }
        let Handshake { completed, refused, responses, closed, reset, .. } = rig.probe;
        assert_eq!([completed, refused, responses, closed, reset], [1, 0, 1, 1, 0]);
        assert_eq!(rig.counts(), [1, 1, 0, 1]);
        assert!(rig.probe.is_settled(&rig.tally));
        assert_eq!(rig.probe.response_latency.len(), 1);
        assert!(!rig.probe.forget(0, &mut rig.pool.head().unwrap()), "nothing is left to be reset");
    }
}

#[test]
fn a_target_may_close_first_or_say_no() {
    let mut rig = handshakes(V4, b"", 64);
    let open = |rig: &mut Rig<Handshake>| {
        let syn = rig.send();
        let isn = tcp(&syn).1.seq;
        let ack = rig.hear(&segment(&syn, flag::SYN | flag::ACK, 7, isn + 1, &[])).unwrap();
        assert_eq!(tcp(&ack).1.flags, flag::ACK);
        (syn, isn)
    };
    // Banner and FIN in one segment.
    let (syn, isn) = open(&mut rig);
    let (_, header) = tcp(&rig.hear(&segment(&syn, flag::FIN | flag::ACK, 8, isn + 1, b"bye")).unwrap());
    assert_eq!((header.seq, header.ack, header.flags), (isn + 1, 12, flag::FIN | flag::ACK));
    // Nothing but a FIN.
    let (syn, isn) = open(&mut rig);
    rig.hear(&segment(&syn, flag::FIN | flag::ACK, 8, isn + 1, &[])).unwrap();
    // A reset of what stood, and one instead of a SYN/ACK.
    let (syn, isn) = open(&mut rig);
    assert!(rig.hear(&segment(&syn, flag::RST, 8, 0, &[])).is_none());
    let refused = rig.send();
    let wanted = tcp(&refused).1.seq + 1;
    assert!(rig.hear(&segment(&refused, flag::RST | flag::ACK, 0, wanted + 1, &[])).is_none());
    assert_eq!(rig.probe.refused, 0, "it refuses something else");
    rig.hear(&segment(&refused, flag::RST | flag::ACK, 0, wanted, &[]));
    // What comes after the end is nothing.
    rig.hear(&segment(&syn, flag::RST, 8, isn, &[]));
    rig.hear(&segment(&refused, flag::SYN | flag::ACK, 0, wanted, &[]));
    let Handshake { completed, refused, responses, closed, reset, .. } = rig.probe;
    assert_eq!([completed, refused, responses, closed, reset], [3, 1, 1, 2, 1]);
    assert!(rig.probe.is_settled(&rig.tally));
    assert_eq!(rig.counts()[..3], [4, 0, 1]);
}

#[test]
fn what_is_still_open_is_reset_when_it_is_forgotten() {
    let mut rig = handshakes(V4, b"hi", 4);
    let reset = |rig: &mut Rig<Handshake>, n: u64| {
        let mut frame = rig.pool.head().unwrap();
        let sent = rig.probe.forget(n, &mut frame);
        sent.then(|| tcp(&frame))
    };
    let mut isns = Vec::new();
    for n in 0..4u64 {
        let syn = rig.send();
        let isn = tcp(&syn).1.seq;
        isns.push((isn, syn));
        let (isn, syn) = &isns[n as usize];
        if n > 0 {
            rig.hear(&segment(syn, flag::SYN | flag::ACK, 7, isn + 1, &[]));
        }
        if n > 1 {
            rig.hear(&segment(syn, flag::ACK, 8, isn + 3, b"x"));
        }
    }
    assert_eq!(reset(&mut rig, 0), None, "nothing is known to be there");
    for (n, behind) in [(1, 3), (2, 4)] {
        let (isn, syn) = &isns[n as usize];
        let (packet, header) = reset(&mut rig, n).unwrap();
        assert_eq!((header.seq, header.flags), (isn + behind, flag::RST));
        assert_eq!((packet.dst(), header.src), (tcp(syn).0.dst(), tcp(syn).1.src));
        assert_eq!(reset(&mut rig, n), None, "once is enough");
    }
    // The next four take the places of those; what comes late to the first four is nothing.
    for _ in 0..4 {
        rig.send();
    }
    let (isn, syn) = &isns[3];
    assert!(rig.hear(&segment(syn, flag::SYN | flag::ACK, 7, isn + 1, &[])).is_none());
    assert_eq!(rig.tally.unexpected, 1);
}

#[test]
fn strange_frames_do_no_harm() {
    let (station, aim) = world(V4);
    let mut rig = handshakes(V4, b"", 16);
    let mut syn_rig = Rig::new(Syn::new(station.clone(), Tcp::new(aim.clone(), OURS, true, 22, 9)), 16);
    let mut echo_rig = Rig::new(Echo::new(station.clone(), aim.clone(), true, 9), 16);
    let mut arp_rig = Rig::new(Ask::new(station, aim), 16);
    let syn = rig.send();
    let whole = segment(&syn, flag::SYN | flag::ACK, 7, tcp(&syn).1.seq + 1, b"abc");
    for len in 0..whole.len() {
        for octet in [0x00, 0x45, 0xff] {
            let mut bytes = whole.clone();
            bytes[len] = octet;
            let mut headers = back(&Packet::parse(syn.bytes()).unwrap());
            headers.proto = proto::TCP;
            for cut in [bytes.len(), len] {
                for fix in [false, true] {
                    let mut bytes = bytes[..cut].to_vec();
                    if fix && bytes.len() > 54 && be16(&bytes, 12) == 0x0800 {
                        headers.fill_checksum(&mut bytes[34..]);
                    }
                    for probe in
                        [&mut rig.probe as &mut dyn Hears, &mut syn_rig.probe, &mut echo_rig.probe, &mut arp_rig.probe]
                    {
                        let mut frame = rig.pool.copy_of(&bytes).unwrap();
                        probe.hears(&mut frame, &mut rig.tally);
                        rig.pool.put(frame);
                    }
                }
            }
        }
    }
}

trait Hears {
    fn hears(&mut self, frame: &mut Frame, tally: &mut Tally);
}

impl<P: Probe> Hears for P {
    fn hears(&mut self, frame: &mut Frame, tally: &mut Tally) {
        self.hear(5000, frame, tally);
    }
}
