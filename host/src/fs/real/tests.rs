//! The contract of `Fs` and `File` on a real directory.

use std::io;
use std::path::Path;

use super::{RealFs, kind_of_magic, parent_of};
use crate::fs::{Access, Advice, EntryKind, Fs, FsKind, publish_new, publish_over};

fn read(path: &Path) -> Vec<u8> {
    RealFs.open(path, Access::Read).unwrap().map().unwrap().bytes().to_vec()
}

#[test]
fn bytes_written_are_read_back_at_their_offset() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs.create_new(&dir.path().join("f")).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_at(b"abcdef", 3).unwrap();
    file.advise(Advice::DontNeed);
    file.sync_data().unwrap();
    assert_eq!(file.len().unwrap(), 9);
    let mut buf = [9; 4];
    assert_eq!(file.read_at(&mut buf, 7).unwrap(), 2);
    assert_eq!(&buf[..2], b"ef");
    assert_eq!(file.read_at(&mut buf, 9).unwrap(), 0);
    let short = file.read_exact_at(&mut buf, 7).unwrap_err();
    assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    file.set_len(4).unwrap();
    assert_eq!(read(&dir.path().join("f")), b"\0\0\0a");
}

#[test]
fn create_new_refuses_a_name_that_is_taken_and_open_one_that_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    assert_eq!(RealFs.open(&path, Access::ReadWrite).unwrap_err().kind(), io::ErrorKind::NotFound);
    RealFs.create_new(&path).unwrap();
    assert_eq!(RealFs.create_new(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(RealFs.open(&path, Access::Read).unwrap().write_at(b"x", 0).is_err());
}

#[test]
fn zero_fill_covers_its_range_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs.create_new(&dir.path().join("f")).unwrap();
    file.write_at(&[1; 10_000], 0).unwrap();
    file.zero_fill(100, 9_000).unwrap();
    let bytes = read(&dir.path().join("f"));
    assert!(bytes[..100].iter().chain(&bytes[9_000..]).all(|b| *b == 1));
    assert!(bytes[100..9_000].iter().all(|b| *b == 0));
    file.zero_fill(10_000, 20_001).unwrap();
    file.zero_fill(5, 5).unwrap();
    assert_eq!(file.len().unwrap(), 20_001);
}

#[test]
fn directories_are_created_with_their_parents_and_again_without_complaint() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    RealFs.create_dir_all(&deep).unwrap();
    RealFs.create_dir_all(&deep).unwrap();
    assert_eq!(RealFs.metadata(&deep).unwrap().kind, EntryKind::Dir);
    RealFs.create_new(&dir.path().join("file")).unwrap();
    assert!(RealFs.create_dir_all(&dir.path().join("file")).is_err());
    assert!(RealFs.create_dir_all(&dir.path().join("file/below")).is_err());
    RealFs.remove_dir(&deep).unwrap();
    assert!(RealFs.remove_dir(&dir.path().join("a")).is_err(), "not empty");
}

#[test]
fn the_parent_of_a_bare_name_is_the_current_directory() {
    assert_eq!(parent_of(Path::new("x")), Path::new("."));
    assert_eq!(parent_of(Path::new("a/x")), Path::new("a"));
    assert_eq!(parent_of(Path::new("/x")), Path::new("/"));
}

#[test]
fn names_are_listed_sorted_with_their_kinds() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b", "a", "c"] {
        RealFs.create_new(&dir.path().join(name)).unwrap();
    }
    RealFs.create_dir_all(&dir.path().join("aa")).unwrap();
    std::os::unix::fs::symlink("a", dir.path().join("d")).unwrap();
    let listed: Vec<_> =
        RealFs.list(dir.path()).unwrap().into_iter().map(|entry| (entry.name, entry.kind)).collect();
    let want = [
        ("a", EntryKind::File),
        ("aa", EntryKind::Dir),
        ("b", EntryKind::File),
        ("c", EntryKind::File),
        ("d", EntryKind::Other),
    ];
    assert_eq!(listed, want.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!(RealFs.list(&dir.path().join("no")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn rename_replaces_and_link_refuses_a_taken_name() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    RealFs.create_new(&one).unwrap().write_at(b"one", 0).unwrap();
    RealFs.create_new(&two).unwrap().write_at(b"two", 0).unwrap();
    assert_eq!(RealFs.hard_link(&one, &two).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    RealFs.rename(&one, &two).unwrap();
    assert_eq!(read(&two), b"one");
    RealFs.hard_link(&two, &one).unwrap();
    RealFs.unlink(&two).unwrap();
    assert_eq!(read(&one), b"one");
    assert_eq!(RealFs.unlink(&two).unwrap_err().kind(), io::ErrorKind::NotFound);
    RealFs.sync_dir(dir.path()).unwrap();
}

#[test]
fn publish_new_keeps_what_stands_and_publish_over_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    publish_new(&RealFs, dir.path(), "doc", b"first").unwrap();
    let taken = publish_new(&RealFs, dir.path(), "doc", b"second").unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(read(&dir.path().join("doc")), b"first");
    publish_over(&RealFs, dir.path(), "doc", b"third").unwrap();
    assert_eq!(read(&dir.path().join("doc")), b"third");
    assert_eq!(RealFs.list(dir.path()).unwrap().len(), 1, "no temporary file stays");
}

#[test]
fn a_leftover_that_is_a_second_name_of_a_published_file_is_not_written_into() {
    let dir = tempfile::tempdir().unwrap();
    publish_new(&RealFs, dir.path(), "doc", b"published").unwrap();
    RealFs.hard_link(&dir.path().join("doc"), &dir.path().join("doc.tmp")).unwrap();
    assert!(publish_new(&RealFs, dir.path(), "doc", b"other").is_err());
    assert_eq!(read(&dir.path().join("doc")), b"published");
}

#[test]
fn a_lock_is_refused_to_a_second_handle_until_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let held = RealFs.try_lock(&path).unwrap().unwrap();
    held.write_text("a rather long first text").unwrap();
    held.write_text("pid 7").unwrap();
    assert!(RealFs.try_lock(&path).unwrap().is_none());
    assert!(RealFs.try_lock(&path).unwrap().is_none(), "asking again changes nothing");
    assert_eq!(read(&path), b"pid 7");
    drop(held);
    assert!(RealFs.try_lock(&path).unwrap().is_some());
    assert_eq!(read(&path), b"pid 7", "taking the lock does not cut the file");
}

#[test]
fn a_lock_is_shared_by_those_who_only_read_and_keeps_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let missing = RealFs.try_lock_shared(&path).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert!(!path.exists());
    let alone = RealFs.try_lock(&path).unwrap().unwrap();
    alone.write_text("pid 7").unwrap();
    assert!(RealFs.try_lock_shared(&path).unwrap().is_none());
    drop(alone);
    let readers: Vec<_> = (0..2).map(|_| RealFs.try_lock_shared(&path).unwrap().unwrap()).collect();
    assert!(RealFs.try_lock(&path).unwrap().is_none());
    assert!(readers[0].write_text("mine").is_err(), "its handle only reads");
    assert_eq!(read(&path), b"pid 7");
    for reader in readers {
        assert!(RealFs.try_lock(&path).unwrap().is_none());
        drop(reader);
    }
    assert!(RealFs.try_lock(&path).unwrap().is_some());
}

#[test]
fn a_temporary_directory_has_space_and_a_file_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let stats = RealFs.statfs(dir.path()).unwrap();
    assert!(stats.total_bytes > 0 && stats.available_bytes <= stats.total_bytes, "{stats:?}");
    let path = dir.path().join("f");
    RealFs.create_new(&path).unwrap().write_at(b"12345", 0).unwrap();
    let meta = RealFs.metadata(&path).unwrap();
    assert_eq!((meta.kind, meta.len), (EntryKind::File, 5));
    assert!(meta.modified_unix_micros > 1_600_000_000_000_000, "{meta:?}");
}

#[test]
fn file_systems_are_told_apart_by_their_magic_numbers() {
    assert_eq!(kind_of_magic(0xef53), FsKind::Local);
    assert_eq!(kind_of_magic(0x5846_5342), FsKind::Local);
    for magic in [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e, 0xf2f5_2010] {
        assert_eq!(kind_of_magic(magic), FsKind::CopyOnWrite);
    }
    assert_eq!(kind_of_magic(0x0102_1994), FsKind::Memory);
    assert_eq!(kind_of_magic(0x6969), FsKind::Network);
    assert_eq!(kind_of_magic(i64::from(0xff53_4d42_u32.cast_signed())), FsKind::Network, "sign-extended");
    if Path::new("/dev/shm").is_dir() {
        assert_eq!(RealFs.statfs(Path::new("/dev/shm")).unwrap().kind, FsKind::Memory);
    }
}

/// What is looked at behind a page that cannot be had ends the process; to ask for it first does not.
#[test]
fn a_page_that_cannot_be_had_is_an_error_of_populate() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs.create_new(&dir.path().join("f")).unwrap();
    file.zero_fill(0, 3 * 4096).unwrap();
    let region = file.map().unwrap();
    if let Err(e) = file.populate(&region, 100..3 * 4096) {
        println!("skipped: this kernel does not know the call ({e})");
        return;
    }
    // As good as a sector that cannot be read: no page behind the map.
    file.set_len(4096).unwrap();
    file.populate(&region, 100..4096).unwrap();
    assert!(file.populate(&region, 4000..5000).is_err());
    assert!(file.populate(&region, 8192..3 * 4096).is_err());
}
