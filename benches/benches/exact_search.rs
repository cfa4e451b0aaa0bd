//! How near is exact search to memory bandwidth?
//!
//! The floor is one thread reading as many bytes as the vectors have, from memory, and adding them up. Search reads them in
//! place in a mapped segment. `chrt -f 10 cargo bench -p akidb-benches --bench exact_search` (AKIDB_BENCH_ROWS=50000)

use std::hint::black_box;

use akidb::Db;
use akidb_benches::{SAMPLE_DIM, bench_dir, fill_mixed, interleaved, machine, sample, sample_schema};
use criterion::{Criterion, Throughput};

const ROUNDS: usize = 15;

fn main() {
    let count = std::env::var("AKIDB_BENCH_ROWS")
        .map_or(50_000, |n| n.parse().expect("AKIDB_BENCH_ROWS is a number"));
    let dir = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    let sample = sample();
    let db = Db::open(dir.path().join("db")).expect("the directory is empty");
    let docs = db.create_collection("wordnet", sample_schema()).expect("the schema is good");
    fill_mixed(&docs, &sample, count).expect("rows can be written");
    db.flush().expect("it flushes");

    let bytes = count * usize::from(SAMPLE_DIM) * size_of::<f32>();
    let memory: Vec<u64> = (0..bytes as u64 / 8).collect();
    let mut read_all = || {
        black_box(black_box(&memory).iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
    };
    let mut next = 0;
    let mut search = || {
        let query = &sample.queries[next % sample.queries.len()];
        next += 1;
        black_box(docs.search(&query.vector).k(10).exact().run().expect("it searches"));
    };
    search(); // the first touch of each block also verifies its checksum

    println!("{}", machine(dir.path()));
    println!(
        "{count} rows x {SAMPLE_DIM}, {} MiB of vectors in segments, k = 10, one thread, page cache warm",
        bytes >> 20
    );
    let [floor_s, search_s] =
        interleaved(ROUNDS, &mut [("floor", &mut read_all), ("search", &mut search)])[..]
    else {
        unreachable!("two contenders, two medians")
    };
    let gib_s = |seconds: f64| bytes as f64 / seconds / f64::from(1 << 30);
    println!(
        "interleaved, median of {ROUNDS} rounds: floor {:.1} GiB/s, search {:.1} GiB/s ({:.2} ms) = {:.2} of the floor",
        gib_s(floor_s),
        gib_s(search_s),
        search_s * 1e3,
        floor_s / search_s
    );

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("exact_search");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("memory_read_floor", |b| b.iter(&mut read_all));
    group.bench_function("search_k10", |b| b.iter(&mut search));
    group.finish();
    criterion.final_summary();
    db.close().expect("it closes");
}
