//! Rows in lists, in a segment without and in a memtable: their estimates are sure to different degrees.

use akidb::{Db, NewRow, PartKind, Schema, Settings};
use akidb_host::Rng;
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

/// Rows in tight clusters, in lists and in segments without: the estimates of these are several times as far off as distances
/// inside a cluster differ, and must not leave those out.
#[test]
fn rows_in_lists_are_found_beside_segments_without() {
    const WIDE: u16 = 256;
    let vector = |n: u64| -> Vec<f32> {
        let numbers = |seed: u64| {
            let mut random = Rng::seeded(seed);
            std::iter::repeat_with(move || random.f64() * 3.0 - 1.5)
        };
        let centre = numbers(1_000_000 + n % 100);
        centre
            .zip(numbers(n))
            .take(WIDE.into())
            .map(|(centre, noise)| (centre + 0.1 * noise) as f32)
            .collect()
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::from_toml(
        "[engine]\ncompaction = false\nmemory_bytes = 1073741824\nmemtable_bytes = 134217728\n",
    )
    .unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let docs = db.create_collection("docs", Schema::new(WIDE, Metric::Cosine).int_ids()).unwrap();
    for range in [0..33_000, 33_000..41_000, 41_000..49_000] {
        let rows: Vec<NewRow> =
            range.map(|n| NewRow::new(i64::try_from(n).unwrap(), vector(n), json!({})).unwrap()).collect();
        for rows in rows.chunks(500) {
            docs.upsert_batch(rows).unwrap();
        }
        db.flush().unwrap();
    }
    let (mut found, mut of) = (0, 0);
    for n in 0..60 {
        let query = vector(50_000_000 + n);
        let search = || docs.search(&query).k(10).with_payload(false);
        let (hits, explained) = search().explain().unwrap();
        assert!(explained.parts.iter().any(|part| part.kind == PartKind::Lists), "{explained:?}");
        let exact = search().exact().run().unwrap();
        let in_lists = |id: &akidb::Id| id.to_string().parse::<u64>().unwrap() < 33_000;
        for hit in exact.iter().filter(|hit| in_lists(&hit.id)) {
            found += usize::from(hits.iter().any(|other| other.id == hit.id));
            of += 1;
        }
    }
    println!("{found} of {of} in lists");
    assert!(found * 100 >= of * 95, "{found} of {of} in lists");
    db.close().unwrap();
}

/// A cluster was deleted, and searches near it go on: what lives lies in other lists.
#[test]
fn where_all_that_lies_near_is_dead_more_lists_are_scanned_and_not_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let docs = db.create_collection("docs", schema(Metric::L2)).unwrap();
    fill(&docs, 0..40_000);
    db.flush().unwrap();
    docs.delete_where("cluster < 8").unwrap();
    for _ in 0..2 {
        let mut found = 0;
        for cluster in 0..8 {
            let query = vector(cluster);
            let search = || docs.search(&query).k(10).with_payload(false);
            let (hits, explained) = search().explain().unwrap();
            let exact = search().exact().run().unwrap();
            let part = &explained.parts[0];
            assert_eq!(hits.len(), 10);
            assert!(!part.exact && part.kind == PartKind::Lists && part.reranked < 4_000, "{part:?}");
            found += exact.iter().filter(|hit| hits.iter().any(|other| other.id == hit.id)).count();
        }
        println!("{found} of 80");
        assert!(found >= 60, "{found} of 80: such queries are like no row");
        db.flush().unwrap();
    }
    db.close().unwrap();
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
