//! Settings: what an operator types in a TOML file. Every key is explained in docs/operations/settings.md.
//!
//! The values and their rules live here; reading the file in `config/file.rs`, the table of keys in
//! `config/keys.rs`, backends in `config/backend.rs`.

use std::fmt;
use std::path::Path;

use akidb_backends::{BreakerSettings, DlqSettings};
use akidb_host::{Fs, RealFs, read_file};
use serde::Deserialize;

use crate::error::{Error, Result};

mod backend;
mod file;
mod keys;
#[cfg(test)]
mod tests;

pub use backend::{BackendKind, BackendSettings, Secret};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Where segments live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tiering {
    /// In the database directory only.
    #[default]
    Local,
    /// In the database directory, and a copy on every configured backend.
    Mirror,
}

impl Tiering {
    /// The word for it in a settings file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Mirror => "mirror",
        }
    }
}

/// When a write counts as written. Chosen when a database is opened, never per call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// Once it survives a power cut of this machine. The default: anything less is a surprise on the worst of days.
    #[default]
    LocalSynced,
    /// Once every read sees it. It then survives the death of the process, and a power cut only after the next sync,
    /// which begins at the latest 50 ms later. For rows that can be had again.
    Memory,
}

impl Durability {
    /// The word for it in a settings file and in `stats`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LocalSynced => "local_synced",
            Self::Memory => "memory",
        }
    }
}

/// Everything an operator can set. [`Settings::default`] is a database that is all local.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Where segments live. Without the key: `mirror` once a backend is configured, else `local`.
    pub tiering: Tiering,
    /// Where copies go.
    pub backends: Vec<BackendSettings>,
    /// Whether a backend that fails is left alone for a while. Default true.
    pub circuit_breaker_enabled: bool,
    /// When, and for how long. Each backend has breakers of its own.
    pub circuit_breaker_config: BreakerSettings,
    /// Where uploads go that will not go up, and how many of them for how long.
    pub dlq_config: DlqSettings,
    /// Memory, log, disk and upload limits.
    pub engine: EngineSettings,
    /// Keys that were given and accepted and have no effect in this version, for `akidb config check` to say so.
    pub without_effect: Vec<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tiering: Tiering::default(),
            backends: Vec::new(),
            circuit_breaker_enabled: true,
            circuit_breaker_config: BreakerSettings::default(),
            dlq_config: DlqSettings::default(),
            engine: EngineSettings::default(),
            without_effect: Vec::new(),
        }
    }
}

/// Limits of the engine. Sizes are bytes; in the file a number of bytes or a text like `"32 MiB"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EngineSettings {
    /// When a write counts as written. `local_synced`: a row that was acknowledged survives a power cut.
    pub durability: Durability,
    /// A memtable this large becomes a segment. 32 MiB: about 20,000 rows of 384 dimensions, large enough for a
    /// segment worth its footer, small enough to rewrite in a second. Beside segments an eighth of what they take is
    /// enough, and 8 MiB at least: the log of a young collection is no larger than its rows.
    #[serde(deserialize_with = "file::bytes")]
    pub memtable_bytes: u64,
    /// What the database may hold in memory, mapped files not counted: at half of it in memtables, sealed ones included, one
    /// is flushed; an eighth is left free for flushes, and a write that finds no room waits; merges hold a quarter at most,
    /// memtables that only snapshots hold an eighth, what filters keep a quarter, unpacked pages an eighth. 256 MiB: a handful of
    /// busy collections at once, in a container of 512 MiB. [`crate::Builder::memory`] stands above it.
    #[serde(deserialize_with = "file::bytes")]
    pub memory_bytes: u64,
    /// Columns that filters read, decoded, and the rows that filters take, kept for the next query. 32 MiB: ten
    /// columns and some hundred filters over a million rows. Part of `memory_bytes`, and a quarter of it at most. 0 keeps nothing: each query decodes its columns again.
    #[serde(deserialize_with = "file::bytes")]
    pub filter_cache_bytes: u64,
    /// Unpacked pages of segments, kept for the next row that is read of them. 32 MiB: the rows of some 60,000 entries of
    /// half a kilobyte. Part of `memory_bytes`, and an eighth of it at most. 0 keeps nothing: each row unpacks a page a column.
    #[serde(deserialize_with = "file::bytes")]
    pub page_cache_bytes: u64,
    /// Memtables of a collection waiting to become segments before writers wait. 2: one being written, one
    /// behind it; more would only hide a disk that is too slow. While an open's replayed one is among them, one more.
    pub max_sealed_memtables: u32,
    /// Whether segments are merged in the background. `true`: files stay few and dead rows leave the disk with nobody
    /// calling for it. `false` only for somebody who wants to call [`crate::Db::compact`] at a time of their own.
    pub compaction: bool,
    /// Segments of less than two memtables that a collection may have while one of its merges is under way, before writers
    /// wait: each costs every search a little, and writers that are faster than the merges would pile them up. 24: two
    /// dozen of them cost a search less than one large segment does.
    pub max_small_segments: u32,
    /// Live log on disk at which writers wait. 1 GiB: replay stays within seconds.
    #[serde(deserialize_with = "file::bytes")]
    pub wal_max_bytes: u64,
    /// Live log at which the collection with the oldest unflushed record is flushed, whatever its size. 96 MiB:
    /// three of the largest memtables, so quiet collections do not hold the log.
    #[serde(deserialize_with = "file::bytes")]
    pub wal_flush_bytes: u64,
    /// How long a write waits at limits, in all, before it answers `Full`, in milliseconds. 1,000: a flush usually ends
    /// sooner, and a caller's own timeout is usually later.
    pub write_stall_timeout_ms: u64,
    /// Free disk below which writes are refused. `None`, the default, is the smaller of 1 GiB and 5 % of the
    /// disk: what flush and repair need to run at all.
    #[serde(deserialize_with = "file::some_bytes")]
    pub min_free_disk_bytes: Option<u64>,
    /// Seconds without a write after which everything is flushed, the log shrinks to a small file and segments of which
    /// two rows in a hundred are dead are merged. 30: a database that nobody writes to opens at once, takes little more space than its rows and
    /// is whole on its backends. Where there is less than 8 MiB to gain it takes thirty times as long. 0: never.
    pub rest_after_secs: u64,
    /// Seconds after which a row that expired is deleted, at the latest. 60: whoever asks when it is gone from the newest
    /// state gets a short answer, and a look at the memtables each half minute costs nothing. 0: never, it is only hidden.
    pub ttl_purge_secs: u64,
    /// Hours after which a segment is rewritten for the sake of rows in it that expired and were deleted, however few. 24:
    /// a segment is rewritten at most once a day for that. Shorter than `ttl_purge_secs` it counts as that. 0: when enough of
    /// it is dead, as for any row.
    pub ttl_erase_hours: u32,
    /// Old manifests kept, at most. 100: a bad day can be looked back over.
    pub manifest_keep: u32,
    /// Hours an old manifest is kept, at most. 24, for the same reason.
    pub manifest_keep_hours: u32,
    /// Seconds a snapshot is held at most: a forgotten one keeps the rows and files of its moment. 3,600: longer than an
    /// export of a few million rows.
    pub snapshot_max_age_secs: u64,
    /// Seconds for which the key of a batch is remembered, at most. 86,400: a client that has not heard for a day asks a
    /// person.
    pub idempotency_window_secs: u64,
    /// Keys of batches remembered, at most; the oldest go first. 10,000: two requests a second through an outage of an
    /// hour. Each costs its own length and about 150 bytes in memory, and its length and 50 in each manifest once its batch is
    /// flushed.
    pub max_idempotency_keys: u32,
    /// Shortest time between two manifests on one backend, in milliseconds. 2,000: bounds the requests that
    /// small flushes cost, and what a lost machine loses beyond its last flush.
    pub remote_commit_interval_ms: u64,
    /// Attempts of one upload, the first included, before it counts as failed. 3: a blip is gone by then, an
    /// outage is not.
    pub upload_attempts: u32,
    /// Bytes of files that a `required` backend may lack before writes are refused; of a backend that has not
    /// answered since the open, files made since then count. `None`, the default: never, an
    /// outage of a backend is no reason to stop writing while the disk has room.
    #[serde(deserialize_with = "file::some_bytes")]
    pub max_pending_bytes: Option<u64>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            durability: Durability::LocalSynced,
            memtable_bytes: 32 * MIB,
            memory_bytes: 256 * MIB,
            filter_cache_bytes: 32 * MIB,
            page_cache_bytes: 32 * MIB,
            max_sealed_memtables: 2,
            compaction: true,
            max_small_segments: 24,
            wal_max_bytes: GIB,
            wal_flush_bytes: 96 * MIB,
            write_stall_timeout_ms: 1_000,
            min_free_disk_bytes: None,
            rest_after_secs: 30,
            ttl_purge_secs: 60,
            ttl_erase_hours: 24,
            manifest_keep: 100,
            manifest_keep_hours: 24,
            snapshot_max_age_secs: 3_600,
            idempotency_window_secs: 86_400,
            max_idempotency_keys: 10_000,
            remote_commit_interval_ms: 2_000,
            upload_attempts: 3,
            max_pending_bytes: None,
        }
    }
}

/// A value that cannot be used: the key (with its place in an array, `backends[1].url`) and why.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: &'static str,
    key: String,
    why: String,
}

impl Refusal {
    fn value(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self { code: "AKI-0405", key: key.into(), why: why.into() }
    }

    fn not_built(key: impl Into<String>, why: impl Into<String>) -> Self {
        let why = format!("{}; this comes in a later version", why.into());
        Self { code: "AKI-0404", key: key.into(), why }
    }
}

impl Settings {
    /// Reads a settings file.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`: the file cannot be read. `Invalid`: see [`Settings::from_toml`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text =
            read_text(&RealFs, path).map_err(|e| Error::io("AKI-0407", path, "reading settings", &e))?;
        Self::from_toml(&text).map_err(|e| {
            let offset = e.offset();
            e.at(path, offset)
        })
    }

    /// Reads settings from the text of a TOML file.
    ///
    /// # Errors
    /// `Invalid`, naming key and line: text that is no TOML, an unknown key ("did you mean"), a value of the
    /// wrong type or out of range, keys that contradict each other, or a key whose feature is not built yet.
    /// No error ever repeats the value of a secret.
    pub fn from_toml(text: &str) -> Result<Self> {
        file::read(text)
    }

    /// Checks settings made by a program; those read from a file are checked already.
    ///
    /// # Errors
    /// `Invalid`, naming the key.
    pub fn check(&self) -> Result<()> {
        self.refusal().map_err(|r| Error::invalid(r.code, format!("{}: {}", r.key, r.why)))
    }

    fn refusal(&self) -> Result<(), Refusal> {
        if self.tiering == Tiering::Local && !self.backends.is_empty() {
            let why =
                "\"local\" keeps no copies, but a backend is configured; say \"mirror\" or drop the backend";
            return Err(Refusal::value("storage.tiering_policy", why));
        }
        if self.tiering == Tiering::Mirror && self.backends.is_empty() {
            let why = "\"mirror\" needs a backend: add [[backends]] or storage.s3_bucket";
            return Err(Refusal::value("storage.tiering_policy", why));
        }
        for (at, backend) in self.backends.iter().enumerate() {
            backend.refusal(at)?;
            if self.backends[..at].iter().any(|b| b.name == backend.name) {
                let why = format!("\"{}\" is the name of two backends", backend.name);
                return Err(Refusal::value(format!("backends[{at}].name"), why));
            }
        }
        if let Some((key, why)) = self.circuit_breaker_config.refusal() {
            return Err(Refusal::value(format!("storage.circuit_breaker_config.{key}"), why));
        }
        if let Some((key, why)) = self.dlq_config.refusal() {
            return Err(Refusal::value(format!("storage.dlq_config.{key}"), why));
        }
        self.engine.refusal()
    }
}

impl EngineSettings {
    /// Free bytes below which writes are refused on a disk of `disk_bytes`.
    #[must_use]
    pub fn min_free_disk(&self, disk_bytes: u64) -> u64 {
        self.min_free_disk_bytes.unwrap_or_else(|| GIB.min(disk_bytes / 20))
    }

    fn refusal(&self) -> Result<(), Refusal> {
        const HOUR_MS: u64 = 3_600_000;
        let ranges = [
            ("memtable_bytes", self.memtable_bytes, 64 * KIB, GIB),
            ("memory_bytes", self.memory_bytes, self.memtable_bytes, u64::MAX),
            ("filter_cache_bytes", self.filter_cache_bytes, 0, u64::MAX / 2),
            ("page_cache_bytes", self.page_cache_bytes, 0, u64::MAX / 2),
            ("max_sealed_memtables", self.max_sealed_memtables.into(), 1, 64),
            ("max_small_segments", self.max_small_segments.into(), 8, 100_000),
            ("wal_flush_bytes", self.wal_flush_bytes, 64 * KIB, u64::MAX / 2),
            ("wal_max_bytes", self.wal_max_bytes, self.wal_flush_bytes + 1, u64::MAX),
            ("write_stall_timeout_ms", self.write_stall_timeout_ms, 0, HOUR_MS),
            ("ttl_purge_secs", self.ttl_purge_secs, 0, 24 * 3_600),
            ("ttl_erase_hours", self.ttl_erase_hours.into(), 0, 24 * 3_660),
            ("manifest_keep", self.manifest_keep.into(), 1, 100_000),
            ("manifest_keep_hours", self.manifest_keep_hours.into(), 1, 24 * 3_660),
            ("snapshot_max_age_secs", self.snapshot_max_age_secs, 1, 366 * 24 * 3_600),
            ("idempotency_window_secs", self.idempotency_window_secs, 1, 366 * 24 * 3_600),
            ("max_idempotency_keys", self.max_idempotency_keys.into(), 1, 100_000),
            ("remote_commit_interval_ms", self.remote_commit_interval_ms, 10, HOUR_MS),
            ("upload_attempts", self.upload_attempts.into(), 1, 100),
            ("max_pending_bytes", self.max_pending_bytes.unwrap_or(MIB), MIB, u64::MAX),
        ];
        for (key, value, low, high) in ranges {
            if value < low || value > high {
                let range =
                    if high == u64::MAX { format!("at least {low}") } else { format!("{low} to {high}") };
                return Err(Refusal::value(format!("engine.{key}"), format!("{value} is not {range}")));
            }
        }
        Ok(())
    }
}

/// As a settings file that says every value in force, secrets as `***`.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &self.engine;
        writeln!(f, "[storage]\ntiering_policy = \"{}\"", self.tiering.name())?;
        writeln!(f, "circuit_breaker_enabled = {}\n", self.circuit_breaker_enabled)?;
        backend::write_breaker(f, &self.circuit_breaker_config)?;
        writeln!(f)?;
        backend::write_dead_letters(f, &self.dlq_config)?;
        writeln!(f, "\n[engine]")?;
        writeln!(f, "durability = \"{}\"", e.durability.name())?;
        writeln!(f, "memtable_bytes = {}", e.memtable_bytes)?;
        writeln!(f, "memory_bytes = {}", e.memory_bytes)?;
        writeln!(f, "filter_cache_bytes = {}", e.filter_cache_bytes)?;
        writeln!(f, "page_cache_bytes = {}", e.page_cache_bytes)?;
        writeln!(f, "max_sealed_memtables = {}", e.max_sealed_memtables)?;
        writeln!(f, "compaction = {}", e.compaction)?;
        writeln!(f, "max_small_segments = {}", e.max_small_segments)?;
        writeln!(f, "wal_max_bytes = {}", e.wal_max_bytes)?;
        writeln!(f, "wal_flush_bytes = {}", e.wal_flush_bytes)?;
        writeln!(f, "write_stall_timeout_ms = {}", e.write_stall_timeout_ms)?;
        match e.min_free_disk_bytes {
            Some(bytes) => writeln!(f, "min_free_disk_bytes = {bytes}")?,
            None => writeln!(f, "# min_free_disk_bytes: the smaller of 1 GiB and 5 % of the disk")?,
        }
        writeln!(f, "ttl_purge_secs = {}", e.ttl_purge_secs)?;
        writeln!(f, "ttl_erase_hours = {}", e.ttl_erase_hours)?;
        writeln!(f, "manifest_keep = {}", e.manifest_keep)?;
        writeln!(f, "manifest_keep_hours = {}", e.manifest_keep_hours)?;
        writeln!(f, "snapshot_max_age_secs = {}", e.snapshot_max_age_secs)?;
        writeln!(f, "idempotency_window_secs = {}", e.idempotency_window_secs)?;
        writeln!(f, "max_idempotency_keys = {}", e.max_idempotency_keys)?;
        writeln!(f, "remote_commit_interval_ms = {}", e.remote_commit_interval_ms)?;
        writeln!(f, "upload_attempts = {}", e.upload_attempts)?;
        match e.max_pending_bytes {
            Some(bytes) => writeln!(f, "max_pending_bytes = {bytes}")?,
            None => writeln!(f, "# max_pending_bytes: writes wait for no backend")?,
        }
        self.backends.iter().try_for_each(|b| write!(f, "\n{b}"))
    }
}

fn read_text(fs: &dyn Fs, path: &Path) -> std::io::Result<String> {
    let bytes = read_file(fs, path)?;
    String::from_utf8(bytes).map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e.utf8_error()))
}
