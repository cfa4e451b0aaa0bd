//! Nothing runs by itself, and what runs does so in an order that repeats.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::InlineSpawn;
use crate::clock::Clock;
use crate::sim::FakeClock;
use crate::spawn::{Job, Next, Spawn, Tick, Ticker, Work};

struct Each<F>(F);

impl<F: FnMut(Instant) -> Next + Send> Tick for Each<F> {
    fn tick(&mut self, now: Instant) -> Next {
        (self.0)(now)
    }
}

type Log = Arc<Mutex<Vec<String>>>;

fn job(spawn: &InlineSpawn, log: &Log, name: &'static str) -> Box<dyn Job> {
    let log = Arc::clone(log);
    spawn.job(name, Box::new(move || log.lock().unwrap().push(name.to_owned()))).unwrap()
}

fn ticker(spawn: &InlineSpawn, tick: impl FnMut(Instant) -> Next + Send + 'static) -> Arc<dyn Ticker> {
    spawn.ticker("loop", Box::new(Each(tick)), Arc::new(FakeClock::default())).unwrap()
}

#[test]
fn nothing_runs_until_it_is_asked_to_and_then_in_the_order_of_arrival() {
    let (spawn, log) = (InlineSpawn::default(), Log::default());
    let jobs = ["a", "b", "c"].map(|name| job(&spawn, &log, name));
    assert!(log.lock().unwrap().is_empty());
    assert!(jobs[1].join(), "a join runs its job alone");
    assert_eq!(*log.lock().unwrap(), ["b"]);
    assert_eq!(spawn.run_until_idle(FakeClock::default().now()), None);
    assert_eq!(*log.lock().unwrap(), ["b", "a", "c"]);
    assert!(jobs.iter().all(|job| job.join()));
    assert_eq!(log.lock().unwrap().len(), 3, "nothing runs twice");
}

#[test]
fn a_loop_ticks_first_at_once_then_at_its_deadline_or_when_woken() {
    let (spawn, clock) = (InlineSpawn::default(), FakeClock::default());
    let ticks = Arc::new(Mutex::new(Vec::new()));
    let inside = Arc::clone(&ticks);
    let running = ticker(&spawn, move |now| {
        inside.lock().unwrap().push(now);
        Next::At(now + Duration::from_secs(10))
    });
    let start = clock.now();
    assert!(ticks.lock().unwrap().is_empty());
    assert_eq!(spawn.run_until_idle(start), Some(start + Duration::from_secs(10)));
    clock.advance(Duration::from_secs(9));
    spawn.run_until_idle(clock.now());
    assert_eq!(ticks.lock().unwrap().len(), 1);
    running.wake();
    running.wake();
    let next = spawn.run_until_idle(clock.now()).unwrap();
    assert_eq!(ticks.lock().unwrap().len(), 2);
    clock.advance_to(next);
    spawn.run_until_idle(clock.now());
    assert_eq!(ticks.lock().unwrap().len(), 3);
    running.stop();
    running.wake();
    assert_eq!(spawn.run_until_idle(next + Duration::from_secs(60)), None);
    assert_eq!(ticks.lock().unwrap().len(), 3);
}

#[test]
fn a_loop_that_wakes_itself_starves_nobody() {
    let (spawn, log) = (InlineSpawn::default(), Log::default());
    let own: Arc<Mutex<Option<Arc<dyn Ticker>>>> = Arc::default();
    let (inside, told) = (Arc::clone(&own), Arc::clone(&log));
    let greedy = ticker(&spawn, move |_| {
        told.lock().unwrap().push("greedy".to_owned());
        if told.lock().unwrap().len() > 6 {
            return Next::Done;
        }
        inside.lock().unwrap().as_ref().unwrap().wake();
        Next::Idle
    });
    *own.lock().unwrap() = Some(greedy);
    let _late = job(&spawn, &log, "late");
    spawn.run_until_idle(FakeClock::default().now());
    assert_eq!(log.lock().unwrap()[1], "late");
    assert_eq!(log.lock().unwrap().len(), 7);
}

#[test]
fn a_core_is_dropped_when_its_loop_stops_ends_or_loses_its_handle() {
    let spawn = InlineSpawn::default();
    let now = FakeClock::default().now();
    let alive = Arc::new(());
    let held = |next| {
        let inside = Arc::clone(&alive);
        ticker(&spawn, move |_| {
            let _keep = &inside;
            next
        })
    };
    let (stopped, dropped, done) = (held(Next::Idle), held(Next::Idle), held(Next::Done));
    spawn.run_until_idle(now);
    assert_eq!(Arc::strong_count(&alive), 3, "the one that is done is gone");
    stopped.stop();
    drop(dropped);
    assert_eq!(Arc::strong_count(&alive), 1);
    done.stop();
}

#[test]
fn a_loop_may_stop_itself_and_a_job_may_start_and_join_another() {
    let (spawn, log) = (InlineSpawn::default(), Log::default());
    let own: Arc<Mutex<Option<Arc<dyn Ticker>>>> = Arc::default();
    let inside = Arc::clone(&own);
    *own.lock().unwrap() = Some(ticker(&spawn, move |now| {
        inside.lock().unwrap().as_ref().unwrap().stop();
        Next::At(now)
    }));
    let (again, told) = (spawn.clone(), Arc::clone(&log));
    let outer = spawn.job("outer", Box::new(move || assert!(job(&again, &told, "inner").join()))).unwrap();
    assert_eq!(spawn.run_until_idle(FakeClock::default().now()), None);
    assert!(outer.join());
    assert_eq!(*log.lock().unwrap(), ["inner"]);
}

#[test]
fn a_job_that_panics_says_so() {
    let spawn = InlineSpawn::default();
    let job = spawn.job("bad", Box::new(|| panic!("on purpose"))).unwrap();
    spawn.run_until_idle(FakeClock::default().now());
    assert!(!job.join());
}

#[test]
#[should_panic(expected = "not idle after")]
fn a_loop_that_is_always_due_is_reported() {
    let spawn = InlineSpawn::default();
    let _loop = ticker(&spawn, Next::At);
    spawn.run_until_idle(FakeClock::default().now());
}

#[test]
fn a_seed_replays_its_order_and_another_gives_another() {
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let order = |seed| {
        let (spawn, log) = (InlineSpawn::shuffled(seed), Log::default());
        let jobs = NAMES.map(|name| job(&spawn, &log, name));
        spawn.run_until_idle(FakeClock::default().now());
        assert!(jobs.iter().all(|job| job.join()));
        log.lock().unwrap().clone()
    };
    assert_eq!(order(1), order(1));
    assert!((2..10).any(|seed| order(seed) != order(1)));
}

/// Work that notes each poll, waits `waits` times for time to pass, and ends.
fn work(clock: &FakeClock, log: &Log, waits: u64) -> Box<dyn FnOnce() -> Work + Send> {
    let (log, timers): (_, Vec<_>) =
        (Arc::clone(log), (1..=waits).map(|n| clock.timer(Duration::from_secs(n)).unwrap()).collect());
    let work = async move {
        for timer in timers {
            log.lock().unwrap().push("waits".to_owned());
            timer.await;
        }
        log.lock().unwrap().push("ends".to_owned());
    };
    Box::new(|| Box::pin(work))
}

#[test]
fn work_goes_on_when_it_is_woken_and_is_never_run_elsewhere() {
    let (spawn, log, clock) = (InlineSpawn::default(), Log::default(), FakeClock::default());
    let elsewhere = Box::new(|_| unreachable!("it is polled here"));
    let job = spawn.work("work", work(&clock, &log, 2), elsewhere).unwrap();
    spawn.run_until_idle(clock.now());
    spawn.run_until_idle(clock.now());
    assert_eq!(*log.lock().unwrap(), ["waits"]);
    clock.advance(Duration::from_secs(1));
    spawn.run_until_idle(clock.now());
    assert_eq!(*log.lock().unwrap(), ["waits", "waits"]);
    clock.advance(Duration::from_secs(1));
    assert!(job.join(), "a join polls it to its end");
    assert_eq!(*log.lock().unwrap(), ["waits", "waits", "ends"]);
    assert!(!spawn.step(clock.now()));
}

#[test]
#[should_panic(expected = "is waited for, and waits")]
fn a_join_of_work_that_nobody_wakes_is_a_mistake() {
    let (spawn, log, clock) = (InlineSpawn::default(), Log::default(), FakeClock::default());
    spawn.work("work", work(&clock, &log, 1), Box::new(drop)).unwrap().join();
}
