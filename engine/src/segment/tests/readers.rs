//! Segments with their expected rows as JSONL, for `scripts/other-readers` to read with readers that are not ours.

use serde_json::{Map, Value, json};

use super::*;

/// A row as `scripts/readers.py` expects it: floats and vectors as numbers, timestamps in microseconds.
fn expected(schema: &Schema, lsn: Lsn, row: &Row) -> Value {
    let mut out = Map::new();
    out.insert("id".into(), if let Id::Int(n) = row.id { json!(n) } else { json!(row.id.to_string()) });
    out.insert("lsn".into(), json!(lsn.as_i64()));
    for (field, value) in schema.fields.iter().zip(&row.fields) {
        let value = match value {
            FieldValue::Null => Value::Null,
            FieldValue::Text(text) => json!(text),
            FieldValue::Int(n) | FieldValue::Timestamp(n) => json!(n),
            FieldValue::Float(x) => json!(x),
            FieldValue::Bool(b) => json!(b),
            FieldValue::TextList(texts) => json!(texts),
        };
        out.insert(field.name.clone(), value);
    }
    out.insert("payload".into(), json!(row.rest));
    out.insert("vector".into(), json!(row.vector.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()));
    Value::Object(out)
}

/// With `AKIDB_READERS_DIR` set, leaves segments and expectations there.
#[test]
fn segments_for_other_readers_are_left_where_asked() {
    let Some(dir) = std::env::var_os("AKIDB_READERS_DIR").map(PathBuf::from) else { return };
    let wide = Schema::new(384, Metric::Cosine).text("lang");
    let cases = [
        ("text_ids", every_type(12), 3_000),
        ("int_ids", every_type(8).int_ids(), 1_500),
        ("with_index", every_type(12), 900),
        ("dim_1", every_type(1), 700),
        ("dim_3", every_type(3), 700),
        ("dim_9", every_type(9), 1),
        ("dim_384", wide, 600),
        ("two_row_groups", Schema::new(4_096, Metric::Dot).int("n").int_ids(), 1_030),
    ];
    for (name, schema, n) in cases {
        let mut rows = rows(&schema, n, 77);
        if name == "dim_384" {
            // Ordinary numbers, so that a distance of two rows is one too.
            for (row, seed) in rows.iter_mut().zip(0..) {
                let mut rng = Rng::seeded(seed);
                let vector = row
                    .1
                    .vector
                    .iter()
                    .map(|_| f32::from(i16::from_le_bytes([rng.u32().to_le_bytes()[0], 0])));
                row.1 = Arc::new(Row { vector: vector.collect(), ..Row::clone(&row.1) });
            }
        }
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let index = (name == "with_index").then(|| index(5_000, 100_000, 77));
        write(&dir, &schema, &rows, index.as_ref()).unwrap();
        let lines = rows.iter().map(|(lsn, row)| expected(&schema, *lsn, row).to_string() + "\n");
        std::fs::write(dir.join("expected.jsonl"), lines.collect::<String>()).unwrap();
    }
}
