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
    let best_first = |a: &Scored, b: &Scored| b.score.total_cmp(&a.score);
    if best.len() > k {
        // Most of what was compared is not wanted: it need not be put in order.
        let last = best.select_nth_unstable_by(k - 1, best_first).1.score;
        best.retain(|scored| scored.score >= last);
    }
    best.sort_unstable_by(best_first);
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

#[cfg(test)]
mod tests {
    use akidb_host::Rng;

    use super::*;

    /// Where it is, which is what makes it another row than one with the same score.
    fn place(scored: &Scored) -> (u32, u32) {
        let At::Segment(_, row) = scored.at else { panic!("none lies in memory") };
        (scored.score.to_bits(), row)
    }

    /// What a plain sort keeps: all of it in order, cut behind what ties with the k-th.
    fn by_a_plain_sort(mut all: Vec<Scored>, k: usize) -> Vec<Scored> {
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        if let Some(last) = all.get(k - 1).map(|scored| scored.score) {
            all.retain(|scored| scored.score >= last);
        }
        all
    }

    #[test]
    fn the_best_are_those_of_a_plain_sort_with_all_that_tie_with_the_last() {
        let seed = 0x_5eed_0f0d;
        println!("seed {seed}");
        let mut rng = Rng::seeded(seed);
        let below = |rng: &mut Rng, n| usize::try_from(rng.below(n)).unwrap();
        for _ in 0..20_000 {
            // From all alike to hardly any alike; zeros of both signs tie.
            let (len, scores) = (rng.below(70), [1, 3, 20, 1_000_000][below(&mut rng, 4)]);
            let score = |rng: &mut Rng| match rng.below(scores) {
                0 => [0.0, -0.0][below(rng, 2)],
                n => n as f32 - 1.5,
            };
            let all: Vec<Scored> = (0..len)
                .map(|row| Scored { score: score(&mut rng), at: At::Segment(0, u32::try_from(row).unwrap()) })
                .collect();
            let k = 1 + below(&mut rng, 80);
            let mut expected: Vec<_> = by_a_plain_sort(all.clone(), k).iter().map(place).collect();
            let mut kept = all.clone();
            keep_best(&mut kept, k);
            assert!(kept.is_sorted_by(|a, b| a.score.total_cmp(&b.score).is_ge()), "k {k}: {all:?}");
            let mut kept: Vec<_> = kept.iter().map(place).collect();
            // Ids decide among equal scores later: which of them comes first here is nobody's.
            expected.sort_unstable();
            kept.sort_unstable();
            assert_eq!(kept, expected, "k {k}: {all:?}");
        }
    }
}
