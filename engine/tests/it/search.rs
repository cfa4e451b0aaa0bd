//! Searches by codes against exact ones: fresh rows, segments, filters, deletes, damage.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use akidb::{Collection, Db, Explained, Hit, Metric, NewRow, PartKind, Schema, Settings};
use akidb_host::Rng;
use serde_json::json;

mod mixed;
mod proven;
mod replayed;
mod thinned;
mod uneven;

const DIM: u16 = 64;
const CLUSTERS: u64 = 40;

/// Rows around cluster centres, as embeddings lie; `n` alone says where.
fn vector(n: u64) -> Vec<f32> {
    let noise = |seed: u64| {
        let mut random = Rng::seeded(seed);
        let gaussian = move || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        std::iter::repeat_with(gaussian)
    };
    let centre = noise(1_000_000 + n % CLUSTERS);
    centre.zip(noise(n)).take(DIM.into()).map(|(centre, noise)| (centre + 0.6 * noise) as f32).collect()
}

fn row(n: u64, version: u64) -> NewRow {
    let payload = json!({"bucket": n % 100, "cluster": n % CLUSTERS, "version": version});
    NewRow::new(i64::try_from(n).unwrap(), vector(n + version * 1_000_000_007), payload).unwrap()
}

fn schema(metric: Metric) -> Schema {
    Schema::new(DIM, metric).int_ids().int("bucket").int("cluster")
}

fn fill(docs: &Collection, numbers: std::ops::Range<u64>) {
    let rows: Vec<NewRow> = numbers.map(|n| row(n, 0)).collect();
    for batch in rows.chunks(500) {
        docs.upsert_batch(batch).unwrap();
    }
}

fn ids(hits: &[Hit]) -> HashSet<String> {
    hits.iter().map(|hit| hit.id.to_string()).collect()
}

/// The share of the exact answer that the default search finds, over queries that are no rows, and what the last did.
fn recall(docs: &Collection, filter: Option<&str>, queries: u64) -> (f64, Explained) {
    let (mut found, mut of, mut last) = (0, 0, Explained::default());
    for n in 0..queries {
        let query = vector(50_000_000 + n);
        let search = || {
            let search = docs.search(&query).k(10).with_payload(false);
            match filter {
                Some(filter) => search.filter(filter),
                None => search,
            }
        };
        let exact = search().exact().run().unwrap();
        let (hits, explained) = search().explain().unwrap();
        assert_eq!(hits.len(), exact.len(), "k rows come back");
        for hit in &hits {
            // A score is exact however the row was found.
            if let Some(same) = exact.iter().find(|exact| exact.id == hit.id) {
                assert_eq!(same.score.to_bits(), hit.score.to_bits());
            }
        }
        found += ids(&hits).intersection(&ids(&exact)).count();
        of += exact.len();
        last = explained;
    }
    (found as f64 / of as f64, last)
}

#[test]
fn fresh_rows_and_segments_are_found_by_their_codes() {
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        let docs = db.create_collection("docs", schema(metric)).unwrap();
        fill(&docs, 0..3_000);
        let (fresh, explained) = recall(&docs, None, 40);
        assert_eq!(explained.parts.len(), 1);
        assert!(
            explained.parts[0].kind == PartKind::Memtable
                && !explained.exact
                && explained.parts[0].reranked < 600
        );
        db.flush().unwrap();
        let (flat, explained) = recall(&docs, None, 40);
        assert_eq!(explained.parts[0].kind, PartKind::Flat);
        fill(&docs, 3_000..5_500);
        let (both, explained) = recall(&docs, None, 40);
        assert_eq!(explained.parts.len(), 2);
        println!("{metric:?}: recall of fresh rows {fresh}, of a segment {flat}, of both {both}");
        assert!(fresh >= 0.95 && flat >= 0.95 && both >= 0.95, "{metric:?}: {fresh}, {flat}, {both}");
        db.close().unwrap();
    }
}

#[test]
fn a_filter_asked_often_gets_codes_of_its_own_and_loses_nothing() {
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        let docs = db.create_collection("docs", schema(metric)).unwrap();
        fill(&docs, 0..6_000);
        db.flush().unwrap();
        // Dead rows in the segment, and fresh ones that match too.
        docs.upsert_batch(&(0..6_000).step_by(9).map(|n| row(n, 1)).collect::<Vec<_>>()).unwrap();
        (0..6_000).step_by(7).for_each(|n| assert!(docs.delete(n).unwrap()));
        for filter in ["bucket < 20", "cluster in (1, 2, 3, 4, 5)", "bucket < 50 and cluster < 30"] {
            let (before, explained) = recall(&docs, Some(filter), 5);
            let segment = |explained: &Explained| {
                explained.parts.iter().find(|part| part.rows == 6_000).unwrap().clone()
            };
            assert_ne!(
                segment(&explained).kind,
                PartKind::Subset,
                "nothing is made for a filter asked seldom"
            );
            let matched = segment(&explained).matched;
            (0..matched / 64).for_each(|n| drop(docs.search(&vector(n)).filter(filter).run().unwrap()));
            let (after, explained) = recall(&docs, Some(filter), 40);
            let part = segment(&explained);
            println!("{metric:?}, {filter}: recall {before}, then {after}; {part:?}");
            assert_eq!((part.kind, part.scanned <= part.matched), (PartKind::Subset, true));
            assert!(after >= 0.95, "{metric:?}, {filter}: {after}");
            // A search for more than all is exact.
            let all = docs.search(&vector(3)).filter(filter).k(10_000).run().unwrap();
            assert_eq!(all.len() as u64, docs.count_where(filter).unwrap());
        }
        db.close().unwrap();
    }
}

#[test]
fn a_large_segment_has_lists_and_reaches_its_recall() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let docs = db.create_collection("docs", schema(Metric::Cosine)).unwrap();
    fill(&docs, 0..33_000);
    db.flush().unwrap();
    let (found, explained) = recall(&docs, None, 60);
    let part = &explained.parts[0];
    println!("recall {found}, {part:?}");
    assert!(found >= 0.93, "recall {found}");
    assert!(part.kind == PartKind::Lists && part.scanned < part.rows / 2, "{part:?}");
    for filter in ["bucket < 50", "bucket < 20", "bucket = 7", "cluster = 3", "cluster in (1, 2, 3, 4, 5)"] {
        let (found, explained) = recall(&docs, Some(filter), 30);
        println!("{filter}: recall {found}, {:?}", explained.parts[0]);
        assert!(found >= 0.95, "{filter}: recall {found}");
    }
    db.close().unwrap();
    // The same file answers the same way after a reopen, whatever was in memory before.
    let docs = Db::open(dir.path()).unwrap().collection("docs").unwrap();
    assert!((recall(&docs, None, 60).0 - found).abs() < 0.1);
}

/// Several segments and a tail, a fifth of the rows overwritten far away and a tenth deleted.
fn churned(dir: &Path) -> (Db, Collection) {
    let db = Db::open(dir).unwrap();
    let docs = db.create_collection("docs", schema(Metric::L2)).unwrap();
    for part in 0..5 {
        fill(&docs, part * 900..(part + 1) * 900);
        db.flush().unwrap();
    }
    for n in (0..4_500).filter(|n| n % 5 == 0) {
        docs.upsert_batch(&[row(n, 1)]).unwrap();
    }
    for n in (0..4_500i64).filter(|n| n % 10 == 1) {
        docs.delete(n).unwrap();
    }
    (db, docs)
}

#[test]
fn stale_and_deleted_rows_are_never_found_and_cost_no_recall() {
    let dir = tempfile::tempdir().unwrap();
    let (db, docs) = churned(dir.path());
    for filter in [None, Some("bucket < 50"), Some("cluster < 20 and bucket >= 30")] {
        let (found, _) = recall(&docs, filter, 40);
        println!("{filter:?}: {found}");
        assert!(found >= 0.95, "{filter:?}: recall {found}");
    }
    for n in (0..4_500u64).filter(|n| n % 10 == 1).step_by(50) {
        // A deleted row's own vector, and the vector an overwritten row had before.
        let hits = docs.search(&vector(n)).k(10).run().unwrap();
        assert!(hits.iter().all(|hit| hit.id.to_string() != n.to_string()), "row {n} was deleted");
        let stale = docs.search(&vector(n - 1)).k(1).run().unwrap();
        assert!(stale[0].score < -0.1, "row {} moved away", n - 1);
    }
    db.close().unwrap();
}

#[test]
fn if_k_rows_match_k_rows_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (db, docs) = churned(dir.path());
    let seed = 0x0c0f_fee5;
    println!("seed {seed:#x}");
    let mut random = Rng::seeded(seed);
    for _ in 0..200 {
        let filter = match random.below(4) {
            0 => format!("bucket < {}", random.below(101)),
            1 => format!("cluster = {} or bucket = {}", random.below(CLUSTERS), random.below(100)),
            2 => format!("not (cluster > {}) and bucket != {}", random.below(CLUSTERS), random.below(100)),
            _ => format!(
                "bucket in ({}, {}) and cluster >= {}",
                random.below(100),
                random.below(100),
                random.below(20)
            ),
        };
        let k = usize::try_from(1 + random.below(40)).unwrap();
        let matching = docs.count_where(filter.as_str()).unwrap();
        let query = vector(70_000_000 + random.below(1_000));
        let hits = docs.search(&query).k(k).filter(filter.as_str()).run().unwrap();
        assert_eq!(hits.len() as u64, matching.min(k as u64), "{filter}, k = {k}");
        assert_eq!(ids(&hits).len(), hits.len(), "{filter}: a row came twice");
        assert!(hits.is_sorted_by(|a, b| a.score >= b.score), "{filter}");
    }
    db.close().unwrap();
}

/// Test 7 of the design's list: the rows that match are the farthest of all.
#[test]
fn the_farthest_rows_are_found_when_only_they_match() {
    let dir = tempfile::tempdir().unwrap();
    let (db, docs) = churned(dir.path());
    let query = vector(80_000_000);
    let all = docs.search(&query).k(10_000).exact().run().unwrap();
    let far: Vec<&Hit> = all.iter().rev().take(10).collect();
    let listed: Vec<String> = far.iter().map(|hit| hit.id.to_string()).collect();
    let filter = format!("id in ({})", listed.join(", "));
    let hits = docs.search(&query).k(10).filter(filter.as_str()).run().unwrap();
    assert_eq!(ids(&hits), listed.into_iter().collect());
    // So many that codes are not asked.
    let many = docs.search(&query).k(1_500).run().unwrap();
    assert_eq!(many, docs.search(&query).k(1_500).exact().run().unwrap());
    // Equal vectors lie in many places; as many come back as are asked for.
    let equal: Vec<NewRow> = (0..50)
        .map(|n| NewRow::new(100_000 + n, vector(90_000_000), json!({"bucket": 1, "cluster": 1})).unwrap())
        .collect();
    docs.upsert_batch(&equal[..25]).unwrap();
    db.flush().unwrap();
    docs.upsert_batch(&equal[25..]).unwrap();
    let hits = docs.search(&vector(90_000_000)).k(50).run().unwrap();
    assert!(hits.iter().all(|hit| hit.score > -1e-3), "{:?}", hits.last());
    assert_eq!(ids(&hits).len(), 50);
    db.close().unwrap();
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.join("collections")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false if path.extension().is_some_and(|end| end == "parquet") => found.push(path),
                false => {}
            }
        }
    }
    found
}

/// Where a section's body lies in a segment file.
fn section(bytes: &[u8], kind: u8) -> std::ops::Range<usize> {
    let head = [b'A', b'K', b'S', b'E', b'C', b'1', 0, 0, kind, 0];
    let at = bytes.windows(head.len()).position(|window| window == head).expect("the section is there");
    let len = u64::from_le_bytes(bytes[at + 32..at + 40].try_into().unwrap());
    at + 64..at + 64 + usize::try_from(len).unwrap()
}

#[test]
fn a_damaged_index_makes_searches_exact_and_is_made_again_by_a_merge() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let docs = db.create_collection("docs", schema(Metric::Cosine)).unwrap();
    fill(&docs, 0..2_000);
    db.flush().unwrap();
    db.close().unwrap();
    let file = segments(dir.path()).pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    for kind in [1, 2] {
        let mut bytes = whole.clone();
        let place = section(&bytes, kind);
        bytes[place.start + place.len() / 3] ^= 4;
        std::fs::write(&file, &bytes).unwrap();
        let db = Db::open(dir.path()).unwrap();
        let docs = db.collection("docs").unwrap();
        let (found, explained) = recall(&docs, None, 20);
        assert!(
            found == 1.0 && explained.exact && explained.parts[0].damaged_index,
            "section {kind}: {explained:?}"
        );
        db.close().unwrap();
        let damages = akidb::verify(dir.path()).unwrap().damages;
        assert!(damages.iter().any(|damage| damage.what.contains("vector index")), "{damages:?}");
        // Nothing of it is lost: it is not given up.
        let refused = akidb::repair_segment_drop(&file, false).unwrap_err();
        assert!(
            refused.code() == "AKI-0287" && refused.help().unwrap().contains("akidb compact"),
            "{refused:?}"
        );
    }
    let db = Db::open(dir.path()).unwrap();
    let docs = db.collection("docs").unwrap();
    assert_eq!((db.compact().unwrap(), db.compact().unwrap()), (1, 0));
    let (found, explained) = recall(&docs, None, 20);
    assert!(found > 0.9 && !explained.parts[0].damaged_index && !explained.exact, "{found}, {explained:?}");
    db.close().unwrap();
}

#[test]
fn low_dimensions_are_searched_exactly_and_bad_questions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.engine.filter_cache_bytes = 0;
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let points = db.create_collection("points", Schema::new(3, Metric::L2)).unwrap();
    points.upsert("a", &[1.0, 2.0, 3.0], json!({})).unwrap();
    db.flush().unwrap();
    let (hits, explained) = points.search(&[1.0, 2.0, 3.0]).explain().unwrap();
    assert!(hits.len() == 1 && explained.exact && explained.parts[0].kind == PartKind::Exact);
    for recall in [0.0, -1.0, 1.5, f32::NAN] {
        assert_eq!(points.search(&[0.0; 3]).recall(recall).run().unwrap_err().code(), "AKI-0232");
    }
    assert_eq!(points.search(&[0.0; 3]).effort(0).run().unwrap_err().code(), "AKI-0232");
    db.close().unwrap();
}
