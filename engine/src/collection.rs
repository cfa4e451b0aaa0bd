//! The handle of a collection: rows in, rows out.

use std::sync::Arc;

use serde_json::Value;

use crate::catalog::{Catalog, CollectionState};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::handle::{Handle, Moment};
use crate::id::Id;
use crate::lsn::Lsn;
use crate::memtable::MAX_SLOTS;
use crate::read;
use crate::record::HEADER_BYTES;
use crate::row::{self, Payload, Row};
use crate::schema::{IdKind, Schema};
use crate::version::View;

mod alter;
mod atomic;
mod batch;
mod encode;
mod fields;
mod later;
mod new_row;
mod on_worker;
mod patch;
mod purge;
mod query;
mod receipt;
#[cfg(seeded_bugs)]
mod seeded;
mod write;

pub use alter::Alter;
pub use atomic::Batch;
pub(crate) use atomic::{by_name, rows_of, submit};
pub use batch::SearchBatch;
pub use new_row::{Expires, NewRow};
pub use query::{Hit, Scan, Search};
pub use receipt::Receipt;

/// Most bytes of one batch as logged.
pub const MAX_BATCH_BYTES: usize = 64 << 20;

/// A batch finds room in an empty memtable: a record has a key of a byte and a vector of a number at least.
const _: () = assert!(MAX_BATCH_BYTES / (HEADER_BYTES + 1 + size_of::<f32>()) <= MAX_SLOTS);

/// A collection of an open database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Collection {
    handle: Arc<Handle>,
    id: u32,
    /// What a handle that came from a snapshot reads.
    moment: Option<Arc<Moment>>,
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

impl Collection {
    pub(crate) fn new(handle: Arc<Handle>, id: u32) -> Self {
        Self { handle, id, moment: None }
    }

    /// A handle that reads one moment and writes nothing.
    pub(crate) fn of_moment(handle: Arc<Handle>, id: u32, moment: Arc<Moment>) -> Self {
        Self { handle, id, moment: Some(moment) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    fn view(&self) -> Result<(View<Catalog>, Arc<CollectionState>)> {
        let view = match &self.moment {
            Some(moment) => moment.view()?,
            None => self.handle.engine.view()?,
        };
        let state = Arc::clone(view.content().get(self.id)?);
        Ok((view, state))
    }

    /// As `view`, for reads: a logged write that could not be applied makes them an error, not an old answer.
    fn readable(&self) -> Result<(View<Catalog>, Arc<CollectionState>)> {
        let (view, state) = self.view()?;
        state.check_damage(self.handle.engine.synced())?;
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

    /// Searches for the rows nearest to each of several vectors, all on one moment; see [`SearchBatch`].
    pub fn search_batch(&self, vectors: &[impl AsRef<[f32]>]) -> SearchBatch<'_> {
        SearchBatch::new(self, vectors)
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
    check_id_kind(schema, id)?;
    id.check()
}

/// Whether an id is of the collection's kind, as one that rows are compared with must be.
fn check_id_kind(schema: &Schema, id: &Id) -> Result<()> {
    if id.is_int() != (schema.id_kind == IdKind::Int) {
        let (want, got) = if id.is_int() { ("text", "an integer") } else { ("64-bit integers", "text") };
        return Err(Error::invalid(
            "AKI-0213",
            format!("ids of this collection are {want}, got {got} ({id})"),
        ));
    }
    Ok(())
}

pub(crate) fn stored(schema: &Schema, lsn: Lsn, row: Row) -> Result<StoredRow> {
    let payload = row::join_payload(schema, &row.fields, row.rest.as_deref())?;
    Ok(StoredRow { id: row.id, lsn, vector: row.vector.to_vec(), payload })
}
