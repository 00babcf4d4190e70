//! Where hosts are: routers and segments from the hops of their traces.
//!
//! A trace names one address of each router, the one that faces who scanned. What it does not tell is
//! taken for what is usual: prefixes are /24 and /64, and a router is the first address of what lies
//! behind it. Each prefix is one segment, however many ways lead there.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::xml::{Found, Hop};
use crate::topology::addr;
use crate::topology::import::Warnings;
use crate::topology::import::draft::{Draft, Path, Router, Segment};

/// Routers.
const MAX_ROUTERS: usize = 400;
/// Routes of all routers together.
const MAX_TOLD: usize = 4000;
/// Segments behind one router, which has an interface for each.
const MAX_OWNED: usize = 1000;
/// Differences below this are noise of the scan, in microseconds.
const NOISE_US: u64 = 500;

/// The segment of a host and the way to it from there; `None` if it is left out.
pub type Place = Option<(usize, Path)>;

struct Plan<'a> {
    draft: &'a mut Draft,
    nets: HashMap<IpNet, usize>,
    routers: HashMap<IpAddr, usize>,
    /// How many routers are on the way to what is behind each.
    depths: Vec<usize>,
    /// How many segments each has behind it.
    owned: Vec<usize>,
    /// The shortest round trip to each address, in microseconds.
    rtt: HashMap<IpAddr, u64>,
    told: usize,
}

/// Makes routers and segments, and says where each host is.
pub fn plan(draft: &mut Draft, hosts: &[Found], warnings: &mut Warnings) -> Vec<Place> {
    let mut rtt: HashMap<IpAddr, u64> = HashMap::new();
    for hop in hosts.iter().flat_map(|host| &host.hops) {
        if let Some(us) = hop.rtt_us {
            rtt.entry(hop.ip).and_modify(|known| *known = us.min(*known)).or_insert(us);
        }
    }
    let mut plan = Plan {
        draft,
        nets: HashMap::new(),
        routers: HashMap::new(),
        depths: Vec::new(),
        owned: Vec::new(),
        rtt,
        told: 0,
    };
    // The longest ways first: a host whose way is one shorter than its neighbors' is their router.
    let mut order: Vec<usize> = (0..hosts.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(hosts[*at].hops.len()));
    let mut last: Vec<Option<usize>> = vec![None; hosts.len()];
    for &at in &order {
        last[at] = plan.way(&hosts[at], warnings);
    }
    let mut segments: Vec<Option<usize>> = vec![None; hosts.len()];
    for &at in &order {
        let Some(ip) = hosts[at].address.filter(|ip| !plan.routers.contains_key(ip)) else { continue };
        segments[at] = plan.segment(net(ip), last[at]);
    }
    let far = hosts.iter().find(|host| host.hops.is_empty() && host.distance.is_some_and(|distance| distance > 1));
    if let Some(host) = far {
        let what =
            "some hosts are several hops away, but the scan does not say by which routers: they are put on the wire";
        warnings.once(host.line, format!("{what}; scan with `--traceroute`"));
    }
    (0..hosts.len()).map(|at| plan.place(&hosts[at], last[at], segments[at], warnings)).collect()
}

fn net(ip: IpAddr) -> IpNet {
    match ip {
        IpAddr::V4(v4) => Ipv4Net::new(v4, 24).map(|net| IpNet::V4(net.trunc())),
        IpAddr::V6(v6) => Ipv6Net::new(v6, 64).map(|net| IpNet::V6(net.trunc())),
    }
    .unwrap_or(IpNet::from(ip))
}

/// Whether a router may have this address.
fn usable(ip: IpAddr) -> bool {
    let ends = addr::reserved(net(ip)).is_some_and(|(first, last)| ip == first || ip == last);
    !ends && !ip.is_multicast() && !ip.is_unspecified() && !ip.is_loopback()
}

impl Plan<'_> {
    /// The router above a segment or a router; `None` is the wire.
    fn above(&self, router: usize) -> Option<usize> {
        self.draft.segments[self.draft.routers[router].up.0].owner
    }

    /// The segment of a prefix, made behind `owner` if there is none yet.
    fn segment(&mut self, net: IpNet, owner: Option<usize>) -> Option<usize> {
        if let Some(at) = self.nets.get(&net) {
            return Some(*at);
        }
        let (cost, own) = owner.map_or((0, 0), |owner| (self.depths[owner], self.owned[owner]));
        if self.told + cost > MAX_TOLD || own >= MAX_OWNED {
            return None;
        }
        self.told += cost;
        if let Some(owner) = owner {
            self.owned[owner] += 1;
        }
        self.draft.segments.push(Segment { net, owner, address: None });
        self.nets.insert(net, self.draft.segments.len() - 1);
        Some(self.draft.segments.len() - 1)
    }

    /// Makes the routers on the way to a host; returns the last one.
    fn way(&mut self, host: &Found, warnings: &mut Warnings) -> Option<usize> {
        let mut above: Option<usize> = None;
        let mut before = 0;
        let mut delay = 0;
        for Hop { ttl, ip, .. } in host.hops.iter().copied() {
            if ttl > before + 1 {
                warnings.once(
                    host.line,
                    format!("the router {} hops away did not say its address: that hop is left out", before + 1),
                );
            }
            before = ttl;
            if Some(ip) == host.address {
                break;
            }
            if let Some(known) = self.routers.get(&ip) {
                above = Some(*known);
                delay = self.rtt.get(&ip).copied().unwrap_or(delay);
                continue;
            }
            let family = host.address.is_none_or(|address| address.is_ipv4() == ip.is_ipv4());
            if !usable(ip) || !family {
                warnings.once(host.line, format!("{ip} cannot be a router's address here: that hop is left out"));
                continue;
            }
            if self.routers.len() >= MAX_ROUTERS {
                warnings
                    .once(host.line, format!("more than {MAX_ROUTERS} routers are on the ways: the rest is left out"));
                continue;
            }
            let Some(segment) = self.segment(net(ip), above) else {
                warnings.once(host.line, "the ways are too long and too many: some routers are left out");
                continue;
            };
            let rtt = self.rtt.get(&ip).copied().unwrap_or(delay);
            let path = Path { delay_us: one_way(rtt, delay), ..Path::default() };
            delay = rtt;
            let at = self.draft.routers.len();
            self.draft.routers.push(Router { note: format!("hop {ttl}"), up: (segment, ip), path });
            let depth = self.above(at).map_or(1, |above| self.depths[above] + 1);
            self.depths.push(depth);
            self.owned.push(0);
            self.routers.insert(ip, at);
            above = Some(at);
        }
        above
    }

    fn place(&mut self, host: &Found, last: Option<usize>, segment: Option<usize>, warnings: &mut Warnings) -> Place {
        let ip = host.address?;
        let ports = |address: &str| {
            let lost = if host.ports.is_empty() { "" } else { ", whose ports are left out" };
            format!("{ip} is {address}: it is a router here{lost}")
        };
        if self.routers.contains_key(&ip) {
            warnings.add(host.line, ports("on the way to others"));
            return None;
        }
        let Some(segment) = segment else {
            warnings.once(host.line, "the ways are too long and too many: some hosts are left out");
            return None;
        };
        let of = &self.draft.segments[segment];
        let traced = !host.hops.is_empty();
        if let Some(owner) = of.owner
            && traced
            && of.address.is_none()
            && last == self.above(owner)
            && usable(ip)
        {
            warnings.add(host.line, ports("one hop nearer than its neighbors"));
            self.draft.segments[segment].address = Some(ip);
            return None;
        }
        let owner = of.owner.map(|owner| self.draft.routers[owner].up.1);
        let before = owner.and_then(|ip| self.rtt.get(&ip)).copied().unwrap_or(0);
        let rtt =
            self.rtt.get(&ip).copied().or(host.srtt_us.filter(|_| owner.is_none() || before > 0)).unwrap_or(before);
        Some((segment, Path { delay_us: one_way(rtt, before), ..Path::default() }))
    }
}

/// Half the difference of two round trips, in tenths of a millisecond.
fn one_way(rtt: u64, before: u64) -> u64 {
    let us = rtt.saturating_sub(before) / 2;
    if us < NOISE_US { 0 } else { (us / 100 * 100).min(60_000_000) }
}
