//! Files that will not go up although the backend is well: more of them than there is room for letters.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akidb::object_store::memory::InMemory;
use akidb_backends::fault::{Cause, Fault, FaultStore};
use akidb_backends::{
    Backend, Client, ClockSleep, DeadLetters, DlqSettings, FilePlan, Identity, Known, Op, PlanItem,
    PublishOptions, Sleep, Uploader, UploaderParts, Which,
};
use akidb_host::{Clock, FastClock, RealClock, RealFs, RealSpawn, Rng};
use serde::Serialize;

use super::load::pass;
use super::{DrillError, tenths};

/// What every object's key ends in.
const SUFFIX: &str = ".parquet";
const LOCAL_BYTES: usize = 1_000;
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Simulated time until the letters are written, and until all is up: ten letters a second are tried again.
const PATIENCE: Duration = Duration::from_secs(4 * 3_600);

/// How files that are refused are played.
#[derive(Clone, Debug)]
pub struct PoisonPlan {
    /// Files.
    pub files: u64,
    /// Letters there is room for.
    pub max_letters: u32,
    /// Simulated seconds in one of the machine's, for an outage; a tenth of it here.
    pub speed: u32,
    /// Of the breakers' jitter.
    pub seed: u64,
}

/// What came of files that were refused. Seconds are simulated.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PoisonFigures {
    /// `poison`.
    pub scenario: String,
    /// Files that the backend refused for good (400).
    pub files: u64,
    /// Letters when each had been tried.
    pub letters: u64,
    /// Letters that had to go to make room for others.
    pub evictions: u64,
    /// Files still pending then: all of them.
    pub pending: u64,
    /// Puts until then.
    pub puts_while_poisoned: u64,
    /// Puts of files after the cause was mended and everything was asked for again.
    pub puts_after_mending: u64,
    /// Whether the document that names all of them was published.
    pub published: bool,
    /// How long that took: ten letters a second are tried again.
    pub retry_all_seconds: f64,
    /// Letters left.
    pub letters_left: u64,
    /// The machine's seconds for all of it.
    pub machine_seconds: f64,
}

impl PoisonFigures {
    /// What must not be, and is.
    #[must_use]
    pub fn broken_promises(&self, plan: &PoisonPlan) -> Vec<String> {
        let room = u64::from(plan.max_letters).min(plan.files);
        let checks = [
            (self.letters == room, format!("{} letters where {room} fit", self.letters)),
            (self.evictions == plan.files - room, format!("{} evictions", self.evictions)),
            (self.pending == plan.files, format!("{} files pending", self.pending)),
            (self.puts_while_poisoned == plan.files, format!("{} puts before", self.puts_while_poisoned)),
            (self.published, "not everything was published".to_owned()),
            (self.puts_after_mending == plan.files, format!("{} puts after", self.puts_after_mending)),
            (self.letters_left == 0, format!("{} letters left", self.letters_left)),
        ];
        let broken = checks.into_iter().filter(|(kept, _)| !kept);
        broken.map(|(_, what)| format!("poison: {what}")).collect()
    }
}

/// Has a well backend refuse every file, more files than there is room for letters; mends it; asks for all of them.
/// Files of `dir` are made; blocks.
///
/// # Errors
/// What keeps the drill from being played.
pub fn drill_poison(dir: &Path, plan: &PoisonPlan) -> Result<PoisonFigures, DrillError> {
    let begun = RealClock.now();
    // A pause of 100 ms, after each letter tried again, must not become shorter than a timer can be.
    let clock: Arc<dyn Clock> = Arc::new(FastClock::new(plan.speed.div_ceil(10)));
    let store = FaultStore::new(Arc::new(InMemory::new()));
    store.set_poison(Some((SUFFIX, Fault::Fail(Cause::Status(400, None)))));
    let settings = DlqSettings { max_size: plan.max_letters, ..DlqSettings::default() };
    let (letters, _) =
        DeadLetters::open(Arc::new(RealFs), Arc::clone(&clock), &dir.join("dlq.json"), settings)?;
    let letters = Arc::new(letters);
    let uploader = start(&store, &letters, &clock, plan.seed)?;
    uploader.offer(files(dir, plan.files)?);
    let mut figures =
        PoisonFigures { scenario: "poison".to_owned(), files: plan.files, ..Default::default() };
    wait(&*clock, || {
        let stats = letters.stats();
        stats.size + stats.total_evictions >= plan.files
    });
    let stats = letters.stats();
    (figures.letters, figures.evictions) = (stats.size, stats.total_evictions);
    figures.pending = uploader.status().pending_files;
    figures.puts_while_poisoned = puts(&store);
    store.set_poison(None);
    store.clear_calls();
    letters.ask_retry_all(&Which::all());
    uploader.wake();
    let asked = clock.now();
    figures.published = wait(&*clock, || uploader.status().published_local_number == Some(1));
    figures.retry_all_seconds = tenths((clock.now() - asked).as_secs_f64());
    figures.puts_after_mending = puts(&store);
    figures.letters_left = letters.stats().size;
    uploader.stop();
    figures.machine_seconds = RealClock.now().duration_since(begun).as_secs_f64();
    Ok(figures)
}

fn start(
    store: &FaultStore,
    letters: &Arc<DeadLetters>,
    clock: &Arc<dyn Clock>,
    seed: u64,
) -> Result<Uploader, DrillError> {
    let sleep: Arc<dyn Sleep> = Arc::new(ClockSleep(Arc::clone(clock)));
    let backend = Backend::from_store("drill", Arc::new(store.clone()));
    let backend = backend.guarded(Arc::clone(clock), Arc::clone(&sleep), seed);
    let parts = UploaderParts {
        client: Client::new(backend, sleep, Rng::seeded(seed)),
        fs: Arc::new(RealFs),
        clock: Arc::clone(clock),
        identity: Identity { db_id: "drill".to_owned(), epoch: 1, writer: 1 },
        known: Known::default(),
        options: PublishOptions::default(),
        remote_commit_interval: Duration::from_secs(2),
        letters: Some(Arc::clone(letters)),
        multiparts: None,
        memory: None,
        sweep: None,
        on_change: None,
    };
    Ok(Uploader::start(&RealSpawn, parts)?)
}

/// One local file under many keys: what is told apart is the uploads.
fn files(dir: &Path, count: u64) -> Result<FilePlan, DrillError> {
    let (local, bytes) = (dir.join("file"), vec![7; LOCAL_BYTES]);
    std::fs::write(&local, &bytes)?;
    let item = |n: u64| PlanItem {
        key: format!("collections/1-drill/{n:05}{SUFFIX}"),
        local: local.clone(),
        len: LOCAL_BYTES as u64,
        crc32: crc32fast::hash(&bytes),
        ..PlanItem::default()
    };
    Ok(FilePlan { local_number: 1, items: (0..count).map(item).collect(), content: "{}\n".to_owned() })
}

fn puts(store: &FaultStore) -> u64 {
    store.calls().iter().filter(|call| call.op == Op::Put && call.key.ends_with(SUFFIX)).count() as u64
}

/// Whether it came about within the drill's patience.
fn wait(clock: &dyn Clock, done: impl Fn() -> bool) -> bool {
    let begun: Instant = clock.now();
    while !done() {
        if clock.now() - begun > PATIENCE {
            return false;
        }
        pass(clock, LOOK_EVERY);
    }
    true
}
