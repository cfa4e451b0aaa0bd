//! `akidb search`: the nearest rows of a vector or of another row.

use akidb::{Collection, Hit, MAX_K};
use clap::{ArgGroup, Args};

use crate::database::{Globals, collection};
use crate::failure::{Failure, Result};
use crate::row_text;
use crate::rows::{self, RowObject};

/// Print the nearest rows, best first
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("query").required(true))]
pub(crate) struct Search {
    /// Collection
    collection: String,
    /// Near this vector: 0.1,0.2,... or [0.1, 0.2, ...] or @FILE (@- for standard input)
    #[arg(long, value_name = "VECTOR", group = "query", allow_hyphen_values = true)]
    vector: Option<String>,
    /// Near the row with this id, which is left out itself
    #[arg(long, value_name = "ID", group = "query", allow_negative_numbers = true)]
    like: Option<String>,
    /// How many rows
    #[arg(short, value_name = "N", default_value_t = 10)]
    k: usize,
    /// Only rows that match, such as "lang = 'en' and year > 2020"
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Print the vectors too
    #[arg(long)]
    with_vector: bool,
}

impl Search {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let given = self.vector.as_deref().map(row_text::vector).transpose()?;
        let db = globals.open_for_reading()?;
        let rows = collection(&db, &self.collection)?;
        let hits = match (&self.like, given) {
            (Some(id), _) => self.like(&rows, id)?,
            (None, Some(vector)) => self.near(&rows, &vector, self.k)?,
            (None, None) => unreachable!("clap asks for one of the two"),
        };
        let objects: Vec<RowObject<'_>> = hits.iter().map(RowObject::of_hit).collect();
        rows::print(globals.output(), &objects)?;
        if hits.is_empty() { Err(Failure::not_found("no row matches")) } else { Ok(()) }
    }

    fn near(&self, rows: &Collection, vector: &[f32], k: usize) -> Result<Vec<Hit>> {
        let search = rows.search(vector).k(k).with_vector(self.with_vector);
        Ok(match &self.filter {
            Some(filter) => search.filter(filter.as_str()).run()?,
            None => search.run()?,
        })
    }

    fn like(&self, rows: &Collection, id: &str) -> Result<Vec<Hit>> {
        // One more than asked for, because the row itself is among them unless the filter refuses it.
        if self.k == 0 || self.k >= MAX_K {
            let message = format!("-k {} with --like; 1 to {} rows can be asked for", self.k, MAX_K - 1);
            return Err(Failure::usage(message));
        }
        let id = row_text::id(id, rows.schema()?.id_kind)?;
        let Some(row) = rows.get(&id)? else {
            return Err(Failure::not_found(format!("no row with id {id}")));
        };
        let mut hits = self.near(rows, &row.vector, self.k + 1)?;
        hits.retain(|hit| hit.id != id);
        hits.truncate(self.k);
        Ok(hits)
    }
}
