//! A log long enough to be decoded by two threads: what comes back is what one thread finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use akidb::{Db, Metric, NewRow, Schema, Settings};
use akidb_host::{Clock, Job, RealClock, RealFs, RealSpawn, Spawn, Tick, Ticker};
use serde_json::json;

const IDS: u32 = 900;

/// The machine's threads; the one that decodes ahead can be refused. Counts how often it was asked for.
#[derive(Debug)]
struct Threads {
    refused: bool,
    asked: AtomicUsize,
}

impl Spawn for Threads {
    fn job(&self, name: &str, job: Box<dyn FnOnce() + Send>) -> std::io::Result<Box<dyn Job>> {
        if name == "akidb-replay" {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.refused {
                return Err(std::io::ErrorKind::WouldBlock.into());
            }
        }
        RealSpawn.job(name, job)
    }

    fn ticker(
        &self,
        name: &str,
        tick: Box<dyn Tick>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Arc<dyn Ticker>> {
        RealSpawn.ticker(name, tick, clock)
    }
}

/// What every id holds after an open: the number in its vector and in its payload.
fn read_all(
    dir: &std::path::Path,
    threads: Threads,
    read_only: bool,
    settings: &str,
) -> (Vec<Option<u32>>, u64) {
    let threads = Arc::new(threads);
    let db = Db::builder(dir)
        .settings(Settings::from_toml(settings).unwrap())
        .components(Arc::new(RealFs), Arc::new(RealClock), Arc::clone(&threads) as Arc<dyn Spawn>)
        .read_only(read_only)
        .open()
        .unwrap();
    assert_eq!(threads.asked.load(Ordering::SeqCst), 1, "the log is long enough");
    let replayed = db.recovery().replayed_records;
    let rows = db.collection("rows").unwrap();
    let row = |n: u32| {
        let row = rows.get(format!("r{n}")).unwrap()?;
        let number = row.vector[0];
        assert_eq!(row.payload["n"], json!(number as u32), "r{n}");
        Some(number as u32)
    };
    ((0..IDS).map(row).collect(), replayed)
}

#[test]
fn two_threads_replay_a_long_log_to_what_one_replays_it_to() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(256, Metric::L2).int("n")).unwrap();
    let mut model = vec![None; IDS as usize];
    let mut written = 0;
    for step in 0..1_500_u32 {
        let id = step * 7 % IDS;
        if step % 11 == 0 {
            let was = model[id as usize].take();
            assert_eq!(rows.delete(format!("r{id}")).unwrap(), was.is_some());
            continue;
        }
        let batch = (0..1 + step % 3).map(|k| (id + k) % IDS);
        let batch: Vec<NewRow> = batch
            .map(|id| {
                model[id as usize] = Some(step);
                NewRow::new(
                    format!("r{id}"),
                    vec![step as f32; 256],
                    json!({ "n": step, "more": "x".repeat(99) }),
                )
                .unwrap()
            })
            .collect();
        written += batch.len() as u64;
        rows.submit(&batch).unwrap();
    }
    drop((rows, db));
    let threads = |refused| Threads { refused, asked: AtomicUsize::new(0) };
    let whole = read_all(dir.path(), threads(true), true, "");
    assert_eq!(whole.0, model);
    assert!(whole.1 > written, "deletes are records as well");
    assert_eq!(read_all(dir.path(), threads(false), true, ""), whole);
    // With so little memory much of it is flushed on the way.
    let small = "[engine]\nmemtable_bytes = \"1 MiB\"\nmemory_bytes = \"16 MiB\"\n";
    assert_eq!(read_all(dir.path(), threads(false), false, small).0, model);
}
