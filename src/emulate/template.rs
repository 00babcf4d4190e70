//! What a kind of host is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Case, ContainerLimits, GateLimits, Hardware, Interned, Normalize, Says};

/// Index into the table of services that goes with a set of templates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceId(pub u16);

/// How a TCP port meets a SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TcpPort {
    /// RST.
    Closed,
    /// Silence.
    Filtered,
    /// SYN/ACK, then a window of zero that never opens.
    Tarpit,
    /// SYN/ACK; whoever completes the handshake meets the service.
    Open(ServiceId),
}

/// How a UDP port meets a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum UdpPort {
    /// ICMP port unreachable.
    Closed,
    /// Silence.
    Filtered,
    /// The service answers; one without a reply (`None`) stays silent, as most do.
    Open(Option<ServiceId>),
    /// The host's container, at the same port.
    Container,
}

/// When a host's container is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartPolicy {
    /// Started with the system.
    WithSystem,
    /// Started by the first attacker who completes a handshake.
    #[default]
    OnAccess,
}

/// Who shares the container of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// All who come to that host.
    #[default]
    PerHost,
    /// Nobody: each attacker finds a machine of his own, and finds it again.
    PerAttacker,
}

/// What becomes of traffic that a container begins towards addresses outside the honeynet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outward {
    /// An emulated host answers in the destination's place.
    #[default]
    Reflect,
    /// Discarded.
    Drop,
    /// Sent on, so many new flows at a time.
    Limit,
    /// Sent on.
    Allow,
}

/// Whether an attacker's connection into a container passes through once it is
/// open, retransmitted and slowed down as the container's Linux does it, instead of
/// being held by the emulated host at both ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Splicing {
    /// Where the host passes for a Linux system itself.
    #[default]
    Auto,
    /// Whatever the host passes for.
    Always,
    /// Nowhere.
    Never,
}

/// The container behind a host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Backend {
    /// Name of the image.
    pub image: String,
    /// When it is there.
    pub start: StartPolicy,
    /// Who shares it.
    pub grant: Grant,
    /// Whether its files are made when the honeynet starts, so that only the start is left to wait for.
    pub predefined: bool,
    /// Seconds without a frame, a connection or work to do until its processes are frozen; 0 never.
    pub freeze_secs: u32,
    /// Seconds without a connection until it is stopped, its files kept; 0 never.
    pub idle_secs: u32,
    /// Seconds until the files of a stopped one are destroyed.
    pub destroy_secs: u32,
    /// Whether connections into it pass through.
    pub splice: Splicing,
    /// What it may use.
    pub limits: ContainerLimits,
    /// The machine that it passes for.
    pub hardware: Hardware,
    /// Whether nothing inside gains rights by executing something, set-uid programs included.
    pub no_new_privs: bool,
}

/// What a kind of host is: immutable once loaded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Template {
    /// Its name in the topology.
    pub name: String,
    /// How its operating system behaves on the network.
    pub personality: Interned,
    /// First three octets of the MACs of its hosts.
    pub oui: [u8; 3],
    /// TCP ports that are not like `tcp_default`.
    pub tcp: BTreeMap<u16, TcpPort>,
    /// All other TCP ports. Never `Open`.
    pub tcp_default: TcpPort,
    /// UDP ports that are not like `udp_default`.
    pub udp: BTreeMap<u16, UdpPort>,
    /// All other UDP ports. Never `Open`.
    pub udp_default: UdpPort,
    /// What of its container's habits is replaced by its own.
    pub normalize: Normalize,
    /// Whether it answers echo requests.
    pub ping: bool,
    /// Its container, if it can have one.
    pub backend: Option<Backend>,
    /// What becomes of what the container begins.
    pub outward: Outward,
    /// How much the container may begin, and send by itself.
    pub gate: GateLimits,
    /// Whom, and when, it meets as another template does: the first case that applies counts. The
    /// templates of cases have none themselves.
    pub cases: Vec<Case>,
    /// What its hosts say by themselves.
    pub talk: Says,
}
