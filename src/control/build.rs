//! From a plan to a fabric.

use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;

use siphasher::sip::SipHasher13;

use crate::emulate::{Identity, Secret, WallClock};
use crate::event::Sink;
use crate::fabric::{Build, Fabric, Lanes, lanes};
use crate::node::{Bridge, Hosts, Meter, Mirror, Node, NodeConfig, NodeIdx, Router, Tap, Together, Uplink};
use crate::topology::{Plan, PlanNode};

/// The fabric of `plan`: its nodes and links, without devices. Its hosts have
/// their identities from `secret`; `seed` decides what is left to chance. The monotonic clock has begun with 1970.
pub fn build_fabric(plan: &Plan, secret: Secret, seed: u64, sink: Box<dyn Sink + Send>) -> Fabric {
    build_shard(plan, secret, seed, sink, &Common::of(plan, seed, WallClock::default(), 1))
}

/// The same in several shards, each with a sink of its own, and with the time of day.
pub fn build_fabrics(
    plan: &Plan,
    secret: Secret,
    seed: u64,
    wall: WallClock,
    sinks: Vec<Box<dyn Sink + Send>>,
) -> Vec<Fabric> {
    let count = sinks.len() as u16;
    let common = Common::of(plan, seed, wall, count);
    let build = |(sink, lanes): (Box<dyn Sink + Send>, Lanes)| {
        // No two may draw the same numbers for sessions and leases.
        let seed = seed ^ mix(u64::from(u32::MAX) + u64::from(lanes.shard().index));
        let mut fabric = build_shard(plan, secret, seed, sink, &common);
        fabric.join(lanes);
        fabric
    };
    sinks.into_iter().zip(lanes(count)).map(build).collect()
}

fn build_shard(plan: &Plan, secret: Secret, seed: u64, sink: Box<dyn Sink + Send>, common: &[Common]) -> Fabric {
    let mut fabric = Fabric::new(sink, seed, Arc::new(()));
    for (index, (node, common)) in plan.nodes.iter().zip(common).enumerate() {
        let ports = match &node.config {
            NodeConfig::Uplink(_) | NodeConfig::Tap(_) | NodeConfig::Mirror(_) => 2,
            NodeConfig::Bridge(config) => config.ports.len(),
            NodeConfig::Router(config) => config.interfaces.len(),
            NodeConfig::Hosts(_) => 1,
        };
        fabric.add(&node.name, ports, build_node(node.clone(), secret, seed ^ mix(index as u64), common.clone()));
    }
    for link in &plan.links {
        fabric.link(link.a, link.b, link.config);
    }
    for (index, node) in plan.nodes.iter().enumerate() {
        if let NodeConfig::Mirror(config) = &node.config {
            fabric.mirror(NodeIdx(index as u16), &config.of);
        }
    }
    fabric
}

/// What the replicas of one node have in common, and some of it with those of others.
#[derive(Clone)]
struct Common {
    ip_id: Arc<AtomicU16>,
    meter: Arc<Meter>,
    together: Together,
}

impl Common {
    fn of(plan: &Plan, seed: u64, wall: WallClock, shards: u16) -> Vec<Common> {
        let pace = Arc::default();
        let of = |index: u64| Common {
            // A router that counts from zero has just been started.
            ip_id: Arc::new(AtomicU16::new((seed ^ mix(index)) as u16)),
            meter: Arc::default(),
            together: Together { replicas: shards, wall, pace: Arc::clone(&pace), ..Together::default() },
        };
        (0..plan.nodes.len() as u64).map(of).collect()
    }
}

/// Makes one of a node's replicas, as often as it is asked to.
fn build_node(mut node: PlanNode, secret: Secret, seed: u64, common: Common) -> Build {
    let identity = Identity::new(secret, &node.name);
    if let NodeConfig::Hosts(hosts) = &mut node.config {
        hosts.limits = hosts.limits.share_of(common.together.replicas);
    }
    Box::new(move || -> Box<dyn Node> {
        match &node.config {
            NodeConfig::Uplink(config) => Box::new(Uplink::replica(config.clone(), seed, common.meter.clone())),
            NodeConfig::Tap(_) => Box::new(Tap),
            NodeConfig::Mirror(_) => Box::new(Mirror),
            NodeConfig::Bridge(config) => Box::new(Bridge::new(config.clone(), seed)),
            NodeConfig::Router(config) => {
                Box::new(Router::replica(config.clone(), identity.clone(), seed, common.ip_id.clone()))
            }
            NodeConfig::Hosts(config) => {
                Box::new(Hosts::replica(config.clone(), identity.clone(), seed, common.together.clone()))
            }
        }
    })
}

/// Tells the seeds of nodes apart.
fn mix(index: u64) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write_u64(index);
    hasher.finish()
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
