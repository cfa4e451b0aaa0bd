//! Bounds that hold writers back: which one is reached, and the wait for it to pass.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use akidb_host::{Clock, RealClock};

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
    pub(crate) fn error(self) -> Error {
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
    /// Held for a look and for a notice, so that none comes between a look and the wait after it.
    looks: Mutex<()>,
    changed: Condvar,
    /// Somebody waits until less is queued.
    at_queue: AtomicBool,
    /// Those that hold no thread meanwhile.
    pub(crate) turns: Arc<Turns>,
}

impl Stalls {
    pub(crate) fn new(turns: Arc<Turns>) -> Self {
        Self { looks: Mutex::default(), changed: Condvar::new(), at_queue: AtomicBool::new(false), turns }
    }

    /// Called whenever a bound may have passed: a flush ended, the log was truncated, the disk was measured.
    pub(crate) fn notify(&self) {
        drop(self.looks.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        self.turns.wake_all();
    }

    /// Says that somebody is about to wait until less is queued: before the look that he waits upon. Answers whether he is the
    /// first since they were called last: it is enough that one of them hurries the log.
    pub(crate) fn note_at_queue(&self) -> bool {
        !self.at_queue.swap(true, Ordering::SeqCst)
    }

    /// Called after what was synced is applied; costs one swap while nobody waits for it.
    pub(crate) fn notify_at_queue(&self) {
        if self.at_queue.swap(false, Ordering::SeqCst) {
            self.notify();
        }
    }

    /// Waits for as long as it `is_so`, for so long at most.
    pub(crate) fn pause(&self, at_most: Duration, is_so: impl Fn() -> bool) {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(looks, at_most, |()| is_so()));
    }

    /// Waits until `reached` answers `None`, at most for what is `left` of a write's patience; takes from it what it waited,
    /// for a write may meet several bounds, or one again.
    ///
    /// # Errors
    /// `Full` or `NoSpace` naming the bound that still is reached; nothing was written.
    pub(crate) fn wait(&self, left: &mut Duration, reached: impl Fn() -> Option<Stall>) -> Result<()> {
        // Real time: so long a thread is held up.
        self.wait_by(&RealClock, left, reached)
    }

    fn wait_by(
        &self,
        clock: &dyn Clock,
        left: &mut Duration,
        reached: impl Fn() -> Option<Stall>,
    ) -> Result<()> {
        let (patience, since) = (*left, clock.now());
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(stall) = reached() else { return Ok(()) };
            if left.is_zero() {
                return Err(stall.error());
            }
            // In slices, so that a bound that passes without a notice is seen too.
            let slice = (*left).min(Duration::from_millis(50));
            looks = self.changed.wait_timeout(looks, slice).unwrap_or_else(PoisonError::into_inner).0;
            *left = patience.saturating_sub(clock.now().saturating_duration_since(since));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::AtomicBool;

    use akidb_host::RealSpawn;
    use akidb_host::sim::FakeClock;

    use super::*;

    const STEP: Duration = Duration::from_millis(1);

    /// Waits at a bound that stays, a step of the clock passing with each look, of which there are a thousand at most. Answers
    /// how many there were, and whether it was refused.
    fn wait_long(stalls: &Stalls, clock: &FakeClock, left: &mut Duration) -> (u32, bool) {
        let looks = Cell::new(0);
        let waited = stalls.wait_by(clock, left, || {
            looks.set(looks.get() + 1);
            clock.advance(STEP);
            (looks.get() < 1_000).then(|| Stall { which: "bound", detail: String::new() })
        });
        (looks.get(), waited.is_err())
    }

    #[test]
    fn notices_make_no_write_wait_longer_nor_does_a_second_bound() {
        let stalls = Stalls::new(Turns::new(Arc::new(RealClock), Arc::new(RealSpawn)));
        let (clock, is_over) = (FakeClock::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            // Flushes end all the time, of other collections too.
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    stalls.notify();
                }
            });
            let mut left = 20 * STEP;
            let first = wait_long(&stalls, &clock, &mut left);
            let second = wait_long(&stalls, &clock, &mut left);
            is_over.store(true, Ordering::Relaxed);
            assert_eq!((first, second), ((21, true), (1, true)));
        });
        let mut left = Duration::ZERO;
        assert_eq!(wait_long(&stalls, &clock, &mut left), (1, true), "who may not wait looks once");
    }

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
