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
use crate::segment::{column_count, encoding_bytes, usual_group_rows};

/// What a row takes at most beside its vector, about: the bound of a payload.
const LONGEST_ROW_BYTES: u64 = 1 << 20;

/// What a column of an input takes while it is read: the page under way and its dictionary.
const PAGE_BYTES: u64 = 2 * (16 << 10);

/// A merge that may begin.
pub(super) struct Admitted {
    /// The segments, by their places.
    pub(super) chosen: Vec<usize>,
    /// Rows that it was allowed to take.
    pub(super) max_rows: u64,
    /// Held until it ends.
    pub(super) charge: Charge,
}

/// Whether a merge may begin.
pub(super) enum Admission {
    /// No merge is due.
    NotDue,
    Begins(Admitted),
    /// It needs so many bytes, and there is not so much, nor enough for a smaller one.
    Needs(u64),
}

/// Takes the memory for what `choose` takes of a collection, or for what it takes of less where there is not so much; it is
/// what is `held` already if that is enough. Does not wait.
pub(super) fn admit(
    engine: &Engine,
    state: &CollectionState,
    loads: &[SegmentLoad],
    choose: Choose,
    held: Option<Charge>,
) -> Admission {
    let memory = &engine.place.memory;
    let share = engine.limits.merge_bytes;
    let chosen = choose(loads, max_rows(state, share));
    if chosen.is_empty() {
        return Admission::NotDue;
    }
    let bytes = |chosen: &[usize]| merge_bytes(engine, state, chosen.iter().map(|at| &loads[*at]));
    let needed = bytes(&chosen);
    // What is not enough goes back first.
    let held = held.filter(|held| held.bytes() >= needed);
    if let Some(charge) = held.or_else(|| memory.try_charge(MemoryUse::Merges, needed)) {
        return Admission::Begins(Admitted { chosen, max_rows: max_rows(state, share), charge });
    }
    let less = max_rows(state, memory.room(MemoryUse::Merges));
    let smaller = choose(loads, less);
    if !smaller.is_empty()
        && let Some(charge) = memory.try_charge(MemoryUse::Merges, bytes(&smaller))
    {
        return Admission::Begins(Admitted { chosen: smaller, max_rows: less, charge });
    }
    Admission::Needs(needed)
}

/// Waits for the memory that a merge needs, for about `patience` at most. Holds no lock meanwhile.
///
/// # Errors
/// `Full` if the memory stays taken, `Closed`.
pub(super) fn wait(engine: &Engine, needed: u64, patience: Duration) -> Result<Charge> {
    let go_on = || !engine.is_closed();
    let charge = engine.place.memory.charge_within(MemoryUse::Merges, needed, patience, &go_on);
    engine.view()?;
    charge.ok_or_else(|| taken(engine, needed))
}

/// The refusal of a merge that needs so many bytes.
pub(super) fn taken(engine: &Engine, needed: u64) -> Error {
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
    let pages = count * column_count(&state.schema) as u64 * PAGE_BYTES;
    let reading = row_group.max(3 * longest * count).max(pages);
    let writing = vectors + beside + encoding_bytes(beside) + reading;
    let building = index::build_bytes_per_row(usize::from(dim)) * rows;
    (ROW_BYTES * rows + writing.max(building)).min(engine.limits.merge_bytes)
}
