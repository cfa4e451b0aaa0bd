//! The log's tail into memtables, within the memory of a running database.

use std::sync::Arc;

use akidb_host::Spawn;
use akidb_wal::Record;

use super::RecoveryReport;
use super::ahead::{Ahead, Batches, Decoded};
use super::tail::Tail;
use crate::apply::Applier;
use crate::engine::Engine;
use crate::error::Result;
use crate::flush;
use crate::limits::Limits;
use crate::log::from_wal;
use crate::lsn::Lsn;
use crate::ops::{Memory, Op};

/// Bytes of records between two looks at the memory they took.
const LOOK_EVERY_BYTES: usize = 16 << 10;

/// A log of fewer batches is not worth a thread.
const ALONE_BATCHES: u64 = 8;

/// Keeps a replay within the memory of a running database. A full memtable is only sealed: the driver flushes it behind
/// the open. Above the bound of all memtables it is flushed here and now.
pub(super) fn give_memory_back(engine: &Engine, applier: &Applier<Memory>, limits: &Limits) -> Result<()> {
    loop {
        let current = applier.published().current();
        let catalog = current.content();
        let healthy = || catalog.collections.values().filter(|state| state.damage.get().is_none());
        if let Some(full) =
            healthy().find(|s| s.active.bytes() >= limits.memtable_bytes || s.active.is_full())
        {
            flush::seal(engine.writer()?, full.id);
            continue;
        }
        if catalog.memtable_bytes() < limits.memtables_bytes {
            return Ok(());
        }
        let sealed = healthy().find(|state| !state.sealed.is_empty());
        let largest = || healthy().filter(|s| s.active.bytes() > 0).max_by_key(|s| s.active.bytes());
        let Some(due) = sealed.or_else(largest).map(|state| state.id) else { return Ok(()) };
        if sealed.is_none() {
            flush::seal(engine.writer()?, due);
        }
        flush::flush_oldest(engine, due)?;
    }
}

/// Applies the log's frames above what is flushed, one at a time and in order, so that memory can be given back
/// in between. A long log is decoded on a thread of `spawn` as well.
pub(super) fn replay(
    applier: &Applier<Memory>,
    tail: Tail,
    spawn: &dyn Spawn,
    report: &mut RecoveryReport,
    mut after: impl FnMut() -> Result<()>,
) -> Result<()> {
    let tail = Arc::new(tail);
    let mut frame = Vec::new();
    let mut first = None;
    let mut range: Option<(Lsn, Lsn)> = None;
    let mut bytes = 0;
    let mut decoder = Decoder::new(&tail, spawn);
    for item in tail.records.iter() {
        let item = item.map_err(|error| from_wal(&error))?;
        decoder.come_to(&item);
        if item.lsn < tail.floor {
            report.skipped_records += 1;
            continue;
        }
        let op = decoder.op(&item)?;
        if op.is_nothing() {
            report.skipped_records += 1;
        } else {
            report.replayed_records += 1;
            range = Some((range.map_or(item.lsn, |(from, _)| from), item.lsn));
        }
        first.get_or_insert(item.lsn);
        frame.push(op);
        bytes += item.bytes.len();
        if item.lsn == item.frame_last {
            let frame_first = first.take().expect("set above");
            applier.apply_now(&frame, frame_first, item.frame_last);
            frame.clear();
            if bytes >= LOOK_EVERY_BYTES {
                bytes = 0;
                after()?;
            }
        }
    }
    assert!(frame.is_empty(), "the log handed out half a frame");
    report.replayed = range.map(|(from, to)| [from.to_string(), to.to_string()]);
    Ok(())
}

/// Decodes records in their order, or takes what was decoded ahead.
struct Decoder<'a> {
    tail: &'a Arc<Tail>,
    spawn: &'a dyn Spawn,
    batches: Batches,
    batch: Option<u64>,
    ahead: Option<Ahead>,
    ready: Option<Decoded>,
}

impl<'a> Decoder<'a> {
    fn new(tail: &'a Arc<Tail>, spawn: &'a dyn Spawn) -> Self {
        Self { tail, spawn, batches: Batches::default(), batch: None, ahead: None, ready: None }
    }

    /// Of every record, in order.
    fn come_to(&mut self, item: &Record<'_>) {
        let number = self.batches.of(item);
        if self.batch == Some(number) {
            return;
        }
        self.batch = Some(number);
        if number == ALONE_BATCHES {
            self.ahead = Some(Ahead::start(self.tail, number + 1, self.spawn));
        }
        self.ready = self.ahead.as_ref().and_then(|ahead| ahead.take(number));
    }

    fn op(&mut self, item: &Record<'_>) -> Result<Op> {
        let ready = self.ready.as_mut().and_then(Iterator::next);
        ready.unwrap_or_else(|| self.tail.op(item))
    }
}
