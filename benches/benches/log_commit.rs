//! How near is the log to the raw fdatasync floor, at 1, 16 and 64 writers?
//!
//! `chrt -f 10 cargo bench -p akidb-benches --bench log_commit`; the same with every figure as JSON, and on a stand-in
//! disk: `akidb bench wal --json`.

use std::time::Duration;

use akidb_benches::wal::{Floor, LogWriters, RECORD_BYTES, WritePath};
use akidb_benches::{bench_dir, interleaved, machine};
use criterion::{Criterion, Throughput};

const ROUNDS: usize = 15;
/// Acknowledgements of each contender in a round.
const ACKS: u64 = 960;

fn main() {
    let dir = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    let mut floor = Floor::new(dir.path(), RECORD_BYTES).expect("the floor's file can be filled");
    let log = |name: &str| {
        LogWriters::new(&dir.path().join(name), WritePath::Auto, RECORD_BYTES).expect("the log opens")
    };
    let (one, sixteen, many) = (log("one"), log("sixteen"), log("many"));
    let write = |log: &LogWriters, writers: u64| {
        log.write(writers, ACKS / writers).expect("the log takes every record");
    };
    println!("{}", machine(dir.path()));
    println!("durability: every record is on disk when its wait returns; {RECORD_BYTES} bytes a record");
    let medians = interleaved(
        ROUNDS,
        &mut [
            ("floor", &mut || (0..ACKS).for_each(|_| floor.write().expect("it can be synced"))),
            ("1 writer", &mut || write(&one, 1)),
            ("16 writers", &mut || write(&sixteen, 16)),
            ("64 writers", &mut || write(&many, 64)),
        ],
    );
    for (name, seconds) in ["floor", "1 writer", "16 writers", "64 writers"].into_iter().zip(&medians) {
        println!("{name}: {:.0}/s, {:.2} of the floor", ACKS as f64 / seconds, medians[0] / seconds);
    }

    let mut criterion = Criterion::default().measurement_time(Duration::from_secs(4)).configure_from_args();
    let mut group = criterion.benchmark_group("log_commit");
    group.throughput(Throughput::Elements(1));
    group.bench_function("raw_floor", |b| b.iter(|| floor.write()));
    for (name, log, writers) in [("commit_1", &one, 1), ("commit_16", &sixteen, 16), ("commit_64", &many, 64)]
    {
        group.bench_function(name, |b| {
            b.iter_custom(|acks| {
                // Rounded up to a record for each writer; the time is scaled back.
                let each = acks.div_ceil(writers);
                let took = log.write(writers, each).expect("the log takes every record");
                took.mul_f64(acks as f64 / (each * writers) as f64)
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
