//! Async writes that wait for their turn at the pace of flushes: who is woken when, by a thread that does nothing else.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use akidb_host::{Clock, Next, Spawn, Tick, Ticker, panic_text, seeded_bug};

use crate::sync::{Mutex, MutexGuard};

#[cfg(all(akidb_loom, test))]
mod loom_tests;
#[cfg(all(not(akidb_loom), test))]
mod tests;

/// Those that wait. Their thread is started by the first.
#[derive(Debug)]
pub(crate) struct Turns {
    clock: Arc<dyn Clock>,
    spawn: Arc<dyn Spawn>,
    caller: OnceLock<Arc<dyn Ticker>>,
    waiting: Mutex<Waiting>,
}

/// By the moment of their turn, and in the order of their coming.
#[derive(Debug, Default)]
struct Waiting {
    came: u64,
    by_turn: BTreeMap<(Instant, u64), Waker>,
}

impl Turns {
    pub(crate) fn new(clock: Arc<dyn Clock>, spawn: Arc<dyn Spawn>) -> Arc<Self> {
        Arc::new(Self { clock, spawn, caller: OnceLock::new(), waiting: Mutex::default() })
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Waits until `due`, for as long as it `is_held`, holding no thread. Dropping the future leaves nothing behind. Where no
    /// thread can be had it waits for nothing.
    pub(crate) fn wait<'a, F: Fn() -> bool + Unpin>(
        self: &'a Arc<Self>,
        due: Instant,
        is_held: F,
    ) -> Turn<'a, F> {
        Turn { turns: self, due, place: None, is_held }
    }

    /// Lets everyone look again: a bound may have passed.
    pub(crate) fn wake_all(&self) {
        let woken = std::mem::take(&mut self.waiting().by_turn);
        woken.into_values().for_each(wake);
    }

    /// Stops the thread; who still waits is told to look again.
    pub(crate) fn stop(&self) {
        if let Some(caller) = self.caller.get() {
            caller.stop();
        }
        self.wake_all();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }

    /// Wakes whose turn it is at `now`, and says when the next one's is.
    fn call(&self, now: Instant) -> Next {
        let mut waiting = self.waiting();
        let later = waiting.by_turn.split_off(&(now, u64::MAX));
        let called = std::mem::replace(&mut waiting.by_turn, later);
        let next = waiting.by_turn.keys().next().map_or(Next::Idle, |(due, _)| Next::At(*due));
        drop(waiting);
        called.into_values().for_each(wake);
        next
    }

    fn caller(self: &Arc<Self>) -> Option<&Arc<dyn Ticker>> {
        if self.caller.get().is_none() {
            let caller = Box::new(Caller(Arc::downgrade(self)));
            match self.spawn.ticker("akidb-turns", caller, Arc::clone(&self.clock)) {
                // A second one's thread ends at once: its ticker is dropped here.
                Ok(ticker) => drop(self.caller.set(ticker)),
                Err(error) => {
                    tracing::warn!(%error, "no thread: async writes do not keep the pace of flushes")
                }
            }
        }
        self.caller.get()
    }
}

/// Wakers are other people's code, called by threads that others wait for: flushes, the driver, the one that calls turns.
fn wake(waker: Waker) {
    if let Some(panic) = panic_of(waker) {
        tracing::error!(
            panic,
            "the waker of an async write panicked: whoever polls it may not hear of its turn"
        );
    }
}

/// Wakes; the text of its panic, if it did.
fn panic_of(waker: Waker) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| waker.wake())).err()?;
    Some(panic_text(&*panic).to_owned())
}

/// The core of the thread. It holds what it serves weakly: a dropped database ends it.
struct Caller(Weak<Turns>);

impl Tick for Caller {
    fn tick(&mut self, now: Instant) -> Next {
        self.0.upgrade().map_or(Next::Done, |turns| turns.call(now))
    }
}

/// One that waits.
#[derive(Debug)]
pub(crate) struct Turn<'a, F> {
    turns: &'a Arc<Turns>,
    due: Instant,
    /// Its number among those who came, once it waits.
    place: Option<u64>,
    is_held: F,
}

impl<F: Fn() -> bool + Unpin> Future for Turn<'_, F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let turn = &mut *self;
        let is_over = || turn.turns.now() >= turn.due || !(turn.is_held)();
        if is_over() {
            return Poll::Ready(());
        }
        let Some(caller) = turn.turns.caller() else { return Poll::Ready(()) };
        // Wakers are other people's code: none is cloned, woken or dropped under the lock.
        let waker = context.waker().clone();
        let mut waiting = turn.turns.waiting();
        let place = *turn.place.get_or_insert_with(|| {
            waiting.came += 1;
            waiting.came
        });
        let key = (turn.due, place);
        let before = waiting.by_turn.insert(key, waker);
        let is_first = waiting.by_turn.keys().next() == Some(&key);
        drop(waiting);
        drop(before);
        if is_first && !seeded_bug("turn_not_told") {
            caller.wake();
        }
        // What passed before it was among those who are told.
        if is_over() && !seeded_bug("turn_looks_once") { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<F> Drop for Turn<'_, F> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let mut waiting = self.turns.waiting();
            let waker = match seeded_bug("turn_drop_takes_another") {
                false => waiting.by_turn.remove(&(self.due, place)),
                true => waiting.by_turn.pop_first().map(|(_, waker)| waker),
            };
            drop(waiting);
            drop(waker);
        }
    }
}
