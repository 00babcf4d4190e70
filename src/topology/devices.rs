//! Switches and routers.

use super::addr::{self, Range};
use super::at::{At, Text};
use super::check::Checker;
use super::layers;
use super::raw::{Node, Port, Ports};
use super::source::Span;
use super::{units, vendors};
use crate::node::{BridgeConfig, BridgePort, PortVlan, Route, RouterConfig, RouterInterface};
use crate::wire::Mac;

/// Most ports of a switch.
const MAX_PORTS: u64 = 1024;
const DEFAULT_PORTS: u64 = 8;

/// Reads a switch.
pub fn switch(c: &mut Checker<'_>, node: &Node) -> Option<BridgeConfig> {
    let access = |name: u64| BridgePort { name: name.to_string(), vlan: PortVlan::Access(1) };
    let ports = match &node.ports {
        None => (1..=DEFAULT_PORTS).map(access).collect(),
        Some(ports) => match &ports.value {
            Ports::Count(count) if *count == 0 || *count > MAX_PORTS => {
                let message = format!("a switch cannot have {count} ports");
                c.error(ports.span, message, "here", format!("write 1 to {MAX_PORTS}"));
                return None;
            }
            Ports::Count(count) => (1..=*count).map(access).collect(),
            Ports::Named(map) => named_ports(c, map, ports.span)?,
        },
    };
    let fdb_capacity = node.fdb_capacity.as_ref().map_or(8192, |at| at.value);
    if let Some(at) = node.fdb_capacity.as_ref().filter(|at| !(16..=1 << 20).contains(&at.value)) {
        let message = format!("a MAC table cannot have {} entries", at.value);
        c.error(at.span, message, "here", "write 16 to 1048576; 8192 is the default");
        return None;
    }
    let aging_secs = match &node.aging {
        Some(text) => c.unit(text.span, units::duration_secs(text))?,
        None => 300,
    };
    if let Some(text) = node.aging.as_ref().filter(|_| aging_secs == 0) {
        c.error(text.span, "entries that age at once are never used", "here", "write 5m, the default");
        return None;
    }
    Some(BridgeConfig { ports, fdb_capacity, aging_secs })
}

fn named_ports(c: &mut Checker<'_>, map: &super::at::Map<At<Port>>, span: Span) -> Option<Vec<BridgePort>> {
    let mistakes = c.errors.len();
    let mut ports: Vec<BridgePort> = Vec::new();
    let mut numbered: Vec<Option<PortVlan>> = Vec::new();
    if map.0.is_empty() {
        let help = "write their number, or a mapping such as `1: {access: 10}`";
        c.error(span, "a switch without ports", "here", help);
        return None;
    }
    for (name, port) in map.iter() {
        let vlan = port_vlan(c, port, name.span);
        let numeric = name.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        if numeric {
            let Some((first, last)) = c.unit(name.span, units::ports(name)) else { continue };
            if u64::from(last) > MAX_PORTS {
                let message = format!("a switch has no port {last}");
                c.error(name.span, message, "here", format!("write 1 to {MAX_PORTS}"));
                continue;
            }
            numbered.resize(numbered.len().max(last.into()), None);
            for number in first..=last {
                let slot = &mut numbered[usize::from(number) - 1];
                if slot.is_some() {
                    let message = format!("port {number} is in two of the keys");
                    c.error(name.span, message, "again here", "let the ranges not overlap");
                    break;
                }
                *slot = vlan.clone();
            }
            continue;
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        if !(1..=32).contains(&name.len()) || !name.bytes().all(plain) {
            let help = "use 1 to 32 letters, digits, `-`, `_`, `.` and `/`";
            c.error(name.span, format!("`{}` cannot name a port", name.0), "here", help);
            continue;
        }
        ports.extend(vlan.map(|vlan| BridgePort { name: name.value.0.clone(), vlan }));
    }
    let numbered = numbered
        .into_iter()
        .enumerate()
        .map(|(at, vlan)| BridgePort { name: (at + 1).to_string(), vlan: vlan.unwrap_or(PortVlan::Access(1)) });
    let all: Vec<BridgePort> = numbered.chain(ports).collect();
    if all.len() as u64 > MAX_PORTS {
        c.error(map.0[0].0.span, format!("a switch has at most {MAX_PORTS} ports"), "from here on", "use two switches");
    }
    (c.errors.len() == mistakes).then_some(all)
}

fn vlan_id(text: &str) -> Option<u16> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|id| (1..=4094).contains(id))
}

fn no_vlan(c: &mut Checker<'_>, span: Span, text: &str) {
    c.error(span, format!("{text} is no VLAN"), "here", "VLANs are 1 to 4094 (IEEE 802.1Q)");
}

fn vlan(c: &mut Checker<'_>, at: &At<u32>) -> Option<u16> {
    let text = at.value.to_string();
    let id = vlan_id(&text);
    if id.is_none() {
        no_vlan(c, at.span, &text);
    }
    id
}

fn port_vlan(c: &mut Checker<'_>, port: &At<Port>, name: Span) -> Option<PortVlan> {
    match (&port.access, &port.trunk, &port.native) {
        (None, None, None) => Some(PortVlan::Access(1)),
        (Some(access), None, None) => vlan(c, access).map(PortVlan::Access),
        (None, Some(trunk), native) => {
            if trunk.is_empty() {
                c.error(trunk.span, "a trunk without VLANs carries nothing", "here", "write such as `trunk: [10, 20]`");
                return None;
            }
            let mut allowed = Vec::with_capacity(trunk.len());
            for at in &trunk.value {
                let (first, last) = at.split_once('-').unwrap_or((at, at));
                match (vlan_id(first), vlan_id(last)) {
                    (Some(first), Some(last)) if first <= last => allowed.extend(first..=last),
                    _ => {
                        no_vlan(c, at.span, at);
                        return None;
                    }
                }
            }
            allowed.sort_unstable();
            allowed.dedup();
            let native = match native {
                Some(at) => Some(vlan(c, at)?),
                None => None,
            };
            Some(PortVlan::Trunk { native, allowed })
        }
        _ => {
            let help = "write `{access: 10}`, or `{trunk: [10, 20], native: 1}`";
            c.error(name, "a port is either an access port or a trunk", "this port", help);
            None
        }
    }
}

/// Reads the MAC of one station.
pub fn unicast_mac(c: &mut Checker<'_>, text: &At<Text>) -> Option<Mac> {
    match text.parse::<Mac>() {
        Ok(mac) if mac.is_group() || mac == Mac::ZERO => {
            let help = "the first octet of a station's MAC is even, such as 00:0c:29:aa:00:11";
            c.error(text.span, format!("`{mac}` is not the MAC of one station"), "here", help);
            None
        }
        Ok(mac) => Some(mac),
        Err(error) => {
            c.error(text.span, format!("`{}` is not a MAC address", text.0), "here", error.to_string());
            None
        }
    }
}

/// Reads a router; `spans` gets the places of the addresses of each interface.
pub fn router(c: &mut Checker<'_>, node: &Node, name: &At<Text>, spans: &mut Vec<Vec<Span>>) -> Option<RouterConfig> {
    let mistakes = c.errors.len();
    let Some(map) = node.interfaces.as_ref().filter(|map| !map.0.is_empty()) else {
        let help = "add such as `interfaces: {lan: [10.0.0.1/24]}`";
        c.error(name.span, format!("the router `{}` has no interfaces", name.0), "a router needs some", help);
        return None;
    };
    if map.0.len() as u64 > MAX_PORTS {
        c.error(map.span, format!("a router has at most {MAX_PORTS} interfaces"), "here", "use several routers");
        return None;
    }
    let mut interfaces = Vec::with_capacity(map.0.len());
    for (name, interface) in map.iter() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        if !(1..=32).contains(&name.len()) || !name.bytes().all(plain) {
            let help = "use 1 to 32 letters, digits, `-`, `_`, `.` and `/`";
            c.error(name.span, format!("`{}` cannot name an interface", name.0), "here", help);
        }
        let keys = &interface.value.0;
        let mut addresses = Vec::new();
        let mut places = Vec::new();
        for text in keys.addresses.iter().flat_map(|texts| &texts.value.0) {
            let span = if text.span == Span::default() { interface.span } else { text.span };
            let Some(net) = c.unit(span, addr::address_with_prefix(text)) else { continue };
            let ip = net.addr();
            let ends = addr::reserved(net).is_some_and(|(network, broadcast)| ip == network || ip == broadcast);
            if ends || ip.is_multicast() || ip.is_unspecified() || ip.is_loopback() {
                let what = if ends { "the prefix's network or broadcast address" } else { "not for routers" };
                let first = ip_after(net);
                c.error(span, format!("`{net}` cannot be a router's address"), what, format!("write such as {first}"));
                continue;
            }
            addresses.push(net);
            places.push(span);
        }
        if addresses.is_empty() && c.errors.len() == mistakes {
            let message = format!("the interface `{}` has no address", name.0);
            c.error(name.span, message, "here", "add such as `[10.0.0.1/24]`");
        }
        let mac = keys.mac.as_ref().and_then(|mac| unicast_mac(c, mac));
        let mtu = keys.mtu.as_ref().map_or(1500, |mtu| mtu.value);
        let least = if addresses.iter().any(|net| net.addr().is_ipv6()) { 1280 } else { 576 };
        if let Some(at) = keys.mtu.as_ref().filter(|at| !(least..=9216).contains(&at.value)) {
            let help = format!("write {least} to 9216; 1500 is Ethernet's");
            c.error(at.span, format!("an MTU of {} is not possible", at.value), "here", help);
        }
        interfaces.push(RouterInterface { name: name.value.0.clone(), mac, addresses, mtu });
        spans.push(places);
    }
    overlaps(c, &interfaces, spans);
    let routes = routes(c, node, &interfaces);
    let oui = match &node.vendor {
        Some(vendor) => layers::oui(c, vendor, vendor.span)?,
        None => vendors::oui("cisco")?,
    };
    let neighbor_capacity = node.neighbor_capacity.as_ref().map_or(4096, |at| at.value);
    if let Some(at) = node.neighbor_capacity.as_ref().filter(|at| !(16..=1 << 20).contains(&at.value)) {
        let message = format!("a router cannot remember {} neighbors", at.value);
        c.error(at.span, message, "here", "write 16 to 1048576; 4096 is the default");
    }
    (c.errors.len() == mistakes).then_some(RouterConfig { interfaces, routes, oui, neighbor_capacity })
}

fn ip_after(net: ipnet::IpNet) -> String {
    match net.hosts().next() {
        Some(first) if !first.is_unspecified() => format!("{first}/{}", net.prefix_len()),
        _ => "10.0.0.1/24".to_owned(),
    }
}

/// Two prefixes of one router that overlap leave its FIB without an answer.
fn overlaps(c: &mut Checker<'_>, interfaces: &[RouterInterface], spans: &[Vec<Span>]) {
    let mut all: Vec<(Range, usize, Span, String)> = Vec::new();
    for (at, interface) in interfaces.iter().enumerate() {
        for (net, span) in interface.addresses.iter().zip(&spans[at]) {
            all.push((Range::of(*net), at, *span, format!("{}'s {}", interface.name, net.trunc())));
        }
    }
    all.sort_by_key(|(range, ..)| *range);
    // The widest seen so far overlaps whatever begins before its end.
    let mut widest: Option<usize> = None;
    for i in 0..all.len() {
        if let Some(before) = widest
            && all[before].0.overlaps(&all[i].0)
        {
            // A second address of the same prefix on the same interface is common.
            let same = all[before].1 == all[i].1 && all[before].0 == all[i].0;
            if !same {
                let (first, second) =
                    if all[before].2 < all[i].2 { (&all[before], &all[i]) } else { (&all[i], &all[before]) };
                let message = format!("{} overlaps {} in one FIB", second.3, first.3);
                let help = "give each interface of a router a prefix of its own";
                c.error_with((second.2, message, "this prefix", help), (first.2, "and this one"));
            }
        }
        let wider = widest.is_none_or(|before| all[before].0.v6 != all[i].0.v6 || all[before].0.hi < all[i].0.hi);
        if wider {
            widest = Some(i);
        }
    }
}

fn routes(c: &mut Checker<'_>, node: &Node, interfaces: &[RouterInterface]) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for route in node.routes.iter().flat_map(|routes| routes.iter()) {
        let via = match route.via.parse::<std::net::IpAddr>() {
            Ok(via) => via,
            Err(_) => {
                let message = format!("`{}` is not an address", route.via.0);
                c.error(route.via.span, message, "the next router", "write its address, such as 10.0.0.2");
                continue;
            }
        };
        let to = match (&*route.to.value.0, via.is_ipv4()) {
            ("default", true) => addr::prefix("0.0.0.0/0"),
            ("default", false) => addr::prefix("::/0"),
            (text, _) => addr::prefix(text),
        };
        let Some(to) = c.unit(route.to.span, to) else { continue };
        if to.addr().is_ipv4() != via.is_ipv4() {
            let message = format!("`{to}` and `{via}` are of different families");
            c.error(route.via.span, message, "the next router", "write a next router of the same family");
            continue;
        }
        let connected =
            interfaces.iter().flat_map(|interface| interface.addresses.iter().map(move |net| (interface, net)));
        if let Some((interface, _)) = connected.clone().find(|(_, net)| net.addr() == via) {
            let message = format!("the next router `{via}` is this router itself");
            c.error(
                route.via.span,
                message,
                format!("an address of `{}`", interface.name),
                "write the next one's address",
            );
            continue;
        }
        if !connected.clone().any(|(_, net)| net.contains(&via)) {
            let prefixes: Vec<String> =
                connected.clone().map(|(i, net)| format!("{} ({})", net.trunc(), i.name)).collect();
            let message = format!("the next router `{via}` is on no interface's prefix");
            let help = format!("a next router lies in one of {}", prefixes.join(", "));
            c.error(route.via.span, message, "unreachable from here", help);
            continue;
        }
        if let Some((interface, _)) = connected.clone().find(|(_, net)| net.trunc() == to) {
            let message = format!("`{to}` is connected to this router already");
            c.error(route.to.span, message, format!("by `{}`", interface.name), "remove the route");
            continue;
        }
        if routes.iter().any(|known| known.to == to) {
            c.error(route.to.span, format!("there is a route to `{to}` already"), "again here", "keep one of both");
            continue;
        }
        routes.push(Route { to, via });
    }
    routes
}
