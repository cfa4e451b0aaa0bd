//! A worker without its thread: turn by turn, over a guarded store with faults, in time that only moves when it pauses.

use akidb_host::sim::CrashDisk;
use object_store::memory::InMemory;
use tempfile::TempDir;

use super::*;
use crate::breaker::State;
use crate::fault::FaultStore;
use crate::guard::{CallKind, Guard};
use crate::uploader::wait::Then;
use crate::uploader::worker::Worker;
use crate::{BreakerSettings, Class, DeadLetters, DlqSettings, PlanItem, Which};

/// Pauses move the clock; deadlines never come.
#[derive(Debug)]
pub(super) struct SimSleep(pub(super) Arc<FakeClock>);

impl Sleep for SimSleep {
    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.0.advance(time);
        tokio::task::yield_now().boxed()
    }

    fn deadline(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

pub(super) struct Sim {
    pub(super) clock: Arc<FakeClock>,
    pub(super) worker: Worker,
    pub(super) faults: FaultStore,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) letters: Arc<DeadLetters>,
    pub(super) dir: TempDir,
    pub(super) rng: Rng,
    pub(super) number: u64,
    epoch: u64,
}

impl Sim {
    pub(super) fn new() -> Self {
        Self::with(DlqSettings::default(), None)
    }

    pub(super) fn with(dlq: DlqSettings, sweep: Option<SweepSettings>) -> Self {
        let faults = FaultStore::over_parts(Arc::new(InMemory::new()));
        let store = Arc::new(faults.clone());
        let (clock, dir) = (Arc::default(), tempfile::tempdir().unwrap());
        Self::build(faults, store, clock, dir, 1, dlq, sweep)
    }

    /// The same over another file system.
    pub(super) fn over(fs: Arc<dyn Fs>) -> Self {
        let mut sim = Self::new();
        sim.worker.publisher.set_fs(fs);
        sim
    }

    /// The next open of the same database, which finds its files and nothing else.
    pub(super) fn reopened(self) -> Self {
        let Self { faults, store, clock, dir, epoch, number, rng, .. } = self;
        let next = Self::build(faults, store, clock, dir, epoch + 1, DlqSettings::default(), None);
        Self { number, rng, ..next }
    }

    fn build(
        faults: FaultStore,
        store: Arc<dyn ObjectStore>,
        clock: Arc<FakeClock>,
        dir: TempDir,
        epoch: u64,
        dlq: DlqSettings,
        sweep: Option<SweepSettings>,
    ) -> Self {
        let time: Arc<dyn Clock> = Arc::<FakeClock>::clone(&clock);
        let sleep = Arc::new(SimSleep(Arc::clone(&clock)));
        let breaker = BreakerSettings { cooldown_jitter: 0.0, ..BreakerSettings::default() };
        let config =
            crate::BackendConfig { circuit_breaker_config: breaker, ..crate::BackendConfig::new("t", "x") };
        let backend = Backend::assemble_with_parts(&config, crate::Kind::Custom, Arc::new(faults.clone()));
        let backend = backend.guarded(Arc::clone(&time), Arc::<SimSleep>::clone(&sleep), 0);
        let disk = Arc::new(CrashDisk::new(1));
        let (letters, _) =
            DeadLetters::open(disk, Arc::clone(&time), std::path::Path::new("/dlq/dlq.json"), dlq).unwrap();
        let letters = Arc::new(letters);
        let client = Client::new(backend, sleep, Rng::seeded(epoch));
        let parts = UploaderParts {
            clock: time,
            letters: Some(Arc::clone(&letters)),
            options: PublishOptions {
                gc_grace: Duration::from_secs(24 * 3_600),
                ..PublishOptions::default()
            },
            sweep,
            ..parts(client, epoch, Duration::from_secs(2))
        };
        let worker = Worker::new(parts);
        Self { clock, worker, faults, store, letters, dir, rng: Rng::seeded(1), number: 0, epoch }
    }

    pub(super) fn item(&mut self, name: &str) -> PlanItem {
        item(self.dir.path(), name, 700, &mut self.rng)
    }

    pub(super) fn offer(&mut self, items: &[PlanItem]) -> u64 {
        self.number += 1;
        self.worker.shared().offer(plan(self.number, items));
        self.number
    }

    pub(super) fn guard(&self) -> Arc<Guard> {
        Arc::clone(self.worker.client.backend().guard().unwrap())
    }

    pub(super) fn is_calm(&self) -> bool {
        CallKind::ALL.iter().all(|kind| self.guard().status(*kind).state == State::Closed)
    }

    pub(super) fn status(&self) -> Status {
        self.worker.shared().status()
    }

    /// Turns until so much time has passed; one that has nothing to wait for but the bell ends it at once. Returns the
    /// calls made while a breaker that they need was not closed, but for the small ones that heal it.
    pub(super) async fn drive(&mut self, secs: u64) -> usize {
        let end = self.clock.now() + Duration::from_secs(secs);
        let mut while_open = 0;
        for turns in 0.. {
            assert!(turns < 1_000_000, "it turns in place");
            let (calm, before) = (self.is_calm(), self.faults.calls().len());
            let then = self.worker.turn().await;
            if !calm && !self.is_calm() {
                let small = |key: &str| key == "probe/alive" || key.starts_with("manifest");
                let calls = self.faults.calls();
                while_open += calls[before..].iter().filter(|call| !small(&call.key)).count();
            }
            let left = end.saturating_duration_since(self.clock.now());
            match then {
                Then::Stop => break,
                Then::Again => {}
                Then::Pause(time) | Then::Until(time) => self.clock.advance(time.min(left)),
                Then::Idle => self.clock.advance(left),
            }
            if self.clock.now() >= end {
                break;
            }
        }
        while_open
    }

    /// Everything offered is up, no letter is left, and every document is true.
    pub(super) async fn assert_drained(&self) {
        let status = self.status();
        assert_eq!(
            (status.published_local_number, status.pending_files, status.target_local_number),
            (Some(self.number), 0, None),
            "{status:?}"
        );
        assert_eq!((self.letters.stats().size, self.letters.stats().parked), (0, 0));
        judge(&self.store).await;
    }

    pub(super) fn puts_of(&self, key_part: &str) -> usize {
        let is_put = |call: &&crate::fault::Call| call.op == Op::Put && call.key.contains(key_part);
        self.faults.calls().iter().filter(is_put).count()
    }

    pub(super) fn classes(&self) -> Vec<Class> {
        self.letters.list(&Which::all(), 100).iter().map(|letter| letter.class).collect()
    }
}
