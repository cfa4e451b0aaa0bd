//! A JSON object shown to a person: plain keys as lines, lists of objects as tables.

use serde_json::{Map, Value};

use crate::failure::Result;
use crate::output::{Output, printable, shortened};

/// Characters of a nested value in a table.
const CELL_CHARS: usize = 60;

/// Prints `value`: as it is with `--json`, else for people.
pub(crate) fn print(output: Output, value: &Value) -> Result<()> {
    match value {
        Value::Object(object) if !output.is_json() => print_object(output, object, ""),
        other => output.object(other),
    }
}

fn print_object(output: Output, object: &Map<String, Value>, above: &str) -> Result<()> {
    for (key, value) in object {
        let name = format!("{above}{}", key.replace('_', " "));
        match value {
            Value::Object(inner) if !inner.is_empty() => print_object(output, inner, &format!("{name}: "))?,
            Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
                output.sentence(&format!("{name}:"))?;
                print_table(output, items)?;
            }
            other => output.sentence(&format!("{name}: {}", text_of(other)))?,
        }
    }
    Ok(())
}

fn print_table(output: Output, items: &[Value]) -> Result<()> {
    let mut header: Vec<&str> = Vec::new();
    for key in items.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !header.contains(&key.as_str()) {
            header.push(key);
        }
    }
    let cell = |item: &Value, key: &str| {
        let value = &item[key];
        if value.is_string() { text_of(value) } else { shortened(&text_of(value), CELL_CHARS) }
    };
    output.table(&header, items.iter().map(|item| header.iter().map(|key| cell(item, key)).collect()))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) if items.iter().all(|item| item.is_string() || item.is_number()) => {
            let texts: Vec<String> = items.iter().map(text_of).collect();
            texts.join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_read_like_words() {
        assert_eq!(text_of(&json!(null)), "none");
        assert_eq!(text_of(&json!([])), "none");
        assert_eq!(text_of(&json!(["a", 1])), "a, 1");
        assert_eq!(text_of(&json!("a\u{7}")), "a\\u{7}");
        assert_eq!(text_of(&json!({"a": 1})), "{\"a\":1}");
    }
}
