//! The rows the demo's child writes: made from the sample by their number alone, so that the parent can say what
//! each must hold.

use akidb::NewRow;
use akidb_benches::{Sample, SampleRow};
use serde_json::json;

/// Ids of these rows start so.
pub(crate) const PREFIX: &str = "live-";

/// Row `n`: half-way between two entries of the sample.
pub(crate) fn row(sample: &Sample, n: u64) -> SampleRow {
    let count = sample.rows.len() as u64;
    let pick = |at: u64| &sample.rows[usize::try_from(at % count).expect("an index into the sample")];
    let (a, b) = (pick(n.wrapping_mul(7) + 3), pick(n.wrapping_mul(13) + 11));
    let vector = a.vector.iter().zip(&b.vector).map(|(x, y)| 0.75 * x + 0.25 * y).collect();
    let payload = json!({
        "row": 1_000_000 + n, "bucket": n % 100, "lexname": "demo.live",
        "gloss": format!("between \"{}\" and \"{}\"", a.id, b.id),
    });
    let serde_json::Value::Object(payload) = payload else { unreachable!("an object was written above") };
    SampleRow { id: format!("{PREFIX}{n:08}"), vector, payload }
}

/// A row of the sample as a row to write.
pub(crate) fn new_row(row: &SampleRow) -> NewRow {
    NewRow {
        id: row.id.as_str().into(),
        vector: row.vector.clone(),
        payload: row.payload.clone(),
        expires: None,
    }
}
