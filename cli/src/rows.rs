//! Rows as results: the JSON object of a row, and its line in a table.

use akidb::{Hit, Id, Payload, StoredRow};
use serde::{Serialize, Serializer};

use crate::failure::Result;
use crate::output::{Output, shortened};

/// Characters of a payload shown in a table.
const PAYLOAD_CHARS: usize = 100;

/// A row as one JSON object: `id`, `score` (of a search), `lsn`, `vector` (if asked for), `payload`.
#[derive(Debug, Serialize)]
pub(crate) struct RowObject<'a> {
    #[serde(serialize_with = "id_as_json")]
    id: &'a Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    lsn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<&'a [f32]>,
    payload: &'a Payload,
}

impl<'a> RowObject<'a> {
    /// A stored row.
    pub(crate) fn of_row(row: &'a StoredRow, with_vector: bool) -> Self {
        let vector = with_vector.then_some(row.vector.as_slice());
        Self { id: &row.id, score: None, lsn: row.lsn.to_string(), vector, payload: &row.payload }
    }

    /// A hit of a search.
    pub(crate) fn of_hit(hit: &'a Hit) -> Self {
        let vector = hit.vector.as_deref();
        Self { id: &hit.id, score: Some(hit.score), lsn: hit.lsn.to_string(), vector, payload: &hit.payload }
    }

    fn cells(&self) -> Vec<String> {
        let score = self.score.map(|score| format!("{score:.6}"));
        let payload = serde_json::to_string(self.payload).unwrap_or_default();
        let vector = self.vector.map(|vector| {
            let numbers: Vec<String> = vector.iter().map(ToString::to_string).collect();
            shortened(&numbers.join(","), PAYLOAD_CHARS)
        });
        let start = [Some(self.id.to_string()), score, Some(self.lsn.clone())];
        let end = [vector, Some(shortened(&payload, PAYLOAD_CHARS))];
        start.into_iter().chain(end).flatten().collect()
    }
}

/// Prints rows: objects with `--json`, else a table.
pub(crate) fn print(output: Output, rows: &[RowObject<'_>]) -> Result<()> {
    if output.is_json() {
        let mut heard = rows.iter().take_while(|_| output.is_heard());
        return heard.try_for_each(|row| output.object(row));
    }
    let Some(first) = rows.first() else { return Ok(()) };
    let mut header = vec!["id"];
    header.extend(first.score.map(|_| "score"));
    header.push("lsn");
    header.extend(first.vector.map(|_| "vector"));
    header.push("payload");
    output.table(&header, rows.iter().map(RowObject::cells))
}

/// Text ids are JSON texts, integer ids JSON numbers.
pub(crate) fn id_as_json<S: Serializer>(id: &Id, to: S) -> Result<S::Ok, S::Error> {
    match id {
        Id::Text(text) => to.serialize_str(text),
        Id::Int(n) => to.serialize_i64(*n),
    }
}

/// An id as a JSON value.
pub(crate) fn id_value(id: &Id) -> serde_json::Value {
    match id {
        Id::Text(text) => text.as_ref().into(),
        Id::Int(n) => (*n).into(),
    }
}
