//! The figures of a soak.

use std::collections::BTreeMap;

use serde::Serialize;

use super::latencies::Latencies;
use super::run::Ended;
use super::said::SoakOpened;
use super::seen::{COUNTED_FROM, Seen};
use super::watch::Files;
use super::{SoakBench, SoakWorkload};
use crate::report::scheduling;

/// What a soak took at some moment.
#[derive(Clone, Debug, Serialize)]
pub struct SoakSample {
    /// Since its beginning.
    pub seconds: f64,
    /// Changes acknowledged.
    pub changes: u32,
    /// Rows there are.
    pub rows: u32,
    /// Files below the database's directory, of every kind.
    pub files: u64,
    /// MiB that the disk keeps for them.
    pub disk_mib: f64,
    /// MiB of vectors and payloads of the rows there are.
    pub raw_mib: f64,
    /// Memory of the process that is its own.
    pub rss_anon_mib: f64,
    /// Pages of files that it has mapped.
    pub rss_file_mib: f64,
}

/// The figures of a soak: the last line of `akidb bench soak --json`. `null` is what this machine does not tell or a
/// run was too short for.
#[derive(Clone, Debug, Serialize)]
pub struct SoakFigures {
    /// Which changes were made.
    pub workload: SoakWorkload,
    /// When a write counted as written.
    pub durability: &'static str,
    /// Rows at the end.
    pub rows: u32,
    /// Numbers in a vector.
    pub dim: u16,
    /// Rows upserted.
    pub upserts: u32,
    /// Rows deleted.
    pub deletes: u32,
    /// Of changes, vectors and kills.
    pub seed: u64,
    /// Times the writer was killed.
    pub kills: u32,
    /// The setting it ran with; files and bytes of older manifests count.
    pub manifest_keep: u32,
    /// Files below the database's directory at most.
    pub files_max: u64,
    /// The same by ending, when there were most.
    pub files_max_by_kind: BTreeMap<String, u64>,
    /// Files after settling.
    pub files_settled: u64,
    /// Opens, the first and those after kills and a clean end.
    pub opens: usize,
    /// The longest open with an answer to its first search.
    pub open_ms_max: Option<f64>,
    /// The longest call that opens.
    pub open_call_ms_max: Option<f64>,
    /// The most processor time of an open with a first answer, all threads of the process.
    pub open_cpu_ms_max: Option<f64>,
    /// The longest opens, and what was replayed in each.
    pub longest_opens: Vec<SoakOpened>,
    /// Memory of the writer that is its own, at most.
    pub rss_anon_mib_max: f64,
    /// The same beyond what memtables may take (`memory_bytes`); negative where less.
    pub rss_anon_over_budget_mib_max: f64,
    /// That setting.
    pub budget_mib: f64,
    /// Pages of files that the writer has mapped, at most: the kernel takes them back when it needs them.
    pub rss_file_mib_max: f64,
    /// Bytes of a row's vector and payload.
    pub raw_bytes_per_row: u64,
    /// What the disk keeps over raw, after settling.
    pub bytes_over_raw_settled: f64,
    /// The same at most, from `bytes_counted_from_mib` of raw on.
    pub bytes_over_raw_max: Option<f64>,
    /// MiB that the disk kept when it was most over raw, by ending; `raw` is what they are compared with.
    pub disk_mib_max_by_kind: Option<BTreeMap<String, f64>>,
    /// Raw from which that is counted: before, the log alone is larger than its rows.
    pub bytes_counted_from_mib: u64,
    /// What the disk kept at most before.
    pub disk_mib_max_before: f64,
    /// Lengths of files over raw, after settling: those of log files made ahead count in full.
    pub length_over_raw_settled: f64,
    /// The same at most.
    pub length_over_raw_max: Option<f64>,
    /// MiB that the disk keeps after settling, by ending.
    pub disk_mib_settled_by_kind: BTreeMap<String, f64>,
    /// Bytes written to storage over raw bytes of all rows written.
    pub write_amplification: Option<f64>,
    /// Of the searches that ran all along.
    #[serde(flatten)]
    pub searched: SoakSearches,
    /// One write of a batch's bytes and one fdatasync, made by the parent each time it looks: the floor.
    pub floor_p50_us: Option<f64>,
    /// Of the writes: a batch of ten, or one delete.
    pub write_p50_us: Option<f64>,
    /// Of the same.
    pub write_p99_us: Option<f64>,
    /// The longest.
    pub write_max_ms: Option<f64>,
    /// Writes answered with `Full` first.
    pub stalls: u64,
    /// Acknowledged rows that were not there as such, over all comparisons.
    pub lost_rows: u64,
    /// Rows that were there and should not have been, or not so.
    pub wrong_rows: u64,
    /// Comparisons of every row with what was acknowledged.
    pub comparisons: u32,
    /// From the last flush until files and bytes stood still.
    pub settle_seconds: f64,
    /// Of all of it.
    pub seconds: f64,
    /// Load average before the run.
    pub load: f64,
    /// `SCHED_FIFO`, `SCHED_RR` or `normal`.
    pub scheduling: &'static str,
}

/// The part of [`SoakFigures`] that tells of searches.
#[derive(Clone, Debug, Serialize)]
pub struct SoakSearches {
    /// In the middle.
    pub search_p50_ms: Option<f64>,
    /// Of the same.
    pub search_p99_ms: Option<f64>,
    /// Processor time of the same.
    pub search_cpu_p99_ms: Option<f64>,
    /// How many there were.
    pub searches: u64,
    /// 99 of a hundred in the first minute after the rows to begin with were there, or in the first quarter.
    pub search_p99_first_ms: Option<f64>,
    /// The same in the last.
    pub search_p99_last_ms: Option<f64>,
    /// The one over the other.
    pub search_p99_last_over_first: Option<f64>,
    /// The same of medians.
    pub search_p50_last_over_first: Option<f64>,
    /// The same of medians of processor time: neighbours do not show in it.
    pub search_cpu_p50_last_over_first: Option<f64>,
    /// And of 99 of a hundred.
    pub search_cpu_p99_last_over_first: Option<f64>,
    /// Exact searches beside them: the yardstick.
    pub exact_search_p50_ms: Option<f64>,
    /// Mean recall@10 of searches that ask for no effort.
    pub recall: Option<f64>,
    /// The least over any fifty of them in a row.
    pub recall_min: Option<f64>,
    /// How many were compared with exact search.
    pub recalls: usize,
}

impl SoakSearches {
    fn of(seen: &Seen) -> Self {
        let [[first, first_cpu], [last, last_cpu]] = seen.first_and_last();
        let ratio = |last: &Latencies, first: &Latencies, thousandths| {
            Some(thousandth(last.per_mille(thousandths)? / first.per_mille(thousandths)?))
        };
        let (recall, recall_min, recalls) = match seen.recall() {
            Some((mean, least, count)) => (Some(ten_thousandth(mean)), Some(ten_thousandth(least)), count),
            None => (None, None, 0),
        };
        Self {
            search_p50_ms: ms(&seen.searches, 500),
            search_p99_ms: ms(&seen.searches, 990),
            search_cpu_p99_ms: ms(&seen.search_cpu, 990),
            searches: seen.searches.count(),
            search_p99_first_ms: ms(&first, 990),
            search_p99_last_ms: ms(&last, 990),
            search_p99_last_over_first: ratio(&last, &first, 990),
            search_p50_last_over_first: ratio(&last, &first, 500),
            search_cpu_p50_last_over_first: ratio(&last_cpu, &first_cpu, 500),
            search_cpu_p99_last_over_first: ratio(&last_cpu, &first_cpu, 990),
            exact_search_p50_ms: ms(&seen.exact_searches, 500),
            recall,
            recall_min,
            recalls,
        }
    }
}

impl SoakFigures {
    pub(super) fn of(plan: &SoakBench, ended: &Ended, load: f64) -> Self {
        let (seen, settled) = (&ended.seen, &ended.settled);
        let micros = |thousandths| seen.writes.per_mille(thousandths);
        let budget_mib = super::writer::settings(plan.manifest_keep).engine.memory_bytes as f64 / MIB;
        let raw = u64::from(ended.rows) * ended.raw_bytes;
        let written_raw = u64::from(ended.upserts) * ended.raw_bytes;
        let fullest = seen.fullest.as_ref().map(|(files, raw)| {
            let mut by_kind = disk_by_kind(files);
            by_kind.insert("raw".to_owned(), tenth(*raw as f64 / MIB));
            by_kind
        });
        Self {
            workload: plan.workload,
            durability: akidb::Settings::default().engine.durability.name(),
            rows: ended.rows,
            dim: ended.dim,
            upserts: ended.upserts,
            deletes: ended.changes - ended.upserts,
            seed: plan.seed,
            kills: ended.kills,
            manifest_keep: plan.manifest_keep,
            files_max: seen.most_files.count,
            files_max_by_kind: seen.most_files_by_kind(),
            files_settled: settled.count,
            opens: seen.opens.len(),
            open_ms_max: most(seen, |open| open.answer_ms),
            open_call_ms_max: most(seen, |open| open.call_ms),
            open_cpu_ms_max: most(seen, |open| open.cpu_ms),
            longest_opens: longest(&seen.opens),
            rss_anon_mib_max: tenth(seen.memory_max.anon_mib),
            rss_anon_over_budget_mib_max: tenth(seen.memory_max.anon_mib - budget_mib),
            budget_mib,
            rss_file_mib_max: tenth(seen.memory_max.file_mib),
            raw_bytes_per_row: ended.raw_bytes,
            bytes_over_raw_settled: thousandth(settled.allocated as f64 / raw.max(1) as f64),
            bytes_over_raw_max: seen.over_raw_max.map(thousandth),
            disk_mib_max_by_kind: fullest,
            bytes_counted_from_mib: COUNTED_FROM >> 20,
            disk_mib_max_before: tenth(seen.bytes_before as f64 / MIB),
            length_over_raw_settled: thousandth(settled.bytes as f64 / raw.max(1) as f64),
            length_over_raw_max: seen.length_over_raw_max.map(thousandth),
            disk_mib_settled_by_kind: disk_by_kind(settled),
            write_amplification: ended.written.map(|written| thousandth(written as f64 / written_raw as f64)),
            searched: SoakSearches::of(seen),
            floor_p50_us: ended.seen.floor.per_mille(500),
            write_p50_us: micros(500),
            write_p99_us: micros(990),
            write_max_ms: ms(&seen.writes, 1_000),
            stalls: seen.stalls,
            lost_rows: seen.compared.lost,
            wrong_rows: seen.compared.wrong,
            comparisons: seen.comparisons,
            settle_seconds: tenth(ended.settle_seconds),
            seconds: tenth(ended.seconds),
            load,
            scheduling: scheduling(),
        }
    }
}

/// Opens that are told one by one.
const LONGEST_OPENS: usize = 8;
const MIB: f64 = 1_048_576.0;

/// MiB that the disk keeps, by ending.
fn disk_by_kind(files: &Files) -> BTreeMap<String, f64> {
    files.by_kind.iter().map(|(kind, (_, bytes))| (kind.clone(), tenth(*bytes as f64 / MIB))).collect()
}

fn ms(latencies: &Latencies, thousandths: u64) -> Option<f64> {
    latencies.per_mille_ms(thousandths).map(thousandth)
}

fn most(seen: &Seen, of: impl Fn(&SoakOpened) -> f64) -> Option<f64> {
    seen.opens.iter().map(of).max_by(f64::total_cmp).map(tenth)
}

fn longest(opens: &[SoakOpened]) -> Vec<SoakOpened> {
    let mut opens = opens.to_vec();
    opens.sort_by(|a, b| b.answer_ms.total_cmp(&a.answer_ms));
    opens.truncate(LONGEST_OPENS);
    let rounded = |open: SoakOpened| SoakOpened {
        call_ms: tenth(open.call_ms),
        answer_ms: tenth(open.answer_ms),
        cpu_ms: tenth(open.cpu_ms),
        ..open
    };
    opens.into_iter().map(rounded).collect()
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn thousandth(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn ten_thousandth(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
