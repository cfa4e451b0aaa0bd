//! `akidb search`: the nearest rows of a vector or of another row.

use akidb::{Collection, Hit, MAX_K};
use akidb_host::{Clock, RealClock};
use clap::{ArgGroup, Args};
use serde_json::json;

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
    /// Run it so often, and say how long the first run (which verifies what it touches) and the middle one took
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
}

impl Search {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let given = self.vector.as_deref().map(row_text::vector).transpose()?;
        let db = globals.open_for_reading()?;
        let rows = collection(&db, &self.collection)?;
        let run = || match (&self.like, &given) {
            (Some(id), _) => self.like(&rows, id),
            (None, Some(vector)) => self.near(&rows, vector, self.k),
            (None, None) => unreachable!("clap asks for one of the two"),
        };
        let mut millis = Vec::new();
        let mut hits = Vec::new();
        for _ in 0..self.repeat {
            let started = RealClock.now();
            hits = run()?;
            millis.push(RealClock.now().duration_since(started).as_secs_f64() * 1e3);
        }
        let objects: Vec<RowObject<'_>> = hits.iter().map(RowObject::of_hit).collect();
        rows::print(globals.output(), &objects)?;
        if self.repeat > 1 {
            tell_times(globals, &mut millis)?;
        }
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

fn tell_times(globals: &Globals, millis: &mut [f64]) -> Result<()> {
    let (first, runs) = (millis[0], millis.len());
    millis.sort_by(f64::total_cmp);
    let (least, median) = (millis[0], millis[runs / 2]);
    let object = json!({ "runs": runs, "first_ms": first, "median_ms": median, "least_ms": least });
    let sentence = format!("{runs} runs: first {first:.2} ms, median {median:.2} ms, least {least:.2} ms");
    globals.output().report(&object, &sentence)
}
