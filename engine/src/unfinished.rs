//! A directory with a log or files of collections and no manifest: a restore that did not end, or a database whose manifests
//! are gone; neither a place for a new database nor one that holds none.

use std::io;
use std::path::{Path, PathBuf};

use akidb_host::{EntryKind, Fs};

use crate::error::{Error, ErrorKind, Result, shell_word};
use crate::gc;

/// Refuses `dir`, in which no manifest is, where a database was. A first manifest names no file, so an open behind it would
/// remove them all as nobody's. A database that is being made has its manifest before its first file.
///
/// # Errors
/// `Corrupt`; `Unavailable` where it cannot be looked at.
pub(crate) fn refuse(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let log = fs.list(&dir.join("wal")).unwrap_or_default();
    // A restore goes on only where there is no log.
    let mending = match log.is_empty() {
        true => {
            format!("to go on with the restore: `akidb restore URL {}`; else put it back", shell_word(dir))
        }
        false => "put it back, or restore from a backend into a new directory: `akidb restore URL NEW_DIR`"
            .to_owned(),
    };
    let lost = |code, at: &Path, message| {
        let help = format!("nothing was changed; the manifest directory is missing: {mending}");
        Err(Error::new(ErrorKind::Corrupt, code, message).at(at, None).help_is(help))
    };
    if log.iter().any(|entry| entry.name.ends_with(".wal")) {
        let message = "the directory has a log but no manifest, so what the log's rows belong to is unknown";
        return lost("AKI-0225", &dir.join("manifest"), message);
    }
    let Some(found) = with_a_file(fs, &dir.join("collections"))? else { return Ok(()) };
    let message = "the directory has files of collections but no manifest: a restore that did not end, or a database whose \
                   manifests are gone";
    lost("AKI-0521", &found, message)
}

/// The first directory at or below `dir` in which a file of a collection lies; what others put there is not looked at.
fn with_a_file(fs: &dyn Fs, dir: &Path) -> Result<Option<PathBuf>> {
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
