//! Rows in: the blocking calls.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

#[cfg(seeded_bugs)]
use akidb_host::seeded_bug;

use super::encode::{self, Encoded};
use super::{Collection, NewRow, Receipt, as_payload};
use crate::catalog::CollectionState;
use crate::engine::{Engine, MEMORY, PENDING_WRITES, Room};
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::flush;
use crate::id::Id;
use crate::idempotency::BatchKey;
use crate::lsn::Lsn;
use crate::ops::{Expect, Newest, Op, Verdict};
use crate::write::{Checked, Placed};

/// A write of so many operations looks its ids up in one pass over those of each segment.
const MANY_OPS: usize = 64;
/// How often a write waits again whose room in the log others took.
const FULL_TRIES: u32 = 16;

impl Collection {
    /// Writes a row, replacing the one with its id. Blocks until the row survives a power cut and every read sees
    /// it; returns its LSN. While flushes are behind, writes are slowed to their pace, this one by as long as its row takes at it,
    /// and by 50 ms more at most. `payload` is a JSON object or null. (In a database opened with
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
            return self.submit(&[NewRow::new(id, vector, payload)?])?.wait();
        }
        let row = encode::RowRef::of(&id, vector, &payload);
        self.write(true, 1, |state| encode::one_row(state, row, None))?.acknowledged()
    }

    /// As [`Collection::upsert`], without ever waiting at a bound or for the log's next file.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; `Full` at once.
    pub fn try_upsert(&self, id: impl Into<Id>, vector: &[f32], payload: impl Into<Value>) -> Result<Lsn> {
        let (id, payload) = (id.into(), as_payload(payload.into())?);
        let row = encode::RowRef::of(&id, vector, &payload);
        self.write(false, 1, |state| encode::one_row(state, row, None))?.acknowledged()
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
        self.write(true, rows.len(), |state| encode::rows(state, rows, self.now_micros()))
    }

    /// Removes the row with this id. Blocks as [`Collection::upsert`] does. `true` if there was one.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub fn delete(&self, id: impl Into<Id>) -> Result<bool> {
        let id = id.into();
        let receipt = self.write(true, 1, |state| encode::delete(state, id, None))?;
        receipt.acknowledged()?;
        Ok(receipt.existed())
    }

    /// As [`Collection::upsert`], if the row is as expected: `Expect::Version(lsn)` replaces the row only while it has
    /// that version (a `get` gives it), `Expect::Absent` only inserts. What counts is the newest write that is in the
    /// log's order, on disk yet or not, so of several writers who read the same version one succeeds.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; `Conflict` (AKI-0216) if the row is not as expected: nothing was written,
    /// [`Error::version_found`] says what there is, and reads see at least that.
    pub fn upsert_if(
        &self,
        id: impl Into<Id>,
        vector: &[f32],
        payload: impl Into<Value>,
        expect: Expect,
    ) -> Result<Lsn> {
        let (id, payload) = (id.into(), as_payload(payload.into())?);
        let row = encode::RowRef::of(&id, vector, &payload);
        self.write(true, 1, |state| encode::one_row(state, row, Some(expect)))?.acknowledged()
    }

    /// As [`Collection::delete`], if the row has this version; returns the LSN of the delete.
    ///
    /// # Errors
    /// As [`Collection::upsert_if`]; `Conflict` too where there is no such row.
    pub fn delete_if(&self, id: impl Into<Id>, version: Lsn) -> Result<Lsn> {
        let id = id.into();
        let expect = Some(Expect::Version(version));
        self.write(true, 1, |state| encode::delete(state, id, expect))?.acknowledged()
    }

    pub(super) fn write(
        &self,
        may_wait: bool,
        rows: usize,
        encode: impl FnOnce(&CollectionState) -> Result<Encoded>,
    ) -> Result<Receipt> {
        self.put(may_wait, may_wait, rows, encode)
    }

    /// The same on a thread that others wait for too: it is held up by bounds, not to keep a pace.
    pub(super) fn write_for_others(
        &self,
        rows: usize,
        encode: impl FnOnce(&CollectionState) -> Result<Encoded>,
    ) -> Result<Receipt> {
        self.put(true, false, rows, encode)
    }

    fn put(
        &self,
        may_wait: bool,
        to_pace: bool,
        rows: usize,
        encode: impl FnOnce(&CollectionState) -> Result<Encoded>,
    ) -> Result<Receipt> {
        let (mut state, span) = self.begin(rows)?;
        let _entered = span.clone().entered();
        let encoded = encode(&state)?;
        if to_pace && self.handle.engine.keep_pace(&encoded.ops) {
            // What lay in memory before may lie in a segment now.
            state = self.view()?.1;
        }
        append(&self.handle.engine, &[state], &encoded, may_wait, span)
    }

    /// The wall clock.
    pub(super) fn now_micros(&self) -> i64 {
        self.handle.engine.place.clock.unix_micros()
    }

    /// Refuses a database that is open for reading only, and a snapshot.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.handle.engine.writer()?;
        if self.moment.is_some() {
            return Err(Error::invalid("AKI-0267", "a snapshot is read only")
                .help_is("write to the collection of the open database"));
        }
        Ok(())
    }

    /// The collection's state and the span of a write to it.
    pub(super) fn begin(&self, rows: usize) -> Result<(Arc<CollectionState>, tracing::Span)> {
        self.check_writable()?;
        let (_, state) = self.view()?;
        let span = tracing::info_span!("write", collection = %state.name, rows);
        Ok((state, span))
    }
}

/// What demands of a write did not hold: the place of the operation, and what there is instead.
pub(super) type Differing = RefCell<Vec<(usize, Newest)>>;

/// Puts a checked write into the log's order; may read segments, and wait at a bound where it `may_wait`. `states` are
/// the collections it goes to, by number.
pub(super) fn append(
    engine: &Arc<Engine>,
    states: &[Arc<CollectionState>],
    encoded: &Encoded,
    may_wait: bool,
    span: tracing::Span,
) -> Result<Receipt> {
    let differing = Differing::default();
    let receipt = append_unless(engine, states, encoded, may_wait, span, &differing);
    if let Some((_, newest)) = differing.into_inner().first() {
        // Whoever reads the row now sees what the demand failed on. If that cannot be shown, the error says enough.
        let _ = engine.writer()?.sequencer.acknowledge(newest.settled);
    }
    receipt
}

/// As [`append`], and notes which demands did not hold, all of them; what they failed on may not be visible yet.
pub(super) fn append_unless(
    engine: &Arc<Engine>,
    states: &[Arc<CollectionState>],
    encoded: &Encoded,
    may_wait: bool,
    span: tracing::Span,
    differing: &Differing,
) -> Result<Receipt> {
    let sequencer = &engine.writer()?.sequencer;
    if let Some(key) = encoded.batch_key()
        && let Some(range) = earlier(engine, key)?
    {
        return Ok(repeat(engine, encoded, range, span));
    }
    check_size(engine, encoded)?;
    // What the write hides is looked up now, before anything is logged: if that cannot be read, nothing is.
    prepare(states, encoded)?;
    let check = || check(engine, encoded, differing);
    // For all that it waits for room, at whichever bounds and however often.
    let mut patience = if may_wait { engine.limits.write_stall_timeout } else { Duration::ZERO };
    let mut tries = 0;
    let (first, last) = loop {
        let mut waited = false;
        for state in states {
            waited |= wait_for_room(engine, state.id, encoded.log_bytes(), &mut patience)?;
        }
        if waited {
            prepare_again(engine, encoded)?;
        }
        let submitted = encoded.with_records(|records| match may_wait {
            true => sequencer.submit(records, &encoded.ops, check),
            false => {
                let placed = sequencer.submit_nowait(records, &encoded.ops, check)?;
                sequencer.drain();
                Ok(placed)
            }
        });
        match submitted {
            Ok(Placed::At(first, last)) => break (first, last),
            Ok(Placed::Earlier(first, last)) => return Ok(repeat(engine, encoded, (first, last), span)),
            Ok(Placed::NoRoom) => return Err(no_log_file()),
            Ok(Placed::Stale) => prepare_again(engine, encoded)?,
            // Others took the last of the log: wait again.
            Err(error) if may_wait && is_log_full(&error) && tries < FULL_TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    };
    // The append shows what was synced meanwhile, too.
    engine.stalls.notify_at_queue();
    Ok(receipt(engine, encoded, first, last, span))
}

pub(super) fn receipt(
    engine: &Arc<Engine>,
    encoded: &Encoded,
    first: Lsn,
    last: Lsn,
    span: tracing::Span,
) -> Receipt {
    let (engine, ops) = (Arc::clone(engine), Arc::clone(&encoded.ops));
    let appended_micros = engine.place.clock.unix_micros();
    Receipt { engine, ops, first, last, is_repeat: false, appended_micros, span }
}

/// The receipt of a batch that was written before, and may not be durable yet.
pub(super) fn repeat(
    engine: &Arc<Engine>,
    encoded: &Encoded,
    (first, last): (Lsn, Lsn),
    span: tracing::Span,
) -> Receipt {
    Receipt { is_repeat: true, ..receipt(engine, encoded, first, last, span) }
}

/// A look at the keys before anything is looked up or waited for, also where no other write is taken: the batch may be the one
/// that could not be applied. The look under the sequencer lock decides.
fn earlier(engine: &Engine, key: &BatchKey) -> Result<Option<(Lsn, Lsn)>> {
    engine.writer()?.sequencer.applier().target().keys.earlier(key)
}

fn prepare(states: &[Arc<CollectionState>], encoded: &Encoded) -> Result<()> {
    states.iter().try_for_each(|state| state.check_takes_writes())?;
    if encoded.ops.len() >= MANY_OPS {
        for state in states {
            Op::prepare_each(encoded.ops.iter().filter(|op| op.collection() == state.id), state);
        }
    }
    encoded.ops.iter().try_for_each(|op| {
        let at = states.binary_search_by_key(&op.collection(), |state| state.id);
        let state = &states[at.expect("a write names the collections it goes to")];
        if op.is_prepared(state) { Ok(()) } else { op.prepare(state) }
    })
}

/// Looks again: segments changed since.
fn prepare_again(engine: &Engine, encoded: &Encoded) -> Result<()> {
    let current = engine.current();
    encoded.ops.iter().try_for_each(|op| {
        let state = current.content().get(op.collection())?;
        if op.is_prepared(state) { Ok(()) } else { op.prepare(state) }
    })
}

/// Under the sequencer lock: nothing is appended once the database is closed, nor a second time under its key, nor where a
/// row is not as demanded.
pub(super) fn check(engine: &Engine, encoded: &Encoded, differing: &Differing) -> Result<Checked> {
    if engine.is_closed() {
        engine.view()?;
    }
    let batch_key = encoded.batch_key();
    if batch_key.is_none() && !encoded.is_conditional {
        return Ok(Checked::Holds);
    }
    let applier = engine.writer()?.sequencer.applier();
    // First: what the batch demanded need not hold any more once it was written.
    if let Some(key) = batch_key
        && let Some((first, last)) = applier.target().keys.earlier(key)?
    {
        return Ok(Checked::Earlier(first, last));
    }
    let mut differing = differing.borrow_mut();
    differing.clear();
    let now_micros = engine.place.clock.unix_micros();
    for (n, op) in encoded.ops.iter().enumerate() {
        match op.verdict(applier, now_micros)? {
            Verdict::Holds => {}
            Verdict::Stale => return Ok(Checked::Stale),
            Verdict::Differs(newest) => differing.push((n, newest)),
        }
    }
    match differing.first() {
        None => Ok(Checked::Holds),
        Some((n, newest)) => Err(encoded.ops[*n].conflict(newest)),
    }
}

/// Refuses what finds no room even where there is nothing else: who waited for it would wait in vain.
pub(super) fn check_size(engine: &Engine, encoded: &Encoded) -> Result<()> {
    let (bytes, most) = (encoded.log_bytes(), engine.limits.largest_logged_write());
    if bytes > most {
        let limit = engine.limits.wal_max_bytes;
        let message = format!(
            "a write of {bytes} bytes, and the log takes {most} of the {limit} of engine.wal_max_bytes"
        );
        return Err(Error::invalid("AKI-0215", message)
            .fate_is(Fate::NotWritten)
            .help_is("write it in parts, or raise engine.wal_max_bytes"));
    }
    let most = engine.place.memory.largest_write();
    if bytes <= most {
        return Ok(());
    }
    let limit = engine.place.memory.budget().limit_bytes();
    let message =
        format!("a write of {bytes} bytes, and writes may take {most} of the {limit} of all memory");
    Err(Error::invalid("AKI-0288", message)
        .fate_is(Fate::NotWritten)
        .help_is("write it in parts, or raise engine.memory_bytes"))
}

/// Whether it waited.
fn wait_for_room(engine: &Engine, collection: u32, bytes: u64, patience: &mut Duration) -> Result<bool> {
    match engine.room(collection, bytes) {
        Room::Yes => return Ok(false),
        Room::SealFirst => {
            flush::seal_if_full(engine, engine.writer()?, collection);
            if engine.stall(collection, bytes).is_none() {
                return Ok(false);
            }
        }
        Room::Stalled => {}
    }
    engine.wake_driver();
    let (memory, since) = (&engine.place.memory, engine.place.clock.now());
    let lacks_memory = memory.holds_back(bytes);
    let (log, hurried) = (engine.writer()?.sequencer.log(), RefCell::new(None));
    let waited = engine.stalls.wait(patience, || {
        let stall = engine.stall(collection, bytes)?;
        match stall.which {
            MEMORY => memory.want(bytes),
            PENDING_WRITES => {
                engine.stalls.note_at_queue();
                hurried.replace(Some(log.hurry()));
                return engine.stall(collection, bytes);
            }
            _ => {}
        }
        Some(stall)
    });
    if lacks_memory {
        memory.note_waited(engine.place.clock.now().saturating_duration_since(since));
    }
    waited.map(|()| true)
}

fn is_log_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Full { which: "wal_max_bytes", .. })
}

fn no_log_file() -> Error {
    let kind = ErrorKind::Full { which: "log_file", retry_after: Duration::from_millis(10) };
    Error::new(kind, "AKI-0249", "the next log file is not ready yet, and this call does not wait")
}
