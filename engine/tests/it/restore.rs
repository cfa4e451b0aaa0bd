//! What is on a backend: after every remote manifest a restore equals the model; a dead backend holds nobody up; one
//! backend has one writer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use akidb::{BackendSettings, Db, ErrorKind, Metric, NewRow, Schema, Settings, restore};
use akidb_host::Rng;
use serde_json::json;

use crate::support::copy_dir;

const LONG: Duration = Duration::from_secs(60);

/// Collection -> id -> number of the write.
type Model = BTreeMap<String, BTreeMap<String, u64>>;

fn url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

fn open_over(dir: &Path, backend: &Path) -> Db {
    // A breaker that a dead backend opened tries it again after a second, not after five minutes.
    let quick = "[engine]\nremote_commit_interval_ms = 10\n\
                 [storage.circuit_breaker_config]\ncooldown_duration_secs = 1\n";
    let settings = Settings::from_toml(quick).unwrap();
    Db::builder(dir).settings(settings).backend("copies", &url(backend)).open().unwrap()
}

fn restored(backend: &Path) -> Model {
    let dir = tempfile::tempdir().unwrap();
    restore(&BackendSettings::new("copies", &url(backend)).unwrap(), dir.path()).unwrap();
    let db = Db::open(dir.path()).unwrap();
    let mut model = Model::new();
    for name in db.collections().unwrap() {
        let rows = db.collection(&name).unwrap();
        let page = rows.scan().limit(10_000).run().unwrap();
        assert_eq!(rows.count().unwrap(), page.len() as u64);
        let one = |row: &akidb::StoredRow| {
            let n = row.payload["n"].as_u64().unwrap();
            assert_eq!(row.vector, vector(n));
            (row.id.to_string(), n)
        };
        model.insert(name, page.iter().map(one).collect());
    }
    model
}

fn vector(n: u64) -> Vec<f32> {
    vec![n as f32, 1.0]
}

fn write(db: &Db, model: &mut Model, rng: &mut Rng, n: u64) {
    let names: Vec<String> = model.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    let name = &names[rng.below(names.len() as u64) as usize];
    let (rows, known) = (db.collection(name).unwrap(), model.get_mut(name).unwrap());
    let id = |rng: &mut Rng| format!("id{:02}", rng.below(30));
    match rng.below(4) {
        0 => {
            let id = id(rng);
            assert_eq!(rows.delete(id.clone()).unwrap(), known.remove(&id).is_some());
        }
        1 => {
            let ids: Vec<String> = (0..5).map(|_| id(rng)).collect();
            let row = |id: &String| NewRow::new(id.clone(), vector(n), json!({ "n": n })).unwrap();
            rows.upsert_batch(&ids.iter().map(row).collect::<Vec<_>>()).unwrap();
            known.extend(ids.into_iter().map(|id| (id, n)));
        }
        _ => {
            let id = id(rng);
            rows.upsert(id.clone(), &vector(n), json!({ "n": n })).unwrap();
            known.insert(id, n);
        }
    }
}

/// Tests 5 and 6 of the design's list.
#[test]
fn after_every_remote_manifest_restore_equals_the_model() {
    let seed: u64 = std::env::var("AKIDB_RESTORE_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| Rng::from_machine().u64());
    println!("AKIDB_RESTORE_SEED={seed}");
    let mut rng = Rng::seeded(seed);
    let (dir, backend) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut db = open_over(dir.path(), backend.path());
    // What is written, and what of it segments hold: the log is not on the backend.
    let (mut model, mut flushed) = (Model::new(), Model::new());
    let mut compared = 0;
    for n in 0..200u64 {
        match rng.below(24) {
            0 => {
                let name = format!("c{}", rng.below(4));
                db.create_collection(&name, Schema::new(2, Metric::L2).int("n")).unwrap();
                model.entry(name.clone()).or_default();
                flushed.entry(name).or_default();
            }
            1 if model.len() > 1 => {
                let name = model.keys().next().unwrap().clone();
                db.drop_collection(&name).unwrap();
                model.remove(&name);
                flushed.remove(&name);
            }
            2 => {
                if rng.below(2) == 0 {
                    db.close().unwrap();
                } else {
                    // Ended without a word, and robbed of its notes: what is pending is derived again.
                    drop(db);
                    for notes in ["dlq", "uploads"] {
                        let _ = std::fs::remove_dir_all(dir.path().join(notes));
                    }
                }
                db = open_over(dir.path(), backend.path());
            }
            3..6 => {
                db.flush().unwrap();
                flushed.clone_from(&model);
            }
            6..9 => {
                db.wait_uploaded(LONG).unwrap();
                assert_eq!(restored(backend.path()), flushed, "step {n}, AKIDB_RESTORE_SEED={seed}");
                compared += 1;
            }
            _ => write(&db, &mut model, &mut rng, n),
        }
    }
    db.flush().unwrap();
    db.wait_uploaded(LONG).unwrap();
    assert_eq!(restored(backend.path()), model, "AKIDB_RESTORE_SEED={seed}");
    println!("{} restores equal the model", compared + 1);
}

#[test]
fn a_dead_backend_holds_nobody_up_and_catches_up_when_it_is_mended() {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (backend, away) = (home.path().join("backend"), home.path().join("away"));
    std::fs::create_dir(&backend).unwrap();
    let db = open_over(dir.path(), &backend);
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2).int("n")).unwrap();
    rows.upsert("before", &vector(1), json!({"n": 1})).unwrap();
    db.flush().unwrap();
    db.wait_uploaded(LONG).unwrap();

    std::fs::rename(&backend, &away).unwrap();
    std::fs::write(&backend, "not a directory").unwrap();
    rows.upsert("during", &vector(2), json!({"n": 2})).unwrap();
    db.flush().unwrap();
    let dead = db.wait_uploaded(Duration::from_secs(1)).unwrap_err();
    assert_eq!(dead.kind(), ErrorKind::Unavailable, "{dead}");
    rows.upsert("still", &vector(3), json!({"n": 3})).unwrap();
    assert_eq!(rows.search(&[0.0, 0.0]).run().unwrap().len(), 3);
    assert!(db.stats().unwrap().backends[0].pending_files > 0);

    std::fs::remove_file(&backend).unwrap();
    std::fs::rename(&away, &backend).unwrap();
    db.flush().unwrap();
    db.wait_uploaded(LONG).unwrap();
    assert_eq!(restored(&backend)["rows"].len(), 3);
    assert_eq!(db.stats().unwrap().backends[0].pending_files, 0);
}

#[test]
fn a_backend_of_another_database_is_refused_and_left_as_it_was() {
    let (mine, other, backend) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = open_over(mine.path(), backend.path());
    db.create_collection("mine", Schema::new(2, Metric::L2)).unwrap();
    db.wait_uploaded(LONG).unwrap();
    let second = open_over(other.path(), backend.path());
    let rows = second.create_collection("other", Schema::new(2, Metric::L2)).unwrap();
    rows.upsert("a", &[1.0, 2.0], json!({})).unwrap();
    second.flush().unwrap();
    let refused = second.wait_uploaded(LONG).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert!(second.stats().unwrap().backends[0].refused.is_some());
    assert_eq!(rows.count().unwrap(), 1, "the local database goes on");
    assert_eq!(restored(backend.path()).keys().collect::<Vec<_>>(), ["mine"]);
}

#[test]
fn of_two_copies_of_a_directory_only_the_one_that_claimed_first_publishes() {
    let (dir, backend, home) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = open_over(dir.path(), backend.path());
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2).int("n")).unwrap();
    rows.upsert("shared", &vector(1), json!({"n": 1})).unwrap();
    db.flush().unwrap();
    db.wait_uploaded(LONG).unwrap();
    drop(rows);
    db.close().unwrap();
    let copy = home.path().join("copy");
    copy_dir(dir.path(), &copy);

    let first = open_over(&copy, backend.path());
    first.collection("rows").unwrap().upsert("first", &vector(2), json!({"n": 2})).unwrap();
    first.flush().unwrap();
    first.wait_uploaded(LONG).unwrap();
    let second = open_over(dir.path(), backend.path());
    let rows = second.collection("rows").unwrap();
    rows.upsert("second", &vector(3), json!({"n": 3})).unwrap();
    second.flush().unwrap();
    let fenced = second.wait_uploaded(LONG).unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");
    assert_eq!(rows.count().unwrap(), 2, "what is local stays");
    let ids: Vec<String> = restored(backend.path())["rows"].keys().cloned().collect();
    assert_eq!(ids, ["first", "shared"]);
}
