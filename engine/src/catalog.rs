//! What a version holds: every collection's schema, memtables and segments.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use crate::deletion_vector::DeletionVector;
use crate::error::{Error, Result};
use crate::filter_cache::{FilterCache, Matches};
use crate::id::Id;
use crate::index::{self, Coding};
use crate::lsn::Lsn;
use crate::memtable::Memtable;
use crate::overlay::Overlay;
use crate::schema::Schema;
use crate::segment::{PageCache, Segment};

mod damage;

pub(crate) use damage::Damage;

/// A segment and what is dead in it.
#[derive(Debug)]
pub(crate) struct LiveSegment {
    pub(crate) segment: Arc<Segment>,
    /// Dead at the manifest's `flushed_lsn`.
    pub(crate) deletion_vector: Arc<DeletionVector>,
    /// Hidden since, and still in memory for older readers.
    pub(crate) overlay: Arc<Overlay>,
}

impl LiveSegment {
    pub(crate) fn new(segment: Arc<Segment>, deletion_vector: DeletionVector) -> Self {
        let overlay = Arc::new(Overlay::new(segment.rows()));
        Self { segment, deletion_vector: Arc::new(deletion_vector), overlay }
    }

    /// Whether `row` lives at `lsn`, which is no older than the manifest this deletion vector belongs to.
    pub(crate) fn lives_at(&self, row: u32, lsn: Lsn) -> bool {
        !self.deletion_vector.contains(row) && (self.overlay.len() == 0 || !self.overlay.is_hidden(row, lsn))
    }

    /// Live rows at `lsn`.
    pub(crate) fn live_rows(&self, lsn: Lsn) -> u64 {
        u64::from(self.segment.rows()) - self.deletion_vector.len() - self.hidden_at(lsn).count() as u64
    }

    /// How many of the rows a filter takes live at `lsn`. Looks at the dead ones, which are usually fewer.
    pub(crate) fn live_matches(&self, matches: &Matches, lsn: Lsn) -> u64 {
        let dead = self.deletion_vector.iter().chain(self.hidden_at(lsn));
        u64::from(matches.count) - dead.filter(|row| matches.rows.contains(*row)).count() as u64
    }

    /// Rows hidden at `lsn` and not yet in the deletion vector.
    fn hidden_at(&self, lsn: Lsn) -> impl Iterator<Item = u32> {
        self.overlay.hidden_at(lsn).filter(|row| !self.deletion_vector.contains(*row))
    }

    /// Whether any row is hidden that the deletion vector does not name.
    pub(crate) fn has_unflushed_hides(&self) -> bool {
        self.overlay.len() > 0 && self.hidden_at(Lsn::MAX).next().is_some()
    }

    /// Whether anything may be dead.
    pub(crate) fn has_dead_rows(&self) -> bool {
        !self.deletion_vector.is_empty() || self.overlay.len() > 0
    }
}

/// A row of a segment.
pub(crate) type RowPlace = (Arc<LiveSegment>, u32);

/// One collection in a version. Memtables and overlays are shared between versions and grow; the lists are not.
#[derive(Clone, Debug)]
pub(crate) struct CollectionState {
    pub(crate) id: u32,
    pub(crate) name: Arc<str>,
    /// Directory of the segments.
    pub(crate) dir: Arc<PathBuf>,
    /// The current schema; older ones only lack its last fields.
    pub(crate) schema: Arc<Schema>,
    /// Everything at or below is in segments and deletion vectors.
    pub(crate) flushed_lsn: Lsn,
    pub(crate) active: Arc<Memtable>,
    /// Oldest first; each with the LSN it was sealed at.
    pub(crate) sealed: Vec<(Arc<Memtable>, Lsn)>,
    /// Oldest first.
    pub(crate) segments: Arc<Vec<Arc<LiveSegment>>>,
    /// Raised whenever `segments` changes: what was looked up before must be looked up again.
    pub(crate) generation: u64,
    /// Set when a logged write could not be applied: writes to this collection stop, its `flushed_lsn`
    /// stands still, and so the log keeps its rows.
    pub(crate) damage: Arc<OnceLock<Damage>>,
    /// Rows that had expired at the last look for such, and are not deleted yet.
    pub(crate) expired_rows: Arc<AtomicU64>,
}

impl CollectionState {
    /// The memtables, newest first.
    pub(crate) fn memtables(&self) -> impl DoubleEndedIterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(self.sealed.iter().rev().map(|(memtable, _)| memtable))
    }

    /// Finds the live copy of `id` in the segments, if there is one; reads files.
    pub(crate) fn find_in_segments(&self, id: &Id) -> Result<Option<RowPlace>> {
        for live in self.segments.iter().rev() {
            if let Some(row) = live.segment.find(id)?
                && live.lives_at(row, Lsn::MAX.pred())
            {
                return Ok(Some((Arc::clone(live), row)));
            }
        }
        Ok(None)
    }

    /// As [`CollectionState::find_in_segments`] for each of these ids, in one pass over the ids of each segment.
    pub(crate) fn find_each_in_segments(&self, ids: &[&Id]) -> Result<Vec<Option<RowPlace>>> {
        let mut places = vec![None; ids.len()];
        let mut left: Vec<usize> = (0..ids.len()).collect();
        for live in self.segments.iter().rev() {
            let asked: Vec<&Id> = left.iter().map(|at| ids[*at]).collect();
            for (n, row) in live.segment.find_each(&asked)? {
                if live.lives_at(row, Lsn::MAX.pred()) {
                    places[left[n]] = Some((Arc::clone(live), row));
                }
            }
            left.retain(|at| places[*at].is_none());
            if left.is_empty() {
                break;
            }
        }
        Ok(places)
    }

    /// The oldest LSN of this collection that only the log and memtables hold.
    pub(crate) fn oldest_unflushed(&self) -> Option<Lsn> {
        let sealed = self.sealed.iter().filter_map(|(memtable, _)| memtable.first_op());
        sealed.chain(self.active.first_op()).min()
    }

    /// The same with its active memtable sealed, where everything up to `sealed_at` is visible, and an empty one in its place.
    pub(crate) fn sealed_when_full(&self, sealed_at: Lsn) -> Self {
        let mut next = self.clone();
        next.sealed.push((Arc::clone(&self.active), sealed_at));
        next.active = Arc::new(self.active.next());
        next.active.begin_codes(self.active.coding().cloned());
        next
    }

    /// How rows are encoded as they arrive.
    pub(crate) fn coding(&self) -> Option<Coding> {
        index::coding(self.schema.metric, usize::from(self.schema.dim))
    }

    /// Answers with the cause when an earlier write could not be applied. It says of that write what became of it, the log
    /// being synced up to there: another write is refused by [`CollectionState::check_takes_writes`].
    pub(crate) fn check_damage(&self, synced: Lsn) -> Result<()> {
        self.damage.get().map_or(Ok(()), |damage| Err(damage.told(synced)))
    }

    /// Refuses a write, of which nothing was logged, when an earlier one could not be applied.
    pub(crate) fn check_takes_writes(&self) -> Result<()> {
        self.damage.get().map_or(Ok(()), |damage| Err(damage.refusal(&self.name)))
    }
}

/// Every collection, by number.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    pub(crate) collections: BTreeMap<u32, Arc<CollectionState>>,
    /// Shared by all versions.
    pub(crate) filters: Arc<FilterCache>,
    /// The same, of all their segments.
    pub(crate) pages: Arc<PageCache>,
}

impl Catalog {
    /// No collection yet.
    pub(crate) fn new(filters: FilterCache, pages: PageCache) -> Self {
        Self { collections: BTreeMap::new(), filters: Arc::new(filters), pages: Arc::new(pages) }
    }

    /// No collection, and the same caches.
    pub(crate) fn without_collections(&self) -> Self {
        Self { collections: BTreeMap::new(), ..self.clone() }
    }

    /// Adds a collection, whose segments keep their pages here.
    pub(crate) fn insert(&mut self, collection: CollectionState) {
        collection.segments.iter().for_each(|live| live.segment.keep_pages_in(&self.pages));
        self.collections.insert(collection.id, Arc::new(collection));
    }

    pub(crate) fn get(&self, id: u32) -> Result<&Arc<CollectionState>> {
        self.collections.get(&id).ok_or_else(Error::dropped)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<CollectionState>> {
        self.collections.values().find(|collection| &*collection.name == name)
    }

    /// The oldest LSN that only the log holds, over all collections.
    pub(crate) fn oldest_unflushed(&self) -> Option<Lsn> {
        self.collections.values().filter_map(|collection| collection.oldest_unflushed()).min()
    }

    /// Bytes in memtables.
    pub(crate) fn memtable_bytes(&self) -> u64 {
        self.collections
            .values()
            .flat_map(|collection| collection.memtables())
            .map(|memtable| memtable.bytes())
            .sum()
    }

    /// Those of them that no flush can free: of damaged collections, and of those that are `failing`.
    pub(crate) fn held_memtable_bytes(&self, failing: &BTreeSet<u32>) -> u64 {
        let held =
            |state: &&Arc<CollectionState>| state.damage.get().is_some() || failing.contains(&state.id);
        self.collections
            .values()
            .filter(held)
            .flat_map(|state| state.memtables())
            .map(|memtable| memtable.held_bytes())
            .sum()
    }

    /// A copy with one collection replaced.
    pub(crate) fn with(&self, collection: CollectionState) -> Self {
        let mut next = self.clone();
        next.insert(collection);
        next
    }
}
