//! Batches with a key: sent again they are answered and not written again, whatever came in between.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use akidb::{
    BackendSettings, Batch, Db, Error, ErrorKind, Expect, Fate, FieldType, Lsn, Metric, NewRow, Schema,
    Settings, inspect, repair_wal_cut, restore,
};
use akidb_host::sim::{Act, Call, CrashDisk, FakeClock, Gate, HookFs, InlineSpawn};
use akidb_host::{Clock, Fs, Rng};
use serde_json::json;

use crate::arrow_and_async::block_on_all;
use crate::support::{hooked, syncs_log};

const LONG: Duration = Duration::from_secs(60);

fn row(id: &str, n: i64) -> NewRow {
    NewRow::new(id, [n as f32], json!({ "n": n })).unwrap()
}

fn schema() -> Schema {
    Schema::new(1, Metric::L2).int("n")
}

fn number(db: &Db, id: &str) -> Option<i64> {
    let row = db.collection("rows").unwrap().get(id).unwrap();
    row.map(|row| row.payload["n"].as_i64().unwrap())
}

/// `id` becomes `n`, under a key.
fn keyed(key: &str, id: &str, n: i64) -> Batch {
    let mut batch = Batch::new();
    batch.upsert("rows", row(id, n)).delete("rows", "none").idempotency_key(key);
    batch
}

/// Writes what was written before, as first and last LSN say.
#[track_caller]
fn assert_repeat(db: &Db, batch: &Batch, (first, last): (Lsn, Lsn)) {
    let before = db.visible_lsn().unwrap();
    let receipt = db.submit(batch).unwrap();
    assert!(receipt.is_repeat());
    assert_eq!((receipt.first(), receipt.last(), receipt.wait().unwrap()), (first, last, last));
    assert_eq!(db.visible_lsn().unwrap(), before, "something was written");
}

#[track_caller]
fn refused(error: Error, kind: ErrorKind, code: &str) {
    assert_eq!((error.kind(), error.code(), error.fate()), (kind, code, Fate::NotWritten), "{error}");
}

#[test]
fn a_batch_sent_again_is_written_once_whatever_came_between() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    let mut batch = keyed("k 1", "a", 1);
    batch.upsert_if("rows", row("new", 1), Expect::Absent);
    let receipt = db.submit(&batch).unwrap();
    assert!(!receipt.is_repeat());
    let at = (receipt.first(), receipt.wait().unwrap());
    assert_eq!(at.1, at.0.plus(2));
    // What it demanded does not hold any more, and one of its rows is another one by now.
    rows.upsert("a", &[2.0], json!({ "n": 2 })).unwrap();
    let other = db.write(&keyed("k 2", "b", 7)).unwrap();
    rows.add_field("later", FieldType::Int).unwrap();
    drop(rows);
    for step in 0..4 {
        assert_repeat(&db, &batch, at);
        assert_eq!(db.write(&batch).unwrap(), at.1, "step {step}");
        assert_repeat(&db, &keyed("k 2", "b", 7), (other.pred(), other));
        assert_eq!((number(&db, "a"), number(&db, "b")), (Some(2), Some(7)));
        assert_eq!(db.stats().unwrap().idempotency_keys, 2);
        match step {
            // Replayed from the log, then from the manifest alone, then with all of it merged.
            0 => db.close().unwrap(),
            1 => {
                db.flush().unwrap();
                drop(db);
            }
            _ => {
                db.compact().unwrap();
                drop(db);
            }
        }
        db = Db::open(dir.path()).unwrap();
    }
}

#[test]
fn a_key_is_for_one_batch_and_of_a_length_that_can_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    db.create_collection("rows", schema()).unwrap();
    db.create_collection("others", schema()).unwrap();
    db.write(&keyed("k", "a", 1)).unwrap();
    let mut others = vec![keyed("k", "a", 2), keyed("k", "b", 1)];
    let mut more = keyed("k", "a", 1);
    others.push(more.delete("rows", "c").clone());
    let mut elsewhere = Batch::new();
    elsewhere.upsert("others", row("a", 1)).delete("rows", "none").idempotency_key("k");
    let mut demands = Batch::new();
    demands.upsert_if("rows", row("a", 1), Expect::Absent).delete("rows", "none").idempotency_key("k");
    others.extend([elsewhere, demands]);
    let before = db.visible_lsn().unwrap();
    for batch in others {
        refused(db.write(&batch).unwrap_err(), ErrorKind::Conflict, "AKI-0219");
    }
    for key in ["", &"k".repeat(129), &"ä".repeat(65)] {
        refused(db.write(&keyed(key, "a", 1)).unwrap_err(), ErrorKind::Invalid, "AKI-0229");
    }
    assert_eq!((db.visible_lsn().unwrap(), db.stats().unwrap().idempotency_keys), (before, 1));
    for key in ["k".repeat(128), "ä \"\n\0".repeat(20)] {
        let last = db.write(&keyed(&key, "b", 1)).unwrap();
        db.flush().unwrap();
        assert_eq!(db.write(&keyed(&key, "b", 1)).unwrap(), last);
    }
    // A batch that was refused has not used up its key.
    let mut stale = keyed("free", "c", 1);
    stale.upsert_if("rows", row("a", 1), Expect::Absent);
    refused(db.write(&stale).unwrap_err(), ErrorKind::Conflict, "AKI-0216");
    db.write(&keyed("free", "d", 1)).unwrap();
}

/// A receipt is never given for what is not on disk: the second caller waits for the sync of the first one's batch.
#[test]
fn a_repeat_of_what_is_not_synced_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(|call: &Call<'_>| syncs_log(call));
    let db = hooked(dir.path(), gate.hook(), Settings::default());
    db.create_collection("rows", schema()).unwrap();
    gate.shut();
    let first = db.submit(&keyed("k", "a", 1)).unwrap();
    refused(db.submit(&keyed("k", "a", 2)).unwrap_err(), ErrorKind::Conflict, "AKI-0219");
    let released = Arc::new(AtomicBool::new(false));
    let second = {
        let (db, released) = (db.clone(), Arc::clone(&released));
        let (has_receipt, submitted) = mpsc::channel();
        let write = move || {
            let receipt = db.submit(&keyed("k", "a", 1)).unwrap();
            has_receipt.send(receipt.is_repeat()).unwrap();
            let last = receipt.wait().unwrap();
            assert!(released.load(Ordering::SeqCst), "acknowledged before it was synced");
            last
        };
        let second = std::thread::Builder::new().spawn(write).unwrap();
        assert!(submitted.recv().unwrap(), "written a second time");
        second
    };
    gate.wait_until_held();
    assert_eq!(number(&db, "a"), None, "nothing unsynced is shown");
    released.store(true, Ordering::SeqCst);
    gate.release();
    assert_eq!(second.join().unwrap(), first.last());
    assert_eq!(first.wait().unwrap(), first.last());
}

#[test]
fn of_threads_with_one_key_one_writes() {
    const THREADS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    db.create_collection("rows", schema()).unwrap();
    let start = Arc::new(Barrier::new(THREADS));
    let work = |n: usize| {
        let (db, start) = (db.clone(), Arc::clone(&start));
        let write = move || {
            let mut got = Vec::new();
            for key in 0..100 {
                start.wait();
                let receipt = db.submit(&keyed(&format!("k{key}"), "a", key)).unwrap();
                got.push((receipt.wait().unwrap(), receipt.is_repeat()));
                if n == 0 && key % 25 == 24 {
                    db.flush().unwrap();
                }
            }
            got
        };
        std::thread::Builder::new().spawn(write).unwrap()
    };
    let threads: Vec<_> = (0..THREADS).map(work).collect();
    let got: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    for key in 0..100 {
        let lsns: BTreeSet<Lsn> = got.iter().map(|got| got[key].0).collect();
        let writers = got.iter().filter(|got| !got[key].1).count();
        assert_eq!((lsns.len(), writers), (1, 1), "key {key}");
    }
    assert_eq!(db.visible_lsn().unwrap().counter(), 200, "two records a key");
}

/// The floor lies inside the batch: one of its collections is flushed, the log is replayed for the other.
#[test]
fn a_key_is_known_when_the_floor_lies_inside_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::from_toml("[engine]\nmemtable_bytes = 65536\n").unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    db.create_collection("others", schema()).unwrap();
    let mut batch = Batch::new();
    batch.upsert("rows", row("a", 1)).upsert("others", row("a", 1)).idempotency_key("k");
    let last = db.write(&batch).unwrap();
    while db.stats().unwrap().collections.iter().all(|collection| collection.segments == 0) {
        rows.upsert("fill", &[1.0], json!({ "n": 0, "fill": "f".repeat(8_000) })).unwrap();
    }
    let floor = db.stats().unwrap().watermarks.released;
    assert_eq!(floor, last.pred().to_string(), "the first record is flushed and the second is not");
    drop((rows, db));
    for _ in 0..2 {
        let db = Db::open(dir.path()).unwrap();
        assert_repeat(&db, &batch, (last.pred(), last));
        db.flush().unwrap();
    }
}

/// A collection is dropped while a batch for it waits for its sync: no memtable ever holds the batch, and the commit of a
/// named snapshot is the one that raises the floor above it.
#[test]
fn a_key_is_known_when_a_named_snapshot_raises_the_floor_above_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(|call: &Call<'_>| syncs_log(call));
    let db = hooked(dir.path(), gate.hook(), Settings::default());
    db.create_collection("rows", schema()).unwrap();
    db.create_collection("others", schema()).unwrap();
    let mut elsewhere = Batch::new();
    elsewhere.upsert("others", row("a", 1)).idempotency_key("elsewhere");
    let before = db.write(&elsewhere).unwrap();
    db.flush().unwrap();
    gate.shut();
    let receipt = db.submit(&keyed("k", "a", 1)).unwrap();
    gate.wait_until_held();
    db.drop_collection("rows").unwrap();
    gate.release();
    let last = receipt.wait().unwrap();
    let released = || db.stats().unwrap().watermarks.released.clone();
    assert_eq!(released(), before.to_string(), "neither the flush nor the drop released the batch");
    assert_eq!(db.create_snapshot("moment").unwrap(), last);
    assert_eq!(released(), last.to_string(), "the snapshot did");
    drop((db, receipt));
    let db = Db::open(dir.path()).unwrap();
    assert_repeat(&db, &elsewhere, (before, before));
    assert_eq!(db.stats().unwrap().idempotency_keys, 2);
    // The collection of the other batch is gone; its key is taken all the same.
    db.create_collection("rows", schema()).unwrap();
    refused(db.write(&keyed("k", "a", 1)).unwrap_err(), ErrorKind::Conflict, "AKI-0219");
}

fn fake(disk: &CrashDisk, clock: &Arc<FakeClock>, engine: &str) -> Db {
    let settings = Settings::from_toml(&format!("[engine]\n{engine}\n")).unwrap();
    let spawn = Arc::new(InlineSpawn::shuffled(1));
    Db::builder("/db")
        .settings(settings)
        .components(Arc::new(disk.clone()), clock.clone(), spawn)
        .open()
        .unwrap()
}

/// A key that is forgotten is as good as new: by age, and when there are more than are kept.
#[test]
fn keys_are_forgotten_by_age_and_by_number_across_reopens_too() {
    for flushes in [false, true] {
        let (disk, clock) = (CrashDisk::new(1), Arc::new(FakeClock::default()));
        let engine = "idempotency_window_secs = 60\nmax_idempotency_keys = 2";
        let mut db = fake(&disk, &clock, engine);
        db.create_collection("rows", schema()).unwrap();
        let reopen = |db: Db| {
            if flushes {
                db.flush().unwrap();
            }
            drop(db);
            fake(&disk, &clock, engine)
        };
        let first = db.write(&keyed("a", "a", 1)).unwrap();
        clock.jump_wall(59_000_000);
        db = reopen(db);
        assert_eq!(db.write(&keyed("a", "a", 1)).unwrap(), first, "a reopen starts no new window");
        clock.jump_wall(2_000_000);
        db = reopen(db);
        let again = db.write(&keyed("a", "a", 2)).unwrap();
        assert!(again > first && number(&db, "a") == Some(2));
        clock.jump_wall(-1_000_000_000);
        db = reopen(db);
        assert_eq!(db.write(&keyed("a", "a", 2)).unwrap(), again, "a clock that went back shortens nothing");
        clock.jump_wall(1_000_000_000);
        db.write(&keyed("b", "b", 1)).unwrap();
        let newest = db.write(&keyed("c", "c", 1)).unwrap();
        db = reopen(db);
        assert_eq!(db.stats().unwrap().idempotency_keys, 2);
        assert_eq!(db.write(&keyed("c", "c", 1)).unwrap(), newest);
        assert!(db.write(&keyed("a", "a", 2)).unwrap() > newest, "it was the oldest of three");
    }
}

#[test]
fn a_restored_copy_knows_the_keys_of_the_batches_it_has() {
    let (dir, backend, copy) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("file://{}", backend.path().display());
    let db = Db::builder(dir.path()).backend("copies", &url).open().unwrap();
    db.create_collection("rows", schema()).unwrap();
    let last = db.write(&keyed("flushed", "a", 1)).unwrap();
    db.flush().unwrap();
    let lost = db.write(&keyed("not flushed", "b", 1)).unwrap();
    db.wait_uploaded(LONG).unwrap();
    restore(&BackendSettings::new("copies", &url).unwrap(), copy.path()).unwrap();
    let restored = Db::open(copy.path()).unwrap();
    assert_eq!(number(&restored, "b"), None, "the log is not on the backend");
    assert_repeat(&restored, &keyed("flushed", "a", 1), (last.pred(), last));
    assert!(restored.write(&keyed("not flushed", "b", 1)).unwrap() > lost);
    assert_eq!(number(&restored, "b"), Some(1));
}

/// The manifest knows batches that a log no longer holds which was cut by order: they are durable, whatever the log says.
#[test]
fn a_repeat_of_a_batch_that_the_log_was_cut_below_is_answered_however_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    db.create_collection("rows", schema()).unwrap();
    let batch = keyed("k", "a", 1);
    let last = db.write(&batch).unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let first_batch = |file: &PathBuf| {
        let frames = inspect(file).unwrap()["frames"].as_array().unwrap().clone();
        let batch = frames.into_iter().find(|frame| frame["records"].as_u64() > Some(0));
        batch.map(|frame| frame["offset"].as_u64().unwrap())
    };
    let files = std::fs::read_dir(dir.path().join("wal")).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|file| file.extension().is_some_and(|ends| ends == "wal"));
    let (file, offset) = logs.filter_map(|file| Some((file.clone(), first_batch(&file)?))).min().unwrap();
    repair_wal_cut(&file, offset, false).unwrap();

    let db = Db::open(dir.path()).unwrap();
    // Nothing was appended since: the log's last record lies below.
    assert_repeat(&db, &batch, (last.pred(), last));
    let again = block_on_all(vec![Box::pin(db.write_async(batch.clone()))]).pop().unwrap();
    assert_eq!(again.unwrap(), last);
    assert_eq!((db.write(&batch).unwrap(), number(&db, "a")), (last, Some(1)));
}

/// A failed sync leaves it open whether the batch is there; the same key says it after the reopen.
#[test]
fn a_batch_of_unknown_fate_is_written_once_by_its_retry() {
    let dir = tempfile::tempdir().unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&armed);
    let hook = move |call: &Call<'_>| {
        let hit = syncs_log(call) && fails.load(Ordering::SeqCst);
        if hit { Act::Fail(akidb_host::sim::EIO) } else { Act::Go }
    };
    let db = hooked(dir.path(), Arc::new(hook), Settings::default());
    db.create_collection("rows", schema()).unwrap();
    armed.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let error = db.write(&keyed("k", "a", 1)).unwrap_err();
        assert_eq!((error.kind(), error.fate()), (ErrorKind::Poisoned, Fate::Unknown), "{error}");
    }
    drop(db);
    let db = Db::open(dir.path()).unwrap();
    let last = db.write(&keyed("k", "a", 1)).unwrap();
    let row = db.collection("rows").unwrap().get("a").unwrap().unwrap();
    assert_eq!(row.lsn, last.pred());
    assert_repeat(&db, &keyed("k", "a", 1), (last.pred(), last));
}

/// The batches of the crash test: each makes a row that must not be there, counts up another in a second collection, and
/// removes the row of the one before.
fn nth(n: i64) -> Batch {
    let mut batch = Batch::new();
    let fill = json!({ "n": n, "fill": "f".repeat(2_000) });
    batch.upsert_if("rows", NewRow::new(format!("r{n}"), [1.0], fill).unwrap(), Expect::Absent);
    batch.upsert("others", row("count", n)).delete("rows", format!("r{}", n - 3));
    batch.idempotency_key(format!("key {n}"));
    batch
}

#[derive(Clone, Default)]
struct Sent {
    /// Batches that were begun.
    begun: i64,
    acknowledged: Vec<(Lsn, Lsn)>,
}

/// What a crash left: every batch that was begun is sent again, in order, and again.
fn retry(disk: &CrashDisk, sent: &Sent, when: &str) -> usize {
    let clock = Arc::new(FakeClock::default());
    let open = || fake(disk, &clock, "memtable_bytes = 65536");
    let mut written = Vec::new();
    let mut kept = 0;
    for round in 0..3 {
        let db = open();
        for n in 0..sent.begun {
            let receipt =
                db.submit(&nth(n)).unwrap_or_else(|e| panic!("{when}, batch {n}, round {round}: {e}"));
            receipt.wait().unwrap();
            let (at, n) = ((receipt.first(), receipt.last()), usize::try_from(n).unwrap());
            if let Some(acknowledged) = sent.acknowledged.get(n) {
                assert_eq!((at, receipt.is_repeat()), (*acknowledged, true), "{when}, batch {n}");
            }
            if round == 0 {
                kept += usize::from(receipt.is_repeat());
                written.push(at);
            }
            assert!(at == written[n] && (round == 0 || receipt.is_repeat()), "{when}, {n}: {at:?}");
        }
        let rows = db.collection("rows").unwrap();
        let live: BTreeSet<String> =
            rows.scan().limit(1_000).run().unwrap().into_iter().map(|row| row.id.to_string()).collect();
        let wanted = (sent.begun - 3).max(0)..sent.begun;
        assert_eq!(live, wanted.map(|n| format!("r{n}")).collect(), "{when}");
        let count = db.collection("others").unwrap().get("count").unwrap();
        let count = count.map(|row| (row.payload["n"].as_i64().unwrap(), row.lsn));
        assert_eq!(count, written.last().map(|at| (sent.begun - 1, at.0.next())), "{when}: reverted");
        if round == 1 {
            db.flush().unwrap();
        }
    }
    kept - sent.acknowledged.len()
}

/// Promise 3 of a keyed batch: a crash at every call that changes the disk, then the same batches again: each is there
/// exactly once, at the LSNs that were acknowledged, and an older one takes nothing back.
#[test]
fn a_crash_at_every_call_and_a_retry_write_each_batch_exactly_once() {
    let disk = CrashDisk::new(17);
    let sent: Arc<Mutex<Sent>> = Arc::default();
    let cuts: Arc<Mutex<Vec<(CrashDisk, Sent, String)>>> = Arc::default();
    let watching = Arc::new(AtomicBool::new(false));
    let hook = {
        let (disk, sent, cuts, watching) =
            (disk.clone(), Arc::clone(&sent), Arc::clone(&cuts), Arc::clone(&watching));
        move |call: &Call<'_>| {
            if call.op.changes() && watching.load(Ordering::SeqCst) {
                let when = format!("{:?} of {}", call.op, call.path.display());
                cuts.lock().unwrap().push((disk.kill(), sent.lock().unwrap().clone(), when));
            }
            Act::Go
        }
    };
    let fs: Arc<dyn Fs> = Arc::new(HookFs::new(Arc::new(disk.clone()), Arc::new(hook)));
    let (clock, spawn) = (Arc::new(FakeClock::default()), InlineSpawn::shuffled(3));
    let settings =
        Settings::from_toml("[engine]\nmemtable_bytes = 65536\nwal_flush_bytes = 65536\n").unwrap();
    let db = Db::builder(Path::new("/db"))
        .settings(settings)
        .components(fs, clock.clone(), Arc::new(spawn.clone()))
        .random(Rng::seeded(5))
        .open()
        .unwrap();
    db.create_collection("rows", schema()).unwrap();
    db.create_collection("others", schema()).unwrap();
    watching.store(true, Ordering::SeqCst);
    for n in 0..60 {
        sent.lock().unwrap().begun = n + 1;
        let receipt = db.submit(&nth(n)).unwrap();
        receipt.wait().unwrap();
        sent.lock().unwrap().acknowledged.push((receipt.first(), receipt.last()));
        // Memtables of the one collection fill up, and hold the log for the other.
        spawn.step(clock.now());
        if n % 20 == 19 {
            db.flush().unwrap();
        }
    }
    drop(db);
    let cuts = std::mem::take(&mut *cuts.lock().unwrap());
    let (mut unacknowledged, mut rng) = (0, Rng::seeded(7));
    for (at, (disk, sent, when)) in cuts.iter().enumerate() {
        unacknowledged += retry(&disk.power_cut(&mut rng), sent, when);
        if at % 4 == 0 {
            unacknowledged += retry(&disk.kill(), sent, when);
        }
    }
    println!("{} moments, {unacknowledged} unacknowledged batches kept", cuts.len());
    assert!(cuts.len() > 200 && unacknowledged > 20, "{} moments, {unacknowledged} kept", cuts.len());
}
