//! What does a filter cost, by the share of rows it takes?
//!
//! `bucket` has nothing to do with the vectors, `lexname` follows them. Each filter takes turns with a search without one.
//! `chrt -f 10 cargo bench -p akidb-benches --bench filtered_search` (AKIDB_BENCH_ROWS=50000)

use std::hint::black_box;

use akidb::{Db, Filter};
use akidb_benches::{bench_dir, fill_mixed, interleaved, machine, sample, sample_schema};
use criterion::Criterion;

const ROUNDS: usize = 15;
const SEARCHES: usize = 10;
const FILTERS: [&str; 5] =
    ["bucket < 50", "bucket < 10", "bucket < 1", "lexname = 'noun.plant'", "bucket < 10 and pos = 'n'"];

fn main() {
    let count = std::env::var("AKIDB_BENCH_ROWS")
        .map_or(50_000, |n| n.parse().expect("AKIDB_BENCH_ROWS is a number"));
    let dir = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    let sample = sample();
    let db = Db::open(dir.path().join("db")).expect("the directory is empty");
    let docs = db.create_collection("wordnet", sample_schema()).expect("the schema is good");
    fill_mixed(&docs, &sample, count).expect("rows can be written");
    db.flush().expect("it flushes");

    let mut next = 0;
    let mut search = |filter: Option<&Filter>| {
        let query = &sample.queries[next % sample.queries.len()];
        next += 1;
        let search = docs.search(&query.vector).k(10);
        let search = match filter {
            Some(filter) => search.filter(filter.clone()),
            None => search,
        };
        black_box(search.run().expect("it searches"));
    };
    search(None); // the first touch of each block also verifies its checksum

    println!("{}\n{count} rows, k = 10, one thread, medians of {ROUNDS} rounds", machine(dir.path()));
    let search = std::cell::RefCell::new(search);
    for text in FILTERS {
        let filter = Filter::try_from(text).expect("a good filter");
        let share = docs.count_where(filter.clone()).expect("it counts") as f64 / count as f64;
        let mut plain = || (0..SEARCHES).for_each(|_| search.borrow_mut()(None));
        let mut filtered = || (0..SEARCHES).for_each(|_| search.borrow_mut()(Some(&filter)));
        let [plain_s, filtered_s] =
            interleaved(ROUNDS, &mut [("plain", &mut plain), ("filtered", &mut filtered)])[..]
        else {
            unreachable!("two contenders, two medians")
        };
        let us = |seconds: f64| seconds * 1e6 / SEARCHES as f64;
        println!(
            "{text:28} takes {:5.1} %: {:9.1} us, without a filter {:9.1} us: {:.2} of it",
            share * 100.0,
            us(filtered_s),
            us(plain_s),
            filtered_s / plain_s
        );
    }

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("filtered_search");
    for text in FILTERS {
        let filter = Filter::try_from(text).expect("a good filter");
        group.bench_function(text, |b| b.iter(|| search.borrow_mut()(Some(&filter))));
    }
    group.finish();
    criterion.final_summary();
    db.close().expect("it closes");
}
