//! What a fresh look at the core found, each a test that failed before its fix.

use akidb::{Db, Metric, Schema};
use serde_json::json;

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
