//! Rows gathered into batches and written, one batch being synced while the next is read.

use akidb::{Collection, ErrorKind, Expires, Id, IdKind, NewRow, Receipt};
use serde_json::Value;

use super::source::InputRow;
use crate::failure::{Failure, Result, Unit};

/// A batch this large is sent whatever its rows.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// How often a write that found a bound reached is tried again; each try waits about a second inside.
const FULL_TRIES: u32 = 120;

/// The rows on their way.
pub(crate) struct Batches<'a> {
    collection: &'a Collection,
    ids: IdKind,
    unit: Unit,
    max_rows: usize,
    /// When the rows expire, beside what their payloads say.
    pub(crate) expires: Option<Expires>,
    rows: Vec<NewRow>,
    places: Vec<u64>,
    bytes: usize,
    in_flight: Option<(Receipt, u64)>,
    acknowledged: u64,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(collection: &'a Collection, max_rows: usize, unit: Unit) -> Result<Self> {
        Ok(Self {
            ids: collection.schema()?.id_kind,
            collection,
            unit,
            max_rows,
            expires: None,
            rows: Vec::new(),
            places: Vec::new(),
            bytes: 0,
            in_flight: None,
            acknowledged: 0,
        })
    }

    /// Rows known to be on disk.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Takes a row; sends the batch once it is full.
    pub(crate) fn push(&mut self, row: InputRow) -> Result<()> {
        // A number is a fine text id: what has number ids in its file need not be rewritten.
        let id = match (row.id, self.ids) {
            (Id::Int(n), IdKind::Text) => Id::from(n.to_string()),
            (id, _) => id,
        };
        self.bytes += row.vector.len() * 4 + row.payload.values().map(weight).sum::<usize>();
        self.rows.push(NewRow { id, vector: row.vector, payload: row.payload, expires: self.expires });
        self.places.push(row.place);
        if self.rows.len() >= self.max_rows || self.bytes >= MAX_BATCH_BYTES { self.send() } else { Ok(()) }
    }

    /// Sends what is left and waits until all is on disk.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.send()?;
        self.settle()
    }

    fn send(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let receipt = submit(self.collection, &self.rows);
        self.settle()?;
        match receipt {
            Ok(receipt) => self.in_flight = Some((receipt, self.rows.len() as u64)),
            Err(error) if error.kind() == ErrorKind::Invalid => self.send_one_by_one()?,
            Err(error) => return Err(error.into()),
        }
        self.rows.clear();
        self.places.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Nothing of the batch was written: writes the rows before the refused one, and names that one's place.
    fn send_one_by_one(&mut self) -> Result<()> {
        for (row, place) in self.rows.iter().zip(&self.places) {
            let written =
                submit(self.collection, std::slice::from_ref(row)).and_then(|receipt| receipt.wait());
            written.map_err(|error| Failure::from(error).place(self.unit, *place))?;
            self.acknowledged += 1;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        if let Some((receipt, rows)) = self.in_flight.take() {
            receipt.wait()?;
            self.acknowledged += rows;
        }
        Ok(())
    }
}

/// An import outruns the flush: what a bound holds back is sent again once there is room.
fn submit(collection: &Collection, rows: &[NewRow]) -> akidb::Result<Receipt> {
    let mut tries = 1;
    loop {
        match collection.submit(rows) {
            Err(error) if matches!(error.kind(), ErrorKind::Full { .. }) && tries < FULL_TRIES => tries += 1,
            outcome => return outcome,
        }
    }
}

/// About how many bytes a value takes.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 8,
        Value::Array(items) => items.iter().map(weight).sum::<usize>() + 8,
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + weight(value)).sum::<usize>() + 8,
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}
