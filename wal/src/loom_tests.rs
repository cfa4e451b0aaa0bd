//! Loom models of the log: the types that ship, opened on a model disk. Run with
//! `RUSTFLAGS="--cfg akidb_loom" cargo test -p akidb-wal --lib loom_`.
//!
//! What an acknowledgement promises is checked against the bytes that a power cut would leave. The linger is a clock
//! and is left out.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use loom::future::block_on;
use loom::thread;

use self::rig::{LARGE, Rig, explore};
use crate::frame::frame_bytes;
use crate::sync::lock;
use crate::{ErrorKind, Log, Lsn, Step, WritePath};

mod disk;
mod rig;

/// Two writers of one record each, and nobody else.
fn two_writers(write_path: WritePath, record: &'static [u8]) {
    let rig = Rig::new(write_path);
    let (disk, log) = (Arc::clone(&rig.disk), Arc::clone(&rig.log));
    let other = thread::spawn(move || Rig::commit(&disk, &log, record));
    Rig::commit(&rig.disk, &rig.log, record);
    other.join().unwrap();
    assert_eq!(rig.disk.durable_records(), 2);
}

/// Whoever is told that its record is synced finds it in what a power cut leaves.
#[test]
fn loom_ack_implies_durable() {
    explore("loom_ack_implies_durable", || two_writers(WritePath::Mapped, b"r"));
}

/// The same where frames are staged and written by the leader.
#[test]
fn loom_positioned_ack_implies_durable() {
    explore("loom_positioned_ack_implies_durable", || two_writers(WritePath::Positioned, b"r"));
}

/// Files of one record: nothing in the second is acknowledged before the first is synced.
#[test]
fn loom_rotation_syncs_before_start() {
    explore("loom_rotation_syncs_before_start", || two_writers(WritePath::Mapped, &LARGE));
}

/// Whoever reads the watermark finds every record up to it on the disk.
#[test]
fn loom_watermark_is_a_durable_prefix() {
    explore("loom_watermark_is_a_durable_prefix", || {
        observed(|rig| {
            let (disk, log) = (Arc::clone(&rig.disk), Arc::clone(&rig.log));
            thread::spawn(move || {
                let synced = log.inner.commit.synced();
                assert!(disk.durable_records() >= synced.counter(), "{synced} is not on the disk");
            })
        });
    });
}

/// The watermark never falls.
#[test]
fn loom_watermark_monotone() {
    explore("loom_watermark_monotone", || {
        observed(|rig| {
            let log = Arc::clone(&rig.log);
            thread::spawn(move || {
                let before = log.inner.commit.synced();
                let after = log.inner.commit.synced();
                assert!(before <= after, "the watermark fell from {before} to {after}");
            })
        });
    });
}

/// Two writers and a thread that looks on.
fn observed(observer: impl Fn(&Rig) -> thread::JoinHandle<()>) {
    let rig = Rig::new(WritePath::Mapped);
    let observer = observer(&rig);
    let log = Arc::clone(&rig.log);
    let other = thread::spawn(move || log.commit(&[b"r"]).map(drop).unwrap());
    rig.log.commit(&[b"r"]).unwrap();
    observer.join().unwrap();
    other.join().unwrap();
    assert_eq!(rig.log.inner.commit.synced(), Lsn::new(1, 2));
}

fn assert_poisoned<T: std::fmt::Debug>(result: crate::Result<T>) {
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Poisoned { .. }), "{error}");
}

/// A sync fails: a caller that blocks and one that left a waker are both told, and the watermark stands still.
#[test]
fn loom_poison_reaches_every_waiter() {
    explore("loom_poison_reaches_every_waiter", || {
        let rig = Rig::new(WritePath::Mapped);
        rig.disk.fail();
        let commit = rig.commit_thread();
        let log = Arc::clone(&rig.log);
        let blocking = thread::spawn(move || assert_poisoned(log.commit(&[b"r"])));
        match rig.log.append(&[b"r"]) {
            Ok(appended) => assert_poisoned(block_on(rig.log.synced(appended.last))),
            refused => assert_poisoned(refused),
        }
        blocking.join().unwrap();
        assert_eq!(rig.log.inner.commit.synced(), Lsn::ZERO);
        drop(rig);
        commit.join().unwrap();
    });
}

/// The log goes on in the next file and the end of the old one cannot be written, or whoever leads cannot write it: a
/// leader that comes to it then acknowledges nothing of it.
#[test]
fn loom_what_was_not_written_is_not_acknowledged() {
    explore("loom_what_was_not_written_is_not_acknowledged", || {
        let rig = Rig::new(WritePath::Positioned);
        let last = rig.log.append(&[&LARGE]).unwrap().last;
        rig.disk.refuse_next_write();
        let log = Arc::clone(&rig.log);
        let waiting = thread::spawn(move || assert_poisoned(log.wait(last)));
        assert_poisoned(rig.log.append(&[&LARGE]).and_then(|appended| rig.log.wait(appended.last)));
        waiting.join().unwrap();
        assert_eq!(rig.log.inner.commit.synced(), Lsn::ZERO);
    });
}

/// A frame cannot be written: nothing goes behind what of it is in the file.
#[test]
fn loom_nothing_goes_behind_a_frame_that_was_not_written() {
    explore("loom_nothing_goes_behind_a_frame_that_was_not_written", || {
        let rig = Rig::in_memory();
        rig.disk.refuse_next_write();
        let log = Arc::clone(&rig.log);
        let other = thread::spawn(move || assert_poisoned(log.append(&[b"r"])));
        assert_poisoned(rig.log.append(&[b"r"]));
        other.join().unwrap();
    });
}

/// Nobody sleeps on: three writers that block.
#[test]
fn loom_no_lost_wakeup_blocking() {
    explore("loom_no_lost_wakeup_blocking", || {
        let rig = Rig::new(WritePath::Mapped);
        let writer = |log: Arc<Log>| thread::spawn(move || log.commit(&[b"r"]).map(drop).unwrap());
        let others = [writer(Arc::clone(&rig.log)), writer(Arc::clone(&rig.log))];
        rig.log.commit(&[b"r"]).unwrap();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(rig.disk.durable_records(), 3);
    });
}

/// Nobody sleeps on: one that left a waker, beside one that blocks and leads.
#[test]
fn loom_no_lost_wakeup_waker() {
    explore("loom_no_lost_wakeup_waker", || {
        let rig = Rig::new(WritePath::Mapped);
        let commit = rig.commit_thread();
        let log = Arc::clone(&rig.log);
        let blocking = thread::spawn(move || log.commit(&[b"r"]).map(drop).unwrap());
        let last = rig.log.append(&[b"r"]).unwrap().last;
        block_on(rig.log.synced(last)).unwrap();
        assert!(rig.disk.durable_records() >= last.counter());
        blocking.join().unwrap();
        drop(rig);
        commit.join().unwrap();
    });
}

/// A future dropped while it waits takes nobody's waker along, and its record stays in the log.
#[test]
fn loom_cancelled_future_loses_nothing() {
    explore("loom_cancelled_future_loses_nothing", || {
        let rig = Rig::new(WritePath::Mapped);
        let commit = rig.commit_thread();
        let log = Arc::clone(&rig.log);
        let cancelled = thread::spawn(move || {
            let last = log.append(&[b"r"]).unwrap().last;
            let _ = pin!(log.synced(last)).poll(&mut Context::from_waker(Waker::noop()));
            last
        });
        let last = rig.log.append(&[b"r"]).unwrap().last;
        block_on(rig.log.synced(last)).unwrap();
        assert!(rig.disk.durable_records() >= last.counter());
        rig.log.wait(cancelled.join().unwrap()).unwrap();
        assert_eq!(rig.disk.durable_records(), 2);
        drop(rig);
        commit.join().unwrap();
    });
}

/// A reader comes to a file while truncation retires it and the writer makes the next one from it: it sees each
/// record in order, from a file that is not written anew, or hears that it lags.
#[test]
fn loom_reader_never_sees_a_recycled_frame() {
    explore("loom_reader_never_sees_a_recycled_frame", || {
        let rig = Rig::new(WritePath::Mapped);
        rig.log.commit(&[&LARGE]).unwrap();
        let second = rig.log.commit(&[&LARGE]).unwrap().last;
        let first_file = rig.disk.log_files().swap_remove(0);
        let mut reader = rig.log.read(Lsn::new(1, 1)).unwrap();
        let reading = thread::spawn(move || {
            for counter in 1..=2 {
                match reader.try_next() {
                    Ok(Step::Record(record)) => {
                        assert_eq!((record.lsn, record.bytes), (Lsn::new(1, counter), &LARGE[..]));
                        assert!(counter > 1 || first_file.lives() == 1, "its file is written anew");
                    }
                    Ok(step) => panic!("record {counter} is synced: {step:?}"),
                    Err(e) => {
                        assert!(matches!(e.kind(), ErrorKind::Lagged { .. }), "{e}");
                        assert_eq!(counter, 1, "the second record is not truncated");
                        return;
                    }
                }
            }
        });
        rig.log.truncate_below(second).unwrap();
        rig.log.append(&[&LARGE]).unwrap();
        reading.join().unwrap();
    });
}

/// A log is brought to rest while somebody writes after all, into the large file or beyond its end: each record is
/// acknowledged once it is on the disk, in whatever file.
#[test]
fn loom_rest_holds_up_no_writer_and_loses_nothing() {
    explore("loom_rest_holds_up_no_writer_and_loses_nothing", || {
        let rig = Rig::growing_to(16_384, WritePath::Mapped);
        let mut last = Lsn::ZERO;
        while rig.log.counters().rotations == 0 || has_room(&rig.log) {
            last = rig.log.commit(&[&LARGE]).unwrap().last;
        }
        let (disk, log) = (Arc::clone(&rig.disk), Arc::clone(&rig.log));
        let writer = thread::spawn(move || Rig::commit(&disk, &log, &LARGE));
        rig.log.rest().unwrap();
        writer.join().unwrap();
        let written = rig.log.commit(&[b"r"]).unwrap().last;
        assert_eq!((written, rig.disk.durable_records()), (last.plus(2), last.plus(2).counter()));
    });
}

fn has_room(log: &Log) -> bool {
    lock(&log.inner.append).active.as_ref().unwrap().has_room(frame_bytes(LARGE.len() as u64 + 4))
}
