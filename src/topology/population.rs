//! Which templates the hosts of a node have, and what bounds them.

use super::at::{At, Text};
use super::check::Checker;
use super::raw::Node;
use super::source::Span;
use super::units;
use crate::node::{Limits, MacMode};
use crate::wire::Mac;

/// Indexes of templates, their weights and where they are named.
pub(super) type Choices = Vec<(Option<usize>, u32, Span)>;

pub(super) fn chosen(c: &mut Checker<'_>, node: &Node, name: &At<Text>) -> Option<Choices> {
    let names: Vec<&str> = c.raw.templates.iter().flat_map(|map| map.names()).collect();
    let find = |c: &mut Checker<'_>, name: &str, span: Span| {
        let at = names.iter().position(|known| *known == name);
        if at.is_none() {
            c.unknown(span, "template", name, names.iter().copied());
        }
        at
    };
    match (&node.template, &node.mix) {
        (Some(template), Some(_)) => {
            let help = "a mix names its templates: keep one of both";
            c.error(template.span, format!("`{}` has both `template` and `mix`", name.0), "here", help);
            None
        }
        (None, None) => Some(vec![(None, 1, name.span)]),
        (Some(template), None) => find(c, template, template.span).map(|at| vec![(Some(at), 1, template.span)]),
        (None, Some(mix)) => {
            let mut all = Vec::new();
            let mut sum = 0u32;
            for (name, weight) in mix.iter() {
                if weight.value == 0 || weight.value > 1_000_000 {
                    let message = format!("the weight `{}` is out of range", weight.value);
                    c.error(weight.span, message, "1 to 1,000,000", "leave the template out, or give it a weight");
                }
                sum = sum.saturating_add(weight.value);
                if let Some(at) = find(c, name, name.span) {
                    all.push((Some(at), weight.value, name.span));
                }
            }
            if sum == u32::MAX {
                c.error(mix.span, "the weights are too large", "their sum", "divide them all by the same number");
            }
            if mix.0.is_empty() {
                c.error(mix.span, "this mix has no templates", "here", "write such as `{desktop: 60, server: 40}`");
            }
            (!all.is_empty()).then_some(all)
        }
    }
}

pub(super) fn read_mac(c: &mut Checker<'_>, node: &Node, single: bool) -> Option<(MacMode, Option<Mac>)> {
    let Some(mac) = &node.mac else { return Some((MacMode::PerHost, None)) };
    match (&*mac.value.0, single) {
        ("shared", false) => return Some((MacMode::Shared, None)),
        ("per-host", _) => return Some((MacMode::PerHost, None)),
        (text, false) => {
            c.unknown(mac.span, "MAC mode", text, ["shared", "per-host"]);
            return None;
        }
        _ => {}
    }
    super::devices::unicast_mac(c, mac).map(|mac| (MacMode::PerHost, Some(mac)))
}

pub(super) fn read_limits(c: &mut Checker<'_>, node: &Node) -> Option<Limits> {
    let default = Limits::default();
    let Some(limits) = &node.limits else { return Some(default) };
    let mut bounded = |value: &Option<At<u32>>, default: u32, max: u32| match value {
        Some(at) if at.value == 0 || at.value > max => {
            c.error(at.span, format!("the limit {} is out of range", at.value), "here", format!("write 1 to {max}"));
            default
        }
        Some(at) => at.value,
        None => default,
    };
    let sessions = bounded(&limits.sessions, default.sessions, 1 << 24);
    let half_open = bounded(&limits.half_open, default.half_open, 1 << 24);
    let flows = bounded(&limits.flows, default.flows, 1 << 20);
    let containers = bounded(&limits.containers, default.containers, 4096);
    let usual = (containers / 4).max(8).min(containers);
    let containers_per_source = bounded(&limits.containers_per_source, usual, containers);
    let buffers = bounded(&limits.buffers, default.buffers, 1 << 20);
    let talkers = bounded(&limits.talkers, default.talkers, 4096);
    let session_idle_secs = match &limits.session_idle {
        Some(text) => c.unit(text.span, units::duration_secs(text))?.max(1),
        None => default.session_idle_secs,
    };
    Some(Limits { sessions, session_idle_secs, half_open, flows, containers, containers_per_source, buffers, talkers })
}
