//! The figures of a search bench: medians over its rounds, ratios taken inside a round.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::curve::{GOALS, at_recall};
use super::effort::Effort;
use super::filled::Costs;
use super::measure::Slot;
use super::{Cell, SearchBench, page};
use crate::report::median;

/// What a search bench found.
#[derive(Clone, Debug)]
pub struct SearchReport {
    /// Every effort measured, by filter; the unfiltered ones first.
    pub curves: Vec<CurvePoint>,
    /// The figures: of searches under the filter asked for, else of those without.
    pub figures: SearchFigures,
}

/// One effort under one filter.
#[derive(Clone, Debug, Serialize)]
pub struct CurvePoint {
    /// The filter.
    pub filter: Option<String>,
    /// `exact`, `default`, or a budget of rows.
    pub effort: String,
    /// Mean recall at k against exact search.
    pub recall: f64,
    /// Searches a second of processor time.
    pub cpu_qps: f64,
    /// Searches a second of wall time, all threads together.
    pub wall_qps: f64,
}

/// The figures that scripts rely on. A speed is `null` where no measured effort reaches the recall.
#[derive(Clone, Debug, Serialize)]
pub struct SearchFigures {
    /// Rows in the collection.
    pub rows: u64,
    /// Dimension.
    pub dim: u16,
    /// Segments.
    pub segments: usize,
    /// The filter on every search.
    pub filter: Option<String>,
    /// Threads that searched at a time.
    pub threads: usize,
    /// Queries asked.
    pub queries: usize,
    /// Hits of a search.
    pub k: usize,
    /// Rounds.
    pub rounds: usize,
    /// Exact searches a second of processor time, without a filter: the yardstick.
    pub exact_scan_cpu_qps: f64,
    /// The same under the filter.
    pub exact_filtered_cpu_qps: Option<f64>,
    /// Searches a second of processor time at recall 0.90.
    pub cpu_qps_090: Option<f64>,
    /// At 0.95.
    pub cpu_qps_095: Option<f64>,
    /// At 0.99.
    pub cpu_qps_099: Option<f64>,
    /// Searches a second of wall time at recall 0.90.
    pub wall_qps_090: Option<f64>,
    /// At 0.95.
    pub wall_qps_095: Option<f64>,
    /// At 0.99.
    pub wall_qps_099: Option<f64>,
    /// `cpu_qps_095` over `exact_scan_cpu_qps`.
    pub ratio_to_exact_095: Option<f64>,
    /// `cpu_qps_099` over `exact_scan_cpu_qps`.
    pub ratio_to_exact_099: Option<f64>,
    /// Recall of a search that asks for no effort.
    pub recall_at_default_effort: f64,
    /// Its speed, a second of processor time.
    pub cpu_qps_at_default_effort: f64,
    /// Processor milliseconds of the very first search under the filter.
    pub first_search_cpu_ms: f64,
    /// Processor seconds of the writes.
    pub ingest_cpu_seconds: f64,
    /// Processor seconds of the flush after them.
    pub build_cpu_seconds: f64,
    /// Processor microseconds of that flush for each row.
    pub build_cpu_us_per_row: f64,
    /// Rows a second of processor time, writes and flush together.
    pub searchable_rows_per_cpu_second: f64,
    /// Bytes of the index for each row.
    pub index_bytes_per_row: f64,
    /// Bytes of the segment files.
    pub file_bytes: u64,
    /// Those over the bytes of plain f32 values and packed payload.
    pub file_bytes_over_raw: f64,
    /// Bytes of the segment files by part.
    pub parts: BTreeMap<String, u64>,
    /// Resident memory after the searches, MiB; pages of mapped segments count.
    pub rss_mib: Option<u64>,
    /// Load average before the run.
    pub load: f64,
}

impl SearchReport {
    pub(super) fn of(plan: &SearchBench, costs: &Costs, cells: &[Cell], load: f64) -> Self {
        let points = |cell: &Cell| cell.sweep.iter().map(|s| point(cell, s)).collect::<Vec<_>>();
        Self { curves: cells.iter().flat_map(points).collect(), figures: figures(plan, costs, cells, load) }
    }

    /// Writes `search.html` into `dir`, which is made if need be: curves, filters and costs on one page that loads
    /// nothing. Returns its path.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write_page(&self, dir: &Path, machine: &str) -> io::Result<PathBuf> {
        let page = page::of(self, machine).map_err(io::Error::other)?;
        std::fs::create_dir_all(dir)?;
        let path = dir.join("search.html");
        std::fs::write(&path, page)?;
        Ok(path)
    }
}

fn figures(plan: &SearchBench, costs: &Costs, cells: &[Cell], load: f64) -> SearchFigures {
    let plain = &cells[0];
    let asked = cells.iter().find(|cell| cell.filter == plan.filter).unwrap_or(plain);
    let median_at = |goal, speed: Speed| over_rounds(plan, |round| at(asked, round, goal, speed)).map(tenths);
    let yardstick = |round: usize| plain.swept(Effort::Exact).slots[round].cpu_qps;
    let ratio_in = |round, goal| Some(at(asked, round, goal, cpu)? / yardstick(round));
    let ratio = |goal| over_rounds(plan, |round| ratio_in(round, goal)).map(tenths);
    let usual = asked.swept(Effort::Default);
    let (ingest, build) = (costs.ingest_cpu.as_secs_f64(), costs.build_cpu.as_secs_f64());
    let exact = |cell: &Cell| tenths(middle(&cell.swept(Effort::Exact).slots, cpu));
    SearchFigures {
        rows: costs.rows,
        dim: costs.dim,
        segments: costs.segments,
        filter: plan.filter.clone(),
        threads: plan.threads,
        queries: asked.asked.queries.len(),
        k: plan.k,
        rounds: plan.rounds,
        exact_scan_cpu_qps: exact(plain),
        exact_filtered_cpu_qps: asked.filter.as_ref().map(|_| exact(asked)),
        cpu_qps_090: median_at(GOALS[0], cpu),
        cpu_qps_095: median_at(GOALS[1], cpu),
        cpu_qps_099: median_at(GOALS[2], cpu),
        wall_qps_090: median_at(GOALS[0], wall),
        wall_qps_095: median_at(GOALS[1], wall),
        wall_qps_099: median_at(GOALS[2], wall),
        ratio_to_exact_095: ratio(GOALS[1]),
        ratio_to_exact_099: ratio(GOALS[2]),
        recall_at_default_effort: digits(usual.recall, 4),
        cpu_qps_at_default_effort: tenths(middle(&usual.slots, cpu)),
        first_search_cpu_ms: digits(asked.first_cpu_ms, 3),
        ingest_cpu_seconds: seconds(costs.ingest_cpu),
        build_cpu_seconds: seconds(costs.build_cpu),
        build_cpu_us_per_row: digits(build * 1e6 / costs.rows as f64, 2),
        searchable_rows_per_cpu_second: (costs.rows as f64 / (ingest + build)).round(),
        index_bytes_per_row: tenths(costs.index_bytes() as f64 / costs.rows as f64),
        file_bytes: costs.file_bytes(),
        file_bytes_over_raw: digits(costs.file_over_raw(), 4),
        parts: costs.parts.clone(),
        rss_mib: rss_mib(),
        load,
    }
}

fn point(cell: &Cell, swept: &super::Swept) -> CurvePoint {
    CurvePoint {
        filter: cell.filter.clone(),
        effort: swept.effort.name(),
        recall: digits(swept.recall, 4),
        cpu_qps: tenths(middle(&swept.slots, cpu)),
        wall_qps: tenths(middle(&swept.slots, wall)),
    }
}

/// One of a slot's speeds.
type Speed = fn(&Slot) -> f64;

fn cpu(slot: &Slot) -> f64 {
    slot.cpu_qps
}

fn wall(slot: &Slot) -> f64 {
    slot.wall_qps
}

/// The speed at a recall, of one round alone. Exact search is no effort: it would hide that none reaches the recall.
fn at(cell: &Cell, round: usize, goal: f64, speed: Speed) -> Option<f64> {
    let efforts = cell.sweep.iter().filter(|swept| swept.effort != Effort::Exact);
    let points: Vec<(f64, f64)> = efforts.map(|s| (s.recall, speed(&s.slots[round]))).collect();
    at_recall(&points, goal)
}

/// The median over the rounds; recall is the same in all, so a figure is there in all or in none.
fn over_rounds(plan: &SearchBench, figure: impl Fn(usize) -> Option<f64>) -> Option<f64> {
    let mut figures = (0..plan.rounds).map(figure).collect::<Option<Vec<f64>>>()?;
    Some(median(&mut figures))
}

fn middle(slots: &[Slot], speed: impl Fn(&Slot) -> f64) -> f64 {
    median(&mut slots.iter().map(speed).collect::<Vec<f64>>())
}

fn seconds(time: Duration) -> f64 {
    digits(time.as_secs_f64(), 3)
}

fn tenths(value: f64) -> f64 {
    digits(value, 1)
}

fn digits(value: f64, after_the_point: i32) -> f64 {
    let scale = 10_f64.powi(after_the_point);
    (value * scale).round() / scale
}

fn rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}
