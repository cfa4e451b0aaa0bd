//! How the removal of files that nothing names goes, and by what time they grow old.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use akidb_host::Clock;

use crate::error::{Error, Result};

/// What is known of the removals of a database.
#[derive(Debug)]
pub(crate) struct Removals {
    /// Why files that nothing names are not removed, until they are.
    failure: Mutex<Option<Error>>,
    /// Files may lie around that nothing names and no manifest that expires will name.
    is_owed: AtomicBool,
    /// The wall clock at the open, and when that was.
    opened_at: (i64, Instant),
}

impl Removals {
    pub(crate) fn since(clock: &dyn Clock) -> Self {
        let opened_at = (clock.unix_micros(), clock.now());
        Self { failure: Mutex::new(None), is_owed: AtomicBool::new(false), opened_at }
    }

    /// One begins, of all that is owed by now.
    pub(crate) fn begin(&self) {
        self.is_owed.store(false, Ordering::Release);
    }

    /// Notes how the last one went: done, held up until a manifest expires, or failed and owed.
    pub(crate) fn note(&self, outcome: Result<Option<Error>>) {
        if outcome.is_err() {
            self.owe();
        }
        let failure = outcome.unwrap_or_else(Some);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// A flush or merge failed: what it wrote is to be removed.
    pub(crate) fn owe(&self) {
        self.is_owed.store(true, Ordering::Release);
    }

    pub(crate) fn is_owed(&self) -> bool {
        self.is_owed.load(Ordering::Acquire)
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Microseconds since the Unix epoch by the wall clock at the open and what has passed since: what is kept for a time
    /// goes by it, so that a clock that is set ahead takes nothing away.
    pub(crate) fn steady_unix_micros(&self, now: Instant) -> i64 {
        let (micros, at) = self.opened_at;
        let passed = now.saturating_duration_since(at).as_micros();
        micros.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}
