//! The async twin of writes and searches. It needs no runtime, and its futures never block the thread that polls them.

use std::sync::Arc;

use serde_json::Value;
use tracing::Instrument;

use super::encode::{self, Encoded};
use super::write::{self, Differing};
use super::{Collection, Hit, NewRow, Receipt, Search, as_payload};
use crate::catalog::CollectionState;
use crate::engine::{Engine, Room, upserts};
use crate::error::Result;
use crate::id::Id;
use crate::lsn::Lsn;
use crate::write::Placed;

/// Bytes of vectors and payloads up to which a batch is checked and copied on the caller's thread: about 0.1 ms of work where they
/// are vectors. More would keep the caller's other tasks waiting for longer than a hop to a worker does.
const INLINE_BYTES: usize = 256 << 10;

impl Collection {
    /// As [`Collection::upsert`], awaited. Cancel safety: dropped before the first poll, nothing happens; dropped
    /// later, the write may happen and nobody is told. Either way no other write waits for it.
    ///
    /// The row is checked, copied and appended on the caller's thread where that waits for nothing and reads no file;
    /// else on a thread of the database.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; `Full` when 4,096 async calls wait for a thread already.
    pub async fn upsert_async(
        &self,
        id: impl Into<Id>,
        vector: &[f32],
        payload: impl Into<Value>,
    ) -> Result<Lsn> {
        let (id, payload) = (id.into(), as_payload(payload.into())?);
        let row = encode::RowRef::of(&id, vector, &payload);
        let (state, span) = self.begin(1)?;
        let encoded = span.in_scope(|| encode::one_row(&state, row, None))?;
        drop(state);
        self.append_async(encoded, span).await?.acknowledged_async().await
    }

    /// As [`Collection::upsert_batch`], awaited; cancel safety as [`Collection::upsert_async`].
    ///
    /// # Errors
    /// As [`Collection::upsert_async`].
    pub async fn upsert_batch_async(&self, rows: Vec<NewRow>) -> Result<Lsn> {
        let bytes: usize = rows.iter().map(encode::row_bytes).sum();
        let receipt = if bytes <= INLINE_BYTES {
            let (state, span) = self.begin(rows.len())?;
            let encoded = span.in_scope(|| encode::rows(&state, &rows, self.now_micros()))?;
            drop(state);
            self.append_async(encoded, span).await?
        } else {
            let engine = &self.handle.engine;
            engine.await_turn(std::iter::once((self.id, bytes as u64))).await;
            engine.await_queue(bytes as u64, engine.patience_ends()).await?;
            let collection = self.clone();
            let write = move || {
                let now_micros = collection.now_micros();
                collection.write_for_others(rows.len(), |state| encode::rows(state, &rows, now_micros))
            };
            self.handle.engine.workers.run(write).await??
        };
        receipt.acknowledged_async().await
    }

    /// As [`Collection::delete`], awaited; cancel safety as [`Collection::upsert_async`].
    ///
    /// # Errors
    /// As [`Collection::upsert_async`].
    pub async fn delete_async(&self, id: impl Into<Id>) -> Result<bool> {
        let id = id.into();
        let (state, span) = self.begin(1)?;
        let encoded = span.in_scope(|| encode::delete(&state, id, None))?;
        drop(state);
        let receipt = self.append_async(encoded, span).await?;
        receipt.acknowledged_async().await?;
        Ok(receipt.existed())
    }

    /// Puts a checked write into the log's order, here if that waits for no disk, else on a worker. Where its rows lie is looked
    /// up after the wait for its turn, which ends with a flush as a rule: what lay in memory before may lie in a segment now.
    async fn append_async(&self, encoded: Encoded, span: tracing::Span) -> Result<Receipt> {
        let engine = &self.handle.engine;
        write::check_size(engine, &encoded)?;
        engine.await_turn(upserts(&encoded.ops)).await;
        let due = engine.patience_ends();
        engine.await_queue(encoded.log_bytes(), due).await?;
        let (_, state) = self.view()?;
        while self.may_append_here(&state, &encoded)? {
            let sequencer = &engine.writer()?.sequencer;
            let check = || write::check(engine, &encoded, &Differing::default());
            let placed = span.in_scope(|| {
                encoded.with_records(|records| sequencer.submit_nowait(records, &encoded.ops, check))
            })?;
            match placed {
                Placed::At(first, last) => {
                    show_or_let_show(engine);
                    return Ok(write::receipt(engine, &encoded, first, last, span));
                }
                Placed::NoRoom => {
                    sequencer.log().when_room(&encoded.records()).instrument(span.clone()).await?;
                }
                Placed::Earlier(first, last) => {
                    return Ok(write::repeat(engine, &encoded, (first, last), span));
                }
                Placed::Stale => break,
            }
        }
        // Others may have come first; a worker waits for the disk, not for them.
        engine.await_queue(encoded.log_bytes(), due).await?;
        // A flush may have moved its rows meanwhile.
        let (_, state) = self.view()?;
        let writing = Arc::clone(engine);
        let work = move || span.clone().in_scope(|| write::append(&writing, &[state], &encoded, true, span));
        engine.workers.run(work).await?
    }

    /// Whether the append needs neither a look into a segment, which reads its file (from the page cache as a rule, but
    /// the first look at a block comes from the disk), nor a wait at a bound, nor a seal.
    fn may_append_here(&self, state: &CollectionState, encoded: &Encoded) -> Result<bool> {
        state.check_takes_writes()?;
        let known = encoded.ops.iter().all(|op| op.prepare_in_memory(state));
        Ok(known && self.handle.engine.room(self.id, encoded.log_bytes()) == Room::Yes)
    }
}

/// Shows what may be shown, after an append: the sync that covered it may have come before it was queued. Where that
/// reads files a worker does it, whoever waits for it; if it is not to be had, this thread: no frame is left behind.
fn show_or_let_show(engine: &Arc<Engine>) {
    let Some(writer) = engine.writer_if_any() else { return };
    if writer.sequencer.drain_ready() {
        engine.stalls.notify_at_queue();
        return;
    }
    let draining = Arc::clone(engine);
    if engine.workers.start(Box::new(move || drain(&draining))).is_err() {
        drain(engine);
    }
}

fn drain(engine: &Engine) {
    if let Some(writer) = engine.writer_if_any() {
        writer.sequencer.drain();
        engine.stalls.notify_at_queue();
    }
}

impl Receipt {
    /// As [`Receipt::wait`], awaited. Dropping the future cancels only the waiting.
    ///
    /// # Errors
    /// As [`Receipt::wait`].
    pub async fn synced(&self) -> Result<Lsn> {
        let span = tracing::debug_span!(parent: &self.span, "sync", lsn = %self.last);
        self.writer().sequencer.log().when_synced(self.last).instrument(span).await?;
        self.show().await
    }

    /// As [`Receipt::acknowledged`], awaited.
    pub(crate) async fn acknowledged_async(&self) -> Result<Lsn> {
        if self.writer().sequencer.log().shows_unsynced() { self.show().await } else { self.synced().await }
    }

    /// Shows the write, which may be shown; reads no file on this thread.
    async fn show(&self) -> Result<Lsn> {
        if !self.writer().sequencer.drain_ready() {
            let engine = Arc::clone(&self.engine);
            if self.engine.workers.run(move || drain(&engine)).await.is_err() {
                drain(&self.engine);
            }
        }
        self.writer().sequencer.assert_shown(self.last);
        self.applied()
    }
}

impl Search<'_> {
    /// As [`Search::run`], awaited, on a thread of the database. Dropping the future ends the search: one under way
    /// stops before its next list of codes, or its next 24 MiB of vectors.
    ///
    /// # Errors
    /// As [`Search::run`]; `Full` when 4,096 async calls wait already.
    pub async fn run_async(self) -> Result<Vec<Hit>> {
        let collection = self.collection.clone();
        let mut parts = self.into_parts()?;
        let _give_up = parts.query.give_up_with();
        let engine = Arc::clone(&collection.handle.engine);
        engine.workers.run(move || parts.run(&collection)).await?
    }
}
