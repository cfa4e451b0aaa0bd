//! How many small objects a second go up over a link with 50 ms latency, in simulated time, behind breaker and limiter?
//!
//! `cargo bench -p akidb-benches --bench uploads` (the rates beside a live server: `.ci/run s3` prints them)

use std::sync::Arc;
use std::time::Duration;

use akidb_backends::fault::{FaultStore, VirtualClock};
use akidb_backends::{Backend, TokioSleep};
use akidb_benches::machine;
use akidb_host::Clock;
use criterion::Criterion;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

const LATENCY: Duration = Duration::from_millis(50);
/// A small segment: 38 rows of 384 floats and a short payload.
const OBJECT_LEN_BYTES: usize = 64 << 10;
const ROWS_AN_OBJECT: f64 = 38.0;

/// What was put in some seconds of simulated time, and the limit at their end.
struct Figures {
    puts_a_second: f64,
    limit: u32,
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().expect("a runtime").block_on(work)
}

/// Keeps `at_once` puts under way: for `warm_up` puts first, then measured for `puts` more.
async fn puts(at_once: usize, warm_up: usize, puts: usize) -> Figures {
    let faults = FaultStore::new(Arc::new(InMemory::new()));
    faults.set_latency(Arc::new(TokioSleep), LATENCY);
    let clock = VirtualClock::start();
    let backend = Backend::from_store("simulated", Arc::new(faults));
    let backend = backend.guarded(Arc::new(clock), Arc::new(TokioSleep), 1);
    let body = bytes::Bytes::from(vec![7; OBJECT_LEN_BYTES]);
    let put_all = |from: usize, count: usize| {
        let put = |n: usize| {
            let (store, body): (Arc<dyn ObjectStore>, _) = (Arc::clone(backend.store()), body.clone());
            // Few keys, so that the store in memory stays small.
            async move { store.put(&format!("k/{}", n % 64).into(), body.into()).await.map(|_| ()) }
        };
        stream::iter((from..from + count).map(put)).buffer_unordered(at_once).try_collect::<()>()
    };
    put_all(0, warm_up).await.expect("nothing fails here");
    let start = clock.now();
    put_all(warm_up, puts).await.expect("nothing fails here");
    let took = clock.now().duration_since(start);
    let limit = backend.guard().expect("guarded").in_flight().limit;
    Figures { puts_a_second: puts as f64 / took.as_secs_f64(), limit }
}

fn main() {
    println!("{}", machine());
    println!("a link with 50 ms latency, simulated; objects of 64 KiB with 38 rows; the limit starts at 16");
    for (at_once, warm_up, aim) in [
        (5, 0, "the seed hopes for 600 here; 5 at once over 50 ms are 100"),
        (10, 0, "the seed hopes for 500 here; 10 at once are 200"),
        (256, 0, "from a cold start"),
        (256, 10_000, "goal 1200, the seed's 500 and 600 with it"),
    ] {
        let Figures { puts_a_second, limit } = run(puts(at_once, warm_up, 20_000));
        let (rows, mib) =
            (puts_a_second * ROWS_AN_OBJECT, puts_a_second * OBJECT_LEN_BYTES as f64 / 1_048_576.0);
        println!(
            "{at_once:3} wanted at once after {warm_up} puts: {puts_a_second:.0} puts/s, {rows:.0} rows/s, {mib:.0} MiB/s, \
             limit {limit} ({aim})"
        );
        if warm_up > 0 {
            assert!(puts_a_second >= 1_200.0, "the goal is 1200 puts/s");
        }
    }

    // What the guards cost the machine itself, whatever the link does.
    let mut criterion = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(3));
    criterion
        .bench_function("uploads/a_thousand_puts_of_simulated_time", |b| b.iter(|| run(puts(128, 0, 1_000))));
    criterion.final_summary();
}
