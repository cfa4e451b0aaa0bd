//! A merge that failed for what may pass is tried again while the database is open. Its threads are the test's own, and its
//! clock is the test's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use akidb::{Db, Metric, Schema, Settings};
use akidb_host::Clock;
use akidb_host::sim::{Act, Call, CrashDisk, EIO, FakeClock, HookFs, InlineSpawn, Op};

use super::{fill_segments, vector};

#[test]
fn a_directory_that_could_not_be_synced_once_ends_no_merges() {
    let to_fail = Arc::new(AtomicU64::new(0));
    let left = Arc::clone(&to_fail);
    let hook = move |call: &Call<'_>| {
        let hits = call.op == Op::SyncDir && call.path.starts_with("/db/collections");
        let fails =
            hits && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if fails { Act::Fail(EIO) } else { Act::Go }
    };
    let (clock, spawn) = (Arc::new(FakeClock::default()), InlineSpawn::default());
    let fs = Arc::new(HookFs::new(Arc::new(CrashDisk::new(5)), Arc::new(hook)));
    let builder = Db::builder("/db").settings(Settings::default());
    let db = builder.components(fs, Arc::clone(&clock) as _, Arc::new(spawn.clone())).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(64, Metric::L2)).unwrap();
    fill_segments(&db, &rows, 4);
    let stats = || db.stats().unwrap();
    assert_eq!(stats().collections[0].segments, 4);
    to_fail.store(1, Ordering::SeqCst);
    spawn.run_until_idle(clock.now());
    assert_eq!(to_fail.load(Ordering::SeqCst), 0, "a merge was begun");
    assert_eq!(stats().collections[0].segments, 4);
    assert!(stats().compaction.failure.is_some_and(|failure| failure.contains("AKI-0514")));
    assert_eq!(stats().poisoned, None);

    for _ in 0..10 {
        clock.advance(Duration::from_secs(1));
        spawn.run_until_idle(clock.now());
    }
    assert_eq!(stats().collections[0].segments, 1);
    assert_eq!(stats().compaction.failure, None);
    assert_eq!(rows.count().unwrap(), 400);
    assert_eq!(rows.get("r0007").unwrap().unwrap().vector, vector(7, 1));
}
