//! Disks that fail and fill: letters stay in memory, and the files are mended when the disk is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use akidb_host::sim::{Act, EIO, ENOSPC, HookFs, act_at};

use super::super::chores::HEAL;
use super::*;
use crate::error::ErrorKind;

fn life(queue: &DeadLetters, clock: &FakeClock) -> Vec<LetterId> {
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let id = queue.add(new_letter(&format!("a{round}")));
        acknowledged.extend(id.ok().flatten());
        clock.advance(Duration::from_secs(61));
        if let Some(claim) = queue.claim_due("s3", unix_ms(clock), 1).pop() {
            queue.failed(claim, Class::Timeout, "no answer", attempt());
        }
        if round == 1 {
            let _ = queue.persist();
        }
        queue.tick(clock.now());
    }
    acknowledged
}

fn open_on(rig: &Rig, fs: HookFs) -> DeadLetters {
    DeadLetters::open(Arc::new(fs), rig.clock.clone(), Path::new(PATH), rig.settings.clone()).unwrap().0
}

/// After the power is cut and everything unsynced is gone: these are there, or all of them.
fn assert_on_disk(rig: &Rig, ids: &[LetterId], place: &str) {
    let rig = Rig {
        disk: rig.disk.power_cut_keeping(0, &mut Rng::seeded(3)),
        clock: rig.clock.clone(),
        settings: rig.settings.clone(),
    };
    let (queue, loaded) = rig.open();
    for id in ids {
        assert!(queue.get(id).is_some(), "{place}: lost {id}; {loaded:?}");
    }
}

#[test]
fn one_failed_call_anywhere_costs_nothing_acknowledged_and_is_mended_by_a_tick() {
    let mut calls = 0;
    for act in [Act::Fail(EIO), Act::FailMidway(ENOSPC), Act::FailAfter(EIO)] {
        for k in 1.. {
            let rig = Rig::new();
            let place = format!("{act:?} at call {k}");
            let hook = act_at(k, act, |op| op.changes() && op.can_fail());
            let (hit, counted) = (Arc::new(AtomicBool::new(false)), Arc::clone(&Arc::new(AtomicU64::new(0))));
            let was_hit = Arc::clone(&hit);
            let fs = HookFs::new(
                Arc::new(rig.disk.clone()),
                Arc::new(move |call| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let answer = hook(call);
                    was_hit.fetch_or(answer != Act::Go, Ordering::Relaxed);
                    answer
                }),
            );
            let queue = open_on(&rig, fs);
            let acknowledged = life(&queue, &rig.clock);
            if !hit.load(Ordering::Relaxed) {
                break;
            }
            calls += 1;
            assert_on_disk(&rig, &acknowledged, &place);
            assert_eq!(queue.stats().size, 4, "{place}: what is not on disk is in memory");
            rig.clock.advance(Duration::from_secs(60));
            queue.tick(rig.clock.now());
            assert_eq!(queue.stats().degraded, None, "{place}");
            let all: Vec<_> = queue.list(&Which::all(), 9).into_iter().map(|letter| letter.id).collect();
            assert_on_disk(&rig, &all, &place);
            let id = queue.add(new_letter("later")).unwrap().unwrap();
            assert_on_disk(&rig, &[id], &place);
        }
    }
    println!("{calls} failed calls");
    assert!(calls > 60);
}

#[test]
fn a_full_disk_keeps_letters_in_memory_until_there_is_room() {
    let rig = Rig::new();
    let (queue, _) = rig.open();
    let first = queue.add(new_letter("first")).unwrap().unwrap();
    rig.disk.set_free_bytes(Some(0));
    for n in 0..20 {
        let error = queue.add(new_letter(&n.to_string())).err();
        let Some(error) = error else { continue };
        assert_eq!((error.kind(), error.code()), (ErrorKind::NoSpace, "AKI-0713"));
        assert!(error.to_string().contains("dlq.journal.jsonl"), "{error}");
    }
    assert!(queue.stats().degraded.is_some_and(|why| why.contains("dlq.journal.jsonl")));
    assert_eq!(queue.stats().size, 21);
    rig.clock.advance(HEAL);
    queue.tick(rig.clock.now());
    assert!(queue.stats().degraded.is_some(), "still full");
    assert!(queue.persist().is_err());
    assert_on_disk(&rig, &[first], "full");
    rig.disk.set_free_bytes(None);
    rig.clock.advance(HEAL);
    queue.tick(rig.clock.now());
    assert_eq!(queue.stats().degraded, None);
    let all: Vec<_> = queue.list(&Which::all(), 99).into_iter().map(|letter| letter.id).collect();
    assert_eq!(all.len(), 21);
    assert_on_disk(&rig, &all, "room again");
}

#[test]
fn a_failed_sync_is_never_believed_afterwards() {
    let rig = Rig::new();
    let (queue, _) = rig.open();
    queue.add(new_letter("a")).unwrap();
    rig.disk.fail_next_sync(EIO);
    let error = queue.add(new_letter("b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // The next sync of that file would say Ok, and prove nothing.
    assert!(queue.add(new_letter("c")).is_err());
    rig.clock.advance(HEAL);
    queue.tick(rig.clock.now());
    let all: Vec<_> = queue.list(&Which::all(), 9).into_iter().map(|letter| letter.id).collect();
    assert_eq!(all.len(), 3);
    assert_on_disk(&rig, &all, "healed");
}

#[test]
fn damaged_files_are_kept_aside_and_the_queue_goes_on() {
    let rig = Rig::new();
    let (queue, _) = rig.open();
    for n in 0..6 {
        queue.add(new_letter(&n.to_string())).unwrap();
        if n == 2 {
            queue.persist().unwrap();
        }
    }
    drop(queue);
    let journal = Path::new("/db/dlq/dlq.journal.jsonl");
    let flip = |bytes: &mut Vec<u8>| bytes[100] ^= 4;
    rig.disk.rot(journal, flip).unwrap();
    rig.disk.rot(Path::new(PATH), |bytes| bytes[300] ^= 4).unwrap();
    let before = (rig.disk.bytes(Path::new(PATH)).unwrap(), rig.disk.bytes(journal).unwrap());
    let (read, looked) = DeadLetters::read(&rig.disk, Path::new(PATH)).unwrap();
    assert!(looked.kept_aside.is_empty() && looked.corrupt_lines == 2 && read.len() == 4, "{looked:?}");
    let (queue, loaded) = rig.open();
    assert_eq!(queue.list(&Which::all(), 9), read);
    assert_eq!(queue.stats().corrupt_lines, 2);
    let at = rig.now_ms() / 1_000;
    let aside = [format!("{PATH}.corrupt-{at}"), format!("/db/dlq/dlq.journal.jsonl.corrupt-{at}")];
    assert_eq!(loaded.kept_aside, aside.clone().map(std::path::PathBuf::from));
    let kept = aside.map(|path| rig.disk.bytes(Path::new(&path)).unwrap());
    assert_eq!(kept, [before.0, before.1], "as they were found");
    let (_, loaded) = rig.open();
    assert_eq!((loaded.corrupt_lines, loaded.letters, loaded.kept_aside.len()), (0, 4, 0), "mended");
}

#[test]
fn no_more_than_eight_damaged_files_are_kept() {
    let rig = Rig::new();
    for _ in 0..12 {
        let (queue, _) = rig.open();
        queue.add(new_letter("a")).unwrap();
        queue.persist().unwrap();
        drop(queue);
        rig.disk.rot(Path::new(PATH), |bytes| bytes[0] ^= 1).unwrap();
    }
    let names = rig.disk.list(Path::new("/db/dlq")).unwrap();
    let kept = names.iter().filter(|entry| entry.name.contains(".corrupt-")).count();
    assert_eq!(kept, 8);
}

#[test]
fn a_disk_that_cannot_be_read_or_written_opens_an_empty_queue() {
    let rig = Rig::new();
    rig.open().0.add(new_letter("a")).unwrap();
    let fs = HookFs::new(Arc::new(rig.disk.clone()), Arc::new(|_| Act::Fail(EIO)));
    let (queue, loaded) =
        DeadLetters::open(Arc::new(fs), rig.clock.clone(), Path::new(PATH), rig.settings.clone()).unwrap();
    assert_eq!((loaded.unreadable.len(), queue.stats().size), (2, 0));
    assert!(queue.stats().degraded.is_some());
    assert!(queue.add(new_letter("b")).is_err());
    assert_eq!(queue.stats().size, 1);
    drop(queue);
    assert_eq!(rig.open().0.stats().size, 1, "what could not be read was not written over");
}

#[test]
fn files_that_could_not_be_read_are_kept_aside_when_the_disk_is_back() {
    let rig = Rig::new();
    rig.open().0.add(new_letter("a")).unwrap();
    let journal = rig.disk.bytes(Path::new("/db/dlq/dlq.journal.jsonl")).unwrap();
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let answer = move || if broken.load(Ordering::Relaxed) { Act::Fail(EIO) } else { Act::Go };
    let queue = open_on(&rig, HookFs::new(Arc::new(rig.disk.clone()), Arc::new(move |_| answer())));
    assert!(queue.add(new_letter("b")).is_err());
    is_broken.store(false, Ordering::Relaxed);
    rig.clock.advance(HEAL);
    queue.tick(rig.clock.now());
    assert_eq!(queue.stats().degraded, None);
    let kept = format!("/db/dlq/dlq.journal.jsonl.corrupt-{}", rig.now_ms() / 1_000 - 5);
    assert_eq!(rig.disk.bytes(Path::new(&kept)).unwrap(), journal);
}
