//! Rounds of requests for what a search will read of segments on a backend: columns and codes, then vectors, then the
//! pages of the hits. Where segments are here nothing is done.

use std::ops::Range;

use crate::catalog::CollectionState;
use crate::distance::{Kernel, Scorer};
use crate::error::Result;
use crate::filter::Bound;
use crate::index::{Candidate, Exact, is_open};
use crate::schema::Metric;
use crate::search::codes::{Part, Scratch};
use crate::search::found::{At, Scored};
use crate::search::plan::Need;
use crate::search::query::Query;
use crate::segment::{Round, Segment};

/// The k-th row turns out so many errors farther than the k-th estimate, seldom more: estimates that are best are so by
/// luck as well.
const LUCK: f32 = 1.5;

/// Whether the segments lie on a backend: all of them or none.
#[inline]
pub(crate) fn is_cold(state: &CollectionState) -> bool {
    state.segments.first().is_some_and(|live| live.segment.is_cold())
}

/// What the filter looks at, and all codes if codes may be asked for: with a filter, rows are found through them.
pub(super) fn filter(state: &CollectionState, bound: Option<&Bound>, by_codes: bool) -> Result<()> {
    let Some(bound) = bound.filter(|_| is_cold(state)) else { return Ok(()) };
    let (mut round, sources) = (Round::default(), bound.sources());
    for live in state.segments.iter() {
        let segment = &*live.segment;
        let is_empty = |group| bound.is_never_true(&|source| segment.extent(&state.schema, group, source));
        if !(0..segment.group_count()).all(is_empty) {
            round.filter_columns(segment, &state.schema, &sources);
            if by_codes && segment.takes_all_codes() {
                round.all_codes(segment);
            }
        }
    }
    round.fetch()
}

/// The codes that the scan of these parts will read.
pub(super) fn codes<'a>(
    parts: impl Iterator<Item = Part<'a>>,
    kernel: Kernel,
    metric: Metric,
    query: &Query,
    scratch: &mut Scratch,
) -> Result<()> {
    let mut round = Round::default();
    for part in parts {
        let (segment, lists) = (part.alive.segment(), &part.index.lists);
        if part.matches.is_some() || segment.takes_all_codes() {
            round.all_codes(segment);
            continue;
        }
        let need = Need::new(part.slots(query), lists.rows, lists.rows, 1.0);
        let near = part.near(kernel, metric, query, part.with_dead(need.slots()).max(1), scratch);
        round.lists(segment, lists, near.iter().map(|near| lists.lists[near.list as usize]));
    }
    round.fetch()
}

/// The vectors that the exact comparison of `candidates` (ascending by estimate) will read; ids and versions too, if
/// hits want nothing else. The second round is for what the first one's rows turn out to leave open.
pub(super) fn vectors(
    state: &CollectionState,
    query: &Query,
    scorer: &Scorer,
    known: &[Scored],
    candidates: &[Candidate],
    width: f32,
) -> Result<()> {
    if !is_cold(state) {
        return Ok(());
    }
    let (k, metric) = (query.k, state.schema.metric);
    let Some(kth) = candidates.get(k - 1).or(candidates.last()) else { return Ok(()) };
    let likely = kth.estimate + LUCK * kth.error;
    let first = |at: usize| at < k || is_open(&candidates[at], likely, width);
    let mut round = vectors_of(state, candidates, first);
    if !query.with_payload && !query.with_vector {
        for (n, live) in state.segments.iter().enumerate() {
            // Those of segments that only the other candidates name are fetched with the hits.
            let is_asked = |at: usize| candidates[at].source as usize == n && first(at);
            if (0..candidates.len()).any(is_asked) {
                round.keys(&live.segment);
            }
        }
    }
    round.fetch()?;
    // As the comparison will go, with what is here: each row it will want is among those it is found to want.
    let mut keys: Vec<f32> = known.iter().map(|scored| Exact::of(metric, scored.score).key).collect();
    keys.sort_unstable_by(f32::total_cmp);
    let mut is_wanted = vec![false; candidates.len()];
    for (at, candidate) in candidates.iter().enumerate() {
        let is_out = |kth: &f32| !is_open(candidate, *kth, width);
        if at >= k && keys.get(k - 1).is_some_and(is_out) {
            continue;
        }
        is_wanted[at] = !first(at);
        if let Some(segment) = segment(state, candidate).filter(|_| first(at)) {
            let key = Exact::of(metric, scorer.score(segment.vector(candidate.row)?)).key;
            keys.insert(keys.partition_point(|other| *other <= key), key);
        }
    }
    vectors_of(state, candidates, |at| is_wanted[at]).fetch()
}

fn segment<'a>(state: &'a CollectionState, candidate: &Candidate) -> Option<&'a Segment> {
    state.segments.get(candidate.source as usize).map(|live| &*live.segment)
}

/// The vectors of those of the candidates, by their places, that are `wanted`.
fn vectors_of<'a>(
    state: &'a CollectionState,
    candidates: &[Candidate],
    wanted: impl Fn(usize) -> bool,
) -> Round<'a> {
    let mut round = Round::default();
    for (n, live) in state.segments.iter().enumerate() {
        let of_segment =
            |(at, candidate): &(usize, &Candidate)| candidate.source as usize == n && wanted(*at);
        let rows = candidates.iter().enumerate().filter(of_segment);
        round.vectors(&live.segment, rows.map(|(_, candidate)| candidate.row));
    }
    round
}

/// The vectors of some rows that are compared one by one.
pub(super) fn rows(segment: &Segment, rows: &[u32]) -> Result<()> {
    if !segment.is_cold() {
        return Ok(());
    }
    let mut round = Round::default();
    round.vectors(segment, rows.iter().copied());
    round.fetch()
}

/// The vectors of a row group that is compared whole.
pub(super) fn group(segment: &Segment, rows: Range<u32>) -> Result<()> {
    if !segment.is_cold() {
        return Ok(());
    }
    let mut round = Round::default();
    round.group_vectors(segment, rows);
    round.fetch()
}

/// The pages of the hits.
pub(super) fn hits(state: &CollectionState, searches: &[Vec<Scored>], query: &Query) -> Result<()> {
    if !is_cold(state) {
        return Ok(());
    }
    let mut round = Round::default();
    for (n, live) in state.segments.iter().enumerate() {
        let mut rows: Vec<u32> = searches
            .iter()
            .flatten()
            .filter_map(|scored| match scored.at {
                At::Segment(of, row) if of == n => Some(row),
                _ => None,
            })
            .collect();
        rows.sort_unstable();
        rows.dedup();
        if query.with_payload {
            round.rows(&live.segment, &rows, query.with_vector);
        } else if query.with_vector {
            round.keys_of(&live.segment, &rows);
            round.vectors(&live.segment, rows.iter().copied());
        } else if !rows.is_empty() {
            round.keys(&live.segment);
        }
    }
    round.fetch()
}
