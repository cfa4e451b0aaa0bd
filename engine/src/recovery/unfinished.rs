//! A directory with files of collections and no manifest: a restore that did not end, not a place for a new database.

use std::io;
use std::path::Path;

use akidb_host::{EntryKind, Fs};

use crate::engine::Place;
use crate::error::{Error, Result, shell_word};
use crate::gc;

/// A first manifest names no file, so an open behind it would remove them all as nobody's. A database that is being made has
/// its manifest before its first file.
pub(super) fn refuse_unfinished(place: &Place) -> Result<()> {
    let Some(dir) = with_a_file(&*place.fs, &place.dir.join("collections"))? else { return Ok(()) };
    let message = "the directory has files of collections but no manifest: a restore that did not end, or a database whose \
                   manifests are gone";
    Err(Error::corrupt("AKI-0521", &dir, 0, message).help_is(format!(
        "nothing was changed; to go on with the restore: `akidb restore URL {}`; else put the manifest directory back",
        shell_word(&place.dir)
    )))
}

/// The first directory at or below `dir` in which a file of a collection lies; what others put there is not looked at.
fn with_a_file(fs: &dyn Fs, dir: &Path) -> Result<Option<std::path::PathBuf>> {
    let entries = match fs.list(dir) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed.map_err(|cause| Error::io("AKI-0220", dir, "could not look at", &cause))?,
    };
    if entries.iter().any(|entry| entry.kind == EntryKind::File && gc::is_ours(&entry.name)) {
        return Ok(Some(dir.to_path_buf()));
    }
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Dir) {
        if let Some(found) = with_a_file(fs, &dir.join(&entry.name))? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
