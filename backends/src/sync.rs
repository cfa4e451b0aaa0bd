//! Locks and atomics of the pure modules: std's in the program, loom's in the models, shuttle's in `shuttle_tests`, so
//! that both see the code that ships.

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
use std::sync::Mutex as RawMutex;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub(crate) use std::sync::{Condvar, MutexGuard};

#[cfg(akidb_loom)]
use loom::sync::Mutex as RawMutex;
#[cfg(akidb_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(akidb_loom)]
pub(crate) use loom::sync::{Condvar, MutexGuard};

#[cfg(akidb_shuttle)]
use shuttle::sync::Mutex as RawMutex;
#[cfg(akidb_shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(akidb_shuttle)]
pub(crate) use shuttle::sync::{Condvar, MutexGuard};

/// A mutex whose holder's panic does not take the others down: what it guards here is counts and queues that are
/// right at every step.
#[derive(Debug)]
pub(crate) struct Mutex<T>(RawMutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RawMutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Waits on a condition; may wake without cause.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Lets threads that can run go first. Models have every order anyway.
pub(crate) fn let_others_run() {
    #[cfg(not(any(akidb_loom, akidb_shuttle)))]
    std::thread::yield_now();
}
