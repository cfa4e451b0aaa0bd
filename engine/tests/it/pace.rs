//! Writers that are faster than flushes go at their pace before they are stopped. The threads and the clock are the test's own.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use akidb::{Batch, Collection, Db, ErrorKind, Expect, Lsn, Metric, NewRow, Result, Schema, Settings};
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

fn open() -> (Db, Arc<FakeClock>, InlineSpawn) {
    open_on(&CrashDisk::new(1))
}

fn open_on(disk: &CrashDisk) -> (Db, Arc<FakeClock>, InlineSpawn) {
    let (clock, spawn) = (Arc::new(FakeClock::default()), InlineSpawn::default());
    let builder = Db::builder("/db").settings(Settings::from_toml(SETTINGS).unwrap());
    let parts = (Arc::new(disk.clone()), Arc::clone(&clock), Arc::new(spawn.clone()));
    (builder.components(parts.0, parts.1, parts.2).open().unwrap(), clock, spawn)
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
    let (db, clock, spawn) = open();
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
    // ... but neither writes that never wait, nor deletes, nor writes that go elsewhere.
    for n in 0..20 {
        docs.try_upsert(format!("t{n}"), &row(n).vector, json!({})).unwrap();
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

/// A crash found every memtable full. The flush that was under way begins anew, and the first write does not stand for it.
#[test]
fn after_a_crash_with_full_memtables_writes_go_on_at_once() {
    let disk = CrashDisk::new(1);
    let (db, _, _) = open_on(&disk);
    let docs = db.create_collection("docs", Schema::new(DIM, Metric::L2)).unwrap();
    let mut next = 0;
    let mut until_full = |docs: &Collection| {
        let first = next;
        loop {
            let written = docs.upsert_batch(&[row(next)]);
            let Err(refused) = written else {
                next += 1;
                continue;
            };
            assert!(matches!(refused.kind(), ErrorKind::Full { which: "sealed_memtables", .. }), "{refused}");
            return next - first;
        }
    };
    let three = until_full(&docs);
    db.close().unwrap();
    let (db, clock, spawn) = open_on(&disk);
    let docs = db.collection("docs").unwrap();
    assert_eq!(db.recovery().replayed_records, three);
    // One memtable more, and no more than that.
    let more = until_full(&docs);
    assert!((three / 4..three / 2).contains(&more), "{more} beside {three}");
    spawn.run_until_idle(clock.now());
    assert_eq!(db.stats().unwrap().memtable_bytes >> 20, 0, "all full ones are flushed");
    assert_eq!(until_full(&docs).abs_diff(three) * 20 / three, 0, "and then it is as ever");
    assert_eq!(docs.count().unwrap(), three * 2 + more);
    db.close().unwrap();
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

type Write<'a> = Pin<Box<dyn Future<Output = Result<Lsn>> + 'a>>;

/// Async writes of these rows, polled once. Nobody syncs here: one that was appended stays pending too.
fn begun<'a>(docs: &'a Collection, rows: &'a [NewRow], woken: &Arc<Woken>) -> Vec<Write<'a>> {
    let write = |row: &'a NewRow| -> Write<'a> {
        Box::pin(docs.upsert_async(row.id.clone(), &row.vector, json!({})))
    };
    let mut writes: Vec<Write<'a>> = rows.iter().map(write).collect();
    assert_eq!(poll(&mut writes, woken), 0);
    writes
}

/// How many are done; those who are not will say when they are to be polled again.
fn poll(writes: &mut [Write<'_>], woken: &Arc<Woken>) -> usize {
    let waker = Waker::from(Arc::clone(woken));
    let is_done = |write: &mut Write<'_>| match write.as_mut().poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(answer) => answer.is_err(),
        Poll::Pending => false,
    };
    writes.iter_mut().map(is_done).filter(|done| *done).count()
}

/// The number within its epoch of the newest record in the log.
fn appended(db: &Db) -> u64 {
    let lsn = db.stats().unwrap().watermarks.appended;
    lsn.split(':').next_back().unwrap().parse().unwrap()
}

#[test]
fn async_writes_wait_for_their_turn_and_hold_no_thread() {
    let (db, clock, spawn) = open();
    let docs = db.create_collection("docs", Schema::new(DIM, Metric::L2)).unwrap();
    let slowed = || db.stats().unwrap().write_pace.slowed_writes;
    let appended = || appended(&db);
    let mut next = 0;
    write_until(&docs, &mut next, || db.stats().unwrap().memtable_bytes > (2 << 20) + (32 << 10));
    let rows: Vec<NewRow> = (10_000..10_050).map(row).collect();
    let woken = Arc::new(Woken::default());
    // Those before went by the machine's clock, which may be ahead, and are not waited for.
    let pass = || clock.advance(Duration::from_secs(60));
    pass();

    // Together they take too long to be let through at once. They go when their time comes.
    let (before, slowed_before) = (appended(), slowed());
    let mut writes = begun(&docs, &rows, &woken);
    let at_once = appended() - before;
    assert!(at_once < 50);
    poll(&mut writes, &woken);
    assert_eq!((appended() - before, slowed()), (at_once, slowed_before), "asked too early");
    clock.advance(Duration::from_millis(100));
    poll(&mut writes, &woken);
    assert_eq!((appended() - before, slowed() - slowed_before), (50, 50 - at_once));

    // Or when a flush ends, and nobody has to guess when that is.
    drop(writes);
    let before = appended();
    let mut writes = begun(&docs, &rows, &woken);
    let waiting = 50 - (appended() - before);
    assert!(waiting > 0);
    woken.0.store(0, Ordering::Relaxed);
    spawn.run_until_idle(clock.now());
    assert!(woken.0.load(Ordering::Relaxed) as u64 >= waiting);
    poll(&mut writes, &woken);
    assert_eq!(appended() - before, 50);
    drop(writes);
    assert_eq!(db.collection("docs").unwrap().count().unwrap(), next + 50, "each replaced itself");

    db.close().unwrap();
}

#[test]
fn an_async_write_given_up_was_never_written_and_one_that_waits_while_the_database_closes_is_told() {
    // Nothing was flushed before: the pace is the assumed one, not this machine's.
    let (db, clock, _spawn) = open();
    let docs = db.create_collection("docs", Schema::new(DIM, Metric::L2)).unwrap();
    write_until(&docs, &mut 0, || db.stats().unwrap().memtable_bytes > (2 << 20) + (32 << 10));
    clock.advance(Duration::from_secs(60));
    let rows: Vec<NewRow> = (10_000..10_050).map(row).collect();
    let (before, woken) = (appended(&db), Arc::new(Woken::default()));
    let mut writes = begun(&docs, &rows, &woken);
    let waiting = 50 - (appended(&db) - before);
    assert!(waiting > 1);
    drop(writes.pop());
    woken.0.store(0, Ordering::Relaxed);
    db.close().unwrap();
    assert!(woken.0.load(Ordering::Relaxed) as u64 >= waiting - 1);
    assert_eq!(poll(&mut writes, &woken) as u64, waiting - 1, "not one is left");
}

/// A row of about so many bytes of payload beside its vector.
fn long_row(n: u64, payload_bytes: usize) -> NewRow {
    NewRow { payload: json!({ "text": "x".repeat(payload_bytes) }).as_object().unwrap().clone(), ..row(n) }
}

/// For how many milliseconds a write waits for its turn beside two memtables that wait for their flush.
fn millis_of(begin: impl for<'a> Fn(&'a Db, &'a Collection) -> Write<'a>) -> u32 {
    let (db, clock, _spawn) = open();
    let docs = db.create_collection("docs", Schema::new(DIM, Metric::L2)).unwrap();
    let slowed = || db.stats().unwrap().write_pace.slowed_writes;
    write_until(&docs, &mut 0, || db.stats().unwrap().memtable_bytes > (2 << 20) + (32 << 10));
    // Those went by the machine's clock, and are not waited for.
    clock.advance(Duration::from_secs(60));
    let (before, woken) = (slowed(), Arc::new(Woken::default()));
    let mut writes = vec![begin(&db, &docs)];
    for millis in 0..3_000 {
        poll(&mut writes, &woken);
        if slowed() > before {
            return millis;
        }
        clock.advance(Duration::from_millis(1));
    }
    panic!("it was not slowed");
}

#[test]
fn payloads_count_as_vectors_do_before_a_worker_encodes_them() {
    // As many bytes in vectors of 1 KiB as in payloads of ten.
    let vectors: Vec<NewRow> = (0..1_100).map(|n| row(20_000 + n)).collect();
    let payloads: Vec<NewRow> = (0..100).map(|n| long_row(30_000 + n, 10 << 10)).collect();
    let expected = millis_of(|_, docs| Box::pin(docs.upsert_batch_async(vectors.clone())));
    assert!(expected > 20, "1 MiB at less than 32 MiB a second: {expected} ms");
    let alike = |name: &str, millis: u32| {
        assert!(millis.abs_diff(expected) <= expected / 10, "{name}: {millis} ms, of vectors {expected}");
    };
    alike("batch", millis_of(|_, docs| Box::pin(docs.upsert_batch_async(payloads.clone()))));
    let batch = || {
        let mut batch = Batch::new();
        for row in &payloads {
            batch.upsert("docs", row.clone());
        }
        batch
    };
    alike("of several collections", millis_of(|db, _| Box::pin(db.write_async(batch()))));
    let one = long_row(40_000, 1_000 << 10);
    let (vector, payload) = (&one.vector, || json!(one.payload.clone()));
    let absent = Expect::Absent;
    alike(
        "if",
        millis_of(|_, docs| Box::pin(docs.upsert_if_async("new", vector.clone(), payload(), absent))),
    );
    alike("patch", millis_of(|_, docs| Box::pin(docs.update_payload_async("r000000", payload()))));
    alike("payload", millis_of(|_, docs| Box::pin(docs.replace_payload_async("r000000", payload()))));
}
