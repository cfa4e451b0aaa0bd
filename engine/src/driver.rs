//! The one owner of change: a loop that asks the pure planner what is due, and does it.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use akidb_host::{Next, Tick};

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::flush;
use crate::gc;
use crate::upload::Uploads;

pub(crate) mod compactor;
pub(crate) mod encoder;
pub(crate) mod plan;
mod purge;
mod rest;

use plan::{CollectionLoad, Job, Load};
use purge::Purge;
use rest::Rest;

/// How often the free space is measured and old manifests are looked through.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The core of the driver's thread. It holds the engine weakly: a dropped database ends the loop.
#[derive(Debug)]
pub(crate) struct Driver {
    engine: Weak<Engine>,
    uploads: Arc<Uploads>,
    next_look: Option<Instant>,
    /// Collections whose flush failed wait until then.
    retry_at: Option<Instant>,
    failing: BTreeSet<u32>,
    failures: u32,
    rest: Rest,
    purge: Purge,
    #[cfg(feature = "metrics")]
    facade: crate::metrics::Facade,
    /// The newest manifest when old ones and their files were removed last.
    collected: u64,
}

impl Driver {
    pub(crate) fn new(engine: Weak<Engine>, uploads: Arc<Uploads>) -> Self {
        Self {
            engine,
            uploads,
            next_look: None,
            retry_at: None,
            failing: BTreeSet::new(),
            failures: 0,
            rest: Rest::default(),
            purge: Purge::default(),
            #[cfg(feature = "metrics")]
            facade: crate::metrics::Facade::default(),
            collected: 0,
        }
    }

    fn look_if_due(&mut self, engine: &Engine, now: Instant) -> Instant {
        match self.next_look {
            Some(next) if now < next => next,
            _ => {
                engine.measure_disk();
                engine.shrink_caches();
                let (limits, current) = (&engine.limits, engine.current());
                let max_bytes = engine.place.memory.room_for_snapshots();
                engine.snapshots.expire(now, limits.snapshot_max_age, current.content(), max_bytes);
                self.uploads.tick(now);
                self.collect(engine);
                #[cfg(feature = "metrics")]
                self.facade.publish(engine, &self.uploads);
                let next = now + LOOK_EVERY;
                self.next_look = Some(next);
                next
            }
        }
    }

    /// Removes what no kept manifest names.
    fn collect(&mut self, engine: &Engine) {
        self.collected = newest_manifest(engine);
        let before = engine.removals.failure();
        if let Err(error) = gc::collect(engine, &|| self.uploads.pinned()) {
            // Once for each cause: it is tried at every look.
            if before.is_none_or(|before| before.to_string() != error.to_string()) {
                tracing::warn!(%error, "removing old manifests and files failed; it is tried again");
            }
        }
    }

    /// The same where something was committed since: each merge leaves its inputs behind, each flush a file of deletion vectors, and
    /// several fit between two looks.
    fn collect_if_committed(&mut self, engine: &Engine) {
        if newest_manifest(engine) != self.collected {
            self.collect(engine);
        }
    }

    fn work(&mut self, engine: &Engine, now: Instant) -> Option<Instant> {
        if self.retry_at.is_none_or(|at| at <= now) {
            self.retry_at = None;
            self.failing.clear();
        }
        // A bound on the jobs of one tick lets `stop` through.
        for _ in 0..64 {
            // What the last change gave up goes before a flush writes new files beside it.
            self.collect_if_committed(engine);
            let load = self.load(engine, now);
            let jobs = plan::plan(&load, &engine.limits);
            if engine.is_closed() {
                return None;
            }
            if jobs.is_empty() {
                if self.failing.is_empty() {
                    self.failures = 0;
                    if load.at_rest {
                        self.rest.take();
                        engine.rest();
                    }
                } else {
                    // Others give memory back.
                    engine.place.memory.call_first();
                }
                return self.retry_at;
            }
            // One collection that cannot be flushed does not hold up the others.
            for job in jobs {
                match run(engine, job) {
                    Err(error) if error.kind() == ErrorKind::Closed => return None,
                    Err(error) => self.note_failure(job.collection(), &error, now),
                    Ok(()) => {}
                }
            }
        }
        Some(now)
    }

    fn note_failure(&mut self, collection: u32, error: &Error, now: Instant) {
        self.failing.insert(collection);
        let at = *self.retry_at.get_or_insert_with(|| {
            self.failures = (self.failures + 1).min(6);
            now + Duration::from_millis(250) * 2u32.pow(self.failures)
        });
        let pause = at.saturating_duration_since(now);
        tracing::warn!(%error, retry_in_ms = pause.as_millis(), "a flush failed; rows stay in the log");
    }

    fn load(&mut self, engine: &Engine, now: Instant) -> Load {
        let mut load = load(engine, &self.failing);
        let Ok(writer) = engine.writer() else { return load };
        let log = writer.sequencer.log().inner();
        if self.rest.look(log.watermarks().appended, now) {
            engine.wake_up();
        }
        let gain = load.gain_of_rest(log.disk_bytes());
        load.at_rest = self.rest.is_due(engine.limits.rest_after, gain, now);
        load
    }
}

impl Tick for Driver {
    fn tick(&mut self, now: Instant) -> Next {
        let Some(engine) = self.engine.upgrade() else { return Next::Done };
        if engine.is_closed() {
            return Next::Done;
        }
        let look = self.look_if_due(&engine, now);
        let more = self.purge.tick(&engine, now);
        let retry = self.work(&engine, now);
        self.uploads.offer(&engine);
        self.uploads.measure(&engine);
        Next::At([retry, more].into_iter().flatten().fold(look, Instant::min))
    }
}

fn newest_manifest(engine: &Engine) -> u64 {
    engine.writer_if_any().map_or(0, |writer| writer.committer.newest().manifest.number)
}

fn load(engine: &Engine, failing: &BTreeSet<u32>) -> Load {
    let Ok(view) = engine.view() else { return Load::default() };
    engine.place.memory.note_flushes(view.content().held_memtable_bytes(failing), !failing.is_empty());
    let collections = view.content().collections.values().map(|state| CollectionLoad {
        id: state.id,
        active_bytes: state.active.bytes(),
        active_full: engine.limits.is_active_full(state),
        sealed: state.sealed.len(),
        oldest_unflushed: state.oldest_unflushed(),
        damaged: state.damage.get().is_some(),
        failing: failing.contains(&state.id),
    });
    Load {
        collections: collections.collect(),
        memory_asked: engine.place.memory.is_asked(),
        live_wal_bytes: engine.live_wal_bytes(),
        at_rest: false,
    }
}

fn run(engine: &Engine, job: Job) -> Result<()> {
    match job {
        Job::Seal(collection) => {
            flush::seal(engine.writer()?, collection);
        }
        Job::Flush(collection) => {
            flush::flush_oldest(engine, collection)?;
            engine.wake_compactor();
        }
    }
    Ok(())
}
