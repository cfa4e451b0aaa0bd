//! Reads every byte of a database at rest and compares it with its checksum.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Fs, RealClock, RealFs, RealSpawn};
use akidb_wal::{Log, Options};
use serde::Serialize;

use crate::deletion_vector;
use crate::error::{Error, ErrorKind, Result};
use crate::log::from_wal;
use crate::manifest::{CollectionMeta, Manifest, Store};
use crate::segment::Segment;
use crate::segment_meta::{DeletionVectorRef, SegmentMeta};

/// What a verification found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verification {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Everything that is not as it was written.
    pub damages: Vec<FileDamage>,
    /// Bytes behind the last whole frame of the log that could be a torn tail: file and offset. Not damage.
    pub torn_tail: Option<(PathBuf, u64)>,
}

/// A damaged place.
#[derive(Clone, Debug, Serialize)]
pub struct FileDamage {
    /// The file.
    pub file: PathBuf,
    /// First byte of the damaged block.
    pub offset: Option<u64>,
    /// What lies there: columns, rows, ids where they can be told.
    pub what: String,
    /// The command that mends it.
    pub help: String,
}

/// Verifies the database in a directory that nobody has open for writing (beside a writer, the log's tail may look
/// torn). Changes nothing; blocks for the time the bytes take to read.
///
/// # Errors
/// `NotFound` if there is no database. Damage is no error here: it is what the answer lists.
pub fn verify(dir: impl AsRef<Path>) -> Result<Verification> {
    let dir = dir.as_ref();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let mut found = Verification::default();
    let store = Store::new(Arc::clone(&fs), dir.join("manifest"));
    let newest = match store.newest() {
        Ok(Some(newest)) => newest.manifest,
        Ok(None) => {
            let message = format!("{} holds no database", dir.display());
            return Err(Error::new(ErrorKind::NotFound, "AKI-0221", message));
        }
        Err(error) => {
            found.add(&error, store.dir());
            return Ok(found);
        }
    };
    let mut kept = Vec::new();
    for number in store.numbers()? {
        found.files += 1;
        found.bytes += fs.metadata(&store.path(number)).map_or(0, |m| m.len);
        match store.load(number) {
            Ok(committed) => kept.extend(Some(committed.manifest).filter(|m| is_named(&newest, m.number))),
            Err(error) => found.add(&error, &store.path(number)),
        }
    }
    named_are_there(&store, &newest, &mut found)?;
    let mut seen = BTreeSet::new();
    for collection in kept.iter().chain([&newest]).flat_map(|manifest| &manifest.collections) {
        verify_collection(&*fs, dir, collection, &mut seen, &mut found);
    }
    verify_log(&fs, dir, newest.writer_epoch, newest.floor, &mut found);
    Ok(found)
}

impl Verification {
    fn add(&mut self, error: &Error, file: &Path) {
        self.damages.push(FileDamage {
            file: error.file().map_or_else(|| file.to_path_buf(), Path::to_path_buf),
            offset: error.offset(),
            what: error.message().to_owned(),
            help: error.help().unwrap_or("restore the database with `akidb restore URL DIR`").to_owned(),
        });
    }
}

fn is_named(newest: &Manifest, number: u64) -> bool {
    newest.snapshots.iter().any(|named| named.manifest == number)
}

/// A manifest that a person keeps and that is gone is damage.
fn named_are_there(store: &Store, newest: &Manifest, found: &mut Verification) -> Result<()> {
    let numbers = store.numbers()?;
    for named in newest.snapshots.iter().filter(|named| !numbers.contains(&named.manifest)) {
        found.damages.push(FileDamage {
            file: store.path(named.manifest),
            offset: None,
            what: format!("the manifest of snapshot \"{}\" is gone", named.name),
            help: "let the name go with `akidb snapshot rm`".to_owned(),
        });
    }
    Ok(())
}

/// Everything of a collection that was not `seen` in another manifest.
fn verify_collection(
    fs: &dyn Fs,
    dir: &Path,
    collection: &CollectionMeta,
    seen: &mut BTreeSet<String>,
    found: &mut Verification,
) {
    let home = dir.join("collections").join(&collection.dir);
    for meta in &collection.segments {
        if seen.insert(meta.file.clone()) {
            verify_segment(fs, &home, collection, meta, found);
        }
        if let Some(reference) = &meta.deletion_vector
            && is_new(reference, seen)
        {
            found.files += 1;
            if let Err(error) = deletion_vector::read(fs, &home.join("dv"), reference, meta.rows) {
                found.add(&error, &home.join("dv"));
            }
        }
    }
}

/// An inline one is part of its manifest.
fn is_new(reference: &DeletionVectorRef, seen: &mut BTreeSet<String>) -> bool {
    match reference {
        DeletionVectorRef::Inline { .. } => true,
        DeletionVectorRef::File { file, .. } => seen.insert(file.clone()),
    }
}

fn verify_segment(
    fs: &dyn Fs,
    home: &Path,
    collection: &CollectionMeta,
    meta: &SegmentMeta,
    found: &mut Verification,
) {
    let path = home.join(&meta.file);
    found.files += 1;
    let report = Segment::open(fs, &path, meta, collection.schema()).and_then(|segment| segment.damages());
    match report {
        Err(error) => found.add(&error, &path),
        Ok(report) => {
            found.bytes += report.bytes;
            found.damages.extend(report.damages.into_iter().map(|damage| FileDamage {
                file: path.clone(),
                offset: Some(damage.offset),
                what: damage.what,
                help:
                    "bring the file back with `akidb restore URL DIR` from a backend that has it".to_owned(),
            }));
        }
    }
}

fn verify_log(fs: &Arc<dyn Fs>, dir: &Path, epoch: u32, floor: crate::lsn::Lsn, found: &mut Verification) {
    let wal = dir.join("wal");
    let options = Options {
        dir: wal.clone(),
        fs: Arc::clone(fs),
        clock: Arc::new(RealClock),
        spawn: Arc::new(RealSpawn),
        config: akidb_wal::Config::default(),
        min_epoch: epoch,
        floor,
        read_only: true,
    };
    for entry in fs.list(&wal).unwrap_or_default() {
        found.files += 1;
        found.bytes += fs.metadata(&wal.join(&entry.name)).map_or(0, |m| m.len);
    }
    match Log::open(options) {
        Err(error) => found.add(&from_wal(&error), &wal),
        Ok((_log, recovered)) => {
            found.torn_tail = recovered.cut.as_ref().map(|cut| (cut.file.clone(), cut.offset));
            for record in recovered.records.iter() {
                if let Err(error) = record {
                    found.add(&from_wal(&error), &wal);
                }
            }
        }
    }
}
