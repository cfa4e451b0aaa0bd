//! How near is a durable upsert to the raw fdatasync floor?
//!
//! The floor is what any engine on this disk must pay for one power-safe row: as many bytes written into a file whose
//! blocks already exist, and one fdatasync. `chrt -f 10 cargo bench -p akidb-benches --bench durable_upsert`; the same
//! with every figure as JSON: `akidb bench upsert --json`.

use akidb_benches::wal::Floor;
use akidb_benches::{Upserts, bench_dir, interleaved, machine};
use criterion::{Criterion, Throughput};

const ROUNDS: usize = 15;
const ROWS_A_ROUND: usize = 100;

fn main() {
    let dir = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    let mut upserts = Upserts::new(&dir.path().join("db")).expect("the directory is empty");
    let record_bytes = upserts.record_bytes();
    let mut floor = Floor::new(dir.path(), record_bytes).expect("the floor's file can be filled");
    let mut upsert = || upserts.upsert().expect("a row of the sample can be written");
    let mut floor = || floor.write().expect("the floor's file can be synced");

    println!("{}", machine(dir.path()));
    println!(
        "durability: every row is on disk when its call returns; {record_bytes} bytes a record, one writer"
    );
    let [floor_s, upsert_s] = interleaved(
        ROUNDS,
        &mut [
            ("floor", &mut || (0..ROWS_A_ROUND).for_each(|_| floor())),
            ("upsert", &mut || (0..ROWS_A_ROUND).for_each(|_| upsert())),
        ],
    )[..] else {
        unreachable!("two contenders, two medians")
    };
    let rate = |seconds: f64| ROWS_A_ROUND as f64 / seconds;
    println!(
        "interleaved, median of {ROUNDS} rounds: floor {:.0}/s, upsert {:.0}/s = {:.2} of the floor",
        rate(floor_s),
        rate(upsert_s),
        floor_s / upsert_s
    );

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("durable_upsert");
    group.throughput(Throughput::Elements(1));
    group.bench_function("raw_fdatasync_floor", |b| b.iter(&mut floor));
    group.bench_function("upsert_one_row", |b| b.iter(&mut upsert));
    group.finish();
    criterion.final_summary();
    upserts.close().expect("it closes");
}
