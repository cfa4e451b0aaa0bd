//! From rows to the records that are logged and the operations they are: every check that needs no lock.

use std::sync::Arc;

use super::new_row::{Expires, NewRow, expiring};
use super::{MAX_BATCH_BYTES, check_id};
use crate::catalog::CollectionState;
use crate::error::{Error, Fate, Result};
use crate::id::Id;
use crate::idempotency::BatchKey;
use crate::memory_budget::{Account, Charge, MemoryUse};
use crate::ops::{Change, Expect, Op};
use crate::record::{self, Record};
use crate::row::{self, Payload, Row};

/// What payloads may be longer than was guessed, for the room that records are given at first.
const BEYOND_GUESS_BYTES: usize = 256;

/// What an operation takes until it is applied, beside its row: itself, its places in lists and maps of its batch, the allocations
/// of the row.
const OP_BYTES: usize = size_of::<Op>() + 160;

/// What a frame adds to its records, beside four bytes each: header, padding, and the end of a file that it begins.
const FRAME_BYTES: usize = 512;

/// A checked write, ready to be logged.
#[derive(Debug)]
pub(super) struct Encoded {
    /// The records, one behind the other.
    bytes: Vec<u8>,
    /// Where each ends, but for the last.
    ends: Vec<usize>,
    pub(super) ops: Arc<Vec<Op>>,
    /// Whether it demands anything of its rows.
    pub(super) is_conditional: bool,
    /// What is held for the records, if they are large.
    _held: Option<Charge>,
}

/// What a write will take, about, and what is held of the memory for it where that is much.
#[derive(Debug, Default)]
struct Size {
    records: usize,
    /// What its operations take with their rows.
    ops: usize,
}

impl Size {
    /// Of writes with so many bytes of vector and payload.
    fn of<'a>(writes: impl Iterator<Item = (&'a Id, usize)>) -> Self {
        writes.fold(Self::default(), |Self { records, ops }, (id, row_bytes)| {
            let id_bytes = id.bytes();
            Self {
                records: records + record::HEADER_BYTES + id_bytes + row_bytes,
                ops: ops + OP_BYTES + id_bytes + row_bytes,
            }
        })
    }

    /// An empty buffer for the records: no longer than a batch may be, whatever was given.
    fn buffer(&self) -> Vec<u8> {
        Vec::with_capacity(self.records.min(MAX_BATCH_BYTES) + BEYOND_GUESS_BYTES)
    }

    /// Takes the memory: for the records as long as they are there, for the operations until they are applied. It is bounded by
    /// what its callers hold in their hands already, and never waits.
    fn held_of(&self, memory: &Account) -> [Option<Charge>; 2] {
        [self.records, self.ops].map(|bytes| memory.charge_large(MemoryUse::Writes, bytes as u64))
    }
}

/// A row about to be written, by its parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowRef<'a> {
    pub(super) id: &'a Id,
    pub(super) vector: &'a [f32],
    pub(super) payload: &'a Payload,
    /// When it expires, where that is said beside the payload.
    pub(super) expires_at: Option<i64>,
}

impl<'a> RowRef<'a> {
    /// A row of which only the payload may say when it expires.
    pub(super) fn of(id: &'a Id, vector: &'a [f32], payload: &'a Payload) -> Self {
        Self { id, vector, payload, expires_at: None }
    }

    /// A row that is written at `now_micros`.
    fn at(row: &'a NewRow, now_micros: i64) -> Self {
        let expires_at = row.expires.map(|expires| expires.at_micros(now_micros));
        Self { expires_at, ..Self::of(&row.id, &row.vector, &row.payload) }
    }

    /// Bytes it will take, in the log or in memory, about: known before it is checked and encoded.
    pub(super) fn bytes(self) -> usize {
        4 * self.vector.len() + row::text_bytes(self.payload)
    }
}

impl Encoded {
    /// Several records of the same frame, where each but the last ends.
    fn frame(
        bytes: Vec<u8>,
        mut ends: Vec<usize>,
        mut ops: Vec<Op>,
        [held, held_by_ops]: [Option<Charge>; 2],
    ) -> Result<Self> {
        if ops.is_empty() {
            return Err(Error::invalid("AKI-0214", "a batch has no rows"));
        }
        if bytes.len() > MAX_BATCH_BYTES {
            let message =
                format!("the batch has {} bytes, at most {MAX_BATCH_BYTES}; write it in parts", bytes.len());
            return Err(Error::invalid("AKI-0215", message).fate_is(Fate::NotWritten));
        }
        ends.pop();
        let is_conditional = ops.iter().any(Op::is_conditional);
        if let Some(last) = ops.last_mut() {
            last.hold(held_by_ops);
        }
        Ok(Self { bytes, ends, ops: Arc::new(ops), is_conditional, _held: held })
    }

    fn one(bytes: Vec<u8>, mut op: Op, [held, held_by_op]: [Option<Charge>; 2]) -> Self {
        let is_conditional = op.is_conditional();
        op.hold(held_by_op);
        Self { bytes, ends: Vec::new(), ops: Arc::new(vec![op]), is_conditional, _held: held }
    }

    /// The records, one by one.
    pub(super) fn records(&self) -> Vec<&[u8]> {
        let mut from = 0;
        let ends = self.ends.iter().copied().chain([self.bytes.len()]);
        ends.map(|end| &self.bytes[std::mem::replace(&mut from, end)..end]).collect()
    }

    /// Gives the batch a key, in its last record. `digest` tells batches apart by what they write and demand.
    fn named(self, text: &str, at_micros: i64, digest: u32) -> Result<Self> {
        BatchKey::check(text)?;
        let records = u32::try_from(self.ops.len()).expect("a batch of 64 MiB has fewer records");
        let key = BatchKey { at_micros, digest, records, text: text.into() };
        let Self { mut bytes, ends, ops, is_conditional, _held } = self;
        record::name_batch(&mut bytes, ends.last().copied().unwrap_or(0), &key.encode());
        let mut ops = Arc::try_unwrap(ops).expect("nobody else has seen it");
        let last = ops.pop().expect("a batch has writes");
        ops.push(last.naming(key));
        Ok(Self { bytes, ends, ops: Arc::new(ops), is_conditional, _held })
    }

    /// The key it was given, if any.
    pub(super) fn batch_key(&self) -> Option<&BatchKey> {
        self.ops.last().and_then(Op::batch_key)
    }

    /// Bytes this takes in the log, at most.
    pub(super) fn log_bytes(&self) -> u64 {
        (self.bytes.len() + FRAME_BYTES + 4 * self.ops.len()) as u64
    }

    /// As [`Encoded::records`], for a look; costs nothing where there is one record.
    pub(super) fn with_records<R>(&self, look: impl FnOnce(&[&[u8]]) -> R) -> R {
        if self.ends.is_empty() { look(&[&self.bytes]) } else { look(&self.records()) }
    }
}

/// One row by its parts, as `upsert` takes it.
pub(super) fn one_row(state: &CollectionState, row: RowRef<'_>, expect: Option<Expect>) -> Result<Encoded> {
    let size = Size::of(std::iter::once((row.id, row.bytes())));
    let held = size.held_of(state.active.account());
    let mut bytes = size.buffer();
    let op = upsert(state, row, expect, &mut bytes)?;
    Ok(Encoded::one(bytes, op, held))
}

/// A batch of rows, written at `now_micros`; the same id twice: the last wins.
pub(super) fn rows(state: &CollectionState, rows: &[NewRow], now_micros: i64) -> Result<Encoded> {
    if let [row] = rows {
        return one_row(state, RowRef::at(row, now_micros), None);
    }
    let size = Size::of(rows.iter().map(|row| (&row.id, row_bytes(row))));
    let held = size.held_of(state.active.account());
    let mut last_of = std::collections::HashMap::with_capacity(rows.len());
    for (n, row) in rows.iter().enumerate() {
        last_of.insert(&row.id, n);
    }
    let (mut bytes, mut ends) = (size.buffer(), Vec::with_capacity(last_of.len()));
    let mut ops = Vec::with_capacity(last_of.len());
    for (n, row) in rows.iter().enumerate().filter(|(n, row)| last_of[&row.id] == *n) {
        let op = upsert(state, RowRef::at(row, now_micros), None, &mut bytes)
            .map_err(|error| error.about(&format!("row {n} (id {}) of the batch", row.id)))?;
        ops.push(op);
        ends.push(bytes.len());
    }
    Encoded::frame(bytes, ends, ops, held)
}

/// As [`RowRef::bytes`].
pub(super) fn row_bytes(row: &NewRow) -> usize {
    RowRef::of(&row.id, &row.vector, &row.payload).bytes()
}

/// One write of a batch over several collections.
#[derive(Clone, Copy, Debug)]
pub(super) enum Write<'a> {
    Upsert(&'a NewRow),
    Delete(&'a Id),
}

impl<'a> Write<'a> {
    pub(super) fn id(self) -> &'a Id {
        match self {
            Self::Upsert(row) => &row.id,
            Self::Delete(id) => id,
        }
    }

    /// As [`row_bytes`].
    fn bytes(self) -> usize {
        match self {
            Self::Upsert(row) => row_bytes(row),
            Self::Delete(_) => 0,
        }
    }
}

/// Writes to any collections, in this order, as one frame, at `now_micros`, under a key if one is given. An error names the
/// write by its place.
pub(super) fn writes<'a>(
    writes: impl Iterator<Item = (&'a CollectionState, Write<'a>, Option<Expect>, usize)> + Clone,
    key: Option<&str>,
    now_micros: i64,
) -> Result<Encoded> {
    let size = Size::of(writes.clone().map(|(_, write, ..)| (write.id(), write.bytes())));
    let memory = writes.clone().next().map(|(state, ..)| state.active.account());
    let held = memory.map_or([None, None], |memory| size.held_of(memory));
    let mut bytes = size.buffer();
    let (mut ends, mut ops) = (Vec::new(), Vec::new());
    let mut digest = key.map(|_| crc32fast::Hasher::new());
    for (state, write, expect, place) in writes {
        let from = bytes.len();
        let op = match write {
            Write::Upsert(row) => upsert(state, RowRef::at(row, now_micros), expect, &mut bytes),
            Write::Delete(id) => remove(state, id.clone(), expect, &mut bytes),
        };
        let about = || format!("write {place} of the batch (id {} of \"{}\")", write.id(), state.name);
        ops.push(op.map_err(|error| error.about(&about()))?);
        if let Some(digest) = &mut digest {
            digest_write(state, write, &bytes[from..], digest)?;
            digest.update(&Expect::code(expect).to_le_bytes());
        }
        ends.push(bytes.len());
    }
    let frame = Encoded::frame(bytes, ends, ops, held)?;
    match key.zip(digest) {
        Some((text, digest)) => frame.named(text, now_micros, digest.finalize()),
        None => Ok(frame),
    }
}

/// Takes in what a write of a batch with a key asks for: what its record says, but for a time that is counted from the write,
/// which is another one when the batch is sent again.
fn digest_write(
    state: &CollectionState,
    write: Write<'_>,
    record: &[u8],
    digest: &mut crc32fast::Hasher,
) -> Result<()> {
    let mut take = |record: &[u8]| {
        record::content_of(record).into_iter().for_each(|bytes| digest.update(bytes));
    };
    match write {
        Write::Upsert(NewRow { id, vector, payload, expires: Some(Expires::In(after)) }) => {
            let mut asked = Vec::new();
            upsert(state, RowRef::of(id, vector, payload), None, &mut asked)?;
            take(&asked);
            digest.update(&after.as_nanos().to_le_bytes());
        }
        _ => take(record),
    }
    Ok(())
}

/// The delete of one row.
pub(super) fn delete(state: &CollectionState, id: Id, expect: Option<Expect>) -> Result<Encoded> {
    let mut bytes = Vec::new();
    let op = remove(state, id, expect, &mut bytes)?;
    Ok(Encoded::one(bytes, op, [None, None]))
}

/// Checks the id of a row to remove and appends the record of that.
fn remove(state: &CollectionState, id: Id, expect: Option<Expect>, out: &mut Vec<u8>) -> Result<Op> {
    check_id(&state.schema, &id)?;
    let record = Record {
        op: record::Op::Delete,
        collection: state.id,
        key: &id.key(),
        ..Record::new(state.schema.version)
    };
    record.encode_into(out);
    Ok(Op::expecting(state.id, Change::Delete(id), expect))
}

/// Checks a row and appends its record.
fn upsert(state: &CollectionState, row: RowRef<'_>, expect: Option<Expect>, out: &mut Vec<u8>) -> Result<Op> {
    let RowRef { id, vector, payload, expires_at } = row;
    check_id(&state.schema, id)?;
    row::check_vector(&state.schema, vector)?;
    let expiring = expires_at.map(|at| expiring(state, payload, at)).transpose()?;
    let payload = expiring.as_ref().unwrap_or(payload);
    let (fields, rest) = row::split_payload(&state.schema, payload)?;
    let row = Row { id: id.clone(), vector: vector.into(), fields, rest };
    let expires_at = state.schema.expiry().and_then(|field| row.expires_at(field));
    let record = Record {
        op: record::Op::Upsert,
        collection: state.id,
        expires_at: expires_at.unwrap_or(0),
        key: &id.key(),
        vector: record::Vector::from(vector),
        ..Record::new(state.schema.version)
    };
    record.encode_with(out, |out| row::payload_into(payload, out))?;
    Ok(Op::expecting(state.id, Change::Upsert(Arc::new(row)), expect).expiring(expires_at))
}
