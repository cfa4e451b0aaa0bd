//! How much processor time does a single upsert take beside its sync?
//!
//! The database lies in memory (/dev/shm, or AKIDB_BENCH_DIR), where a sync costs nothing.
//! `cargo bench -p akidb-benches --bench upsert_cpu`

use akidb::Db;
use akidb_benches::{bench_dir, machine, median, sample, sample_schema, timed};

const ROUNDS: usize = 15;
const ROWS_A_ROUND: usize = 2_000;

fn main() {
    let home = bench_dir("/dev/shm");
    println!("{}", machine(home.path()));
    let db = Db::open(home.path().join("db")).expect("the directory is empty");
    let docs = db.create_collection("wordnet", sample_schema()).expect("the schema is good");
    let sample = sample();
    let mut us: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let payloads: Vec<_> = sample.rows.iter().map(|row| row.payload.clone()).collect();
            let rows = sample.rows.iter().zip(payloads).take(ROWS_A_ROUND);
            let took = timed(|| {
                for (row, payload) in rows {
                    docs.upsert(&row.id, &row.vector, payload).expect("a row of the sample can be written");
                }
            });
            took.as_secs_f64() * 1e6 / ROWS_A_ROUND as f64
        })
        .collect();
    let mid = median(&mut us);
    println!("an upsert beside its sync: {mid:.2} us in the middle of {ROUNDS} rounds, best {:.2}", us[0]);
    db.close().expect("it closes");
}
