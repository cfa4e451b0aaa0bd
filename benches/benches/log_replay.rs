//! How fast are 64 MiB of live log read again: replay alone, and the reopen after an end without a close?
//!
//! `chrt -f 10 cargo bench -p akidb-benches --bench log_replay`. From the page cache; a cold disk adds its own time.

use std::time::Duration;

use akidb_benches::wal::{FilledLog, RECORD_BYTES};
use akidb_benches::{bench_dir, machine};
use criterion::{Criterion, Throughput};

fn main() {
    let dir = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    println!("{}", machine(dir.path()));
    let fill = || FilledLog::new(&dir.path().join("log"), RECORD_BYTES).expect("the log can be filled");
    let mut criterion =
        Criterion::default().sample_size(10).measurement_time(Duration::from_secs(4)).configure_from_args();
    let mut group = criterion.benchmark_group("log_replay");
    let filled = fill();
    group.throughput(Throughput::Bytes(filled.bytes()));
    group.bench_function("replay_64m", |b| {
        b.iter_custom(|times| (0..times).map(|_| filled.replay().expect("it is whole")).sum());
    });
    drop(filled);
    group.bench_function("reopen", |b| {
        b.iter_custom(|times| (0..times).map(|_| fill().reopen().expect("it opens")).sum());
    });
    group.finish();
    criterion.final_summary();
}
