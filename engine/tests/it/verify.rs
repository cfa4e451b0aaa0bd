//! Verification beside a writer, in this process or another: what that one removes meanwhile is no damage, and what is damaged is
//! told all the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use akidb::{Collection, Db, Metric, NewRow, Schema, Settings, Verification};
use akidb_host::RealFs;
use akidb_host::sim::{Act, Call, EIO, HookFs, Op};
use serde_json::json;

use crate::support::until;

/// Verifies `dir`; right before its call number `n` among those that `is_it`, `then` runs.
fn verified(
    dir: &Path,
    n: usize,
    is_it: fn(&Call<'_>) -> bool,
    then: impl Fn() + Send + Sync + 'static,
) -> Verification {
    let calls = AtomicUsize::new(0);
    let hook = move |call: &Call<'_>| {
        if is_it(call) && calls.fetch_add(1, Ordering::SeqCst) + 1 == n {
            then();
        }
        Act::Go
    };
    akidb::verify_on(Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook))), dir).unwrap()
}

fn opens_a_segment(call: &Call<'_>) -> bool {
    call.op == Op::Open && call.path.extension().is_some_and(|e| e == "parquet")
}

fn lists_the_log(call: &Call<'_>) -> bool {
    call.op == Op::List && call.path.ends_with("wal")
}

fn open(dir: &Path) -> (Db, Collection) {
    let settings = Settings::from_toml("[engine]\ncompaction = false\nmanifest_keep = 1\n").unwrap();
    let db = Db::builder(dir).settings(settings).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    (db, rows)
}

fn write(rows: &Collection, from: usize, count: usize) {
    let text = "x".repeat(1_000);
    let new = |n: usize| NewRow::new(format!("r{n}"), vec![n as f32, 1.0], json!({ "text": text })).unwrap();
    let new: Vec<NewRow> = (from..from + count).map(new).collect();
    for few in new.chunks(100) {
        rows.upsert_batch(few).unwrap();
    }
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(self::files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A flush lets the log's first files go: before any segment is read, between the floor and the log, and in both places.
#[test]
fn a_log_that_a_flush_shortens_meanwhile_is_not_damaged() {
    for (n, is_it) in [(1, opens_a_segment as fn(&Call<'_>) -> bool), (1, lists_the_log), (2, lists_the_log)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (db, rows) = open(dir.path());
        write(&rows, 0, 10);
        db.flush().unwrap();
        write(&rows, 10, 3_000);
        let first = files(&dir.path().join("wal"), ".wal").remove(0);
        let writer = db.clone();
        let found = verified(dir.path(), n, is_it, move || {
            writer.flush().unwrap();
            assert!(!first.exists(), "the log was not shortened");
        });
        assert!(found.damages.is_empty() && found.unread.is_empty(), "{n}: {found:?}");
        db.close().unwrap();
    }
}

/// Damage stays where it is. What is found elsewhere at each look is not called that.
#[test]
fn a_log_that_never_holds_still_is_unread_and_not_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (db, rows) = open(dir.path());
    write(&rows, 0, 3_000);
    let (looks, log) = (AtomicUsize::new(0), files(&dir.path().join("wal"), ".wal"));
    let hook = move |call: &Call<'_>| {
        if lists_the_log(call) {
            looks.fetch_add(1, Ordering::SeqCst);
        }
        match call.op == Op::Open && call.path == log[looks.load(Ordering::SeqCst) % 2] {
            true => Act::Fail(EIO),
            false => Act::Go,
        }
    };
    let fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
    let found = akidb::verify_on(fs, dir.path()).unwrap();
    assert!(found.damages.is_empty(), "{found:?}");
    assert_eq!(found.unread.len(), 1, "{found:?}");
    assert!(found.unread[0].what.contains("changed") && found.unread[0].help.contains("again"), "{found:?}");
    db.close().unwrap();
}

#[test]
fn a_log_file_that_is_missing_beside_a_writer_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (db, rows) = open(dir.path());
    write(&rows, 0, 3_000);
    let first = files(&dir.path().join("wal"), ".wal").remove(0);
    fs::rename(&first, dir.path().join("aside")).unwrap();
    let found = akidb::verify(dir.path()).unwrap();
    assert_eq!(found.damages.len(), 1, "{found:?}");
    assert_eq!(found.damages[0].file, first);
    fs::rename(dir.path().join("aside"), &first).unwrap();
    db.close().unwrap();
    assert!(akidb::verify(dir.path()).unwrap().damages.is_empty());
}

#[test]
fn a_segment_that_a_merge_removes_meanwhile_is_not_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (db, rows) = open(dir.path());
    for n in 0..3 {
        write(&rows, n * 10, 10);
        db.flush().unwrap();
    }
    let (writer, collections) = (db.clone(), dir.path().join("collections"));
    let found = verified(dir.path(), 1, opens_a_segment, move || {
        assert!(writer.compact().unwrap() > 0);
        until(|| files(&collections, ".parquet").len() == 1);
    });
    assert!(found.damages.is_empty() && found.unread.is_empty(), "{found:?}");
    db.close().unwrap();
}

/// As above, but of a file that the newest manifest of then names as well.
#[test]
fn a_segment_that_is_missing_beside_a_writer_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (db, rows) = open(dir.path());
    write(&rows, 0, 10);
    db.flush().unwrap();
    let segment = files(&dir.path().join("collections"), ".parquet").remove(0);
    let (writer, gone, manifests) = (db.clone(), segment.clone(), dir.path().join("manifest"));
    let found = verified(dir.path(), 1, opens_a_segment, move || {
        fs::remove_file(&gone).unwrap();
        let before = files(&manifests, ".json");
        write(&rows, 10, 10);
        writer.flush().unwrap();
        until(|| !before[0].exists());
    });
    assert_eq!(found.damages.len(), 1, "{found:?}");
    assert_eq!(found.damages[0].file, segment);
    drop(db);
}

#[test]
fn a_snapshot_that_is_let_go_meanwhile_is_not_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (db, rows) = open(dir.path());
    write(&rows, 0, 10);
    db.create_snapshot("then").unwrap();
    let (writer, manifests) = (db.clone(), dir.path().join("manifest"));
    let found = verified(dir.path(), 1, opens_a_segment, move || {
        let before = files(&manifests, ".json");
        writer.remove_snapshot("then").unwrap();
        until(|| before.iter().all(|path| !path.exists()));
    });
    assert!(found.damages.is_empty() && found.unread.is_empty(), "{found:?}");
    db.close().unwrap();
}
