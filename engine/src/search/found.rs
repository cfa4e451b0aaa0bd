//! The best rows of all parts, and what is fetched of them.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::catalog::CollectionState;
use crate::distance::Kernel;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::row::Row;
use crate::search::ahead;
use crate::search::query::Query;

/// A row and its score, best first; equal scores by id.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) score: f32,
    pub(crate) lsn: Lsn,
    /// Without fields, rest and vector where they were not asked for.
    pub(crate) row: Row,
}

/// A row with its exact score, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Scored {
    pub(crate) score: f32,
    pub(crate) at: At,
}

#[derive(Clone, Debug)]
pub(crate) enum At {
    Memory(Lsn, Arc<Row>),
    /// Position among the state's segments, and row.
    Segment(usize, u32),
}

/// The k best by score and whatever ties with the k-th: ids decide among those, once they are known.
pub(crate) fn keep_best(best: &mut Vec<Scored>, k: usize) {
    if best.len() > k {
        // Most of what was compared is not wanted: it need not be put in order.
        let mut scores: Vec<f32> = best.iter().map(|scored| scored.score).collect();
        let last = *scores.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
        best.retain(|scored| scored.score >= last);
    }
    best.sort_by(|a, b| b.score.total_cmp(&a.score));
    if let Some(last) = best.get(k - 1).map(|scored| scored.score) {
        let end = best.partition_point(|scored| scored.score >= last);
        best.truncate(end);
    }
}

/// The rows themselves, at most k for each search, in their final order. Rows that several searches found are read once.
pub(crate) fn fetch(
    state: &CollectionState,
    searches: Vec<Vec<Scored>>,
    query: &Query,
) -> Result<Vec<Vec<Found>>> {
    ahead::hits(state, &searches, query)?;
    let mut found = match query.with_payload || query.with_vector {
        true => fetch_rows(state, searches, query)?,
        false => searches.into_iter().map(|best| fetch_keys(state, best)).collect::<Result<_>>()?,
    };
    for found in &mut found {
        found.sort_by(|a, b| match b.score.total_cmp(&a.score) {
            Ordering::Equal => a.row.id.cmp(&b.row.id),
            unequal => unequal,
        });
        found.truncate(query.k);
    }
    Ok(found)
}

fn fetch_keys(state: &CollectionState, best: Vec<Scored>) -> Result<Vec<Found>> {
    let kernel = Kernel::best();
    // Each lies somewhere else: all are asked for before the first is waited for.
    for scored in &best {
        if let At::Segment(n, row) = scored.at {
            state.segments[n].segment.soon_key(kernel, row);
        }
    }
    let key = |scored: Scored| {
        let (lsn, id) = match scored.at {
            At::Memory(lsn, row) => (lsn, row.id.clone()),
            At::Segment(n, row) => state.segments[n].segment.row_key(row)?,
        };
        let row = Row { id, vector: Arc::default(), fields: Box::default(), rest: None };
        Ok(Found { score: scored.score, lsn, row })
    };
    best.into_iter().map(key).collect()
}

/// A row of a segment that a search found.
struct Wanted {
    row: u32,
    score: f32,
    search: usize,
}

fn fetch_rows(state: &CollectionState, searches: Vec<Vec<Scored>>, query: &Query) -> Result<Vec<Vec<Found>>> {
    let mut found: Vec<Vec<Found>> = searches.iter().map(|best| Vec::with_capacity(best.len())).collect();
    let mut by_segment: Vec<Vec<Wanted>> = Vec::new();
    by_segment.resize_with(state.segments.len(), Vec::new);
    for (search, best) in searches.into_iter().enumerate() {
        for Scored { score, at } in best {
            match at {
                At::Memory(lsn, row) => found[search].push(Found { score, lsn, row: Row::clone(&row) }),
                At::Segment(n, row) => by_segment[n].push(Wanted { row, score, search }),
            }
        }
    }
    for (live, mut wanted) in state.segments.iter().zip(by_segment) {
        if wanted.is_empty() {
            continue;
        }
        query.go_on()?;
        wanted.sort_unstable_by_key(|wanted| wanted.row);
        let numbers: Vec<u32> = wanted.iter().map(|wanted| wanted.row).collect();
        let fetched = match query.with_payload {
            true => live.segment.rows_at(&state.schema, &numbers, query.with_vector)?,
            false => live.segment.keys_at(&numbers, query.with_vector)?,
        };
        for ((lsn, row), Wanted { score, search, .. }) in fetched.into_iter().zip(wanted) {
            found[search].push(Found { score, lsn, row });
        }
    }
    Ok(found)
}
