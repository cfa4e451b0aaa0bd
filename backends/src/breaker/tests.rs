//! The life of a breaker, told second by second, and under many threads.

use std::sync::Arc;

use akidb_host::Rng;

use super::*;

const SECOND: u64 = 1_000;

fn settings() -> BreakerSettings {
    BreakerSettings { cooldown_jitter: 0.0, ..BreakerSettings::default() }
}

fn breaker(settings: &BreakerSettings) -> Breaker {
    Breaker::new(settings, 0)
}

fn succeed(breaker: &Breaker, now_ms: u64) -> Settled {
    breaker.try_acquire(now_ms).unwrap().success(now_ms)
}

fn fail(breaker: &Breaker, now_ms: u64) -> Settled {
    breaker.try_acquire(now_ms).unwrap().failure(Failure::Fault, now_ms)
}

fn times(n: u32, mut call: impl FnMut() -> Settled) {
    for _ in 0..n {
        call();
    }
}

/// One that ten failures at second 0 have opened.
fn opened(settings: &BreakerSettings) -> Breaker {
    let breaker = breaker(settings);
    for n in 1..=10 {
        let expected = if n == 10 { Settled::Opened(Reason::ErrorRate) } else { Settled::Counted };
        assert_eq!(fail(&breaker, 0), expected, "failure {n}");
    }
    breaker
}

#[test]
fn it_opens_cools_down_tries_and_closes() {
    let breaker = opened(&settings());
    let refused = breaker.try_acquire(0).unwrap_err();
    assert_eq!((refused.state, refused.reason), (State::Open, Some(Reason::ErrorRate)));
    assert_eq!(refused.retry_in, Duration::from_secs(300));
    assert_eq!(breaker.ready_in(100 * SECOND), Duration::from_secs(200));
    assert!(breaker.try_acquire(300 * SECOND - 1).is_err());
    assert_eq!((breaker.state(), breaker.error_rate(299 * SECOND)), (State::Open, 1.0));
    for n in 1..=10 {
        let permit = breaker.try_acquire(300 * SECOND).unwrap();
        assert!(permit.is_probe());
        assert_eq!(breaker.state(), State::HalfOpen);
        let expected = if n == 10 { Settled::Closed } else { Settled::Counted };
        assert_eq!(permit.success(301 * SECOND), expected, "try {n}");
    }
    let status = breaker.status(301 * SECOND);
    assert_eq!((status.state, status.calls, status.error_rate), (State::Closed, 0, 0.0));
    assert_eq!((status.totals.opened, status.totals.half_opened, status.totals.closed), (1, 1, 1));
    assert!(!breaker.try_acquire(301 * SECOND).unwrap().is_probe());
}

#[test]
fn a_try_that_fails_is_counted_as_opened_again() {
    let breaker = opened(&settings());
    fail(&breaker, 300 * SECOND);
    let totals = breaker.status(300 * SECOND).totals;
    assert_eq!((totals.opened, totals.reopened, totals.half_opened, totals.closed), (2, 1, 1, 0));
}

#[test]
fn fifty_of_a_hundred_is_not_above_a_half_and_fifty_one_is() {
    for (fails, opens) in [(49, false), (50, false), (51, true)] {
        // Failures spread evenly among the successes, in every hundred the same, over ten minutes.
        let breaker = breaker(&settings());
        let mut open_at = None;
        for call in 0..6_000_u64 {
            let now_ms = call * 100;
            let Ok(permit) = breaker.try_acquire(now_ms) else { continue };
            let in_hundred = call % 100;
            let settled = if (in_hundred + 1) * fails / 100 > in_hundred * fails / 100 {
                permit.failure(Failure::Fault, now_ms)
            } else {
                permit.success(now_ms)
            };
            if open_at.is_none() && settled == Settled::Opened(Reason::ErrorRate) {
                open_at = Some((call, breaker.error_rate(now_ms)));
            }
        }
        assert_eq!(open_at.is_some(), opens, "{fails} of 100: {open_at:?}");
        if let Some((call, rate)) = open_at {
            assert!(rate > 0.5 && call < 200, "call {call}, observed {rate}");
        }
    }
}

#[test]
fn below_the_minimum_of_calls_it_never_opens_and_the_call_that_reaches_it_may_be_a_success() {
    let breaker = breaker(&settings());
    for second in 0..9 {
        assert_eq!(fail(&breaker, second * SECOND), Settled::Counted);
    }
    assert_eq!(succeed(&breaker, 9 * SECOND), Settled::Opened(Reason::ErrorRate));
    assert_eq!(breaker.error_rate(9 * SECOND), 0.9);
}

#[test]
fn calls_that_have_left_the_window_count_no_more() {
    let breaker = breaker(&settings());
    times(9, || fail(&breaker, 0));
    assert_eq!(fail(&breaker, 60 * SECOND), Settled::Counted);
    assert_eq!(breaker.status(60 * SECOND).calls, 1);
}

#[test]
fn a_failed_try_opens_it_for_another_cooldown_and_cooldowns_grow_if_they_are_told_to() {
    let grows = BreakerSettings { cooldown_multiplier: 2.0, cooldown_max_secs: 1_000, ..settings() };
    for (settings, cooldowns) in [(settings(), [300, 300, 300, 300]), (grows, [300, 600, 1_000, 1_000])] {
        let breaker = opened(&settings);
        let mut now_ms = 0;
        for cooldown in cooldowns {
            assert_eq!(breaker.ready_in(now_ms), Duration::from_secs(cooldown));
            now_ms += cooldown * SECOND;
            assert_eq!(fail(&breaker, now_ms), Settled::Opened(Reason::ErrorRate));
        }
        now_ms += 2_000 * SECOND;
        times(10, || succeed(&breaker, now_ms));
        times(10, || fail(&breaker, now_ms));
        assert_eq!(breaker.ready_in(now_ms), Duration::from_secs(300), "closing ends the row");
    }
}

#[test]
fn no_more_are_tried_than_it_should_and_a_cancelled_try_gives_its_place_back() {
    let breaker =
        opened(&BreakerSettings { half_open_max_in_flight: 2, half_open_successes: 3, ..settings() });
    let now_ms = 300 * SECOND;
    let first = breaker.try_acquire(now_ms).unwrap();
    let second = breaker.try_acquire(now_ms).unwrap();
    let refused = breaker.try_acquire(now_ms).unwrap_err();
    assert_eq!((refused.state, refused.retry_in), (State::HalfOpen, Duration::from_secs(1)));
    drop(first);
    let third = breaker.try_acquire(now_ms).unwrap();
    assert!(breaker.try_acquire(now_ms).is_err());
    assert_eq!(third.ignore(now_ms), Settled::Counted);
    assert_eq!(second.success(now_ms), Settled::Counted);
    assert_eq!(succeed(&breaker, now_ms), Settled::Counted);
    assert_eq!(succeed(&breaker, now_ms), Settled::Closed);
    let totals = breaker.status(now_ms).totals;
    assert_eq!((totals.successes, totals.cancelled, totals.ignored, totals.refused), (3, 1, 1, 2));
}

#[test]
fn tries_that_never_come_back_do_not_wedge_it() {
    let breaker: &'static Breaker = Box::leak(Box::new(opened(&settings())));
    let mut now_ms = 300 * SECOND;
    // Leaked: neither settled nor dropped, as a bug or a hung task would.
    for _ in 0..10 {
        Box::leak(Box::new(breaker.try_acquire(now_ms).unwrap()));
    }
    now_ms += 59 * SECOND;
    assert!(breaker.try_acquire(now_ms).is_err());
    assert_eq!(breaker.state(), State::HalfOpen);
    now_ms += SECOND;
    assert!(breaker.try_acquire(now_ms).is_err());
    assert_eq!(breaker.state(), State::Open);
    now_ms += 300 * SECOND;
    times(10, || succeed(breaker, now_ms));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_late_result_changes_nothing_and_is_counted_as_late() {
    let breaker = breaker(&settings());
    let (late_failure, late_success) = (breaker.try_acquire(0).unwrap(), breaker.try_acquire(0).unwrap());
    let late_cancel = breaker.try_acquire(0).unwrap();
    times(10, || fail(&breaker, 0));
    let probe = breaker.try_acquire(300 * SECOND).unwrap();
    assert_eq!(late_failure.failure(Failure::Auth, 300 * SECOND), Settled::Late);
    assert_eq!(late_success.success(300 * SECOND), Settled::Late);
    drop(late_cancel);
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(probe.success(300 * SECOND), Settled::Counted);
    let totals = breaker.status(0).totals;
    assert_eq!((totals.late_results, totals.successes, totals.failures, totals.cancelled), (3, 2, 11, 1));
}

#[test]
fn a_call_longer_than_the_window_counts_where_it_ends() {
    let breaker = breaker(&settings());
    let long: Vec<_> = (0..10).map(|_| breaker.try_acquire(0).unwrap()).collect();
    let settled: Vec<_> =
        long.into_iter().map(|permit| permit.failure(Failure::Fault, 600 * SECOND)).collect();
    assert_eq!(settled.last(), Some(&Settled::Opened(Reason::ErrorRate)));
}

#[test]
fn refused_credentials_open_it_at_once_do_not_count_and_are_tried_one_by_one() {
    let breaker = breaker(&settings());
    succeed(&breaker, 0);
    let denied = breaker.try_acquire(0).unwrap().failure(Failure::Auth, 0);
    assert_eq!(denied, Settled::Opened(Reason::Auth));
    assert_eq!((breaker.status(0).reason, breaker.error_rate(0)), (Some(Reason::Auth), 0.0));
    // An hour of wrong keys under a call a second: one goes out each interval.
    let mut sent = 0;
    for second in 0..3_600 {
        if let Ok(permit) = breaker.try_acquire(second * SECOND) {
            sent += 1;
            assert_eq!(breaker.try_acquire(second * SECOND).unwrap_err().reason, Some(Reason::Auth));
            permit.failure(Failure::Auth, second * SECOND);
        }
    }
    assert_eq!(sent, 11);
    times(10, || succeed(&breaker, 4_000 * SECOND));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn operators_can_hold_it_open_hold_it_closed_switch_it_off_and_reset_it() {
    let breaker = breaker(&settings());
    breaker.force_open();
    assert_eq!(breaker.try_acquire(u64::MAX / 2).unwrap_err().reason, Some(Reason::Forced));
    breaker.force_closed();
    times(100, || fail(&breaker, 0));
    let status = breaker.status(0);
    assert_eq!((status.state, status.is_bypassed, status.calls), (State::Closed, true, 100));
    assert_eq!(breaker.try_acquire(0).unwrap().failure(Failure::Auth, 0), Settled::Counted);
    breaker.disable();
    times(100, || fail(&breaker, 0));
    assert_eq!((breaker.status(0).calls, breaker.status(0).totals.failures), (0, 201));
    breaker.reset();
    assert!(!breaker.status(0).is_bypassed);
    times(10, || fail(&breaker, 0));
    assert_eq!(breaker.state(), State::Open);
    breaker.reset();
    assert_eq!((breaker.state(), breaker.status(0).calls), (State::Closed, 0));
}

#[test]
fn slow_calls_open_it_only_if_it_is_told_so() {
    let slow = BreakerSettings { slow_call_duration_secs: Some(2.0), slow_call_threshold: 0.5, ..settings() };
    for (settings, opens) in [(settings(), false), (slow, true)] {
        let breaker = breaker(&settings);
        for call in 0..20 {
            if let Ok(permit) = breaker.try_acquire(call * SECOND) {
                permit.success(call * SECOND + if call % 5 == 0 { 1_999 } else { 2_001 });
            }
        }
        let reason = breaker.status(20 * SECOND).reason;
        assert_eq!(reason, opens.then_some(Reason::Slow));
    }
}

#[test]
fn an_adaptive_threshold_bears_what_is_usual_and_still_opens_for_an_outage() {
    let adaptive = BreakerSettings { adaptive: true, failure_threshold: 0.2, ..settings() };
    let plain = BreakerSettings { failure_threshold: 0.2, ..settings() };
    for (settings, opens) in [(plain, true), (adaptive, false)] {
        let breaker = breaker(&settings);
        // A backend that gets a little worse over an hour, up to a quarter of all calls.
        let mut rng = Rng::seeded(1);
        for second in 0..3_600_u64 {
            for _ in 0..20 {
                let Ok(permit) = breaker.try_acquire(second * SECOND) else { break };
                if rng.below(4_000) < second * 1_000 / 3_600 {
                    permit.failure(Failure::Fault, second * SECOND);
                } else {
                    permit.success(second * SECOND);
                }
            }
        }
        assert_eq!(breaker.status(0).totals.opened > 0, opens);
        if !opens {
            let now_ms = 3_600 * SECOND;
            for call in 0..120 * 20 {
                if let Ok(permit) = breaker.try_acquire(now_ms + call * 50) {
                    permit.failure(Failure::Fault, now_ms + call * 50);
                }
            }
            assert_eq!(breaker.state(), State::Open, "everything fails");
        }
    }
}

#[test]
fn a_permit_dropped_by_a_panic_is_a_failure() {
    let breaker = Arc::new(breaker(&settings()));
    let shared = Arc::clone(&breaker);
    let panicked = std::panic::catch_unwind(move || {
        let _permit = Permit::acquire(Arc::clone(&shared), 0).unwrap();
        panic!("a call that panics");
    });
    assert!(panicked.is_err());
    let totals = breaker.status(0).totals;
    assert_eq!((totals.failures, totals.cancelled, breaker.status(0).calls), (1, 0, 1));
}

#[test]
fn it_stays_as_small_as_it_is_whatever_the_rate() {
    let size = size_of::<Breaker>();
    println!("{size} bytes a breaker");
    assert!(size <= 1_228, "{size} bytes");
    let breaker = breaker(&settings());
    times(2_000_000, || succeed(&breaker, 0));
    assert_eq!(breaker.status(0).calls, (1 << 20) - 1, "a full bucket counts no further");
}

#[test]
fn threads_that_settle_in_every_way_lose_no_permit() {
    const SEED: u64 = 11;
    println!("seed {SEED}");
    let quick = BreakerSettings { cooldown_duration_secs: 1, ..BreakerSettings::default() };
    let breaker = Breaker::new(&quick, SEED);
    let now = AtomicU64::new(0);
    let issued: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let (breaker, now) = (&breaker, &now);
                scope.spawn(move || {
                    let (mut rng, mut issued) = (Rng::seeded(SEED ^ thread), 0);
                    for call in 0..20_000 {
                        // Time passes: a millisecond for each eighth call of all.
                        let now_ms = now.fetch_add(u64::from(call % 8 == 0), Relaxed);
                        let Ok(permit) = breaker.try_acquire(now_ms) else { continue };
                        issued += 1;
                        match rng.below(8) {
                            0..3 => {
                                permit.success(now_ms);
                            }
                            3..6 => {
                                permit.failure(Failure::Fault, now_ms);
                            }
                            6 => {
                                permit.ignore(now_ms);
                            }
                            _ => drop(permit),
                        }
                        if call % 5_000 == 4_999 {
                            breaker.reset();
                        }
                    }
                    issued
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let totals = breaker.status(now.load(Relaxed)).totals;
    let settled = totals.successes + totals.failures + totals.ignored + totals.cancelled;
    assert_eq!(settled, issued);
    assert_eq!(issued + totals.refused, 8 * 20_000);
    assert!(totals.opened > 2 && totals.half_opened > 0 && totals.refused > 0, "{totals:?}");
}
