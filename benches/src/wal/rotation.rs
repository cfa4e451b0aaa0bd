//! What a change of log files costs the acknowledgement that meets it.

use std::path::Path;

use akidb_host::{Clock, RealClock};
use akidb_wal::{Config, WritePath};

use super::Result;
use super::place::{Removed, open, record};
use crate::report::per_mille;

/// Files of the log in this measurement: so small that one acknowledgement in 600 meets a rotation, more often than
/// the percentile that is looked at.
const FILE_BYTES: u64 = 1 << 20;
const FILES: u64 = 10;

/// Of all acknowledgements over ten files, by one writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RotationTail {
    pub(crate) p50_us: f64,
    pub(crate) p999_us: f64,
}

/// One round in `dir`, removed afterwards.
pub(crate) fn rotation_tail(dir: &Path, record_bytes: usize, path: WritePath) -> Result<RotationTail> {
    let mut config = Config::default();
    config.write_path = path;
    config.first_file_bytes = FILE_BYTES;
    config.max_file_bytes = FILE_BYTES;
    let _removed = Removed(dir.to_path_buf());
    let (log, _, _) = open(dir, config, None)?;
    let record = record(record_bytes);
    let (mut bytes, mut micros) = (0, Vec::with_capacity(8192));
    while bytes < FILES * FILE_BYTES {
        let before = RealClock.now();
        let appended = log.append(&[&record])?;
        log.wait(appended.last)?;
        micros.push(RealClock.now().duration_since(before).as_secs_f64() * 1e6);
        bytes += appended.bytes;
    }
    drop(log);
    Ok(RotationTail { p50_us: per_mille(&mut micros, 500), p999_us: per_mille(&mut micros, 999) })
}
