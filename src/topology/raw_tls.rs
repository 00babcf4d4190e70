//! What was typed about TLS around a service: whether there is any, or a mapping.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

use super::at::{At, Text, Texts};
use super::raw::mapping;
use super::source::Span;

mapping! {
    /// What the certificate of a service within TLS says. Everything has a default.
    struct TlsKeys {
        /// Whom it is about (default: the host's name as common name).
        subject: NameKeys,
        /// Who signed it (default: the subject itself).
        issuer: NameKeys,
        /// DNS names and addresses of the server (default: the common name).
        names: Texts,
        /// How many days it is valid (default 3650).
        days: u32,
        /// A file with a certificate in PEM, and with those above it, for all hosts instead of one for each.
        certificate: Text,
        /// A file with the certificate's private key in PEM; without `certificate`, with the key of all hosts' certificates.
        key: Text,
        /// Who signs the certificates, instead of `issuer`.
        ca: AuthorityKeys,
    }
}

mapping! {
    /// A private authority that certificates are signed by.
    struct AuthorityKeys {
        /// A file with its certificate in PEM, and with those above it.
        certificate: Text,
        /// A file with its private key in PEM.
        key: Text,
    }
}

mapping! {
    /// A distinguished name; `{host}` stands for the host's name, `{address}` for its address.
    struct NameKeys {
        /// Common name.
        cn: Text,
        /// Organization.
        o: Text,
        /// Organizational unit.
        ou: Text,
        /// Locality.
        l: Text,
        /// State or province.
        st: Text,
        /// Country, in two letters.
        c: Text,
    }
}

/// Whether a service is spoken within TLS.
#[derive(Clone, Debug)]
pub enum TlsEntry {
    /// Whether it is, with a certificate as it is by default.
    Whether(bool),
    /// It is, with this certificate.
    Keys(Box<TlsKeys>),
}

impl<'de> Deserialize<'de> for TlsEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TlsEntry, D::Error> {
        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = TlsEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a mapping with what the certificate says")
            }

            fn visit_bool<E>(self, whether: bool) -> Result<TlsEntry, E> {
                Ok(TlsEntry::Whether(whether))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TlsEntry, A::Error> {
                TlsKeys::deserialize(MapAccessDeserializer::new(map)).map(|keys| TlsEntry::Keys(Box::new(keys)))
            }
        }

        deserializer.deserialize_any(Shape)
    }
}

impl JsonSchema for TlsEntry {
    fn schema_name() -> Cow<'static, str> {
        "TlsEntry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<TlsKeys>();
        json_schema!({
            "description": "Whether it is spoken within TLS, or what the certificate says",
            "anyOf": [{ "type": "boolean" }, keys],
        })
    }
}
