//! Bounds that hold writers back: which one is reached, and the wait for it to pass.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::write_turns::Turns;

/// A bound that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    /// Its name in `stats` and errors.
    pub(crate) which: &'static str,
    /// Figures and remedy for people.
    pub(crate) detail: String,
}

impl Stall {
    fn error(self) -> Error {
        let retry_after = Duration::from_millis(100);
        let kind = if self.which == "min_free_disk" {
            ErrorKind::NoSpace
        } else {
            ErrorKind::Full { which: self.which, retry_after }
        };
        Error::new(kind, "AKI-0210", format!("writes are held back by {}: {}", self.which, self.detail))
    }
}

/// What the required backend that is furthest behind lacks, at the last look.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    bytes: AtomicU64,
    backend: Mutex<Behind>,
}

#[derive(Debug, Default)]
struct Behind {
    name: String,
    /// It takes nothing more from this database, until that is opened again.
    is_lost: bool,
}

impl Pending {
    pub(crate) fn note(&self, backend: &str, bytes: u64, is_lost: bool) {
        let mut behind = self.backend.lock().unwrap_or_else(PoisonError::into_inner);
        backend.clone_into(&mut behind.name);
        behind.is_lost = is_lost;
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The stall at a bound of `max_bytes`, if it is passed.
    pub(crate) fn stall(&self, max_bytes: Option<u64>) -> Option<Stall> {
        let (bytes, max_bytes) = (self.bytes.load(Ordering::Relaxed), max_bytes?);
        (bytes > max_bytes).then(|| {
            let backend = self.backend.lock().unwrap_or_else(PoisonError::into_inner);
            let remedy = if backend.is_lost {
                "it was claimed by another: close one of the two, then open this one again"
            } else {
                "writes go on by themselves when it has caught up"
            };
            let name = &backend.name;
            let detail =
                format!("{bytes} bytes are not on backend '{name}' yet, {max_bytes} may be; {remedy}");
            Stall { which: "max_pending_bytes", detail }
        })
    }
}

/// Where stalled writers wait.
#[derive(Debug)]
pub(crate) struct Stalls {
    changes: Mutex<u64>,
    changed: Condvar,
    /// Somebody waits until less is queued.
    at_queue: AtomicBool,
    /// Those that hold no thread meanwhile.
    pub(crate) turns: Arc<Turns>,
}

impl Stalls {
    pub(crate) fn new(turns: Arc<Turns>) -> Self {
        Self { changes: Mutex::default(), changed: Condvar::new(), at_queue: AtomicBool::new(false), turns }
    }

    /// Called whenever a bound may have passed: a flush ended, the log was truncated, the disk was measured.
    pub(crate) fn notify(&self) {
        *self.changes.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
        self.turns.wake_all();
    }

    /// Says that somebody is about to wait until less is queued: before the look that he waits upon.
    pub(crate) fn note_at_queue(&self) {
        self.at_queue.store(true, Ordering::SeqCst);
    }

    /// Called after what was synced is applied; costs one swap while nobody waits for it.
    pub(crate) fn notify_at_queue(&self) {
        if self.at_queue.swap(false, Ordering::SeqCst) {
            self.notify();
        }
    }

    /// Waits for as long as it `is_so`, for so long at most.
    pub(crate) fn pause(&self, at_most: Duration, is_so: impl Fn() -> bool) {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(changes, at_most, |_| is_so()));
    }

    /// Waits until `reached` answers `None`, at most `timeout` in all.
    ///
    /// # Errors
    /// `Full` or `NoSpace` naming the bound that still is reached; nothing was written.
    pub(crate) fn wait(&self, timeout: Duration, reached: impl Fn() -> Option<Stall>) -> Result<()> {
        let mut left = timeout;
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(stall) = reached() else { return Ok(()) };
            if left.is_zero() {
                return Err(stall.error());
            }
            // In slices, so that a bound that passes without a notice is seen too; what is waited is what counts.
            let slice = left.min(Duration::from_millis(50));
            let before = *changes;
            let (guard, waited) =
                self.changed.wait_timeout(changes, slice).unwrap_or_else(PoisonError::into_inner);
            changes = guard;
            if waited.timed_out() || *changes == before {
                left = left.saturating_sub(slice);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_was_lost_to_another_counts_and_the_error_says_what_to_do() {
        let pending = Pending::default();
        assert_eq!(pending.stall(Some(0)), None);
        pending.note("near", 11, false);
        assert_eq!((pending.stall(None), pending.stall(Some(11))), (None, None));
        let waits = pending.stall(Some(10)).unwrap().detail;
        pending.note("near", 11, true);
        let lost = pending.stall(Some(10)).unwrap().detail;
        assert!(waits.contains("caught up") && lost.contains("close one of the two"), "{waits}\n{lost}");
    }
}
