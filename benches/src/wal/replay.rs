//! How fast a log is read again: replay alone, and the reopen after an end without a close.

use std::path::Path;
use std::sync::Arc;

use akidb_host::{Clock, RealClock, RealFs};
use akidb_wal::{Config, Log, Options, Recovered};

use super::Result;
use super::place::{open, options, record, remove};

/// What is live when the log is opened again.
pub(crate) const LIVE_BYTES: u64 = 64 << 20;
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
    let bytes = fill(dir, record_bytes)?;
    let look = Options { read_only: true, ..options(dir.to_path_buf(), Arc::new(RealFs), Config::default()) };
    let (log, recovered) = Log::open(look)?;
    let start = RealClock.now();
    read_all(&recovered)?;
    let gb_per_sec = bytes as f64 / RealClock.now().duration_since(start).as_secs_f64() / 1e9;
    drop((log, recovered));
    let reopen_ms = reopen(dir)?;
    remove(dir)?;
    Ok(ReplayRate { gb_per_sec, reopen_ms })
}

/// Fills a new log with [`LIVE_BYTES`] of acknowledged records and leaves it without a close, which is what
/// kill -9 leaves. Gives the bytes of its frames.
pub(crate) fn fill(dir: &Path, record_bytes: usize) -> Result<u64> {
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

/// Opens for writing and reads every record: what stands between a crash and the first answer. In milliseconds.
pub(crate) fn reopen(dir: &Path) -> Result<f64> {
    let start = RealClock.now();
    let (log, recovered, _) = open(dir, Config::default(), None)?;
    read_all(&recovered)?;
    let took = RealClock.now().duration_since(start);
    drop(log);
    Ok(took.as_secs_f64() * 1e3)
}

/// Reads every record; gives how many.
pub(crate) fn read_all(recovered: &Recovered) -> Result<u64> {
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
