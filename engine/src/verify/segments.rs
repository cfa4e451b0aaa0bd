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

impl<'a> Files<'a> {
    pub(super) fn new(fs: &'a dyn Fs, dir: &'a Path) -> Self {
        Self { fs, dir, seen: HashSet::new() }
    }

    /// What the newest manifest names: the rows a damage touches are rows of the database.
    pub(super) fn of_newest(&mut self, newest: &Manifest, found: &mut Verification) {
        for collection in &newest.collections {
            for meta in &collection.segments {
                self.one(collection, meta, None, found);
            }
        }
    }

    /// What only this older manifest names. Beside a writer it may expire meanwhile, and its files with it.
    pub(super) fn of_older(&mut self, store: &Store, older: &Manifest, found: &mut Verification) {
        for collection in &older.collections {
            for meta in &collection.segments {
                self.one(collection, meta, Some((store, older.number)), found);
            }
        }
    }

    fn one(
        &mut self,
        collection: &CollectionMeta,
        meta: &SegmentMeta,
        older: Option<(&Store, u64)>,
        found: &mut Verification,
    ) {
        let home = self.dir.join("collections").join(&collection.dir);
        let dead = self.deletion_vector(collection, &home, meta, older, found);
        let path = home.join(&meta.file);
        if !self.seen.insert(path.clone()) {
            return;
        }
        found.files += 1;
        let opened = Segment::open(self.fs, &path, meta, collection.schema());
        let report = opened.as_ref().map_err(Error::clone).and_then(|segment| segment.damages());
        match (report, opened) {
            (Err(error), _) => {
                if self.is_gone(&error, older) {
                    return;
                }
                if older.is_some() && self.is_set_aside(&home, &meta.file) {
                    found.set_aside.push(path);
                    return;
                }
                let rows = TouchedRows::all(&collection.name, meta, dead.as_ref());
                found.add_with(&error, &path, rows, older.map(|(_, number)| number));
            }
            (Ok(report), Ok(segment)) => {
                found.bytes += report.bytes;
                if older.is_some() && !report.damages.is_empty() && self.is_set_aside(&home, &meta.file) {
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
                        manifest: older.map(|(_, number)| number),
                        help: mending(&path),
                    });
                }
            }
            (Ok(_), Err(_)) => unreachable!("a segment that did not open has no report"),
        }
    }

    /// The dead rows of a segment; none if they are not known.
    fn deletion_vector(
        &mut self,
        collection: &CollectionMeta,
        home: &Path,
        meta: &SegmentMeta,
        older: Option<(&Store, u64)>,
        found: &mut Verification,
    ) -> Option<DeletionVector> {
        let reference = meta.deletion_vector.as_ref()?;
        let dir = home.join("dv");
        let read = deletion_vector::read(self.fs, &dir, reference, meta.rows);
        let path = match reference {
            DeletionVectorRef::File { file, .. } => dir.join(file),
            DeletionVectorRef::Inline { .. } => return read.ok(),
        };
        if !self.seen.insert(path.clone()) {
            return read.ok();
        }
        found.files += 1;
        found.bytes += self.fs.metadata(&path).map_or(0, |metadata| metadata.len);
        match read {
            Ok(dead) => Some(dead),
            Err(error) => {
                if !self.is_gone(&error, older) {
                    let rows = TouchedRows::all(&collection.name, meta, None);
                    found.add_with(&error, &path, rows, older.map(|(_, number)| number));
                }
                None
            }
        }
    }

    /// A file that only an older manifest named, and that went with it while this verification ran.
    fn is_gone(&self, error: &Error, older: Option<(&Store, u64)>) -> bool {
        let Some((store, number)) = older else { return false };
        error.kind() == ErrorKind::NotFound && self.fs.metadata(&store.path(number)).is_err()
    }

    /// A segment that a repair gave up: older manifests go on naming it until they expire.
    fn is_set_aside(&self, home: &Path, file: &str) -> bool {
        self.fs.metadata(&home.join("damaged").join(file)).is_ok()
    }
}
