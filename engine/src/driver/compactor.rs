//! The thread that merges segments: one merge at a time, so that flushes, which writers wait for, never queue behind one.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

use akidb_host::{Next, Tick};

use crate::compact::{self, Spared, policy};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};

/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Pause where the memory is taken.
const MEMORY_PAUSE: Duration = Duration::from_millis(250);

/// The core of the compactor's thread. It holds the engine weakly: a dropped database ends the loop.
#[derive(Debug)]
pub(crate) struct Compactor {
    engine: Weak<Engine>,
    /// The collection that was merged last: the others come first.
    last: u32,
    /// Collections whose last merge failed: how often in a row, and when it is tried again; never for one with damaged
    /// segments, where it would fail at the same byte again until somebody mends it, nor once no manifest can be written.
    failed: BTreeMap<u32, Failure>,
    /// Segments, by collection and file, that could not be rewritten alone: the others of the collection are merged.
    spared: BTreeMap<(u32, String), Failure>,
}

/// How often in a row it failed, and when it is tried again.
type Failure = (u32, Option<Instant>);

impl Compactor {
    pub(crate) fn new(engine: Weak<Engine>) -> Self {
        Self { engine, last: 0, failed: BTreeMap::new(), spared: BTreeMap::new() }
    }

    /// Makes one merge, if one is due. One collection that cannot be merged does not hold up the others.
    fn work(&mut self, engine: &Engine, now: Instant) -> Next {
        let current = engine.current();
        let mut ids: Vec<u32> = current.content().collections.keys().copied().collect();
        self.spared.retain(|(id, file), _| {
            let state = current.content().collections.get(id);
            state.is_some_and(|state| state.segments.iter().any(|live| live.segment.meta().file == *file))
        });
        drop(current);
        let after_last = ids.partition_point(|id| *id <= self.last);
        ids.rotate_left(after_last);
        self.failed.retain(|id, _| ids.contains(id));
        let mut retry_for_memory = None;
        let choose = if engine.is_at_rest() { policy::due_at_rest } else { policy::due };
        for id in ids {
            if self.failed.get(&id).is_some_and(|failure| is_waiting(failure, now)) {
                continue;
            }
            let waiting =
                self.spared.iter().filter(|((of, _), failure)| *of == id && is_waiting(failure, now));
            let files = waiting.map(|((_, file), _)| file.clone()).collect();
            let mut spared = Spared { files, ..Spared::default() };
            match compact::compact(engine, id, choose, Duration::ZERO, &mut spared) {
                // Nothing is left that could fail again.
                Ok(false) => {
                    self.failed.remove(&id);
                    self.spared.retain(|(of, _), failure| *of != id || is_waiting(failure, now));
                }
                Ok(true) => {
                    self.failed.remove(&id);
                    self.last = id;
                    // The driver offers the new manifest to the backends.
                    engine.wake_driver();
                    return Next::At(now);
                }
                Err(error) if error.kind() == ErrorKind::Closed => return Next::Done,
                Err(error) if matches!(error.kind(), ErrorKind::Full { .. }) => {
                    tracing::debug!(%error, "a merge waits for memory");
                    // Or at the next call, which may have brought some.
                    retry_for_memory = Some(now + MEMORY_PAUSE);
                }
                Err(error) => match spared.failed {
                    // The rest of the collection comes when the others had their turn.
                    Some(file) => {
                        let is_final = is_final(engine, &error);
                        note(self.spared.entry((id, file)).or_default(), &error, is_final, now);
                        self.last = id;
                        return Next::At(now);
                    }
                    None => {
                        note(self.failed.entry(id).or_default(), &error, is_final(engine, &error), now);
                    }
                },
            }
        }
        let failures = self.failed.values().chain(self.spared.values());
        let retries = failures.filter_map(|(_, retry)| *retry);
        // A segment whose time has come in a collection that waits is tried with it.
        retries.filter(|at| *at > now).chain(retry_for_memory).min().map_or(Next::Idle, Next::At)
    }
}

fn is_waiting((_, retry): &Failure, now: Instant) -> bool {
    retry.is_none_or(|at| now < at)
}

/// Whether it would fail again for as long as the database is open. A directory that could not be synced is no reason: what
/// lies in it is left alone, and the next merge writes files of other names.
fn is_final(engine: &Engine, error: &Error) -> bool {
    let is_poisoned = || engine.writer_if_any().is_some_and(|writer| writer.committer.poisoned().is_some());
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::NotFound => true,
        ErrorKind::Poisoned => is_poisoned(),
        _ => false,
    }
}

fn note(failure: &mut Failure, error: &Error, is_final: bool, now: Instant) {
    if is_final {
        tracing::error!(%error, "what cannot be merged is left alone until the database is reopened");
        failure.1 = None;
        return;
    }
    failure.0 = (failure.0 + 1).min(8);
    let pause = (Duration::from_millis(250) * 2u32.pow(failure.0)).min(LONGEST_PAUSE);
    tracing::warn!(%error, retry_in_ms = pause.as_millis(), "a merge failed; the segments stay as they are");
    failure.1 = Some(now + pause);
}

impl Tick for Compactor {
    fn tick(&mut self, now: Instant) -> Next {
        let Some(engine) = self.engine.upgrade() else { return Next::Done };
        if engine.is_closed() {
            return Next::Done;
        }
        self.work(&engine, now)
    }
}
