//! `durability = "memory"`: what is shown before it is synced, what waits for the sync, and what a power cut takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use akidb::{Collection, Db, Durability, Lsn, Metric, NewRow, Schema, Settings};
use akidb_host::sim::{Act, Call, Gate, Op};
use serde_json::json;

use crate::support::{copy_dir, hooked, in_dir, syncs_log};

fn memory() -> Settings {
    Settings::from_toml("[engine]\ndurability = \"memory\"\n").unwrap()
}

fn is_log_sync(call: &Call<'_>) -> bool {
    syncs_log(call)
}

fn put(rows: &Collection, n: u32) -> Lsn {
    rows.upsert(format!("r{n}"), &[n as f32, 1.0], json!({ "n": n })).unwrap()
}

fn put_all(rows: &Collection, which: std::ops::Range<u32>) {
    for n in which {
        put(rows, n);
    }
}

fn schema() -> Schema {
    Schema::new(2, Metric::L2).int("n")
}

fn marks(db: &Db) -> [Lsn; 4] {
    let marks = db.stats().unwrap().watermarks;
    [marks.appended, marks.visible, marks.synced, marks.flushed].map(|lsn| lsn.parse().unwrap())
}

#[test]
fn rows_are_shown_while_their_sync_is_held_and_a_flush_waits_for_it_with_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(is_log_sync);
    let segment_files = Arc::new(AtomicU64::new(0));
    let (held, counted) = (Arc::clone(&gate), Arc::clone(&segment_files));
    let hook = move |call: &Call<'_>| {
        if call.op == Op::CreateNew && in_dir(call.path, "collections") {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        held.pass(call)
    };
    let db = hooked(dir.path(), Arc::new(hook), memory());
    assert_eq!(db.stats().unwrap().durability, Some("memory"));
    let rows = db.create_collection("rows", schema()).unwrap();
    let other = db.create_collection("other", schema()).unwrap();
    put(&rows, 0);
    db.flush().unwrap();
    let before = segment_files.load(Ordering::SeqCst);

    gate.shut();
    let shown = put(&rows, 1);
    // Nobody waits for it and it is synced all the same: production has the deadline that a model has not.
    gate.wait_until_held();
    assert!(rows.contains("r1").unwrap() && rows.delete("r0").unwrap());
    put(&other, 7);
    let flusher = {
        let db = db.clone();
        std::thread::Builder::new().spawn(move || db.flush()).unwrap()
    };
    let receipt = rows.submit(&[NewRow::new("late", [9.0, 9.0], json!({})).unwrap()]).unwrap();
    let waiting = std::thread::Builder::new().spawn(move || receipt.wait()).unwrap();
    // Writes, searches and a drop go on while flush and receipt wait.
    put_all(&rows, 10..200);
    db.drop_collection("other").unwrap();
    assert_eq!(rows.search(&[0.0, 1.0]).k(1_000).run().unwrap().len(), 192);
    let [appended, visible, synced, flushed] = marks(&db);
    assert!(
        appended == visible && visible > synced && synced >= flushed && shown > synced,
        "{:?}",
        marks(&db)
    );
    assert!(!flusher.is_finished() && !waiting.is_finished(), "something did not wait for the sync");
    assert_eq!(segment_files.load(Ordering::SeqCst), before, "a row that is not synced is in a segment");

    gate.release();
    flusher.join().unwrap().unwrap();
    let last = waiting.join().unwrap().unwrap();
    assert!(marks(&db)[2] >= last, "a receipt means durable in this mode too");
    assert!(segment_files.load(Ordering::SeqCst) > before);
    assert_eq!(rows.count().unwrap(), 192);
}

#[test]
fn a_power_cut_takes_only_what_was_not_synced_and_the_open_says_so() {
    let home = tempfile::tempdir().unwrap();
    let (live, cut) = (home.path().join("live"), home.path().join("cut"));
    let gate = Gate::opened(is_log_sync);
    let db = hooked(&live, gate.hook(), memory());
    let rows = db.create_collection("rows", schema()).unwrap();
    put_all(&rows, 0..20);
    let kept = rows.submit(&[NewRow::new("kept", [1.0, 1.0], json!({})).unwrap()]).unwrap().wait().unwrap();
    // From here on no sync ends: what the disk has is what lies there now.
    gate.shut();
    copy_dir(&live, &cut);
    put_all(&rows, 20..40);
    assert_eq!(rows.count().unwrap(), 41, "they were shown");

    for read_only in [true, false, false] {
        let db = Db::builder(&cut).read_only(read_only).durability(Durability::LocalSynced).open().unwrap();
        let after = db.collection("rows").unwrap();
        assert_eq!(after.count().unwrap(), 21, "what was synced is there, and nothing else");
        assert!((0..20).all(|n| after.contains(format!("r{n}")).unwrap()) && after.contains("kept").unwrap());
        let said = db.recovery().unsynced.as_ref().map(|unsynced| unsynced.kept_up_to.clone());
        // The first open for writing syncs everything: the next one has nothing to say.
        let expected = if cut.join("opened").exists() { None } else { Some(kept.to_string()) };
        assert_eq!(said, expected, "read only: {read_only}");
        if !read_only {
            std::fs::write(cut.join("opened"), "").unwrap();
        }
    }
    gate.release();
}

#[test]
fn a_clean_close_leaves_nothing_to_say_and_a_drop_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for (n, clean) in [(0, true), (1, false), (2, true)] {
        let db = Db::builder(dir.path()).durability(Durability::Memory).open().unwrap();
        let before_was_dropped = n == 2;
        assert_eq!(db.recovery().unsynced.is_some(), before_was_dropped, "open {n}");
        let rows = db.create_collection("rows", schema()).unwrap();
        assert_eq!(rows.count().unwrap(), u64::from(n));
        put(&rows, n);
        if clean {
            db.close().unwrap();
        }
    }
    let db = Db::open(dir.path()).unwrap();
    assert!(db.recovery().unsynced.is_none());
    assert_eq!(db.stats().unwrap().durability, Some("local_synced"));
    assert_eq!(db.collection("rows").unwrap().count().unwrap(), 3);
}

#[test]
fn a_failed_sync_ends_writes_in_memory_durability_and_nothing_of_them_is_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&broken);
    let hook = move |call: &Call<'_>| match asked.load(Ordering::SeqCst) && is_log_sync(call) {
        true => Act::Fail(akidb_host::sim::EIO),
        false => Act::Go,
    };
    let db = hooked(dir.path(), Arc::new(hook), memory());
    let rows = db.create_collection("rows", schema()).unwrap();
    broken.store(true, Ordering::SeqCst);
    put(&rows, 1);
    let error = db.flush().unwrap_err();
    assert_eq!(error.kind(), akidb::ErrorKind::Poisoned, "{error}");
    assert_eq!(db.stats().unwrap().collections[0].segments, 0);
    assert_eq!(rows.count().unwrap(), 1, "reads go on");
    let refused = rows.upsert("r2", &[1.0, 1.0], json!({})).unwrap_err();
    assert_eq!(refused.kind(), akidb::ErrorKind::Poisoned, "{refused}");
}
