//! Writes that demand a version.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use akidb::{Batch, Collection, Db, ErrorKind, Expect, Fate, Lsn, Settings};
use akidb_host::sim::{Call, Gate, Op};
use serde_json::json;

use super::{is_log_sync, number, row, schema, spawn};
use crate::support::{hooked, in_dir};

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
