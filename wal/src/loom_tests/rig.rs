//! What a model runs on: the log opened on the model disk, its commit thread as a thread of the model, a clock that
//! stands still, and the exploration that counts.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use akidb_host::{Clock, Job, Next, RealClock, Spawn, Tick, Ticker};
use loom::thread::{self, JoinHandle};

use super::disk::Disk;
use crate::sync::{Condvar, Mutex as ModelMutex, lock, wait};
use crate::{Config, Durability, Log, Lsn, Options, WritePath};

#[derive(Debug)]
struct StillClock(Instant);

impl Clock for StillClock {
    fn now(&self) -> Instant {
        self.0
    }

    fn unix_micros(&self) -> i64 {
        0
    }
}

/// Keeps the loops that the log starts, until a model runs them.
#[derive(Debug, Default)]
struct Loops(Mutex<Vec<Loop>>);

struct Loop {
    name: String,
    tick: Box<dyn Tick>,
    bell: Arc<Bell>,
}

impl std::fmt::Debug for Loop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[derive(Debug, Default)]
struct Bell {
    rung: ModelMutex<Rung>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    wake: bool,
    stop: bool,
}

impl Bell {
    fn ring(&self, stop: bool) {
        let mut rung = lock(&self.rung);
        rung.wake = true;
        rung.stop |= stop;
        self.changed.notify_one();
    }

    /// Waits until rung; `false` once the loop shall stop.
    fn answer(&self) -> bool {
        let mut rung = lock(&self.rung);
        while !rung.wake {
            rung = wait(&self.changed, rung);
        }
        rung.wake = false;
        !rung.stop
    }
}

impl Ticker for Bell {
    fn wake(&self) {
        self.ring(false);
    }

    fn stop(&self) {
        self.ring(true);
    }
}

impl Spawn for Loops {
    fn job(&self, _: &str, _: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Job>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn ticker(&self, name: &str, tick: Box<dyn Tick>, _: Arc<dyn Clock>) -> io::Result<Arc<dyn Ticker>> {
        let bell = Arc::new(Bell::default());
        let kept = Loop { name: name.to_owned(), tick, bell: Arc::clone(&bell) };
        self.0.lock().unwrap().push(kept);
        Ok(bell)
    }
}

/// A log on a disk of its own.
pub(super) struct Rig {
    pub(super) disk: Arc<Disk>,
    pub(super) log: Arc<Log>,
    loops: Arc<Loops>,
    now: Instant,
}

/// A record of which two do not fit into one file.
pub(super) const LARGE: [u8; 2200] = [7; 2200];

impl Rig {
    pub(super) fn new(write_path: WritePath) -> Self {
        Self::growing_to(8192, write_path)
    }

    /// With larger files than the first.
    pub(super) fn growing_to(max_file_bytes: u64, write_path: WritePath) -> Self {
        Self::of(Config { max_file_bytes, write_path, ..Self::config() })
    }

    /// Staged frames that count once they are written.
    pub(super) fn in_memory() -> Self {
        let durability = Durability::Memory;
        Self::of(Config { durability, write_path: WritePath::Positioned, ..Self::config() })
    }

    fn config() -> Config {
        Config {
            durability: Durability::LocalSynced,
            first_file_bytes: 8192,
            max_file_bytes: 8192,
            reserve_bytes: 0,
            salt_seed: Some(1),
            ..Config::default()
        }
    }

    fn of(config: Config) -> Self {
        let (disk, loops, now) = (Disk::new(), Arc::new(Loops::default()), RealClock.now());
        let options = Options {
            dir: "wal".into(),
            fs: Arc::clone(&disk) as _,
            clock: Arc::new(StillClock(now)),
            spawn: Arc::clone(&loops) as _,
            config,
            min_epoch: 0,
            floor: Lsn::ZERO,
            read_only: false,
        };
        let log = Arc::new(Log::open(options).unwrap().0);
        Self { disk, log, loops, now }
    }

    /// Runs the commit thread until the log is dropped. Time stands still: it acts only when woken.
    pub(super) fn commit_thread(&self) -> JoinHandle<()> {
        let mut loops = self.loops.0.lock().unwrap();
        let at = loops.iter().position(|l| l.name == "wal-commit").unwrap();
        let Loop { mut tick, bell, .. } = loops.swap_remove(at);
        drop(loops);
        let now = self.now;
        thread::spawn(move || while bell.answer() && tick.tick(now) != Next::Done {})
    }

    /// The commit of one record; once it is acknowledged a power cut leaves it and everything before it.
    pub(super) fn commit(disk: &Disk, log: &Log, record: &[u8]) {
        let last = log.commit(&[record]).unwrap().last;
        let durable = disk.durable_records();
        assert!(durable >= last.counter(), "{last} is acknowledged, {durable} records are durable");
    }
}

/// Checks every interleaving with at most two preemptions (or `LOOM_MAX_PREEMPTIONS`), and says how many there were
/// and how long they took.
pub(super) fn explore(name: &str, check: impl Fn() + Sync + Send + 'static) {
    use std::sync::atomic::{AtomicU64, Ordering};

    let executions = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.max_branches = 10_000;
    let (name, began) = (name.to_owned(), RealClock.now());
    // Printed when the model passes and when it does not.
    let report = Report(Box::new(move || {
        let seconds = RealClock.now().duration_since(began).as_secs_f64();
        println!("{name}: {} executions, {seconds:.2} s", executions.load(Ordering::Relaxed));
    }));
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        check();
    });
    drop(report);
}

struct Report(Box<dyn Fn()>);

impl Drop for Report {
    fn drop(&mut self) {
        (self.0)();
    }
}
