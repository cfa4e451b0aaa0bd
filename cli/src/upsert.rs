//! `akidb upsert`: one row, on disk when the command ends.

use clap::Args;
use serde_json::{Value, json};

use crate::database::{Globals, collection};
use crate::failure::Result;
use crate::row_text;
use crate::rows::id_value;

/// Write a row; a row with its id is replaced, or its payload patched
#[derive(Args, Debug)]
pub(crate) struct Upsert {
    /// Collection
    collection: String,
    /// Id of the row
    id: String,
    /// The vector: 0.1,0.2,... or [0.1, 0.2, ...] or @FILE (@- for standard input)
    #[arg(long, value_name = "VECTOR", allow_hyphen_values = true, required_unless_present = "patch")]
    vector: Option<String>,
    /// The payload: a JSON object or @FILE
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// Keep the row's vector and change only these keys of its payload; null removes one (a JSON object or @FILE)
    #[arg(long, value_name = "JSON", conflicts_with_all = ["vector", "payload"])]
    patch: Option<String>,
}

impl Upsert {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let vector = self.vector.as_deref().map(row_text::vector).transpose()?;
        let payload = self.payload.as_deref().or(self.patch.as_deref());
        let payload = Value::Object(payload.map(row_text::payload).transpose()?.unwrap_or_default());
        let db = globals.open_for_writing()?;
        let rows = collection(&db, &self.collection)?;
        let id = row_text::id(&self.id, rows.schema()?.id_kind)?;
        let lsn = match &vector {
            Some(vector) => rows.upsert(&id, vector, payload)?,
            None => rows.update_payload(&id, payload)?,
        };
        db.close()?;
        let object = json!({ "id": id_value(&id), "lsn": lsn.to_string() });
        globals.output().report(&object, &format!("wrote {id} at {lsn}"))
    }
}
