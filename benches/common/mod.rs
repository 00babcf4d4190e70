//! Peers that open and close connections to emulated hosts, each from an address
//! and a port of its own, frame by frame and without I/O.

use std::net::IpAddr;
use std::sync::Arc;

use honeyweave::emulate::{Builtin, Identity, Outward, Secret, ServiceId, TcpPort, Template, UdpPort};
use honeyweave::event::{Counters, Event, EventId, Sink};
use honeyweave::frame::{Batch, Pool, PortNo};
use honeyweave::node::{
    AddrRange, Cx, Hosts, HostsConfig, Limits, MacMode, Node, NodeIdx, Request, Rng, Segment, Shard,
};
use honeyweave::service::{Service, ServiceKind};
use honeyweave::stack::Wake;
use honeyweave::wire::{Duration, Headers, Instant, Mac, Packet, Segment as TcpSegment, TcpHeader, flag, proto};

/// Frames in a batch.
pub const BATCH: usize = 64;
/// The port of a service that says something at once, and of one that a relay answers.
pub const BANNER: u16 = 21;
pub const RELAY: u16 = 9000;
const SAID: &[u8] = b"220 files.example.net FTP server ready\r\n";
const PEER: Mac = Mac([2, 0xaa, 0, 0, 0, 1]);

/// What the node told of connections.
#[derive(Default)]
pub struct Told {
    /// Connections that were opened.
    pub opened: usize,
    /// Connections that ended with a FIN of both sides.
    pub closed: usize,
}

impl Sink for Told {
    fn emit(&mut self, event: &Event, _: &[u8]) {
        match event.id {
            EventId::TcpOpen => self.opened += 1,
            EventId::TcpClose if event.code == 0 => self.closed += 1,
            _ => {}
        }
    }
}

/// Frames that lie behind each other, and when they come.
pub struct Arrival {
    at: Instant,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

/// A node and all that it needs to work.
pub struct Rig {
    /// The node.
    pub node: Hosts,
    /// What it told.
    pub told: Told,
    /// What it asked for.
    pub requests: Vec<Request>,
    /// The time of the last batch.
    pub now: Instant,
    pool: Pool,
    counters: Counters,
    out: Vec<Batch>,
    rx: Batch,
    rng: Rng,
    waker: Arc<dyn Wake>,
}

impl Rig {
    /// A node of [`population`] to which nobody has spoken.
    pub fn new(config: HostsConfig) -> Rig {
        Rig {
            node: Hosts::new(config, identity(), 1),
            told: Told::default(),
            requests: Vec::new(),
            now: Instant::from_secs(1000),
            pool: Pool::new(4096),
            counters: Counters::default(),
            out: vec![Batch::with_capacity(4 * BATCH)],
            rx: Batch::with_capacity(BATCH),
            rng: Rng::new(1),
            waker: Arc::new(()),
        }
    }

    /// Lets one batch arrive, and time pass until then; `look` sees what is sent.
    pub fn arrive(&mut self, arrival: &Arrival, mut look: impl FnMut(&[u8])) {
        self.now = arrival.at;
        let mut start = 0;
        for end in &arrival.ends {
            if let Some(mut frame) = self.pool.copy_of(&arrival.bytes[start..*end]) {
                frame.meta.port = PortNo(0);
                self.rx.push(frame);
            }
            start = *end;
        }
        let mut cx = Cx {
            now: arrival.at,
            pool: &mut self.pool,
            counters: &mut self.counters,
            out: &mut self.out,
            linked: &[true],
            sink: &mut self.told,
            requests: &mut self.requests,
            rng: &mut self.rng,
            waker: &self.waker,
            node: NodeIdx(0),
            shard: Shard::ALONE,
            handed: &mut Vec::new(),
        };
        self.node.process(&mut self.rx, &mut cx);
        self.node.tick(&mut cx);
        for frame in self.out[0].drain(..) {
            look(frame.bytes());
            self.pool.put(frame);
        }
    }

    /// Has `peers` go through `stages`, all of them through one before the next. Returns what they have sent.
    pub fn go(&mut self, peers: &mut [Peer], stages: std::ops::Range<usize>) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for stage in stages {
            for some in peers.chunks_mut(BATCH) {
                let at = self.now + Duration::from_micros(100);
                let mut arrival = Arrival { at, ends: Vec::new(), bytes: Vec::new() };
                some.iter().for_each(|peer| peer.segment(stage, &mut arrival));
                self.arrive(&arrival, |frame| heard(some, frame));
                arrivals.push(arrival);
            }
        }
        arrivals
    }

    /// What was discarded, for messages.
    pub fn discarded(&self) -> String {
        format!("{:?}", self.counters.reasons().collect::<Vec<_>>())
    }
}

/// One of `peers` takes note of what it is sent.
fn heard(peers: &mut [Peer], frame: &[u8]) {
    let packet = Packet::parse(frame).expect("a packet");
    assert!(packet.checksum_ok(frame));
    let l4 = packet.payload(frame);
    let tcp = TcpHeader::parse(l4).expect("a segment");
    let controls = u32::from(tcp.has(flag::SYN)) + u32::from(tcp.has(flag::FIN));
    // Answers come in an order of the node's own, and some belong to earlier batches.
    if let Some(peer) = peers.iter_mut().find(|peer| packet.dst() == IpAddr::from(peer.ip)) {
        peer.expected = tcp.seq.wrapping_add((l4.len() - tcp.len) as u32 + controls);
    }
}

/// The identity of [`population`].
pub fn identity() -> Identity {
    Identity::new(Secret([1; 16]), "hosts")
}

/// A /16 of servers.
pub fn population() -> HostsConfig {
    let template = Template {
        name: "server".into(),
        personality: Builtin::Linux.into(),
        oui: [0, 0x0c, 0x29],
        tcp: [(BANNER, TcpPort::Open(ServiceId(0))), (RELAY, TcpPort::Open(ServiceId(1)))].into(),
        tcp_default: TcpPort::Closed,
        udp: Default::default(),
        udp_default: UdpPort::Closed,
        normalize: Default::default(),
        ping: true,
        backend: None,
        outward: Outward::Reflect,
        gate: Default::default(),
        cases: vec![],
        talk: Default::default(),
    };
    let banner = ServiceKind::Banner { banner: SAID.into(), close_after_secs: 300 };
    HostsConfig {
        ranges: vec![AddrRange { first: [10, 1, 0, 0].into(), last: [10, 1, 255, 255].into() }],
        single: false,
        hostname: None,
        mix: vec![(0, 1)],
        templates: vec![template],
        services: vec![
            Service { name: "ftp".into(), kind: banner },
            Service { name: "script".into(), kind: ServiceKind::Script(0) },
        ],
        mac_mode: MacMode::PerHost,
        mac: None,
        segment: Segment::default(),
        claim: None,
        dhcp: None,
        inside: vec![],
        response_time: honeyweave::node::ResponseTime::None,
        limits: Limits::default(),
    }
}

/// One peer. Its stages: SYN, ACK, ACK of what the service says, FIN, ACK of the service's FIN.
#[derive(Clone, Copy)]
pub struct Peer {
    mac: Mac,
    host: [u8; 4],
    ip: [u8; 4],
    port: u16,
    to: u16,
    isn: u32,
    /// What it expects next.
    expected: u32,
}

impl Peer {
    /// The first `count`, who talk to port `to` of hosts all over the population.
    pub fn many(count: usize, to: u16) -> Vec<Peer> {
        let (config, identity) = (population(), identity());
        let peer = |number: usize| {
            let mixed = (number as u32 + 1).wrapping_mul(0x9e37_79b1);
            let host = [10, 1, (mixed >> 24) as u8, (mixed >> 16) as u8];
            Peer {
                mac: config.mac_of(&identity, host.into()).expect("one of ours"),
                host,
                ip: (0x5000_0000 + number as u32).to_be_bytes(),
                port: 1024 + (mixed as u16 >> 1),
                to,
                isn: mixed.rotate_left(7),
                expected: 0,
            }
        };
        (0..count).map(peer).collect()
    }

    fn segment(&self, stage: usize, into: &mut Arrival) {
        const SYN: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
        const LATER: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];
        let (flags, sent, options) = match stage {
            0 => (flag::SYN, 0, &SYN[..]),
            1 | 2 => (flag::ACK, 1, &LATER[..]),
            3 => (flag::FIN | flag::ACK, 1, &LATER[..]),
            _ => (flag::ACK, 2, &LATER[..]),
        };
        let headers = Headers {
            dst_mac: self.mac,
            src_mac: PEER,
            src: self.ip.into(),
            dst: self.host.into(),
            proto: proto::TCP,
            ttl: 55,
            tos: 0,
            ip_id: 7,
            df: true,
        };
        let (seq, ack) = (self.isn.wrapping_add(sent), if stage == 0 { 0 } else { self.expected });
        let segment = TcpSegment { src: self.port, dst: self.to, seq, ack, flags, window: 502, options, payload: &[] };
        let start = into.bytes.len();
        into.bytes.resize(start + headers.len() + segment.len(), 0);
        segment.write(&headers, &mut into.bytes[start..]);
        into.ends.push(into.bytes.len());
    }
}
