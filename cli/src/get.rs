//! `akidb get`: rows by id.

use akidb::Id;
use clap::Args;

use crate::at::At;
use crate::database::Globals;
use crate::failure::{Failure, Result};
use crate::row_text;
use crate::rows::{self, RowObject};

/// Print rows by id
#[derive(Args, Debug)]
pub(crate) struct Get {
    /// Collection
    collection: String,
    /// Ids
    #[arg(required = true, allow_negative_numbers = true)]
    ids: Vec<String>,
    /// Print the vectors too
    #[arg(long)]
    with_vector: bool,
    #[command(flatten)]
    at: At,
}

impl Get {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let db = globals.open_for_reading()?;
        let rows = self.at.collection(globals, &db, &self.collection)?;
        let kind = rows.schema()?.id_kind;
        let ids = self.ids.iter().map(|text| row_text::id(text, kind)).collect::<Result<Vec<Id>>>()?;
        let found = rows.get_many(&ids)?;
        let objects: Vec<RowObject<'_>> =
            found.iter().flatten().map(|row| RowObject::of_row(row, self.with_vector)).collect();
        rows::print(globals.output(), &objects)?;
        let missing: Vec<String> =
            ids.iter().zip(&found).filter(|(_, row)| row.is_none()).map(|(id, _)| id.to_string()).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Failure::not_found(format!("no row with id {}", missing.join(", ")))),
        }
    }
}
