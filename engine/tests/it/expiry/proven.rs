//! An exact search by codes that prove shows no row that expired, was deleted or overwritten after those were made.

use std::collections::BTreeMap;

use akidb::{Collection, Hit, Metric, NewRow, PartKind, Schema};
use akidb_host::Rng;
use serde_json::json;

use super::world::{MINUTE, World};

const ROWS: u64 = 3_000;
const K: usize = 10;
const FILTER: &str = "part < 2";

/// What a row is: its vector, and when it expires.
type Rows = BTreeMap<u64, (Vec<f32>, Option<i64>)>;

fn random(seed: u64) -> Vec<f32> {
    let mut rng = Rng::seeded(seed);
    (0..64).map(|_| rng.f64() as f32 - 0.5).collect()
}

fn put(docs: &Collection, model: &mut Rows, rows: &[(u64, Vec<f32>, Option<i64>)]) {
    let new = |(n, vector, until): &(u64, Vec<f32>, Option<i64>)| {
        let payload = match until {
            Some(until) => json!({ "part": n % 10, "until": until }),
            None => json!({ "part": n % 10 }),
        };
        NewRow::new(i64::try_from(*n).unwrap(), vector.clone(), payload).unwrap()
    };
    docs.upsert_batch(&rows.iter().map(new).collect::<Vec<_>>()).unwrap();
    model.extend(rows.iter().map(|(n, vector, until)| (*n, (vector.clone(), *until))));
}

/// The ids of the best rows that the filter takes, in f64: random vectors tie with none.
fn best(model: &Rows, metric: Metric, query: &[f32], now: i64) -> Vec<String> {
    let product =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let score = |x: &[f32]| match metric {
        Metric::Dot => product(query, x),
        Metric::Cosine => product(query, x) / product(x, x).sqrt(),
        _ => 2.0 * product(query, x) - product(x, x),
    };
    let shown = model.iter().filter(|(n, (_, until))| *n % 10 < 2 && until.is_none_or(|until| until > now));
    let mut all: Vec<(f64, u64)> = shown.map(|(n, (vector, _))| (score(vector), *n)).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.into_iter().take(K).map(|(_, n)| n.to_string()).collect()
}

fn ids(hits: &[Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.id.to_string()).collect()
}

/// Compares with the model, at and around rows; `proven` says whether codes are to have served.
fn check(docs: &Collection, model: &Rows, metric: Metric, now: i64, proven: bool) {
    for n in 0..24 {
        let query = if n % 2 == 0 { random(n * 10 / 2) } else { random(9_000_000 + n) };
        let (hits, explained) = docs.search(&query).k(K).filter(FILTER).exact().explain().unwrap();
        assert_eq!(ids(&hits), best(model, metric, &query, now), "{metric:?}, query {n}: {explained:?}");
        let part = explained.parts.iter().find(|part| part.rows == ROWS).unwrap();
        if proven {
            assert!(part.kind == PartKind::Subset && part.exact && part.scanned == 600, "{part:?}");
        }
    }
}

#[test]
fn what_is_gone_since_codes_that_prove_were_made_is_not_shown() {
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        let world = World::new("ttl_purge_secs = 0\nmemtable_bytes = \"32 MiB\"\ncompaction = false");
        let db = world.open();
        let schema = Schema::new(64, metric).int_ids().int("part").timestamp("until").expires_by("until");
        let docs = db.create_collection("docs", schema).unwrap();
        let (start, mut model) = (world.in_minutes(0), Rows::new());
        let until = |n: u64| [None, Some(start + 5 * MINUTE), Some(start + 10 * MINUTE)][n as usize / 10 % 3];
        put(&docs, &mut model, &(0..ROWS).map(|n| (n, random(n), until(n))).collect::<Vec<_>>());
        db.flush().unwrap();
        check(&docs, &model, metric, start, false);
        check(&docs, &model, metric, start, true);
        let (held, held_model) = (db.snapshot("test").unwrap(), model.clone());

        // A third has expired.
        world.clock.jump_wall(6 * MINUTE);
        check(&docs, &model, metric, start + 6 * MINUTE, true);
        // Some of those live on with a time that is still to come, others die, or move and expire sooner.
        let changed = |by: u64, of: u64| (0..ROWS).filter(move |n| n % 10 < 2 && n / 10 % by == of);
        let later: Vec<_> = changed(6, 1).map(|n| (n, random(n), Some(start + 20 * MINUTE))).collect();
        put(&docs, &mut model, &later);
        let moved: Vec<_> =
            changed(6, 3).map(|n| (n, random(n + 500_000), Some(start + 8 * MINUTE))).collect();
        put(&docs, &mut model, &moved);
        for n in changed(8, 2) {
            docs.delete(i64::try_from(n).unwrap()).unwrap();
            model.remove(&n);
        }
        check(&docs, &model, metric, start + 6 * MINUTE, true);
        db.flush().unwrap();
        check(&docs, &model, metric, start + 6 * MINUTE, true);
        world.clock.jump_wall(3 * MINUTE);
        check(&docs, &model, metric, start + 9 * MINUTE, true);
        world.clock.jump_wall(2 * MINUTE);
        check(&docs, &model, metric, start + 11 * MINUTE, true);
        // The snapshot shows what was there at its moment, by the same codes.
        check(&held.collection("docs").unwrap(), &held_model, metric, start, true);
    }
}
