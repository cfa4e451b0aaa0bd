//! The work that goes on through an outage: one writer and one searcher, and what the writer was promised.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use akidb::{Collection, Db, Metric, Schema};
use akidb_host::{Clock, Job, RealSpawn, Rng, Spawn};
use serde_json::json;

const DIM: u16 = 64;
/// Ids are written again and again: overwrites are where rows get lost.
const IDS: u64 = 5_000;
/// Simulated time between two searches.
const BETWEEN_SEARCHES: Duration = Duration::from_secs(5);
/// Rows a page of a scan.
const PAGE_ROWS: usize = 10_000;

/// How much is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Collections written to in turn: each is a file in every flush.
    pub(super) collections: u64,
    /// Simulated time between two writes.
    pub(super) between_writes: Duration,
    /// Simulated time between two flushes, besides those of full memtables.
    pub(super) between_flushes: Duration,
}

/// What the load did.
#[derive(Debug, Default)]
pub(super) struct Done {
    stop: AtomicBool,
    pub(super) writes: AtomicU64,
    pub(super) failed_writes: AtomicU64,
    pub(super) searches: AtomicU64,
    pub(super) failed_searches: AtomicU64,
}

/// A running load.
pub(super) struct Load {
    done: Arc<Done>,
    model: std::sync::mpsc::Receiver<Model>,
    jobs: Vec<Box<dyn Job>>,
}

/// Collection and id -> the number its last acknowledged write carried.
pub(super) type Model = BTreeMap<(String, String), u64>;

impl Load {
    /// Starts writing, flushing and searching.
    pub(super) fn start(db: &Arc<Db>, clock: &Arc<dyn Clock>, pace: Pace, seed: u64) -> akidb::Result<Self> {
        let schema = || Schema::new(DIM, Metric::Cosine).int("n");
        let collections: akidb::Result<Vec<_>> =
            (0..pace.collections).map(|i| db.create_collection(&name(i), schema())).collect();
        let (collections, done) = (collections?, Arc::new(Done::default()));
        let (tell, model) = std::sync::mpsc::channel();
        let mut jobs: Vec<Box<dyn Job>> = Vec::new();
        let mut start = |name: &str, job: Box<dyn FnOnce() + Send>| {
            jobs.push(RealSpawn.job(name, job).expect("this machine has threads"));
        };
        let searched = collections[0].clone();
        let (d, c) = (Arc::clone(&done), Arc::clone(clock));
        start(
            "drill-write",
            Box::new(move || {
                let _ = tell.send(write(&collections, &d, &*c, pace.between_writes, Rng::seeded(seed)));
            }),
        );
        let (d, c) = (Arc::clone(&done), Arc::clone(clock));
        start("drill-search", Box::new(move || search(&searched, &d, &*c, Rng::seeded(seed ^ 1))));
        let (d, c, db) = (Arc::clone(&done), Arc::clone(clock), Arc::clone(db));
        start("drill-flush", Box::new(move || flush(&db, &d, &*c, pace.between_flushes)));
        Ok(Self { done, model, jobs })
    }

    pub(super) fn done(&self) -> &Done {
        &self.done
    }

    /// Ends the load; what was acknowledged.
    pub(super) fn stop(self) -> Model {
        self.done.stop.store(true, Ordering::SeqCst);
        self.jobs.iter().for_each(|job| assert!(job.join(), "the load panicked"));
        self.model.recv().expect("the writer has ended")
    }
}

fn name(i: u64) -> String {
    format!("drill-{i:02}")
}

fn write(rows: &[Collection], done: &Done, clock: &dyn Clock, between: Duration, mut rng: Rng) -> Model {
    let mut model = Model::new();
    for (n, i) in (0..).zip((0..rows.len()).cycle()) {
        if done.stop.load(Ordering::SeqCst) {
            break;
        }
        let id = format!("row-{:04}", rng.below(IDS));
        match rows[i].upsert(id.clone(), &vector(&mut rng), json!({ "n": n })) {
            Ok(_) => {
                model.insert((name(i as u64), id), n);
                done.writes.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => {
                done.failed_writes.fetch_add(1, Ordering::SeqCst);
            }
        }
        pass(clock, between);
    }
    model
}

fn flush(db: &Db, done: &Done, clock: &dyn Clock, between: Duration) {
    while !done.stop.load(Ordering::SeqCst) {
        if db.flush().is_err() {
            done.failed_writes.fetch_add(1, Ordering::SeqCst);
        }
        pass(clock, between);
    }
}

fn search(rows: &Collection, done: &Done, clock: &dyn Clock, mut rng: Rng) {
    while !done.stop.load(Ordering::SeqCst) {
        let found = rows.search(&vector(&mut rng)).k(10).run();
        let counter = if found.is_ok() { &done.searches } else { &done.failed_searches };
        counter.fetch_add(1, Ordering::SeqCst);
        pass(clock, BETWEEN_SEARCHES);
    }
}

fn vector(rng: &mut Rng) -> Vec<f32> {
    (0..DIM).map(|_| f32::from(i16::try_from(rng.below(2_001)).expect("small") - 1_000)).collect()
}

/// Acknowledged rows that a database does not have as they were acknowledged.
pub(super) fn lost(db: &Db, model: &Model) -> akidb::Result<u64> {
    let mut found = Model::new();
    for name in db.collections()? {
        let rows = db.collection(&name)?;
        let mut last: Option<akidb::Id> = None;
        loop {
            let scan = rows.scan().limit(PAGE_ROWS);
            let page = match last {
                None => scan.run()?,
                Some(last) => scan.after(last).run()?,
            };
            let number = |row: &akidb::StoredRow| row.payload["n"].as_u64();
            let rows = page.iter().filter_map(|row| Some(((name.clone(), row.id.to_string()), number(row)?)));
            found.extend(rows);
            last = page.last().map(|row| row.id.clone());
            if last.is_none() {
                break;
            }
        }
    }
    Ok(model.iter().filter(|(id, n)| found.get(*id) != Some(n)).count() as u64)
}

/// Lets time of a clock pass.
#[expect(clippy::disallowed_methods, reason = "a drill lets time pass")]
pub(super) fn pass(clock: &dyn Clock, time: Duration) {
    std::thread::sleep(clock.machine_time(time));
}
