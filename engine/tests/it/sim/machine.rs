//! A machine: a disk that forgets and whose calls are watched, a clock that jumps, threads that run when told.

use std::sync::{Arc, Weak};
use std::time::Duration;

use akidb::object_store::ObjectStore;
use akidb::{Builder, Db, Settings};
use akidb_host::sim::{Act, Call, CrashDisk, FakeClock, HookFs, InlineSpawn};
use akidb_host::{Clock, Fs, Rng};

use super::rows::Scale;
use super::world::World;

const SECOND: Duration = Duration::from_secs(1);
pub(crate) const DIR: &str = "/db";

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
