//! Values that know where they were written, and the shapes that YAML allows
//! where serde's own have no places to tell: one-or-many, and maps in the order
//! of the text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::source::Span;

/// A value and its place in the text.
#[derive(Clone, Debug, Default)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it was written (where an alias to it stands, if it came by one).
    pub span: Span,
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

fn span_of(location: serde_saphyr::Location) -> Span {
    let span = location.span();
    let start = span.byte_offset().unwrap_or(0) as usize;
    Span { start, end: start + span.byte_len().unwrap_or(0) as usize }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<At<T>, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        Ok(At { span: span_of(spanned.referenced), value: spanned.value })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Separates the parts of a packed message; nothing of a topology's own follows the first.
const SEAM: &str = " \u{2016} ";

/// A message, what to do about it and where, as one text: all that serde lets through.
pub fn pack(message: &str, help: &str, span: Option<Span>) -> String {
    let span = span.unwrap_or_default();
    format!("{message}{SEAM}{help}{SEAM}{}{SEAM}{}", span.start, span.end)
}

/// The parts of a packed message.
pub fn unpack(text: &str) -> Option<(&str, &str, Option<Span>)> {
    let (rest, end) = text.rsplit_once(SEAM)?;
    let (rest, start) = rest.rsplit_once(SEAM)?;
    let (message, help) = rest.rsplit_once(SEAM)?;
    let span = Span { start: start.parse().ok()?, end: end.parse().ok()? };
    Some((message, help, (span != Span::default()).then_some(span)))
}

/// A text, whatever YAML takes it for: `10`, `1.5` and `true` are texts, too.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Text(pub String);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        String::deserialize(deserializer).map(Text)
    }
}

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
}

/// One text, or a list of them.
#[derive(Clone, Debug, Default)]
pub struct Texts(pub Vec<At<Text>>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        enum Either {
            One,
            Many(Vec<At<Text>>),
        }

        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = Either;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            // The spelling of a scalar is lost here; the caller reads it again from its place.
            fn visit_bool<E>(self, _: bool) -> Result<Either, E> {
                Ok(Either::One)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Either, E> {
                Ok(Either::One)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Either, E> {
                Ok(Either::One)
            }

            fn visit_i128<E>(self, _: i128) -> Result<Either, E> {
                Ok(Either::One)
            }

            fn visit_u128<E>(self, _: u128) -> Result<Either, E> {
                Ok(Either::One)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Either, E> {
                Ok(Either::One)
            }

            fn visit_str<E>(self, text: &str) -> Result<Either, E> {
                Ok(Either::Many(vec![At { value: Text(text.to_owned()), span: Span::default() }]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Either, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = seq.next_element::<At<Text>>()? {
                    list.push(item);
                }
                Ok(Either::Many(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Either, A::Error> {
                Err(A::Error::custom("this is a mapping, but a text or a list of texts belongs here"))
            }
        }

        struct Wrapped(Either);

        impl<'de> Deserialize<'de> for Wrapped {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Wrapped, D::Error> {
                deserializer.deserialize_any(Shape).map(Wrapped)
            }
        }

        let spanned = serde_saphyr::Spanned::<Wrapped>::deserialize(deserializer)?;
        let span = span_of(spanned.referenced);
        Ok(Texts(match spanned.value.0 {
            Either::One => {
                return Err(D::Error::custom("a bare number is no address; write a text or a list of texts"));
            }
            Either::Many(mut list) => {
                for item in list.iter_mut().filter(|item| item.span == Span::default()) {
                    item.span = span;
                }
                list
            }
        }))
    }
}

impl JsonSchema for Texts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

/// A mapping in the order of the text, with the places of its keys.
#[derive(Clone, Debug)]
pub struct Map<V>(pub Vec<(At<Text>, V)>);

impl<V> Default for Map<V> {
    fn default() -> Map<V> {
        Map(Vec::new())
    }
}

impl<V> Map<V> {
    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = &(At<Text>, V)> {
        self.0.iter()
    }

    /// The keys.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|(key, _)| &*key.value.0)
    }

    /// The position of a key.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names().position(|key| key == name)
    }
}

impl<'de, V: DeserializeOwned> Deserialize<'de> for Map<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Map<V>, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: DeserializeOwned> Visitor<'de> for Entries<V> {
            type Value = Map<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Map<V>, A::Error> {
                let mut entries = Vec::new();
                let mut seen = HashSet::new();
                while let Some((key, value)) = map.next_entry::<At<Text>, V>()? {
                    // `22` and `"22"` are two keys to YAML, but one to us.
                    if !seen.insert(key.value.0.clone()) {
                        let message = format!("duplicate key `{}`", key.value.0);
                        return Err(A::Error::custom(pack(
                            &message,
                            "remove or rename one of the two",
                            Some(key.span),
                        )));
                    }
                    entries.push((key, value));
                }
                Ok(Map(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<V: JsonSchema> JsonSchema for Map<V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let values = generator.subschema_for::<V>();
        json_schema!({ "type": "object", "additionalProperties": values })
    }
}
