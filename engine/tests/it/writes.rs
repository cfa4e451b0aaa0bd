//! Writes beyond the upsert of a row: batches over collections, writes that demand a version, patches of payloads, and
//! deletes by a filter.

use akidb::{Collection, Db, ErrorKind, Expect, Fate, FieldType, Metric, NewRow, Schema};
use akidb_host::sim::Call;
use serde_json::json;

use crate::support::syncs_log;

mod batches;
mod conditions;
mod deletes;
mod patches;

fn row(id: &str, n: i64) -> NewRow {
    NewRow::new(id, [n as f32], json!({ "n": n })).unwrap()
}

fn schema() -> Schema {
    Schema::new(1, Metric::L2).int("n")
}

fn number(rows: &Collection, id: &str) -> Option<i64> {
    rows.get(id).unwrap().map(|row| row.payload["n"].as_i64().unwrap())
}

fn is_log_sync(call: &Call<'_>) -> bool {
    syncs_log(call)
}

fn spawn<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> std::thread::JoinHandle<R> {
    std::thread::Builder::new().spawn(work).unwrap()
}

#[test]
fn a_snapshot_takes_none_of_these_writes() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    let version = rows.upsert("a", &[1.0], json!({ "n": 1 })).unwrap();
    let then = db.snapshot("test").unwrap().collection("rows").unwrap();
    let refused = [
        then.upsert_if("a", &[2.0], json!({}), Expect::Version(version)).unwrap_err(),
        then.delete_if("a", version).unwrap_err(),
        then.update_payload("a", json!({ "n": 2 })).unwrap_err(),
        then.replace_payload("a", json!({})).unwrap_err(),
        then.delete_where("n = 1").unwrap_err(),
        then.delete_where("n = 7").unwrap_err(),
        then.add_field("new", FieldType::Int).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(
            (error.kind(), error.code(), error.fate()),
            (ErrorKind::Invalid, "AKI-0267", Fate::NotWritten)
        );
    }
    assert_eq!((number(&rows, "a"), rows.schema().unwrap()), (Some(1), schema()));
}
