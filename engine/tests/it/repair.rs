//! `akidb repair segment`: a damaged segment is given up or taken back, the power is cut and the disk fails in every step
//! of it. What is read afterwards is compared with a model: what is lost is named, and nothing else is lost or revived.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use akidb::manifest::{Manifest, Store};
use akidb::{Collection, Db, Metric, RepairReport, Schema, Settings};
use akidb_host::sim::CrashDisk;
use akidb_host::{Fs, RealClock, RealSpawn, Rng, read_file};
use serde_json::{Value, json};

mod crashes;
mod giving_up;
mod taking_back;

const DIM: u16 = 64;

/// The segment that is damaged: two came before it, and one hid rows of it.
const DAMAGED: usize = 1;

/// Version of every live row.
type Model = BTreeMap<u64, u64>;

fn vector(n: u64, version: u64) -> Vec<f32> {
    let mut rng = Rng::seeded(n << 32 | version);
    (0..DIM).map(|_| rng.f64() as f32 - 0.5).collect()
}

fn open(fs: Arc<dyn Fs>, backend: Option<&str>) -> akidb::Result<Db> {
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let builder = Db::builder("/db").settings(settings);
    let builder = match backend {
        Some(url) => builder.backend("copy", url),
        None => builder,
    };
    builder.components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open()
}

/// Three segments whose rows overlap, and deletes; then newer versions and deletes that only the log has.
fn filled(seed: u64, backend: Option<&str>) -> (CrashDisk, Model) {
    let disk = CrashDisk::new(seed);
    let db = open(Arc::new(disk.clone()), backend).unwrap();
    let rows = db.create_collection("rows", Schema::new(DIM, Metric::L2).int("version")).unwrap();
    let mut model = Model::new();
    let put = |model: &mut Model, n: u64, version: u64| {
        rows.upsert(format!("r{n:04}"), &vector(n, version), json!({ "version": version })).unwrap();
        model.insert(n, version);
    };
    for version in 1..=3 {
        // So many deaths in the first that its deletion vector is a file.
        (0..700).for_each(|n| put(&mut model, n * version % 1_000, version));
        for n in (0..60).map(|n| n * 7 * version % 1_000) {
            assert_eq!(rows.delete(format!("r{n:04}")).unwrap(), model.remove(&n).is_some());
        }
        db.flush().unwrap();
    }
    let of_damaged: Vec<u64> = model.iter().filter(|(_, version)| **version == 2).map(|(n, _)| *n).collect();
    of_damaged[..6].iter().for_each(|n| put(&mut model, *n, 4));
    for n in &of_damaged[6..10] {
        assert!(rows.delete(format!("r{n:04}")).unwrap());
        model.remove(n);
    }
    if backend.is_some() {
        db.wait_uploaded(Duration::from_secs(60)).unwrap();
    }
    drop(rows);
    db.close().unwrap();
    (disk.kill(), model)
}

fn newest(disk: &CrashDisk) -> Manifest {
    Store::new(Arc::new(disk.clone()), "/db/manifest".into()).newest().unwrap().unwrap().manifest
}

fn home(disk: &CrashDisk) -> PathBuf {
    Path::new("/db/collections").join(&newest(disk).collections[0].dir)
}

fn segment(disk: &CrashDisk) -> PathBuf {
    home(disk).join(&newest(disk).collections[0].segments[DAMAGED].file)
}

/// Flips a bit of the last row's vector, whose block holds no id.
fn rot_vector(disk: &CrashDisk, file: &Path) {
    let rows = newest(disk).collections[0].segments[DAMAGED].rows;
    rot_vector_of(disk, file, rows - 1);
}

fn rot_vector_of(disk: &CrashDisk, file: &Path, row: u32) {
    let meta = newest(disk).collections[0].segments[DAMAGED].clone();
    let at = usize::try_from(meta.vectors[0] + u64::from(row) * u64::from(DIM) * 4).unwrap();
    disk.rot(file, |bytes| bytes[at] ^= 4).unwrap();
}

#[track_caller]
fn assert_same(rows: &Collection, model: &Model, when: &str) {
    assert_eq!(rows.count().unwrap(), model.len() as u64, "{when}: count");
    let scanned = rows.scan().limit(10_000).run().unwrap();
    let number = |id: &akidb::Id| id.to_string()[1..].parse::<u64>().unwrap();
    let found: Model =
        scanned.iter().map(|row| (number(&row.id), row.payload["version"].as_u64().unwrap())).collect();
    assert_eq!(&found, model, "{when}: scan");
    assert!(scanned.iter().all(|row| row.vector == vector(number(&row.id), found[&number(&row.id)])));
    for n in (0..1_000).step_by(97) {
        let got = rows.get(format!("r{n:04}")).unwrap().map(|row| row.payload["version"].as_u64().unwrap());
        assert_eq!(got, model.get(&n).copied(), "{when}: get {n}");
    }
    for version in 1..=4 {
        let expected = model.values().filter(|v| **v == version).count() as u64;
        assert_eq!(rows.count_where(format!("version = {version}")).unwrap(), expected, "{when}: {version}");
    }
    let hits = rows.search(&vector(1, 1)).k(2_000).exact().run().unwrap();
    assert_eq!(hits.len(), model.len(), "{when}: search");
}

/// Opens the disk and compares; once more behind a flush and a merge.
#[track_caller]
fn assert_reads(disk: &CrashDisk, model: &Model, when: &str) {
    let db = open(Arc::new(disk.clone()), None).unwrap();
    let rows = db.collection("rows").unwrap();
    assert_same(&rows, model, when);
    db.flush().unwrap();
    db.compact().unwrap();
    assert_same(&rows, model, &format!("{when}, flushed and merged"));
    drop(rows);
    db.close().unwrap();
}

fn drop_on(fs: Arc<dyn Fs>, file: &Path) -> akidb::Result<RepairReport> {
    akidb::repair_segment_drop_on(fs, file, false)
}

fn without_lost(model: &Model) -> (Model, BTreeSet<String>) {
    let left = model.iter().filter(|(_, version)| **version != 2).map(|(n, v)| (*n, *v)).collect();
    let lost = model.iter().filter(|(_, version)| **version == 2).map(|(n, _)| format!("r{n:04}")).collect();
    (left, lost)
}

/// The lines of a list of lost ids.
fn list(disk: &CrashDisk, file: &Path) -> Vec<Value> {
    let text = String::from_utf8(read_file(disk, file).unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(lines: &[Value]) -> BTreeSet<String> {
    lines.iter().filter_map(|line| line["id"].as_str().map(str::to_owned)).collect()
}
