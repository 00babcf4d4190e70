//! The ports of a switch as they were typed: their number, or a mapping.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};

use super::at::{At, Map};
use super::raw::Port;

/// The VLANs of a switch's ports.
#[derive(Clone, Debug)]
pub enum Ports {
    /// That many ports, named `1` and so on, in VLAN 1.
    Count(u64),
    /// Ports by name.
    Named(Map<At<Port>>),
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ports, D::Error> {
        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = Ports;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of ports, or a mapping of port names to VLANs")
            }

            fn visit_u64<E>(self, count: u64) -> Result<Ports, E> {
                Ok(Ports::Count(count))
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<Ports, E> {
                u64::try_from(count).map(Ports::Count).map_err(|_| E::custom("a number of ports is not negative"))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Ports, A::Error> {
                Map::deserialize(MapAccessDeserializer::new(map)).map(Ports::Named)
            }
        }

        deserializer.deserialize_any(Shape)
    }
}

impl JsonSchema for Ports {
    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let named = generator.subschema_for::<Map<At<Port>>>();
        json_schema!({
            "description": "The number of ports, named `1` and so on, or ports by name",
            "anyOf": [{ "type": "integer", "minimum": 1 }, named],
        })
    }
}
