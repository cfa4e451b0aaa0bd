//! Removal of what no kept manifest names: old manifests by count and age, then the files only they named.

use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use akidb_host::{EntryKind, Fs, seeded_bug};

use crate::engine::{Engine, Place, deletion_vector_dir};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Manifest, NamedManifest, Store, named_manifests_stay};
use crate::named_snapshots;
use crate::segment::SegmentName;

/// Removes manifests that need not be kept (nor are `pinned` by an upload, nor named), and files that only they named, or
/// that a failed flush or merge left; forgets what filters kept of segments that are gone. What fails is owed, and tried
/// again by the next call. Cheap when there is nothing to do.
pub(crate) fn collect(engine: &Engine, pinned: &dyn Fn() -> BTreeSet<u64>) -> Result<()> {
    let writer = engine.writer()?;
    engine.current().content().filters.forget_dropped();
    let store = writer.committer.store();
    let now = writer.committer.steady_unix_micros();
    let expired = || {
        let pinned = &pinned() | &named_snapshots::kept(&writer.committer.newest().manifest);
        store.expired(engine.limits.manifests, now, &pinned)
    };
    let swept = || {
        if engine.removals.is_paused(engine.place.clock.now()) {
            return Ok(None);
        }
        // Of a manifest whose fate is unknown nobody owes anything: a reopen tells.
        let is_owed = engine.removals.is_owed() && writer.committer.poisoned().is_none();
        if expired()?.is_empty() && !is_owed {
            return Ok(None);
        }
        // No commit may add a file, or a name, between the look at the manifests and the removal; nor may an upload begin that
        // was not seen.
        let _flushing = writer.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = expired()?;
        engine.removals.begin();
        let newest = writer.committer.newest();
        let broken = named_manifests_stay(&newest.manifest, &expired).err();
        assert!(broken.is_none(), "{broken:?}");
        let stays = store.remove(&expired)?;
        let in_the_making = |name| !seeded_bug("gc_takes_merges") && writer.may_be_merging(name);
        let swept = remove_unnamed(&engine.place, store, &newest.manifest, &in_the_making)?;
        stays.map_or(Ok(Some(swept)), Err)
    };
    match swept() {
        Ok(None) => Ok(()),
        Ok(Some(swept)) => {
            engine.removals.count(swept.removed);
            engine.removals.note(Ok(swept.held_up), engine.place.clock.now());
            let current = engine.current();
            let homes: HashSet<&Path> =
                current.content().collections.values().map(|state| state.dir.as_path()).collect();
            engine.dirs.forget_all_but(&homes);
            Ok(())
        }
        Err(error) => {
            engine.removals.note(Err(error.clone()), engine.place.clock.now());
            Err(error)
        }
    }
}

/// What a removal did.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// Files.
    pub(crate) removed: usize,
    /// Why nothing was removed, if so.
    pub(crate) held_up: Option<Error>,
}

/// Removes every file of the collections that no kept manifest names: what a crash left between a file and its
/// manifest, and what expired manifests named.
///
/// Segments that are `in_the_making` stay. What cannot be removed holds up nothing else; the first of it is the error. Called only when the newest manifest is whole. While an older one is damaged nothing is
/// removed, and the answer says why: it may name what looks like an orphan.
pub(crate) fn remove_unnamed(
    place: &Place,
    store: &Store,
    newest: &Manifest,
    in_the_making: &dyn Fn(SegmentName) -> bool,
) -> Result<Swept> {
    let mut named: HashSet<Arc<str>> = HashSet::new();
    for number in store.numbers()? {
        match store.files_of(number) {
            Ok(files) => named.extend(files.iter().cloned()),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let error = held_up_by(number, newest, error);
                tracing::warn!(%error, help = error.help(), "files that no manifest names are kept");
                return Ok(Swept { held_up: Some(error), ..Swept::default() });
            }
            Err(error) => return Err(error),
        }
    }
    let mut removal = Removal { fs: &*place.fs, removed: 0, failure: None };
    let root = place.dir.join("collections");
    let named: HashSet<PathBuf> = named.iter().map(|name| root.join(&**name)).collect();
    for collection in list(&*place.fs, &root)? {
        let dir = root.join(&collection.0);
        if collection.1 != EntryKind::Dir {
            continue;
        }
        let goes = |path: &Path, name: &str| {
            let segment = name.strip_suffix(".tmp").unwrap_or(name).parse::<SegmentName>();
            is_ours(name) && !named.contains(path) && !segment.is_ok_and(in_the_making)
        };
        removal.remove_from(&deletion_vector_dir(&dir), &goes);
        removal.remove_from(&dir, &goes);
        if !named.contains(&dir) {
            // Empty now, unless something that is not ours lies there.
            let _ = place.fs.remove_dir(&deletion_vector_dir(&dir));
            let _ = place.fs.remove_dir(&dir);
        }
    }
    match removal.failure {
        Some(error) => Err(error),
        None => Ok(Swept { removed: removal.removed, held_up: None }),
    }
}

/// Why nothing is removed, and until when.
fn held_up_by(number: u64, newest: &Manifest, error: Error) -> Error {
    match newest.snapshots.iter().find(|named| named.manifest == number) {
        Some(NamedManifest { name, .. }) => error
            .about(&format!(
                "the manifest of snapshot \"{name}\" is damaged, and no file of a collection is removed while it is kept"
            ))
            .help_is(format!("let the name go: `akidb snapshot rm {name}`")),
        None => error
            .about("an older manifest is damaged, and no file of a collection is removed until it expires")
            .help_is("wait: engine.manifest_keep and engine.manifest_keep_hours say for how long it is kept"),
    }
}

/// A removal that goes on past what cannot be removed.
struct Removal<'a> {
    fs: &'a dyn Fs,
    removed: usize,
    /// The first.
    failure: Option<Error>,
}

impl Removal<'_> {
    fn remove_from(&mut self, dir: &Path, goes: &dyn Fn(&Path, &str) -> bool) {
        let listed = list(self.fs, dir).unwrap_or_else(|error| {
            self.note(error);
            Vec::new()
        });
        let mut any = false;
        for (name, kind) in listed {
            let path = dir.join(&name);
            if kind != EntryKind::File || !goes(&path, &name) {
                continue;
            }
            match self.fs.unlink(&path) {
                Ok(()) => {
                    tracing::info!(file = %path.display(), "removed a file that no manifest names");
                    self.removed += 1;
                    any = true;
                }
                Err(cause) if cause.kind() == IoErrorKind::NotFound => {}
                Err(cause) => self.note(Error::io("AKI-0208", &path, "could not remove", &cause)),
            }
        }
        if any && let Err(cause) = self.fs.sync_dir(dir) {
            self.note(Error::io("AKI-0208", dir, "could not sync", &cause));
        }
    }

    fn note(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }
}

/// A file somebody else put here is not ours to remove.
pub(crate) fn is_ours(name: &str) -> bool {
    // What a broken-off `akidb repair segment` was taking back.
    if let Some(stem) = name.strip_suffix(".restoring") {
        return SegmentName::from_stem(stem).is_some() || stem.starts_with("deletion_vector_");
    }
    let stem = name.strip_suffix(".tmp").unwrap_or(name);
    stem.ends_with(".parquet") || (stem.starts_with("deletion_vector_") && stem.ends_with(".bin"))
}

/// What lies in a directory; nothing if there is none.
pub(crate) fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<(String, EntryKind)>> {
    match fs.list(dir) {
        Ok(entries) => Ok(entries.into_iter().map(|entry| (entry.name, entry.kind)).collect()),
        Err(cause) if cause.kind() == IoErrorKind::NotFound => Ok(Vec::new()),
        Err(cause) => Err(Error::io("AKI-0208", dir, "could not list", &cause)),
    }
}
