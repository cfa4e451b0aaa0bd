//! Leave to make one call, settled once.

use std::fmt;
use std::ops::Deref;

use super::{Breaker, Failure, Outcome, Refused, Settled};

/// What ties an answer to its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) epoch: u32,
    /// One of the calls tried after a cooldown.
    pub(super) is_probe: bool,
    pub(super) started_ms: u64,
}

/// Leave to make one call. What became of the call is said once, by value; a permit that is dropped without a word
/// means that the call was given up: it counts nothing and gives its place back. Dropped by a panic, it counts as a
/// failure.
#[must_use = "a permit that is dropped at once is a cancelled call"]
pub struct Permit<B: Deref<Target = Breaker>> {
    breaker: B,
    ticket: Ticket,
    is_settled: bool,
}

impl<B: Deref<Target = Breaker>> Permit<B> {
    /// Asks for leave to make a call now. Never blocks. `B` is `&Breaker`, or an `Arc` for calls that outlive a
    /// borrow.
    ///
    /// # Errors
    /// The breaker is open, or tries enough calls already; nothing may be sent.
    pub fn acquire(breaker: B, now_ms: u64) -> Result<Self, Refused> {
        let ticket = breaker.admit(now_ms)?;
        Ok(Self { breaker, ticket, is_settled: false })
    }

    /// Whether this is one of the few calls tried after a cooldown.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.ticket.is_probe
    }

    /// The call did what it should.
    pub fn success(self, now_ms: u64) -> Settled {
        self.settle(Outcome::Success, now_ms)
    }

    /// The call failed by the backend's fault.
    pub fn failure(self, failure: Failure, now_ms: u64) -> Settled {
        self.settle(Outcome::Failure(failure), now_ms)
    }

    /// The call ended in a way that says nothing about the backend: it counts nothing and its place is given back.
    pub fn ignore(self, now_ms: u64) -> Settled {
        self.settle(Outcome::Ignored, now_ms)
    }

    fn settle(mut self, outcome: Outcome, now_ms: u64) -> Settled {
        self.is_settled = true;
        self.breaker.settle(self.ticket, outcome, now_ms)
    }
}

impl<B: Deref<Target = Breaker>> Drop for Permit<B> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        // No clock here: the time of the start stands in, and a breaker copes with a late one.
        let now_ms = self.ticket.started_ms;
        if !std::thread::panicking() {
            self.breaker.settle(self.ticket, Outcome::Cancelled, now_ms);
        } else if cfg!(not(akidb_loom)) {
            // A model that fails unwinds through here, where loom's atomics work no more.
            self.breaker.settle(self.ticket, Outcome::Failure(Failure::Fault), now_ms);
        }
    }
}

impl<B: Deref<Target = Breaker>> fmt::Debug for Permit<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
