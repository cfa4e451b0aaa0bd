//! What an operator says about the dead letter queue.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What happens to a letter that finds its backend's list full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The oldest letter goes, is counted and is written to `dlq.evicted.jsonl`; its upload stays pending.
    #[default]
    EvictOldest,
    /// The new one is not taken; its upload stays pending.
    Reject,
}

/// Settings of the dead letter queue of one database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DlqSettings {
    /// Letters kept for each backend. Default 10,000, about 7 MB on disk.
    pub max_size: u32,
    /// Seconds after which a letter leaves the list. Default 604,800: 7 days. The upload stays pending.
    pub ttl_seconds: u64,
    /// Where the snapshot is kept; journal and evicted letters lie beside it. Absent by default:
    /// `dlq/dlq.json` in the database's directory. One file serves one database.
    pub persistence_path: Option<PathBuf>,
    /// Seconds between two searches for expired letters, and at most between two snapshots. Default 3,600.
    pub cleanup_interval_seconds: u64,
    /// What happens when a backend's list is full. Default `evict_oldest`.
    pub overflow: Overflow,
    /// Compress the snapshot, to an eighth or less. Default false: it is small, and read by `jq` as it is. Both forms are
    /// read, whatever is said here.
    pub compress: bool,
}

impl Default for DlqSettings {
    fn default() -> Self {
        Self {
            max_size: 10_000,
            ttl_seconds: 604_800,
            persistence_path: None,
            cleanup_interval_seconds: 3_600,
            overflow: Overflow::EvictOldest,
            compress: false,
        }
    }
}

impl DlqSettings {
    /// The snapshot's path for the database in `dir`.
    #[must_use]
    pub fn path_in(&self, dir: &Path) -> PathBuf {
        self.persistence_path.clone().unwrap_or_else(|| dir.join("dlq").join("dlq.json"))
    }

    /// The first setting that cannot be used, and why.
    #[must_use]
    pub fn refusal(&self) -> Option<(&'static str, String)> {
        if self.max_size == 0 {
            return Some(("max_size", "0: at least one letter must fit".into()));
        }
        if self.cleanup_interval_seconds == 0 {
            return Some(("cleanup_interval_seconds", "0: at least one second".into()));
        }
        None
    }
}
