//! Rows deleted by a filter.

use std::collections::BTreeSet;

use akidb::{Collection, Db, ErrorKind, Expect, Lsn, NewRow};
use serde_json::json;

use super::{row, schema, spawn};

fn fill(rows: &Collection, ids: std::ops::Range<i64>) {
    let all: Vec<NewRow> = ids.map(|n| row(&format!("r{n:05}"), n % 10)).collect();
    rows.upsert_batch(&all).unwrap();
}

#[test]
fn rows_are_deleted_by_filter_wherever_they_are_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    fill(&rows, 0..9_000);
    db.flush().unwrap();
    fill(&rows, 6_000..12_000);
    let appended = || db.stats().unwrap().watermarks.appended.parse::<Lsn>().unwrap();
    assert!(rows.delete("r00001").unwrap());
    assert_eq!(rows.delete_where("n = 77").unwrap(), 0);
    assert_eq!(rows.delete_where("nn = 7").unwrap_err().kind(), ErrorKind::Invalid);
    let before = appended();
    // 6,000 rows, one of which is gone: two frames.
    assert_eq!(rows.delete_where("n < 5").unwrap(), 5_999);
    assert_eq!(appended().counter() - before.counter(), 5_999, "a delete was logged twice or for nothing");
    assert_eq!((rows.count_where("n < 5").unwrap(), rows.count().unwrap()), (0, 6_000));
    assert_eq!(rows.delete_where("n < 5").unwrap(), 0);
    db.close().unwrap();
    let rows = Db::open(dir.path()).unwrap().collection("rows").unwrap();
    assert_eq!((rows.count_where("n < 5").unwrap(), rows.count().unwrap()), (0, 6_000));
    assert_eq!(rows.delete_where("n >= 5").unwrap(), 6_000);
}

/// Rows that other writers replace while a delete runs, so that they no longer match, are all there afterwards.
#[test]
fn a_delete_by_filter_spares_rows_replaced_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    let (mut spared, mut all) = (0, 0);
    for round in 0..6 {
        fill(&rows, 0..10_000);
        if round % 2 == 0 {
            db.flush().unwrap();
        }
        let writer = {
            let rows = rows.clone();
            spawn(move || {
                let save = |n: i64| {
                    let id = format!("r{n:05}");
                    // Only a row that is still there is saved.
                    let there = rows.get(id.as_str()).unwrap()?;
                    let saved = rows.upsert_if(id, &[1.0], json!({ "n": 100 }), Expect::Version(there.lsn));
                    saved.ok().map(|_| n)
                };
                (0..10_000).rev().step_by(331).filter_map(save).collect::<BTreeSet<_>>()
            })
        };
        let deleted = rows.delete_where("n < 10").unwrap();
        let saved = writer.join().unwrap();
        assert_eq!(deleted + saved.len() as u64, 10_000, "round {round}");
        assert_eq!(rows.count().unwrap(), saved.len() as u64);
        assert_eq!(rows.delete_where("n = 100").unwrap(), saved.len() as u64);
        spared += saved.len();
        all += deleted;
    }
    println!("{spared} rows spared, {all} deleted");
}
