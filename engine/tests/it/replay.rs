//! A log of several pieces, replayed by two threads, or by one, with flushes in the middle of it: every row, every delete and every key.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use akidb::{Batch, Collection, Db, Id, Metric, NewRow, Schema, Settings};
use akidb_host::sim::{Act, Call, ENOSPC, FakeClock, InlineSpawn, Op};
use akidb_host::{Clock, RealClock, RealFs, RealSpawn, Rng, Spawn};
use serde_json::json;

use crate::support::{copy_dir, hooked, in_dir};

const DIM: u16 = 96;
const COLLECTIONS: [&str; 2] = ["ints", "texts"];
const IDS: u64 = 9_000;

/// By collection and id: the version that was written last.
type Truth = BTreeMap<(usize, u64), u64>;

fn settings(text: &str) -> Settings {
    Settings::from_toml(&format!("[engine]\ncompaction = false\n{text}")).unwrap()
}

fn id(collection: usize, n: u64) -> Id {
    match collection {
        0 => i64::try_from(n).unwrap().into(),
        _ => format!("row-{n:05}").into(),
    }
}

fn row(collection: usize, n: u64, version: u64) -> NewRow {
    let vector: Vec<f32> = (0..DIM).map(|i| n as f32 + f32::from(i) + version as f32 * 0.5).collect();
    NewRow::new(id(collection, n), vector, json!({ "version": version, "text": "x".repeat(100) })).unwrap()
}

/// Two segments each, then 15 MB of log over them: batches of ten over both collections, some with a key, and deletes.
fn written(dir: &Path, seed: u64) -> (Truth, Vec<(u64, Batch)>) {
    let db = Db::builder(dir).settings(settings("memtable_bytes = \"64 MiB\"\n")).open().unwrap();
    let int_ids = Schema::new(DIM, Metric::L2).int("version").int_ids();
    db.create_collection("ints", int_ids).unwrap();
    db.create_collection("texts", Schema::new(DIM, Metric::L2).int("version")).unwrap();
    let (mut truth, mut keyed, mut rng) = (Truth::new(), Vec::new(), Rng::seeded(seed));
    for version in 0..3_200u64 {
        let mut batch = Batch::new();
        for n in 0..10 {
            let (collection, n) = (n % 2, rng.below(IDS));
            if rng.below(8) == 0 {
                batch.delete(COLLECTIONS[collection], id(collection, n));
                truth.remove(&(collection, n));
            } else {
                batch.upsert(COLLECTIONS[collection], row(collection, n, version));
                truth.insert((collection, n), version);
            }
        }
        if version % 400 == 399 {
            batch.idempotency_key(format!("key {version}"));
            keyed.push((version, batch.clone()));
        }
        db.write(&batch).unwrap();
        if version == 300 || version == 600 {
            db.flush().unwrap();
        }
    }
    (truth, keyed)
}

/// What a collection shows, by the numbers of its ids.
fn shown(db: &Db) -> Truth {
    let mut truth = Truth::new();
    for (at, name) in COLLECTIONS.iter().enumerate() {
        let rows: Collection = db.collection(name).unwrap();
        let all = rows.scan().limit(100_000).run().unwrap();
        assert_eq!(all.len() as u64, rows.count().unwrap());
        for stored in all {
            let n = match &stored.id {
                Id::Int(n) => u64::try_from(*n).unwrap(),
                Id::Text(text) => text["row-".len()..].parse().unwrap(),
            };
            let version = stored.payload["version"].as_u64().unwrap();
            assert_eq!(stored.vector, row(at, n, version).vector);
            assert_eq!(truth.insert((at, n), version), None, "{name}: {n} twice");
        }
    }
    truth
}

#[test]
fn a_long_log_comes_back_row_by_row_whoever_applies_it_and_whatever_is_flushed_meanwhile() {
    let seed = 20_261_127;
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let (truth, keyed) = written(&dir.path().join("db"), seed);
    // Room for everything; full memtables that wait; and a budget that makes the open flush as it goes.
    let bounds = [
        "",
        "memtable_bytes = \"1 MiB\"\nmax_sealed_memtables = 64\n",
        "memtable_bytes = \"1 MiB\"\nmemory_bytes = \"8 MiB\"\n",
    ];
    for (n, bounds) in bounds.iter().enumerate() {
        let spawns: [Arc<dyn Spawn>; 2] = [Arc::new(RealSpawn), Arc::new(InlineSpawn::default())];
        for (m, spawn) in spawns.into_iter().enumerate() {
            let copy = dir.path().join(format!("{n}-{m}"));
            copy_dir(&dir.path().join("db"), &copy);
            let open = |read_only| {
                let builder = Db::builder(&copy).settings(settings(bounds)).read_only(read_only);
                let parts = (Arc::new(RealFs), Arc::new(RealClock), Arc::clone(&spawn));
                builder.components(parts.0, parts.1, parts.2).open().unwrap()
            };
            let reader = open(true);
            assert!(shown(&reader) == truth, "{bounds}: read only");
            drop(reader);
            let before = files(&copy);
            let db = open(false);
            assert!(db.recovery().replayed_records > 20_000, "{:?}", db.recovery());
            assert!(shown(&db) == truth, "{bounds}: {spawn:?}");
            if n == 2 {
                assert!(files(&copy) > before, "flushed while it was opened");
            }
            for (version, batch) in keyed.iter().filter(|(version, _)| *version > 600) {
                assert!(db.submit(batch).unwrap().is_repeat(), "{bounds}: key {version}");
            }
            assert!(shown(&db) == truth, "{bounds}: a batch was written twice");
            drop(db);
        }
    }
}

/// More than memory has room for, and no room on the disk: what a running database bears, its open does.
#[test]
fn a_flush_that_fails_while_the_log_is_replayed_does_not_keep_the_database_shut() {
    let seed = 20_261_128;
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let (db, full) = (dir.path().join("db"), Arc::new(AtomicBool::new(true)));
    let (truth, _) = written(&db, seed);
    let tight = "memtable_bytes = \"1 MiB\"\nmemory_bytes = \"8 MiB\"\n";
    let is_full = Arc::clone(&full);
    let hook = move |call: &Call<'_>| match is_full.load(Ordering::SeqCst) && in_dir(call.path, "1-ints") {
        true if call.op == Op::CreateNew => Act::Fail(ENOSPC),
        _ => Act::Go,
    };
    let before = files(&db);
    let db = hooked(&db, Arc::new(hook), settings(tight));
    assert!(db.recovery().replayed_records > 20_000, "{:?}", db.recovery());
    assert!(files(&dir.path().join("db")) > before, "the other collection was flushed as it went");
    assert!(shown(&db) == truth);
    full.store(false, Ordering::SeqCst);
    db.flush().unwrap();
    assert!(shown(&db) == truth);
    db.close().unwrap();
}

/// How many segments the directory has.
fn files(dir: &Path) -> usize {
    let collections = std::fs::read_dir(dir.join("collections")).unwrap().map(|entry| entry.unwrap().path());
    let inside = collections.flat_map(|path| std::fs::read_dir(path).unwrap());
    inside.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "parquet")).count()
}

/// A clock on which each look takes a second.
#[derive(Debug)]
struct Ticking(FakeClock);

impl Clock for Ticking {
    fn now(&self) -> Instant {
        self.0.advance(Duration::from_secs(1));
        self.0.now()
    }

    fn unix_micros(&self) -> i64 {
        self.0.unix_micros()
    }
}

#[test]
fn an_open_for_reading_tells_where_its_time_went_too() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    db.close().unwrap();
    let clock = Arc::new(Ticking(FakeClock::default()));
    let builder = Db::builder(dir.path()).read_only(true);
    let db = builder.components(Arc::new(RealFs), clock, Arc::new(RealSpawn)).open().unwrap();
    let took = db.recovery().took;
    assert!(took.segments_ms >= 1e3 && took.log_ms >= 1e3 && took.replay_ms >= 1e3, "{took:?}");
    // It commits and removes nothing.
    assert_eq!((took.manifest_ms, took.removal_ms), (0.0, 0.0));
}
