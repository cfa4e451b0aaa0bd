//! The log's tail into memtables, within the memory of a running database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use akidb_wal::{Record, Records, RecordsIter};

use super::RecoveryReport;
use super::decode::{Frame, Piece, Schemas};
use super::line::{Apply, Line};
use crate::apply::Applier;
use crate::catalog::CollectionState;
use crate::engine::{Engine, Place};
use crate::error::Result;
use crate::flush;
use crate::log::from_wal;
use crate::lsn::Lsn;
use crate::ops::{Memory, Op};

/// Bytes of records between two looks at the memory they took.
const LOOK_EVERY_BYTES: usize = 16 << 10;
/// Bytes of records that are decoded, and whose ids are looked up, together.
const PIECE_BYTES: usize = 2 << 20;
/// Below so many bytes of frames a thread costs more than it saves.
const WORTH_A_THREAD_BYTES: u64 = 4 << 20;

/// Gives memory back during a replay.
pub(super) struct Relief {
    engine: Arc<Engine>,
    /// Collections whose flush failed: their rows stay in memory, as they did before the crash, and the driver tries again behind
    /// the open.
    failing: BTreeSet<u32>,
}

impl Relief {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, failing: BTreeSet::new() }
    }

    /// Keeps a replay within the memory of a running database. A full memtable is only sealed: the driver flushes it behind
    /// the open; no more of them than the running database had, so a young collection's are as large as any. Where all
    /// memtables take what writers may, one is flushed here and now.
    ///
    /// # Errors
    /// `Poisoned`: a flush cannot tell what is on disk. No other failure of one: the log holds its rows.
    pub(super) fn give(&mut self) -> Result<()> {
        let engine = &*self.engine;
        loop {
            let current = engine.applier().published().current();
            let catalog = current.content();
            let healthy = || catalog.collections.values().filter(|state| state.damage.get().is_none());
            let is_full = |state: &&Arc<CollectionState>| {
                state.active.bytes() >= engine.limits.memtable_bytes || state.active.is_full()
            };
            if let Some(full) = healthy().find(is_full) {
                flush::seal(engine.writer()?, full.id);
                continue;
            }
            let memory = &engine.place.memory;
            memory.note_flushes(catalog.held_memtable_bytes(&self.failing), !self.failing.is_empty());
            if !memory.is_full() {
                // Where another database holds more, that one flushes.
                memory.call_first();
                return Ok(());
            }
            let able = || healthy().filter(|state| !self.failing.contains(&state.id));
            let sealed = able().find(|state| !state.sealed.is_empty());
            let largest = || able().filter(|s| s.active.bytes() > 0).max_by_key(|s| s.active.bytes());
            let Some(due) = sealed.or_else(largest).map(|state| state.id) else { return Ok(()) };
            if sealed.is_none() {
                flush::seal(engine.writer()?, due);
            }
            match flush::flush_oldest(engine, due) {
                Ok(_) => {}
                Err(error) if is_poisoned(engine) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a flush failed while the log was replayed; its rows stay in memory");
                    self.failing.insert(due);
                }
            }
        }
    }
}

/// Whether nothing can be written any more until a reopen tells what is on disk.
fn is_poisoned(engine: &Engine) -> bool {
    engine
        .writer_if_any()
        .is_some_and(|writer| writer.committer.poisoned().is_some() || writer.sequencer.log().is_poisoned())
}

/// Decodes the log's frames above what is flushed and has them applied in order, piece by piece.
pub(super) fn replay(
    records: &Records,
    floor: Lsn,
    schemas: &Schemas,
    report: &mut RecoveryReport,
    apply: Apply,
    place: &Place,
) -> Result<()> {
    let line = Line::new(records.frame_bytes() >= WORTH_A_THREAD_BYTES, apply, &*place.spawn);
    let mut range: Option<(Lsn, Lsn)> = None;
    let mut records = records.iter();
    loop {
        let taken = take(&mut records)?;
        if taken.is_empty() {
            break;
        }
        let piece = Piece::decode(&taken, floor, schemas, &place.memory)?;
        report.skipped_records += piece.skipped;
        report.replayed_records += piece.replayed;
        if let Some((from, to)) = piece.range {
            range = Some((range.map_or(from, |(from, _)| from), to));
        }
        line.push(piece)?;
    }
    line.finish()?;
    report.replayed = range.map(|(from, to)| [from.to_string(), to.to_string()]);
    Ok(())
}

/// The records of the next whole frames, about a piece of them; none at the end.
fn take<'a>(from: &mut RecordsIter<'a>) -> Result<Vec<Record<'a>>> {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for record in from {
        let record = record.map_err(|error| from_wal(&error))?;
        bytes += record.bytes.len();
        taken.push(record);
        if bytes >= PIECE_BYTES && record.lsn == record.frame_last {
            break;
        }
    }
    Ok(taken)
}

/// Applies the frames of a piece, in order, with a look at the memory after each few of them.
pub(super) fn apply(
    piece: &Piece,
    applier: &Applier<Memory>,
    mut after: impl FnMut() -> Result<()>,
) -> Result<()> {
    look_up(piece, applier);
    let mut left = &piece.frames[..];
    while !left.is_empty() {
        let (few, rest) = left.split_at(frames_until_a_look(left));
        applier.apply_now(few.iter().map(|frame| (&frame.ops, frame.first, frame.last)));
        after()?;
        left = rest;
    }
    Ok(())
}

/// How many frames come before the next look at the memory: at least one.
fn frames_until_a_look(frames: &[Frame]) -> usize {
    let mut bytes = 0;
    let enough = frames.iter().position(|frame| {
        bytes += frame.bytes;
        bytes >= LOOK_EVERY_BYTES
    });
    enough.map_or(frames.len(), |last| last + 1)
}

/// Looks the ids up in the segments, all at once. What a flush makes stale in between is looked up again when its turn
/// comes.
fn look_up(piece: &Piece, applier: &Applier<Memory>) {
    let current = applier.published().current();
    let mut by_collection: BTreeMap<u32, Vec<&Op>> = BTreeMap::new();
    for op in piece.frames.iter().flat_map(|frame| &frame.ops).filter(|op| !op.is_nothing()) {
        by_collection.entry(op.collection()).or_default().push(op);
    }
    for (id, ops) in by_collection {
        if let Some(collection) = current.content().collections.get(&id) {
            Op::prepare_each(ops.into_iter(), collection);
        }
    }
}
