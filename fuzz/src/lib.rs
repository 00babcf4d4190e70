//! What the targets share: nodes of a small topology, and stories of frames for them; virtual time.

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use honeyweave::emulate::{Identity, Secret};
use honeyweave::event::EventId;
use honeyweave::node::testing::Bench;
use honeyweave::node::{Bridge, Hosts, Node, NodeConfig, Router, Uplink};
use honeyweave::service::Stream;
use honeyweave::topology::{self, Plan};
use honeyweave::wire::{Duration, Mac, Packet, checksum, proto, set_macs};

/// One node of each kind, hosts with every kind of port.
const TOPOLOGY: &str = r#"
templates:
  all:
    tcp_default: filtered
    tcp:
      7: open
      21: {banner: "220 ready\r\n"}
      22: container
      23: tarpit
      25: closed
      80: {http: {server: nginx, pages: {/: "<h1>here</h1>"}}}
      110: {pop3: {}}
      443: {http: {server: nginx}, tls: true}
      445: {smb: {}}
    udp: {53: {dns: {}}, 54: open, 69: filtered, 161: {snmp: {}}, 162: {reply: "x"}}
    backend: {image: small}
nodes:
  wan: {kind: uplink, interface: eth0, mac_limit: 4, rate: 1mbit}
  edge:
    kind: router
    interfaces: {wan: [192.0.2.1/24, "2001:db8::1/64"], lan: [10.0.0.1/16, "fd00::1/64"]}
    routes: [{to: 10.9.0.0/16, via: 10.0.0.9}, {to: default, via: 192.0.2.254}]
    neighbor_capacity: 16
  core:
    kind: switch
    ports: {1-3: {access: 10}, 4: {trunk: [10, 20]}, 5: {trunk: [10, 20], native: 20}, 6: {access: 20}}
    fdb_capacity: 16
  people:
    kind: hosts
    addresses: [10.0.1.0/24, "fd00::1:0/112"]
    template: all
    limits: {sessions: 8, half_open: 4, flows: 4, containers: 2}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:lan", "core:1"]
  - endpoints: [people, "core:2"]
"#;

/// A connection whose octets come in pieces, and with little room to answer.
#[derive(Default)]
pub struct Pieces {
    /// What came and was not taken.
    pub come: Vec<u8>,
    /// Nothing more comes.
    pub end: bool,
    /// Octets that can be sent.
    pub room: usize,
}

impl Pieces {
    /// Another piece comes: a connection's receive buffer is bounded.
    pub fn get(&mut self, piece: &[u8]) {
        let space = 8192usize.saturating_sub(self.come.len());
        self.come.extend_from_slice(&piece[..piece.len().min(space)]);
        self.room = 100 + piece.len() % 4096;
    }

    /// The peer is gone, and takes everything.
    pub fn finish(&mut self) {
        self.end = true;
        self.come.clear();
        self.room = usize::MAX / 2;
    }
}

impl Stream for Pieces {
    fn peek(&mut self) -> &[u8] {
        &self.come
    }

    fn take(&mut self, n: usize) {
        self.come.drain(..n);
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room);
        self.room -= n;
        n
    }

    fn at_end(&mut self) -> bool {
        self.end && self.come.is_empty()
    }

    fn is_last(&mut self) -> bool {
        self.end
    }

    fn tell(&mut self, id: EventId, data: &[u8]) {
        assert!(data.len() <= 8192);
        if matches!(id, EventId::ServiceLogin | EventId::TlsHello) {
            assert!(
                data.len() <= 1024 && data.iter().all(|octet| (b' '..=b'~').contains(octet)),
                "it is not printable"
            );
        }
    }
}

/// Runs what is asynchronous in virtual time: it flies when nothing else is to be done.
pub fn virtually<F: Future>(what: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs no more than memory").block_on(what)
}

/// One thing that happens to a node.
#[derive(Arbitrary, Debug)]
pub struct Step {
    port: u8,
    /// Milliseconds since the step before, squared: from nothing to a minute.
    wait: u8,
    /// Whether what random bytes never get right is put right: the receiver's MAC and the checksums.
    mend: bool,
    frame: Vec<u8>,
}

/// Frames that a node meets, in their order.
#[derive(Arbitrary, Debug)]
pub struct Story {
    steps: Vec<Step>,
}

fn config(name: &str) -> NodeConfig {
    static PLAN: LazyLock<Plan> =
        LazyLock::new(|| topology::parse("fuzz", TOPOLOGY).unwrap_or_else(|error| panic!("{error:?}")));
    PLAN.nodes.iter().find(|node| node.name == name).expect("the node is there").config.clone()
}

fn identity(name: &str) -> Identity {
    Identity::new(Secret([7; 16]), name)
}

/// The switch.
pub fn bridge() -> Bridge {
    let NodeConfig::Bridge(config) = config("core") else { unreachable!() };
    Bridge::new(config, 7)
}

/// The router, and the MACs of its interfaces.
pub fn router() -> (Router, Vec<Mac>) {
    let NodeConfig::Router(config) = config("edge") else { unreachable!() };
    let identity = identity("edge");
    let macs = (0..config.interfaces.len()).filter_map(|i| Router::mac(&config, &identity, i)).collect();
    (Router::new(config, identity, 7), macs)
}

/// The population, and the MAC of its host 10.0.1.5.
pub fn hosts() -> (Hosts, Mac) {
    let NodeConfig::Hosts(config) = config("people") else { unreachable!() };
    let identity = identity("people");
    let mac = config.mac_of(&identity, [10, 0, 1, 5].into()).expect("it is one of them");
    (Hosts::new(config, identity, 7), mac)
}

/// The uplink.
pub fn uplink() -> Uplink {
    let NodeConfig::Uplink(config) = config("wan") else { unreachable!() };
    Uplink::new(config, 7)
}

/// Tells `story` to `node`; `check` sees every frame that went in and what came out of it, and by which ports.
pub fn tell<N: Node>(
    node: N,
    ports: usize,
    macs: &[Mac],
    story: &Story,
    check: impl Fn(u16, &[u8], &[(honeyweave::frame::PortNo, Vec<u8>)]),
) {
    let mut bench = Bench::new(node, ports);
    for step in story.steps.iter().take(64) {
        let wait = u64::from(step.wait);
        let until = bench.now + Duration::from_millis(wait * wait);
        for (_, frame) in bench.run_until(until) {
            assert!(Packet::parse(&frame).is_ok(), "a node made a frame that is none: {frame:02x?}");
        }
        let port = u16::from(step.port) % ports as u16;
        let mut frame = step.frame.clone();
        frame.truncate(1518);
        if step.mend {
            let mac = macs.get(usize::from(port)).or(macs.first()).copied().unwrap_or(Mac::BROADCAST);
            mend(&mut frame, mac);
        }
        let sent = bench.rx(port, &frame);
        check(port, &frame, &sent);
    }
    let far = bench.now + Duration::from_secs(3600);
    bench.run_until(far);
    assert!(bench.pool.in_use() <= 2048, "{} buffers are still in use an hour later", bench.pool.in_use());
}

/// Puts right what would only ever test the first check.
fn mend(frame: &mut Vec<u8>, mac: Mac) {
    if frame.len() < 34 {
        return;
    }
    let src = Mac([2, 0, 0, 0, 0, frame[11] & 7]);
    set_macs(frame, mac, src);
    if frame[12..14] == [8, 0] {
        frame[14] = 0x45;
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        // Few fragments, and time to live.
        if frame[20] & 3 != 3 {
            frame[20] &= 0x40;
            frame[21] = 0;
        }
        frame[22] |= 8;
        // One of few addresses on both sides.
        let (a, b) = (frame[29] & 3, frame[33] & 7);
        frame[26..30].copy_from_slice(&[192, 0, 2, 9 + a]);
        frame[30..34].copy_from_slice(&[10, 0, 1, b]);
        frame[24..26].fill(0);
        let sum = checksum::finish(checksum::sum(0, &frame[14..34]));
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let Ok(packet) = Packet::parse(frame) else { return };
    if packet.is_v4() && frame[12..14] == [8, 0] {
        let at = match frame[23] {
            proto::TCP => 34 + 16,
            proto::UDP => 34 + 6,
            proto::ICMP => 34 + 2,
            _ => return,
        };
        if at + 2 > frame.len() {
            return;
        }
        frame[at..at + 2].fill(0);
        let mut sum = 0;
        if frame[23] != proto::ICMP {
            let mut pseudo = Vec::from(&frame[26..34]);
            pseudo.extend_from_slice(&[0, frame[23]]);
            pseudo.extend_from_slice(&((frame.len() - 34) as u16).to_be_bytes());
            sum = checksum::sum(0, &pseudo);
        }
        let value = checksum::finish(checksum::sum(sum, &frame[34..]));
        frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}
