//! Promises about who may write where, and about backends that are away.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb::object_store::memory::InMemory;
use akidb::{Db, ErrorKind, Fate, Metric, NewRow, Schema, Settings, Which};
use akidb_backends::fault::{Cause, Fault, FaultStore};
use serde_json::json;

use crate::history;
use crate::support::copy_dir;

pub(super) const LONG: Duration = Duration::from_secs(60);

fn settings(more: &str) -> Settings {
    let text = format!(
        "[storage.circuit_breaker_config]\ncooldown_duration_secs = 1\n{more}\n\
         [engine]\nremote_commit_interval_ms = 10\ncompaction = false\nmax_pending_bytes = \"1 MiB\"\n\
         write_stall_timeout_ms = 50\n"
    );
    Settings::from_toml(&text).unwrap()
}

fn open(dir: &Path, store: &FaultStore, more: &str) -> Db {
    Db::builder(dir).settings(settings(more)).store("away", Arc::new(store.clone())).open().unwrap()
}

/// What the store holds, read by somebody who has nothing else.
fn there(store: &FaultStore) -> history::Found {
    let cache = tempfile::tempdir().unwrap();
    let cold = Db::builder(cache.path()).store("away", Arc::new(store.clone())).cold(true).open().unwrap();
    history::found(&cold.collection("rows").unwrap())
}

/// 6: one writer a directory: the second open is refused and says by whom. Of two machines with a copy of it each, the
/// older writer publishes nothing from the moment the newer one has claimed the backend. What it may still do is
/// acknowledge rows at home: that it cannot at `Remote` waits for that durability.
#[test]
fn promise_6_a_second_writer_is_refused_by_name_and_an_old_one_publishes_nothing() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = FaultStore::new(Arc::new(InMemory::new()));
    let first = open(old.path(), &store, "");
    let rows = first.create_collection("rows", history::schema()).unwrap();
    (0..10).for_each(|n| history::write(&rows, n));
    first.flush().unwrap();
    first.wait_uploaded(LONG).unwrap();

    let refused = Db::open(old.path()).unwrap_err();
    assert_eq!((refused.kind(), refused.fate()), (ErrorKind::Locked, Fate::NotWritten), "{refused}");
    assert!(refused.message().contains(&format!("pid {}", std::process::id())), "{refused}");
    assert_eq!(rows.count().unwrap(), history::after(10).len() as u64, "the holder is not disturbed");

    // The directory as another machine has it, while the first is alive.
    copy_dir(old.path(), new.path());
    let second = open(new.path(), &store, "");
    let newer = second.collection("rows").unwrap();
    (10..20).for_each(|n| history::write(&newer, n));
    second.flush().unwrap();
    second.wait_uploaded(LONG).unwrap();
    let published = there(&store);
    assert_eq!(published, history::after(20));

    rows.upsert("late", &[0.5; 32], json!({ "n": 99 })).unwrap();
    first.flush().unwrap();
    let fenced = first.wait_uploaded(LONG).unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");
    assert!(first.stats().unwrap().backends[0].refused.is_some());
    assert_eq!(there(&store), published, "the old writer changed what is there");
    (20..30).for_each(|n| history::write(&newer, n));
    second.flush().unwrap();
    second.wait_uploaded(LONG).unwrap();
    assert_eq!(there(&store), history::after(30));
}

/// 7: without its backend a database writes and searches on until `max_pending_bytes`, then refuses writes before it takes
/// them; a restart forgets nothing of what is pending; it drains by itself when the backend is back.
#[test]
fn promise_7_an_outage_stops_no_write_before_its_bound_and_loses_nothing_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = FaultStore::new(Arc::new(InMemory::new()));
    let db = open(dir.path(), &store, "");
    let rows = db.create_collection("rows", history::schema()).unwrap();
    let bulk = db.create_collection("bulk", Schema::new(256, Metric::L2)).unwrap();
    db.wait_uploaded(LONG).unwrap();
    store.set_dead(Some(Cause::Refused));
    for part in 0..3 {
        (part * 10..(part + 1) * 10).for_each(|n| history::write(&rows, n));
        assert_eq!(history::found(&rows), history::after((part + 1) * 10));
        db.flush().unwrap();
    }
    let large: Vec<NewRow> =
        (0..1_100).map(|n| NewRow::new(format!("{n}"), vec![n as f32; 256], json!({})).unwrap()).collect();
    bulk.upsert_batch(&large).unwrap();
    db.flush().unwrap();
    while db.stats().unwrap().held_back_by.is_none() {
        std::thread::yield_now();
    }
    let full = rows.upsert("late", &[0.0; 32], json!({ "n": 0 })).unwrap_err();
    let ErrorKind::Full { which, .. } = full.kind() else { panic!("{full}") };
    assert_eq!((which, full.fate()), ("max_pending_bytes", Fate::NotWritten), "{full}");
    assert_eq!(history::found(&rows), history::after(30), "searches go on, and the refused row is not there");
    assert_eq!(db.backends().dead_letters().unwrap().stats().size, 0, "an outage makes no dead letters");

    drop((rows, bulk));
    db.close().unwrap();
    let db = open(dir.path(), &store, "");
    let rows = db.collection("rows").unwrap();
    assert_eq!(history::found(&rows), history::after(30));
    assert!(db.stats().unwrap().backends[0].pending_files >= 4);
    store.set_dead(None);
    db.wait_uploaded(LONG).unwrap();
    assert_eq!(there(&store), history::after(30));
    while rows.upsert("late", &[0.0; 32], json!({ "n": 0 })).is_err() {}
}

/// 7, of dead letters: one that is evicted by a list too short leaves its file pending, here and after a restart, and the
/// file goes up once the store takes it. (That one leaves its list by age is the same step, and is tested in the crate
/// `backends`; only what is parked waits up to an hour or for a person.)
#[test]
fn promise_7_a_dead_letter_that_is_evicted_drops_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = FaultStore::new(Arc::new(InMemory::new()));
    let short = "[storage.dlq_config]\nmax_size = 1\n";
    let db = open(dir.path(), &store, short);
    let rows = db.create_collection("rows", history::schema()).unwrap();
    db.wait_uploaded(LONG).unwrap();
    store.set_poison(Some((".parquet", Fault::Fail(Cause::Status(400, None)))));
    for part in 0..3 {
        (part * 10..(part + 1) * 10).for_each(|n| history::write(&rows, n));
        db.flush().unwrap();
    }
    while db.backends().dead_letters().unwrap().stats().total_evictions < 2 {
        let refused = db.wait_uploaded(Duration::ZERO).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        std::thread::yield_now();
    }
    let stats = db.stats().unwrap().backends.remove(0);
    assert_eq!(stats.pending_files, 3, "{stats:?}");
    assert_eq!(history::found(&rows), history::after(30));

    drop(rows);
    db.close().unwrap();
    let db = open(dir.path(), &store, short);
    assert_eq!(db.stats().unwrap().backends[0].pending_files, 3, "as many after a restart");
    store.set_poison(None);
    // A put that was refused just before makes one more letter.
    while db.wait_uploaded(Duration::from_millis(100)).is_err() {
        db.backends().retry_all(&Which::all()).unwrap();
    }
    assert_eq!(db.backends().dead_letters().unwrap().stats().size, 0);
    assert_eq!(there(&store), history::after(30));
}
