//! Repairs by a person's explicit order; each keeps what it takes away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Fs, LockGuard, RealClock, RealFs, RealSpawn};
use serde::Serialize;

use crate::directory_lock;
use crate::error::{Error, ErrorKind, Result};
use crate::log::from_wal;
use crate::lsn::Lsn;
use crate::manifest::{Store, look_back, repair_step_back};
use crate::paths::lossy_paths;

mod lost;
mod named;
mod segment;
mod unnamed;

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
/// `Locked` if it is; `Invalid` if the offset is not the end of a whole frame, or if the log is sound and holds records that
/// are in no segment yet; `Unavailable`, `NoSpace`.
pub fn repair_wal_cut(file: impl AsRef<Path>, offset: u64, dry_run: bool) -> Result<RepairReport> {
    cut(file.as_ref(), offset, dry_run, false)
}

/// As [`repair_wal_cut`], also of a sound log: its records from there on are given up.
///
/// # Errors
/// As [`repair_wal_cut`].
pub fn repair_wal_drop(file: impl AsRef<Path>, offset: u64, dry_run: bool) -> Result<RepairReport> {
    cut(file.as_ref(), offset, dry_run, true)
}

fn cut(file: &Path, offset: u64, dry_run: bool, is_sound_too: bool) -> Result<RepairReport> {
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let home = home_of_log(&*fs, file)?;
    let _lock = take_lock(&*fs, &home)?;
    if !is_sound_too {
        refuse_sound(&fs, &home, file)?;
    }
    let cut = akidb_wal::cut_at(&*fs, file, offset, dry_run).map_err(|error| from_wal(&error))?;
    let kept = cut.saved_as.into_iter().chain(cut.set_aside.into_iter().map(|(_, to)| to)).collect();
    let (verb, dropped) = (if dry_run { "would cut" } else { "cut" }, cut.dropped_bytes);
    let last = match cut.last_kept {
        Lsn::ZERO => "no record of this file is kept".to_owned(),
        last => format!("the last record kept is {last}"),
    };
    let done = format!("{verb} {} at byte {offset}, {dropped} bytes; {last}", file.display());
    Ok(RepairReport::new(done, kept, dry_run))
}

/// The directory of the database in whose `wal/` the file lies: its lock is the one to take.
fn home_of_log(fs: &dyn Fs, file: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let home = whole.parent().filter(|dir| dir.ends_with("wal")).and_then(Path::parent);
    let home = home.filter(|home| fs.metadata(&home.join("manifest")).is_ok());
    home.map(Path::to_path_buf).ok_or_else(|| {
        let message = "this is not the path of a log file in a database: nothing was changed";
        Error::invalid("AKI-0524", message)
            .at(file, None)
            .help_is("name it as the error does: DIR/wal/FILE.wal")
    })
}

/// What may be read is not given up: a log that an open would take as it is, records and all.
fn refuse_sound(fs: &Arc<dyn Fs>, home: &Path, file: &Path) -> Result<()> {
    // Where no manifest says where the log begins, there is nothing to judge it by.
    let newest = match Store::new(Arc::clone(fs), home.join("manifest")).newest() {
        Ok(Some(newest)) => newest,
        Ok(None) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(()),
        Err(error) => return Err(error),
    };
    let Ok(recovered) = look_at_log(fs, home, newest.manifest.floor) else { return Ok(()) };
    let mut records = 0;
    for record in recovered.records.iter() {
        if record.is_err() {
            return Ok(());
        }
        records += 1;
    }
    if records == 0 {
        return Ok(());
    }
    let message = format!(
        "this log is not damaged: an open reads {records} records of it that are in no segment yet; nothing was changed"
    );
    let help = "with `--drop` those from there on are given up all the same";
    Err(Error::invalid("AKI-0523", message).at(file, None).help_is(help))
}

/// Steps back from a damaged newest manifest to the newest whole one. What only the damaged ones named, and the log
/// no longer holds, is not found again; segments and deletion vectors that no whole manifest names are kept in `damaged/` of
/// their collection. The database must not be open.
///
/// # Errors
/// `Locked`; `Invalid` if the newest manifest is whole; `NotFound` if none is.
pub fn repair_manifest(dir: impl AsRef<Path>, dry_run: bool) -> Result<RepairReport> {
    repair_manifest_on(Arc::new(RealFs), dir, dry_run)
}

/// As [`repair_manifest`], on another file system.
///
/// # Errors
/// As [`repair_manifest`].
pub fn repair_manifest_on(fs: Arc<dyn Fs>, dir: impl AsRef<Path>, dry_run: bool) -> Result<RepairReport> {
    let dir = dir.as_ref();
    let _lock = take_lock(&*fs, dir)?;
    let manifests = dir.join("manifest");
    let (good, damaged) = look_back(&fs, &manifests)?;
    let store = Store::new(Arc::clone(&fs), manifests.clone());
    let unnamed = unnamed::find(&*fs, dir, &store)?;
    let (number, floor) = (good.manifest.number, good.manifest.floor);
    let mut kept: Vec<PathBuf> = damaged.iter().map(|number| store.path(*number)).collect();
    let mut done = format!(
        "would set {} damaged manifests aside and step back to {number}, floor {floor}",
        damaged.len()
    );
    if !dry_run {
        unnamed::keep(&*fs, &unnamed)?;
        kept = repair_step_back(&fs, &manifests)?.damaged;
        done = format!("manifest {number} is the newest now; its log floor is {floor}");
    }
    done += &beyond_the_log(&fs, dir, floor);
    if !unnamed.is_empty() {
        let verb = if dry_run { "would be" } else { "are" };
        done += &format!(
            "; {} files that no whole manifest names {verb} kept in damaged/: the rows of a segment among them, as it was \
             written, come back with `akidb import COLLECTION FILE`, over newer ones too",
            unnamed.len()
        );
    }
    kept.extend(unnamed.into_iter().map(|file| file.to));
    Ok(RepairReport::new(done, kept, dry_run))
}

/// What to add when the log no longer holds everything from this floor on: the damaged manifests' flushes released it,
/// and an open from the older manifest will say so.
fn beyond_the_log(fs: &Arc<dyn Fs>, dir: &Path, floor: Lsn) -> String {
    match look_at_log(fs, dir, floor) {
        Ok(_) => String::new(),
        Err(error) => format!(
            "; but the log no longer reaches that floor ({}), so rows that only the damaged manifests name are not found \
             this way: `akidb restore URL DIR` from a backend brings them back",
            error.kind()
        ),
    }
}

/// Reads the log as an open from this floor would.
fn look_at_log(fs: &Arc<dyn Fs>, dir: &Path, floor: Lsn) -> akidb_wal::Result<akidb_wal::Recovered> {
    let options = akidb_wal::Options {
        dir: dir.join("wal"),
        fs: Arc::clone(fs),
        clock: Arc::new(RealClock),
        spawn: Arc::new(RealSpawn),
        config: akidb_wal::Config::default(),
        min_epoch: 0,
        floor,
        read_only: true,
    };
    akidb_wal::Log::open(options).map(|(_log, recovered)| recovered)
}

/// The lock of a directory whose database is not open.
pub(crate) fn take_lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn LockGuard>> {
    directory_lock::take(fs, dir, "stop that process first")
}
