//! What a fresh look at the core found, each a test that failed before its fix.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use akidb::{Db, ErrorKind, Metric, Schema, Settings};
use akidb_host::sim::{Act, Call, EIO, Op};
use serde_json::json;

use crate::support::{hooked, in_dir};

#[test]
fn a_collection_whose_empty_directory_is_gone_is_flushed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(1, Metric::L2)).unwrap();
    let home = std::fs::read_dir(dir.path().join("collections")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_dir(home).unwrap();
    rows.upsert("a", &[1.0], json!({})).unwrap();
    db.flush().unwrap();
    assert_eq!(rows.count().unwrap(), 1);
}

#[test]
fn a_damaged_old_manifest_does_not_keep_the_database_shut() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(1, Metric::L2)).unwrap();
    rows.upsert("a", &[1.0], json!({})).unwrap();
    db.flush().unwrap();
    drop(rows);
    db.close().unwrap();
    let manifests = std::fs::read_dir(dir.path().join("manifest")).unwrap();
    let oldest = manifests.map(|entry| entry.unwrap().path()).min().unwrap();
    let mut bytes = std::fs::read(&oldest).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&oldest, bytes).unwrap();

    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.collection("rows").unwrap().count().unwrap(), 1);
}

#[test]
fn dropping_the_collection_that_holds_the_log_lets_the_others_write() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let hook = {
        let broken = Arc::clone(&broken);
        move |call: &Call<'_>| {
            let hit = call.op == Op::CreateNew && in_dir(call.path, "collections");
            if hit && broken.load(Ordering::Acquire) { Act::Fail(EIO) } else { Act::Go }
        }
    };
    let mut settings = Settings::default();
    settings.engine.wal_flush_bytes = 64 << 10;
    settings.engine.wal_max_bytes = 4 << 20;
    settings.engine.write_stall_timeout_ms = 100;
    let db = hooked(dir.path(), Arc::new(hook), settings);
    let full = db.create_collection("full", Schema::new(1, Metric::L2)).unwrap();
    let other = db.create_collection("other", Schema::new(1, Metric::L2)).unwrap();
    broken.store(true, Ordering::Release);
    // Ever smaller rows, until not even a tiny one finds room.
    for bytes in [200 << 10, 4 << 10, 0] {
        let text = "x".repeat(bytes);
        let put = |n| full.upsert(format!("{n}"), &[1.0], json!({ "text": text }));
        let refused = (0..10_000).find_map(|n| put(n).err());
        assert!(matches!(refused.unwrap().kind(), ErrorKind::Full { .. }));
    }

    db.drop_collection("full").unwrap();
    other.upsert("a", &[1.0], json!({})).unwrap();
    assert_eq!(other.count().unwrap(), 1);
}
