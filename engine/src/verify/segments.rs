//! Segments and deletion vectors: those of the newest manifest, then those that only older kept ones name.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use akidb_host::Fs;

use super::rows::TouchedRows;
use super::{FileDamage, Verification};
use crate::deletion_vector::{self, DeletionVector};
use crate::error::{Error, ErrorKind};
use crate::manifest::{CollectionMeta, Manifest, Store};
use crate::segment::{Segment, mending};
use crate::segment_meta::{DeletionVectorRef, SegmentMeta};

/// Verifies what manifests name, each file once.
pub(super) struct Files<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    seen: HashSet<PathBuf>,
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
    pub(super) fn new(fs: &'a dyn Fs, dir: &'a Path) -> Self {
        Self { fs, dir, seen: HashSet::new() }
    }

    /// What this manifest names, and none did that was given before. Begin with the newest: the rows a damage of its files
    /// touches are rows of the database. An older one may expire meanwhile beside a writer, and its files with it.
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
        match (report, opened) {
            (Err(error), _) => {
                if self.is_gone(&error, by) {
                    return;
                }
                if !by.is_newest && self.is_set_aside(&home, &meta.file) {
                    found.set_aside.push(path);
                    return;
                }
                let rows = TouchedRows::all(&collection.name, meta, dead.as_ref());
                found.add_with(&error, &path, rows, by.older());
            }
            (Ok(report), Ok(segment)) => {
                found.bytes += report.bytes;
                if !by.is_newest && !report.damages.is_empty() && self.is_set_aside(&home, &meta.file) {
                    found.set_aside.push(path);
                    return;
                }
                for damage in report.damages {
                    let ranges = segment.rows_of_bytes(&(damage.offset..damage.offset + damage.len));
                    let rows = if damage.offset >= meta.check.offset {
                        TouchedRows::all(&collection.name, meta, dead.as_ref())
                    } else {
                        TouchedRows::of(&collection.name, &segment, dead.as_ref(), &ranges)
                    };
                    found.damages.push(FileDamage {
                        file: path.clone(),
                        offset: Some(damage.offset),
                        what: damage.what,
                        rows: Some(rows),
                        manifest: by.older(),
                        help: mending(&path),
                    });
                }
            }
            (Ok(_), Err(_)) => unreachable!("a segment that did not open has no report"),
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
        let (path, is_new) = match reference {
            DeletionVectorRef::File { file, .. } => {
                let path = dir.join(file);
                let is_new = self.seen.insert(path.clone());
                found.files += u64::from(is_new);
                found.bytes += self.fs.metadata(&path).map_or(0, |m| if is_new { m.len } else { 0 });
                (path, is_new)
            }
            DeletionVectorRef::Inline { .. } => (by.store.path(by.number), true),
        };
        if !is_new && !wanted {
            return None;
        }
        match deletion_vector::read(self.fs, &dir, reference, meta.rows) {
            Ok(dead) => Some(dead),
            Err(error) => {
                if is_new && !self.is_gone(&error, by) {
                    let rows = TouchedRows::all(&collection.name, meta, None);
                    found.add_with(&error, &path, rows, by.older());
                }
                None
            }
        }
    }

    /// A file that only an older manifest named, and that went with it while this verification ran.
    fn is_gone(&self, error: &Error, by: NamedBy<'_>) -> bool {
        let is_missing = error.kind() == ErrorKind::NotFound;
        !by.is_newest && is_missing && self.fs.metadata(&by.store.path(by.number)).is_err()
    }

    /// A segment that a repair gave up: older manifests go on naming it until they expire.
    fn is_set_aside(&self, home: &Path, file: &str) -> bool {
        self.fs.metadata(&home.join("damaged").join(file)).is_ok()
    }
}
