//! `akidb alter`: another name for a collection, and more fields.

use akidb::FieldType;
use clap::Args;
use serde_json::json;

use crate::database::{Globals, collection};
use crate::failure::Result;
use crate::row_text;

/// Rename a collection, or declare more fields
#[derive(Args, Debug)]
pub(crate) struct Alter {
    /// Collection
    collection: String,
    /// The new name
    #[arg(long, value_name = "NAME", required_unless_present = "fields")]
    rename: Option<String>,
    /// A typed field to add: text, int, float, bool, timestamp or text_list (repeatable); rows that are there have none
    #[arg(long = "field", value_name = "NAME:TYPE")]
    fields: Vec<String>,
}

impl Alter {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let fields = self.fields.iter().map(|text| row_text::field(text));
        let fields: Vec<(&str, FieldType)> = fields.collect::<Result<_>>()?;
        let db = globals.open_for_writing()?;
        let rows = collection(&db, &self.collection)?;
        rows.add_fields(&fields)?;
        if let Some(name) = &self.rename {
            db.rename_collection(&self.collection, name)?;
        }
        let (name, declared) = (rows.name()?, rows.schema()?.fields.len());
        db.close()?;
        let object = json!({ "collection": name, "was": self.collection, "fields": declared });
        globals.output().report(&object, &format!("collection \"{name}\" has {declared} declared fields"))
    }
}
