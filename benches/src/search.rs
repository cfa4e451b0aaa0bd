//! `akidb bench search`: recall beside speed, and what a searchable row costs, on real vectors through the engine's own
//! calls.
//!
//! Rows are written and flushed as any program would, exact answers come from the engine's exact search in the same run,
//! and that search is the yardstick: it takes its turn in every round, on the same processor.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb::{Filter, Metric};

use self::effort::Effort;
use self::filled::Filled;
pub(crate) use self::measure::Answer;
use self::measure::{Asked, Slot, Truth};
use crate::report::load;

mod curve;
mod effort;
mod fields;
mod figures;
mod filled;
mod fvecs;
mod measure;
mod page;
mod source;

pub use figures::{CurvePoint, SearchFigures, SearchReport};
pub use filled::fill_settings;
pub use source::{OpenParquet, RowsFile, SearchSource, SourceRow, SourceRows};

/// What a search bench does.
#[derive(Clone, Debug)]
pub struct SearchBench {
    /// Directory on a disk, in which the database is made and removed.
    pub dir: PathBuf,
    /// Rows to write, the first of the source; `None` is all.
    pub rows: Option<u64>,
    /// Queries asked; at most as many as there are.
    pub queries: usize,
    /// Hits a search asks for.
    pub k: usize,
    /// How vectors are compared.
    pub metric: Metric,
    /// All rows in one segment, instead of what the default settings make of them.
    pub one_segment: bool,
    /// A filter on every search.
    pub filter: Option<String>,
    /// Also filters that fit the source (on `bucket` and `lexname`), for curves.
    pub usual_filters: bool,
    /// Threads that search at a time.
    pub threads: usize,
    /// Rounds in which every effort takes its turn; figures are medians over them.
    pub rounds: usize,
}

/// Fills a database, and measures searches of it. Blocks until all is done and removed.
///
/// # Errors
/// `Input`, `File`: the source is no good; `Database`: whatever the engine says; `Plan`: there is nothing to measure.
pub fn bench_search(plan: &SearchBench, source: &SearchSource) -> Result<SearchReport, SearchError> {
    let load = load();
    if plan.queries == 0 || plan.k == 0 || plan.threads == 0 || plan.rounds == 0 {
        return Err(SearchError::Plan("queries, k, threads and rounds are at least 1".to_owned()));
    }
    let home = tempfile::Builder::new().prefix("bench-search-").tempdir_in(&plan.dir);
    let home = home.map_err(|cause| SearchError::file(&plan.dir, "making a directory", cause))?;
    let rows = plan.rows.unwrap_or(u64::MAX).min(source.rows());
    let queries = source.queries(plan.queries)?;
    if queries.is_empty() {
        return Err(SearchError::Plan("the source has no queries".to_owned()));
    }
    let filled =
        filled::fill(home.path(), source, rows, plan.metric, plan.one_segment, &named_filters(plan))?;
    let cells = cells(plan, &filled, queries)?;
    let measured = rounds(plan, cells)?;
    let report = SearchReport::of(plan, &filled.costs, &measured, load);
    filled.db.close()?;
    Ok(report)
}

/// Filters whose fields must be declared; of the usual ones, whether they fit is known once rows are read.
fn named_filters(plan: &SearchBench) -> Vec<String> {
    let mut named: Vec<String> = plan.filter.iter().cloned().collect();
    if plan.usual_filters {
        named.push("bucket lexname".to_owned());
    }
    named
}

/// Searches under one filter, or under none.
struct Cell {
    filter: Option<String>,
    asked: Asked,
    /// Processor milliseconds of the first search that had this filter.
    first_cpu_ms: f64,
    /// Exact search first.
    sweep: Vec<Swept>,
}

impl Cell {
    fn swept(&self, effort: Effort) -> &Swept {
        self.sweep.iter().find(|swept| swept.effort == effort).expect("exact and default are always swept")
    }
}

/// One effort: its recall, and a turn a round.
struct Swept {
    effort: Effort,
    recall: f64,
    slots: Vec<Slot>,
}

fn cells(plan: &SearchBench, filled: &Filled, queries: Vec<Vec<f32>>) -> Result<Vec<Cell>, SearchError> {
    let queries = Arc::new(queries);
    let mut filters = vec![None];
    filters.extend(plan.filter.clone().map(Some));
    if plan.usual_filters {
        filters.extend(fields::usual_filters(&filled.first_rows).into_iter().map(Some));
    }
    let mut cells: Vec<Cell> = Vec::new();
    for filter in filters {
        if cells.iter().any(|cell| cell.filter == filter) {
            continue;
        }
        let parsed = filter.as_deref().map(Filter::try_from).transpose()?;
        let (collection, queries) = (filled.collection.clone(), Arc::clone(&queries));
        cells.push(cell(filter, Asked { collection, queries, k: plan.k, filter: parsed })?);
    }
    Ok(cells)
}

fn cell(filter: Option<String>, asked: Asked) -> Result<Cell, SearchError> {
    let first_cpu_ms = asked.once_cpu_ms(Effort::Default)?;
    let truth: Truth = asked.truth()?;
    let swept = |effort| Ok(Swept { effort, recall: asked.recall(&truth, effort)?, slots: Vec::new() });
    let sweep = Effort::swept().into_iter().map(swept).collect::<akidb::Result<_>>()?;
    Ok(Cell { filter, asked, first_cpu_ms, sweep })
}

/// Every effort of every cell takes a turn in each round.
fn rounds(plan: &SearchBench, mut cells: Vec<Cell>) -> Result<Vec<Cell>, SearchError> {
    for _ in 0..plan.rounds {
        for cell in &mut cells {
            for swept in &mut cell.sweep {
                swept.slots.push(cell.asked.slot(swept.effort, plan.threads)?);
            }
        }
    }
    Ok(cells)
}

/// What can end a search bench.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The database said no.
    #[error(transparent)]
    Database(#[from] akidb::Error),
    /// A file of the source is no good.
    #[error("{}: {reason}", path.display())]
    Input {
        /// Which.
        path: PathBuf,
        /// What was found and what is expected.
        reason: String,
    },
    /// A file or directory could not be used.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the machine said.
        source: std::io::Error,
    },
    /// There is nothing to measure.
    #[error("{0}")]
    Plan(String),
}

impl SearchError {
    /// A file of the source is no good.
    pub fn input(path: &Path, reason: impl Into<String>) -> Self {
        Self::Input { path: path.to_path_buf(), reason: reason.into() }
    }

    fn file(path: &Path, doing: &'static str, source: std::io::Error) -> Self {
        Self::File { path: path.to_path_buf(), doing, source }
    }
}

#[cfg(test)]
mod tests;
