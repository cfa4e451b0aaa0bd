//! Figures of a running database, for people and programs.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use akidb_wal::State;
use serde::Serialize;

use crate::catalog::Catalog;
use crate::config::Durability;
use crate::engine::{Engine, Writer};
use crate::error::Result;
use crate::memory_budget::{MemoryBudget, MemoryUsage, MemoryUse};
use crate::segment::{PageCache, PageCounts};
use crate::snapshots::{live_memtables, pinned_bytes};
use crate::upload::{BackendStats, Uploads};
use crate::write_pace::WritePace;

/// Figures of a database.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// When a write counts as written: `local_synced` or `memory`; `None` where the directory is open for reading only, and
    /// nothing is written.
    pub durability: Option<&'static str>,
    /// How far writes have come; LSNs as `epoch:counter`.
    pub watermarks: WatermarkStats,
    /// Per collection.
    pub collections: Vec<CollectionStats>,
    /// Number of the newest manifest; where the directory is open for reading only, of the one it was opened at.
    pub newest_manifest: u64,
    /// Bytes of log not yet covered by a manifest.
    pub live_wal_bytes: u64,
    /// Bytes in memtables, estimated.
    pub memtable_bytes: u64,
    /// What is held in memory, of the limit that this database may share with others of the process.
    pub memory: MemoryStats,
    /// Free bytes of the disk at the last look.
    pub free_disk_bytes: u64,
    /// The bound that holds writers back now, with its figures.
    pub held_back_by: Option<String>,
    /// Writes that went at the pace of flushes, which were behind.
    pub write_pace: WritePaceStats,
    /// Why the last flush of a collection failed, until one of that collection succeeds or it is dropped; of the first for which
    /// that is so.
    pub flush_failure: Option<String>,
    /// Why files that nothing names any more are not removed, until they are: a manifest that is kept is damaged, whose
    /// snapshot is named then with the command that ends it, or the disk fails.
    pub removal_failure: Option<String>,
    /// Files of collections that nothing named any more, removed since the open: what merges, deletes and drops freed, and what a
    /// crash left.
    pub files_removed: u64,
    /// What merges of segments did since the open.
    pub compaction: CompactionStats,
    /// Pages of segments that are kept unpacked.
    pub page_cache: PageCacheStats,
    /// Keys of batches that are remembered.
    pub idempotency_keys: usize,
    /// Snapshots that are held, the oldest first.
    pub snapshots: Vec<SnapshotStats>,
    /// Why nothing more is written, to the log or to manifests, if so: reopening is the repair.
    pub poisoned: Option<String>,
    /// Per backend.
    pub backends: Vec<BackendStats>,
}

/// `appended >= synced >= visible >= flushed >= released`; with `durability = "memory"` `visible` may pass `synced`.
#[derive(Clone, Debug, Serialize)]
pub struct WatermarkStats {
    /// The last record given to the log.
    pub appended: String,
    /// The last record that survives a power cut.
    pub synced: String,
    /// The last record every read sees.
    pub visible: String,
    /// Everything up to here is in segments.
    pub flushed: String,
    /// The log need not hold anything up to here any more.
    pub released: String,
}

/// What merges of segments did since the open.
#[derive(Clone, Debug, Serialize)]
pub struct CompactionStats {
    /// Merges.
    pub runs: u64,
    /// Segments that became part of others.
    pub segments_merged: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Bytes of what they became.
    pub bytes_written: u64,
    /// Why the last merge failed, until one succeeds.
    pub failure: Option<String>,
}

/// What is held in memory, by all databases of the budget; mapped files do not count.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryStats {
    /// The limit: `engine.memory_bytes`, or that of the budget the program gave.
    pub limit_bytes: u64,
    /// Bytes held now.
    pub used_bytes: u64,
    /// Bytes held at most since the budget was made.
    pub peak_bytes: u64,
    /// By what they are held for.
    pub uses: Vec<MemoryUseStats>,
}

/// One use of memory.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryUseStats {
    /// `memtables`, `snapshots`, `flushes`, `merges`, `filter_caches`, `uploads`, `page_cache`, `writes`, `segments` or `reads`.
    #[serde(rename = "use")]
    pub name: &'static str,
    /// Bytes held now, estimated.
    pub bytes: u64,
    /// Bytes held at most since the budget was made.
    pub peak_bytes: u64,
    /// How often a write (under `memtables`) or a merge found no room.
    pub waits: u64,
    /// How long they waited, all together.
    pub waited_micros: u64,
}

/// Writes that were slowed since the open because flushes were behind, so that none waited for a whole one.
#[derive(Clone, Debug, Serialize)]
pub struct WritePaceStats {
    /// Bytes of memtables a second at which the last one of 4 MiB or more (of half its setting, where that is less) was flushed;
    /// zero before one was.
    pub flush_bytes_per_sec: u64,
    /// Writes that were slowed.
    pub slowed_writes: u64,
    /// For how long, all together.
    pub slowed_micros: u64,
}

/// Pages that reads of rows unpacked since the open, and what is kept of them.
#[derive(Clone, Debug, Serialize)]
pub struct PageCacheStats {
    /// Bytes kept.
    pub bytes: u64,
    /// Pages that reads found there.
    pub found: u64,
    /// Pages that had to be unpacked.
    pub unpacked: u64,
}

/// A snapshot that is held.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotStats {
    /// Who holds it.
    pub holder: String,
    /// The last LSN it shows.
    pub lsn: String,
    /// For how long.
    pub age_secs: u64,
    /// Bytes of memtables that are in memory for its sake.
    pub memtable_bytes: u64,
    /// Bytes of segments that have been merged since, and stay on disk for its sake.
    pub segment_bytes: u64,
}

/// Figures of a collection.
#[derive(Clone, Debug, Serialize)]
pub struct CollectionStats {
    /// Name.
    pub name: String,
    /// Live rows, among them those that have expired and are not deleted yet.
    pub rows: u64,
    /// Rows that had expired when the database looked for such last, and are not deleted yet; beyond some thousands there
    /// may be more. Zero where it does not look: open for reading only, or with `engine.ttl_purge_secs = 0`.
    pub expired_rows: u64,
    /// Rows in memtables, dead ones included.
    pub memtable_rows: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes of the segment files.
    pub segment_bytes: u64,
    /// Bytes of segments compared with their checksums since the open.
    pub verified_bytes: u64,
    /// Dead rows still in segments.
    pub dead_rows: u64,
    /// Everything at or below is in segments.
    pub flushed_lsn: String,
    /// Why writes to this collection are stopped.
    pub damage: Option<String>,
}

fn write_pace(pace: &WritePace) -> WritePaceStats {
    let (slowed_writes, slowed_micros) = pace.waited();
    WritePaceStats { flush_bytes_per_sec: pace.flushed_bytes_per_sec(), slowed_writes, slowed_micros }
}

fn page_cache(pages: &PageCache) -> PageCacheStats {
    let PageCounts { bytes, found, unpacked } = pages.counts();
    PageCacheStats { bytes, found, unpacked }
}

/// `opened_at` is the number of the manifest that the open began with.
pub(crate) fn stats(engine: &Engine, uploads: &Uploads, opened_at: u64) -> Result<Stats> {
    let view = engine.view()?;
    let marks = engine.watermarks();
    let mut collections = Vec::new();
    for state in view.content().collections.values() {
        let in_segments: u64 = state.segments.iter().map(|live| u64::from(live.segment.rows())).sum();
        let live_in_segments: u64 = state.segments.iter().map(|live| live.live_rows(view.lsn())).sum();
        collections.push(CollectionStats {
            name: state.name.to_string(),
            rows: crate::read::undeleted(&view, state),
            expired_rows: state.expired_rows.load(Ordering::Relaxed),
            memtable_rows: state.memtables().map(|memtable| u64::from(memtable.len())).sum(),
            segments: state.segments.len(),
            segment_bytes: state.segments.iter().map(|live| live.segment.meta().size).sum(),
            verified_bytes: state.segments.iter().map(|live| live.segment.touched().verified_bytes).sum(),
            dead_rows: in_segments - live_in_segments,
            flushed_lsn: state.flushed_lsn.to_string(),
            damage: state.damage.get().map(|damage| damage.told(marks.synced).to_string()),
        });
    }
    let held = view.content().collections.keys().find_map(|id| engine.stall(*id, 0));
    let durability = |writer: &Writer| match writer.sequencer.log().shows_unsynced() {
        true => Durability::Memory,
        false => Durability::LocalSynced,
    };
    let number = |writer: &Writer| writer.committer.newest().manifest.number;
    Ok(Stats {
        durability: engine.writer_if_any().map(|writer| durability(writer).name()),
        watermarks: WatermarkStats {
            appended: marks.appended.to_string(),
            synced: marks.synced.to_string(),
            visible: marks.visible.to_string(),
            flushed: marks.flushed.to_string(),
            released: marks.released.to_string(),
        },
        collections,
        newest_manifest: engine.writer_if_any().map_or(opened_at, number),
        live_wal_bytes: engine.live_wal_bytes(),
        memtable_bytes: view.content().memtable_bytes(),
        memory: memory(engine.place.memory.budget()),
        free_disk_bytes: engine.free_disk_bytes.load(Ordering::Relaxed),
        held_back_by: held.map(|stall| format!("{}: {}", stall.which, stall.detail)),
        compaction: compaction(engine),
        page_cache: page_cache(&view.content().pages),
        idempotency_keys: engine.applier().target().keys.len(),
        snapshots: snapshots(engine),
        write_pace: write_pace(&engine.pace),
        flush_failure: engine.flush_failure().map(|error| error.to_string()),
        removal_failure: engine.removals.failure().map(|error| error.to_string()),
        files_removed: engine.removals.removed(),
        poisoned: poisoned(engine),
        backends: uploads.stats(),
    })
}

fn memory(budget: &MemoryBudget) -> MemoryStats {
    let uses = MemoryUse::ALL.map(|name| {
        let MemoryUsage { bytes, peak_bytes, waits, waited_micros } = budget.usage(name);
        MemoryUseStats { name: name.name(), bytes, peak_bytes, waits, waited_micros }
    });
    let (limit_bytes, used_bytes) = (budget.limit_bytes(), budget.used_bytes());
    MemoryStats { limit_bytes, used_bytes, peak_bytes: budget.peak_bytes(), uses: uses.to_vec() }
}

fn snapshots(engine: &Engine) -> Vec<SnapshotStats> {
    let (now, current) = (engine.place.clock.now(), engine.current());
    let memtables = live_memtables(current.content());
    // By their names: a kept manifest opens files of its own that may be in use all the same.
    fn segments_of(catalog: &Catalog) -> impl Iterator<Item = (&str, u64)> {
        let live = catalog.collections.values().flat_map(|state| state.segments.iter());
        live.map(|live| (live.segment.meta().file.as_str(), live.segment.meta().size))
    }
    let segments: HashSet<&str> = segments_of(current.content()).map(|(file, _)| file).collect();
    engine.snapshots.each(|held| {
        let old = segments_of(held.view.content()).filter(|(file, _)| !segments.contains(file));
        SnapshotStats {
            holder: held.holder.clone(),
            lsn: held.view.lsn().to_string(),
            age_secs: now.saturating_duration_since(held.since).as_secs(),
            memtable_bytes: pinned_bytes(std::iter::once(held), &memtables),
            segment_bytes: old.map(|(_, bytes)| bytes).sum(),
        }
    })
}

fn compaction(engine: &Engine) -> CompactionStats {
    let done = &engine.compactions;
    CompactionStats {
        runs: done.runs.load(Ordering::Relaxed),
        segments_merged: done.segments_merged.load(Ordering::Relaxed),
        bytes_read: done.bytes_read.load(Ordering::Relaxed),
        bytes_written: done.bytes_written.load(Ordering::Relaxed),
        failure: engine.merge_failure().map(|error| error.to_string()),
    }
}

fn poisoned(engine: &Engine) -> Option<String> {
    let writer = engine.writer_if_any()?;
    if let Some(error) = writer.committer.poisoned() {
        return Some(error.to_string());
    }
    let log = writer.sequencer.log().inner();
    (log.watermarks().state == State::Poisoned)
        .then(|| "a sync of the log failed; reopen the database".to_owned())
}
