//! What becomes of what containers begin: a word, or a mapping with bounds.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};

use super::at::{At, Text, pack};
use super::check::Checker;
use super::error::suggest;
use super::raw::mapping;
use super::raw_services::word_or_mapping;
use super::source::Span;
use super::units;
use crate::emulate::{FlowLimit, GateLimits, Outward, Template};

/// New flows that may be allowed in a period.
const MOST_FLOWS: u32 = 1_000_000;

mapping! {
    /// What becomes of what a container sends, with bounds.
    struct OutwardKeys {
        /// What becomes of it outside the honeynet: `reflect` (default), `drop`, `limit` or `allow`.
        policy: Outward,
        /// New connections outward (`limit`; default 10 in 1m).
        tcp: FlowKeys,
        /// New pairs of ends that datagrams pass between (`limit`; default 20 in 1m).
        udp: FlowKeys,
        /// ICMP messages (`limit`; default 10 in 1m).
        icmp: FlowKeys,
        /// What the container may send by itself in all, inside and outside, whatever the policy (default 1gbit).
        rate: Text,
    }
}

mapping! {
    /// So many at once, and as many more in each period.
    struct FlowKeys {
        /// How many; 0 for none.
        burst: u32,
        /// The period, such as `1m`.
        period: Text,
    }
}

word_or_mapping!(
    /// What becomes of what a container sends.
    OutwardEntry,
    Outward,
    OutwardKeys,
    ["reflect", "drop", "limit", "allow"],
    "outward policy"
);

/// What one place says about that.
#[derive(Clone, Debug, Default)]
pub struct OutwardLayer {
    policy: Option<Outward>,
    /// TCP, UDP and ICMP.
    flows: [Option<FlowLayer>; 3],
    rate_bytes: Option<u64>,
}

/// What one place says about new flows of a protocol.
#[derive(Clone, Copy, Debug)]
struct FlowLayer {
    burst: Option<u32>,
    period_secs: Option<u32>,
    /// Where it is written.
    span: Span,
}

/// Reads a layer.
pub fn read(c: &mut Checker<'_>, entry: &At<OutwardEntry>) -> OutwardLayer {
    let keys = match &entry.value {
        OutwardEntry::Word(policy) => return OutwardLayer { policy: Some(*policy), ..OutwardLayer::default() },
        OutwardEntry::Keys(keys) => keys,
    };
    let mut flow = |keys: &Option<At<FlowKeys>>| {
        let keys = keys.as_ref()?;
        let burst = keys.burst.as_ref().map(|burst| {
            if burst.value > MOST_FLOWS {
                let help = "write less, or `policy: allow`";
                c.error(burst.span, "so many new flows are no limit", "at most 1000000 are possible", help);
            }
            burst.value
        });
        let period_secs = keys.period.as_ref().and_then(|period| {
            let secs = c.unit(period.span, units::duration_secs(period))?;
            if secs == 0 {
                c.error(period.span, "a period has a length", "here it has none", "write such as `1m`");
            }
            Some(secs.max(1))
        });
        Some(FlowLayer { burst, period_secs, span: keys.span })
    };
    let flows = [flow(&keys.tcp), flow(&keys.udp), flow(&keys.icmp)];
    OutwardLayer {
        policy: keys.policy.as_ref().map(|policy| policy.value),
        flows,
        rate_bytes: keys.rate.as_ref().and_then(|rate| c.unit(rate.span, units::rate_bytes(rate))),
    }
}

/// What layers say together, the strongest last; in a case of `base`, what the host's container does in every case.
pub fn merge<'l>(
    c: &mut Checker<'_>,
    layers: impl DoubleEndedIterator<Item = &'l OutwardLayer> + Clone,
    base: Option<&Template>,
) -> (Outward, GateLimits) {
    if let Some(base) = base {
        return (base.outward, base.gate);
    }
    let strongest = || layers.clone().rev();
    let policy = strongest().find_map(|layer| layer.policy).unwrap_or_default();
    let usual = GateLimits::default();
    let mut merged = [usual.tcp, usual.udp, usual.icmp];
    for (at, limit) in merged.iter_mut().enumerate() {
        let mut said = strongest().filter_map(|layer| layer.flows[at]);
        if let Some(FlowLayer { span, .. }) = said.clone().next().filter(|_| policy != Outward::Limit) {
            let help = "write `policy: limit` beside it, or remove it";
            c.error(span, "only the policy `limit` counts flows", "here another one applies", help);
        }
        *limit = FlowLimit {
            burst: said.clone().find_map(|said| said.burst).unwrap_or(limit.burst),
            period_secs: said.find_map(|said| said.period_secs).unwrap_or(limit.period_secs),
        };
    }
    let [tcp, udp, icmp] = merged;
    let rate_bytes = strongest().find_map(|layer| layer.rate_bytes).unwrap_or(usual.rate_bytes);
    (policy, GateLimits { tcp, udp, icmp, rate_bytes })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use crate::node::NodeConfig;

    fn template(defaults: &str, template: &str) -> Result<Template, String> {
        let text = format!(
            "defaults: {{outward: {defaults}}}\ntemplates: {{t: {{outward: {template}}}}}\nnodes:\n  \
             wan: {{kind: uplink, interface: eth0}}\n  h: {{kind: host, address: 192.0.2.9, template: t}}\nlinks:\n  \
             - endpoints: [wan, h]\n"
        );
        let plan = parse("t", &text).map_err(|mistakes| format!("{:?}", miette::Report::new(mistakes)))?;
        let hosts = plan.nodes.into_iter().find_map(|node| match node.config {
            NodeConfig::Hosts(hosts) => Some(hosts.templates[0].clone()),
            _ => None,
        });
        Ok(hosts.unwrap())
    }

    #[test]
    fn a_policy_is_a_word_or_a_mapping() {
        for (word, policy) in [
            ("reflect", Outward::Reflect),
            ("drop", Outward::Drop),
            ("limit", Outward::Limit),
            ("allow", Outward::Allow),
            ("{policy: limit}", Outward::Limit),
        ] {
            let found = template("allow", word).unwrap();
            assert_eq!((found.outward, found.gate), (policy, GateLimits::default()), "{word}");
        }
    }

    #[test]
    fn bounds_are_laid_over_one_another_key_by_key() {
        let found = template(
            "{policy: limit, tcp: {burst: 3, period: 2h}, rate: 10mbit}",
            "{tcp: {burst: 5}, icmp: {burst: 0}}",
        )
        .unwrap();
        assert_eq!(found.outward, Outward::Limit);
        let usual = GateLimits::default();
        assert_eq!(found.gate.tcp, FlowLimit { burst: 5, period_secs: 7200 });
        assert_eq!((found.gate.udp, found.gate.icmp), (usual.udp, FlowLimit { burst: 0, period_secs: 60 }));
        assert_eq!(found.gate.rate_bytes, 1_250_000);
    }

    #[test]
    fn what_limits_nothing_is_a_mistake() {
        for (wrong, said) in [
            ("reflekt", "reflect"),
            ("{policy: drop, tcp: {burst: 3}}", "only the policy `limit` counts flows"),
            ("{policy: limit, tcp: {period: 0}}", "a period has a length"),
            ("{policy: limit, tcp: {burst: 2000000}}", "no limit"),
            ("{rate: 0}", "let nothing pass"),
            ("{rat: 1mbit}", "rate"),
        ] {
            let error = template("reflect", wrong).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }
}
