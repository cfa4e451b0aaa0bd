//! Snapshots that outlive their process: a manifest is kept under a name, and with it the files it names.
//!
//! One commit both shows the moment and names it, so a crash leaves either no snapshot or a whole one. Which manifests
//! are kept is told by the newest manifest alone; gc asks it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::engine::{Engine, Place};
use crate::error::{Error, ErrorKind, Result, shell_word};
use crate::flush;
use crate::lsn::Lsn;
use crate::manifest::{Committed, Manifest, NamedManifest, Reason, Store, check_snapshot_name};
use crate::segment_meta::SegmentMeta;

/// A named snapshot: what it shows and what it keeps.
#[derive(Clone, Debug, Serialize)]
pub struct NamedSnapshot {
    /// Its name.
    pub name: String,
    /// When it was made, RFC 3339 in UTC.
    pub created_at: String,
    /// It is the database at this LSN, as `epoch:counter`.
    pub lsn: String,
    /// The manifest that is kept.
    pub manifest: u64,
    /// Live rows by collection; none if the manifest cannot be read.
    pub rows: BTreeMap<String, u64>,
    /// Bytes of the files it names.
    pub bytes: u64,
    /// Bytes of those of them that neither the newest manifest nor another named snapshot names: what comes free
    /// once it is removed.
    pub own_bytes: u64,
    /// Why it cannot be read, or not whole, if so: its manifest is lost or damaged, or a file is not there in its size. What
    /// lies in the files only `akidb verify` reads.
    pub damage: Option<String>,
}

/// Seals what is dirty at one LSN, flushes it, and keeps the manifest under `name`.
///
/// # Errors
/// `Invalid`, `Conflict`, `Full`: nothing was changed. Else as a flush: what was flushed stays so.
pub(crate) fn create(engine: &Engine, name: &str) -> Result<Lsn> {
    // Before anything is flushed for nothing; the commit looks again.
    engine.writer()?.committer.newest().manifest.check_new_snapshot(name)?;
    flush::at_one_lsn(engine, |manifest, lsn| manifest.name_snapshot(name, lsn))
}

/// Lets a name go; gc removes what only it kept.
///
/// # Errors
/// `NotFound`; else as every commit of a manifest.
pub(crate) fn remove(engine: &Engine, name: &str) -> Result<()> {
    check_snapshot_name(name)?;
    let writer = engine.writer()?;
    writer.committer.commit(Reason::Ddl, |manifest| manifest.forget_snapshot(name))?;
    Ok(())
}

/// Every named snapshot, oldest first.
///
/// # Errors
/// `Unavailable`; `Corrupt` if the newest manifest is.
pub(crate) fn list(engine: &Engine) -> Result<Vec<NamedSnapshot>> {
    let (store, newest) = manifests(engine)?;
    let named = &newest.manifest.snapshots;
    let loaded: Vec<Result<Committed>> = named.iter().map(|named| store.load(named.manifest)).collect();
    // How many of the newest and the named manifests name each file.
    let mut holders: BTreeMap<String, usize> = BTreeMap::new();
    let kept = loaded.iter().flatten().map(|committed| &committed.manifest);
    for manifest in kept.filter(|m| m.number != newest.manifest.number).chain([&newest.manifest]) {
        files_of(manifest).into_keys().for_each(|file| *holders.entry(file).or_default() += 1);
    }
    let one = |(named, loaded): (&NamedManifest, &Result<Committed>)| match loaded {
        Ok(committed) => NamedSnapshot {
            damage: missing(&engine.place, &committed.manifest),
            ..told(named, &committed.manifest, &holders)
        },
        Err(error) => {
            // The manifest's own help would step the database back.
            let error = error.clone().help_is(let_go(&named.name));
            NamedSnapshot { damage: Some(error.to_string()), ..empty(named) }
        }
    };
    Ok(named.iter().zip(&loaded).map(one).collect())
}

fn told(named: &NamedManifest, manifest: &Manifest, holders: &BTreeMap<String, usize>) -> NamedSnapshot {
    let files = files_of(manifest);
    let live = |s: &SegmentMeta| u64::from(s.rows - s.dead_rows());
    NamedSnapshot {
        rows: manifest
            .collections
            .iter()
            .map(|c| (c.name.clone(), c.segments.iter().map(live).sum()))
            .collect(),
        bytes: files.values().sum(),
        own_bytes: files.iter().filter(|(file, _)| holders.get(*file) == Some(&1)).map(|(_, len)| len).sum(),
        ..empty(named)
    }
}

fn empty(named: &NamedManifest) -> NamedSnapshot {
    NamedSnapshot {
        name: named.name.clone(),
        created_at: named.created_at.to_string(),
        lsn: named.flushed_lsn.to_string(),
        manifest: named.manifest,
        rows: BTreeMap::new(),
        bytes: 0,
        own_bytes: 0,
        damage: None,
    }
}

/// The first file of a manifest that is not there, or not of its size.
fn missing(place: &Place, manifest: &Manifest) -> Option<String> {
    let mut wrong = files_of(manifest).into_iter().filter_map(|(file, size)| {
        let path = place.collection_dir(&file);
        match place.fs.metadata(&path) {
            Ok(found) if found.len == size => None,
            Ok(found) => Some(format!("{} has {} bytes instead of {size}", path.display(), found.len)),
            Err(cause) => Some(format!("{}: {cause}", path.display())),
        }
    });
    let first = wrong.next()?;
    Some(match wrong.count() {
        0 => first,
        more => format!("{first}, and {more} more files"),
    })
}

/// By file, `COLLECTION/FILE` as its place below `collections/`: the names of the snapshots whose manifests name it, as far as
/// those can be read.
pub(crate) fn names_of_files(store: &Store, newest: &Manifest) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for named in &newest.snapshots {
        let Ok(committed) = store.load(named.manifest) else { continue };
        for file in files_of(&committed.manifest).into_keys() {
            names.entry(file).or_default().push(named.name.clone());
        }
    }
    names
}

/// What is left of a snapshot whose manifest cannot be read.
fn let_go(name: &str) -> String {
    format!("let the name go: `akidb snapshot rm {name}`")
}

/// What mends a file that no newer state than those snapshots needs.
pub(crate) fn mending(file: &Path, names: &[String]) -> String {
    let rm: Vec<String> = names.iter().map(|name| format!("`akidb snapshot rm {name}`")).collect();
    format!(
        "take the file back from a backend that has it: `akidb repair segment {} --from BACKEND`; if none has it, let the \
         snapshot go: {}",
        shell_word(file),
        rm.join(", ")
    )
}

/// The error of opening a snapshot, with what mends it: neither a step back to an older manifest nor giving up a segment does,
/// unless the database itself needs the file.
pub(crate) fn mended(error: Error, store: &Store, newest: &Manifest, name: &str) -> Error {
    let Some(file) = error.file().map(Path::to_path_buf) else { return error };
    let is_damage = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound);
    let is_live = files_of(newest).into_keys().any(|live| file.ends_with(live));
    if !is_damage || is_live {
        return error;
    }
    let error = error.about(&format!("snapshot \"{name}\""));
    if file.starts_with(store.dir()) {
        return error.help_is(let_go(name));
    }
    error.help_is(mending(&file, &[name.to_owned()]))
}

/// The files a manifest names, with their sizes.
fn files_of(manifest: &Manifest) -> BTreeMap<String, u64> {
    manifest.files().map(|file| (file.below_collections(), file.size)).collect()
}

/// The numbers that are kept under a name.
pub(crate) fn kept(newest: &Manifest) -> BTreeSet<u64> {
    newest.snapshots.iter().map(|named| named.manifest).collect()
}

/// The manifests on disk, and the newest of them.
///
/// # Errors
/// `Invalid` where a backend's state is read; `NotFound`, `Corrupt`, `Unavailable`; `Closed`.
pub(crate) fn manifests(engine: &Engine) -> Result<(Store, Arc<Committed>)> {
    engine.view()?;
    if engine.is_cold {
        let message = "a backend holds its newest state and no snapshots";
        return Err(Error::invalid("AKI-0277", message)
            .help_is("read snapshots in the directory that they were made in"));
    }
    let store = Store::new(Arc::clone(&engine.place.fs), engine.place.manifest_dir());
    let newest = match engine.writer_if_any() {
        Some(writer) => writer.committer.newest(),
        None => Arc::new(store.newest()?.ok_or_else(|| no_manifest(&store))?),
    };
    Ok((store, newest))
}

fn no_manifest(store: &Store) -> Error {
    let message = "the manifests that were there at the open are gone";
    Error::new(ErrorKind::NotFound, "AKI-0221", message).at(store.dir(), None)
}
