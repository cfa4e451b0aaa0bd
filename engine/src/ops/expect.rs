//! What a write may demand of its row, and the check of it under the sequencer lock.

use std::sync::{Arc, PoisonError};

use super::{Applier, Change, Found, Memory, Op, mark_of};
use crate::catalog::CollectionState;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::id::Id;
use crate::lsn::Lsn;
use crate::row::Row;

/// What a write demands of its row: compared with the newest write that is in the log's order, whether or not that is
/// on disk and visible yet. If it does not hold nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expect {
    /// There is no row with this id.
    Absent,
    /// The row has this version: the LSN that its write returned, and that reads give with it.
    Version(Lsn),
}

/// The newest appended state of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newest {
    /// Its version; `None` where there is no such row.
    pub(crate) version: Option<Lsn>,
    /// When this is visible every read sees that state.
    pub(crate) settled: Lsn,
}

/// Whether an expectation holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Holds,
    /// The segments changed since the id was looked up in them.
    Stale,
    Differs(Newest),
}

impl Expect {
    /// A number that tells demands apart; that of none is 0.
    pub(crate) fn code(demand: Option<Self>) -> u64 {
        match demand {
            None => 0,
            Some(Self::Absent) => 1,
            // No LSN is as small as that.
            Some(Self::Version(version)) => version.as_u64().max(2),
        }
    }

    fn holds(self, version: Option<Lsn>) -> bool {
        match self {
            Self::Absent => version.is_none(),
            Self::Version(expected) => version == Some(expected),
        }
    }
}

impl Op {
    /// Whether the write demands anything.
    pub(crate) fn is_conditional(&self) -> bool {
        self.expect.is_some()
    }

    /// Whether what the write demands holds, by the newest appended state, a row that expired by now being none. Called
    /// under the sequencer lock; reads no file.
    ///
    /// # Errors
    /// `NotFound` if the collection was dropped.
    pub(crate) fn verdict(&self, applier: &Applier<Memory>, now_micros: i64) -> Result<Verdict> {
        let Some(expect) = self.expect else { return Ok(Verdict::Holds) };
        Ok(match self.newest(applier, now_micros)? {
            None => Verdict::Stale,
            Some(newest) if expect.holds(newest.version) => Verdict::Holds,
            Some(newest) => Verdict::Differs(newest),
        })
    }

    /// The newest appended state of the row; `None` if the segments would have to be looked at again.
    fn newest(&self, applier: &Applier<Memory>, now_micros: i64) -> Result<Option<Newest>> {
        let Some(id) = self.id() else { return Ok(None) };
        let is_over = |expires_at: Option<i64>| expires_at.is_some_and(|at| at <= now_micros);
        let leaves_a_row = |ops: &Vec<Self>, n: usize| {
            let write = ops.get(n).filter(|op| op.writes(self.collection, id))?;
            Some(write.is_upsert() && !is_over(write.expires_at))
        };
        if let Some(queued) = applier.newest_queued(self.mark_in_queue(), leaves_a_row) {
            let version = queued.write.then_some(queued.lsn);
            return Ok(Some(Newest { version, settled: queued.frame_last }));
        }
        // Taken after the look at the queue: whatever left it is applied here.
        let current = applier.published().current();
        let collection = current.content().get(self.collection)?;
        if let Some(newest) = newest_in_memory(collection, id, now_micros) {
            return Ok(Some(newest));
        }
        Ok(match &*self.found.lock().unwrap_or_else(PoisonError::into_inner) {
            Found::At { generation, place, version, expires_at } if *generation == collection.generation => {
                let lives = place.as_ref().is_some_and(|(live, row)| live.lives_at(*row, Lsn::MAX.pred()));
                let lives = lives && !is_over(*expires_at);
                Some(Newest { version: version.filter(|_| lives), settled: Lsn::ZERO })
            }
            _ => None,
        })
    }

    fn writes(&self, collection: u32, id: &Id) -> bool {
        self.collection == collection && self.id() == Some(id)
    }

    fn is_upsert(&self) -> bool {
        matches!(self.change, Change::Upsert(_))
    }

    /// The error for a demand that does not hold.
    pub(crate) fn conflict(&self, newest: &Newest) -> Error {
        let id = self.id().map_or_else(String::new, Id::to_string);
        let expected = match self.expect {
            Some(Expect::Version(version)) => format!("version {version}"),
            _ => "no row".to_owned(),
        };
        let found = newest
            .version
            .map_or_else(|| "there is none".to_owned(), |version| format!("it has version {version}"));
        Error::new(ErrorKind::Conflict, "AKI-0216", format!("row {id}: expected {expected}, {found}"))
            .version_found_is(newest.version)
            .help_is("read the row again and decide anew")
    }
}

fn newest_in_memory(collection: &CollectionState, id: &Id, now_micros: i64) -> Option<Newest> {
    let slot = collection.memtables().find_map(|memtable| memtable.newest(id))?;
    let (lsn, hidden_at) = (slot.lsn(), slot.hidden_at());
    Some(match hidden_at == Lsn::MAX {
        true if Expiry::at(now_micros, collection).hides(slot.row()) => {
            Newest { version: None, settled: lsn }
        }
        true => Newest { version: Some(lsn), settled: lsn },
        false => Newest { version: None, settled: hidden_at },
    })
}

/// The newest appended version of a row, visible yet or not, expired or not; `None` if there is no such row. Reads files.
///
/// # Errors
/// `NotFound` if the collection was dropped; `Corrupt` for a damaged block.
pub(crate) fn newest_row(
    applier: &Applier<Memory>,
    collection: u32,
    id: &Id,
) -> Result<Option<(Lsn, Arc<Row>)>> {
    let row_of = |ops: &Vec<Op>, n: usize| {
        let op = ops.get(n).filter(|op| op.writes(collection, id))?;
        Some(match &op.change {
            Change::Upsert(row) => Some(Arc::clone(row)),
            _ => None,
        })
    };
    let queued = || applier.newest_queued(mark_of(collection, id.into()), row_of);
    loop {
        if let Some(queued) = queued() {
            return Ok(queued.write.map(|row| (queued.lsn, row)));
        }
        let current = applier.published().current();
        let state = current.content().get(collection)?;
        let slot = state.memtables().find_map(|memtable| memtable.newest(id));
        if let Some(slot) = slot.filter(|slot| slot.hidden_at() == Lsn::MAX) {
            return Ok(Some((slot.lsn(), Arc::clone(slot.row()))));
        }
        if slot.is_none()
            && let Some((live, row)) = state.find_in_segments(id)?
        {
            return Ok(live.segment.row_at(&state.schema, row, id)?.map(|(lsn, row)| (lsn, Arc::new(row))));
        }
        // A write that came between the looks may have hidden the row in the one place before it was looked at, and
        // put the next version into the other after that. It is in the queue until it is applied whole.
        let now = applier.published().current();
        let newest =
            |state: &CollectionState| newest_in_memory(state, id, i64::MIN).map(|newest| newest.settled);
        if queued().is_none()
            && Arc::ptr_eq(&now, &current)
            && newest(state) == slot.map(|slot| slot.hidden_at())
        {
            return Ok(None);
        }
    }
}
