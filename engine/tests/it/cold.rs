//! Segments that lie on a backend alone: the same answers as here, in few rounds of few requests, each counted; a
//! backend that fails, flips bits or is damaged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb::{Collection, Db, ErrorKind, Explained, Hit, Metric, NewRow, Schema, Search, Settings};
use akidb_host::{RealFs, Rng};
use serde_json::json;

mod store;

use store::{CountingStore, Counts, Wrong};

const LONG: Duration = Duration::from_secs(120);
/// What a search of a segment of 50,000 rows may cost from nothing on, at a recall of 0.95 and without payload, where
/// rows with near ids are near: parts of a document, entries in some order.
const BUDGET: Cost = Cost { rounds: 3, gets: 22, bytes: 4_000_000 };
/// The same where ids say nothing of vectors: each row that is compared lies in a block of its own.
const SCATTERED: Cost = Cost { gets: 60, ..BUDGET };
const CLUSTERS: u64 = 200;

#[derive(Clone, Copy, Debug)]
struct Cost {
    rounds: u64,
    gets: u64,
    bytes: u64,
}

/// `AKIDB_COLD_DIM` and `AKIDB_COLD_ROWS`, for larger runs than the usual one.
fn from_environment(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap())
}

/// Rows around cluster centres, as embeddings lie; `n` alone says where, and near numbers lie in different clusters.
fn vector(dim: u16, n: u64) -> Vec<f32> {
    vector_in(dim, n, n.wrapping_mul(7_919) % CLUSTERS)
}

fn vector_in(dim: u16, n: u64, cluster: u64) -> Vec<f32> {
    let noise = |seed: u64| {
        let mut random = Rng::seeded(seed);
        std::iter::repeat_with(move || (0..4).map(|_| random.f64()).sum::<f64>() - 2.0)
    };
    let centre = noise(1_000_000_000 + cluster);
    centre.zip(noise(n)).take(dim.into()).map(|(centre, noise)| (centre + 0.6 * noise) as f32).collect()
}

/// A database that is uploaded, and what it was uploaded to.
struct Uploaded {
    store: CountingStore,
    db: Db,
    dir: tempfile::TempDir,
}

fn settings() -> Settings {
    let text = "[engine]\nremote_commit_interval_ms = 10\nmemtable_bytes = \"1 GiB\"\nmemory_bytes = \"2 GiB\"\n\
                wal_max_bytes = \"2 GiB\"\n\
                [storage.circuit_breaker_config]\ncooldown_duration_secs = 1\n";
    Settings::from_toml(text).unwrap()
}

impl Uploaded {
    fn new() -> Self {
        let (store, dir) = (CountingStore::default(), tempfile::tempdir().unwrap());
        let db = Db::builder(dir.path()).settings(settings());
        let db = db.store("there", Arc::new(store.clone())).open().unwrap();
        Self { store, db, dir }
    }

    fn publish(&self) {
        self.db.flush().unwrap();
        self.db.wait_uploaded(LONG).unwrap();
        self.store.take();
    }

    /// Opens what is on the store, with nothing of it here.
    fn cold(&self, cache: &Path) -> Db {
        self.try_cold(cache).unwrap()
    }

    fn try_cold(&self, cache: &Path) -> akidb::Result<Db> {
        let store = Arc::new(self.store.clone());
        Db::builder(cache).settings(settings()).store("there", store).cold(true).open()
    }
}

fn fill(docs: &Collection, numbers: std::ops::Range<u64>, vector: &dyn Fn(u64) -> Vec<f32>) {
    let row = |n: u64| {
        let payload = json!({"bucket": n % 100, "cluster": n % 7, "text": format!("row number {n}")});
        NewRow::new(i64::try_from(n).unwrap(), vector(n), payload).unwrap()
    };
    let rows: Vec<NewRow> = numbers.map(row).collect();
    rows.chunks(1_000).for_each(|batch| _ = docs.upsert_batch(batch).unwrap());
}

fn schema(dim: u16) -> Schema {
    Schema::new(dim, Metric::Cosine).int_ids().int("bucket").int("cluster")
}

fn query(dim: u16, n: u64) -> Vec<f32> {
    vector(dim, 5_000_000 + n)
}

/// The search that the explained figures must agree with the store about.
fn counted(store: &CountingStore, search: Search<'_>) -> (Vec<Hit>, Counts) {
    store.take();
    let (hits, explained) = search.explain().unwrap();
    let counts = store.take();
    let Explained { rounds, gets, fetched_bytes, .. } = explained;
    assert_eq!((rounds, gets, fetched_bytes), (counts.rounds, counts.gets, counts.bytes), "{counts:?}");
    (hits, counts)
}

fn most(of: &mut Cost, counts: &Counts) {
    of.rounds = of.rounds.max(counts.rounds);
    of.gets = of.gets.max(counts.gets);
    of.bytes = of.bytes.max(counts.bytes);
}

fn assert_within(cost: Cost, budget: Cost, what: &str) {
    println!("{what}: {cost:?} of {budget:?}");
    let within = cost.rounds <= budget.rounds && cost.gets <= budget.gets && cost.bytes <= budget.bytes;
    assert!(within, "{what}: {cost:?} is over {budget:?}");
}

/// Opens what is there, searches once, twice, a third time and with payload, and reads a row by its id, each counted.
fn assert_costs(budget: Cost, vector: &dyn Fn(u16, u64, u64) -> Vec<f32>) {
    let dim = u16::try_from(from_environment("AKIDB_COLD_DIM", 64)).unwrap();
    let rows = from_environment("AKIDB_COLD_ROWS", 50_000);
    let here = Uploaded::new();
    let local = here.db.create_collection("docs", schema(dim)).unwrap();
    fill(&local, 0..rows, &|n| vector(dim, n, rows));
    here.publish();
    assert_eq!(here.store.objects("collections").len(), 1, "one segment");
    let cache = tempfile::tempdir().unwrap();
    let zero = Cost { rounds: 0, gets: 0, bytes: 0 };
    let (mut first, mut warm, mut paid, mut got) = (zero, zero, zero, zero);
    let (mut found, mut of) = (0, 0);
    for n in 0..20 {
        let db = here.cold(cache.path());
        let opened = here.store.take();
        assert_eq!((opened.gets, opened.rounds), (1, 1), "the tail is one request");
        let docs = db.collection("docs").unwrap();
        let ids_of = |docs: &Collection, n| docs.search(&query(dim, n)).with_payload(false).run().unwrap();
        let asked = query(dim, n);
        let (hits, mut counts) = counted(&here.store, docs.search(&asked).with_payload(false));
        counts.rounds += opened.rounds;
        counts.gets += opened.gets;
        counts.bytes += opened.bytes;
        most(&mut first, &counts);
        assert_eq!(hits, ids_of(&local, n), "the same answer as here");
        let exact = local.search(&asked).with_payload(false).exact().run().unwrap();
        found += hits.iter().filter(|hit| exact.iter().any(|true_hit| true_hit.id == hit.id)).count();
        of += exact.len();

        // The second search brings the codes that the first did not need.
        ids_of(&docs, 100 + n);
        let asked = query(dim, 200 + n);
        let (hits, counts) = counted(&here.store, docs.search(&asked).with_payload(false));
        most(&mut warm, &counts);
        assert_eq!(hits, ids_of(&local, 200 + n));
        let (hits, counts) = counted(&here.store, docs.search(&asked));
        most(&mut paid, &counts);
        assert_eq!(hits, local.search(&asked).run().unwrap());

        let db = here.cold(cache.path());
        here.store.take();
        let id = i64::try_from(n * (rows / 20) + 17).unwrap();
        assert_eq!(db.collection("docs").unwrap().get(id).unwrap(), local.get(id).unwrap());
        most(&mut got, &here.store.take());
    }
    let recall = found as f64 / of as f64;
    println!("{rows} rows of {dim} dimensions: recall {recall:.3}");
    assert!(recall >= 0.95, "{recall}");
    assert_within(first, budget, "the first search, open included");
    assert_within(
        warm,
        Cost { rounds: 1, gets: budget.gets - 2, ..budget },
        "a search with tail and codes here",
    );
    assert_within(paid, Cost { rounds: 1, gets: 10, ..budget }, "the payload of its hits");
    assert_within(got, Cost { rounds: 2, gets: 3, ..budget }, "a row by its id");
}

#[test]
fn a_search_on_a_backend_stays_within_its_budget_where_near_ids_are_near() {
    assert_costs(BUDGET, &|dim, n, rows| vector_in(dim, n, n * CLUSTERS / rows));
}

#[test]
fn a_search_on_a_backend_takes_as_few_rounds_and_bytes_where_ids_say_nothing_of_vectors() {
    assert_costs(SCATTERED, &|dim, n, _| vector(dim, n));
}

/// Three segments with text ids, one without a vector index in lists, dead rows in a file and in the manifest.
fn mixed() -> (Uploaded, Collection) {
    let here = Uploaded::new();
    let docs =
        here.db.create_collection("docs", Schema::new(64, Metric::L2).int("bucket").text("kind")).unwrap();
    let row = |n: u64| {
        let kind = if n.is_multiple_of(3) { "a" } else { "b" };
        let payload = json!({"bucket": n % 100, "kind": kind, "rest": n.to_string().repeat(3)});
        NewRow::new(format!("id{n:06}"), vector(64, n), payload).unwrap()
    };
    for numbers in [0..34_000, 34_000..40_000, 40_000..41_000] {
        let rows: Vec<NewRow> = numbers.map(row).collect();
        rows.chunks(1_000).for_each(|batch| _ = docs.upsert_batch(batch).unwrap());
        here.db.flush().unwrap();
    }
    for n in (0..41_000).step_by(11) {
        assert!(docs.delete(format!("id{n:06}")).unwrap());
    }
    docs.delete("id040500").unwrap();
    here.publish();
    (here, docs)
}

/// Every kind of search and read gives what it gives here.
fn assert_same(cold: &Collection, local: &Collection) {
    for n in 0..6 {
        let query = query(64, n);
        let both = |ask: &dyn Fn(Search<'_>) -> Vec<Hit>| {
            assert_eq!(ask(cold.search(&query)), ask(local.search(&query)), "query {n}");
        };
        both(&|search| search.run().unwrap());
        both(&|search| search.k(40).recall(0.99).with_vector(true).run().unwrap());
        both(&|search| search.k(30).with_vector(true).with_payload(false).run().unwrap());
        both(&|search| search.effort(8).with_payload(false).run().unwrap());
        both(&|search| search.filter(format!("bucket < {}", 1 + 13 * n).as_str()).run().unwrap());
        both(&|search| search.filter("kind = 'a' and bucket = 7").with_payload(false).run().unwrap());
        both(&|search| search.filter("id > 'id040000' and lsn > '1:0'").run().unwrap());
        both(&|search| search.filter("kind = 'never'").run().unwrap());
    }
    for id in ["id000000", "id000001", "id033999", "id034000", "id040500", "id040999", "id041000", "zzz"] {
        assert_eq!(cold.get(id).unwrap(), local.get(id).unwrap(), "{id}");
    }
    assert_eq!(cold.count().unwrap(), local.count().unwrap());
    assert_eq!(cold.count_where("bucket = 5").unwrap(), local.count_where("bucket = 5").unwrap());
    let page =
        |docs: &Collection| docs.scan().filter("kind = 'b'").after("id033990").limit(50).run().unwrap();
    assert_eq!(page(cold), page(local));
    let exact = |docs: &Collection| docs.search(&query(64, 77)).k(20).exact().run().unwrap();
    assert_eq!(exact(cold), exact(local));
}

#[test]
fn what_lies_on_a_backend_alone_is_searched_and_read_as_if_it_were_here() {
    let (here, local) = mixed();
    assert!(!here.store.objects("collections/1-docs/dv").is_empty(), "dead rows in a file");
    let cache = tempfile::tempdir().unwrap();
    let db = here.cold(cache.path());
    assert_eq!(here.store.take().rounds, 1, "all tails in one round");
    assert_eq!(db.collections().unwrap(), ["docs"]);
    let cold = db.collection("docs").unwrap();
    let (hits, counts) = counted(&here.store, cold.search(&query(64, 500)));
    assert_eq!(hits, local.search(&query(64, 500)).run().unwrap());
    assert!(counts.rounds <= 3, "codes, vectors and pages of all segments together: {counts:?}");
    assert_same(&cold, &local);
    let left = std::fs::read_dir(cache.path()).unwrap().count();
    assert_eq!(left, 0, "what is fetched has no names");
    let refused = cold.upsert("new", &query(64, 1), json!({})).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    // The handle stays what it was; the next one shows the new state.
    local.upsert("new", &query(64, 1), json!({"bucket": 1})).unwrap();
    here.publish();
    assert_eq!(cold.get("new").unwrap(), None);
    let next = here.cold(cache.path());
    assert_eq!(next.collection("docs").unwrap().get("new").unwrap(), local.get("new").unwrap());
    db.close().unwrap();
    assert_eq!(cold.get("new").unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn failing_and_flipped_gets_change_no_answer() {
    let (here, local) = mixed();
    let cache = tempfile::tempdir().unwrap();
    for wrong in [Wrong::Every(7), Wrong::FlipsEvery(2)] {
        here.store.set_wrong(wrong);
        let db = here.cold(cache.path());
        let cold = db.collection("docs").unwrap();
        let answers = |docs: &Collection, n| docs.search(&query(64, n)).run().unwrap();
        for n in 0..8 {
            assert_eq!(answers(&cold, n), answers(&local, n), "{wrong:?}");
            let id = format!("id{:06}", n * 4_999 + 1);
            assert_eq!(cold.get(&*id).unwrap(), local.get(&*id).unwrap(), "{wrong:?}");
        }
        here.store.set_wrong(Wrong::Nothing);
    }
}

#[test]
fn a_dead_backend_is_unavailable_and_nothing_is_lost_when_it_comes_back() {
    let (here, local) = mixed();
    let cache = tempfile::tempdir().unwrap();
    let db = here.cold(cache.path());
    let cold = db.collection("docs").unwrap();
    here.store.set_wrong(Wrong::Dead);
    let dead = cold.search(&query(64, 1)).run().unwrap_err();
    assert_eq!(dead.kind(), ErrorKind::Unavailable, "{dead}");
    assert_eq!(cold.get("id000001").unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(cold.count().unwrap(), local.count().unwrap(), "what needs no bytes is answered");
    assert_eq!(here.try_cold(cache.path()).unwrap_err().kind(), ErrorKind::Unavailable);
    here.store.set_wrong(Wrong::Nothing);
    // Its breaker may have opened: it lets a few calls through after a second.
    let hits = loop {
        match cold.search(&query(64, 1)).run() {
            Ok(hits) => break hits,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
    };
    assert_eq!(hits, local.search(&query(64, 1)).run().unwrap());
}

#[test]
fn a_bit_flipped_at_rest_is_an_error_that_names_the_object_or_changes_nothing() {
    let (here, local) = mixed();
    let objects = here.store.objects("collections");
    let cache = tempfile::tempdir().unwrap();
    let mut random = Rng::seeded(7);
    let (mut refused, mut unseen) = (0, 0);
    for _ in 0..40 {
        let (key, len) = &objects[usize::try_from(random.below(objects.len() as u64)).unwrap()];
        let offset = random.below(*len);
        here.store.flip_at_rest(key, offset);
        let asked = query(64, random.below(1_000));
        let answer = here.try_cold(cache.path()).and_then(|db| {
            let docs = db.collection("docs")?;
            Ok((docs.search(&asked).run()?, docs.get("id000002")?))
        });
        match answer {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                let place = error.file().unwrap().display().to_string();
                assert!(place.ends_with(&**key), "{place} is not {key}");
                refused += 1;
            }
            Ok((hits, row)) => {
                assert_eq!(
                    (hits, row),
                    (local.search(&asked).run().unwrap(), local.get("id000002").unwrap())
                );
                unseen += 1;
            }
        }
        here.store.flip_at_rest(key, offset);
    }
    println!("{refused} refused, {unseen} not touched");
    assert!(refused > 0 && unseen > 0);
}

#[test]
fn a_damaged_index_on_a_backend_is_passed_over_and_its_segment_searched_exactly() {
    let (here, local) = mixed();
    let (key, _) = here.store.objects("collections").into_iter().max_by_key(|(_, len)| *len).unwrap();
    let report = akidb::inspect_segment(&RealFs, &here.dir.path().join(&key)).unwrap();
    let codes = report.sections.into_iter().find(|section| section.kind == "CODES").unwrap();
    for offset in (codes.offset..codes.offset + codes.len).step_by(16_384) {
        here.store.flip_at_rest(&key, offset);
    }
    let cache = tempfile::tempdir().unwrap();
    let db = here.cold(cache.path());
    let search = |docs: &Collection| docs.search(&query(64, 3)).exact().run().unwrap();
    let (hits, explained) = db.collection("docs").unwrap().search(&query(64, 3)).explain().unwrap();
    assert_eq!(hits, search(&local));
    assert!(explained.parts.iter().any(|part| part.damaged_index && part.exact), "{explained:?}");
}

#[test]
fn a_program_inside_a_runtime_may_open_search_and_drop() {
    let (here, local) = mixed();
    let cache = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let hits = runtime.block_on(async {
        let db = here.cold(cache.path());
        let docs = db.collection("docs").unwrap();
        docs.search(&query(64, 9)).run_async().await.unwrap()
    });
    assert_eq!(hits, local.search(&query(64, 9)).run().unwrap());
}

#[test]
fn many_threads_share_what_is_fetched() {
    let (here, local) = mixed();
    let cache = tempfile::tempdir().unwrap();
    let db = here.cold(cache.path());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (db, local) = (&db, &local);
            scope.spawn(move || {
                let docs = db.collection("docs").unwrap();
                for n in 0..12 {
                    let query = query(64, (n * 5 + thread) % 16);
                    assert_eq!(docs.search(&query).run().unwrap(), local.search(&query).run().unwrap());
                }
            });
        }
    });
}

#[test]
fn a_cold_open_needs_one_backend_with_something_published() {
    let cache = tempfile::tempdir().unwrap();
    let open = |stores: usize| {
        let mut builder = Db::builder(cache.path()).cold(true);
        for n in 0..stores {
            builder = builder.store(format!("s{n}"), Arc::new(CountingStore::default()));
        }
        builder.open().unwrap_err()
    };
    assert_eq!(open(0).kind(), ErrorKind::Invalid);
    assert_eq!(open(2).kind(), ErrorKind::Invalid);
    assert_eq!(open(1).kind(), ErrorKind::NotFound);
}
