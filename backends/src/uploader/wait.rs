//! Pauses of an uploader's thread, and what ends them early.

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};

use super::shared::Shared;
use crate::retry::Sleep;

/// What the thread does after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// End.
    Stop,
    /// Take the next turn.
    Again,
    /// Let time pass, unless somebody is in a hurry.
    Pause(Duration),
    /// Let time pass, unless the bell rings, whatever for.
    Until(Duration),
    /// Wait for the bell.
    Idle,
}

/// Lets time pass, unless somebody is in a hurry (or, with `any`, rings at all) or the end has come.
pub(super) async fn pause(shared: &Shared, sleep: &dyn Sleep, time: Duration, any: bool) {
    if time.is_zero() {
        return;
    }
    let mut over = sleep.pause(time);
    loop {
        if shared.queue.is_urgent() {
            return;
        }
        match select(over, pin!(shared.queue.bell())).await {
            Either::Left(_) => return,
            Either::Right(((), _)) if any => return,
            Either::Right(((), rest)) => over = rest,
        }
    }
}

/// Runs `work` to its end, or drops it when the uploader is asked to stop. A ring heard meanwhile rings again: what it
/// was for may have come after `work` had looked.
pub(super) async fn unless_stopped<T>(shared: &Shared, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut heard = false;
    loop {
        // The pause before it may have heard the ring.
        if shared.queue.is_stopping() {
            return None;
        }
        match select(work, pin!(shared.queue.bell())).await {
            Either::Left((done, _)) => {
                if heard {
                    shared.queue.wake();
                }
                return Some(done);
            }
            Either::Right(((), rest)) => (work, heard) = (rest, true),
        }
    }
}
