//! Ids, vectors, payloads and field declarations as people type them.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use akidb::{FieldType, Id, IdKind, Payload, Schema};
use serde_json::Value;

use crate::failure::{Failure, Result};

/// The id that `text` means in a collection of this kind of ids.
pub(crate) fn id(text: &str, kind: IdKind) -> Result<Id> {
    match kind {
        IdKind::Text => Ok(Id::from(text)),
        IdKind::Int => text.parse::<i64>().map(Id::from).map_err(|_| {
            Failure::usage(format!("{text:?} is no id of this collection: its ids are 64-bit integers"))
        }),
    }
}

/// A vector typed as `0.1,0.2` or `[0.1, 0.2]`, or read from `@FILE` (`@-`: standard input).
pub(crate) fn vector(text: &str) -> Result<Vec<f32>> {
    let content = argument(text)?;
    let inside = content.trim();
    let inside = inside.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(inside).trim();
    if inside.is_empty() {
        return Err(Failure::usage("the vector is empty; write it as 0.1,0.2,... or @FILE"));
    }
    let number = |(at, text): (usize, &str)| {
        let text = text.trim();
        text.parse::<f32>().map_err(|_| {
            let shown = crate::output::shortened(text, 40);
            Failure::usage(format!("number {} of the vector is {shown:?}, which is no number", at + 1))
                .help("write a vector as 0.1,0.2,... or [0.1, 0.2, ...] or @FILE")
        })
    };
    inside.split(',').enumerate().map(number).collect()
}

/// A payload typed as a JSON object, or read from `@FILE` (`@-`: standard input).
pub(crate) fn payload(text: &str) -> Result<Payload> {
    let content = argument(text)?;
    match serde_json::from_str(&content) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Failure::usage(format!("the payload is {}, not a JSON object", kind_of(&other)))),
        Err(cause) => Err(Failure::usage(format!("the payload is no JSON: {cause}"))
            .help("a payload is an object such as '{\"lang\": \"en\"}', or @FILE")),
    }
}

/// Adds the fields declared as `name:type` to a schema.
pub(crate) fn fields(schema: Schema, declared: &[String]) -> Result<Schema> {
    declared.iter().try_fold(schema, |schema, text| {
        let (name, field_type) = field(text)?;
        Ok(schema.field(name, field_type))
    })
}

/// A field declared as `name:type`.
pub(crate) fn field(text: &str) -> Result<(&str, FieldType)> {
    let (name, type_name) = text.rsplit_once(':').ok_or_else(|| wrong_field(text))?;
    Ok((name, field_type(type_name).ok_or_else(|| wrong_field(text))?))
}

fn field_type(name: &str) -> Option<FieldType> {
    Some(match name {
        "text" => FieldType::Text,
        "int" => FieldType::Int,
        "float" => FieldType::Float,
        "bool" => FieldType::Bool,
        "timestamp" => FieldType::Timestamp,
        "text_list" => FieldType::TextList,
        _ => return None,
    })
}

/// The word for a field's type in `--field name:type`.
pub(crate) fn type_word(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::TextList => "text_list",
        other => other.name(),
    }
}

fn wrong_field(text: &str) -> Failure {
    Failure::usage(format!("--field {text:?} declares no field"))
        .help("write --field NAME:TYPE with TYPE one of text, int, float, bool, timestamp, text_list")
}

/// The word for a JSON value in messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The argument itself, or the content of the file it names by `@FILE`.
fn argument(text: &str) -> Result<String> {
    let Some(file) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    let mut content = String::new();
    let read = match file {
        "-" => io::stdin().read_to_string(&mut content).map(|_| content),
        file => fs::read_to_string(file),
    };
    read.map_err(|cause| Failure::io(Path::new(file), "reading an argument", &cause))
}

#[cfg(test)]
mod tests {
    use akidb::Metric;

    use super::*;

    #[test]
    fn a_vector_is_read_with_or_without_brackets() {
        assert_eq!(vector("1, -2.5,3e-1").unwrap(), [1.0, -2.5, 0.3]);
        assert_eq!(vector(" [1,2] ").unwrap(), [1.0, 2.0]);
        let message = vector("1,two").unwrap_err().to_string();
        assert!(message.contains("number 2 of the vector is \"two\""), "{message}");
        assert!(vector("[]").is_err());
        assert!(vector("@/no/such/file").unwrap_err().to_string().contains("/no/such/file"));
    }

    #[test]
    fn a_payload_is_an_object() {
        assert_eq!(payload("{\"a\":1}").unwrap()["a"], 1);
        assert!(payload("[1]").unwrap_err().to_string().contains("a list, not a JSON object"));
        assert!(payload("{").is_err());
    }

    #[test]
    fn ids_follow_the_collection() {
        assert_eq!(id("7", IdKind::Text).unwrap(), Id::from("7"));
        assert_eq!(id("-7", IdKind::Int).unwrap(), Id::from(-7));
        assert!(id("seven", IdKind::Int).is_err());
    }

    #[test]
    fn a_field_is_declared_by_name_and_type() {
        let declared = ["a:b:int".to_owned(), "tags:text_list".to_owned()];
        let schema = fields(Schema::new(2, Metric::L2), &declared).unwrap();
        assert_eq!(schema.fields[0].name, "a:b");
        assert_eq!(schema.fields[1].field_type, FieldType::TextList);
        for wrong in ["lang", "lang:string", "lang:"] {
            let message = fields(Schema::new(2, Metric::L2), &[wrong.to_owned()]).unwrap_err().to_string();
            assert!(message.contains("text_list"), "{message}");
        }
    }
}
