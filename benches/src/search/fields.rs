//! Which fields a bench declares, of which type, and which filters are worth a curve.

use std::collections::BTreeMap;

use akidb::{FieldType, Schema};
use serde_json::Value;

use super::source::SourceRow;

/// Share of rows that a filter on `lexname` should take: few, but not so few that all of them are compared.
const LEXNAME_SHARE: f64 = 0.07;

/// `schema` with every field that a filter names and a row has; of the type that the rows' values have.
pub(super) fn declared(schema: Schema, rows: &[SourceRow], filters: &[String]) -> Schema {
    let named: Vec<String> = filters.iter().flat_map(|filter| words(filter)).collect();
    let mut types: BTreeMap<&str, FieldType> = BTreeMap::new();
    for (name, value) in rows.iter().flat_map(|row| &row.payload) {
        let Some(found) = type_of(value).filter(|_| named.iter().any(|n| n == name)) else { continue };
        let kept = types.entry(name).or_insert(found);
        if (*kept, found) == (FieldType::Int, FieldType::Float) {
            *kept = FieldType::Float;
        }
    }
    types.into_iter().fold(schema, |schema, (name, field_type)| schema.field(name, field_type))
}

/// Filters on the fields of the sets in use: `bucket`, which has nothing to do with the vectors, and `lexname`, which
/// follows them.
pub(super) fn usual_filters(rows: &[SourceRow]) -> Vec<String> {
    let mut filters = Vec::new();
    if rows.iter().all(|row| row.payload.get("bucket").is_some_and(Value::is_i64)) {
        filters.extend([50, 10, 1].map(|bound| format!("bucket < {bound}")));
    }
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for name in rows.iter().filter_map(|row| row.payload.get("lexname")?.as_str()) {
        *counts.entry(name).or_default() += 1;
    }
    let off = |count: u32| (f64::from(count) / rows.len() as f64 - LEXNAME_SHARE).abs();
    if let Some((name, _)) = counts.iter().min_by(|a, b| off(*a.1).total_cmp(&off(*b.1))) {
        filters.push(format!("lexname = '{}'", name.replace('\'', "''")));
    }
    filters
}

/// The words of a filter outside of single quotes: names of fields are among them.
fn words(filter: &str) -> Vec<String> {
    let outside = filter.split('\'').step_by(2);
    let word = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-' || c == '.');
    outside.flat_map(|text| text.split(word)).filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

fn type_of(value: &Value) -> Option<FieldType> {
    match value {
        Value::Bool(_) => Some(FieldType::Bool),
        Value::Number(n) if n.is_i64() => Some(FieldType::Int),
        Value::Number(_) => Some(FieldType::Float),
        Value::String(_) => Some(FieldType::Text),
        Value::Array(items) if items.iter().all(Value::is_string) => Some(FieldType::TextList),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use akidb::Metric;
    use serde_json::json;

    use super::*;

    fn rows(payloads: Value) -> Vec<SourceRow> {
        let payloads: Vec<akidb::Payload> = serde_json::from_value(payloads).unwrap();
        payloads.into_iter().map(|payload| SourceRow { vector: vec![1.0], payload }).collect()
    }

    #[test]
    fn a_field_is_declared_if_a_filter_names_it_and_a_row_has_it() {
        let rows = rows(json!([{"year": 1, "lang": "en", "x": 1}, {"year": 1.5, "tags": ["a"], "odd": {}}]));
        let filters = ["year < 3 and lang = 'x' and \"tags\" contains 'a' and odd is null".to_owned()];
        let schema = declared(Schema::new(1, Metric::L2), &rows, &filters);
        let fields: Vec<(&str, FieldType)> =
            schema.fields.iter().map(|f| (f.name.as_str(), f.field_type)).collect();
        let wanted = [("lang", FieldType::Text), ("tags", FieldType::TextList), ("year", FieldType::Float)];
        assert_eq!(fields, wanted, "a word in quotes is no name, an object no field");
    }

    #[test]
    fn usual_filters_take_known_fields_and_the_value_of_a_fitting_share() {
        let mut payloads = vec![json!({"bucket": 1, "lexname": "big"}); 90];
        payloads.extend(vec![json!({"bucket": 2, "lexname": "o'small"}); 9]);
        payloads.push(json!({"bucket": 3, "lexname": "one"}));
        let found = usual_filters(&rows(Value::Array(payloads)));
        assert_eq!(found, ["bucket < 50", "bucket < 10", "bucket < 1", "lexname = 'o''small'"]);
        assert!(usual_filters(&rows(json!([{"title": "x"}]))).is_empty());
    }
}
