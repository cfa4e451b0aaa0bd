//! Several writes as one, to any collections: `db.write(&batch)?`.

use std::collections::HashMap;
use std::sync::Arc;

use super::encode::{self, Write};
use super::{NewRow, Receipt, write};
use crate::catalog::{Catalog, CollectionState};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Id;
use crate::ops::Expect;

/// Writes to any collections of a database that happen together or not at all; at most 64 MiB as logged. The same id of
/// a collection twice: the last wins.
///
/// ```
/// use akidb::{Batch, Db, Expect, Metric, NewRow, Schema};
/// use serde_json::json;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("data");
/// let db = Db::open(&path)?;
/// let docs = db.create_collection("docs", Schema::new(2, Metric::L2))?;
/// db.create_collection("authors", Schema::new(2, Metric::L2))?;
/// let mut batch = Batch::new();
/// batch
///     .upsert("docs", NewRow::new("d1", [0.1, 0.2], json!({"by": "ada"}))?)
///     .upsert_if("authors", NewRow::new("ada", [0.3, 0.4], json!({}))?, Expect::Absent)
///     .delete("docs", "draft");
/// db.write(&batch)?; // on disk, and every read sees all three or none
/// assert!(docs.contains("d1")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The collections named, once each.
    collections: Vec<String>,
    writes: Vec<BatchWrite>,
    idempotency_key: Option<String>,
}

#[derive(Clone, Debug)]
struct BatchWrite {
    /// Which of [`Batch::collections`].
    collection: usize,
    change: Change,
    expect: Option<Expect>,
}

#[derive(Clone, Debug)]
enum Change {
    Upsert(NewRow),
    Delete(Id),
}

impl Batch {
    /// A batch of no writes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a row, replacing the one with its id.
    pub fn upsert(&mut self, collection: &str, row: NewRow) -> &mut Self {
        self.push(collection, Change::Upsert(row), None)
    }

    /// Writes a row if the one there is as expected; if it is not, nothing of the batch is written.
    pub fn upsert_if(&mut self, collection: &str, row: NewRow, expect: Expect) -> &mut Self {
        self.push(collection, Change::Upsert(row), Some(expect))
    }

    /// Removes the row with this id, if there is one.
    pub fn delete(&mut self, collection: &str, id: impl Into<Id>) -> &mut Self {
        self.push(collection, Change::Delete(id.into()), None)
    }

    /// Removes the row with this id if it is as expected; if it is not, nothing of the batch is written.
    pub fn delete_if(&mut self, collection: &str, id: impl Into<Id>, expect: Expect) -> &mut Self {
        self.push(collection, Change::Delete(id.into()), Some(expect))
    }

    /// Names the batch, so that it can be sent again by a caller who was not answered: if a batch was written under this
    /// key before, nothing is written and the caller gets the LSNs of then, once they count as
    /// written. 1 to 128 bytes, of the caller's choice and for this batch alone: a UUID as a rule. Names and schemas are
    /// checked first: after a rename, a drop or a new field a batch may be refused that was written long ago.
    ///
    /// Keys are kept for `engine.idempotency_window_secs` (a day) and up to `engine.max_idempotency_keys` (10,000), the
    /// oldest go first; across reopens and flushes. A copy restored from a backend knows those below the floor of its
    /// manifest only, and may have rows of a batch without its key. A key that is forgotten is as good as new.
    ///
    /// ```
    /// # use akidb::{Batch, Db, Metric, NewRow, Schema};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Db::open(directory.path().join("data"))?;
    /// # let docs = db.create_collection("docs", Schema::new(2, Metric::L2))?;
    /// let mut batch = Batch::new();
    /// batch.upsert("docs", NewRow::new("d1", [0.1, 0.2], serde_json::json!({}))?).idempotency_key("order-17");
    /// let lsn = db.write(&batch)?;
    /// assert_eq!(db.write(&batch)?, lsn); // as after a timeout: it is not written twice
    /// assert!(db.submit(&batch)?.is_repeat());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn idempotency_key(&mut self, key: impl Into<String>) -> &mut Self {
        self.idempotency_key = Some(key.into());
        self
    }

    fn push(&mut self, collection: &str, change: Change, expect: Option<Expect>) -> &mut Self {
        let known = self.collections.iter().rposition(|name| name == collection);
        let collection = known.unwrap_or_else(|| {
            self.collections.push(collection.to_owned());
            self.collections.len() - 1
        });
        self.writes.push(BatchWrite { collection, change, expect });
        self
    }

    /// How many writes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The last write of each id, with its place. A demand on a row that the batch writes twice could mean either.
    fn kept(&self) -> Result<impl Iterator<Item = (usize, &BatchWrite)> + Clone> {
        let mut last_of = HashMap::with_capacity(self.writes.len());
        let mut demanded = None;
        for (n, write) in self.writes.iter().enumerate() {
            let earlier = last_of.insert((write.collection, write.borrowed().id()), n);
            if let Some(earlier) = earlier
                && (write.expect.is_some() || self.writes[earlier].expect.is_some())
            {
                demanded = Some(write.borrowed().id());
            }
        }
        if let Some(id) = demanded {
            let message = format!("the batch writes the row {id} twice and demands something of it");
            return Err(Error::invalid("AKI-0218", message));
        }
        let is_last =
            move |n: usize, write: &BatchWrite| last_of[&(write.collection, write.borrowed().id())] == n;
        let kept: Vec<_> = self.writes.iter().enumerate().filter(|(n, write)| is_last(*n, write)).collect();
        Ok(kept.into_iter())
    }
}

impl BatchWrite {
    fn borrowed(&self) -> Write<'_> {
        match &self.change {
            Change::Upsert(row) => Write::Upsert(row),
            Change::Delete(id) => Write::Delete(id),
        }
    }
}

/// Bytes of the rows that a batch writes, about, by collections; of those there are.
pub(crate) fn rows_of(engine: &Engine, batch: &Batch) -> Vec<(u32, u64)> {
    let current = engine.current();
    let ids: Vec<Option<u32>> =
        batch.collections.iter().map(|name| current.content().by_name(name).map(|state| state.id)).collect();
    let bytes = |write: &BatchWrite| match &write.change {
        Change::Upsert(row) => Some((ids[write.collection]?, encode::row_bytes(row) as u64)),
        Change::Delete(_) => None,
    };
    batch.writes.iter().filter_map(bytes).collect()
}

/// Puts a batch into the log's order as one frame.
pub(crate) fn submit(engine: &Arc<Engine>, batch: &Batch, to_pace: bool) -> Result<Receipt> {
    engine.writer()?;
    let view = engine.view()?;
    let named = batch.collections.iter().map(|name| by_name(view.content(), name));
    let named: Vec<Arc<CollectionState>> = named.collect::<Result<_>>()?;
    let span = tracing::info_span!("write", collections = named.len(), rows = batch.len());
    let _entered = span.clone().entered();
    let writes =
        batch.kept()?.map(|(n, write)| (&*named[write.collection], write.borrowed(), write.expect, n));
    let now_micros = engine.place.clock.unix_micros();
    let encoded = encode::writes(writes, batch.idempotency_key.as_deref(), now_micros)?;
    let mut states = named.clone();
    states.sort_unstable_by_key(|state| state.id);
    if to_pace && engine.keep_pace(&encoded.ops) {
        // What lay in memory before may lie in a segment now.
        let current = engine.current();
        for state in &mut states {
            *state = Arc::clone(current.content().get(state.id)?);
        }
    }
    write::append(engine, &states, &encoded, true, span)
}

/// The collection with this name.
///
/// # Errors
/// `NotFound`, naming the ones there are.
pub(crate) fn by_name(catalog: &Catalog, name: &str) -> Result<Arc<CollectionState>> {
    catalog.by_name(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = catalog.collections.values().map(|c| &*c.name).collect();
        let message = format!("there is no collection \"{name}\" (there are: {})", names.join(", "));
        Error::new(ErrorKind::NotFound, "AKI-0202", message)
    })
}
