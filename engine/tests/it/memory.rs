//! One limit of bytes for several databases: who is flushed, who waits and how that is seen; and what a merge of long rows
//! takes. The threads of the databases are the test's own, and their clock is the test's.

use std::sync::Arc;
use std::time::Duration;

use akidb::{
    Collection, Db, Error, ErrorKind, Fate, MemoryBudget, MemoryUse, Metric, NewRow, Schema, Settings,
};
use akidb_host::Clock;
use akidb_host::sim::{CrashDisk, FakeClock, InlineSpawn};
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
        let text = format!("[engine]\nmemtable_bytes = \"64 MiB\"\nwrite_stall_timeout_ms = 0\n{rest}");
        let (fs, clock) = (Arc::new(disk.clone()), Arc::clone(&self.clock));
        let builder = Db::builder("/db").settings(Settings::from_toml(&text).unwrap()).memory(budget.clone());
        builder.components(fs, clock, Arc::new(self.spawn.clone())).open().unwrap()
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
    assert!(bytes <= MIB && segments >= 9, "{bytes} bytes in memtables, {segments} segments");
    assert!(budget.usage(MemoryUse::Memtables).peak_bytes <= MIB + 4 * ROW_BYTES, "{budget:?}");
    for n in 600..800 {
        rows.upsert_batch(&[row(n)]).unwrap();
        world.work();
    }
    assert_eq!(rows.count().unwrap(), 800);
    assert_eq!(rows.get("r000777").unwrap().unwrap().vector, [777.0; 8]);
}

#[test]
fn a_write_larger_than_all_memory_is_refused_before_anything_is_written() {
    let (world, disk) = (World::default(), CrashDisk::new(4));
    let db = world.open(&disk, &MemoryBudget::new(MIB), "");
    let rows = rows_of(&db);
    rows.upsert_batch(&[row(0)]).unwrap();
    let before = db.stats().unwrap().watermarks.appended;
    let error = rows.upsert_batch(&(0..70).map(row).collect::<Vec<_>>()).unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.fate()),
        (ErrorKind::Invalid, "AKI-0288", Fate::NotWritten)
    );
    assert_eq!(db.stats().unwrap().watermarks.appended, before);
    // One that fits when nothing else is there is let through then.
    let batch: Vec<NewRow> = (0..60).map(row).collect();
    assert!(is_full_of_memory(&rows.upsert_batch(&batch).unwrap_err()));
    world.work();
    rows.upsert_batch(&batch).unwrap();
    assert_eq!(rows.count().unwrap(), 60);
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
