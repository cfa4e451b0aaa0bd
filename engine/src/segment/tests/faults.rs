//! A disk that fails: nothing half-written is ever named, and the rows can be written again.

use akidb_host::Fs;
use akidb_host::sim::{Act, EIO, ENOSPC, HookFs, Op, act_at, fail_at, fail_from};

use super::*;
use crate::error::{ErrorKind, Fate};

fn write_through(
    fs: &dyn Fs,
    dir: &Path,
    name: SegmentName,
    schema: &Schema,
    rows: &Rows,
) -> Result<SegmentMeta> {
    let table = &MemoryBudget::new(0).account().charge(MemoryUse::Segments, 0);
    let writing = Writing { fs, dir, name, schema, level: 0, group_bytes: u64::MAX, table };
    write_segment(&writing, &mut RowsInMemory::new(rows, &|| None))
}

fn names(dir: &Path) -> Vec<String> {
    RealFs.list(dir).unwrap().into_iter().map(|e| e.name).collect()
}

#[test]
fn a_write_that_fails_at_any_call_leaves_no_name_and_succeeds_under_a_new_one() {
    let schema = every_type(8);
    let rows = rows(&schema, 600, 6);
    let mut failed = 0;
    for k in 1.. {
        let dir = tempfile::tempdir().unwrap();
        let errno = if k % 2 == 0 { EIO } else { ENOSPC };
        let fs = HookFs::new(Arc::new(RealFs), fail_at(k, errno));
        let done = write_through(&fs, dir.path(), NAME, &schema, &rows);
        let Err(error) = done else {
            assert_eq!(names(dir.path()).first(), Some(&NAME.to_string()), "call {k}");
            if fs.calls() < k {
                break;
            }
            // A failed unlink of the temporary name is the one call whose failure does no harm.
            continue;
        };
        failed += 1;
        println!("call {k}: {error}");
        if error.kind() == ErrorKind::Poisoned {
            assert_eq!(error.fate(), Fate::Unknown);
        } else {
            assert!(matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::Unavailable), "{error}");
            assert_eq!(error.fate(), Fate::NotWritten);
            assert!(!names(dir.path()).contains(&NAME.to_string()), "call {k}");
        }
        let next = SegmentName { seq: NAME.seq + 1, ..NAME };
        let meta = write_through(&fs, dir.path(), next, &schema, &rows).unwrap();
        let segment = Segment::open(&RealFs, &dir.path().join(&meta.file), &meta, &schema).unwrap();
        segment.verify().unwrap();
    }
    assert!(failed >= 5, "create, write, sync, link and directory sync can fail; {failed} did");
}

#[test]
fn a_disk_that_stays_full_is_no_space_and_leaves_nothing_behind_but_a_temporary_name() {
    let schema = every_type(8);
    let rows = rows(&schema, 600, 6);
    let dir = tempfile::tempdir().unwrap();
    let fs = HookFs::new(Arc::new(RealFs), fail_from(3, ENOSPC));
    let error = write_through(&fs, dir.path(), NAME, &schema, &rows).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.file().is_some());
    assert!(names(dir.path()).iter().all(|n| n.ends_with(".tmp")));
    // The next writer of that name, after a reopen, is not in the way of the leftover.
    write_through(&RealFs, dir.path(), NAME, &schema, &rows).unwrap();
}

#[test]
fn half_a_write_is_an_error_not_a_segment() {
    let schema = every_type(8);
    let rows = rows(&schema, 600, 6);
    let dir = tempfile::tempdir().unwrap();
    let fs = HookFs::new(Arc::new(RealFs), act_at(1, Act::FailMidway(ENOSPC), |op| op == Op::WriteAt));
    assert_eq!(write_through(&fs, dir.path(), NAME, &schema, &rows).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_read_that_fails_at_any_call_is_unavailable_with_file_and_offset_and_works_when_the_disk_does() {
    let schema = every_type(8);
    let written = Written::new(schema.clone(), rows(&schema, 600, 6));
    let mut failed = 0;
    for k in 1.. {
        let fs =
            HookFs::new(Arc::new(RealFs), act_at(k, Act::Fail(EIO), |op| matches!(op, Op::ReadAt | Op::Map)));
        let open = || Segment::open(&fs, &written.path(), &written.meta, &schema);
        let (error, segment) = match open() {
            Err(error) => (error, open().unwrap()),
            Ok(segment) => match assert_reads_back(&written, &segment) {
                Ok(()) => break,
                Err(error) => (error, segment),
            },
        };
        failed += 1;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.file(), Some(&*written.path()));
        assert_reads_back(&written, &segment).unwrap();
    }
    println!("{failed} calls failed in turn");
    assert!(failed >= 4);
}

#[test]
fn a_missing_segment_is_damage_with_what_mends_it() {
    let schema = every_type(8);
    let written = Written::new(schema.clone(), rows(&schema, 3, 6));
    std::fs::remove_file(written.path()).unwrap();
    let error = written.open().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "AKI-0501"));
    assert!(error.is_of_missing_file() && error.help().unwrap().contains("--drop"));
}
