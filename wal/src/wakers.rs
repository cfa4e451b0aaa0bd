//! Other people's code that the log calls: wakers of async callers, and who listens to syncs. None of it runs under a lock,
//! nor is a waker cloned or dropped under one, and what panics takes nobody along.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Wakes all of them, also those behind one that panics.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if !ends_well(|| waker.wake()) {
            tracing::error!(
                "the waker of an async call of the log panicked: whoever polls it may not hear of its record"
            );
        }
    }
}

/// Calls it; `false` if it panicked. Panics of a model are its answer and go on.
pub(crate) fn ends_well(call: impl FnOnce()) -> bool {
    if cfg!(akidb_loom) {
        call();
        return true;
    }
    catch_unwind(AssertUnwindSafe(call)).is_ok()
}
