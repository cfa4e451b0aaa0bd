//! The work that goes on through an outage: one writer and one searcher, and what the writer was promised.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use akidb::{Collection, Db, Metric, Schema};
use akidb_host::{Clock, Job, RealSpawn, Rng, Spawn};
use serde_json::json;

pub(super) const COLLECTION: &str = "drill";
const DIM: u16 = 64;
/// Ids are written again and again: overwrites are where rows get lost.
const IDS: u64 = 5_000;
/// Simulated time between two writes, and between two searches.
const BETWEEN_WRITES: Duration = Duration::from_millis(400);
const BETWEEN_SEARCHES: Duration = Duration::from_secs(5);
/// Rows a page of a scan.
const PAGE_ROWS: usize = 10_000;

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

/// Id -> the number its last acknowledged write carried.
pub(super) type Model = BTreeMap<String, u64>;

impl Load {
    /// Starts writing and searching.
    pub(super) fn start(db: &Db, clock: &Arc<dyn Clock>, seed: u64) -> akidb::Result<Self> {
        let rows = db.create_collection(COLLECTION, Schema::new(DIM, Metric::Cosine).int("n"))?;
        let done = Arc::new(Done::default());
        let (tell, model) = std::sync::mpsc::channel();
        let (w, s) = (Arc::clone(&done), Arc::clone(&done));
        let (wc, sc) = (Arc::clone(clock), Arc::clone(clock));
        let searched = rows.clone();
        let write = move || {
            let _ = tell.send(write(&rows, &w, &*wc, Rng::seeded(seed)));
        };
        let search = move || search(&searched, &s, &*sc, Rng::seeded(seed ^ 1));
        let started = |name, job| RealSpawn.job(name, job).expect("this machine has threads");
        let jobs = vec![started("drill-write", Box::new(write) as Box<dyn FnOnce() + Send>), started("drill-search", Box::new(search))];
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

fn write(rows: &Collection, done: &Done, clock: &dyn Clock, mut rng: Rng) -> Model {
    let mut model = Model::new();
    for n in 0.. {
        if done.stop.load(Ordering::SeqCst) {
            break;
        }
        let id = format!("row-{:04}", rng.below(IDS));
        match rows.upsert(id.clone(), &vector(&mut rng), json!({ "n": n })) {
            Ok(_) => {
                model.insert(id, n);
                done.writes.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => {
                done.failed_writes.fetch_add(1, Ordering::SeqCst);
            }
        }
        pass(clock, BETWEEN_WRITES);
    }
    model
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
    (0..DIM).map(|_| (rng.f64() - 0.5) as f32).collect()
}

/// Acknowledged rows that a database does not have as they were acknowledged.
pub(super) fn lost(db: &Db, model: &Model) -> akidb::Result<u64> {
    let rows = db.collection(COLLECTION)?;
    let mut found = Model::new();
    let mut last = None;
    loop {
        let page = match &last {
            None => rows.scan().limit(PAGE_ROWS).run()?,
            Some(last) => rows.scan().after(akidb::Id::clone(last)).limit(PAGE_ROWS).run()?,
        };
        let Some(row) = page.last() else { break };
        last = Some(row.id.clone());
        found.extend(page.iter().filter_map(|row| Some((row.id.to_string(), row.payload["n"].as_u64()?))));
    }
    Ok(model.iter().filter(|(id, n)| found.get(*id) != Some(n)).count() as u64)
}

/// Lets time of a clock pass.
#[expect(clippy::disallowed_methods, reason = "a drill lets time pass")]
pub(super) fn pass(clock: &dyn Clock, time: Duration) {
    std::thread::sleep(clock.machine_time(time));
}
