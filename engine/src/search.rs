//! The search of one view: codes of segments and memtables give candidates, their vectors decide, the best k come
//! back; exact wherever that is asked for, or cheaper, or all that can be had.

use std::cell::RefCell;

use crate::catalog::{Catalog, CollectionState};
use crate::error::Result;
use crate::version::View;

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
    SCRATCH.with(|scratch| {
        // A search inside a search cannot be: nothing of ours calls back. A fresh room costs some allocations.
        let mut own = Scratch::default();
        let mut shared = scratch.try_borrow_mut().ok();
        let scratch = shared.as_deref_mut().unwrap_or(&mut own);
        Run::new(view, state, query, bound.as_ref(), scratch).finish()
    })
}
