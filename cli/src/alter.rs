//! `akidb alter`: another name for a collection, more fields, and rows that expire.

use akidb::FieldType;
use clap::Args;
use serde_json::json;

use crate::database::{Globals, collection};
use crate::failure::Result;
use crate::row_text;

/// Rename a collection, declare more fields, or let its rows expire
///
/// Several are made together or, if one is refused, none: rows may expire by a field that is added with it.
#[derive(Args, Debug)]
pub(crate) struct Alter {
    /// Collection
    collection: String,
    /// The new name
    #[arg(long, value_name = "NAME", required_unless_present_any = ["fields", "expires_by"])]
    rename: Option<String>,
    /// A typed field to add: text, int, float, bool, timestamp or text_list (repeatable); rows that are there have none
    #[arg(long = "field", value_name = "NAME:TYPE")]
    fields: Vec<String>,
    /// The timestamp field that says from now on when a row expires, for good; rows whose time has come are hidden at once and
    /// soon deleted
    #[arg(long, value_name = "FIELD")]
    expires_by: Option<String>,
}

impl Alter {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let fields = self.fields.iter().map(|text| row_text::field(text));
        let fields: Vec<(&str, FieldType)> = fields.collect::<Result<_>>()?;
        let db = globals.open_for_writing()?;
        let rows = collection(&db, &self.collection)?;
        let mut change = rows.alter();
        for (name, field_type) in fields {
            change = change.field(name, field_type);
        }
        if let Some(name) = &self.rename {
            change = change.rename(name);
        }
        let expired = match &self.expires_by {
            Some(field) => {
                let before = rows.count()?;
                change.expires_by(field).commit()?;
                Some(before.saturating_sub(rows.count()?))
            }
            None => change.commit().map(|()| None)?,
        };
        let (name, declared) = (rows.name()?, rows.schema()?.fields.len());
        db.close()?;
        let mut object = json!({ "collection": name, "was": self.collection, "fields": declared });
        let mut sentence = format!("collection \"{name}\" has {declared} declared fields");
        if let (Some(field), Some(expired)) = (&self.expires_by, expired) {
            object["expires_by"] = json!(field);
            object["expired"] = json!(expired);
            sentence += &format!("; its rows expire by {field}, {expired} of them have");
        }
        globals.output().report(&object, &sentence)
    }
}
