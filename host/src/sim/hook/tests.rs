//! Each act does what it says, and nothing that matters goes unasked.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::{Act, Call, EIO, ENOSPC, Hook, HookFs, Op};
use crate::fs::{Access, File, Fs, RealFs, publish_new};
use crate::sim::{act_at, fail_at, fail_from, kill_at};

fn hooked(hook: Hook) -> HookFs {
    HookFs::new(Arc::new(RealFs), hook)
}

fn answer(act: Act, to: Op) -> HookFs {
    hooked(act_at(1, act, move |op| op == to))
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

type Seen = Arc<Mutex<Vec<(u64, Op, String, u64)>>>;

fn recording() -> (HookFs, Seen) {
    let seen = Seen::default();
    let inside = Arc::clone(&seen);
    let fs = hooked(Arc::new(move |call: &Call<'_>| {
        let name = call.path.file_name().unwrap().to_string_lossy().into_owned();
        inside.lock().unwrap().push((call.n, call.op, name, call.len));
        Act::Go
    }));
    (fs, seen)
}

#[test]
fn calls_are_numbered_from_one_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, seen) = recording();
    let file = fs.create_new(&dir.path().join("log")).unwrap();
    file.zero_fill(0, 8192).unwrap();
    let (mut appender, tail) = file.map_log(8192).unwrap().split();
    appender.write_parts(&[b"ab", b"c"]).unwrap();
    appender.append(b"d").unwrap();
    appender.publish();
    file.sync_data().unwrap();
    assert_eq!(tail.bytes(0..4), Some(&b"abcd"[..]));
    let want = [
        (1, Op::CreateNew, 0),
        (2, Op::ZeroFill, 8192),
        (3, Op::MapLog, 8192),
        (4, Op::LogAppend, 3),
        (5, Op::LogAppend, 1),
        (6, Op::LogPublish, 4),
        (7, Op::SyncData, 0),
    ];
    assert_eq!(*seen.lock().unwrap(), want.map(|(n, op, len)| (n, op, "log".to_owned(), len)));
    assert_eq!(fs.calls(), 7);
}

#[test]
fn publishing_a_document_syncs_it_before_the_link_and_the_directory_after() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, seen) = recording();
    publish_new(&fs, dir.path(), "doc", b"text").unwrap();
    let ops: Vec<Op> = seen.lock().unwrap().iter().map(|call| call.1).collect();
    let want = [Op::Unlink, Op::CreateNew, Op::WriteAt, Op::SyncAll, Op::HardLink, Op::Unlink, Op::SyncDir];
    assert_eq!(ops, want);
}

#[test]
fn a_failed_step_of_publish_never_leaves_a_partial_document() {
    for k in 1.. {
        let dir = tempfile::tempdir().unwrap();
        let fs = hooked(fail_at(k, EIO));
        let outcome = publish_new(&fs, dir.path(), "doc", b"text");
        let exists = dir.path().join("doc").exists();
        assert!(!exists || read(&dir.path().join("doc")) == b"text");
        if fs.calls() < k {
            assert!(outcome.is_ok());
            assert_eq!(k, 8, "each of the seven calls was made to fail once");
            return;
        }
        // Call 6 removes the temporary name, which is best effort; call 7 is the directory sync.
        assert_eq!(outcome.is_ok(), k == 6, "call {k}");
        assert_eq!(exists, k >= 6, "call {k}");
    }
}

#[test]
fn a_full_disk_surfaces_as_storage_full_once_or_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let fs = hooked(fail_at(2, ENOSPC));
    let file = fs.create_new(&dir.path().join("once")).unwrap();
    let full = file.zero_fill(0, 4096).unwrap_err();
    assert_eq!((full.kind(), full.raw_os_error()), (io::ErrorKind::StorageFull, Some(ENOSPC)));
    assert_eq!(file.len().unwrap(), 0);
    file.zero_fill(0, 4096).unwrap();

    let fs = hooked(fail_from(2, ENOSPC));
    let file = fs.create_new(&dir.path().join("ever")).unwrap();
    for _ in 0..3 {
        assert_eq!(file.write_at(b"x", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(file.read_at(&mut [0], 0).unwrap(), 0, "reading goes on");
}

#[test]
fn fail_does_nothing_midway_half_and_after_all_of_a_write() {
    for (act, left) in [(Act::Fail(EIO), ""), (Act::FailMidway(EIO), "12"), (Act::FailAfter(EIO), "1234")] {
        let dir = tempfile::tempdir().unwrap();
        let fs = answer(act, Op::WriteAt);
        let file = fs.create_new(&dir.path().join("f")).unwrap();
        assert_eq!(file.write_at(b"1234", 0).unwrap_err().raw_os_error(), Some(EIO));
        assert_eq!(read(&dir.path().join("f")), left.as_bytes(), "{act:?}");
        file.write_at(b"again", 0).unwrap();
    }
}

#[test]
fn fail_after_does_the_call_and_loses_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    RealFs.create_new(&one).unwrap();
    let fs = answer(Act::FailAfter(EIO), Op::Rename);
    assert!(fs.rename(&one, &two).is_err());
    assert!(two.exists() && !one.exists());
}

#[test]
fn every_failing_call_of_the_file_system_can_be_made_to_fail() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("f"), dir.path().join("g"));
    RealFs.create_new(&path).unwrap().write_at(&[1; 4096], 0).unwrap();
    let asked = |op: Op, run: &dyn Fn(&dyn Fs, &dyn File) -> io::Result<()>| {
        let fs = answer(Act::Fail(EIO), op);
        // The handle is opened past the hook for `Open`, so that this open is not the call that fails.
        let file = if op == Op::Open {
            RealFs.open(&path, Access::ReadWrite).unwrap()
        } else {
            fs.open(&path, Access::ReadWrite).unwrap()
        };
        assert_eq!(run(&fs, &*file).unwrap_err().raw_os_error(), Some(EIO), "{op:?}");
        assert!(op.can_fail());
    };
    asked(Op::Open, &|fs, _| fs.open(&path, Access::Read).map(drop));
    asked(Op::CreateNew, &|fs, _| fs.create_new(&other).map(drop));
    asked(Op::CreateDir, &|fs, _| fs.create_dir_all(&other));
    asked(Op::Rename, &|fs, _| fs.rename(&path, &other));
    asked(Op::HardLink, &|fs, _| fs.hard_link(&path, &other));
    asked(Op::Unlink, &|fs, _| fs.unlink(&path));
    asked(Op::RemoveDir, &|fs, _| fs.remove_dir(&other));
    asked(Op::List, &|fs, _| fs.list(dir.path()).map(drop));
    asked(Op::Metadata, &|fs, _| fs.metadata(&path).map(drop));
    asked(Op::SyncDir, &|fs, _| fs.sync_dir(dir.path()));
    asked(Op::Lock, &|fs, _| fs.try_lock(&other).map(drop));
    asked(Op::Lock, &|fs, _| fs.try_lock_shared(&other).map(drop));
    asked(Op::ReadAt, &|_, file| file.read_exact_at(&mut [0], 0));
    asked(Op::WriteAt, &|_, file| file.write_at(b"x", 0));
    asked(Op::SetLen, &|_, file| file.set_len(0));
    asked(Op::ZeroFill, &|_, file| file.zero_fill(0, 1));
    asked(Op::SyncData, &|_, file| file.sync_data());
    asked(Op::SyncAll, &|_, file| file.sync_all());
    asked(Op::Map, &|_, file| file.map().map(drop));
    asked(Op::MapLog, &|_, file| file.map_log(1).map(drop));
    assert!(!other.exists());
    assert_eq!(read(&path), [1; 4096]);
}

#[test]
fn stores_into_a_map_go_through_whatever_failure_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let fs = hooked(Arc::new(|call| if call.op.can_fail() { Act::Go } else { Act::Fail(EIO) }));
    let file = fs.create_new(&dir.path().join("log")).unwrap();
    file.zero_fill(0, 4096).unwrap();
    let (mut appender, tail) = file.map_log(4096).unwrap().split();
    appender.append(b"stored").unwrap();
    appender.publish();
    assert_eq!(tail.bytes(0..6), Some(&b"stored"[..]));
}

#[test]
fn a_hook_in_front_of_a_hook_asks_both_and_survives_reclaim() {
    let dir = tempfile::tempdir().unwrap();
    let (inner, seen) = recording();
    let outer = HookFs::new(Arc::new(inner), Arc::new(|_| Act::Go));
    let file = outer.create_new(&dir.path().join("log")).unwrap();
    file.zero_fill(0, 4096).unwrap();
    let (mut appender, tail) = file.map_log(4096).unwrap().split();
    appender.append(b"one").unwrap();
    drop(tail);
    let (mut appender, tail) = appender.reclaim().unwrap().split();
    appender.append(b"again").unwrap();
    appender.publish();
    assert_eq!(tail.bytes(0..5), Some(&b"again"[..]));
    let lens: Vec<u64> = seen.lock().unwrap().iter().skip(3).map(|call| call.3).collect();
    assert_eq!(lens, [3, 5, 5]);
    assert_eq!(outer.calls(), 6);
}

/// Runs this very test in a child, in which `AKIDB_HOOK_TEST_DIR` is set; gives the child's directory.
fn in_a_killed_child(test: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("sim::hook::tests::{test}")])
        .env("AKIDB_HOOK_TEST_DIR", dir.path())
        .output()
        .unwrap()
        .status;
    assert_eq!(status.signal(), Some(9), "{status}");
    dir
}

fn log_file(fs: &HookFs, dir: &Path) -> Arc<dyn File> {
    let file = fs.create_new(&dir.join("log")).unwrap();
    file.zero_fill(0, 4096).unwrap();
    file
}

#[test]
fn killed_midway_an_append_leaves_its_first_half() {
    if let Some(dir) = std::env::var_os("AKIDB_HOOK_TEST_DIR") {
        let fs = hooked(act_at(2, Act::KillMidway, |op| op == Op::LogAppend));
        let (mut appender, _tail) = log_file(&fs, Path::new(&dir)).map_log(4096).unwrap().split();
        appender.append(b"whole ").unwrap();
        appender.write_parts(&[b"ha", b"lf"]).unwrap();
        unreachable!("the second append kills");
    }
    let dir = in_a_killed_child("killed_midway_an_append_leaves_its_first_half");
    assert_eq!(&read(&dir.path().join("log"))[..12], b"whole ha\0\0\0\0");
}

#[test]
fn kill_at_k_happens_before_the_call_and_kill_after_behind_it() {
    if let Some(dir) = std::env::var_os("AKIDB_HOOK_TEST_DIR") {
        let dir = Path::new(&dir);
        let before = !dir.join("first").exists();
        let hook = if before { kill_at(2, Op::changes) } else { act_at(2, Act::KillAfter, Op::changes) };
        let fs = hooked(hook);
        let name = if before { "first" } else { "second" };
        fs.create_new(&dir.join(name)).unwrap().write_at(b"text", 0).unwrap();
        unreachable!("the write kills");
    }
    let test = "kill_at_k_happens_before_the_call_and_kill_after_behind_it";
    let dir = in_a_killed_child(test);
    assert_eq!(read(&dir.path().join("first")), b"");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("sim::hook::tests::{test}")])
        .env("AKIDB_HOOK_TEST_DIR", dir.path())
        .output()
        .unwrap()
        .status;
    assert_eq!(status.signal(), Some(9), "{status}");
    assert_eq!(read(&dir.path().join("second")), b"text");
}
