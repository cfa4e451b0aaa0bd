//! Rows in lists, in a segment without and in a memtable: their estimates are sure to different degrees.

use akidb::{Db, NewRow, PartKind, Schema, Settings};
use serde_json::json;

use super::{DIM, Metric, fill, recall, row, schema, vector};

#[test]
fn rows_are_found_wherever_they_lie_beside_others() {
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
        let db = Db::builder(dir.path()).settings(settings).open().unwrap();
        let docs = db.create_collection("docs", schema(metric)).unwrap();
        fill(&docs, 0..33_000);
        db.flush().unwrap();
        let moved = |numbers: std::ops::Range<u64>, version| -> Vec<NewRow> {
            numbers.map(|n| row(n * 3, version)).collect()
        };
        docs.upsert_batch(&moved(0..7_000, 1)).unwrap();
        db.flush().unwrap();
        docs.upsert_batch(&moved(4_000..9_000, 2)).unwrap();
        let (found, explained) = recall(&docs, None, 100);
        let kinds: Vec<PartKind> = explained.parts.iter().map(|part| part.kind).collect();
        assert_eq!(kinds, [PartKind::Memtable, PartKind::Lists, PartKind::Flat]);
        println!("{metric:?}: recall {found}");
        assert!(found >= 0.97, "{metric:?}: recall {found}");
        db.close().unwrap();
    }
}

/// Most rows that match were overwritten by such that do not: a queue whose entries are done.
#[test]
fn a_filter_whose_rows_are_mostly_dead_keeps_its_recall() {
    // So few that they are compared one by one, and so many that they are found by codes.
    for one_in in [15, 4] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
        let db = Db::builder(dir.path()).settings(settings).open().unwrap();
        let docs = db.create_collection("docs", schema(Metric::Cosine)).unwrap();
        fill(&docs, 0..60_000);
        db.flush().unwrap();
        let done = (0..60_000).filter(|n| n % 100 < 20 && n / 100 % one_in > 0);
        let done: Vec<NewRow> = done
            .map(|n| {
                let payload = json!({ "bucket": 1_000, "cluster": 0, "version": 1 });
                NewRow::new(i64::try_from(n).unwrap(), vector(n), payload).unwrap()
            })
            .collect();
        docs.upsert_batch(&done).unwrap();
        db.flush().unwrap();
        let left = docs.count_where("bucket < 20").unwrap();
        let (found, explained) = recall(&docs, Some("bucket < 20"), 100);
        println!("{left} left of 12000: recall {found}, {:?}", explained.parts[0]);
        assert_eq!(left, 12_000 / one_in);
        assert!(found >= 0.95, "recall {found} of {left}");
        db.close().unwrap();
    }
}

/// Rows whose vectors are to come: under dot they are all alike, and tell nothing of those that follow.
#[test]
fn zero_vectors_hide_no_other_rows() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let schema = Schema::new(DIM, Metric::Dot).int_ids().int("bucket").int("cluster");
    let docs = db.create_collection("docs", schema).unwrap();
    fill(&docs, 0..1_000);
    db.flush().unwrap();
    let zeros = (100_000..100_300).map(|n| NewRow::new(n, vec![0.0; DIM.into()], json!({})).unwrap());
    docs.upsert_batch(&zeros.collect::<Vec<_>>()).unwrap();
    fill(&docs, 1_000..4_000);
    for _ in 0..2 {
        let (found, _) = recall(&docs, None, 50);
        println!("recall {found}");
        assert!(found >= 0.95, "recall {found}");
        db.flush().unwrap();
    }
    db.close().unwrap();
}
