//! `akidb bench search`: recall beside speed on vectors of one's own.

use std::path::{Path, PathBuf};

use akidb_benches::{
    CurvePoint, RowsFile, SearchBench, SearchError, SearchFigures, SearchReport, SearchSource, SourceRow,
    SourceRows, bench_search,
};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::place;
use crate::failure::{Failure, Result};
use crate::import::Parquet;
use crate::init::MetricWord;
use crate::output::Output;

/// Measure searches of your own vectors: recall, speed, and what a searchable row costs
///
/// Rows are written into a new database and flushed; every effort takes turns with exact search, which is also the truth.
#[derive(Args, Debug)]
pub(crate) struct Search {
    /// Directory with base*.npy, *base*.fvecs or a .parquet file; queries*.npy or *quer*.fvecs, else the last rows are
    /// held out; payload.jsonl or payload.jsonl.zst, a line a row
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Only the first rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    n: Option<u64>,
    /// Only rows that match, such as "bucket < 10"; the fields it names are declared
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Threads that search at a time
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// How vectors are compared
    #[arg(long, value_enum, default_value = "cosine")]
    metric: MetricWord,
    /// Segments: one of all rows, or what the default settings make
    #[arg(long, value_enum, default_value_t = Segments::One)]
    segments: Segments,
    /// Queries asked
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    queries: u32,
    /// Hits a search asks for
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1024))]
    k: u16,
    /// Rounds; figures are medians over them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Write search.html into this directory: curves, filters and costs on one page
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Directory on the disk to work on; everything made in it is removed (target, or the current directory)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Segments {
    /// All rows in one segment, up to 1 GiB of rows
    One,
    /// As a database of default settings
    Default,
}

impl Search {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let dir = place::of(self.dir)?;
        let source = SearchSource::find(&self.data, &open_parquet).map_err(failure)?;
        let machine = akidb_benches::machine(&dir);
        output.progress(&format!("filling a database on the disk of {}", dir.display()));
        let plan = SearchBench {
            dir,
            rows: self.n,
            queries: self.queries as usize,
            k: self.k.into(),
            metric: self.metric.into(),
            one_segment: self.segments == Segments::One,
            filter: self.filter,
            usual_filters: self.report.is_some(),
            threads: self.threads.into(),
            rounds: self.rounds.into(),
        };
        let report = bench_search(&plan, &source).map_err(failure)?;
        let written = |dir: PathBuf| {
            let failed = |cause| Failure::io(&dir, "writing search.html", &cause);
            report.write_page(&dir, &machine).map_err(failed)
        };
        let page = self.report.map(written).transpose()?;
        if output.is_json() {
            for point in &report.curves {
                output.object(&json!({ "curve": point }))?;
            }
            return output.object(&report.figures);
        }
        output.sentence(&machine)?;
        tell(output, &report)?;
        page.map_or(Ok(()), |page| output.sentence(&format!("\nthe curves are in {}", page.display())))
    }
}

fn tell(output: Output, report: &SearchReport) -> Result<()> {
    let figures = &report.figures;
    output.sentence(&format!(
        "{} rows of {} dimensions in {} segments, {} queries, k = {}, threads: {}, medians of {} rounds\n",
        figures.rows,
        figures.dim,
        figures.segments,
        figures.queries,
        figures.k,
        figures.threads,
        figures.rounds
    ))?;
    let row = |point: &CurvePoint| {
        vec![
            point.filter.clone().unwrap_or_else(|| "none".to_owned()),
            point.effort.clone(),
            format!("{:.4}", point.recall),
            place::rate(point.cpu_qps),
            place::rate(point.wall_qps),
        ]
    };
    let recall = format!("recall@{}", figures.k);
    let header = ["filter", "effort", &recall, "a CPU second", "a second"];
    output.table(&header, report.curves.iter().map(row))?;
    output.sentence(&at_recalls(figures))?;
    output.table(&["cost", "figure"], costs(figures))
}

fn at_recalls(figures: &SearchFigures) -> String {
    let of = |qps: Option<f64>| qps.map_or_else(|| "not reached".to_owned(), place::rate);
    format!(
        "\nsearches a CPU second at recall 0.90, 0.95, 0.99: {}, {}, {}; exact search without a filter: {:.1}\n",
        of(figures.cpu_qps_090),
        of(figures.cpu_qps_095),
        of(figures.cpu_qps_099),
        figures.exact_scan_cpu_qps
    )
}

fn costs(figures: &SearchFigures) -> Vec<Vec<String>> {
    let mut rows = vec![
        ("write, CPU s".to_owned(), format!("{:.2}", figures.ingest_cpu_seconds)),
        ("flush with index, CPU s".to_owned(), format!("{:.2}", figures.build_cpu_seconds)),
        ("flush with index, CPU us a row".to_owned(), format!("{:.1}", figures.build_cpu_us_per_row)),
        ("rows made searchable a CPU s".to_owned(), place::rate(figures.searchable_rows_per_cpu_second)),
        ("index bytes a row".to_owned(), format!("{:.1}", figures.index_bytes_per_row)),
        ("file over plain f32 and packed payload".to_owned(), format!("{:.3}", figures.file_bytes_over_raw)),
        ("first search, CPU ms".to_owned(), format!("{:.2}", figures.first_search_cpu_ms)),
    ];
    if let Some(mib) = figures.rss_mib {
        rows.push(("resident memory, MiB".to_owned(), mib.to_string()));
    }
    let part = |(name, bytes): (&String, &u64)| {
        (format!("{name}, bytes a row"), format!("{:.1}", *bytes as f64 / figures.rows as f64))
    };
    rows.extend(figures.parts.iter().map(part));
    rows.into_iter().map(|(cost, figure)| vec![cost, figure]).collect()
}

/// The reader of `akidb import` as a source of a bench.
struct ParquetRows {
    file: PathBuf,
    rows: u64,
}

pub(super) fn open_parquet(file: &Path) -> Result<Box<dyn RowsFile>, SearchError> {
    let rows = Parquet::open(file, ID_COLUMN).map_err(|failure| refused(file, &failure))?.rows();
    Ok(Box::new(ParquetRows { file: file.to_path_buf(), rows }))
}

/// Ids of the file are not used: the bench numbers rows. They must be there for the reader.
const ID_COLUMN: &str = "id";

impl RowsFile for ParquetRows {
    fn rows(&self) -> u64 {
        self.rows
    }

    fn read(&self) -> Result<SourceRows, SearchError> {
        let file = self.file.clone();
        let rows = Parquet::open(&file, ID_COLUMN).map_err(|failure| refused(&file, &failure))?;
        Ok(Box::new(rows.map(move |row| match row {
            Ok(row) => Ok(SourceRow { vector: row.vector, payload: row.payload }),
            Err(failure) => Err(refused(&file, &failure)),
        })))
    }
}

fn refused(file: &Path, failure: &Failure) -> SearchError {
    SearchError::input(file, failure.in_short())
}

pub(super) fn failure(error: SearchError) -> Failure {
    match error {
        SearchError::Database(error) => Failure::from(error),
        SearchError::Input { path, reason } => Failure::input(&path, reason),
        SearchError::File { path, doing, source } => Failure::io(&path, doing, &source),
        other => Failure::usage(other.to_string()),
    }
}
