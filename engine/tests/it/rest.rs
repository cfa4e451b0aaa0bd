//! A database that nobody writes to: everything is flushed, the log is small, what is dead is gone, and writes go on.
//! Its threads are the test's own, and its clock is the test's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb::{Collection, Db, Metric, Schema, Settings};
use akidb_host::sim::{CrashDisk, FakeClock, InlineSpawn};
use akidb_host::{Clock, Fs};
use serde_json::json;

const DIM: usize = 256;

fn vector(n: u16, version: u16) -> Vec<f32> {
    (0..DIM).map(|i| f32::from(n) + f32::from(version) * 0.25 + i as f32).collect()
}

fn put(rows: &Collection, ids: std::ops::Range<u16>, version: u16) {
    for n in ids {
        rows.upsert(format!("r{n:05}"), &vector(n, version), json!({ "version": version })).unwrap();
    }
}

struct World {
    disk: CrashDisk,
    clock: Arc<FakeClock>,
    spawn: InlineSpawn,
}

impl World {
    fn on(disk: CrashDisk) -> Self {
        Self { disk, clock: Arc::default(), spawn: InlineSpawn::default() }
    }

    fn open(&self) -> Db {
        let text = "[engine]\nmemtable_bytes = \"32 MiB\"\nrest_after_secs = 30\n";
        let builder = Db::builder("/db").settings(Settings::from_toml(text).unwrap());
        let (fs, clock) = (Arc::new(self.disk.clone()), Arc::clone(&self.clock));
        builder.components(fs, clock, Arc::new(self.spawn.clone())).open().unwrap()
    }

    /// Lets time pass, and the database's threads look every second.
    fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.spawn.run_until_idle(self.clock.now());
            self.clock.advance(Duration::from_secs(1));
        }
        self.spawn.run_until_idle(self.clock.now());
    }

    /// Bytes of the log files, the reserve for a full disk left out.
    fn log_bytes(&self) -> u64 {
        let dir = Path::new("/db/wal");
        let names = self.disk.list(dir).unwrap().into_iter().map(|entry| entry.name);
        let logs = names.filter(|name| name.contains(".wal"));
        logs.map(|name| self.disk.metadata(&dir.join(name)).map_or(0, |file| file.len)).sum()
    }
}

/// Rows in memtables, and dead ones in segments.
fn unsettled(db: &Db) -> (u64, u64) {
    let stats = db.stats().unwrap();
    (stats.collections[0].memtable_rows, stats.collections[0].dead_rows)
}

#[test]
fn a_database_at_rest_is_flushed_merged_and_small_and_wakes_up() {
    let world = World::on(CrashDisk::new(1));
    let db = world.open();
    let rows = db.create_collection("rows", Schema::new(256, Metric::L2).int("version")).unwrap();
    put(&rows, 0..8_000, 1);
    db.flush().unwrap();
    // A sixth of them: too few for a merge while somebody writes.
    put(&rows, 0..1_300, 2);
    assert!(world.log_bytes() > 4 << 20);
    world.pass(29);
    assert_eq!(unsettled(&db), (1_300, 1_300), "not yet");
    world.pass(3);
    assert_eq!(unsettled(&db), (0, 0));
    assert!(world.log_bytes() <= 1 << 20, "{} bytes of log", world.log_bytes());
    let at_rest = world.disk.kill();

    // Awake again: as many dead rows are left where they are ...
    put(&rows, 2_000..3_300, 3);
    world.pass(1);
    db.flush().unwrap();
    world.pass(3);
    assert_eq!(unsettled(&db), (0, 1_300));
    // ... and a few rows are no reason to flush, for a while.
    put(&rows, 8_000..8_010, 1);
    world.pass(29);
    assert_eq!(unsettled(&db), (10, 1_300));
    world.pass(870);
    assert_eq!(unsettled(&db), (10, 1_300), "what is there to gain is little");
    world.pass(5);
    assert_eq!(unsettled(&db), (0, 0));
    assert_eq!(rows.count().unwrap(), 8_010);
    assert_eq!(rows.get("r02007").unwrap().unwrap().vector, vector(2_007, 3));
    drop(rows);
    db.close().unwrap();

    // A crash at rest leaves nothing to replay.
    let world = World::on(at_rest);
    let db = world.open();
    assert_eq!(db.recovery().replayed_records, 0);
    let rows = db.collection("rows").unwrap();
    assert_eq!(rows.count().unwrap(), 8_000);
    assert_eq!(rows.get("r00007").unwrap().unwrap().vector, vector(7, 2));
}
