//! One file taken back from a backend, in place of a damaged or missing one.

use std::path::Path;
use std::sync::Arc;

use akidb_backends::{Client, RemoteFile, Restorer, TokioSleep};
use akidb_host::{Fs, RealFs, RealSpawn, Rng};

use crate::config::BackendSettings;
use crate::error::{ErrorKind, Result};
use crate::named_snapshots;
use crate::repair::{Named, RepairReport, home_of, take_lock};
use crate::segment_meta::DeletionVectorRef;
use crate::upload::{backend_config, from_backend};

/// Takes the segment or deletion vector at `file`, a path as `Corrupt` errors name it, back from a backend that has it. It
/// gets its name only when size and checksum are those the manifest says; the damaged file is replaced then. Where only
/// older manifests name it, as after [`crate::repair_segment_drop`], it comes back for them alone, and the report says so. The
/// database must not be open; the backend is only read. Blocks.
///
/// # Errors
/// `Locked` if it is open; `Invalid` if the path is no such file; `NotFound` if no manifest names it, or the backend has it
/// not; `Corrupt` if the backend's copy is another; `Unavailable`, `NoSpace`. The file is as it was then.
pub fn repair_segment_from(
    backend: &BackendSettings,
    file: impl AsRef<Path>,
    dry_run: bool,
) -> Result<RepairReport> {
    repair_segment_from_on(Arc::new(RealFs), backend, file, dry_run)
}

/// As [`repair_segment_from`], on another file system.
///
/// # Errors
/// As [`repair_segment_from`].
pub fn repair_segment_from_on(
    fs: Arc<dyn Fs>,
    backend: &BackendSettings,
    file: impl AsRef<Path>,
    dry_run: bool,
) -> Result<RepairReport> {
    let file = file.as_ref();
    let _lock = take_lock(&*fs, &home_of(file)?)?;
    let named = Named::find(&fs, file)?;
    let wanted = remote_file(&named);
    let told = |verb: &str| {
        let what = format!("{verb} {} from {}, {} bytes", file.display(), backend.url, wanted.len);
        what + &of_the_past(&named)
    };
    if dry_run {
        return Ok(RepairReport::new(told("would take back"), Vec::new(), true));
    }
    let opened =
        akidb_backends::open_to_read(&backend_config(backend, 3)).map_err(|error| from_backend(&error))?;
    let client = Client::new(opened, Arc::new(TokioSleep), Rng::from_machine());
    let restorer = Restorer::new(client, Arc::new(RealSpawn));
    restorer.download(&wanted, &fs, file).map_err(|error| {
        let error = from_backend(&error);
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::Corrupt => error.help_is(elsewhere(&named)),
            _ => error,
        }
    })?;
    Ok(RepairReport::new(told("took back"), Vec::new(), false))
}

/// The file as every backend has it: its key and content never change.
fn remote_file(named: &Named) -> RemoteFile {
    let prefix = format!("collections/{}", named.collection.dir);
    match &named.meta.deletion_vector {
        Some(DeletionVectorRef::File { file, crc32, size, .. }) if named.is_deletion_vector => {
            RemoteFile { key: format!("{prefix}/dv/{file}"), len: *size, crc32: *crc32 }
        }
        _ => RemoteFile {
            key: format!("{prefix}/{}", named.meta.file),
            len: named.meta.size,
            crc32: named.meta.crc32,
        },
    }
}

/// What a file brings back that the newest manifest does not name: nothing to the database.
fn of_the_past(named: &Named) -> String {
    if named.is_live {
        return String::new();
    }
    let snapshots = match named.snapshots.as_slice() {
        [] => String::new(),
        [name] => format!(" (snapshot {name})"),
        names => format!(" (snapshots {})", names.join(", ")),
    };
    let number = named.manifest.manifest.number;
    format!("; only manifest {number} and older{snapshots} name it: no row of the database comes back")
}

/// What is left when this backend does not have the file.
fn elsewhere(named: &Named) -> String {
    if !named.is_live && !named.snapshots.is_empty() {
        return named_snapshots::mending(&named.path, &named.snapshots);
    } else if !named.is_live {
        return "name another backend that has it; else it goes when the manifests expire that name it"
            .to_owned();
    }
    format!("name another backend that has it, or give up what is lost: {}", named.commands_to_drop())
}
