//! A gate in front of calls: a test holds them, looks around, and lets them go.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::hook::{Act, Call, Hook};

/// A test that waits longer than this for a call has failed.
const PATIENCE: Duration = Duration::from_secs(60);

type Predicate = Box<dyn Fn(&Call<'_>) -> bool + Send + Sync>;

/// Holds the calls that a predicate accepts, on the threads that make them, from [`Gate::shut`] (or the start)
/// until [`Gate::release`]. Dropping the last handle of a test does not release: its [`Hook`] holds one.
pub struct Gate {
    accepts: Predicate,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    shut: bool,
    /// Calls waiting now.
    held: usize,
    /// Raised by each release: a call held before it goes, even if the gate is shut again at once.
    round: u64,
    answer: Act,
}

impl Gate {
    /// A shut gate for the calls that `accepts` picks.
    #[must_use]
    pub fn new(accepts: impl Fn(&Call<'_>) -> bool + Send + Sync + 'static) -> Arc<Self> {
        let state = State { shut: true, held: 0, round: 0, answer: Act::Go };
        Arc::new(Self { accepts: Box::new(accepts), state: Mutex::new(state), changed: Condvar::new() })
    }

    /// As [`Gate::new`], open at first.
    #[must_use]
    pub fn opened(accepts: impl Fn(&Call<'_>) -> bool + Send + Sync + 'static) -> Arc<Self> {
        let gate = Self::new(accepts);
        gate.release();
        gate
    }

    /// The hook for a [`super::HookFs`].
    #[must_use]
    pub fn hook(self: &Arc<Self>) -> Hook {
        let gate = Arc::clone(self);
        Arc::new(move |call| gate.pass(call))
    }

    /// Holds the call if it is one of this gate's: for hooks put together by hand.
    pub fn pass(&self, call: &Call<'_>) -> Act {
        if !(self.accepts)(call) {
            return Act::Go;
        }
        let mut state = self.lock();
        if !state.shut {
            return Act::Go;
        }
        let round = state.round;
        state.held += 1;
        self.changed.notify_all();
        let state = self
            .changed
            .wait_while(state, |state| state.round == round)
            .unwrap_or_else(PoisonError::into_inner);
        state.answer
    }

    /// Holds calls from now on.
    pub fn shut(&self) {
        self.lock().shut = true;
    }

    /// Lets the held calls go, and all later ones pass.
    pub fn release(&self) {
        self.release_as(Act::Go);
    }

    /// As [`Gate::release`], with `act` as the fate of the calls held now; later ones pass unharmed.
    pub fn release_as(&self, act: Act) {
        let mut state = self.lock();
        state.shut = false;
        state.held = 0;
        state.round += 1;
        state.answer = act;
        self.changed.notify_all();
    }

    /// How many calls are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock().held
    }

    /// Blocks until a call is held.
    ///
    /// # Panics
    /// When none has come after a minute.
    pub fn wait_until_held(&self) {
        self.wait_until_holding(1);
    }

    /// Blocks until `calls` calls are held; panics as [`Gate::wait_until_held`].
    pub fn wait_until_holding(&self, calls: usize) {
        let waited = self.changed.wait_timeout_while(self.lock(), PATIENCE, |state| state.held < calls);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        let held = state.held;
        drop(state);
        assert!(!timeout.timed_out(), "{held} of {calls} expected calls reached the gate in {PATIENCE:?}");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("state", &*self.lock()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
