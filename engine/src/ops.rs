//! The operations of a logged frame, what each of them hides, and how they are applied to memtables and overlays.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::apply::{Applier, Target};
use crate::catalog::{Catalog, CollectionState, RowPlace};
use crate::error::{Error, ErrorKind, Fate};
use crate::id::Id;
use crate::idempotency::{BatchKey, RecentKeys};
use crate::lsn::Lsn;
use crate::row::Row;

mod expect;

pub use expect::Expect;
pub(crate) use expect::{Newest, Verdict, newest_row};

/// What an operation does.
#[derive(Debug)]
pub(crate) enum Change {
    /// Inserts this version of a row.
    Upsert(Arc<Row>),
    /// Removes the row with this id.
    Delete(Id),
    /// A record that is only counted: segments hold it already, or its collection was dropped.
    Nothing,
}

impl Change {
    fn id(&self) -> Option<&Id> {
        match self {
            Self::Upsert(row) => Some(&row.id),
            Self::Delete(id) => Some(id),
            Self::Nothing => None,
        }
    }
}

fn mark_of(collection: u32, id: &Id) -> u64 {
    let mut hasher = DefaultHasher::new();
    (collection, id).hash(&mut hasher);
    hasher.finish()
}

/// One record of a frame.
#[derive(Debug)]
pub(crate) struct Op {
    collection: u32,
    change: Change,
    /// What the write demands of its row.
    expect: Option<Expect>,
    /// The key of the batch that ends with this record.
    batch_key: Option<Box<BatchKey>>,
    /// The hash of collection and id.
    mark: u64,
    found: Mutex<Found>,
    existed: AtomicBool,
    /// Why a logged operation could not be applied.
    failure: OnceLock<Error>,
}

/// Where the segments hold a live copy of the id, as of a generation of the collection's segments.
#[derive(Debug, Default)]
enum Found {
    #[default]
    NotLooked,
    At {
        generation: u64,
        place: Option<RowPlace>,
        /// The version there; only if the write demands one.
        version: Option<Lsn>,
    },
    Failed(Error),
}

impl Op {
    pub(crate) fn new(collection: u32, change: Change) -> Self {
        Self::expecting(collection, change, None)
    }

    /// An operation that is logged only if its row is as expected.
    pub(crate) fn expecting(collection: u32, change: Change, expect: Option<Expect>) -> Self {
        let id = change.id();
        Self {
            collection,
            expect,
            batch_key: None,
            mark: id.map_or(0, |id| mark_of(collection, id)),
            change,
            found: Mutex::default(),
            existed: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    /// A record that is only counted.
    pub(crate) fn nothing(collection: u32) -> Self {
        Self::new(collection, Change::Nothing)
    }

    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self.change, Change::Nothing)
    }

    pub(crate) fn collection(&self) -> u32 {
        self.collection
    }

    /// The last operation of a batch that has a key.
    pub(crate) fn naming(self, batch_key: BatchKey) -> Self {
        Self { batch_key: Some(Box::new(batch_key)), ..self }
    }

    /// The key of the batch that ends with this record.
    pub(crate) fn batch_key(&self) -> Option<&BatchKey> {
        self.batch_key.as_deref()
    }

    pub(crate) fn expect(&self) -> Option<Expect> {
        self.expect
    }

    pub(crate) fn id(&self) -> Option<&Id> {
        self.change.id()
    }

    /// Whether a live row was hidden; known once the write is visible.
    pub(crate) fn existed(&self) -> bool {
        self.existed.load(Ordering::Acquire)
    }

    /// Why the operation, durable as it is, could not be applied; known once its frame is visible.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }

    /// As [`Op::prepare`] where no segment has to be looked at: there is none, or a memtable knows the id, and then
    /// no older copy of it lives. `false` if one has to be. Reads no file.
    pub(crate) fn prepare_in_memory(&self, collection: &CollectionState) -> bool {
        let Some(id) = self.id() else { return true };
        if !collection.segments.is_empty() && !collection.memtables().any(|memtable| memtable.knows(id)) {
            return false;
        }
        // A memtable leaves a collection by a flush, and that raises the generation.
        let found = Found::At { generation: collection.generation, place: None, version: None };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
        true
    }

    /// Looks the id up in the segments, without a lock.
    ///
    /// # Errors
    /// What reading the segment answered; it is remembered as well.
    pub(crate) fn prepare(&self, collection: &CollectionState) -> crate::error::Result<()> {
        if self.prepare_in_memory(collection) {
            return Ok(());
        }
        let Some(id) = self.id() else { return Ok(()) };
        let found = collection.find_in_segments(id).and_then(|place| {
            let version = match &place {
                Some((live, row)) if self.expect.is_some() => Some(live.segment.lsn_at(*row)?),
                _ => None,
            };
            Ok(Found::At { generation: collection.generation, place, version })
        });
        let (found, result) = match found {
            Ok(found) => (found, Ok(())),
            Err(error) => (Found::Failed(error.clone()), Err(error)),
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
        result
    }

    /// As [`Op::prepare`] for the many that demand nothing of their rows: each segment's ids are passed over once. Where a segment
    /// cannot be read all are left to be looked up one by one, and the failure to whom it concerns.
    pub(crate) fn prepare_each(ops: &[&Self], collection: &CollectionState) {
        let free = ops.iter().copied().filter(|op| op.expect.is_none());
        let asked: Vec<&Self> = free.filter(|op| !op.prepare_in_memory(collection)).collect();
        let ids: Vec<&Id> = asked.iter().filter_map(|op| op.id()).collect();
        assert_eq!(ids.len(), asked.len(), "what has no id is prepared in memory");
        let Ok(places) = collection.find_each_in_segments(&ids) else { return };
        for (op, place) in asked.into_iter().zip(places) {
            let found = Found::At { generation: collection.generation, place, version: None };
            *op.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
        }
    }

    pub(crate) fn is_prepared(&self, collection: &CollectionState) -> bool {
        if self.is_nothing() {
            return true;
        }
        match &*self.found.lock().unwrap_or_else(PoisonError::into_inner) {
            Found::NotLooked => false,
            Found::At { generation, .. } => *generation == collection.generation,
            Found::Failed(_) => true,
        }
    }

    fn apply(&self, collection: &CollectionState, lsn: Lsn) {
        let Some(id) = self.id() else { return };
        collection.active.note_op(lsn);
        let existed = match self.hide_older(collection, id, lsn) {
            Ok(existed) => existed,
            Err(error) => {
                let message =
                    format!("an acknowledged write ({lsn}) could not be applied: {}", error.message());
                let damage = Error::new(ErrorKind::Corrupt, "AKI-0203", message);
                let damage = match error.file() {
                    Some(file) => damage.at(file, error.offset()),
                    None => damage,
                };
                let damage = damage
                    .fate_is(Fate::Durable)
                    .help_is("the log keeps the row; run `akidb verify` and reopen once the file is mended");
                let _ = self.failure.set(damage.clone());
                // The first cause stays.
                let _ = collection.damage.set(damage);
                return;
            }
        };
        self.existed.store(existed, Ordering::Release);
        if let Change::Upsert(row) = &self.change {
            collection.active.insert(lsn, Arc::clone(row));
        }
    }

    /// Hides the one live older version, wherever it is.
    fn hide_older(&self, collection: &CollectionState, id: &Id, lsn: Lsn) -> crate::error::Result<bool> {
        for memtable in collection.memtables() {
            if let Some(was_alive) = memtable.hide(id, lsn) {
                return Ok(was_alive);
            }
        }
        match &*self.found.lock().unwrap_or_else(PoisonError::into_inner) {
            Found::At { place: Some((live, row)), .. } => {
                Ok(!live.deletion_vector.contains(*row) && live.overlay.hide(*row, lsn))
            }
            Found::At { place: None, .. } => Ok(false),
            Found::Failed(error) => Err(error.clone()),
            Found::NotLooked => unreachable!("applied before it was prepared"),
        }
    }
}

/// The target frames are applied to: the memtables and overlays of the current version; and the keys of batches.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) keys: RecentKeys,
}

impl Target for Memory {
    type Content = Catalog;
    type Frame = Vec<Op>;

    fn marks(ops: &Vec<Op>) -> impl Iterator<Item = u64> {
        ops.iter().map(|op| op.mark)
    }

    fn note_appended(&self, ops: &Vec<Op>, last: Lsn) {
        if let Some(key) = ops.last().and_then(Op::batch_key) {
            self.keys.remember(key.kept(last));
        }
    }

    fn is_prepared(&self, catalog: &Catalog, ops: &Vec<Op>) -> bool {
        ops.iter().all(|op| catalog.collections.get(&op.collection).is_none_or(|c| op.is_prepared(c)))
    }

    fn prepare(&self, catalog: &Catalog, ops: &Vec<Op>) {
        for op in ops {
            if let Some(collection) = catalog.collections.get(&op.collection)
                && !op.is_prepared(collection)
            {
                // A failure is remembered in the operation and marks the collection when it is applied.
                let _ = op.prepare(collection);
            }
        }
    }

    fn apply(&self, catalog: &Catalog, ops: &Vec<Op>, first: Lsn, last: Lsn) {
        assert_eq!(first.plus(ops.len() as u64 - 1), last, "a frame has one LSN a record");
        for (n, op) in ops.iter().enumerate() {
            // A dropped collection's records are nobody's.
            if let Some(collection) = catalog.collections.get(&op.collection) {
                op.apply(collection, first.plus(n as u64));
            }
        }
    }
}
