//! No allocation between a record and its acknowledgement. A binary of its own, because the allocator that counts is
//! one for all of a binary; it counts for each thread apart.
#![expect(clippy::unwrap_used, reason = "a test that is surprised stops there")]

use std::sync::Arc;
use std::thread;

use akidb_host::{RealClock, RealFs, RealSpawn};
use akidb_wal::{Config, Durability, Log, Lsn, Options, WritePath};
use allocation_counter::{AllocationInfo, measure};

const RECORD: [u8; 1_640] = [0x5a; 1_640];

fn open(dir: &tempfile::TempDir, write_path: WritePath, durability: Durability) -> Log {
    let mut config = Config::default();
    config.write_path = write_path;
    config.durability = durability;
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
    for write_path in [WritePath::Mapped, WritePath::Positioned] {
        for writers in [1, 4] {
            let dir = tempfile::tempdir().unwrap();
            let log = open(&dir, write_path, Durability::LocalSynced);
            // Whoever listens for syncs is called by the writers; it must not cost an allocation either.
            log.on_synced(Arc::new(|_| {}));
            for (writer, seen) in allocations(&log, writers).into_iter().enumerate() {
                let told = format!("{write_path:?}, writer {writer} of {writers}: {seen:?}");
                println!("{told}");
                assert_eq!(seen.count_total, 0, "{told}");
            }
        }
    }
}

#[test]
fn an_append_that_counts_in_memory_allocates_nothing() {
    for write_path in [WritePath::Mapped, WritePath::Positioned] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(&dir, write_path, Durability::Memory);
        let commit = || {
            for _ in 0..1_000 {
                log.commit(&[&RECORD]).unwrap();
            }
        };
        commit();
        let seen = measure(commit);
        assert_eq!(seen.count_total, 0, "{write_path:?}: {seen:?}");
    }
}
