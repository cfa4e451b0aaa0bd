//! Threads and atomics of the commit path: std in the program, loom's in the models, so that loom sees the code
//! that ships.

#[cfg(not(akidb_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(akidb_loom))]
pub(crate) use std::sync::{Arc, Mutex as RawMutex, MutexGuard};

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
