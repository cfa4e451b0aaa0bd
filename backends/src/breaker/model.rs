//! Loom models of the breaker: `RUSTFLAGS="--cfg akidb_loom" cargo test -p akidb-backends --lib model -- --nocapture`.
//! Each of the bugs in the comments, named by `AKIDB_SEEDED_BUG` in a build with `--cfg seeded_bugs`, must make its model fail.

use loom::sync::{Arc, Mutex};
use loom::thread;

use super::*;
use crate::explored::explore;
use crate::window::Sum;

const COOLDOWN_MS: u64 = 1_000;

/// A window of two buckets of a second each, and no jitter.
fn settings(minimum_calls: u32, half_open_successes: u32) -> BreakerSettings {
    BreakerSettings {
        window_duration_secs: 2,
        cooldown_duration_secs: COOLDOWN_MS / 1_000,
        cooldown_jitter: 0.0,
        minimum_calls,
        half_open_successes,
        ..BreakerSettings::default()
    }
}

fn closed(minimum_calls: u32, half_open_successes: u32) -> Arc<Breaker> {
    Arc::new(Breaker::new(&settings(minimum_calls, half_open_successes), 0))
}

fn permit(breaker: &Arc<Breaker>, now_ms: u64) -> Permit<Arc<Breaker>> {
    Permit::acquire(Arc::clone(breaker), now_ms).unwrap()
}

/// A breaker that one failure has opened.
fn opened(half_open_successes: u32) -> Arc<Breaker> {
    let breaker = closed(1, half_open_successes);
    assert_eq!(permit(&breaker, 0).failure(Failure::Fault, 0), Settled::Opened(Reason::ErrorRate));
    breaker
}

/// Settles a permit in each thread, and in this one, at the time that stands beside it; failures but for the last.
fn settle_all(breaker: &Arc<Breaker>, fails_at_ms: &[u64], succeeds_at_ms: Option<u64>) {
    let mut permits: Vec<_> = fails_at_ms.iter().map(|&at| (permit(breaker, 0), at, true)).collect();
    permits.extend(succeeds_at_ms.map(|at| (permit(breaker, 0), at, false)));
    let settle = |(permit, at, fails): (Permit<Arc<Breaker>>, u64, bool)| match fails {
        true => permit.failure(Failure::Fault, at),
        false => permit.success(at),
    };
    let (here, at, fails) = permits.pop().unwrap();
    let threads: Vec<_> = permits.into_iter().map(|one| thread::spawn(move || settle(one))).collect();
    settle((here, at, fails));
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Bug `breaker_unlimited_probes`.
fn m1_half_open(threads: usize) {
    let breaker = opened(2);
    let ask = |breaker: Arc<Breaker>| Permit::acquire(breaker, COOLDOWN_MS).ok();
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || ask(breaker))
        })
        .collect();
    let mut permits = vec![ask(Arc::clone(&breaker))];
    permits.extend(others.into_iter().map(|thread| thread.join().unwrap()));
    let tried: Vec<_> = permits.into_iter().flatten().collect();
    let count = tried.len();
    let half_opened = breaker.status(COOLDOWN_MS).totals.half_opened;
    for permit in tried {
        permit.ignore(COOLDOWN_MS);
    }
    assert_eq!((count, half_opened), (threads.min(2), 1));
}

#[test]
fn model_m1_half_open_tries_no_more_than_it_should() {
    explore("m1, 2 threads", || m1_half_open(2));
    explore("m1, 3 threads", || m1_half_open(3));
}

#[cfg(akidb_loom_nightly)]
#[test]
fn model_m1_with_four_threads() {
    explore("m1, 4 threads", || m1_half_open(4));
}

/// Bug `breaker_late_result`.
#[test]
fn model_m2_a_result_of_an_older_epoch_changes_nothing() {
    explore("m2", || {
        let breaker = closed(1, 1);
        let late = permit(&breaker, 0);
        permit(&breaker, 0).failure(Failure::Fault, 0);
        let other = Arc::clone(&breaker);
        let heals = thread::spawn(move || permit(&other, COOLDOWN_MS).success(COOLDOWN_MS));
        let settled = late.failure(Failure::Fault, COOLDOWN_MS);
        assert_eq!((settled, heals.join().unwrap()), (Settled::Late, Settled::Closed));
        assert_eq!((breaker.state(), breaker.status(COOLDOWN_MS).calls), (State::Closed, 0));
    });
}

fn m3(minimum_calls: u32, fails_at_ms: &'static [u64], succeeds_at_ms: Option<u64>) -> impl Fn() {
    move || {
        let breaker = closed(minimum_calls, 1);
        settle_all(&breaker, fails_at_ms, succeeds_at_ms);
        assert_eq!((breaker.state(), breaker.status(0).totals.opened), (State::Open, 1));
    }
}

#[test]
fn model_m3_no_trip_is_lost_in_one_bucket() {
    explore("m3, one bucket, 2 threads", m3(2, &[0, 0], None));
    explore("m3, one bucket, 3 threads", m3(3, &[0, 0], Some(0)));
}

/// Bug `breaker_fence_acqrel`: two who count in different buckets and read the other's.
#[test]
fn model_m3_no_trip_is_lost_over_two_buckets() {
    explore("m3, two buckets, 2 threads", m3(2, &[0, 1_000], None));
    explore("m3, two buckets, 3 threads", m3(3, &[0, 1_000], Some(1_000)));
}

/// One took the time before the turn of the ring, the other after.
#[test]
fn model_m3_no_trip_is_lost_by_one_who_took_the_time_early() {
    explore("m3, stale time", m3(2, &[1_000, 2_000], None));
}

#[cfg(akidb_loom_nightly)]
#[test]
fn model_m3_with_four_threads() {
    explore("m3, one bucket, 4 threads", m3(4, &[0, 0, 0], Some(0)));
    explore("m3, two buckets, 4 threads", m3(4, &[0, 1_000, 0], Some(1_000)));
}

/// Bug `breaker_keeps_cancelled`.
#[test]
fn model_m4_a_cancelled_call_gives_its_place_back() {
    explore("m4", || {
        let breaker = opened(1);
        let first = permit(&breaker, COOLDOWN_MS);
        let cancels = thread::spawn(move || drop(first));
        let second = Permit::acquire(Arc::clone(&breaker), COOLDOWN_MS);
        cancels.join().unwrap();
        let last = second.or_else(|_| Permit::acquire(Arc::clone(&breaker), COOLDOWN_MS));
        assert_eq!(last.map(|permit| permit.success(COOLDOWN_MS)), Ok(Settled::Closed));
    });
}

/// Bug `breaker_reset_keeps_epoch`.
#[test]
fn model_m5_a_reset_wins_over_a_trip_and_leaves_an_empty_window() {
    explore("m5", || {
        let breaker = closed(2, 1);
        permit(&breaker, 0).failure(Failure::Fault, 0);
        let last = permit(&breaker, 0);
        let other = Arc::clone(&breaker);
        let resets = thread::spawn(move || other.reset());
        last.failure(Failure::Fault, 0);
        resets.join().unwrap();
        assert_eq!((breaker.state(), breaker.status(0).calls), (State::Closed, 0));
    });
}

/// Bug `window_mixes_epochs`.
#[test]
fn model_m6_a_bucket_never_mixes_turns_or_epochs() {
    explore("m6, turns", || {
        let window = Arc::new(Window::new(2_000));
        window.count(0, 1, true, || true).unwrap();
        let (first, second) = (Arc::clone(&window), Arc::clone(&window));
        let good = thread::spawn(move || first.count(2_000, 1, false, || true).unwrap());
        let bad = thread::spawn(move || second.count(2_000, 1, true, || true).unwrap());
        let seen = window.sum(2_000, 1);
        assert!(seen.failed <= seen.total && seen.total <= 2, "{seen:?}");
        assert!(good.join().unwrap().opened != bad.join().unwrap().opened, "one opens the bucket anew");
        assert_eq!(window.sum(2_000, 1), Sum { total: 2, failed: 1 });
    });
    explore("m6, epochs", || {
        let (window, epoch) = (Arc::new(Window::new(2_000)), Arc::new(AtomicU64::new(1)));
        window.count(0, 1, true, || true).unwrap();
        let (other, now) = (Arc::clone(&window), Arc::clone(&epoch));
        let moves_on = thread::spawn(move || {
            now.store(2, Ordering::Release);
            other.count(0, 2, false, || true).unwrap();
        });
        let counted = window.count(0, 1, true, || epoch.load(Ordering::Acquire) == 1);
        moves_on.join().unwrap();
        let sum = window.sum(0, 2);
        assert_eq!((sum.total, sum.failed), (1, 0), "the older one: {counted:?}");
    });
}

#[test]
fn model_m7_a_failed_and_a_good_try_open_it_once() {
    explore("m7", || {
        let breaker = opened(2);
        let (bad, good) = (permit(&breaker, COOLDOWN_MS), permit(&breaker, COOLDOWN_MS));
        let fails = thread::spawn(move || bad.failure(Failure::Fault, COOLDOWN_MS));
        good.success(COOLDOWN_MS);
        assert_eq!(fails.join().unwrap(), Settled::Opened(Reason::ErrorRate));
        assert_eq!((breaker.state(), breaker.status(COOLDOWN_MS).totals.opened), (State::Open, 2));
    });
}

#[test]
fn model_m8_a_permit_is_settled_once() {
    explore("m8", || {
        let breaker = opened(1);
        let shared = Arc::new(Mutex::new(Some(permit(&breaker, COOLDOWN_MS))));
        let take = |shared: &Mutex<Option<Permit<Arc<Breaker>>>>| shared.lock().unwrap().take();
        let (for_answer, for_deadline) = (Arc::clone(&shared), Arc::clone(&shared));
        let answer = thread::spawn(move || take(&for_answer).map(|permit| permit.success(COOLDOWN_MS)));
        let deadline = thread::spawn(move || {
            take(&for_deadline).map(|permit| permit.failure(Failure::Fault, COOLDOWN_MS))
        });
        drop(take(&shared));
        let _ = (answer.join().unwrap(), deadline.join().unwrap());
        let totals = breaker.status(COOLDOWN_MS).totals;
        // The failure that opened it, and one outcome of the three.
        assert_eq!(totals.successes + totals.failures + totals.cancelled, 2);
        assert_eq!((totals.late_results, totals.ignored), (0, 0));
    });
}
