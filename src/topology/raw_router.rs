//! What was typed of a router: its interfaces and its static routes.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

use super::at::{At, Text, Texts};
use super::raw::mapping;
use super::source::Span;

mapping! {
    /// An interface of a router.
    struct InterfaceKeys {
        /// Addresses with their prefix lengths.
        addresses: Texts,
        /// Its MAC (default: derived from the router's vendor).
        mac: Text,
        /// Largest IP packet (default 1500).
        mtu: u32,
    }
}

/// An interface of a router: its addresses, or a mapping with more.
#[derive(Clone, Debug, Default)]
pub struct Interface(pub InterfaceKeys);

impl<'de> Deserialize<'de> for Interface {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Interface, D::Error> {
        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = Interface;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("addresses with their prefix lengths, or a mapping with `addresses`")
            }

            fn visit_str<E>(self, text: &str) -> Result<Interface, E> {
                let text = At { value: Text(text.to_owned()), span: Span::default() };
                let addresses = Some(At { value: Texts(vec![text]), span: Span::default() });
                Ok(Interface(InterfaceKeys { addresses, ..InterfaceKeys::default() }))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Interface, A::Error> {
                let mut list = Vec::new();
                while let Some(text) = seq.next_element()? {
                    list.push(text);
                }
                let addresses = Some(At { value: Texts(list), span: Span::default() });
                Ok(Interface(InterfaceKeys { addresses, ..InterfaceKeys::default() }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Interface, A::Error> {
                InterfaceKeys::deserialize(MapAccessDeserializer::new(map)).map(Interface)
            }
        }

        deserializer.deserialize_any(Shape)
    }
}

impl JsonSchema for Interface {
    fn schema_name() -> Cow<'static, str> {
        "Interface".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let addresses = generator.subschema_for::<Texts>();
        let keys = generator.subschema_for::<InterfaceKeys>();
        json_schema!({
            "description": "Addresses with their prefix lengths, or a mapping with more",
            "anyOf": [addresses, keys],
        })
    }
}

/// A static route.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The prefix that it leads to, or `default`.
    pub to: At<Text>,
    /// The next router, on a prefix of one of the interfaces.
    pub via: At<Text>,
}
