//! Outages in simulated time: what reaches a backend that is down, half down, locked or overrun.

use super::*;
use crate::class::Class;

/// A call a second for so long; returns what reached the store while its breaker was open at the start of the call.
async fn drive(store: &GuardedStore<FaultStore>, clock: &FakeClock, faults: &FaultStore, secs: u64) -> usize {
    let mut while_open = 0;
    for _ in 0..secs {
        clock.advance(Duration::from_secs(1));
        let is_open = !store.guard().ready_in(CallKind::Upload).is_zero();
        let before = faults.calls().len();
        let _ = put(store, "k").await;
        while_open += if is_open { faults.calls().len() - before } else { 0 };
    }
    while_open
}

#[tokio::test]
async fn chaos_always_fail_an_hour_costs_a_call_a_cooldown_and_ends_by_itself() {
    let (store, clock, faults) = faulty();
    faults.set_dead(Some(Cause::Refused));
    let while_open = drive(&store, &clock, &faults, 3_600).await;
    let totals = store.guard().status(CallKind::Upload).totals;
    println!("sent {} of 3600, while open {while_open}, {totals:?}", faults.calls().len());
    assert_eq!((while_open, faults.calls().len()), (0, 10 + 11));
    faults.set_dead(None);
    assert_eq!(drive(&store, &clock, &faults, 400).await, 0);
    assert_eq!(store.guard().status(CallKind::Upload).state, State::Closed);
}

#[tokio::test]
async fn chaos_share_of_failures_forty_nine_of_each_hundred_never_open_it_and_fifty_one_do() {
    for (fails, opens) in [(49, false), (51, true)] {
        let (store, clock, faults) = faulty();
        faults.set_pattern(Some((fails, Cause::Reset)));
        let mut observed: f64 = 0.0;
        for call in 0..6_000 {
            clock.advance(Duration::from_millis(100));
            let _ = put(&store, "k").await;
            let status = store.guard().status(CallKind::Upload);
            if call >= 100 && status.state == State::Closed {
                observed = observed.max(status.error_rate);
            }
        }
        let totals = store.guard().status(CallKind::Upload).totals;
        println!("{fails} of 100: highest observed share while closed {observed}, opened {}", totals.opened);
        assert_eq!(totals.opened > 0, opens);
        assert!(observed <= 0.5, "observed {observed}");
        if !opens {
            assert_eq!((totals.failures, totals.successes), (6_000 * 49 / 100, 6_000 * 51 / 100));
        }
    }
}

#[tokio::test]
async fn chaos_denied_an_hour_of_wrong_keys_costs_a_call_an_interval_and_ends_by_itself() {
    let (store, clock, faults) = faulty();
    faults.set_dead(Some(Cause::Denied));
    assert_eq!(drive(&store, &clock, &faults, 3_600).await, 0);
    assert_eq!(faults.calls().len(), 12, "one, and one an interval of 300 s");
    let status = store.guard().status(CallKind::Upload);
    assert_eq!((status.reason, status.error_rate), (Some(Reason::Auth), 0.0));
    let error = put(&store, "k").await.unwrap_err();
    assert_eq!(crate::classify(&error, Op::Put), Class::Auth);
    faults.set_dead(None);
    assert_eq!(drive(&store, &clock, &faults, 400).await, 0);
    assert_eq!(store.guard().status(CallKind::Upload).state, State::Closed);
}

#[tokio::test]
async fn chaos_flapping_changes_the_breaker_no_oftener_than_cooldowns_allow() {
    let (store, clock, faults) = faulty();
    for second in 0..7_200 {
        faults.set_dead((second % 2 == 0).then_some(Cause::Reset));
        drive(&store, &clock, &faults, 1).await;
    }
    let totals = store.guard().status(CallKind::Upload).totals;
    println!("{totals:?}");
    assert!(totals.opened <= 7_200 / 300 + 1, "{totals:?}");
}

#[tokio::test]
async fn switched_off_it_lets_every_call_through() {
    let faults = FaultStore::new(Arc::new(InMemory::new()));
    faults.set_dead(Some(Cause::Refused));
    let settings = GuardSettings::default();
    let clock: Arc<dyn Clock> = Arc::<FakeClock>::default();
    let guard = Guard::new("t", &settings, clock, Arc::new(NoSleep::default()), 0);
    let store = GuardedStore::new(faults.clone(), guard);
    for _ in 0..100 {
        put(&store, "k").await.unwrap_err();
    }
    assert_eq!(faults.calls().len(), 100);
}
