//! Opens that fail, again and again, as a service that is restarted makes them: they leave nothing on the disk that adds up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use akidb::{Db, ErrorKind, Metric, Schema, Settings};
use akidb_host::{Clock, Job, RealClock, RealFs, RealSpawn, Spawn, Tick, Ticker};
use serde_json::json;

const OPENS: usize = 50;
const KEPT: usize = 10;

fn settings() -> Settings {
    Settings::from_toml(&format!("[engine]\nmanifest_keep = {KEPT}\ncompaction = false\n")).unwrap()
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = all.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort();
    files
}

/// Log files and manifests.
fn counts(dir: &Path) -> (usize, usize) {
    (files(&dir.join("wal"), ".wal").len(), files(&dir.join("manifest"), ".json").len())
}

/// Rows in a segment and in the log.
fn filled(dir: &Path) {
    let db = Db::builder(dir).settings(settings()).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    for n in 0..100 {
        rows.upsert(format!("f{n}"), &[n as f32, 1.0], json!({})).unwrap();
    }
    db.flush().unwrap();
    for n in 0..100 {
        rows.upsert(format!("l{n}"), &[n as f32, 2.0], json!({})).unwrap();
    }
    db.close().unwrap();
}

fn assert_whole(dir: &Path) {
    let db = Db::builder(dir).settings(settings()).open().unwrap();
    let rows = db.collection("rows").unwrap();
    assert_eq!(rows.count().unwrap(), 200);
    assert!(rows.contains("f99").unwrap() && rows.contains("l99").unwrap());
    db.close().unwrap();
    assert!(akidb::verify(dir).unwrap().damages.is_empty());
}

#[test]
fn an_open_that_meets_a_damaged_segment_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let collection = fs::read_dir(dir.path().join("collections")).unwrap().next().unwrap().unwrap().path();
    let segment = files(&collection, ".parquet").remove(0);
    let whole = fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    let at = damaged.len() - 40;
    damaged[at] ^= 0x10;
    fs::write(&segment, &damaged).unwrap();
    let before = counts(dir.path());
    for _ in 0..OPENS {
        let error = Db::builder(dir.path()).settings(settings()).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    assert_eq!(counts(dir.path()), before);
    fs::write(&segment, &whole).unwrap();
    assert_whole(dir.path());
}

#[test]
fn an_open_whose_backend_is_refused_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    // What earlier versions took the URL for: a copy must not begin anew beside it.
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("a b")).unwrap();
    let before = counts(dir.path());
    for _ in 0..OPENS {
        let builder = Db::builder(dir.path()).settings(settings());
        let error =
            builder.backend("copy", &format!("file://{}/a%20b", home.path().display())).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    assert_eq!(counts(dir.path()), before);
    assert_whole(dir.path());
}

/// A machine on which the driver finds no thread.
#[derive(Debug)]
struct NoDriver;

impl Spawn for NoDriver {
    fn job(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Job>> {
        RealSpawn.job(name, work)
    }

    fn ticker(&self, name: &str, tick: Box<dyn Tick>, clock: Arc<dyn Clock>) -> io::Result<Arc<dyn Ticker>> {
        match name {
            "akidb-driver" => Err(io::ErrorKind::WouldBlock.into()),
            _ => RealSpawn.ticker(name, tick, clock),
        }
    }
}

/// What fails behind the log's file and the manifest of an open leaves those, but never more of them than are kept.
#[test]
fn log_files_and_manifests_of_opens_that_fail_are_removed_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let db = Db::builder(dir.path()).settings(settings()).open().unwrap();
    db.create_snapshot("kept").unwrap();
    db.close().unwrap();
    for _ in 0..OPENS {
        let builder = Db::builder(dir.path()).settings(settings());
        let builder = builder.components(Arc::new(RealFs), Arc::new(RealClock), Arc::new(NoDriver));
        assert_eq!(builder.open().unwrap_err().code(), "AKI-0228");
        // The one that a name keeps is one more; of the log, what has rows and what a thread may not have come to yet.
        let (logs, manifests) = counts(dir.path());
        assert!(manifests <= KEPT + 1 && logs <= 12, "{logs} log files, {manifests} manifests");
    }
    let db = Db::builder(dir.path()).settings(settings()).open().unwrap();
    assert_eq!(db.at_snapshot("kept").unwrap().collection("rows").unwrap().count().unwrap(), 200);
    db.close().unwrap();
    assert_whole(dir.path());
}
