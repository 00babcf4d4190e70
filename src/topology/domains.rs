//! Broadcast domains: who hears whose broadcasts, by VLAN; loops among switches
//! and uplinks that would be bridged are found on the way.

use std::collections::{HashMap, VecDeque};

use super::check::Checker;
use super::links::Linked;
use super::nodes::Draft;
use super::source::Span;
use crate::frame::PortNo;
use crate::node::{NodeConfig, NodeIdx, PortVlan};

/// VLANs on trunks, counted once for each link.
const MAX_CARRIED: usize = 2_000_000;

/// A part of a node that is in one broadcast domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Part {
    /// A VLAN of a switch; the tagged (or, as 0, untagged) side of an uplink or a TAP.
    Vlan(u16),
    /// A port of a router or of hosts.
    Port(u16),
}

/// Which parts share a domain.
#[derive(Default)]
pub struct DomainMap {
    numbers: HashMap<(usize, Part), usize>,
    parents: Vec<usize>,
    sizes: Vec<usize>,
    nodes: Vec<usize>,
    edges: Vec<Vec<usize>>,
}

impl DomainMap {
    fn number(&mut self, node: usize, part: Part) -> usize {
        let fresh = self.parents.len();
        let number = *self.numbers.entry((node, part)).or_insert(fresh);
        if number == fresh {
            self.parents.push(fresh);
            self.sizes.push(1);
            self.nodes.push(node);
            self.edges.push(Vec::new());
        }
        number
    }

    fn root(&self, mut at: usize) -> usize {
        while self.parents[at] != at {
            at = self.parents[at];
        }
        at
    }

    /// Joins two parts; `false` if they were joined before.
    fn join(&mut self, a: usize, b: usize) -> bool {
        let (mut small, mut large) = (self.root(a), self.root(b));
        if small == large {
            return false;
        }
        // The smaller below the larger keeps the walk to the root short.
        if self.sizes[small] > self.sizes[large] {
            std::mem::swap(&mut small, &mut large);
        }
        self.parents[small] = large;
        self.sizes[large] += self.sizes[small];
        self.edges[a].push(b);
        self.edges[b].push(a);
        true
    }

    fn path(&self, from: usize, to: usize) -> Vec<usize> {
        let mut came: HashMap<usize, usize> = HashMap::from([(from, from)]);
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            if at == to {
                let mut path = vec![to];
                let mut at = to;
                while at != from {
                    at = came[&at];
                    path.push(at);
                }
                return path;
            }
            for &next in &self.edges[at] {
                came.entry(next).or_insert_with(|| {
                    queue.push_back(next);
                    at
                });
            }
        }
        Vec::new()
    }

    /// The domain of a port of a router or of hosts.
    pub fn of_port(&self, node: usize, port: PortNo) -> Option<usize> {
        self.numbers.get(&(node, Part::Port(port.0))).map(|number| self.root(*number))
    }

    /// The domains of an uplink or a TAP.
    pub fn of_wire(&self, node: usize) -> Vec<usize> {
        let parts = self.numbers.iter().filter(|((of, _), _)| *of == node);
        let mut roots: Vec<usize> = parts.map(|(_, number)| self.root(*number)).collect();
        roots.sort_unstable();
        roots.dedup();
        roots
    }
}

/// What a port makes of frames: the part that untagged ones are in, and the VLANs of tagged ones.
enum Side {
    /// Takes untagged frames only.
    Plain(Part),
    /// A wire to something outside: takes whatever comes.
    Wire,
    /// A trunk.
    Trunk { native: Option<u16>, allowed: Vec<u16> },
}

fn side(drafts: &[Draft], (node, port): (NodeIdx, PortNo)) -> Option<Side> {
    Some(match drafts[usize::from(node.0)].config.as_ref()? {
        NodeConfig::Uplink(_) | NodeConfig::Tap(_) => Side::Wire,
        NodeConfig::Router(_) | NodeConfig::Hosts(_) => Side::Plain(Part::Port(port.0)),
        NodeConfig::Mirror(_) => return None,
        NodeConfig::Bridge(bridge) => match &bridge.ports.get(usize::from(port.0))?.vlan {
            PortVlan::Access(vlan) => Side::Plain(Part::Vlan(*vlan)),
            PortVlan::Trunk { native, allowed } => Side::Trunk { native: *native, allowed: allowed.clone() },
        },
    })
}

impl Side {
    fn untagged(&self) -> Option<Part> {
        match self {
            Side::Plain(part) => Some(*part),
            Side::Wire => Some(Part::Vlan(0)),
            Side::Trunk { native, .. } => native.map(Part::Vlan),
        }
    }

    /// The VLANs that both sides exchange tagged.
    fn tagged_with(&self, other: &Side) -> Vec<u16> {
        match (self, other) {
            (Side::Trunk { native: n, allowed: a }, Side::Trunk { native: m, allowed: b }) => a
                .iter()
                .copied()
                .filter(|v| b.binary_search(v).is_ok() && !(*n == Some(*v) && *m == Some(*v)))
                .collect(),
            (Side::Wire, Side::Trunk { native, allowed }) | (Side::Trunk { native, allowed }, Side::Wire) => {
                allowed.iter().copied().filter(|v| *native != Some(*v)).collect()
            }
            // Two wires would exchange everything; untagged traffic tells them together already.
            _ => Vec::new(),
        }
    }
}

/// Finds the domains and reports loops and bridged uplinks.
pub fn find(c: &mut Checker<'_>, drafts: &[Draft], links: &[Linked]) -> DomainMap {
    let mut map = DomainMap::default();
    // Ports that nothing is linked to are domains of their own.
    for (at, draft) in drafts.iter().enumerate() {
        match &draft.config {
            Some(NodeConfig::Router(router)) => {
                for port in 0..router.interfaces.len() {
                    map.number(at, Part::Port(port as u16));
                }
            }
            Some(NodeConfig::Hosts(_)) => {
                map.number(at, Part::Port(0));
            }
            _ => {}
        }
    }
    let mut carried = 0;
    for link in links {
        let (Some(a), Some(b)) = (side(drafts, link.plan.a), side(drafts, link.plan.b)) else { continue };
        let (na, nb) = (usize::from(link.plan.a.0.0), usize::from(link.plan.b.0.0));
        let mut loops: Vec<(String, usize, usize)> = Vec::new();
        let mut join = |map: &mut DomainMap, pa: Part, pb: Part| {
            let (va, vb) = (map.number(na, pa), map.number(nb, pb));
            if !map.join(va, vb) {
                let vlan = [pa, pb].into_iter().find_map(|part| match part {
                    Part::Vlan(vlan) if vlan > 0 => Some(format!("VLAN {vlan}")),
                    _ => None,
                });
                loops.push((vlan.unwrap_or_else(|| "untagged frames".to_owned()), va, vb));
            }
        };
        if let (Some(pa), Some(pb)) = (a.untagged(), b.untagged()) {
            join(&mut map, pa, pb);
        }
        let tagged = a.tagged_with(&b);
        carried += tagged.len();
        if carried > MAX_CARRIED {
            let help = "let each trunk carry the VLANs that it needs";
            c.error(link.span, "the trunks carry too many VLANs", "over two million, counted by link", help);
            break;
        }
        for vlan in tagged {
            join(&mut map, Part::Vlan(vlan), Part::Vlan(vlan));
        }
        if let Some((vlan, from, to)) = loops.first() {
            let mut names: Vec<&str> = map.path(*from, *to).iter().map(|at| &*drafts[map.nodes[*at]].name).collect();
            names.extend(names.first().copied());
            let more = if loops.len() > 1 { format!(" and {} more", loops.len() - 1) } else { String::new() };
            c.error(
                link.span,
                format!("this link closes a forwarding loop in {vlan}{more}: {}", names.join(" - ")),
                "a frame would go round for ever",
                "remove one of the links of the loop (there is no spanning tree), or put the ports into different VLANs",
            );
        }
    }
    bridged_uplinks(c, drafts, &map);
    map
}

/// Finds out by which uplinks tagged frames pass.
pub fn find_tagged(drafts: &mut [Draft], links: &[Linked]) {
    for link in links {
        let (Some(a), Some(b)) = (side(drafts, link.plan.a), side(drafts, link.plan.b)) else { continue };
        let both_wires = matches!((&a, &b), (Side::Wire, Side::Wire));
        if !both_wires && a.tagged_with(&b).is_empty() {
            continue;
        }
        for (end, _) in [link.plan.a, link.plan.b] {
            if let Some(NodeConfig::Uplink(uplink)) = &mut drafts[usize::from(end.0)].config {
                uplink.tagged = true;
            }
        }
    }
}

fn bridged_uplinks(c: &mut Checker<'_>, drafts: &[Draft], map: &DomainMap) {
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let uplinks = drafts.iter().enumerate().filter(|(_, draft)| matches!(draft.config, Some(NodeConfig::Uplink(_))));
    for (at, draft) in uplinks {
        for domain in map.of_wire(at) {
            let first = *seen.entry(domain).or_insert(at);
            if first == at || (draft.transit && drafts[first].transit) {
                continue;
            }
            let other: Span = drafts[first].span;
            let message = format!("the uplinks `{}` and `{}` are bridged", drafts[first].name, draft.name);
            let help =
                "two real networks would become one; put a router between them, or write `transit: true` at both";
            c.error_with((draft.span, message, "shares a broadcast domain", help), (other, "with this one"));
        }
    }
}
