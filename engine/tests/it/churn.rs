//! Recall where rows were deleted or overwritten since their segment's index was calibrated.

use std::collections::BTreeSet;

use akidb::{Batch, Collection, Db, Id, Metric, NewRow, Schema, Settings};
use akidb_host::Rng;
use serde_json::json;

const DIM: usize = 64;
/// Enough for lists.
const ROWS: i64 = 36_000;
const QUERIES: u32 = 150;

/// Around one of many centres, so that lists matter.
fn vector(rng: &mut Rng) -> Vec<f32> {
    let mut centre = Rng::seeded(rng.below(600));
    let bell = |rng: &mut Rng| (0..4).map(|_| rng.f64()).sum::<f64>() as f32 - 2.0;
    (0..DIM).map(|_| bell(&mut centre) + 0.7 * bell(rng)).collect()
}

/// Recall at 10 with default effort, against the exact answer.
fn recall(rows: &Collection, rng: &mut Rng) -> f64 {
    let (mut found, mut wanted) = (0, 0);
    for _ in 0..QUERIES {
        let query = vector(rng);
        let ids = |hits: Vec<akidb::Hit>| hits.into_iter().map(|hit| hit.id).collect::<BTreeSet<Id>>();
        let exact = ids(rows.search(&query).k(10).exact().run().unwrap());
        found += ids(rows.search(&query).k(10).run().unwrap()).intersection(&exact).count();
        wanted += exact.len();
    }
    found as f64 / wanted as f64
}

#[test]
fn default_effort_keeps_its_recall_until_a_third_of_a_segment_is_dead() {
    let seed = 7;
    println!("seed {seed}");
    let mut rng = Rng::seeded(seed);
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::from_toml("[engine]\ncompaction = false\nmemtable_bytes = 67108864\n").unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(DIM as u16, Metric::L2).int_ids()).unwrap();
    let all: Vec<NewRow> =
        (0..ROWS).map(|id| NewRow::new(id, vector(&mut rng), json!({})).unwrap()).collect();
    for chunk in all.chunks(6_000) {
        rows.upsert_batch(chunk).unwrap();
    }
    db.flush().unwrap();
    for percent in [0, 29] {
        let mut deletes = Batch::new();
        for id in (0..ROWS).filter(|id| id % 100 < percent) {
            deletes.delete("rows", id);
        }
        if percent > 0 {
            db.write(&deletes).unwrap();
            db.flush().unwrap();
        }
        let found = recall(&rows, &mut rng);
        println!("{percent} % dead: recall {found:.4}");
        assert!(found >= f64::from(akidb::DEFAULT_RECALL), "{percent} % dead: recall {found}");
    }
}
