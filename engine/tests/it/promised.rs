//! The promises of the design, each a test whose name holds its number. Where one needs a part that is not built yet,
//! its test says which half holds today. Those about backends and rooms stand in `promised/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use akidb::{BackendSettings, Batch, Collection, Db, ErrorKind, Metric, NewRow, Schema, Settings};
use akidb_host::sim::{Act, Call, CrashDisk, FakeClock, Gate, HookFs, Op};
use akidb_host::{RealClock, Rng};
use serde_json::json;

use crate::history::{self, Watched, assert_kept};
use crate::support::{hooked, in_dir, syncs_log};

mod away;
mod rooms;

fn wide(n: u64) -> Vec<f32> {
    let mut rng = Rng::seeded(n);
    (0..64).map(|_| rng.f64() as f32 - 0.5).collect()
}

/// 1: when `upsert` returns, the row survives the kill of the process and the loss of power. At `Remote` it shall survive
/// the loss of the machine too: that durability is not built, nobody can ask for it, and what survives the machine today
/// is what is flushed and uploaded.
#[test]
fn promise_1_an_acknowledged_row_survives_kill_and_power_cut_and_once_uploaded_the_machine() {
    let cuts: Arc<Mutex<Vec<(u64, CrashDisk)>>> = Arc::default();
    let (taken, rng) = (Arc::clone(&cuts), Mutex::new(Rng::seeded(1)));
    let world = Watched::new(1, move |call, acknowledged, disk| {
        if acknowledged > 0 && call.op.changes() && (call.op.syncs() || call.n % 5 == 0) {
            let cut = disk.power_cut(&mut rng.lock().unwrap());
            taken.lock().unwrap().extend([(acknowledged, cut), (acknowledged, disk.kill())]);
        }
        Act::Go
    });
    let db = history::open(Arc::clone(&world.fs), Arc::new(RealClock), "").unwrap();
    let rows = db.create_collection("rows", history::schema()).unwrap();
    for part in 0..3 {
        world.write(&rows, part * 16..(part + 1) * 16);
        db.flush().unwrap();
    }
    world.write(&rows, 48..52);
    // At once after the last acknowledgement, with as little as a cut may leave.
    let end = (52, world.disk.power_cut_keeping(0, &mut Rng::seeded(2)));
    let cuts = std::mem::take(&mut *cuts.lock().unwrap());
    println!("{} crashes", cuts.len());
    assert!(cuts.len() > 100);
    for (acknowledged, disk) in cuts.iter().chain([&end]) {
        assert_kept(disk, *acknowledged, "after a crash");
    }

    let refused = Settings::from_toml("[engine]\ndurability = \"remote\"\n").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    let (dir, backend, other) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("file://{}", backend.path().display());
    let db = Db::builder(dir.path()).backend("copies", &url).open().unwrap();
    let rows = db.create_collection("rows", history::schema()).unwrap();
    (0..20).for_each(|n| history::write(&rows, n));
    db.flush().unwrap();
    db.wait_uploaded(away::LONG).unwrap();
    akidb::restore(&BackendSettings::new("copies", &url).unwrap(), other.path()).unwrap();
    let restored = Db::open(other.path()).unwrap().collection("rows").unwrap();
    assert_eq!(history::found(&restored), history::after(20));
}

/// 2: every acknowledged row is seen by every later search, filter, count, get, scan and delete, at once and through
/// another handle, whatever the backlog: here a segment, a sealed memtable whose flush is held up, and a memtable so large
/// that its rows are found by their codes.
#[test]
fn promise_2_an_acknowledged_row_is_seen_by_every_verb_at_once_whatever_the_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(|call: &Call<'_>| call.op == Op::CreateNew && in_dir(call.path, "collections"));
    let db = hooked(dir.path(), gate.hook(), Settings::default());
    let rows = db.create_collection("rows", Schema::new(64, Metric::Cosine).int("n")).unwrap();
    let fill = |from: u64| {
        let row = |n: u64| NewRow::new(format!("r{n}"), wide(n), json!({ "n": n })).unwrap();
        rows.upsert_batch(&(from..from + 2_500).map(row).collect::<Vec<_>>()).unwrap();
    };
    fill(0);
    db.flush().unwrap();
    gate.shut();
    fill(2_500);
    let flusher = {
        let db = db.clone();
        std::thread::Builder::new().spawn(move || db.flush()).unwrap()
    };
    gate.wait_until_held();
    fill(5_000);
    let (_, explained) = rows.search(&wide(1)).explain().unwrap();
    assert_eq!(explained.parts.len(), 3, "{explained:?}");
    assert!(!explained.exact, "the backlog is searched by codes");
    let other = db.collection("rows").unwrap();
    let mut live = 7_500;
    // New rows, and rows of the memtable, of the sealed one and of the segment that are replaced.
    for (at, id) in [7_600u64, 5_100, 2_600, 100].into_iter().flat_map(|from| from..from + 6).enumerate() {
        let (name, n) = (format!("r{id}"), 1_000_000 + at as u64);
        live += u64::from(id >= 7_500);
        rows.upsert(name.clone(), &wide(n), json!({ "n": n })).unwrap();
        assert_eq!(other.search(&wide(n)).k(1).run().unwrap()[0].id.to_string(), name);
        let filter = format!("n = {n}");
        assert_eq!(other.search(&wide(3)).k(5).filter(filter.as_str()).run().unwrap().len(), 1);
        assert_eq!((other.count().unwrap(), other.count_where(filter.as_str()).unwrap()), (live, 1));
        assert_eq!(other.get(name.clone()).unwrap().unwrap().payload["n"], n);
        let page = other.scan().filter(filter.as_str()).run().unwrap();
        assert_eq!((page.len(), page[0].id.to_string()), (1, name.clone()));
        let old = if id < 7_500 { other.count_where(format!("n = {id}").as_str()).unwrap() } else { 0 };
        assert_eq!(old, 0, "the version before is gone at once");
        if at % 2 == 0 {
            assert!(other.delete(name.clone()).unwrap());
            live -= 1;
            assert!(!rows.contains(name.clone()).unwrap() && rows.get(name.clone()).unwrap().is_none());
            assert_eq!((rows.count().unwrap(), rows.count_where(filter.as_str()).unwrap()), (live, 0));
            let nearest = rows.search(&wide(n)).k(1).run().unwrap();
            assert!(
                nearest[0].id.to_string() != name
                    && rows.scan().filter(filter.as_str()).run().unwrap().is_empty()
            );
        }
    }
    gate.release();
    flusher.join().unwrap().unwrap();
    assert_eq!(other.count().unwrap(), live);
}

/// 3: a batch over two collections is visible entirely or not at all, at every call that writing it makes and after a
/// crash in any of them, and never a later batch without an earlier one. One moment for all collections after a restore
/// from a backend waits for the archive of the log.
#[test]
fn promise_3_a_batch_is_there_entirely_or_not_at_all_after_crashes_too() {
    const ROWS: u64 = 20;
    let disk = CrashDisk::new(3);
    let cuts: Arc<Mutex<Vec<CrashDisk>>> = Arc::default();
    let watched: Arc<Mutex<Option<[Collection; 2]>>> = Arc::default();
    let under_way = Arc::new(AtomicU64::new(0));
    let looks = Arc::new(AtomicU64::new(0));
    let own = std::thread::current().id();
    let fs = {
        let (seen, taken, watched, rng) =
            (disk.clone(), Arc::clone(&cuts), Arc::clone(&watched), Mutex::new(Rng::seeded(3)));
        let (under_way, looks) = (Arc::clone(&under_way), Arc::clone(&looks));
        let hook = move |call: &Call<'_>| {
            let Some(both) = watched.lock().unwrap().clone() else { return Act::Go };
            if !call.op.changes() {
                return Act::Go;
            }
            taken.lock().unwrap().push(seen.power_cut(&mut rng.lock().unwrap()));
            if std::thread::current().id() == own {
                let filter = format!("batch = {}", under_way.load(Ordering::SeqCst));
                for rows in &both {
                    let rows = rows.count_where(filter.as_str()).unwrap();
                    assert!([0, ROWS].contains(&rows), "{rows} rows of a batch are seen");
                }
                looks.fetch_add(1, Ordering::SeqCst);
            }
            Act::Go
        };
        Arc::new(HookFs::new(Arc::new(disk.clone()), Arc::new(hook)))
    };
    let db = history::open(fs, Arc::new(RealClock), "").unwrap();
    let both =
        ["a", "b"].map(|name| db.create_collection(name, Schema::new(2, Metric::L2).int("batch")).unwrap());
    *watched.lock().unwrap() = Some(both.clone());
    for batch in 0..12u64 {
        under_way.store(batch, Ordering::SeqCst);
        let row = |n: u64| NewRow::new(format!("{batch}-{n}"), [n as f32, 1.0], json!({ "batch": batch }));
        let rows: Vec<NewRow> = (0..ROWS).map(|n| row(n).unwrap()).collect();
        let mut frame = Batch::new();
        for row in rows {
            frame.upsert("a", row.clone()).upsert("b", row);
        }
        db.write(&frame).unwrap();
        if batch % 5 == 4 {
            db.flush().unwrap();
        }
    }
    *watched.lock().unwrap() = None;
    let cuts = std::mem::take(&mut *cuts.lock().unwrap());
    println!("{} crashes, {} looks", cuts.len(), looks.load(Ordering::SeqCst));
    assert!(cuts.len() > 50 && looks.load(Ordering::SeqCst) > 20);
    for disk in cuts {
        let db = history::open(Arc::new(disk), Arc::new(RealClock), "").unwrap();
        let [a, b] = ["a", "b"].map(|name| batches(&db.collection(name).unwrap(), ROWS));
        let written: Vec<u64> = a.iter().copied().collect();
        assert_eq!(written, (0..a.len() as u64).collect::<Vec<_>>(), "an earlier batch is missing");
        assert_eq!(a, b, "half of a batch");
    }
}

/// The batches that are there, each whole.
fn batches(rows: &Collection, len: u64) -> BTreeSet<u64> {
    let mut sizes = BTreeMap::<u64, u64>::new();
    for row in rows.scan().limit(10_000).run().unwrap() {
        *sizes.entry(row.payload["batch"].as_u64().unwrap()).or_default() += 1;
    }
    assert!(sizes.values().all(|size| *size == len), "{sizes:?}");
    sizes.into_keys().collect()
}

/// 4: a search reads one LSN over memtables and all segments. A writer gives all rows a new version at once, over and
/// over, while flushes and merges go on beside it: whoever looks sees every row once and all of one version, with a filter
/// all of them or none, and never the deleted one.
#[test]
fn promise_4_a_search_reads_one_lsn_across_memtables_and_segments() {
    const ROWS: u64 = 12;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(64, Metric::L2).int("version").int("odd")).unwrap();
    let row = |n: u64, version: u64| {
        let payload = json!({ "version": version, "odd": version % 2 });
        NewRow::new(format!("r{n}"), wide(n << 32 | version), payload).unwrap()
    };
    rows.upsert_batch(&(0..=ROWS).map(|n| row(n, 0)).collect::<Vec<_>>()).unwrap();
    assert!(rows.delete(format!("r{ROWS}")).unwrap());
    let writer = {
        let (db, rows) = (db.clone(), rows.clone());
        let write = move || {
            for version in 1..=120 {
                rows.upsert_batch(&(0..ROWS).map(|n| row(n, version)).collect::<Vec<_>>()).unwrap();
                if version % 12 == 0 {
                    db.flush().unwrap();
                }
                if version % 50 == 0 {
                    db.compact().unwrap();
                }
            }
        };
        std::thread::Builder::new().spawn(write).unwrap()
    };
    let (mut looks, mut newest) = (0, 0);
    while looks == 0 || !writer.is_finished() {
        let hits = rows.search(&wide(looks)).k(50).run().unwrap();
        let ids: BTreeSet<String> = hits.iter().map(|hit| hit.id.to_string()).collect();
        let versions: BTreeSet<u64> =
            hits.iter().map(|hit| hit.payload["version"].as_u64().unwrap()).collect();
        assert_eq!((hits.len() as u64, ids.len() as u64, versions.len()), (ROWS, ROWS, 1), "{versions:?}");
        assert!(!ids.contains(&format!("r{ROWS}")) && versions.first() >= Some(&newest));
        newest = *versions.first().unwrap();
        let odd = rows.search(&wide(looks)).k(50).filter("odd = 1").run().unwrap();
        let odd_versions: BTreeSet<u64> =
            odd.iter().map(|hit| hit.payload["version"].as_u64().unwrap()).collect();
        assert!(odd.is_empty() || (odd.len() as u64 == ROWS && odd_versions.len() == 1), "{odd_versions:?}");
        looks += 1;
    }
    writer.join().unwrap();
    println!("{looks} looks");
    assert_eq!(rows.count_where("version = 120").unwrap(), ROWS);
}

/// 5: recovery replays exactly what was acknowledged. A torn tail is cut at its first bad checksum and reported; a bad
/// record that is provably not the tail stops the open with file, offset and the command that repairs.
#[test]
fn promise_5_a_torn_tail_is_cut_and_reported_and_damage_elsewhere_stops_the_open() {
    let disk = CrashDisk::new(5);
    let gate = Gate::opened(|call: &Call<'_>| syncs_log(call));
    let fs = Arc::new(HookFs::new(Arc::new(disk.clone()), gate.hook()));
    // In this clock's time the idle log is never stamped as proven.
    let db = history::open(fs, Arc::new(FakeClock::default()), "").unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    let row =
        |n: u32| NewRow::new(format!("r{n}"), [n as f32, 1.0], json!({ "mark": format!("mark-{n:04}") }));
    for n in 0..20 {
        rows.upsert_batch(&[row(n).unwrap()]).unwrap();
    }
    gate.shut();
    let receipt = rows.submit(&[row(20).unwrap()]).unwrap();
    let torn = std::thread::Builder::new().spawn(move || receipt.wait()).unwrap();
    gate.wait_until_held();
    let whole = disk.kill();
    gate.release();
    torn.join().unwrap().unwrap();

    let torn = whole.kill();
    let (file, at) = rot_mark(&torn, 20);
    let db = history::open(Arc::new(torn), Arc::new(RealClock), "").unwrap();
    let cut = db.recovery().cut.clone().expect("the cut is reported");
    assert!(cut.file == file && cut.offset <= at && at < cut.offset + cut.bytes, "{cut:?}, damaged at {at}");
    let rows = db.collection("rows").unwrap();
    assert_eq!(rows.count().unwrap(), 20, "all that was acknowledged and nothing else");
    assert!((0..20).all(|n| rows.contains(format!("r{n}")).unwrap()));

    for n in [0, 7, 18] {
        let damaged = whole.kill();
        let (file, at) = rot_mark(&damaged, n);
        let error = history::open(Arc::new(damaged), Arc::new(RealClock), "").unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Corrupt, Some(&*file)), "record {n}: {error}");
        assert!(error.offset().is_some_and(|offset| offset <= at && at < offset + 300), "{at}: {error}");
        assert!(
            error.help().is_some_and(|help| help.contains("akidb repair wal-cut")),
            "{error}: {:?}",
            error.help()
        );
    }
}

/// Flips a bit of a record in the log, found by what its payload says: where.
fn rot_mark(disk: &CrashDisk, n: u32) -> (std::path::PathBuf, u64) {
    use akidb_host::Fs;
    let (dir, mark) = (Path::new("/db/wal"), format!("mark-{n:04}"));
    for entry in disk.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        let bytes = disk.bytes(&path).unwrap();
        if let Some(at) = bytes.windows(mark.len()).position(|window| window == mark.as_bytes()) {
            disk.rot(&path, |bytes| bytes[at] ^= 1).unwrap();
            return (path, at as u64);
        }
    }
    panic!("no record holds {mark}");
}
