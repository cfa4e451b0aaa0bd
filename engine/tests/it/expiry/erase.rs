//! When the bytes of an expired row leave the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akidb_host::sim::{Act, Call, CrashDisk, HookFs, Op};
use akidb_host::{Clock, Fs};

use super::world::{MINUTE, World, payload, put, schema, stored, vector};

const HOUR: u64 = 3_600;

/// All files of collections.
fn files(world: &World) -> Vec<PathBuf> {
    let mut dirs = vec![PathBuf::from("/db/collections")];
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in world.disk.list(&dir).unwrap() {
            let path = dir.join(&entry.name);
            match world.disk.list(&path) {
                Ok(_) => dirs.push(path),
                Err(_) => files.push(path),
            }
        }
    }
    files
}

fn holds(world: &World, file: &Path, vector: &[f32]) -> bool {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let file = world.disk.bytes(file).unwrap();
    file.windows(bytes.len()).any(|window| window == bytes)
}

/// One row of thousands, in a database that is written to a little all the time and never flushes by itself: a day after
/// its time no live segment has it, a day later no file; but for those of a snapshot that a person named.
#[test]
fn an_expired_row_is_out_of_live_segments_within_a_day_and_out_of_files_with_the_manifests() {
    let world = World::new("rest_after_secs = 0\nmanifest_keep = 1000\nmanifest_keep_hours = 24");
    let db = world.open();
    let rows = db.create_collection("rows", schema()).unwrap();
    (0..2_000).for_each(|n| put(&rows, n, (n == 1_234).then(|| world.in_minutes(30))));
    db.flush().unwrap();
    let marked = || files(&world).iter().filter(|file| holds(&world, file, &vector(1_234))).count();
    let segments = || db.stats().unwrap().collections[0].clone();
    assert_eq!(marked(), 1);
    let pass = |seconds: u64| {
        for _ in 0..seconds / 30 {
            world.work();
            world.clock.advance(Duration::from_secs(30));
        }
        world.work();
    };
    pass(40 * 60);
    assert_eq!((rows.count().unwrap(), stored(&db), marked()), (1_999, 1_999, 1));
    assert_eq!(segments().segments, 1);
    rows.upsert("other", &vector(5_000), payload(5_000, None)).unwrap();
    pass(23 * HOUR);
    assert_eq!((segments().segments, segments().memtable_rows), (1, 1), "nothing is flushed for it yet");
    pass(HOUR);
    let (now, kept) = (segments(), marked());
    assert_eq!(
        (now.segments, now.dead_rows, now.memtable_rows, kept),
        (2, 0, 0, 1),
        "kept by old manifests alone"
    );
    let manifests = db.stats().unwrap().newest_manifest;
    pass(2 * HOUR);
    assert_eq!(db.stats().unwrap().newest_manifest, manifests, "it was rewritten once");
    pass(24 * HOUR);
    assert_eq!(marked(), 0, "{:?}", files(&world));
    assert_eq!(rows.count().unwrap(), 2_000);
}

/// Rows that expire all the time: each segment is rewritten once a day for them, not more.
#[test]
fn a_segment_is_rewritten_at_most_once_a_day_for_what_expired() {
    let world = World::new("rest_after_secs = 0\nttl_purge_secs = 600");
    let db = world.open();
    let rows = db.create_collection("rows", schema()).unwrap();
    let start = world.clock.unix_micros();
    // One row of a hundred every hour, for five days.
    (0..12_000).for_each(|n| put(&rows, n, (n % 100 == 0).then(|| start + i64::from(n / 100) * 60 * MINUTE)));
    db.flush().unwrap();
    for _ in 0..6 * 24 * 6 {
        world.work();
        world.clock.advance(Duration::from_secs(600));
    }
    world.work();
    let stats = db.stats().unwrap();
    let merges = stats.compaction.runs;
    assert!((5..=7).contains(&merges), "{merges} merges");
    assert_eq!((stored(&db), rows.count().unwrap()), (11_880, 11_880));
    assert!(stats.collections[0].dead_rows <= 24, "{} dead rows", stats.collections[0].dead_rows);
}

/// Switched off, nothing is rewritten for it.
#[test]
fn without_a_deadline_dead_rows_wait_for_others() {
    for engine in ["ttl_erase_hours = 0", "ttl_purge_secs = 0"] {
        let world = World::new(&format!("rest_after_secs = 0\n{engine}"));
        let db = world.open();
        let rows = db.create_collection("rows", schema()).unwrap();
        (0..500).for_each(|n| put(&rows, n, (n < 5).then(|| world.in_minutes(30))));
        db.flush().unwrap();
        for _ in 0..3 * 24 {
            world.clock.advance(Duration::from_secs(HOUR));
            world.work();
        }
        rows.delete("r00100").unwrap();
        db.flush().unwrap();
        world.pass(100);
        assert_eq!(db.stats().unwrap().compaction.runs, 0, "{engine}");
        assert_eq!(rows.count().unwrap(), 494);
    }
}

/// No disk for the rewrite, or a damaged page in what is to be rewritten: the small segments that flushes add are merged as
/// ever, and what can be is done later.
#[test]
fn a_segment_that_cannot_be_rewritten_holds_up_no_other() {
    for damaged in [false, true] {
        let (disk, full) = (CrashDisk::new(5), Arc::new(AtomicBool::new(false)));
        // What is full has room for little files.
        let written = Mutex::new(BTreeMap::<PathBuf, u64>::new());
        let is_full = Arc::clone(&full);
        let hook = move |call: &Call<'_>| {
            if call.op != Op::WriteAt || !call.path.starts_with("/db/collections") {
                return Act::Go;
            }
            let mut written = written.lock().unwrap();
            let bytes = written.entry(call.path.to_owned()).or_default();
            *bytes += call.len;
            if *bytes > 100_000 && is_full.load(Ordering::SeqCst) { Act::Fail(28) } else { Act::Go }
        };
        let fs = Arc::new(HookFs::new(Arc::new(disk.clone()), Arc::new(hook)));
        let world = World::on(disk, "rest_after_secs = 0").through(fs);
        let db = world.open();
        let rows = db.create_collection("rows", schema()).unwrap();
        (0..10_000).for_each(|n| put(&rows, n, (n < 10).then(|| world.in_minutes(30))));
        db.flush().unwrap();
        drop(rows);
        drop(db);
        if damaged {
            let bytes: Vec<u8> = vector(2_000).iter().flat_map(|x| x.to_le_bytes()).collect();
            let file = files(&world).into_iter().find(|file| holds(&world, file, &vector(2_000))).unwrap();
            let flip = |file: &mut Vec<u8>| {
                let at = file.windows(bytes.len()).position(|window| window == bytes).unwrap();
                file[at] ^= 1;
            };
            world.disk.rot(&file, flip).unwrap();
        }
        let db = world.open();
        let rows = db.collection("rows").unwrap();
        full.store(!damaged, Ordering::SeqCst);
        for _ in 0..26 * 60 {
            world.work();
            world.clock.advance(Duration::from_secs(60));
        }
        world.work();
        let stats = || db.stats().unwrap();
        let collection = || stats().collections[0].clone();
        assert_eq!(
            (collection().segments, collection().dead_rows, stats().compaction.runs),
            (1, 10, 0),
            "damaged: {damaged}"
        );
        assert!(stats().compaction.failure.is_some(), "damaged: {damaged}");
        for flush in 0..4 {
            (0..20).for_each(|n| put(&rows, 20_000 + 20 * flush + n, None));
            db.flush().unwrap();
            world.work();
        }
        assert_eq!((collection().segments, stats().compaction.runs), (2, 1), "damaged: {damaged}");
        assert!(stats().compaction.failure.is_some(), "that goes on");
        full.store(false, Ordering::SeqCst);
        world.pass(61);
        let left = if damaged { 10 } else { 0 };
        assert_eq!(
            (collection().dead_rows, stats().compaction.failure.is_some()),
            (left, damaged),
            "damaged: {damaged}"
        );
    }
}
