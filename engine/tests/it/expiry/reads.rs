//! To a read, a row that expired is none, wherever it lies; and all that have not are found.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use akidb::{Collection, Db, Hit, Metric, NewRow, PartKind, Schema, Settings};
use akidb_host::Rng;
use serde_json::json;

use super::world::{MINUTE, World, id, put, schema, shown, vector};

/// A snapshot gives the same answers for as long as it is held; a named one and `as_of` read as of their manifest.
#[test]
fn a_snapshot_stands_still_in_time() {
    let world = World::new("ttl_purge_secs = 60");
    let db = world.open();
    let rows = db.create_collection("rows", schema()).unwrap();
    (0..10).for_each(|n| put(&rows, n, Some(world.in_minutes(n.into()))));
    world.clock.advance(Duration::from_secs(150));
    let all: Vec<String> = (3..10).map(id).collect();
    let snapshot = db.snapshot("test").unwrap();
    let lsn = db.create_snapshot("noon").unwrap();
    let check = |rows: &Collection, place: &str| {
        assert_eq!(shown(rows), all, "{place}");
        let hits = rows.search(&vector(1)).k(10).run().unwrap();
        let hits: BTreeSet<String> = hits.iter().map(|hit| hit.id.to_string()).collect();
        assert_eq!(hits, all.iter().cloned().collect(), "{place}");
        assert_eq!(rows.count_where("n >= 0").unwrap(), 7, "{place}");
        assert!(rows.get(id(2)).unwrap().is_none() && rows.get(id(3)).unwrap().is_some(), "{place}");
    };
    let held = snapshot.collection("rows").unwrap();
    check(&held, "held, at once");
    check(&rows, "now");
    world.pass(300);
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!(shown(&rows), [id(8), id(9)]);
    check(&held, "held");
    check(&db.at_snapshot("noon").unwrap().collection("rows").unwrap(), "named");
    check(&db.as_of(lsn).unwrap().collection("rows").unwrap(), "as of");
}

fn near(n: u64) -> Vec<f32> {
    let mut rng = Rng::seeded(n);
    (0..64).map(|_| rng.f64() as f32 - 0.5).collect()
}

fn ids(hits: &[Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.id.to_string()).collect()
}

/// The k nearest of the odd rows, of a part if one is named.
fn nearest(vectors: &[Vec<f32>], query: &[f32], part: Option<u64>, k: usize) -> Vec<String> {
    let distance = |n: u64| {
        let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
        query.iter().zip(&vectors[n as usize]).map(square).sum::<f64>()
    };
    let taken = (0..vectors.len() as u64).filter(|n| n % 2 == 1 && part.is_none_or(|part| n % 7 == part));
    let mut all: Vec<(f64, String)> = taken.map(|n| (distance(n), format!("{n:06}"))).collect();
    all.sort_by(|a, b| a.partial_cmp(b).unwrap());
    all.into_iter().take(k).map(|(_, id)| id).collect()
}

/// The rows nearest to a query are asked for; of those every second has expired. In a memtable, in a segment searched flat
/// and by lists, with and without a filter, alone and in a batch.
#[test]
fn k_live_rows_come_back_with_half_of_the_near_ones_expired() {
    for (rows_there, flushed, kind) in
        [(2_000, false, PartKind::Memtable), (3_000, true, PartKind::Flat), (34_000, true, PartKind::Lists)]
    {
        let world = World::new("ttl_purge_secs = 0\nmemtable_bytes = \"32 MiB\"\ncompaction = false");
        let db = world.open();
        let schema = Schema::new(64, Metric::L2).int("part").timestamp("until").expires_by("until");
        let rows = db.create_collection("rows", schema).unwrap();
        let until = world.in_minutes(5);
        let vectors: Vec<Vec<f32>> = (0..rows_there).map(near).collect();
        let row = |n: u64| {
            // The even ones expire; every third row of those never has a time.
            let payload = match n % 2 {
                0 => json!({ "part": n % 7, "until": until + (n % 100) as i64 }),
                _ if n.is_multiple_of(3) => json!({ "part": n % 7 }),
                _ => json!({ "part": n % 7, "until": until + 1_000 * MINUTE }),
            };
            NewRow::new(format!("{n:06}"), vectors[n as usize].clone(), payload).unwrap()
        };
        for batch in (0..rows_there).collect::<Vec<u64>>().chunks(1_000) {
            rows.upsert_batch(&batch.iter().map(|n| row(*n)).collect::<Vec<_>>()).unwrap();
        }
        if flushed {
            db.flush().unwrap();
        }
        world.clock.jump_wall(6 * MINUTE);
        assert_eq!(rows.count().unwrap(), rows_there / 2);
        let nearest = |query: &[f32], part: Option<u64>, k: usize| nearest(&vectors, query, part, k);
        let (mut found, mut of) = (0, 0);
        for q in 0..12u64 {
            // Around rows that have expired.
            let query = near(2 * q);
            for (filter, part) in [(None, None), (Some("part = 3"), Some(3))] {
                let search = |k: usize| {
                    let search = rows.search(&query).k(k);
                    match filter {
                        Some(filter) => search.filter(filter),
                        None => search,
                    }
                };
                assert_eq!(ids(&search(20).exact().run().unwrap()), nearest(&query, part, 20));
                let (hits, explained) = search(20).explain().unwrap();
                assert_eq!(hits.len(), 20);
                if part.is_none() {
                    assert_eq!((explained.parts[0].kind, explained.exact), (kind, false));
                }
                let wanted = nearest(&query, part, 20);
                found += ids(&hits).iter().filter(|id| wanted.contains(id)).count();
                of += 20;
                assert!(hits.iter().all(|hit| hit.id.to_string().parse::<u64>().unwrap() % 2 == 1));
                // More than there are.
                let all = search(10_000).run().unwrap().len() as u64;
                let there = rows.count_where(filter.unwrap_or("part >= 0")).unwrap();
                assert_eq!(all, there.min(10_000));
            }
        }
        let recall = f64::from(found as u32) / f64::from(of);
        println!("{kind:?}: recall {recall} with half of all rows expired");
        assert!(recall >= 0.9, "{kind:?}: {recall}");
        let queries: Vec<Vec<f32>> = (0..4).map(|q| near(2 * q)).collect();
        let batch = rows.search_batch(&queries).k(20).exact().run().unwrap();
        for (query, hits) in queries.iter().zip(&batch) {
            assert_eq!(ids(hits), nearest(query, None, 20));
        }
    }
}

/// Nine of ten rows have expired and nobody deletes them: the search looks at more lists, so that the nearest of the others
/// are found as ever. Such as the filter takes, too, of which still fewer live.
#[test]
fn the_nearest_are_found_with_nine_of_ten_rows_expired() {
    const ROWS: u64 = 40_000;
    let world = World::new("ttl_purge_secs = 0\nmemtable_bytes = \"64 MiB\"\ncompaction = false");
    let db = world.open();
    let schema = Schema::new(64, Metric::L2).int("part").timestamp("until").expires_by("until");
    let rows = db.create_collection("rows", schema).unwrap();
    let until = world.in_minutes(5);
    let lives = |n: u64| n % 10 == 1;
    let row = |n: u64| {
        let payload = match lives(n) {
            true => json!({ "part": n / 10 % 2 }),
            false => json!({ "part": n / 10 % 2, "until": until }),
        };
        NewRow::new(format!("{n:06}"), near(n), payload).unwrap()
    };
    for batch in (0..ROWS).collect::<Vec<u64>>().chunks(1_000) {
        rows.upsert_batch(&batch.iter().map(|n| row(*n)).collect::<Vec<_>>()).unwrap();
    }
    db.flush().unwrap();
    world.clock.jump_wall(6 * MINUTE);
    assert_eq!((rows.count().unwrap(), db.stats().unwrap().collections[0].rows), (ROWS / 10, ROWS));
    for filter in [None, Some("part = 1")] {
        let (mut found, mut of) = (0, 0);
        for q in 0..40 {
            let query = near(ROWS + q);
            let search = || {
                let search = rows.search(&query).k(10);
                match filter {
                    Some(filter) => search.filter(filter),
                    None => search,
                }
            };
            let wanted = ids(&search().exact().run().unwrap());
            let (hits, explained) = search().explain().unwrap();
            assert_eq!(explained.parts[0].kind, PartKind::Lists);
            found += ids(&hits).iter().filter(|id| wanted.contains(id)).count();
            of += wanted.len();
        }
        let recall = f64::from(found as u32) / f64::from(of as u32);
        println!("recall {recall} with nine of ten rows expired, filter {filter:?}");
        assert!(recall >= 0.95, "{recall}");
    }
}

/// Of what lies on a backend alone, is read only, or was restored, expired rows are hidden as well: by the clock of who
/// reads.
#[test]
fn a_copy_hides_what_has_expired() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let dir = |n: usize| dirs[n].path();
    let url = format!("file://{}", dir(1).display());
    let settings = Settings::from_toml("[engine]\nttl_purge_secs = 0\n").unwrap();
    let db = Db::builder(dir(0)).settings(settings.clone()).backend("copy", &url).open().unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    // Long ago, or in a time that no machine of ours sees; or never.
    let until = |n: u32| match n % 3 {
        0 => Some(1_000_000),
        1 => Some(7_258_118_400_000_000),
        _ => None,
    };
    (0..600).for_each(|n| put(&rows, n, until(n)));
    let live: Vec<String> = (0..600).filter(|n| n % 3 != 0).map(id).collect();
    assert_eq!(shown(&rows), live);
    db.flush().unwrap();
    db.wait_uploaded(Duration::from_secs(60)).unwrap();
    let check = |rows: &Collection, place: &str| {
        assert_eq!(shown(rows), live, "{place}");
        assert!(rows.get(id(3)).unwrap().is_none() && rows.get(id(4)).unwrap().is_some(), "{place}");
        assert_eq!(rows.count_where("n < 30").unwrap(), 20, "{place}");
        let hits = rows.search(&vector(3)).k(600).run().unwrap();
        let hits: BTreeSet<String> = hits.iter().map(|hit| hit.id.to_string()).collect();
        assert_eq!(hits, live.iter().cloned().collect(), "{place}");
        let hits = rows.search(&vector(3)).k(5).filter("n < 30").run().unwrap();
        assert_eq!(hits.len(), 5, "{place}");
    };
    check(&rows, "here");
    drop(rows);
    db.close().unwrap();
    let open = |path: &Path| Db::builder(path).settings(settings.clone());
    let cold = open(dir(2)).backend("copy", &url).cold(true).open().unwrap();
    check(&cold.collection("rows").unwrap(), "cold");
    let look = open(dir(0)).read_only(true).open().unwrap();
    check(&look.collection("rows").unwrap(), "read only");
    drop(look);
    akidb::restore(&akidb::BackendSettings::new("copy", &url).unwrap(), dir(3)).unwrap();
    let restored = open(dir(3)).open().unwrap();
    check(&restored.collection("rows").unwrap(), "restored");
    restored.compact().unwrap();
    check(&restored.collection("rows").unwrap(), "merged");
    assert_eq!(akidb::verify(dir(0)).unwrap().damages.len(), 0);
}
