//! `akidb import`: rows of a file, in batches, each on disk before the next but one is sent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use akidb::{Collection, Db, Expires};
use akidb_host::{Clock, RealClock};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::database::{Globals, Upload, collection, flush_and_upload};
use crate::failure::{Failure, Result};
use crate::init::{MetricWord, schema};
use crate::output::thousands;

mod batches;
mod columns;
mod jsonl;
mod npy;
mod parquet;
mod progress;
mod source;

use batches::Batches;
use progress::Progress;
use source::{InputRow, Source};

pub(crate) use parquet::Table as Parquet;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON lines: {"id": ..., "vector": [...], and any payload}
    Jsonl,
    /// Columns `id` and `vector` (lists of floats), every other column is payload
    Parquet,
    /// A matrix of float16 or float32, with --payload beside it
    Npy,
}

/// Write the rows of a JSONL, Parquet or .npy file; rows with known ids are replaced
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// Collection
    collection: String,
    /// The file; - is standard input (JSONL)
    file: PathBuf,
    /// What the file holds; without it the name's ending decides
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// For .npy: a JSONL file whose line i is the payload of row i; without it row numbers are the ids
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// Which key or column is the id
    #[arg(long, value_name = "NAME", default_value = "id")]
    id_field: String,
    /// A key or column to leave out, such as one with a reserved name (repeatable)
    #[arg(long = "leave-out", value_name = "NAME")]
    leave_out: Vec<String>,
    /// Make the database and the collection if they are not there; dimension and kind of ids come from the first row
    #[arg(long)]
    create: bool,
    /// With --create: how vectors are compared
    #[arg(long, value_enum, default_value = "cosine", requires = "create")]
    metric: MetricWord,
    /// With --create: a typed field: text, int, float, bool, timestamp or text_list (repeatable)
    #[arg(long = "field", value_name = "NAME:TYPE", requires = "create")]
    fields: Vec<String>,
    /// With --create: the timestamp field that says when a row expires
    #[arg(long, value_name = "FIELD", requires = "create")]
    expires_by: Option<String>,
    /// Let the rows expire so many seconds after they are written, in a collection whose rows do
    #[arg(long, value_name = "SECS")]
    expires_in_secs: Option<u64>,
    /// Rows written at a time
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch_rows: u32,
    /// Leave the rows in the log instead of writing segments at the end
    #[arg(long)]
    no_flush: bool,
    /// Seconds to wait at the end for the backends; 0 does not wait
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    wait_secs: u64,
}

impl Import {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let mut source = self.source()?;
        // Read before anything is opened: a file that is no good makes no database.
        let first = source.next().transpose()?;
        let (db, rows) = self.open(globals, first.as_ref())?;
        let started = RealClock.now();
        let imported = self.feed(globals, &rows, first, &mut *source)?;
        let seconds = RealClock.now().duration_since(started).as_secs_f64();
        let upload = match self.no_flush {
            true => Upload::default(),
            false => flush_and_upload(&db, globals, self.wait_secs)?,
        };
        let total_seconds = RealClock.now().duration_since(started).as_secs_f64();
        db.close()?;
        let per_second = if seconds > 0.0 { imported as f64 / seconds } else { 0.0 };
        let peak = peak_rss_bytes();
        let object = json!({
            "collection": self.collection, "imported": imported, "seconds": seconds,
            "rows_per_second": per_second.round(), "seconds_with_flush": total_seconds,
            "peak_rss_bytes": peak, "flushed": !self.no_flush, "uploaded": upload.is_done,
        });
        let memory = peak.map_or(String::new(), |bytes| format!(", peak memory {} MiB", bytes >> 20));
        let sentence = format!(
            "imported {} rows into \"{}\" in {seconds:.1} s ({per_second:.0} rows/s), {total_seconds:.1} s with flush{memory}",
            thousands(imported),
            self.collection
        );
        globals.output().report(&object, &sentence)?;
        upload.outcome()
    }

    fn source(&self) -> Result<Box<dyn Source>> {
        let format = self.format.or_else(|| by_name(&self.file)).ok_or_else(|| {
            Failure::input(&self.file, "the name does not end in .jsonl, .parquet or .npy")
                .help("say what it holds with --format")
        })?;
        if self.payload.is_some() && format != Format::Npy {
            return Err(Failure::usage("--payload goes with .npy files only"));
        }
        Ok(match format {
            Format::Jsonl => Box::new(jsonl::Jsonl::open(&self.file, &self.id_field)?),
            Format::Parquet => {
                let table = parquet::Table::open(&self.file, &self.id_field)?;
                Box::new(table.leaving_out(&self.leave_out))
            }
            Format::Npy => Box::new(npy::Matrix::open(&self.file, self.payload.as_deref(), &self.id_field)?),
        })
    }

    fn open(&self, globals: &Globals, first: Option<&InputRow>) -> Result<(Db, Collection)> {
        let Some(first) = first.filter(|_| self.create) else {
            if self.create {
                return Err(Failure::input(&self.file, "the file has no rows to make a collection from"));
            }
            let db = globals.open_for_writing().map_err(|failure| failure.help(CREATE))?;
            let rows = collection(&db, &self.collection).map_err(|failure| failure.note(CREATE))?;
            return Ok((db, rows));
        };
        let dim = u16::try_from(first.vector.len()).unwrap_or(u16::MAX);
        let schema = schema(dim, self.metric, &self.fields, self.expires_by.as_deref(), first.id.is_int())?;
        let (db, _) = globals.open_or_create()?;
        let rows = db.create_collection(&self.collection, schema)?;
        Ok((db, rows))
    }

    fn feed(
        &self,
        globals: &Globals,
        rows: &Collection,
        first: Option<InputRow>,
        source: &mut (dyn Source + 'static),
    ) -> Result<u64> {
        let bar = Progress::new(source.extent(), globals.json);
        let mut batches = Batches::new(rows, self.batch_rows as usize, source.unit())?;
        batches.expires = self.expires_in_secs.map(|secs| Expires::In(Duration::from_secs(secs)));
        let outcome = self.feed_all(&mut batches, first, source, &bar);
        drop(bar);
        let imported = batches.acknowledged();
        outcome.map(|()| imported).map_err(|failure| self.explain(failure, imported))
    }

    fn feed_all(
        &self,
        batches: &mut Batches<'_>,
        first: Option<InputRow>,
        source: &mut (dyn Source + 'static),
        bar: &Progress,
    ) -> Result<()> {
        let mut next = first.map(Ok);
        while let Some(row) = next {
            match row {
                Ok(mut row) => {
                    row.payload.retain(|name, _| !self.leave_out.contains(name));
                    batches.push(row)?;
                }
                Err(bad) => {
                    // The good rows before the bad one are written first, so that the note is true of them all.
                    batches.finish()?;
                    return Err(bad);
                }
            }
            next = source.next();
            bar.at(Source::position(source));
        }
        batches.finish()
    }

    /// What stays of a broken import, and how to go on.
    fn explain(&self, failure: Failure, imported: u64) -> Failure {
        let stays = match imported {
            0 => "no row was imported".to_owned(),
            n => format!("the {} rows before it were imported and stay", thousands(n)),
        };
        let failure = match failure.code() {
            RESERVED_KEY => failure
                .help("leave the key out with --leave-out NAME, or make it the id with --id-field NAME"),
            _ => failure,
        };
        failure.at(&self.file).without_partial_fate().note(stays).help(
            "mend the cause and run the same import again: rows already there are replaced, not doubled",
        )
    }
}

/// The engine's code for a payload key that rows have of themselves.
const RESERVED_KEY: &str = "AKI-0129";
const CREATE: &str = "`akidb import --create` makes database and collection from the file's first row";

fn by_name(file: &Path) -> Option<Format> {
    if file == Path::new("-") {
        return Some(Format::Jsonl);
    }
    match file.extension()?.to_str()? {
        "jsonl" | "ndjson" => Some(Format::Jsonl),
        "parquet" => Some(Format::Parquet),
        "npy" => Some(Format::Npy),
        _ => None,
    }
}

/// The most memory this process has held so far, where the machine tells.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
