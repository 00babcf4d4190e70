//! A plan as a picture.

use std::fmt::Write;

use serde_json::{Value, json};

use super::plan::{Plan, PlanNode};
use crate::frame::PortNo;
use crate::node::{LinkConfig, NodeConfig, NodeIdx, PortVlan};

fn kind(node: &PlanNode) -> &'static str {
    match &node.config {
        NodeConfig::Uplink(_) => "uplink",
        NodeConfig::Tap(_) => "tap",
        NodeConfig::Mirror(_) => "mirror",
        NodeConfig::Bridge(_) => "switch",
        NodeConfig::Router(_) => "router",
        NodeConfig::Hosts(hosts) if !hosts.single => "hosts",
        NodeConfig::Hosts(hosts) if hosts.templates.iter().any(|template| template.backend.is_some()) => "container",
        NodeConfig::Hosts(_) => "host",
    }
}

/// What a person wants to see of a node, a line each.
fn lines(node: &PlanNode) -> Vec<String> {
    let mut lines = vec![format!("{} ({})", node.name, kind(node))];
    match &node.config {
        NodeConfig::Uplink(uplink) if !uplink.interface.is_empty() => lines.push(uplink.interface.clone()),
        NodeConfig::Tap(tap) => lines.push(tap.interface.clone()),
        NodeConfig::Mirror(mirror) => lines.push(mirror.tap.interface.clone()),
        NodeConfig::Router(router) => {
            for interface in &router.interfaces {
                let nets: Vec<String> = interface.addresses.iter().map(|net| net.to_string()).collect();
                lines.push(format!("{}: {}", interface.name, nets.join(", ")));
            }
        }
        NodeConfig::Hosts(hosts) => {
            let shown = hosts.ranges.iter().take(3).map(|range| match range.first == range.last {
                true => range.first.to_string(),
                false => format!("{} to {}", range.first, range.last),
            });
            lines.extend(shown);
            if hosts.ranges.len() > 3 {
                lines.push(format!("and {} more ranges", hosts.ranges.len() - 3));
            }
            if hosts.dhcp.is_some() {
                lines.push("by DHCP".to_owned());
            }
            if !hosts.single {
                lines.push(format!("{} hosts", node.host_count()));
            }
        }
        _ => {}
    }
    lines
}

fn port(node: &PlanNode, port: PortNo) -> String {
    match &node.config {
        NodeConfig::Bridge(bridge) => match bridge.ports.get(usize::from(port.0)) {
            Some(found) => match &found.vlan {
                PortVlan::Access(1) => found.name.clone(),
                PortVlan::Access(vlan) => format!("{} (VLAN {vlan})", found.name),
                PortVlan::Trunk { .. } => format!("{} (trunk)", found.name),
            },
            None => port.0.to_string(),
        },
        NodeConfig::Router(router) => match router.interfaces.get(usize::from(port.0)) {
            Some(interface) => interface.name.clone(),
            None => port.0.to_string(),
        },
        _ => String::new(),
    }
}

fn link_text(plan: &Plan, a: (NodeIdx, PortNo), b: (NodeIdx, PortNo), config: &LinkConfig) -> String {
    let end =
        |(node, at): (NodeIdx, PortNo)| plan.nodes.get(usize::from(node.0)).map_or(String::new(), |n| port(n, at));
    let mut parts: Vec<String> = Vec::new();
    let (a, b) = (end(a), end(b));
    if !a.is_empty() || !b.is_empty() {
        parts.push([a, b].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" - "));
    }
    if config.delay_us > 0 {
        parts.push(format!("{} ms", f64::from(config.delay_us) / 1000.0));
    }
    if config.loss > 0.0 {
        parts.push(format!("{}% loss", config.loss * 100.0));
    }
    if config.rate_bytes > 0 {
        parts.push(format!("{} Mbit/s", config.rate_bytes as f64 * 8.0 / 1e6));
    }
    parts.join(", ")
}

/// The nodes that mirrors have copies from, with these.
fn copies(plan: &Plan) -> Vec<(u16, usize)> {
    let mut copies = Vec::new();
    for (at, node) in plan.nodes.iter().enumerate() {
        if let NodeConfig::Mirror(mirror) = &node.config {
            copies.extend(mirror.of.iter().map(|(of, _)| (of.0, at)));
        }
    }
    copies.sort_unstable();
    copies.dedup();
    copies
}

/// The plan as a Mermaid flow chart.
pub fn mermaid(plan: &Plan) -> String {
    // Mermaid's own escapes; a name cannot contain quotes, but an interface may contain much.
    let escape =
        |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;");
    let mut out = String::from("graph TD\n");
    for (at, node) in plan.nodes.iter().enumerate() {
        let (open, close) = match kind(node) {
            "uplink" | "tap" | "mirror" => ("([", "])"),
            "switch" => ("[[", "]]"),
            "router" => ("{{", "}}"),
            "hosts" => ("[(", ")]"),
            _ => ("[", "]"),
        };
        let text = lines(node).iter().map(|line| escape(line)).collect::<Vec<_>>().join("<br/>");
        let _ = writeln!(out, "    n{at}{open}\"{text}\"{close}");
    }
    for link in &plan.links {
        let text = link_text(plan, link.a, link.b, &link.config);
        let (a, b) = (link.a.0.0, link.b.0.0);
        let _ = match text.is_empty() {
            true => writeln!(out, "    n{a} --- n{b}"),
            false => writeln!(out, "    n{a} ---|\"{}\"| n{b}", escape(&text)),
        };
    }
    for (of, mirror) in copies(plan) {
        let _ = writeln!(out, "    n{of} -.-> n{mirror}");
    }
    out
}

/// The plan in Graphviz' language.
pub fn dot(plan: &Plan) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = format!("graph \"{}\" {{\n    node [fontname=\"sans-serif\"];\n", escape(&plan.name));
    for (at, node) in plan.nodes.iter().enumerate() {
        let shape = match kind(node) {
            "uplink" | "tap" | "mirror" => "cds",
            "switch" => "box3d",
            "router" => "ellipse",
            "hosts" => "cylinder",
            _ => "box",
        };
        let text = lines(node).iter().map(|line| escape(line)).collect::<Vec<_>>().join("\\n");
        let _ = writeln!(out, "    n{at} [shape={shape}, label=\"{text}\"];");
    }
    for link in &plan.links {
        let text = escape(&link_text(plan, link.a, link.b, &link.config));
        let _ = writeln!(out, "    n{} -- n{} [label=\"{text}\"];", link.a.0.0, link.b.0.0);
    }
    for (of, mirror) in copies(plan) {
        let _ = writeln!(out, "    n{of} -- n{mirror} [style=dashed, dir=forward];");
    }
    out.push_str("}\n");
    out
}

/// The plan for programs: nodes with kind and addresses, links with ports.
pub fn json(plan: &Plan) -> Value {
    let nodes: Vec<Value> = plan
        .nodes
        .iter()
        .map(|node| {
            let mut value = json!({ "name": node.name, "kind": kind(node) });
            match &node.config {
                NodeConfig::Uplink(uplink) => value["interface"] = json!(uplink.interface),
                NodeConfig::Tap(tap) => value["interface"] = json!(tap.interface),
                NodeConfig::Mirror(mirror) => {
                    value["interface"] = json!(mirror.tap.interface);
                    let mut of: Vec<&str> = mirror.of.iter().filter_map(|(node, _)| plan.name_of(*node)).collect();
                    of.dedup();
                    value["of"] = json!(of);
                }
                NodeConfig::Bridge(bridge) => value["ports"] = json!(bridge.ports.len()),
                NodeConfig::Router(router) => {
                    for interface in &router.interfaces {
                        value["interfaces"][&interface.name] = json!(interface.addresses);
                    }
                }
                NodeConfig::Hosts(hosts) => {
                    value["count"] = json!(node.host_count());
                    value["ranges"] = json!(hosts.ranges);
                    value["prefixes"] = json!(hosts.segment.prefixes);
                    value["gateways"] = json!(hosts.segment.gateways);
                }
            }
            value
        })
        .collect();
    let links: Vec<Value> = plan
        .links
        .iter()
        .map(|link| {
            let end = |(node, at): (NodeIdx, PortNo)| {
                let found = plan.nodes.get(usize::from(node.0));
                let name = found.map_or(String::new(), |node| match &node.config {
                    NodeConfig::Bridge(b) => b.ports.get(usize::from(at.0)).map_or(String::new(), |p| p.name.clone()),
                    NodeConfig::Router(r) => {
                        r.interfaces.get(usize::from(at.0)).map_or(String::new(), |i| i.name.clone())
                    }
                    _ => at.0.to_string(),
                });
                json!({ "node": found.map(|node| &node.name), "port": name })
            };
            json!({
                "a": end(link.a),
                "b": end(link.b),
                "delay_us": link.config.delay_us,
                "jitter_us": link.config.jitter_us,
                "loss": link.config.loss,
                "rate_bytes": link.config.rate_bytes,
                "queue": link.config.queue,
            })
        })
        .collect();
    json!({ "name": plan.name, "nodes": nodes, "links": links })
}
