//! Writers that are faster than flushes go at their pace before they are stopped. The threads and the clock are the test's own.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use akidb::{Batch, Collection, Db, ErrorKind, Metric, NewRow, Schema, Settings};
use akidb_host::Clock;
use akidb_host::sim::{CrashDisk, FakeClock, InlineSpawn};
use serde_json::json;

const DIM: u16 = 256;
const SETTINGS: &str =
    "[engine]\nmemtable_bytes = \"1 MiB\"\nwrite_stall_timeout_ms = 0\ncompaction = false\n";

fn row(n: u64) -> NewRow {
    let vector: Vec<f32> = (0..DIM).map(|i| f32::from(i) + n as f32).collect();
    NewRow::new(format!("r{n:06}"), vector, json!({})).unwrap()
}

/// Writes rows from `next` on until `done`, at most 5,000.
fn write_until(docs: &Collection, next: &mut u64, done: impl Fn() -> bool) {
    let end = *next + 5_000;
    while !done() {
        assert!(*next < end, "never");
        docs.upsert_batch(&[row(*next)]).unwrap();
        *next += 1;
    }
}

#[test]
fn writes_are_slowed_while_memtables_wait_and_no_longer_and_some_never_wait() {
    let (clock, spawn) = (Arc::new(FakeClock::default()), InlineSpawn::default());
    let builder = Db::builder("/db").settings(Settings::from_toml(SETTINGS).unwrap());
    let disk = CrashDisk::new(1);
    let parts = (Arc::new(disk), Arc::clone(&clock), Arc::new(spawn.clone()));
    let db = builder.components(parts.0, parts.1, parts.2).open().unwrap();
    let docs = db.create_collection("docs", Schema::new(DIM, Metric::L2)).unwrap();
    let others = db.create_collection("others", Schema::new(DIM, Metric::L2)).unwrap();
    let slowed = || db.stats().unwrap().write_pace.slowed_writes;
    let mut next = 0;

    // Two sealed memtables, as many as may wait: nothing was slowed on the way there.
    write_until(&docs, &mut next, || db.stats().unwrap().memtable_bytes > 2 << 20);
    assert_eq!(slowed(), 0);
    // Here writes are, a few of them together for no less than a thread can sleep ...
    write_until(&docs, &mut next, || slowed() > 5);
    // ... a batch once, whatever its collections ...
    let before = slowed();
    let mut batch = Batch::new();
    for n in 0..20 {
        batch.upsert("docs", row(200_000 + n));
        batch.upsert("others", row(n));
    }
    db.write(&batch).unwrap();
    assert_eq!(slowed(), before + 1);
    // ... but neither writes that never wait, nor those of async callers, whose threads are few, nor deletes, nor writes that go
    // elsewhere.
    for n in 0..20 {
        docs.try_upsert(format!("t{n}"), &row(n).vector, json!({})).unwrap();
        // Appended by its first poll; nobody syncs here.
        let vector = row(n).vector;
        let mut appended = pin!(docs.upsert_async(format!("a{n}"), &vector, json!({})));
        let _ = appended.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        docs.delete(format!("t{n}")).unwrap();
        others.upsert(format!("o{n}"), &row(n).vector, json!({})).unwrap();
    }
    assert_eq!(slowed(), before + 1);
    // And at last they are stopped: the pace is no promise.
    let refused = (0..5_000).find_map(|n| docs.upsert_batch(&[row(100_000 + n)]).err()).unwrap();
    assert!(matches!(refused.kind(), ErrorKind::Full { which: "sealed_memtables", .. }), "{refused}");

    spawn.run_until_idle(clock.now());
    let pace = db.stats().unwrap().write_pace;
    assert!(pace.flush_bytes_per_sec > 0, "{pace:?}");
    let before = slowed();
    for _ in 0..20 {
        docs.upsert_batch(&[row(next)]).unwrap();
        next += 1;
    }
    assert_eq!(slowed(), before, "nothing waits for a flush any more");
    db.close().unwrap();
}
