//! Which hosts are attacked, and what the plan says of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::path::{Segment, Way, way};
use crate::emulate::{Identity, Secret, TcpPort, Template};
use crate::node::{AddrRange, NodeConfig, NodeIdx};
use crate::service::{Service, ServiceKind};
use crate::topology::Plan;
use crate::wire::Mac;

/// Addresses of a node that are looked at for templates of its mix.
const LOOKED_AT: u64 = 4096;
/// Open ports of a host that are attacked.
const MOST_PORTS: usize = 32;

/// One host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its kind, with what its own node says otherwise.
    pub template: Template,
    /// TCP ports that answer a SYN with SYN/ACK. Those of containers count: a SYN alone starts none.
    pub open: Vec<u16>,
    /// TCP ports that something answers at, without a container.
    pub speaking: Vec<u16>,
    /// TCP ports that are open and say nothing.
    pub silent: Vec<u16>,
    /// A TCP port that answers with RST, if there is one.
    pub closed: Option<u16>,
    /// Its MAC.
    pub mac: Option<Mac>,
    /// The way to it.
    pub way: Way,
}

impl Host {
    fn new(ip: Ipv4Addr, template: &Template, services: &[Service], mac: Option<Mac>, way: Way) -> Host {
        let (mut open, mut speaking, mut silent) = (Vec::new(), Vec::new(), Vec::new());
        for (port, act) in template.tcp.iter().filter(|(port, _)| **port > 0) {
            match act {
                TcpPort::Open(id) => match services.get(usize::from(id.0)).map(|service| &service.kind) {
                    Some(ServiceKind::Container) | None => {}
                    Some(ServiceKind::Sink) => silent.push(*port),
                    Some(_) => speaking.push(*port),
                },
                TcpPort::Tarpit => {}
                TcpPort::Closed | TcpPort::Filtered => continue,
            }
            open.push(*port);
        }
        let is_closed = |port: &u16| match template.tcp.get(port) {
            Some(act) => *act == TcpPort::Closed,
            None => template.tcp_default == TcpPort::Closed,
        };
        // Low ports first, as a scanner meets them.
        let closed = (1..=1024).chain(template.tcp.keys().copied()).find(is_closed);
        for ports in [&mut open, &mut speaking, &mut silent] {
            ports.truncate(MOST_PORTS);
        }
        Host { ip, template: template.clone(), open, speaking, silent, closed, mac, way }
    }
}

/// The hosts of a template.
#[derive(Clone, Debug)]
pub struct Group {
    /// The template's name.
    pub name: String,
    /// Its personality's name.
    pub personality: String,
    /// Those that everything is tried on.
    pub hosts: Vec<Host>,
    /// More of them, whom nobody has spoken to.
    pub fresh: Vec<Host>,
    /// Whether there are hosts that the attacker has no way to, or has no address for.
    pub unreachable: bool,
}

/// Groups by template, `wanted` hosts each and `fresh` more.
pub fn choose(plan: &Plan, secret: Secret, segments: &[Segment], wanted: usize, fresh: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (at, node) in plan.nodes.iter().enumerate() {
        let NodeConfig::Hosts(hosts) = &node.config else { continue };
        let identity = Identity::new(secret, &node.name);
        for (index, _) in &hosts.mix {
            let Some(template) = hosts.templates.get(usize::from(*index)) else { continue };
            places.entry(template.name.clone()).or_insert_with(|| {
                let personality = template.personality.get().name.clone().into_owned();
                let (name, hosts, fresh) = (template.name.clone(), Vec::new(), Vec::new());
                groups.push(Group { name, personality, hosts, fresh, unreachable: false });
                groups.len() - 1
            });
        }
        for ip in addresses(&hosts.ranges, hosts.single) {
            let Some((_, template)) = hosts.template_of(&identity, ip.into()) else { continue };
            let Some(group) = places.get(&template.name).and_then(|place| groups.get_mut(*place)) else { continue };
            let list = match (group.hosts.len() < wanted, group.fresh.len() < fresh) {
                (true, _) => &mut group.hosts,
                (false, true) => &mut group.fresh,
                (false, false) => continue,
            };
            match way(plan, segments, NodeIdx(at as u16), ip) {
                Some(way) => {
                    let mac = hosts.mac_of(&identity, ip.into());
                    list.push(Host::new(ip, template, &hosts.services, mac, way));
                }
                None => {
                    group.unreachable = true;
                    // What holds for one of a node's hosts holds for all of them.
                    break;
                }
            }
        }
        let all_v6 = hosts.ranges.iter().all(|range| range.first.is_ipv6());
        for (index, _) in hosts.mix.iter().filter(|_| all_v6) {
            let name = hosts.templates.get(usize::from(*index)).map(|template| &template.name);
            if let Some(group) = name.and_then(|name| places.get(name)).and_then(|place| groups.get_mut(*place)) {
                group.unreachable = true;
            }
        }
    }
    groups
}

/// Addresses over IPv4, from all over the ranges.
fn addresses(ranges: &[AddrRange], single: bool) -> impl Iterator<Item = Ipv4Addr> {
    let v4 = |range: &AddrRange| match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Some((u64::from(u32::from(first)), u64::from(u32::from(last)))),
        _ => None,
    };
    let ranges: Vec<(u64, u64)> = ranges.iter().filter_map(v4).collect();
    let total: u64 = ranges.iter().map(|(first, last)| last - first + 1).sum();
    let count = if single { total.min(1) } else { total.min(LOOKED_AT) };
    let step = (total / LOOKED_AT).max(1);
    (0..count).filter_map(move |number| {
        let mut left = number * step;
        for (first, last) in &ranges {
            let length = last - first + 1;
            if left < length {
                return u32::try_from(first + left).ok().map(Ipv4Addr::from);
            }
            left -= length;
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_gets_its_hosts() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/campus.yaml");
        let text = std::fs::read_to_string(path).unwrap().replace("3389: {rdp: {}}", "3389: open");
        let plan = crate::topology::parse("campus", &text).unwrap();
        let segment = Segment::of(&plan, NodeIdx(0), "eth0");
        let groups = choose(&plan, Secret([1; 16]), &[segment], 3, 5);
        assert_eq!(groups.len(), 2);
        for group in &groups {
            assert_eq!((group.hosts.len(), group.fresh.len()), (3, 5), "{}", group.name);
            assert!(group.hosts.iter().all(|host| host.way.hops.len() == 3 && host.template.name == group.name));
        }
        let workstation = groups.iter().find(|group| group.name == "workstation").unwrap();
        let host = &workstation.hosts[0];
        assert_eq!((&*host.open, &*host.silent, host.closed), (&[445, 3389][..], &[3389][..], Some(1)));
    }

    #[test]
    fn ranges_of_any_size_are_sampled() {
        let range = |first: &str, last: &str| AddrRange { first: first.parse().unwrap(), last: last.parse().unwrap() };
        let all = [range("0.0.0.0", "255.255.255.255"), range("::", "::ffff")];
        assert_eq!(addresses(&all, false).count(), LOOKED_AT as usize);
        assert_eq!(addresses(&all, true).count(), 1);
        assert_eq!(addresses(&[range("::1", "::2")], false).count(), 0);
        let two = [range("10.0.0.1", "10.0.0.1"), range("10.0.0.3", "10.0.0.3")];
        assert_eq!(addresses(&two, false).map(|ip| ip.to_string()).collect::<Vec<_>>(), ["10.0.0.1", "10.0.0.3"]);
    }
}
