//! Snapshots: one moment, read as often as one likes, whatever happens to the database meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use akidb::{Collection, Db, ErrorKind, Metric, NewRow, Schema, Settings, StoredRow};
use akidb_host::sim::{FakeClock, Gate, HookFs, Op};
use akidb_host::{RealClock, RealFs, RealSpawn, Rng};
use serde_json::json;

use crate::support::in_dir;

const DIM: usize = 64;
const IDS: u64 = 20_000;

fn vector(seed: u64) -> Vec<f32> {
    let mut rng = Rng::seeded(seed);
    (0..DIM).map(|_| rng.f64() as f32 - 0.5).collect()
}

fn row(n: u64, version: u64) -> NewRow {
    NewRow::new(format!("r{n:05}"), vector(n << 24 | version), json!({ "version": version })).unwrap()
}

fn schema() -> Schema {
    Schema::new(DIM as u16, Metric::Cosine).int("version")
}

/// Everything a reader can ask, as bytes.
fn answers(rows: &Collection, query: u64) -> String {
    let q = vector(query ^ 0xabcd_ef01);
    let hits = rows.search(&q).k(10).run().unwrap();
    let exact = rows.search(&q).k(10).exact().filter("version < 3").run().unwrap();
    let page: Vec<StoredRow> = rows.scan().after(format!("r{:05}", query % IDS)).limit(5).run().unwrap();
    let got = rows.get(format!("r{:05}", query * 7 % IDS)).unwrap();
    format!(
        "{hits:?}{exact:?}{page:?}{got:?}{}{}",
        rows.count().unwrap(),
        rows.count_where("version = 2").unwrap()
    )
}

/// Test 3 of the design's list.
#[test]
fn a_snapshot_gives_equal_bytes_while_rows_are_written_flushed_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::from_toml("[engine]\nmemtable_bytes = 4194304\n").unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    for version in 1..=2 {
        for first in (0..IDS / version).step_by(500) {
            let batch: Vec<NewRow> = (first..first + 500).map(|n| row(n, version)).collect();
            rows.upsert_batch(&batch).unwrap();
        }
    }
    let fresh: Vec<NewRow> = (0..300).map(|n| row(n * 3, 3)).collect();
    rows.upsert_batch(&fresh).unwrap();
    (0..50).for_each(|n| assert!(rows.delete(format!("r{:05}", n * 11)).unwrap()));

    let snapshot = db.snapshot("the test").unwrap();
    let then = snapshot.collection("rows").unwrap();
    let first: Vec<String> = (0..20).map(|query| answers(&then, query)).collect();
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (rows, db, done) = (rows.clone(), db.clone(), Arc::clone(&done));
        let write = move || {
            let mut rng = Rng::seeded(5);
            for n in 0..1_000u64 {
                let batch: Vec<NewRow> = (0..100).map(|_| row(rng.below(IDS + 5_000), 10 + n)).collect();
                rows.upsert_batch(&batch).unwrap();
                let _ = rows.delete(format!("r{:05}", rng.below(IDS))).unwrap();
                if n % 90 == 89 {
                    db.flush().unwrap();
                }
            }
            db.compact().unwrap();
            done.store(true, Ordering::SeqCst);
        };
        std::thread::Builder::new().spawn(write).unwrap()
    };
    let mut asked = 0;
    while asked < 1_000 || !done.load(Ordering::SeqCst) {
        let query = asked % 20;
        assert!(answers(&then, query) == first[query as usize], "query {query} of {asked} answers otherwise");
        asked += 1;
    }
    writer.join().unwrap();
    let stats = db.stats().unwrap();
    println!("asked {asked} times; {:?}; {:?}", stats.compaction, stats.snapshots);
    assert!(stats.compaction.runs >= 3 && stats.compaction.failure.is_none());
    let held = &stats.snapshots[0];
    assert_eq!((held.holder.as_str(), held.lsn.as_str()), ("the test", snapshot.lsn().to_string().as_str()));
    assert!(held.segment_bytes > 0 && held.memtable_bytes > 0);
    assert_ne!(answers(&rows, 0), first[0]);
    assert_eq!(answers(&then, 3), first[3], "after all of it");
    drop((then, snapshot));
    assert!(db.stats().unwrap().snapshots.is_empty());
}

#[test]
fn a_search_that_is_held_up_stops_no_write_no_seal_and_no_merge() {
    let dir = tempfile::tempdir().unwrap();
    let held: Arc<Mutex<Option<ThreadId>>> = Arc::default();
    let is_held = Arc::clone(&held);
    let gate = Gate::new(move |call| {
        call.op == Op::ReadAt
            && in_dir(call.path, "collections")
            && *is_held.lock().unwrap() == Some(std::thread::current().id())
    });
    let fs = Arc::new(HookFs::new(Arc::new(RealFs), gate.hook()));
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let builder = Db::builder(dir.path()).settings(settings);
    let db = builder.components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open().unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    for version in 0..2 {
        rows.upsert_batch(&(0..600).map(|n| row(n + 300 * version, version)).collect::<Vec<_>>()).unwrap();
        db.flush().unwrap();
    }
    let before = rows.count().unwrap();
    let searcher = {
        let (rows, held) = (rows.clone(), Arc::clone(&held));
        let search = move || {
            *held.lock().unwrap() = Some(std::thread::current().id());
            rows.search(&vector(1)).k(2_000).exact().run().unwrap().len() as u64
        };
        std::thread::Builder::new().spawn(search).unwrap()
    };
    gate.wait_until_held();
    rows.upsert_batch(&(0..100).map(|n| row(n + 5_000, 9)).collect::<Vec<_>>()).unwrap();
    assert!(rows.delete("r00001").unwrap());
    db.flush().unwrap();
    assert_eq!(db.compact().unwrap(), 1);
    assert_eq!(rows.count().unwrap(), before + 99);
    gate.release();
    assert_eq!(searcher.join().unwrap(), before, "the search is of the moment it began");
}

#[test]
fn a_snapshot_is_read_only_outlives_a_drop_and_ends_with_its_age_or_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(FakeClock::default());
    let settings = Settings::from_toml("[engine]\nsnapshot_max_age_secs = 60\n").unwrap();
    let builder = Db::builder(dir.path()).settings(settings);
    let db =
        builder.components(Arc::new(RealFs), Arc::clone(&clock) as _, Arc::new(RealSpawn)).open().unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    rows.upsert("a", &vector(1), json!({ "version": 1 })).unwrap();
    assert_eq!(db.snapshot("").unwrap_err().code(), "AKI-0264");
    let snapshot = db.snapshot("report").unwrap();
    let then = snapshot.collection("rows").unwrap();
    let error = then.upsert("b", &vector(2), json!({})).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "AKI-0267"));
    assert_eq!(then.delete("a").unwrap_err().code(), "AKI-0267");
    rows.delete("a").unwrap();
    db.drop_collection("rows").unwrap();
    db.create_collection("other", schema()).unwrap();
    assert_eq!(rows.count().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!((then.count().unwrap(), snapshot.collections().unwrap()), (1, vec!["rows".to_owned()]));
    assert_eq!(snapshot.collection("other").unwrap_err().kind(), ErrorKind::NotFound);
    // One moment shared by two handles: the snapshot itself may go.
    drop(snapshot);
    assert_eq!(then.get("a").unwrap().unwrap().payload["version"], 1);
    clock.advance(std::time::Duration::from_secs(61));
    let error = loop {
        // The driver looks once a second of that clock.
        match then.count() {
            Err(error) => break error,
            Ok(_) => clock.advance(std::time::Duration::from_secs(1)),
        }
    };
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "AKI-0266"), "{error}");
    assert!(error.message().contains("report"), "{error}");
    let snapshot = db.snapshot("late").unwrap();
    let then = snapshot.collection("other").unwrap();
    db.close().unwrap();
    assert_eq!(then.count().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn snapshots_keep_a_share_of_the_memory_and_the_oldest_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(FakeClock::default());
    // However slow the driver is beside this clock, it is not their age that ends them.
    let text = "[engine]\nmemtable_bytes = 65536\nmemory_bytes = 1048576\nsnapshot_max_age_secs = 31622400\n";
    let settings = Settings::from_toml(text).unwrap();
    let builder = Db::builder(dir.path()).settings(settings);
    let db =
        builder.components(Arc::new(RealFs), Arc::clone(&clock) as _, Arc::new(RealSpawn)).open().unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    db.create_snapshot("named").unwrap();
    let of_manifests = [db.at_snapshot("named").unwrap(), db.as_of(akidb::Lsn::MAX).unwrap()];
    let mut held = Vec::new();
    // An eighth of the memory are two memtables of 64 KiB.
    for n in 0..8 {
        rows.upsert_batch(&(0..100).map(|id| row(id, n)).collect::<Vec<_>>()).unwrap();
        held.push(db.snapshot(&format!("reader {n}")).unwrap());
        db.flush().unwrap();
    }
    let error = loop {
        clock.advance(std::time::Duration::from_secs(1));
        match held[0].collections() {
            Err(error) => break error,
            Ok(_) => std::thread::yield_now(),
        }
    };
    assert_eq!(error.code(), "AKI-0266", "{error}");
    let kept = db.stats().unwrap().snapshots;
    assert!(!kept.is_empty() && kept.iter().map(|s| s.memtable_bytes).sum::<u64>() <= 131_072, "{kept:?}");
    // Older than all of them, and in memory for nobody.
    assert!(of_manifests.iter().all(|snapshot| snapshot.collections().is_ok()));
    let then = held[7].collection("rows").unwrap();
    assert_eq!(then.count_where("version = 7").unwrap(), 100, "the youngest stays");
}
