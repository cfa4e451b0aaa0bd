//! The dead rows of all segments that one flush makes grow lie in one file: counted, damaged, given up and taken back.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use akidb::manifest::{Manifest, Store};
use akidb::{BackendSettings, Db, DeletionVectorRef, Metric, NewRow, Schema, SegmentMeta, Settings};
use akidb_host::sim::CrashDisk;
use akidb_host::{Fs, RealClock, RealSpawn};
use serde_json::json;

/// Rows that are written; the last flush overwrites every third of them, in all four segments.
const ROWS: i64 = 8_000;
const SEGMENTS: usize = 4;

fn open(fs: Arc<dyn Fs>, backend: Option<&str>) -> Db {
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let builder = Db::builder("/db").settings(settings);
    let builder = backend.into_iter().fold(builder, |builder, url| builder.backend("copy", url));
    builder.components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open().unwrap()
}

fn filled(seed: u64, backend: Option<&str>) -> CrashDisk {
    println!("seed {seed}");
    let disk = CrashDisk::new(seed);
    let db = open(Arc::new(disk.clone()), backend);
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2).int_ids()).unwrap();
    let put = |ids: &mut dyn Iterator<Item = i64>, version: i64| {
        let row = |id| NewRow::new(id, vec![1.0, 2.0], json!({ "version": version })).unwrap();
        rows.upsert_batch(&ids.map(row).collect::<Vec<_>>()).unwrap();
        db.flush().unwrap();
    };
    for part in 0..SEGMENTS as i64 {
        put(&mut (0..ROWS).filter(|id| id % SEGMENTS as i64 == part), 1);
    }
    put(&mut (0..ROWS).step_by(3), 2);
    if backend.is_some() {
        db.wait_uploaded(Duration::from_secs(60)).unwrap();
    }
    drop(rows);
    db.close().unwrap();
    disk.kill()
}

fn newest(disk: &CrashDisk) -> Manifest {
    Store::new(Arc::new(disk.clone()), "/db/manifest".into()).newest().unwrap().unwrap().manifest
}

fn dir(manifest: &Manifest) -> PathBuf {
    PathBuf::from("/db/collections").join(&manifest.collections[0].dir)
}

/// The segments whose dead rows lie in a file, with its name and their offset in it.
fn placed(manifest: &Manifest) -> Vec<(SegmentMeta, String, u32)> {
    let place = |segment: &SegmentMeta| match &segment.deletion_vector {
        Some(DeletionVectorRef::File { file, offset, .. }) => Some((segment.clone(), file.clone(), *offset)),
        _ => None,
    };
    manifest.collections[0].segments.iter().filter_map(place).collect()
}

#[track_caller]
fn assert_whole(disk: &CrashDisk, backend: Option<&str>) {
    let db = open(Arc::new(disk.clone()), backend);
    let rows = db.collection("rows").unwrap();
    assert_eq!(rows.count().unwrap(), ROWS as u64);
    for id in 0..60 {
        let version = rows.get(id).unwrap().unwrap().payload["version"].as_i64().unwrap();
        assert_eq!(version, if id % 3 == 0 { 2 } else { 1 }, "row {id}");
    }
    drop(rows);
    db.close().unwrap();
    assert_eq!(akidb::verify_on(Arc::new(disk.clone()), "/db").unwrap().damages.len(), 0);
}

#[test]
fn a_flush_writes_one_file_of_deletion_vectors_however_many_segments_it_touches() {
    let disk = filled(1, None);
    let manifest = newest(&disk);
    let placed = placed(&manifest);
    assert_eq!(placed.len(), SEGMENTS);
    let files: BTreeSet<&String> = placed.iter().map(|(_, file, _)| file).collect();
    let offsets: BTreeSet<u32> = placed.iter().map(|(_, _, offset)| *offset).collect();
    assert_eq!((files.len(), offsets.len()), (1, SEGMENTS));
    assert_eq!(disk.list(&dir(&manifest).join("dv")).unwrap().len(), 1);
    assert_whole(&disk, None);
}

/// Damages the file that the last flush wrote, in every frame of these segments.
fn rot(disk: &CrashDisk, placed: &[(SegmentMeta, String, u32)], segments: &[usize]) -> PathBuf {
    let file = dir(&newest(disk)).join("dv").join(&placed[0].1);
    let at: Vec<usize> = segments.iter().map(|n| placed[*n].2 as usize + 9).collect();
    disk.rot(&file, |bytes| at.iter().for_each(|at| bytes[*at] ^= 1)).unwrap();
    file
}

#[test]
fn a_rotten_file_of_deletion_vectors_names_the_segments_it_touches_and_is_taken_back_once_for_all() {
    let copy = tempfile::tempdir().unwrap();
    let url = format!("file://{}", copy.path().display());
    let disk = filled(2, Some(&url));
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let placed = placed(&newest(&disk));
    let file = rot(&disk, &placed, &[1, 3]);

    let found = akidb::verify_on(Arc::clone(&fs), "/db").unwrap();
    assert!(found.damages.iter().all(|damage| damage.file == file), "{found:?}");
    let touched: u64 = found.damages.iter().filter_map(|damage| Some(damage.rows.as_ref()?.rows)).sum();
    let wanted: u64 = [1, 3].iter().map(|n: &usize| u64::from(placed[*n].0.rows)).sum();
    assert_eq!((found.damages.len(), touched), (2, wanted), "{found:?}");

    let refused = akidb::repair_segment_drop_on(Arc::clone(&fs), &file, false).unwrap_err();
    assert_eq!(refused.code(), "AKI-0287");
    let help = refused.help().unwrap();
    assert!(placed.iter().all(|(segment, ..)| help.contains(&segment.file)), "{help}");

    let backend = BackendSettings::new("copy", &url).unwrap();
    akidb::repair_segment_from_on(fs, &backend, &file, false).unwrap();
    assert_whole(&disk, Some(&url));
}

#[test]
fn of_a_rotten_file_of_deletion_vectors_only_what_is_touched_is_given_up() {
    let disk = filled(3, None);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let manifest = newest(&disk);
    let placed = placed(&manifest);
    let file = rot(&disk, &placed, &[2]);
    for (n, (segment, ..)) in placed.iter().enumerate() {
        let path = dir(&manifest).join(&segment.file);
        let dropped = akidb::repair_segment_drop_on(Arc::clone(&fs), &path, false);
        assert_eq!(dropped.is_ok(), n == 2, "{n}: {dropped:?}");
    }
    // The rest of it is as it was, and said to be touched by nothing.
    let found = akidb::verify_on(Arc::clone(&fs), "/db").unwrap();
    assert_eq!(found.damages.len(), 1, "{found:?}");
    assert!(found.damages[0].file == file && found.damages[0].rows.is_none(), "{found:?}");
    assert!(found.damages[0].help.starts_with("no row is touched"), "{found:?}");

    let db = open(fs, None);
    let rows = db.collection("rows").unwrap();
    let lost = (0..ROWS).filter(|id| id % SEGMENTS as i64 == 2 && id % 3 > 0).count() as u64;
    assert_eq!(rows.count().unwrap(), ROWS as u64 - lost);
    // A merge writes what it holds anew.
    db.compact().unwrap();
    assert_eq!(rows.count().unwrap(), ROWS as u64 - lost);
    drop(rows);
    db.close().unwrap();
}

#[test]
fn a_flip_where_no_vector_lies_touches_nothing_and_is_told() {
    let disk = filled(4, None);
    let placed = placed(&newest(&disk));
    let file = dir(&newest(&disk)).join("dv").join(&placed[0].1);
    disk.rot(&file, |bytes| bytes[0] ^= 1).unwrap();
    let found = akidb::verify_on(Arc::new(disk.clone()), "/db").unwrap();
    assert_eq!(found.damages.len(), 1, "{found:?}");
    assert!(found.damages[0].file == file && found.damages[0].rows.is_none(), "{found:?}");
    let db = open(Arc::new(disk.clone()), None);
    assert_eq!(db.collection("rows").unwrap().count().unwrap(), ROWS as u64);
    db.close().unwrap();
}
