//! Segments and deletion vectors: those of the newest manifest, then those that only older kept ones name.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use akidb_host::Fs;

use super::rows::TouchedRows;
use super::{FileDamage, Verification};
use crate::deletion_vector::{DeletionVector, VectorFile, Vectors};
use crate::error::{Error, shell_word};
use crate::manifest::{CollectionMeta, Manifest, Store};
use crate::named_snapshots;
use crate::segment::{Damage, Segment, mending};
use crate::segment_meta::{DeletionVectorRef, SegmentMeta};

/// Verifies what manifests name, each file once.
pub(super) struct Files<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    seen: HashSet<PathBuf>,
    /// Deletion vectors by their file and their offset in it.
    seen_vectors: HashSet<(PathBuf, u32)>,
    /// Files of deletion vectors of which something rotted: the first segment whose vector in it is whole.
    rotten: Vec<Rotten>,
    /// By file the named snapshots that show it.
    snapshots: BTreeMap<String, Vec<String>>,
}

/// A file of deletion vectors that is not as it was written, and a segment whose vector in it is.
struct Rotten {
    path: PathBuf,
    key: String,
    home: PathBuf,
    meta: SegmentMeta,
    error: Error,
}

/// What mends a segment of which nothing but the index is damaged.
const INDEX_HELP: &str = "every row is there, and searches of this segment are exact and slow: `akidb compact` writes it again, with an index";

/// Whether a damage lies in the sections that only searches by codes read.
fn is_of_index(meta: &SegmentMeta, damage: &Damage) -> bool {
    let sections = [meta.head, meta.codes];
    sections.iter().flatten().any(|place| (place.offset..place.offset + place.len).contains(&damage.offset))
}

/// The manifest that names a file.
#[derive(Clone, Copy)]
struct NamedBy<'a> {
    store: &'a Store,
    number: u64,
    is_newest: bool,
}

impl NamedBy<'_> {
    fn older(self) -> Option<u64> {
        (!self.is_newest).then_some(self.number)
    }
}

impl<'a> Files<'a> {
    pub(super) fn new(fs: &'a dyn Fs, dir: &'a Path, snapshots: BTreeMap<String, Vec<String>>) -> Self {
        Self { fs, dir, seen: HashSet::new(), seen_vectors: HashSet::new(), rotten: Vec::new(), snapshots }
    }

    /// What this manifest names, and none did that was given before. Begin with the newest: the rows a damage of its files
    /// touches are rows of the database. Each may expire meanwhile beside a writer, and its files with it.
    pub(super) fn of(
        &mut self,
        store: &Store,
        manifest: &Manifest,
        is_newest: bool,
        found: &mut Verification,
    ) {
        let named = NamedBy { store, number: manifest.number, is_newest };
        for collection in &manifest.collections {
            for meta in &collection.segments {
                self.one(collection, meta, named, found);
            }
        }
        for rotten in std::mem::take(&mut self.rotten) {
            // Unless a vector is what rotted.
            if found.damages.iter().all(|damage| damage.file != rotten.path) {
                let help = nothing_is_lost(&rotten.path);
                let damage = FileDamage { help, ..FileDamage::of(&rotten.error, &rotten.path) };
                self.note(vec![damage], &rotten.key, &rotten.home, &rotten.meta, named, found);
            }
        }
    }

    fn one(
        &mut self,
        collection: &CollectionMeta,
        meta: &SegmentMeta,
        by: NamedBy<'_>,
        found: &mut Verification,
    ) {
        let home = self.dir.join("collections").join(&collection.dir);
        let path = home.join(&meta.file);
        let is_new = self.seen.insert(path.clone());
        let dead = self.deletion_vector(collection, &home, meta, is_new, by, found);
        if !is_new {
            return;
        }
        found.files += 1;
        let opened = Segment::open(self.fs, &path, meta, collection.schema());
        let report = opened.as_ref().map_err(Error::clone).and_then(|segment| segment.damages());
        let all = || Some(TouchedRows::all(&collection.name, meta, dead.as_ref()));
        let damages = match (report, opened) {
            (Err(error), _) if self.is_gone(&error, &path, by) => {
                // Another that names it, and is kept, looks again.
                self.seen.remove(&path);
                return;
            }
            (Err(error), _) if found.note_unread(&error, &path) => return,
            (Err(error), _) => vec![FileDamage { rows: all(), ..FileDamage::of(&error, &path) }],
            (Ok(report), Ok(segment)) => {
                found.bytes += report.bytes;
                let rows = |offset: u64, len: u64| {
                    let ranges = segment.rows_of_bytes(&(offset..offset + len));
                    Some(TouchedRows::of(&collection.name, &segment, dead.as_ref(), &ranges))
                };
                let help = if report.damages.iter().all(|damage| is_of_index(meta, damage)) {
                    INDEX_HELP.to_owned()
                } else {
                    mending(&path)
                };
                let told = |damage: Damage| FileDamage {
                    file: path.clone(),
                    offset: Some(damage.offset),
                    rows: if damage.offset >= meta.check.offset {
                        all()
                    } else {
                        rows(damage.offset, damage.len)
                    },
                    what: damage.what,
                    manifest: None,
                    snapshots: Vec::new(),
                    help: help.clone(),
                };
                report.damages.into_iter().map(told).collect()
            }
            (Ok(_), Err(_)) => unreachable!("a segment that did not open has no report"),
        };
        self.note(damages, &format!("{}/{}", collection.dir, meta.file), &home, meta, by, found);
    }

    /// Notes the damages of one file, `key` below `collections/`. Once its segment was given up, and only older manifests without
    /// a name have it, they are none.
    fn note(
        &self,
        damages: Vec<FileDamage>,
        key: &str,
        home: &Path,
        meta: &SegmentMeta,
        by: NamedBy<'_>,
        found: &mut Verification,
    ) {
        let Some(first) = damages.first() else { return };
        let names = self.snapshots.get(key).map_or(&[][..], Vec::as_slice);
        if !by.is_newest && names.is_empty() && self.is_set_aside(home, &meta.file) {
            found.set_aside.push(first.file.clone());
            return;
        }
        for mut damage in damages {
            damage.manifest = by.older();
            damage.snapshots = names.to_vec();
            if !by.is_newest {
                damage.help = match names {
                    [] => of_the_past(&damage.file),
                    names => named_snapshots::mending(&damage.file, names),
                };
            }
            found.damages.push(damage);
        }
    }

    /// The dead rows of a segment; none if they are not known, or not `wanted` and read before.
    fn deletion_vector(
        &mut self,
        collection: &CollectionMeta,
        home: &Path,
        meta: &SegmentMeta,
        wanted: bool,
        by: NamedBy<'_>,
        found: &mut Verification,
    ) -> Option<DeletionVector> {
        let Some(reference) = &meta.deletion_vector else { return Some(DeletionVector::new()) };
        let dir = home.join("dv");
        let (path, key, is_new, is_new_file) = match reference {
            DeletionVectorRef::File { file, offset, .. } => {
                let path = dir.join(file);
                let is_new_file = self.seen.insert(path.clone());
                found.files += u64::from(is_new_file);
                found.bytes += self.fs.metadata(&path).map_or(0, |m| if is_new_file { m.len } else { 0 });
                // The file may hold those of other segments, whose rows are at stake as well.
                let is_new = self.seen_vectors.insert((path.clone(), *offset));
                (path, format!("{}/dv/{file}", collection.dir), is_new, is_new_file)
            }
            DeletionVectorRef::Inline { .. } => (by.store.path(by.number), String::new(), true, false),
        };
        if !is_new && !wanted {
            return None;
        }
        let mut vectors = Vectors::new(self.fs, dir);
        match vectors.read(reference, meta.rows) {
            Ok(dead) => {
                let file = vectors.file(reference).ok().flatten();
                if is_new_file
                    && let Some(Err(error)) = file.map(VectorFile::check_whole)
                    && !found.note_unread(&error, &path)
                {
                    let (home, meta) = (home.to_path_buf(), meta.clone());
                    self.rotten.push(Rotten { path, key, home, meta, error });
                }
                Some(dead)
            }
            Err(error) => {
                if is_new && self.is_gone(&error, &path, by) {
                    self.seen.remove(&path);
                    self.seen_vectors.retain(|(file, _)| *file != path);
                } else if is_new && !found.note_unread(&error, &path) {
                    let rows = Some(TouchedRows::all(&collection.name, meta, None));
                    let damage = FileDamage { rows, ..FileDamage::of(&error, &path) };
                    self.note(vec![damage], &key, home, meta, by, found);
                }
                None
            }
        }
    }

    /// A file that went with its manifest while this verification ran: what is the newest one now does not name it.
    fn is_gone(&self, error: &Error, path: &Path, by: NamedBy<'_>) -> bool {
        let root = self.dir.join("collections");
        let names_it = |now: &Manifest| now.files().any(|file| root.join(file.below_collections()) == path);
        error.is_of_missing_file()
            && self.fs.metadata(&by.store.path(by.number)).is_err()
            && (!by.is_newest
                || by.store.newest().is_ok_and(|now| !now.is_some_and(|now| names_it(&now.manifest))))
    }

    /// A segment that a repair gave up: older manifests go on naming it until they expire.
    fn is_set_aside(&self, home: &Path, file: &str) -> bool {
        // A file that was gone has the list alone.
        let aside = home.join("damaged");
        [aside.join(file), aside.join(format!("{file}.lost.jsonl"))]
            .iter()
            .any(|path| self.fs.metadata(path).is_ok())
    }
}

/// What mends a file that rotted where no manifest looks.
fn nothing_is_lost(file: &Path) -> String {
    format!(
        "no row is touched: a backend that lacks the file does not get it until then, but it goes once the dead rows of \
         its segments change; or take it back from a backend that has it: `akidb repair segment {} --from BACKEND`",
        shell_word(file)
    )
}

/// What mends a file that only older manifests without a name have.
fn of_the_past(file: &Path) -> String {
    format!(
        "it goes when those manifests expire; to read them take it back from a backend that has it: \
         `akidb repair segment {} --from BACKEND`",
        shell_word(file)
    )
}
