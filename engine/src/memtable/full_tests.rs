//! More rows than a memtable has slots for: appended before any is applied, in the log of a crash, and in one that is only read.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use akidb_host::sim::{CrashDisk, FakeClock, Gate, HookFs, InlineSpawn, Op};
use akidb_host::{RealClock, RealSpawn};
use serde_json::json;

use super::MAX_SLOTS;
use crate::{Batch, Collection, Db, Metric, NewRow, Schema, Settings};

thread_local! {
    /// Slots of the memtables that this thread makes; others are as large as those of the program.
    pub(super) static MOST_SLOTS: Cell<usize> = const { Cell::new(MAX_SLOTS) };
}

const SLOTS: usize = 200;
/// Codes begin at 256 rows of a memtable.
const SLOTS_WITH_CODES: usize = 600;
const DIM: u16 = 8;

fn settings() -> Settings {
    Settings::from_toml("[engine]\nwrite_stall_timeout_ms = 0\ncompaction = false\n").unwrap()
}

fn row(n: usize) -> NewRow {
    let vector: Vec<f32> = (0..DIM).map(|i| f32::from(i) + n as f32).collect();
    NewRow::new(format!("r{n}"), vector, json!({"n": n})).unwrap()
}

fn rows(numbers: std::ops::Range<usize>) -> Vec<NewRow> {
    numbers.map(row).collect()
}

/// Each row is there once, wherever it is looked for.
fn check(docs: &Collection, count: usize, place: &str) {
    assert_eq!(docs.count().unwrap(), count as u64, "{place}");
    for n in [0, SLOTS - 1, SLOTS, SLOTS + 1, count / 2, count - 1] {
        let found = docs.get(format!("r{n}")).unwrap().unwrap();
        assert_eq!(found.payload["n"], json!(n), "{place}");
        let hits = docs.search(&row(n).vector).k(1).exact().run().unwrap();
        assert_eq!(hits[0].id.to_string(), format!("r{n}"), "{place}");
        assert_eq!(docs.search(&row(n).vector).k(10).run().unwrap().len(), 10, "{place}");
    }
}

fn sealed(db: &Db) -> usize {
    let current = db.engine().current();
    current.content().collections.values().map(|state| state.sealed.len()).sum()
}

#[test]
fn what_is_appended_while_a_sync_stands_still_finds_room() {
    for slots in [SLOTS, SLOTS_WITH_CODES] {
        MOST_SLOTS.set(slots);
        let in_log = |path: &Path| path.components().any(|part| part.as_os_str() == "wal");
        let gate = Gate::opened(move |call| call.op == Op::SyncData && in_log(call.path));
        let fs = Arc::new(HookFs::new(Arc::new(CrashDisk::new(1)), gate.hook()));
        let builder = Db::builder("/db").settings(settings());
        let db = builder.components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open().unwrap();
        let docs = db.create_collection("docs", Schema::new(DIM, Metric::L2)).unwrap();
        let others = db.create_collection("others", Schema::new(DIM, Metric::L2)).unwrap();
        gate.shut();
        // The memtable is empty for whoever looks: nothing is applied.
        let mut receipts = Vec::new();
        let count = 5 * slots;
        for from in (0..count).step_by(50) {
            receipts.push(docs.submit(&rows(from..from + 50)).unwrap());
        }
        let mut both = Batch::new();
        for row in rows(0..slots) {
            both.upsert("others", row);
        }
        // One row again, in another memtable than before, and one that goes.
        both.upsert("docs", row(0));
        both.upsert("docs", row(count));
        both.delete("docs", "r1");
        receipts.push(db.submit(&both).unwrap());
        assert_eq!(docs.count().unwrap(), 0);
        gate.release();
        for receipt in &receipts {
            receipt.wait().unwrap();
        }
        check(&docs, count, "in memory");
        assert_eq!(others.count().unwrap(), slots as u64);
        db.flush().unwrap();
        check(&docs, count, "flushed");
        db.close().unwrap();
    }
    MOST_SLOTS.set(MAX_SLOTS);
}

#[test]
fn a_log_of_more_rows_than_a_memtable_has_slots_is_replayed() {
    let disk = CrashDisk::new(2);
    let open = |disk: &CrashDisk, read_only| {
        let clock = Arc::new(FakeClock::default());
        let builder = Db::builder("/db").settings(settings()).read_only(read_only);
        let spawn = Arc::new(InlineSpawn::default());
        builder.components(Arc::new(disk.clone()), clock, spawn).open().unwrap()
    };
    let db = open(&disk, false);
    let docs = db.create_collection("docs", Schema::new(DIM, Metric::L2)).unwrap();
    // One frame is most of a memtable; and many that are small follow.
    for from in 0..5 {
        docs.upsert_batch(&rows(from * (SLOTS - 10)..(from + 1) * (SLOTS - 10))).unwrap();
    }
    let count = 5 * (SLOTS - 10) + 3 * SLOTS;
    for row in rows(count - 3 * SLOTS..count) {
        docs.submit(&[row]).unwrap();
    }
    docs.upsert_batch(&[row(count - 1)]).unwrap();
    let crashed = disk.kill();
    assert_eq!(sealed(&db), 0, "it was never full");
    MOST_SLOTS.set(SLOTS);
    let reader = open(&crashed.kill(), true);
    check(&reader.collection("docs").unwrap(), count, "read only");
    assert!(sealed(&reader) >= 7);
    let db = open(&crashed, false);
    MOST_SLOTS.set(MAX_SLOTS);
    let docs = db.collection("docs").unwrap();
    check(&docs, count, "replayed");
    assert!(sealed(&db) >= 7);
    db.flush().unwrap();
    check(&docs, count, "flushed");
    db.close().unwrap();
}
