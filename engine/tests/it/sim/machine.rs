//! A machine with a disk that forgets; what watches its calls: the log, the crashes to try, the call that fails, and the
//! operations that come in the middle of a flush.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use akidb::object_store::ObjectStore;
use akidb::object_store::memory::InMemory;
use akidb::{Builder, Db, Receipt, Settings};
use akidb_backends::fault::Cause;
use akidb_host::sim::{Act, Call, CrashDisk, EIO, FakeClock, HookFs, InlineSpawn, Op};
use akidb_host::{Clock, Fs, Rng};

use super::backend::{Away, Changed, document_number};
use super::flushes;
use super::past::Past;
use super::report::Report;
use super::rows::Scale;
use super::truth::Truth;

const SECOND: Duration = Duration::from_secs(1);
pub(crate) const DIR: &str = "/db";
/// "more": apart from the seed, and so that no seed whose bug is mended means something else.
const EXTRA: u64 = 0x6d6f_7265;

/// The disk and the truth at one moment.
pub(crate) struct Moment {
    pub(crate) disk: CrashDisk,
    pub(crate) truth: Truth,
    /// What was appended is in the page cache.
    pub(crate) well: bool,
    /// What lay on the backend, if there is one.
    pub(crate) store: Option<Arc<InMemory>>,
}

/// What the engine is doing when it calls the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// An operation of the run.
    Call,
    /// A flush, or work of the engine's threads: other operations may come in between.
    Flush,
    /// A merge of segments: a flush may come in between, too.
    Merge,
    /// Such an operation.
    Nested,
    /// Nothing that counts: the process has died already.
    Gone,
}

/// A call that shall fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// Counted down at each call that counts.
    pub(crate) left: u64,
    pub(crate) errno: i32,
    /// Whether calls that only look count too.
    pub(crate) reads: bool,
}

/// What the run and the calls inside it share; never locked across a call to the engine.
pub(crate) struct State {
    /// Writes count before they are synced.
    pub(crate) shows_unsynced: bool,
    pub(crate) scale: Scale,
    pub(crate) rng: Rng,
    pub(crate) truth: Truth,
    pub(crate) report: Report,
    /// Written rows so far, so that no two are equal.
    pub(crate) versions: u64,
    pub(crate) db: Option<Db>,
    /// Of writes that nobody has waited for.
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) inside: Inside,
    pub(crate) fault: Option<Fault>,
    /// A call failed, or the disk was full, since the engine was last seen well.
    pub(crate) ill: bool,
    /// The power failed, and no open has told yet what is left.
    pub(crate) power_failed: bool,
    /// The handle said that only a reopen helps.
    pub(crate) must_reopen: bool,
    /// Where what a backend and named snapshots need is drawn, so that a seed without them means what it meant.
    pub(crate) extra: Rng,
    pub(crate) away: Option<Away>,
    pub(crate) has_names: bool,
    /// Of the process that is alive.
    disk: Option<CrashDisk>,
    moments: Vec<Moment>,
    log: DefaultHasher,
    prints: bool,
}

pub(crate) struct World(Mutex<State>);

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let mut rng = Rng::seeded(seed);
        let mut scale = if rng.below(20) == 0 { Scale::Large } else { Scale::Small };
        let mut extra = Rng::seeded(seed ^ EXTRA);
        let (has_backend, has_names) = (extra.below(10) == 0, extra.below(10) == 0);
        if has_backend && scale == Scale::Small && extra.below(3) == 0 {
            scale = Scale::Heavy;
        }
        let past = (has_backend || has_names).then(Past::default);
        let world = Arc::new(Self(Mutex::new(State {
            shows_unsynced: rng.below(5) == 0,
            scale,
            rng,
            truth: Truth { past, ..Truth::default() },
            report: Report::default(),
            versions: 0,
            db: None,
            receipts: Vec::new(),
            inside: Inside::Call,
            fault: None,
            ill: false,
            power_failed: false,
            must_reopen: false,
            extra,
            away: None,
            has_names,
            disk: None,
            moments: Vec::new(),
            log: DefaultHasher::new(),
            prints: std::env::var_os("AKIDB_SIM_PRINT").is_some(),
        })));
        if has_backend {
            let away = Away::new(&world);
            if scale == Scale::Heavy {
                away.faults.set_dead(Some(Cause::Refused));
            }
            world.state().away = Some(away);
        }
        world
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test goes on after a panic")
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.state().rng.below(bound)
    }

    /// As `below`, for what only some worlds have.
    pub(crate) fn extra(&self, bound: u64) -> u64 {
        self.state().extra.below(bound)
    }

    pub(crate) fn note(&self, text: &str) {
        self.state().note(text);
    }

    /// A call to the backend is about to be made.
    pub(crate) fn meet_store(&self, op: &str, key: &str) {
        let mut state = self.state();
        if state.inside == Inside::Gone {
            return;
        }
        state.report.store_calls += 1;
        state.note(&format!("store: {op} {key}"));
        let one_in = 60 * state.scale.rarity();
        if state.extra.below(one_in) == 0
            && let Some(disk) = state.disk.clone()
        {
            state.keep(&disk);
        }
    }

    /// Something was created on the backend.
    pub(crate) fn created(&self, key: &str) {
        if let Some(away) = &mut self.state().away
            && let Some(number) = document_number(key)
        {
            assert_eq!(number, away.newest + 1, "numbers are dense");
            away.newest = number;
            away.changed.push(Changed { store: away.copy(), is_published: true });
        }
    }

    /// An object was removed from the backend.
    pub(crate) fn removed(&self, key: &str) {
        let state = &mut *self.state();
        let Some(away) = &mut state.away else { return };
        match key.split('/').next() {
            Some("manifest") => state.report.pruned += 1,
            Some("collections") => state.report.swept += 1,
            _ => return,
        }
        away.changed.push(Changed { store: away.copy(), is_published: false });
    }

    pub(crate) fn moments(&self) -> Vec<Moment> {
        std::mem::take(&mut self.state().moments)
    }

    /// Does `work` as what the engine is doing.
    pub(crate) fn inside<T>(&self, inside: Inside, work: impl FnOnce() -> T) -> T {
        let before = std::mem::replace(&mut self.state().inside, inside);
        let done = work();
        self.state().inside = before;
        done
    }

    fn call(&self, disk: &CrashDisk, call: &Call<'_>) -> Act {
        let (act, nested) = {
            let mut state = self.state();
            if state.inside == Inside::Gone {
                return Act::Go;
            }
            state.report.file_calls += 1;
            state.note(&format!("{:?} {} {}", call.op, call.path.display(), call.len));
            state.look(disk, call.op);
            let act = state.fail(disk, call);
            (act, state.may_nest(call).and_then(|flushes| Some((state.db.clone()?, flushes))))
        };
        if let Some((db, flushes)) = nested {
            self.inside(Inside::Nested, || flushes::nested(self, &db, flushes));
        }
        act
    }
}

impl State {
    pub(crate) fn note(&mut self, text: &str) {
        if self.prints {
            println!("{text}");
        }
        text.hash(&mut self.log);
    }

    pub(crate) fn log_hash(&self) -> u64 {
        self.log.finish()
    }

    /// Keeps the disk as it is before some calls; more often where names and syncs make the difference.
    fn look(&mut self, disk: &CrashDisk, op: Op) {
        let one_in = match op {
            _ if !op.changes() || op == Op::LogPublish => return,
            Op::SyncData | Op::SyncAll | Op::SyncDir | Op::Rename | Op::HardLink | Op::Unlink => 24,
            _ => 120,
        };
        if self.rng.below(one_in * self.scale.rarity()) == 0 {
            self.keep(disk);
        }
    }

    /// Keeps the disk as it is now, for a crash.
    pub(crate) fn keep(&mut self, disk: &CrashDisk) {
        self.moments.push(Moment {
            disk: disk.kill(),
            truth: self.truth.clone(),
            well: !self.ill && !self.power_failed,
            store: self.away.as_ref().map(Away::copy),
        });
    }

    fn fail(&mut self, disk: &CrashDisk, call: &Call<'_>) -> Act {
        let counts = |fault: &&mut Fault| call.op.can_fail() && (fault.reads || call.op.changes());
        let Some(fault) = self.fault.as_mut().filter(counts) else { return Act::Go };
        fault.left -= 1;
        if fault.left > 0 {
            return Act::Go;
        }
        let errno = if call.op.changes() { fault.errno } else { EIO };
        self.fault = None;
        self.report.faults += 1;
        self.ill = true;
        self.note("that call fails");
        match call.op {
            Op::SyncData | Op::SyncAll => {
                disk.fail_next_sync(errno);
                Act::Go
            }
            _ if self.rng.below(2) == 0 => Act::FailMidway(errno),
            _ => Act::Fail(errno),
        }
    }

    /// Whether this may be the read of a column by which rows expire. Who asks for that column meanwhile waits until it is
    /// there, and on one thread that is for ever.
    fn is_awaited(&self, call: &Call<'_>) -> bool {
        let reads = !call.op.changes() && call.path.extension().is_some_and(|end| end == "parquet");
        reads && self.truth.promised.values().any(|table| table.schema.expires_by.is_some())
    }

    /// Whether another operation comes before this call; and if so, whether it may be a flush.
    fn may_nest(&mut self, call: &Call<'_>) -> Option<bool> {
        // Those who write these do not like to be asked meanwhile.
        let apart = ["/db/wal", "/db/uploads", "/db/dlq"];
        let inside = matches!(self.inside, Inside::Flush | Inside::Merge)
            && !apart.iter().any(|dir| call.path.starts_with(dir));
        // Once its segment is written a merge lets no flush come between.
        let writes = matches!(call.op, Op::CreateNew | Op::WriteAt | Op::SyncData);
        let flushes =
            self.inside == Inside::Merge && writes && call.path.to_string_lossy().ends_with(".parquet.tmp");
        let one_in = if flushes { 3 } else { 12 };
        (inside && self.rng.below(one_in) == 0 && !self.is_awaited(call)).then_some(flushes)
    }
}

/// One process on one disk.
pub(crate) struct Machine {
    pub(crate) disk: CrashDisk,
    fs: Arc<dyn Fs>,
    clock: Arc<FakeClock>,
    spawn: InlineSpawn,
    store: Option<Arc<dyn ObjectStore>>,
    /// The clock of the backend: time passes there, too.
    away: Option<Arc<FakeClock>>,
}

impl Machine {
    /// A machine whose calls pass by `world`.
    pub(crate) fn watched(disk: CrashDisk, world: &Arc<World>) -> Self {
        let (watching, seen): (Weak<World>, _) = (Arc::downgrade(world), disk.clone());
        let hook = move |call: &Call<'_>| watching.upgrade().map_or(Act::Go, |world| world.call(&seen, call));
        let fs = Arc::new(HookFs::new(Arc::new(disk.clone()), Arc::new(hook)));
        let state = &mut *world.state();
        state.disk = Some(disk.clone());
        let store = state.away.as_ref().map(|away| Arc::new(away.faults.clone()) as _);
        let away = state.away.as_ref().map(|away| Arc::clone(&away.clock));
        // What was set wrong is right again.
        let right = |away: &Arc<FakeClock>| Arc::new(FakeClock::starting_at(away.unix_micros()));
        let clock = away.as_ref().map(right).unwrap_or_default();
        Self { disk, fs, clock, spawn: InlineSpawn::shuffled(state.rng.u64()), store, away }
    }

    /// A machine on which nothing fails and nobody looks.
    pub(crate) fn plain(disk: CrashDisk, rng: &mut Rng) -> Self {
        let fs = Arc::new(disk.clone());
        let spawn = InlineSpawn::shuffled(rng.u64());
        Self { disk, fs, clock: Arc::default(), spawn, store: None, away: None }
    }

    /// The same with a backend.
    pub(crate) fn with_store(self, store: Arc<dyn ObjectStore>) -> Self {
        Self { store: Some(store), ..self }
    }

    /// The same by a clock that others go by, too.
    pub(crate) fn with_clock(self, clock: &Arc<FakeClock>) -> Self {
        Self { clock: Arc::clone(clock), ..self }
    }

    pub(crate) fn open(&self, settings: &Settings, seed: u64) -> akidb::Result<Db> {
        let builder = self.builder(settings, seed);
        match &self.store {
            Some(store) => builder.store("copies", Arc::clone(store)).open(),
            None => builder.open(),
        }
    }

    /// Looks at what is there, without changing it.
    pub(crate) fn look(&self, settings: &Settings) -> akidb::Result<Db> {
        self.builder(settings, 0).read_only(true).open()
    }

    fn builder(&self, settings: &Settings, seed: u64) -> Builder {
        Db::builder(DIR)
            .settings(settings.clone())
            .components(Arc::clone(&self.fs), self.clock.clone(), Arc::new(self.spawn.clone()))
            .random(Rng::seeded(seed))
    }

    /// Lets the engine's threads take some steps.
    pub(crate) fn step(&self, steps: u64) {
        for _ in 0..steps {
            self.spawn.step(self.clock.now());
        }
    }

    /// Lets the engine's threads do what is due, then time pass.
    pub(crate) fn rest(&self, by: Duration) {
        self.spawn.run_until_idle(self.clock.now());
        self.advance(by);
        self.spawn.run_until_idle(self.clock.now());
    }

    /// Lets the engine's threads do what is due, then time pass until one of those who wait for an answer goes on.
    pub(crate) fn pass(&self) {
        self.spawn.run_until_idle(self.clock.now());
        let now = self.clock.now();
        let next = self.clock.next_timer().map_or(SECOND, |next| next.saturating_duration_since(now));
        self.advance(next.min(SECOND));
        self.spawn.run_until_idle(self.clock.now());
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
        if let Some(away) = &self.away {
            away.advance(by);
        }
    }

    pub(crate) fn jump(&self, micros: i64) {
        self.clock.jump_wall(micros);
    }
}

/// Bounds so small that flushes, rotations and removals are frequent.
pub(crate) fn settings(scale: Scale, rng: &mut Rng) -> Settings {
    let unit = scale.memtable_bytes();
    let mut settings = Settings::default();
    let engine = &mut settings.engine;
    engine.memtable_bytes = unit;
    // A quarter of it bounds a merge.
    engine.memory_bytes = unit << (1 + rng.below(4));
    engine.max_sealed_memtables = 1 + rng.below(3) as u32;
    engine.wal_flush_bytes = unit << rng.below(2);
    engine.wal_max_bytes = 8 * unit;
    engine.write_stall_timeout_ms = 0;
    engine.min_free_disk_bytes = Some(0);
    engine.rest_after_secs = 1;
    engine.ttl_purge_secs = 1;
    // Longer than the clock can jump.
    engine.idempotency_window_secs = 366 * 24 * 3_600;
    engine.manifest_keep = 1 + rng.below(6) as u32;
    engine.max_pending_bytes = (scale == Scale::Heavy).then_some(1 << 20);
    settings
}
