//! From a plan to a fabric.

use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use crate::emulate::{Identity, Secret};
use crate::event::Sink;
use crate::fabric::{Build, Fabric};
use crate::node::{Bridge, Hosts, Node, NodeConfig, Router, Tap, Uplink};
use crate::topology::{Plan, PlanNode};

/// The fabric of `plan`: its nodes and links, without devices. Its hosts have
/// their identities from `secret`; `seed` decides what is left to chance.
pub fn build_fabric(plan: &Plan, secret: Secret, seed: u64, sink: Box<dyn Sink + Send>) -> Fabric {
    let mut fabric = Fabric::new(sink, seed, Arc::new(()));
    for (index, node) in plan.nodes.iter().enumerate() {
        let ports = match &node.config {
            NodeConfig::Uplink(_) | NodeConfig::Tap(_) => 2,
            NodeConfig::Bridge(config) => config.ports.len(),
            NodeConfig::Router(config) => config.interfaces.len(),
            NodeConfig::Hosts(_) => 1,
        };
        fabric.add(&node.name, ports, build_node(node.clone(), secret, seed ^ mix(index as u64)));
    }
    for link in &plan.links {
        fabric.link(link.a, link.b, link.config);
    }
    fabric
}

/// Makes one node, as often as it is asked to.
pub fn build_node(node: PlanNode, secret: Secret, seed: u64) -> Build {
    let identity = Identity::new(secret, &node.name);
    Box::new(move || -> Box<dyn Node> {
        match &node.config {
            NodeConfig::Uplink(config) => Box::new(Uplink::new(config.clone(), seed)),
            NodeConfig::Tap(_) => Box::new(Tap),
            NodeConfig::Bridge(config) => Box::new(Bridge::new(config.clone(), seed)),
            NodeConfig::Router(config) => Box::new(Router::new(config.clone(), identity.clone(), seed)),
            NodeConfig::Hosts(config) => Box::new(Hosts::new(config.clone(), identity.clone(), seed)),
        }
    })
}

/// Tells the seeds of nodes apart.
fn mix(index: u64) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write_u64(index);
    hasher.finish()
}
