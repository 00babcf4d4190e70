//! One network in several shards, in virtual time: whatever thread a frame comes to, the answers are the same.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};

use super::*;
use crate::netdev::Memory;
use crate::node::{NodeIdx, Shard, Show, UplinkConfig};
use crate::wire::{Arp, Duration, Instant, Mac, ethertype, ethertype_of, word_of};

const ATTACKER: (Mac, Ipv4Addr) = (Mac([2, 0, 0, 0, 0, 0x66]), Ipv4Addr::new(192, 0, 2, 2));
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Whom the kernel gives a frame to.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Steering {
    /// Who keeps its host, as the fanout program does.
    Owner,
    /// The same for all frames.
    First,
    /// Anyone but who keeps its host.
    Stranger,
}

struct Net {
    fabrics: Vec<Fabric>,
    wires: Vec<Memory>,
    now: Instant,
    steering: Steering,
    router: Mac,
    /// What came out, in order.
    got: Vec<Vec<u8>>,
    /// How often the router asked who the attacker is.
    asked: usize,
}

fn topology(link: &str) -> String {
    format!(
        "
name: shards
nodes:
  wan: {{kind: uplink}}
  edge: {{kind: router, interfaces: {{wan: [192.0.2.1/24, '2001:db8::1/64'], lan: [10.3.0.1/16, 'fd00:3::1/64']}}}}
  core: {{kind: switch, ports: 4}}
  lan: {{kind: hosts, addresses: 10.3.0.0/16, except: [10.3.0.1], tcp: {{21: {{banner: 'hello'}}}}}}
links:
  - endpoints: [wan, 'edge:wan']
  - {{endpoints: ['edge:lan', 'core:1']{link}}}
  - endpoints: [lan, 'core:2']
"
    )
}

impl Net {
    /// A network that nobody has spoken to.
    fn unknown(shards: usize, steering: Steering, link: &str) -> Net {
        let options = crate::topology::Options { uplink: Some("eth0".into()), ..Default::default() };
        let plan = crate::topology::parse_with("test", &topology(link), &options).unwrap();
        let sinks = (0..shards).map(|_| Box::new(()) as Box<dyn Sink + Send>).collect();
        let mut fabrics = build_fabrics(&plan, Secret([7; 16]), 42, WallClock::default(), sinks);
        let attach = |fabric: &mut Fabric| {
            let (inside, outside) = Memory::pair(1500).unwrap();
            fabric.attach(NodeIdx(0), Some(UplinkConfig::WIRE), Box::new(inside), "wire", None);
            outside
        };
        let wires = fabrics.iter_mut().map(attach).collect();
        let now = Instant::from_secs(100);
        Net { fabrics, wires, now, steering, router: Mac::ZERO, got: Vec::new(), asked: 0 }
    }

    /// One whose router the attacker has asked for its MAC.
    fn new(shards: usize, steering: Steering, link: &str) -> Net {
        let mut net = Net::unknown(shards, steering, link);
        let question = Arp {
            operation: Arp::REQUEST,
            sender_mac: ATTACKER.0,
            sender: ATTACKER.1,
            target_mac: Mac::ZERO,
            target: ROUTER,
        };
        net.arp(&question, Mac::BROADCAST);
        let answer = Arp::parse(&net.settle()[0]).unwrap();
        net.router = answer.sender_mac;
        net
    }

    fn arp(&mut self, arp: &Arp, to: Mac) {
        let mut frame = vec![0; crate::wire::ARP_FRAME];
        arp.write(to, ATTACKER.0, &mut frame);
        self.send(&frame, IpAddr::V4(arp.target));
    }

    fn send(&mut self, frame: &[u8], dst: IpAddr) {
        let count = self.wires.len() as u16;
        let owner = Shard { index: 0, count }.owner_of(word_of(dst));
        let to = match self.steering {
            Steering::Owner => owner,
            Steering::First => 0,
            Steering::Stranger => (owner + 1) % count,
        };
        assert!(self.wires[usize::from(to)].send(frame));
    }

    /// Lets everything move that can, without time passing; returns what came out.
    fn settle(&mut self) -> Vec<Vec<u8>> {
        let mut quiet = 0;
        while quiet < 3 {
            let mut more = false;
            for fabric in &mut self.fabrics {
                more |= fabric.step(self.now, None);
            }
            let out: Vec<_> = self.wires.iter().flat_map(|wire| std::iter::from_fn(|| wire.recv())).collect();
            quiet = if more || !out.is_empty() { 0 } else { quiet + 1 };
            for frame in out {
                match Arp::parse(&frame).filter(|arp| arp.operation == Arp::REQUEST && arp.target == ATTACKER.1) {
                    Some(arp) => {
                        self.asked += 1;
                        let answer = Arp {
                            operation: 2,
                            sender_mac: ATTACKER.0,
                            sender: ATTACKER.1,
                            target_mac: arp.sender_mac,
                            target: arp.sender,
                        };
                        self.arp(&answer, arp.sender_mac);
                    }
                    None => self.got.push(frame),
                }
            }
        }
        std::mem::take(&mut self.got)
    }

    /// Lets time pass until nothing is due within a second.
    fn wait(&mut self) -> Vec<Vec<u8>> {
        let end = self.now + Duration::from_secs(1);
        let mut got = self.settle();
        while let Some(next) = self.fabrics.iter().filter_map(Fabric::next_deadline).min().filter(|next| *next <= end) {
            self.now = self.now.max(next) + Duration::from_micros(1);
            got.extend(self.settle());
        }
        got
    }

    fn to(&self) -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
        PacketBuilder::ethernet2(ATTACKER.0.0, self.router.0)
    }

    fn ping(&mut self, host: Ipv4Addr, seq: u16) {
        let mut frame = Vec::new();
        let builder = self.to().ipv4(ATTACKER.1.octets(), host.octets(), 64).icmpv4_echo_request(7, seq);
        builder.write(&mut frame, b"0123456789").unwrap();
        self.send(&frame, host.into());
    }

    fn tcp(&mut self, host: Ipv4Addr, set: impl FnOnce(etherparse::TcpHeader) -> etherparse::TcpHeader, data: &[u8]) {
        let mut frame = Vec::new();
        let header = set(etherparse::TcpHeader::new(40_000, 21, 1000, 64_000));
        let builder = self.to().ipv4(ATTACKER.1.octets(), host.octets(), 64).tcp_header(header);
        builder.write(&mut frame, data).unwrap();
        self.send(&frame, host.into());
    }

    fn in_use(&self) -> usize {
        self.fabrics.iter().map(Fabric::frames_in_use).sum()
    }
}

fn host(n: u16) -> Ipv4Addr {
    let [a, b] = (n + 100).to_be_bytes();
    Ipv4Addr::new(10, 3, a, b)
}

/// Who has answered, and the sequence numbers in the order of their answers.
fn echoes(frames: &[Vec<u8>]) -> BTreeMap<[u8; 4], Vec<u16>> {
    let mut answers = BTreeMap::<_, Vec<u16>>::new();
    for frame in frames {
        let packet = PacketHeaders::from_ethernet_slice(frame).unwrap();
        if let (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Icmpv4(icmp))) = (packet.net, packet.transport)
            && let etherparse::Icmpv4Type::EchoReply(echo) = icmp.icmp_type
        {
            answers.entry(ip.source).or_default().push(echo.seq);
        }
    }
    answers
}

const NETS: [(usize, Steering); 5] = [
    (1, Steering::First),
    (2, Steering::Stranger),
    (4, Steering::Owner),
    (4, Steering::First),
    (4, Steering::Stranger),
];

#[test]
fn every_host_answers_in_order_whoever_receives() {
    for (shards, steering) in NETS {
        let mut net = Net::new(shards, steering, "");
        for seq in 0..5 {
            (0..300).for_each(|n| net.ping(host(n), seq));
        }
        let answers = echoes(&net.wait());
        assert_eq!(answers.len(), 300, "{shards} {steering:?}");
        assert!(answers.values().all(|seqs| *seqs == [0, 1, 2, 3, 4]), "{shards} {steering:?}");
        assert_eq!(net.asked, 0, "what one replica of the router has learned, all know: {shards} {steering:?}");
        assert_eq!(net.in_use(), 0);
        // Each session is known where its host is, once.
        let known = net.fabrics.iter().map(|fabric| fabric.show(Show::Hosts, 1000));
        let known: Vec<_> = known.map(|all| all[0]["rows"].as_array().unwrap().len()).collect();
        assert_eq!(known.iter().sum::<usize>(), 300);
        assert!(known.iter().all(|rows| *rows > 300 / shards / 2), "{known:?}");
    }
}

#[test]
fn a_connection_lives_in_one_shard() {
    for (shards, steering) in NETS {
        let mut net = Net::new(shards, steering, "");
        let tcp_of = |frame: &Vec<u8>| {
            let packet = PacketHeaders::from_ethernet_slice(frame).unwrap();
            match (packet.net, packet.transport) {
                (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Tcp(tcp))) => {
                    Some((Ipv4Addr::from(ip.source), tcp, packet.payload.slice().to_vec()))
                }
                _ => None,
            }
        };
        (0..100).for_each(|n| net.tcp(host(n), |tcp| etherparse::TcpHeader { syn: true, ..tcp }, b""));
        let answers: Vec<_> = net.settle().iter().filter_map(tcp_of).collect();
        assert_eq!(answers.iter().filter(|(_, tcp, _)| tcp.syn && tcp.ack).count(), 100, "{shards} {steering:?}");
        for (host, syn_ack, _) in answers {
            let ack = |tcp| etherparse::TcpHeader {
                ack: true,
                sequence_number: 1001,
                acknowledgment_number: syn_ack.sequence_number.wrapping_add(1),
                ..tcp
            };
            net.tcp(host, ack, b"");
        }
        let banners = net.wait().iter().filter_map(tcp_of).filter(|(_, _, data)| data.starts_with(b"hello")).count();
        assert!(banners >= 100, "{banners}: {shards} {steering:?}");
        let flows =
            net.fabrics.iter().map(|fabric| fabric.show(Show::Flows, 1000)[0]["rows"].as_array().unwrap().len());
        assert_eq!(flows.sum::<usize>(), 100);
    }
}

#[test]
fn a_rate_is_kept_by_all_shards_together() {
    let answered = |shards, steering| {
        // 54 octets each way, 100 of them a second; those that find 20 waiting are lost.
        let mut net = Net::new(shards, steering, ", rate: 43200bit, queue: 20");
        (0..10).for_each(|n| net.ping(host(n), 0));
        // Neighbors are known from now on.
        net.wait();
        (0..10).for_each(|_| drop(net.wait()));
        (0..10).for_each(|n| (0..10).for_each(|seq| net.ping(host(n), seq)));
        echoes(&(0..10).flat_map(|_| net.wait()).collect::<Vec<_>>()).values().map(Vec::len).sum::<usize>()
    };
    let alone = answered(1, Steering::First);
    assert!((15..30).contains(&alone), "{alone}");
    for (shards, steering) in NETS {
        assert_eq!(answered(shards, steering), alone, "{shards} {steering:?}");
    }
}

#[test]
fn arp_for_a_host_is_answered_once() {
    for (shards, steering) in NETS {
        let mut net = Net::new(shards, steering, "");
        net.ping(host(1), 0);
        assert_eq!(net.wait().iter().filter(|frame| ethertype_of(frame) == ethertype::IPV4).count(), 1);
        let neighbors: Vec<_> =
            net.fabrics.iter().map(|fabric| fabric.show(Show::Neigh, 10)[0]["rows"].clone()).collect();
        let knows = |rows: &serde_json::Value, ip: &str| rows.as_array().unwrap().iter().any(|row| row["ip"] == ip);
        assert!(neighbors.iter().all(|rows| knows(rows, "192.0.2.2")), "{neighbors:?}");
        // Who asked and who was answered; the others have no use for it.
        let aware = neighbors.iter().filter(|rows| knows(rows, &host(1).to_string())).count();
        assert!(aware == 1 || (aware == 2 && steering != Steering::Owner), "{aware} {steering:?}");
    }
}

#[test]
fn a_router_that_asks_in_every_shard_is_answered_in_every_shard() {
    for (shards, steering) in NETS {
        // A switch that was started anew: the attacker still knows the router, which knows nobody.
        let router = Net::new(shards, steering, "").router;
        let mut net = Net { router, ..Net::unknown(shards, steering, "") };
        (0..16).for_each(|n| net.ping(host(n), 0));
        assert_eq!(echoes(&net.wait()).len(), 16, "{shards} {steering:?}");
        assert!((1..=shards).contains(&net.asked), "{} questions: {shards} {steering:?}", net.asked);
    }
}

#[test]
fn macs_on_the_wire_are_limited_for_all_shards_together() {
    for (shards, steering) in NETS {
        let common = Common::of(
            &crate::topology::parse("test", "nodes: {a: {kind: switch, ports: 2}}").unwrap(),
            1,
            WallClock::default(),
            u16::try_from(shards).unwrap(),
        );
        let config = crate::node::UplinkConfig { mac_limit: 10, ..crate::node::UplinkConfig::new("eth0") };
        let mut left = 0;
        let mut guards: Vec<_> = (0..shards)
            .map(|index| {
                let node = Uplink::replica(config.clone(), 1, common[0].meter.clone());
                let mut bench = crate::node::testing::Bench::new(node, 2);
                bench.shard = Shard { index: index as u16, count: shards as u16 };
                bench
            })
            .collect();
        for n in 0..40_u8 {
            let frame = crate::node::testing::eth(ATTACKER.0, Mac([2, 9, 9, 9, 9, n]), 0x1234, b"");
            left += guards[usize::from(n) % shards].rx(0, &frame).len();
        }
        assert_eq!(left, 10, "{shards} {steering:?}");
        // All of them fall silent; the last replica alone has something to send then.
        for guard in &mut guards {
            let end = guard.now + Duration::from_secs(400);
            guard.run_until(end);
        }
        let last = guards.last_mut().unwrap();
        let sent =
            (50..90).map(|n| last.rx(0, &crate::node::testing::eth(ATTACKER.0, Mac([2, 9, 9, 9, 9, n]), 0x1234, b"")));
        assert_eq!(sent.map(|frames| frames.len()).sum::<usize>(), 10, "{shards} {steering:?}");
    }
}
