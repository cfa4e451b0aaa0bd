//! From rows to the records that are logged and the operations they are: every check that needs no lock.

use std::sync::Arc;

use super::{MAX_BATCH_BYTES, NewRow, check_id};
use crate::catalog::CollectionState;
use crate::error::{Error, Fate, Result};
use crate::id::Id;
use crate::ops::{Change, Op};
use crate::record::{self, Record};
use crate::row::{self, Payload, Row};

/// Bytes of payload that a record is given room for at first.
const USUAL_PAYLOAD_BYTES: usize = 512;

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
}

impl Encoded {
    /// The records, one by one.
    pub(super) fn records(&self) -> Vec<&[u8]> {
        let mut from = 0;
        let ends = self.ends.iter().copied().chain([self.bytes.len()]);
        ends.map(|end| &self.bytes[std::mem::replace(&mut from, end)..end]).collect()
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
pub(super) fn one_row(
    state: &CollectionState,
    id: &Id,
    vector: &[f32],
    payload: &Payload,
) -> Result<Encoded> {
    let mut bytes = Vec::with_capacity(record::HEADER_BYTES + USUAL_PAYLOAD_BYTES + 4 * vector.len());
    let op = upsert(state, id, vector, payload, &mut bytes)?;
    Ok(Encoded { bytes, ends: Vec::new(), ops: Arc::new(vec![op]) })
}

/// A batch of rows; the same id twice: the last wins.
pub(super) fn rows(state: &CollectionState, rows: &[NewRow]) -> Result<Encoded> {
    if let [row] = rows {
        return one_row(state, &row.id, &row.vector, &row.payload);
    }
    let mut last_of = std::collections::HashMap::with_capacity(rows.len());
    for (n, row) in rows.iter().enumerate() {
        last_of.insert(&row.id, n);
    }
    let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(last_of.len()));
    let mut ops = Vec::with_capacity(last_of.len());
    for (n, row) in rows.iter().enumerate().filter(|(n, row)| last_of[&row.id] == *n) {
        let op = upsert(state, &row.id, &row.vector, &row.payload, &mut bytes)
            .map_err(|error| error.about(&format!("row {n} (id {}) of the batch", row.id)))?;
        ops.push(op);
        ends.push(bytes.len());
    }
    if ops.is_empty() {
        return Err(Error::invalid("AKI-0214", "a batch has no rows"));
    }
    if bytes.len() > MAX_BATCH_BYTES {
        let message =
            format!("the batch has {} bytes, at most {MAX_BATCH_BYTES}; write it in parts", bytes.len());
        return Err(Error::invalid("AKI-0215", message).fate_is(Fate::NotWritten));
    }
    ends.pop();
    Ok(Encoded { bytes, ends, ops: Arc::new(ops) })
}

/// The delete of one row.
pub(super) fn delete(state: &CollectionState, id: Id) -> Result<Encoded> {
    check_id(&state.schema, &id)?;
    let record = Record {
        op: record::Op::Delete,
        collection: state.id,
        key: &id.key(),
        ..Record::new(state.schema.version)
    };
    let mut bytes = Vec::with_capacity(record.encoded_len());
    record.encode_into(&mut bytes);
    Ok(Encoded { bytes, ends: Vec::new(), ops: Arc::new(vec![Op::new(state.id, Change::Delete(id))]) })
}

/// Checks a row and appends its record.
fn upsert(
    state: &CollectionState,
    id: &Id,
    vector: &[f32],
    payload: &Payload,
    out: &mut Vec<u8>,
) -> Result<Op> {
    check_id(&state.schema, id)?;
    row::check_vector(&state.schema, vector)?;
    let (fields, rest) = row::split_payload(&state.schema, payload)?;
    let record = Record {
        op: record::Op::Upsert,
        collection: state.id,
        key: &id.key(),
        vector: record::Vector::from(vector),
        ..Record::new(state.schema.version)
    };
    record.encode_with(out, |out| row::payload_into(payload, out))?;
    let row = Row { id: id.clone(), vector: vector.into(), fields, rest };
    Ok(Op::new(state.id, Change::Upsert(Arc::new(row))))
}
