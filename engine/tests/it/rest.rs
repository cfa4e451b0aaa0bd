//! A database that nobody writes to: everything is flushed, the log is small, what is dead is gone, and writes go on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb::{Collection, Db, Metric, Schema, Settings};
use akidb_host::sim::{CrashDisk, FakeClock};
use akidb_host::{Fs, RealSpawn};
use serde_json::json;

const DIM: usize = 256;

fn vector(n: u16, version: u16) -> Vec<f32> {
    (0..DIM).map(|i| f32::from(n) + f32::from(version) * 0.25 + i as f32).collect()
}

fn put(rows: &Collection, ids: std::ops::Range<u16>, version: u16) {
    let batch = ids.map(|n| (format!("r{n:05}"), vector(n, version), json!({ "version": version })));
    for (id, vector, payload) in batch {
        rows.upsert(id, &vector, payload).unwrap();
    }
}

fn open(disk: &CrashDisk, clock: &Arc<FakeClock>, text: &str) -> Db {
    let builder = Db::builder("/db").settings(Settings::from_toml(text).unwrap());
    builder.components(Arc::new(disk.clone()), Arc::clone(clock) as _, Arc::new(RealSpawn)).open().unwrap()
}

/// Lets the clock run until the database has come to `what`.
fn until(clock: &FakeClock, what: impl Fn() -> bool) {
    while !what() {
        clock.advance(Duration::from_secs(1));
        std::thread::yield_now();
    }
}

/// Bytes of the log files, the reserve for a full disk left out.
fn log_bytes(disk: &CrashDisk) -> u64 {
    let dir = Path::new("/db/wal");
    let names = disk.list(dir).unwrap().into_iter().map(|entry| entry.name);
    let logs = names.filter(|name| name.contains(".wal"));
    logs.map(|name| disk.metadata(&dir.join(name)).map_or(0, |file| file.len)).sum()
}

#[test]
fn a_database_at_rest_is_flushed_merged_and_small_and_wakes_up() {
    let (disk, clock) = (CrashDisk::new(1), Arc::new(FakeClock::default()));
    let text = "[engine]\nmemtable_bytes = \"8 MiB\"\nrest_after_secs = 30\n";
    let db = open(&disk, &clock, text);
    let rows = db.create_collection("rows", Schema::new(256, Metric::L2).int("version")).unwrap();
    put(&rows, 0..8_000, 1);
    db.flush().unwrap();
    // A sixth of them: too few for a merge while somebody writes.
    put(&rows, 0..1_300, 2);
    assert!(log_bytes(&disk) > 4 << 20);
    let settled = || {
        let stats = db.stats().unwrap();
        let merged = stats.collections.iter().all(|c| c.memtable_rows == 0 && c.dead_rows == 0);
        merged && log_bytes(&disk) <= 1 << 20
    };
    until(&clock, settled);
    assert_eq!(rows.count().unwrap(), 8_000);
    let crashed = disk.kill();
    // Awake again, and at rest again: a few rows take a long rest.
    put(&rows, 8_000..8_010, 1);
    assert_eq!(db.stats().unwrap().collections[0].memtable_rows, 10);
    until(&clock, settled);
    assert_eq!(rows.count().unwrap(), 8_010);
    assert_eq!(rows.get("r00007").unwrap().unwrap().vector, vector(7, 2));
    drop(rows);
    db.close().unwrap();
    // A crash at rest leaves nothing to replay.
    let db = open(&crashed, &clock, text);
    assert_eq!(db.recovery().replayed_records, 0);
    let rows = db.collection("rows").unwrap();
    assert_eq!(rows.count().unwrap(), 8_000);
    assert_eq!(rows.get("r00007").unwrap().unwrap().vector, vector(7, 2));
}
