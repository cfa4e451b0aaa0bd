//! Disks that are full, broken or not ours: a typed error with the right fate, reads that go on, and a database that
//! is whole once the disk is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use akidb::{Batch, Collection, Db, Error, ErrorKind, Expect, Fate, Lsn, Metric, NewRow, Schema, Settings};
use akidb_host::sim::{Act, Call, CrashDisk, EIO, ENOSPC, Hook, HookFs, Op};
use akidb_host::{RealClock, RealFs, RealSpawn};
use serde_json::json;

use crate::arrow_and_async::block_on_all;
use crate::sample::{Outcome, assert_typed, sample, used_len};
use crate::support::{hooked, in_dir};

mod too_late;

const EACCES: i32 = 13;

/// A hook that fails the calls `hits` accepts with this number while it is armed.
fn armed(errno: i32, hits: impl Fn(&Call<'_>) -> bool + Send + Sync + 'static) -> (Arc<AtomicBool>, Hook) {
    let on = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&on);
    let hook = move |call: &Call<'_>| match asked.load(Ordering::SeqCst) && hits(call) {
        true => Act::Fail(errno),
        false => Act::Go,
    };
    (on, Arc::new(hook))
}

fn try_open(dir: &Path, hook: Hook) -> Result<Db, Error> {
    let fs = Arc::new(HookFs::new(Arc::new(RealFs), hook));
    Db::builder(dir).components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open()
}

fn takes_room(op: Op) -> bool {
    matches!(op, Op::CreateNew | Op::WriteAt | Op::ZeroFill | Op::SetLen)
}

fn put(rows: &Collection, n: u64, bytes: usize) -> Result<(), Error> {
    rows.upsert(format!("r{n:05}"), &[n as f32, 1.0], json!({ "fill": "x".repeat(bytes) })).map(drop)
}

fn schema() -> Schema {
    Schema::new(2, Metric::L2)
}

#[test]
fn a_full_disk_refuses_writes_keeps_every_row_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let (full, hook) = armed(ENOSPC, |call| takes_room(call.op));
    let settings = Settings::from_toml("[engine]\nwrite_stall_timeout_ms = 50\n").unwrap();
    let db = hooked(dir.path(), hook, settings);
    let rows = db.create_collection("rows", schema()).unwrap();
    full.store(true, Ordering::SeqCst);
    let mut written = 0;
    let refused = loop {
        match put(&rows, written, 100_000) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 2_000, "a full disk took 200 MB");
    };
    assert!(matches!(refused.kind(), ErrorKind::NoSpace | ErrorKind::Full { .. }), "{refused}");
    assert_eq!(refused.fate(), Fate::NotWritten, "{refused}");
    assert_eq!(rows.count().unwrap(), written, "what was acknowledged is read");
    assert_eq!(rows.search(&[0.0, 1.0]).k(3).run().unwrap().len(), 3.min(written as usize));
    full.store(false, Ordering::SeqCst);
    put(&rows, written, 100_000).unwrap();
    drop((rows, db));
    let rows = Db::open(dir.path()).unwrap().collection("rows").unwrap();
    assert_eq!(rows.count().unwrap(), written + 1);
}

#[test]
fn a_collection_that_cannot_be_flushed_does_not_hold_up_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let first = |call: &Call<'_>| call.path.to_string_lossy().contains("1-first") && takes_room(call.op);
    let (full, hook) = armed(ENOSPC, first);
    let db = hooked(dir.path(), hook, Settings::default());
    for name in ["first", "second", "third"] {
        put(&db.create_collection(name, schema()).unwrap(), 1, 10).unwrap();
    }
    full.store(true, Ordering::SeqCst);
    assert_eq!(db.flush().unwrap_err().kind(), ErrorKind::NoSpace);
    let unflushed = || -> Vec<u64> {
        db.stats().unwrap().collections.iter().map(|collection| collection.memtable_rows).collect()
    };
    assert_eq!(unflushed(), [1, 0, 0]);
    // Others do not hide it, however often they are flushed.
    put(&db.collection("third").unwrap(), 2, 10).unwrap();
    db.flush().unwrap_err();
    assert!(db.stats().unwrap().flush_failure.is_some_and(|failure| failure.contains("1-first")));
    full.store(false, Ordering::SeqCst);
    db.flush().unwrap();
    assert_eq!(unflushed(), [0, 0, 0]);
    assert_eq!(db.stats().unwrap().flush_failure, None);
    // Nor does one that is dropped stay in the way.
    put(&db.collection("first").unwrap(), 2, 10).unwrap();
    full.store(true, Ordering::SeqCst);
    db.flush().unwrap_err();
    assert!(db.stats().unwrap().flush_failure.is_some());
    db.drop_collection("first").unwrap();
    assert_eq!(db.stats().unwrap().flush_failure, None);
}

#[test]
fn a_flush_on_a_full_disk_says_so_and_succeeds_when_there_is_room() {
    for part in ["collections", "manifest"] {
        let dir = tempfile::tempdir().unwrap();
        let (full, hook) = armed(ENOSPC, move |call| takes_room(call.op) && in_dir(call.path, part));
        let db = hooked(dir.path(), hook, Settings::default());
        let rows = db.create_collection("rows", schema()).unwrap();
        (0..20).for_each(|n| put(&rows, n, 10).unwrap());
        full.store(true, Ordering::SeqCst);
        let error = db.flush().unwrap_err();
        assert_eq!((error.kind(), error.fate()), (ErrorKind::NoSpace, Fate::NotWritten), "{part}: {error}");
        assert!(error.file().is_some(), "{part}: {error}");
        assert_eq!(rows.count().unwrap(), 20);
        put(&rows, 20, 10).unwrap();
        let ddl = db.create_collection("more", schema()).map(drop);
        assert_eq!(ddl.is_err(), part == "manifest", "{part}: {ddl:?}");
        full.store(false, Ordering::SeqCst);
        db.flush().unwrap();
        db.create_collection("more", schema()).unwrap();
        assert_eq!(rows.count().unwrap(), 21);
        drop(rows);
        db.close().unwrap();
        let db = Db::open(dir.path()).unwrap();
        assert_eq!(db.collection("rows").unwrap().count().unwrap(), 21, "{part}");
    }
}

#[test]
fn a_failed_sync_of_the_log_ends_writes_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (broken, hook) = armed(EIO, |call| call.op.syncs() && in_dir(call.path, "wal"));
    let db = hooked(dir.path(), hook, Settings::default());
    let rows = db.create_collection("rows", schema()).unwrap();
    (0..20).for_each(|n| put(&rows, n, 10).unwrap());
    broken.store(true, Ordering::SeqCst);
    let error = put(&rows, 20, 10).unwrap_err();
    assert_eq!((error.kind(), error.fate()), (ErrorKind::Poisoned, Fate::Unknown), "{error}");
    let said = db.stats().unwrap().poisoned.unwrap();
    assert!(said.contains("reopen"), "{said}");
    broken.store(false, Ordering::SeqCst);
    // The kernel may have dropped the pages: a later sync that succeeds proves nothing.
    assert_eq!(put(&rows, 21, 10).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(rows.count().unwrap(), 20);
    assert_eq!(rows.search(&[0.0, 1.0]).k(100).run().unwrap().len(), 20);
    drop((rows, db));
    let rows = Db::open(dir.path()).unwrap().collection("rows").unwrap();
    assert!((0..20).all(|n| rows.contains(format!("r{n:05}")).unwrap()));
    assert!(rows.count().unwrap() <= 21, "the refused write is not there");
    put(&rows, 30, 10).unwrap();
}

/// The remedy of a poisoned log is a reopen, in the same process too, whoever there still holds a collection or a receipt.
#[test]
fn a_database_whose_log_is_poisoned_can_be_reopened_as_soon_as_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (broken, hook) = armed(EIO, |call| call.op.syncs() && in_dir(call.path, "wal"));
    let db = hooked(dir.path(), hook, Settings::default());
    let rows = db.create_collection("rows", schema()).unwrap();
    (0..20).for_each(|n| put(&rows, n, 10).unwrap());
    broken.store(true, Ordering::SeqCst);
    let receipt = rows.submit(&[NewRow::new("late", vec![1.0, 1.0], json!({})).unwrap()]).unwrap();
    assert_eq!(receipt.wait().unwrap_err().kind(), ErrorKind::Poisoned);
    let other = db.clone();
    let error = db.close().unwrap_err();
    assert_eq!((error.code(), error.fate()), ("AKI-0243", Fate::Durable), "{error}");
    broken.store(false, Ordering::SeqCst);
    let reopened = Db::open(dir.path()).unwrap();
    assert!(reopened.collection("rows").unwrap().count().unwrap() >= 20);
    put(&reopened.collection("rows").unwrap(), 30, 10).unwrap();
    assert_eq!(put(&rows, 31, 10).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(receipt.wait().unwrap_err().kind(), ErrorKind::Poisoned);
    other.close().unwrap();
    drop((rows, receipt));
    put(&reopened.collection("rows").unwrap(), 32, 10).unwrap();
    reopened.close().unwrap();
}

/// A row's older version is looked up before its write is logged, and again if a merge moved it: then it may be too late to
/// refuse. That write is kept by the log; those after it are refused, and are told that they were not written.
#[test]
fn a_write_that_cannot_be_applied_is_durable_and_those_after_it_are_not_written() {
    let disk = CrashDisk::new(1);
    let (broken, hook) = armed(EIO, |call| {
        call.op == Op::ReadAt && call.path.extension().is_some_and(|extension| extension == "parquet")
    });
    let open = |disk: CrashDisk, hook: Hook| {
        let fs = Arc::new(HookFs::new(Arc::new(disk), hook));
        let builder = Db::builder("/db").components(fs, Arc::new(RealClock), Arc::new(RealSpawn));
        let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
        builder.settings(settings).open().unwrap()
    };
    let db = open(disk.clone(), hook);
    let rows = db.create_collection("rows", schema()).unwrap();
    for n in 0..20 {
        put(&rows, n, 10).unwrap();
        if n % 10 == 9 {
            db.flush().unwrap();
        }
    }
    let again = NewRow::new("r00003", vec![9.0, 9.0], json!({})).unwrap();
    let late = rows.submit(&[again]).unwrap();
    assert_eq!(db.compact().unwrap(), 1);
    broken.store(true, Ordering::SeqCst);
    let error = late.wait().unwrap_err();
    assert_eq!((error.code(), error.fate()), ("AKI-0203", Fate::Durable), "{error}");
    broken.store(false, Ordering::SeqCst);

    let new = NewRow::new("new", vec![1.0, 1.0], json!({})).unwrap();
    let mut batch = Batch::new();
    batch.upsert("rows", new.clone()).idempotency_key("once");
    let refused: Vec<Error> = vec![
        put(&rows, 30, 10).unwrap_err(),
        rows.upsert_batch(std::slice::from_ref(&new)).unwrap_err(),
        rows.submit(std::slice::from_ref(&new)).unwrap_err(),
        rows.upsert_if("new", &new.vector, json!({}), Expect::Absent).unwrap_err(),
        rows.delete("r00004").unwrap_err(),
        rows.update_payload("r00004", json!({ "a": 1 })).unwrap_err(),
        db.write(&batch).unwrap_err(),
    ];
    let later = block_on_all::<Result<Lsn, Error>>(vec![
        Box::pin(rows.upsert_async("new", &new.vector, json!({}))),
        Box::pin(rows.update_payload_async("r00004", json!({ "a": 1 }))),
    ]);
    let refused = refused.into_iter().chain(later.into_iter().map(Result::unwrap_err));
    for error in refused {
        assert_eq!((error.code(), error.fate()), ("AKI-0254", Fate::NotWritten), "{error}");
        assert!(error.file().is_some() && error.to_string().contains("akidb verify"), "{error}");
    }
    assert_eq!(rows.count().unwrap_err().code(), "AKI-0203", "no old answer");
    let rows = open(disk.kill(), Arc::new(|_: &Call<'_>| Act::Go)).collection("rows").unwrap();
    assert_eq!((rows.count().unwrap(), rows.get("r00003").unwrap().unwrap().vector), (20, vec![9.0, 9.0]));
    assert!(rows.contains("r00004").unwrap() && !rows.contains("new").unwrap());
}

/// A bad sector under the log is damage; want of descriptors is not.
#[test]
fn verify_tells_a_log_on_a_bad_sector_from_one_that_could_not_be_opened() {
    let sample = sample(false);
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    sample.write_to(&dir);
    for (errno, damaged) in [(EIO, true), (24, false)] {
        let hook = move |call: &Call<'_>| match call.op == Op::Open
            && call.path.extension().is_some_and(|e| e == "wal")
        {
            true => Act::Fail(errno),
            false => Act::Go,
        };
        let found = akidb::verify_on(Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook))), &dir).unwrap();
        assert_eq!(
            (found.damages.len(), found.unread.len()),
            if damaged { (1, 0) } else { (0, 1) },
            "{found:?}"
        );
        assert!(damaged || found.unread[0].help.contains("ulimit -n"), "{found:?}");
    }
}

#[test]
fn an_open_whose_disk_fails_at_any_call_is_a_typed_error_and_the_next_one_finds_everything() {
    let sample = sample(false);
    let home = tempfile::tempdir().unwrap();
    let (mut refused, mut went_on) = (0, 0);
    for k in 1..2_000 {
        let dir = home.path().join(k.to_string());
        sample.write_to(&dir);
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let hook = move |call: &Call<'_>| {
            let hit = call.op.can_fail() && counted.fetch_add(1, Ordering::SeqCst) + 1 == k;
            if hit { Act::Fail(EIO) } else { Act::Go }
        };
        match try_open(&dir, Arc::new(hook)) {
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::Internal, "call {k}: {error}");
                let poisoned = error.kind() == ErrorKind::Poisoned;
                assert!(error.file().is_some() || poisoned, "call {k}: {error}");
                refused += 1;
            }
            Ok(db) => {
                went_on += 1;
                // After a failed background call a close may say so; it still ends.
                let _ = db.close();
            }
        }
        let outcome = sample.judge(&dir);
        assert!(matches!(outcome, Outcome::Same), "after call {k} failed: {outcome:?}");
        std::fs::remove_dir_all(&dir).unwrap();
        if count.load(Ordering::SeqCst) < k {
            break;
        }
    }
    println!("each call of an open failed once: {refused} opens refused, {went_on} went on");
    assert!(refused > 10, "{refused}");
}

#[test]
fn a_directory_that_cannot_be_written_is_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let (no, hook) = armed(EACCES, |call| call.op.changes());
    no.store(true, Ordering::SeqCst);
    let error = try_open(&dir.path().join("db"), hook).unwrap_err();
    assert_eq!((error.kind(), error.fate()), (ErrorKind::Unavailable, Fate::NotWritten), "{error}");
    assert!(error.file().is_some(), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    let error = Db::open(&file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
}

#[test]
fn a_manifest_of_a_newer_version_is_refused_and_left_alone() {
    let mut sample = sample(true);
    let home = tempfile::tempdir().unwrap();
    let newest = *sample.below("manifest/", ".json").last().unwrap();
    let text = String::from_utf8(sample.files[newest].1.clone()).unwrap();
    let (document, _) = text.rsplit_once("{\"crc32\"").unwrap();
    let mut json: serde_json::Value = serde_json::from_str(document).unwrap();
    raise_major(&mut json["format"]);
    let newer = format!("{}\n", serde_json::to_string_pretty(&json).unwrap());
    let crc = crc32fast::hash(newer.as_bytes());
    sample.files[newest].1 = format!("{newer}{{\"crc32\":\"{crc:08x}\"}}\n").into_bytes();
    let dir = home.path().join("db");
    sample.write_to(&dir);
    let Outcome::Refused(error) = sample.judge(&dir) else { panic!("a newer manifest was opened") };
    assert_eq!(error.kind(), ErrorKind::NewerFormat, "{error}");
    let (name, bytes) = &sample.files[newest];
    assert_eq!(error.file(), Some(dir.join(name).as_path()));
    assert_eq!(&std::fs::read(dir.join(name)).unwrap(), bytes);
}

/// Adds one to the major number, wherever the format keeps it.
fn raise_major(format: &mut serde_json::Value) {
    match format {
        serde_json::Value::Number(n) => *format = json!(n.as_u64().unwrap() + 1),
        serde_json::Value::Object(parts) => {
            let major = parts["major"].as_u64().unwrap();
            parts["major"] = json!(major + 1);
        }
        serde_json::Value::Array(parts) => parts[0] = json!(parts[0].as_u64().unwrap() + 1),
        other => panic!("a format of the shape {other}"),
    }
}

#[test]
fn a_file_cut_short_anywhere_is_never_read_as_something_else() {
    for clean in [true, false] {
        let mut sample = sample(clean);
        let home = tempfile::tempdir().unwrap();
        let (mut same, mut refused, mut cut) = (0, 0, 0);
        let named = ["wal/", "collections/", "manifest/"].map(|part| sample.below(part, "")).concat();
        for file in named {
            let whole = sample.files[file].1.clone();
            let used = used_len(&whole);
            let mut lengths = vec![0, 1, used / 3, used / 2, used.saturating_sub(1)];
            lengths.retain(|len| *len < used);
            for len in lengths {
                let dir = home.path().join(format!("{file}-{len}"));
                sample.files[file].1.truncate(len);
                sample.write_to(&dir);
                let what = format!("{} cut to {len} of {used}", sample.files[file].0.display());
                match sample.judge(&dir) {
                    Outcome::Same => same += 1,
                    Outcome::Refused(error) => {
                        assert_typed(&error, &what);
                        refused += 1;
                    }
                    Outcome::Cut => cut += 1,
                    Outcome::Silent(answers) => panic!("{what}, clean {clean}: {answers:?}"),
                }
                std::fs::remove_dir_all(&dir).unwrap();
                sample.files[file].1.clone_from(&whole);
            }
        }
        println!("clean {clean}: {same} the same answers, {refused} typed errors, {cut} reported cuts");
        assert!(refused > 10);
    }
}

#[test]
fn a_damaged_older_manifest_stops_no_open_and_no_orphan_goes_then() {
    let mut sample = sample(true);
    let home = tempfile::tempdir().unwrap();
    let oldest = sample.below("manifest/", ".json")[0];
    sample.files[oldest].1[40] ^= 1;
    // Nobody can tell whether that manifest named this one.
    let segment = sample.below("collections/", ".parquet")[0];
    let orphan = sample.files[segment].0.with_file_name("00000001-00000099-00000001.parquet");
    sample.files.push((orphan.clone(), b"orphan".to_vec()));
    let dir = home.path().join("db");
    sample.write_to(&dir);
    let outcome = sample.judge(&dir);
    assert!(matches!(outcome, Outcome::Same), "{outcome:?}");
    assert!(dir.join(&orphan).exists(), "an orphan was removed though a kept manifest is unreadable");
    let damages = akidb::verify(&dir).unwrap().damages;
    assert_eq!(
        damages.iter().map(|d| d.file.clone()).collect::<Vec<_>>(),
        [dir.join(&sample.files[oldest].0)]
    );
}
