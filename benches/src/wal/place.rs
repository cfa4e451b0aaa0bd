//! A log of the bench, in a directory of its own under the bench's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use akidb_host::{RealClock, RealSpawn};
use akidb_wal::{Config, Log, Lsn, Options, Recovered, WritePath};

use super::disk::{CountedDisk, Syncs};
use super::slot::{Slot, Work, blocking};
use super::{Error, Result};

/// Size of a log file once a log has grown, and the most that may be live in a slot.
pub(crate) const FILE_BYTES: u64 = 64 << 20;
const LIVE_BYTES: u64 = 8 << 30;

/// An open log, and the syncs it made.
#[derive(Debug)]
pub(crate) struct BenchLog {
    pub(crate) log: Arc<Log>,
    pub(crate) syncs: Arc<Syncs>,
    record: Arc<[u8]>,
}

/// Settings of a log that has grown: each file has its final size, so that no slot measures the growing.
pub(crate) fn grown(write_path: WritePath) -> Config {
    let mut config = Config::default();
    config.write_path = write_path;
    config.first_file_bytes = FILE_BYTES;
    config.max_file_bytes = FILE_BYTES;
    config.max_bytes = LIVE_BYTES;
    config
}

/// Opens the log in `dir` on the real disk or, with `sync_takes`, on a stand-in.
pub(crate) fn open(
    dir: &Path,
    config: Config,
    sync_takes: Option<Duration>,
) -> Result<(Log, Recovered, Arc<Syncs>)> {
    let disk = CountedDisk::new(sync_takes);
    let syncs = disk.syncs();
    let options = options(dir.to_path_buf(), Arc::new(disk), config);
    let (log, recovered) = Log::open(options)?;
    Ok((log, recovered, syncs))
}

/// What a log of the bench is opened with.
pub(crate) fn options(dir: PathBuf, fs: Arc<dyn akidb_host::Fs>, config: Config) -> Options {
    Options {
        dir,
        fs,
        clock: Arc::new(RealClock),
        spawn: Arc::new(RealSpawn),
        config,
        min_epoch: 0,
        floor: Lsn::ZERO,
        read_only: false,
    }
}

impl BenchLog {
    /// A new log that records of `record_bytes` are written to.
    pub(crate) fn new(
        dir: &Path,
        config: Config,
        sync_takes: Option<Duration>,
        record_bytes: usize,
    ) -> Result<Self> {
        let (log, _, syncs) = open(dir, config, sync_takes)?;
        Ok(Self { log: Arc::new(log), syncs, record: record(record_bytes) })
    }

    /// Blocking writers, each waiting for its record before the next.
    pub(crate) fn writers(&self, writers: usize, time: Duration) -> Result<Slot> {
        self.counted(|| blocking((0..writers).map(|_| self.writer()).collect(), time))
    }

    fn writer(&self) -> Work {
        let (log, record) = (Arc::clone(&self.log), Arc::clone(&self.record));
        Box::new(move || {
            let appended = log.append(&[&record])?;
            Ok(log.wait(appended.last)?)
        })
    }

    /// Async tasks, each awaiting its record before the next.
    pub(crate) fn tasks(&self, tasks: usize, workers: usize, time: Duration) -> Result<Slot> {
        self.counted(|| super::tasks::tasks(&self.log, &self.record, tasks, workers, time))
    }

    /// Runs a slot and notes what it cost the disk; then lets go of what was written, outside of the figures.
    fn counted(&self, slot: impl FnOnce() -> Result<Slot>) -> Result<Slot> {
        let written = || akidb_host::Fs::written_bytes(&akidb_host::RealFs);
        let (syncs, other, bytes) = (self.syncs.data(), self.syncs.other(), written());
        let mut slot = slot()?;
        slot.syncs = self.syncs.data() - syncs;
        slot.other_syncs = self.syncs.other() - other;
        slot.device_bytes = bytes.zip(written()).map(|(before, after)| after - before);
        self.log.truncate_below(self.log.watermarks().appended.next())?;
        Ok(slot)
    }
}

/// Bytes that no disk can shorten.
pub(crate) fn record(bytes: usize) -> Arc<[u8]> {
    let mut rng = akidb_host::Rng::seeded(7);
    let mut record = vec![0; bytes];
    rng.fill(&mut record);
    record.into()
}

/// A directory that is removed when this is dropped, so that the next log finds the same disk.
#[derive(Debug)]
pub(crate) struct Removed(pub(crate) PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // What cannot be removed lies in a temporary directory anyway.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A log that has grown, and blocking writers of it: what criterion measures.
#[derive(Debug)]
pub struct LogWriters(BenchLog);

impl LogWriters {
    /// Opens a new log in `dir`. Blocks for the filling of its first file.
    ///
    /// # Errors
    /// Whatever the log says.
    pub fn new(dir: &Path, path: WritePath, record_bytes: usize) -> std::result::Result<Self, Error> {
        Ok(Self(BenchLog::new(dir, grown(path), None, record_bytes)?))
    }

    /// So many writers acknowledge `each` records, each waiting for its record before the next; how long that took.
    /// What was written is let go afterwards.
    ///
    /// # Errors
    /// Whatever the log says.
    pub fn write(&self, writers: u64, each: u64) -> std::result::Result<Duration, Error> {
        let works = (0..writers).map(|_| self.0.writer()).collect();
        let took = super::slot::counted(works, each)?;
        self.0.log.truncate_below(self.0.log.watermarks().appended.next())?;
        Ok(took)
    }
}
