//! Nodes by kind: what each may have, and what it becomes.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::addr::{self, Range};
use super::at::{At, Text, Texts};
use super::check::{Checker, Layers};
use super::layers::{self, Layer, Services};
use super::population::{chosen, read_limits, read_mac};
use super::raw::{Kind, Node};
use super::source::Span;
use super::{granted, units};
use crate::emulate::Case;
use crate::node::{HostsConfig, MirrorConfig, NodeConfig, Segment, TapConfig, UplinkConfig};

/// Most nodes of a topology.
const MAX_NODES: usize = 4096;
/// Entries that a receive ring may have.
const RING: std::ops::RangeInclusive<u32> = 1024..=32_768;
/// Most hosts of a node: as many as a /8 has.
const MAX_HOSTS: u128 = 1 << 24;

/// Addresses as they were written.
#[derive(Clone, Debug)]
pub struct Piece {
    pub range: Range,
    pub span: Span,
    /// A prefix means its usable addresses; a range means every one.
    pub from_prefix: bool,
}

/// What is known of a node before its surroundings are.
#[derive(Debug)]
pub struct Draft {
    pub name: String,
    pub span: Span,
    pub kind: Option<Kind>,
    /// `None` after a mistake.
    pub config: Option<NodeConfig>,
    pub pieces: Vec<Piece>,
    pub except: Vec<Range>,
    pub gateways: Vec<At<IpAddr>>,
    pub prefixes: Vec<At<IpNet>>,
    /// For each of a router's interfaces, the places of its addresses.
    pub interface_spans: Vec<Vec<Span>>,
    pub transit: bool,
    /// What a mirror is given copies of, as it was written.
    pub of: Vec<At<Text>>,
}

const TEMPLATE: &[&str] = &[
    "personality",
    "vendor",
    "ping",
    "tcp",
    "tcp_default",
    "udp",
    "udp_default",
    "backend",
    "outward",
    "normalize",
    "talk",
    "when",
];

fn own_keys(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Uplink => &["interface", "allow", "mac_limit", "rate", "transit", "io", "ring"],
        Kind::Tap => &["interface", "capture"],
        Kind::Mirror => &["interface", "of"],
        Kind::Switch => &["ports", "fdb_capacity", "aging"],
        Kind::Router => &["interfaces", "routes", "vendor", "neighbor_capacity"],
        Kind::Hosts => &[
            "template",
            "mix",
            "addresses",
            "except",
            "claim",
            "dhcp",
            "mac",
            "limits",
            "response_time",
            "gateway",
            "prefix",
        ],
        Kind::Host | Kind::Container => {
            &["template", "address", "mac", "hostname", "limits", "response_time", "gateway", "prefix"]
        }
    }
}

fn is_host(kind: Kind) -> bool {
    matches!(kind, Kind::Hosts | Kind::Host | Kind::Container)
}

fn applies(kind: Kind, key: &str) -> bool {
    key == "kind" || own_keys(kind).contains(&key) || (is_host(kind) && TEMPLATE.contains(&key))
}

/// Reads every node.
pub fn read(c: &mut Checker<'_>, layers: &Layers) -> Vec<Draft> {
    let raw = c.raw;
    if raw.nodes.0.is_empty() {
        c.error(raw.nodes.span, "there are no nodes", "nothing to bring up", "add a node; see topologies/minimal.yaml");
    }
    if raw.nodes.0.len() > MAX_NODES {
        let help = "a population (`kind: hosts`) has up to 16,777,216 hosts and is one node";
        c.error(raw.nodes.span, format!("there are more than {MAX_NODES} nodes"), "in this mapping", help);
        return Vec::new();
    }
    if let Some(defaults) = &raw.defaults {
        for (key, span) in defaults.present() {
            if matches!(key, "kind" | "addresses" | "address" | "interfaces" | "interface" | "hostname" | "dhcp" | "of")
            {
                let at = c.source.key_before(key, span);
                c.error(at, format!("`{key}` cannot be a default"), "each node has its own", "move it to the node");
            }
        }
    }
    for kind in Kind::ALL {
        let Some(node) = raw.kinds.as_ref().and_then(|kinds| kinds.get(kind)) else { continue };
        for (key, span) in node.present() {
            if key == "kind" || !applies(kind, key) {
                wrong_key(c, kind, key, span);
            }
        }
    }
    let nodes = raw.nodes.iter().zip(&layers.nodes);
    let drafts: Vec<Draft> = nodes.map(|((name, node), layer)| read_one(c, layers, name, node, layer)).collect();
    judge_taps(c, &drafts);
    drafts
}

/// TAPs that cannot all be made.
fn judge_taps(c: &mut Checker<'_>, drafts: &[Draft]) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    let mut count = 0;
    for draft in drafts {
        let tap = match &draft.config {
            Some(NodeConfig::Tap(tap) | NodeConfig::Mirror(MirrorConfig { tap, .. })) => tap,
            _ => continue,
        };
        count += 1;
        if count == TapConfig::MOST + 1 {
            let message = format!("there are more than {} TAPs", TapConfig::MOST);
            c.error(draft.span, message, "one too many", "let several machines share one, by a Linux bridge on it");
        }
        if let Some(first) = seen.insert(&tap.interface, draft.span) {
            let message = format!("two TAPs would be named `{}`", tap.interface);
            let help = "each is an interface of its own: choose another `interface:`";
            c.error_with((draft.span, message, "the second", help), (first, "the first"));
        }
    }
}

fn wrong_key(c: &mut Checker<'_>, kind: Kind, key: &str, value: Span) {
    let at = c.source.key_before(key, value);
    let owners: Vec<String> =
        Kind::ALL.iter().filter(|kind| applies(**kind, key)).map(|kind| format!("`{}`", kind.name())).collect();
    let mut keys: Vec<String> = own_keys(kind).iter().map(|key| format!("`{key}`")).collect();
    if is_host(kind) {
        keys.push("the keys of a template".to_owned());
    }
    let instead = match (kind, key) {
        (Kind::Hosts, "address") => "did you mean `addresses`?".to_owned(),
        (Kind::Host | Kind::Container, "addresses") => "did you mean `address`?".to_owned(),
        _ => format!("a `{}` has {}", kind.name(), keys.join(", ")),
    };
    c.error(
        at,
        format!("`{key}` does not belong to a `{}`", kind.name()),
        format!("it belongs to {}", owners.join(", ")),
        instead,
    );
}

fn read_one(c: &mut Checker<'_>, layers: &Layers, name: &At<Text>, node: &At<Node>, layer: &Layer) -> Draft {
    let mut draft = Draft {
        name: name.value.0.clone(),
        span: name.span,
        kind: node.kind.as_ref().map(|kind| kind.value),
        config: None,
        pieces: Vec::new(),
        except: Vec::new(),
        gateways: Vec::new(),
        prefixes: Vec::new(),
        interface_spans: Vec::new(),
        transit: false,
        of: Vec::new(),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !(1..=63).contains(&name.len()) || !name.bytes().all(plain) {
        let help = "use 1 to 63 letters, digits, `-`, `_` and `.`";
        c.error(name.span, format!("`{}` cannot name a node", name.0), "here", help);
    }
    let Some(kind) = draft.kind else {
        let kinds = Kind::ALL.map(|kind| format!("`{}`", kind.name())).join(", ");
        c.error(
            name.span,
            format!("the node `{}` has no kind", name.0),
            "what is it?",
            format!("add `kind:`, one of {kinds}"),
        );
        return draft;
    };
    for (key, span) in node.present() {
        if !applies(kind, key) {
            wrong_key(c, kind, key, span);
        }
    }
    let of_kind = c.raw.kinds.as_ref().and_then(|kinds| kinds.get(kind));
    let mut full = node.value.clone();
    // `template` and `mix` exclude each other, so that the nearest of both counts.
    let nearest = [Some(&node.value), of_kind.map(|k| &k.value), c.raw.defaults.as_ref().map(|d| &d.value)]
        .into_iter()
        .flatten()
        .find(|level| level.template.is_some() || level.mix.is_some())
        .map(|level| (level.template.clone(), level.mix.clone()));
    if let Some(of_kind) = of_kind {
        full = full.or(of_kind);
    }
    if let Some(defaults) = &c.raw.defaults {
        full = full.or(defaults);
    }
    (full.template, full.mix) = nearest.unwrap_or_default();
    draft.config = match kind {
        Kind::Uplink => {
            draft.transit = full.transit.as_ref().is_some_and(|transit| transit.value);
            uplink(c, &full).map(NodeConfig::Uplink)
        }
        Kind::Tap => tap(c, &full, name).map(NodeConfig::Tap),
        Kind::Mirror => super::mirrors::read(c, &full, name, &mut draft.of).map(NodeConfig::Mirror),
        Kind::Switch => super::devices::switch(c, &full).map(NodeConfig::Bridge),
        Kind::Router => super::devices::router(c, &full, name, &mut draft.interface_spans).map(NodeConfig::Router),
        Kind::Hosts | Kind::Host | Kind::Container => {
            hosts(c, layers, kind, &full, name, layer, &mut draft).map(NodeConfig::Hosts)
        }
    };
    draft
}

fn uplink(c: &mut Checker<'_>, node: &Node) -> Option<UplinkConfig> {
    let interface = match &node.interface {
        Some(at) => interface(c, at)?,
        None => String::new(),
    };
    let mac_limit = node.mac_limit.as_ref().map_or(256, |limit| limit.value);
    if let Some(limit) = node.mac_limit.as_ref().filter(|limit| limit.value == 0) {
        c.error(limit.span, "no frame could leave with a limit of 0", "here", "write 256, the default");
    }
    let rate_bytes = match &node.rate {
        Some(rate) => c.unit(rate.span, units::rate_bytes(rate))?,
        None => 0,
    };
    let mut allow = node.allow.as_ref().map_or_else(Vec::new, |allow| allow.value.clone());
    allow.dedup();
    let io = node.io.as_ref().map_or_else(Default::default, |io| io.value);
    let ring = node.ring.as_ref().map_or(UplinkConfig::RING, |ring| ring.value);
    if let Some(at) = node.ring.as_ref().filter(|_| !ring.is_power_of_two() || !RING.contains(&ring)) {
        let help = format!("write a power of two from {} to {}", RING.start(), RING.end());
        c.error(at.span, format!("a ring cannot have {ring} entries"), "here", help);
    }
    Some(UplinkConfig { interface, allow, mac_limit, rate_bytes, io, ring, tagged: false })
}

/// Reads a TAP.
pub(super) fn tap(c: &mut Checker<'_>, node: &Node, name: &At<Text>) -> Option<TapConfig> {
    let Some(at) = &node.interface else {
        let message = format!("the TAP `{}` has no name on this machine", name.0);
        c.error(name.span, message, "it needs `interface`", "add `interface: hw-vm1`, or any name that is free");
        return None;
    };
    let interface = interface(c, at)?;
    // The kernel would put a number there.
    if interface.contains('%') {
        let help = "choose a name without `%`";
        c.error(at.span, format!("`{interface}` cannot be the name of a TAP"), "here", help);
        return None;
    }
    Some(TapConfig { interface, capture: node.capture.as_ref().is_none_or(|capture| capture.value) })
}

/// A name that the kernel's dev_valid_name takes.
fn interface(c: &mut Checker<'_>, at: &At<Text>) -> Option<String> {
    let name = &at.value.0;
    let bad = |b: u8| b == b'/' || b == b':' || b.is_ascii_whitespace() || b == 0;
    if name.is_empty() || name.len() > 15 || name.bytes().any(bad) || name.starts_with('.') {
        let help = "a name such as eth0 has 1 to 15 octets, none of them a space, `/` or `:`; see `ip link`";
        c.error(at.span, format!("`{name}` cannot be an interface"), "here", help);
        return None;
    }
    Some(name.clone())
}

fn read_addresses(c: &mut Checker<'_>, texts: &At<Texts>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for text in &texts.value.0 {
        if let Some((range, from_prefix)) = c.unit(text.span, addr::parse(text)) {
            pieces.push(Piece { range, span: text.span, from_prefix });
        }
    }
    pieces
}

/// Reads the addresses of hosts that are given theirs; returns how many they are.
fn place(c: &mut Checker<'_>, kind: Kind, node: &Node, name: &At<Text>, draft: &mut Draft) -> Option<u128> {
    let single = kind != Kind::Hosts;
    let written = if single { &node.address } else { &node.addresses };
    let Some(written) = written else {
        if node.address.is_some() || node.addresses.is_some() {
            // The wrong one of both keys, and reported as such.
            return None;
        }
        let key = if single { "address" } else { "addresses" };
        let example = if single { "10.0.0.5" } else { "10.1.0.0/16` or `dhcp: {hosts: 5}" };
        let message = format!("`{}` has no addresses", name.0);
        c.error(name.span, message, format!("a `{}` needs `{key}`", kind.name()), format!("add `{key}: {example}`"));
        return None;
    };
    if written.0.is_empty() {
        let help = "write a prefix, a range or an address";
        c.error(written.span, format!("`{}` has no addresses", name.0), "an empty list", help);
        return None;
    }
    let mistakes = c.errors.len();
    draft.pieces = read_addresses(c, written);
    for piece in draft.pieces.iter().filter(|piece| single && piece.range.len() > 1) {
        let help = "write one address, or several in a list; a population is `kind: hosts`";
        c.error(piece.span, "a single host has single addresses", "this is more than one", help);
    }
    for piece in &draft.pieces {
        let (first, last) = (piece.range.first(), piece.range.last());
        let bad = |ip: IpAddr| ip.is_multicast() || ip.is_unspecified() || ip.is_loopback();
        if bad(first) || bad(last) || first == IpAddr::from([255; 4]) || last == IpAddr::from([255; 4]) {
            let message = format!("`{}` is not for hosts", c.source.slice(piece.span));
            c.error(piece.span, message, "multicast, loopback or unspecified", "choose unicast addresses");
        }
    }
    let except = node.except.as_ref().map_or_else(Vec::new, |except| read_addresses(c, except));
    draft.except = addr::normalize(except.iter().map(|piece| piece.range).collect());
    for piece in &except {
        if !draft.pieces.iter().any(|own| own.range.overlaps(&piece.range)) {
            let message = format!("`{}` is none of the population's addresses", c.source.slice(piece.span));
            c.error(piece.span, message, "leaves nothing out", "remove it, or correct it");
        }
    }
    let left = addr::subtract(&addr::normalize(draft.pieces.iter().map(|p| p.range).collect()), &draft.except);
    let total: u128 = left.iter().fold(0, |sum, range| sum.saturating_add(range.len()));
    if total == 0 && c.errors.len() == mistakes {
        c.error(
            written.span,
            format!("the population `{}` is empty", name.0),
            "all of it is left out",
            "write less in `except`",
        );
    }
    if total > MAX_HOSTS {
        let message = format!("the population `{}` is larger than a /8", name.0);
        c.error(
            written.span,
            message,
            format!("{total} hosts"),
            "a node has at most 16,777,216 hosts (a /8, or a /104)",
        );
    }
    Some(total)
}

#[allow(clippy::too_many_arguments)]
fn hosts(
    c: &mut Checker<'_>,
    layers: &Layers,
    kind: Kind,
    node: &Node,
    name: &At<Text>,
    own: &Layer,
    draft: &mut Draft,
) -> Option<HostsConfig> {
    let single = kind != Kind::Hosts;
    let dhcp = match &node.dhcp {
        Some(dhcp) if !single => Some(Box::new(super::dhcp::read(c, dhcp, node, dhcp.span)?)),
        _ => None,
    };
    let total = match &dhcp {
        Some(dhcp) => dhcp.hosts.into(),
        None => place(c, kind, node, name, draft)?,
    };
    for text in node.gateway.iter().flat_map(|gateway| &gateway.value.0) {
        match text.parse() {
            Ok(value) => draft.gateways.push(At { value, span: text.span }),
            Err(_) => {
                c.error(text.span, format!("`{}` is not an address", text.0), "the gateway", "write such as 10.0.0.1")
            }
        }
    }
    for text in node.prefix.iter().flat_map(|prefix| &prefix.value.0) {
        if let Some(value) = c.unit(text.span, addr::prefix(text)) {
            draft.prefixes.push(At { value, span: text.span });
        }
    }
    let (mac_mode, mac) = read_mac(c, node, single)?;
    let limits = read_limits(c, node)?;
    let response_time = node.response_time.as_ref().map(|time| time.value).unwrap_or_default();
    let claim = match &node.claim {
        Some(claim) if !single => Some(Box::new(super::claim::read(c, claim)?)),
        _ => None,
    };
    let hostname = node.hostname.as_ref().map(|hostname| hostname.value.0.clone());
    if let Some(at) = &node.hostname {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if !(1..=63).contains(&at.len()) || !at.bytes().all(plain) || at.starts_with(['-', '.']) {
            c.error(at.span, format!("`{}` is no host name", at.0), "here", "use 1 to 63 letters, digits and `-`");
        }
    }

    let mut services = Services::default();
    let mut templates = Vec::new();
    let mut mix = Vec::new();
    for (template, weight, span) in chosen(c, node, name)? {
        let of_kind = layers.kinds.iter().find(|(of, _)| *of == kind).map(|(_, layer)| layer);
        let named = template.and_then(|at| layers.templates.get(at));
        let stack: Vec<&Layer> = [Some(&layers.defaults), of_kind, named, Some(own)].into_iter().flatten().collect();
        let title = template
            .and_then(|at| c.raw.templates.as_ref()?.names().nth(at).map(str::to_owned))
            .unwrap_or_else(|| name.0.clone());
        let is_container = kind == Kind::Container;
        let merged = layers::merge(c, &title, &stack, &mut services, span, is_container, None)?;
        let starts = merged.backend.as_ref().is_some_and(|b| b.start == crate::emulate::StartPolicy::WithSystem);
        if starts && claim.is_some() {
            let message = format!("`{title}` would start with the system for addresses that are yet to be claimed");
            let help = "use `start: on-access`, or a population without `claim`";
            c.error(span, message, "its hosts are there only once somebody looks for them", help);
        } else if starts && total > u128::from(limits.containers) {
            let message = format!("`{title}` would start {total} containers with the system");
            let help = "use `start: on-access`, or raise `limits: {containers: ...}`";
            c.error(span, message, format!("at most {} run at once", limits.containers), help);
        }
        granted::judge(c, &title, merged.backend.as_ref(), claim.is_some(), span);
        if merged.backend.is_some() && dhcp.is_some() {
            let message = format!("a host that leases its address has no container, which `{title}` would give it");
            let help = "use a template without `backend`, or a population with `addresses`";
            c.error(span, message, "containers have the address that they are made with", help);
        }
        let cases = stack.iter().rev().find_map(|layer| layer.cases.as_deref()).unwrap_or_default();
        let Ok(at) = u16::try_from(templates.len()) else { continue };
        templates.push(merged);
        mix.push((at, weight));
        for case in cases {
            let named = case.template.and_then(|at| layers.templates.get(at)).or(named);
            let stack = [Some(&layers.defaults), of_kind, named, Some(own), Some(&case.layer)];
            let stack: Vec<&Layer> = stack.into_iter().flatten().collect();
            let base = &templates[usize::from(at)];
            let merged = layers::merge(c, &title, &stack, &mut services, case.span, is_container, Some(base))?;
            let Ok(template) = u16::try_from(templates.len()) else { continue };
            templates.push(merged);
            templates[usize::from(at)].cases.push(Case { template, ..case.case.clone() });
        }
    }
    Some(HostsConfig {
        ranges: Vec::new(),
        single,
        // A population's hosts have no other name than the node's and a number.
        hostname: hostname.or_else(|| Some(name.value.0.clone())),
        mix,
        templates,
        services: services.list,
        mac_mode,
        mac,
        segment: Segment::default(),
        claim,
        dhcp,
        inside: Vec::new(),
        response_time,
        limits,
    })
}
