//! The directory of manifests: commits, failing disks, retention, the step back.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use akidb_host::sim::{Act, EIO, ENOSPC, HookFs, Op};
use akidb_host::{Fs, RealFs};
use tempfile::TempDir;

use super::{committed, sample, segment, stamp};
use crate::error::{ErrorKind, Fate};
use crate::lsn::Lsn;
use crate::manifest::{Committed, Kept, Manifest, Reason, Store, file_name, repair_step_back};

const HOUR_MICROS: i64 = 3_600_000_000;

fn store(dir: &TempDir) -> Store {
    Store::new(Arc::new(RealFs), dir.path().to_path_buf())
}

/// A store whose disk lets calls of kind `op` on paths ending in `end` go as `act` says.
fn failing(dir: &TempDir, op: Op, end: &'static str, act: Act) -> Store {
    let fs = HookFs::new(
        Arc::new(RealFs),
        Arc::new(move |call| {
            let meant = call.op == op && call.path.to_string_lossy().ends_with(end);
            if meant { act } else { Act::Go }
        }),
    );
    Store::new(Arc::new(fs), dir.path().to_path_buf())
}

fn next(parent: &Committed) -> Manifest {
    parent.successor(stamp(1, 0xabcd), Reason::Flush)
}

/// `n` manifests, an hour apart, the first at hour 0.
fn history(store: &Store, n: u64) -> Committed {
    let mut first = sample();
    first.created_at = jiff::Timestamp::from_microsecond(0).unwrap();
    let mut newest = store.commit(None, first).unwrap();
    for hour in 1..n {
        let mut m = next(&newest);
        m.created_at = jiff::Timestamp::from_microsecond(i64::try_from(hour).unwrap() * HOUR_MICROS).unwrap();
        newest = store.commit(Some(&newest), m).unwrap();
    }
    newest
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[100] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_was_committed_is_the_newest_and_other_names_are_ignored() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    assert_eq!(store.newest().unwrap(), None);
    let first = store.commit(None, sample()).unwrap();
    let second = store.commit(Some(&first), next(&first)).unwrap();
    for name in ["notes.txt", "99999999999999999999.json", "00000000000000000009.json.tmp"] {
        std::fs::write(dir.path().join(name), b"x").unwrap();
    }
    std::fs::create_dir(dir.path().join(file_name(77))).unwrap();
    assert_eq!(store.newest().unwrap(), Some(second));
    assert_eq!(store.load(1).unwrap(), first);
    assert_eq!(store.numbers().unwrap(), [1, 2]);
    assert_eq!(store.leftovers().unwrap(), [dir.path().join("00000000000000000009.json.tmp")]);
    let missing = Store::new(Arc::new(RealFs), dir.path().join("nowhere"));
    assert_eq!(missing.newest().unwrap(), None);
    assert_eq!(missing.load(3).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_commit_says_the_lowest_format_that_has_its_fields_and_an_old_database_rises_with_its_first_index() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let first = store.commit(None, sample()).unwrap();
    assert_eq!(first.manifest.format.minor, 0);
    let mut m = next(&first);
    let mut indexed = segment(3, 10, Lsn::new(1, 151));
    (indexed.codes, indexed.head) = (indexed.id_index, indexed.id_index);
    m.collections[0].segments.push(indexed);
    let second = store.commit(Some(&first), m).unwrap();
    assert_eq!(second.manifest.format.minor, 1);
    assert_eq!(store.newest().unwrap().as_ref(), Some(&second));
    assert_eq!(store.load(1).unwrap(), first, "the older format is still read");
}

#[test]
fn a_manifest_that_breaks_a_rule_is_never_written() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let first = store.commit(None, sample()).unwrap();
    let mut bad = next(&first);
    bad.floor = Lsn::new(1, 1);
    let e = store.commit(Some(&first), bad).unwrap_err();
    assert_eq!((e.kind(), e.fate()), (ErrorKind::Internal, Fate::NotWritten));
    assert!(e.message().contains("floor_never_falls"), "{e}");
    assert_eq!(store.numbers().unwrap(), [1]);
}

#[test]
fn a_taken_number_is_a_conflict_by_ourselves_and_a_fence_by_another() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let first = store.commit(None, sample()).unwrap();
    let mut theirs = first.successor(stamp(2, 0xbeef), Reason::Open);
    theirs.created_at = first.manifest.created_at;
    let second = store.commit(Some(&first), theirs).unwrap();
    let e = store.commit(Some(&first), next(&first)).unwrap_err();
    assert_eq!((e.kind(), e.fate()), (ErrorKind::Fenced, Fate::NotWritten));
    assert!(e.message().contains("0000beef"), "{e}");
    let again = first.successor(stamp(2, 0xbeef), Reason::Flush);
    assert_eq!(store.commit(Some(&first), again).unwrap_err().kind(), ErrorKind::Conflict);
    // A number that retention has already let go is still behind the newest.
    let third = second.successor(stamp(2, 0xbeef), Reason::Flush);
    store.commit(Some(&second), third).unwrap();
    store.delete(&[1, 2]).unwrap();
    assert_eq!(store.commit(Some(&first), next(&first)).unwrap_err().kind(), ErrorKind::Fenced);
}

#[test]
fn a_disk_that_fails_before_the_link_leaves_nothing_and_may_be_tried_again() {
    let cases = [
        (Op::CreateNew, ".tmp", Act::Fail(EIO)),
        (Op::WriteAt, ".tmp", Act::Fail(ENOSPC)),
        (Op::WriteAt, ".tmp", Act::FailMidway(ENOSPC)),
        (Op::SyncAll, ".tmp", Act::Fail(EIO)),
        (Op::HardLink, ".json", Act::Fail(ENOSPC)),
    ];
    for (op, end, act) in cases {
        let dir = TempDir::new().unwrap();
        let good = store(&dir);
        let first = good.commit(None, sample()).unwrap();
        let e = failing(&dir, op, end, act).commit(Some(&first), next(&first)).unwrap_err();
        let full = matches!(act, Act::Fail(ENOSPC) | Act::FailMidway(ENOSPC));
        let kind = if full { ErrorKind::NoSpace } else { ErrorKind::Unavailable };
        assert_eq!((e.kind(), e.fate()), (kind, Fate::NotWritten), "{op:?}: {e}");
        assert_eq!(good.newest().unwrap().as_ref(), Some(&first), "{op:?}");
        assert_eq!(good.leftovers().unwrap(), Vec::<std::path::PathBuf>::new(), "{op:?}");
        good.commit(Some(&first), next(&first)).unwrap();
    }
}

#[test]
fn a_failed_sync_of_the_directory_leaves_the_outcome_unknown_and_a_reopen_tells() {
    let dir = TempDir::new().unwrap();
    let good = store(&dir);
    let first = good.commit(None, sample()).unwrap();
    let path = dir.path().to_string_lossy().into_owned();
    let store = failing(&dir, Op::SyncDir, Box::leak(path.into_boxed_str()), Act::Fail(EIO));
    let e = store.commit(Some(&first), next(&first)).unwrap_err();
    assert_eq!((e.kind(), e.fate(), e.code()), (ErrorKind::Poisoned, Fate::Unknown, "AKI-0313"));
    assert_eq!(good.newest().unwrap().unwrap().manifest.number, 2);
}

#[test]
fn a_damaged_newest_manifest_is_never_a_silent_step_back() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    history(&store, 3);
    flip(&store.path(3));
    let e = store.newest().unwrap_err();
    assert_eq!((e.kind(), e.offset()), (ErrorKind::Corrupt, Some(100)));
    assert_eq!(e.file(), Some(store.path(3).as_path()));
    assert!(e.help().unwrap().contains("akidb repair manifest"), "{e}");
    std::fs::copy(store.path(1), store.path(3)).unwrap();
    assert_eq!(store.newest().unwrap_err().code(), "AKI-0309", "the name and the number differ");
    let e = failing(&dir, Op::ReadAt, "2.json", Act::Fail(EIO)).load(2).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt, "a sector that cannot be read is damage: {e}");
}

#[test]
fn the_step_back_is_by_order_only_and_keeps_what_it_moves() {
    let dir = TempDir::new().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let store = store(&dir);
    let newest = history(&store, 4);
    let e = repair_step_back(&fs, dir.path()).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Invalid, "AKI-0317"));
    flip(&store.path(4));
    flip(&store.path(3));
    let damaged = std::fs::read(store.path(4)).unwrap();
    let done = repair_step_back(&fs, dir.path()).unwrap();
    assert_eq!((done.to, done.floor, done.damaged.len()), (2, newest.manifest.floor, 2));
    assert_eq!(std::fs::read(&done.damaged[0]).unwrap(), damaged);
    let second = store.newest().unwrap().unwrap();
    assert_eq!(second.manifest.number, 2);
    // Number 3 is written again, damaged again, and set aside under a name of its own.
    store.commit(Some(&second), next(&second)).unwrap();
    flip(&store.path(3));
    let again = repair_step_back(&fs, dir.path()).unwrap();
    assert!(again.damaged[0].ends_with("damaged/00000000000000000003.json.1"), "{again:?}");
}

#[test]
fn a_step_back_with_nothing_to_step_back_to_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    assert_eq!(repair_step_back(&fs, dir.path()).unwrap_err().kind(), ErrorKind::NotFound);
    let store = store(&dir);
    history(&store, 2);
    flip(&store.path(1));
    flip(&store.path(2));
    assert_eq!(repair_step_back(&fs, dir.path()).unwrap_err().code(), "AKI-0318");
    assert_eq!(store.numbers().unwrap(), [1, 2]);
}

#[test]
fn a_newest_manifest_that_is_newer_or_cannot_be_opened_is_no_reason_to_step_back() {
    let dir = TempDir::new().unwrap();
    let good = store(&dir);
    history(&good, 2);
    let denied = HookFs::new(
        Arc::new(RealFs),
        Arc::new(|call| if call.op == Op::Open { Act::Fail(13) } else { Act::Go }),
    );
    let denied: Arc<dyn Fs> = Arc::new(denied);
    assert_eq!(repair_step_back(&denied, dir.path()).unwrap_err().kind(), ErrorKind::Unavailable);
    let mut newer = committed(sample()).successor(stamp(1, 0xabcd), Reason::Flush);
    newer.format.incompatible = vec!["two_level".into()];
    std::fs::write(good.path(2), newer.encode().unwrap().0).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    assert_eq!(repair_step_back(&fs, dir.path()).unwrap_err().kind(), ErrorKind::NewerFormat);
    assert_eq!(good.numbers().unwrap(), [1, 2]);
}

#[test]
fn kept_are_the_newest_hundred_of_a_day_the_newest_of_all_and_the_pinned() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    history(&store, 30);
    let none = BTreeSet::new();
    let now = 29 * HOUR_MICROS;
    let day = Kept::default();
    assert_eq!(store.expired(day, now, &none).unwrap(), [1, 2, 3, 4, 5], "older than 24 hours");
    // A store that has read nothing yet answers the same.
    let fresh = Store::new(Arc::new(RealFs), dir.path().to_path_buf());
    assert_eq!(fresh.expired(day, now, &BTreeSet::from([2])).unwrap(), [1, 3, 4, 5]);
    let three = Kept { count: 3, ..day };
    assert_eq!(store.expired(three, now, &none).unwrap(), (1..=27).collect::<Vec<_>>());
    let much_later = 1_000 * HOUR_MICROS;
    assert_eq!(store.expired(day, much_later, &none).unwrap(), (1..=29).collect::<Vec<_>>());
    assert!(
        store.expired(day, -HOUR_MICROS, &none).unwrap().is_empty(),
        "a clock that went back deletes nothing"
    );
    // Of 5 and 3 nobody can tell; 4 is old, so 3 is.
    for number in [3, 5] {
        let path = store.path(number);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[1..]).unwrap();
    }
    let fresh = Store::new(Arc::new(RealFs), dir.path().to_path_buf());
    assert_eq!(fresh.expired(day, now, &none).unwrap(), [1, 2, 3, 4]);
    store.delete(&[1, 2, 2]).unwrap();
    assert_eq!(store.numbers().unwrap().len(), 28);
    let stuck = failing(&dir, Op::Unlink, "3.json", Act::Fail(EIO));
    assert_eq!(stuck.delete(&[3]).unwrap_err().code(), "AKI-0316");
}

#[test]
fn a_commit_is_the_whole_file_or_nothing_at_every_call_that_may_fail() {
    // The number of calls of a good commit, then one commit for each of them failing.
    let commit_failing_at = |fail_at: Option<u64>| -> u64 {
        let dir = TempDir::new().unwrap();
        let first = store(&dir).commit(None, sample()).unwrap();
        let hook = move |call: &akidb_host::sim::Call<'_>| {
            if Some(call.n) == fail_at { Act::Fail(EIO) } else { Act::Go }
        };
        let fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
        let store = Store::new(Arc::clone(&fs) as Arc<dyn Fs>, dir.path().to_path_buf());
        let done = store.commit(Some(&first), next(&first));
        let reopened = self::store(&dir).newest().unwrap().unwrap().manifest.number;
        match &done {
            Ok(c) => assert_eq!((c.manifest.number, reopened), (2, 2)),
            Err(e) if e.fate() == Fate::NotWritten => assert_eq!(reopened, 1, "{e}"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Poisoned, "{e}"),
        }
        fs.calls()
    };
    let calls = commit_failing_at(None);
    assert!(calls >= 6);
    for n in 1..=calls {
        commit_failing_at(Some(n));
    }
}
