//! Rows in: the blocking calls, and the receipt of a write that is in the log's order.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

#[cfg(seeded_bugs)]
use akidb_host::seeded_bug;

use super::encode::{self, Encoded};
use super::{Collection, NewRow, as_payload};
use crate::catalog::CollectionState;
use crate::engine::{Engine, Room, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::flush;
use crate::id::Id;
use crate::lsn::Lsn;
use crate::ops::Op;

/// How often a write waits again whose room in the log others took.
const FULL_TRIES: u32 = 16;

/// A write that is in the log's order and will happen; [`Receipt::wait`] says when it is durable.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub(super) engine: Arc<Engine>,
    pub(super) ops: Arc<Vec<Op>>,
    pub(super) first: Lsn,
    pub(super) last: Lsn,
    /// The write's span, so that waiting is part of the same tree.
    pub(super) span: tracing::Span,
}

impl Receipt {
    /// LSN of the write's first record.
    #[must_use]
    pub fn first(&self) -> Lsn {
        self.first
    }

    /// LSN of the write's last record.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// Blocks until the write survives a power cut and every read sees it, whatever durability the database was
    /// opened with. Dropping the receipt cancels nothing.
    ///
    /// # Errors
    /// `Poisoned` with fate `Unknown` when the sync failed: the write may or may not be there after a reopen.
    pub fn wait(&self) -> Result<Lsn> {
        let _span = self.span.enter();
        self.writer().sequencer.finish(self.last)?;
        self.applied()
    }

    /// Blocks until the write counts as written: what `upsert` waits for.
    pub(super) fn acknowledged(&self) -> Result<Lsn> {
        let _span = self.span.enter();
        self.writer().sequencer.acknowledge(self.last)?;
        self.applied()
    }

    pub(super) fn writer(&self) -> &Writer {
        self.engine.writer_if_any().expect("a receipt comes from a writer")
    }

    /// What became of the write, which is visible. Refuses when it could not be applied: its file is damaged.
    pub(super) fn applied(&self) -> Result<Lsn> {
        if let Some(failure) = self.ops.iter().find_map(Op::failure) {
            return Err(failure.clone());
        }
        self.wake_if_due();
        Ok(self.last)
    }

    /// Whether a live row was removed or replaced; known once the write is visible.
    pub(super) fn existed(&self) -> bool {
        self.ops.iter().any(Op::existed)
    }

    /// Lets the driver look when a memtable this write went to, or the log, is due.
    fn wake_if_due(&self) {
        let current = self.engine.current();
        let (catalog, limits) = (current.content(), &self.engine.limits);
        let state = self.ops.first().and_then(|op| catalog.collections.get(&op.collection()));
        if state
            .is_some_and(|state| state.active.bytes() >= limits.memtable_bytes || !state.sealed.is_empty())
            || catalog.memtable_bytes() >= limits.memtables_bytes
            || self.engine.live_wal_bytes() >= limits.wal_flush_bytes
        {
            self.engine.wake_driver();
        }
    }
}

impl Collection {
    /// Writes a row, replacing the one with its id. Blocks until the row survives a power cut and every read sees
    /// it; returns its LSN. `payload` is a JSON object or null. (In a database opened with
    /// [`crate::Durability::Memory`] it blocks until every read sees the row, here and in the calls below.)
    ///
    /// # Errors
    /// `Invalid` for a wrong dimension, a number that is not finite, a zero vector under cosine, a wrong type or an
    /// id or payload over its limit; `Full` or `NoSpace` after the stall timeout: in all of these nothing was
    /// written. `Poisoned` with fate `Unknown`.
    pub fn upsert(&self, id: impl Into<Id>, vector: &[f32], payload: impl Into<Value>) -> Result<Lsn> {
        let (id, payload) = (id.into(), as_payload(payload.into())?);
        #[cfg(seeded_bugs)]
        if seeded_bug("ack_before_append") {
            return self.submit(&[NewRow { id, vector: vector.to_vec(), payload }])?.wait();
        }
        self.write(true, 1, |state| encode::one_row(state, &id, vector, &payload))?.acknowledged()
    }

    /// As [`Collection::upsert`], without ever waiting at a bound or for the log's next file.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; `Full` at once.
    pub fn try_upsert(&self, id: impl Into<Id>, vector: &[f32], payload: impl Into<Value>) -> Result<Lsn> {
        let (id, payload) = (id.into(), as_payload(payload.into())?);
        self.write(false, 1, |state| encode::one_row(state, &id, vector, &payload))?.acknowledged()
    }

    /// Writes rows as one: all are visible together or none is, after a crash too. The same id twice: the last
    /// wins. Returns the last LSN; at most 64 MiB.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; the message names the row. `Invalid` for an empty batch.
    pub fn upsert_batch(&self, rows: &[NewRow]) -> Result<Lsn> {
        self.submit(rows)?.acknowledged()
    }

    /// Puts rows into the log's order and returns without waiting for the disk. From here on the write will happen
    /// (unless the machine stops first); the receipt says when it is durable.
    ///
    /// # Errors
    /// As [`Collection::upsert_batch`], but for `Poisoned`, which the receipt tells.
    pub fn submit(&self, rows: &[NewRow]) -> Result<Receipt> {
        #[cfg(seeded_bugs)]
        if let [row] = rows
            && seeded_bug("ack_before_append")
        {
            return self.acknowledge_first(row);
        }
        self.write(true, rows.len(), |state| encode::rows(state, rows))
    }

    /// Removes the row with this id. Blocks as [`Collection::upsert`] does. `true` if there was one.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub fn delete(&self, id: impl Into<Id>) -> Result<bool> {
        let id = id.into();
        let receipt = self.write(true, 1, |state| encode::delete(state, id))?;
        receipt.acknowledged()?;
        Ok(receipt.existed())
    }

    pub(super) fn write(
        &self,
        may_wait: bool,
        rows: usize,
        encode: impl FnOnce(&CollectionState) -> Result<Encoded>,
    ) -> Result<Receipt> {
        let (state, span) = self.begin(rows)?;
        let _entered = span.clone().entered();
        let encoded = encode(&state)?;
        self.append(&state, &encoded, may_wait, span)
    }

    /// The collection's state and the span of a write to it.
    pub(super) fn begin(&self, rows: usize) -> Result<(Arc<CollectionState>, tracing::Span)> {
        self.handle.engine.writer()?;
        if self.moment.is_some() {
            return Err(Error::invalid("AKI-0267", "a snapshot is read only")
                .help_is("write to the collection of the open database"));
        }
        let (_, state) = self.view()?;
        let span = tracing::info_span!("write", collection = %state.name, rows);
        Ok((state, span))
    }

    /// Puts a checked write into the log's order; may read segments, and wait at a bound where it `may_wait`.
    pub(super) fn append(
        &self,
        state: &CollectionState,
        encoded: &Encoded,
        may_wait: bool,
        span: tracing::Span,
    ) -> Result<Receipt> {
        let engine = &self.handle.engine;
        let sequencer = &engine.writer()?.sequencer;
        state.check_damage()?;
        // What the write hides is looked up now, before anything is logged: if that cannot be read, nothing is.
        for op in encoded.ops.iter() {
            op.prepare(state)?;
        }
        let open = || still_open(engine);
        let mut tries = 0;
        let (first, last) = loop {
            self.wait_for_room(engine, encoded.log_bytes(), may_wait)?;
            if !may_wait {
                let range =
                    encoded.with_records(|records| sequencer.submit_nowait(records, &encoded.ops, open))?;
                sequencer.drain();
                break range.ok_or_else(no_log_file)?;
            }
            match encoded.with_records(|records| sequencer.submit(records, &encoded.ops, open)) {
                Ok(range) => break range,
                // Others took the last of the log: wait again.
                Err(error) if is_log_full(&error) && tries < FULL_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        };
        Ok(self.receipt(encoded, first, last, span))
    }

    pub(super) fn receipt(&self, encoded: &Encoded, first: Lsn, last: Lsn, span: tracing::Span) -> Receipt {
        let engine = Arc::clone(&self.handle.engine);
        Receipt { engine, ops: Arc::clone(&encoded.ops), first, last, span }
    }

    fn wait_for_room(&self, engine: &Engine, bytes: u64, may_wait: bool) -> Result<()> {
        match engine.room(self.id, bytes) {
            Room::Yes => return Ok(()),
            Room::SealFirst => {
                flush::seal_if_full(engine, engine.writer()?, self.id);
                if engine.stall(self.id, bytes).is_none() {
                    return Ok(());
                }
            }
            Room::Stalled => {}
        }
        engine.wake_driver();
        let timeout = if may_wait { engine.limits.write_stall_timeout } else { Duration::ZERO };
        engine.stalls.wait(timeout, || engine.stall(self.id, bytes))
    }
}

/// Under the sequencer lock: nothing is appended once the database is closed.
pub(super) fn still_open(engine: &Engine) -> Result<()> {
    if engine.is_closed() { engine.view().map(drop) } else { Ok(()) }
}

fn is_log_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Full { which: "wal_max_bytes", .. })
}

fn no_log_file() -> Error {
    let kind = ErrorKind::Full { which: "log_file", retry_after: Duration::from_millis(10) };
    Error::new(kind, "AKI-0249", "the next log file is not ready yet, and this call does not wait")
}
