//! `akidb bench soak`: what a database takes and promises under long writing and kills.

use std::path::PathBuf;

use akidb_benches::{
    SearchError, SearchSource, SoakBench, SoakError, SoakFigures, SoakSample, SoakWorkload, bench_soak,
    soak_writer,
};
use akidb_host::Rng;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{place, search};
use crate::failure::{Failure, Result};
use crate::output::{Output, thousands};

/// Write to a database for long, kill its writer now and then, and compare every row with what was acknowledged
///
/// Files, memory, bytes on disk, opens and a search beside the writes are watched all along. The writer is a process of its own.
#[derive(Args, Debug)]
pub(crate) struct Soak {
    /// Which changes are made
    #[arg(long, value_enum, default_value_t = Workload::Insert)]
    workload: Workload,
    /// Upserts in all (1,000,000); with `overwrite` and `delete` rows to begin with (100,000)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000_000))]
    rows: Option<u32>,
    /// How long changes are made instead of so many; 10 with `overwrite` and `delete`
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Numbers in a vector
    #[arg(long, value_name = "D", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=4096))]
    dim: u16,
    /// Vectors of your own instead, as for `bench search`: again and again, each time a little off
    #[arg(long, value_name = "DIR", conflicts_with = "dim")]
    data: Option<PathBuf>,
    /// Times the writer is killed
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    kills: u32,
    /// The setting `engine.manifest_keep`: what older manifests name takes files and bytes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    manifest_keep: u32,
    /// A short one: 20,000 rows (5,000 to begin with), two kills
    #[arg(long, conflicts_with_all = ["rows", "minutes", "kills"])]
    quick: bool,
    /// Replay the changes and vectors of this run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Directory on the disk to work on; everything made in it is removed (target, or the current directory)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Upserts in batches of ten; three of ten overwrite a row
    Insert,
    /// Nothing but overwrites of the rows to begin with
    Overwrite,
    /// Ten new rows, ten deletes of any, in turn
    Delete,
}

/// The child of `akidb bench soak`
#[derive(Args, Debug)]
pub(crate) struct SoakWriter {}

impl SoakWriter {
    pub(crate) fn run() -> Result<()> {
        soak_writer().map_err(failure)
    }
}

impl Soak {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        if self.minutes.is_some_and(|minutes| !(minutes > 0.0 && minutes <= 10_000.0)) {
            return Err(Failure::usage("--minutes: more than 0, at most 10,000"));
        }
        let dir = place::of(self.dir.clone())?;
        let home = tempfile::Builder::new()
            .prefix("bench-soak-")
            .tempdir_in(&dir)
            .map_err(|cause| Failure::io(&dir, "making a directory", &cause))?;
        let source = self.data.as_ref().map(|data| SearchSource::find(data, &search::open_parquet));
        let source = source.transpose().map_err(search::failure)?;
        let machine = akidb_benches::machine(&dir);
        let plan = self.plan(home.path().to_path_buf())?;
        output.progress(&format!("writing on the disk of {}, seed {}", dir.display(), plan.seed));
        let mut unsaid = Ok(());
        let figures = bench_soak(&plan, source.as_ref(), &mut |sample| {
            if output.is_json() {
                unsaid =
                    std::mem::replace(&mut unsaid, Ok(())).and(output.object(&json!({ "sample": sample })));
            } else {
                output.progress(&line(sample));
            }
        })
        .map_err(failure)?;
        unsaid?;
        if output.is_json() {
            output.object(&figures)?;
        } else {
            output.sentence(&machine)?;
            tell(output, &figures)?;
        }
        match figures.lost_rows + figures.wrong_rows {
            0 => Ok(()),
            _ => Err(Failure::broken_promise(format!(
                "{} acknowledged rows lost, {} rows there that should not be",
                figures.lost_rows, figures.wrong_rows
            ))
            .note(format!("seed {}", figures.seed))),
        }
    }

    fn plan(&self, dir: PathBuf) -> Result<SoakBench> {
        let (workload, upserts_all, rows) = match self.workload {
            Workload::Insert => (SoakWorkload::Insert, true, 1_000_000),
            Workload::Overwrite => (SoakWorkload::Overwrite, false, 100_000),
            Workload::Delete => (SoakWorkload::Delete, false, 100_000),
        };
        let quick_rows = if upserts_all { 20_000 } else { 5_000 };
        let minutes = self.minutes.or((!upserts_all).then_some(10.0));
        let program = std::env::current_exe()
            .map_err(|cause| Failure::io(&dir, "finding this program for a bench in", &cause))?;
        Ok(SoakBench {
            dir,
            workload,
            rows: if self.quick { quick_rows } else { self.rows.unwrap_or(rows) },
            minutes: minutes.filter(|_| !self.quick),
            dim: self.dim,
            kills: if self.quick { 2 } else { self.kills },
            manifest_keep: self.manifest_keep,
            seed: self.seed.unwrap_or_else(|| Rng::from_machine().u32().into()),
            program,
            arguments: vec!["soak-writer".into()],
        })
    }
}

fn line(sample: &SoakSample) -> String {
    format!(
        "{:>6} s  {:>10} changes  {:>10} rows  {:>4} files  {:>8.1} MiB on disk for {:.1}  memory {} MiB, mapped {}",
        sample.seconds,
        thousands(sample.changes.into()),
        thousands(sample.rows.into()),
        sample.files,
        sample.disk_mib,
        sample.raw_mib,
        sample.rss_anon_mib,
        sample.rss_file_mib
    )
}

fn tell(output: Output, figures: &SoakFigures) -> Result<()> {
    output.sentence(&format!(
        "{:?}: {} upserts and {} deletes left {} rows of {} dimensions; {} kills, manifests kept: {}, durability {}, \
         seed {}\n",
        figures.workload,
        thousands(figures.upserts.into()),
        thousands(figures.deletes.into()),
        thousands(figures.rows.into()),
        figures.dim,
        figures.kills,
        figures.manifest_keep,
        figures.durability,
        figures.seed
    ))?;
    output.table(&["what", "figure"], rows(figures).map(|(what, figure)| vec![what.to_owned(), figure]))?;
    output.sentence(&format!(
        "\n{} comparisons of every row: {} lost, {} there that should not be; {} s",
        figures.comparisons, figures.lost_rows, figures.wrong_rows, figures.seconds
    ))
}

fn rows(figures: &SoakFigures) -> impl Iterator<Item = (&'static str, String)> + use<> {
    let searched = &figures.searched;
    let of = |value: Option<f64>| value.map_or_else(|| "not told".to_owned(), |value| value.to_string());
    let from = figures.bytes_counted_from_mib;
    [
        ("files at most", figures.files_max.to_string()),
        (
            "longest open with a first answer, ms; CPU ms",
            format!("{}; {}", of(figures.open_ms_max), of(figures.open_cpu_ms_max)),
        ),
        ("memory over the budget at most, MiB", figures.rss_anon_over_budget_mib_max.to_string()),
        ("pages of mapped files at most, MiB", figures.rss_file_mib_max.to_string()),
        ("bytes on disk over raw, settled", figures.bytes_over_raw_settled.to_string()),
        ("lengths of files over raw, settled", figures.length_over_raw_settled.to_string()),
        (
            "bytes on disk over raw, at most",
            format!("{}, from {from} MiB of raw on", of(figures.bytes_over_raw_max)),
        ),
        ("MiB on disk before that, at most", figures.disk_mib_max_before.to_string()),
        ("bytes written over raw written", of(figures.write_amplification)),
        ("search p50, p99, ms", format!("{}, {}", of(searched.search_p50_ms), of(searched.search_p99_ms))),
        (
            "search p99, last minute over first; of CPU time",
            format!(
                "{}; {}",
                of(searched.search_p99_last_over_first),
                of(searched.search_cpu_p99_last_over_first)
            ),
        ),
        ("exact search p50, ms", of(searched.exact_search_p50_ms)),
        ("recall@10, mean and least of 50", format!("{}, {}", of(searched.recall), of(searched.recall_min))),
        ("raw floor: write + fdatasync p50, us", of(figures.floor_p50_us)),
        ("write p50, p99, us", format!("{}, {}", of(figures.write_p50_us), of(figures.write_p99_us))),
        ("longest write, ms; stalls", format!("{}; {}", of(figures.write_max_ms), figures.stalls)),
    ]
    .into_iter()
}

fn failure(error: SoakError) -> Failure {
    match error {
        SoakError::Database(error) => Failure::from(error),
        SoakError::Source(error @ SearchError::Plan(_)) => Failure::usage(error.to_string()),
        SoakError::Source(error) => search::failure(error),
        SoakError::Machine { path, doing, source } => Failure::io(&path, doing, &source),
        other => Failure::broken_promise(other.to_string()),
    }
}
