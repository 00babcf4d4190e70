//! The resolved configuration of each kind of node: what the topology's checked
//! plan consists of, and what the control side builds nodes from.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::NodeIdx;
use crate::emulate::Template;
use crate::frame::PortNo;
use crate::service::Service;
use crate::wire::Mac;

/// A node's configuration, by kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodeConfig {
    /// A real interface, behind its guard. Port 0 faces the fabric; the device is attached to port 1.
    Uplink(UplinkConfig),
    /// A TAP for what users attach. Port 0 faces the fabric; the device is attached to port 1.
    Tap(TapConfig),
    /// A TAP for sensors, which are given copies of what crosses certain ports. Nothing faces the fabric.
    Mirror(MirrorConfig),
    /// A learning switch (`kind: switch`).
    Bridge(BridgeConfig),
    /// A router.
    Router(RouterConfig),
    /// Emulated hosts, with or without containers (`kind: hosts`, `host`, `container`). Port 0 faces the fabric; TAPs are attached to higher ports.
    Hosts(HostsConfig),
}

impl NodeConfig {
    /// The name of the device that is its own, and the port that it is at.
    pub fn device(&self) -> Option<(&str, PortNo)> {
        match self {
            NodeConfig::Uplink(uplink) => Some((&uplink.interface, UplinkConfig::WIRE)),
            NodeConfig::Tap(tap) => Some((&tap.interface, TapConfig::WIRE)),
            NodeConfig::Mirror(mirror) => Some((&mirror.tap.interface, MirrorConfig::WIRE)),
            _ => None,
        }
    }

    /// Addresses of its hosts or of its interfaces, from the first to the last of each range.
    pub fn addresses(&self) -> Vec<(IpAddr, IpAddr)> {
        match self {
            NodeConfig::Hosts(hosts) => hosts.ranges.iter().map(|range| (range.first, range.last)).collect(),
            NodeConfig::Router(router) => {
                let nets = router.interfaces.iter().flat_map(|interface| &interface.addresses);
                nets.map(|net| (net.addr(), net.addr())).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What the uplink guard may let out although it keeps it inside by default.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Guarded {
    /// ICMPv6 router advertisements.
    RouterAdvertisement,
    /// DHCP and DHCPv6 server replies.
    DhcpServer,
    /// Spanning tree.
    Bpdu,
    /// VRRP, HSRP and CARP.
    Vrrp,
    /// RIP, OSPF, EIGRP, IS-IS, PIM.
    Routing,
    /// LLDP and CDP.
    Discovery,
}

/// How frames of a real interface are received.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UplinkIo {
    /// By AF_XDP where nobody else on this machine uses the interface, otherwise by a packet socket.
    #[default]
    Auto,
    /// By a packet socket.
    Packet,
    /// By AF_XDP, even if the machine's own network stack then loses frames.
    Xdp,
}

/// A real interface.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UplinkConfig {
    /// Its name on this machine.
    pub interface: String,
    /// What the guard lets out.
    pub allow: Vec<Guarded>,
    /// Source MACs that may appear on it.
    pub mac_limit: u32,
    /// Octets a second that may leave by it; 0 without limit.
    pub rate_bytes: u64,
    /// How frames are received.
    pub io: UplinkIo,
    /// Frames that may wait to be received by AF_XDP; a power of two.
    pub ring: u32,
    /// Whether frames with a tag pass it: its link leads to a trunk or to another uplink.
    pub tagged: bool,
}

impl UplinkConfig {
    /// Entries of a ring of which nothing else is said.
    pub const RING: u32 = crate::sys::xdp::ENTRIES;

    /// An uplink as it is if the topology says nothing more about it.
    pub fn new(interface: &str) -> UplinkConfig {
        let (interface, allow) = (interface.to_owned(), Vec::new());
        let (io, ring) = (UplinkIo::default(), UplinkConfig::RING);
        UplinkConfig { interface, allow, mac_limit: 256, rate_bytes: 0, io, ring, tagged: false }
    }
}

impl UplinkConfig {
    /// The port that faces the fabric.
    pub const INSIDE: PortNo = PortNo(0);
    /// The port that the device is attached to.
    pub const WIRE: PortNo = PortNo(1);
}

/// How frames of TAPs, containers' included, are read and written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TapIo {
    /// A burst in each system call, by io_uring, where this machine has it; otherwise as with `plain`.
    #[default]
    Auto,
    /// One in each system call.
    Plain,
}

/// A TAP that the honeynet makes, for what users attach to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TapConfig {
    /// Its name on this machine.
    pub interface: String,
    /// Whether its frames are recorded.
    pub capture: bool,
}

impl TapConfig {
    /// The port that faces the fabric.
    pub const INSIDE: PortNo = PortNo(0);
    /// The port that the device is attached to.
    pub const WIRE: PortNo = PortNo(1);
    /// TAPs of a honeynet: each is a descriptor that its processes hand on.
    pub const MOST: usize = 100;
}

/// A TAP that the honeynet makes for sensors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MirrorConfig {
    /// The TAP. Its frames are not recorded: they are where they come from.
    pub tap: TapConfig,
    /// What is copied: whatever crosses these ports, in either direction.
    pub of: Vec<(NodeIdx, PortNo)>,
}

impl MirrorConfig {
    /// The port by which the fabric puts copies in.
    pub const COPIES: PortNo = PortNo(0);
    /// The port that the device is attached to.
    pub const WIRE: PortNo = TapConfig::WIRE;
    /// Mirrors of a honeynet: a frame bears a mark of each.
    pub const MOST: usize = 8;
}

/// Which VLANs a switch port carries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PortVlan {
    /// Untagged frames of one VLAN.
    Access(u16),
    /// Tagged frames of the VLANs listed, and untagged ones of `native`.
    Trunk {
        /// The VLAN of untagged frames, if they are taken.
        native: Option<u16>,
        /// The VLANs carried, sorted.
        allowed: Vec<u16>,
    },
}

/// A port of a switch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BridgePort {
    /// Its name in `endpoints`.
    pub name: String,
    /// Its VLANs.
    pub vlan: PortVlan,
}

/// A learning switch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BridgeConfig {
    /// Its ports, in the order of their numbers.
    pub ports: Vec<BridgePort>,
    /// Entries of the FDB.
    pub fdb_capacity: u32,
    /// Seconds until an entry that was not seen again is forgotten.
    pub aging_secs: u32,
}

/// An interface of a router.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouterInterface {
    /// Its name in `endpoints`.
    pub name: String,
    /// Its MAC; `None` derives one from the installation's secret.
    pub mac: Option<Mac>,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Largest IP packet, in octets.
    pub mtu: u32,
}

/// A static route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub to: IpNet,
    /// The next router.
    pub via: IpAddr,
}

/// A router.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouterConfig {
    /// Its interfaces, in the order of their port numbers.
    pub interfaces: Vec<RouterInterface>,
    /// Its static routes.
    pub routes: Vec<Route>,
    /// Vendor of derived MACs.
    pub oui: [u8; 3],
    /// Neighbors it remembers.
    pub neighbor_capacity: u32,
}

/// Addresses that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddrRange {
    /// The first.
    pub first: IpAddr,
    /// The last, of the same family.
    pub last: IpAddr,
}

/// How the MACs of a population are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MacMode {
    /// One for each host.
    #[default]
    PerHost,
    /// One for the whole node, as clouds need it.
    Shared,
}

/// The network as its hosts are configured for it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Segment {
    /// On-link prefixes.
    pub prefixes: Vec<IpNet>,
    /// Default gateways (at most one of each family).
    pub gateways: Vec<IpAddr>,
}

/// Emulated hosts that share a segment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostsConfig {
    /// The addresses, sorted and free of overlap.
    pub ranges: Vec<AddrRange>,
    /// All addresses belong to one host (`kind: host` and `container`).
    pub single: bool,
    /// Host name of a single host, or what the names of a population's hosts begin with; `None` is `host`.
    pub hostname: Option<String>,
    /// Index into `templates` and weight. Which host gets which is a keyed function of its address.
    pub mix: Vec<(u16, u32)>,
    /// The templates that hosts of this node have.
    pub templates: Vec<Template>,
    /// The services that those templates name.
    pub services: Vec<Service>,
    /// How MACs are made.
    pub mac_mode: MacMode,
    /// The MAC of a single host, if the topology fixes it.
    pub mac: Option<Mac>,
    /// The network around them.
    pub segment: Segment,
    /// How its addresses are claimed; `None` if they are its own from the start.
    pub claim: Option<Box<ClaimConfig>>,
    /// How many hosts lease their addresses, which are in no range then; `None` if none do.
    pub dhcp: Option<Box<DhcpConfig>>,
    /// Every prefix of the honeynet: what is outside of them is subject to a container's outward policy.
    pub inside: Vec<IpNet>,
    /// How long emulated services take to answer.
    pub response_time: ResponseTime,
    /// Bounds of its tables.
    pub limits: Limits,
}

impl HostsConfig {
    /// The port that faces the fabric.
    pub const LAN: PortNo = PortNo(0);
}

/// How long an emulated service takes before it says something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResponseTime {
    /// As long as the honeynet's containers take at the same port, or as long as such servers usually take.
    #[default]
    Auto,
    /// None at all.
    None,
}

/// When a population takes an address that nobody answers for, and when it lets go of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClaimConfig {
    /// Requests that have to stay unanswered: 1 to [`ClaimConfig::MOST_REQUESTS`].
    pub after: u8,
    /// Seconds within which they have to come.
    pub within_secs: u32,
    /// Whether the node asks for the address itself before it takes it.
    pub probe: bool,
    /// Addresses that are claimed at once.
    pub limit: u32,
    /// Seconds without a frame until an address is let go; 0 never.
    pub release_secs: u32,
    /// The machine's own addresses, whose answers the uplink does not hear. Known when the honeynet is brought up.
    pub machine: Vec<IpAddr>,
}

impl ClaimConfig {
    /// Most requests that may be waited for.
    pub const MOST_REQUESTS: u8 = 8;
    /// Most addresses that may be claimed at once.
    pub const MOST_ADDRESSES: u32 = 65_536;
}

impl Default for ClaimConfig {
    fn default() -> ClaimConfig {
        ClaimConfig { after: 3, within_secs: 10, probe: true, limit: 4096, release_secs: 600, machine: Vec::new() }
    }
}

/// Hosts that lease their addresses from the segment's DHCP server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DhcpConfig {
    /// How many there are: at most `limit`.
    pub hosts: u16,
    /// Addresses that a server's pool may be short of because of them: 1 to [`DhcpConfig::MOST`].
    pub limit: u16,
    /// The servers that are believed; empty for all.
    pub servers: Vec<Ipv4Addr>,
    /// The machine's own addresses, whose answers the uplink does not hear. Known when the honeynet is brought up.
    pub machine: Vec<IpAddr>,
}

impl DhcpConfig {
    /// Most addresses that a node may lease.
    pub const MOST: u16 = 256;
    /// How many it may lease unless the topology says otherwise.
    pub const LIMIT: u16 = 16;
}

/// Bounds of a population's tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Sessions (an attacker and a host) that are remembered.
    pub sessions: u32,
    /// Seconds without a frame until a session ends.
    pub session_idle_secs: u32,
    /// Half-open connections.
    pub half_open: u32,
    /// Open connections.
    pub flows: u32,
    /// Containers at once.
    pub containers: u32,
    /// Containers at once that were started for one source: an IPv4 address, or an IPv6 /64.
    pub containers_per_source: u32,
    /// MiB that all connections together may buffer.
    pub buffers: u32,
    /// Hosts that say something by themselves.
    pub talkers: u32,
}

impl Limits {
    /// What is left for each of `shards` shards. Containers are counted by all of them together.
    pub fn share_of(self, shards: u16) -> Limits {
        let share = |limit: u32| limit.div_ceil(u32::from(shards).max(1));
        Limits {
            sessions: share(self.sessions),
            half_open: share(self.half_open),
            flows: share(self.flows),
            buffers: share(self.buffers),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            sessions: 262_144,
            session_idle_secs: 300,
            half_open: 1_048_576,
            flows: 131_072,
            containers: 64,
            containers_per_source: 16,
            buffers: 256,
            talkers: 256,
        }
    }
}

/// What a link does to frames, in one direction or both.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LinkConfig {
    /// Microseconds that every frame takes.
    pub delay_us: u32,
    /// Microseconds by which that varies to both sides, evenly distributed.
    pub jitter_us: u32,
    /// Share of frames lost, 0 to 1.
    pub loss: f64,
    /// Octets a second; 0 without limit.
    pub rate_bytes: u64,
    /// Frames that may wait; 0 stands for 1,000.
    pub queue: u32,
}

impl LinkConfig {
    /// Whether frames cross it at once and all.
    pub fn is_ideal(&self) -> bool {
        self.delay_us == 0 && self.jitter_us == 0 && self.loss == 0.0 && self.rate_bytes == 0
    }
}
