//! Field values borrowed from wherever they lie: a row in memory or a column.

use crate::id::Id;
use crate::row::FieldValue;

/// A borrowed value of a declared field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FieldRef<'a> {
    /// Absent.
    Null,
    /// Text.
    Text(&'a str),
    /// Integer.
    Int(i64),
    /// Finite float.
    Float(f64),
    /// Boolean.
    Bool(bool),
    /// Microseconds since the Unix epoch, UTC.
    Timestamp(i64),
    /// List of texts.
    TextList(&'a [Box<str>]),
}

impl<'a> From<&'a Id> for FieldRef<'a> {
    fn from(id: &'a Id) -> Self {
        match id {
            Id::Text(text) => Self::Text(text),
            Id::Int(n) => Self::Int(*n),
        }
    }
}

impl<'a> From<&'a FieldValue> for FieldRef<'a> {
    fn from(value: &'a FieldValue) -> Self {
        match value {
            FieldValue::Null => Self::Null,
            FieldValue::Text(text) => Self::Text(text),
            FieldValue::Int(n) => Self::Int(*n),
            FieldValue::Float(x) => Self::Float(*x),
            FieldValue::Bool(b) => Self::Bool(*b),
            FieldValue::Timestamp(micros) => Self::Timestamp(*micros),
            FieldValue::TextList(texts) => Self::TextList(texts),
        }
    }
}
