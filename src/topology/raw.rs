//! What was typed: the YAML's shape and nothing of its meaning. The JSON Schema
//! is made from these types; their comments are what an editor shows.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::{At, Map, Text, Texts};
use super::captures::CaptureKeys;
use super::evidence::EvidenceKeys;
use super::outward::OutwardEntry;
use super::privacy::PrivacyKeys;
pub use super::raw_ports::Ports;
use super::sinks::SinkKeys;
use super::source::Span;
use crate::emulate::{Grant, Splicing, StartPolicy};
use crate::node::{Guarded, ResponseTime, TapIo, UplinkIo};

/// Declares a mapping all of whose keys are optional, with the list of its keys
/// and what merging needs.
macro_rules! mapping {
    ($(#[$meta:meta])* struct $name:ident { $( $(#[$doc:meta])* $field:ident: $type:ty, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $( $(#[$doc])* pub $field: Option<At<$type>>, )* }

        #[allow(dead_code)]
        impl $name {
            /// Its keys.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($field)),*];

            /// The keys that are there, each with the place of its value.
            pub fn present(&self) -> Vec<(&'static str, Span)> {
                let mut keys = Vec::new();
                $( if let Some(value) = &self.$field { keys.push((stringify!($field), value.span)); } )*
                keys
            }

            /// Itself, with what is missing taken from `other`.
            pub fn or(self, other: &Self) -> Self {
                Self { $( $field: self.$field.or_else(|| other.$field.clone()), )* }
            }
        }
    };
}

/// Adds the keys of a template to a mapping.
macro_rules! with_template_keys {
    ($(#[$meta:meta])* struct $name:ident { $($own:tt)* }) => {
        mapping! {
            $(#[$meta])*
            struct $name {
                $($own)*
                /// How the operating system behaves on the network: `linux` (default), `linux-2.6`, `android`, `windows`, `windows-7`, `windows-xp`, `macos`, `freebsd`, `openbsd`, `cisco-ios`, `printer`, `plc`, or a name of the nmap-os-db.
                personality: Text,
                /// Vendor of MACs: a name such as `dell` or `Arris Group`, or three octets such as `00:0c:29`.
                vendor: Text,
                /// Whether echo requests are answered (default true).
                ping: bool,
                /// TCP ports (or ranges such as `8000-8010`) that are not like `tcp_default`.
                tcp: Map<At<TcpEntry>>,
                /// All other TCP ports (default `closed`).
                tcp_default: PortDefault,
                /// UDP ports (or ranges) that are not like `udp_default`.
                udp: Map<At<UdpEntry>>,
                /// All other UDP ports (default `closed`).
                udp_default: PortDefault,
                /// The container behind a host.
                backend: Backend,
                /// What becomes of what a container sends to addresses outside the honeynet (default `reflect`).
                outward: OutwardEntry,
                /// What differs by who asks, and when: the first case that applies counts.
                when: Vec<At<CaseKeys>>,
                /// What of a container's own habits is replaced by the host's: TTL, options, identification, TOS and timestamps unless it is said, and banners.
                normalize: NormalizeKeys,
                /// What hosts say by themselves: `none` (default), `auto` (what their system says), or a list of `arp`, `mdns`, `llmnr`, `netbios`, `ssdp`, `ipv6`.
                talk: Texts,
            }
        }

        impl $name {
            /// Only the keys of a template.
            pub fn template_keys(&self) -> TemplateKeys<'_> {
                TemplateKeys {
                    personality: self.personality.as_ref(),
                    vendor: self.vendor.as_ref(),
                    ping: self.ping.as_ref(),
                    tcp: self.tcp.as_ref(),
                    tcp_default: self.tcp_default.as_ref(),
                    udp: self.udp.as_ref(),
                    udp_default: self.udp_default.as_ref(),
                    backend: self.backend.as_ref(),
                    outward: self.outward.as_ref(),
                    when: self.when.as_ref(),
                    normalize: self.normalize.as_ref(),
                    talk: self.talk.as_ref(),
                }
            }
        }
    };
}

/// The keys of a template, wherever they are written.
pub struct TemplateKeys<'a> {
    pub personality: Option<&'a At<Text>>,
    pub vendor: Option<&'a At<Text>>,
    pub ping: Option<&'a At<bool>>,
    pub tcp: Option<&'a At<Map<At<TcpEntry>>>>,
    pub tcp_default: Option<&'a At<PortDefault>>,
    pub udp: Option<&'a At<Map<At<UdpEntry>>>>,
    pub udp_default: Option<&'a At<PortDefault>>,
    pub backend: Option<&'a At<Backend>>,
    pub outward: Option<&'a At<OutwardEntry>>,
    pub when: Option<&'a At<Vec<At<CaseKeys>>>>,
    pub normalize: Option<&'a At<NormalizeKeys>>,
    pub talk: Option<&'a At<Texts>>,
}

/// A honeyweave topology.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Topology")]
pub struct Topology {
    /// Name of the honeynet (default: the file's name): lower-case letters, digits and `-`.
    pub name: Option<At<Text>>,
    /// How frames of TAPs, those of containers included, are read and written: `auto` (default), `plain`.
    pub tap_io: Option<At<TapIo>>,
    /// Values for all nodes, unless their kind, template or they themselves have others.
    pub defaults: Option<At<Node>>,
    /// Values for all nodes of a kind.
    pub kinds: Option<At<Kinds>>,
    /// Kinds of hosts, by name.
    pub templates: Option<Map<At<Template>>>,
    /// What containers start from, by name; `small`, `weak`, `debian`, `file`, `mail`, `database` and `workstation` are there without being written.
    pub images: Option<Map<At<Image>>>,
    /// How much is kept of what intruders change in containers, and for how long.
    pub evidence: Option<At<EvidenceKeys>>,
    /// For how long what was recorded is kept, and what is left out of it.
    pub privacy: Option<At<PrivacyKeys>>,
    /// Who is sent what happened, by name.
    pub sinks: Option<Map<At<SinkKeys>>>,
    /// How much is kept of captured frames.
    pub captures: Option<At<CaptureKeys>>,
    /// What a sensor that listens to a mirror tells.
    pub ids: Option<At<IdsKeys>>,
    /// The nodes, by name.
    pub nodes: At<Map<At<Node>>>,
    /// What connects them.
    pub links: Option<Vec<At<Link>>>,
}

/// The kinds of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A real interface of this machine.
    Uplink,
    /// A TAP for a virtual machine, a network namespace, or anything else of the user's.
    Tap,
    /// A TAP on which sensors listen: it is given copies of frames.
    Mirror,
    /// A learning switch.
    Switch,
    /// A router.
    Router,
    /// A population of hosts.
    Hosts,
    /// One emulated host.
    Host,
    /// One host that is a container.
    Container,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] =
        [Kind::Uplink, Kind::Tap, Kind::Mirror, Kind::Switch, Kind::Router, Kind::Hosts, Kind::Host, Kind::Container];

    /// Its name in a topology.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Uplink => "uplink",
            Kind::Tap => "tap",
            Kind::Mirror => "mirror",
            Kind::Switch => "switch",
            Kind::Router => "router",
            Kind::Hosts => "hosts",
            Kind::Host => "host",
            Kind::Container => "container",
        }
    }
}

mapping! {
    /// Values for all nodes of a kind.
    struct Kinds {
        /// For all uplinks.
        uplink: Node,
        /// For all TAPs.
        tap: Node,
        /// For all mirrors.
        mirror: Node,
        /// For all switches.
        switch: Node,
        /// For all routers.
        router: Node,
        /// For all populations.
        hosts: Node,
        /// For all single hosts.
        host: Node,
        /// For all containers.
        container: Node,
    }
}

impl Kinds {
    /// The values of one kind.
    pub fn get(&self, kind: Kind) -> Option<&At<Node>> {
        match kind {
            Kind::Uplink => self.uplink.as_ref(),
            Kind::Tap => self.tap.as_ref(),
            Kind::Mirror => self.mirror.as_ref(),
            Kind::Switch => self.switch.as_ref(),
            Kind::Router => self.router.as_ref(),
            Kind::Hosts => self.hosts.as_ref(),
            Kind::Host => self.host.as_ref(),
            Kind::Container => self.container.as_ref(),
        }
    }
}

with_template_keys! {
    /// A node. Which keys it may have depends on its kind; the keys of a template are for `hosts`, `host` and `container`.
    struct Node {
        /// What it is.
        kind: Kind,
        /// The template of its hosts (`hosts`, `host`, `container`).
        template: Text,
        /// The interface's name on this machine: of one that is there (`uplink`; `up --uplink` has precedence), or of one to be made (`tap`, `mirror`).
        interface: Text,
        /// Whose frames it is given copies of: nodes, or single ports such as `core:1`, in both directions (`mirror`).
        of: Texts,
        /// Whether its frames are recorded (`tap`; default true).
        capture: bool,
        /// What the uplink guard lets out although it keeps it inside by default (`uplink`).
        allow: Vec<Guarded>,
        /// Source MACs that may appear on the wire (`uplink`; default 256).
        mac_limit: u32,
        /// What may leave by the interface, such as `100mbit` (`uplink`; default no limit).
        rate: Text,
        /// Whether it may share a broadcast domain with another uplink (`uplink`; default false).
        transit: bool,
        /// How frames are received: `auto` (default), `packet`, `xdp` (`uplink`).
        io: UplinkIo,
        /// Frames that may wait to be received by AF_XDP: 1024 to 32768, a power of two (`uplink`; default 4096).
        ring: u32,
        /// Ports: their number, or a mapping of names to VLANs (`switch`; default 8).
        ports: Ports,
        /// Entries of the MAC table (`switch`; default 8192).
        fdb_capacity: u32,
        /// Time until an entry of the MAC table that was not seen again is forgotten (`switch`; default 5m).
        aging: Text,
        /// Interfaces by name: addresses with their prefix lengths (`router`).
        interfaces: Map<At<Interface>>,
        /// Static routes (`router`).
        routes: Vec<At<Route>>,
        /// Neighbors that are remembered (`router`; default 4096).
        neighbor_capacity: u32,
        /// Addresses of the hosts: prefixes, ranges such as `10.0.0.10-10.0.0.200`, single ones (`hosts`).
        addresses: Texts,
        /// Addresses that are left out, written like `addresses` (`hosts`).
        except: Texts,
        /// Takes only those of its addresses that nobody answers for (`hosts`; default: it has all of them from the start).
        claim: Claim,
        /// Hosts that lease their addresses from the segment's DHCP server, instead of `addresses` (`hosts`).
        dhcp: Dhcp,
        /// Templates and their weights (`hosts`), instead of `template`.
        mix: Map<At<u32>>,
        /// `per-host` (default) or `shared` (`hosts`); an address such as `00:0c:29:aa:00:11` (`host`, `container`).
        mac: Text,
        /// Bounds of the tables (`hosts`, `host`, `container`).
        limits: Limits,
        /// How long emulated services take to answer: `auto` (default) or `none` (`hosts`, `host`, `container`).
        response_time: ResponseTime,
        /// Default gateways (`hosts`, `host`, `container`; default: the router of the segment).
        gateway: Texts,
        /// On-link prefixes (`hosts`, `host`, `container`; default: those of the segment's router).
        prefix: Texts,
        /// The address, or several (`host`, `container`).
        address: Texts,
        /// Host name (`host`, `container`; default: the node's name).
        hostname: Text,
    }
}

with_template_keys! {
    /// A kind of host.
    struct Template {}
}

mapping! {
    /// What a sensor that listens to a mirror tells.
    struct IdsKeys {
        /// The file that Suricata writes its alerts to (`eve-log`), by its whole path: they become events of their sessions.
        eve: Text,
    }
}

mapping! {
    /// A port of a switch: access VLAN 1 if nothing is said.
    struct Port {
        /// Untagged frames of this VLAN.
        access: u32,
        /// Tagged frames of these VLANs; ranges such as `20-29` are welcome.
        trunk: Vec<At<Text>>,
        /// The VLAN of untagged frames on a trunk.
        native: u32,
    }
}

/// A link between two ports.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The two ends, `node:port` each; the port may be left out where a node has only one.
    pub endpoints: At<Vec<At<Text>>>,
    /// Time that every frame takes in either direction, such as `10ms`.
    pub delay: Option<At<Text>>,
    /// By how much `delay` varies to both sides, such as `2ms`.
    pub jitter: Option<At<Text>>,
    /// Share of frames lost in either direction, such as `1%`.
    pub loss: Option<At<Text>>,
    /// What passes in either direction, such as `100mbit`.
    pub rate: Option<At<Text>>,
    /// Frames that may wait (default 1000).
    pub queue: Option<At<u32>>,
}

mapping! {
    /// Bounds of the tables of a node's hosts.
    struct Limits {
        /// Sessions (an attacker and a host) that are remembered (default 262144).
        sessions: u32,
        /// Time without a frame until a session ends (default 5m).
        session_idle: Text,
        /// Half-open connections (default 1048576).
        half_open: u32,
        /// Open connections (default 131072).
        flows: u32,
        /// Containers at once (default 64).
        containers: u32,
        /// Containers at once that were started for one source (default: a quarter of `containers`, but not less than 8).
        containers_per_source: u32,
        /// MiB that all connections together may buffer (default 256).
        buffers: u32,
        /// Hosts that say something by themselves (default 256).
        talkers: u32,
    }
}

mapping! {
    /// When a population takes an address that nobody answers for, and when it lets go of it.
    struct Claim {
        /// Requests that have to stay unanswered, 1 to 8 (default 3).
        after: u32,
        /// Time within which they have to come (default 10s).
        within: Text,
        /// Whether the population asks for the address itself before it takes it (default true).
        probe: bool,
        /// Addresses that are claimed at once (default 4096).
        limit: u32,
        /// Time without a frame until an address is let go (default 10m); 0 never.
        release: Text,
    }
}

mapping! {
    /// Hosts that lease their addresses from the segment's DHCP server.
    struct Dhcp {
        /// How many there are, at most `limit`.
        hosts: u32,
        /// Addresses that the server's pool may be short of because of them, declined ones included: 1 to 256 (default 16).
        limit: u32,
        /// The server, or several, if not any is to be believed.
        server: Texts,
    }
}

mapping! {
    /// The container behind a host.
    struct Backend {
        /// The image that it starts from.
        image: Text,
        /// What was captured of a container (`image capture`), to start from that: needs no entry in `images`.
        clone: Text,
        /// Whether its files are made when the honeynet starts, so that only the start is left to wait for (default false).
        predefined: bool,
        /// Who shares it: all who come to the host (`per-host`, default); nobody, each attacker has one (`per-attacker`).
        grant: Grant,
        /// `on-access` (default): started by the first attacker who completes a handshake; or `with-system`.
        start: StartPolicy,
        /// Time without a frame, a connection or work to do until its processes are frozen (default 2m); 0 never. They go on
        /// with the next frame for it.
        freeze: Text,
        /// Time without a connection until it is stopped (default 10m); 0 never. Its files stay.
        idle: Text,
        /// Time until the files of a stopped one are destroyed (default 24h). Who comes before that finds the same machine.
        destroy: Text,
        /// Whether open connections pass through to its own TCP: `auto` (default: where the personality is `linux`), `always`, `never`.
        splice: Splicing,
        /// What it may use.
        limits: BackendLimits,
        /// The machine that it passes for.
        hardware: BackendHardware,
        /// Whether nothing inside gains rights by executing something: then `su`, `sudo` and the like do not work (default false).
        no_new_privs: bool,
    }
}

mapping! {
    /// What containers start from.
    struct Image {
        /// What is built: a built-in recipe such as `small` or `debian`, a recipe's folder (`./NAME`), or `imported`.
        recipe: Text,
        /// Debian packages besides the recipe's.
        packages: Vec<At<Text>>,
        /// Accounts besides the recipe's.
        users: Vec<At<User>>,
        /// Containers of it that are kept started and frozen, so that a host comes to life at once: 0 (default) to 64.
        pool: u32,
    }
}

/// An account inside an image.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Log-in name; `root` sets root's password.
    pub name: At<Text>,
    /// Password in clear: it is there to be guessed.
    pub password: At<Text>,
}

pub use super::backend_limits::{BackendHardware, BackendLimits};
pub use super::cases::CaseKeys;
pub use super::normalize::NormalizeKeys;
pub use super::raw_router::{Interface, Route};
pub use super::raw_services::{PortDefault, TcpEntry, UdpEntry};
pub(super) use mapping;
