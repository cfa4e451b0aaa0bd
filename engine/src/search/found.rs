//! The best rows of all parts, and what is fetched of them.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::catalog::CollectionState;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::row::Row;
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
    best.sort_by(|a, b| b.score.total_cmp(&a.score));
    if let Some(last) = best.get(k - 1).map(|scored| scored.score) {
        let end = best.partition_point(|scored| scored.score >= last);
        best.truncate(end);
    }
}

/// The rows themselves, at most k, in their final order.
pub(crate) fn fetch(state: &CollectionState, best: Vec<Scored>, query: &Query) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::with_capacity(best.len());
    if query.with_payload || query.with_vector {
        fetch_rows(state, best, query, &mut found)?;
    } else {
        for scored in best {
            let (lsn, id) = match scored.at {
                At::Memory(lsn, row) => (lsn, row.id.clone()),
                At::Segment(n, row) => state.segments[n].segment.row_key(row)?,
            };
            let row = Row { id, vector: Arc::default(), fields: Box::default(), rest: None };
            found.push(Found { score: scored.score, lsn, row });
        }
    }
    found.sort_by(|a, b| match b.score.total_cmp(&a.score) {
        Ordering::Equal => a.row.id.cmp(&b.row.id),
        unequal => unequal,
    });
    found.truncate(query.k);
    Ok(found)
}

fn fetch_rows(
    state: &CollectionState,
    best: Vec<Scored>,
    query: &Query,
    found: &mut Vec<Found>,
) -> Result<()> {
    let mut by_segment: Vec<Vec<(u32, f32)>> = vec![Vec::new(); state.segments.len()];
    for scored in best {
        match scored.at {
            At::Memory(lsn, row) => found.push(Found { score: scored.score, lsn, row: Row::clone(&row) }),
            At::Segment(n, row) => by_segment[n].push((row, scored.score)),
        }
    }
    for (live, mut rows) in state.segments.iter().zip(by_segment) {
        if rows.is_empty() {
            continue;
        }
        rows.sort_unstable_by_key(|(row, _)| *row);
        let numbers: Vec<u32> = rows.iter().map(|(row, _)| *row).collect();
        let fetched = live.segment.rows_at(&state.schema, &numbers, query.with_vector)?;
        found.extend(fetched.into_iter().zip(rows).map(|((lsn, row), (_, score))| Found { score, lsn, row }));
    }
    Ok(())
}
