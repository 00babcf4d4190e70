//! Links: which port of which node each end is.

use std::collections::HashMap;

use super::at::{At, Text};
use super::check::Checker;
use super::error::suggest;
use super::nodes::Draft;
use super::raw;
use super::source::Span;
use super::units;
use crate::frame::PortNo;
use crate::node::{LinkConfig, NodeConfig, NodeIdx};
use crate::topology::plan::PlanLink;

/// Longest delay of a link, in microseconds.
const MAX_DELAY_US: u64 = 60_000_000;
/// Most frames that may wait on a link.
const MAX_QUEUE: u32 = 1 << 20;

/// A link of the plan and where it was written.
pub struct Linked {
    pub plan: PlanLink,
    pub span: Span,
}

/// Reads every link.
pub fn read(c: &mut Checker<'_>, drafts: &[Draft]) -> Vec<Linked> {
    let nodes: HashMap<&str, usize> = drafts.iter().enumerate().map(|(at, draft)| (&*draft.name, at)).collect();
    let mut taken: HashMap<(usize, u16), Span> = HashMap::new();
    let mut links = Vec::new();
    for link in c.raw.links.iter().flatten() {
        let config = config(c, link);
        let [a, b] = &link.endpoints.value[..] else {
            let message = format!("a link has two ends, this one has {}", link.endpoints.len());
            c.error(link.endpoints.span, message, "here", "write such as `endpoints: [\"edge:lan\", \"core:1\"]`");
            continue;
        };
        let ends = [a, b].map(|text| end(c, drafts, &nodes, text));
        for (end, text) in ends.iter().zip([a, b]) {
            let Some((node, port)) = *end else { continue };
            if let Some(first) = taken.insert((node, port.0), text.span) {
                let message = format!("the port `{}` is linked twice", text.0);
                let help = "a port has one link; put a switch between, or use another port";
                c.error_with((text.span, message, "again here", help), (first, "linked here already"));
            }
        }
        if let ([Some(a), Some(b)], Some(config)) = (ends, config) {
            let index = |(node, port): (usize, PortNo)| (NodeIdx(node as u16), port);
            links.push(Linked {
                plan: PlanLink { a: index(a), b: index(b), config },
                span: link.endpoints.value[1].span,
            });
        }
    }
    links
}

/// The port that an end names; nothing is said twice about a node with a mistake.
fn end(
    c: &mut Checker<'_>,
    drafts: &[Draft],
    nodes: &HashMap<&str, usize>,
    text: &At<Text>,
) -> Option<(usize, PortNo)> {
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name.trim(), Some(port.trim())),
        None => (text.trim(), None),
    };
    let Some(&at) = nodes.get(name) else {
        c.error(
            text.span,
            format!("there is no node `{name}`"),
            "this end of the link",
            suggest(name, nodes.keys().copied()),
        );
        return None;
    };
    let config = drafts[at].config.as_ref()?;
    if matches!(config, NodeConfig::Mirror(_)) {
        let help = format!("leave the link out: what `{name}` is given copies of stands in its `of`");
        c.error(text.span, format!("nothing is linked to the mirror `{name}`"), "this end of the link", help);
        return None;
    }
    let ports: Vec<&str> = match config {
        NodeConfig::Bridge(bridge) => bridge.ports.iter().map(|port| &*port.name).collect(),
        NodeConfig::Router(router) => router.interfaces.iter().map(|interface| &*interface.name).collect(),
        NodeConfig::Uplink(_) | NodeConfig::Tap(_) => vec!["0"],
        NodeConfig::Hosts(_) => vec!["0", "eth0"],
        NodeConfig::Mirror(_) => vec![],
    };
    let single =
        matches!(config, NodeConfig::Uplink(_) | NodeConfig::Tap(_) | NodeConfig::Hosts(_)) || ports.len() == 1;
    match port {
        Some(port) => match ports.iter().position(|known| *known == port) {
            Some(position) => Some((at, if single { PortNo(0) } else { PortNo(position as u16) })),
            None => {
                let numbers = ports.iter().filter(|name| name.parse::<u16>().is_ok()).count();
                let help = if numbers > 0 && port.parse::<u16>().is_ok() && !single {
                    format!("`{name}` has the ports 1 to {numbers}; `ports:` gives it more")
                } else {
                    suggest(port, ports.iter().copied())
                };
                c.error(text.span, format!("`{name}` has no port `{port}`"), "this end of the link", help);
                None
            }
        },
        None if single => Some((at, PortNo(0))),
        None => {
            let help = format!("write such as `{name}:{}`", ports.first().unwrap_or(&"1"));
            c.error(text.span, format!("which port of `{name}`?"), "this end of the link names none", help);
            None
        }
    }
}

fn config(c: &mut Checker<'_>, link: &raw::Link) -> Option<LinkConfig> {
    let mistakes = c.errors.len();
    let mut duration = |text: &Option<At<Text>>| match text {
        Some(text) => c.unit(text.span, units::duration_us(text, MAX_DELAY_US)).unwrap_or(0),
        None => 0,
    };
    let delay_us = duration(&link.delay) as u32;
    let jitter_us = duration(&link.jitter) as u32;
    if let Some(jitter) = link.jitter.as_ref().filter(|_| jitter_us > delay_us && c.errors.len() == mistakes) {
        let help = "frames cannot arrive before they were sent: raise `delay`, or lower `jitter`";
        c.error(jitter.span, "the jitter is larger than the delay", "here", help);
    }
    let loss = link.loss.as_ref().and_then(|text| c.unit(text.span, units::percent(text))).unwrap_or(0.0);
    let rate_bytes = link.rate.as_ref().and_then(|text| c.unit(text.span, units::rate_bytes(text))).unwrap_or(0);
    let queue = link.queue.as_ref().map_or(0, |queue| queue.value);
    if let Some(at) = link.queue.as_ref().filter(|at| at.value == 0 || at.value > MAX_QUEUE) {
        let message = format!("a queue of {} frames is not possible", at.value);
        c.error(at.span, message, "here", format!("write 1 to {MAX_QUEUE}; 1000 is the default"));
    }
    (c.errors.len() == mistakes).then_some(LinkConfig { delay_us, jitter_us, loss, rate_bytes, queue })
}
