//! Async writes that wait for their turn at the pace of flushes: who is woken when, by a thread that does nothing else.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use akidb_host::{Clock, Next, Spawn, Tick, Ticker};

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
        woken.into_values().for_each(Waker::wake);
    }

    /// Stops the thread; who still waits is told to look again.
    pub(crate) fn stop(&self) {
        if let Some(caller) = self.caller.get() {
            caller.stop();
        }
        self.wake_all();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whose turn it is at `now`, and says when the next one's is.
    fn call(&self, now: Instant) -> Next {
        let mut waiting = self.waiting();
        let later = waiting.by_turn.split_off(&(now, u64::MAX));
        let called = std::mem::replace(&mut waiting.by_turn, later);
        let next = waiting.by_turn.keys().next().map_or(Next::Idle, |(due, _)| Next::At(*due));
        drop(waiting);
        called.into_values().for_each(Waker::wake);
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
        let mut waiting = turn.turns.waiting();
        let place = *turn.place.get_or_insert_with(|| {
            waiting.came += 1;
            waiting.came
        });
        let key = (turn.due, place);
        let before = waiting.by_turn.insert(key, context.waker().clone());
        let is_first = waiting.by_turn.keys().next() == Some(&key);
        drop(waiting);
        // Wakers are other people's code: none is woken or dropped under the lock.
        drop(before);
        if is_first {
            caller.wake();
        }
        // What passed before it was among those who are told.
        if is_over() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<F> Drop for Turn<'_, F> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waker = self.turns.waiting().by_turn.remove(&(self.due, place));
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use akidb_host::sim::{FakeClock, InlineSpawn};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct World {
        clock: Arc<FakeClock>,
        spawn: InlineSpawn,
        turns: Arc<Turns>,
        woken: Arc<Woken>,
    }

    impl World {
        fn new() -> Self {
            let (clock, spawn) = (Arc::new(FakeClock::default()), InlineSpawn::default());
            let turns = Turns::new(Arc::<FakeClock>::clone(&clock), Arc::new(spawn.clone()));
            Self { clock, spawn, turns, woken: Arc::default() }
        }

        fn in_millis(&self, millis: u64) -> Instant {
            self.clock.now() + Duration::from_millis(millis)
        }

        fn is_ready<F: Fn() -> bool + Unpin>(&self, turn: &mut Turn<'_, F>) -> bool {
            let waker = Waker::from(Arc::clone(&self.woken));
            Pin::new(turn).poll(&mut Context::from_waker(&waker)).is_ready()
        }

        /// How many were woken after so long.
        fn woken_after(&self, millis: u64) -> usize {
            self.clock.advance(Duration::from_millis(millis));
            self.spawn.run_until_idle(self.clock.now());
            self.woken.0.swap(0, Ordering::Relaxed)
        }
    }

    #[test]
    fn each_is_woken_at_its_turn_whatever_the_order_they_came_in() {
        let world = World::new();
        let held = || true;
        let mut late = world.turns.wait(world.in_millis(30), held);
        let mut early = world.turns.wait(world.in_millis(10), held);
        let mut as_early = world.turns.wait(world.in_millis(10), held);
        for turn in [&mut late, &mut early, &mut as_early] {
            assert!(!world.is_ready(turn));
        }
        assert_eq!((world.woken_after(9), world.woken_after(1)), (0, 2));
        assert!(world.is_ready(&mut early) && world.is_ready(&mut as_early) && !world.is_ready(&mut late));
        assert_eq!(world.woken_after(20), 1);
        assert!(world.is_ready(&mut late));
    }

    #[test]
    fn what_is_held_no_longer_goes_on_when_told_and_what_still_is_waits_on() {
        let world = World::new();
        let is_held = AtomicBool::new(true);
        let mut one = world.turns.wait(world.in_millis(50), || is_held.load(Ordering::Relaxed));
        let mut other = world.turns.wait(world.in_millis(50), || true);
        assert!(!world.is_ready(&mut one) && !world.is_ready(&mut other));
        is_held.store(false, Ordering::Relaxed);
        world.turns.wake_all();
        assert!(world.is_ready(&mut one) && !world.is_ready(&mut other));
        assert_eq!(world.woken.0.swap(0, Ordering::Relaxed), 2);
        assert_eq!(world.woken_after(50), 1, "the other, which waited again");
        assert!(world.is_ready(&mut other));
    }

    #[test]
    fn a_dropped_one_leaves_nothing_and_a_stop_wakes_the_rest() {
        let world = World::new();
        let mut given_up = world.turns.wait(world.in_millis(50), || true);
        let mut stays = world.turns.wait(world.in_millis(90), || true);
        assert!(!world.is_ready(&mut given_up) && !world.is_ready(&mut stays));
        drop(given_up);
        assert_eq!(world.turns.waiting().by_turn.len(), 1);
        world.turns.stop();
        assert_eq!(world.woken_after(0), 1);
        assert!(world.is_ready(&mut world.turns.wait(world.in_millis(0), || true)), "due at once");
    }
}
