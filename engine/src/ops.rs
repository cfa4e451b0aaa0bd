//! The operations of a logged frame, what each of them hides, and how they are applied to memtables and overlays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::apply::{Applier, Target};
use crate::catalog::{Catalog, CollectionState, Damage, RowPlace};
use crate::error::Error;
use crate::id::{Id, Marked};
use crate::idempotency::{BatchKey, RecentKeys};
use crate::lsn::Lsn;
use crate::memory_budget::Charge;
use crate::memtable::bytes_of;
use crate::row::Row;
use crate::schema::IdKind;

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

/// 2^64 times the golden ratio: its multiples lie far apart.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mark_of(collection: u32, id: Marked<'_>) -> u64 {
    id.mark ^ u64::from(collection).wrapping_mul(GOLDEN)
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
    /// That of its id.
    mark: u64,
    /// When the row it writes expires.
    expires_at: Option<i64>,
    /// Whether it matters when the row expires that it hides.
    asks_expiry: bool,
    found: Mutex<Found>,
    existed: AtomicBool,
    /// When the row that was hidden would have expired.
    hidden_expires_at: AtomicI64,
    /// Why a logged operation could not be applied.
    failure: OnceLock<Damage>,
    /// What is held of the memory for its frame until that is applied.
    held: Mutex<Option<Box<Charge>>>,
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
        /// When it expires, if that was asked.
        expires_at: Option<i64>,
    },
    Failed(Error),
}

/// What stands for the time of a row that never expires.
const NEVER: i64 = i64::MAX;

impl Op {
    /// An operation of whose row nobody asks anything.
    pub(crate) fn new(collection: u32, change: Change) -> Self {
        Self { asks_expiry: false, ..Self::expecting(collection, change, None) }
    }

    /// An operation that is logged only if its row is as expected.
    pub(crate) fn expecting(collection: u32, change: Change, expect: Option<Expect>) -> Self {
        let id = change.id();
        Self {
            collection,
            expect,
            batch_key: None,
            mark: id.map_or(0, Id::mark),
            expires_at: None,
            asks_expiry: expect.is_some() || matches!(change, Change::Delete(_)),
            change,
            found: Mutex::default(),
            existed: AtomicBool::new(false),
            hidden_expires_at: AtomicI64::new(NEVER),
            failure: OnceLock::new(),
            held: Mutex::default(),
        }
    }

    /// A record that is only counted.
    pub(crate) fn nothing(collection: u32) -> Self {
        Self::new(collection, Change::Nothing)
    }

    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self.change, Change::Nothing)
    }

    /// What it adds to the memtable, beside codes; a delete nothing.
    pub(crate) fn memtable_bytes(&self) -> u64 {
        match &self.change {
            Change::Upsert(row) => bytes_of(row),
            _ => 0,
        }
    }

    /// Rows it adds to the memtable.
    fn rows(&self) -> usize {
        usize::from(matches!(self.change, Change::Upsert(_)))
    }

    pub(crate) fn collection(&self) -> u32 {
        self.collection
    }

    /// One whose row expires then.
    pub(crate) fn expiring(self, expires_at: Option<i64>) -> Self {
        Self { expires_at, ..self }
    }

    /// The delete of this version of a row, which was found at this place of the segments, or in a memtable.
    pub(crate) fn removing(
        collection: &CollectionState,
        (id, version): (Id, Lsn),
        place: Option<RowPlace>,
    ) -> Self {
        let segment_version = place.as_ref().map(|_| version);
        let found = Found::At {
            generation: collection.generation,
            place,
            version: segment_version,
            expires_at: None,
        };
        let removing = Self::expecting(collection.id, Change::Delete(id), Some(Expect::Version(version)));
        Self { found: Mutex::new(found), asks_expiry: false, ..removing }
    }

    /// Has it hold this until its frame is applied.
    pub(crate) fn hold(&mut self, charge: Option<Charge>) {
        self.held = Mutex::new(charge.map(Box::new));
    }

    /// The last operation of a batch that has a key.
    pub(crate) fn naming(self, batch_key: BatchKey) -> Self {
        Self { batch_key: Some(Box::new(batch_key)), ..self }
    }

    /// The key of the batch that ends with this record.
    pub(crate) fn batch_key(&self) -> Option<&BatchKey> {
        self.batch_key.as_deref()
    }

    pub(crate) fn id(&self) -> Option<&Id> {
        self.change.id()
    }

    /// The mark of its row among those of all collections.
    fn mark_in_queue(&self) -> u64 {
        self.marked().map_or(0, |id| mark_of(self.collection, id))
    }

    fn marked(&self) -> Option<Marked<'_>> {
        self.id().map(|id| Marked { id, mark: self.mark })
    }

    /// Whether a row was hidden that lived and had not expired at this moment; known once the write is visible.
    pub(crate) fn existed(&self, now_micros: i64) -> bool {
        self.existed.load(Ordering::Acquire) && self.hidden_expires_at.load(Ordering::Acquire) > now_micros
    }

    /// Why the operation, logged as it is, could not be applied; known once its frame is visible.
    pub(crate) fn failure(&self) -> Option<&Damage> {
        self.failure.get()
    }

    /// As [`Op::prepare`] where no segment has to be looked at: there is none, or a memtable knows the id, and then
    /// no older copy of it lives. `false` if one has to be. Reads no file.
    pub(crate) fn prepare_in_memory(&self, collection: &CollectionState) -> bool {
        let Some(id) = self.marked() else { return true };
        if !collection.segments.is_empty() && !collection.memtables().any(|memtable| memtable.knows(id)) {
            return false;
        }
        // A memtable leaves a collection by a flush, and that raises the generation.
        let found =
            Found::At { generation: collection.generation, place: None, version: None, expires_at: None };
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
        let found = collection.find_in_segments(id).and_then(|place| self.found_at(collection, place));
        let (found, result) = match found {
            Ok(found) => (found, Ok(())),
            Err(error) => (Found::Failed(error.clone()), Err(error)),
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
        result
    }

    /// What the look for its row gave, with what of the row is asked.
    fn found_at(&self, collection: &CollectionState, place: Option<RowPlace>) -> crate::error::Result<Found> {
        let version = match &place {
            Some((live, row)) if self.expect.is_some() => Some(live.segment.lsn_at(*row)?),
            _ => None,
        };
        let expires_at = match (&place, collection.schema.expiry()) {
            (Some((live, row)), Some(field)) if self.asks_expiry => {
                match live.segment.time_at(&collection.schema, field, *row) {
                    // What is written whether the row expired or not does not fail for that.
                    Err(_) if self.expect.is_none() => None,
                    expires_at => expires_at?,
                }
            }
            _ => None,
        };
        Ok(Found::At { generation: collection.generation, place, version, expires_at })
    }

    /// As [`Op::prepare`] for many: each segment's ids are passed over once. Where a segment cannot be read they are left to be looked
    /// up one by one, and the failure to whom it concerns.
    pub(crate) fn prepare_each<'a>(ops: impl Iterator<Item = &'a Self>, collection: &CollectionState) {
        // What is written again and again is known to a memtable, and in many segments dead.
        let unknown = ops.filter(|op| !op.prepare_in_memory(collection));
        let mut asked: Vec<(&Id, &Self)> = unknown.filter_map(|op| Some((op.id()?, op))).collect();
        if asked.is_empty() {
            return;
        }
        if collection.schema.id_kind == IdKind::Int {
            // As they lie in segments, so that none of those has to sort them.
            asked.sort_by_cached_key(|(id, _)| if let Id::Int(n) = id { *n } else { 0 });
        }
        let ids: Vec<&Id> = asked.iter().map(|(id, _)| *id).collect();
        let Ok(places) = collection.find_each_in_segments(&ids) else { return };
        for ((_, op), place) in asked.into_iter().zip(places) {
            if let Ok(found) = op.found_at(collection, place) {
                *op.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
            }
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
        let Some(id) = self.marked() else { return };
        collection.active.note_op(lsn);
        let existed = match self.hide_older(collection, id, lsn) {
            Ok(existed) => existed,
            Err(error) => {
                let damage = Damage::new(lsn, &error);
                let _ = self.failure.set(damage.clone());
                // The first cause stays.
                let _ = collection.damage.set(damage);
                return;
            }
        };
        self.existed.store(existed, Ordering::Release);
        if let Change::Upsert(row) = &self.change {
            collection.active.insert(lsn, Arc::clone(row), self.mark);
        }
    }

    fn note_expiry(&self, expires_at: Option<i64>) {
        self.hidden_expires_at.store(expires_at.unwrap_or(NEVER), Ordering::Release);
    }

    /// Hides the one live older version, wherever it is.
    fn hide_older(
        &self,
        collection: &CollectionState,
        id: Marked<'_>,
        lsn: Lsn,
    ) -> crate::error::Result<bool> {
        for memtable in collection.memtables() {
            if let Some(was_alive) = memtable.hide(id, lsn) {
                if let Some(field) = collection.schema.expiry().filter(|_| self.asks_expiry) {
                    self.note_expiry(memtable.newest(id.id).and_then(|slot| slot.row().expires_at(field)));
                }
                return Ok(was_alive);
            }
        }
        match &*self.found.lock().unwrap_or_else(PoisonError::into_inner) {
            Found::At { place: Some((live, row)), expires_at, .. } => {
                self.note_expiry(*expires_at);
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
    /// Bytes of the frames that are appended and not applied.
    queued_bytes: AtomicU64,
}

impl Memory {
    pub(crate) fn new(keys: RecentKeys) -> Self {
        Self { keys, queued_bytes: AtomicU64::new(0) }
    }

    /// Bytes that frames take which are appended and not applied, about.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queued_bytes.load(Ordering::SeqCst)
    }
}

/// What a frame takes in memory before its rows are a memtable's.
fn bytes_in_queue(ops: &[Op]) -> u64 {
    ops.iter().map(|op| size_of::<Op>() as u64 + op.memtable_bytes()).sum()
}

impl Target for Memory {
    type Content = Catalog;
    type Frame = Vec<Op>;

    fn marks(ops: &Vec<Op>) -> impl Iterator<Item = u64> {
        ops.iter().map(Op::mark_in_queue)
    }

    fn note_appended(&self, ops: &Vec<Op>, last: Lsn) {
        self.queued_bytes.fetch_add(bytes_in_queue(ops), Ordering::SeqCst);
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

    fn with_room(&self, catalog: &Catalog, ops: &Vec<Op>, shown: Lsn) -> Option<Catalog> {
        let state_of = |op: &Op| catalog.collections.get(&op.collection);
        // The look that most frames need.
        if ops.iter().filter_map(state_of).all(|state| state.active.has_room_for(ops.len())) {
            return None;
        }
        let mut rows: BTreeMap<u32, usize> = BTreeMap::new();
        ops.iter().for_each(|op| *rows.entry(op.collection).or_default() += op.rows());
        let mut next = catalog.clone();
        let mut any = false;
        for (id, rows) in rows {
            let Some(state) = catalog.collections.get(&id) else { continue };
            if !state.active.has_room_for(rows) {
                next.insert(state.sealed_when_full(shown));
                any = true;
            }
        }
        any.then_some(next)
    }

    fn apply(&self, catalog: &Catalog, ops: &Vec<Op>, first: Lsn, last: Lsn) {
        assert_eq!(first.plus(ops.len() as u64 - 1), last, "a frame has one LSN a record");
        for (n, op) in ops.iter().enumerate() {
            // A dropped collection's records are nobody's.
            if let Some(collection) = catalog.collections.get(&op.collection) {
                op.apply(collection, first.plus(n as u64));
            }
        }
        self.queued_bytes.fetch_sub(bytes_in_queue(ops), Ordering::SeqCst);
        if let Some(last) = ops.last() {
            // Its rows are held by memtables now.
            drop(last.held.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}
