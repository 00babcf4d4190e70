//! The virtual routes of honeyd(8), turned into routers with segments between and behind them.
//!
//! Honeyd's router has one address, and is behind the next one without a network in between. Here
//! every router has an address on each segment: where the configuration names none, it is
//! one of 100.64.0.0/10 (RFC 6598), which is meant for networks between networks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::words::Words;
use crate::topology::addr::Range;
use crate::topology::import::Warnings;
use crate::topology::import::draft::{Draft, Path, Population, Router, Segment};
use crate::topology::import::yaml::shown;

/// Statements about routes that are kept.
const MAX_ROUTES: usize = 1000;
/// Routers, and segments behind them.
const MAX_ROUTERS: usize = 400;
/// Routes of all routers together.
const MAX_TOLD: usize = 4000;

/// Where the router that has no address for the wire gets one: documentation prefixes (RFC 5737).
const WIRES: [&str; 3] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];

/// What is said of routes.
#[derive(Default)]
pub struct Routes {
    entries: Vec<(usize, IpAddr)>,
    links: HashMap<IpAddr, Vec<(usize, IpNet)>>,
    next: HashMap<IpAddr, Vec<(usize, IpAddr, Path)>>,
    count: usize,
}

impl Routes {
    /// Reads what follows `route`.
    pub fn statement(&mut self, line: usize, words: &mut Words<'_>, warnings: &mut Warnings) -> Option<()> {
        let first = words.next()?;
        self.count += 1;
        if self.count > MAX_ROUTES {
            warnings.once(line, format!("more than {MAX_ROUTES} routes: the rest is left out"));
            return Some(());
        }
        if first == "entry" {
            let router = v4(&words.next()?)?;
            // `network NET` says only what Honeyd is asked for; it follows from the links here.
            self.entries.push((line, router));
            return Some(());
        }
        let router = v4(&first)?;
        match &*words.next()? {
            "link" => {
                let net = net(&words.next()?)?;
                self.links.entry(router).or_default().push((line, net));
            }
            "add" => {
                if words.next()? == "net" {
                    net(&words.next()?)?;
                }
                let next = words.next()?;
                if next == "tunnel" {
                    return lost_tunnel(line, warnings);
                }
                let next = v4(&next)?;
                let path = path(line, words, warnings)?;
                self.next.entry(router).or_default().push((line, next, path));
            }
            "tunnel" => return lost_tunnel(line, warnings),
            "unreach" => {
                net(&words.next()?)?;
                let what = "`unreach` is left out: routers say `network unreachable` of whatever no route leads to";
                warnings.once(line, what);
            }
            _ => return None,
        }
        Some(())
    }

    /// Makes routers and segments; returns the addresses of the routers.
    pub fn plan(&self, draft: &mut Draft, warnings: &mut Warnings) -> HashSet<IpAddr> {
        let mut plan =
            Plan { routes: self, used: self.networks(), done: HashMap::new(), queue: VecDeque::new(), told: 0 };
        for (line, entry) in &self.entries {
            plan.entry(draft, *line, *entry, warnings);
        }
        while let Some((ip, at)) = plan.queue.pop_front() {
            plan.router(draft, ip, at, warnings);
        }
        let named: HashSet<IpAddr> = self.links.keys().chain(self.next.keys()).copied().collect();
        let mut lost: Vec<IpAddr> = named.into_iter().filter(|ip| !plan.done.contains_key(ip)).collect();
        lost.sort_unstable();
        for ip in lost {
            let lines = self.links.get(&ip).into_iter().flatten().map(|(line, _)| *line);
            let line = lines.chain(self.next.get(&ip).into_iter().flatten().map(|(line, ..)| *line)).min().unwrap_or(0);
            let what = format!("no way leads from a `route entry` to the router {ip}: it is left out");
            warnings.add(line, format!("{what}; add `route entry {ip}`, or a route to it"));
        }
        plan.done.into_keys().collect()
    }

    /// Everything that is a network already.
    fn networks(&self) -> Vec<Range> {
        let links = self.links.values().flatten().map(|(_, net)| Range::of(*net));
        let routers = self.links.keys().chain(self.next.keys()).map(|ip| Range::one(*ip));
        links.chain(routers).chain(self.next.values().flatten().map(|(_, ip, _)| Range::one(*ip))).collect()
    }
}

struct Plan<'a> {
    routes: &'a Routes,
    used: Vec<Range>,
    done: HashMap<IpAddr, usize>,
    queue: VecDeque<(IpAddr, usize)>,
    told: usize,
}

impl Plan<'_> {
    fn entry(&mut self, draft: &mut Draft, line: usize, ip: IpAddr, warnings: &mut Warnings) {
        if self.done.contains_key(&ip) || self.done.len() >= MAX_ROUTERS {
            return;
        }
        let own = around(ip, 24);
        let linked = self.routes.links.values().flatten().any(|(_, net)| Range::of(*net).overlaps(&Range::of(own)));
        let up = if linked || !usable(own, ip) {
            let free = WIRES.iter().filter_map(|net| net.parse::<IpNet>().ok());
            let mut free = free.filter(|net| !self.used.iter().any(|used| used.overlaps(&Range::of(*net))));
            let Some(net) = free.next() else {
                warnings.add(line, format!("no address is left for the router {ip} on the wire: it is left out"));
                return;
            };
            let taken = draft.routers.iter().filter(|router| net.contains(&router.up.1)).count();
            let Some(address) = net.hosts().nth(taken) else { return };
            let what = format!("the router {ip} needs an address on the wire: {address}/24 stands for it");
            warnings.add(line, format!("{what}; write a free one of your network at its interface `up`"));
            (wire_segment(draft, net), address)
        } else {
            (wire_segment(draft, own), ip)
        };
        self.add(draft, ip, up, Path::default());
    }

    fn add(&mut self, draft: &mut Draft, ip: IpAddr, up: (usize, IpAddr), path: Path) {
        let at = draft.routers.len();
        draft.routers.push(Router { note: format!("{ip} of Honeyd"), up, path });
        self.done.insert(ip, at);
        self.queue.push_back((ip, at));
    }

    /// Routers between the wire and what is behind `router`: each needs a route there.
    fn depth(draft: &Draft, router: usize) -> usize {
        let (mut depth, mut at) = (1, router);
        while let Some(above) = draft.segments.get(draft.routers[at].up.0).and_then(|segment| segment.owner) {
            (depth, at) = (depth + 1, above);
        }
        depth
    }

    fn router(&mut self, draft: &mut Draft, ip: IpAddr, at: usize, warnings: &mut Warnings) {
        let depth = Plan::depth(draft, at);
        for (line, net) in self.routes.links.get(&ip).into_iter().flatten() {
            let (line, net) = (*line, *net);
            let up = Range::of(draft.segments[draft.routers[at].up.0].net);
            let range = Range::of(net);
            let own =
                draft.segments.iter().find(|known| known.owner == Some(at) && Range::of(known.net).overlaps(&range));
            let other = draft.segments.iter().find(|known| known.net == net);
            if let Some(known) = own.or(other) {
                let what = format!("{net} is linked to a router already, as {}", known.net);
                warnings.add(line, format!("{what}: this link is left out"));
            } else if up.overlaps(&range) {
                warnings.add(line, format!("{net} is the network by which {ip} is reached: this link is left out"));
            } else if self.told + depth > MAX_TOLD {
                warnings.once(line, "the routes of all routers together are too many: the rest is left out");
            } else {
                self.told += depth;
                let address = (net.contains(&ip) && usable(net, ip)).then_some(ip);
                draft.segments.push(Segment { net, owner: Some(at), address });
            }
        }
        for (line, next, path) in self.routes.next.get(&ip).into_iter().flatten() {
            let (line, next) = (*line, *next);
            if let Some(known) = self.done.get(&next) {
                // Several networks by the same next router are one link; another way would be a loop.
                if draft.segments[draft.routers[*known].up.0].owner != Some(at) {
                    warnings.once(line, format!("a second way to the router {next} is left out: there is one to each"));
                }
                continue;
            }
            if self.done.len() >= MAX_ROUTERS || self.told + depth > MAX_TOLD {
                warnings
                    .once(line, format!("more than {MAX_ROUTERS} routers, or too many routes: the rest is left out"));
                continue;
            }
            let shared = draft.segments.iter().position(|segment| {
                segment.owner == Some(at) && segment.net.contains(&next) && usable(segment.net, next)
            });
            let up = shared.map(|segment| (segment, next)).or_else(|| {
                let (near, far, net) = self.transit()?;
                self.told += depth;
                draft.segments.push(Segment { net, owner: Some(at), address: Some(near) });
                warnings
                    .once(line, "routers meet in networks of 100.64.0.0/10, and a traceroute shows those addresses");
                Some((draft.segments.len() - 1, far))
            });
            if let Some(up) = up {
                self.add(draft, next, up, *path);
            }
        }
    }

    /// A network between two routers, and their addresses in it.
    fn transit(&mut self) -> Option<(IpAddr, IpAddr, IpNet)> {
        let base = u32::from(Ipv4Addr::new(100, 64, 0, 0));
        for number in 0..(1u32 << 20) {
            let first = base + number * 4;
            let net = IpNet::V4(Ipv4Net::new(Ipv4Addr::from(first), 30).ok()?);
            if !self.used.iter().any(|used| used.overlaps(&Range::of(net))) {
                self.used.push(Range::of(net));
                return Some((Ipv4Addr::from(first + 1).into(), Ipv4Addr::from(first + 2).into(), net));
            }
        }
        None
    }
}

/// The segment on the wire with this prefix.
fn wire_segment(draft: &mut Draft, net: IpNet) -> usize {
    let known = draft.segments.iter().position(|segment| segment.owner.is_none() && segment.net == net);
    known.unwrap_or_else(|| {
        draft.segments.push(Segment { net, owner: None, address: None });
        draft.segments.len() - 1
    })
}

/// The segment of a host: the longest prefix that a router links (`linked`), else the wire.
pub fn segment_of(
    draft: &mut Draft,
    linked: &[(IpNet, usize)],
    wire: &mut HashMap<IpNet, usize>,
    address: IpAddr,
    line: usize,
    warnings: &mut Warnings,
) -> usize {
    let inside = linked.iter().filter(|(net, _)| net.contains(&address));
    if let Some((_, at)) = inside.max_by_key(|(net, _)| net.prefix_len()) {
        return *at;
    }
    if !draft.routers.is_empty() {
        warnings.once(line, format!("{address} is in no network that a router links: it is put on the wire itself"));
    }
    let net = around(address, if address.is_ipv4() { 24 } else { 64 });
    *wire.entry(net).or_insert_with(|| {
        draft.segments.push(Segment { net, owner: None, address: None });
        draft.segments.len() - 1
    })
}

/// Has the template `default` answer for every address that is nobody's, where the networks are known.
pub fn populate(draft: &mut Draft, template: usize, warnings: &mut Warnings) {
    let mut there = false;
    for (at, segment) in draft.segments.iter().enumerate() {
        // Networks between routers have two addresses; one of more than a /8 is more hosts than a node has.
        if segment.owner.is_some() && (8..=29).contains(&segment.net.prefix_len()) && segment.net.addr().is_ipv4() {
            there = true;
            draft.populations.push(Population { line: 0, net: segment.net, segment: at, template });
        }
    }
    if !there {
        let what = "the template `default` answers for all addresses that Honeyd's command line names, which is not part of \
                    the configuration: add a node such as `{kind: hosts, addresses: 10.0.0.0/24, template: default}`";
        warnings.add(0, what);
    }
}

fn lost_tunnel(line: usize, warnings: &mut Warnings) -> Option<()> {
    warnings.add(line, "tunnels have no counterpart: the networks behind it are left out");
    Some(())
}

fn v4(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

fn net(text: &str) -> Option<IpNet> {
    let net: Ipv4Net = text.parse().ok().or_else(|| Ipv4Net::new(text.parse().ok()?, 32).ok())?;
    (net.prefix_len() >= 1).then(|| IpNet::V4(net.trunc()))
}

fn around(ip: IpAddr, length: u8) -> IpNet {
    match ip {
        IpAddr::V4(v4) => Ipv4Net::new(v4, length.min(32)).map(|net| IpNet::V4(net.trunc())),
        IpAddr::V6(v6) => Ipv6Net::new(v6, length).map(|net| IpNet::V6(net.trunc())),
    }
    .unwrap_or(IpNet::from(ip))
}

/// Whether a router may have this address in this prefix.
fn usable(net: IpNet, ip: IpAddr) -> bool {
    let ends = crate::topology::addr::reserved(net).is_some_and(|(first, last)| ip == first || ip == last);
    !ends && !ip.is_multicast() && !ip.is_unspecified() && !ip.is_loopback()
}

/// `[latency 55ms] [loss 3] [bandwidth 1Mbps [drop between 10ms - 50ms]]`.
fn path(line: usize, words: &mut Words<'_>, warnings: &mut Warnings) -> Option<Path> {
    let mut path = Path::default();
    while let Some(word) = words.next() {
        match &*word {
            "latency" => {
                path.delay_us = scaled(&words.next()?, &[("us", 1.0), ("ms", 1e3), ("s", 1e6)], 1e3)?.min(60_000_000)
            }
            "loss" => path.loss = loss(&words.next()?)?,
            "bandwidth" => {
                let units = [("kbps", 1e3), ("mbps", 1e6), ("gbps", 1e9), ("bps", 1.0)];
                path.rate = scaled(&words.next()?, &units, 1e6)?.max(8);
            }
            "drop" => {
                let what = format!(
                    "`drop {}` is left out: a link with a rate drops when its queue is full",
                    shown(words.rest())
                );
                warnings.once(line, format!("{what} (`queue:`)"));
                return Some(path);
            }
            _ => return None,
        }
    }
    Some(path)
}

/// A number with one of `units`, or without one in `bare`.
fn scaled(text: &str, units: &[(&str, f64)], bare: f64) -> Option<u64> {
    let lower = text.to_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let factor = if unit.is_empty() { bare } else { units.iter().find(|(name, _)| *name == unit)?.1 };
    let value: f64 = number.parse().ok()?;
    // The conversion saturates.
    Some((value * factor).round() as u64)
}

/// A share in percent, with or without the sign, in thousandths of a percent.
pub fn loss(text: &str) -> Option<u32> {
    let value = scaled(text, &[("%", 1e3)], 1e3)?;
    u32::try_from(value).ok().filter(|value| *value <= 100_000)
}
