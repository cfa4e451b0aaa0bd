//! Writes beyond the upsert of a row: batches over collections, writes that demand a version, patches of payloads, and
//! deletes by a filter.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use akidb::{
    Batch, Collection, Db, ErrorKind, Expect, Fate, FieldType, Lsn, Metric, NewRow, Schema, Settings,
};
use akidb_host::sim::{Call, Gate, Op};
use serde_json::{Value, json};

use crate::support::{copy_dir, hooked, in_dir};

fn row(id: &str, n: i64) -> NewRow {
    NewRow::new(id, [n as f32], json!({ "n": n })).unwrap()
}

fn schema() -> Schema {
    Schema::new(1, Metric::L2).int("n")
}

fn number(rows: &Collection, id: &str) -> Option<i64> {
    rows.get(id).unwrap().map(|row| row.payload["n"].as_i64().unwrap())
}

fn is_log_sync(call: &Call<'_>) -> bool {
    call.op == Op::SyncData && in_dir(call.path, "wal")
}

fn spawn<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> std::thread::JoinHandle<R> {
    std::thread::Builder::new().spawn(work).unwrap()
}

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

fn conflict(result: akidb::Result<Lsn>, found: Option<Lsn>) {
    let error = result.unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.fate()),
        (ErrorKind::Conflict, "AKI-0216", Fate::NotWritten)
    );
    assert_eq!(error.version_found(), found, "{error}");
}

/// In the memtable, in a segment and after a reopen.
#[test]
fn a_write_that_demands_a_version_happens_on_that_version_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::open(dir.path()).unwrap();
    let mut rows = db.create_collection("rows", schema()).unwrap();
    for place in ["memtable", "segment", "log of a reopen", "segment of a reopen"] {
        let there = || {
            match place {
                "segment" | "segment of a reopen" => db.flush().unwrap(),
                _ => {}
            };
        };
        let put = |n: i64, expect| rows.upsert_if("a", &[n as f32], json!({ "n": n }), expect);
        let first = put(1, Expect::Absent).unwrap();
        there();
        conflict(put(2, Expect::Absent), Some(first));
        let appended = db.stats().unwrap().watermarks.appended;
        conflict(put(2, Expect::Version(Lsn::new(1, 9_999))), Some(first));
        assert_eq!(db.stats().unwrap().watermarks.appended, appended, "a refused write was logged");
        let second = put(2, Expect::Version(first)).unwrap();
        there();
        conflict(put(3, Expect::Version(first)), Some(second));
        conflict(rows.delete_if("a", first), Some(second));
        assert_eq!(number(&rows, "a"), Some(2), "{place}");
        rows.delete_if("a", second).unwrap();
        conflict(put(4, Expect::Version(second)), None);
        there();
        conflict(rows.delete_if("a", second), None);
        let mut batch = Batch::new();
        batch.upsert("rows", row("b", 1)).upsert_if("rows", row("a", 5), Expect::Version(second));
        conflict(db.write(&batch), None);
        assert_eq!(rows.count().unwrap(), 0, "{place}");
        let mut batch = Batch::new();
        batch.upsert_if("rows", row("b", 1), Expect::Absent).delete_if("rows", "a", Expect::Absent);
        let version = db.write(&batch).unwrap();
        assert_eq!(rows.get("b").unwrap().map(|row| row.lsn.next()), Some(version));
        assert!(rows.delete("b").unwrap());
        if place == "segment" {
            rows.upsert("kept", &[1.0], json!({ "n": 7 })).unwrap();
            drop(rows);
            db.close().unwrap();
            db = Db::open(dir.path()).unwrap();
            rows = db.collection("rows").unwrap();
            let kept = rows.get("kept").unwrap().unwrap().lsn;
            conflict(rows.upsert_if("kept", &[1.0], json!({}), Expect::Absent), Some(kept));
            rows.delete_if("kept", kept).unwrap();
        }
    }
}

/// What counts is the newest write in the log's order, which no read sees yet.
#[test]
fn a_demand_is_compared_with_writes_that_are_not_synced_yet() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(is_log_sync);
    let db = hooked(dir.path(), gate.hook(), Settings::default());
    let rows = db.create_collection("rows", schema()).unwrap();
    let old = rows.upsert("a", &[1.0], json!({ "n": 1 })).unwrap();
    gate.shut();
    let mut both = Batch::new();
    both.upsert("rows", row("a", 2)).delete("rows", "b");
    let pending = db.submit(&both).unwrap();
    let rival = {
        let rows = rows.clone();
        spawn(move || rows.upsert_if("a", &[3.0], json!({ "n": 3 }), Expect::Version(old)))
    };
    gate.wait_until_held();
    assert_eq!(rows.get("a").unwrap().unwrap().lsn, old, "nothing unsynced is shown");
    // On the pending version another write is built, and another on that, with no sync in between.
    let mut next = Batch::new();
    next.upsert_if("rows", row("a", 4), Expect::Version(pending.first()));
    let next = db.submit(&next).unwrap();
    let mut last = Batch::new();
    last.delete_if("rows", "a", Expect::Version(next.last())).upsert_if("rows", row("b", 1), Expect::Absent);
    let last = db.submit(&last).unwrap();
    gate.release();
    let refused = rival.join().unwrap().unwrap_err();
    assert_eq!(refused.code(), "AKI-0216", "{refused}");
    last.wait().unwrap();
    assert_eq!((number(&rows, "a"), number(&rows, "b")), (None, Some(1)));
}

/// A flush moves rows between the look into the segments and the check: the look is taken again.
#[test]
fn a_demand_is_looked_up_again_when_a_flush_came_between() {
    for row_changes in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        let old =
            db.create_collection("rows", schema()).unwrap().upsert("a", &[1.0], json!({ "n": 1 })).unwrap();
        db.flush().unwrap();
        db.close().unwrap();
        // Holds the first read of the segment's rows, which is the look of the write below.
        let armed = Arc::new(AtomicBool::new(false));
        let first = Arc::clone(&armed);
        let is_first_read = move |call: &Call<'_>| {
            call.op == Op::ReadAt && in_dir(call.path, "collections") && first.swap(false, Ordering::SeqCst)
        };
        let gate = Gate::new(is_first_read);
        let db = hooked(dir.path(), gate.hook(), Settings::default());
        let rows = db.collection("rows").unwrap();
        armed.store(true, Ordering::SeqCst);
        let rival = {
            let rows = rows.clone();
            spawn(move || rows.upsert_if("a", &[3.0], json!({ "n": 3 }), Expect::Version(old)))
        };
        gate.wait_until_held();
        let id = if row_changes { "a" } else { "b" };
        let new = rows.upsert(id, &[2.0], json!({ "n": 2 })).unwrap();
        db.flush().unwrap();
        gate.release();
        match row_changes {
            true => conflict(rival.join().unwrap(), Some(new)),
            false => assert!(rival.join().unwrap().unwrap() > new),
        }
        assert_eq!(number(&rows, "a"), Some(if row_changes { 2 } else { 3 }));
        assert_eq!(rows.count().unwrap(), if row_changes { 1 } else { 2 });
    }
}

/// Eight threads add to one row by its version, beside flushes and merges: no addition is lost, none is made twice.
#[test]
fn eight_writers_count_by_version_and_lose_nothing() {
    const EACH: i64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    rows.upsert("counter", &[0.0], json!({ "n": 0 })).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let flusher = {
        let (db, done) = (db.clone(), Arc::clone(&done));
        spawn(move || {
            let mut flushes = 0;
            while !done.load(Ordering::SeqCst) {
                db.flush().unwrap();
                flushes += 1;
                if flushes % 4 == 0 {
                    db.compact().unwrap();
                }
            }
            flushes
        })
    };
    let count = |rows: Collection| {
        move || {
            let mut refused = 0;
            for _ in 0..EACH {
                loop {
                    let there = rows.get("counter").unwrap().unwrap();
                    let n = there.payload["n"].as_i64().unwrap() + 1;
                    match rows.upsert_if(
                        "counter",
                        &[n as f32],
                        json!({ "n": n }),
                        Expect::Version(there.lsn),
                    ) {
                        Ok(_) => break,
                        Err(error) => {
                            assert_eq!(error.code(), "AKI-0216", "{error}");
                            // Reads see what the demand failed on.
                            let now = rows.get("counter").unwrap().unwrap().lsn;
                            assert!(Some(now) >= error.version_found(), "{now}, {error}");
                            refused += 1;
                        }
                    }
                }
            }
            refused
        }
    };
    let writers: Vec<_> = (0..8).map(|_| spawn(count(rows.clone()))).collect();
    let refused: u32 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    done.store(true, Ordering::SeqCst);
    println!("{refused} refused, {} flushes", flusher.join().unwrap());
    assert_eq!(number(&rows, "counter"), Some(8 * EACH));
    db.close().unwrap();
    let rows = Db::open(dir.path()).unwrap().collection("rows").unwrap();
    assert_eq!((number(&rows, "counter"), rows.count().unwrap()), (Some(8 * EACH), 1));
}

#[test]
fn a_payload_is_patched_and_its_vector_kept() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2).int("n").text("lang")).unwrap();
    rows.upsert("a", &[0.25, 4.0], json!({"n": 1, "lang": "en", "x": {"p": 1, "q": 2}})).unwrap();
    let now = || {
        let row = rows.get("a").unwrap().unwrap();
        assert_eq!(row.vector, [0.25, 4.0]);
        (row.lsn, Value::Object(row.payload))
    };
    let lsn = rows.update_payload("a", json!({"n": 2, "lang": null, "x": {"p": null, "r": 3}})).unwrap();
    assert_eq!(now(), (lsn, json!({"n": 2, "x": {"q": 2, "r": 3}})));
    db.flush().unwrap();
    let lsn = rows.update_payload("a", json!({"lang": "de"})).unwrap();
    assert_eq!(now(), (lsn, json!({"n": 2, "lang": "de", "x": {"q": 2, "r": 3}})));
    assert_eq!(rows.count_where("lang = 'de' and n = 2").unwrap(), 1);
    let lsn = rows.replace_payload("a", json!({"n": 5})).unwrap();
    assert_eq!(now(), (lsn, json!({"n": 5})));

    let wrong = rows.update_payload("a", json!({"n": "five"})).unwrap_err();
    assert_eq!((wrong.kind(), wrong.code()), (ErrorKind::Invalid, "AKI-0124"));
    assert_eq!(rows.update_payload("a", json!([1])).unwrap_err().code(), "AKI-0212");
    for absent in ["b", "a"] {
        let error = rows
            .update_payload(absent, json!({}))
            .and_then(|_| rows.delete("a"))
            .and_then(|_| rows.replace_payload("a", json!({})));
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "AKI-0217"), "{absent}: {error}");
    }
}

/// Each writer sets keys of its own in one row, beside flushes; all of them are there in the end.
#[test]
fn patches_of_one_row_by_many_writers_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    rows.upsert("a", &[1.0], json!({ "n": 0 })).unwrap();
    let patch = |rows: Collection, t: u32| {
        move || {
            for n in 0..30 {
                let mut patch = serde_json::Map::new();
                patch.insert(format!("{t}-{n}"), json!(n));
                rows.update_payload("a", patch).unwrap();
            }
        }
    };
    let writers: Vec<_> = (0..8).map(|t| spawn(patch(rows.clone(), t))).collect();
    while writers.iter().any(|writer| !writer.is_finished()) {
        db.flush().unwrap();
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(rows.get("a").unwrap().unwrap().payload.len(), 1 + 8 * 30);
}

fn fill(rows: &Collection, ids: std::ops::Range<i64>) {
    let all: Vec<NewRow> = ids.map(|n| row(&format!("r{n:05}"), n % 10)).collect();
    rows.upsert_batch(&all).unwrap();
}

#[test]
fn rows_are_deleted_by_filter_wherever_they_are_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    fill(&rows, 0..9_000);
    db.flush().unwrap();
    fill(&rows, 6_000..12_000);
    let appended = || db.stats().unwrap().watermarks.appended.parse::<Lsn>().unwrap();
    assert!(rows.delete("r00001").unwrap());
    assert_eq!(rows.delete_where("n = 77").unwrap(), 0);
    assert_eq!(rows.delete_where("nn = 7").unwrap_err().kind(), ErrorKind::Invalid);
    let before = appended();
    // 6,000 rows, one of which is gone: two frames.
    assert_eq!(rows.delete_where("n < 5").unwrap(), 5_999);
    assert_eq!(appended().counter() - before.counter(), 5_999, "a delete was logged twice or for nothing");
    assert_eq!((rows.count_where("n < 5").unwrap(), rows.count().unwrap()), (0, 6_000));
    assert_eq!(rows.delete_where("n < 5").unwrap(), 0);
    db.close().unwrap();
    let rows = Db::open(dir.path()).unwrap().collection("rows").unwrap();
    assert_eq!((rows.count_where("n < 5").unwrap(), rows.count().unwrap()), (0, 6_000));
    assert_eq!(rows.delete_where("n >= 5").unwrap(), 6_000);
}

/// Rows that other writers replace while a delete runs, so that they no longer match, are all there afterwards.
#[test]
fn a_delete_by_filter_spares_rows_replaced_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    let (mut spared, mut all) = (0, 0);
    for round in 0..6 {
        fill(&rows, 0..10_000);
        if round % 2 == 0 {
            db.flush().unwrap();
        }
        let writer = {
            let rows = rows.clone();
            spawn(move || {
                let save = |n: i64| {
                    let id = format!("r{n:05}");
                    // Only a row that is still there is saved.
                    let there = rows.get(id.as_str()).unwrap()?;
                    let saved = rows.upsert_if(id, &[1.0], json!({ "n": 100 }), Expect::Version(there.lsn));
                    saved.ok().map(|_| n)
                };
                (0..10_000).rev().step_by(331).filter_map(save).collect::<BTreeSet<_>>()
            })
        };
        let deleted = rows.delete_where("n < 10").unwrap();
        let saved = writer.join().unwrap();
        assert_eq!(deleted + saved.len() as u64, 10_000, "round {round}");
        assert_eq!(rows.count().unwrap(), saved.len() as u64);
        assert_eq!(rows.delete_where("n = 100").unwrap(), saved.len() as u64);
        spared += saved.len();
        all += deleted;
    }
    println!("{spared} rows spared, {all} deleted");
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

#[test]
fn a_snapshot_takes_none_of_these_writes() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    let version = rows.upsert("a", &[1.0], json!({ "n": 1 })).unwrap();
    let then = db.snapshot("test").unwrap().collection("rows").unwrap();
    let refused = [
        then.upsert_if("a", &[2.0], json!({}), Expect::Version(version)).unwrap_err(),
        then.delete_if("a", version).unwrap_err(),
        then.update_payload("a", json!({ "n": 2 })).unwrap_err(),
        then.replace_payload("a", json!({})).unwrap_err(),
        then.delete_where("n = 1").unwrap_err(),
        then.delete_where("n = 7").unwrap_err(),
        then.add_field("new", FieldType::Int).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(
            (error.kind(), error.code(), error.fate()),
            (ErrorKind::Invalid, "AKI-0267", Fate::NotWritten)
        );
    }
    assert_eq!((number(&rows, "a"), rows.schema().unwrap()), (Some(1), schema()));
}
