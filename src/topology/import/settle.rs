//! Makes a draft one that the checker takes: addresses for routers, and the bounds of a topology.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Warnings;
use super::draft::{Answer, Draft, Host, Population};
use crate::topology::addr::{self, Range};

/// Hosts that are nodes of their own; more are put together by their template.
const MAX_SINGLE: usize = 2000;
/// Populations.
const MAX_GROUPS: usize = 1000;
/// Ports that all nodes together may have; the checker takes a million.
const MAX_PORTS: usize = 900_000;
/// Entries of ports of all templates together; they have to fit into 200,000 values of YAML.
const MAX_ENTRIES: usize = 10_000;
/// Prefixes that scattered addresses may amount to; the checker takes 4,096.
const MAX_PREFIXES: usize = 3000;

/// Many hosts of one template in one node.
#[derive(Clone, Debug)]
pub struct Group {
    /// Their addresses.
    pub ranges: Vec<Range>,
    /// Addresses that are left out.
    pub except: Vec<IpAddr>,
    /// Their segment.
    pub segment: usize,
    /// Their template.
    pub template: usize,
}

impl Group {
    /// How many hosts it has.
    pub fn len(&self) -> u128 {
        self.ranges.iter().map(Range::len).sum()
    }
}

/// Gives routers their addresses, drops what cannot be, and returns the groups.
pub fn settle(draft: &mut Draft, warnings: &mut Warnings) -> Vec<Group> {
    bound_entries(draft, warnings);
    let mut taken: HashSet<IpAddr> = draft.routers.iter().map(|router| router.up.1).collect();
    taken.extend(draft.segments.iter().filter_map(|segment| segment.address));
    drop_impossible(draft, &mut taken, warnings);
    address_owners(draft, &mut taken, warnings);
    let mut groups = group_hosts(draft, warnings);
    for Population { line, net, segment, template } in std::mem::take(&mut draft.populations) {
        if groups.len() >= MAX_GROUPS {
            warnings.once(line, format!("more than {MAX_GROUPS} populations: the rest is left out; import fewer"));
            break;
        }
        let inside = Range::of(net);
        let mut except: Vec<IpAddr> = taken.iter().copied().filter(|ip| inside.contains(*ip)).collect();
        except.sort_unstable();
        groups.push(Group { ranges: vec![inside], except, segment, template });
    }
    bound_ports(draft, &groups, warnings);
    groups
}

/// Whether a router is on the segment, so that its prefix is fixed.
fn has_router(draft: &Draft, segment: usize) -> bool {
    draft.segments[segment].owner.is_some() || draft.routers.iter().any(|router| router.up.0 == segment)
}

fn drop_impossible(draft: &mut Draft, taken: &mut HashSet<IpAddr>, warnings: &mut Warnings) {
    let routed: Vec<bool> = (0..draft.segments.len()).map(|at| has_router(draft, at)).collect();
    let segments = &draft.segments;
    draft.hosts.retain(|host| {
        let Host { line, address, segment, .. } = *host;
        if address.is_multicast() || address.is_unspecified() || address.is_loopback() {
            warnings.add(line, format!("{address} is no address of a host: it is left out"));
            return false;
        }
        let ends = addr::reserved(segments[segment].net).filter(|_| routed[segment]);
        if ends.is_some_and(|(network, broadcast)| address == network || address == broadcast) {
            let net = segments[segment].net;
            let what = format!("{address} is the network or broadcast address of {net}: it is left out");
            warnings.add(line, format!("{what}; give the router a shorter prefix, and add the host by hand"));
            return false;
        }
        if !taken.insert(address) {
            warnings.add(line, format!("{address} is there twice, or a router's: this host is left out"));
            return false;
        }
        true
    });
}

/// Routers get an address on each segment behind them: the first or the last that is free.
fn address_owners(draft: &mut Draft, taken: &mut HashSet<IpAddr>, warnings: &mut Warnings) {
    for at in 0..draft.segments.len() {
        if draft.segments[at].owner.is_none() || draft.segments[at].address.is_some() {
            continue;
        }
        let net = draft.segments[at].net;
        let free = match net {
            IpNet::V4(v4) => {
                let ends = v4.hosts().next().into_iter().chain(
                    (v4.prefix_len() < 31)
                        .then(|| std::net::Ipv4Addr::from(u32::from(v4.broadcast()).saturating_sub(1))),
                );
                // As many as there can be hosts of their own, and one more.
                ends.chain(v4.hosts().take(65_536)).map(IpAddr::V4).find(|ip| !taken.contains(ip))
            }
            IpNet::V6(v6) => {
                let first = u128::from(v6.network()) + u128::from(v6.prefix_len() < 127);
                (first..=u128::from(v6.broadcast()))
                    .take(65_537)
                    .map(|n| IpAddr::V6(n.into()))
                    .find(|ip| !taken.contains(ip))
            }
        };
        let address = free.or_else(|| {
            // Every address is a host's: the first one has to make room.
            let host = draft.hosts.iter().position(|host| host.segment == at)?;
            let host = draft.hosts.remove(host);
            let what = format!("{} is full: its router needs an address and gets {}", net, host.address);
            warnings.add(host.line, format!("{what}, whose host is left out"));
            Some(host.address)
        });
        if let Some(address) = address {
            taken.insert(address);
            draft.segments[at].address = Some(address);
        }
    }
}

/// Puts hosts together where there are too many nodes, or too many ports in all of them.
fn group_hosts(draft: &mut Draft, warnings: &mut Warnings) -> Vec<Group> {
    let ports: usize = draft.hosts.iter().map(|host| draft.ports(host.template)).sum();
    if draft.hosts.len() <= MAX_SINGLE && ports <= MAX_PORTS {
        return Vec::new();
    }
    let text = format!(
        "{} hosts are more than can be nodes of their own: hosts of one template are one population, without their own \
         MACs, names and delays; import a smaller part to keep them",
        draft.hosts.len()
    );
    warnings.add(0, text);
    let mut lines = BTreeMap::new();
    let mut by_kind: BTreeMap<(usize, usize), Vec<Range>> = BTreeMap::new();
    for host in std::mem::take(&mut draft.hosts) {
        lines.entry((host.segment, host.template)).or_insert(host.line);
        by_kind.entry((host.segment, host.template)).or_default().push(Range::one(host.address));
    }
    let (mut groups, mut prefixes, mut left) = (Vec::new(), 0, 0u128);
    for ((segment, template), addresses) in by_kind {
        let mut ranges = addr::normalize(addresses);
        let before: u128 = ranges.iter().map(Range::len).sum();
        if groups.len() >= MAX_GROUPS {
            left += before;
            continue;
        }
        ranges.retain(|range| {
            prefixes += range.prefixes().len();
            prefixes <= MAX_PREFIXES
        });
        left += before - ranges.iter().map(Range::len).sum::<u128>();
        if !ranges.is_empty() {
            groups.push(Group { ranges, except: Vec::new(), segment, template });
        }
    }
    if left > 0 {
        warnings
            .add(0, format!("{left} hosts are left out: they are too many or too scattered; import a smaller part"));
    }
    groups
}

/// Leaves out the ports that would make the file too large.
fn bound_entries(draft: &mut Draft, warnings: &mut Warnings) {
    let mut entries = 0;
    for (name, body) in &mut draft.templates {
        let own = super::emit::entries(&body.tcp) + super::emit::entries(&body.udp);
        if entries + own > MAX_ENTRIES {
            // A few of each still tell what kind of host it is.
            for ports in [&mut body.tcp, &mut body.udp] {
                let keep: Vec<u16> = ports.keys().copied().take(2).collect();
                ports.retain(|port, _| keep.contains(port));
            }
            warnings
                .once(0, format!("the ports of all hosts are too many: from `{name}` on only two of each are kept"));
        } else {
            entries += own;
        }
    }
}

/// Leaves out ports until all nodes together have no more than the checker takes.
fn bound_ports(draft: &mut Draft, groups: &[Group], warnings: &mut Warnings) {
    let mut sum = 0usize;
    let uses: Vec<usize> =
        draft.hosts.iter().map(|host| host.template).chain(groups.iter().map(|group| group.template)).collect();
    let mut uses_of = vec![0usize; draft.templates.len()];
    uses.iter().for_each(|at| uses_of[*at] += 1);
    for (at, (_, body)) in draft.templates.iter().enumerate() {
        body.cases.iter().for_each(|(_, case)| uses_of[*case] += uses_of[at]);
    }
    for ((name, body), uses) in draft.templates.iter_mut().zip(uses_of) {
        let own = body.ports().saturating_mul(uses);
        if sum.saturating_add(own) <= MAX_PORTS {
            sum += own;
            continue;
        }
        for default in [&mut body.tcp_default, &mut body.udp_default] {
            if !matches!(default, Answer::Closed | Answer::Filtered) {
                *default = Answer::Closed;
            }
        }
        let keep = 20;
        for ports in [&mut body.tcp, &mut body.udp] {
            let last = ports.keys().copied().nth(keep);
            ports.retain(|port, _| last.is_none_or(|last| *port < last));
        }
        sum += body.ports().saturating_mul(uses);
        let what = format!("all hosts together have too many open ports: `{name}` keeps {keep} of each protocol");
        warnings.add(0, format!("{what}, all others are closed; import a smaller part"));
    }
}
