//! What does a filter of two fields cost: the first time, on cached columns, and asked again?
//!
//! `count_where` of `lexname = .. and bucket < ..` over one segment, as users call it. The first time is that of a
//! database that keeps nothing: each call decodes both columns. The floor is a look at every row's two codes of a
//! byte, one thread. `cargo bench -p akidb-benches --bench filter_eval` (AKIDB_BENCH_ROWS=100000)

use std::hint::black_box;

use akidb::{Collection, Db, Durability, Filter, Metric, NewRow, Schema, Settings};
use akidb_benches::{bench_dir, interleaved, machine};
use akidb_host::Rng;
use criterion::{Criterion, Throughput};
use serde_json::json;

const ROUNDS: usize = 31;
const BATCH_ROWS: usize = 5_000;
const LEXNAMES: u64 = 45;
const BUCKETS: u64 = 100;

fn lexname(n: u64) -> String {
    format!("noun.kind{n:02}")
}

/// One segment of `count` rows; the codes a filter would read, for the floor.
fn filled(path: &std::path::Path, count: usize, filter_cache_bytes: u64) -> (Db, Collection, Vec<[u8; 2]>) {
    let mut settings = Settings::default();
    settings.engine.memtable_bytes = 1 << 30;
    settings.engine.memory_bytes = 2 << 30;
    settings.engine.wal_flush_bytes = 1 << 30;
    settings.engine.wal_max_bytes = 2 << 30;
    settings.engine.filter_cache_bytes = filter_cache_bytes;
    let db = Db::builder(path).settings(settings).durability(Durability::Memory).open().expect("it opens");
    let docs = db
        .create_collection("rows", Schema::new(8, Metric::L2).text("lexname").int("bucket"))
        .expect("the schema is good");
    let mut rng = Rng::seeded(45);
    let mut codes = Vec::with_capacity(count);
    let ids: Vec<usize> = (0..count).collect();
    for ids in ids.chunks(BATCH_ROWS) {
        let row = |at: &usize| {
            let (kind, bucket) = (rng.below(LEXNAMES), rng.below(BUCKETS));
            let code = |n: u64| u8::try_from(n).expect("below 256");
            codes.push([code(kind), code(bucket)]);
            let payload = json!({ "lexname": lexname(kind), "bucket": bucket });
            NewRow::new(format!("r{at:07}"), [1.0; 8], payload).expect("a row")
        };
        docs.upsert_batch(&ids.iter().map(row).collect::<Vec<_>>()).expect("rows can be written");
    }
    db.flush().expect("it flushes");
    (db, docs, codes)
}

fn main() {
    let count = std::env::var("AKIDB_BENCH_ROWS")
        .map_or(100_000, |n| n.parse().expect("AKIDB_BENCH_ROWS is a number"));
    let dir = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    let (db, docs, codes) = filled(&dir.path().join("kept"), count, 32 << 20);
    let (bare_db, bare_docs, _) = filled(&dir.path().join("bare"), count, 0);

    let wanted = codes.iter().filter(|[kind, bucket]| *kind == 7 && *bucket < 10).count() as u64;
    let ask = |docs: &Collection, filter: Filter| docs.count_where(filter).expect("it counts");
    let filter = |bound: f64| Filter::eq("lexname", lexname(7)).and(Filter::lt("bucket", bound));
    for docs in [&docs, &bare_docs] {
        assert_eq!(ask(docs, filter(10.0)), wanted);
    }

    let mut floor = || {
        let mut bits = [0_u64; 1];
        for [kind, bucket] in &codes {
            bits[0] = bits[0].wrapping_add(u64::from(*kind == 7 && *bucket < 10));
        }
        black_box(bits);
    };
    let mut first = || {
        black_box(ask(&bare_docs, filter(10.0)));
    };
    // Bounds that no call had before ask the columns, which are kept.
    let mut next = 9.0;
    let mut new_filter = || {
        next += 1e-9;
        black_box(ask(&docs, filter(next)));
    };
    let mut again = || {
        black_box(ask(&docs, filter(10.0)));
    };

    println!("{}", machine(dir.path()));
    let seconds = interleaved(
        ROUNDS,
        &mut [
            ("floor", &mut floor),
            ("first time", &mut first),
            ("new filter, kept columns", &mut new_filter),
            ("asked again", &mut again),
        ],
    );
    println!("{count} rows, {wanted} match; one call each, interleaved, median of {ROUNDS} rounds:");
    for (name, seconds) in
        ["floor", "first time", "new filter, kept columns", "asked again"].iter().zip(seconds)
    {
        println!("  {name}: {:.4} ms", seconds * 1e3);
    }

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("filter_eval");
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("floor", |b| b.iter(&mut floor));
    group.bench_function("first_time", |b| b.iter(&mut first));
    group.bench_function("new_filter", |b| b.iter(&mut new_filter));
    group.bench_function("asked_again", |b| b.iter(&mut again));
    group.finish();
    criterion.final_summary();
    db.close().expect("it closes");
    bare_db.close().expect("it closes");
}
