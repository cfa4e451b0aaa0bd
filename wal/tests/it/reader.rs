//! Readers beside writers: every synced record once and in order, none too early, and a clean end in every case.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use akidb_host::RealFs;
use akidb_host::sim::{Act, EIO, Gate, HookFs, InlineSpawn, Op};
use akidb_wal::{ErrorKind, Log, Lsn, Options, Reader, Step};

use crate::support::{Place, Row, append, append_synced};

/// What is there now, and whether that is all there will be.
fn drain(reader: &mut Reader) -> (Vec<Row>, bool) {
    let mut found = Vec::new();
    loop {
        match reader.try_next().unwrap() {
            Step::Record(record) => found.push((record.lsn, record.frame_last, record.bytes.to_vec())),
            Step::Pending => return (found, false),
            Step::End => return (found, true),
        }
    }
}

fn oldest_of(error: &akidb_wal::Error) -> Lsn {
    match error.kind() {
        ErrorKind::Lagged { oldest, .. } => *oldest,
        other => panic!("expected Lagged, got {other:?}"),
    }
}

#[test]
fn a_reader_beside_four_writers_sees_each_synced_record_once_through_rotations_and_truncations() {
    let mut place = Place::new();
    place.config.max_file_bytes = 16384;
    let (log, _) = place.open();
    let done = AtomicBool::new(false);
    let (seen, written) = thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u8)
            .map(|writer| {
                let log = &log;
                scope.spawn(move || {
                    let mut mine: Vec<Row> = Vec::new();
                    for i in 0..150_u32 {
                        let long = vec![writer; 40 + (i as usize * 37) % 700];
                        let batch: [&[u8]; 3] = [&i.to_le_bytes(), &long, b""];
                        let at = log.append(&batch[..1 + i as usize % 3]).unwrap();
                        for (n, bytes) in batch[..1 + i as usize % 3].iter().enumerate() {
                            mine.push((at.first.plus(n as u64), at.last, bytes.to_vec()));
                        }
                        if i % 4 == 0 {
                            log.wait(at.last).unwrap();
                        }
                    }
                    mine
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut reader = log.read(Lsn::ZERO).unwrap();
            let mut seen: Vec<Row> = Vec::new();
            while let Some(record) = reader.wait_next().unwrap() {
                assert!(record.lsn <= log.watermarks().synced, "{} was not synced", record.lsn);
                let whole = record.lsn == record.frame_last;
                seen.push((record.lsn, record.frame_last, record.bytes.to_vec()));
                if whole && seen.len() % 100 < 3 {
                    // What it has read may go, the file it is in included.
                    log.truncate_below(seen.last().unwrap().0.plus(1)).unwrap();
                }
            }
            assert!(done.load(Ordering::SeqCst), "it ended while the log was open");
            seen
        });
        let mut written: Vec<Row> = writers.into_iter().flat_map(|w| w.join().unwrap()).collect();
        written.sort();
        done.store(true, Ordering::SeqCst);
        log.close().unwrap();
        (reader.join().unwrap(), written)
    });
    assert!(log.counters().rotations > 8, "{:?}", log.counters());
    assert_eq!(seen.len(), written.len());
    assert!(seen == written, "the same records in LSN order");
    println!("{} records, {:?}", seen.len(), log.counters());
}

#[test]
fn nothing_above_the_synced_mark_is_ever_read() {
    let mut place = Place::new();
    // Nobody syncs behind the test's back.
    place.spawn = Arc::new(InlineSpawn::default());
    let (log, _) = place.open();
    let mut model = Vec::new();
    let mut reader = log.read(Lsn::ZERO).unwrap();
    assert_eq!(drain(&mut reader), (vec![], false));
    for round in 0..30_u8 {
        let synced = model.len();
        append(&log, &[&[round; 900], b"b"], &mut model);
        append(&log, &[&[round; 20]], &mut model);
        assert_eq!(drain(&mut reader), (vec![], false), "round {round}: not synced");
        log.wait(model.last().unwrap().0).unwrap();
        assert_eq!(drain(&mut reader), (model[synced..].to_vec(), false), "round {round}");
    }
    // A second reader from the middle of a batch, and one that starts ahead of the log.
    assert_eq!(drain(&mut log.read(model[34].0).unwrap()).0, model[34..]);
    let mut ahead = log.read(model.last().unwrap().0.plus(2)).unwrap();
    append_synced(&log, &[b"skipped", b"wanted"], &mut model);
    assert_eq!(drain(&mut ahead).0, model[model.len() - 1..]);
}

#[test]
fn a_reader_goes_on_from_earlier_sessions_into_this_one() {
    let place = Place::new();
    let mut model = Vec::new();
    for session in 0..4_u8 {
        let (log, _) = place.open();
        for i in 0..12_u8 {
            append(&log, &[&[session * 16 + i; 600], b"second"], &mut model);
            if i % 2 == 0 {
                log.wait(model.last().unwrap().0).unwrap();
            }
        }
        if session == 1 {
            log.close().unwrap();
        }
    }
    let (log, recovered) = place.open();
    assert_eq!(recovered.last, model.last().unwrap().0);
    for from in [0, 1, 23, 24, 30, 47, 95] {
        let mut reader = log.read(model[from].0).unwrap();
        assert_eq!(drain(&mut reader), (model[from..].to_vec(), false), "from {}", model[from].0);
    }
    let mut reader = log.read(Lsn::ZERO).unwrap();
    assert_eq!(drain(&mut reader).0, model);
    // The place after the last record of an epoch names the first of the next one.
    let mut after = log.read(model[23].0.plus(1)).unwrap();
    assert_eq!(drain(&mut after).0, model[24..]);
    let synced = model.len();
    append_synced(&log, &[b"of this session"], &mut model);
    assert_eq!(drain(&mut reader).0, model[synced..]);
}

#[test]
fn a_reader_that_falls_behind_the_floor_is_told_where_the_log_begins() {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    let mut early = log.read(Lsn::ZERO).unwrap();
    for i in 0..80_u8 {
        append_synced(&log, &[&[i; 1000]], &mut model);
    }
    let Step::Record(first) = early.try_next().unwrap() else { panic!("it is synced") };
    assert_eq!(first.lsn, model[0].0);
    let floor = model[60].0;
    assert!(log.truncate_below(floor).unwrap() > 0);
    let error = log.read(model[59].0).unwrap_err();
    assert_eq!(oldest_of(&error), floor);
    assert!(error.help().unwrap().contains(&floor.to_string()), "{error}");
    // The early one keeps the file it is in, to its end; then it has lost the thread, and stays there.
    let mut count = 1;
    let error = loop {
        match early.try_next() {
            Ok(Step::Record(record)) => {
                assert_eq!((record.lsn, record.bytes), (model[count].0, &model[count].2[..]));
                count += 1;
            }
            Ok(step) => panic!("{step:?}"),
            Err(e) => break e,
        }
    };
    assert!(count < 60, "{count}");
    let oldest = oldest_of(&error);
    assert_eq!(oldest_of(&early.try_next().unwrap_err()), oldest, "it stays lagged");
    assert_eq!(oldest_of(&early.wait_next().unwrap_err()), oldest);
    assert!(oldest >= floor, "{oldest}");
    let found = drain(&mut log.read(oldest).unwrap()).0;
    assert_eq!(found[..], model[model.len() - found.len()..]);
}

#[test]
fn a_file_of_an_earlier_open_that_was_truncated_is_lagged_too() {
    let place = Place::new();
    let mut model = Vec::new();
    let (log, _) = place.open();
    for i in 0..60_u8 {
        append_synced(&log, &[&[i; 1000]], &mut model);
    }
    drop(log);
    let (log, _) = place.open();
    let mut reader = log.read(Lsn::ZERO).unwrap();
    let Step::Record(_) = reader.try_next().unwrap() else { panic!("it is synced") };
    append_synced(&log, &[b"newest"], &mut model);
    log.truncate_below(model[60].0).unwrap();
    let error = loop {
        match reader.try_next() {
            Ok(Step::Record(_)) => {}
            Ok(step) => panic!("{step:?}"),
            Err(e) => break e,
        }
    };
    assert_eq!(oldest_of(&error), model[60].0);
    // All of the old epoch may go without anybody having lost anything.
    let mut after = log.read(model[60].0).unwrap();
    assert_eq!(drain(&mut after).0, model[60..]);
}

#[test]
fn a_file_under_a_reader_is_not_written_again() {
    let mut place = Place::new();
    place.config.first_file_bytes = 16384;
    place.config.max_file_bytes = 16384;
    let (log, _) = place.open();
    let mut model = Vec::new();
    let mut readers = Vec::new();
    for i in 0..400_u32 {
        append_synced(&log, &[&[i.to_le_bytes()[0]; 1000], &i.to_le_bytes()], &mut model);
        if i % 29 == 0 {
            // One record read: the reader is in that file now.
            let from = model.len() - 2;
            let mut reader = log.read(model[from].0).unwrap();
            let Step::Record(_) = reader.try_next().unwrap() else { panic!("it is synced") };
            readers.push((from + 1, reader));
        }
        log.truncate_below(model[model.len() - 1].0).unwrap();
    }
    for (mut next, mut reader) in readers {
        let behind = loop {
            match reader.try_next() {
                Ok(Step::Record(record)) => {
                    assert_eq!((record.lsn, record.bytes), (model[next].0, &model[next].2[..]));
                    next += 1;
                }
                Ok(_) => break false,
                Err(e) => {
                    oldest_of(&e);
                    break true;
                }
            }
        };
        assert!(behind || next == model.len());
    }
    assert!(log.counters().recycled > 5, "{:?}: files that nobody reads are used again", log.counters());
}

#[test]
fn a_closed_log_ends_its_readers_after_the_last_record_and_a_dropped_one_after_the_last_synced() {
    for close in [true, false] {
        let mut place = Place::new();
        place.spawn = Arc::new(InlineSpawn::default());
        let (log, _) = place.open();
        let mut model = Vec::new();
        append_synced(&log, &[b"synced"], &mut model);
        append(&log, &[b"appended"], &mut model);
        let mut reader = log.read(Lsn::ZERO).unwrap();
        let waiting = log.read(model[1].0).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut waiting = waiting;
                let mut found = Vec::new();
                while let Some(record) = waiting.wait_next().unwrap() {
                    found.push(record.bytes.to_vec());
                }
                found
            });
            if close {
                log.close().unwrap();
                assert_eq!(
                    drain(&mut log.read(Lsn::ZERO).unwrap()),
                    (model.clone(), true),
                    "also one made later"
                );
            }
            drop(log);
            assert_eq!(waiting.join().unwrap().len(), usize::from(close), "woken, and at its end");
        });
        let expected = if close { &model[..] } else { &model[..1] };
        assert_eq!(drain(&mut reader), (expected.to_vec(), true), "close: {close}");
        assert!(reader.wait_next().unwrap().is_none() && matches!(reader.try_next(), Ok(Step::End)));
    }
}

#[test]
fn a_poisoned_log_delivers_what_is_synced_and_then_says_so() {
    let mut place = Place::new();
    let gate = Gate::opened(|call| call.op == Op::SyncData);
    place.fs = Arc::new(HookFs::new(Arc::new(RealFs), gate.hook()));
    let (log, _) = place.open();
    let mut model = Vec::new();
    append_synced(&log, &[b"safe"], &mut model);
    gate.shut();
    let unsure = append(&log, &[b"unsure"], &mut Vec::new());
    let mut reader = log.read(Lsn::ZERO).unwrap();
    thread::scope(|scope| {
        let leader = scope.spawn(|| log.wait(unsure.last));
        gate.wait_until_held();
        let waiting = scope.spawn(|| log.read(unsure.last).unwrap().wait_next().map(|_| ()).unwrap_err());
        gate.release_as(Act::Fail(EIO));
        leader.join().unwrap().unwrap_err();
        let error = waiting.join().unwrap();
        assert!(matches!(error.kind(), ErrorKind::Poisoned { .. }), "{error}");
    });
    let Step::Record(record) = reader.try_next().unwrap() else { panic!("it is synced") };
    assert_eq!(record.bytes, b"safe");
    for _ in 0..2 {
        let error = reader.try_next().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Poisoned { .. }), "{error}");
    }
    gate.release();
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_polled_reader_is_woken_by_the_next_sync_and_makes_nobody_sync() {
    let mut place = Place::new();
    let spawn = InlineSpawn::default();
    place.spawn = Arc::new(spawn.clone());
    let (log, _) = place.open();
    let mut model = Vec::new();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let mut reader = log.read(Lsn::ZERO).unwrap();
    let mut given_up = log.read(Lsn::ZERO).unwrap();
    for round in 0..3 {
        assert!(reader.poll_next(&mut cx).is_pending());
        assert!(reader.poll_next(&mut cx).is_pending(), "twice leaves one waker");
        if round == 0 {
            assert!(given_up.poll_next(&mut cx).is_pending());
        }
        let last = append(&log, &[b"later"], &mut model).last;
        let before = log.counters().syncs;
        spawn.run_until_idle(akidb_host::Clock::now(&akidb_host::RealClock));
        assert_eq!(
            (log.counters().syncs, count.0.load(Ordering::SeqCst)),
            (before, round),
            "no sync for a reader"
        );
        if round == 0 {
            drop(std::mem::replace(&mut given_up, log.read(Lsn::MAX).unwrap()));
        }
        log.wait(last).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), round + 1, "once a sync");
        match reader.poll_next(&mut cx) {
            Poll::Ready(Ok(Some(record))) => assert_eq!((record.lsn, record.bytes), (last, &b"later"[..])),
            other => panic!("{other:?}"),
        }
    }
    assert!(reader.poll_next(&mut cx).is_pending());
    log.close().unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 4, "the end wakes too");
    assert!(matches!(reader.poll_next(&mut cx), Poll::Ready(Ok(None))));
}

#[test]
fn a_log_opened_for_reading_only_is_not_followed() {
    let place = Place::new();
    drop(place.open());
    let (log, _) = Log::open(Options { read_only: true, ..place.options() }).unwrap();
    assert!(matches!(log.read(Lsn::ZERO).unwrap_err().kind(), ErrorKind::Invalid(_)));
}
