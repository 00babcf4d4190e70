//! What the keeper is told at its start.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::inspector::Limits;
use crate::emulate::Secret;
use crate::event::{AddressMask, Prefixes};
use crate::node::{NodeConfig, NodeIdx, TapConfig};
use crate::service::Script;

/// An image of a topology.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Its name in the topology.
    pub name: String,
    /// A built-in recipe, the absolute path of a recipe's folder, or `imported`.
    pub recipe: String,
    /// The image's hash when the topology was read, for a recipe whose files may change.
    pub hash: Option<String>,
    /// Debian packages besides the recipe's.
    pub packages: Vec<String>,
    /// Accounts besides the recipe's.
    pub users: Vec<ImageUser>,
    /// Containers of it that are kept ready.
    pub pool: u16,
}

impl ImageConfig {
    /// What `recipe` makes without any additions, under its own name.
    pub fn plain(recipe: &str) -> ImageConfig {
        ImageConfig { name: recipe.into(), recipe: recipe.into(), ..ImageConfig::default() }
    }
}

/// An account inside an image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageUser {
    /// Log-in name; `root` sets root's password.
    pub name: String,
    /// Password in clear: it is there to be guessed.
    pub password: String,
}

/// What the keeper needs of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeeperConfig {
    /// Name of the honeynet.
    pub name: String,
    /// Where images and containers live.
    pub state_dir: PathBuf,
    /// The installation's secret, for the MACs of hosts.
    pub secret: Secret,
    /// The plan's nodes, in the order of their indexes.
    pub nodes: Vec<(String, NodeConfig)>,
    /// The plan's scripts.
    pub scripts: Vec<Script>,
    /// The plan's images.
    pub images: Vec<ImageConfig>,
    /// Shards of the data plane, which share an uplink's frames.
    pub threads: u16,
    /// How much evidence is kept, and for how long.
    pub evidence: Limits,
    /// How much of an attacker's address evidence tells, if not all.
    pub truncate: Option<Prefixes>,
    /// The file that a sensor writes its alerts to.
    pub eve: Option<PathBuf>,
    /// Whether what happens inside containers is watched by their mounts, not by their cgroups.
    pub by_mounts: bool,
    /// Containers have a `/dev/log`: there is somebody who reads it.
    pub logs: bool,
}

impl KeeperConfig {
    /// Where evidence lies.
    pub fn evidence_dir(&self) -> PathBuf {
        self.state_dir.join(&self.name).join("evidence")
    }

    /// What evidence tells of addresses.
    pub fn mask(&self) -> AddressMask {
        // They would be looked through for nothing.
        let nodes = if self.truncate.is_some() { &self.nodes[..] } else { &[] };
        AddressMask::new(self.truncate, nodes.iter().flat_map(|(_, node)| node.addresses()))
    }

    /// The tap nodes, and the TAPs of mirrors.
    pub fn taps(&self) -> impl Iterator<Item = (NodeIdx, &TapConfig)> {
        self.nodes.iter().enumerate().filter_map(|(index, (_, node))| match node {
            NodeConfig::Tap(tap) => Some((NodeIdx(index as u16), tap)),
            NodeConfig::Mirror(mirror) => Some((NodeIdx(index as u16), &mirror.tap)),
            _ => None,
        })
    }
}
