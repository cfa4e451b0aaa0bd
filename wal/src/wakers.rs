//! Other people's code that the log calls: wakers of async callers, and who listens to syncs. None of it runs under a lock,
//! nor is a waker cloned or dropped under one, and what panics takes nobody along.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use akidb_host::panic_text;

/// Wakes all of them, also those behind one that panics.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if let Some(panic) = panic_of(|| waker.wake()) {
            tracing::error!(
                panic,
                "the waker of an async call of the log panicked: whoever polls it may not hear of its record"
            );
        }
    }
}

/// Calls it; the text of its panic, if it did. Panics of a model are its answer and go on.
pub(crate) fn panic_of(call: impl FnOnce()) -> Option<String> {
    if cfg!(akidb_loom) {
        call();
        return None;
    }
    let panic = catch_unwind(AssertUnwindSafe(call)).err()?;
    Some(panic_text(&*panic).to_owned())
}
