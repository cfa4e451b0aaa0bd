//! Who has the directory: one writer alone, or readers together while they read its log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use akidb::{Db, Error, ErrorKind, Metric, Schema, Settings};
use akidb_host::sim::{Act, Call, CrashDisk, EIO, Gate, Hook, HookFs, Op};
use akidb_host::{Fs, RealClock, RealFs, RealSpawn};
use serde_json::json;

use crate::support::{hooked, until};

/// Linux's numbers for no right to a file, and for a file system that cannot be written.
const EACCES: i32 = 13;
const EROFS: i32 = 30;

/// A database with rows in its log alone, closed.
fn filled(fs: Arc<dyn Fs>, dir: &Path) {
    let components = |fs| Db::builder(dir).components(fs, Arc::new(RealClock), Arc::new(RealSpawn));
    let db = components(fs).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    for n in 0..10 {
        rows.upsert(format!("r{n}"), &[n as f32, 1.0], json!({})).unwrap();
    }
    db.close().unwrap();
}

fn read(fs: Arc<dyn Fs>, dir: &Path) -> Result<Db, Error> {
    Db::builder(dir).read_only(true).components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open()
}

#[track_caller]
fn assert_whole(db: &Db) {
    assert!(!db.recovery().beside_writer);
    assert_eq!(db.collection("rows").unwrap().count().unwrap(), 10);
}

fn opens_the_log(call: &Call<'_>) -> bool {
    call.op == Op::Open && call.path.extension().is_some_and(|e| e == "wal")
}

fn at_each(is_it: fn(&Call<'_>) -> bool, then: impl Fn() + Send + Sync + 'static) -> Hook {
    Arc::new(move |call: &Call<'_>| {
        if is_it(call) {
            then();
        }
        Act::Go
    })
}

#[test]
fn readers_hide_no_rows_from_each_other() {
    let dir = tempfile::tempdir().unwrap();
    filled(Arc::new(RealFs), dir.path());
    let (opened, inside) = (Arc::new(AtomicUsize::new(0)), dir.path().to_path_buf());
    let counted = Arc::clone(&opened);
    let hook = at_each(opens_the_log, move || {
        assert_whole(&read(Arc::new(RealFs), &inside).unwrap());
        counted.fetch_add(1, Ordering::SeqCst);
    });
    assert_whole(&read(Arc::new(HookFs::new(Arc::new(RealFs), hook)), dir.path()).unwrap());
    assert!(opened.load(Ordering::SeqCst) > 0, "no reader beside the other");
}

#[test]
fn readers_share_a_simulated_disk_as_well() {
    let (disk, dir) = (CrashDisk::new(1), Path::new("/db"));
    filled(Arc::new(disk.clone()), dir);
    let other: Arc<dyn Fs> = Arc::new(disk.clone());
    let hook = at_each(opens_the_log, move || assert_whole(&read(Arc::clone(&other), dir).unwrap()));
    assert_whole(&read(Arc::new(HookFs::new(Arc::new(disk), hook)), dir).unwrap());
}

#[test]
fn a_writer_waits_for_readers_and_they_read_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    filled(Arc::new(RealFs), dir.path());
    // The last writer was another process.
    std::fs::write(dir.path().join("LOCK"), "pid 0, epoch 2").unwrap();
    let gate = Gate::new(opens_the_log);
    let tries = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        let fs = Arc::new(HookFs::new(Arc::new(RealFs), gate.hook()));
        let reader = scope.spawn(|| read(fs, dir.path()).unwrap());
        gate.wait_until_held();
        let counted = Arc::clone(&tries);
        let hook = at_each(
            |call| call.op == Op::Lock,
            move || {
                counted.fetch_add(1, Ordering::SeqCst);
            },
        );
        let writer = scope.spawn(|| hooked(dir.path(), hook, Settings::default()));
        // It asked, found readers, and asks again.
        until(|| tries.load(Ordering::SeqCst) > 2);
        gate.release();
        assert_whole(&reader.join().unwrap());
        assert_whole(&writer.join().unwrap());
    });
}

#[test]
fn a_writer_that_readers_hold_up_names_no_other_writer() {
    let dir = tempfile::tempdir().unwrap();
    filled(Arc::new(RealFs), dir.path());
    let lock = RealFs.try_lock_shared(&dir.path().join("LOCK")).unwrap().unwrap();
    let error = Db::open(dir.path()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Locked, "AKI-0224"), "{error}");
    let told = error.to_string();
    assert!(told.contains("being read") && told.contains("try again") && !told.contains("pid"), "{told}");
    drop(lock);
    assert_whole(&Db::open(dir.path()).unwrap());
}

/// A lock file that this user may not read, or that the disk cannot, says nothing of a writer: the files of one who lives are
/// not to be read as if he were dead.
#[test]
fn a_lock_that_cannot_be_looked_at_is_not_one_that_nobody_has() {
    let dir = tempfile::tempdir().unwrap();
    filled(Arc::new(RealFs), dir.path());
    let locked_with = |errno| {
        let hook = move |call: &Call<'_>| if call.op == Op::Lock { Act::Fail(errno) } else { Act::Go };
        read(Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook))), dir.path())
    };
    for errno in [EACCES, EIO] {
        let error = locked_with(errno).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "AKI-0223"), "{error}");
        assert!(error.help().is_some_and(|help| help.contains("read")), "{error}");
        assert_eq!(error.file(), Some(&*dir.path().join("LOCK")));
    }
    assert_whole(&locked_with(EROFS).unwrap());
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    assert_whole(&read(Arc::new(RealFs), dir.path()).unwrap());
    assert!(!dir.path().join("LOCK").exists(), "a reader writes nothing");
}
