//! Addressing: which prefixes a broadcast domain has, who has which address in
//! it, and what hosts are configured with because of that.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::addr::{self, Range};
use super::check::Checker;
use super::domains::DomainMap;
use super::nodes::{Draft, Piece};
use super::source::Span;
use crate::frame::PortNo;
use crate::node::{AddrRange, HostsConfig, MacMode, NodeConfig, RouterConfig, Segment, UplinkConfig};

/// Prefixes that the honeynet may consist of: each frame that a container sends is held against them.
const MAX_INSIDE: usize = 4096;

/// A router's address in a domain.
struct Gateway {
    node: usize,
    interface: String,
    net: IpNet,
    span: Span,
}

/// What is attached to a domain.
#[derive(Default)]
struct Domain {
    gateways: Vec<Gateway>,
    interfaces: u32,
    hosts: Vec<usize>,
    uplinks: Vec<usize>,
    taps: u32,
}

fn router(draft: &Draft) -> Option<&RouterConfig> {
    match &draft.config {
        Some(NodeConfig::Router(config)) => Some(config),
        _ => None,
    }
}

fn hosts(draft: &Draft) -> Option<&HostsConfig> {
    match &draft.config {
        Some(NodeConfig::Hosts(config)) => Some(config),
        _ => None,
    }
}

fn uplink(draft: &Draft) -> Option<&UplinkConfig> {
    match &draft.config {
        Some(NodeConfig::Uplink(config)) => Some(config),
        _ => None,
    }
}

/// Checks the addressing, fills in the ranges and segments of hosts, and returns
/// every prefix of the honeynet.
pub fn settle(c: &mut Checker<'_>, drafts: &mut [Draft], map: &DomainMap) -> Vec<IpNet> {
    let mut domains: BTreeMap<usize, Domain> = BTreeMap::new();
    for (at, draft) in drafts.iter().enumerate() {
        if let Some(config) = router(draft) {
            for (port, interface) in config.interfaces.iter().enumerate() {
                let Some(domain) = map.of_port(at, PortNo(port as u16)) else { continue };
                let domain = domains.entry(domain).or_default();
                domain.interfaces += 1;
                let places = draft.interface_spans.get(port);
                for (number, net) in interface.addresses.iter().enumerate() {
                    let span = places.and_then(|spans| spans.get(number)).copied().unwrap_or(draft.span);
                    let interface = interface.name.clone();
                    domain.gateways.push(Gateway { node: at, interface, net: *net, span });
                }
            }
        } else if hosts(draft).is_some() {
            let Some(domain) = map.of_port(at, PortNo(0)) else { continue };
            domains.entry(domain).or_default().hosts.push(at);
        } else if uplink(draft).is_some() {
            for domain in map.of_wire(at) {
                domains.entry(domain).or_default().uplinks.push(at);
            }
        } else if let Some(NodeConfig::Tap(_)) = &draft.config {
            for domain in map.of_wire(at) {
                domains.entry(domain).or_default().taps += 1;
            }
        }
    }

    let mut inside = Vec::new();
    let mut settled: Vec<(usize, Vec<Range>, Segment)> = Vec::new();
    for domain in domains.values() {
        mismatched_prefixes(c, drafts, domain);
        for &at in &domain.hosts {
            unserved(c, &drafts[at], domain);
            let segment = segment(c, &drafts[at], domain);
            let ranges = ranges(c, drafts, &drafts[at], domain, &segment);
            // What has yet to be claimed may be anybody's.
            if !claims(&drafts[at]) {
                inside.extend(ranges.iter().flat_map(Range::prefixes));
            }
            // What users attach may have any address of the segment, and is part of the honeynet as far as that is.
            if domain.taps > 0 && domain.uplinks.is_empty() {
                inside.extend(&segment.prefixes);
            }
            settled.push((at, ranges, segment));
        }
        taken_twice(c, drafts, domain);
        for gateway in &domain.gateways {
            // On a real wire the rest of the prefix is other people's.
            let own = if domain.uplinks.is_empty() { gateway.net.trunc() } else { IpNet::from(gateway.net.addr()) };
            inside.push(own);
        }
    }
    for domain in domains.values() {
        too_many_macs(c, drafts, domain, &settled);
    }

    let inside = IpNet::aggregate(&inside);
    if inside.len() > MAX_INSIDE {
        let message = format!("the honeynet's addresses are scattered over {} prefixes", inside.len());
        let help = format!("write prefixes and ranges instead of single addresses: at most {MAX_INSIDE} are possible");
        c.error(c.raw.nodes.span, message, "in these nodes", help);
        return Vec::new();
    }
    for (at, ranges, segment) in settled {
        if let Some(NodeConfig::Hosts(config)) = &mut drafts[at].config {
            config.ranges = ranges.into_iter().map(Range::to_plan).collect::<Vec<AddrRange>>();
            config.segment = segment;
            config.inside.clone_from(&inside);
        }
    }
    inside
}

fn owner(drafts: &[Draft], gateway: &Gateway) -> String {
    format!("{}:{}", drafts[gateway.node].name, gateway.interface)
}

/// Routers on one segment that disagree about its prefix.
fn mismatched_prefixes(c: &mut Checker<'_>, drafts: &[Draft], domain: &Domain) {
    let mut sorted: Vec<&Gateway> = domain.gateways.iter().collect();
    sorted.sort_by_key(|gateway| (Range::of(gateway.net), gateway.span));
    for pair in sorted.windows(2) {
        let (a, b) = (Range::of(pair[0].net), Range::of(pair[1].net));
        // Within one router the FIB check has spoken already.
        if a == b || !a.overlaps(&b) || pair[0].node == pair[1].node {
            continue;
        }
        let (first, second) = if pair[0].span < pair[1].span { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
        let message = format!(
            "{} of {} overlaps {} of {} in one broadcast domain",
            second.net.trunc(),
            owner(drafts, second),
            first.net.trunc(),
            owner(drafts, first),
        );
        let help = "routers on one segment share its prefix: give both the same prefix length";
        c.error_with((second.span, message, "this prefix", help), (first.span, "and this one"));
    }
}

/// The network as the hosts of `draft` are configured for it.
fn segment(c: &mut Checker<'_>, draft: &Draft, domain: &Domain) -> Segment {
    let wanted: Vec<Range> = draft.pieces.iter().map(|piece| piece.range).collect();
    let mut prefixes: Vec<IpNet> = draft.prefixes.iter().map(|net| net.value).collect();
    if prefixes.is_empty() {
        for gateway in &domain.gateways {
            let net = gateway.net.trunc();
            let own =
                wanted.iter().any(|range| range.overlaps(&Range::of(net))) || (leases(draft) && net.addr().is_ipv4());
            if own && !prefixes.contains(&net) {
                prefixes.push(net);
            }
        }
        // A family without a router in the segment.
        for v6 in [false, true] {
            if domain.gateways.iter().any(|gateway| gateway.net.addr().is_ipv6() == v6) {
                continue;
            }
            let given = draft.gateways.iter().map(|gateway| Range::one(gateway.value));
            let own: Vec<Range> = wanted.iter().copied().filter(|range| range.v6 == v6).collect();
            if !own.is_empty() {
                let all: Vec<Range> = own.into_iter().chain(given.filter(|range| range.v6 == v6)).collect();
                prefixes.extend(addr::sensible_prefix(&all));
            }
        }
    }
    let mut gateways: Vec<IpAddr> = Vec::new();
    for gateway in &draft.gateways {
        let ip = gateway.value;
        if gateways.iter().any(|known| known.is_ipv4() == ip.is_ipv4()) {
            let help = "keep one of each family";
            c.error(gateway.span, "a host has one default gateway of a family", "one too many", help);
        } else if !prefixes.is_empty() && !prefixes.iter().any(|net| net.contains(&ip)) {
            let list = list(&prefixes);
            let message = format!("the gateway `{ip}` is outside of the segment's prefixes ({list})");
            c.error(gateway.span, message, "not on this segment", "write an address of the segment");
        } else if wanted.iter().any(|range| range.contains(ip))
            && !draft.except.iter().any(|range| range.contains(ip))
            && !claims(draft)
        {
            let help = format!("add `except: [{ip}]`, or write another gateway");
            c.error(gateway.span, format!("the gateway `{ip}` is one of the hosts"), "here", help);
        } else {
            gateways.push(ip);
        }
    }
    for v6 in [false, true] {
        if gateways.iter().any(|ip| ip.is_ipv6() == v6) {
            continue;
        }
        let mut of_family = domain.gateways.iter().filter(|gateway| gateway.net.addr().is_ipv6() == v6);
        gateways.extend(of_family.find(|gateway| prefixes.contains(&gateway.net.trunc())).map(|g| g.net.addr()));
    }
    Segment { prefixes, gateways }
}

fn list(prefixes: &[IpNet]) -> String {
    prefixes.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether the hosts of `draft` have their addresses only once those are claimed.
fn claims(draft: &Draft) -> bool {
    hosts(draft).is_some_and(|config| config.claim.is_some())
}

/// Whether the hosts of `draft` have the addresses that a server gives them.
fn leases(draft: &Draft) -> bool {
    hosts(draft).is_some_and(|config| config.dhcp.is_some())
}

/// Hosts that lease their addresses where no server can be.
fn unserved(c: &mut Checker<'_>, draft: &Draft, domain: &Domain) {
    if leases(draft) && domain.uplinks.is_empty() && domain.taps == 0 {
        let message = format!("no DHCP server can be on the segment of `{}`", draft.name);
        let help = "it has to share a broadcast domain with an uplink or a TAP, behind which there is one";
        c.error(draft.span, message, "its hosts lease their addresses", help);
    }
}

/// What the hosts of `draft` are not to have: for those who claim, also whatever has an owner by the topology.
fn left_out(drafts: &[Draft], draft: &Draft, domain: &Domain) -> Vec<Range> {
    let mut holes = draft.except.clone();
    if !claims(draft) {
        return holes;
    }
    holes.extend(draft.gateways.iter().map(|gateway| Range::one(gateway.value)));
    holes.extend(domain.gateways.iter().map(|gateway| Range::one(gateway.net.addr())));
    for other in domain.hosts.iter().map(|at| &drafts[*at]).filter(|other| !claims(other)) {
        let pieces: Vec<Range> = other.pieces.iter().map(|piece| piece.range).collect();
        holes.extend(addr::subtract(&addr::normalize(pieces), &other.except));
    }
    addr::normalize(holes)
}

/// The addresses that the hosts of `draft` really have.
fn ranges(c: &mut Checker<'_>, drafts: &[Draft], draft: &Draft, domain: &Domain, segment: &Segment) -> Vec<Range> {
    let mut holes = left_out(drafts, draft, domain);
    for piece in &draft.pieces {
        inside_segment(c, drafts, draft, piece, domain, segment);
        for net in &segment.prefixes {
            let Some((network, broadcast)) = addr::reserved(*net) else { continue };
            for (ip, what) in [(network, "network"), (broadcast, "broadcast")] {
                let excepted = draft.except.iter().any(|range| range.contains(ip));
                if !piece.range.contains(ip) || excepted {
                    continue;
                }
                if piece.from_prefix {
                    holes.push(Range::one(ip));
                    continue;
                }
                let message = format!("`{ip}` is the {what} address of `{net}`");
                c.error(
                    piece.span,
                    message,
                    "no host can have it",
                    "leave it out, or give the segment a shorter prefix",
                );
            }
        }
    }
    let wanted = addr::normalize(draft.pieces.iter().map(|piece| piece.range).collect());
    addr::subtract(&wanted, &addr::normalize(holes))
}

fn inside_segment(
    c: &mut Checker<'_>,
    drafts: &[Draft],
    draft: &Draft,
    piece: &Piece,
    domain: &Domain,
    segment: &Segment,
) {
    let on_link = addr::normalize(segment.prefixes.iter().map(|net| Range::of(*net)).collect());
    let effective = addr::subtract(&[piece.range], &draft.except);
    let outside = addr::subtract(&effective, &on_link);
    let Some(first) = outside.first() else { return };
    let mut known: Vec<String> = Vec::new();
    for gateway in domain.gateways.iter().filter(|gateway| gateway.net.addr().is_ipv6() == piece.range.v6) {
        known.push(format!("{} by {}", gateway.net.trunc(), owner(drafts, gateway)));
    }
    if !draft.prefixes.is_empty() {
        known = draft.prefixes.iter().map(|net| net.value.to_string()).collect();
    }
    let (message, help) = if known.is_empty() {
        (
            format!("`{first}` is outside of every prefix of its segment"),
            "no router of the segment has a prefix of this family: add one, or write `prefix:`".to_owned(),
        )
    } else {
        let what = if effective == [*first] { format!("`{first}`") } else { format!("`{first}` of `{}`", piece.range) };
        (
            format!("{what} is outside of its segment's prefix ({})", known.join(", ")),
            "choose addresses inside, or give the router an interface address with a shorter prefix".to_owned(),
        )
    };
    c.error(piece.span, message, "unreachable there", help);
}

/// Addresses that two nodes of a domain claim.
fn taken_twice(c: &mut Checker<'_>, drafts: &[Draft], domain: &Domain) {
    struct Claim {
        range: Range,
        span: Span,
        owner: String,
        population: bool,
        router: bool,
    }
    let mut claims: Vec<Claim> = Vec::new();
    for gateway in &domain.gateways {
        let range = Range::one(gateway.net.addr());
        claims.push(Claim {
            range,
            span: gateway.span,
            owner: owner(drafts, gateway),
            population: false,
            router: true,
        });
    }
    for &at in &domain.hosts {
        let draft = &drafts[at];
        let left_out = left_out(drafts, draft, domain);
        for piece in &draft.pieces {
            for range in addr::subtract(&[piece.range], &left_out) {
                let population = hosts(draft).is_some_and(|config| !config.single);
                claims.push(Claim { range, span: piece.span, owner: draft.name.clone(), population, router: false });
            }
        }
    }
    claims.sort_by_key(|claim| (claim.range, claim.span));
    let mut widest: Option<usize> = None;
    for at in 0..claims.len() {
        if let Some(before) = widest
            && claims[before].range.overlaps(&claims[at].range)
        {
            let (a, b) = (&claims[before], &claims[at]);
            // Say it where it is mended: at the population, else at what was written later.
            let (blamed, other) = match (a.population, b.population) {
                (true, false) => (a, b),
                (false, true) => (b, a),
                _ if a.span < b.span => (b, a),
                _ => (a, b),
            };
            let shared = Range { lo: a.range.lo.max(b.range.lo), hi: a.range.hi.min(b.range.hi), ..a.range };
            let message = if a.owner == b.owner {
                format!("`{}` has {shared} twice", a.owner)
            } else if other.router {
                format!("`{}` contains {shared}, which is the router's own address ({})", blamed.owner, other.owner)
            } else {
                format!("`{}` and `{}` both have {shared} in one broadcast domain", blamed.owner, other.owner)
            };
            let help = if blamed.population && a.owner != b.owner {
                format!("add `except: [{shared}]` to `{}`, or choose other addresses", blamed.owner)
            } else {
                "choose another address".to_owned()
            };
            c.error_with((blamed.span, message, "overlaps", &help), (other.span, "with this"));
        }
        let wider = widest.is_none_or(|before| {
            claims[before].range.v6 != claims[at].range.v6 || claims[before].range.hi < claims[at].range.hi
        });
        if wider {
            widest = Some(at);
        }
    }
}

/// More MACs than the uplink's guard lets onto the wire.
fn too_many_macs(c: &mut Checker<'_>, drafts: &[Draft], domain: &Domain, settled: &[(usize, Vec<Range>, Segment)]) {
    let limits = domain.uplinks.iter().filter_map(|at| Some((uplink(&drafts[*at])?.mac_limit, *at)));
    let Some((limit, at)) = limits.min() else { return };
    let mut total = u128::from(domain.interfaces) + u128::from(domain.taps);
    let mut largest: Option<(u128, usize)> = None;
    for &host in &domain.hosts {
        let Some(config) = hosts(&drafts[host]) else { continue };
        let ranges = settled.iter().find(|(of, ..)| *of == host).map_or(&[][..], |(_, ranges, _)| ranges);
        let macs = match (config.single, config.mac_mode) {
            (true, _) | (_, MacMode::Shared) => 1,
            _ => {
                let leased = config.dhcp.as_ref().map_or(0, |dhcp| u128::from(dhcp.hosts));
                let all = ranges.iter().fold(0u128, |sum, range| sum.saturating_add(range.len()));
                leased + config.claim.as_ref().map_or(all, |claim| all.min(claim.limit.into()))
            }
        };
        total = total.saturating_add(macs);
        largest = largest.max(Some((macs, host)));
    }
    let Some((_, host)) = largest.filter(|_| total > u128::from(limit)) else { return };
    let span = drafts[host].pieces.first().map_or(drafts[host].span, |piece| piece.span);
    let message =
        format!("{total} MAC addresses would appear on the uplink `{}`, which takes {limit}", drafts[at].name);
    let mut help =
        "put a router between them, or write `mac: shared` at the population (or raise the uplink's `mac_limit`)";
    if claims(&drafts[host]) {
        help =
            "write a lower `claim: {limit: ...}` or `mac: shared` at the population, or raise the uplink's `mac_limit`";
    }
    c.error(span, message, format!("`{}` shares a broadcast domain with the uplink", drafts[host].name), help);
}
