//! Payloads that change and keep their vectors.

use akidb::{Collection, Db, ErrorKind, Metric, Schema};
use serde_json::{Value, json};

use super::{schema, spawn};

#[test]
fn a_payload_is_patched_and_its_vector_kept() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2).int("n").text("lang")).unwrap();
    rows.upsert("a", &[0.25, 4.0], json!({"n": 1, "lang": "en", "x": {"p": 1, "q": 2}})).unwrap();
    let now = || {
        let row = rows.get("a").unwrap().unwrap();
        assert_eq!(row.vector, [0.25, 4.0]);
        (row.lsn, Value::Object(row.payload))
    };
    let lsn = rows.update_payload("a", json!({"n": 2, "lang": null, "x": {"p": null, "r": 3}})).unwrap();
    assert_eq!(now(), (lsn, json!({"n": 2, "x": {"q": 2, "r": 3}})));
    db.flush().unwrap();
    let lsn = rows.update_payload("a", json!({"lang": "de"})).unwrap();
    assert_eq!(now(), (lsn, json!({"n": 2, "lang": "de", "x": {"q": 2, "r": 3}})));
    assert_eq!(rows.count_where("lang = 'de' and n = 2").unwrap(), 1);
    let lsn = rows.replace_payload("a", json!({"n": 5})).unwrap();
    assert_eq!(now(), (lsn, json!({"n": 5})));

    let wrong = rows.update_payload("a", json!({"n": "five"})).unwrap_err();
    assert_eq!((wrong.kind(), wrong.code()), (ErrorKind::Invalid, "AKI-0124"));
    assert_eq!(rows.update_payload("a", json!([1])).unwrap_err().code(), "AKI-0212");
    for absent in ["b", "a"] {
        let error = rows
            .update_payload(absent, json!({}))
            .and_then(|_| rows.delete("a"))
            .and_then(|_| rows.replace_payload("a", json!({})));
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "AKI-0217"), "{absent}: {error}");
    }
}

/// Each writer sets keys of its own in one row, beside flushes; all of them are there in the end.
#[test]
fn patches_of_one_row_by_many_writers_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    rows.upsert("a", &[1.0], json!({ "n": 0 })).unwrap();
    let patch = |rows: Collection, t: u32| {
        move || {
            for n in 0..30 {
                let mut patch = serde_json::Map::new();
                patch.insert(format!("{t}-{n}"), json!(n));
                rows.update_payload("a", patch).unwrap();
            }
        }
    };
    let writers: Vec<_> = (0..8).map(|t| spawn(patch(rows.clone(), t))).collect();
    while writers.iter().any(|writer| !writer.is_finished()) {
        db.flush().unwrap();
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(rows.get("a").unwrap().unwrap().payload.len(), 1 + 8 * 30);
}
