//! The figures of a running database as metrics: their names, kinds and words stand here and nowhere else.
//!
//! `akidb serve` prints them for Prometheus; with the feature `metrics` the driver also gives them to the `metrics`
//! facade once a second, for programs that have an exporter of their own.

use std::path::absolute;

use crate::engine::Engine;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::stats::{self, MemoryStats, MemoryUseStats, PageCacheStats, Stats};
use crate::upload::{BackendStats, Uploads};

mod breakers;
#[cfg(feature = "metrics")]
mod facade;
mod letters;

#[cfg(feature = "metrics")]
pub(crate) use facade::Facade;

/// How a metric's value moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only upwards, from 0 at the open.
    Counter,
    /// Both ways.
    Gauge,
}

/// One metric with its values. The names are stable.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFamily {
    /// Its name, `akidb_` first and the unit last.
    pub name: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// Its values, one for each set of labels.
    pub samples: Vec<MetricSample>,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSample {
    /// Names and values of the labels; `db` is the first.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// Families in the making: each is given once, with all its values.
pub(crate) struct Families {
    db: String,
    all: Vec<MetricFamily>,
}

impl Families {
    fn give(
        &mut self,
        kind: MetricKind,
        name: &'static str,
        help: &'static str,
        values: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>,
    ) {
        let sample = |(labels, value): (Vec<_>, f64)| {
            let db = ("db", self.db.clone());
            MetricSample { labels: [vec![db], labels].concat(), value }
        };
        let samples: Vec<MetricSample> = values.into_iter().map(sample).collect();
        if !samples.is_empty() {
            self.all.push(MetricFamily { name, kind, help, samples });
        }
    }

    fn one(&mut self, kind: MetricKind, name: &'static str, help: &'static str, value: f64) {
        self.give(kind, name, help, [(Vec::new(), value)]);
    }
}

/// Everything there is to say about this database now. Counts rows, so it costs a walk over the memtables.
pub(crate) fn families(engine: &Engine, uploads: &Uploads) -> Result<Vec<MetricFamily>> {
    // None of them is the number of a manifest.
    let stats = stats::stats(engine, uploads, 0)?;
    let mut families = Families { db: name_of(engine), all: Vec::new() };
    of_log(&mut families, engine, &stats);
    of_memory(&mut families, &stats.memory);
    of_page_cache(&mut families, &stats.page_cache);
    of_health(&mut families, &stats);
    of_compaction(&mut families, &stats);
    of_collections(&mut families, &stats);
    of_uploads(&mut families, &stats.backends);
    breakers::of_breakers(&mut families, &uploads.breakers());
    breakers::of_limits(&mut families, uploads);
    letters::of_letters(&mut families, uploads);
    Ok(families.all)
}

/// The label `db`: the directory, whole, so that two databases of a process never share it.
fn name_of(engine: &Engine) -> String {
    let dir = &engine.place.dir;
    absolute(dir).as_ref().unwrap_or(dir).display().to_string()
}

fn of_log(families: &mut Families, engine: &Engine, stats: &Stats) {
    use MetricKind::{Counter, Gauge};
    let marks = engine.watermarks();
    let marks = [
        ("appended", marks.appended),
        ("synced", marks.synced),
        ("visible", marks.visible),
        ("flushed", marks.flushed),
        ("released", marks.released),
    ];
    let values = |part: fn(Lsn) -> f64| marks.map(|(mark, lsn)| (vec![("mark", mark.to_owned())], part(lsn)));
    families.give(
        Gauge,
        "akidb_watermark_epoch",
        "Epoch of the record that writes have come to, by stage: appended, synced, visible, flushed, released.",
        values(|lsn| f64::from(lsn.epoch())),
    );
    families.give(
        Gauge,
        "akidb_watermark_record",
        "Number within its epoch of the record that writes have come to, by stage.",
        values(|lsn| exact(lsn.counter())),
    );
    families.one(
        Gauge,
        "akidb_wal_live_bytes",
        "Bytes of log not yet covered by a manifest.",
        exact(stats.live_wal_bytes),
    );
    if let Some(writer) = engine.writer_if_any() {
        let counters = writer.sequencer.log().inner().counters();
        families.one(
            Counter,
            "akidb_wal_syncs_total",
            "Syncs of the log since the open.",
            exact(counters.syncs),
        );
        families.one(
            Counter,
            "akidb_wal_synced_frames_total",
            "Frames those syncs made durable.",
            exact(counters.frames_synced),
        );
    }
}

fn of_memory(families: &mut Families, memory: &MemoryStats) {
    use MetricKind::{Counter, Gauge};
    families.one(
        Gauge,
        "akidb_memory_limit_bytes",
        "Bytes that may be held in memory, by all databases of the budget.",
        exact(memory.limit_bytes),
    );
    let of = |value: fn(&MemoryUseStats) -> f64| {
        let labelled = |used: &MemoryUseStats| (vec![("use", used.name.to_owned())], value(used));
        memory.uses.iter().map(labelled).collect::<Vec<_>>()
    };
    families.give(
        Gauge,
        "akidb_memory_bytes",
        "Bytes held in memory, estimated, by use, by all databases of the budget; mapped files do not count.",
        of(|used| exact(used.bytes)),
    );
    families.give(
        Gauge,
        "akidb_memory_peak_bytes",
        "The same at most since the open.",
        of(|used| exact(used.peak_bytes)),
    );
    families.give(
        Counter,
        "akidb_memory_waits_total",
        "Writes (use memtables) and merges that found no room in memory.",
        of(|used| exact(used.waits)),
    );
    families.give(
        Counter,
        "akidb_memory_wait_seconds_total",
        "Seconds they waited, all together.",
        of(|used| exact(used.waited_micros) / 1e6),
    );
}

fn of_page_cache(families: &mut Families, pages: &PageCacheStats) {
    use MetricKind::{Counter, Gauge};
    families.one(
        Gauge,
        "akidb_page_cache_bytes",
        "Bytes of pages of segments that are kept unpacked.",
        exact(pages.bytes),
    );
    families.one(
        Counter,
        "akidb_page_cache_found_total",
        "Pages that reads of rows found there.",
        exact(pages.found),
    );
    families.one(
        Counter,
        "akidb_page_cache_unpacked_total",
        "Pages that reads of rows had to unpack.",
        exact(pages.unpacked),
    );
}

fn of_health(families: &mut Families, stats: &Stats) {
    use MetricKind::{Counter, Gauge};
    families.one(
        Gauge,
        "akidb_memtable_bytes",
        "Bytes in memtables, estimated.",
        exact(stats.memtable_bytes),
    );
    // Not measured yet is not "plenty".
    if stats.free_disk_bytes != u64::MAX {
        families.one(
            Gauge,
            "akidb_free_disk_bytes",
            "Free bytes of the disk at the last look.",
            exact(stats.free_disk_bytes),
        );
    }
    families.one(
        Gauge,
        "akidb_idempotency_keys",
        "Keys of batches that are remembered.",
        exact(stats.idempotency_keys as u64),
    );
    families.one(
        Gauge,
        "akidb_writes_held_back",
        "1 while a bound holds writers back; `/admin/stats` names it.",
        flag(stats.held_back_by.is_some()),
    );
    families.one(
        Counter,
        "akidb_slowed_writes_total",
        "Writes that were slowed to the pace of flushes, which were behind.",
        exact(stats.write_pace.slowed_writes),
    );
    families.one(
        Counter,
        "akidb_slowed_write_seconds_total",
        "Seconds they were slowed by, all together.",
        exact(stats.write_pace.slowed_micros) / 1e6,
    );
    families.one(
        Gauge,
        "akidb_flush_failing",
        "1 from a failed flush until one succeeds; rows stay in the log.",
        flag(stats.flush_failure.is_some()),
    );
    families.one(
        Gauge,
        "akidb_removal_failing",
        "1 while files that nothing names any more cannot be removed; `/admin/stats` says why.",
        flag(stats.removal_failure.is_some()),
    );
    families.one(
        Gauge,
        "akidb_poisoned",
        "1 once a sync failed: this process writes no more until the database is reopened.",
        flag(stats.poisoned.is_some()),
    );
}

fn of_compaction(families: &mut Families, stats: &Stats) {
    use MetricKind::{Counter, Gauge};
    let done = &stats.compaction;
    let counters = [
        ("akidb_compactions_total", "Merges of segments since the open.", done.runs),
        ("akidb_compaction_read_bytes_total", "Bytes of the segments they merged.", done.bytes_read),
        ("akidb_compaction_written_bytes_total", "Bytes of the segments they made.", done.bytes_written),
    ];
    for (name, help, value) in counters {
        families.one(Counter, name, help, exact(value));
    }
    families.one(
        Gauge,
        "akidb_compaction_failing",
        "1 from a failed merge until one succeeds; segments stay as they are.",
        flag(done.failure.is_some()),
    );
    families.one(
        Gauge,
        "akidb_snapshots_held",
        "Snapshots that are held; each keeps the rows and files of its moment.",
        exact(stats.snapshots.len() as u64),
    );
}

fn of_collections(families: &mut Families, stats: &Stats) {
    let of = |value: &dyn Fn(&stats::CollectionStats) -> f64| {
        let labelled = |c: &stats::CollectionStats| (vec![("collection", c.name.clone())], value(c));
        stats.collections.iter().map(labelled).collect::<Vec<_>>()
    };
    let gauge = MetricKind::Gauge;
    families.give(
        gauge,
        "akidb_rows",
        "Live rows, expired ones among them until they are deleted.",
        of(&|c| exact(c.rows)),
    );
    families.give(
        gauge,
        "akidb_memtable_rows",
        "Rows in memtables, dead ones included.",
        of(&|c| exact(c.memtable_rows)),
    );
    families.give(gauge, "akidb_segments", "Segments.", of(&|c| exact(c.segments as u64)));
    families.give(
        gauge,
        "akidb_segment_bytes",
        "Bytes of the segment files.",
        of(&|c| exact(c.segment_bytes)),
    );
    families.give(
        gauge,
        "akidb_expired_rows",
        "Rows that had expired at the last look for such, and are not deleted yet.",
        of(&|c| exact(c.expired_rows)),
    );
    families.give(gauge, "akidb_dead_rows", "Dead rows still in segments.", of(&|c| exact(c.dead_rows)));
    families.give(
        gauge,
        "akidb_collection_damaged",
        "1 while damage stops writes to the collection.",
        of(&|c| flag(c.damage.is_some())),
    );
}

fn of_uploads(families: &mut Families, backends: &[BackendStats]) {
    use MetricKind::{Counter, Gauge};
    let of = |value: &dyn Fn(&BackendStats) -> f64| {
        let labelled = |b: &BackendStats| (vec![("backend", b.name.clone())], value(b));
        backends.iter().map(labelled).collect::<Vec<_>>()
    };
    families.give(
        Gauge,
        "akidb_unuploaded_files",
        "Files of the newest manifest that the backend lacks.",
        of(&|b| exact(b.pending_files)),
    );
    families.give(
        Gauge,
        "akidb_unuploaded_bytes",
        "Bytes of the files of the newest manifest that the backend lacks.",
        of(&|b| exact(b.pending_bytes)),
    );
    families.give(
        Gauge,
        "akidb_unuploaded_oldest_age_seconds",
        "How long the longest waiting of those files has waited, from the open at the earliest; 0 if none waits.",
        of(&|b| exact(b.oldest_pending_secs.unwrap_or(0))),
    );
    families.give(
        Gauge,
        "akidb_unuploaded_parked_files",
        "Those of them that wait for a redrive, or for a person: see the dead letters.",
        of(&|b| exact(b.parked_files)),
    );
    families.give(
        Counter,
        "akidb_uploaded_files_total",
        "Files put to the backend since the open.",
        of(&|b| exact(b.files_put)),
    );
    families.give(
        Gauge,
        "akidb_upload_failures_in_a_row",
        "Plans that failed one after another; 0 after a success.",
        of(&|b| f64::from(b.failures)),
    );
    families.give(
        Gauge,
        "akidb_backend_fenced",
        "1 once another writer or another database owns the backend: nothing more is published there from here.",
        of(&|b| flag(b.refused.is_some())),
    );
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// A count as a metric's value: exact up to 2^53, which no count here comes near.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub fn exact(count: u64) -> f64 {
    count as f64
}
