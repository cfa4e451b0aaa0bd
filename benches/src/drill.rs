//! An outage, played through: a database whose backend goes away for an hour of simulated time while it is written to
//! and searched, comes back, and gets what it missed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use akidb::{BackendSettings, Db, Settings, restore};
use akidb_backends::fault::{Cause, FaultStore};
use akidb_backends::{BackendConfig, CallKind, State};
use akidb_host::{Clock, FastClock, RealFs, RealSpawn};
use serde::Serialize;

mod load;
mod poison;
mod watched;

pub use poison::{PoisonFigures, PoisonPlan, drill_poison};

use load::{Load, Model, Pace, lost, pass};
use watched::{Notes, Watched};

/// The backend's name in the drill.
const BACKEND: &str = "drill";
/// How often the drill looks, in simulated time.
const LOOK_EVERY: Duration = Duration::from_millis(600);
/// Simulated time for the backlog to be gone after the backend is well again.
const DRAIN_WITHIN: Duration = Duration::from_secs(2 * 3_600);
/// Uploads that a share of failures is judged on, and how many are waited for: a machine with other work makes fewer in
/// the time asked for.
const JUDGED_ON: u32 = 1_000;
const ENOUGH_UPLOADS: u64 = 1_200;
/// The most simulated time that is waited for them, in outages.
const PATIENCE: u32 = 6;
/// How much slower a share of failures is played than what makes few requests: its uploads take the machine's time.
const SLOWER: u32 = 3;
/// Writing before the trouble begins.
const WARM_UP: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_secs(60);

/// What is wrong with the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody listens.
    Dead,
    /// So many of each hundred calls fail, the same ones in every hundred.
    Failing(u64),
    /// Every call is answered with 403: the key was rotated.
    Denied,
}

impl Trouble {
    /// Its name in results.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Dead => "dead".to_owned(),
            Self::Failing(of_hundred) => format!("failing_{of_hundred}"),
            Self::Denied => "denied".to_owned(),
        }
    }

    /// Simulated seconds in one of the machine's.
    fn speed(self, asked: u32) -> u32 {
        if matches!(self, Self::Failing(_)) { asked.div_ceil(SLOWER) } else { asked }
    }

    fn pace(self) -> Pace {
        let (collections, write_ms, flush_secs) =
            if matches!(self, Self::Failing(_)) { (25, 400, 30) } else { (2, 400, 20) };
        Pace {
            collections,
            between_writes: Duration::from_millis(write_ms),
            between_flushes: Duration::from_secs(flush_secs),
        }
    }

    fn settings(self, outage: Duration) -> Settings {
        let mut settings = Settings::default();
        if matches!(self, Self::Failing(_)) {
            // Of a few calls 49 in a hundred can be more than half: some are under way while others are counted. So all
            // of the outage is judged at once, however slow the machine.
            settings.circuit_breaker_config.minimum_calls = JUDGED_ON;
            settings.circuit_breaker_config.window_duration_secs =
                (outage * PATIENCE).as_secs().clamp(60, 86_400);
        }
        settings
    }

    fn begin(self, store: &FaultStore, notes: &Notes) {
        match self {
            Self::Dead => store.set_dead(Some(Cause::Refused)),
            Self::Failing(of_hundred) => notes.fail(of_hundred),
            Self::Denied => store.set_dead(Some(Cause::Denied)),
        }
    }
}

/// How an outage is played.
#[derive(Clone, Debug)]
pub struct OutagePlan {
    /// An empty directory: the database, the backend and what is restored from it go here.
    pub dir: PathBuf,
    /// What is wrong.
    pub trouble: Trouble,
    /// How long, in simulated seconds.
    pub outage_seconds: f64,
    /// Simulated seconds in one of the machine's.
    pub speed: u32,
    /// Of rows, vectors and queries.
    pub seed: u64,
}

/// What an outage did. Seconds are simulated.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OutageFigures {
    /// What was wrong.
    pub scenario: String,
    /// How long the outage was.
    pub outage_seconds: f64,
    /// Writes acknowledged before, during and after it.
    pub writes: u64,
    /// Writes that were answered with an error.
    pub failed_writes: u64,
    /// Searches answered.
    pub searches: u64,
    /// Searches that were answered with an error.
    pub failed_searches: u64,
    /// Acknowledged rows that are not, as acknowledged, in the reopened database or in what is restored from the
    /// backend.
    pub lost_rows: u64,
    /// Requests that reached the backend during the outage.
    pub requests: u64,
    /// Those of them that a breaker should have kept back: it was open.
    pub requests_while_open: u64,
    /// Dead letters when the outage ended.
    pub dead_letters_from_outage: u64,
    /// Dead letters when the backlog was gone.
    pub dead_letters_left: u64,
    /// From the first request that failed until a breaker opened; none if none did.
    pub opened_after_seconds: Option<f64>,
    /// The highest share of failed calls that the breaker of uploads saw in its window, once there were enough to judge,
    /// or when it opened.
    pub highest_error_rate: f64,
    /// How much the memory of the process grew during the outage, MiB; pages of mapped files, which the kernel takes
    /// back when it needs them, not included.
    pub rss_growth_mib: f64,
    /// Files the backend lacked when the outage ended.
    pub backlog_files: u64,
    /// Whether everything written by then reached the backend.
    pub drained: bool,
    /// How long that took.
    pub drain_seconds: f64,
    /// The machine's seconds for all of it.
    pub machine_seconds: f64,
}

impl OutageFigures {
    /// What an outage must not do, and did.
    #[must_use]
    pub fn broken_promises(&self) -> Vec<String> {
        let only_an_outage = !self.scenario.starts_with("failing");
        let checks = [
            (self.failed_writes == 0, format!("{} writes failed", self.failed_writes)),
            (self.failed_searches == 0, format!("{} searches failed", self.failed_searches)),
            (self.lost_rows == 0, format!("{} acknowledged rows lost", self.lost_rows)),
            (self.requests_while_open == 0, format!("{} requests while open", self.requests_while_open)),
            (self.drained, "the backlog did not go".to_owned()),
            (self.dead_letters_left == 0, format!("{} dead letters left", self.dead_letters_left)),
            (
                !only_an_outage || self.dead_letters_from_outage == 0,
                format!("{} dead letters from an outage", self.dead_letters_from_outage),
            ),
            (
                (self.scenario == "failing_49") == self.opened_after_seconds.is_none(),
                format!("a breaker opened after {:?} s", self.opened_after_seconds),
            ),
            (
                only_an_outage || (0.4..=0.6).contains(&self.highest_error_rate),
                format!("a breaker saw {} of its calls fail", self.highest_error_rate),
            ),
        ];
        let broken = checks.into_iter().filter(|(kept, _)| !kept);
        broken.map(|(_, what)| format!("{}: {what}", self.scenario)).collect()
    }
}

/// What ends a drill early.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The database's own words.
    #[error(transparent)]
    Db(#[from] akidb::Error),
    /// The backend's.
    #[error(transparent)]
    Backend(#[from] akidb_backends::Error),
    /// The machine's.
    #[error(transparent)]
    Machine(#[from] std::io::Error),
}

/// Plays an outage. Blocks until the backlog is gone and everything was compared.
///
/// # Errors
/// What keeps the drill from being played; what the outage did to rows is in the figures.
pub fn drill_outage(plan: &OutagePlan) -> Result<OutageFigures, DrillError> {
    let asked = Duration::from_secs_f64(plan.outage_seconds);
    let clock: Arc<dyn Clock> = Arc::new(FastClock::new(plan.trouble.speed(plan.speed)));
    let begun = akidb_host::RealClock.now();
    let remote = plan.dir.join("remote");
    let bare = akidb_backends::open(&BackendConfig::new(BACKEND, remote.display().to_string()))?;
    let store = FaultStore::new(Arc::clone(bare.store()));
    let notes = Arc::new(Notes::new(Arc::clone(&clock)));
    let watched = Watched { inner: store.clone(), notes: Arc::clone(&notes) };
    let db = Arc::new(
        Db::builder(plan.dir.join("db"))
            .settings(plan.trouble.settings(asked))
            .components(Arc::new(RealFs), Arc::clone(&clock), Arc::new(RealSpawn))
            .store(BACKEND, Arc::new(watched))
            .open()?,
    );
    ask_breakers(&db, &notes);
    let mut play = Play { db: &db, clock: &clock, notes: &notes, figures: OutageFigures::default() };
    play.figures.scenario = plan.trouble.name();
    let load = Load::start(&db, &clock, plan.trouble.pace(), plan.seed)?;
    pass(&*clock, WARM_UP);
    db.wait_uploaded(WAIT)?;
    // What went well before is no part of what is judged.
    db.backends().reset_breaker(None, None)?;
    plan.trouble.begin(&store, &notes);
    play.outage(asked, matches!(plan.trouble, Trouble::Failing(_)))?;
    store.set_dead(None);
    notes.fail(0);
    play.drain()?;
    let mut figures = play.figures;
    let done = load.done();
    figures.writes = done.writes.load(Ordering::SeqCst);
    figures.failed_writes = done.failed_writes.load(Ordering::SeqCst);
    figures.searches = done.searches.load(Ordering::SeqCst);
    figures.failed_searches = done.failed_searches.load(Ordering::SeqCst);
    let model = load.stop();
    db.flush()?;
    db.wait_uploaded(WAIT)?;
    figures.dead_letters_left = db.backends().dead_letters()?.stats().size;
    Arc::into_inner(db).expect("the load has ended").close()?;
    figures.lost_rows = compare(&plan.dir, &remote, &model)?;
    figures.machine_seconds = akidb_host::RealClock.now().duration_since(begun).as_secs_f64();
    Ok(figures)
}

fn ask_breakers(db: &Arc<Db>, notes: &Notes) {
    // Weakly: the store is part of the database.
    let db = Arc::downgrade(db);
    notes.ask(Box::new(move |kind| {
        let Some(db) = db.upgrade() else { return false };
        db.backends().breakers().iter().any(|breaker| breaker.kind == kind && breaker.state == State::Open)
    }));
}

struct Play<'a> {
    db: &'a Db,
    clock: &'a Arc<dyn Clock>,
    notes: &'a Notes,
    figures: OutageFigures,
}

impl Play<'_> {
    fn outage(&mut self, outage: Duration, needs_uploads: bool) -> Result<(), DrillError> {
        self.notes.count(true);
        let (begun, memory) = (self.clock.now(), anonymous_memory_mib());

        loop {
            let passed = self.clock.now() - begun;
            let enough = !needs_uploads || self.has_opened() || self.notes.uploads() >= ENOUGH_UPLOADS;
            if passed >= outage && (enough || passed >= outage * PATIENCE) {
                break;
            }
            self.look();
            pass(&**self.clock, LOOK_EVERY);
        }
        self.notes.count(false);
        self.figures.outage_seconds = tenths((self.clock.now() - begun).as_secs_f64());
        self.figures.rss_growth_mib = tenths(anonymous_memory_mib() - memory);
        self.figures.requests = self.notes.requests();
        self.figures.requests_while_open = self.notes.while_open();
        self.figures.dead_letters_from_outage = self.db.backends().dead_letters()?.stats().size;
        self.figures.backlog_files =
            self.db.stats()?.backends.iter().map(|backend| backend.pending_files).sum();
        Ok(())
    }

    fn has_opened(&self) -> bool {
        self.figures.opened_after_seconds.is_some()
    }

    fn look(&mut self) {
        let Some(first) = self.notes.first_request() else { return };
        let since_first = self.clock.now() - first;
        for breaker in self.db.backends().breakers() {
            if breaker.state == State::Open && self.figures.opened_after_seconds.is_none() {
                self.figures.opened_after_seconds = Some(tenths(since_first.as_secs_f64()));
            }
            // Of a closed one only once it has seen enough calls to judge.
            let judged = breaker.state != State::Closed || self.notes.uploads() >= u64::from(JUDGED_ON);
            if breaker.kind == CallKind::Upload && judged {
                let rate = &mut self.figures.highest_error_rate;
                *rate = rate.max(breaker.error_rate);
            }
        }
    }

    /// Waits until what was flushed by now is on the backend.
    fn drain(&mut self) -> Result<(), DrillError> {
        let begun = self.clock.now();
        let target = self.db.stats()?.newest_manifest;
        while self.clock.now() - begun < DRAIN_WITHIN {
            let stats = self.db.stats()?;
            if stats.backends.iter().all(|backend| backend.uploaded_manifest >= Some(target)) {
                self.figures.drained = true;
                break;
            }
            pass(&**self.clock, LOOK_EVERY);
        }
        self.figures.drain_seconds = tenths((self.clock.now() - begun).as_secs_f64());
        Ok(())
    }
}

/// Rows lost here or on the backend, whichever are more.
fn compare(dir: &Path, remote: &Path, model: &Model) -> Result<u64, DrillError> {
    let local = Db::open(dir.join("db"))?;
    let lost_here = lost(&local, model)?;
    local.close()?;
    let copy = dir.join("restored");
    restore(&BackendSettings::new(BACKEND, &format!("file://{}", remote.display()))?, &copy)?;
    let restored = Db::open(&copy)?;
    let lost_there = lost(&restored, model)?;
    restored.close()?;
    Ok(lost_here.max(lost_there))
}

/// Memory of this process that is not a file's, in MiB; zero where the kernel does not say.
fn anonymous_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| -> Option<f64> {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB")?.trim().parse().ok())
    };
    kib("RssAnon:").unwrap_or(0.0) / 1024.0
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
