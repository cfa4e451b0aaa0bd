//! Unpacked pages, kept within a bound of bytes, and of the memory, for the next row that is read of them.
//!
//! One cache serves all segments of a database. A segment joins it under a number that no other ever has, and takes its
//! pages out when it goes.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::page::Page;
use crate::error::Result;
use crate::memory_budget::{Account, Charge, MemoryUse};

/// Bytes of a kept page beside its own: key, counters, the cache's own table.
const ENTRY_BYTES: u64 = 160;
/// A guess at what a page takes on average, for the cache's table.
const USUAL_BYTES: u64 = 8 << 10;
/// Each part of the cache has a lock of its own, and its share of the bound.
const PARTS: usize = 4;
/// A share below this would hold but a few pages.
const LEAST_PART_BYTES: u64 = 1 << 20;

/// Which page of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PageOf {
    pub(super) group: u32,
    pub(super) column: u32,
    /// Among the data pages of the column chunk; `None` is its dictionary.
    pub(super) page: Option<u32>,
}

/// What the cache has held and done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageCounts {
    /// Bytes in it.
    pub(crate) bytes: u64,
    /// Pages that were there.
    pub(crate) found: u64,
    /// Pages that had to be unpacked.
    pub(crate) unpacked: u64,
}

/// A page, and what is held of the memory for as long as anybody has it.
#[derive(Debug)]
pub(super) struct KeptPage {
    page: Page,
    /// None where it is not kept.
    _charge: Option<Charge>,
}

impl KeptPage {
    pub(super) fn unkept(page: Page) -> Self {
        Self { page, _charge: None }
    }
}

impl Deref for KeptPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

/// The pages of all segments.
pub(crate) struct PageCache {
    /// None keeps nothing.
    kept: Option<Cache<(u64, PageOf), Arc<KeptPage>, InBytes>>,
    max_bytes: u64,
    memory: Account,
    segments: AtomicU64,
    found: AtomicU64,
    unpacked: AtomicU64,
}

#[derive(Clone)]
struct InBytes;

impl Weighter<(u64, PageOf), Arc<KeptPage>> for InBytes {
    fn weight(&self, _: &(u64, PageOf), page: &Arc<KeptPage>) -> u64 {
        weight(page)
    }
}

fn weight(page: &Page) -> u64 {
    ENTRY_BYTES + page.bytes() as u64
}

impl PageCache {
    /// A cache of at most so many bytes, held of this account; 0 keeps nothing.
    pub(crate) fn new(max_bytes: u64, memory: &Account) -> Self {
        let (segments, found, unpacked) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let kept = (max_bytes > 0).then(|| cache(max_bytes));
        Self { kept, max_bytes, memory: memory.clone(), segments, found, unpacked }
    }

    /// Forgets about so many bytes of what is used least, or all.
    pub(crate) fn give_back(&self, bytes: u64) {
        if let Some(kept) = &self.kept {
            kept.set_capacity(kept.weight().saturating_sub(bytes).max(1));
            kept.set_capacity(self.max_bytes);
        }
    }

    /// Takes the memory for a page; where there is none, what is used least gives way first.
    fn hold(&self, bytes: u64) -> Option<Charge> {
        self.memory.try_charge(MemoryUse::PageCache, bytes).or_else(|| {
            self.give_back(bytes);
            self.memory.try_charge(MemoryUse::PageCache, bytes)
        })
    }

    /// What it holds and did.
    pub(crate) fn counts(&self) -> PageCounts {
        PageCounts {
            bytes: self.kept.as_ref().map_or(0, Cache::weight),
            found: self.found.load(Ordering::Relaxed),
            unpacked: self.unpacked.load(Ordering::Relaxed),
        }
    }
}

fn cache(max_bytes: u64) -> Cache<(u64, PageOf), Arc<KeptPage>, InBytes> {
    let items = usize::try_from(max_bytes / USUAL_BYTES).unwrap_or(usize::MAX).clamp(16, 1 << 20);
    let parts = if max_bytes / PARTS as u64 >= LEAST_PART_BYTES { PARTS } else { 1 };
    let options = OptionsBuilder::new()
        .shards(parts)
        .estimated_items_capacity(items)
        .weight_capacity(max_bytes)
        .build()
        .expect("everything that must be said is");
    Cache::with_options(options, InBytes, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

/// One segment's part in the cache, for as long as the segment is open.
pub(super) struct Joined {
    cache: Arc<PageCache>,
    segment: u64,
    /// Whether a page of it was ever kept.
    has_kept: AtomicBool,
    /// For what the segment itself keeps in memory.
    own: Charge,
}

impl Joined {
    /// For a segment that keeps so many bytes in memory itself.
    pub(super) fn new(cache: &Arc<PageCache>, own_bytes: u64) -> Self {
        let segment = cache.segments.fetch_add(1, Ordering::Relaxed);
        let own = cache.memory.charge(MemoryUse::Segments, own_bytes);
        Self { cache: Arc::clone(cache), segment, has_kept: AtomicBool::new(false), own }
    }

    /// Notes that the segment will keep so much more.
    pub(super) fn keep_more(&self, bytes: u64) {
        self.own.grow(bytes);
    }

    /// Whose memory this is.
    pub(super) fn memory(&self) -> &Account {
        &self.cache.memory
    }

    /// The page, unpacked now if it is not there. Of two callers that miss it at once both unpack it.
    pub(super) fn page(&self, of: PageOf, unpack: impl FnOnce() -> Result<Page>) -> Result<Arc<KeptPage>> {
        let kept = self.cache.kept.as_ref();
        if let Some(page) = kept.and_then(|kept| kept.get(&(self.segment, of))) {
            self.cache.found.fetch_add(1, Ordering::Relaxed);
            return Ok(page);
        }
        self.cache.unpacked.fetch_add(1, Ordering::Relaxed);
        let page = unpack()?;
        let Some(kept) = kept else { return Ok(Arc::new(KeptPage::unkept(page))) };
        let Some(charge) = self.cache.hold(weight(&page)) else {
            return Ok(Arc::new(KeptPage::unkept(page)));
        };
        let page = Arc::new(KeptPage { page, _charge: Some(charge) });
        self.has_kept.store(true, Ordering::Relaxed);
        kept.insert((self.segment, of), Arc::clone(&page));
        Ok(page)
    }
}

/// What belongs to a segment that is gone is never asked for again, so its room is given back at once. Walks all that is
/// kept, some thousands of pages, unless none was ever of this segment.
impl Drop for Joined {
    fn drop(&mut self) {
        let has_kept = *self.has_kept.get_mut();
        if let Some(kept) = self.cache.kept.as_ref().filter(|_| has_kept) {
            kept.retain(|(segment, _), _| *segment != self.segment);
        }
    }
}

impl fmt::Debug for PageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.kept.as_ref().map_or(0, Cache::capacity);
        write!(f, "PageCache({} of {most} bytes)", self.counts().bytes)
    }
}
