//! Random writes, deletes, batches, flushes and reopens against a plain map; every read compared with brute force.
//! Cases: `AKIDB_MODEL_CASES` (64 unless set); a failing case prints its seed and shrinks.

use std::collections::BTreeMap;

use akidb::{Collection, Db, ErrorKind, Expect, Lsn, Metric, NewRow, Schema};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

const DIM: usize = 8;

#[derive(Clone, Debug)]
enum Step {
    Upsert(u8, u8, i8),
    Batch(Vec<(u8, u8, i8)>),
    Delete(u8),
    OnVersion(u8, u8, i8),
    Patch(u8, i8),
    DeleteWhere(u8),
    Flush,
    Reopen { clean: bool },
    Check { k: usize, filter: u8, query: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let row = || (0u8..24, any::<u8>(), -3i8..4);
    prop_oneof![
        8 => row().prop_map(|(id, v, year)| Step::Upsert(id, v, year)),
        3 => prop::collection::vec(row(), 1..6).prop_map(Step::Batch),
        4 => (0u8..24).prop_map(Step::Delete),
        3 => row().prop_map(|(id, v, year)| Step::OnVersion(id, v, year)),
        3 => (0u8..24, -3i8..4).prop_map(|(id, year)| Step::Patch(id, year)),
        1 => (1u8..8).prop_map(Step::DeleteWhere),
        2 => Just(Step::Flush),
        2 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
        5 => (1usize..12, 0u8..8, any::<u8>()).prop_map(|(k, filter, query)| Step::Check { k, filter, query }),
    ]
}

fn vector(seed: u8) -> Vec<f32> {
    (0..DIM)
        .map(|d| {
            f32::from(seed.wrapping_mul(31).wrapping_add((d as u8).wrapping_mul(57)) as i8) / 16.0 + 0.01
        })
        .collect()
}

fn payload(v: u8, year: i8) -> Value {
    let mut payload = json!({ "extra": v, "tags": [format!("t{}", v % 3), "all"] });
    // Absent every now and then, so that three-valued logic is met.
    if year != 3 {
        payload["year"] = json!(year);
    }
    if !v.is_multiple_of(5) {
        payload["lang"] = json!(["en", "de", "fr"][usize::from(v % 3)]);
    }
    payload
}

type Model = BTreeMap<String, (u8, i8)>;

/// What a filter means for an id and its two numbers.
type Meaning = fn(&str, u8, i8) -> bool;

/// A filter's text and what it means.
fn filter(n: u8) -> Option<(&'static str, Meaning)> {
    match n {
        0 => None,
        1 => Some(("year > 0", |_, _, year| year != 3 && year > 0)),
        2 => Some(("lang = 'en'", |_, v, _| v % 5 != 0 && v % 3 == 0)),
        3 => Some(("not (year <= 0)", |_, _, year| year != 3 && year > 0)),
        4 => Some(("year is null or lang in ('de', 'fr')", |_, v, year| {
            year == 3 || (v % 5 != 0 && v % 3 != 0)
        })),
        5 => Some(("tags contains 't1' and id >= 'id05'", |id, v, _| v % 3 == 1 && id >= "id05")),
        6 => Some(("lang != 'en'", |_, v, _| v % 5 != 0 && v % 3 != 0)),
        _ => Some(("year < -100", |_, _, _| false)),
    }
}

fn id(n: u8) -> String {
    format!("id{n:02}")
}

fn score(metric: Metric, q: &[f32], x: &[f32]) -> f64 {
    let dot: f64 = q.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let norm = |v: &[f32]| v.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>().sqrt();
    match metric {
        Metric::Dot => dot,
        Metric::Cosine => dot / (norm(q) * norm(x)),
        Metric::L2 => {
            -q.iter().zip(x).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
        }
    }
}

fn schema(metric: Metric) -> Schema {
    Schema::new(DIM as u16, metric).text("lang").int("year").text_list("tags")
}

fn check(rows: &Collection, model: &Model, metric: Metric, k: usize, which: u8, query: u8) {
    let q = vector(query);
    let matches = |id: &str, v: u8, year: i8| filter(which).is_none_or(|(_, meaning)| meaning(id, v, year));
    let expected: Vec<(&String, &(u8, i8))> =
        model.iter().filter(|(id, (v, y))| matches(id, *v, *y)).collect();

    let mut search = rows.search(&q).k(k);
    let mut scan = rows.scan();
    let count = match filter(which) {
        None => rows.count().unwrap(),
        Some((text, _)) => {
            search = search.filter(text);
            scan = scan.filter(text);
            rows.count_where(text).unwrap()
        }
    };
    assert_eq!(count as usize, expected.len(), "count");
    let scanned: Vec<String> = scan.run().unwrap().iter().map(|row| row.id.to_string()).collect();
    assert_eq!(scanned, expected.iter().map(|(id, _)| (*id).clone()).collect::<Vec<_>>(), "scan");

    let hits = search.run().unwrap();
    assert_eq!(hits.len(), k.min(expected.len()), "k matching rows come back");
    let mut best: Vec<f64> = expected.iter().map(|(_, (v, _))| score(metric, &q, &vector(*v))).collect();
    best.sort_by(|a, b| b.total_cmp(a));
    for (n, hit) in hits.iter().enumerate() {
        let (v, year) = model[&hit.id.to_string()];
        assert!(matches(&hit.id.to_string(), v, year), "a hit fails the filter");
        let exact = score(metric, &q, &vector(v));
        assert!((f64::from(hit.score) - exact).abs() <= 1e-4 * exact.abs().max(1.0), "{} {exact}", hit.score);
        assert!((exact - best[n]).abs() <= 1e-4 * exact.abs().max(1.0), "hit {n} is not the {n}th best");
        assert_eq!(hit.payload["extra"], json!(v));
        if n > 0 {
            let before = &hits[n - 1];
            assert!(
                before.score > hit.score || (before.score == hit.score && before.id < hit.id),
                "order of ties"
            );
        }
    }
}

fn check_rows(rows: &Collection, model: &Model) {
    for n in 0..24 {
        let got = rows.get(id(n)).unwrap();
        match model.get(&id(n)) {
            None => assert!(got.is_none(), "{} came back from the dead", id(n)),
            Some((v, year)) => {
                let got = got.unwrap_or_else(|| panic!("{} is lost", id(n)));
                assert_eq!(got.vector, vector(*v));
                assert_eq!(Value::Object(got.payload), payload(*v, *year));
            }
        }
    }
}

/// A write that demands what is not so changes nothing; one that demands what is so does.
fn on_version(rows: &Collection, model: &mut Model, n: u8, (v, year): (u8, i8)) {
    let put = |expect| rows.upsert_if(id(n), &vector(v), payload(v, year), expect);
    let there = rows.get(id(n)).unwrap().map(|row| row.lsn);
    assert_eq!(there.is_some(), model.contains_key(&id(n)));
    let (wrong, right) = match there {
        Some(version) => (Expect::Absent, Expect::Version(version)),
        None => (Expect::Version(Lsn::new(1, 1)), Expect::Absent),
    };
    for expect in [wrong, Expect::Version(Lsn::new(1, 1 << 30))] {
        let error = put(expect).unwrap_err();
        assert_eq!((error.kind(), error.version_found()), (ErrorKind::Conflict, there), "{error}");
    }
    put(right).unwrap();
    model.insert(id(n), (v, year));
}

fn patch(rows: &Collection, model: &mut Model, n: u8, year: i8) {
    let patch = json!({ "year": if year == 3 { Value::Null } else { json!(year) } });
    let patched = rows.update_payload(id(n), patch);
    match model.get_mut(&id(n)) {
        Some(row) => {
            row.1 = year;
            patched.unwrap();
        }
        None => assert_eq!(patched.unwrap_err().kind(), ErrorKind::NotFound),
    }
}

fn run(metric: Metric, steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::open(dir.path()).unwrap();
    let mut rows = db.create_collection("rows", schema(metric)).unwrap();
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Upsert(n, v, year) => {
                rows.upsert(id(*n), &vector(*v), payload(*v, *year)).unwrap();
                model.insert(id(*n), (*v, *year));
            }
            Step::Batch(batch) => {
                let new = |(n, v, year): &(u8, u8, i8)| {
                    NewRow::new(id(*n), vector(*v), payload(*v, *year)).unwrap()
                };
                rows.upsert_batch(&batch.iter().map(new).collect::<Vec<_>>()).unwrap();
                model.extend(batch.iter().map(|(n, v, year)| (id(*n), (*v, *year))));
            }
            Step::Delete(n) => {
                let existed = rows.delete(id(*n)).unwrap();
                assert_eq!(existed, model.remove(&id(*n)).is_some(), "delete says whether there was a row");
            }
            Step::OnVersion(n, v, year) => on_version(&rows, &mut model, *n, (*v, *year)),
            Step::Patch(n, year) => patch(&rows, &mut model, *n, *year),
            Step::DeleteWhere(which) => {
                let (text, meaning) = filter(*which).expect("0 is no filter");
                let before = model.len();
                model.retain(|id, (v, year)| !meaning(id, *v, *year));
                assert_eq!(rows.delete_where(text).unwrap() as usize, before - model.len(), "{text}");
            }
            Step::Flush => db.flush().unwrap(),
            Step::Reopen { clean } => {
                drop(rows);
                if *clean {
                    db.close().unwrap();
                } else {
                    drop(db);
                }
                db = Db::open(dir.path()).unwrap();
                rows = db.collection("rows").unwrap();
                check_rows(&rows, &model);
            }
            Step::Check { k, filter, query } => check(&rows, &model, metric, *k, *filter, *query),
        }
    }
    check_rows(&rows, &model);
    check(&rows, &model, metric, 5, 0, 77);
}

#[test]
fn any_history_reads_like_a_plain_map() {
    let cases = std::env::var("AKIDB_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    let seed: u64 = std::env::var("AKIDB_MODEL_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| akidb_host::Rng::from_machine().u64());
    println!("model: {cases} cases, AKIDB_MODEL_SEED={seed}");
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let metric = prop_oneof![Just(Metric::Cosine), Just(Metric::L2), Just(Metric::Dot)];
    let history = (metric, prop::collection::vec(step(), 1..40));
    TestRunner::new_with_rng(config, rng)
        .run(&history, |(metric, steps)| {
            run(metric, &steps);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("AKIDB_MODEL_SEED={seed}: {failure}"));
}
