//! Writes that meet a damaged file once they are in the log, where what is written counts before it is synced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use akidb::{Batch, Collection, Db, Error, Expect, Fate, NewRow, Settings};
use akidb_host::sim::{Act, Call, CrashDisk, EIO, Gate, HookFs, Op};
use akidb_host::{RealClock, RealSpawn};
use serde_json::json;

use super::{armed, put, schema};
use crate::arrow_and_async::block_on_all;
use crate::support::in_dir;

/// A database whose log syncs, and whose appends by writers, can be held, and whose newest segment can be made unreadable.
struct Held {
    disk: CrashDisk,
    db: Db,
    rows: Collection,
    other: Collection,
    syncs: Arc<Gate>,
    appends: Arc<Gate>,
    broken: Arc<AtomicBool>,
}

const WRITER: &str = "a-writer";

impl Held {
    /// Two segments of ten rows; what is written counts before it is synced.
    fn new() -> Self {
        let disk = CrashDisk::new(1);
        let syncs = Gate::opened(|call| call.op.syncs() && in_dir(call.path, "wal"));
        let appends = Gate::opened(|call| {
            let thread = std::thread::current();
            let is_writer =
                thread.name().is_some_and(|name| name == WRITER || name.starts_with("akidb-worker"));
            is_writer && matches!(call.op, Op::LogAppend | Op::WriteAt) && in_dir(call.path, "wal")
        });
        let (broken, failing) = armed(EIO, |call| {
            call.op == Op::ReadAt && call.path.extension().is_some_and(|extension| extension == "parquet")
        });
        let (held, appended) = (Arc::clone(&syncs), Arc::clone(&appends));
        let hook = move |call: &Call<'_>| match (failing(call), held.pass(call), appended.pass(call)) {
            (Act::Go, Act::Go, Act::Go) => Act::Go,
            _ => Act::Fail(EIO),
        };
        let fs = Arc::new(HookFs::new(Arc::new(disk.clone()), Arc::new(hook)));
        let text = "[engine]\ndurability = \"memory\"\ncompaction = false\nrest_after_secs = 0\n";
        let builder = Db::builder("/db").settings(Settings::from_toml(text).unwrap());
        let db = builder.components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open().unwrap();
        let rows = db.create_collection("rows", schema()).unwrap();
        let other = db.create_collection("other", schema()).unwrap();
        for n in 0..20 {
            put(&rows, n, 10).unwrap();
            if n % 10 == 9 {
                db.flush().unwrap();
            }
        }
        Self { disk, db, rows, other, syncs, appends, broken }
    }

    /// Writes while a merge moves what was looked up, to where it cannot be read: once it is too late to refuse. Nothing of it is
    /// synced.
    fn write_too_late(&self, write: Way) -> Error {
        self.syncs.shut();
        self.appends.shut();
        let (db, rows) = (self.db.clone(), self.rows.clone());
        let writer = std::thread::Builder::new().name(WRITER.to_owned());
        let writer = writer.spawn(move || write(&db, &rows)).unwrap();
        self.appends.wait_until_held();
        assert_eq!(self.db.compact().unwrap(), 1);
        self.broken.store(true, Ordering::SeqCst);
        self.appends.release();
        let error = writer.join().unwrap().unwrap_err();
        self.broken.store(false, Ordering::SeqCst);
        error
    }

    /// Lets the log be synced, and waits until it is.
    fn sync(&self) {
        self.syncs.release();
        self.other.submit(&[row("there")]).unwrap().wait().unwrap();
    }
}

type Way = fn(&Db, &Collection) -> Result<(), Error>;

fn row(id: &str) -> NewRow {
    NewRow::new(id, [9.0, 9.0], json!({})).unwrap()
}

/// Deletes a row under a key.
fn keyed() -> Batch {
    let mut batch = Batch::new();
    batch.upsert("other", row("of it")).delete("rows", "r00003").idempotency_key("once");
    batch
}

/// The one way that is not awaited.
fn awaited<T>(call: impl Future<Output = Result<T, Error>>) -> Result<(), Error> {
    block_on_all(vec![Box::pin(async { call.await.map(drop) })]).pop().unwrap()
}

/// Every way to write a row that lies in a segment.
const WAYS: &[(&str, Way)] = &[
    ("upsert", |_, rows| rows.upsert("r00003", &[9.0, 9.0], json!({})).map(drop)),
    ("upsert_batch", |_, rows| rows.upsert_batch(&[row("r00003"), row("new")]).map(drop)),
    ("upsert_if", |_, rows| {
        let version = rows.get("r00003")?.unwrap().lsn;
        rows.upsert_if("r00003", &[9.0, 9.0], json!({}), Expect::Version(version)).map(drop)
    }),
    ("delete", |_, rows| rows.delete("r00003").map(drop)),
    ("delete_if", |_, rows| rows.delete_if("r00003", rows.get("r00003")?.unwrap().lsn).map(drop)),
    ("delete_where", |_, rows| rows.delete_where("id = 'r00003'").map(drop)),
    ("update_payload", |_, rows| rows.update_payload("r00003", json!({ "a": 1 })).map(drop)),
    ("write", |db, _| db.write(&keyed()).map(drop)),
    ("upsert_async", |_, rows| awaited(rows.upsert_async("r00003", &[9.0, 9.0], json!({})))),
    ("upsert_batch_async", |_, rows| awaited(rows.upsert_batch_async(vec![row("r00003")]))),
    ("delete_async", |_, rows| awaited(rows.delete_async("r00003"))),
    ("update_payload_async", |_, rows| awaited(rows.update_payload_async("r00003", json!({ "a": 1 })))),
    ("write_async", |db, _| awaited(db.write_async(keyed()))),
];

#[track_caller]
fn assert_told(error: &Error, fate: Fate, who: &str) {
    assert_eq!((error.code(), error.fate()), ("AKI-0203", fate), "{who}: {error}");
    let help = error.help().unwrap();
    assert_eq!(help.contains("the log keeps the row"), fate == Fate::Durable, "{who}: {error}");
    assert_eq!(help.contains("kept once the log is synced"), fate == Fate::Unknown, "{who}: {error}");
    assert!(help.contains("akidb verify") && error.file().is_some(), "{who}: {error}");
}

/// Where a write counts before it is synced, one that could not be applied may be lost still: nobody is told that it is durable
/// before it is, neither who wrote it, nor who sends it again, nor who reads.
#[test]
fn a_write_that_cannot_be_applied_is_not_called_durable_before_it_is_synced() {
    for (way, write) in WAYS {
        let held = Held::new();
        let (db, rows) = (&held.db, &held.rows);
        assert_told(&held.write_too_late(*write), Fate::Unknown, way);
        let is_keyed = way.starts_with("write");
        let tell = |fate: Fate, text: &str| {
            assert_told(&rows.count().unwrap_err(), fate, way);
            let damage = db.stats().unwrap().collections.iter().find_map(|c| c.damage.clone()).unwrap();
            assert!(damage.contains(text), "{way}: {damage}");
            if is_keyed {
                // What was written under the key is this write, however it went.
                assert_told(&db.write(&keyed()).unwrap_err(), fate, way);
            }
            let refused = [rows.delete("r00004").unwrap_err(), rows.delete_where("id = 'r4'").unwrap_err()];
            for error in refused {
                assert_eq!((error.code(), error.fate()), ("AKI-0254", Fate::NotWritten), "{way}: {error}");
            }
        };
        tell(Fate::Unknown, "kept once the log is synced");
        held.sync();
        tell(Fate::Durable, "the write is durable");
        if is_keyed {
            assert_told(&db.submit(&keyed()).unwrap().wait().unwrap_err(), Fate::Durable, way);
        }
        let after = Db::builder("/db")
            .components(Arc::new(held.disk.kill()), Arc::new(RealClock), Arc::new(RealSpawn))
            .open()
            .unwrap();
        let after = after.collection("rows").unwrap().get("r00003").unwrap();
        let is_changed = after.is_none_or(|row| row.vector == [9.0, 9.0] || row.payload.contains_key("a"));
        assert!(is_changed, "{way}: it was durable");
    }
}

/// A batch whose write was applied before the damage is answered as before, in a collection that takes no other.
#[test]
fn a_batch_written_before_the_damage_is_answered_when_sent_again() {
    let held = Held::new();
    let mut earlier = Batch::new();
    earlier.upsert("rows", row("earlier")).idempotency_key("earlier");
    let written = held.db.write(&earlier).unwrap();
    held.write_too_late(|_, rows| rows.delete("r00003").map(drop));
    assert_eq!(held.db.write(&earlier).unwrap(), written);
    held.syncs.release();
}
