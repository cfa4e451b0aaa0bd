//! Whether a merge may begin: what it takes in memory is held before it starts, or it is a smaller one, or later.

use std::time::Duration;

use super::Choose;
use super::merge::ROW_BYTES;
use super::policy::SegmentLoad;
use crate::catalog::CollectionState;
use crate::engine::{Engine, MEMORY};
use crate::error::{Error, ErrorKind, Result};
use crate::index;
use crate::memory_budget::{Charge, MemoryUse};
use crate::segment::{encoding_bytes, usual_group_rows};

/// What a row takes at most beside its vector, about: the bound of a payload.
const LONGEST_ROW_BYTES: u64 = 1 << 20;

/// A merge that may begin.
pub(super) struct Admitted {
    /// The segments, by their places.
    pub(super) chosen: Vec<usize>,
    /// Rows that it was allowed to take.
    pub(super) max_rows: u64,
    /// Held until it ends.
    pub(super) charge: Charge,
}

/// Takes the memory for what `choose` takes of a collection, waiting for it for about `patience`; where there is not so
/// much, for what it takes of less. `None` if nothing is due.
///
/// # Errors
/// `Full` if the memory is taken; the segments stay as they are.
pub(super) fn admit(
    engine: &Engine,
    state: &CollectionState,
    loads: &[SegmentLoad],
    choose: Choose,
    patience: Duration,
) -> Result<Option<Admitted>> {
    let memory = &engine.place.memory;
    let share = engine.limits.merge_bytes;
    let chosen = choose(loads, max_rows(state, share));
    if chosen.is_empty() {
        return Ok(None);
    }
    let bytes = |chosen: &[usize]| merge_bytes(engine, state, chosen.iter().map(|at| &loads[*at]));
    if let Some(charge) = memory.try_charge(MemoryUse::Merges, bytes(&chosen)) {
        return Ok(Some(Admitted { chosen, max_rows: max_rows(state, share), charge }));
    }
    let less = max_rows(state, memory.room(MemoryUse::Merges));
    let smaller = choose(loads, less);
    if !smaller.is_empty()
        && let Some(charge) = memory.try_charge(MemoryUse::Merges, bytes(&smaller))
    {
        return Ok(Some(Admitted { chosen: smaller, max_rows: less, charge }));
    }
    let needed = bytes(&chosen);
    let Some(charge) = memory.charge_within(MemoryUse::Merges, needed, patience) else {
        return Err(taken(engine, needed));
    };
    Ok(Some(Admitted { chosen, max_rows: max_rows(state, share), charge }))
}

fn taken(engine: &Engine, needed: u64) -> Error {
    let budget = engine.place.memory.budget();
    let message = format!(
        "a merge needs {needed} bytes of memory, {} of {} are taken",
        budget.used_bytes(),
        budget.limit_bytes()
    );
    let kind = ErrorKind::Full { which: MEMORY, retry_after: Duration::from_millis(250) };
    Error::new(kind, "AKI-0289", message).help_is(
        "merges go on by themselves when others give memory back; raise engine.memory_bytes if they do not",
    )
}

/// Rows that one merge may take within so many bytes.
fn max_rows(state: &CollectionState, bytes: u64) -> u64 {
    let row_bytes = index::build_bytes_per_row(usize::from(state.schema.dim)) + ROW_BYTES;
    (bytes / row_bytes).max(1)
}

/// Bytes in memory that a merge of these takes at most, about: first a row group and the rows next to come, then the index. One
/// that needs more than its share by itself, where that is small, holds the whole share.
fn merge_bytes<'a>(
    engine: &Engine,
    state: &CollectionState,
    inputs: impl Iterator<Item = &'a SegmentLoad>,
) -> u64 {
    let (count, rows, bytes) = inputs.fold((0, 0, 0), |(count, rows, bytes), load| {
        (count + 1, rows + u64::from(load.rows - load.dead), bytes + load.live_bytes())
    });
    let dim = state.schema.dim;
    let row_group = engine.limits.row_group_bytes;
    let vectors = rows.min(usual_group_rows(dim)) * 4 * u64::from(dim);
    // Compressed as they are they tell little of what long rows take: the bound, unless there are so few.
    let beside = (4 * bytes).min(row_group);
    // Of each input at least one row is there, and what it is read from.
    let longest = (4 * bytes / rows.max(1)).min(LONGEST_ROW_BYTES);
    let reading = row_group.max(3 * longest * count);
    let writing = vectors + beside + encoding_bytes(beside) + reading;
    let building = index::build_bytes_per_row(usize::from(dim)) * rows;
    (ROW_BYTES * rows + writing.max(building)).min(engine.limits.merge_bytes)
}
