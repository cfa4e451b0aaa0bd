//! From a payload's text in the log straight to fields and rest: replay reads many, and wants no tree of each.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{SplitPayload, payload_from_json, split_payload, typed};
use crate::error::{Error, Result};
use crate::row::FieldValue;
use crate::schema::{Field, FieldType, Schema};

/// What [`split_payload`] made of the payload that was logged as this text.
///
/// # Errors
/// `Invalid`: not the text of a payload of this schema.
pub(crate) fn split_logged(schema: &Schema, text: &str) -> Result<SplitPayload> {
    let mut fields: Vec<FieldValue> = schema.fields.iter().map(|_| FieldValue::Null).collect();
    if text.is_empty() {
        return Ok((fields.into(), None));
    }
    let mut rest = Rest { text: String::new(), last_key: String::new(), sorted: true };
    let mut from = serde_json::Deserializer::from_str(text);
    let read = Split { schema, fields: &mut fields, rest: &mut rest }.deserialize(&mut from);
    read.and_then(|()| from.end())
        .map_err(|e| Error::invalid("AKI-0128", format!("the payload is not one of its schema: {e}")))?;
    if !rest.sorted {
        // Whoever builds this library may have asked serde_json to keep the order of keys.
        return split_payload(schema, &payload_from_json(text)?);
    }
    let rest = if rest.text.is_empty() { None } else { Some((rest.text + "}").into()) };
    Ok((fields.into(), rest))
}

/// The undeclared keys and values, as they come.
struct Rest {
    text: String,
    last_key: String,
    sorted: bool,
}

impl Rest {
    fn key(&mut self, key: &str) {
        self.sorted &= self.text.is_empty() || self.last_key.as_str() < key;
        self.last_key.clear();
        self.last_key.push_str(key);
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        if key.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
            self.text.push('"');
            self.text.push_str(key);
            self.text.push('"');
        } else {
            self.text.push_str(&serde_json::to_string(key).expect("a text always has a JSON form"));
        }
        self.text.push(':');
    }
}

struct Split<'a> {
    schema: &'a Schema,
    fields: &'a mut [FieldValue],
    rest: &'a mut Rest,
}

impl<'de> DeserializeSeed<'de> for Split<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Split<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(at) = map.next_key_seed(Key { schema: self.schema, rest: self.rest })? {
            match at {
                Some(at) => self.fields[at] = map.next_value_seed(FieldSeed(&self.schema.fields[at]))?,
                None => self.rest.text.push_str(map.next_value::<&RawValue>()?.get()),
            }
        }
        Ok(())
    }
}

/// A key: the place of its field, or none, and then it stands in the rest already.
struct Key<'a> {
    schema: &'a Schema,
    rest: &'a mut Rest,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Option<usize>, E> {
        let at = self.schema.position(key);
        if at.is_none() {
            self.rest.key(key);
        }
        Ok(at)
    }
}

struct FieldSeed<'a>(&'a Field);

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = FieldValue;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<FieldValue, D::Error> {
        match self.0.field_type {
            FieldType::Text | FieldType::TextList => from.deserialize_any(TextOrTexts(self.0)),
            _ => {
                let value = Value::deserialize(from)?;
                typed(self.0, &value).map_err(|e| D::Error::custom(e.message()))
            }
        }
    }
}

/// A text or a list of texts, each copied once into a box of its size.
struct TextOrTexts<'a>(&'a Field);

impl<'de> Visitor<'de> for TextOrTexts<'_> {
    type Value = FieldValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field \"{}\" as {}", self.0.name, self.0.field_type.name())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<FieldValue, E> {
        Ok(FieldValue::Null)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FieldValue, E> {
        match self.0.field_type {
            FieldType::Text => Ok(FieldValue::Text(text.into())),
            _ => Err(E::invalid_type(Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<FieldValue, A::Error> {
        if self.0.field_type == FieldType::Text {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        let mut texts = Vec::new();
        while let Some(text) = items.next_element_seed(OneText)? {
            texts.push(text);
        }
        Ok(FieldValue::TextList(texts.into()))
    }
}

struct OneText;

impl<'de> DeserializeSeed<'de> for OneText {
    type Value = Box<str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Box<str>, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for OneText {
    type Value = Box<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Box<str>, E> {
        Ok(text.into())
    }
}
