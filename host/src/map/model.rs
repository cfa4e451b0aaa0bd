//! Loom models of the region: `RUSTFLAGS="--cfg akidb_loom" cargo test -p akidb-host --lib map::model`.
//! With `--cfg seeded_bugs` besides and `AKIDB_SEEDED_BUG=map_publish_relaxed`, `a_reader_sees_only_whole_frames` must fail.

use super::LogRegion;

#[test]
fn a_reader_sees_only_whole_frames() {
    loom::model(|| {
        let (mut appender, tail) = LogRegion::in_memory(24).unwrap().split();
        let reader = loom::thread::spawn(move || {
            let first = tail.end();
            for frame in 0..first / 8 {
                assert_eq!(tail.bytes(frame * 8..frame * 8 + 8), Some(&frame.to_le_bytes()[..]));
            }
            assert!(tail.end() >= first);
        });
        for frame in 0..3_u64 {
            appender.append(&frame.to_le_bytes()).unwrap();
            appender.publish();
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_reclaimed_region_is_no_readers_any_more() {
    loom::model(|| {
        let (mut appender, tail) = LogRegion::in_memory(8).unwrap().split();
        appender.append(b"old frog").unwrap();
        appender.publish();
        let reader = loom::thread::spawn(move || assert_eq!(tail.bytes(0..8), Some(&b"old frog"[..])));
        if let Ok(region) = appender.reclaim() {
            let (mut appender, tail) = region.split();
            assert_eq!(tail.end(), 0);
            appender.append(b"new frog").unwrap();
            appender.publish();
            assert_eq!(tail.bytes(0..8), Some(&b"new frog"[..]));
        }
        reader.join().unwrap();
    });
}
