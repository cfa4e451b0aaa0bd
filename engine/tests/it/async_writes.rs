//! Reads, conditional writes and batches, awaited: the same answers as their blocking twins, and no file read nor sync waited for on the
//! caller's thread.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use akidb::{Batch, Collection, Db, ErrorKind, Expect, Id, Metric, NewRow, Schema, Settings};
use akidb_host::sim::{Act, Call, HookFs, Op};
use akidb_host::{RealClock, RealFs, RealSpawn};
use serde_json::json;

use crate::arrow_and_async::block_on_all;

/// The one answer of a future.
fn now<T>(future: impl Future<Output = T>) -> T {
    let future: Pin<Box<dyn Future<Output = T> + '_>> = Box::pin(future);
    block_on_all(vec![future]).pop().unwrap()
}

/// A database whose reads of segments and syncs of the log, on the thread that opened it, are counted.
fn open(dir: &std::path::Path) -> (Db, Collection, Arc<AtomicUsize>) {
    let (caller, on_caller) = (std::thread::current().id(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&on_caller);
    let hook = move |call: &Call<'_>| {
        let blocks = matches!(call.op, Op::ReadAt | Op::SyncData);
        if blocks && std::thread::current().id() == caller {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Act::Go
    };
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
    let builder = Db::builder(dir).settings(settings);
    let db = builder.components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2).int("n")).unwrap();
    (db, rows, on_caller)
}

#[test]
fn rows_in_segments_are_read_and_changed_off_the_callers_thread() {
    let dir = tempfile::tempdir().unwrap();
    let (db, rows, on_caller) = open(dir.path());
    for n in 0..20 {
        rows.upsert(format!("r{n:02}"), &[1.0, n as f32], json!({ "n": n, "kept": true })).unwrap();
    }
    db.flush().unwrap();
    let before = on_caller.load(Ordering::SeqCst);

    let row = now(rows.get_async("r03")).unwrap().unwrap();
    assert_eq!((row.vector, &row.payload["n"]), (vec![1.0, 3.0], &json!(3)));
    assert_eq!(now(rows.get_async("none")).unwrap(), None);
    let many = now(rows.get_many_async(vec!["r01".into(), "none".into(), "r02".into()])).unwrap();
    assert_eq!(many.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);

    let version =
        now(rows.upsert_if_async("r03", vec![2.0, 2.0], json!({}), Expect::Version(row.lsn))).unwrap();
    let late = now(rows.upsert_if_async("r03", vec![9.0, 9.0], json!({}), Expect::Version(row.lsn)));
    let late = late.unwrap_err();
    assert_eq!((late.kind(), late.version_found()), (ErrorKind::Conflict, Some(version)));
    let there = now(rows.upsert_if_async("r04", vec![9.0, 9.0], json!({}), Expect::Absent));
    assert_eq!(there.unwrap_err().kind(), ErrorKind::Conflict);
    now(rows.upsert_if_async("new", vec![9.0, 9.0], json!({}), Expect::Absent)).unwrap();
    now(rows.update_payload_async("r05", json!({ "n": 50 }))).unwrap();
    let replaced = now(rows.replace_payload_async("r06", json!({ "n": 60 }))).unwrap();
    assert_eq!(now(rows.update_payload_async("gone", json!({}))).unwrap_err().kind(), ErrorKind::NotFound);
    let stale = now(rows.delete_if_async("r03", row.lsn)).unwrap_err();
    assert_eq!(stale.version_found(), Some(version));
    now(rows.delete_if_async("r03", version)).unwrap();
    let mut batch = Batch::new();
    batch.upsert("rows", NewRow::new("b", vec![3.0, 3.0], json!({ "n": 7 })).unwrap());
    batch.delete("rows", "r07");
    let last = now(db.write_async(batch)).unwrap();
    assert!(last > replaced);
    assert_eq!(on_caller.load(Ordering::SeqCst), before, "this thread waited for the disk");

    let check = |rows: &Collection| {
        let payload = |id: &str| rows.get(id).unwrap().map(|row| row.payload);
        assert_eq!(payload("r03"), None);
        assert_eq!(payload("r05").unwrap()["kept"], json!(true), "merged");
        assert_eq!(payload("r05").unwrap()["n"], json!(50));
        assert_eq!(payload("r06").unwrap().get("kept"), None, "replaced");
        assert_eq!((payload("r07"), payload("b").unwrap()["n"].clone()), (None, json!(7)));
        assert_eq!(rows.get("r05").unwrap().unwrap().vector, [1.0, 5.0]);
        assert_eq!(rows.count().unwrap(), 20);
    };
    check(&rows);
    db.close().unwrap();
    drop(rows);
    check(&Db::open(dir.path()).unwrap().collection("rows").unwrap());
}

#[test]
fn of_many_that_saw_one_version_one_writes_and_no_change_of_a_payload_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (db, rows, _) = open(dir.path());
    let seen = rows.upsert("one", &[0.0, 0.0], json!({ "n": 0 })).unwrap();
    let boxed = |n: u16| -> Pin<Box<dyn Future<Output = akidb::Result<akidb::Lsn>> + '_>> {
        let vector = vec![f32::from(n), 0.0];
        Box::pin(rows.upsert_if_async("one", vector, json!({ "n": n }), Expect::Version(seen)))
    };
    let answers = block_on_all((1..=40).map(boxed).collect());
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.iter().flatten().all(|lsn| *lsn > seen));

    let patch = |n: u16| -> Pin<Box<dyn Future<Output = akidb::Result<akidb::Lsn>> + '_>> {
        Box::pin(rows.update_payload_async("one", json!({ format!("k{n}"): n })))
    };
    assert!(block_on_all((0..40).map(patch).collect()).iter().all(Result::is_ok));
    let row = rows.get("one").unwrap().unwrap();
    assert!((0..40).all(|n| row.payload[&format!("k{n}")] == json!(n)), "{:?}", row.payload);
    // Never polled: never written.
    drop(rows.delete_if_async("one", row.lsn));
    drop(db.write_async(Batch::new()));
    assert_eq!(rows.get(Id::from("one")).unwrap().unwrap().lsn, row.lsn);
    assert_eq!(now(db.write_async(Batch::new())).unwrap_err().kind(), ErrorKind::Invalid);
    db.close().unwrap();
    assert_eq!(now(rows.get_async("one")).unwrap_err().kind(), ErrorKind::Closed);
}
