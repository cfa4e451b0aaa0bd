//! A disk that fails: EIO, no space, at every call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use akidb_host::sim::{Act, Call, EIO, ENOSPC, Gate, HookFs, InlineSpawn, Op};
use akidb_host::{Clock, RealClock, RealFs};
use akidb_wal::{Durability, ErrorKind, Fate, Log, Options, State, WritePath};

use crate::support::{Place, append, append_synced, rows};

#[test]
fn eio_on_sync_poisons_all_waiters_and_reopening_is_the_repair() {
    let mut place = Place::new();
    let gate = Gate::opened(|call| call.op == Op::SyncData);
    place.fs = Arc::new(HookFs::new(Arc::new(RealFs), gate.hook()));
    place.config.max_file_bytes = 1 << 20;
    let (log, _) = place.open();
    let mut model = Vec::new();
    let safe = append_synced(&log, &[b"safe"], &mut model);
    gate.shut();
    let first = append(&log, &[b"unsure"], &mut model);
    thread::scope(|scope| {
        let leader = scope.spawn(|| log.wait(first.last));
        gate.wait_until_held();
        let last = append(&log, &[b"unsure too"], &mut model);
        let log = &log;
        let waiters: Vec<_> = (0..4).map(|_| scope.spawn(move || log.wait(last.last))).collect();
        gate.release_as(Act::Fail(EIO));
        for waiter in waiters.into_iter().chain([leader]) {
            let error = waiter.join().unwrap().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Poisoned { .. }), "{error}");
            assert_eq!(error.fate(), Fate::Unknown);
        }
    });
    // The next sync of the same file would say OK: it is never asked.
    assert!(log.wait(first.last).is_err());
    let error = log.append(&[b"no more"]).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Poisoned { .. }) && error.fate() == Fate::NotWritten,
        "{error}"
    );
    log.wait(safe.last).unwrap();
    assert!(log.close().is_err() && log.close().is_err());
    assert_eq!((log.watermarks().synced, log.watermarks().state), (safe.last, State::Poisoned));
    drop(log);
    gate.release();
    let (_, recovered) = place.open();
    assert_eq!(rows(&recovered), model, "what is still readable was copied and synced anew");
}

/// Once the owner has closed a log, poisoned or not, he lets go of the directory's lock: nothing may be under way by then.
#[test]
fn the_close_of_a_poisoned_log_waits_for_a_sync_under_way() {
    let mut place = Place::new();
    let gate = Gate::opened(|call| call.op == Op::SyncData);
    let (gated, broken, passed) = (gate.hook(), Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let (fails, noted) = (Arc::clone(&broken), Arc::clone(&passed));
    let hook = move |call: &Call<'_>| {
        if call.op == Op::WriteAt && fails.load(Ordering::SeqCst) {
            return Act::Fail(EIO);
        }
        let act = gated(call);
        if call.op == Op::SyncData {
            noted.store(true, Ordering::SeqCst);
        }
        act
    };
    place.fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
    (place.config.durability, place.config.write_path) = (Durability::Memory, WritePath::Positioned);
    place.config.memory_sync_interval = std::time::Duration::from_secs(3600);
    let (log, _) = place.open();
    let first = append(&log, &[b"one"], &mut Vec::new());
    gate.shut();
    passed.store(false, Ordering::SeqCst);
    let closes = AtomicBool::new(false);
    thread::scope(|scope| {
        let leader = scope.spawn(|| log.wait(first.last));
        gate.wait_until_held();
        broken.store(true, Ordering::SeqCst);
        let error = log.append(&[b"two"]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Poisoned { .. }), "{error}");
        let closer = scope.spawn(|| {
            closes.store(true, Ordering::SeqCst);
            let closed = log.close();
            (closed, passed.load(Ordering::SeqCst))
        });
        while !closes.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        // Time enough for a close that waits for nothing.
        (0..1_000).for_each(|_| thread::yield_now());
        gate.release();
        let (closed, sync_ended) = closer.join().unwrap();
        assert!(sync_ended, "closed during a sync");
        assert!(matches!(closed.unwrap_err().kind(), ErrorKind::Poisoned { .. }));
        let _ = leader.join().unwrap();
    });
}

/// The log goes on in a third file while the first is being synced, and the end of the second cannot be written: what was
/// only staged for it is not acknowledged when the sync under way goes on to it.
#[test]
fn what_a_rotation_could_not_write_is_acknowledged_by_nobody() {
    for errno in [EIO, ENOSPC] {
        let mut place = Place::new();
        let failing = Arc::new(AtomicBool::new(false));
        let gate = Gate::opened(|call| call.op == Op::SyncData);
        let (fails, held) = (Arc::clone(&failing), Arc::clone(&gate));
        let hook = move |call: &Call<'_>| {
            let of_second = call.path.to_string_lossy().contains("0000000000000002");
            let fails = call.op == Op::WriteAt && of_second && fails.load(Ordering::SeqCst);
            if fails { Act::Fail(errno) } else { held.pass(call) }
        };
        place.fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
        place.spawn = Arc::new(InlineSpawn::default());
        place.config.write_path = WritePath::Positioned;
        let (log, _) = place.open();
        let record = [7; 1000];
        let mut model = Vec::new();
        while log.counters().rotations == 0 {
            append(&log, &[&record], &mut model);
        }
        let staged = model.pop().unwrap().0;
        let written = model.last().unwrap().0;
        gate.shut();
        thread::scope(|scope| {
            let leader = scope.spawn(|| log.wait(written));
            gate.wait_until_held();
            failing.store(true, Ordering::SeqCst);
            let error = (0..100).find_map(|_| log.append(&[&record]).err()).unwrap();
            assert!(matches!(error.kind(), ErrorKind::Poisoned { .. }), "{error}");
            gate.release();
            leader.join().unwrap().unwrap();
        });
        let error = log.wait(staged).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Poisoned { .. }), "{error}");
        assert_eq!((log.watermarks().synced, log.watermarks().state), (written, State::Poisoned));
        drop(log);
        // The control page did not say more than that either: it would be damage now.
        assert_eq!(rows(&place.open().1), model);
    }
}

/// Bytes and names of the files in the log's directory that hold records, may come to, or did.
fn listed(place: &Place) -> (u64, Vec<String>) {
    let entries = std::fs::read_dir(place.path()).unwrap().map(Result::unwrap);
    let logs = entries.filter(|entry| entry.file_name().to_str().unwrap().contains(".wal"));
    let (mut bytes, mut names) = (0, Vec::new());
    for entry in logs {
        bytes += entry.metadata().unwrap().len();
        names.push(entry.file_name().into_string().unwrap());
    }
    (bytes, names)
}

/// What a truncation has renamed before it fails must not serve again, and is not forgotten: it goes.
#[test]
fn a_truncation_that_fails_leaves_no_file_that_nobody_counts() {
    // The one call that fails: of which kind, after how many of them.
    for (failing, after) in [(Op::SyncDir, 0), (Op::Rename, 1), (Op::Unlink, 0)] {
        let mut place = Place::new();
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let counted = Arc::clone(&left);
        let hook = move |call: &Call<'_>| {
            let hit = call.op == failing && counted.fetch_sub(1, Ordering::SeqCst) == 0;
            if hit { Act::Fail(EIO) } else { Act::Go }
        };
        place.fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
        place.spawn = Arc::new(InlineSpawn::default());
        let (log, _) = place.open();
        let (record, mut model) = (vec![7; 3_000], Vec::new());
        let mut fill = |log: &Log| (0..60).map(|_| append_synced(log, &[&record], &mut model).last).last();
        let floor = fill(&log).unwrap();
        left.store(after, Ordering::SeqCst);
        let error = log.truncate_below(floor).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
        let (bytes, names) = listed(&place);
        assert!(!names.iter().any(|name| name.starts_with("retired-")), "{failing:?}: {names:?}");
        assert_eq!(log.disk_bytes(), bytes, "{failing:?}: {names:?}");
        log.truncate_below(floor).unwrap();
        assert_eq!(log.disk_bytes(), listed(&place).0, "{failing:?}");
        // Later ones go on as if nothing had been.
        let floor = fill(&log).unwrap();
        log.truncate_below(floor).unwrap();
        fill(&log).unwrap();
        assert!(log.counters().recycled > 0, "{failing:?}");
        assert_eq!(log.disk_bytes(), listed(&place).0, "{failing:?}");
        drop(log);
        let (_, recovered) = Log::open(Options { floor, ..place.options() }).unwrap();
        assert_eq!(rows(&recovered), model[119..], "{failing:?}");
    }
}

#[test]
fn no_space_for_the_next_file_is_typed_and_heals() {
    let mut place = Place::new();
    let full = Arc::new(AtomicBool::new(false));
    let says = full.clone();
    let hook = HookFs::new(
        Arc::new(RealFs),
        Arc::new(move |call| match call.op {
            Op::ZeroFill if says.load(Ordering::SeqCst) => Act::Fail(ENOSPC),
            _ => Act::Go,
        }),
    );
    place.fs = Arc::new(hook);
    let (log, _) = place.open();
    let mut model = Vec::new();
    append_synced(&log, &[b"before"], &mut model);
    full.store(true, Ordering::SeqCst);
    let error = loop {
        match log.append(&[&[5; 1000]]) {
            Ok(appended) => model.push((appended.first, appended.last, vec![5; 1000])),
            Err(e) => break e,
        }
    };
    assert!(matches!(error.kind(), ErrorKind::NoSpace { .. }), "{error}");
    assert_eq!(error.fate(), Fate::NotWritten);
    log.wait(log.watermarks().appended).unwrap();
    let small = append_synced(&log, &[b"still fits"], &mut model);
    assert!(log.truncate_below(small.first).is_ok());
    full.store(false, Ordering::SeqCst);
    append_synced(&log, &[&[6; 1000]], &mut model);
    drop(log);
    assert_eq!(rows(&place.open().1), model);
}

/// The disk has room for ordinary files and not for that of one large batch: that one is refused, nobody else is, and no
/// file that is ready is given up for it.
#[test]
fn a_batch_that_the_disk_has_no_room_for_holds_up_nobody_else() {
    const SMALL: [u8; 1000] = [6; 1000];
    let large = vec![5; 60_000];
    let mut place = Place::new();
    let hook = |call: &Call<'_>| match call.op {
        Op::ZeroFill if call.len > 50_000 => Act::Fail(ENOSPC),
        _ => Act::Go,
    };
    place.fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
    let spawn = InlineSpawn::default();
    place.spawn = Arc::new(spawn.clone());
    let (log, _) = place.open();
    let mut model = Vec::new();
    let refused = |error: akidb_wal::Error| {
        assert!(matches!(error.kind(), ErrorKind::NoSpace { .. }), "{error}");
        assert_eq!(error.fate(), Fate::NotWritten);
    };
    for _ in 0..3 {
        append_synced(&log, &[&SMALL], &mut model);
    }
    spawn.run_until_idle(RealClock.now());
    let files = place.files();
    assert_eq!(files.len(), 2, "the next one is ready");
    refused(log.append(&[&large]).unwrap_err());
    assert_eq!(place.files(), files);
    for round in 0..80 {
        // It asks again and again, and is told that it waits, or why it does not.
        match log.append_nowait(&[&large]).unwrap_err() {
            error if matches!(error.kind(), ErrorKind::NoRoomYet) => {}
            error => refused(error),
        }
        append_synced(&log, &[&SMALL], &mut model);
        let mut found = log.append_nowait(&[&SMALL]);
        if let Err(error) = &found {
            assert!(matches!(error.kind(), ErrorKind::NoRoomYet), "{round}: {error}");
            spawn.run_until_idle(RealClock.now());
            found = log.append_nowait(&[&SMALL]);
        }
        let appended = found.unwrap();
        model.push((appended.first, appended.last, SMALL.to_vec()));
    }
    assert!(log.counters().rotations > 3);
    drop(log);
    assert_eq!(rows(&place.open().1), model);
}

#[test]
fn a_next_file_whose_name_could_not_be_synced_is_not_used_and_writing_heals() {
    for op in [Op::SyncDir, Op::HardLink, Op::SyncAll, Op::CreateNew] {
        let mut place = Place::new();
        let bad = Arc::new(AtomicBool::new(false));
        let says = bad.clone();
        let hook = move |call: &Call<'_>| match call.op == op && says.load(Ordering::SeqCst) {
            true => Act::Fail(EIO),
            false => Act::Go,
        };
        place.fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
        let (log, _) = place.open();
        bad.store(true, Ordering::SeqCst);
        let mut model = Vec::new();
        let error = loop {
            match log.append(&[&[5; 1000]]) {
                Ok(appended) => model.push((appended.first, appended.last, vec![5; 1000])),
                Err(e) => break e,
            }
        };
        assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{op:?}: {error}");
        bad.store(false, Ordering::SeqCst);
        append_synced(&log, &[&[6; 1000]], &mut model);
        drop(log);
        assert_eq!(rows(&place.open().1), model, "{op:?}");
    }
}

#[test]
fn a_full_disk_opens_on_the_reserve() {
    let mut place = Place::new();
    place.config.reserve_bytes = 65_536;
    let (log, _) = place.open();
    let mut model = Vec::new();
    append_synced(&log, &[b"kept"], &mut model);
    let reserve = place.path().join("reserve");
    while std::fs::metadata(&reserve).map_or(0, |m| m.len()) < 65_536 {
        thread::yield_now();
    }
    log.close().unwrap();
    drop(log);
    let held = reserve.clone();
    place.fs = Arc::new(HookFs::new(
        Arc::new(RealFs),
        Arc::new(move |call| match call.op {
            Op::ZeroFill if held.exists() || call.path == held => Act::Fail(ENOSPC),
            _ => Act::Go,
        }),
    ));
    let (log, recovered) = place.open();
    assert_eq!(rows(&recovered), model);
    append_synced(&log, &[b"written on a full disk"], &mut model);
    log.close().unwrap();
    drop((log, recovered));
    assert_eq!(rows(&place.open().1), model);
}

/// A process that died while it filled the reserve left a part of it under its name.
#[test]
fn a_reserve_that_is_too_short_is_made_anew_and_has_its_name_only_when_it_is_whole() {
    let mut place = Place::new();
    let spawn = InlineSpawn::default();
    place.spawn = Arc::new(spawn.clone());
    place.config.reserve_bytes = 65_536;
    let reserve = place.path().join("reserve");
    let (seen, looks) = (Arc::new(AtomicU64::new(0)), reserve.clone());
    let counted = Arc::clone(&seen);
    let hook = move |call: &Call<'_>| {
        if call.op == Op::ZeroFill && call.len == 65_536 {
            counted.fetch_add(1, Ordering::SeqCst);
            assert!(std::fs::metadata(&looks).map_or(0, |found| found.len()) < 65_536);
            assert_ne!(call.path, looks);
        }
        Act::Go
    };
    place.fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
    std::fs::create_dir_all(place.path()).unwrap();
    std::fs::write(&reserve, [0; 5_000]).unwrap();
    for _ in 0..2 {
        let (log, _) = place.open();
        spawn.run_until_idle(RealClock.now());
        assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 65_536);
        log.close().unwrap();
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1, "one that is whole stays");
}

/// One failure at call k of a life that opens, appends, rotates, truncates and closes: whatever fails, what was
/// acknowledged is there at the next open, what was refused is not, and nothing panics or hangs.
#[test]
fn one_failure_at_any_call_loses_no_acknowledged_record() {
    for errno in [EIO, ENOSPC] {
        let mut k = 1;
        loop {
            let mut place = Place::new();
            // A life before, left unproven, so that the open re-logs.
            let (log, _) = place.open();
            let mut acked = Vec::new();
            append(&log, &[b"left by a crash", b"with its batch"], &mut acked);
            drop(log);
            let calls = Arc::new(AtomicU64::new(0));
            let count = calls.clone();
            let hook = move |call: &Call<'_>| {
                if !call.op.changes() || !call.op.can_fail() {
                    return Act::Go;
                }
                let n = count.fetch_add(1, Ordering::SeqCst) + 1;
                if n == k { Act::Fail(errno) } else { Act::Go }
            };
            place.fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
            let refused = life(&place, &mut acked);
            place.fs = Arc::new(RealFs);
            let (_, recovered) = place.open();
            let found = rows(&recovered);
            let missing: Vec<_> = acked.iter().filter(|row| !found.contains(row)).collect();
            assert!(missing.is_empty(), "errno {errno} at call {k}: lost {missing:?}");
            assert!(found.iter().all(|row| !refused.contains(&row.2)), "errno {errno} at call {k}");
            assert!(found.is_sorted(), "errno {errno} at call {k}");
            if calls.load(Ordering::SeqCst) < k {
                println!("errno {errno}: {} calls", k - 1);
                break;
            }
            k += 1;
        }
    }
}

/// Runs until something fails for good; gives what was refused.
fn life(place: &Place, acked: &mut Vec<crate::support::Row>) -> Vec<Vec<u8>> {
    let mut refused = Vec::new();
    let Ok((log, _)) = Log::open(place.options()) else { return refused };
    for i in 0..14_u8 {
        let record = vec![i; 1200];
        match log.append(&[&record]) {
            Ok(appended) if log.wait(appended.last).is_ok() => {
                acked.push((appended.first, appended.last, record));
            }
            Ok(_) => {}
            Err(e) => {
                assert_eq!(e.fate(), Fate::NotWritten, "{e}");
                refused.push(record);
            }
        }
    }
    let _ = log.close();
    refused
}

#[test]
fn a_rest_that_fails_at_any_call_leaves_a_log_that_goes_on() {
    for at in 1.. {
        let mut place = Place::new();
        let (left, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, told) = (left.clone(), failed.clone());
        let hook = HookFs::new(
            Arc::new(RealFs),
            Arc::new(move |call| {
                // Only calls on the names: what fails in the file itself may poison, as in any rotation.
                let of_names = matches!(call.op, Op::Unlink | Op::SyncDir | Op::HardLink | Op::CreateNew);
                let hit = of_names
                    && counted.load(Ordering::SeqCst) > 0
                    && counted.fetch_sub(1, Ordering::SeqCst) == 1;
                told.fetch_or(hit, Ordering::SeqCst);
                if hit { Act::Fail(EIO) } else { Act::Go }
            }),
        );
        place.fs = Arc::new(hook);
        let (log, _) = place.open();
        let mut model = Vec::new();
        // Until the file is a large one, half full, and the next ones are there.
        while log.counters().rotations < 3 || log.disk_bytes() < 4 * 32_768 {
            append_synced(&log, &[&[7; 3_000]], &mut model);
        }
        left.store(at, Ordering::SeqCst);
        let rested = log.rest();
        left.store(0, Ordering::SeqCst);
        for _ in 0..60 {
            append_synced(&log, &[&[8; 3_000]], &mut model);
        }
        assert_eq!(log.watermarks().state, State::Open, "call {at}");
        drop(log);
        let (_, recovered) = place.open();
        assert_eq!(rows(&recovered), model, "call {at}");
        if !failed.load(Ordering::SeqCst) {
            rested.unwrap();
            assert!(at > 3, "a rest makes few calls: {at}");
            break;
        }
    }
}
