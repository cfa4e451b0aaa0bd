//! The exact search of one part: every live, matching row is scored.

use std::sync::Arc;

use crate::catalog::CollectionState;
use crate::distance::{Kernel, Scorer};
use crate::error::Result;
use crate::expiry::{Alive, Expiry};
use crate::filter::Bound;
use crate::filter_cache::Matches;
use crate::id::Id;
use crate::index::ByteCodes;
use crate::lsn::Lsn;
use crate::memtable::{Memtable, Slot};
use crate::row::Row;
use crate::search::ahead;
use crate::search::fields::MemoryRow;
use crate::search::found::{At, Scored};
use crate::search::plan;
use crate::search::query::Query;
use crate::topk::TopK;

/// Rows scored at a time: their scores stay in the first cache.
const BLOCK_ROWS: usize = 256;
/// Rows compared between two looks at whether anybody still waits.
const CHECK_ROWS: usize = 4_096;
/// Rows asked for ahead of the one being scored.
const AHEAD: usize = 6;
/// Of a row that codes leave open, as the list of them grows.
const OPEN_BYTES: u64 = 3 * 16;

/// Adds the best k rows of some slots of a memtable; gives how many were scored.
pub(crate) fn memtable(
    slots: impl Iterator<Item = u32>,
    memtable: &Memtable,
    seen: &Seen<'_>,
    scorer: &Scorer,
    best: &mut Vec<Scored>,
) -> u64 {
    let mut top: TopK<Id, (Lsn, Arc<Row>)> = TopK::new(seen.k);
    let mut scored = 0;
    for slot in slots.map(|at| memtable.slot(at)).filter(|slot| seen.matches(slot)) {
        let score = scorer.score(&slot.row().vector);
        scored += 1;
        if top.admits(score) {
            top.push(score, slot.row().id.clone(), (slot.lsn(), Arc::clone(slot.row())));
        }
    }
    let sorted = top.into_sorted().into_iter();
    best.extend(sorted.map(|(score, _, (lsn, row))| Scored { score, at: At::Memory(lsn, row) }));
    scored
}

/// Which rows of memtables a search sees, and how many it wants.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) state: &'a CollectionState,
    pub(crate) lsn: Lsn,
    pub(crate) expiry: Expiry,
    pub(crate) bound: Option<&'a Bound>,
    pub(crate) k: usize,
}

impl Seen<'_> {
    /// Whether the row of a slot lives and matches.
    pub(crate) fn matches(&self, slot: &Slot) -> bool {
        let fields = || MemoryRow::new(slot.lsn(), slot.row(), &self.state.schema);
        slot.lives_at(self.lsn)
            && !self.expiry.hides(slot.row())
            && self.bound.is_none_or(|bound| bound.matches(&fields()))
    }
}

/// Adds the best k rows of segment `n`; gives how many were scored.
pub(crate) fn segment(
    n: usize,
    alive: &Alive<'_>,
    query: &Query,
    scorer: &Scorer,
    wanted: Option<&Matches>,
    best: &mut Vec<Scored>,
) -> Result<u64> {
    let segment = alive.segment();
    let lives = |row: u32| alive.shows(row);
    // Rows are in id order, so the row number breaks ties as the id would.
    let mut top: TopK<u32, ()> = TopK::new(query.k);
    let scored = match wanted {
        // Few rows: only their blocks are touched.
        Some(wanted) if plan::are_scattered(segment.rows(), wanted.count) => {
            let _held = segment.reading(4 * u64::from(wanted.count));
            let rows: Vec<u32> = wanted.rows.iter().filter(|row| lives(*row)).collect();
            ahead::rows(segment, &rows)?;
            let kernel = Kernel::best();
            for (at, row) in rows.iter().enumerate() {
                if at % CHECK_ROWS == 0 {
                    query.go_on()?;
                }
                // Rows lie apart: a vector is asked for while others are scored. What is wrong with it is told in turn.
                if let Some(Ok(soon)) = rows.get(at + AHEAD).map(|row| segment.vector(*row)) {
                    kernel.prefetch(soon);
                }
                let score = scorer.score(segment.vector(*row)?);
                if top.admits(score) {
                    top.push(score, *row, ());
                }
            }
            rows.len() as u64
        }
        _ => {
            let (mut row, rows) = (0u32, segment.rows());
            let mut scores = [0.0; BLOCK_ROWS];
            // A row group at a time: of a search that is given up no further one is read, here or on a backend.
            while row < rows {
                query.go_on()?;
                let group = row..rows.min(row.saturating_add(segment.group_rows()));
                ahead::group(segment, group.clone())?;
                let slices = segment.vectors(group)?;
                for block in slices.into_iter().flat_map(|slice| slice.chunks(BLOCK_ROWS * scorer.dim())) {
                    let scores = &mut scores[..block.len() / scorer.dim()];
                    scorer.scores_into(block, scores);
                    for score in &*scores {
                        if top.admits(*score)
                            && lives(row)
                            && wanted.is_none_or(|wanted| wanted.rows.contains(row))
                        {
                            top.push(*score, row, ());
                        }
                        row += 1;
                    }
                }
            }
            u64::from(segment.rows())
        }
    };
    let sorted = top.into_sorted().into_iter();
    best.extend(sorted.map(|(score, row, ())| Scored { score, at: At::Segment(n, row) }));
    Ok(scored)
}

/// As [`segment`], with codes of the rows that are wanted: only vectors of rows that those leave open are read. Gives how many
/// were; `None` where the codes say nothing of the query, and nothing was added.
pub(crate) fn segment_by_codes(
    n: usize,
    alive: &Alive<'_>,
    query: &Query,
    scorer: &Scorer,
    codes: &ByteCodes,
    best: &mut Vec<Scored>,
) -> Result<Option<u64>> {
    let (segment, kernel) = (alive.segment(), Kernel::best());
    let _held = segment.reading(OPEN_BYTES * codes.len() as u64);
    let Some(open) = codes.open(kernel, &query.vector, query.k, |row| alive.shows(row)) else {
        return Ok(None);
    };
    let soon = |at: usize| {
        if let Some(Ok(soon)) = open.get(at).map(|open| segment.vector(open.row)) {
            kernel.prefetch(soon);
        }
    };
    (0..AHEAD).for_each(soon);
    let (mut top, mut scored): (TopK<u32, ()>, u64) = (TopK::new(query.k), 0);
    for (at, open) in open.iter().enumerate() {
        if at % CHECK_ROWS == 0 {
            query.go_on()?;
        }
        // The row whose score may be highest comes first: what is behind cannot reach the best either.
        if top.threshold().is_some_and(|kth| open.most < f64::from(kth)) {
            break;
        }
        soon(at + AHEAD);
        top.push(scorer.score(segment.vector(open.row)?), open.row, ());
        scored += 1;
    }
    let sorted = top.into_sorted().into_iter();
    best.extend(sorted.map(|(score, row, ())| Scored { score, at: At::Segment(n, row) }));
    Ok(Some(scored))
}
