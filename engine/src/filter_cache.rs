//! Which rows of segments match filters, and the columns that say so, kept within a bound of bytes.
//!
//! One cache serves all collections of a database and hangs on its catalog: readers have it with their view, and
//! segments know nothing of it. It holds three kinds of things: a column of a segment, decoded and coded, the rows of
//! a segment that a filter takes, and codes of just those rows for a filter that is asked often, such that find and such that
//! prove. What belongs to a segment that is gone is never found again, since a key holds
//! the place of its segment and keeps that from being used anew.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::bitmap::Bitmap;
use crate::error::{Error, Result};
use crate::filter::{Bound, Coded, Columns, Source};
use crate::index::{ByteCodes, Subset, Thinned};
use crate::memory_budget::{Account, Charge, MemoryUse};
use crate::schema::Schema;
use crate::segment::Segment;

mod byte_codes;
mod decode;
mod matches;

pub(crate) use matches::{Matches, OwnCodesKind, block_mask};

/// Codes of just the rows that a filter takes of a segment.
#[derive(Clone, Debug)]
pub(crate) enum OwnCodes {
    /// Encoded anew, in one list.
    Few(Arc<Subset>),
    /// Taken from the lists of the segment's index.
    Many(Arc<Thinned>),
}

/// Columns and results of filters, within a bound. Reads of the cache take one lock shortly; two callers that need
/// the same thing for the first time make it once.
pub(crate) struct FilterCache {
    kept: Cache<Key, Kept, InBytes>,
    max_bytes: u64,
    /// Bytes of thinned lists among what is kept.
    thinned: Arc<AtomicU64>,
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
    /// As `Rows`.
    ByteCodes(u16, Arc<[u8]>),
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
    _thinned: Option<Arc<ThinnedShare>>,
}

/// Bytes of thinned lists that are kept, of all that are.
struct ThinnedShare {
    bytes: u64,
    all: Arc<AtomicU64>,
}

impl ThinnedShare {
    fn take(all: &Arc<AtomicU64>, bytes: u64, most: u64) -> Option<Self> {
        let more = |kept: u64| (kept + bytes <= most).then_some(kept + bytes);
        all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self { bytes, all: Arc::clone(all) })
    }
}

impl Drop for ThinnedShare {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Clone)]
enum Thing {
    Column(Arc<Coded>),
    Rows(Arc<Matches>),
    Codes(OwnCodes),
    ByteCodes(Arc<ByteCodes>),
}

/// Bytes of a kept thing beside its heap: keys, counters, the cache's own table.
const ENTRY_BYTES: u64 = 256;
/// All lists thinned for filters take one part in so many of the bound at most: the rest has room beside them.
const THINNED_SHARE: u64 = 2;
/// Lists are thinned where so much at most of what a search of them reads is left.
const MOST_LEFT_PERCENT: u64 = 85;
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
        What::Rows(_, filter) | What::Codes(_, filter) | What::ByteCodes(_, filter) => filter.len() as u64,
        _ => 0,
    };
    let thing = match thing {
        Thing::Column(column) => column.bytes(),
        Thing::Rows(matches) => matches.bytes(),
        Thing::Codes(OwnCodes::Few(codes)) => codes.bytes(),
        Thing::Codes(OwnCodes::Many(lists)) => lists.bytes(),
        Thing::ByteCodes(codes) => codes.bytes(),
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
        Self { kept, max_bytes, thinned: Arc::default(), memory: memory.clone() }
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
    ) -> Option<OwnCodes> {
        match self.kept.get(&codes_key(segment, schema, bound)) {
            Some(Kept { thing: Thing::Codes(codes), .. }) => Some(codes),
            _ => None,
        }
    }

    /// Makes and keeps codes of just the rows in `matches`, which [`FilterCache::matching`] gave for the same. `None` where
    /// there can be none, or something cannot be read: a search that needs it will say so.
    pub(crate) fn make_codes(
        &self,
        segment: &Arc<Segment>,
        schema: &Schema,
        bound: &Bound,
        matches: &Matches,
        kind: OwnCodesKind,
    ) -> Option<OwnCodes> {
        let key = codes_key(segment, schema, bound);
        match kind {
            OwnCodesKind::Few => {
                let codes = OwnCodes::Few(encode(segment, schema, matches)?);
                if let Ok(kept) = self.keep(&key, Thing::Codes(codes.clone())) {
                    self.kept.insert(key, kept);
                }
                Some(codes)
            }
            OwnCodesKind::Many => self.thin(segment, matches, key),
        }
    }

    /// Makes and keeps the lists of a segment with the rows in `matches` only, where there is room for them beside all else and
    /// enough to leave out. The memory is taken before.
    fn thin(&self, segment: &Segment, matches: &Matches, key: Key) -> Option<OwnCodes> {
        let index = segment.vector_index().filter(|index| index.lists.coarse.is_some())?;
        // A row may have two slots.
        let held = segment.reading(8 * u64::from(index.lists.rows));
        let masks = matches.slots(|| segment.slot_rows(&index.lists)).ok()?;
        drop(held);
        let wanted = |list: usize, block: usize| block_mask(masks, index.first_blocks[list] as usize + block);
        let bytes = Thinned::bytes_for(&index.lists, wanted);
        if bytes * 100 > Thinned::bytes_instead_of(&index.lists, wanted) * MOST_LEFT_PERCENT {
            return None;
        }
        let share = ThinnedShare::take(&self.thinned, bytes, self.max_bytes / THINNED_SHARE)?;
        let charge = self.memory.try_charge(MemoryUse::FilterCaches, ENTRY_BYTES + bytes)?;
        let thinned =
            Thinned::new(&index.lists, wanted, |list| segment.list_codes(&index.lists, list)).ok()?;
        let codes = OwnCodes::Many(Arc::new(thinned));
        let kept = Kept {
            thing: Thing::Codes(codes.clone()),
            _charge: Arc::new(charge),
            _thinned: Some(Arc::new(share)),
        };
        self.kept.insert(key, kept);
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
        match self.room(weight(key, &thing)) {
            Some(charge) => Ok(Kept { thing, _charge: Arc::new(charge), _thinned: None }),
            None => Err(Unkept::NoRoom(thing)),
        }
    }

    fn room(&self, bytes: u64) -> Option<Charge> {
        if bytes > self.max_bytes {
            // Nothing else has to go for what cannot be kept.
            return None;
        }
        self.memory.try_charge(MemoryUse::FilterCaches, bytes).or_else(|| {
            self.give_back(bytes);
            self.memory.try_charge(MemoryUse::FilterCaches, bytes)
        })
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

/// Encodes the rows in `matches` anew.
fn encode(segment: &Segment, schema: &Schema, matches: &Matches) -> Option<Arc<Subset>> {
    let index = segment.vector_index()?;
    let row_bytes = SUBSET_ROW_BYTES + u64::from(schema.dim);
    let _held = segment.reading(row_bytes * u64::from(matches.count));
    let rows: Vec<u32> = matches.rows.iter().collect();
    let vectors: Vec<&[f32]> = rows.iter().map(|row| segment.vector(*row).ok()).collect::<Option<_>>()?;
    Subset::new(schema.metric, &index.rotation, &rows, &vectors).map(Arc::new)
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
