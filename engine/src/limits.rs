//! The bounds a running database keeps, read once from the settings.

use std::time::Duration;

use crate::catalog::{Catalog, CollectionState};
use crate::config::{Durability, Settings};
use crate::filter_cache::FilterCache;
use crate::idempotency::KeyBounds;
use crate::manifest::Kept;
use crate::memory_budget::{Account, MemoryUse};
use crate::segment::PageCache;

/// Log files grow at least to this size: smaller ones would be changed all the time.
const LEAST_LOG_FILE_BYTES: u64 = 4 << 20;
/// A memtable may take one part in so many of what the segments beside it take before it is full: a young collection's log and
/// memtables would be larger than itself.
const MEMTABLE_SHARE: u64 = 8;
/// This much it may take in any case: smaller flushes cost more syncs and merges than they free space.
const LEAST_FULL_MEMTABLE_BYTES: u64 = 8 << 20;
/// The rows of a row group that is written may hold one part in so many of what a merge may: it holds them three times, as rows,
/// as columns and encoded, and vectors besides.
const ROW_GROUP_SHARE: u64 = 8;
/// And this much in any case: the largest payload of a row.
const LEAST_ROW_GROUP_BYTES: u64 = 1 << 20;

/// Bounds in bytes, counts and times; each is explained at its setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A memtable this large is sealed and flushed, that of a young collection earlier.
    pub(crate) memtable_bytes: u64,
    /// Whether writes count, and are shown, before they are synced.
    pub(crate) durability: Durability,
    /// Live log above which the collection with the oldest unflushed row is flushed.
    pub(crate) wal_flush_bytes: u64,
    /// Live log above which writes stall.
    pub(crate) wal_max_bytes: u64,
    /// What merges may hold.
    pub(crate) merge_bytes: u64,
    /// What rows of a row group may take beside their vectors.
    pub(crate) row_group_bytes: u64,
    /// Sealed memtables a collection may have before its writes stall.
    pub(crate) sealed_memtables: usize,
    /// Small segments a collection may have, while it is merged, before its writes stall.
    pub(crate) small_segments: usize,
    /// Bytes a required backend may lack before writes stall.
    pub(crate) max_pending_bytes: Option<u64>,
    /// Decoded columns and results of filters kept.
    pub(crate) filter_cache_bytes: u64,
    /// Unpacked pages kept.
    pub(crate) page_cache_bytes: u64,
    /// How long a write waits at a bound before it is refused.
    pub(crate) write_stall_timeout: Duration,
    /// How long nobody writes before everything is flushed; zero: never.
    pub(crate) rest_after: Duration,
    /// How long after its expiry a row is deleted, at the latest; zero: not by itself.
    pub(crate) ttl_purge: Duration,
    /// How long after the expiry of a row its segment is rewritten without it; none: as for any dead row.
    pub(crate) ttl_erase_micros: Option<i64>,
    /// How long a snapshot is held at most.
    pub(crate) snapshot_max_age: Duration,
    /// Keys of batches kept.
    pub(crate) batch_keys: KeyBounds,
    /// Manifests kept.
    pub(crate) manifests: Kept,
}

impl Limits {
    pub(crate) fn new(settings: &Settings, memory: &Account) -> Self {
        let engine = &settings.engine;
        let merge_bytes = memory.share(MemoryUse::Merges);
        Self {
            memtable_bytes: engine.memtable_bytes,
            durability: engine.durability,
            wal_flush_bytes: engine.wal_flush_bytes,
            wal_max_bytes: engine.wal_max_bytes,
            merge_bytes,
            row_group_bytes: (merge_bytes / ROW_GROUP_SHARE).max(LEAST_ROW_GROUP_BYTES),
            sealed_memtables: engine.max_sealed_memtables as usize,
            small_segments: engine.max_small_segments as usize,
            max_pending_bytes: engine.max_pending_bytes,
            filter_cache_bytes: engine.filter_cache_bytes.min(memory.share(MemoryUse::FilterCaches)),
            page_cache_bytes: engine.page_cache_bytes.min(memory.share(MemoryUse::PageCache)),
            write_stall_timeout: Duration::from_millis(engine.write_stall_timeout_ms),
            rest_after: Duration::from_secs(engine.rest_after_secs),
            ttl_purge: Duration::from_secs(engine.ttl_purge_secs),
            // What is not deleted cannot be left out: no sooner than it is, either.
            ttl_erase_micros: (engine.ttl_purge_secs > 0 && engine.ttl_erase_hours > 0)
                .then(|| (u64::from(engine.ttl_erase_hours) * 3_600).max(engine.ttl_purge_secs))
                .map(|secs| i64::try_from(secs).map_or(i64::MAX, |secs| secs.saturating_mul(1_000_000))),
            snapshot_max_age: Duration::from_secs(engine.snapshot_max_age_secs),
            batch_keys: KeyBounds {
                keys: engine.max_idempotency_keys as usize,
                window_micros: i64::try_from(engine.idempotency_window_secs)
                    .map_or(i64::MAX, |secs| secs.saturating_mul(1_000_000)),
            },
            manifests: Kept {
                count: engine.manifest_keep as usize,
                for_secs: u64::from(engine.manifest_keep_hours) * 3_600,
            },
        }
    }

    /// Bytes at which the active memtable of a collection is full.
    pub(crate) fn full_memtable_bytes(&self, state: &CollectionState) -> u64 {
        if self.memtable_bytes <= LEAST_FULL_MEMTABLE_BYTES {
            return self.memtable_bytes;
        }
        let segments = state.segments.iter().map(|live| live.segment.meta().size).sum();
        let sealed = state.sealed.iter().map(|(memtable, _)| memtable.bytes()).max();
        full_bytes(self.memtable_bytes, segments, sealed.unwrap_or(0))
    }

    /// Whether the active memtable of a collection is to be sealed.
    pub(crate) fn is_active_full(&self, state: &CollectionState) -> bool {
        // The first comparison is what most writes need.
        let bytes = state.active.bytes();
        let may_be = bytes >= self.memtable_bytes.min(LEAST_FULL_MEMTABLE_BYTES);
        (may_be && bytes >= self.full_memtable_bytes(state)) || state.active.is_full()
    }

    /// A memtable this large says how fast flushes are; most of the time of a smaller one goes to syncs.
    pub(crate) fn telling_memtable_bytes(&self) -> u64 {
        self.memtable_bytes.min(LEAST_FULL_MEMTABLE_BYTES) / 2
    }

    /// Segments below this are small: made of one memtable, or of few that were not full.
    pub(crate) fn small_segment_bytes(&self) -> u64 {
        self.memtable_bytes.saturating_mul(2)
    }

    /// A catalog with its caches and without collections.
    pub(crate) fn empty_catalog(&self, memory: &Account) -> Catalog {
        let filters = FilterCache::new(self.filter_cache_bytes, memory);
        Catalog::new(filters, PageCache::new(self.page_cache_bytes, memory))
    }

    /// The largest write that the log takes when nothing else is in it.
    pub(crate) fn largest_logged_write(&self) -> u64 {
        self.wal_max_bytes.saturating_sub(akidb_wal::OVERHEAD_BYTES)
    }

    /// How the log is opened.
    pub(crate) fn log_config(&self) -> akidb_wal::Config {
        let mut config = akidb_wal::Config::default();
        config.max_bytes = self.wal_max_bytes;
        // Only whole files are given back: a file as large as the bound would keep the log above it, whatever is
        // flushed.
        config.max_file_bytes = config.max_file_bytes.min(self.wal_flush_bytes / 3 * 2);
        // What a flush of one memtable frees is whole files, and the spares beside them are no larger.
        config.max_file_bytes =
            config.max_file_bytes.min((self.memtable_bytes / 4).max(LEAST_LOG_FILE_BYTES));
        config.first_file_bytes = config.first_file_bytes.min(config.max_file_bytes);
        config.durability = match self.durability {
            Durability::LocalSynced => akidb_wal::Durability::LocalSynced,
            Durability::Memory => akidb_wal::Durability::Memory,
        };
        config
    }
}

/// Bytes at which a memtable is full, by those of the segments beside it and of the largest one that waits for its flush. The
/// first of a collection is so as a whole. One that fills behind another is nearly as large: at the pace of flushes it is not
/// full before that one is flushed, however small it may be by itself.
fn full_bytes(memtable_bytes: u64, segments: u64, sealed: u64) -> u64 {
    if segments == 0 {
        return memtable_bytes;
    }
    let least = LEAST_FULL_MEMTABLE_BYTES.max(sealed / 4 * 3).min(memtable_bytes);
    (segments / MEMTABLE_SHARE).clamp(least, memtable_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_budget::MemoryBudget;

    #[test]
    fn a_memtable_grows_with_its_collection_and_is_nearly_as_large_as_one_that_waits() {
        const MIB: u64 = 1 << 20;
        let full_mib = |segments, sealed| full_bytes(32 * MIB, segments * MIB, sealed * MIB) / MIB;
        assert_eq!((full_mib(0, 0), full_mib(0, 32)), (32, 32), "the first");
        assert_eq!(
            [1, 64, 96, 128, 256, 1_000].map(|segments| full_mib(segments, 0)),
            [8, 8, 12, 16, 32, 32]
        );
        assert_eq!(
            [32, 24, 18, 9, 80].map(|sealed| full_mib(30, sealed)),
            [24, 18, 13, 8, 32],
            "behind another"
        );
        assert_eq!(full_mib(200, 8), 25);
    }

    #[test]
    fn no_segment_is_rewritten_for_rows_that_need_not_be_deleted_yet() {
        let erase_hours = |purge_secs: u64, erase_hours: u32| {
            let mut settings = Settings::default();
            settings.engine.ttl_purge_secs = purge_secs;
            settings.engine.ttl_erase_hours = erase_hours;
            Limits::new(&settings, &MemoryBudget::new(1 << 28).account())
                .ttl_erase_micros
                .map(|micros| micros / 3_600_000_000)
        };
        assert_eq!(erase_hours(60, 24), Some(24));
        assert_eq!(erase_hours(6 * 3_600, 2), Some(6), "the longer of both");
        assert_eq!((erase_hours(0, 24), erase_hours(60, 0)), (None, None));
    }
}
