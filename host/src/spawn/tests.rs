//! Real threads: every wake-up is answered, every stop ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Job, Next, RealSpawn, Spawn, Tick, Ticker};
use crate::clock::{Clock, RealClock};

/// A test that waits longer than this has failed.
const LONG: Duration = Duration::from_secs(60);

struct Each<F>(F);

impl<F: FnMut(Instant) -> Next + Send> Tick for Each<F> {
    fn tick(&mut self, now: Instant) -> Next {
        (self.0)(now)
    }
}

fn ticker(tick: impl FnMut(Instant) -> Next + Send + 'static) -> Arc<dyn Ticker> {
    RealSpawn.ticker("loop", Box::new(Each(tick)), Arc::new(RealClock)).unwrap()
}

#[test]
fn a_job_runs_once_on_a_thread_of_its_name() {
    let (sent, got) = mpsc::channel();
    let run = move || sent.send(std::thread::current().name().map(str::to_owned)).unwrap();
    let job = RealSpawn.job("flush-1", Box::new(run)).unwrap();
    assert!(job.join());
    assert!(job.join(), "joining again gives the same answer");
    assert_eq!(got.iter().collect::<Vec<_>>(), [Some("flush-1".to_owned())]);
}

#[test]
fn a_job_that_panics_says_so_to_everyone_who_joins() {
    let job = RealSpawn.job("bad", Box::new(|| panic!("on purpose"))).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert!(!job.join()));
        }
    });
}

#[test]
fn a_job_that_joins_itself_does_not_hang() {
    let (sent, got): (Sender<Box<dyn Job>>, Receiver<_>) = mpsc::channel();
    let (told, heard) = mpsc::channel();
    let run = move || told.send(got.recv().unwrap().join()).unwrap();
    sent.send(RealSpawn.job("self", Box::new(run)).unwrap()).unwrap();
    assert!(heard.recv_timeout(LONG).unwrap());
}

#[test]
fn the_first_tick_comes_at_once_and_the_next_at_its_deadline() {
    let (sent, got) = mpsc::channel();
    let _loop = ticker(move |now| {
        sent.send(now).unwrap();
        Next::At(now + Duration::from_millis(2))
    });
    let first = got.recv_timeout(LONG).unwrap();
    let second = got.recv_timeout(LONG).unwrap();
    assert!(second >= first + Duration::from_millis(2));
}

#[test]
fn a_wake_sent_during_a_tick_causes_another() {
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let running = ticker(move |_| {
        entered.send(()).unwrap();
        match may_leave.recv() {
            Ok(()) => Next::Idle,
            Err(_) => Next::Done,
        }
    });
    has_entered.recv_timeout(LONG).unwrap();
    running.wake();
    leave.send(()).unwrap();
    has_entered.recv_timeout(LONG).unwrap();
    drop(leave);
}

#[test]
fn no_wake_up_is_lost_in_20_000_exchanges() {
    let asked = Arc::new(AtomicU64::new(0));
    let (answer, answers) = mpsc::channel();
    let inside = Arc::clone(&asked);
    let mut last = 0;
    let running = ticker(move |_| {
        let now = inside.load(Ordering::Relaxed);
        if now != last {
            last = now;
            answer.send(now).unwrap();
        }
        Next::Idle
    });
    for n in 1..=20_000 {
        asked.store(n, Ordering::Relaxed);
        running.wake();
        assert_eq!(answers.recv_timeout(LONG), Ok(n), "wake-up {n} was lost");
    }
    running.stop();
}

#[test]
fn stop_waits_for_the_tick_and_drops_the_core() {
    let core = Arc::new(());
    let inside = Arc::clone(&core);
    let (entered, has_entered) = mpsc::channel();
    let running = ticker(move |_| {
        let _keep = &inside;
        let _ = entered.send(());
        Next::Idle
    });
    has_entered.recv_timeout(LONG).unwrap();
    running.stop();
    assert_eq!(Arc::strong_count(&core), 1);
    running.stop();
    running.wake();
}

#[test]
fn stop_interrupts_the_wait_for_a_far_deadline() {
    let running = ticker(|now| Next::At(now + Duration::from_secs(3600)));
    running.stop();
}

#[test]
fn a_loop_may_stop_itself() {
    let own: Arc<Mutex<Option<Arc<dyn Ticker>>>> = Arc::default();
    let inside = Arc::clone(&own);
    let (sent, got) = mpsc::channel();
    let running = ticker(move |_| {
        if let Some(own) = inside.lock().unwrap().take() {
            own.stop();
            sent.send(()).unwrap();
        }
        Next::Idle
    });
    *own.lock().unwrap() = Some(Arc::clone(&running));
    running.wake();
    got.recv_timeout(LONG).unwrap();
    running.stop();
}

#[test]
fn dropping_the_handle_ends_the_loop() {
    let (sent, got) = mpsc::channel::<()>();
    let running = ticker(move |_| {
        let _keep = &sent;
        Next::Idle
    });
    drop(running);
    assert_eq!(got.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn a_loop_that_panics_can_still_be_stopped() {
    let running = ticker(|_| panic!("on purpose"));
    running.stop();
    running.wake();
}

#[test]
fn the_machine_clock_goes_on_and_knows_the_century() {
    let (a, b) = (RealClock.now(), RealClock.now());
    assert!(b >= a);
    assert!(RealClock.unix_micros() > 1_600_000_000_000_000);
}
