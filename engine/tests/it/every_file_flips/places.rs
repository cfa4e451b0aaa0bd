//! What lies where in the files of a database.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb::SegmentMeta;
use akidb::manifest::Store;
use akidb_host::sim::CrashDisk;
use akidb_host::{EntryKind, Fs, Rng};

use crate::sample::used_len;

/// Kinds of files, and of parts of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    SealedLog,
    ActiveLog,
    ControlPage,
    /// The columns before the vectors, with the file's first bytes.
    SegmentColumns,
    SegmentVectors,
    SegmentIds,
    SegmentCodes,
    SegmentHead,
    /// Check table, page indexes, footer.
    SegmentTail,
    DeletionVector,
    NewestManifest,
    OlderManifest,
    Lock,
    Uploads,
    DeadLetters,
    DeadLettersJournal,
}

impl Kind {
    pub(super) const ALL: [Self; 16] = [
        Self::SealedLog,
        Self::ActiveLog,
        Self::ControlPage,
        Self::SegmentColumns,
        Self::SegmentVectors,
        Self::SegmentIds,
        Self::SegmentCodes,
        Self::SegmentHead,
        Self::SegmentTail,
        Self::DeletionVector,
        Self::NewestManifest,
        Self::OlderManifest,
        Self::Lock,
        Self::Uploads,
        Self::DeadLetters,
        Self::DeadLettersJournal,
    ];

    /// Whether every byte of it is under a checksum that `verify` reads.
    pub(super) fn is_checked(self) -> bool {
        (Self::SegmentColumns..=Self::OlderManifest).contains(&self)
    }
}

/// A stretch of a file.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) kind: Kind,
    pub(super) file: PathBuf,
    range: Range<u64>,
}

impl Place {
    /// A byte of it. In a log most of them are near its ends: heads at the one, the frames that no later one proves at the
    /// other.
    pub(super) fn draw(&self, rng: &mut Rng) -> u64 {
        let Range { start, end } = self.range;
        let is_log = matches!(self.kind, Kind::SealedLog | Kind::ActiveLog);
        let range = match rng.below(4) {
            0 if is_log => start..end.min(start + 4_096),
            1 if is_log => end.saturating_sub(8_192).max(start)..end,
            2 if is_log => end.saturating_sub(256).max(start)..end,
            _ => start..end,
        };
        range.start + rng.below(range.end - range.start)
    }
}

/// Everything a bit can be flipped in.
pub(super) fn places(disk: &CrashDisk) -> Vec<Place> {
    let store = Store::new(Arc::new(disk.clone()), "/db/manifest".into());
    let newest = store.newest().unwrap().unwrap().manifest;
    let mut found = Vec::new();
    for number in store.numbers().unwrap() {
        let kind = if number == newest.number { Kind::NewestManifest } else { Kind::OlderManifest };
        whole(disk, kind, &store.path(number), &mut found);
    }
    for collection in &newest.collections {
        let home = Path::new("/db/collections").join(&collection.dir);
        for meta in &collection.segments {
            segment(meta, u64::from(collection.schema().dim), &home, &mut found);
        }
        for file in files(disk, &home.join("dv"), ".bin") {
            whole(disk, Kind::DeletionVector, &file, &mut found);
        }
    }
    let logs: Vec<PathBuf> =
        files(disk, Path::new("/db/wal"), ".wal").into_iter().filter(|file| used(disk, file) > 0).collect();
    let (last, sealed) = logs.split_last().unwrap();
    sealed.iter().for_each(|file| whole(disk, Kind::SealedLog, file, &mut found));
    whole(disk, Kind::ActiveLog, last, &mut found);
    whole(disk, Kind::ControlPage, Path::new("/db/wal/control"), &mut found);
    whole(disk, Kind::Lock, Path::new("/db/LOCK"), &mut found);
    for file in files(disk, Path::new("/db/uploads"), ".json") {
        whole(disk, Kind::Uploads, &file, &mut found);
    }
    whole(disk, Kind::DeadLetters, Path::new("/db/dlq/dlq.json"), &mut found);
    whole(disk, Kind::DeadLettersJournal, Path::new("/db/dlq/dlq.journal.jsonl"), &mut found);
    found
}

fn segment(meta: &SegmentMeta, dim: u64, home: &Path, found: &mut Vec<Place>) {
    let file = home.join(&meta.file);
    let vectors = meta.vectors[0];
    let mut note = |kind, range| found.push(Place { kind, file: file.clone(), range });
    note(Kind::SegmentColumns, 0..vectors);
    note(Kind::SegmentVectors, vectors..vectors + u64::from(meta.rows) * dim * 4);
    let sections =
        [(Kind::SegmentIds, meta.id_index), (Kind::SegmentCodes, meta.codes), (Kind::SegmentHead, meta.head)];
    for (kind, place) in sections {
        if let Some(place) = place {
            note(kind, place.offset..place.offset + place.len);
        }
    }
    note(Kind::SegmentTail, meta.check.offset..meta.size);
}

/// A file up to its last byte that is not zero, with a little of the zeros behind: a log goes on there.
fn whole(disk: &CrashDisk, kind: Kind, file: &Path, found: &mut Vec<Place>) {
    let len = disk.metadata(file).map_or(0, |metadata| metadata.len);
    let end = (used(disk, file) + 64).min(len);
    if end > 0 {
        found.push(Place { kind, file: file.to_path_buf(), range: 0..end });
    }
}

fn used(disk: &CrashDisk, file: &Path) -> u64 {
    disk.bytes(file).map_or(0, |bytes| used_len(&bytes) as u64)
}

fn files(disk: &CrashDisk, dir: &Path, end: &str) -> Vec<PathBuf> {
    let entries = disk.list(dir).unwrap_or_default();
    let files = entries.iter().filter(|entry| entry.kind == EntryKind::File && entry.name.ends_with(end));
    let mut files: Vec<PathBuf> = files.map(|entry| dir.join(&entry.name)).collect();
    files.sort();
    files
}
