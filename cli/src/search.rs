//! `akidb search`: the nearest rows of a vector or of another row.

use akidb::{Collection, Explained, Hit, MAX_K};
use akidb_host::{Clock, RealClock};
use clap::{ArgGroup, Args};
use serde_json::json;

use crate::at::At;
use crate::database::Globals;
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
    #[arg(long, value_name = "ID", group = "query", allow_hyphen_values = true)]
    like: Option<String>,
    /// How many rows
    #[arg(short, value_name = "N", default_value_t = 10)]
    k: usize,
    /// Only rows that match, such as "lang = 'en' and year > 2020"
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Find this share of the true nearest rows, as measured when each segment was built (0.95 unless given)
    #[arg(long, value_name = "SHARE", conflicts_with_all = ["effort", "exact"])]
    recall: Option<f32>,
    /// Instead of a recall: compare about N times the root of each segment's rows by their codes
    #[arg(long, value_name = "N", conflicts_with = "exact")]
    effort: Option<u32>,
    /// Compare every row
    #[arg(long)]
    exact: bool,
    /// Say how each memtable and segment was searched
    #[arg(long)]
    explain: bool,
    /// Print the vectors too
    #[arg(long)]
    with_vector: bool,
    /// Run it so often, and say how long the first run (which verifies what it touches) and the middle one took
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    #[command(flatten)]
    at: At,
}

impl Search {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let given = self.vector.as_deref().map(row_text::vector).transpose()?;
        let db = globals.open_for_reading()?;
        let rows = self.at.collection(globals, &db, &self.collection)?;
        let run = || match (&self.like, &given) {
            (Some(id), _) => self.like(&rows, id),
            (None, Some(vector)) => self.near(&rows, vector, self.k),
            (None, None) => unreachable!("clap asks for one of the two"),
        };
        let mut millis = Vec::new();
        let (mut hits, mut explained) = (Vec::new(), Explained::default());
        for _ in 0..self.repeat {
            let started = RealClock.now();
            (hits, explained) = run()?;
            millis.push(RealClock.now().duration_since(started).as_secs_f64() * 1e3);
        }
        let objects: Vec<RowObject<'_>> = hits.iter().map(RowObject::of_hit).collect();
        rows::print(globals.output(), &objects)?;
        if self.explain {
            tell_parts(globals, &explained)?;
        }
        if self.repeat > 1 {
            tell_times(globals, &mut millis)?;
        }
        if hits.is_empty() { Err(Failure::not_found("no row matches")) } else { Ok(()) }
    }

    fn near(&self, rows: &Collection, vector: &[f32], k: usize) -> Result<(Vec<Hit>, Explained)> {
        let mut search = rows.search(vector).k(k).with_vector(self.with_vector);
        if let Some(filter) = &self.filter {
            search = search.filter(filter.as_str());
        }
        search = match (self.recall, self.effort, self.exact) {
            (Some(recall), ..) => search.recall(recall),
            (_, Some(effort), _) => search.effort(effort),
            (.., true) => search.exact(),
            _ => search,
        };
        Ok(search.explain()?)
    }

    fn like(&self, rows: &Collection, id: &str) -> Result<(Vec<Hit>, Explained)> {
        // One more than asked for, because the row itself is among them unless the filter refuses it.
        if self.k == 0 || self.k >= MAX_K {
            let message = format!("-k {} with --like; 1 to {} rows can be asked for", self.k, MAX_K - 1);
            return Err(Failure::usage(message));
        }
        let id = row_text::id(id, rows.schema()?.id_kind)?;
        let Some(row) = rows.get(&id)? else {
            return Err(Failure::not_found(format!("no row with id {id}")));
        };
        let (mut hits, explained) = self.near(rows, &row.vector, self.k + 1)?;
        hits.retain(|hit| hit.id != id);
        hits.truncate(self.k);
        Ok((hits, explained))
    }
}

/// One object with `--json`, else a table of the parts and a line of times.
fn tell_parts(globals: &Globals, explained: &Explained) -> Result<()> {
    let output = globals.output();
    if output.is_json() {
        return output.object(explained);
    }
    let names = ["part", "how", "rows", "match", "compared", "lists", "exactly", "bytes", "note"];
    let rows = explained.parts.iter().map(|part| {
        let note = match (part.damaged_index, part.pruned) {
            (true, _) => "its index is damaged",
            (_, true) => "nothing matches, by its statistics",
            _ => "",
        };
        vec![
            if part.segment.is_empty() { "memory".to_owned() } else { part.segment.clone() },
            format!("{:?}", part.kind).to_lowercase(),
            part.rows.to_string(),
            part.matched.to_string(),
            part.scanned.to_string(),
            part.lists.to_string(),
            part.reranked.to_string(),
            part.bytes.to_string(),
            note.to_owned(),
        ]
    });
    output.table(&names, rows)?;
    let Explained { filter_us, scan_us, rerank_us, fetch_us, .. } = explained;
    let exact = if explained.exact { "; the answer is exact" } else { "" };
    output.sentence(&format!(
        "filter {filter_us} us, scan {scan_us} us, exact comparison {rerank_us} us, fetch {fetch_us} us{exact}"
    ))?;
    let Explained { rounds, gets, fetched_bytes, .. } = explained;
    match gets {
        0 => Ok(()),
        _ => output.sentence(&format!(
            "from the backend: {gets} requests in {rounds} rounds, {fetched_bytes} bytes"
        )),
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
