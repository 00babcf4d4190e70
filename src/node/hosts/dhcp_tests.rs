//! Hosts that lease their addresses, in virtual time, with a server that does as the test says.

use std::net::Ipv4Addr;

use super::tests::{ATTACKER, config};
use super::*;
use crate::emulate::Secret;
use crate::emulate::dhcp::testing::{option, reply};
use crate::event::MaybeIp;
use crate::frame::PortNo;
use crate::node::testing::Bench;
use crate::node::{DhcpConfig, Shard};
use crate::wire::{
    ARP_FRAME, Arp, DhcpMessageType, DhcpPacket, Duration, Headers, Segment as TcpSegment, TcpHeader, flag,
};

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
pub(super) const SERVER_MAC: Mac = Mac([2, 0xdd, 0, 0, 0, 1]);
pub(super) const PEER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 200);
const RIVAL: Mac = Mac([2, 0xee, 0, 0, 0, 1]);
pub(super) const LEASE: u32 = 3600;

/// A client's message.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Said {
    pub kind: u8,
    pub mac: Mac,
    pub xid: u32,
    pub ciaddr: Ipv4Addr,
    pub options: Vec<(u8, Vec<u8>)>,
    pub frame: Vec<u8>,
}

impl Said {
    pub(super) fn of(frame: &[u8]) -> Option<Said> {
        let packet = Packet::parse(frame).ok()?;
        let l4 = packet.payload(frame);
        if packet.proto != proto::UDP || (be16(l4, 0), be16(l4, 2)) != (68, 67) {
            return None;
        }
        assert!(packet.checksum_ok(frame));
        let dhcp = DhcpPacket::new_checked(&l4[8..]).unwrap();
        let options: Vec<(u8, Vec<u8>)> = dhcp.options().map(|option| (option.kind, option.data.to_vec())).collect();
        let mac = Mac(dhcp.client_hardware_address().0);
        assert_eq!(src_mac(frame), mac);
        let kind = options.iter().find(|(kind, _)| *kind == 53)?.1[0];
        let (xid, ciaddr) = (dhcp.transaction_id(), dhcp.client_ip());
        Some(Said { kind, mac, xid, ciaddr, options, frame: frame.to_vec() })
    }

    pub(super) fn option(&self, wanted: u8) -> Option<&[u8]> {
        self.options.iter().find(|(kind, _)| *kind == wanted).map(|(_, data)| data.as_slice())
    }

    pub(super) fn is(&self, kind: DhcpMessageType) -> bool {
        self.kind == u8::from(kind)
    }
}

/// A server's message as a frame.
pub(super) fn frame_of(dst: Mac, payload: &[u8]) -> Vec<u8> {
    let headers = Headers {
        dst_mac: dst,
        src_mac: SERVER_MAC,
        src: SERVER.into(),
        dst: Ipv4Addr::BROADCAST.into(),
        proto: proto::UDP,
        ttl: 64,
        tos: 0,
        ip_id: 1,
        df: false,
    };
    let mut frame = vec![0; headers.len() + 8 + payload.len()];
    headers.write_udp((67, 68), payload, &mut frame);
    frame
}

/// What a server that means well offers: [`LEASE`] seconds in 10.7.0.0/24.
pub(super) fn terms() -> Vec<u8> {
    let all = [
        option(54, &SERVER.octets()),
        option(51, &LEASE.to_be_bytes()),
        option(1, &[255, 255, 255, 0]),
        option(3, &SERVER.octets()),
    ];
    all.concat()
}

pub(super) fn leasing(dhcp: DhcpConfig, shard: Shard) -> Bench<Hosts> {
    let mut config = HostsConfig { ranges: vec![], dhcp: Some(Box::new(dhcp)), ..config() };
    config.hostname = Some("staff".into());
    config.templates[0].backend = None;
    config.segment = Default::default();
    config.inside = vec![];
    let identity = Identity::new(Secret([3; 16]), "hosts");
    let together = Together { replicas: shard.count, ..Together::default() };
    let mut bench = Bench::new(Hosts::replica(config, identity, 5, together), 2);
    bench.shard = shard;
    bench.with(|node, cx| node.tick(cx));
    bench
}

pub(super) fn dhcp(hosts: u16, limit: u16) -> DhcpConfig {
    DhcpConfig { hosts, limit, servers: vec![], machine: vec![] }
}

/// A node, its server, and everything that the node has sent.
pub(super) struct Net {
    pub bench: Bench<Hosts>,
    /// Whether the server answers.
    pub serves: bool,
    /// Addresses that other machines have.
    taken: Vec<Ipv4Addr>,
    next: u8,
    pub given: Vec<(Mac, Ipv4Addr)>,
    pub sent: Vec<Vec<u8>>,
}

impl Net {
    pub(super) fn new(config: DhcpConfig) -> Net {
        let bench = leasing(config, Shard::ALONE);
        Net { bench, serves: true, taken: vec![], next: 100, given: vec![], sent: vec![] }
    }

    pub(super) fn run(&mut self, secs: u64) {
        let until = self.bench.now + Duration::from_secs(secs);
        while let Some(deadline) = self.bench.node.next_deadline().filter(|deadline| *deadline <= until) {
            self.bench.now = self.bench.now.max(deadline);
            let sent = self.bench.with(|node, cx| node.tick(cx));
            self.meet(sent);
        }
        self.bench.now = until;
    }

    /// What the network does with what the node sends.
    fn meet(&mut self, sent: Vec<(PortNo, Vec<u8>)>) {
        for (_, frame) in sent {
            self.sent.push(frame.clone());
            if let Some(said) = Said::of(&frame).filter(|_| self.serves) {
                if let Some(answer) = self.answer(&said) {
                    let more = self.bench.rx(0, &answer);
                    self.meet(more);
                }
            } else if let Some(arp) = Arp::parse(&frame).filter(|arp| self.taken.contains(&arp.target)) {
                let reply = Arp {
                    operation: Arp::REPLY,
                    sender_mac: RIVAL,
                    sender: arp.target,
                    target_mac: arp.sender_mac,
                    target: arp.sender,
                };
                let more = self.bench.rx(0, &arp_frame(&reply, arp.sender_mac));
                self.meet(more);
            }
        }
    }

    fn answer(&mut self, said: &Said) -> Option<Vec<u8>> {
        let ip = match self.given.iter().find(|(mac, _)| *mac == said.mac) {
            Some((_, ip)) => *ip,
            None => {
                self.next += 1;
                self.given.push((said.mac, Ipv4Addr::new(10, 7, 0, self.next)));
                Ipv4Addr::new(10, 7, 0, self.next)
            }
        };
        let kind = match said.kind {
            1 => 2,
            3 => 5,
            4 => {
                self.given.retain(|(mac, _)| *mac != said.mac);
                return None;
            }
            other => panic!("a client said {other}"),
        };
        Some(frame_of(said.mac, &reply(kind, (said.xid, said.mac), ip, &terms())))
    }

    /// What was said so far.
    pub(super) fn said(&self) -> Vec<Said> {
        self.sent.iter().filter_map(|frame| Said::of(frame)).collect()
    }

    fn rows(&self) -> Vec<serde_json::Value> {
        self.bench.node.show(Show::Hosts, self.bench.now, 100).unwrap()
    }

    pub(super) fn events(&self, id: EventId) -> Vec<Event> {
        self.bench.events.iter().map(|(event, _)| *event).filter(|event| event.id == id).collect()
    }
}

pub(super) fn arp_frame(arp: &Arp, dst: Mac) -> [u8; ARP_FRAME] {
    let mut frame = [0; ARP_FRAME];
    arp.write(dst, arp.sender_mac, &mut frame);
    frame
}

/// Somebody on the segment asks for `ip`.
pub(super) fn who_has(ip: Ipv4Addr) -> [u8; ARP_FRAME] {
    let (operation, target_mac) = (Arp::REQUEST, Mac::ZERO);
    arp_frame(&Arp { operation, sender_mac: ATTACKER, sender: PEER, target_mac, target: ip }, Mac::BROADCAST)
}

pub(super) fn packet(mac: Mac, ip: Ipv4Addr, proto: u8, l4: &[u8]) -> Vec<u8> {
    let (src, dst) = (PEER.into(), ip.into());
    let headers = Headers { dst_mac: mac, src_mac: ATTACKER, src, dst, proto, ttl: 64, tos: 0, ip_id: 7, df: false };
    let mut frame = vec![0; headers.len() + l4.len()];
    let at = headers.write(&mut frame, l4.len());
    frame[at..].copy_from_slice(l4);
    headers.fill_checksum(&mut frame[at..]);
    frame
}

pub(super) fn ping(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    packet(mac, ip, proto::ICMP, &[8, 0, 0, 0, 1, 2, 0, 1, 9, 9])
}

#[test]
fn hosts_lease_addresses_and_are_hosts_like_others_then() {
    let mut net = Net::new(dhcp(3, 16));
    let seeking = net.rows();
    assert_eq!(seeking.len(), 3);
    assert!(seeking.iter().all(|row| row["ip"].is_null() && row["state"] == "waiting"), "{seeking:?}");
    net.run(60);
    let leased = net.events(EventId::DhcpLeased);
    assert_eq!((leased.len(), net.given.len()), (3, 3));
    for (mac, ip) in net.given.clone() {
        let event = leased.iter().find(|event| event.dst.mac == mac).unwrap();
        assert_eq!((event.dst.ip, event.count), (MaybeIp::from(IpAddr::V4(ip)), u64::from(LEASE)));
        assert_eq!((event.src.ip, event.src.mac), (MaybeIp::from(IpAddr::V4(SERVER)), SERVER_MAC));
        // It was tested first, and announced then.
        let arps: Vec<Arp> =
            net.sent.iter().filter_map(|frame| Arp::parse(frame)).filter(|arp| arp.sender_mac == mac).collect();
        let senders: Vec<Ipv4Addr> = arps.iter().map(|arp| arp.sender).collect();
        assert_eq!(senders, [Ipv4Addr::UNSPECIFIED, ip, ip]);
        assert!(arps.iter().all(|arp| arp.target == ip && arp.operation == Arp::REQUEST));
        // ARP, echo, TCP.
        let sent = net.bench.rx(0, &who_has(ip));
        let answer = Arp::parse(&sent[0].1).unwrap();
        assert_eq!((answer.operation, answer.sender_mac, answer.sender), (Arp::REPLY, mac, ip));
        assert_eq!(net.bench.rx(0, &ping(mac, ip)).len(), 1);
        let headers = Headers {
            dst_mac: mac,
            src_mac: ATTACKER,
            src: PEER.into(),
            dst: ip.into(),
            proto: proto::TCP,
            ttl: 64,
            tos: 0,
            ip_id: 7,
            df: true,
        };
        let (src, options, payload) = (999, &[2, 4, 5, 0xb4][..], &[][..]);
        let syn = TcpSegment { src, dst: 80, seq: 1, ack: 0, flags: flag::SYN, window: 9, options, payload };
        let mut frame = vec![0; headers.len() + syn.len()];
        syn.write(&headers, &mut frame);
        let sent = net.bench.rx(0, &frame);
        let packet = Packet::parse(&sent[0].1).unwrap();
        assert!(TcpHeader::parse(packet.payload(&sent[0].1)).unwrap().has(flag::SYN | flag::ACK));
        let row = net.rows().into_iter().find(|row| row["ip"] == ip.to_string()).unwrap();
        assert_eq!((row["state"].as_str(), row["mac"].as_str()), (Some("leased"), Some(&*mac.to_string())));
    }
    assert_eq!(net.rows().len(), 3);
    assert!(net.bench.rx(0, &who_has(Ipv4Addr::new(10, 7, 0, 99))).is_empty());
    assert_eq!(net.bench.pool.in_use(), 0);
    // What was said: as Debian's dhclient says it.
    let said = net.said();
    assert_eq!(said.iter().map(|said| said.kind).filter(|kind| *kind == 1).count(), 3);
    let request = said.iter().find(|said| said.is(DhcpMessageType::Request)).unwrap();
    assert_eq!(request.options.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [53, 54, 50, 12, 55]);
    let first = net.bench.node.dhcp.as_ref().unwrap().tenants.of_mac(request.mac).unwrap();
    assert_eq!(request.option(12), Some(format!("staff-{:02}", first + 1).as_bytes()));
    let packet = Packet::parse(&request.frame).unwrap();
    assert_eq!((packet.ttl, packet.src(), packet.dst()), (128, [0; 4].into(), [255; 4].into()));
    assert_eq!(dst_mac(&request.frame), Mac::BROADCAST);
    // Half an hour later they renew, each with its server alone.
    net.sent.clear();
    net.run(u64::from(LEASE));
    let renewals = net.said();
    assert!(renewals.len() >= 3);
    for renewal in &renewals {
        assert!(renewal.is(DhcpMessageType::Request) && !renewal.ciaddr.is_unspecified());
        let packet = Packet::parse(&renewal.frame).unwrap();
        assert_eq!((packet.src(), packet.dst()), (renewal.ciaddr.into(), SERVER.into()));
        assert_eq!((dst_mac(&renewal.frame), packet.ttl), (SERVER_MAC, 64));
    }
    assert_eq!(net.events(EventId::DhcpLeased).len(), 3, "a renewal is no news");
    assert!(net.events(EventId::DhcpLost).is_empty());
}

#[test]
fn a_host_without_a_lease_is_gone() {
    let mut net = Net::new(dhcp(1, 16));
    net.run(60);
    let (mac, ip) = net.given[0];
    assert_eq!(net.bench.rx(0, &ping(mac, ip)).len(), 1);
    net.serves = false;
    net.run(u64::from(LEASE));
    let lost = net.events(EventId::DhcpLost);
    assert_eq!((lost.len(), lost[0].code, lost[0].dst.ip), (1, 0, MaybeIp::from(IpAddr::V4(ip))));
    assert!(net.bench.rx(0, &ping(mac, ip)).is_empty() && net.bench.rx(0, &who_has(ip)).is_empty());
    // Somebody else has that address by now; it is another one, and the same host.
    net.serves = true;
    net.given.clear();
    let before = net.rows()[0].clone();
    net.run(600);
    assert_eq!(net.given.len(), 1);
    let (again, other) = net.given[0];
    assert_eq!(again, mac);
    assert_ne!(other, ip);
    assert_eq!(net.bench.rx(0, &ping(mac, other)).len(), 1);
    assert!(net.bench.rx(0, &ping(mac, ip)).is_empty());
    let row = net.rows().into_iter().find(|row| row["ip"] == other.to_string()).unwrap();
    assert_eq!((&row["mac"], &row["template"]), (&before["mac"], &before["template"]));
    let homes: Vec<u128> = [ip, other].map(|ip| net.bench.node.ids.home(word_of(ip.into()))).into();
    assert_eq!(homes, [word_of(ip.into()), super::tenants::home_of(0)], "what it counts goes on");
}

#[test]
fn a_server_that_takes_an_address_back_gets_it() {
    let mut net = Net::new(dhcp(1, 16));
    net.run(60);
    let (mac, ip) = net.given[0];
    // With a connection open.
    net.serves = false;
    net.run(u64::from(LEASE / 2));
    let renewal = net.said().pop().unwrap();
    let nak = reply(6, (renewal.xid, mac), Ipv4Addr::UNSPECIFIED, &option(54, &SERVER.octets()));
    net.bench.rx(0, &frame_of(mac, &nak));
    assert_eq!(net.events(EventId::DhcpLost)[0].code, 1);
    assert!(net.bench.rx(0, &who_has(ip)).is_empty());
}

#[test]
fn never_more_addresses_than_the_limit() {
    let mut net = Net::new(dhcp(4, 4));
    // Whatever is offered is another's: each decline costs the pool an address.
    net.taken = (101..=250).map(|last| Ipv4Addr::new(10, 7, 0, last)).collect();
    net.run(80_000);
    let declined = net.events(EventId::DhcpDeclined);
    assert_eq!(declined.len(), 4, "a day's");
    assert!(declined.iter().all(|event| event.src.mac == RIVAL));
    assert!(net.events(EventId::DhcpLeased).is_empty());
    let declines: Vec<Said> = net.said().into_iter().filter(|said| said.is(DhcpMessageType::Decline)).collect();
    assert_eq!(declines.len(), 4);
    assert!(declines.iter().all(|said| said.option(50).is_some() && said.option(54) == Some(&SERVER.octets())));
    net.sent.clear();
    net.run(3000);
    assert!(net.said().is_empty(), "nothing is tried until a day is over");
    net.taken.clear();
    net.run(20_000);
    assert_eq!(net.events(EventId::DhcpLeased).len(), 4);
}

#[test]
fn a_crowd_begins_little_by_little() {
    let mut net = Net::new(dhcp(100, 256));
    net.serves = false;
    net.run(1);
    net.run(9);
    let first = net.said().len();
    assert!((30..=110).contains(&first), "{first} messages in the first ten seconds");
    net.serves = true;
    net.run(400);
    assert_eq!((net.events(EventId::DhcpLeased).len(), net.given.len()), (100, 100));
}

#[test]
fn a_machine_with_the_same_address_gets_it() {
    let mut net = Net::new(dhcp(1, 16));
    net.run(60);
    let (mac, ip) = net.given[0];
    let (operation, target_mac) = (Arp::REQUEST, Mac::ZERO);
    let words = arp_frame(&Arp { operation, sender_mac: RIVAL, sender: ip, target_mac, target: ip }, Mac::BROADCAST);
    let sent = net.bench.rx(0, &words);
    assert_eq!(Arp::parse(&sent[0].1).map(|arp| (arp.sender_mac, arp.sender)), Some((mac, ip)), "defended once");
    net.run(2);
    net.serves = false;
    let sent = net.bench.rx(0, &words);
    let said: Vec<Said> = sent.iter().filter_map(|(_, frame)| Said::of(frame)).collect();
    assert!(said[0].is(DhcpMessageType::Decline) && said[0].option(50) == Some(&ip.octets()));
    let lost = net.events(EventId::DhcpLost)[0];
    assert_eq!((lost.code, lost.src.mac), (2, RIVAL));
    assert!(net.bench.rx(0, &who_has(ip)).is_empty());
    // A test for duplicates is answered as long as the address is its own.
    net.serves = true;
    net.run(100);
    let (_, ip) = net.given[0];
    let (sender, target) = (Ipv4Addr::UNSPECIFIED, ip);
    let test = arp_frame(&Arp { operation, sender_mac: RIVAL, sender, target_mac, target }, Mac::BROADCAST);
    assert_eq!(net.bench.rx(0, &test).len(), 1);
    assert_eq!(net.events(EventId::DhcpLost).len(), 1);
}

#[test]
fn hosts_talk_as_long_as_they_have_an_address() {
    let mut net = Net::new(dhcp(1, 16));
    let template = &mut net.bench.node.config.templates[0];
    template.personality = Builtin::Windows.into();
    template.talk = template.personality.get().talk.says;
    // As if it had been so from the start.
    net.bench.node = Hosts::new(net.bench.node.config.clone(), Identity::new(Secret([3; 16]), "hosts"), 5);
    net.serves = false;
    net.run(100);
    assert!(net.sent.iter().all(|frame| Said::of(frame).is_some()), "not a word but to servers");
    net.serves = true;
    net.run(300);
    let (mac, ip) = net.given[0];
    let to = |net: &Net, port: u16| {
        let packets = net.sent.iter().filter_map(|frame| Some((Packet::parse(frame).ok()?, frame)));
        let to = packets.filter(|(packet, frame)| {
            packet.proto == proto::UDP && packet.is_v4() && be16(packet.payload(frame), 2) == port
        });
        to.map(|(packet, frame)| (packet.src(), packet.dst(), src_mac(frame))).collect::<Vec<_>>()
    };
    let names = to(&net, 137);
    assert!(
        names.len() >= 12 && names.iter().all(|said| *said == (ip.into(), [10, 7, 0, 255].into(), mac)),
        "{names:?}"
    );
    assert!(!to(&net, 5353).is_empty() && !to(&net, 1900).is_empty());
    let asks = net.sent.iter().filter_map(|frame| Arp::parse(frame)).filter(|arp| arp.target == SERVER);
    assert!(asks.count() > 2, "it looks for the router that it was told of");
    // No longer, and again with another address.
    net.serves = false;
    net.run(2 * u64::from(LEASE));
    net.sent.clear();
    net.run(600);
    assert!(net.sent.iter().all(|frame| Said::of(frame).is_some()));
    (net.serves, net.given) = (true, vec![]);
    net.run(900);
    let other = net.given[0].1;
    assert_ne!(ip, other);
    assert!(to(&net, 137).iter().all(|said| said.0 == other) && !to(&net, 137).is_empty());
}
