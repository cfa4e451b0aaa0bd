//! Batches over several collections: all of one or nothing, whatever happens.

use std::collections::BTreeSet;
use std::path::Path;

use akidb::{Batch, Db, Error, ErrorKind, Expect, Fate, NewRow, Settings};
use akidb_host::sim::Gate;
use serde_json::json;

use super::{is_log_sync, number, row, schema, spawn};
use crate::arrow_and_async::block_on_all;
use crate::support::{copy_dir, hooked};

/// Promise 3: across collections too. A reader looks at two of them one after the other, in both orders: neither is ever
/// behind the other.
#[test]
fn a_batch_over_collections_is_visible_entirely_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::from_toml("[engine]\nmemtable_bytes = 65536\n").unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let (left, right) =
        (db.create_collection("left", schema()).unwrap(), db.create_collection("right", schema()).unwrap());
    let write = {
        let db = db.clone();
        move || {
            for n in 0..400 {
                let mut batch = Batch::new();
                batch.upsert("left", row("x", n)).upsert("right", row("x", n));
                batch.upsert("right", row(&format!("only{n}"), n)).delete("right", format!("only{}", n - 1));
                db.write(&batch).unwrap();
            }
        }
    };
    let (writer, flusher) = (spawn(write), db.clone());
    let mut looks = 0;
    while !writer.is_finished() {
        let (l, r) = (number(&left, "x"), number(&right, "x"));
        assert!(r >= l, "right was read after left and is behind it: {r:?}, {l:?}");
        let l = number(&left, "x");
        assert!(l >= r, "left was read after right and is behind it: {l:?}, {r:?}");
        assert!(right.count().unwrap() <= 2, "a delete and an upsert of one batch were seen apart");
        looks += 1;
        if looks % 50 == 0 {
            flusher.flush().unwrap();
        }
    }
    writer.join().unwrap();
    println!("{looks} looks");
    assert_eq!((number(&left, "x"), number(&right, "x")), (Some(399), Some(399)));
}

/// Where a batch lies in the only log file: the bytes that it changed.
fn changed(before: &[u8], after: &[u8]) -> std::ops::Range<usize> {
    let differs = |at: &usize| before.get(*at) != after.get(*at);
    let first = (0..after.len()).find(differs).expect("the batch is in the file");
    first..(0..after.len()).rev().find(differs).unwrap() + 1
}

/// Promise 3 after a crash: the log ends anywhere inside the frame of a batch over two collections, one of which has all
/// before it in a segment. After the reopen the batch is in both or in none.
#[test]
fn a_batch_over_collections_torn_at_any_place_is_there_entirely_or_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    let live = home.path().join("live");
    let gate = Gate::opened(is_log_sync);
    let db = hooked(&live, gate.hook(), Settings::default());
    let left = db.create_collection("left", schema()).unwrap();
    let right = db.create_collection("right", schema()).unwrap();
    left.upsert("x", &[1.0], json!({ "n": 1 })).unwrap();
    db.flush().unwrap();
    right.upsert("x", &[1.0], json!({ "n": 1 })).unwrap();
    let log = std::fs::read_dir(live.join("wal")).unwrap().map(|entry| entry.unwrap().path());
    let log = log.filter(|path| path.extension().is_some_and(|e| e == "wal")).max().unwrap();
    let name = log.file_name().unwrap().to_owned();
    let before = std::fs::read(&log).unwrap();
    gate.shut();
    let mut batch = Batch::new();
    let fill = json!({ "n": 2, "fill": "f".repeat(300) });
    batch.upsert("left", NewRow::new("x", [2.0], fill).unwrap()).upsert("right", row("x", 2));
    batch.delete("right", "gone").upsert("left", row("new", 2));
    db.submit(&batch).unwrap();
    let after = std::fs::read(&log).unwrap();
    let frame = changed(&before, &after);
    let cut = home.path().join("cut");
    copy_dir(&live, &cut);
    gate.release();
    drop((left, right, db));
    let mut kept = BTreeSet::new();
    for at in (frame.start..frame.end).step_by(7).chain([frame.end]) {
        let copy = home.path().join(format!("cut{at}"));
        copy_dir(&cut, &copy);
        let mut bytes = after.clone();
        bytes[at..frame.end].fill(0);
        std::fs::write(copy.join("wal").join(&name), &bytes).unwrap();
        let db = Db::open(&copy).unwrap();
        let (left, right) = (db.collection("left").unwrap(), db.collection("right").unwrap());
        let found = (number(&left, "x"), number(&right, "x"), number(&left, "new"));
        assert!(
            found == (Some(1), Some(1), None) || found == (Some(2), Some(2), Some(2)),
            "torn at byte {at}: {found:?}"
        );
        kept.insert(found.0);
        drop((left, right, db));
        std::fs::remove_dir_all(&copy).unwrap();
    }
    assert_eq!(kept, [Some(1), Some(2)].into(), "torn and whole frames were tried");
}

#[test]
fn a_bad_batch_is_refused_whole_and_typed() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    let refused = |batch: &Batch| {
        let error = db.write(batch).unwrap_err();
        assert_eq!(error.fate(), Fate::NotWritten, "{error}");
        (error.kind(), error.code(), error.message().to_owned())
    };
    assert_eq!(refused(&Batch::new()).1, "AKI-0214");
    let mut batch = Batch::new();
    batch.upsert("rows", row("a", 1)).upsert("raws", row("a", 1));
    let (kind, code, message) = refused(&batch);
    assert_eq!((kind, code), (ErrorKind::NotFound, "AKI-0202"), "{message}");
    let mut batch = Batch::new();
    batch.upsert("rows", row("a", 1)).upsert("rows", NewRow::new("b", [1.0, 2.0], json!({})).unwrap());
    let (kind, code, message) = refused(&batch);
    assert_eq!((kind, code), (ErrorKind::Invalid, "AKI-0120"));
    assert!(message.contains("write 1 of the batch (id b of \"rows\")"), "{message}");
    let mut batch = Batch::new();
    batch.upsert("rows", row("a", 1)).delete_if("rows", "a", Expect::Absent);
    assert_eq!(refused(&batch).1, "AKI-0218");
    let mut batch = Batch::new();
    for n in 0..66 {
        let payload = json!({ "fill": "f".repeat((1 << 20) - 100) });
        batch.upsert("rows", NewRow::new(format!("{n}"), [1.0], payload).unwrap());
    }
    assert_eq!(refused(&batch).1, "AKI-0215");
    assert_eq!(rows.count().unwrap(), 0);
    // The same id twice: the last wins.
    let mut batch = Batch::new();
    batch
        .upsert("rows", row("a", 1))
        .upsert("rows", row("b", 1))
        .delete("rows", "b")
        .upsert("rows", row("a", 2));
    db.write(&batch).unwrap();
    assert_eq!((number(&rows, "a"), number(&rows, "b")), (Some(2), None));
    db.close().unwrap();
    let rows = Db::open(dir.path()).unwrap().collection("rows").unwrap();
    assert_eq!((rows.count().unwrap(), number(&rows, "a")), (1, Some(2)));
}

#[test]
fn a_batch_survives_a_replay_where_one_collection_is_flushed_beyond_it() {
    let dir = tempfile::tempdir().unwrap();
    let live: &Path = dir.path();
    let settings = Settings::from_toml("[engine]\nmemtable_bytes = 65536\n").unwrap();
    let db = Db::builder(live).settings(settings).open().unwrap();
    let left = db.create_collection("left", schema()).unwrap();
    db.create_collection("right", schema()).unwrap();
    let mut batch = Batch::new();
    batch.upsert("left", row("x", 1)).upsert("right", row("x", 1)).delete("left", "y").delete("right", "y");
    db.write(&batch).unwrap();
    // Full memtables of one collection are flushed; the other's rows stay in the log.
    for n in 0..40 {
        let fill = json!({ "n": n, "fill": "f".repeat(8_000) });
        left.upsert(format!("fill{n}"), &[1.0], fill).unwrap();
    }
    while db.stats().unwrap().collections.iter().all(|collection| collection.segments == 0) {
        left.upsert("again", &[1.0], json!({ "n": 0, "fill": "f".repeat(8_000) })).unwrap();
    }
    drop((left, db));
    let db = Db::open(live).unwrap();
    for name in ["left", "right"] {
        assert_eq!(number(&db.collection(name).unwrap(), "x"), Some(1), "{name}");
    }
}

/// To wait for room would be in vain: nothing that is flushed makes any.
#[test]
fn a_write_that_not_even_an_empty_log_takes_is_too_large_and_not_told_to_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = "wal_flush_bytes = 65536\nwal_max_bytes = 4194304\nwrite_stall_timeout_ms = 100";
    let settings = Settings::from_toml(&format!("[engine]\n{engine}\n")).unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    let payload = json!({ "fill": "f".repeat((1 << 20) - (10 << 10)) });
    let rows_of = |n: usize| -> Vec<NewRow> {
        (0..n).map(|n| NewRow::new(format!("{n}"), [1.0], payload.clone()).unwrap()).collect()
    };
    let too_large = |error: Error| {
        assert_eq!(
            (error.kind(), error.code(), error.fate()),
            (ErrorKind::Invalid, "AKI-0215", Fate::NotWritten),
            "{error}"
        );
        assert!(error.message().contains("engine.wal_max_bytes"), "{error}");
    };
    for n in [5, 8] {
        let mut batch = Batch::new();
        for row in rows_of(n) {
            batch.upsert("rows", row);
        }
        too_large(rows.upsert_batch(&rows_of(n)).unwrap_err());
        too_large(rows.submit(&rows_of(n)).unwrap_err());
        too_large(db.write(&batch).unwrap_err());
        too_large(
            block_on_all(vec![Box::pin(rows.upsert_batch_async(rows_of(n)))]).pop().unwrap().unwrap_err(),
        );
        too_large(block_on_all(vec![Box::pin(db.write_async(batch))]).pop().unwrap().unwrap_err());
    }
    assert_eq!(rows.count().unwrap(), 0);
    // An empty log takes what is a little less.
    rows.upsert_batch(&rows_of(4)).unwrap();
    assert_eq!(rows.count().unwrap(), 4);
}
