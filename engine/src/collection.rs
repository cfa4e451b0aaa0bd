//! The handle of a collection: rows in, rows out.

use std::sync::Arc;

use serde_json::Value;

use crate::catalog::{Catalog, CollectionState};
use crate::engine::Engine;
use crate::error::{Error, Fate, Result};
use crate::filter::Filter;
use crate::flush;
use crate::handle::Handle;
use crate::id::Id;
use crate::lsn::Lsn;
use crate::ops::{Change, Op};
use crate::read;
use crate::record::{self, Record};
use crate::row::{self, Payload, Row};
use crate::schema::{IdKind, Schema};
use crate::version::View;

mod later;
mod query;
#[cfg(seeded_bug = "ack_before_append")]
mod seeded;

pub use query::{Hit, Scan, Search};

/// Most bytes of one batch as logged.
pub const MAX_BATCH_BYTES: usize = 64 << 20;

/// A collection of an open database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Collection {
    handle: Arc<Handle>,
    id: u32,
}

/// A row to write.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRow {
    /// Id: text of 1 to 512 bytes, or an integer where the schema says so.
    pub id: Id,
    /// As many finite numbers as the schema's dimension.
    pub vector: Vec<f32>,
    /// Declared fields and anything else.
    pub payload: Payload,
}

impl NewRow {
    /// A row of these parts. `payload` is a JSON object or null.
    pub fn new(id: impl Into<Id>, vector: impl Into<Vec<f32>>, payload: impl Into<Value>) -> Result<Self> {
        Ok(Self { id: id.into(), vector: vector.into(), payload: as_payload(payload.into())? })
    }
}

/// A row as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRow {
    /// Id.
    pub id: Id,
    /// Its version: the LSN of the write that made it.
    pub lsn: Lsn,
    /// The vector as it was given.
    pub vector: Vec<f32>,
    /// Declared fields and the rest.
    pub payload: Payload,
}

/// A write that is in the log's order and will happen; [`Receipt::wait`] says when it is durable.
#[derive(Clone, Debug)]
pub struct Receipt {
    engine: Arc<Engine>,
    ops: Arc<Vec<Op>>,
    first: Lsn,
    last: Lsn,
    /// The write's span, so that waiting is part of the same tree.
    span: tracing::Span,
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

    /// Blocks until the write survives a power cut and every read sees it. Dropping the receipt cancels nothing.
    ///
    /// # Errors
    /// `Poisoned` with fate `Unknown` when the sync failed: the write may or may not be there after a reopen.
    pub fn wait(&self) -> Result<Lsn> {
        let Some(writer) = self.engine.writer_if_any() else { unreachable!("a receipt comes from a writer") };
        let _span = self.span.enter();
        writer.sequencer.finish(self.last)?;
        self.check_applied()?;
        self.wake_if_due();
        Ok(self.last)
    }

    /// Refuses when the write is durable but could not be applied: its file is damaged.
    fn check_applied(&self) -> Result<()> {
        self.ops.iter().find_map(Op::failure).map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Whether a live row was removed or replaced; known once the write is visible.
    fn existed(&self) -> bool {
        self.ops.iter().any(Op::existed)
    }

    /// Lets the driver look when a memtable this write went to, or the log, is due.
    fn wake_if_due(&self) {
        let Ok(view) = self.engine.view() else { return };
        let (catalog, limits) = (view.content(), &self.engine.limits);
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
    pub(crate) fn new(handle: Arc<Handle>, id: u32) -> Self {
        Self { handle, id }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    fn view(&self) -> Result<(View<Catalog>, Arc<CollectionState>)> {
        let view = self.handle.engine.view()?;
        let state = Arc::clone(view.content().get(self.id)?);
        Ok((view, state))
    }

    /// As `view`, for reads: an acknowledged write that could not be applied makes them an error, not an old answer.
    fn readable(&self) -> Result<(View<Catalog>, Arc<CollectionState>)> {
        let (view, state) = self.view()?;
        state.check_damage()?;
        Ok((view, state))
    }

    /// Name.
    ///
    /// # Errors
    /// `NotFound` once dropped; `Closed`.
    pub fn name(&self) -> Result<String> {
        Ok(self.view()?.1.name.to_string())
    }

    /// Schema.
    ///
    /// # Errors
    /// `NotFound` once dropped; `Closed`.
    pub fn schema(&self) -> Result<Schema> {
        Ok(Schema::clone(&self.view()?.1.schema))
    }

    /// Writes a row, replacing the one with its id. Blocks until the row survives a power cut and every read sees
    /// it; returns its LSN. `payload` is a JSON object or null.
    ///
    /// # Errors
    /// `Invalid` for a wrong dimension, a number that is not finite, a zero vector under cosine, a wrong type or an
    /// id or payload over its limit; `Full` or `NoSpace` after the stall timeout: in all of these nothing was
    /// written. `Poisoned` with fate `Unknown`.
    pub fn upsert(&self, id: impl Into<Id>, vector: &[f32], payload: impl Into<Value>) -> Result<Lsn> {
        let row = NewRow { id: id.into(), vector: vector.to_vec(), payload: as_payload(payload.into())? };
        self.upsert_batch(std::slice::from_ref(&row))
    }

    /// As [`Collection::upsert`], without ever waiting at a bound.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; `Full` at once.
    pub fn try_upsert(&self, id: impl Into<Id>, vector: &[f32], payload: impl Into<Value>) -> Result<Lsn> {
        let row = NewRow { id: id.into(), vector: vector.to_vec(), payload: as_payload(payload.into())? };
        self.write(&[row], &[], false)?.wait()
    }

    /// Writes rows as one: all are visible together or none is, after a crash too. The same id twice: the last
    /// wins. Returns the last LSN; at most 64 MiB.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; the message names the row. `Invalid` for an empty batch.
    pub fn upsert_batch(&self, rows: &[NewRow]) -> Result<Lsn> {
        self.submit(rows)?.wait()
    }

    /// Puts rows into the log's order and returns without waiting for the disk. From here on the write will happen
    /// (unless the machine stops first); the receipt says when it is durable.
    ///
    /// # Errors
    /// As [`Collection::upsert_batch`], but for `Poisoned`, which the receipt tells.
    pub fn submit(&self, rows: &[NewRow]) -> Result<Receipt> {
        #[cfg(seeded_bug = "ack_before_append")]
        if let [row] = rows {
            return self.acknowledge_first(row);
        }
        self.write(rows, &[], true)
    }

    /// Removes the row with this id. Blocks as [`Collection::upsert`] does. `true` if there was one.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub fn delete(&self, id: impl Into<Id>) -> Result<bool> {
        let receipt = self.write(&[], &[id.into()], true)?;
        receipt.wait()?;
        Ok(receipt.existed())
    }

    fn write(&self, rows: &[NewRow], deletes: &[Id], may_wait: bool) -> Result<Receipt> {
        let engine = &self.handle.engine;
        let writer = engine.writer()?;
        let (_, state) = self.view()?;
        let rows_written = rows.len() + deletes.len();
        let span = tracing::info_span!("write", collection = %state.name, rows = rows_written);
        let entered = span.enter();
        let (records, ops) = encode(&state, self.id, rows, deletes)?;
        state.check_damage()?;
        // What the write hides is looked up now, before anything is logged: if that cannot be read, nothing is.
        for op in &ops {
            op.prepare(&state)?;
        }
        self.wait_for_room(engine, may_wait)?;
        let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let ops = Arc::new(ops);
        let (first, last) =
            writer.sequencer.submit(&slices, Arc::clone(&ops), || match engine.is_closed() {
                true => engine.view().map(drop),
                false => Ok(()),
            })?;
        drop(entered);
        Ok(Receipt { engine: Arc::clone(engine), ops, first, last, span })
    }

    fn wait_for_room(&self, engine: &Engine, may_wait: bool) -> Result<()> {
        if engine.is_memtable_full(self.id) {
            flush::seal_if_full(engine, engine.writer()?, self.id);
        }
        if engine.stall(self.id).is_none() {
            return Ok(());
        }
        engine.wake_driver();
        let timeout = if may_wait { engine.limits.write_stall_timeout } else { std::time::Duration::ZERO };
        engine.stalls.wait(timeout, || engine.stall(self.id))
    }

    /// The row with this id.
    ///
    /// # Errors
    /// `Invalid` for an id of the wrong kind; `Corrupt` when its block is damaged.
    pub fn get(&self, id: impl Into<Id>) -> Result<Option<StoredRow>> {
        Ok(self.get_many(&[id.into()])?.pop().flatten())
    }

    /// The rows with these ids, in their order, all of one moment.
    ///
    /// # Errors
    /// As [`Collection::get`].
    pub fn get_many(&self, ids: &[Id]) -> Result<Vec<Option<StoredRow>>> {
        let (view, state) = self.readable()?;
        ids.iter()
            .map(|id| {
                check_id(&state.schema, id)?;
                read::get(&view, &state, id)?.map(|(lsn, row)| stored(&state.schema, lsn, row)).transpose()
            })
            .collect()
    }

    /// Whether there is a row with this id.
    ///
    /// # Errors
    /// As [`Collection::get`].
    pub fn contains(&self, id: impl Into<Id>) -> Result<bool> {
        Ok(self.get(id)?.is_some())
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// `NotFound` once dropped; `Closed`.
    pub fn count(&self) -> Result<u64> {
        let (view, state) = self.readable()?;
        read::count(&view, &state, None)
    }

    /// How many rows match.
    ///
    /// # Errors
    /// `Invalid` for a filter that does not parse (with its position) or names an unknown field.
    pub fn count_where(&self, filter: impl TryInto<Filter, Error = impl Into<Error>>) -> Result<u64> {
        let filter = filter.try_into().map_err(Into::into)?;
        let (view, state) = self.readable()?;
        read::count(&view, &state, Some(&filter))
    }

    /// Rows in id order, a page at a time: `docs.scan().filter("year > 2020").after("x").limit(100).run()?`.
    pub fn scan(&self) -> Scan<'_> {
        Scan::new(self)
    }

    /// The rows nearest to `vector`: `docs.search(&v).k(10).filter("lang = 'en'").run()?`.
    pub fn search(&self, vector: &[f32]) -> Search<'_> {
        Search::new(self, vector)
    }
}

fn as_payload(value: Value) -> Result<Payload> {
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Payload::new()),
        _ => Err(Error::invalid("AKI-0212", "a payload is a JSON object")),
    }
}

fn check_id(schema: &Schema, id: &Id) -> Result<()> {
    if id.is_int() != (schema.id_kind == IdKind::Int) {
        let (want, got) = if id.is_int() { ("text", "an integer") } else { ("64-bit integers", "text") };
        return Err(Error::invalid(
            "AKI-0213",
            format!("ids of this collection are {want}, got {got} ({id})"),
        ));
    }
    id.check()
}

pub(crate) fn stored(schema: &Schema, lsn: Lsn, row: Row) -> Result<StoredRow> {
    let payload = row::join_payload(schema, &row.fields, row.rest.as_deref())?;
    Ok(StoredRow { id: row.id, lsn, vector: row.vector.to_vec(), payload })
}

/// Checks and encodes a write: the records as logged and the operations they are.
fn encode(
    state: &CollectionState,
    id: u32,
    rows: &[NewRow],
    deletes: &[Id],
) -> Result<(Vec<Vec<u8>>, Vec<Op>)> {
    let mut last_of = std::collections::HashMap::new();
    for (n, row) in rows.iter().enumerate() {
        last_of.insert(&row.id, n);
    }
    let mut records = Vec::with_capacity(last_of.len() + deletes.len());
    let mut ops = Vec::with_capacity(last_of.len() + deletes.len());
    let mut bytes = 0usize;
    for (n, row) in rows.iter().enumerate().filter(|(n, row)| last_of[&row.id] == *n) {
        let (record, op) = encode_upsert(state, id, row).map_err(|error| match rows.len() {
            1 => error,
            _ => error.about(&format!("row {n} (id {}) of the batch", row.id)),
        })?;
        bytes += record.len();
        records.push(record);
        ops.push(op);
    }
    for key in deletes {
        check_id(&state.schema, key)?;
        let record = Record {
            op: record::Op::Delete,
            collection: id,
            key: &key.key(),
            ..Record::new(state.schema.version)
        };
        let mut encoded = Vec::new();
        record.encode_into(&mut encoded);
        records.push(encoded);
        ops.push(Op::new(id, Change::Delete(key.clone())));
    }
    if records.is_empty() {
        return Err(Error::invalid("AKI-0214", "a batch has no rows"));
    }
    if bytes > MAX_BATCH_BYTES {
        let message = format!("the batch has {bytes} bytes, at most {MAX_BATCH_BYTES}; write it in parts");
        return Err(Error::invalid("AKI-0215", message).fate_is(Fate::NotWritten));
    }
    Ok((records, ops))
}

fn encode_upsert(state: &CollectionState, id: u32, row: &NewRow) -> Result<(Vec<u8>, Op)> {
    check_id(&state.schema, &row.id)?;
    row::check_vector(&state.schema, &row.vector)?;
    let (fields, rest) = row::split_payload(&state.schema, &row.payload)?;
    let payload = row::payload_to_json(&row.payload);
    let key = row.id.key();
    let record = Record {
        op: record::Op::Upsert,
        collection: id,
        key: &key,
        payload: &payload,
        vector: record::Vector::from(row.vector.as_slice()),
        ..Record::new(state.schema.version)
    };
    let mut encoded = Vec::with_capacity(64 + payload.len() + row.vector.len() * 4);
    record.encode_into(&mut encoded);
    let row = Row { id: row.id.clone(), vector: row.vector.as_slice().into(), fields, rest };
    Ok((encoded, Op::new(id, Change::Upsert(Arc::new(row)))))
}
