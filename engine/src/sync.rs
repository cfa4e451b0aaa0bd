//! Threads and atomics of the commit path: std in the program, loom's in the models, so that loom sees the code
//! that ships.

use std::time::Duration;

#[cfg(not(akidb_loom))]
use std::sync::Condvar as RawCondvar;
#[cfg(not(akidb_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(akidb_loom))]
pub(crate) use std::sync::{Arc, Mutex as RawMutex, MutexGuard};

#[cfg(akidb_loom)]
use loom::sync::Condvar as RawCondvar;
#[cfg(akidb_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(akidb_loom)]
pub(crate) use loom::sync::{Arc, Mutex as RawMutex, MutexGuard};

/// A mutex whose holder's panic does not take the others down: what it guards here is either replaced whole or
/// checked by asserts, and the panic itself is our mistake and reported as such.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(RawMutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RawMutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    #[cfg(seeded_bugs)]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// Where threads wait for a change of what a [`Mutex`] guards.
#[derive(Debug)]
pub(crate) struct Condvar(RawCondvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(RawCondvar::new())
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Waits for a call, or until the time is over: whether it is. In a model time does not pass: who is never called
    /// waits for ever, and the model says so.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        most: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        #[cfg(not(akidb_loom))]
        {
            let (guard, waited) =
                self.0.wait_timeout(guard, most).unwrap_or_else(|poisoned| poisoned.into_inner());
            (guard, waited.timed_out())
        }
        #[cfg(akidb_loom)]
        {
            let _ = most;
            (self.0.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner()), false)
        }
    }
}
