//! What does a breaker cost a call, and does that stay the same with the rate and with threads?
//!
//! `cargo bench -p akidb-benches --bench breaker`

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use akidb_backends::{Breaker, BreakerSettings, Failure, Settled};
use akidb_benches::{machine, median, timed};
use akidb_host::{Clock, RealClock};
use criterion::Criterion;

const SECOND_MS: u64 = 1_000;
const THREADS: usize = 8;
const PAIRS_A_THREAD: usize = 200_000;

fn breaker() -> Breaker {
    Breaker::new(&BreakerSettings::default(), 1)
}

/// A call that goes well: leave, and its end.
fn pair(breaker: &Breaker, now_ms: u64) {
    if let Ok(permit) = breaker.try_acquire(now_ms) {
        black_box(permit.success(now_ms));
    }
}

fn ms_since(origin: Instant) -> u64 {
    u64::try_from(RealClock.now().duration_since(origin).as_millis()).unwrap_or(u64::MAX)
}

/// Nanoseconds a pair while so many calls go through each window of 60 s.
fn ns_a_pair(calls_a_window: u64) -> f64 {
    const PAIRS: u64 = 1_000_000;
    let breaker = breaker();
    let mut rounds: Vec<f64> = (0..7)
        .map(|round| {
            let took = timed(|| {
                for call in 0..PAIRS {
                    pair(&breaker, (round * PAIRS + call) * 60 * SECOND_MS / calls_a_window);
                }
            });
            took.as_secs_f64() * 1e9 / PAIRS as f64
        })
        .collect();
    median(&mut rounds)
}

/// Nanoseconds of single pairs, clock included, of eight threads at once: half, 99 % and 99.99 % of them took less.
fn percentiles() -> [u64; 3] {
    let (breaker, origin) = (breaker(), RealClock.now());
    let ready = AtomicU64::new(0);
    let mut all: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    ready.fetch_add(1, Ordering::Relaxed);
                    while ready.load(Ordering::Relaxed) < THREADS as u64 {
                        std::hint::spin_loop();
                    }
                    let one = |_| {
                        let took = timed(|| pair(&breaker, ms_since(origin)));
                        u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
                    };
                    (0..PAIRS_A_THREAD).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread of the bench")).collect()
    });
    all.sort_unstable();
    [50_00, 99_00, 99_99].map(|of_10_000| all[all.len() * of_10_000 / 10_000])
}

/// Once round: ten failures open it, the cooldown passes, ten tries close it.
fn cycle(breaker: &Breaker, now_ms: &mut u64) {
    for _ in 0..10 {
        if let Ok(permit) = breaker.try_acquire(*now_ms) {
            black_box(permit.failure(Failure::Fault, *now_ms));
        }
    }
    *now_ms += 400 * SECOND_MS;
    let mut last = Settled::Counted;
    for _ in 0..10 {
        if let Ok(permit) = breaker.try_acquire(*now_ms) {
            last = permit.success(*now_ms);
        }
    }
    assert_eq!(last, Settled::Closed);
}

fn main() {
    println!("{}", machine(&std::env::temp_dir()));
    println!("{} bytes a breaker, at any rate of calls", size_of::<Breaker>());
    for calls in [600, 6_000, 60_000, 1_000_000] {
        println!("{calls:>9} calls a window: {:.1} ns a pair, without the clock", ns_a_pair(calls));
    }
    let [half, p99, p9999] = percentiles();
    println!("{THREADS} threads, clock included: p50 {half} ns, p99 {p99} ns, p99.99 {p9999} ns (aim 2000)");

    let mut criterion = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(3));
    let mut group = criterion.benchmark_group("breaker");
    let (closed, origin) = (breaker(), RealClock.now());
    group.bench_function("pair", |b| b.iter(|| pair(&closed, 0)));
    group.bench_function("pair_with_clock", |b| b.iter(|| pair(&closed, ms_since(origin))));
    group.bench_function("pair_that_fails", |b| {
        let calm = breaker();
        b.iter(|| {
            (0..2).for_each(|_| pair(&calm, 0));
            if let Ok(permit) = calm.try_acquire(0) {
                black_box(permit.failure(Failure::Fault, 0));
            }
        });
    });
    group.bench_function("error_rate", |b| b.iter(|| black_box(closed.error_rate(0))));
    let open = breaker();
    open.force_open();
    group.bench_function("refusal", |b| b.iter(|| black_box(open.try_acquire(0).is_err())));
    let (turning, mut now_ms) = (breaker(), 0);
    group.bench_function("twenty_calls_through_three_transitions", |b| {
        b.iter(|| cycle(&turning, &mut now_ms))
    });
    group.bench_function("transition", |b| {
        b.iter(|| {
            turning.force_open();
            turning.reset();
        });
    });
    group.finish();
    criterion.final_summary();
}
