//! The ordinary life of a log: many threads, async callers, rotation, epochs, reopening.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use akidb_host::RealFs;
use akidb_host::sim::{Gate, HookFs, Op};
use akidb_wal::{ErrorKind, Fate, Log, Lsn, Options, State};

use crate::support::{Place, append, append_synced, frames, rows};

#[test]
fn a_stalled_sync_blocks_no_append() {
    let mut place = Place::new();
    let gate = Gate::opened(|call| call.op == Op::SyncData);
    place.fs = Arc::new(HookFs::new(Arc::new(RealFs), gate.hook()));
    place.config.max_file_bytes = 1 << 20;
    let (log, _) = place.open();
    let first = log.append(&[b"first"]).unwrap();
    gate.shut();
    thread::scope(|scope| {
        let leader = scope.spawn(|| log.wait(first.last));
        gate.wait_until_held();
        let writers: Vec<_> = (0..8_u8)
            .map(|writer| {
                let log = &log;
                scope.spawn(move || {
                    for i in 0..1000_u32 {
                        log.append(&[&[writer], &i.to_le_bytes()]).unwrap();
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert!(log.watermarks().synced < first.last, "the sync is still held");
        assert_eq!(log.watermarks().appended, first.last.plus(16_000));
        gate.release();
        leader.join().unwrap().unwrap();
    });
    log.wait(log.watermarks().appended).unwrap();
    drop(log);
    let (_, recovered) = place.open();
    assert_eq!(rows(&recovered).len(), 16_001);
}

#[test]
fn eight_threads_wait_for_each_record_and_lsns_have_no_gaps() {
    let place = Place::new();
    let (log, _) = place.open();
    let told = Arc::new(AtomicU64::new(0));
    let heard = told.clone();
    log.on_synced(Arc::new(move |lsn| {
        heard.fetch_max(lsn.as_u64(), Ordering::SeqCst);
    }));
    let all: Vec<(Lsn, Vec<u8>)> = thread::scope(|scope| {
        let writers: Vec<_> = (0..8_u8)
            .map(|writer| {
                let log = &log;
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    for i in 0..60_u8 {
                        let record = vec![writer; usize::from(i) * 7];
                        let appended = log.append(&[&record]).unwrap();
                        log.wait(appended.last).unwrap();
                        mine.push((appended.last, record));
                    }
                    mine
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let mut all = all;
    all.sort();
    assert!(all.iter().enumerate().all(|(i, (lsn, _))| *lsn == Lsn::new(1, i as u64 + 1)));
    assert!(place.files().len() > 3, "files were rotated meanwhile");
    assert_eq!(told.load(Ordering::SeqCst), all.last().unwrap().0.as_u64());
    drop(log);
    let found: Vec<_> = rows(&place.open().1).into_iter().map(|(lsn, _, bytes)| (lsn, bytes)).collect();
    assert_eq!(found, all);
}

struct Bell(Mutex<bool>, Condvar);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let bell = Arc::new(Bell(Mutex::new(false), Condvar::new()));
    let waker = Waker::from(bell.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut rung = bell.0.lock().unwrap();
        while !*rung {
            rung = bell.1.wait(rung).unwrap();
        }
        *rung = false;
    }
}

#[test]
fn an_async_caller_is_woken_without_a_runtime_and_a_dropped_future_loses_nothing() {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    for i in 0..50_u8 {
        let appended = append(&log, &[&[i; 9]], &mut model);
        if i % 2 == 0 {
            let mut dropped = pin!(log.synced(appended.last));
            let _ = dropped.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        } else {
            block_on(log.synced(appended.last)).unwrap();
            assert!(log.watermarks().synced >= appended.last);
        }
    }
    let never = block_on(log.synced(Lsn::new(1, 51))).unwrap_err();
    assert!(matches!(never.kind(), ErrorKind::Invalid(_)));
    drop(log);
    assert_eq!(rows(&place.open().1), model);
}

#[test]
fn a_record_nobody_waits_for_is_synced_and_then_stamped() {
    let mut place = Place::new();
    place.config.stamp_after = Duration::from_millis(2);
    let (log, _) = place.open();
    let (heard, told) = std::sync::mpsc::channel();
    log.on_synced(Arc::new(move |lsn| {
        let _ = heard.send(lsn);
    }));
    let appended = log.append(&[b"alone"]).unwrap();
    assert_eq!(told.recv().unwrap(), appended.last);
    // The stamp has no event; look until it is there, the test runner's own limit is the clock.
    while !frames(&place.last_file()).iter().any(|frame| frame.1 == "stamp") {
        thread::yield_now();
    }
    drop(log);
    assert_eq!(place.peek().unwrap().proven, appended.last, "proven without a seal");
}

#[test]
fn a_batch_bigger_than_a_file_gets_a_file_of_its_own_and_the_limits_are_typed() {
    let mut place = Place::new();
    place.config.max_bytes = 4 << 20;
    place.config.max_batch_bytes = 1 << 20;
    let (log, _) = place.open();
    let mut model = Vec::new();
    append(&log, &[b"small"], &mut model);
    let big = vec![7; 300_000];
    append_synced(&log, &[&big, b"after it", &big], &mut model);
    append_synced(&log, &[b"small again"], &mut model);
    let error = log.append(&[&vec![0; (1 << 20) + 1]]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { max, .. } if *max == 1 << 20), "{error}");
    let many: Vec<&[u8]> = vec![b""; 65_536];
    assert!(matches!(log.append(&many).unwrap_err().kind(), ErrorKind::TooLarge { .. }));
    append(&log, &many[1..], &mut model);
    assert!(matches!(log.append(&[]).unwrap_err().kind(), ErrorKind::Invalid(_)));
    let full = loop {
        match log.append(&[&vec![1; 500_000]]) {
            Ok(appended) => model.push((appended.first, appended.last, vec![1; 500_000])),
            Err(e) => break e,
        }
    };
    assert!(matches!(full.kind(), ErrorKind::Full { limit, .. } if *limit == 4 << 20), "{full}");
    assert_eq!(full.fate(), Fate::NotWritten);
    let last = log.watermarks().appended;
    log.wait(last).unwrap();
    assert!(log.truncate_below(last.plus(1)).unwrap() > 0);
    append_synced(&log, &[b"room again"], &mut model);
    drop(log);
    let found = rows(&Log::open(Options { floor: last, ..place.options() }).unwrap().1);
    let at = model.iter().position(|row| row.0 == last).unwrap();
    assert!(found == model[at..], "{} records came back, {} expected", found.len(), model.len() - at);
}

#[test]
fn the_epoch_rises_at_every_open_for_writing_and_above_what_the_caller_knows() {
    let place = Place::new();
    for epoch in 1..=3 {
        assert_eq!(place.open().0.epoch(), epoch);
        assert_eq!(Log::open(Options { read_only: true, ..place.options() }).unwrap().0.epoch(), epoch);
    }
    let (log, _) = Log::open(Options { min_epoch: 9, ..place.options() }).unwrap();
    assert_eq!(log.append(&[b"x"]).unwrap().first, Lsn::new(10, 1));
    drop(log);
    let last = Options { min_epoch: Lsn::MAX_EPOCH, ..place.options() };
    assert!(matches!(Log::open(last).unwrap_err().kind(), ErrorKind::Invalid(_)));
}

#[test]
fn a_read_only_open_replays_and_changes_nothing() {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    for i in 0..30 {
        append(&log, &[&[i; 600]], &mut model);
    }
    drop(log);
    let before = place.content();
    let options = Options { read_only: true, ..place.options() };
    let (log, recovered) = Log::open(options).unwrap();
    assert_eq!(rows(&recovered), model);
    assert!(recovered.proven < recovered.last, "without a sync nothing proves the last ones");
    for error in [log.append(&[b"x"]).unwrap_err(), log.truncate_below(Lsn::MAX).unwrap_err()] {
        assert!(matches!(error.kind(), ErrorKind::Closed), "{error}");
    }
    assert_eq!(log.watermarks().state, State::Closed);
    log.close().unwrap();
    drop((log, recovered));
    assert!(place.content() == before);
    let missing = Place::new();
    assert_eq!(rows(&missing.peek().unwrap()), []);
    assert!(!missing.path().exists());
}

#[test]
fn a_killed_log_is_relogged_once_and_leaves_no_ghosts() {
    let place = Place::new();
    let mut model = Vec::new();
    for round in 0..12_u8 {
        let (log, recovered) = place.open();
        assert_eq!(rows(&recovered), model, "round {round}");
        drop(recovered);
        // Frames of one length, so that leftovers of an earlier life would line up behind new ones.
        for i in 0..5_u8 {
            append(&log, &[&[round * 16 + i; 120]], &mut model);
        }
        drop(log);
        let (log, recovered) = place.open();
        assert_eq!(rows(&recovered), model, "round {round}, reopened untouched");
        drop(log);
        let again = place.peek().unwrap();
        assert_eq!(
            (again.proven, again.last),
            (recovered.last, recovered.last),
            "an open proves what it shows"
        );
        assert_eq!(again.cut, None);
    }
}

#[test]
fn a_closed_log_is_sealed_proven_and_has_no_spare_lying_about() {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    for i in 0..20 {
        append(&log, &[&[i; 333]], &mut model);
    }
    log.close().unwrap();
    log.close().unwrap();
    assert_eq!(log.watermarks().synced, model.last().unwrap().0);
    assert_eq!(log.watermarks().state, State::Closed);
    log.wait(model[3].0).unwrap();
    assert_eq!(frames(&place.last_file()).last().unwrap().1, "seal");
    let recovered = place.peek().unwrap();
    assert_eq!((recovered.proven, recovered.last, &recovered.cut), (model[19].0, model[19].0, &None));
}

#[test]
fn one_sync_serves_every_record_appended_before_it_began() {
    let mut place = Place::new();
    let syncs = Arc::new(AtomicU64::new(0));
    let count = syncs.clone();
    let hook = HookFs::new(
        Arc::new(RealFs),
        Arc::new(move |call| {
            count.fetch_add(u64::from(call.op.syncs()), Ordering::SeqCst);
            akidb_host::sim::Act::Go
        }),
    );
    place.fs = Arc::new(hook);
    place.config.first_file_bytes = 1 << 20;
    let (log, _) = place.open();
    let before = syncs.load(Ordering::SeqCst);
    let mut last = Lsn::ZERO;
    for i in 0..100_u8 {
        last = log.append(&[&[i; 100]]).unwrap().last;
    }
    log.wait(last).unwrap();
    assert_eq!(syncs.load(Ordering::SeqCst) - before, 1);
    for _ in 0..10 {
        log.wait(log.append(&[b"one"]).unwrap().last).unwrap();
    }
    assert_eq!(syncs.load(Ordering::SeqCst) - before, 11, "one sync an acknowledgement, no other");
}

#[test]
fn a_log_whose_threads_never_run_still_rotates_syncs_and_closes() {
    let place = Place::new();
    let spawn = Arc::new(akidb_host::sim::InlineSpawn::default());
    let (log, _) = Log::open(Options { spawn, ..place.options() }).unwrap();
    let mut model = Vec::new();
    for i in 0..100_u8 {
        append_synced(&log, &[&[i; 700]], &mut model);
    }
    assert!(place.files().len() > 3);
    log.close().unwrap();
    drop(log);
    assert_eq!(rows(&place.open().1), model);
}

#[test]
fn a_log_at_rest_is_one_small_file_and_loses_nothing() {
    let place = Place::new();
    let sizes = || {
        let names = std::fs::read_dir(place.path()).unwrap().map(Result::unwrap);
        let logs = names.filter(|entry| entry.file_name() != "control");
        let mut sizes: Vec<u64> = logs.map(|entry| entry.metadata().unwrap().len()).collect();
        sizes.sort_unstable();
        sizes
    };
    let (log, _) = place.open();
    let (record, mut model) = (vec![7; 3_000], Vec::new());
    for n in 0..200 {
        let last = append_synced(&log, &[&record], &mut model).last;
        if n > 100 {
            log.truncate_below(last).unwrap();
        }
    }
    assert!(log.counters().recycled > 0, "retired files were there");
    // What lies above the floor stays, in whatever file.
    log.rest().unwrap();
    assert_eq!(sizes(), [8_192, 32_768]);
    let fresh = append_synced(&log, &[b"fresh"], &mut model).last;
    log.truncate_below(fresh).unwrap();
    log.rest().unwrap();
    assert_eq!(sizes(), [8_192]);
    log.rest().unwrap();
    assert_eq!(sizes(), [8_192], "nothing is left to do");
    // It grows again as a young log does.
    let rotations = log.counters().rotations;
    for _ in 0..20 {
        append_synced(&log, &[&record], &mut model);
    }
    assert!(log.counters().rotations > rotations);
    drop(log);
    let (log, recovered) = Log::open(Options { floor: fresh, ..place.options() }).unwrap();
    assert_eq!(rows(&recovered), model[200..]);
    log.close().unwrap();
    log.rest().unwrap();
}
