//! A directory rebuilt from a backend: every file checked, then the manifest that names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_backends::{Backend, BackendConfig, Client, Restorer, TokioSleep};
use akidb_host::{Fs, LockGuard, RealFs, RealSpawn, Rng, publish_new, publish_over};
use object_store::ObjectStore;
use serde::Serialize;

use crate::config::BackendSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Manifest, Store, file_name};
use crate::repair::take_lock;
use crate::upload::{backend_config, from_backend};

mod take_back;

pub use take_back::{repair_segment_from, repair_segment_from_on};

/// What a restore brought.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreReport {
    /// Where it came from.
    pub from: String,
    /// Number of the remote document.
    pub remote_document: u64,
    /// Number of the manifest it is a copy of.
    pub manifest: u64,
    /// Collections in it.
    pub collections: Vec<String>,
    /// Segments in it.
    pub segments: usize,
    /// Rows in the segments, dead ones included.
    pub segment_rows: u64,
    /// Files brought and checked.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Named snapshots that the database had, and the restored one has not: a backend holds the newest state only.
    pub snapshots_left_out: Vec<String>,
}

/// Rebuilds a database from a backend's newest document into `dir`, which must hold no database. Every file is
/// checked against its checksum; nothing is claimed, so the writer that uploads there goes on undisturbed. The directory is
/// locked meanwhile. An interrupted restore goes on where it stopped when called again; until it is through no database can
/// be made there. Blocks.
///
/// # Errors
/// `Conflict` if `dir` holds a database; `Locked` if it is restored or opened elsewhere; `NotFound` if nothing was published
/// there; `Corrupt` naming the object; `Unavailable`.
pub fn restore(backend: &BackendSettings, dir: impl AsRef<Path>) -> Result<RestoreReport> {
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    refuse_database(&fs, dir.as_ref())?;
    let opened =
        akidb_backends::open_to_read(&backend_config(backend, 3)).map_err(|error| from_backend(&error))?;
    restore_opened(opened, fs, dir.as_ref())
}

/// As [`restore`], from a store that the program brings along (see [`crate::Builder::store`]) and onto another file system.
///
/// # Errors
/// As [`restore`].
pub fn restore_on(
    fs: Arc<dyn Fs>,
    store: Arc<dyn ObjectStore>,
    dir: impl AsRef<Path>,
) -> Result<RestoreReport> {
    refuse_database(&fs, dir.as_ref())?;
    let config = BackendConfig::new("restored", store.to_string());
    let opened = Backend::over(&config, store).map_err(|error| from_backend(&error))?;
    restore_opened(opened, fs, dir.as_ref())
}

fn restore_opened(opened: Backend, fs: Arc<dyn Fs>, dir: &Path) -> Result<RestoreReport> {
    let url = opened.place().to_owned();
    let client = Client::new(opened, Arc::new(TokioSleep), Rng::from_machine());
    let restorer = Restorer::new(client, Arc::new(RealSpawn));
    let document = restorer.newest().map_err(|error| from_backend(&error))?;
    let Some(content) = &document.content else {
        return Err(Error::new(ErrorKind::NotFound, "AKI-0260", format!("nothing was published at {url}")));
    };
    let manifest_dir = dir.join("manifest");
    let path = manifest_dir.join(file_name(content.local_number));
    // Judged before a file is fetched: a manifest of a newer version needs a newer program.
    let mut manifest = Manifest::decode(&path, content.text.as_bytes())?.manifest;
    let snapshots_left_out = manifest.forget_snapshots();
    let bytes = match snapshots_left_out.is_empty() {
        true => content.text.clone().into_bytes(),
        false => manifest.encode()?.0,
    };
    let _lock = lock(&fs, dir)?;
    for part in [manifest_dir.clone(), dir.join("wal"), dir.join("collections")] {
        fs.create_dir_all(&part).map_err(|cause| Error::io("AKI-0261", &part, "could not create", &cause))?;
    }
    for collection in &manifest.collections {
        let part: PathBuf = dir.join("collections").join(&collection.dir);
        fs.create_dir_all(&part.join("dv"))
            .map_err(|cause| Error::io("AKI-0261", &part, "could not create", &cause))?;
    }
    restorer.fetch_all(&document, &fs, dir, |_| {}).map_err(|error| from_backend(&error))?;
    let report = RestoreReport {
        from: url,
        remote_document: document.number,
        manifest: content.local_number,
        collections: manifest.collections.iter().map(|collection| collection.name.clone()).collect(),
        segments: manifest.collections.iter().map(|collection| collection.segments.len()).sum(),
        segment_rows: manifest.collections.iter().flat_map(|c| &c.segments).map(|s| u64::from(s.rows)).sum(),
        files: content.files.len(),
        bytes: content.files.iter().map(|file| file.len).sum(),
        snapshots_left_out,
    };
    let origin = serde_json::to_vec_pretty(&report).unwrap_or_default();
    publish_over(&*fs, dir, "restored_from.json", &origin)
        .map_err(|cause| Error::io("AKI-0261", dir, "could not note where the files came from", &cause))?;
    // Last: a directory without a manifest is an interrupted restore, not a database.
    publish_new(&*fs, &manifest_dir, &file_name(content.local_number), &bytes)
        .map_err(|cause| Error::io("AKI-0261", &path, "could not write the manifest", &cause))?;
    Ok(report)
}

/// The directory's lock, for as long as it is restored: an open beside it would take the files for nobody's.
fn lock(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Box<dyn LockGuard>> {
    fs.create_dir_all(dir).map_err(|cause| Error::io("AKI-0261", dir, "could not create", &cause))?;
    let lock = take_lock(&**fs, dir)?;
    // A message for people; nothing depends on it.
    let _ = lock.write_text(&format!("pid {}, a restore", std::process::id()));
    // Somebody may have made one since the first look.
    refuse_database(fs, dir)?;
    Ok(lock)
}

fn refuse_database(fs: &Arc<dyn Fs>, dir: &Path) -> Result<()> {
    // What a killed restore left of its manifest is none.
    let numbers = Store::new(Arc::clone(fs), dir.join("manifest")).numbers()?;
    let any_log = fs.list(&dir.join("wal")).is_ok_and(|entries| !entries.is_empty());
    if numbers.is_empty() && !any_log {
        return Ok(());
    }
    let message = format!("{} holds a database already", dir.display());
    Err(Error::new(ErrorKind::Conflict, "AKI-0262", message)
        .help_is("restore into a new directory; nothing was changed"))
}
