//! How long is it from an open to the first answer, with everything in segments?
//!
//! The page cache is warm; each round opens the database anew, asks once, and once more.
//! `cargo bench -p akidb-benches --bench open_to_answer` (AKIDB_BENCH_ROWS=50000)

use std::hint::black_box;

use akidb::Db;
use akidb_benches::{bench_dir, fill_mixed, machine, median, sample, sample_schema, timed};
use criterion::{BatchSize, Criterion};

const ROUNDS: usize = 15;

fn main() {
    let count = std::env::var("AKIDB_BENCH_ROWS")
        .map_or(50_000, |n| n.parse().expect("AKIDB_BENCH_ROWS is a number"));
    let home = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    let dir = home.path().join("db");
    let sample = sample();
    let db = Db::open(&dir).expect("the directory is empty");
    let docs = db.create_collection("wordnet", sample_schema()).expect("the schema is good");
    fill_mixed(&docs, &sample, count).expect("rows can be written");
    db.flush().expect("it flushes");
    db.close().expect("it closes");

    let open = || Db::open(&dir).expect("it opens");
    let ask = |db: &Db| {
        let docs = db.collection("wordnet").expect("it is there");
        black_box(docs.search(&sample.queries[0].vector).k(10).run().expect("it searches"));
    };
    let (mut opens, mut firsts, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut db = None;
        opens.push(timed(|| db = Some(open())).as_secs_f64() * 1e3);
        let db = db.expect("just opened");
        firsts.push(timed(|| ask(&db)).as_secs_f64() * 1e3);
        seconds.push(timed(|| ask(&db)).as_secs_f64() * 1e3);
        db.close().expect("it closes");
    }
    let mut to_answer: Vec<f64> = opens.iter().zip(&firsts).map(|(open, first)| open + first).collect();
    println!(
        "{}\n{count} rows in segments, medians of {ROUNDS} rounds, page cache warm",
        machine(home.path())
    );
    println!(
        "open {:.2} ms, first answer {:.2} ms after it, {:.2} ms in all; the same question again {:.2} ms",
        median(&mut opens),
        median(&mut firsts),
        median(&mut to_answer),
        median(&mut seconds)
    );

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("open_to_answer");
    group.sample_size(20);
    group.bench_function("open_and_first_search", |b| {
        // Closing is outside of what is timed.
        let left = std::cell::RefCell::new(None);
        let close_last = || {
            if let Some(db) = left.borrow_mut().take() {
                Db::close(db).expect("it closes");
            }
        };
        b.iter_batched(
            close_last,
            |()| {
                let db = open();
                ask(&db);
                *left.borrow_mut() = Some(db);
            },
            BatchSize::PerIteration,
        );
        close_last();
    });
    group.finish();
    criterion.final_summary();
}
