//! Other people's code that the log calls: wakers of async callers, and who listens to syncs. None of it runs under a lock,
//! nor is a waker cloned or dropped under one, and what panics takes nobody along.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

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
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    Some(text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".into()))
}
