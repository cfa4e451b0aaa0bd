//! How fast a log is read again: replay alone, and the reopen after an end without a close.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb_host::{Clock, RealClock, RealFs};
use akidb_wal::{Config, Log, Options, Recovered};

use super::place::{Removed, open, options, record};
use super::{Error, Result};

/// What is live when the log is opened again.
const LIVE_BYTES: u64 = 64 << 20;
/// Records a sync while the log is filled.
const GROUP: u64 = 64;

/// What one round found. Everything is in the page cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayRate {
    /// Frame bytes a second, each frame checked as it is read.
    pub(crate) gb_per_sec: f64,
    /// From the call of open to the last record read, in milliseconds.
    pub(crate) reopen_ms: f64,
}

/// One round in `dir`, removed afterwards.
pub(crate) fn replay_rate(dir: &Path, record_bytes: usize) -> Result<ReplayRate> {
    let filled = FilledLog::new(dir, record_bytes)?;
    let gb_per_sec = filled.bytes as f64 / filled.replay()?.as_secs_f64() / 1e9;
    let reopen_ms = filled.reopen()?.as_secs_f64() * 1e3;
    Ok(ReplayRate { gb_per_sec, reopen_ms })
}

/// A log with 64 MiB of acknowledged records that was left without a close, which is what kill -9 leaves. Its
/// directory is removed with it.
#[derive(Debug)]
pub struct FilledLog {
    bytes: u64,
    dir: Removed,
}

impl FilledLog {
    /// Fills a new log in `dir`.
    ///
    /// # Errors
    /// Whatever the log says.
    pub fn new(dir: &Path, record_bytes: usize) -> std::result::Result<Self, Error> {
        let removed = Removed(dir.to_path_buf());
        Ok(Self { bytes: fill(dir, record_bytes)?, dir: removed })
    }

    /// Bytes of its frames.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How long it takes to read every record of the open log, each frame checked on the way.
    ///
    /// # Errors
    /// Whatever the log says.
    pub fn replay(&self) -> std::result::Result<Duration, Error> {
        let look = options(self.dir.0.clone(), Arc::new(RealFs), Config::default());
        let (_log, recovered) = Log::open(Options { read_only: true, ..look })?;
        let start = RealClock.now();
        read_all(&recovered)?;
        Ok(RealClock.now().duration_since(start))
    }

    /// How long it takes to open it for writing and to read every record: what stands between a crash and the first
    /// answer. Only once for a log: the open leaves another one.
    ///
    /// # Errors
    /// Whatever the log says.
    pub fn reopen(self) -> std::result::Result<Duration, Error> {
        let start = RealClock.now();
        let (log, recovered, _) = open(&self.dir.0, Config::default(), None)?;
        read_all(&recovered)?;
        let took = RealClock.now().duration_since(start);
        drop(log);
        Ok(took)
    }
}

fn fill(dir: &Path, record_bytes: usize) -> Result<u64> {
    let (log, _, _) = open(dir, Config::default(), None)?;
    let record = record(record_bytes);
    let (mut bytes, mut records) = (0, 0);
    while bytes < LIVE_BYTES {
        let appended = log.append(&[&record])?;
        bytes += appended.bytes;
        records += 1;
        if records % GROUP == 0 || bytes >= LIVE_BYTES {
            log.wait(appended.last)?;
        }
    }
    Ok(bytes)
}

/// Reads every record; gives how many.
fn read_all(recovered: &Recovered) -> Result<u64> {
    let mut records = 0;
    for record in &recovered.records {
        std::hint::black_box(record?.bytes);
        records += 1;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_that_was_filled_in_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("wal");
        let bytes = fill(&dir, 100_000).unwrap();
        let (_log, recovered, _) = open(&dir, Config::default(), None).unwrap();
        assert_eq!(read_all(&recovered).unwrap(), bytes.div_ceil(100_048));
    }
}
