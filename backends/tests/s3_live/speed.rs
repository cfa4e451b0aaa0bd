//! What a server beside us bears: printed, not judged.

use akidb_host::Clock;
use futures::stream;

use super::*;

/// Puts a second of small objects, so many at once, through the limiter.
async fn puts_a_second(backend: &Backend, len: usize, at_once: usize, puts: usize) -> f64 {
    let start = RealClock.now();
    let put = |n: usize| {
        let store = Arc::clone(backend.store());
        async move { store.put(&format!("speed/{n}").into(), vec![7; len].into()).await.map(|_| ()) }
    };
    stream::iter((0..puts).map(put)).buffer_unordered(at_once).try_collect::<()>().await.unwrap();
    puts as f64 / RealClock.now().duration_since(start).as_secs_f64()
}

#[tokio::test]
async fn small_objects_are_put_at_this_rate() {
    let _server = SERVER.read().await;
    let backend = akidb_backends::open(&config()).unwrap();
    let backend = backend.guarded(Arc::new(RealClock), Arc::new(TokioSleep), 1);
    for (len, rows) in [(4_096, 2), (65_536, 38)] {
        for at_once in [1, 5, 30] {
            let rate = puts_a_second(&backend, len, at_once, 300).await;
            let (mib, rows) = (rate * len as f64 / f64::from(1 << 20), rate * f64::from(rows));
            // A row: 384 floats and a short payload.
            println!("live: {len} B, {at_once} at once: {rate:.0} puts/s, {rows:.0} rows/s, {mib:.1} MiB/s");
        }
    }
    clean(&backend).await;
}
