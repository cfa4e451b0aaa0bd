//! The search of one view: codes of segments and memtables give candidates, their vectors decide, the best k come
//! back; exact wherever that is asked for, or cheaper, or all that can be had.

use std::cell::RefCell;
use std::time::Duration;

use akidb_host::{Clock, RealClock};

use crate::catalog::{Catalog, CollectionState};
use crate::error::Result;
use crate::expiry::Alive;
use crate::filter::Bound;
use crate::memory_budget::{Charge, MemoryUse};
use crate::row;
use crate::segment::Fetched;
use crate::version::View;

pub(crate) mod ahead;
mod codes;
mod exact;
mod explain;
pub(crate) mod fields;
mod found;
mod plan;
mod query;
mod run;

pub use explain::{Explained, PartExplained, PartKind};
pub(crate) use found::Found;
pub(crate) use query::{Accuracy, Query};
pub use query::{DEFAULT_RECALL, MAX_K};

use codes::Scratch;
use found::Scored;
use run::Run;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Runs a query on a view of the collection, and says what was done.
///
/// # Errors
/// `Invalid` for a bad query; `Corrupt` when a block of a segment that must be read is damaged.
pub(crate) fn explain(
    view: &View<Catalog>,
    state: &CollectionState,
    query: &Query,
) -> Result<(Vec<Found>, Explained)> {
    let _span =
        tracing::info_span!("search", collection = %state.name, k = query.k, lsn = %view.lsn()).entered();
    query.check(&state.schema)?;
    let bound = query.filter.as_ref().map(|filter| filter.bind(&state.schema)).transpose()?;
    let _held = held_for(state, query.k);
    let before = Fetched::by_this_thread();
    let (best, mut explained) = best(view, state, query, bound.as_ref())?;
    let _span = tracing::debug_span!("fetch").entered();
    let begun = RealClock.now();
    let mut found = found::fetch(state, vec![best], query)?;
    explained.fetch_us = micros(RealClock.now().saturating_duration_since(begun));
    explained.fetched(before.since());
    Ok((found.pop().unwrap_or_default(), explained))
}

/// Runs a query for each of these vectors on one view of the collection: its filter is bound once, and
/// rows that several searches found are read once.
///
/// # Errors
/// As [`explain`]; a bad vector before anything is searched.
pub(crate) fn batch(
    view: &View<Catalog>,
    state: &CollectionState,
    query: &mut Query,
    vectors: Vec<Vec<f32>>,
) -> Result<Vec<Vec<Found>>> {
    let (count, k, lsn) = (vectors.len(), query.k, view.lsn());
    let _span = tracing::info_span!("search_batch", collection = %state.name, count, k, %lsn).entered();
    query.check_wishes()?;
    for (at, vector) in vectors.iter().enumerate() {
        row::check_vector(&state.schema, vector).map_err(|error| error.about(&format!("vector {at}")))?;
    }
    let bound = query.filter.as_ref().map(|filter| filter.bind(&state.schema)).transpose()?;
    let _held = held_for(state, count * query.k);
    let mut searches = Vec::with_capacity(count);
    for vector in vectors {
        query.vector = vector;
        searches.push(best(view, state, query, bound.as_ref())?.0);
    }
    let _span = tracing::debug_span!("fetch").entered();
    found::fetch(state, searches, query)
}

/// What so many rows take until they are found and read: their places, more than once where lists of them grow, and the answer
/// without what is read of them.
fn held_for(state: &CollectionState, rows: usize) -> Option<Charge> {
    let row_bytes = 3 * (size_of::<Scored>() + size_of::<Found>());
    state.active.account().charge_large(MemoryUse::Reads, (rows * row_bytes) as u64)
}

fn best(
    view: &View<Catalog>,
    state: &CollectionState,
    query: &Query,
    bound: Option<&Bound>,
) -> Result<(Vec<Scored>, Explained)> {
    let alive = Alive::of_all(view, state)?;
    SCRATCH.with(|scratch| {
        // A search inside a search cannot be: nothing of ours calls back. A fresh room costs some allocations.
        let mut own = Scratch::default();
        let mut shared = scratch.try_borrow_mut().ok();
        let scratch = shared.as_deref_mut().unwrap_or(&mut own);
        Run::new(view, state, &alive, query, bound, scratch).finish()
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
