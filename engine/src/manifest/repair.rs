//! The step back from a damaged newest manifest: only by a person's order, and nothing is thrown away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::Fs;

use super::format::repair_command;
use super::{Committed, Store, file_name};
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::lsn::Lsn;

/// What stepping back did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteppedBack {
    /// The number of the manifest that is now the newest.
    pub to: u64,
    /// Its floor: rows the log no longer holds from here on up, and that only the damaged manifests named, are
    /// not found again.
    pub floor: Lsn,
    /// Where the damaged manifests lie now, newest first.
    pub damaged: Vec<PathBuf>,
}

/// Moves the damaged newest manifest in `dir` (the directory `manifest` of a database that nobody has open) to
/// `damaged/` beside it, and any damaged ones below, until one that can be read is the newest. Looks for that
/// one first: if there is none, nothing is moved. Called by `akidb repair manifest`, never by an open.
///
/// # Errors
/// `Invalid`: the newest manifest is not damaged. `NotFound`: no manifest, or none that can be read.
/// `NewerFormat`: it is whole, this version is too old. `Unavailable`: reading or moving failed for another reason
/// than damage; calling again goes on.
pub fn repair_step_back(fs: &Arc<dyn Fs>, dir: &Path) -> Result<SteppedBack> {
    let (good, damaged) = look_back(fs, dir)?;
    let moved = set_aside(&**fs, dir, &damaged)?;
    Ok(SteppedBack { to: good.manifest.number, floor: good.manifest.floor, damaged: moved })
}

/// The newest manifest that can be read, and the numbers of the damaged ones above it, newest first.
///
/// # Errors
/// As [`repair_step_back`].
pub(crate) fn look_back(fs: &Arc<dyn Fs>, dir: &Path) -> Result<(Committed, Vec<u64>)> {
    let store = Store::new(Arc::clone(fs), dir.to_path_buf());
    let mut damaged = Vec::new();
    for number in store.numbers()?.into_iter().rev() {
        match store.load(number) {
            Ok(good) if damaged.is_empty() => {
                let message =
                    format!("manifest {} is not damaged; nothing was changed", good.manifest.number);
                return Err(Error::invalid("AKI-0317", message).at(&store.path(number), None));
            }
            Ok(good) => return Ok((good, damaged)),
            Err(e) if e.kind() == ErrorKind::Corrupt => damaged.push(number),
            // A newer format or a missing right is no damage: stepping back would lose what is whole.
            Err(e) => return Err(e),
        }
    }
    let message = match damaged.len() {
        0 => "there is no manifest here".to_owned(),
        n => format!("none of the {n} manifests here can be read; nothing was changed"),
    };
    let help = "restore from a backend into a new directory: `akidb restore URL NEW_DIR`";
    Err(Error::new(ErrorKind::NotFound, "AKI-0318", message).at(dir, None).help_is(help))
}

/// Moves manifests to `damaged/` by renaming, newest first: a sector that cannot be read needs no copy, and a
/// crash in between leaves a lower number of damaged ones to move.
fn set_aside(fs: &dyn Fs, dir: &Path, numbers: &[u64]) -> Result<Vec<PathBuf>> {
    let aside = dir.join("damaged");
    let failed = |path: &Path, e: &io::Error| {
        Error::io("AKI-0319", path, "moving a damaged manifest aside", e)
            .fate_is(Fate::Unknown)
            .help_is(format!("run `{}` again", repair_command(dir.parent())))
    };
    fs.create_dir_all(&aside).map_err(|e| failed(&aside, &e))?;
    let mut moved = Vec::new();
    for number in numbers {
        let from = dir.join(file_name(*number));
        let to = free_name(fs, &aside, *number).map_err(|e| failed(&from, &e))?;
        fs.rename(&from, &to).map_err(|e| failed(&from, &e))?;
        moved.push(to);
    }
    // The new names first: a power cut between the two syncs then leaves a file under both or one, never none.
    fs.sync_dir(&aside).and_then(|()| fs.sync_dir(dir)).map_err(|e| failed(dir, &e))?;
    Ok(moved)
}

/// A name in `aside` that nothing has yet: the same number may be damaged twice.
fn free_name(fs: &dyn Fs, aside: &Path, number: u64) -> io::Result<PathBuf> {
    for copy in 0..u32::MAX {
        let suffix = if copy == 0 { String::new() } else { format!(".{copy}") };
        let path = aside.join(format!("{}{suffix}", file_name(number)));
        match fs.metadata(&path) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
