//! Where the attacker stands and what lies between it and a host, as the plan
//! has it and as traceroute sees it.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::lab::{Lab, Stop};
use super::report::{Report, clean};
use super::target::Host;
use crate::frame::PortNo;
use crate::node::{HostsConfig, NodeConfig, NodeIdx, PortVlan, RouterConfig, UplinkConfig};
use crate::topology::Plan;

/// Routers on a way.
const MOST_HOPS: usize = 30;
/// By how much a time may differ from what the links take, in microseconds.
pub const TOLERANCE_US: u64 = 2000;
/// Probes of each hop.
const PROBES: &str = "4";

type End = (NodeIdx, PortNo);

/// Where frames that leave somewhere arrive, without a router between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// There.
    pub end: (NodeIdx, PortNo),
    /// What the links take, in one direction.
    pub delay_us: u64,
    /// By how much that varies to both sides.
    pub jitter_us: u64,
}

/// Everything that hears an untagged frame sent at `from`.
pub fn reach(plan: &Plan, from: End) -> Vec<Arrival> {
    let mut peers: HashMap<End, (End, u64, u64)> = HashMap::new();
    for link in &plan.links {
        let (delay, jitter) = (u64::from(link.config.delay_us), u64::from(link.config.jitter_us));
        peers.insert(link.a, (link.b, delay, jitter));
        peers.insert(link.b, (link.a, delay, jitter));
    }
    let mut found = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut open = VecDeque::from([(from, None::<u16>, 0u64, 0u64)]);
    while let Some((out, tag, delay, jitter)) = open.pop_front() {
        let Some((end, more, varies)) = peers.get(&out).copied() else { continue };
        let (delay_us, jitter_us) = (delay + more, jitter + varies);
        let Some(NodeConfig::Bridge(bridge)) = plan.nodes.get(usize::from(end.0.0)).map(|node| &node.config) else {
            if tag.is_none() {
                found.push(Arrival { end, delay_us, jitter_us });
            }
            continue;
        };
        let vlan = match bridge.ports.get(usize::from(end.1.0)).map(|port| &port.vlan) {
            Some(PortVlan::Access(vlan)) if tag.is_none() => Some(*vlan),
            Some(PortVlan::Trunk { native, allowed }) => match tag {
                None => *native,
                Some(tag) => Some(tag).filter(|tag| allowed.contains(tag)),
            },
            _ => None,
        };
        let Some(vlan) = vlan.filter(|vlan| seen.insert((end.0, *vlan))) else { continue };
        for (number, port) in bridge.ports.iter().enumerate() {
            let tag = match &port.vlan {
                PortVlan::Access(own) if *own == vlan => None,
                PortVlan::Trunk { native: Some(native), .. } if *native == vlan => None,
                PortVlan::Trunk { allowed, .. } if allowed.contains(&vlan) => Some(vlan),
                _ => continue,
            };
            let out = (end.0, PortNo(number as u16));
            if out != end {
                open.push_back((out, tag, delay_us, jitter_us));
            }
        }
    }
    found
}

fn router(plan: &Plan, at: NodeIdx) -> Option<&RouterConfig> {
    match &plan.nodes.get(usize::from(at.0))?.config {
        NodeConfig::Router(router) => Some(router),
        _ => None,
    }
}

fn hosts(plan: &Plan, at: NodeIdx) -> Option<&HostsConfig> {
    match &plan.nodes.get(usize::from(at.0))?.config {
        NodeConfig::Hosts(hosts) => Some(hosts),
        _ => None,
    }
}

fn v4(net: &IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    }
}

/// A wire of the attacker's.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The attacker's interface on it.
    pub interface: String,
    /// Whom it hears.
    arrivals: Vec<Arrival>,
    /// The attacker's addresses, one of each prefix.
    pub own: Vec<Ipv4Net>,
    /// The topology's router on it: its place, its port and its address.
    router: Option<(Arrival, Ipv4Addr)>,
}

impl Segment {
    /// What lies behind uplink `at`, whose wire the attacker calls `interface`.
    pub fn of(plan: &Plan, at: NodeIdx, interface: &str) -> Segment {
        let arrivals = reach(plan, (at, UplinkConfig::INSIDE));
        let mut prefixes: Vec<Ipv4Net> = Vec::new();
        let mut taken: Vec<(u32, u32)> = Vec::new();
        let mut first = None;
        for arrival in &arrivals {
            let (node, port) = arrival.end;
            if let Some(router) = router(plan, node)
                && let Some(interface) = router.interfaces.get(usize::from(port.0))
            {
                for net in interface.addresses.iter().filter_map(v4) {
                    prefixes.push(net);
                    taken.push((u32::from(net.addr()), u32::from(net.addr())));
                    first = first.or(Some((*arrival, net.addr())));
                }
            }
            if let Some(hosts) = hosts(plan, node) {
                prefixes.extend(hosts.segment.prefixes.iter().filter_map(v4));
                for range in &hosts.ranges {
                    if let (IpAddr::V4(first), IpAddr::V4(last)) = (range.first, range.last) {
                        taken.push((first.into(), last.into()));
                    }
                }
            }
        }
        taken.sort_unstable();
        prefixes.iter_mut().for_each(|net| *net = net.trunc());
        prefixes.sort_unstable();
        prefixes.dedup();
        let free = |net: &Ipv4Net| free_address(*net, &taken);
        let own = prefixes.iter().filter_map(free).collect();
        Segment { interface: interface.to_owned(), arrivals, own, router: first }
    }

    /// The router's address.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.router.map(|(_, address)| address)
    }
}

/// An address of `net` that no range of the sorted `taken` has, with the prefix's length.
fn free_address(net: Ipv4Net, taken: &[(u32, u32)]) -> Option<Ipv4Net> {
    let (mut address, mut last) = (u32::from(net.network()), u32::from(net.broadcast()));
    if net.prefix_len() < 31 {
        (address, last) = (address.checked_add(1)?, last.checked_sub(1)?);
    }
    for (begin, end) in taken {
        if *begin <= address && address <= *end {
            address = end.checked_add(1)?;
        }
    }
    (address <= last).then(|| Ipv4Net::new(address.into(), net.prefix_len()).ok()).flatten()
}

/// One step of a way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Who answers.
    pub ip: Ipv4Addr,
    /// What the links take, there and back.
    pub rtt_us: u64,
    /// By how much that varies.
    pub jitter_us: u64,
}

/// From the attacker to a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// The attacker's interface.
    pub interface: String,
    /// The attacker's address.
    pub source: Ipv4Addr,
    /// The routers, and the host as the last one.
    pub hops: Vec<Hop>,
}

impl Way {
    /// Whether the host is on the attacker's own segment.
    pub fn is_on_link(&self) -> bool {
        self.hops.len() == 1
    }

    /// The host itself.
    pub fn last(&self) -> Option<Hop> {
        self.hops.last().copied()
    }
}

/// How the attacker gets to host `ip` of node `node`.
pub fn way(plan: &Plan, segments: &[Segment], node: NodeIdx, ip: Ipv4Addr) -> Option<Way> {
    let hop = |ip, delay: u64, jitter: u64| Hop { ip, rtt_us: 2 * delay, jitter_us: 2 * jitter };
    for segment in segments {
        let there = segment.arrivals.iter().find(|arrival| arrival.end.0 == node);
        let own = segment.own.iter().find(|net| net.contains(&ip));
        if let (Some(there), Some(own)) = (there, own) {
            let hops = vec![hop(ip, there.delay_us, there.jitter_us)];
            return Some(Way { interface: segment.interface.clone(), source: own.addr(), hops });
        }
    }
    let segment = segments.iter().find(|segment| segment.router.is_some() && !segment.own.is_empty())?;
    let (arrival, mut address) = segment.router?;
    let source = segment.own.iter().find(|net| net.contains(&address))?.addr();
    let (mut at, mut delay, mut jitter) = (arrival.end, arrival.delay_us, arrival.jitter_us);
    let mut hops = Vec::new();
    while hops.len() < MOST_HOPS {
        hops.push(hop(address, delay, jitter));
        let router = router(plan, at.0)?;
        let interfaces = router.interfaces.iter().enumerate();
        let connected = interfaces
            .flat_map(|(port, interface)| interface.addresses.iter().filter_map(v4).map(move |net| (port, net)))
            .filter(|(_, net)| net.contains(&ip))
            .max_by_key(|(_, net)| net.prefix_len());
        let routes = router.routes.iter().filter_map(|route| Some((v4(&route.to)?, route.via)));
        let routed = routes.filter(|(to, _)| to.contains(&ip)).max_by_key(|(to, _)| to.prefix_len());
        let (port, next) = match (connected, routed) {
            (Some((port, net)), routed) if routed.is_none_or(|(to, _)| to.prefix_len() <= net.prefix_len()) => {
                (port, None)
            }
            (_, Some((_, IpAddr::V4(via)))) => {
                let leads = |net: Ipv4Net| net.contains(&via);
                let port = router.interfaces.iter().position(|i| i.addresses.iter().filter_map(v4).any(leads))?;
                (port, Some(via))
            }
            _ => return None,
        };
        let arrivals = reach(plan, (at.0, PortNo(port as u16)));
        let is_next = |arrival: &&Arrival| match next {
            None => arrival.end.0 == node,
            Some(via) => self::router(plan, arrival.end.0)
                .and_then(|router| router.interfaces.get(usize::from(arrival.end.1.0)))
                .is_some_and(|interface| interface.addresses.iter().any(|net| net.addr() == IpAddr::V4(via))),
        };
        let arrival = arrivals.iter().find(is_next)?;
        (delay, jitter) = (delay + arrival.delay_us, jitter + arrival.jitter_us);
        match next {
            None => {
                hops.push(hop(ip, delay, jitter));
                return Some(Way { interface: segment.interface.clone(), source, hops });
            }
            Some(via) => (at, address) = (arrival.end, via),
        }
    }
    None
}

/// A line of traceroute: who answered first, and the shortest time in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traced {
    /// Its number, from 1 on.
    pub ttl: u8,
    /// Who answered; `None` if nobody did.
    pub ip: Option<Ipv4Addr>,
    /// The shortest of the times.
    pub best_us: Option<u64>,
}

/// Reads what `traceroute -n` says; lines that are none of its own are left out.
pub fn parse_traceroute(text: &str) -> Vec<Traced> {
    let mut hops: Vec<Traced> = Vec::new();
    for line in text.lines().skip(1).take(4 * MOST_HOPS) {
        let words: Vec<&str> = line.split_whitespace().take(64).collect();
        let Some(ttl) = words.first().and_then(|word| word.parse::<u8>().ok()).filter(|ttl| *ttl > 0) else { continue };
        if hops.last().is_some_and(|last| last.ttl >= ttl) {
            continue;
        }
        let ip = words.iter().skip(1).find_map(|word| word.parse().ok());
        let times = words.windows(2).filter(|pair| pair[1] == "ms").filter_map(|pair| pair[0].parse::<f64>().ok());
        let best = times.filter(|ms| ms.is_finite() && (0.0..1e6).contains(ms)).min_by(f64::total_cmp);
        hops.push(Traced { ttl, ip, best_us: best.map(|ms| (ms * 1000.0) as u64) });
    }
    hops
}

/// Traces the way to a host.
pub fn audit(lab: &Lab, program: &str, host: &Host, report: &mut Report) -> Result<(), Stop> {
    const CHECK: &str = "traceroute";
    let target = host.ip.to_string();
    let mut args = vec!["-n", "-q", PROBES, "-N", "1", "-w", "2", "-m", "32"];
    let port = host.open.iter().chain(&host.closed).next().map(u16::to_string);
    match &port {
        Some(port) => args.extend(["-T", "-p", port]),
        None if host.template.ping => args.push("-I"),
        None => {
            report.skip(CHECK, Some(&target), "it answers neither to echo nor on any TCP port");
            return Ok(());
        }
    }
    args.push(&target);
    let said = lab.run(program, &args, Duration::from_secs(30))?;
    let found = parse_traceroute(&said.out);
    if !said.ok || found.is_empty() {
        report.skip(CHECK, Some(&target), &format!("traceroute failed: {}", said.err.trim()));
        return Ok(());
    }
    judge(host, &found, report);
    Ok(())
}

/// Compares a trace with the plan.
pub fn judge(host: &Host, found: &[Traced], report: &mut Report) {
    const CHECK: &str = "traceroute";
    let list = |all: &mut dyn Iterator<Item = Option<Ipv4Addr>>| {
        let all: Vec<String> = all.map(|ip| ip.map_or("*".to_owned(), |ip| ip.to_string())).collect();
        all.join(" ")
    };
    let seen = list(&mut found.iter().map(|hop| hop.ip));
    let expected = list(&mut host.way.hops.iter().map(|hop| Some(hop.ip)));
    let name = &host.template.name;
    if seen != expected {
        let advice = "see whether routes lead there and back, and whether links lose frames";
        report.find(2, name, Some(&host.ip), CHECK, &seen, &expected, advice);
        return;
    }
    for (hop, wanted) in found.iter().zip(&host.way.hops) {
        let Some(best) = hop.best_us else { continue };
        if best.abs_diff(wanted.rtt_us) > TOLERANCE_US + wanted.jitter_us {
            let seen = format!("{} is {:.1} ms away", wanted.ip, best as f64 / 1e3);
            let expected = format!("{:.1} ms, which the links take", wanted.rtt_us as f64 / 1e3);
            let advice = "see whether the machine is busy, or a link's `rate` is too low for its frames";
            report.find(2, name, Some(&host.ip), CHECK, &seen, &clean(&expected), advice);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        crate::topology::parse("test", text).unwrap()
    }

    fn index(plan: &Plan, name: &str) -> NodeIdx {
        NodeIdx(plan.nodes.iter().position(|node| node.name == name).unwrap() as u16)
    }

    #[test]
    fn the_way_leads_through_routers_and_their_delays() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/three-routers.yaml");
        let plan = plan(&std::fs::read_to_string(path).unwrap());
        let segment = Segment::of(&plan, index(&plan, "wan"), "eth0");
        assert_eq!(segment.own, ["192.0.2.2/24".parse().unwrap()]);
        assert_eq!(segment.gateway(), Some("192.0.2.1".parse().unwrap()));
        let ip = "10.3.0.10".parse().unwrap();
        let way = way(&plan, &[segment], index(&plan, "lan"), ip).unwrap();
        let hops: Vec<_> = way.hops.iter().map(|hop| (hop.ip.to_string(), hop.rtt_us)).collect();
        let wanted = [("192.0.2.1", 0), ("10.255.1.2", 10_000), ("10.255.2.2", 30_000), ("10.3.0.10", 70_000)];
        assert_eq!(hops, wanted.map(|(ip, rtt)| (ip.to_owned(), rtt)));
        assert!(!way.is_on_link());
    }

    #[test]
    fn vlans_keep_segments_apart() {
        let plan = plan(
            "
nodes:
  wan: {kind: uplink}
  a: {kind: switch, ports: {1: {access: 10}, 2: {trunk: [10, 20]}}}
  b: {kind: switch, ports: {1: {trunk: [10, 20]}, 2: {access: 10}, 3: {access: 20}}}
  near: {kind: host, address: 192.0.2.1}
  far: {kind: host, address: 192.0.2.1}
links:
  - endpoints: [wan, 'a:1']
  - endpoints: ['a:2', 'b:1']
    delay: 3ms
    jitter: 1ms
  - endpoints: ['b:2', near]
  - endpoints: ['b:3', far]
",
        );
        let found = reach(&plan, (index(&plan, "wan"), UplinkConfig::INSIDE));
        let end = (index(&plan, "near"), HostsConfig::LAN);
        assert_eq!(found, [Arrival { end, delay_us: 3000, jitter_us: 1000 }]);
        let segment = Segment::of(&plan, index(&plan, "wan"), "eth0");
        assert_eq!(segment.gateway(), None);
        let ip = "192.0.2.1".parse().unwrap();
        let segments = [segment];
        assert!(way(&plan, &segments, index(&plan, "near"), ip).is_some_and(|way| way.is_on_link()));
        assert_eq!(way(&plan, &segments, index(&plan, "far"), ip), None);
    }

    #[test]
    fn a_free_address_is_between_those_that_are_taken() {
        let address = |a: [u8; 4]| u32::from(Ipv4Addr::from(a));
        let taken =
            [(address([10, 0, 0, 1]), address([10, 0, 0, 9])), (address([10, 0, 0, 10]), address([10, 0, 0, 10]))];
        let free = |net: &str| free_address(net.parse().unwrap(), &taken).map(|net| net.to_string());
        assert_eq!(free("10.0.0.0/24"), Some("10.0.0.11/24".to_owned()));
        assert_eq!(free("10.0.0.0/30"), None);
        assert_eq!(free("0.0.0.0/0"), Some("0.0.0.1/0".to_owned()));
        let all = [(0, u32::MAX)];
        assert_eq!(free_address("255.255.255.0/24".parse().unwrap(), &all), None);
        assert_eq!(free_address("10.0.0.1/32".parse().unwrap(), &taken), None);
    }

    #[test]
    fn traceroute_is_read_whatever_it_says() {
        let text = "traceroute to 10.3.0.10 (10.3.0.10), 32 hops max\n 1  192.0.2.1  0.9 ms  0.5 ms\n 2  * *\n 3  10.0.0.1 !X  7.25 ms *\n";
        let ip = |text: &str| Some(text.parse().unwrap());
        let wanted = [
            Traced { ttl: 1, ip: ip("192.0.2.1"), best_us: Some(500) },
            Traced { ttl: 2, ip: None, best_us: None },
            Traced { ttl: 3, ip: ip("10.0.0.1"), best_us: Some(7250) },
        ];
        assert_eq!(parse_traceroute(text), wanted);
        for absurd in [
            "",
            "\n\n\n",
            "x\n999 10.0.0.1 1 ms\n",
            "x\n-1 1 ms\n 0 a 1 ms",
            "x\n\u{1b}[2J 1 ms",
            "x\n1 999.0.0.1 nan ms inf ms -5 ms 1e300 ms",
        ] {
            assert!(parse_traceroute(absurd).iter().all(|hop| hop.best_us.is_none()), "{absurd}");
        }
        let repeated = format!("x\n{}", "1 10.0.0.1 1 ms\n".repeat(100_000));
        assert_eq!(parse_traceroute(&repeated).len(), 1);
    }
}
