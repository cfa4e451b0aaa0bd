//! Exact search of one view: every live, matching row of memtables and segments is scored, the best k come back.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::catalog::{Catalog, CollectionState, LiveSegment};
use crate::distance::Scorer;
use crate::error::{Error, Result};
use crate::filter::{Bound, Filter};
use crate::filter_cache::Matches;
use crate::id::Id;
use crate::lsn::Lsn;
use crate::memtable::Memtable;
use crate::row::{self, Row};
use crate::topk::TopK;
use crate::version::View;

pub(crate) mod fields;

use fields::MemoryRow;

/// Most results of one search.
pub const MAX_K: usize = 10_000;

/// Rows scored at a time: their scores stay in the first cache.
const BLOCK_ROWS: usize = 256;

/// What a search asks.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) vector: Vec<f32>,
    pub(crate) k: usize,
    pub(crate) filter: Option<Filter>,
}

/// A row and its score, best first; equal scores by id.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) score: f32,
    pub(crate) lsn: Lsn,
    pub(crate) row: Row,
}

/// A candidate and where its row is.
struct Candidate {
    score: f32,
    at: At,
}

enum At {
    Memory(Lsn, Arc<Row>),
    Segment(usize, u32),
}

/// Runs a query on a view of the collection.
///
/// # Errors
/// `Invalid` for a bad query; `Corrupt` when a block of a segment that must be read is damaged.
pub(crate) fn run(view: &View<Catalog>, state: &CollectionState, query: &Query) -> Result<Vec<Found>> {
    let _span =
        tracing::info_span!("search", collection = %state.name, k = query.k, lsn = %view.lsn()).entered();
    check(state, query)?;
    let bound = query.filter.as_ref().map(|filter| filter.bind(&state.schema)).transpose()?;
    let scorer = Scorer::new(state.schema.metric, &query.vector);
    let lsn = view.lsn();

    let mut best = Vec::new();
    {
        let _span = tracing::debug_span!("scan").entered();
        for memtable in state.memtables() {
            scan_memtable(memtable, state, lsn, query.k, &scorer, bound.as_ref(), &mut best);
        }
        for (n, live) in state.segments.iter().enumerate() {
            let filters = &view.content().filters;
            let matching =
                bound.as_ref().map(|b| filters.matching(&live.segment, &state.schema, b)).transpose()?;
            scan_segment(n, live, lsn, query.k, &scorer, matching.as_deref(), &mut best)?;
        }
    }
    let _span = tracing::debug_span!("fetch").entered();
    fetch(state, keep_best(best, query.k), query.k)
}

fn check(state: &CollectionState, query: &Query) -> Result<()> {
    if query.k == 0 || query.k > MAX_K {
        return Err(Error::invalid(
            "AKI-0230",
            format!("k is {}; 1 to {MAX_K} rows can be asked for", query.k),
        ));
    }
    row::check_vector(&state.schema, &query.vector)
}

fn scan_memtable(
    memtable: &Memtable,
    state: &CollectionState,
    lsn: Lsn,
    k: usize,
    scorer: &Scorer,
    bound: Option<&Bound>,
    best: &mut Vec<Candidate>,
) {
    let mut top: TopK<Id, (Lsn, Arc<Row>)> = TopK::new(k);
    for (_, slot) in memtable.slots() {
        if !slot.lives_at(lsn) {
            continue;
        }
        let row = slot.row();
        if bound.is_some_and(|bound| !bound.matches(&MemoryRow::new(slot.lsn(), row, &state.schema))) {
            continue;
        }
        let score = scorer.score(&row.vector);
        if top.admits(score) {
            top.push(score, row.id.clone(), (slot.lsn(), Arc::clone(row)));
        }
    }
    best.extend(
        top.into_sorted()
            .into_iter()
            .map(|(score, _, (lsn, row))| Candidate { score, at: At::Memory(lsn, row) }),
    );
}

fn scan_segment(
    n: usize,
    live: &LiveSegment,
    lsn: Lsn,
    k: usize,
    scorer: &Scorer,
    matching: Option<&Matches>,
    best: &mut Vec<Candidate>,
) -> Result<()> {
    let segment = &live.segment;
    let has_dead = live.has_dead_rows();
    // Rows are in id order, so the row number breaks ties as the id would.
    let mut top: TopK<u32, ()> = TopK::new(k);
    let lives = |row: u32| !has_dead || live.lives_at(row, lsn);
    let wanted = |row: u32| lives(row) && matching.is_none_or(|matching| matching.rows.contains(row));
    match matching {
        // Few rows: only their blocks are touched.
        Some(matching) if matching.count < segment.rows() / 4 => {
            for row in matching.rows.iter().filter(|row| lives(*row)) {
                let score = scorer.score(segment.vector(row)?);
                if top.admits(score) {
                    top.push(score, row, ());
                }
            }
        }
        _ => {
            let mut row = 0u32;
            let mut scores = [0.0; BLOCK_ROWS];
            for slice in segment.vectors(0..segment.rows())? {
                for block in slice.chunks(BLOCK_ROWS * scorer.dim()) {
                    let scores = &mut scores[..block.len() / scorer.dim()];
                    scorer.scores_into(block, scores);
                    for score in &*scores {
                        if top.admits(*score) && wanted(row) {
                            top.push(*score, row, ());
                        }
                        row += 1;
                    }
                }
            }
        }
    }
    best.extend(
        top.into_sorted().into_iter().map(|(score, row, ())| Candidate { score, at: At::Segment(n, row) }),
    );
    Ok(())
}

/// The k best by score and whatever ties with the k-th: ids decide among those, once they are known.
fn keep_best(mut best: Vec<Candidate>, k: usize) -> Vec<Candidate> {
    best.sort_by(|a, b| b.score.total_cmp(&a.score));
    if let Some(last) = best.get(k - 1).map(|candidate| candidate.score) {
        let end = best.partition_point(|candidate| candidate.score >= last);
        best.truncate(end);
    }
    best
}

fn fetch(state: &CollectionState, best: Vec<Candidate>, k: usize) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::with_capacity(best.len());
    let mut by_segment: Vec<Vec<(u32, f32)>> = vec![Vec::new(); state.segments.len()];
    for candidate in best {
        match candidate.at {
            At::Memory(lsn, row) => found.push(Found { score: candidate.score, lsn, row: Row::clone(&row) }),
            At::Segment(n, row) => by_segment[n].push((row, candidate.score)),
        }
    }
    for (live, mut rows) in state.segments.iter().zip(by_segment) {
        if rows.is_empty() {
            continue;
        }
        rows.sort_unstable_by_key(|(row, _)| *row);
        let numbers: Vec<u32> = rows.iter().map(|(row, _)| *row).collect();
        let fetched = live.segment.rows_at(&state.schema, &numbers, true)?;
        found.extend(fetched.into_iter().zip(rows).map(|((lsn, row), (_, score))| Found { score, lsn, row }));
    }
    found.sort_by(|a, b| match b.score.total_cmp(&a.score) {
        Ordering::Equal => a.row.id.cmp(&b.row.id),
        unequal => unequal,
    });
    found.truncate(k);
    Ok(found)
}
