//! A row as the engine holds it: id, vector, typed fields, and the JSON rest; and the ways from payload to fields
//! and back.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::id::Id;

mod check;
mod payload;
mod view;

pub(crate) use check::check_vector;
pub(crate) use payload::{
    join_payload, parse_timestamp, payload_from_json, payload_into, split_logged, split_payload, text_bytes,
    timestamp_of, timestamp_text,
};
pub(crate) use view::FieldRef;

/// A value of a declared field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FieldValue {
    /// Absent.
    Null,
    /// Text.
    Text(Box<str>),
    /// Integer.
    Int(i64),
    /// Finite float.
    Float(f64),
    /// Boolean.
    Bool(bool),
    /// Microseconds since the Unix epoch, UTC.
    Timestamp(i64),
    /// List of texts.
    TextList(Box<[Box<str>]>),
}

/// A checked row. `fields` lie in the order of the schema's fields; a row written under an older schema may
/// have fewer, the rest are null.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Id.
    pub id: Id,
    /// The vector as given, `dim` finite numbers.
    pub vector: Arc<[f32]>,
    /// Declared fields.
    pub fields: Box<[FieldValue]>,
    /// Undeclared payload as the text of a JSON object; `None` when there is none.
    pub rest: Option<Box<str>>,
}

impl Row {
    /// Bytes it takes in memory beside its vector, about.
    pub(crate) fn bytes_beside_vector(&self) -> u64 {
        let id = self.id.bytes();
        let fields: usize = self.fields.iter().map(FieldValue::bytes).sum();
        (id + fields + self.rest.as_ref().map_or(0, |rest| rest.len())) as u64
    }

    /// When the row expires, by the field at this position.
    pub(crate) fn expires_at(&self, expiry: usize) -> Option<i64> {
        match self.fields.get(expiry) {
            Some(FieldValue::Timestamp(micros)) => Some(*micros),
            _ => None,
        }
    }
}

impl FieldValue {
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len(),
                Self::TextList(list) => list.iter().map(|text| text.len() + size_of::<Box<str>>()).sum(),
                _ => 0,
            }
    }
}

/// A JSON object given or returned as payload.
pub type Payload = Map<String, Value>;
