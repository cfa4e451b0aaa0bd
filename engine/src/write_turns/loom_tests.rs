//! Loom models of turns, on the type that ships: whoever waits is called at its turn, or when nothing holds it any more, whoever
//! else comes, goes or ends meanwhile. Who is never called waits for ever, and the model says so.

use std::pin::pin;
use std::task::Wake;
use std::time::Duration;

use akidb_host::{Job, RealClock};
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::*;
use crate::loom_tests::explore;

/// A clock that is set.
#[derive(Debug)]
struct ModelClock {
    start: Instant,
    millis: AtomicU64,
}

impl ModelClock {
    fn in_millis(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn pass_to(&self, at: Instant) {
        let millis = u64::try_from(at.duration_since(self.start).as_millis()).unwrap();
        self.millis.fetch_max(millis, Ordering::AcqRel);
    }
}

impl Clock for ModelClock {
    fn now(&self) -> Instant {
        self.in_millis(self.millis.load(Ordering::Acquire))
    }

    fn unix_micros(&self) -> i64 {
        0
    }
}

/// Threads whose sleep ends at once, at the moment it was to end at: time passes with them alone. Or it does not pass at all,
/// and they sleep until they are woken.
#[derive(Debug)]
struct ModelSpawn {
    clock: Arc<ModelClock>,
    time_passes: bool,
}

#[derive(Debug)]
struct ModelTicker(Arc<Bell>);

#[derive(Debug, Default)]
struct Bell {
    /// Whether to tick, and whether to stop.
    rung: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self, stop: bool) {
        let mut rung = self.rung.lock().unwrap();
        *rung = (true, rung.1 | stop);
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !rung.0 {
            rung = self.changed.wait(rung).unwrap();
        }
    }

    /// Whether to go on.
    fn answer(&self) -> bool {
        let mut rung = self.rung.lock().unwrap();
        rung.0 = false;
        !rung.1
    }
}

impl Ticker for ModelTicker {
    fn wake(&self) {
        self.0.ring(false);
    }

    fn stop(&self) {
        self.0.ring(true);
    }
}

impl Drop for ModelTicker {
    fn drop(&mut self) {
        self.0.ring(true);
    }
}

impl Spawn for ModelSpawn {
    fn job(&self, _: &str, _: Box<dyn FnOnce() + Send>) -> std::io::Result<Box<dyn Job>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn ticker(
        &self,
        _: &str,
        mut core: Box<dyn Tick>,
        _: Arc<dyn Clock>,
    ) -> std::io::Result<Arc<dyn Ticker>> {
        let (bell, clock, time_passes) = (Arc::<Bell>::default(), Arc::clone(&self.clock), self.time_passes);
        let inside = Arc::clone(&bell);
        thread::spawn(move || {
            while inside.answer() {
                match core.tick(clock.now()) {
                    Next::At(due) if time_passes => clock.pass_to(due),
                    Next::At(_) | Next::Idle => inside.wait(),
                    Next::Done => return,
                }
            }
        });
        Ok(Arc::new(ModelTicker(bell)))
    }
}

fn turns(time_passes: bool) -> (Arc<Turns>, Arc<ModelClock>) {
    let clock = Arc::new(ModelClock { start: RealClock.now(), millis: AtomicU64::new(0) });
    let spawn = ModelSpawn { clock: Arc::clone(&clock), time_passes };
    (Turns::new(Arc::<ModelClock>::clone(&clock), Arc::new(spawn)), clock)
}

/// What a thread that waits for a future waits at.
#[derive(Default)]
struct Signal(Bell);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.0.ring(false);
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let (signal, mut future) = (Arc::new(Signal::default()), pin!(future));
    let waker = Waker::from(Arc::clone(&signal));
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        signal.0.wait();
        signal.0.answer();
    }
}

/// Polls once, and then gives up.
fn give_up(turn: Turn<'_, impl Fn() -> bool + Unpin>) {
    let waker = Waker::from(Arc::new(Signal::default()));
    let _ = pin!(turn).poll(&mut Context::from_waker(&waker));
}

/// Two that wait, the first of whom starts the thread: each is called at its turn, in whatever order they came.
#[test]
fn loom_turn_is_called_at_its_time() {
    explore("loom_turn_is_called_at_its_time", Some(2), || {
        let (turns, clock) = turns(true);
        let other = Arc::clone(&turns);
        let due = clock.in_millis(10);
        let sooner = thread::spawn(move || {
            block_on(other.wait(due, || true));
            assert!(other.now() >= due);
        });
        let later = clock.in_millis(20);
        block_on(turns.wait(later, || true));
        assert!(turns.now() >= later);
        sooner.join().unwrap();
        assert!(turns.waiting().by_turn.is_empty());
    });
}

/// What held it passes while it comes: it hears of it, or sees it.
#[test]
fn loom_turn_is_called_when_nothing_holds_it() {
    explore("loom_turn_is_called_when_nothing_holds_it", Some(3), || {
        let (turns, clock) = turns(false);
        let is_held = Arc::new(AtomicBool::new(true));
        let (other, held, due) = (Arc::clone(&turns), Arc::clone(&is_held), clock.in_millis(10));
        let waits = thread::spawn(move || block_on(other.wait(due, || held.load(Ordering::Acquire))));
        is_held.store(false, Ordering::Release);
        turns.wake_all();
        waits.join().unwrap();
        assert!(turns.waiting().by_turn.is_empty());
    });
}

/// One that gives up, called or not, leaves nothing behind and takes nobody's turn along.
#[test]
fn loom_turn_given_up_is_nobody_elses() {
    explore("loom_turn_given_up_is_nobody_elses", Some(2), || {
        let (turns, clock) = turns(true);
        let (other, due) = (Arc::clone(&turns), clock.in_millis(10));
        let gives_up = thread::spawn(move || give_up(other.wait(due, || true)));
        block_on(turns.wait(clock.in_millis(20), || true));
        gives_up.join().unwrap();
        assert!(turns.waiting().by_turn.is_empty());
    });
}

/// The database closes while one comes to wait: it goes on, and the thread ends.
#[test]
fn loom_turn_ends_with_its_database() {
    explore("loom_turn_ends_with_its_database", Some(2), || {
        let (turns, clock) = turns(false);
        let is_open = Arc::new(AtomicBool::new(true));
        let (other, open, due) = (Arc::clone(&turns), Arc::clone(&is_open), clock.in_millis(10));
        let waits = thread::spawn(move || block_on(other.wait(due, || open.load(Ordering::Acquire))));
        is_open.store(false, Ordering::Release);
        turns.stop();
        waits.join().unwrap();
    });
}
