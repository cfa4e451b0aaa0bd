//! A history of upserts and deletes, told by how many of them there were: what must be there after a crash needs no more
//! than the number that was acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use akidb::{Collection, Db, Metric, Schema, Settings};
use akidb_host::sim::{Act, Call, CrashDisk, HookFs};
use akidb_host::{Clock, Fs, RealClock, RealSpawn, Rng};
use serde_json::json;

/// Ids in use, so that rows are replaced all the time.
const IDS: u64 = 25;
const DIM: u16 = 32;

/// Id to the number of the write that left it.
pub(crate) type Found = BTreeMap<String, u64>;

fn id(n: u64) -> String {
    format!("r{:02}", n % IDS)
}

fn vector(n: u64) -> Vec<f32> {
    let mut rng = Rng::seeded(n);
    (0..DIM).map(|_| rng.f64() as f32 - 0.5).collect()
}

/// Every seventh write is a delete of a row written shortly before.
fn deletes(n: u64) -> bool {
    n % 7 == 6
}

pub(crate) fn schema() -> Schema {
    Schema::new(DIM, Metric::L2).int("n")
}

/// The n-th write, from 0; it is acknowledged when this returns.
pub(crate) fn write(rows: &Collection, n: u64) {
    if deletes(n) {
        rows.delete(id(n - 3)).unwrap();
    } else {
        rows.upsert(id(n), &vector(n), json!({ "n": n, "fill": "x".repeat(200) })).unwrap();
    }
}

/// What is there after the first `writes` of them.
pub(crate) fn after(writes: u64) -> Found {
    let mut found = Found::new();
    for n in 0..writes {
        if deletes(n) {
            found.remove(&id(n - 3));
        } else {
            found.insert(id(n), n);
        }
    }
    found
}

/// What is there, each row whole, each id once, each found by its own vector.
#[track_caller]
pub(crate) fn found(rows: &Collection) -> Found {
    let page = rows.scan().limit(10_000).run().unwrap();
    let mut found = Found::new();
    for row in &page {
        let n = row.payload["n"].as_u64().unwrap();
        assert_eq!(row.vector, vector(n), "row {} has another version's vector", row.id);
        assert!(found.insert(row.id.to_string(), n).is_none(), "{} is there twice", row.id);
    }
    assert_eq!(rows.count().unwrap(), page.len() as u64);
    if let Some((id, n)) = found.iter().next_back() {
        assert_eq!(rows.search(&vector(*n)).k(1).run().unwrap()[0].id.to_string(), *id);
    }
    found
}

/// Opens `/db` on a simulated disk.
pub(crate) fn open(fs: Arc<dyn Fs>, clock: Arc<dyn Clock>, engine: &str) -> akidb::Result<Db> {
    let settings = Settings::from_toml(&format!("[engine]\n{engine}\n")).unwrap();
    Db::builder("/db").settings(settings).components(fs, clock, Arc::new(RealSpawn)).open()
}

/// What an open after a crash finds in the collection `rows`.
#[track_caller]
pub(crate) fn reopened(disk: &CrashDisk) -> (Db, Collection) {
    let db = open(Arc::new(disk.clone()), Arc::new(RealClock), "").unwrap();
    let rows = db.collection("rows").unwrap();
    (db, rows)
}

/// A disk whose every call is shown to a test together with how many writes are acknowledged.
pub(crate) struct Watched {
    pub(crate) disk: CrashDisk,
    pub(crate) fs: Arc<dyn Fs>,
    acknowledged: Arc<AtomicU64>,
}

impl Watched {
    pub(crate) fn new(
        seed: u64,
        look: impl Fn(&Call<'_>, u64, &CrashDisk) -> Act + Send + Sync + 'static,
    ) -> Self {
        let (disk, acknowledged) = (CrashDisk::new(seed), Arc::new(AtomicU64::new(0)));
        let (seen, known) = (disk.clone(), Arc::clone(&acknowledged));
        // First the number, then whatever is done to the disk: more may be acknowledged in between, not less.
        let hook = move |call: &Call<'_>| look(call, known.load(Ordering::SeqCst), &seen);
        let fs = Arc::new(HookFs::new(Arc::new(disk.clone()), Arc::new(hook)));
        Self { disk, fs, acknowledged }
    }

    /// Writes these, each acknowledged before the next begins.
    pub(crate) fn write(&self, rows: &Collection, which: std::ops::Range<u64>) {
        for n in which {
            write(rows, n);
            self.acknowledged.store(n + 1, Ordering::SeqCst);
        }
    }
}

/// Writes that may follow while the disk is looked at by another thread than the writer's.
const LATER: u64 = 500;

/// After a crash everything acknowledged is there, and what is there is the history up to some write after that.
#[track_caller]
pub(crate) fn assert_kept(disk: &CrashDisk, acknowledged: u64, when: &str) {
    let (_db, rows) = reopened(disk);
    let found = found(&rows);
    let is_later = (acknowledged..acknowledged + LATER).any(|writes| found == after(writes));
    assert!(is_later, "{when}: not what {acknowledged} writes left, nor some more: {found:?}");
}

/// Names of the segment files in the collections of `/db`, temporary ones included.
pub(crate) fn segment_files(disk: &CrashDisk) -> Vec<String> {
    let root = Path::new("/db/collections");
    let dirs = disk.list(root).unwrap();
    let entries = dirs.iter().flat_map(|dir| disk.list(&root.join(&dir.name)).unwrap());
    entries.map(|entry| entry.name).filter(|name| name.contains(".parquet")).collect()
}
