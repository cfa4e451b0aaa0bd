//! Loom models of the limiter.

use std::future::Future;
use std::task::Context;

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::explored::explore;

fn limiter(start_in_flight: u32) -> Arc<Limiter> {
    Arc::new(Limiter::new(LimiterSettings {
        min_in_flight: 1,
        max_in_flight: 2,
        start_in_flight,
        max_bytes_in_flight: 2,
        ..LimiterSettings::default()
    }))
}

fn enter(limiter: &Arc<Limiter>, bytes: u64) -> Place<Arc<Limiter>> {
    block_on(Entry::new(Arc::clone(limiter), bytes, Share::Foreground))
}

/// Bugs `limiter_wakes_nobody`, where loom sees the deadlock, and `limiter_one_too_many`.
#[test]
fn model_m10_whoever_waits_is_woken() {
    explore("m10, one place", || {
        let limiter = limiter(1);
        let other = Arc::clone(&limiter);
        let goes_alone = |limiter: &Arc<Limiter>| {
            let place = enter(limiter, 1);
            assert_eq!(limiter.in_flight().calls, 1);
            drop(place);
        };
        let thread = thread::spawn(move || goes_alone(&other));
        goes_alone(&limiter);
        thread.join().unwrap();
        assert_eq!(limiter.in_flight().calls, 0);
    });
    explore("m10, a call of all bytes", || {
        let limiter = limiter(2);
        let other = Arc::clone(&limiter);
        let thread = thread::spawn(move || drop(enter(&other, 9)));
        drop(enter(&limiter, 1));
        thread.join().unwrap();
        let left = limiter.in_flight();
        assert_eq!((left.calls, left.bytes, left.waiting), (0, 0, 0));
    });
}

#[test]
fn model_m10_no_call_is_let_in_above_the_limit_while_it_changes() {
    explore("m10, resize", || {
        let limiter = limiter(2);
        let first = enter(&limiter, 1);
        let other = Arc::clone(&limiter);
        let thread = thread::spawn(move || {
            let place = enter(&other, 1);
            // The limit is 2 before the cut and 1 after it, when the first is gone.
            let now = other.in_flight();
            assert!(now.calls <= 2 && now.bytes <= 2, "{now:?}");
            drop(place);
        });
        first.end(Pace::Throttled(None), 0, 1);
        let place = enter(&limiter, 1);
        let now = limiter.in_flight();
        // One more than the limit only if the other came in before the cut.
        assert!(now.calls <= 2, "{now:?}");
        drop(place);
        thread.join().unwrap();
        let left = limiter.in_flight();
        assert_eq!((left.limit, left.calls, left.bytes, left.waiting), (1, 0, 0, 0));
    });
}

#[test]
fn model_m10_a_place_given_to_one_who_left_goes_to_the_next() {
    explore("m10, cancelled wait", || {
        let limiter = limiter(1);
        let first = enter(&limiter, 1);
        let mut leaves = Box::pin(Entry::new(Arc::clone(&limiter), 1, Share::Foreground));
        let waker = Waker::noop();
        assert!(leaves.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        let other = Arc::clone(&limiter);
        let thread = thread::spawn(move || drop(enter(&other, 1)));
        let frees = thread::spawn(move || drop(first));
        drop(leaves);
        thread.join().unwrap();
        frees.join().unwrap();
        let left = limiter.in_flight();
        assert_eq!((left.calls, left.waiting), (0, 0));
    });
}
