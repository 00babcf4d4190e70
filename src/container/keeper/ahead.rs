//! Containers that are made before anybody comes (`predefined`): disk, overlay and identity of these hosts are there when the
//! first attacker is, so that he waits for nothing but the start. Where each attacker has one of his own, a clean one is
//! always there for the next.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::kept::MOST;
use super::lease::{Container, Stage};
use super::leases::unmade;
use super::pool::PAUSE;
use super::process::Keeper;
use super::{host, settings};
use crate::container::KeeperConfig;
use crate::emulate::{Backend, Grant, Identity};
use crate::node::{HostsConfig, NodeConfig, NodeIdx};

/// Until when files are kept that nobody had yet.
pub const NEVER: i64 = i64::MAX;
/// Addresses of a node that are looked at.
const LOOKED_AT: usize = 65_536;

/// The hosts of a honeynet whose containers are made ahead: of each node as many as may have one at once.
pub fn wanted(config: &KeeperConfig) -> VecDeque<(NodeIdx, IpAddr)> {
    let mut all = VecDeque::new();
    for (index, (name, node)) in config.nodes.iter().enumerate() {
        let NodeConfig::Hosts(hosts) = node else { continue };
        if !hosts.templates.iter().any(|template| template.backend.as_ref().is_some_and(|b| b.predefined)) {
            continue;
        }
        let identity = Identity::new(config.secret, name);
        let own = addresses(hosts).filter(|ip| is_predefined(hosts, &identity, *ip));
        all.extend(own.take(hosts.limits.containers as usize).map(|ip| (NodeIdx(index as u16), ip)));
    }
    all.truncate(MOST);
    all
}

/// The addresses of a node, or the first of very many.
pub fn addresses(hosts: &HostsConfig) -> impl Iterator<Item = IpAddr> + '_ {
    let most = if hosts.single { 1 } else { LOOKED_AT };
    hosts.ranges.iter().flat_map(|range| range.addresses()).take(most)
}

fn is_predefined(hosts: &HostsConfig, identity: &Identity, ip: IpAddr) -> bool {
    let backend = hosts.template_of(identity, ip).and_then(|(_, template)| template.backend.as_ref());
    backend.is_some_and(|backend: &Backend| backend.predefined)
}

impl Container {
    /// Whether its files are there, and nobody had it yet.
    pub fn is_unused(&self) -> bool {
        matches!(self.stage, Stage::Kept { until: NEVER })
    }
}

impl Keeper {
    /// Makes the next one that is to be made ahead, unless somebody waits. Returns when to look again.
    pub(super) fn make_ahead(&mut self, now: i64) -> i64 {
        if self.ahead.is_empty() || !self.greeted || self.ending.is_some() {
            return i64::MAX;
        }
        let is_starting = |container: &Container| matches!(container.stage, Stage::Queued(_) | Stage::Starting(_));
        if self.containers.values().any(is_starting) {
            // The end of a start wakes the keeper.
            return i64::MAX;
        }
        if self.last_lease > 0 && now < self.last_lease + PAUSE {
            return self.last_lease + PAUSE;
        }
        let Some(of) = self.ahead.pop_front() else { return i64::MAX };
        if let Err(why) = self.make_for(of) {
            // What is in the way of this one is in the way of the others, too.
            let left = self.ahead.len() + 1;
            tracing::warn!(host = %of.1, why, left, "containers are made only when somebody comes to their hosts");
            self.ahead.clear();
        }
        now
    }

    /// The files of a container that was made ahead were taken or are gone: others take their place, where they are wanted.
    pub(super) fn make_again(&mut self, of: (NodeIdx, IpAddr)) {
        let found = host::find(&self.config, of.0, of.1);
        let wanted = found.is_ok_and(|host| host.template.backend.as_ref().is_some_and(|backend| backend.predefined));
        if wanted && self.ending.is_none() && !self.ahead.contains(&of) {
            self.ahead.push_back(of);
        }
    }

    fn make_for(&mut self, (node, ip): (NodeIdx, IpAddr)) -> Result<(), String> {
        let host = host::find(&self.config, node, ip)?;
        let Some(backend) = &host.template.backend else { return Ok(()) };
        let each = backend.grant == Grant::PerAttacker;
        let is_there =
            |container: &Container| container.host == Some((node, host.ip)) && (!each || container.is_unused());
        if self.containers.values().any(is_there) {
            return Ok(());
        }
        let (image, limit) = (host.image(&self.config)?, backend.limits.disk);
        // Its files are to stay while they are made ready.
        let _held = image.hold().map_err(|error| error.to_string())?;
        let place = self.new_place();
        self.check_ways(&place, &image)?;
        let size = self.grant(limit)?;
        let host = self.search.with_key(host::find(&self.config, node, ip)?);
        let disk = (&mut self.disks, size);
        settings::prepare(Some(&host), image.manifest.host_key, &place, &image.rootfs(), disk)
            .map_err(|error| unmade(&place, &error))?;
        let number = place.number;
        let container = Container::new(place, size, image, Stage::Kept { until: NEVER });
        let container = container.map_err(|error| error.to_string())?;
        let ip = host.ip;
        let container = Container { host: Some((node, ip)), ..container };
        self.containers.insert(number, container);
        self.look_for_key(node, ip);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::keeper::host::tests::config;

    #[test]
    fn as_many_are_made_ahead_as_may_run() {
        let mut config = config();
        assert!(wanted(&config).is_empty(), "only where the template says so");
        for (_, node) in &mut config.nodes {
            let NodeConfig::Hosts(hosts) = node else { continue };
            hosts.templates[0].backend.as_mut().unwrap().predefined = true;
            hosts.limits.containers = 3;
        }
        let all: Vec<String> = wanted(&config).iter().map(|(node, ip)| format!("{} {ip}", node.0)).collect();
        assert_eq!(
            all,
            ["1 10.1.0.10", "1 10.1.0.11", "1 10.1.0.12", "2 10.1.0.5"],
            "a host with two addresses is one"
        );
        let NodeConfig::Hosts(hosts) = &mut config.nodes[1].1 else { panic!("hosts") };
        (hosts.limits.containers, hosts.ranges[0].first) = (4096, "10.0.0.0".parse().unwrap());
        assert_eq!(wanted(&config).len(), MOST);
    }
}
