//! Several backends, the operators' room and the bound on what is not on a backend: dead ones hold nobody else up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb::{CallKind, Db, ErrorKind, Metric, NewRow, Reason, Schema, Settings, State, Which};
use akidb_backends::fault::{Cause, Fault, FaultStore};
use akidb_host::sim::CrashDisk;
use akidb_host::{RealClock, RealSpawn};
use object_store::memory::InMemory;
use serde_json::json;

use crate::support::{LONG, until};

fn open_over(dir: &Path, backends: &[(&str, &Path, bool)], engine: &str) -> Db {
    let mut text = format!(
        "[storage.circuit_breaker_config]\ncooldown_duration_secs = 1\n\
         [engine]\nremote_commit_interval_ms = 10\ncompaction = false\n{engine}\n"
    );
    for (name, place, required) in backends {
        let url = format!("file://{}", place.display());
        text += &format!("[[backends]]\nname = \"{name}\"\nurl = \"{url}\"\nrequired = {required}\n");
    }
    Db::builder(dir).settings(Settings::from_toml(&text).unwrap()).open().unwrap()
}

/// A file where a directory must be: every call fails.
fn break_place(place: &Path) {
    std::fs::rename(place, place.with_extension("away")).unwrap();
    std::fs::write(place, "not a directory").unwrap();
}

fn mend_place(place: &Path) {
    std::fs::remove_file(place).unwrap();
    std::fs::rename(place.with_extension("away"), place).unwrap();
}

fn two_places(home: &Path) -> [std::path::PathBuf; 2] {
    ["near", "far"].map(|name| {
        let place = home.join(name);
        std::fs::create_dir(&place).unwrap();
        place
    })
}

#[test]
fn a_store_of_the_program_that_panics_ends_nothing_and_is_tried_again() {
    let store = FaultStore::new(Arc::new(InMemory::new()));
    let settings = "[engine]\nremote_commit_interval_ms = 10\ncompaction = false\n";
    let db = Db::builder("/db")
        .settings(Settings::from_toml(settings).unwrap())
        .store("copies", Arc::new(store.clone()))
        .components(Arc::new(CrashDisk::new(1)), Arc::new(RealClock), Arc::new(RealSpawn))
        .open()
        .unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    db.wait_uploaded(LONG).unwrap();
    // One call after the other: an upload has four at least.
    for n in 0..4 {
        rows.upsert(format!("{n}"), &[n as f32, 1.0], json!({})).unwrap();
        let calls = store.calls().len();
        store.script_call(n, Fault::Fail(Cause::Panic));
        db.flush().unwrap();
        db.wait_uploaded(LONG).unwrap();
        let met = store.calls()[calls..].iter().any(|call| call.fault.is_some());
        assert!(met, "nothing panicked in upload {n}");
    }
    db.close().unwrap();
}

#[test]
fn a_dead_backend_delays_neither_writes_nor_the_other_backend() {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [near, far] = two_places(home.path());
    let db = open_over(dir.path(), &[("near", &near, true), ("far", &far, false)], "");
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    db.wait_uploaded(LONG).unwrap();
    break_place(&far);
    for n in 0..5 {
        rows.upsert(format!("{n}"), &[n as f32, 1.0], json!({})).unwrap();
        db.flush().unwrap();
        let flushed = Some(db.stats().unwrap().newest_manifest);
        // The wait covers all backends, so it ends at the dead one; the other is up to date by then or soon.
        db.wait_uploaded(Duration::ZERO).unwrap_err();
        until(|| {
            let near = &db.stats().unwrap().backends[0];
            near.uploaded_manifest >= flushed && near.pending_files == 0
        });
    }
    let stats = db.stats().unwrap();
    assert_eq!((stats.backends[0].pending_files, stats.backends[0].required), (0, true));
    assert!(stats.backends[1].pending_files > 0 && !stats.backends[1].required);
    assert!(stats.backends[1].oldest_pending_secs.is_some());
    assert_eq!(db.backends().dead_letters().unwrap().stats().size, 0, "an outage is not poison");
    mend_place(&far);
    db.wait_uploaded(LONG).unwrap();
    assert!(db.stats().unwrap().backends.iter().all(|backend| backend.pending_files == 0));
}

#[test]
fn the_operators_room_opens_and_resets_breakers_and_says_how_they_stand() {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [near, far] = two_places(home.path());
    let db = open_over(dir.path(), &[("near", &near, true), ("far", &far, true)], "");
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    db.wait_uploaded(LONG).unwrap();
    let room = db.backends();
    assert_eq!(room.names(), ["near", "far"]);
    assert_eq!(room.breakers().len(), 6);
    assert_eq!(room.open_breaker(Some("far"), Some(CallKind::Upload)).unwrap(), 1);
    let open: Vec<_> = room.breakers().into_iter().filter(|view| view.state == State::Open).collect();
    assert_eq!((open.len(), open[0].backend.as_str(), open[0].reason), (1, "far", Some(Reason::Forced)));
    rows.upsert("a", &[1.0, 2.0], json!({})).unwrap();
    db.flush().unwrap();
    let held = db.wait_uploaded(Duration::from_millis(200)).unwrap_err();
    assert_eq!(held.kind(), ErrorKind::Unavailable, "{held}");
    assert_eq!(db.stats().unwrap().backends[0].pending_files, 0, "the other went on");
    assert_eq!(room.reset_breaker(None, None).unwrap(), 6);
    db.wait_uploaded(LONG).unwrap();
    let unknown = room.reset_breaker(Some("neer"), None).unwrap_err();
    assert_eq!((unknown.kind(), unknown.message().contains("near, far")), (ErrorKind::NotFound, true));
    assert_eq!(room.retry_all(&Which::all()).unwrap(), 0);
    let bare = tempfile::tempdir().unwrap();
    assert_eq!(
        Db::open(bare.path()).unwrap().backends().dead_letters().unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_damaged_file_is_a_dead_letter_that_survives_a_close_and_goes_up_once_it_is_mended() {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [near, _] = two_places(home.path());
    let db = open_over(dir.path(), &[("near", &near, true)], "");
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    db.wait_uploaded(LONG).unwrap();
    db.backends().open_breaker(None, None).unwrap();
    rows.upsert("a", &[1.0, 2.0], json!({})).unwrap();
    db.flush().unwrap();
    let [segment] = &segments(dir.path())[..] else { panic!("one segment") };
    let good = std::fs::read(segment).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(segment, bad).unwrap();
    db.backends().reset_breaker(None, None).unwrap();
    until(|| db.backends().dead_letters().unwrap().stats().poison > 0);
    let stats = db.stats().unwrap();
    assert_eq!((stats.backends[0].parked_files, stats.backends[0].pending_files), (1, 1));
    drop(rows);
    db.close().unwrap();
    assert!(dir.path().join("dlq/dlq.json").exists(), "close writes a snapshot");
    let db = open_over(dir.path(), &[("near", &near, true)], "");
    let letter = db.backends().dead_letters().unwrap().list(&Which::all(), 9).remove(0);
    assert_eq!((letter.backend.as_str(), letter.collection_id.as_str()), ("near", "1-rows"));
    assert_eq!(letter.local, *segment);
    std::fs::write(segment, good).unwrap();
    assert!(db.backends().retry(&letter.id).unwrap());
    db.wait_uploaded(LONG).unwrap();
    assert_eq!(db.backends().dead_letters().unwrap().stats().size, 0);
}

fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let collections = std::fs::read_dir(dir.join("collections")).unwrap();
    let files = collections.flat_map(|entry| std::fs::read_dir(entry.unwrap().path()).unwrap());
    let paths = files.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|ends| ends == "parquet")).collect()
}

#[test]
fn writers_are_held_back_by_what_a_required_backend_lacks_and_go_on_by_themselves() {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [near, far] = two_places(home.path());
    let engine = "max_pending_bytes = \"1 MiB\"\nwrite_stall_timeout_ms = 100";
    let db = open_over(dir.path(), &[("near", &near, true), ("far", &far, false)], engine);
    let rows = db.create_collection("rows", Schema::new(256, Metric::L2)).unwrap();
    db.wait_uploaded(LONG).unwrap();
    let batch = |from: u64| -> Vec<NewRow> {
        let row = |n: u64| NewRow::new(format!("{n}"), vec![n as f32; 256], json!({})).unwrap();
        (from..from + 2_000).map(row).collect()
    };
    // Nobody waits for the one that is not required.
    break_place(&far);
    rows.upsert_batch(&batch(0)).unwrap();
    db.flush().unwrap();
    until(|| db.stats().unwrap().backends[0].pending_files == 0);
    rows.upsert_batch(&batch(2_000)).unwrap();
    db.backends().open_breaker(Some("near"), None).unwrap();
    db.flush().unwrap();
    until(|| db.stats().unwrap().held_back_by.is_some());
    let full = rows.upsert("late", &[0.0; 256], json!({})).unwrap_err();
    let ErrorKind::Full { which, .. } = full.kind() else { panic!("{full}") };
    assert_eq!((which, full.fate()), ("max_pending_bytes", akidb::Fate::NotWritten));
    assert!(full.message().contains("backend 'near'"), "{full}");
    assert_eq!(rows.count().unwrap(), 4_000, "searches go on, and the refused row is not there");
    assert!(db.stats().unwrap().held_back_by.unwrap().starts_with("max_pending_bytes"));
    db.backends().reset_breaker(Some("near"), None).unwrap();
    until(|| rows.upsert("late", &[0.0; 256], json!({})).is_ok());
    assert_eq!(db.stats().unwrap().held_back_by, None);
    // Of a backend that is down at the open nothing is known: what was uploaded before does not count against it.
    drop(rows);
    db.flush().unwrap();
    until(|| db.stats().unwrap().backends[0].pending_files == 0);
    db.close().unwrap();
    // Nothing can be claimed there.
    break_place(&near.join("manifest"));
    let db = open_over(dir.path(), &[("near", &near, true)], engine);
    let rows = db.collection("rows").unwrap();
    rows.upsert("later", &[0.0; 256], json!({})).unwrap();
    assert!(db.stats().unwrap().backends[0].pending_bytes > 1 << 20);
    rows.upsert_batch(&batch(4_000)).unwrap();
    db.flush().unwrap();
    until(|| db.stats().unwrap().held_back_by.is_some());
}
