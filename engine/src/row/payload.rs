//! From a payload to typed fields and the JSON rest, and back.

use jiff::Timestamp;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::record::MAX_PAYLOAD_BYTES;
use crate::row::{FieldValue, Payload};
use crate::schema::{Field, FieldType, RESERVED_NAMES, Schema};

mod logged;
#[cfg(test)]
mod tests;

pub(crate) use logged::split_logged;

/// Deepest nesting of arrays and objects in a payload, itself included: what is logged must parse again at replay,
/// and the parser stops at 128.
const MAX_PAYLOAD_DEPTH: usize = 64;

/// Values of the declared fields, and the JSON text of the rest.
pub(crate) type SplitPayload = (Box<[FieldValue]>, Option<Box<str>>);

/// A payload's values for the schema's fields, in their order, and the text of the undeclared rest with its keys
/// sorted, if there is any.
///
/// # Errors
/// `Invalid`: a value of another type than its field's, a reserved key, a key that differs from a field's name only
/// in case, nested over 64 deep. The size is checked where the payload is encoded.
pub(crate) fn split_payload(schema: &Schema, payload: &Payload) -> Result<SplitPayload> {
    check_depth(payload)?;
    let mut declared = 0;
    let mut fields = Vec::with_capacity(schema.fields.len());
    for field in &schema.fields {
        let value = payload.get(&field.name);
        declared += usize::from(value.is_some());
        fields.push(value.map_or(Ok(FieldValue::Null), |value| typed(field, value))?);
    }
    if declared == payload.len() {
        return Ok((fields.into(), None));
    }
    let mut rest: Vec<(&String, &Value)> =
        payload.iter().filter(|(key, _)| schema.position(key).is_none()).collect();
    rest.iter().try_for_each(|(key, _)| check_undeclared(schema, key))?;
    rest.sort_unstable_by_key(|(key, _)| *key);
    Ok((fields.into(), Some(object_text(&rest).into())))
}

/// The payload that these fields and rest came from, up to the form of numbers and timestamps; null fields are left
/// out. Missing fields at the end count as null.
///
/// # Errors
/// `Corrupt`, with no place yet, if `rest` is not the text of a JSON object.
pub(crate) fn join_payload(schema: &Schema, fields: &[FieldValue], rest: Option<&str>) -> Result<Payload> {
    let mut payload = match rest {
        None => Payload::new(),
        Some(text) => serde_json::from_str(text).map_err(|e| {
            Error::new(ErrorKind::Corrupt, "AKI-0133", format!("the stored payload is not JSON: {e}"))
        })?,
    };
    for (field, value) in schema.fields.iter().zip(fields) {
        let json = match value {
            FieldValue::Null => continue,
            FieldValue::Text(text) => Value::from(&**text),
            FieldValue::Int(n) => Value::from(*n),
            FieldValue::Float(x) => Value::from(*x),
            FieldValue::Bool(b) => Value::from(*b),
            FieldValue::Timestamp(micros) => Value::from(timestamp_text(*micros)),
            FieldValue::TextList(texts) => texts.iter().map(|text| Value::from(&**text)).collect(),
        };
        payload.insert(field.name.clone(), json);
    }
    Ok(payload)
}

/// Reads a payload: the text of one JSON object, or nothing at all for none.
///
/// # Errors
/// `Invalid`: over 1 MiB, no JSON (with line and column), or not an object.
pub(crate) fn payload_from_json(text: &str) -> Result<Payload> {
    if text.len() > MAX_PAYLOAD_BYTES {
        return Err(too_large(text.len()));
    }
    if text.is_empty() {
        return Ok(Payload::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(payload)) => Ok(payload),
        Ok(other) => {
            let message = format!("a payload is a JSON object, got {}", json_name(&other));
            Err(Error::invalid("AKI-0128", message))
        }
        Err(e) => Err(Error::invalid("AKI-0128", format!("the payload is not JSON: {e}"))),
    }
}

/// Appends the text that [`payload_from_json`] reads; nothing for an empty payload.
///
/// # Errors
/// `Invalid`: more than 1 MiB. What was appended by then stays.
pub(crate) fn payload_into(payload: &Payload, out: &mut Vec<u8>) -> Result<()> {
    if payload.is_empty() {
        return Ok(());
    }
    let before = out.len();
    serde_json::to_writer(&mut *out, payload).expect("a JSON value always has a text");
    let bytes = out.len() - before;
    if bytes > MAX_PAYLOAD_BYTES { Err(too_large(bytes)) } else { Ok(()) }
}

/// Bytes of the text that [`payload_into`] appends, about and without writing it: a whole number counts as eight bytes and
/// any other as eighteen.
pub(crate) fn text_bytes(payload: &Payload) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) => 4,
            Value::Number(number) if number.is_f64() => 18,
            Value::Number(_) => 8,
            Value::String(text) => string_bytes(text),
            Value::Array(values) => 2 + values.iter().map(|value| of(value) + 1).sum::<usize>(),
            Value::Object(object) => text_bytes(object),
        }
    }
    2 + payload.iter().map(|(key, value)| string_bytes(key) + 2 + of(value)).sum::<usize>()
}

/// Bytes of a string as JSON has it, quotes and escapes included.
fn string_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    2 + text.bytes().map(escaped).sum::<usize>()
}

/// Microseconds since the Unix epoch of an RFC 3339 text; a finer fraction is rounded down. `None` if it is not one
/// or its year is out of range.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let timestamp: Timestamp = text.parse().ok()?;
    // `as_microsecond` cuts towards zero; before 1970 that would be up.
    let below = i64::from(timestamp.subsec_nanosecond() % 1_000 < 0);
    let micros = timestamp.as_microsecond() - below;
    is_timestamp(micros).then_some(micros)
}

/// Microseconds since the Unix epoch that a timestamp field would hold of this value.
pub(crate) fn timestamp_of(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => parse_timestamp(text),
        other => other.as_i64().filter(|micros| is_timestamp(*micros)),
    }
}

/// The RFC 3339 text of microseconds since the Unix epoch; the bare number if its year cannot be written.
pub(crate) fn timestamp_text(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), |timestamp| timestamp.to_string())
}

fn is_timestamp(micros: i64) -> bool {
    Timestamp::from_microsecond(micros).is_ok()
}

fn typed(field: &Field, value: &Value) -> Result<FieldValue> {
    let wrong = || wrong_type(field, value);
    Ok(match (field.field_type, value) {
        (_, Value::Null) => FieldValue::Null,
        (FieldType::Text, Value::String(text)) => FieldValue::Text(text.as_str().into()),
        (FieldType::Int, Value::Number(n)) => {
            FieldValue::Int(n.as_i64().or_else(|| whole(n.as_f64()?)).ok_or_else(wrong)?)
        }
        (FieldType::Float, Value::Number(n)) => {
            FieldValue::Float(n.as_f64().filter(|x| x.is_finite()).ok_or_else(wrong)?)
        }
        (FieldType::Bool, Value::Bool(b)) => FieldValue::Bool(*b),
        (FieldType::Timestamp, Value::String(text)) => {
            FieldValue::Timestamp(parse_timestamp(text).ok_or_else(|| bad_timestamp(field, value))?)
        }
        (FieldType::Timestamp, Value::Number(n)) => {
            let micros = n.as_i64().ok_or_else(wrong)?;
            if !is_timestamp(micros) {
                return Err(bad_timestamp(field, value));
            }
            FieldValue::Timestamp(micros)
        }
        (FieldType::TextList, Value::Array(items)) => {
            let text = |item: &Value| item.as_str().map(Into::into);
            FieldValue::TextList(items.iter().map(text).collect::<Option<_>>().ok_or_else(wrong)?)
        }
        _ => return Err(wrong()),
    })
}

/// `5.0`, as some writers put integers; up to 2^53, where every integer is a float of its own.
#[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
fn whole(x: f64) -> Option<i64> {
    (x.fract() == 0.0 && x.abs() <= 9_007_199_254_740_992.0).then_some(x as i64)
}

fn wrong_type(field: &Field, value: &Value) -> Error {
    let expected = match field.field_type {
        FieldType::Int => "int (a whole number of 64 bits)",
        FieldType::Timestamp => "timestamp (RFC 3339 text or whole microseconds since 1970)",
        other => other.name(),
    };
    let got = match value {
        Value::Array(items) if field.field_type == FieldType::TextList => {
            let item = items.iter().find(|item| !item.is_string()).unwrap_or(&Value::Null);
            format!("a list holding {}", shown(item))
        }
        other => shown(other),
    };
    let message = format!("field \"{}\": expected {expected}, got {got}", field.name);
    Error::invalid("AKI-0124", message)
}

fn bad_timestamp(field: &Field, value: &Value) -> Error {
    let message = format!(
        "field \"{}\": {} is not a timestamp between the years -9999 and 9999",
        field.name,
        shown(value)
    );
    Error::invalid("AKI-0125", message)
        .help_is("write it like 2024-05-01T12:30:00Z or 2024-05-01T14:30:00+02:00")
}

/// The kind of a value, and the value itself where it is short.
fn shown(value: &Value) -> String {
    let name = json_name(value);
    match value {
        Value::Bool(_) | Value::Number(_) => format!("{name} {value}"),
        Value::String(text) if text.len() <= 40 => format!("{name} {text:?}"),
        _ => name.to_owned(),
    }
}

fn json_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn check_undeclared(schema: &Schema, key: &str) -> Result<()> {
    if RESERVED_NAMES.iter().any(|name| name.eq_ignore_ascii_case(key)) {
        let message = format!(
            "payload key \"{key}\" is reserved ({}); id and vector are given beside the payload",
            RESERVED_NAMES.join(", ")
        );
        return Err(Error::invalid("AKI-0129", message));
    }
    if let Some(field) = schema.fields.iter().find(|field| field.name.eq_ignore_ascii_case(key)) {
        let message = format!("payload key \"{key}\" differs from the field \"{}\" only in case", field.name);
        return Err(Error::invalid("AKI-0130", message));
    }
    Ok(())
}

fn check_depth(payload: &Payload) -> Result<()> {
    if payload.values().all(|value| is_within(value, MAX_PAYLOAD_DEPTH - 1)) {
        return Ok(());
    }
    Err(Error::invalid("AKI-0131", format!("the payload is nested over {MAX_PAYLOAD_DEPTH} deep")))
}

fn is_within(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(|item| is_within(item, depth - 1)),
        Value::Object(map) => depth > 0 && map.values().all(|item| is_within(item, depth - 1)),
        _ => true,
    }
}

fn too_large(bytes: usize) -> Error {
    Error::invalid("AKI-0127", format!("the payload has {bytes} bytes as JSON, at most {MAX_PAYLOAD_BYTES}"))
}

fn object_text(entries: &[(&String, &Value)]) -> String {
    let mut text = Vec::with_capacity(128);
    for (n, (key, value)) in entries.iter().enumerate() {
        text.push(if n == 0 { b'{' } else { b',' });
        serde_json::to_writer(&mut text, key).expect("a text always has a JSON form");
        text.push(b':');
        serde_json::to_writer(&mut text, value).expect("a JSON value always has a text");
    }
    text.push(b'}');
    String::from_utf8(text).expect("JSON is UTF-8")
}
