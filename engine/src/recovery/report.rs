//! What an open found and did, for people and programs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use akidb_host::Clock;
use akidb_wal::Recovered;
use serde::Serialize;

use crate::engine::Place;
use crate::lsn::Lsn;
use crate::paths::lossy_path;

/// What an open found and did. `cut` names what could not be told from a torn tail.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecoveryReport {
    /// Number of the manifest the open started from; 0 for a new directory.
    pub manifest: u64,
    /// Epoch of this open; the last writer's when reading only.
    pub epoch: u32,
    /// Records replayed from the log into memtables.
    pub replayed_records: u64,
    /// Records of the log that segments already hold, or whose collection was dropped.
    pub skipped_records: u64,
    /// The first and last LSN replayed, as `epoch:counter`.
    pub replayed: Option<[String; 2]>,
    /// Records that were read from the log beyond what is proven to be on disk. When writing they were copied and
    /// synced before they were shown; when reading only they may be gone after a power cut.
    pub unproven: Option<[String; 2]>,
    /// Read beside a living writer: rows in its log are not seen, only what is flushed.
    pub beside_writer: bool,
    /// What the writer before showed and did not sync: only after one that ran with `durability = "memory"` and was not
    /// closed.
    pub unsynced: Option<UnsyncedReport>,
    /// Where the log's tail was cut, if it was.
    pub cut: Option<CutReport>,
    /// Where the time of the open went.
    pub took: OpenTimes,
}

/// How long the parts of an open took, in milliseconds, in their order. They do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct OpenTimes {
    /// The lock, the newest manifest and the segments that it names.
    pub segments_ms: f64,
    /// The log: the scan of its files, the check of its frames, and of what may not be on disk the copy and its sync.
    pub log_ms: f64,
    /// The manifest that records the epoch, synced.
    pub manifest_ms: f64,
    /// The removal of old manifests; and of files that no manifest names, where the writer before did nothing but open: else they go
    /// behind the open.
    pub removal_ms: f64,
    /// What the log holds beyond the segments, applied again.
    pub replay_ms: f64,
}

/// Tells the time since it was asked last.
pub(super) struct Lap {
    clock: Arc<dyn Clock>,
    since: Instant,
}

impl Lap {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { clock: Arc::clone(clock), since: clock.now() }
    }

    /// Milliseconds since the last call, or since it was made.
    pub(super) fn ms(&mut self) -> f64 {
        let now = self.clock.now();
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.since, now));
        (passed.as_secs_f64() * 1e4).round() / 10.0
    }
}

/// Rows that were shown before they were synced. A power cut may have taken those above `kept_up_to`; the death of the
/// process alone took none. How far they went cannot be known: what was not synced need not have left a trace.
#[derive(Clone, Debug, Serialize)]
pub struct UnsyncedReport {
    /// Every record up to here is kept, as `epoch:counter`; a later one of that writer is gone.
    pub kept_up_to: String,
    /// The last record above it of which a trace lies in the log: at least up to here rows were shown and are gone.
    pub known_up_to: Option<String>,
}

/// A torn tail that was cut.
#[derive(Clone, Debug, Serialize)]
pub struct CutReport {
    /// Log file.
    #[serde(serialize_with = "lossy_path")]
    pub file: PathBuf,
    /// First byte that was not taken.
    pub offset: u64,
    /// Bytes with something in them behind it.
    pub bytes: u64,
    /// Frames among them that look whole.
    pub frames: u64,
}

pub(super) fn note_cut(recovered: &Recovered, report: &mut RecoveryReport) {
    report.cut = recovered.cut.as_ref().map(|cut| CutReport {
        file: cut.file.clone(),
        offset: cut.offset,
        bytes: cut.bytes,
        frames: cut.frames,
    });
}

/// What a writer that showed rows before they were synced left behind, if it was not closed.
pub(super) fn unsynced(place: &Place, recovered: &Recovered, floor: Lsn) -> UnsyncedReport {
    let kept = recovered.last.max(floor.pred());
    let trace = recovered.cut.as_ref().and_then(|cut| {
        // A frame of which only the header is whole was given its LSNs all the same.
        let file = akidb_wal::inspect(&*place.fs, &cut.file).ok()?;
        let behind = file.frames.iter().filter(|frame| frame.offset >= cut.offset && frame.kind == "batch");
        behind.map(|frame| frame.lsn.plus(u64::from(frame.count) - 1)).max()
    });
    UnsyncedReport {
        kept_up_to: kept.to_string(),
        known_up_to: trace.filter(|lsn| *lsn > kept).map(|lsn| lsn.to_string()),
    }
}
