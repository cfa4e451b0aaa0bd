//! Rows to import, whatever file they come from: each with its place in that file, so that a bad one is named.

use std::path::Path;

use akidb::{Id, Payload};
use serde_json::Value;

use crate::failure::{Failure, Result, Unit};
use crate::row_text::kind_of;

/// A row as its file has it; not checked against any schema yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InputRow {
    /// Id.
    pub(crate) id: Id,
    /// Vector.
    pub(crate) vector: Vec<f32>,
    /// Everything else.
    pub(crate) payload: Payload,
    /// Line or row number in its file, from 1.
    pub(crate) place: u64,
}

/// How long an import is, in what its file can tell beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// So many rows.
    Rows(u64),
    /// So many bytes.
    Bytes(u64),
    /// Standard input does not say.
    Unknown,
}

/// Rows of one file. After an error it yields nothing more.
pub(crate) trait Source: Iterator<Item = Result<InputRow>> {
    /// How much there is.
    fn extent(&self) -> Extent;

    /// How much of the extent has been read.
    fn position(&self) -> u64;

    /// What a place counts.
    fn unit(&self) -> Unit;
}

/// What a payload may be merged from: the keys of a line, the columns of a table.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) id: Option<Id>,
    pub(crate) payload: Payload,
}

impl Gathered {
    /// Adds one key: the id field becomes the id, an object called `payload` is merged, `lsn` (which exported
    /// rows carry) is dropped, the rest is payload. The reason if that cannot be.
    pub(crate) fn add(&mut self, name: &str, value: Value, id_field: &str) -> Result<(), String> {
        if name == id_field {
            self.id = Some(id_of(value, name)?);
            return Ok(());
        }
        match (name, value) {
            ("lsn", _) => Ok(()),
            ("payload", Value::Object(inner)) => {
                inner.into_iter().try_for_each(|(name, value)| self.insert(name, value))
            }
            ("payload", Value::Null) => Ok(()),
            ("payload", other) => Err(format!("\"payload\" is {}, not an object", kind_of(&other))),
            (name, value) => self.insert(name.to_owned(), value),
        }
    }

    fn insert(&mut self, name: String, value: Value) -> Result<(), String> {
        if self.payload.contains_key(&name) {
            return Err(format!("\"{name}\" is given twice"));
        }
        self.payload.insert(name, value);
        Ok(())
    }
}

fn id_of(value: Value, name: &str) -> Result<Id, String> {
    match value {
        Value::String(text) => Ok(Id::from(text)),
        Value::Number(number) => match number.as_i64() {
            Some(n) => Ok(Id::from(n)),
            None => Err(format!("the id \"{name}\" is {number}, expected a text or a 64-bit integer")),
        },
        other => {
            Err(format!("the id \"{name}\" is {}, expected a text or a 64-bit integer", kind_of(&other)))
        }
    }
}

/// The failure of one line.
pub(crate) fn bad_line(file: &Path, line: u64, reason: impl Into<String>) -> Failure {
    Failure::input(file, reason).place(Unit::Line, line)
}

/// The failure of one row.
pub(crate) fn bad_row(file: &Path, row: u64, reason: impl Into<String>) -> Failure {
    Failure::input(file, reason).place(Unit::Row, row)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_exported_row_comes_back_as_it_was() {
        let mut row = Gathered::default();
        row.add("id", json!("a"), "id").unwrap();
        row.add("lsn", json!("1:7"), "id").unwrap();
        row.add("payload", json!({"lang": "en"}), "id").unwrap();
        row.add("year", json!(1999), "id").unwrap();
        assert_eq!(row.id, Some(Id::from("a")));
        assert_eq!(Value::Object(row.payload.clone()), json!({"lang": "en", "year": 1999}));
        assert_eq!(row.add("lang", json!("de"), "id").unwrap_err(), "\"lang\" is given twice");
    }

    #[test]
    fn an_id_is_text_or_integer() {
        let refusal = |value| Gathered::default().add("key", value, "key").unwrap_err();
        for value in [json!(1.5), json!(null), json!([1]), json!(u64::MAX)] {
            assert!(refusal(value).contains("expected a text or a 64-bit integer"));
        }
        assert!(Gathered::default().add("payload", json!(7), "id").unwrap_err().contains("a number"));
    }
}
