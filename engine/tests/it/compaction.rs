//! Merges of segments: writes, deletes and flushes fall into every step of one, the power is cut in every step of one,
//! and the disk fails in every step of one. What is read is compared with a model, before and after a reopen.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akidb::{Collection, Db, ErrorKind, Metric, Schema, Settings};
use akidb_host::sim::{Act, Call, CrashDisk, EIO, ENOSPC, FakeClock, Gate, HookFs, Op};
use akidb_host::{Fs, RealClock, RealSpawn, Rng};
use serde_json::json;

use crate::support::{Watched, in_dir, until};

mod retried;

const DIM: u16 = 64;

/// Version of every live row.
type Model = BTreeMap<u64, u64>;

fn id(n: u64) -> String {
    format!("r{n:04}")
}

fn vector(n: u64, version: u64) -> Vec<f32> {
    let mut rng = Rng::seeded(n << 32 | version);
    (0..DIM).map(|_| rng.f64() as f32 - 0.5).collect()
}

fn settings() -> Settings {
    // What is merged, and when, is for the test to say.
    Settings::from_toml("[engine]\ncompaction = false\n").unwrap()
}

fn open(fs: Arc<dyn Fs>) -> Db {
    let builder = Db::builder("/db").settings(settings());
    builder.components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open().unwrap()
}

fn put(rows: &Collection, model: &mut Model, n: u64, version: u64) {
    rows.upsert(id(n), &vector(n, version), json!({ "version": version, "rest": { "n": n } })).unwrap();
    model.insert(n, version);
}

fn delete(rows: &Collection, model: &mut Model, n: u64) {
    assert_eq!(rows.delete(id(n)).unwrap(), model.remove(&n).is_some());
}

/// Everything that can be read is what the model says.
fn assert_same(rows: &Collection, model: &Model, when: &str) {
    assert_eq!(rows.count().unwrap(), model.len() as u64, "{when}: count");
    let scanned: Vec<_> = rows.scan().limit(10_000).run().unwrap();
    let found: Model = scanned.iter().map(|row| number(&row.id, row.payload["version"].as_u64())).collect();
    assert_eq!(&found, model, "{when}: scan");
    for row in &scanned {
        let (n, version) = number(&row.id, row.payload["version"].as_u64());
        assert_eq!(row.vector, vector(n, version), "{when}: the vector of {n}");
        assert_eq!(row.payload["rest"]["n"], n, "{when}: the payload of {n}");
    }
    let sought: Vec<u64> = model.keys().copied().step_by(model.len() / 8 + 1).collect();
    for n in sought {
        let hits = rows.search(&vector(n, model[&n])).k(5).run().unwrap();
        assert_eq!(hits[0].id.to_string(), id(n), "{when}: the nearest to {n}");
        let old = format!("version < {}", model[&n]);
        let hits = rows.search(&vector(n, model[&n])).k(2_000).filter(old.as_str()).exact().run().unwrap();
        assert!(hits.iter().all(|hit| hit.id.to_string() != id(n)), "{when}: an older version of {n}");
        assert_eq!(hits.len(), model.values().filter(|v| **v < model[&n]).count(), "{when}: {old}");
        assert_eq!(rows.get(id(n)).unwrap().unwrap().payload["version"], model[&n], "{when}: get {n}");
    }
}

/// Segments of 100 rows each.
fn fill_segments(db: &Db, rows: &Collection, segments: u64) {
    for n in 0..segments {
        let row = |n| akidb::NewRow::new(id(n), vector(n, 1), json!({})).unwrap();
        rows.upsert_batch(&(n * 100..(n + 1) * 100).map(row).collect::<Vec<_>>()).unwrap();
        db.flush().unwrap();
    }
}

fn number(id: &akidb::Id, version: Option<u64>) -> (u64, u64) {
    (id.to_string()[1..].parse().unwrap(), version.unwrap())
}

/// Three segments with rows that later ones replaced, deletes in a deletion vector and in memory, and fresh rows.
fn fill(db: &Db) -> (Collection, Model) {
    let rows =
        db.create_collection("rows", Schema::new(DIM, Metric::L2).int("version").text("name")).unwrap();
    let mut model = Model::new();
    for version in 1..=3 {
        (0..70).for_each(|n| put(&rows, &mut model, n * version % 150, version));
        (0..8).for_each(|n| delete(&rows, &mut model, n * 7 * version % 150));
        db.flush().unwrap();
    }
    (20..26).for_each(|n| put(&rows, &mut model, n, 4));
    (40..44).for_each(|n| delete(&rows, &mut model, n));
    (rows, model)
}

/// How many calls a merge makes.
fn calls_of_a_merge() -> u64 {
    let world = Watched::new(1);
    let db = open(Arc::clone(&world.fs));
    let (rows, model) = fill(&db);
    assert_eq!(db.stats().unwrap().collections[0].segments, 3);
    world.watch(|_| Act::Go);
    assert_eq!(db.compact().unwrap(), 1);
    let stats = db.stats().unwrap();
    assert_eq!(stats.collections[0].segments, 1);
    assert_eq!((stats.compaction.runs, stats.compaction.segments_merged), (1, 3));
    assert_same(&rows, &model, "after the merge");
    world.calls.load(Ordering::SeqCst)
}

/// Whether a flush may begin in this call: the merge does not hold what a flush needs before its file has its name.
fn may_flush(call: &Call<'_>) -> bool {
    in_dir(call.path, "collections") && !in_dir(call.path, "dv") && !matches!(call.op, Op::SyncDir)
}

#[test]
fn writes_and_flushes_fall_into_every_step_of_a_merge() {
    let calls = calls_of_a_merge();
    println!("a merge makes {calls} changing calls");
    for at in 1..=calls {
        let world = Watched::new(at);
        let db = open(Arc::clone(&world.fs));
        let (rows, model) = fill(&db);
        let model = Arc::new(Mutex::new(model));
        let (writer, written, flusher) = (rows.clone(), Arc::clone(&model), db.clone());
        let busy = Mutex::new(false);
        world.watch(move |call| {
            // The calls of the flush below come here as well.
            let is_outer = call.n == at && !std::mem::replace(&mut *busy.lock().unwrap(), true);
            if is_outer {
                let mut model = written.lock().unwrap();
                (0..150).step_by(4).for_each(|n| put(&writer, &mut model, n, 5));
                (1..150).step_by(5).for_each(|n| delete(&writer, &mut model, n));
                (200..210).for_each(|n| put(&writer, &mut model, n, 5));
                if may_flush(call) {
                    flusher.flush().unwrap();
                    (2..150).step_by(6).for_each(|n| put(&writer, &mut model, n, 6));
                    (200..205).for_each(|n| delete(&writer, &mut model, n));
                }
            }
            Act::Go
        });
        assert!(db.compact().unwrap() >= 1);
        let when = format!("writes in call {at}");
        let model = model.lock().unwrap();
        assert_same(&rows, &model, &when);
        drop(rows);
        db.close().unwrap();
        let db = open(Arc::new(world.disk.kill()));
        let rows = db.collection("rows").unwrap();
        assert_same(&rows, &model, &format!("{when}, reopened"));
        db.flush().unwrap();
        db.compact().unwrap();
        assert_same(&rows, &model, &format!("{when}, reopened, flushed and merged"));
        assert_eq!(db.stats().unwrap().collections[0].dead_rows, 0, "{when}");
    }
}

#[test]
fn a_power_cut_in_any_step_of_a_merge_loses_and_revives_nothing() {
    let seed = std::env::var("AKIDB_COMPACTION_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(11);
    println!("AKIDB_COMPACTION_SEED={seed}");
    let world = Watched::new(seed);
    let db = open(Arc::clone(&world.fs));
    let (rows, model) = fill(&db);
    let cuts: Arc<Mutex<Vec<(String, CrashDisk)>>> = Arc::default();
    let (taken, disk, rng) = (Arc::clone(&cuts), world.disk.clone(), Mutex::new(Rng::seeded(seed)));
    world.watch(move |call| {
        let mut rng = rng.lock().unwrap();
        let name = format!("{:?} {}", call.op, call.path.display());
        let mut taken = taken.lock().unwrap();
        (0..3).for_each(|_| taken.push((format!("a cut before {name}"), disk.power_cut(&mut rng))));
        taken.push((format!("a kill before {name}"), disk.kill()));
        Act::Go
    });
    db.compact().unwrap();
    drop((rows, db));
    let mut cuts = cuts.lock().unwrap();
    cuts.push(("a kill at the end".into(), world.disk.kill()));
    println!("{} disks", cuts.len());
    for (when, disk) in cuts.drain(..) {
        let db = open(Arc::new(disk.clone()));
        let rows = db.collection("rows").unwrap();
        assert_same(&rows, &model, &when);
        db.compact().unwrap();
        assert_same(&rows, &model, &format!("{when}, merged again"));
        // The three that old manifests name, what they became, and what that became now. What the crash left goes behind the open.
        println!("{when}");
        until(|| segment_files(&disk) <= 5);
    }
}

/// Segment files that lie in the collections' directories, temporary ones included.
fn segment_files(disk: &CrashDisk) -> usize {
    let root = Path::new("/db/collections");
    let dirs = disk.list(root).unwrap();
    let names = dirs.iter().flat_map(|dir| disk.list(&root.join(&dir.name)).unwrap());
    names.filter(|entry| entry.name.contains(".parquet")).count()
}

#[test]
fn a_failing_disk_fails_the_merge_and_nothing_else() {
    let calls = calls_of_a_merge();
    for errno in [EIO, ENOSPC] {
        for at in 1..=calls {
            let world = Watched::new(at);
            let db = open(Arc::clone(&world.fs));
            let (rows, mut model) = fill(&db);
            world.watch(move |call| if call.n == at { Act::Fail(errno) } else { Act::Go });
            let when = format!("errno {errno} in call {at}");
            match db.compact() {
                // Some failures only leave a file for later, others are tried again under another name.
                Ok(_) => {}
                Err(error) => {
                    let kinds = [ErrorKind::NoSpace, ErrorKind::Unavailable, ErrorKind::Poisoned];
                    assert!(kinds.contains(&error.kind()), "{when}: {error}");
                    assert!(error.file().is_some(), "{when}: {error}");
                    let noted = db.stats().unwrap().compaction.failure;
                    assert_eq!(noted, Some(error.to_string()), "{when}");
                }
            }
            assert_same(&rows, &model, &when);
            put(&rows, &mut model, 77, 9);
            let poisoned = db.stats().unwrap().poisoned.is_some();
            if !poisoned {
                db.flush().unwrap();
                db.compact().unwrap();
                assert_eq!(db.stats().unwrap().collections[0].segments, 1, "{when}");
            }
            assert_same(&rows, &model, &format!("{when}, later"));
            drop(rows);
            db.close().unwrap();
            let db = open(Arc::new(world.disk.kill()));
            assert_same(&db.collection("rows").unwrap(), &model, &format!("{when}, reopened"));
        }
    }
}

#[test]
fn the_files_of_a_merge_under_way_are_not_taken_for_leftovers() {
    let calls = calls_of_a_merge();
    let mut collected = 0;
    for at in 1..=calls {
        let world = Watched::new(at);
        let clock = Arc::new(FakeClock::default());
        let settings = Settings::from_toml("[engine]\ncompaction = false\nmanifest_keep = 1\n").unwrap();
        let builder = Db::builder("/db").settings(settings);
        let db = builder
            .components(Arc::clone(&world.fs), Arc::clone(&clock) as _, Arc::new(RealSpawn))
            .open()
            .unwrap();
        let (rows, mut model) = fill(&db);
        let (disk, looked) = (world.disk.clone(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&looked);
        let (writer, flusher) = (rows.clone(), db.clone());
        world.watch(move |call| {
            if call.n == at && may_flush(call) {
                // Whatever only old manifests named goes now, and what none names: this file last, by its name.
                let home = disk.list(Path::new("/db/collections")).unwrap().remove(0).name;
                let last = Path::new("/db/collections").join(home).join("99999999-00000001-aaaaaaaa.parquet");
                disk.create_new(&last).unwrap();
                // With a manifest to remove, however early the last look was.
                writer.upsert(id(0), &vector(0, 7), json!({ "version": 7, "rest": { "n": 0 } })).unwrap();
                flusher.flush().unwrap();
                while disk.metadata(&last).is_ok() {
                    clock.advance(Duration::from_secs(1));
                    std::thread::yield_now();
                }
                counted.fetch_add(1, Ordering::SeqCst);
            }
            Act::Go
        });
        assert!(db.compact().unwrap() >= 1);
        let looked = looked.load(Ordering::SeqCst);
        collected += looked;
        if looked > 0 {
            model.insert(0, 7);
        }
        assert_same(&rows, &model, &format!("gc in call {at}"));
        put(&rows, &mut model, 3, 7);
        drop(rows);
        db.close().unwrap();
        let db = open(Arc::new(world.disk.kill()));
        assert_same(&db.collection("rows").unwrap(), &model, &format!("gc in call {at}, reopened"));
    }
    assert!(collected > 4, "gc ran in {collected} calls of a merge only");
}

#[test]
fn writers_wait_while_many_small_segments_are_being_merged_and_never_without_a_merge() {
    let compactor = |name: &str| name == "akidb-compactor";
    let gate =
        Gate::new(move |call| call.op == Op::WriteAt && std::thread::current().name().is_some_and(compactor));
    let fs = Arc::new(HookFs::new(Arc::new(CrashDisk::new(1)), gate.hook()));
    let text = "[engine]\nmax_small_segments = 8\nwrite_stall_timeout_ms = 20\n";
    let builder = Db::builder("/db").settings(Settings::from_toml(text).unwrap());
    let db = builder.components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(DIM, Metric::L2).int("version")).unwrap();
    let mut model = Model::new();
    for n in 0..4 {
        put(&rows, &mut model, n, 1);
        db.flush().unwrap();
    }
    gate.wait_until_held();
    let mut n = 4;
    let refused = loop {
        match rows.upsert(id(n), &vector(n, 1), json!({ "version": 1, "rest": { "n": n } })) {
            Ok(_) => assert_eq!(model.insert(n, 1), None),
            Err(error) => break error,
        }
        db.flush().unwrap();
        n += 1;
        assert!(n < 100, "segments pile up");
    };
    assert_eq!(n, 13, "four are merged, and the ninth beside them is one too many");
    assert!(matches!(refused.kind(), ErrorKind::Full { which: "max_small_segments", .. }), "{refused}");
    assert!(db.stats().unwrap().held_back_by.unwrap().contains("max_small_segments"));
    gate.release();
    // As somebody does who is told to try later.
    while rows.upsert(id(n), &vector(n, 1), json!({ "version": 1, "rest": { "n": n } })).is_err() {}
    model.insert(n, 1);
    assert_same(&rows, &model, "after the wait");
    drop(rows);
    db.close().unwrap();
}

#[test]
fn a_merge_leaves_the_disk_as_much_room_as_is_kept_and_waits_for_more() {
    let disk = CrashDisk::new(1);
    let text = "[engine]\ncompaction = false\nmin_free_disk_bytes = 1048576\n";
    let builder = Db::builder("/db").settings(Settings::from_toml(text).unwrap());
    let fs = Arc::new(disk.clone());
    let db = builder.components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open().unwrap();
    let (rows, mut model) = fill(&db);
    disk.set_free_bytes(Some((1 << 20) + 4_096));
    let error = db.compact().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::NoSpace, "AKI-0268"), "{error}");
    assert_eq!(db.stats().unwrap().compaction.failure, Some(error.to_string()));
    assert_same(&rows, &model, "without room for a merge");
    disk.set_free_bytes(None);
    put(&rows, &mut model, 9, 9);
    assert_eq!(db.compact().unwrap(), 1);
    assert_eq!(db.stats().unwrap().compaction.failure, None);
    assert_same(&rows, &model, "with room");
}
