//! An exact search of a filter that is asked often compares few rows by their vectors, and answers as one that compares all.

use std::sync::Barrier;

use akidb::{Collection, Db, Explained, Hit, Metric, NewRow, PartExplained, PartKind, Settings};
use serde_json::json;

use super::{fill, row, schema, vector};

const ROWS: u64 = 8_000;

/// The part of the segment that [`fill`] made.
fn part(explained: &Explained) -> &PartExplained {
    explained.parts.iter().find(|part| part.rows == ROWS).unwrap()
}

fn found(hits: &[Hit]) -> Vec<(String, u32, String)> {
    let key = |hit: &Hit| (hit.id.to_string(), hit.score.to_bits(), hit.lsn.to_string());
    hits.iter().map(key).collect()
}

/// Asks the filter for query `n` and, in words never used before, for the same rows: those are compared one by one.
fn check(docs: &Collection, filter: &str, k: usize, n: u64, fresh: &mut u64) -> PartExplained {
    let query = vector(70_000_000 + n);
    let plain = format!("({filter}) and bucket > -{}", 1_000 + *fresh);
    *fresh += 1;
    let search = |filter: &str| docs.search(&query).k(k).filter(filter).exact().explain().unwrap();
    let ((all, plainly), (few, explained)) = (search(&plain), search(filter));
    assert_eq!(part(&plainly).kind, PartKind::Exact, "{plain}");
    assert_eq!(found(&few), found(&all), "{filter}, k = {k}, query {n}: {explained:?}");
    assert!(explained.exact && plainly.exact);
    let recall_1 = docs.search(&query).k(k).filter(filter).recall(1.0).run().unwrap();
    assert_eq!(found(&recall_1), found(&all), "{filter}, k = {k}, query {n}, by recall");
    part(&explained).clone()
}

#[test]
fn an_exact_search_of_a_filter_asked_often_reads_few_vectors_and_answers_alike() {
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
        let db = Db::builder(dir.path()).settings(settings).open().unwrap();
        let docs = db.create_collection("docs", schema(metric)).unwrap();
        fill(&docs, 0..ROWS);
        db.flush().unwrap();
        let mut fresh = 0;
        for filter in ["bucket < 20", "cluster in (1, 2, 3, 4, 5)", "bucket = 7 or bucket > 95"] {
            assert_eq!(check(&docs, filter, 10, 0, &mut fresh).kind, PartKind::Exact, "asked seldom");
            (1..14).for_each(|n| drop(check(&docs, filter, 10, n, &mut fresh)));
            let proven = check(&docs, filter, 10, 14, &mut fresh);
            println!("{metric:?}, {filter}: {proven:?}");
            assert!(proven.kind == PartKind::Subset && proven.exact && proven.scanned == proven.matched);
            assert!(proven.reranked >= 10 && proven.reranked < proven.matched / 4, "{proven:?}");
            // Beside rows that died since, in the segment's deletion vector and before it is written, and such as matter more.
            let held = db.snapshot("before").unwrap();
            let before = held.collection("docs").unwrap();
            for round in 0..2 {
                let changed = |n: &u64| n % 10 == round + 3;
                let moved: Vec<NewRow> = (0..ROWS).filter(changed).map(|n| row(n, round + 1)).collect();
                docs.upsert_batch(&moved).unwrap();
                docs.delete_where(format!("bucket = {} or bucket = {}", round + 7, round * 4).as_str())
                    .unwrap();
                (0..12).for_each(|n| drop(check(&docs, filter, 1 + n as usize, n, &mut fresh)));
                (0..6).for_each(|n| drop(check(&before, filter, 10, n, &mut fresh)));
                db.flush().unwrap();
                let after = check(&docs, filter, 10, round, &mut fresh);
                assert!(after.kind == PartKind::Subset && after.scanned == after.matched, "{after:?}");
            }
            // So many are wanted that all may as well be read.
            assert_eq!(check(&docs, filter, 500, 3, &mut fresh).kind, PartKind::Exact);
            if metric == Metric::Dot {
                let zeros = docs.search(&[0.0; 64]).k(10).filter(filter).exact().run().unwrap();
                assert!(zeros.len() == 10 && zeros.iter().all(|hit| hit.score == 0.0), "{zeros:?}");
            }
        }
        db.close().unwrap();
    }
}

/// Hundreds of rows of the same vector, zeros among them: ids decide.
#[test]
fn rows_that_are_all_alike_come_back_by_id() {
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        let docs = db.create_collection("docs", schema(metric)).unwrap();
        let alike = |n: i64| {
            let is_zero = n % 5 == 0 && metric != Metric::Cosine;
            let vector = if is_zero { vec![0.0; 64] } else { vector((n % 2).cast_unsigned()) };
            NewRow::new(n, vector, json!({ "bucket": n % 10, "cluster": 0 })).unwrap()
        };
        docs.upsert_batch(&(0..ROWS.cast_signed()).map(alike).collect::<Vec<_>>()).unwrap();
        db.flush().unwrap();
        let mut fresh = 0;
        (0..16).for_each(|n| drop(check(&docs, "bucket in (0, 3)", 10, n, &mut fresh)));
        assert_eq!(check(&docs, "bucket in (0, 3)", 10, 16, &mut fresh).kind, PartKind::Subset);
        let hits = docs.search(&vector(1)).k(10).filter("bucket in (0, 3)").exact().run().unwrap();
        let expected: Vec<String> = (0..10).map(|n| (3 + 10 * n).to_string()).collect();
        assert_eq!(hits.iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>(), expected, "{metric:?}");
        db.close().unwrap();
    }
}

/// Threads that ask the same at once, while rows die: each gets the answer of its snapshot, whoever makes the codes.
#[test]
fn threads_that_ask_at_once_all_get_the_answer_of_their_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let docs = db.create_collection("docs", schema(Metric::Cosine)).unwrap();
    fill(&docs, 0..ROWS);
    db.flush().unwrap();
    let held = db.snapshot("before").unwrap();
    let before = held.collection("docs").unwrap();
    for (filter, word) in
        [("bucket < 20", "bucket < 20 and cluster >= 0"), ("cluster < 5", "cluster < 5 and bucket >= 0")]
    {
        // In other words: what is compared one by one.
        let plainly = |n: u64| found(&before.search(&vector(n)).filter(word).exact().run().unwrap());
        let expected: Vec<_> = (0..12).map(plainly).collect();
        let start = Barrier::new(5);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (before, expected, start) = (&before, &expected, &start);
                scope.spawn(move || {
                    start.wait();
                    for n in (0..48).map(|n| (n * 5 + thread) % 12) {
                        let hits = before.search(&vector(n)).filter(filter).exact().run().unwrap();
                        assert_eq!(found(&hits), expected[n as usize], "{filter}, query {n}");
                    }
                });
            }
            start.wait();
            for n in (0..ROWS.cast_signed()).step_by(40) {
                docs.delete(n).unwrap();
            }
            db.flush().unwrap();
        });
        let (_, explained) = before.search(&vector(1)).filter(filter).exact().explain().unwrap();
        assert_eq!(part(&explained).kind, PartKind::Subset, "{explained:?}");
    }
    db.close().unwrap();
}
