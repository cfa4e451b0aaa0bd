//! Sentences of the design, each a test whose name says it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use akidb::{Db, Metric, NewRow, Schema, Settings};
use akidb_host::sim::{Act, Call, EIO, Gate, Op};
use akidb_host::{Clock, RealClock};
use serde_json::json;

use crate::support::{hooked, in_dir};

/// Test 1 of the design's list.
#[test]
fn a_stalled_sync_blocks_neither_append_nor_searches() {
    let dir = tempfile::tempdir().unwrap();
    // The first log file's: making the next one has syncs of its own, which nobody waits for.
    let first_file =
        |path: &Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("0000000000000001."));
    let gate = Gate::opened(move |call: &Call<'_>| call.op == Op::SyncData && first_file(call.path));
    let db = hooked(dir.path(), gate.hook(), Settings::default());
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    rows.upsert("first", &[1.0, 1.0], json!({})).unwrap();

    gate.shut();
    let stalled = {
        let rows = rows.clone();
        std::thread::Builder::new().spawn(move || rows.upsert("stalled", &[9.0, 9.0], json!({}))).unwrap()
    };
    gate.wait_until_held();
    let start = Arc::new(Barrier::new(8));
    let writers: Vec<_> = (0..8u32)
        .map(|t| {
            let (rows, start) = (rows.clone(), Arc::clone(&start));
            let work = move || {
                start.wait();
                // Large enough that the log goes on in new files meanwhile.
                let fill = "x".repeat(600);
                let submit = |n: u32| {
                    let payload = json!({ "fill": fill });
                    let row = NewRow::new(format!("{t}-{n}"), [t as f32, n as f32], payload).unwrap();
                    rows.submit(&[row]).unwrap()
                };
                (0..1_000).map(submit).collect::<Vec<_>>()
            };
            std::thread::Builder::new().spawn(work).unwrap()
        })
        .collect();
    // All 8,000 appends end, and searches answer, while the sync is held.
    let mut searches = 0;
    while searches == 0 || writers.iter().any(|writer| !writer.is_finished()) {
        assert_eq!(rows.search(&[0.0, 0.0]).k(10).run().unwrap().len(), 1, "nothing unsynced is shown");
        searches += 1;
    }
    let receipts: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    assert_eq!(receipts.len(), 8_000);
    let files = std::fs::read_dir(dir.path().join("wal")).unwrap();
    let files =
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "wal")).count();
    assert!(files >= 3, "the log went on in new files: {files}");
    println!("{searches} searches beside 8,000 appends, {files} log files");
    let hits = rows.search(&[0.0, 0.0]).k(10).run().unwrap();
    assert_eq!(
        hits.iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>(),
        ["first"],
        "nothing unsynced is shown"
    );
    gate.release();
    receipts.iter().for_each(|receipt| {
        receipt.wait().unwrap();
    });
    stalled.join().unwrap().unwrap();
    assert_eq!(rows.count().unwrap(), 8_002);
}

/// Test 2, and lance#6929, #6899, #6888 (a search dropped the duplicates of a row after the filter and after the top k, and found
/// versions that were stale): whatever holds the rows, the newest version alone counts, for filters and for k.
#[test]
fn lance_6929_no_older_version_is_found_when_a_newer_one_fails_the_filter() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(|call: &Call<'_>| call.op == Op::CreateNew && in_dir(call.path, "collections"));
    let db = hooked(dir.path(), gate.hook(), Settings::default());
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2).text("state")).unwrap();
    let put =
        |id: String, at: f32, state: &str| NewRow::new(id, [at, 0.0], json!({ "state": state })).unwrap();
    let check = |where_: &str| {
        let hits = rows.search(&[0.0, 0.0]).k(10).filter("state = 'new'").run().unwrap();
        let ids: Vec<String> = hits.iter().map(|hit| hit.id.to_string()).collect();
        let expected: Vec<String> = (0..10).map(|n| format!("true{n}")).collect();
        assert_eq!(ids, expected, "in {where_}");
        assert_eq!(rows.count_where("state = 'old'").unwrap(), 0, "in {where_}");
        assert_eq!(rows.count().unwrap(), 1_010, "in {where_}");
        assert_eq!(rows.search(&[0.0, 0.0]).k(20).filter("state = 'old'").run().unwrap(), [], "in {where_}");
    };
    let near: Vec<NewRow> = (0..1_000).map(|n| put(format!("near{n}"), 0.001 * n as f32, "old")).collect();
    rows.upsert_batch(&near).unwrap();
    // Half of the old versions are in a segment when they are replaced, half in the memtable.
    db.flush().unwrap();
    let again: Vec<NewRow> = (0..500).map(|n| put(format!("near{n}"), 0.001 * n as f32, "old")).collect();
    rows.upsert_batch(&again).unwrap();
    let far: Vec<NewRow> = (0..1_000).map(|n| put(format!("near{n}"), 1_000.0 + n as f32, "far")).collect();
    rows.upsert_batch(&far).unwrap();
    let right: Vec<NewRow> = (0..10).map(|n| put(format!("true{n}"), 10.0 + n as f32, "new")).collect();
    rows.upsert_batch(&right).unwrap();
    check("the memtable");

    gate.shut();
    let flusher = {
        let db = db.clone();
        std::thread::Builder::new().spawn(move || db.flush()).unwrap()
    };
    gate.wait_until_held();
    check("a sealed memtable");
    gate.release();
    flusher.join().unwrap().unwrap();
    check("a segment");
    drop(rows);
    db.close().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.collection("rows").unwrap();
    assert_eq!(rows.count_where("state = 'old'").unwrap(), 0);
    assert_eq!(rows.count().unwrap(), 1_010);
}

/// Test 4, first half: once the log file exists, an upsert writes no file but through the log's map.
#[test]
fn an_upsert_makes_no_file_write() {
    let dir = tempfile::tempdir().unwrap();
    let writes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&writes);
    let hook = move |call: &Call<'_>| {
        let in_log_pool =
            in_dir(call.path, "wal") && matches!(call.op, Op::ZeroFill | Op::CreateNew | Op::WriteAt);
        if matches!(call.op, Op::WriteAt | Op::CreateNew | Op::Rename | Op::HardLink | Op::SetLen)
            && !in_log_pool
        {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        Act::Go
    };
    // A merge beside the writes does write files.
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let db = hooked(dir.path(), Arc::new(hook), settings);
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    for n in 0..4u32 {
        rows.upsert(format!("{n}"), &[1.0, n as f32], json!({})).unwrap();
        db.flush().unwrap();
    }
    let before = writes.load(Ordering::Relaxed);
    for n in 0..200u32 {
        rows.upsert(format!("{}", n % 8), &[2.0, n as f32], json!({})).unwrap();
    }
    assert_eq!(writes.load(Ordering::Relaxed) - before, 0);
}

/// Test 4, second half: a flush that folds overwrites is interrupted at each of its calls; after the reopen no id
/// lives twice, none is back from the dead, none is lost.
#[test]
fn a_flush_interrupted_at_any_step_duplicates_and_revives_nothing() {
    let mut steps = 0;
    for k in 1..400 {
        let dir = tempfile::tempdir().unwrap();
        let count = Arc::new(AtomicU64::new(u64::MAX / 2));
        let counted = Arc::clone(&count);
        let hook = move |call: &Call<'_>| {
            let is_step = !matches!(call.op, Op::Open | Op::ReadAt)
                && (in_dir(call.path, "collections") || in_dir(call.path, "manifest"));
            match is_step && counted.fetch_add(1, Ordering::Relaxed) + 1 == k {
                true => Act::Fail(EIO),
                false => Act::Go,
            }
        };
        let db = hooked(dir.path(), Arc::new(hook), Settings::default());
        let rows = db.create_collection("rows", Schema::new(2, Metric::L2).int("version")).unwrap();
        for n in 0..30u32 {
            rows.upsert(format!("r{n}"), &[1.0, n as f32], json!({"version": 1})).unwrap();
        }
        db.flush().unwrap();
        for n in 0..20u32 {
            rows.upsert(format!("r{n}"), &[2.0, n as f32], json!({"version": 2})).unwrap();
        }
        for n in 25..30u32 {
            assert!(rows.delete(format!("r{n}")).unwrap());
        }
        count.store(0, Ordering::Relaxed);
        let failed = db.flush().is_err();
        let done = count.load(Ordering::Relaxed) < k;
        // Between the failure and the end of this process writes may go on.
        rows.upsert("r0", &[3.0, 0.0], json!({"version": 3})).unwrap();
        drop((rows, db));
        let db = Db::open(dir.path()).unwrap();
        let rows = db.collection("rows").unwrap();
        assert_eq!(rows.count().unwrap(), 25, "call {k} failed: {failed}");
        for n in 0..30u32 {
            let version =
                rows.get(format!("r{n}")).unwrap().map(|row| row.payload["version"].as_i64().unwrap());
            let expected = match n {
                0 => Some(3),
                1..20 => Some(2),
                20..25 => Some(1),
                _ => None,
            };
            assert_eq!(version, expected, "r{n} after call {k} failed");
        }
        assert_eq!(rows.search(&[0.0, 0.0]).k(100).run().unwrap().len(), 25);
        db.flush().unwrap();
        assert_eq!(rows.count().unwrap(), 25);
        if done {
            break;
        }
        steps = k;
    }
    println!("a flush has {steps} steps that touch files; each failed once");
    assert!(steps > 10 && steps < 399, "{steps}");
}

/// Promise 3: a batch is visible whole or not at all, also to readers that run while it is written.
#[test]
fn a_batch_is_visible_entirely_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(1, Metric::Dot).int("batch")).unwrap();
    let writer = {
        let rows = rows.clone();
        let write = move || {
            for batch in 0..60 {
                let row = |n: i32| NewRow::new(format!("{n}"), [1.0], json!({ "batch": batch })).unwrap();
                rows.upsert_batch(&(0..20).map(row).collect::<Vec<_>>()).unwrap();
            }
        };
        std::thread::Builder::new().spawn(write).unwrap()
    };
    let mut looked = 0;
    while !writer.is_finished() {
        let page = rows.scan().run().unwrap();
        let batches: std::collections::BTreeSet<i64> =
            page.iter().map(|row| row.payload["batch"].as_i64().unwrap()).collect();
        assert!(
            batches.len() <= 1 && (page.is_empty() || page.len() == 20),
            "{} rows of {batches:?}",
            page.len()
        );
        looked += 1;
    }
    writer.join().unwrap();
    println!("{looked} looks");
    assert_eq!(rows.count_where("batch = 59").unwrap(), 20);
}

/// Writers, searchers and flushes at once, checked by an oracle per id: what a reader sees is never older than what
/// was acknowledged before it looked.
#[test]
fn no_reader_sees_a_row_older_than_what_was_acknowledged() {
    const IDS: u64 = 16;
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::from_toml("[engine]\nmemtable_bytes = 65536\n").unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(4, Metric::L2).int("version")).unwrap();
    let acknowledged: Arc<Vec<AtomicU64>> = Arc::new((0..IDS).map(|_| AtomicU64::new(0)).collect());
    let writers: Vec<_> = (0..4u64)
        .map(|t| {
            let (rows, acknowledged) = (rows.clone(), Arc::clone(&acknowledged));
            let work = move || {
                for version in 1..=300u64 {
                    // Each writer owns its ids, so their versions rise.
                    let n = t + 4 * (version % (IDS / 4));
                    rows.upsert(format!("r{n}"), &[n as f32, 1.0, 2.0, 3.0], json!({ "version": version }))
                        .unwrap();
                    acknowledged[n as usize].store(version, Ordering::SeqCst);
                }
            };
            std::thread::Builder::new().spawn(work).unwrap()
        })
        .collect();
    let mut looked = 0u64;
    while writers.iter().any(|writer| !writer.is_finished()) {
        let before: Vec<u64> = acknowledged.iter().map(|version| version.load(Ordering::SeqCst)).collect();
        let hits = rows.search(&[0.0, 1.0, 2.0, 3.0]).k(100).run().unwrap();
        let mut seen = std::collections::BTreeMap::new();
        for hit in &hits {
            let version = hit.payload["version"].as_u64().unwrap();
            assert!(seen.insert(hit.id.to_string(), version).is_none(), "{} twice in one search", hit.id);
        }
        for (n, before) in before.iter().enumerate().filter(|(_, before)| **before > 0) {
            let version = seen.get(&format!("r{n}")).copied();
            assert!(
                version.is_some_and(|version| version >= *before),
                "r{n}: saw {version:?}, acknowledged {before}"
            );
        }
        looked += 1;
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    println!("{looked} searches");
    assert_eq!(rows.count().unwrap(), IDS);
}

/// Test 4, the cost: an upsert looks its id up in every segment that may hold it. Printed, not asserted: the durable
/// part of an upsert is the disk's.
#[test]
fn the_cost_of_an_upsert_at_64_segments_is_printed_against_one() {
    let cost = |segments: u32| {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
        let db = Db::builder(dir.path()).settings(settings).open().unwrap();
        let rows = db.create_collection("rows", Schema::new(32, Metric::L2)).unwrap();
        let row = |n: u32| {
            NewRow::new(format!("r{:08}", n.wrapping_mul(2_654_435_761)), vec![1.0; 32], json!({})).unwrap()
        };
        for segment in 0..segments {
            rows.upsert_batch(&(0..200).map(|n| row(segment * 200 + n)).collect::<Vec<_>>()).unwrap();
            db.flush().unwrap();
        }
        let clock = RealClock;
        let mut micros: Vec<u128> = (0..400u32)
            .map(|n| {
                let start = clock.now();
                rows.upsert_batch(&[row(1_000_000 + n)]).unwrap();
                clock.now().duration_since(start).as_micros()
            })
            .collect();
        micros.sort_unstable();
        micros[micros.len() / 2]
    };
    let (one, many) = (cost(1), cost(64));
    println!("upsert p50: {one} us at 1 segment, {many} us at 64: ratio {:.2}", many as f64 / one as f64);
}

/// Recovery obeys the memory bounds of a running database: a log larger than a memtable is flushed while it is read.
#[test]
fn a_replay_larger_than_a_memtable_flushes_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(64, Metric::L2).int("n")).unwrap();
    let other = db.create_collection("other", Schema::new(64, Metric::L2)).unwrap();
    for n in 0..600u32 {
        let row = |id: u32| NewRow::new(format!("{id}"), vec![n as f32; 64], json!({ "n": n })).unwrap();
        rows.submit(&[row(n), row(n / 2)]).unwrap();
        other.submit(&[NewRow::new(format!("{n}"), vec![1.0; 64], json!({})).unwrap()]).unwrap();
    }
    rows.upsert("last", &[0.0; 64], json!({"n": -1})).unwrap();
    drop((rows, other, db));
    let settings = Settings::from_toml("[engine]\nmemtable_bytes = 65536\nmemory_bytes = 100000\n").unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let stats = db.stats().unwrap();
    let segments: usize = stats.collections.iter().map(|collection| collection.segments).sum();
    assert!(segments >= 4, "{segments} segments");
    assert!(stats.memtable_bytes < 200_000, "{} bytes in memtables", stats.memtable_bytes);
    let rows = db.collection("rows").unwrap();
    assert_eq!(rows.count().unwrap(), 601);
    assert_eq!(db.collection("other").unwrap().count().unwrap(), 600);
    for n in [0u32, 1, 150, 299, 300, 599] {
        // Row n was last written as n itself, or as the half of 2n and 2n + 1.
        let expected = if n < 300 { 2 * n + 1 } else { n };
        assert_eq!(rows.get(format!("{n}")).unwrap().unwrap().payload["n"], json!(expected));
    }
}
