//! The limiter step by step: what gets in, in which order, and how the limit moves.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use super::*;

fn limiter() -> Limiter {
    Limiter::new(LimiterSettings { start_in_flight: 4, max_in_flight: 8, ..LimiterSettings::default() })
}

/// A place, if there is one at once.
fn try_enter(
    limiter: &Limiter,
    bytes: u64,
    share: Share,
) -> Result<Place<&Limiter>, Pin<Box<Entry<&Limiter>>>> {
    let mut entry = Box::pin(Entry::new(limiter, bytes, share));
    match look(&mut entry) {
        Some(place) => Ok(place),
        None => Err(entry),
    }
}

fn look<'a>(entry: &mut Pin<Box<Entry<&'a Limiter>>>) -> Option<Place<&'a Limiter>> {
    match entry.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(place) => Some(place),
        std::task::Poll::Pending => None,
    }
}

fn enter(limiter: &Limiter, bytes: u64) -> Place<&Limiter> {
    try_enter(limiter, bytes, Share::Foreground).unwrap()
}

#[test]
fn no_more_calls_than_the_limit_and_those_who_wait_get_in_in_order() {
    let limiter = limiter();
    let mut places: Vec<_> = (0..4).map(|_| enter(&limiter, 1)).collect();
    let mut first = try_enter(&limiter, 1, Share::Foreground).unwrap_err();
    let mut second = try_enter(&limiter, 1, Share::Foreground).unwrap_err();
    assert_eq!(limiter.in_flight(), InFlight { limit: 4, calls: 4, bytes: 4, waiting: 2 });
    places.pop();
    assert!(look(&mut second).is_none());
    let place = look(&mut first).unwrap();
    drop(place);
    assert!(look(&mut second).is_some());
}

#[test]
fn one_who_leaves_the_queue_gives_up_what_was_his() {
    let limiter = limiter();
    let mut places: Vec<_> = (0..4).map(|_| enter(&limiter, 1)).collect();
    let first = try_enter(&limiter, 1, Share::Foreground).unwrap_err();
    let mut second = try_enter(&limiter, 1, Share::Foreground).unwrap_err();
    let third = try_enter(&limiter, 1, Share::Foreground).unwrap_err();
    // Given a place that he never looked at.
    places.pop();
    drop(first);
    // Still in the queue.
    drop(third);
    assert!(look(&mut second).is_some());
    drop((places, second));
    assert_eq!((limiter.in_flight().calls, limiter.in_flight().waiting), (0, 0));
}

#[test]
fn bytes_are_bounded_and_a_call_larger_than_all_goes_alone() {
    let limiter = limiter();
    let large = enter(&limiter, 200 << 20);
    let mut larger = try_enter(&limiter, 1 << 40, Share::Foreground).unwrap_err();
    assert!(try_enter(&limiter, 1, Share::Foreground).is_err(), "nobody overtakes");
    assert!(try_enter(&limiter, 1, Share::Background).is_err());
    drop(large);
    let larger = look(&mut larger).unwrap();
    assert_eq!(limiter.in_flight().bytes, 256 << 20);
    assert!(try_enter(&limiter, 1, Share::Foreground).is_err());
    drop(larger);
    assert_eq!(limiter.in_flight().bytes, 0);
}

#[test]
fn work_in_the_background_has_a_quarter_of_the_places() {
    let limiter = Limiter::new(LimiterSettings::default());
    let background: Vec<_> = (0..4).map(|_| try_enter(&limiter, 1, Share::Background).unwrap()).collect();
    let mut fifth = try_enter(&limiter, 1, Share::Background).unwrap_err();
    let foreground: Vec<_> = (0..12).map(|_| enter(&limiter, 1)).collect();
    assert!(try_enter(&limiter, 1, Share::Foreground).is_err());
    drop(foreground);
    assert!(look(&mut fifth).is_none());
    drop(background);
    assert!(look(&mut fifth).is_some());
}

#[test]
fn the_limit_rises_while_it_is_in_use_and_not_otherwise() {
    let limiter = limiter();
    for call in 0..100 {
        enter(&limiter, 1).end(Pace::Well, call, call);
    }
    assert_eq!(limiter.in_flight().limit, 4);
    for call in 0..100 {
        let all: Vec<_> = (0..limiter.in_flight().limit).map(|_| enter(&limiter, 1)).collect();
        all.into_iter().for_each(|place| place.end(Pace::Well, call, call));
    }
    assert_eq!(limiter.in_flight().limit, 8);
}

#[test]
fn being_throttled_cuts_it_once_for_calls_sent_together_and_never_below_the_least() {
    let settings = LimiterSettings { start_in_flight: 100, ..LimiterSettings::default() };
    let limiter = Limiter::new(settings);
    let all: Vec<_> = (0..50).map(|_| enter(&limiter, 1)).collect();
    all.into_iter().for_each(|place| place.end(Pace::Throttled(None), 10, 20));
    assert_eq!(limiter.in_flight().limit, 70);
    enter(&limiter, 1).end(Pace::Throttled(None), 21, 22);
    assert_eq!(limiter.in_flight().limit, 49);
    for second in 1..100 {
        enter(&limiter, 1).end(Pace::Throttled(None), second * 1_000, second * 1_000);
    }
    assert_eq!(limiter.in_flight().limit, 4);
}

#[test]
fn answers_that_become_slow_cut_it_and_it_recovers() {
    let limiter = Limiter::new(LimiterSettings::default());
    let rounds = |took_ms: u64, rounds: std::ops::Range<u64>| {
        for round in rounds {
            let all: Vec<_> = (0..limiter.in_flight().limit).map(|_| enter(&limiter, 1)).collect();
            let start = round * 10_000;
            all.into_iter().for_each(|place| place.end(Pace::Well, start, start + took_ms));
        }
    };
    rounds(50, 1..30);
    let before = limiter.in_flight().limit;
    rounds(5_000, 30..33);
    let during = limiter.in_flight().limit;
    rounds(50, 33..100);
    let after = limiter.in_flight().limit;
    assert!(before > 24 && during * 2 < before && after > 24, "{before} {during} {after}");
}

#[test]
fn a_backend_that_asks_to_be_left_alone_is() {
    let limiter = limiter();
    enter(&limiter, 1).end(Pace::Throttled(Some(Duration::from_secs(30))), 0, 1_000);
    enter(&limiter, 1).end(Pace::Throttled(Some(Duration::from_secs(5))), 0, 2_000);
    assert_eq!(limiter.quiet_for(1_000), Duration::from_secs(30));
    assert_eq!(limiter.quiet_for(31_000), Duration::ZERO);
}
