//! Which rows of segments match filters, and the columns that say so, kept within a bound of bytes.
//!
//! One cache serves all collections of a database and hangs on its catalog: readers have it with their view, and
//! segments know nothing of it. It holds three kinds of things: a column of a segment, decoded and coded, the rows of
//! a segment that a filter takes, and codes of just those rows for a filter that is asked often. What belongs to a segment that is gone is never found again, since a key holds
//! the place of its segment and keeps that from being used anew.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::bitmap::Bitmap;
use crate::deletion_vector::DeletionVector;
use crate::error::{Error, Result};
use crate::filter::{Bound, Coded, Columns, Source};
use crate::index::Subset;
use crate::memory_budget::{Account, Charge, MemoryUse};
use crate::schema::Schema;
use crate::segment::Segment;

mod decode;

/// The rows of a segment that a filter takes, dead ones included.
#[derive(Debug)]
pub(crate) struct Matches {
    /// One bit a row of the segment.
    pub(crate) rows: Bitmap,
    /// How many are set.
    pub(crate) count: u32,
    /// Whether statistics alone said that there are none.
    pub(crate) pruned: bool,
    slots: OnceLock<Box<[u64]>>,
    concentration: OnceLock<f32>,
    /// Searches that would have used codes of just these rows, had there been any.
    asked: AtomicU32,
    /// How many of the rows were dead when a deletion vector of so many was looked at: that many in the high half.
    dead: AtomicU64,
}

impl Matches {
    /// How many of the rows the segment's deletion vector does not name. Counted once for each that is longer than the one before:
    /// it only grows. Rows hidden in memory since count as living.
    pub(crate) fn alive(&self, deletion_vector: &DeletionVector) -> u32 {
        let len = deletion_vector.len();
        let known = self.dead.load(Ordering::Relaxed);
        let dead = if known >> 32 == len {
            known & u64::from(u32::MAX)
        } else {
            let dead = deletion_vector.iter().filter(|row| self.rows.contains(*row)).count() as u64;
            self.dead.store(len << 32 | dead, Ordering::Relaxed);
            dead
        };
        u32::try_from(u64::from(self.count).saturating_sub(dead)).unwrap_or(0)
    }

    fn new(rows: Bitmap, pruned: bool) -> Self {
        Self {
            count: rows.count(),
            rows,
            pruned,
            slots: OnceLock::new(),
            concentration: OnceLock::new(),
            asked: AtomicU32::new(0),
            dead: AtomicU64::new(0),
        }
    }

    /// The same set in the order of an index's slots: bit `i % 64` of word `i / 64` says whether the row in slot `i`
    /// matches. A row may have several slots; `u32::MAX` stands for a slot without a row. `rows_of_slots` is asked the
    /// first time only: a segment has one order.
    ///
    /// # Errors
    /// What `rows_of_slots` fails with; nothing is kept then.
    pub(crate) fn slots<E>(&self, rows_of_slots: impl FnOnce() -> Result<Vec<u32>, E>) -> Result<&[u64], E> {
        if let Some(slots) = self.slots.get() {
            return Ok(slots);
        }
        let rows = rows_of_slots()?;
        let word = |rows: &[u32]| {
            let bits = rows.iter().enumerate();
            bits.fold(0, |word, (at, row)| word | u64::from(self.rows.contains(*row)) << at)
        };
        let words = rows.chunks(64).map(word).collect();
        Ok(self.slots.get_or_init(|| words))
    }

    /// How the rows lie in the lists of the segment's index; `compute` is asked the first time only.
    pub(crate) fn concentration(&self, compute: impl FnOnce() -> f32) -> f32 {
        *self.concentration.get_or_init(compute)
    }

    /// Whether it is now that codes of just these rows pay. To encode a row costs what a search of the codes saves on
    /// some 64 of them; so they are made when the searches so far could have saved as much: whatever is asked later, in
    /// all no more than twice the least is spent.
    pub(crate) fn is_due(&self) -> bool {
        let due = (self.count / ROWS_A_SEARCH).max(1);
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        // Of searches at once one makes them.
        asked >= due && self.asked.compare_exchange(asked, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Bytes on the heap, slots included before they are there: about two a row where rows spill to a second list.
    fn bytes(&self) -> u64 {
        3 * size_of_val(self.rows.words()) as u64
    }
}

/// Rows whose encoding costs what one search of their codes saves.
const ROWS_A_SEARCH: u32 = 64;

/// Columns and results of filters, within a bound. Reads of the cache take one lock shortly; two callers that need
/// the same thing for the first time make it once.
pub(crate) struct FilterCache {
    kept: Cache<Key, Kept, InBytes>,
    max_bytes: u64,
    memory: Account,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    segment: Which,
    what: What,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum What {
    /// By the field's number, which no other field of the collection ever has.
    Field(u32),
    Id,
    Lsn,
    /// By version of the schema and [`Bound::key`].
    Rows(u16, Arc<[u8]>),
    /// As `Rows`.
    Codes(u16, Arc<[u8]>),
}

/// A segment by its place in memory. The weak reference keeps the place, not the segment.
#[derive(Clone)]
struct Which(Weak<Segment>);

impl PartialEq for Which {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl Eq for Which {}

impl Hash for Which {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ptr().hash(state);
    }
}

/// A thing and the bytes held for it while the cache holds it: who uses one that was dropped meanwhile holds it uncounted.
#[derive(Clone)]
struct Kept {
    thing: Thing,
    _charge: Arc<Charge>,
}

#[derive(Clone)]
enum Thing {
    Column(Arc<Coded>),
    Rows(Arc<Matches>),
    Codes(Arc<Subset>),
}

/// Bytes of a kept thing beside its heap: keys, counters, the cache's own table.
const ENTRY_BYTES: u64 = 256;
/// Of a row whose codes are made: its number, the place of its vector and its slot. The codes are at most a byte a number.
const SUBSET_ROW_BYTES: u64 = 4 + 16 + 8;
/// A guess at what is kept on average, for the cache's table.
const USUAL_BYTES: u64 = 32 << 10;

#[derive(Clone)]
struct InBytes;

impl Weighter<Key, Kept> for InBytes {
    fn weight(&self, key: &Key, kept: &Kept) -> u64 {
        weight(key, &kept.thing)
    }
}

fn weight(key: &Key, thing: &Thing) -> u64 {
    let key = match &key.what {
        What::Rows(_, filter) | What::Codes(_, filter) => filter.len() as u64,
        _ => 0,
    };
    let thing = match thing {
        Thing::Column(column) => column.bytes(),
        Thing::Rows(matches) => matches.bytes(),
        Thing::Codes(codes) => codes.bytes(),
    };
    ENTRY_BYTES + key + thing
}

/// Why a thing is not kept.
enum Unkept {
    /// It could not be made.
    Failed(Error),
    /// The memory is taken.
    NoRoom(Thing),
}

impl FilterCache {
    /// A cache of at most so many bytes, held of this account; 0 keeps nothing.
    pub(crate) fn new(max_bytes: u64, memory: &Account) -> Self {
        let items = usize::try_from(max_bytes / USUAL_BYTES).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        // One shard: a share of the bound for each of several could not hold a large column.
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(items)
            .weight_capacity(max_bytes)
            .build()
            .expect("everything that must be said is");
        let kept =
            Cache::with_options(options, InBytes, DefaultHashBuilder::default(), DefaultLifecycle::default());
        Self { kept, max_bytes, memory: memory.clone() }
    }

    /// The rows of `segment` that `bound` takes. `schema` is the one it was bound to. May read the columns it looks
    /// at, and so block on the disk.
    ///
    /// # Errors
    /// `Corrupt` or `Unavailable` when a column it looks at cannot be read. Nothing is kept then.
    pub(crate) fn matching(
        &self,
        segment: &Arc<Segment>,
        schema: &Schema,
        bound: &Bound,
    ) -> Result<Arc<Matches>> {
        let what = What::Rows(schema.version, Arc::clone(bound.key()));
        let rows = || self.evaluate(segment, schema, bound).map(|matches| Thing::Rows(Arc::new(matches)));
        match self.get_or_make(&key(segment, what), rows)? {
            Thing::Rows(matches) => Ok(matches),
            _ => unreachable!("rows are kept under the keys of rows"),
        }
    }

    /// Codes of just the rows that `bound` takes of `segment`, if they are kept.
    pub(crate) fn own_codes(
        &self,
        segment: &Arc<Segment>,
        schema: &Schema,
        bound: &Bound,
    ) -> Option<Arc<Subset>> {
        match self.kept.get(&codes_key(segment, schema, bound)) {
            Some(Kept { thing: Thing::Codes(codes), .. }) => Some(codes),
            _ => None,
        }
    }

    /// Makes and keeps codes of just the rows in `matches`, which [`FilterCache::matching`] gave for the same: about 3 us
    /// a row. `None` where there can be none, or a vector cannot be read: a search that needs it will say so.
    pub(crate) fn make_codes(
        &self,
        segment: &Arc<Segment>,
        schema: &Schema,
        bound: &Bound,
        matches: &Matches,
    ) -> Option<Arc<Subset>> {
        let index = segment.vector_index()?;
        let row_bytes = SUBSET_ROW_BYTES + u64::from(schema.dim);
        let _held = segment.reading(row_bytes * u64::from(matches.count));
        let rows: Vec<u32> = matches.rows.iter().collect();
        let vectors: Vec<&[f32]> = rows.iter().map(|row| segment.vector(*row).ok()).collect::<Option<_>>()?;
        let codes = Arc::new(Subset::new(schema.metric, &index.rotation, &rows, &vectors)?);
        let key = codes_key(segment, schema, bound);
        if let Ok(kept) = self.keep(&key, Thing::Codes(Arc::clone(&codes))) {
            self.kept.insert(key, kept);
        }
        Some(codes)
    }

    fn evaluate(&self, segment: &Arc<Segment>, schema: &Schema, bound: &Bound) -> Result<Matches> {
        let is_empty = |group| bound.is_never_true(&|source| segment.extent(schema, group, source));
        if (0..segment.group_count()).all(is_empty) {
            return Ok(Matches::new(Bitmap::none(segment.rows()), true));
        }
        let rows = bound.matching(&SegmentColumns { cache: self, segment, schema })?;
        Ok(Matches::new(rows, false))
    }

    /// A column of `segment`, decoded; may block on the disk.
    ///
    /// # Errors
    /// As [`FilterCache::matching`].
    pub(crate) fn column(
        &self,
        segment: &Arc<Segment>,
        schema: &Schema,
        source: Source,
    ) -> Result<Arc<Coded>> {
        let what = match source {
            Source::Id => What::Id,
            Source::Lsn => What::Lsn,
            Source::Field(position) => What::Field(schema.fields[position].id),
        };
        let column = || {
            self.forget_dropped();
            decode::column(segment, schema, source).map(|column| Thing::Column(Arc::new(column)))
        };
        match self.get_or_make(&key(segment, what), column)? {
            Thing::Column(column) => Ok(column),
            _ => unreachable!("columns are kept under the keys of columns"),
        }
    }

    /// What is kept under `key`, or what `make` makes, kept if there is memory for it.
    fn get_or_make(&self, key: &Key, make: impl FnOnce() -> Result<Thing>) -> Result<Thing> {
        let made = || make().map_err(Unkept::Failed).and_then(|thing| self.keep(key, thing));
        match self.kept.get_or_insert_with(key, made) {
            Ok(kept) => Ok(kept.thing),
            Err(Unkept::NoRoom(thing)) => Ok(thing),
            Err(Unkept::Failed(error)) => Err(error),
        }
    }

    /// Takes the memory for a thing; where there is none, what is used least gives way first.
    fn keep(&self, key: &Key, thing: Thing) -> Result<Kept, Unkept> {
        let bytes = weight(key, &thing);
        if bytes > self.max_bytes {
            // Nothing else has to go for what cannot be kept.
            return Err(Unkept::NoRoom(thing));
        }
        let charged = self.memory.try_charge(MemoryUse::FilterCaches, bytes).or_else(|| {
            self.give_back(bytes);
            self.memory.try_charge(MemoryUse::FilterCaches, bytes)
        });
        match charged {
            Some(charge) => Ok(Kept { thing, _charge: Arc::new(charge) }),
            None => Err(Unkept::NoRoom(thing)),
        }
    }

    /// Forgets so many bytes of what is used least, or all.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.kept.set_capacity(self.kept.weight().saturating_sub(bytes).max(1));
        self.kept.set_capacity(self.max_bytes.max(1));
    }

    /// Forgets what belongs to segments that nobody holds any more. Walks all that is kept: a few thousand things.
    pub(crate) fn forget_dropped(&self) {
        self.kept.retain(|key, _| key.segment.0.strong_count() > 0);
    }
}

impl fmt::Debug for FilterCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilterCache({} of {} bytes)", self.kept.weight(), self.kept.capacity())
    }
}

fn key(segment: &Arc<Segment>, what: What) -> Key {
    Key { segment: Which(Arc::downgrade(segment)), what }
}

fn codes_key(segment: &Arc<Segment>, schema: &Schema, bound: &Bound) -> Key {
    key(segment, What::Codes(schema.version, Arc::clone(bound.key())))
}

/// The columns of one segment, by way of the cache.
struct SegmentColumns<'a> {
    cache: &'a FilterCache,
    segment: &'a Arc<Segment>,
    schema: &'a Schema,
}

impl Columns for SegmentColumns<'_> {
    fn column(&self, source: Source) -> Result<Arc<Coded>> {
        self.cache.column(self.segment, self.schema, source)
    }
}

#[cfg(test)]
mod tests;
