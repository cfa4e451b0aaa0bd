//! Many calls at once, half of them given up at random.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;

use akidb_host::Rng;

use super::stores::Slow;
use super::*;

/// Asks again as long as the breaker refuses.
async fn held_out<T, F: Future<Output = Result<T>>>(mut call: impl FnMut() -> F) -> Result<T> {
    loop {
        match call().await {
            Err(error) if crate::classify(&error, Op::Put) == crate::Class::Refused => {
                tokio::task::yield_now().await;
            }
            answer => return answer,
        }
    }
}

/// A put, a get, a list and a delete, dropped after so many polls.
async fn work(store: GuardedStore<Slow>, clock: Arc<FakeClock>, key: Path, polls: u64) -> &'static str {
    let work = async {
        held_out(|| store.put(&key, PutPayload::from_static(b"bytes"))).await?;
        held_out(|| async { store.get(&key).await?.bytes().await }).await?;
        held_out(|| store.list(Some(&key)).try_collect::<Vec<_>>()).await?;
        held_out(|| store.delete(&key)).await
    };
    let mut work = std::pin::pin!(work);
    for _ in 0..polls {
        clock.advance(Duration::from_micros(20));
        match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            Poll::Ready(Ok(())) => return "ok",
            Poll::Ready(Err(_)) => return "failed",
            Poll::Pending => tokio::task::yield_now().await,
        }
    }
    "dropped"
}

#[tokio::test]
async fn chaos_crowd_two_thousand_calls_at_once_half_of_them_given_up_lose_no_permit_and_no_place() {
    for seed in [5, 6, 7] {
        println!("seed {seed}");
        let clock = Arc::<FakeClock>::default();
        let faults = FaultStore::new(Arc::new(InMemory::new()));
        faults.set_seeded(seed, 0.15);
        let quick = BreakerSettings { cooldown_duration_secs: 1, failure_threshold: 0.25, ..breaker() };
        let settings = GuardSettings {
            breaker: Some(quick),
            limiter: LimiterSettings {
                min_in_flight: 64,
                start_in_flight: 128,
                ..LimiterSettings::default()
            },
        };
        let guard =
            Guard::new("t", &settings, Arc::<FakeClock>::clone(&clock), Arc::new(NoSleep::default()), 0);
        let slow = Slow::over(faults);
        let sent = slow.sent();
        let store = GuardedStore::new(slow, Arc::clone(&guard));
        let mut rng = Rng::seeded(seed);
        let calls: Vec<_> = (0..2_000)
            .map(|n| {
                let store = if rng.below(4) == 0 { store.background() } else { store.clone() };
                let polls = if n % 2 == 0 { rng.below(400) } else { u64::MAX };
                tokio::spawn(work(store, Arc::clone(&clock), Path::from(format!("k{n}")), polls))
            })
            .collect();
        let mut ends = BTreeMap::<&str, u64>::new();
        for call in calls {
            *ends.entry(call.await.unwrap()).or_default() += 1;
        }
        let in_flight = guard.in_flight();
        assert_eq!((in_flight.calls, in_flight.bytes, in_flight.waiting), (0, 0, 0));
        let mut sums = [0; 7];
        for kind in CallKind::ALL {
            let t = guard.status(kind).totals;
            let all = [t.successes, t.failures, t.ignored, t.cancelled, t.refused, t.late_results, t.opened];
            sums.iter_mut().zip(all).for_each(|(sum, one)| *sum += one);
        }
        let [ok, failed, ignored, cancelled, refused, late, opened] = sums;
        println!(
            "{ends:?}: issued {} = ok {ok} + failed {failed} + ignored {ignored} + cancelled {cancelled}; refused \
             {refused}, late {late}, opened {opened}",
            sent.load(Ordering::Relaxed)
        );
        // Whoever got a permit reached the store, and nobody else did.
        assert_eq!(ok + failed + ignored + cancelled, sent.load(Ordering::Relaxed));
        assert!(ok > 100 && failed > 10 && cancelled > 10 && refused > 10 && opened > 1);
        assert!(ends.len() == 3 && ends["dropped"] > 100, "{ends:?}");
    }
}
