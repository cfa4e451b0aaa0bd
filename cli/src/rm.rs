//! `akidb rm`: rows by id or filter, or a whole collection.

use akidb::{Db, Id};
use clap::Args;
use serde_json::json;

use crate::database::{Globals, collection};
use crate::failure::{Failure, Result};
use crate::output::thousands;
use crate::row_text;
use crate::rows::id_value;

/// Remove rows by id or filter, or a whole collection
#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// Collection
    collection: String,
    /// Ids
    #[arg(required_unless_present_any = ["drop", "filter"], allow_negative_numbers = true)]
    ids: Vec<String>,
    /// Remove the collection and every row in it
    #[arg(long, conflicts_with = "ids")]
    drop: bool,
    /// Remove the rows that match, such as "year < 2000"
    #[arg(long, value_name = "FILTER", conflicts_with_all = ["ids", "drop"])]
    filter: Option<String>,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

impl Rm {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let db = if self.dry_run { globals.open_for_reading()? } else { globals.open_for_writing()? };
        let outcome = match &self.filter {
            Some(filter) => self.matching(globals, &db, filter),
            None if self.drop => self.drop_all(globals, &db),
            None => self.rows(globals, &db),
        };
        db.close()?;
        outcome
    }

    fn rows(&self, globals: &Globals, db: &Db) -> Result<()> {
        let rows = collection(db, &self.collection)?;
        let kind = rows.schema()?.id_kind;
        let ids = self.ids.iter().map(|text| row_text::id(text, kind)).collect::<Result<Vec<Id>>>()?;
        let mut any = false;
        for id in &ids {
            let there = if self.dry_run { rows.contains(id)? } else { rows.delete(id)? };
            any |= there;
            let object = json!({ "id": id_value(id), "removed": there, "dry_run": self.dry_run });
            let sentence = match (there, self.dry_run) {
                (false, _) => format!("no row with id {id}"),
                (true, true) => format!("would remove {id}"),
                (true, false) => format!("removed {id}"),
            };
            globals.output().report(&object, &sentence)?;
        }
        if any { Ok(()) } else { Err(Failure::not_found("none of these rows exists")) }
    }

    fn matching(&self, globals: &Globals, db: &Db, filter: &str) -> Result<()> {
        let rows = collection(db, &self.collection)?;
        let count = if self.dry_run { rows.count_where(filter)? } else { rows.delete_where(filter)? };
        let object = json!({ "collection": self.collection, "rows": count, "dry_run": self.dry_run });
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let sentence = format!("{verb} {} rows of \"{}\"", thousands(count), self.collection);
        globals.output().report(&object, &sentence)?;
        if count > 0 { Ok(()) } else { Err(Failure::not_found("no row matches")) }
    }

    fn drop_all(&self, globals: &Globals, db: &Db) -> Result<()> {
        let rows = collection(db, &self.collection)?.count()?;
        if !self.dry_run {
            db.drop_collection(&self.collection)?;
        }
        let object = json!({ "collection": self.collection, "rows": rows, "dry_run": self.dry_run });
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let sentence = format!("{verb} collection \"{}\" with {} rows", self.collection, thousands(rows));
        globals.output().report(&object, &sentence)
    }
}
