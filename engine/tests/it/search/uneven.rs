//! Rows among which one dwarfs the others: what is found at the default effort is what there is, in memory and in a small segment.

use akidb::{Db, Metric, NewRow};

use super::{recall, row, schema, vector};

const ROWS: u64 = 3_000;

/// Rows `0..ROWS`, of which `n` is `factor` times as long.
fn with_a_long_one(n: u64, factor: f32) -> Vec<NewRow> {
    let mut rows: Vec<NewRow> = (0..ROWS).map(|n| row(n, 0)).collect();
    let long: Vec<f32> = vector(n).iter().map(|number| number * factor).collect();
    let payload = rows[usize::try_from(n).unwrap()].payload.clone();
    rows[usize::try_from(n).unwrap()] = NewRow::new(i64::try_from(n).unwrap(), long, payload).unwrap();
    rows
}

#[test]
fn one_row_that_dwarfs_the_others_costs_them_no_recall() {
    for metric in [Metric::L2, Metric::Dot] {
        // Among those that the centre is taken from, and later.
        for (at, factor) in [(100, 5_000.0), (100, 100_000.0), (1_000, 300.0), (1_000, 100_000.0)] {
            let dir = tempfile::tempdir().unwrap();
            let db = Db::open(dir.path()).unwrap();
            let docs = db.create_collection("docs", schema(metric)).unwrap();
            for batch in with_a_long_one(at, factor).chunks(500) {
                docs.upsert_batch(batch).unwrap();
            }
            for place in ["memory", "a segment"] {
                let (found, explained) = recall(&docs, None, 20);
                let about =
                    format!("{metric:?}, row {at}, {factor} times, in {place}: {found} {explained:?}");
                assert!(found > 0.95, "{about}");
                let long: Vec<f32> = vector(at).iter().map(|number| number * factor).collect();
                let first = docs.search(&long).k(1).run().unwrap().remove(0);
                assert_eq!(first.id, i64::try_from(at).unwrap().into(), "{about}");
                db.flush().unwrap();
            }
            db.close().unwrap();
        }
    }
}
