//! What broke other engines, each a test that begins with its issue there. The case is told in our words, the promise is
//! ours. Those about merges stand in `broke_others/merges.rs`, about
//! backends in `broke_others/stores.rs`; `lance_6929` in `promises.rs`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use akidb::{Db, ErrorKind, Metric, NewRow, PartKind, Schema};
use akidb_host::sim::{Act, Call, CrashDisk, EIO, Gate, HookFs, Op};
use akidb_host::{Fs, RealClock, Rng};
use serde_json::json;

use crate::history::{self, Watched, after, assert_kept, found, reopened, segment_files};
use crate::support::{in_dir, syncs_log};

mod merges;
mod stores;

type Crashes = Arc<Mutex<Vec<(u64, CrashDisk)>>>;

/// A disk that is crashed, both ways, at each call that `where_` accepts.
fn crashed_where(
    seed: u64,
    where_: impl Fn(&Call<'_>) -> bool + Send + Sync + 'static,
) -> (Watched, Crashes) {
    let crashes = Crashes::default();
    let (taken, rng) = (Arc::clone(&crashes), Mutex::new(Rng::seeded(seed)));
    let world = Watched::new(seed, move |call, acknowledged, disk| {
        if acknowledged > 0 && where_(call) {
            let cut = disk.power_cut(&mut rng.lock().unwrap());
            taken.lock().unwrap().extend([(acknowledged, cut), (acknowledged, disk.kill())]);
        }
        Act::Go
    });
    (world, crashes)
}

fn open(fs: &Arc<dyn Fs>, engine: &str) -> Db {
    history::open(Arc::clone(fs), Arc::new(RealClock), engine).unwrap()
}

/// lance#8293: a flush failed, a later one committed, and the rows of the failed one were skipped for good. Here the log
/// goes only up to the oldest row that is in no segment.
#[test]
fn lance_8293_rows_of_a_failed_flush_outlive_the_flushes_after_it() {
    for same in [true, false] {
        let broken = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&broken);
        let world = Watched::new(8293, move |call, _, _| {
            let hit = call.op == Op::CreateNew && in_dir(call.path, "collections");
            // The second collection's directory alone: a flush of all begins with the other.
            match hit && call.path.to_str().unwrap().contains("/2-rows/") && asked.load(Ordering::SeqCst) {
                true => Act::Fail(EIO),
                false => Act::Go,
            }
        });
        let db = open(&world.fs, "compaction = false");
        let other = db.create_collection("other", history::schema()).unwrap();
        let rows = db.create_collection("rows", history::schema()).unwrap();
        world.write(&rows, 0..20);
        broken.store(true, Ordering::SeqCst);
        db.flush().unwrap_err();
        if same {
            world.write(&rows, 20..40);
            broken.store(false, Ordering::SeqCst);
        } else {
            (0..20).for_each(|n| history::write(&other, n));
        }
        let later = db.flush();
        assert_eq!(later.is_ok(), same, "{later:?}");
        let flushed = db.stats().unwrap().collections.iter().filter(|rows| rows.segments > 0).count();
        assert_eq!(flushed, 1, "a later flush is committed");
        drop((rows, other, db));
        let (db, rows) = reopened(&world.disk.power_cut_keeping(0, &mut Rng::seeded(1)));
        assert_eq!(found(&rows), after(if same { 40 } else { 20 }), "same collection: {same}");
        let beside = found(&db.collection("other").unwrap());
        assert_eq!(beside, after(if same { 0 } else { 20 }), "same collection: {same}");
    }
}

/// lance#7760: a write was called durable because a mark of the generation before stood higher than its own. Here an
/// acknowledgement compares LSNs, whose upper part is the open: what earlier opens synced says nothing about this one.
#[test]
fn lance_7760_no_write_is_acknowledged_by_the_syncs_of_an_earlier_open() {
    let gate = Gate::opened(|call: &Call<'_>| syncs_log(call));
    let disk = CrashDisk::new(7760);
    let fs: Arc<dyn Fs> = Arc::new(HookFs::new(Arc::new(disk.clone()), gate.hook()));
    for opens in 0..3 {
        let db = open(&fs, "");
        let rows = db.create_collection("rows", history::schema()).unwrap();
        (opens * 50..(opens + 1) * 50).for_each(|n| history::write(&rows, n));
        db.close().unwrap();
    }
    let db = open(&fs, "");
    let rows = db.collection("rows").unwrap();
    let before = rows.count().unwrap();
    gate.shut();
    let new = NewRow::new("fresh", vec![0.25; 32], json!({ "n": 1 })).unwrap();
    let receipt = rows.submit(&[new]).unwrap();
    // Lower as a count, higher as an LSN.
    assert!(receipt.last() > db.visible_lsn().unwrap());
    let waiting = std::thread::Builder::new().spawn(move || receipt.wait()).unwrap();
    gate.wait_until_held();
    assert!(!waiting.is_finished(), "acknowledged while its sync is held");
    assert_eq!(rows.count().unwrap(), before, "shown while its sync is held");
    let (_db, cut) = reopened(&disk.power_cut_keeping(0, &mut Rng::seeded(1)));
    assert_eq!(found(&cut), after(150), "it was indeed not on the disk");
    gate.release();
    waiting.join().unwrap().unwrap();
    let (_db, kept) = reopened(&disk.power_cut_keeping(0, &mut Rng::seeded(1)));
    assert!(kept.contains("fresh").unwrap(), "acknowledged, and gone after a power cut");
}

/// tenequm/pond#110: a reset of a virtual machine left a manifest of no bytes, and the database did not open. Here a file
/// gets its name after its bytes are synced; and if somebody empties one all the same, that is an error that names it.
#[test]
fn pond_110_no_power_cut_leaves_an_empty_manifest_and_an_emptied_one_is_named() {
    let (world, crashes) = crashed_where(110, |call| call.op.changes() && in_dir(call.path, "manifest"));
    let db = open(&world.fs, "");
    let rows = db.create_collection("rows", history::schema()).unwrap();
    world.write(&rows, 0..10);
    db.flush().unwrap();
    world.write(&rows, 10..20);
    db.flush().unwrap();
    drop((rows, db));
    let crashes = std::mem::take(&mut *crashes.lock().unwrap());
    assert!(crashes.len() >= 10, "{} crashes", crashes.len());
    let newest = |disk: &CrashDisk| {
        let names = disk.list(Path::new("/db/manifest")).unwrap().into_iter().map(|entry| entry.name);
        let manifests: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
        let paths = manifests.iter().map(|name| Path::new("/db/manifest").join(name));
        for path in paths.clone() {
            assert!(!disk.bytes(&path).unwrap().is_empty(), "{} is empty", path.display());
        }
        paths.max().unwrap()
    };
    for (acknowledged, disk) in &crashes {
        newest(disk);
        assert_kept(disk, *acknowledged, "a crash in a manifest's commit");
    }
    let emptied = world.disk.kill();
    let file = newest(&emptied);
    emptied.rot(&file, Vec::clear).unwrap();
    let error = history::open(Arc::new(emptied), Arc::new(RealClock), "").unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Corrupt, Some(&*file)), "{error}");
    assert!(error.help().unwrap().contains("akidb repair manifest"), "{error}");
}

/// s2-streamstore/s2#670: an object of the log came back full of zeros and was taken for an empty one. Here zeros where
/// acknowledged records were stop the open, or are a cut that is reported; zeros that were never written are nothing.
#[test]
fn s2_670_a_log_full_of_zeros_is_never_taken_for_an_empty_one() {
    let world = Watched::new(670, |_, _, _| Act::Go);
    let db = open(&world.fs, "");
    let rows = db.create_collection("rows", history::schema()).unwrap();
    world.write(&rows, 0..30);
    db.close().unwrap();
    let whole = world.disk.kill();
    let log = Path::new("/db/wal");
    let is_log = |name: &str| name.ends_with(".wal");
    let files: Vec<_> = whole.list(log).unwrap().into_iter().filter(|entry| is_log(&entry.name)).collect();
    let (mut stopped, mut empty) = (0, 0);
    for entry in &files {
        let path = log.join(&entry.name);
        let bytes = whole.bytes(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let holds_rows = bytes.windows(4).any(|window| window == b"xxxx");
        for from in [0, used / 2, used - used.min(1)] {
            let zeroed = whole.kill();
            zeroed.rot(&path, |bytes| bytes[from..].fill(0)).unwrap();
            match history::open(Arc::new(zeroed), Arc::new(RealClock), "") {
                Err(error) => {
                    assert_eq!((error.kind(), error.file()), (ErrorKind::Corrupt, Some(&*path)), "{error}");
                    stopped += 1;
                }
                Ok(db) => {
                    let whole = found(&db.collection("rows").unwrap()) == after(30);
                    assert!(whole, "{} from {from} of {used}: {:?}", path.display(), db.recovery());
                    empty += u64::from(!holds_rows);
                }
            }
        }
    }
    println!("{stopped} opens stopped, {empty} files without rows");
    assert!(stopped >= 2, "{stopped}");
}

/// qdrant#10272: a row was dropped at load because an entry beside it, its version, was missing. Here everything that is
/// beside the rows and the manifest can be gone, and no row is; a file that *is* of the rows and is gone is an error.
#[test]
fn qdrant_10272_no_row_is_dropped_because_something_beside_it_is_missing() {
    let world = Watched::new(10272, |_, _, _| Act::Go);
    let db = open(&world.fs, "compaction = false");
    let rows = db.create_collection("rows", history::schema()).unwrap();
    let many: Vec<NewRow> = (0..2_000)
        .map(|n| NewRow::new(format!("many{n}"), vec![n as f32; 32], json!({ "n": n })).unwrap())
        .collect();
    rows.upsert_batch(&many).unwrap();
    db.flush().unwrap();
    (0..2_000).step_by(2).for_each(|n| assert!(rows.delete(format!("many{n}")).unwrap()));
    db.flush().unwrap();
    world.write(&rows, 0..20);
    let expected = rows.count().unwrap();
    drop((rows, db));
    let whole = world.disk.kill();
    let bare = whole.kill();
    for file in ["LOCK", "wal/control"] {
        bare.unlink(&Path::new("/db").join(file)).unwrap();
    }
    // Again: an open may leave removals to the driver, and one that follows such takes away what it had read already.
    for _ in 0..3 {
        let (_db, rows) = reopened(&bare);
        assert_eq!(rows.count().unwrap(), expected);
    }
    let collection = whole.list(Path::new("/db/collections")).unwrap().remove(0).name;
    let home = Path::new("/db/collections").join(collection);
    let deaths = home.join("dv").join(whole.list(&home.join("dv")).unwrap().remove(0).name);
    let segment = home.join(segment_files(&whole).remove(0));
    for file in [deaths, segment] {
        let lacking = whole.kill();
        lacking.unlink(&file).unwrap();
        let error = history::open(Arc::new(lacking), Arc::new(RealClock), "").unwrap_err();
        assert_eq!(error.file(), Some(&*file), "{error}");
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound), "{error}");
    }
}

/// zvec#768: a rotation deleted the log file that held a new write. Here files of the log go, or are used again, only when
/// a durable manifest covers all that is in them: a crash at each such call, and at each call that makes a file.
#[test]
fn zvec_768_rotation_and_truncation_of_the_log_take_no_acknowledged_write() {
    let (world, crashes) = crashed_where(768, |call| {
        in_dir(call.path, "wal")
            && matches!(call.op, Op::Unlink | Op::Rename | Op::CreateNew | Op::HardLink | Op::SyncDir)
    });
    // Small bounds: the log is flushed, rotated and truncated all the time.
    let db = open(&world.fs, "memtable_bytes = 65536\nwal_flush_bytes = 65536\nwal_max_bytes = 4194304");
    let rows = db.create_collection("rows", history::schema()).unwrap();
    for part in 0..12 {
        world.write(&rows, part * 150..(part + 1) * 150);
        db.flush().unwrap();
    }
    let stats = db.stats().unwrap();
    assert!(stats.collections[0].flushed_lsn.parse::<akidb::Lsn>().unwrap() > akidb::Lsn::default());
    let crashes = std::mem::take(&mut *crashes.lock().unwrap());
    println!("{} crashes in the making and removal of log files", crashes.len());
    assert!(crashes.len() >= 8, "{}", crashes.len());
    for (acknowledged, disk) in &crashes {
        assert_kept(disk, *acknowledged, "a crash in a rotation");
    }
}

/// chroma#7090: after a restart the vector index could not be used. Here it is a part of each segment: after a close and
/// after a power cut searches use it as before and give the same answers.
#[test]
fn chroma_7090_the_vector_index_is_used_after_a_restart_and_answers_the_same() {
    let disk = CrashDisk::new(7090);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = open(&fs, "");
    let rows = db.create_collection("rows", Schema::new(64, Metric::Cosine)).unwrap();
    let vector = |n: u64| {
        let mut rng = Rng::seeded(n);
        (0..64).map(|_| rng.f64() as f32 - 0.5).collect::<Vec<_>>()
    };
    let row = |n: u64| NewRow::new(format!("r{n}"), vector(n), json!({})).unwrap();
    rows.upsert_batch(&(0..4_000).map(row).collect::<Vec<_>>()).unwrap();
    db.flush().unwrap();
    let ask = |db: &Db| {
        let rows = db.collection("rows").unwrap();
        let ask = |n: u64| {
            let (hits, explained) = rows.search(&vector(90_000 + n)).k(10).explain().unwrap();
            let part = &explained.parts[0];
            assert!(part.kind == PartKind::Flat && !part.damaged_index && part.reranked < 2_000, "{part:?}");
            hits
        };
        (0..10).map(ask).collect::<Vec<_>>()
    };
    let before = ask(&db);
    let cut = disk.power_cut_keeping(0, &mut Rng::seeded(1));
    drop(rows);
    db.close().unwrap();
    assert_eq!(ask(&open(&fs, "")), before, "after a close");
    assert_eq!(ask(&open(&(Arc::new(cut) as Arc<dyn Fs>), "")), before, "after a power cut");
}
