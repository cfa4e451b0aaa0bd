//! `akidb upsert`: one row, on disk when the command ends.

use std::time::Duration;

use akidb::{Batch, Expires, NewRow};
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
    #[arg(allow_negative_numbers = true)]
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
    /// Let the row expire so many seconds after it is written, in a collection whose rows do
    #[arg(long, value_name = "SECS", conflicts_with = "patch")]
    expires_in_secs: Option<u64>,
    /// A name for this write, 1 to 128 bytes: run again under it within a day, the command writes nothing and says where
    /// the row was written
    #[arg(long, value_name = "KEY", conflicts_with = "patch")]
    idempotency_key: Option<String>,
}

impl Upsert {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let vector = self.vector.as_deref().map(row_text::vector).transpose()?;
        let payload = self.payload.as_deref().or(self.patch.as_deref());
        let payload = Value::Object(payload.map(row_text::payload).transpose()?.unwrap_or_default());
        let db = globals.open_for_writing()?;
        let rows = collection(&db, &self.collection)?;
        let id = row_text::id(&self.id, rows.schema()?.id_kind)?;
        let mut repeat = None;
        let lsn = match vector {
            Some(vector) => {
                let expires = self.expires_in_secs.map(|secs| Expires::In(Duration::from_secs(secs)));
                let row = NewRow { expires, ..NewRow::new(&id, vector, payload)? };
                match self.idempotency_key {
                    Some(key) => {
                        let mut batch = Batch::new();
                        batch.upsert(&self.collection, row).idempotency_key(key);
                        let receipt = db.submit(&batch)?;
                        repeat = Some(receipt.is_repeat());
                        receipt.wait()?
                    }
                    None => rows.upsert_batch(&[row])?,
                }
            }
            None => rows.update_payload(&id, payload)?,
        };
        db.close()?;
        let mut object = json!({ "id": id_value(&id), "lsn": lsn.to_string() });
        if let Some(repeat) = repeat {
            object["repeat"] = json!(repeat);
        }
        let what = if repeat == Some(true) { "nothing written: this was written before," } else { "wrote" };
        globals.output().report(&object, &format!("{what} {id} at {lsn}"))
    }
}
