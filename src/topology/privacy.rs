//! `privacy`: for how long what was recorded is kept, and what is left out of it.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

use super::at::{At, Text};
use super::check::Checker;
use super::raw::mapping;
use super::source::Span;
use super::units;
use crate::container::inspector::Limits;
use crate::record::CaptureLimits;
use crate::record::privacy::{Prefixes, Privacy};

/// The shortest time that anything is kept.
const SHORTEST: u32 = 3600;

mapping! {
    /// For how long what was recorded is kept, and what is left out of it.
    struct PrivacyKeys {
        /// Time after which whatever was recorded is deleted: events, captures, sessions, evidence (default: only limits of size and `evidence` delete anything).
        retention: Text,
        /// Whether only the network of an address outside the honeynet is recorded: `true`, or how many bits of it (default `false`).
        truncate_addresses: Truncation,
        /// Whether passwords and other credentials are left out, and with them the payload of captured TCP (default `false`).
        redact_credentials: bool,
        /// Whether frames are captured (default `true`).
        capture: bool,
    }
}

mapping! {
    /// How many bits of an address are recorded.
    struct PrefixKeys {
        /// Of an IPv4 address (default 24).
        ipv4: u8,
        /// Of an IPv6 address (default 48).
        ipv6: u8,
    }
}

/// `truncate_addresses`: whether, or how much.
#[derive(Clone, Debug)]
pub enum Truncation {
    /// As usual, or not.
    Whether(bool),
    /// So much.
    Keys(Box<PrefixKeys>),
}

impl<'de> Deserialize<'de> for Truncation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Truncation, D::Error> {
        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = Truncation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a mapping of `ipv4` and `ipv6`")
            }

            fn visit_bool<E>(self, whether: bool) -> Result<Truncation, E> {
                Ok(Truncation::Whether(whether))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Truncation, A::Error> {
                let keys = PrefixKeys::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Truncation::Keys(Box::new(keys)))
            }
        }

        deserializer.deserialize_any(Shape)
    }
}

impl JsonSchema for Truncation {
    fn schema_name() -> Cow<'static, str> {
        "Truncation".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<PrefixKeys>();
        json_schema!({ "description": "whether addresses are truncated, or to how many bits",
            "anyOf": [{ "type": "boolean" }, keys] })
    }
}

/// What was written. `evidence` goes as early as everything else, and `captures`, which go as whole files, are written for an
/// eighth of that at most.
pub fn read(c: &mut Checker<'_>, evidence: &mut Limits, captures: &mut CaptureLimits) -> Privacy {
    let Some(keys) = c.raw.privacy.as_ref() else { return Privacy::default() };
    let mut privacy = Privacy {
        redact: keys.redact_credentials.as_ref().is_some_and(|at| at.value),
        no_frames: keys.capture.as_ref().is_some_and(|at| !at.value),
        ..Privacy::default()
    };
    if let Some(retention) = &keys.retention
        && let Some(secs) = c.unit(retention.span, units::duration_secs(retention))
    {
        if secs < SHORTEST {
            let message =
                format!("what is recorded would go after `{}`, before anybody has looked at it", retention.value.0);
            c.error(retention.span, message, "too short", "write 1h or more");
        }
        privacy.retention_secs = Some(secs.into());
        evidence.age_secs = evidence.age_secs.min(secs.into());
        captures.age_secs = captures.age_secs.min(u64::from(secs) / 8);
    }
    privacy.truncate = match keys.truncate_addresses.as_ref().map(|at| &at.value) {
        None | Some(Truncation::Whether(false)) => None,
        Some(Truncation::Whether(true)) => Some(Prefixes::default()),
        Some(Truncation::Keys(keys)) => {
            let usual = Prefixes::default();
            let mut bits = |at: Option<&At<u8>>, usual: u8, most: u8| {
                let Some(at) = at else { return usual };
                if at.value >= most {
                    let message = format!("an address of {} bits is truncated to fewer than that", most);
                    c.error(at.span, message, "here it is left whole", format!("write 0 to {}", most - 1));
                }
                at.value
            };
            Some(Prefixes {
                ipv4: bits(keys.ipv4.as_ref(), usual.ipv4, 32),
                ipv6: bits(keys.ipv6.as_ref(), usual.ipv6, 128),
            })
        }
    };
    privacy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{parse, tests::good};

    fn plan(keys: &str) -> crate::topology::Plan {
        good(&format!("{keys}nodes: {{s: {{kind: switch}}}}\n"))
    }

    #[test]
    fn what_is_not_written_keeps_everything() {
        assert_eq!(plan("").privacy, Privacy::default());
        assert_eq!(plan("privacy: {truncate_addresses: false}\n").privacy, Privacy::default());
        let all =
            plan("privacy: {retention: 30d, truncate_addresses: true, redact_credentials: true, capture: false}\n");
        let truncate = Some(Prefixes { ipv4: 24, ipv6: 48 });
        assert_eq!(all.privacy, Privacy { retention_secs: Some(30 * 86_400), truncate, redact: true, no_frames: true });
        assert_eq!(all.evidence.age_secs, 30 * 86_400, "evidence is no exception");
        let some = plan("privacy: {retention: 900d, truncate_addresses: {ipv4: 16}}\n");
        assert_eq!(some.privacy.truncate, Some(Prefixes { ipv4: 16, ipv6: 48 }));
        assert_eq!(some.evidence.age_secs, Limits::default().age_secs, "it goes when it would have gone");
        assert_eq!(some.captures.age_secs, 3600);
        assert_eq!(plan("privacy: {retention: 4h}\n").captures.age_secs, 1800, "files of them go as a whole");
    }

    #[test]
    fn addresses_of_hosts_and_routers_are_its_own() {
        let plan = good(
            "nodes:\n  gw: {kind: router, interfaces: {wan: 203.0.113.1/24, lan: 10.0.0.1/24}}\n  \
             office: {kind: hosts, addresses: 10.0.0.10-10.0.0.20}\n  sw: {kind: switch, ports: 2}\n\
             links:\n  - endpoints: ['gw:lan', 'sw:1']\n  - endpoints: [office, 'sw:2']\n",
        );
        let mut own: Vec<String> = plan.addresses().map(|(first, last)| format!("{first}-{last}")).collect();
        own.sort();
        assert_eq!(own, ["10.0.0.1-10.0.0.1", "10.0.0.10-10.0.0.20", "203.0.113.1-203.0.113.1"]);
    }

    #[test]
    fn what_would_protect_or_keep_nothing_is_refused() {
        for (keys, message) in [
            ("retention: 5m", "before anybody has looked"),
            ("retention: 30", "has no unit"),
            ("truncate_addresses: {ipv4: 32}", "truncated to fewer than that"),
            ("truncate_addresses: {ipv6: 128}", "truncated to fewer than that"),
            ("truncate_addresses: {ipv5: 1}", "unknown key `ipv5`"),
            ("truncate_addresses: 24", "true, false, or a mapping"),
            ("retain: 30d", "unknown key `retain`"),
        ] {
            let text = format!("privacy: {{{keys}}}\nnodes: {{s: {{kind: switch}}}}\n");
            let mistakes = parse("t", &text).unwrap_err();
            assert!(mistakes.errors.iter().any(|error| error.message.contains(message)), "{keys}: {mistakes:?}");
        }
    }
}
