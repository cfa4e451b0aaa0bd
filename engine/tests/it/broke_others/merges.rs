//! What broke others when they merged what they had written.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akidb::{Metric, NewRow, Schema};
use akidb_host::sim::{Act, CrashDisk, FakeClock};
use akidb_host::{Clock, Fs, RealClock, Rng};
use serde_json::json;

use super::open;
use crate::history::{self, Watched, after, found, reopened, segment_files};
use crate::support::{in_dir, until};

/// zvec#594: `optimize()` right after the recovery from a crash discarded the rows that were replayed.
#[test]
fn zvec_594_a_merge_right_after_a_crash_keeps_what_was_replayed() {
    let world = Watched::new(594, |_, _, _| Act::Go);
    let db = open(&world.fs, "compaction = false");
    let rows = db.create_collection("rows", history::schema()).unwrap();
    for part in 0..3 {
        world.write(&rows, part * 20..(part + 1) * 20);
        db.flush().unwrap();
    }
    // Only in the log: new versions of rows in segments, and deletes of them.
    world.write(&rows, 60..90);
    let crashed = world.disk.power_cut_keeping(0, &mut Rng::seeded(594));
    let (db, rows) = reopened(&crashed);
    assert!(db.recovery().replayed_records >= 30);
    assert!(db.compact().unwrap() >= 1);
    assert_eq!(found(&rows), after(90), "right after the merge");
    drop((rows, db));
    let (db, rows) = reopened(&crashed.power_cut_keeping(0, &mut Rng::seeded(595)));
    assert_eq!(found(&rows), after(90), "after another crash");
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!(found(&rows), after(90), "after the next flush and merge");
}

/// chroma#5476: a crash after the new fragment and before the manifest that names it made the compactor fail and begin
/// again for ever. Here the file is removed by the next open, one merge succeeds, and then nothing is left to merge.
#[test]
fn chroma_5476_a_crash_between_a_merged_file_and_its_manifest_does_not_loop_the_compactor() {
    let (merging, crash) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let (armed, taken) = (Arc::clone(&merging), Arc::clone(&crash));
    let world = Watched::new(5476, move |call, _, disk| {
        let is_commit = call.op.changes() && in_dir(call.path, "manifest");
        if is_commit && armed.swap(false, Ordering::SeqCst) {
            *taken.lock().unwrap() = Some(disk.kill());
        }
        Act::Go
    });
    let db = open(&world.fs, "compaction = false");
    let rows = db.create_collection("rows", history::schema()).unwrap();
    for part in 0..3 {
        world.write(&rows, part * 20..(part + 1) * 20);
        db.flush().unwrap();
    }
    merging.store(true, Ordering::SeqCst);
    assert_eq!(db.compact().unwrap(), 1);
    let disk = crash.lock().unwrap().take().expect("the merge commits a manifest");
    assert_eq!(segment_files(&disk).len(), 4, "the merged file is there and no manifest names it");
    let db = history::open(Arc::new(disk.clone()), Arc::new(RealClock), "compaction = false").unwrap();
    let rows = db.collection("rows").unwrap();
    until(|| db.stats().unwrap().files_removed == 1);
    assert_eq!(segment_files(&disk).len(), 3);
    assert_eq!((db.compact().unwrap(), db.compact().unwrap()), (1, 0));
    let stats = db.stats().unwrap();
    assert_eq!(
        (stats.collections[0].segments, stats.compaction.runs, stats.compaction.failure),
        (1, 1, None)
    );
    assert_eq!(found(&rows), after(60));
}

/// haiku.rag#554: an `optimize` of a table took 124 GB of memory. Here a merge holds no more rows than its share of
/// `memory_bytes`, however many segments wait. This one shows the bound by counts; `promise_8` measures the memory.
#[test]
fn haiku_rag_554_no_merge_holds_more_rows_than_its_memory_allows() {
    const ROWS: u64 = 400;
    let disk = CrashDisk::new(554);
    let clock: Arc<dyn Clock> = Arc::new(RealClock);
    // A quarter of it for a merge; a row of 32 dimensions takes 112 bytes at least, its codes and its place in the order.
    let (memory, least_row_bytes) = (256u64 << 10, 80);
    let engine = format!("memtable_bytes = 65536\nmemory_bytes = {memory}\ncompaction = false");
    let db = history::open(Arc::new(disk), clock, &engine).unwrap();
    let rows = db.create_collection("rows", history::schema()).unwrap();
    for part in 0..12 {
        let row = |n: u64| NewRow::new(format!("r{n:05}"), vec![n as f32; 32], json!({ "n": n })).unwrap();
        rows.upsert_batch(&(0..ROWS).map(|n| row(n * 12 + part)).collect::<Vec<_>>()).unwrap();
        db.flush().unwrap();
    }
    let merges = db.compact().unwrap();
    let most = memory / 4 / least_row_bytes;
    let (_, explained) = rows.search(&[0.0; 32]).explain().unwrap();
    let sizes: Vec<u64> = explained.parts.iter().map(|part| part.rows).collect();
    println!("{merges} merges, segments of {sizes:?} rows, at most {most}");
    assert!(merges >= 2 && sizes.len() < 12, "it merges all the same");
    assert!(sizes.iter().all(|rows| *rows <= most), "{sizes:?}, {most}");
    assert_eq!((rows.count().unwrap(), sizes.iter().sum::<u64>()), (12 * ROWS, 12 * ROWS));
}

/// xagent#1195: 2,544 rows lay in 22,469 files. Here rows written one by one, with a flush every forty, lie in a few
/// files soon after, with nobody calling for it: segments are merged, and old files and manifests go.
#[test]
fn xagent_1195_rows_written_one_by_one_lie_in_few_files() {
    const ROWS: u32 = 2_544;
    let disk = CrashDisk::new(1195);
    let clock = Arc::new(FakeClock::default());
    let db = history::open(Arc::new(disk.clone()), Arc::clone(&clock) as _, "manifest_keep = 4").unwrap();
    let rows = db.create_collection("rows", Schema::new(8, Metric::L2)).unwrap();
    for n in 0..ROWS {
        let row = NewRow::new(format!("r{n}"), [n as f32; 8], json!({ "n": n })).unwrap();
        let receipt = rows.submit(&[row]).unwrap();
        if n % 40 == 39 || n + 1 == ROWS {
            receipt.wait().unwrap();
            db.flush().unwrap();
        }
    }
    let files = |dir: &str| disk.list(Path::new(dir)).unwrap().len();
    let all = || segment_files(&disk).len() + files("/db/manifest") + files("/db/wal");
    let begun = clock.now();
    while all() > 32 {
        clock.advance(Duration::from_millis(500));
        std::thread::yield_now();
        let passed = clock.now().duration_since(begun);
        assert!(
            passed < Duration::from_secs(1_000_000),
            "{} files: {:?}",
            all(),
            db.stats().unwrap().compaction
        );
    }
    println!("{} files, {:?}", all(), db.stats().unwrap().compaction);
    assert!(db.stats().unwrap().compaction.runs > 0);
    assert_eq!(rows.count().unwrap(), u64::from(ROWS));
}
