//! Point reads, counts and scans of one view.

use std::sync::Arc;

use crate::catalog::{Catalog, CollectionState, LiveSegment};
use crate::error::Result;
use crate::expiry::{Alive, Expiry};
use crate::filter::Filter;
use crate::id::Id;
use crate::lsn::Lsn;
use crate::row::Row;
use crate::search::ahead;
use crate::search::fields::MemoryRow;
use crate::segment::Round;
use crate::version::View;

/// Rows of which one in so many is wanted, or fewer, are not read as one.
const SPARSE: usize = 4;

/// The live row with this id.
pub(crate) fn get(view: &View<Catalog>, state: &CollectionState, id: &Id) -> Result<Option<(Lsn, Row)>> {
    let expiry = Expiry::of(view, state);
    for memtable in state.memtables() {
        match memtable.get(id, view.lsn()) {
            Some(Some(slot)) if expiry.hides(slot.row()) => return Ok(None),
            Some(Some(slot)) => return Ok(Some((slot.lsn(), Row::clone(slot.row())))),
            Some(None) => return Ok(None),
            None => {}
        }
    }
    if ahead::is_cold(state) {
        let mut round = Round::default();
        state.segments.iter().for_each(|live| round.find(&live.segment, id));
        round.fetch()?;
    }
    for live in state.segments.iter().rev() {
        if let Some(row) = live.segment.find(id)?
            && live.lives_at(row, view.lsn())
        {
            let found = live.segment.row_at(&state.schema, row, id)?;
            return Ok(found.filter(|(_, row)| !expiry.hides(row)));
        }
    }
    Ok(None)
}

/// Rows that live and match.
pub(crate) fn count(view: &View<Catalog>, state: &CollectionState, filter: Option<&Filter>) -> Result<u64> {
    let bound = filter.map(|filter| filter.bind(&state.schema)).transpose()?;
    let expiry = Expiry::of(view, state);
    let mut count = 0u64;
    for memtable in state.memtables() {
        count += memtable
            .slots()
            .filter(|(_, slot)| slot.lives_at(view.lsn()) && !expiry.hides(slot.row()))
            .filter(|(_, slot)| {
                bound
                    .as_ref()
                    .is_none_or(|b| b.matches(&MemoryRow::new(slot.lsn(), slot.row(), &state.schema)))
            })
            .count() as u64;
    }
    for (live, alive) in state.segments.iter().zip(Alive::of_all(view, state)?) {
        count += match &bound {
            None => alive.count(),
            Some(bound) => {
                alive.count_of(&*view.content().filters.matching(&live.segment, &state.schema, bound)?)
            }
        };
    }
    Ok(count)
}

/// Rows that are not deleted, expired or not. Reads nothing.
pub(crate) fn undeleted(view: &View<Catalog>, state: &CollectionState) -> u64 {
    let slots = state.memtables().flat_map(|memtable| memtable.slots());
    let in_memory = slots.filter(|(_, slot)| slot.lives_at(view.lsn())).count() as u64;
    in_memory + state.segments.iter().map(|live| live.live_rows(view.lsn())).sum::<u64>()
}

/// A page of live, matching rows with ids above `after`, in id order, at most `limit`.
pub(crate) fn scan(
    view: &View<Catalog>,
    state: &CollectionState,
    filter: Option<&Filter>,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<(Lsn, Row)>> {
    let _span = tracing::info_span!("scan", collection = %state.name, limit, lsn = %view.lsn()).entered();
    let bound = filter.map(|filter| filter.bind(&state.schema)).transpose()?;
    let (expiry, alive) = (Expiry::of(view, state), Alive::of_all(view, state)?);
    let mut page: Vec<(Lsn, At)> = Vec::new();
    let mut ids: Vec<(Id, usize)> = Vec::new();
    let mut take = |id: Id, lsn: Lsn, at: At| {
        ids.push((id, page.len()));
        page.push((lsn, at));
    };
    for memtable in state.memtables() {
        let mut rows: Vec<(Lsn, &Arc<Row>)> = memtable
            .slots()
            .filter(|(_, slot)| slot.lives_at(view.lsn()) && after.is_none_or(|after| slot.row().id > *after))
            .map(|(_, slot)| (slot.lsn(), slot.row()))
            .filter(|(_, row)| !expiry.hides(row))
            .filter(|(lsn, row)| {
                bound.as_ref().is_none_or(|b| b.matches(&MemoryRow::new(*lsn, row, &state.schema)))
            })
            .collect();
        rows.sort_unstable_by(|a, b| a.1.id.cmp(&b.1.id));
        rows.truncate(limit);
        rows.into_iter().for_each(|(lsn, row)| take(row.id.clone(), lsn, At::Memory(Arc::clone(row))));
    }
    if ahead::is_cold(state) {
        let mut round = Round::default();
        state.segments.iter().for_each(|live| round.ids(&live.segment));
        round.fetch()?;
    }
    for (n, live) in state.segments.iter().enumerate() {
        let start = match after {
            None => 0,
            Some(after) => rows_up_to(live, after)?,
        };
        let filters = &view.content().filters;
        let matching =
            bound.as_ref().map(|b| filters.matching(&live.segment, &state.schema, b)).transpose()?;
        let rows: Vec<u32> = (start..live.segment.rows())
            .filter(|row| matching.as_ref().is_none_or(|m| m.rows.contains(*row)))
            .filter(|row| alive[n].shows(*row))
            .take(limit)
            .collect();
        for (row, id) in rows.iter().zip(ids_of(live, &rows)?) {
            take(id, Lsn::ZERO, At::Segment(n, *row));
        }
    }
    ids.sort_unstable();
    ids.truncate(limit);
    fetch(state, &ids, page)
}

/// Ids and versions of live, matching rows with ids above `after`, in id order, at most `limit`; neither vectors nor
/// payloads are read but for the filter.
pub(crate) fn matching(
    view: &View<Catalog>,
    state: &CollectionState,
    filter: &Filter,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<(Id, Lsn)>> {
    let bound = filter.bind(&state.schema)?;
    let expiry = Expiry::of(view, state);
    let mut found: Vec<(Id, Lsn)> = Vec::new();
    for memtable in state.memtables() {
        let slots = memtable.slots().map(|(_, slot)| slot);
        let live = slots.filter(|s| s.lives_at(view.lsn()) && after.is_none_or(|after| s.row().id > *after));
        let live = live.filter(|s| !expiry.hides(s.row()));
        let matching = live.filter(|s| bound.matches(&MemoryRow::new(s.lsn(), s.row(), &state.schema)));
        found.extend(matching.map(|slot| (slot.row().id.clone(), slot.lsn())));
        keep_first(&mut found, limit);
    }
    for (live, alive) in state.segments.iter().zip(Alive::of_all(view, state)?) {
        let start = after.map_or(Ok(0), |after| rows_up_to(live, after))?;
        let matches = view.content().filters.matching(&live.segment, &state.schema, &bound)?;
        let rows =
            (start..live.segment.rows()).filter(|row| matches.rows.contains(*row) && alive.shows(*row));
        for row in rows.take(limit) {
            let (lsn, id) = live.segment.row_key(row)?;
            found.push((id, lsn));
        }
        keep_first(&mut found, limit);
    }
    Ok(found)
}

fn keep_first(found: &mut Vec<(Id, Lsn)>, limit: usize) {
    found.sort_unstable();
    found.truncate(limit);
}

/// How many rows have ids up to and including `after`.
fn rows_up_to(live: &LiveSegment, after: &Id) -> Result<u32> {
    let (mut low, mut high) = (0, live.segment.rows());
    while low < high {
        let middle = low + (high - low) / 2;
        if live.segment.id_at(middle)? <= *after { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

/// The ids of ascending rows; what lies close together is read as one.
fn ids_of(live: &LiveSegment, rows: &[u32]) -> Result<Vec<Id>> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
    if (last - first) as usize >= SPARSE * rows.len() {
        return live.segment.ids_at(rows);
    }
    // The ids between them are decoded on the way anyway.
    let ids = live.segment.ids(*first..*last + 1)?;
    Ok(rows.iter().map(|row| ids[(row - first) as usize].clone()).collect())
}

enum At {
    Memory(Arc<Row>),
    Segment(usize, u32),
}

/// The rows of a page in the order of `ids`; each segment is read once, with ascending row numbers.
fn fetch(state: &CollectionState, ids: &[(Id, usize)], mut page: Vec<(Lsn, At)>) -> Result<Vec<(Lsn, Row)>> {
    let mut out: Vec<Option<(Lsn, Row)>> = vec![None; ids.len()];
    let mut by_segment: Vec<Vec<(u32, usize)>> = vec![Vec::new(); state.segments.len()];
    for (position, (_, at)) in ids.iter().enumerate() {
        match std::mem::replace(&mut page[*at].1, At::Segment(0, 0)) {
            At::Memory(row) => out[position] = Some((page[*at].0, Row::clone(&row))),
            At::Segment(n, row) => by_segment[n].push((row, position)),
        }
    }
    for (live, rows) in state.segments.iter().zip(by_segment) {
        if rows.is_empty() {
            continue;
        }
        let numbers: Vec<u32> = rows.iter().map(|(row, _)| *row).collect();
        let fetched = live.segment.rows_at(&state.schema, &numbers, true)?;
        for ((_, position), row) in rows.into_iter().zip(fetched) {
            out[position] = Some(row);
        }
    }
    Ok(out.into_iter().map(|row| row.expect("every place was filled")).collect())
}
