//! An embedded, WAL-first vector storage engine: when a write returns, its row survives a power cut and every
//! search finds it.
#![deny(unsafe_code)]
#![cfg_attr(akidb_loom, allow(dead_code, unused_imports, reason = "the models see the commit path alone"))]

mod apply;
#[cfg(not(akidb_loom))]
mod arrow_rows;
mod lsn;
mod memory_budget;
mod sync;
mod version;
mod write;
mod write_turns;

#[cfg(all(akidb_loom, test))]
mod loom_tests;

#[cfg(not(akidb_loom))]
mod backends;
#[cfg(not(akidb_loom))]
mod bitmap;
#[cfg(not(akidb_loom))]
mod builder;
#[cfg(not(akidb_loom))]
mod catalog;
#[cfg(not(akidb_loom))]
mod cold;
#[cfg(not(akidb_loom))]
mod collection;
#[cfg(not(akidb_loom))]
mod commit;
#[cfg(not(akidb_loom))]
mod compact;
#[cfg(not(akidb_loom))]
mod config;
#[cfg(not(akidb_loom))]
mod db;
#[cfg(not(akidb_loom))]
mod ddl;
#[cfg(not(akidb_loom))]
mod dead_letters;
#[cfg(not(akidb_loom))]
mod deletion_vector;
#[cfg(not(akidb_loom))]
mod directory_lock;
#[cfg(not(akidb_loom))]
mod distance;
#[cfg(not(akidb_loom))]
mod doctor;
#[cfg(not(akidb_loom))]
mod driver;
#[cfg(not(akidb_loom))]
mod engine;
#[cfg(not(akidb_loom))]
mod error;
#[cfg(not(akidb_loom))]
mod expiry;
#[cfg(not(akidb_loom))]
mod filter;
#[cfg(not(akidb_loom))]
mod filter_cache;
#[cfg(not(akidb_loom))]
mod flush;
#[cfg(not(akidb_loom))]
mod gc;
#[cfg(not(akidb_loom))]
mod handle;
#[cfg(not(akidb_loom))]
mod id;
#[cfg(not(akidb_loom))]
mod idempotency;
#[cfg(not(akidb_loom))]
mod index;
#[cfg(not(akidb_loom))]
mod inspect;
#[cfg(not(akidb_loom))]
mod kept;
#[cfg(not(akidb_loom))]
mod limits;
#[cfg(not(akidb_loom))]
mod log;
#[cfg(not(akidb_loom))]
mod log_view;
#[cfg(not(akidb_loom))]
pub mod manifest;
#[cfg(not(akidb_loom))]
mod memtable;
#[cfg(not(akidb_loom))]
mod metrics;
#[cfg(not(akidb_loom))]
mod named_snapshots;
#[cfg(not(akidb_loom))]
mod ops;
#[cfg(not(akidb_loom))]
mod overlay;
#[cfg(not(akidb_loom))]
mod paths;
#[cfg(not(akidb_loom))]
mod read;
#[cfg(not(akidb_loom))]
mod record;
#[cfg(not(akidb_loom))]
mod recovery;
#[cfg(not(akidb_loom))]
mod repair;
#[cfg(not(akidb_loom))]
mod restore;
#[cfg(not(akidb_loom))]
mod row;
#[cfg(not(akidb_loom))]
mod schema;
#[cfg(not(akidb_loom))]
mod search;
#[cfg(not(akidb_loom))]
mod segment;
#[cfg(not(akidb_loom))]
mod segment_meta;
#[cfg(not(akidb_loom))]
mod slots;
#[cfg(not(akidb_loom))]
mod snapshot;
#[cfg(not(akidb_loom))]
mod snapshots;
#[cfg(not(akidb_loom))]
mod stats;
#[cfg(not(akidb_loom))]
mod texts;
#[cfg(not(akidb_loom))]
mod topk;
#[cfg(not(akidb_loom))]
mod unfinished;
#[cfg(not(akidb_loom))]
mod upload;
#[cfg(not(akidb_loom))]
mod verify;
#[cfg(not(akidb_loom))]
mod workers;
#[cfg(not(akidb_loom))]
mod write_pace;
#[cfg(not(akidb_loom))]
mod write_stall;

#[cfg(not(akidb_loom))]
pub use akidb_backends::{
    Attempt, BreakerSettings, CallKind, Class, DeadLetters, DlqSettings, DlqStats, HAS_S3, Letter, LetterId,
    LetterState, Loaded, Op, Overflow, Reason, State, Totals, Which,
};
#[cfg(not(akidb_loom))]
pub use akidb_wal::Lsn;
#[cfg(not(akidb_loom))]
#[doc(hidden)]
pub use akidb_wal::shell_word;
#[cfg(not(akidb_loom))]
pub use arrow;
#[cfg(not(akidb_loom))]
#[doc(hidden)]
pub use index::scan_everything as scan_index_sections;
#[cfg(not(akidb_loom))]
pub use object_store;

#[cfg(not(akidb_loom))]
pub use backends::Backends;
#[cfg(not(akidb_loom))]
pub use builder::Builder;
#[cfg(not(akidb_loom))]
pub use collection::{
    Alter, Batch, Collection, Expires, Hit, MAX_BATCH_BYTES, NewRow, Receipt, Scan, Search, SearchBatch,
    StoredRow,
};
#[cfg(not(akidb_loom))]
pub use config::{BackendKind, BackendSettings, Durability, EngineSettings, Secret, Settings, Tiering};
#[cfg(not(akidb_loom))]
pub use db::Db;
#[cfg(not(akidb_loom))]
pub use dead_letters::{ClosedLetters, edit_dead_letters, read_dead_letters};
#[cfg(not(akidb_loom))]
pub use doctor::{DoctorFinding, DoctorReport, examine_backend, examine_disk};
#[cfg(not(akidb_loom))]
pub use engine::Watermarks;
#[cfg(not(akidb_loom))]
pub use error::{Error, ErrorKind, Fate, Result};
#[cfg(not(akidb_loom))]
pub use filter::{Filter, Literal};
#[cfg(not(akidb_loom))]
pub use id::{Id, MAX_ID_BYTES};
#[cfg(not(akidb_loom))]
pub use idempotency::KeptKey;
#[cfg(not(akidb_loom))]
pub use inspect::inspect;
#[cfg(not(akidb_loom))]
pub use kept::KeptManifest;
#[cfg(not(akidb_loom))]
pub use log_view::{LogFile, LogFrame, LogRecord, LogTail, dump_log_file, log_files, tail_log};
pub use memory_budget::{MemoryBudget, MemoryUsage, MemoryUse};
#[cfg(not(akidb_loom))]
pub use metrics::{MetricFamily, MetricKind, MetricSample, exact as metric_value};
#[cfg(not(akidb_loom))]
pub use named_snapshots::NamedSnapshot;
#[cfg(not(akidb_loom))]
pub use ops::Expect;
#[cfg(not(akidb_loom))]
pub use recovery::{CutReport, OpenTimes, RecoveryReport, UnsyncedReport};
#[cfg(not(akidb_loom))]
pub use repair::{
    LostRows, RepairReport, repair_manifest, repair_manifest_on, repair_segment_drop, repair_segment_drop_on,
    repair_wal_cut, repair_wal_drop,
};
#[cfg(not(akidb_loom))]
pub use restore::{RestoreReport, repair_segment_from, repair_segment_from_on, restore, restore_on};
#[cfg(not(akidb_loom))]
pub use row::Payload;
#[cfg(not(akidb_loom))]
pub use schema::{
    Field, FieldType, IdKind, MAX_DIM, MAX_FIELDS, MAX_NAME_BYTES, Metric, RESERVED_NAMES, Schema,
};
#[cfg(not(akidb_loom))]
pub use search::{DEFAULT_RECALL, Explained, MAX_K, PartExplained, PartKind};
#[cfg(not(akidb_loom))]
pub use segment::{Damage, RowGroupReport, SectionReport, SegmentReport, VerifyReport, inspect_segment};
#[cfg(not(akidb_loom))]
pub use segment_meta::{DeletionVectorRef, Place, SegmentMeta};
#[cfg(not(akidb_loom))]
pub use snapshot::Snapshot;
#[cfg(not(akidb_loom))]
pub use stats::{
    CollectionStats, CompactionStats, MemoryStats, MemoryUseStats, PageCacheStats, SnapshotStats, Stats,
    WatermarkStats, WritePaceStats,
};
#[cfg(not(akidb_loom))]
pub use upload::{BackendStats, BreakerView};
#[cfg(not(akidb_loom))]
pub use verify::{FileDamage, TouchedRows, UnreadFile, UnreadIds, Verification, verify, verify_on};

/// The example of the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
