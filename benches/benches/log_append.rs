//! How many records a second does the log take when they count in memory, first touch of each page included?
//!
//! `chrt -f 10 cargo bench -p akidb-benches --bench log_append`

use std::time::Duration;

use akidb_benches::wal::{MemoryAppends, RECORD_BYTES, WritePath};
use akidb_benches::{bench_dir, machine};
use criterion::{Criterion, Throughput};

/// Records of one measurement: they fill three quarters of a log file, none of whose pages was touched before.
const RECORDS: u64 = 30_000;

fn main() {
    let dir = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    println!("{}", machine(dir.path()));
    println!(
        "durability: Memory, lost in a power cut for up to 50 ms; {RECORD_BYTES} bytes a record, one writer"
    );
    let mut criterion =
        Criterion::default().sample_size(10).measurement_time(Duration::from_secs(4)).configure_from_args();
    let mut group = criterion.benchmark_group("log_append");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, path) in
        [("append_memory", WritePath::Mapped), ("append_memory_positioned", WritePath::Positioned)]
    {
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                (0..times)
                    .map(|_| {
                        let log = MemoryAppends::new(&dir.path().join("log"), path, RECORD_BYTES);
                        log.and_then(|log| log.append(RECORDS)).expect("the log takes every record")
                    })
                    .sum()
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
