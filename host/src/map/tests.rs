//! What readers see of a log region, and what a map may be asked for.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{LogRegion, NoRoom, Region, probe_folio};
use crate::fs::{Access, File, Fs, FsKind, RealFs};

fn file_of(dir: &Path, len: u64) -> Arc<dyn File> {
    let file = RealFs.create_new(&dir.join("log")).unwrap();
    file.zero_fill(0, len).unwrap();
    file.sync_all().unwrap();
    file
}

#[test]
fn a_tail_sees_only_what_was_published() {
    let (mut appender, tail) = LogRegion::in_memory(64).unwrap().split();
    assert_eq!(appender.append(b"hidden"), Ok(0));
    assert_eq!((appender.end(), tail.end()), (6, 0));
    assert_eq!(tail.bytes(0..6), None);
    assert_eq!(tail.bytes(0..0), Some(&b""[..]));
    appender.publish();
    assert_eq!(appender.append(b"more"), Ok(6));
    assert_eq!(tail.bytes(0..6), Some(&b"hidden"[..]));
    assert_eq!(tail.bytes(4..7), None);
    #[expect(clippy::reversed_empty_ranges, reason = "the case under test")]
    let inverted = tail.bytes(5..4);
    assert_eq!(inverted, None);
}

#[test]
fn parts_lie_one_behind_the_other_and_all_or_none_are_written() {
    let (mut appender, tail) = LogRegion::in_memory(16).unwrap().split();
    assert_eq!(appender.write_parts(&[b"head", b"", b"payload"]), Ok(0));
    assert_eq!(appender.write_parts(&[b"1234", b"56"]), Err(NoRoom { needed: 6, left: 5 }));
    assert_eq!(appender.end(), 11);
    assert_eq!(appender.append(b"fits!"), Ok(11));
    appender.publish();
    assert_eq!(tail.bytes(0..16), Some(&b"headpayloadfits!"[..]));
    assert_eq!(appender.append(b"x"), Err(NoRoom { needed: 1, left: 0 }));
    assert_eq!(appender.append(b""), Ok(16));
}

#[test]
fn an_append_behind_a_header_reaches_the_file_and_its_readers() {
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), 8192);
    file.write_at(b"header", 0).unwrap();
    let (mut appender, tail) = file.map_log(8192).unwrap().split();
    appender.seek(4096);
    assert_eq!(appender.append(b"frame"), Ok(4096));
    appender.publish();
    file.sync_data().unwrap();
    assert_eq!(tail.bytes(0..6), Some(&b"header"[..]));
    assert_eq!(tail.bytes(4096..4101), Some(&b"frame"[..]));
    let mut back = [0; 5];
    RealFs.open(&dir.path().join("log"), Access::Read).unwrap().read_exact_at(&mut back, 4096).unwrap();
    assert_eq!(&back, b"frame");
}

#[test]
fn the_map_outlives_the_file_handle_and_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), 4096);
    let (mut appender, tail) = file.map_log(4096).unwrap().split();
    drop(file);
    RealFs.unlink(&dir.path().join("log")).unwrap();
    appender.append(b"still here").unwrap();
    appender.publish();
    drop(appender);
    assert_eq!(tail.bytes(0..10), Some(&b"still here"[..]));
}

#[test]
fn a_map_past_the_end_of_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), 4096);
    let refused = file.map_log(4097).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("4097"), "{refused}");
}

#[test]
fn a_region_is_reclaimed_only_when_no_tail_lives() {
    let (mut appender, tail) = LogRegion::in_memory(32).unwrap().split();
    appender.append(b"old").unwrap();
    appender.publish();
    let other = tail.clone();
    drop(tail);
    let mut appender = appender.reclaim().unwrap_err();
    assert_eq!((appender.end(), appender.append(b"er")), (3, Ok(3)));
    appender.publish();
    assert_eq!(other.bytes(0..5), Some(&b"older"[..]));
    drop(other);
    let (appender, tail) = appender.reclaim().unwrap().split();
    assert_eq!((appender.end(), tail.end(), appender.capacity()), (0, 0, 32));
}

#[test]
#[should_panic(expected = "seek after a publish")]
fn seek_after_a_publish_is_refused() {
    let (mut appender, _tail) = LogRegion::in_memory(32).unwrap().split();
    appender.append(b"shown").unwrap();
    appender.publish();
    appender.seek(0);
}

#[test]
#[should_panic(expected = "seek past the end")]
fn seek_past_the_capacity_is_refused() {
    LogRegion::in_memory(32).unwrap().split().0.seek(33);
}

#[test]
fn readers_beside_the_appender_see_whole_frames_in_order() {
    const FRAMES: u64 = 20_000;
    let (mut appender, tail) = LogRegion::in_memory(usize::try_from(FRAMES * 8).unwrap()).unwrap().split();
    let check = |tail: super::Tail| {
        let mut seen = 0;
        while seen < FRAMES {
            let end = tail.end() / 8;
            for n in seen..end {
                assert_eq!(tail.bytes(n * 8..n * 8 + 8), Some(&n.to_le_bytes()[..]));
            }
            seen = end;
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| check(tail.clone()));
        }
        for n in 0..FRAMES {
            appender.append(&n.to_le_bytes()).unwrap();
            if n % 3 == 0 || n + 1 == FRAMES {
                appender.publish();
            }
        }
    });
}

#[test]
fn an_empty_file_maps_to_an_empty_region() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs.create_new(&dir.path().join("empty")).unwrap();
    assert!(file.map().unwrap().bytes().is_empty());
    file.write_at(b"now some", 0).unwrap();
    let region = file.map().unwrap();
    assert_eq!(region.clone().bytes(), b"now some");
    assert_eq!(Region::from_vec(vec![1, 2]).bytes(), [1, 2]);
}

#[test]
fn one_stored_byte_of_a_zero_filled_file_writes_at_most_8_kib() {
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), 1 << 20);
    file.write_at(&[7], 4096).unwrap();
    if RealFs.written_bytes().is_none() || RealFs.statfs(dir.path()).unwrap().kind != FsKind::Local {
        return;
    }
    // Other tests of this process write as well and raise a reading now and then.
    let least = (0..10).map(|_| probe_folio(&RealFs, &*file, 4096).unwrap()).min().unwrap();
    assert!((1..=8192).contains(&least), "{least} bytes written for one stored byte");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096).unwrap();
    assert_eq!(byte, [7]);
}

#[test]
fn bytes_written_through_the_file_are_seen_by_tails_once_published() {
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), 8192);
    let (mut appender, tail) = file.map_log(8192).unwrap().split();
    appender.seek(4096);
    assert_eq!(appender.write_through(&*file, b"positioned ").unwrap(), 4096);
    assert_eq!((appender.end(), tail.end()), (4107, 0));
    assert_eq!(appender.append(b"mapped "), Ok(4107));
    assert_eq!(appender.write_through(&*file, b"again").unwrap(), 4114);
    appender.publish();
    assert_eq!(tail.bytes(4096..4119), Some(&b"positioned mapped again"[..]));
    let mut back = [0; 23];
    file.read_exact_at(&mut back, 4096).unwrap();
    assert_eq!(&back, b"positioned mapped again");
}

#[test]
fn a_write_through_that_fails_leaves_the_private_end_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), 4096);
    let read_only = RealFs.open(&dir.path().join("log"), Access::Read).unwrap();
    let (mut appender, tail) = file.map_log(4096).unwrap().split();
    appender.append(b"kept").unwrap();
    appender.write_through(&*read_only, b"refused").unwrap_err();
    let full = appender.write_through(&*file, &[1; 4093]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(appender.write_through(&*file, b", too").unwrap(), 4);
    appender.publish();
    assert_eq!((tail.end(), tail.bytes(0..9)), (9, Some(&b"kept, too"[..])));
}

#[test]
fn a_region_without_a_file_gets_a_copy_of_what_is_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), 4096);
    let (mut appender, tail) = LogRegion::in_memory(64).unwrap().split();
    assert_eq!(appender.write_through(&*file, b"both").unwrap(), 0);
    appender.publish();
    let mut back = [0; 4];
    file.read_exact_at(&mut back, 0).unwrap();
    assert_eq!((tail.bytes(0..4), &back), (Some(&b"both"[..]), b"both"));
}
