//! A backend that is slow, silent, or asks for less.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use object_store::{ObjectStoreExt, PutOptions};

use super::*;
use crate::class::{Class, Op};
use crate::fault::{Cause, Fault};
use crate::retry::classify;

/// Keeps so many puts under way for a while; gives how many were done.
async fn puts_for(rig: &Rig, under_way: usize, time: Duration) -> u64 {
    let (until, done) = (rig.clock.passed() + time, AtomicU64::new(0));
    let worker = |n: usize| {
        let done = &done;
        async move {
            let key = format!("k{n}").into();
            while rig.clock.passed() < until {
                match rig.store().put_opts(&key, "v".into(), PutOptions::default()).await {
                    Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
                    Err(_) => pass(Duration::from_millis(100)).await,
                }
            }
        }
    };
    (0..under_way).map(worker).collect::<FuturesUnordered<_>>().collect::<()>().await;
    done.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn chaos_latency_spike_shrinks_the_limit_opens_a_slow_call_breaker_and_leaves_reads_alone() {
    for trips in [false, true] {
        let slow_call_duration_secs = trips.then_some(2.0);
        let breaker = BreakerSettings { slow_call_duration_secs, slow_call_threshold: 0.5, ..exact() };
        let rig = rig(breaker, 1);
        rig.faults.set_latency(Arc::new(TokioSleep), Duration::from_millis(50));
        let before = puts_for(&rig, 200, Duration::from_secs(20)).await;
        let wide = rig.guard().in_flight().limit;
        rig.faults.set_latency(Arc::new(TokioSleep), Duration::from_secs(5));
        puts_for(&rig, 200, Duration::from_secs(40)).await;
        let narrow = rig.guard().in_flight().limit;
        println!("limit {wide} at 50 ms ({before} puts in 20 s), {narrow} at 5 s; trips: {trips}");
        assert!(wide >= 100 && narrow <= wide / 2, "{wide} -> {narrow}");
        assert_eq!(rig.guard().status(CallKind::Upload).totals.opened > 0, trips);
        rig.faults.set_latency(Arc::new(TokioSleep), Duration::from_millis(50));
        rig.store().get(&"k0".into()).await.unwrap();
        assert_eq!(rig.state(CallKind::Download), State::Closed);
        let slow = puts_for(&rig, 200, Duration::from_secs(if trips { 400 } else { 60 })).await;
        assert!(slow > 0 && rig.guard().in_flight().limit > narrow);
        assert_eq!(rig.state(CallKind::Upload), State::Closed);
        rig.assert_all_given_back();
    }
}

#[tokio::test(start_paused = true)]
async fn chaos_slow_down_is_no_fault_and_the_rate_is_back_within_a_minute() {
    let rig = rig(exact(), 2);
    rig.faults.set_latency(Arc::new(TokioSleep), Duration::from_millis(50));
    let before = puts_for(&rig, 200, Duration::from_secs(30)).await;
    // A third of the answers ask for less, and some say for how long.
    rig.faults.set_pattern(Some((30, Cause::SLOW_DOWN)));
    rig.faults.script(Op::Put, "k", 0, Fault::Fail(Cause::Status(503, Some(Duration::from_secs(7)))));
    puts_for(&rig, 200, Duration::from_secs(30)).await;
    let narrow = rig.guard().in_flight().limit;
    let totals = rig.guard().status(CallKind::Upload).totals;
    assert_eq!((totals.failures, totals.opened), (0, 0), "throttling is no fault");
    rig.faults.set_pattern(None);
    puts_for(&rig, 200, Duration::from_secs(30)).await;
    let after = puts_for(&rig, 200, Duration::from_secs(30)).await;
    println!(
        "{before} puts in 30 s before; limit {narrow} while throttled; {after} in the second half of the minute after"
    );
    assert!(narrow <= 20 && after * 10 >= before * 9, "{before} {narrow} {after}");
    rig.assert_all_given_back();
}

#[tokio::test(start_paused = true)]
async fn chaos_hang_ends_at_its_deadline_gives_its_place_back_and_does_not_wedge_the_tries() {
    let rig = rig(exact(), 3);
    let key = "k".into();
    let put = || rig.store().put_opts(&key, "v".into(), PutOptions::default());
    for _ in 0..10 {
        rig.faults.script(Op::Put, "k", 0, Fault::Hang);
    }
    let start = rig.clock.passed();
    let answers = futures::future::join_all((0..10).map(|_| put())).await;
    assert_eq!((rig.clock.passed() - start).as_secs(), 5, "5 s for so few bytes");
    for answer in &answers {
        assert_eq!(classify(answer.as_ref().unwrap_err(), Op::Put), Class::Timeout);
    }
    assert_eq!(rig.state(CallKind::Upload), State::Open, "ten of ten were not answered");
    // Every try of the next round hangs too: it opens again instead of waiting for ever.
    pass(Duration::from_secs(300)).await;
    for _ in 0..10 {
        rig.faults.script(Op::Put, "k", 0, Fault::Hang);
    }
    futures::future::join_all((0..10).map(|_| put())).await;
    assert_eq!(rig.state(CallKind::Upload), State::Open);
    rig.assert_all_given_back();
    pass(Duration::from_secs(301)).await;
    for _ in 0..10 {
        put().await.unwrap();
    }
    assert_eq!(rig.state(CallKind::Upload), State::Closed);
}
