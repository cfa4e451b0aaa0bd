//! How long does an open take after kill -9, with an unflushed log of so many MiB?
//!
//! A child process fills a log by single rows and is killed; its directory is copied, so that every round opens the same
//! one, from the page cache. `cargo bench -p akidb-benches --bench reopen` (AKIDB_BENCH_MIB=16,96)

use std::path::Path;
use std::process::{Command, ExitCode};

use akidb::{Db, Settings};
use akidb_benches::{bench_dir, machine, median, sample, sample_schema, timed};

const ROUNDS: usize = 9;
const CHILD: &str = "AKIDB_BENCH_CHILD";

/// Writes rows one by one until the live log has so many bytes, then dies by SIGKILL.
fn fill_and_die(plan: &str) {
    let (mib, dir) = plan.split_once(' ').expect("a size and a directory");
    let bytes = mib.parse::<u64>().expect("a number of MiB") << 20;
    let settings =
        "[engine]\nmemtable_bytes = \"900 MiB\"\nmemory_bytes = \"2 GiB\"\nwal_flush_bytes = \"900 MiB\"\n";
    let db = Db::builder(dir).settings(Settings::from_toml(settings).expect("good settings")).open();
    let db = db.expect("the directory is empty");
    let docs = db.create_collection("wordnet", sample_schema()).expect("the schema is good");
    let sample = sample();
    for n in 0.. {
        let row = &sample.rows[n % sample.rows.len()];
        let new = akidb::NewRow::new(format!("{}-{n}", row.id), row.vector.clone(), row.payload.clone());
        let receipt = docs.submit(&[new.expect("a row of the sample")]).expect("it can be written");
        if n % 500 == 0 {
            receipt.wait().expect("it can be synced");
            if db.stats().expect("open").live_wal_bytes >= bytes {
                break;
            }
        }
    }
    let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    unreachable!("killed");
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory can be made");
    for entry in std::fs::read_dir(from).expect("it can be listed") {
        let entry = entry.expect("it can be listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("it can be copied");
        }
    }
}

fn main() -> ExitCode {
    if let Ok(plan) = std::env::var(CHILD) {
        fill_and_die(&plan);
    }
    let home = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    println!("{}", machine(home.path()));
    let sizes = std::env::var("AKIDB_BENCH_MIB").unwrap_or_else(|_| "16,96".to_owned());
    for mib in sizes.split(',') {
        let filled = home.path().join(mib);
        let me = std::env::current_exe().expect("this program has a path");
        let _ = Command::new(me).env(CHILD, format!("{mib} {}", filled.display())).status();
        let mut rows = 0;
        let mut ms: Vec<f64> = (0..ROUNDS)
            .map(|round| {
                let dir = home.path().join(format!("{mib}-{round}"));
                copy_dir(&filled, &dir);
                // What was copied is on disk: the open's own syncs do not pay for it.
                let _ = Command::new("sync").status();
                let mut db = None;
                let took = timed(|| db = Some(Db::open(&dir).expect("it opens")));
                let db = db.expect("just opened");
                rows = db.recovery().replayed_records;
                db.close().expect("it closes");
                std::fs::remove_dir_all(&dir).expect("it can be removed");
                took.as_secs_f64() * 1e3
            })
            .collect();
        let mid = median(&mut ms);
        println!(
            "{mib} MiB of log, {rows} rows: open {mid:.1} ms in the middle of {ROUNDS}, {:.1} to {:.1}; {:.2} us a row",
            ms[0],
            ms[ROUNDS - 1],
            mid * 1e3 / rows as f64
        );
    }
    ExitCode::SUCCESS
}
