//! How fast records are appended when nobody waits for the disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb_host::{Clock, RealClock};
use akidb_wal::{Durability, Log, WritePath};

use super::place::{FILE_BYTES, Removed, grown, open, record};
use super::{Error, Result};

/// Files' worth of the sustained figure: what a file's preparation costs shows only after several.
const SUSTAINED_FILES: u64 = 4;

/// Appends a second, acknowledged from memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryRate {
    /// Into one log file, first touch of its pages included.
    pub(crate) in_a_file_per_sec: f64,
    /// Over four files of 64 MiB, made while the appends run.
    pub(crate) sustained_per_sec: f64,
}

/// One round: a new log in `dir`, removed afterwards.
pub(crate) fn memory_rate(dir: &Path, record_bytes: usize, path: WritePath) -> Result<MemoryRate> {
    let log = MemoryAppends::new(dir, path, record_bytes)?;
    let rate = |records: u64| Ok::<_, Error>(records as f64 / log.append(records)?.as_secs_f64());
    let in_a_file_per_sec = rate(FILE_BYTES * 3 / 4 / record_bytes as u64)?;
    log.sync()?;
    let sustained_per_sec = rate(SUSTAINED_FILES * FILE_BYTES / record_bytes as u64)?;
    Ok(MemoryRate { in_a_file_per_sec, sustained_per_sec })
}

/// A log whose records count in memory, with a first file of 64 MiB; its directory is removed with it.
#[derive(Debug)]
pub struct MemoryAppends {
    /// Declared before the directory: it goes first.
    log: Log,
    record: Arc<[u8]>,
    _dir: Removed,
}

impl MemoryAppends {
    /// Opens a new log in `dir`. Blocks for the filling of its first file.
    ///
    /// # Errors
    /// Whatever the log says.
    pub fn new(dir: &Path, path: WritePath, record_bytes: usize) -> std::result::Result<Self, Error> {
        let mut config = grown(path);
        config.durability = Durability::Memory;
        let removed = Removed(dir.to_path_buf());
        let (log, _, _) = open(dir, config, None)?;
        Ok(Self { log, record: record(record_bytes), _dir: removed })
    }

    /// Appends so many records; how long that took.
    ///
    /// # Errors
    /// Whatever the log says.
    pub fn append(&self, records: u64) -> std::result::Result<Duration, Error> {
        let start = RealClock.now();
        for _ in 0..records {
            self.log.commit(&[&self.record])?;
        }
        Ok(RealClock.now().duration_since(start))
    }

    /// Waits until what was appended is on disk.
    fn sync(&self) -> Result<()> {
        Ok(self.log.wait(self.log.watermarks().appended)?)
    }
}
