//! The thread that merges segments: one merge at a time, so that flushes, which writers wait for, never queue behind one.

use std::collections::HashSet;
use std::sync::Weak;
use std::time::{Duration, Instant};

use akidb_host::{Next, Tick};

use crate::compact::{self, policy};
use crate::engine::Engine;
use crate::error::ErrorKind;

/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The core of the compactor's thread. It holds the engine weakly: a dropped database ends the loop.
#[derive(Debug)]
pub(crate) struct Compactor {
    engine: Weak<Engine>,
    retry_at: Option<Instant>,
    failures: u32,
    /// Collections with damaged segments: a merge would fail at the same byte again, until somebody mends it.
    left_out: HashSet<u32>,
}

impl Compactor {
    pub(crate) fn new(engine: Weak<Engine>) -> Self {
        Self { engine, retry_at: None, failures: 0, left_out: HashSet::new() }
    }

    /// Makes one merge, if one is due.
    fn work(&mut self, engine: &Engine, now: Instant) -> Next {
        let current = engine.current();
        let ids = current.content().collections.keys().copied().filter(|id| !self.left_out.contains(id));
        let ids: Vec<u32> = ids.collect();
        drop(current);
        for id in ids {
            match compact::compact(engine, id, policy::due) {
                Ok(false) => {}
                Ok(true) => {
                    self.failures = 0;
                    // The driver offers the new manifest to the backends.
                    engine.wake_driver();
                    return Next::At(now);
                }
                Err(error) if error.kind() == ErrorKind::Closed => return Next::Done,
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    tracing::error!(%error, "a segment that is to be merged is damaged; its collection is merged no more until a reopen");
                    self.left_out.insert(id);
                }
                Err(error) => {
                    self.failures = (self.failures + 1).min(8);
                    let pause = (Duration::from_millis(250) * 2u32.pow(self.failures)).min(LONGEST_PAUSE);
                    tracing::warn!(%error, retry_in_ms = pause.as_millis(), "a merge failed; the segments stay as they are");
                    self.retry_at = Some(now + pause);
                    return Next::At(now + pause);
                }
            }
        }
        Next::Idle
    }
}

impl Tick for Compactor {
    fn tick(&mut self, now: Instant) -> Next {
        let Some(engine) = self.engine.upgrade() else { return Next::Done };
        if engine.is_closed() {
            return Next::Done;
        }
        match self.retry_at {
            Some(at) if now < at => Next::At(at),
            _ => {
                self.retry_at = None;
                self.work(&engine, now)
            }
        }
    }
}
