//! Who is woken when, by a thread that is stepped and a clock that is set.

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

/// A caller whose waker does not come back.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics, on purpose");
    }
}

#[test]
fn what_a_waker_said_as_it_panicked_is_told() {
    assert_eq!(panic_of(Waker::from(Arc::new(Panics))).as_deref(), Some("a waker that panics, on purpose"));
    assert_eq!(panic_of(Waker::noop().clone()), None);
}

#[test]
fn a_waker_that_panics_takes_nobody_along() {
    let world = World::new();
    let bad = Waker::from(Arc::new(Panics));
    let poll_badly = |turn: &mut Turn<'_, _>| Pin::new(turn).poll(&mut Context::from_waker(&bad)).is_ready();
    let held: fn() -> bool = || true;
    let mut bad_ones = [10, 10, 50].map(|due| world.turns.wait(world.in_millis(due), held));
    let mut good_ones = [10, 20, 50].map(|due| world.turns.wait(world.in_millis(due), held));
    for (bad, good) in bad_ones.iter_mut().zip(&mut good_ones) {
        assert!(!poll_badly(bad) && !world.is_ready(good));
    }
    assert_eq!(world.woken_after(10), 1, "of the same turn, behind two that panicked");
    assert_eq!(world.woken_after(10), 1, "the thread goes on");
    // By whoever tells that a bound has passed.
    world.turns.wake_all();
    assert_eq!(world.woken_after(0), 1);
    assert!(world.is_ready(&mut good_ones[0]) && !world.is_ready(&mut good_ones[2]));
    assert!(!poll_badly(&mut bad_ones[2]));
    world.turns.stop();
    assert_eq!(world.woken_after(0), 1);
    // Who looks again by itself finds its turn.
    assert!(poll_badly(&mut bad_ones[0]));
}
