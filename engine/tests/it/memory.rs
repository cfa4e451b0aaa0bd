//! One limit of bytes for several databases: who is flushed, who waits and how that is seen; and what a merge of long rows
//! takes. The threads of the databases are the test's own, and their clock is the test's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use akidb::{
    Builder, Collection, Db, Error, ErrorKind, Fate, MemoryBudget, MemoryUse, Metric, NewRow, Schema,
    Settings,
};
use akidb_host::sim::{Act, Call, CrashDisk, EIO, FakeClock, HookFs, InlineSpawn};
use akidb_host::{Clock, Fs};
use serde_json::json;

mod long_rows;

const MIB: u64 = 1 << 20;
/// A row of these tests takes about so much.
const ROW_BYTES: u64 = 16 << 10;

#[derive(Default)]
struct World {
    clock: Arc<FakeClock>,
    spawn: InlineSpawn,
}

impl World {
    /// Memtables are sealed for the sake of memory alone.
    fn open(&self, disk: &CrashDisk, budget: &MemoryBudget, rest: &str) -> Db {
        self.builder(Arc::new(disk.clone()), budget, rest).open().unwrap()
    }

    fn builder(&self, fs: Arc<dyn Fs>, budget: &MemoryBudget, rest: &str) -> Builder {
        let text = format!("[engine]\nmemtable_bytes = \"64 MiB\"\nwrite_stall_timeout_ms = 0\n{rest}");
        let builder = Db::builder("/db").settings(Settings::from_toml(&text).unwrap()).memory(budget.clone());
        builder.components(fs, Arc::clone(&self.clock) as _, Arc::new(self.spawn.clone()))
    }

    /// Lets the databases' threads do what is due.
    fn work(&self) {
        self.spawn.run_until_idle(self.clock.now());
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.work();
    }
}

fn rows_of(db: &Db) -> Collection {
    db.create_collection("rows", Schema::new(8, Metric::L2)).unwrap()
}

fn row(n: u64) -> NewRow {
    let text = format!("{n:08}").repeat(ROW_BYTES as usize / 8);
    NewRow::new(format!("r{n:06}"), vec![n as f32; 8], json!({ "text": text })).unwrap()
}

/// Writes rows until one finds no room; how many there are then, and what it was told.
fn fill(rows: &Collection, from: u64) -> (u64, Error) {
    for n in from..from + 10_000 {
        if let Err(error) = rows.upsert_batch(&[row(n)]) {
            return (n, error);
        }
    }
    panic!("10,000 rows of {ROW_BYTES} bytes found room");
}

fn is_full_of_memory(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Full { which: "memory_bytes", .. }) && error.fate() == Fate::NotWritten
}

/// Bytes in memtables and number of segments.
fn held(db: &Db) -> (u64, usize) {
    let stats = db.stats().unwrap();
    (stats.memtable_bytes, stats.collections[0].segments)
}

#[test]
fn an_idle_database_with_full_memtables_gives_way_to_one_that_writes() {
    let (world, budget) = (World::default(), MemoryBudget::new(8 * MIB));
    let (idle, busy) = (CrashDisk::new(1), CrashDisk::new(2));
    let (idle, busy) = (world.open(&idle, &budget, ""), world.open(&busy, &budget, ""));
    let (old, new) = (rows_of(&idle), rows_of(&busy));
    world.work();
    for n in 0..200 {
        old.upsert_batch(&[row(n)]).unwrap();
    }
    world.work();
    let (idle_bytes, segments) = held(&idle);
    assert!(idle_bytes > 3 * MIB && segments == 0, "less than half of the limit stays: {idle_bytes}");

    // Without the threads of the databases nothing is flushed, and a writer ends at the limit.
    let (written, error) = fill(&new, 0);
    assert!(is_full_of_memory(&error), "{error}");
    assert!(error.to_string().contains("bytes are held in memory of 8388608 allowed"), "{error}");
    assert!(written > 200 && budget.used_bytes() < 7 * MIB, "{written} rows, {budget:?}");
    let stats = busy.stats().unwrap();
    assert!(
        stats.memory.uses[0].waits >= 1 && stats.memory.uses[0].name == "memtables",
        "{:?}",
        stats.memory
    );
    assert_eq!(stats.memory.used_bytes, budget.used_bytes(), "all databases of the budget");

    // What is held most is flushed first, and the other is let alone.
    assert!(held(&busy).0 > held(&idle).0);
    world.work();
    assert_eq!((held(&busy), held(&idle)), ((0, 1), (idle_bytes, 0)));
    // The next time it is the idle one: it holds more.
    let before = new.count().unwrap();
    for n in written.. {
        new.upsert_batch(&[row(n)]).unwrap();
        world.work();
        if held(&idle) == (0, 1) {
            break;
        }
        assert!(n < written + 200, "{budget:?}");
    }
    assert!(new.count().unwrap() > before && held(&busy).1 == 1, "the one that writes goes on, unflushed");
    for n in 1_000..2_000 {
        new.upsert_batch(&[row(n)]).unwrap();
        world.work();
    }
    // Beyond the limit by what a flush needs in any case: 1 MiB of rows, twice, and 2 MiB for the file.
    let peak = budget.peak_bytes();
    assert!(peak < 12 * MIB, "1,000 rows of 16 KiB passed by, {peak} bytes were held at most");
    assert_eq!((old.count().unwrap(), old.get("r000199").unwrap().unwrap().vector), (200, vec![199.0; 8]));
    drop((old, new));
    idle.close().unwrap();
    busy.close().unwrap();
    assert_eq!(budget.used_bytes(), 0, "{budget:?}");
}

#[test]
fn a_limit_below_what_the_log_holds_opens_flushes_and_goes_on() {
    let (world, disk) = (World::default(), CrashDisk::new(3));
    let db = world.open(&disk, &MemoryBudget::new(256 * MIB), "");
    let rows = rows_of(&db);
    for n in 0..600 {
        rows.upsert_batch(&[row(n)]).unwrap();
    }
    assert!(held(&db).0 > 9 * MIB);
    drop(rows);
    db.close().unwrap();

    let budget = MemoryBudget::new(2 * MIB);
    let db = world.open(&disk, &budget, "");
    let rows = db.collection("rows").unwrap();
    let (bytes, segments) = held(&db);
    // What writers may take.
    let most = 2 * MIB / 8 * 7;
    assert!(bytes <= most && segments >= 5, "{bytes} bytes in memtables, {segments} segments");
    assert!(budget.usage(MemoryUse::Memtables).peak_bytes <= most + 4 * ROW_BYTES, "{budget:?}");
    for n in 600..800 {
        rows.upsert_batch(&[row(n)]).unwrap();
        world.work();
    }
    assert_eq!(rows.count().unwrap(), 800);
    assert_eq!(rows.get("r000777").unwrap().unwrap().vector, [777.0; 8]);
}

/// Writes many times the limit, a row at a time: none is refused, and none costs a segment of its own.
fn writes_go_on(world: &World, db: &Db, rows: &Collection) {
    let before = held(db).1;
    for n in 0..1_600 {
        rows.upsert_batch(&[row(n)]).unwrap();
        world.work();
    }
    let segments = held(db).1 - before;
    assert!((1..100).contains(&segments), "{segments} segments of 25 MiB");
}

#[test]
fn what_nobody_flushes_any_more_holds_up_no_other_database() {
    let (world, disk) = (World::default(), CrashDisk::new(7));
    let db = world.open(&disk, &MemoryBudget::new(256 * MIB), "");
    let rows = rows_of(&db);
    for n in 0..600 {
        rows.upsert_batch(&[row(n)]).unwrap();
    }
    drop(rows);
    db.close().unwrap();

    let (budget, live) = (MemoryBudget::new(8 * MIB), CrashDisk::new(8));
    let live = world.open(&live, &budget, "compaction = false\n");
    let new = rows_of(&live);
    // Open for reading only.
    let read = world.builder(Arc::new(disk.clone()), &budget, "").read_only(true).open().unwrap();
    assert!(held(&read).0 > 9 * MIB && budget.used_bytes() > 9 * MIB);
    writes_go_on(&world, &live, &new);
    assert_eq!(read.collection("rows").unwrap().count().unwrap(), 600);
    drop(read);

    // Closed, and a handle of it is still there.
    let closed = world.open(&CrashDisk::new(9), &budget, "");
    let old = rows_of(&closed);
    fill(&old, 0);
    let bytes = held(&closed).0;
    closed.close().unwrap();
    assert!(bytes > 5 * MIB && budget.usage(MemoryUse::Memtables).bytes >= bytes, "{budget:?}");
    writes_go_on(&world, &live, &new);
    drop(old);
}

#[test]
fn a_database_whose_disk_fails_holds_up_itself_and_not_another() {
    let (world, budget) = (World::default(), MemoryBudget::new(8 * MIB));
    let broken = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&broken);
    let hook = move |call: &Call<'_>| {
        let fails = armed.load(Ordering::SeqCst) && call.path.starts_with("/db/collections");
        if fails { Act::Fail(EIO) } else { Act::Go }
    };
    let fs = HookFs::new(Arc::new(CrashDisk::new(10)), Arc::new(hook));
    let bad = world.builder(Arc::new(fs), &budget, "").open().unwrap();
    let good = world.open(&CrashDisk::new(11), &budget, "compaction = false\n");
    let (lost, rows) = (rows_of(&bad), rows_of(&good));
    world.work();
    broken.store(true, Ordering::SeqCst);
    let (written, error) = fill(&lost, 0);
    assert!(is_full_of_memory(&error), "{error}");
    world.work();
    assert!(bad.stats().unwrap().flush_failure.is_some());
    writes_go_on(&world, &good, &rows);
    let refused = lost.upsert_batch(&[row(written)]).unwrap_err();
    assert!(
        is_full_of_memory(&refused) && refused.to_string().contains("the last flush failed"),
        "{refused}"
    );

    broken.store(false, Ordering::SeqCst);
    world.pass(Duration::from_secs(60));
    lost.upsert_batch(&[row(written)]).unwrap();
    assert_eq!((held(&bad).1, lost.count().unwrap()), (1, written + 1));
}

#[test]
fn a_collection_that_cannot_be_flushed_leaves_the_memory_to_the_others_of_its_database() {
    let (world, budget) = (World::default(), MemoryBudget::new(16 * MIB));
    let broken = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&broken);
    let hook = move |call: &Call<'_>| {
        let fails = armed.load(Ordering::SeqCst) && call.path.to_string_lossy().contains("1-lost");
        if fails { Act::Fail(EIO) } else { Act::Go }
    };
    let fs = HookFs::new(Arc::new(CrashDisk::new(12)), Arc::new(hook));
    let db = world.builder(Arc::new(fs), &budget, "compaction = false\n").open().unwrap();
    let lost = db.create_collection("lost", Schema::new(8, Metric::L2)).unwrap();
    let rows = rows_of(&db);
    world.work();
    broken.store(true, Ordering::SeqCst);
    for n in 0..550 {
        lost.upsert_batch(&[row(n)]).unwrap();
    }
    world.work();
    assert!(db.stats().unwrap().flush_failure.is_some());
    for n in 0..1_600 {
        rows.upsert_batch(&[row(n)]).unwrap();
        world.work();
    }
    let stats = db.stats().unwrap();
    let segments: Vec<usize> = stats.collections.iter().map(|collection| collection.segments).collect();
    assert!(segments[0] == 0 && (1..50).contains(&segments[1]), "{segments:?}");
}

#[test]
fn a_write_larger_than_writes_may_take_is_refused_before_anything_is_written() {
    let (world, disk) = (World::default(), CrashDisk::new(4));
    let db = world.open(&disk, &MemoryBudget::new(MIB), "");
    let rows = rows_of(&db);
    for n in 0..3 {
        rows.upsert_batch(&[row(n)]).unwrap();
    }
    let before = db.stats().unwrap().watermarks.appended;
    let error = rows.upsert_batch(&(0..57).map(row).collect::<Vec<_>>()).unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.fate()),
        (ErrorKind::Invalid, "AKI-0288", Fate::NotWritten)
    );
    assert_eq!(db.stats().unwrap().watermarks.appended, before);
    // One that fits when nothing else is there is let through then.
    let batch: Vec<NewRow> = (0..54).map(row).collect();
    assert!(is_full_of_memory(&rows.upsert_batch(&batch).unwrap_err()));
    world.work();
    rows.upsert_batch(&batch).unwrap();
    assert_eq!(rows.count().unwrap(), 54);
}

#[test]
fn a_merge_without_memory_waits_and_says_so_and_begins_when_there_is_some() {
    let (world, budget) = (World::default(), MemoryBudget::new(16 * MIB));
    let (disk, other) = (CrashDisk::new(5), CrashDisk::new(6));
    let (db, other) = (world.open(&disk, &budget, "compaction = false\n"), world.open(&other, &budget, ""));
    let (rows, full) = (rows_of(&db), rows_of(&other));
    world.work();
    for part in 0..3 {
        for n in 0..10 {
            rows.upsert_batch(&[row(part * 10 + n)]).unwrap();
        }
        db.flush().unwrap();
    }
    let (written, error) = fill(&full, 0);
    assert!(is_full_of_memory(&error), "{error}");
    let error = db.compact().unwrap_err();
    assert_eq!(error.code(), "AKI-0289", "{error}");
    assert!(matches!(error.kind(), ErrorKind::Full { which: "memory_bytes", .. }), "{error}");
    assert!(error.help().is_some() && held(&db).1 == 3);
    assert_eq!(budget.usage(MemoryUse::Merges).waits, 1);
    assert!(db.metrics().unwrap().iter().any(|family| family.name == "akidb_memory_waits_total"));

    // The other is flushed for its writer's sake.
    world.pass(Duration::from_secs(1));
    assert_eq!(db.compact().unwrap(), 1);
    assert_eq!((held(&db).1, rows.count().unwrap(), full.count().unwrap()), (1, 30, written));
    let merges = budget.usage(MemoryUse::Merges);
    assert!(merges.bytes == 0 && merges.peak_bytes > 0 && merges.peak_bytes <= 4 * MIB, "{merges:?}");
}
