//! How the removal of files that nothing names goes, and when what failed is tried again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// After the second failure in a row; the first is tried again at once, one more after twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What is known of the removals of a database.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    /// Why files that nothing names are not removed, until they are.
    failure: Mutex<Option<Error>>,
    /// Files may lie around that nothing names and no manifest that expires will name.
    is_owed: AtomicBool,
    /// Tried again from then on, after so long.
    retry: Mutex<(Option<Instant>, Duration)>,
    /// Files since the open.
    removed: AtomicU64,
}

impl Removals {
    /// Whether one is due that no manifest's expiry asks for.
    pub(crate) fn is_owed(&self) -> bool {
        self.is_owed.load(Ordering::Acquire)
    }

    /// Whether the last one failed, and the next is not tried yet.
    pub(crate) fn is_paused(&self, now: Instant) -> bool {
        self.lock_retry().0.is_some_and(|at| now < at)
    }

    /// One begins, of all that is owed by now.
    pub(crate) fn begin(&self) {
        self.is_owed.store(false, Ordering::Release);
    }

    /// Notes how the last one went: done, held up until a manifest expires, or failed, and so owed after a pause that doubles.
    pub(crate) fn note(&self, outcome: Result<Option<Error>>, now: Instant) {
        let mut retry = self.lock_retry();
        *retry = match outcome.is_err() {
            true => (Some(now + retry.1), (2 * retry.1).clamp(FIRST_PAUSE, LONGEST_PAUSE)),
            false => (None, Duration::ZERO),
        };
        drop(retry);
        if outcome.is_err() {
            self.is_owed.store(true, Ordering::Release);
        }
        let failure = outcome.unwrap_or_else(Some);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// A flush or merge failed: what it wrote is to be removed.
    pub(crate) fn owe(&self) {
        self.is_owed.store(true, Ordering::Release);
    }

    /// Notes that so many files were removed.
    pub(crate) fn count(&self, files: usize) {
        self.removed.fetch_add(files as u64, Ordering::Relaxed);
    }

    /// How many were since the open.
    pub(crate) fn removed(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock_retry(&self) -> MutexGuard<'_, (Option<Instant>, Duration)> {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
