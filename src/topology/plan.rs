//! The resolved meaning of a topology: what the processes are started with.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::ImageConfig;
use crate::container::inspector::Limits;
use crate::frame::PortNo;
use crate::node::{LinkConfig, NodeConfig, NodeIdx, TapIo};
use crate::record::CaptureLimits;
use crate::record::privacy::Privacy;
use crate::record::sink::SinkConfig;
use crate::service::{Proxy, Script};

/// A node of a plan.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PlanNode {
    /// Its name in the topology.
    pub name: String,
    /// Its configuration.
    pub config: NodeConfig,
}

/// A link of a plan.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PlanLink {
    /// One end.
    pub a: (NodeIdx, PortNo),
    /// The other end.
    pub b: (NodeIdx, PortNo),
    /// What it does to frames, in both directions.
    pub config: LinkConfig,
}

/// A checked topology.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the honeynet.
    pub name: String,
    /// Nodes; a [`NodeIdx`] is an index into this.
    pub nodes: Vec<PlanNode>,
    /// How frames of TAPs are read and written.
    pub tap_io: TapIo,
    /// Links.
    pub links: Vec<PlanLink>,
    /// Images that templates name.
    pub images: Vec<ImageConfig>,
    /// How much evidence is kept, and for how long.
    pub evidence: Limits,
    /// For how long what was recorded is kept, and what is left out of it.
    pub privacy: Privacy,
    /// Who is sent what happened.
    pub sinks: Vec<SinkConfig>,
    /// How much is kept of frames.
    pub captures: CaptureLimits,
    /// The file that a sensor writes its alerts to.
    pub eve: Option<PathBuf>,
    /// Scripts that services name.
    pub scripts: Vec<Script>,
    /// Proxies that services name.
    pub proxies: Vec<Proxy>,
}

impl Plan {
    /// Addresses of its hosts and routers, from the first to the last of each range.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        self.nodes.iter().flat_map(|node| node.config.addresses())
    }

    /// What the topology calls a node.
    pub fn name_of(&self, node: NodeIdx) -> Option<&str> {
        self.nodes.get(usize::from(node.0)).map(|node| &*node.name)
    }
}

impl PlanNode {
    /// How many hosts it has: 0 for anything but hosts.
    pub fn host_count(&self) -> u64 {
        let number = |ip: std::net::IpAddr| match ip {
            std::net::IpAddr::V4(v4) => u128::from(u32::from(v4)),
            std::net::IpAddr::V6(v6) => u128::from(v6),
        };
        match &self.config {
            NodeConfig::Hosts(hosts) if hosts.single => 1,
            NodeConfig::Hosts(hosts) => {
                let count: u128 = hosts.ranges.iter().map(|range| number(range.last) - number(range.first) + 1).sum();
                let leased = hosts.dhcp.as_ref().map_or(0, |dhcp| u64::from(dhcp.hosts));
                u64::try_from(count).unwrap_or(u64::MAX).saturating_add(leased)
            }
            _ => 0,
        }
    }
}
