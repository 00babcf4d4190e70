//! The resolved meaning of a topology: what the processes are started with.

use serde::{Deserialize, Serialize};

use crate::container::ImageConfig;
use crate::frame::PortNo;
use crate::node::{LinkConfig, NodeConfig, NodeIdx};
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
    /// Links.
    pub links: Vec<PlanLink>,
    /// Images that templates name.
    pub images: Vec<ImageConfig>,
    /// Scripts that services name.
    pub scripts: Vec<Script>,
    /// Proxies that services name.
    pub proxies: Vec<Proxy>,
}
