//! A database whose threads and clock are the test's own, and rows with a time.

use std::sync::Arc;
use std::time::Duration;

use akidb::{Collection, Db, Metric, Schema, Settings};
use akidb_host::sim::{CrashDisk, FakeClock, InlineSpawn};
use akidb_host::{Clock, Fs};
use serde_json::{Value, json};

pub(crate) const DIM: usize = 8;
pub(crate) const MINUTE: i64 = 60_000_000;

pub(crate) fn schema() -> Schema {
    Schema::new(DIM as u16, Metric::L2).int("n").timestamp("until").expires_by("until")
}

pub(crate) fn vector(n: u32) -> Vec<f32> {
    let place = |d: usize| f64::from(n.wrapping_mul(2_654_435_761).rotate_left(3 * d as u32) % 1_009);
    (0..DIM).map(|d| (place(d) / 64.0 - 7.0) as f32).collect()
}

pub(crate) fn payload(n: u32, until: Option<i64>) -> Value {
    match until {
        Some(until) => json!({ "n": n, "until": until }),
        None => json!({ "n": n }),
    }
}

pub(crate) fn id(n: u32) -> String {
    format!("r{n:05}")
}

pub(crate) fn put(rows: &Collection, n: u32, until: Option<i64>) {
    rows.upsert(id(n), &vector(n), payload(n, until)).unwrap();
}

/// The ids that a scan shows.
pub(crate) fn shown(rows: &Collection) -> Vec<String> {
    let page = rows.scan().limit(100_000).run().unwrap();
    assert_eq!(rows.count().unwrap(), page.len() as u64);
    page.iter().map(|row| row.id.to_string()).collect()
}

/// Rows that are stored and not deleted, expired or not.
pub(crate) fn stored(db: &Db) -> u64 {
    db.stats().unwrap().collections[0].rows
}

pub(crate) struct World {
    pub(crate) disk: CrashDisk,
    fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) spawn: InlineSpawn,
    engine: String,
}

impl World {
    /// With these lines below `[engine]`.
    pub(crate) fn new(engine: &str) -> Self {
        Self::on(CrashDisk::new(1), engine)
    }

    pub(crate) fn on(disk: CrashDisk, engine: &str) -> Self {
        let fs = Arc::new(disk.clone());
        Self { disk, fs, clock: Arc::default(), spawn: InlineSpawn::default(), engine: engine.to_owned() }
    }

    /// Calls of the file system go by way of `fs`.
    pub(crate) fn through(self, fs: Arc<dyn Fs>) -> Self {
        Self { fs, ..self }
    }

    pub(crate) fn open(&self) -> Db {
        let settings = Settings::from_toml(&format!("[engine]\n{}\n", self.engine)).unwrap();
        let spawn = Arc::new(self.spawn.clone());
        let builder = Db::builder("/db").settings(settings);
        builder.components(Arc::clone(&self.fs), self.clock.clone(), spawn).open().unwrap()
    }

    /// The wall clock, with so many minutes added.
    pub(crate) fn in_minutes(&self, minutes: i64) -> i64 {
        self.clock.unix_micros() + minutes * MINUTE
    }

    /// Lets the database's threads do what is due now.
    pub(crate) fn work(&self) {
        self.spawn.run_until_idle(self.clock.now());
    }

    /// Lets time pass, and the database's threads look every second.
    pub(crate) fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.work();
            self.clock.advance(Duration::from_secs(1));
        }
        self.work();
    }
}
