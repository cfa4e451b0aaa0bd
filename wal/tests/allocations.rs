//! No allocation between a record and its acknowledgement. A binary of its own, because the allocator that counts is
//! one for all of a binary; it counts for each thread apart.
#![expect(clippy::unwrap_used, reason = "a test that is surprised stops there")]

use std::sync::Arc;
use std::thread;

use akidb_host::{RealClock, RealFs, RealSpawn};
use akidb_wal::{Config, Log, Lsn, Options};
use allocation_counter::{AllocationInfo, measure};

const RECORD: [u8; 1_640] = [0x5a; 1_640];

fn open(dir: &tempfile::TempDir) -> Log {
    let mut config = Config::default();
    // No rotation while it is counted: a new file is made by the thread that prepares files.
    config.first_file_bytes = 32 << 20;
    let options = Options {
        dir: dir.path().join("wal"),
        fs: Arc::new(RealFs),
        clock: Arc::new(RealClock),
        spawn: Arc::new(RealSpawn),
        config,
        min_epoch: 0,
        floor: Lsn::ZERO,
        read_only: false,
    };
    Log::open(options).unwrap().0
}

fn acknowledge(log: &Log, records: u32) {
    for _ in 0..records {
        log.wait(log.append(&[&RECORD, &RECORD[..100]]).unwrap().last).unwrap();
    }
}

/// Allocations of each writer in its second half, the first one being its warm-up.
fn allocations(log: &Log, writers: usize) -> Vec<AllocationInfo> {
    let write = || {
        acknowledge(log, 200);
        measure(|| acknowledge(log, 1_000))
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..writers).map(|_| scope.spawn(write)).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    })
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 1);
}

#[test]
fn append_and_wait_allocate_nothing() {
    for writers in [1, 4] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(&dir);
        // Whoever listens for syncs is called by the writers; it must not cost an allocation either.
        log.on_synced(Arc::new(|_| {}));
        for (writer, seen) in allocations(&log, writers).into_iter().enumerate() {
            println!("{writers} writers, writer {writer}: {} allocations of 1,000 records", seen.count_total);
            assert_eq!(seen.count_total, 0, "{writers} writers, writer {writer}: {seen:?}");
        }
    }
}
