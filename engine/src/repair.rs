//! Repairs by a person's explicit order; each keeps what it takes away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Fs, LockGuard, RealClock, RealFs, RealSpawn};
use serde::Serialize;

use crate::directory_lock;
use crate::error::{Error, ErrorKind, Result};
use crate::log::from_wal;
use crate::lsn::Lsn;
use crate::manifest::{Store, repair_step_back};
use crate::paths::lossy_paths;

mod lost;
mod named;
mod segment;

pub use lost::LostRows;
pub use segment::{repair_segment_drop, repair_segment_drop_on};

pub(crate) use named::{Named, home_of};

/// What a repair did, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct RepairReport {
    /// In words.
    pub done: String,
    /// Copies of what was taken away.
    #[serde(serialize_with = "lossy_paths")]
    pub kept: Vec<PathBuf>,
    /// Whether only a look was taken.
    pub dry_run: bool,
    /// The rows that are lost, where a segment was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostRows>,
}

impl RepairReport {
    pub(crate) fn new(done: String, kept: Vec<PathBuf>, dry_run: bool) -> Self {
        Self { done, kept, dry_run, lost: None }
    }
}

/// Cuts the log at `offset` of one of its files, as a `Corrupt` error names them: everything from there on is
/// dropped from the log and kept beside it. The database must not be open.
///
/// # Errors
/// `Locked` if it is; `Invalid` if the offset is not the end of a whole frame; `Unavailable`, `NoSpace`.
pub fn repair_wal_cut(file: impl AsRef<Path>, offset: u64, dry_run: bool) -> Result<RepairReport> {
    let file = file.as_ref();
    let home = file.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let _lock = take_lock(&RealFs, home)?;
    let cut = akidb_wal::cut_at(&RealFs, file, offset, dry_run).map_err(|error| from_wal(&error))?;
    let kept = cut.saved_as.into_iter().chain(cut.set_aside.into_iter().map(|(_, to)| to)).collect();
    let (verb, dropped) = (if dry_run { "would cut" } else { "cut" }, cut.dropped_bytes);
    let done = format!(
        "{verb} {} at byte {offset}, {dropped} bytes; the last record kept is {}",
        file.display(),
        cut.last_kept
    );
    Ok(RepairReport::new(done, kept, dry_run))
}

/// Steps back from a damaged newest manifest to the newest whole one. What only the damaged ones named, and the log
/// no longer holds, is not found again. The database must not be open.
///
/// # Errors
/// `Locked`; `Invalid` if the newest manifest is whole; `NotFound` if none is.
pub fn repair_manifest(dir: impl AsRef<Path>, dry_run: bool) -> Result<RepairReport> {
    let dir = dir.as_ref();
    let _lock = take_lock(&RealFs, dir)?;
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let manifests = dir.join("manifest");
    if dry_run {
        return would_step_back(fs, dir, manifests);
    }
    let stepped = repair_step_back(&fs, &manifests)?;
    let done = format!("manifest {} is the newest now; its log floor is {}", stepped.to, stepped.floor);
    let done = done + &beyond_the_log(dir, stepped.floor);
    Ok(RepairReport::new(done, stepped.damaged, dry_run))
}

fn would_step_back(fs: Arc<dyn Fs>, dir: &Path, manifests: PathBuf) -> Result<RepairReport> {
    let store = Store::new(fs, manifests);
    let mut damaged = Vec::new();
    for number in store.numbers()?.into_iter().rev() {
        match store.load(number) {
            Ok(_) if damaged.is_empty() => {
                return Err(Error::invalid(
                    "AKI-0317",
                    format!("manifest {number} is not damaged; nothing to do"),
                ));
            }
            Ok(good) => {
                let done = format!(
                    "would set {} damaged manifests aside and step back to {number}, floor {}",
                    damaged.len(),
                    good.manifest.floor
                );
                let done = done + &beyond_the_log(dir, good.manifest.floor);
                return Ok(RepairReport::new(done, damaged, true));
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => damaged.push(store.path(number)),
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(ErrorKind::NotFound, "AKI-0318", "there is no manifest that can be read"))
}

/// What to add when the log no longer holds everything from this floor on: the damaged manifests' flushes released it,
/// and an open from the older manifest will say so.
fn beyond_the_log(dir: &Path, floor: Lsn) -> String {
    let options = akidb_wal::Options {
        dir: dir.join("wal"),
        fs: Arc::new(RealFs),
        clock: Arc::new(RealClock),
        spawn: Arc::new(RealSpawn),
        config: akidb_wal::Config::default(),
        min_epoch: 0,
        floor,
        read_only: true,
    };
    match akidb_wal::Log::open(options) {
        Ok(_) => String::new(),
        Err(error) => format!(
            "; but the log no longer reaches that floor ({}), so rows that only the damaged manifests name are not found \
             this way: `akidb restore URL DIR` from a backend brings them back",
            error.kind()
        ),
    }
}

/// The lock of a directory whose database is not open.
pub(crate) fn take_lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn LockGuard>> {
    directory_lock::take(fs, dir, "stop that process first")
}
