//! What can be set on a log, and what a program passes in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use akidb_host::{Clock, Fs, Spawn};

use crate::lsn::Lsn;

const MIB: u64 = 1 << 20;

/// When a record counts as written. Chosen when the log is opened, never per call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Once a sync of this machine's disk has covered it: it survives a power cut.
    #[default]
    LocalSynced,
    /// Once it lies in the page cache: it survives the death of this process, not a power cut. The disk has it at the
    /// latest [`Config::memory_sync_interval`] later.
    Memory,
}

/// How frames get into a log file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WritePath {
    /// By stores where a probe of each file shows that a stored byte costs the disk a page, else by write calls; by write
    /// calls on file systems that write each block to a new place, where a store can find the disk full.
    #[default]
    Auto,
    /// By stores into the map of the file.
    Mapped,
    /// Staged in memory and written by one call a group; readers still map the file.
    Positioned,
}

/// Settings of a log. Every default is explained at its field.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// When a record counts as written.
    pub durability: Durability,
    /// Size of the file made at open, in bytes: 1 MiB, so that opening costs about a millisecond and an idle
    /// database no space.
    pub first_file_bytes: u64,
    /// Each next file is four times the one before, up to this size: 64 MiB, one spare in 0.2 s of background
    /// writing. A batch that needs more gets a file of its own size.
    pub max_file_bytes: u64,
    /// Bytes in live log files above which `append` answers `Full`: 1 GiB, one to two seconds of cold replay.
    pub max_bytes: u64,
    /// Payload bytes in one batch: 64 MiB (hard limit 1 GiB).
    pub max_batch_bytes: u64,
    /// After a sync and this long without appends, an unsynced STAMP frame proves the last group; a record
    /// nobody waits for is synced at the latest after twice as long. 5 ms: invisible to a busy writer.
    pub stamp_after: Duration,
    /// How long the leader of a sync waits for the rest of its group, at most; half of the last sync's time if that is
    /// less. 60 us: what sixteen writers need to wake up and append. Zero: never. A lone writer never waits.
    pub linger_max: Duration,
    /// In [`Durability::Memory`], how long a record may stay unsynced. 50 ms: what a power cut takes, at most.
    pub memory_sync_interval: Duration,
    /// How frames get into the file.
    pub write_path: WritePath,
    /// Size of the file kept so that a full disk can still be opened: 4 MiB, enough for a first file and the
    /// unproven tail of an ordinary crash. 0 keeps none.
    pub reserve_bytes: u64,
    /// Whether a log may lie on NFS, CIFS or FUSE, whose locks, maps and flushes are not what we promise. No.
    pub allow_network_fs: bool,
    /// What log ids and salts are drawn from; `None`: seeded by the machine. No two opens of a directory may have the same
    /// unless they have another epoch: a salt that repeats lets stale bytes pass for new ones.
    pub salt_seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            durability: Durability::LocalSynced,
            first_file_bytes: MIB,
            max_file_bytes: 64 * MIB,
            max_bytes: 1024 * MIB,
            max_batch_bytes: 64 * MIB,
            stamp_after: Duration::from_millis(5),
            linger_max: Duration::from_micros(60),
            memory_sync_interval: Duration::from_millis(50),
            write_path: WritePath::Auto,
            reserve_bytes: 4 * MIB,
            allow_network_fs: false,
            salt_seed: None,
        }
    }
}

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The log's own directory, made if missing.
    pub dir: PathBuf,
    /// The disk.
    pub fs: Arc<dyn Fs>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where the commit and prepare threads come from.
    pub spawn: Arc<dyn Spawn>,
    /// Settings.
    pub config: Config,
    /// The highest epoch known elsewhere (the engine's manifest); the log takes a higher one.
    pub min_epoch: u32,
    /// Records below need not exist any more, and every one of them was durable: a log that ends below is damaged.
    pub floor: Lsn,
    /// Only replay: nothing is written, created or removed, and every write call is refused.
    pub read_only: bool,
}
