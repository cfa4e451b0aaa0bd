//! How fast records are appended when nobody waits for the disk.

use std::path::Path;

use akidb_host::{Clock, RealClock};
use akidb_wal::{Durability, Log, WritePath};

use super::Result;
use super::place::{FILE_BYTES, grown, open, record, remove};

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
    let mut config = grown(path);
    config.durability = Durability::Memory;
    let (log, _, _) = open(dir, config, None)?;
    let record = record(record_bytes);
    let in_a_file = FILE_BYTES * 3 / 4 / record_bytes as u64;
    let in_a_file_per_sec = rate(&log, &record, in_a_file)?;
    log.wait(log.watermarks().appended)?;
    let sustained_per_sec = rate(&log, &record, SUSTAINED_FILES * FILE_BYTES / record_bytes as u64)?;
    drop(log);
    remove(dir)?;
    Ok(MemoryRate { in_a_file_per_sec, sustained_per_sec })
}

fn rate(log: &Log, record: &[u8], records: u64) -> Result<f64> {
    let start = RealClock.now();
    for _ in 0..records {
        log.append(&[record])?;
    }
    Ok(records as f64 / RealClock.now().duration_since(start).as_secs_f64())
}
