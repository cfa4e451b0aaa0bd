//! The process that a soak watches and kills: it opens the database, compares every row with what was acknowledged, and
//! writes on, with a search running all along.

use std::io::{self, BufRead, BufReader, Stdin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use akidb::{Collection, Db, ErrorKind, Metric, Schema, Settings};
use akidb_host::{Clock, Next, RealClock, RealSpawn, Spawn, Tick, process_cpu_time, thread_cpu_time};

use super::SoakError;
use super::judge;
use super::model::{Model, Unit, id_of};
use super::rows::Rows;
use super::said::{Orders, STOP, Said, SoakOpened, Took, say};
use crate::search::Answer;

const COLLECTION: &str = "soak";
/// Hits of a search.
const K: usize = 10;
/// A search begins so long after the one before, or when that one ends: the machine has other work too.
const SEARCH_EVERY: Duration = Duration::from_millis(5);
/// So often one is asked exactly too, and figures are told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The writer of `akidb bench soak`, told what to do on standard input. Returns when it was told to close.
///
/// # Errors
/// Whatever the database says, and whatever it says to the search beside the writes.
pub fn soak_writer() -> Result<(), SoakError> {
    let mut input = BufReader::new(io::stdin());
    let orders = first_line(&mut input)?;
    let heard = Arc::new(Heard::default());
    let listener = Arc::clone(&heard);
    RealSpawn
        .job("soak-orders", Box::new(move || listen(input, &listener)))
        .map_err(|cause| SoakError::file(&orders.db, "starting a thread for", cause))?;
    let rows = Arc::new(Rows::open(&orders.rows).map_err(|cause| reading(&cause))?);
    let (db, docs, opened) = open_timed(&orders, &rows)?;
    say(&Said::Opened(opened))?;
    let shared = Arc::new(Shared::default());
    let search = Searches {
        db: db.clone(),
        docs: docs.clone(),
        rows: Arc::clone(&rows),
        shared: Arc::clone(&shared),
        asked: 0,
        told: RealClock.now(),
    };
    let searcher = RealSpawn
        .ticker("soak-search", Box::new(search), Arc::new(RealClock))
        .map_err(|cause| SoakError::file(&orders.db, "starting a thread for", cause))?;
    let mut model = Model::new(orders.script);
    model.advance_to(orders.acknowledged);
    judge::settle(&docs, &mut model)?;
    say(&Said::Compared(judge::compare(&docs, &model, &rows)?))?;
    say(&Said::Acknowledged(model.changes()))?;
    let work = Work { docs: &docs, rows: &rows, shared: &shared, heard: &heard };
    work.write(&mut model, orders.changes)?;
    db.flush()?;
    say(&Said::Flushed)?;
    heard.wait_until_closed();
    searcher.stop();
    shared.check()?;
    say(&Said::Took(std::mem::take(&mut *shared.took())))?;
    db.close()?;
    say(&Said::Closed)
}

/// The settings of a soak: the usual ones, but for how many manifests are kept.
pub(super) fn settings(manifest_keep: u32) -> Settings {
    let mut settings = Settings::default();
    settings.engine.manifest_keep = manifest_keep;
    settings
}

/// The database with an answer to its first search, and how long that took.
pub(super) fn open_timed(orders: &Orders, rows: &Rows) -> Result<(Db, Collection, SoakOpened), SoakError> {
    let query = rows.query(0).map_err(|cause| reading(&cause))?;
    let (began, before) = (RealClock.now(), process_cpu_time());
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let since = || ms(RealClock.now().duration_since(began));
    let db = Db::builder(&orders.db).settings(settings(orders.manifest_keep)).open()?;
    let call_ms = since();
    let docs = match db.collection(COLLECTION) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let schema = Schema::new(orders.rows.dim, Metric::Cosine).int("n").int_ids();
            db.create_collection(COLLECTION, schema)?
        }
        found => found?,
    };
    docs.search(&query).k(K).run()?;
    let (replayed, took) = (db.recovery().replayed_records, db.recovery().took);
    let parts_ms = [took.segments_ms, took.log_ms, took.manifest_ms, took.removal_ms, took.replay_ms];
    let opened = SoakOpened {
        call_ms,
        answer_ms: since(),
        cpu_ms: ms(process_cpu_time() - before),
        replayed,
        parts_ms,
    };
    Ok((db, docs, opened))
}

fn reading(cause: &io::Error) -> SoakError {
    SoakError::file("-".as_ref(), "reading vectors", io::Error::new(cause.kind(), cause.to_string()))
}

fn first_line(input: &mut BufReader<Stdin>) -> Result<Orders, SoakError> {
    let mut line = String::new();
    let read = input.read_line(&mut line).and_then(|_| Ok(serde_json::from_str(&line)?));
    read.map_err(|cause| SoakError::file("-".as_ref(), "reading orders", cause))
}

/// What the writer was told since its first line.
#[derive(Debug, Default)]
struct Heard {
    stop: AtomicBool,
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Heard {
    fn wait_until_closed(&self) {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(closed, |closed| !*closed));
    }
}

fn listen(input: BufReader<Stdin>, heard: &Heard) {
    // A parent that is gone ends the work as one that says so.
    for line in input.lines().map_while(Result::ok) {
        if line == STOP {
            heard.stop.store(true, Ordering::SeqCst);
        }
    }
    heard.stop.store(true, Ordering::SeqCst);
    *heard.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
    heard.changed.notify_all();
}

/// What the two threads share.
#[derive(Debug, Default)]
struct Shared {
    took: Mutex<Took>,
    /// What ended the searches.
    failure: Mutex<Option<SoakError>>,
}

impl Shared {
    fn took(&self) -> MutexGuard<'_, Took> {
        self.took.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), SoakError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }
}

struct Work<'a> {
    docs: &'a Collection,
    rows: &'a Rows,
    shared: &'a Shared,
    heard: &'a Heard,
}

impl Work<'_> {
    fn write(&self, model: &mut Model, changes: Option<u32>) -> Result<(), SoakError> {
        while changes.is_none_or(|changes| model.changes() < changes)
            && !self.heard.stop.load(Ordering::SeqCst)
        {
            let unit = model.next();
            self.make(unit)?;
            say(&Said::Acknowledged(model.changes()))?;
            self.shared.check()?;
        }
        Ok(())
    }

    fn make(&self, unit: Unit) -> Result<(), SoakError> {
        match unit {
            Unit::Upserts(batch) => {
                let batch: io::Result<Vec<_>> =
                    batch.into_iter().map(|change| self.rows.row(change)).collect();
                let batch = batch.map_err(|cause| reading(&cause))?;
                self.until_taken(|| self.docs.upsert_batch(&batch).map(|_| ()))
            }
            Unit::Delete(change) => self.until_taken(|| self.docs.delete(id_of(change.row)).map(|_| ())),
        }
    }

    /// Tries again for as long as the answer is `Full`: that it is full is a figure, not the end.
    fn until_taken(&self, write: impl Fn() -> akidb::Result<()>) -> Result<(), SoakError> {
        let began = RealClock.now();
        loop {
            match write() {
                Err(error) if matches!(error.kind(), ErrorKind::Full { .. }) => {
                    self.shared.took().stalls += 1
                }
                answer => {
                    self.shared.took().writes.add(RealClock.now().duration_since(began));
                    return Ok(answer?);
                }
            }
        }
    }
}

/// The search that runs all along.
struct Searches {
    db: Db,
    docs: Collection,
    rows: Arc<Rows>,
    shared: Arc<Shared>,
    asked: u64,
    told: Instant,
}

impl Tick for Searches {
    fn tick(&mut self, now: Instant) -> Next {
        match self.ask(now) {
            Ok(()) => Next::At(now + SEARCH_EVERY),
            Err(error) => {
                *self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Next::Done
            }
        }
    }
}

impl Searches {
    fn ask(&mut self, now: Instant) -> Result<(), SoakError> {
        let query = self.rows.query(self.asked).map_err(|cause| reading(&cause))?;
        self.asked += 1;
        let (began, before) = (RealClock.now(), thread_cpu_time());
        self.docs.search(&query).k(K).run()?;
        let (took, cpu) = (RealClock.now().duration_since(began), thread_cpu_time() - before);
        let mut sums = self.shared.took();
        sums.searches.add(took);
        sums.search_cpu.add(cpu);
        drop(sums);
        if now.duration_since(self.told) < TELL_EVERY {
            return Ok(());
        }
        self.told = now;
        match self.recall(&query) {
            Ok(Some(recall)) => say(&Said::Recall(recall))?,
            Ok(None) => {}
            // The snapshot was given up for its memory.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        say(&Said::Took(std::mem::take(&mut *self.shared.took())))
    }

    /// The recall of a search, on one moment: rows that are overwritten between two looks are no fault of it.
    fn recall(&self, query: &[f32]) -> akidb::Result<Option<f64>> {
        let docs = self.db.snapshot("recall")?.collection(COLLECTION)?;
        let hits = docs.search(query).k(K).run()?;
        let began = RealClock.now();
        let exact = docs.search(query).k(K).exact().run()?;
        self.shared.took().exact_searches.add(RealClock.now().duration_since(began));
        Ok((!exact.is_empty()).then(|| Answer::of(&exact).recall(&hits)))
    }
}
