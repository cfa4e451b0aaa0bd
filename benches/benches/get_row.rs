//! What does the payload of any row cost, by `get(id)` and as a hit of a search, from one segment and from ten, and how
//! many pages are unpacked for it?
//!
//! Ids are text, seven fields are declared; every block is verified and in the page cache of the machine. Rows are picked
//! evenly over all of them, once with the default `engine.page_cache_bytes` and once with none. `AKIDB_BENCH_DATA=DIR
//! cargo bench -p akidb-benches --bench get_row` (AKIDB_BENCH_ROWS=20000)

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use akidb::{Collection, Db, Durability, Id, NewRow, PageCacheStats, Settings};
use akidb_benches::{SearchSource, bench_dir, fill_settings, machine, sample, sample_schema, timed};
use akidb_host::Rng;

const BATCH_ROWS: usize = 500;
const GETS: usize = 20_000;
const SEARCHES: usize = 1_000;
const GOAL: Duration = Duration::from_micros(150);

/// Rows without their ids, and queries.
struct Source {
    rows: Vec<NewRow>,
    queries: Vec<Vec<f32>>,
}

fn text_id(at: usize) -> Id {
    // Neighbours in a file are no neighbours in the source.
    format!("{:08x}.n.{at:07}", at.wrapping_mul(0x9e37_79b1) & 0xffff_ffff).into()
}

/// Those of the directory that `AKIDB_BENCH_DATA` names, else the sample's, over and over.
fn source() -> Source {
    let count =
        std::env::var("AKIDB_BENCH_ROWS").ok().map(|n| n.parse().expect("AKIDB_BENCH_ROWS is a number"));
    let Some(dir) = std::env::var_os("AKIDB_BENCH_DATA") else {
        let sample = sample();
        let row = |at: usize| {
            let row = &sample.rows[at % sample.rows.len()];
            let mut payload = row.payload.clone();
            payload.insert("row".into(), at.into());
            payload.insert("lemmas".into(), vec![format!("{}-{at}", row.id)].into());
            NewRow { id: text_id(at), vector: row.vector.clone(), payload, expires: None }
        };
        let queries = sample.queries.iter().map(|query| query.vector.clone()).collect();
        return Source { rows: (0..count.unwrap_or(20_000)).map(row).collect(), queries };
    };
    let found = SearchSource::find(Path::new(&dir), &|_| panic!("a matrix and lines are wanted"));
    let found = found.expect("the directory has rows");
    let rows = found.read(count.map_or(found.rows(), |count| count as u64)).expect("they can be read");
    let row = |(at, row): (usize, Result<akidb_benches::SourceRow, _>)| {
        let row = row.expect("a good row");
        NewRow { id: text_id(at), vector: row.vector, payload: row.payload, expires: None }
    };
    Source {
        rows: rows.enumerate().map(row).collect(),
        queries: found.queries(200).expect("they can be read"),
    }
}

fn settings(page_cache_bytes: Option<u64>) -> Settings {
    let mut settings = fill_settings(true);
    if let Some(bytes) = page_cache_bytes {
        settings.engine.page_cache_bytes = bytes;
    }
    settings
}

fn fill(dir: &Path, source: &Source, segments: usize) {
    let db = Db::builder(dir).settings(settings(None)).durability(Durability::Memory).open();
    let db = db.expect("the directory is empty");
    let docs = db.create_collection("rows", sample_schema()).expect("the schema is good");
    for n in 0..segments {
        let of_segment: Vec<NewRow> = source.rows.iter().skip(n).step_by(segments).cloned().collect();
        for rows in of_segment.chunks(BATCH_ROWS) {
            docs.upsert_batch(rows).expect("rows can be written");
        }
        db.flush().expect("it flushes");
    }
    db.close().expect("it closes");
}

fn p50_p99(mut took: Vec<Duration>) -> (Duration, Duration) {
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

fn pages(db: &Db) -> PageCacheStats {
    db.stats().expect("it is open").page_cache
}

fn searches(docs: &Collection, source: &Source, with_payload: bool) -> (Duration, Duration) {
    let search = |n: usize| {
        let query = &source.queries[n % source.queries.len()];
        timed(|| {
            drop(black_box(docs.search(query).k(10).with_payload(with_payload).run().expect("it reads")))
        })
    };
    (0..source.queries.len()).for_each(|n| assert!(search(n) < Duration::MAX));
    p50_p99((0..SEARCHES).map(search).collect())
}

fn measure(dir: &Path, source: &Source, page_cache_bytes: Option<u64>) {
    let settings = settings(page_cache_bytes);
    let kept = settings.engine.page_cache_bytes >> 20;
    let db = Db::builder(dir).settings(settings).open().expect("it opens");
    let docs = db.collection("rows").expect("it is there");
    let segments = db.stats().expect("it is open").collections[0].segments;
    let mut rng = Rng::seeded(11);
    let mut pick = || text_id(usize::try_from(rng.below(source.rows.len() as u64)).expect("below a usize"));
    // The first touch of each block verifies its checksum.
    (0..source.rows.len())
        .for_each(|at| assert!(docs.get(text_id(at)).expect("it reads").is_some(), "row {at}"));
    (0..GETS).for_each(|_| drop(black_box(docs.get(pick()).expect("it reads"))));
    let before = pages(&db);
    let took = (0..GETS).map(|_| {
        let id = pick();
        timed(|| drop(black_box(docs.get(id).expect("it reads"))))
    });
    let (p50, p99) = p50_p99(took.collect());
    let after = pages(&db);
    let a_get = |n: u64| n as f64 / GETS as f64;
    println!(
        "{segments} segments, {kept} MiB of pages: get p50 {p50:.1?}, p99 {p99:.1?} (goal {GOAL:?}); \
         pages a get: {:.2} unpacked, {:.2} found; {:.1} MiB kept",
        a_get(after.unpacked - before.unpacked),
        a_get(after.found - before.found),
        after.bytes as f64 / (1 << 20) as f64,
    );
    let (without, with) = (searches(&docs, source, false), searches(&docs, source, true));
    println!(
        "    search k = 10: p50 {:.1?}, with payload {:.1?} (p99 {:.1?}, {:.1?})",
        without.0, with.0, without.1, with.1
    );
    db.close().expect("it closes");
}

fn main() {
    let dir = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    let source = source();
    println!("{}", machine(dir.path()));
    println!("{} rows", source.rows.len());
    for segments in [1, 10] {
        let home = dir.path().join(segments.to_string());
        fill(&home, &source, segments);
        for page_cache_bytes in [None, Some(0)] {
            measure(&home, &source, page_cache_bytes);
        }
    }
}
