//! The control page: what it says while the log lives, what it proves after a crash, and that no damage to it costs
//! a record or invents one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use akidb_host::sim::{Act, EIO, ENOSPC, Gate, HookFs, Op};
use akidb_host::{RealFs, Rng};
use akidb_wal::{ControlFacts, ControlState, Cut, Log, Lsn, Options, read_control};

use crate::support::{Place, Row, append, append_synced, corrupt_at, edit, frames, rows};

const DURABLE: usize = 64;
const SLOTS: usize = 256;

fn page(place: &Place) -> PathBuf {
    place.path().join("control")
}

fn facts(place: &Place) -> ControlFacts {
    read_control(&RealFs, &place.path()).expect("a page")
}

#[test]
fn the_page_says_who_writes_how_far_the_disk_is_and_how_it_ended() {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    let first = facts(&place);
    assert_eq!((first.pid, first.epoch, first.durable), (std::process::id(), 1, Some(Lsn::ZERO)));
    assert!(first.start_ticks > 0 && first.boot_id != [0; 16] && first.log_id != [0; 16]);
    assert_eq!((first.active_seq, first.state, first.readers), (1, Some(ControlState::Open), 0));
    let synced = append_synced(&log, &[b"on disk", b"both"], &mut model);
    append(&log, &[b"not yet"], &mut model);
    assert_eq!(facts(&place).durable, Some(synced.last));
    for _ in 0..20 {
        append(&log, &[&[1; 1000]], &mut model);
    }
    let rotated = facts(&place);
    assert!(rotated.active_seq > 1 && rotated.appended > synced.last.as_u64());
    assert_eq!(rotated.durable, Some(synced.last), "a rotation syncs nothing");
    log.wait(model.last().unwrap().0).unwrap();
    log.truncate_below(model[9].0).unwrap();
    assert_eq!(facts(&place).floor, model[9].0.as_u64());
    log.close().unwrap();
    let closed = facts(&place);
    assert_eq!((closed.state, closed.durable), (Some(ControlState::Closed), Some(model.last().unwrap().0)));
    drop(log);
    let again = Options { floor: model[9].0, ..place.options() };
    let (log, _) = Log::open(again).unwrap();
    let next = facts(&place);
    assert_eq!((next.epoch, next.log_id, next.state), (2, first.log_id, Some(ControlState::Open)));
    drop(log);
    assert_eq!(facts(&place).state, Some(ControlState::Open), "a drop is a crash");
}

#[test]
fn a_page_never_says_more_than_the_disk_and_tells_of_a_failed_sync() {
    let mut place = Place::new();
    let gate = Gate::opened(|call| call.op == Op::SyncData);
    place.fs = Arc::new(HookFs::new(Arc::new(RealFs), gate.hook()));
    let (log, _) = place.open();
    let mut model = Vec::new();
    let safe = append_synced(&log, &[b"safe"], &mut model);
    gate.shut();
    let unsure = append(&log, &[b"unsure"], &mut model);
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| log.wait(unsure.last));
        gate.wait_until_held();
        assert_eq!(facts(&place).durable, Some(safe.last), "the sync has not returned");
        gate.release_as(Act::Fail(EIO));
        leader.join().unwrap().unwrap_err();
    });
    assert_eq!(facts(&place).durable, Some(safe.last));
    assert_eq!(facts(&place).state, Some(ControlState::Poisoned));
    gate.release();
}

/// A log killed right after its last group was acknowledged, with no later stamp.
fn killed() -> (Place, Vec<Row>) {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    append_synced(&log, &[b"kept"], &mut model);
    append_synced(&log, &[b"last", b"group"], &mut model);
    drop(log);
    (place, model)
}

#[test]
fn with_the_page_damage_in_the_last_group_is_an_error_and_without_it_a_reported_cut() {
    let (place, model) = killed();
    let (file, last) = (place.last_file(), frames(&place.last_file())[2]);
    for at in [last.0 + 3, last.0 + 47] {
        edit(&file, |bytes| bytes[at] ^= 1);
        let error = place.fails();
        assert_eq!(corrupt_at(&error), (file.clone(), last.0 as u64, model[1].0), "flip at {at}");
        assert!(error.to_string().contains("control page"), "{error}");
        let kept = fs::read(page(&place)).unwrap();
        fs::remove_file(page(&place)).unwrap();
        let recovered = place.peek().unwrap();
        assert_eq!(rows(&recovered), model[..1]);
        let Some(Cut { file: named, offset, by_order: false, .. }) = recovered.cut else { panic!("no cut") };
        assert_eq!((&named, offset), (&file, last.0 as u64));
        fs::write(page(&place), kept).unwrap();
        edit(&file, |bytes| bytes[at] ^= 1);
    }
    // The command that the error names still mends it.
    edit(&file, |bytes| bytes[last.0 + 47] ^= 1);
    akidb_wal::cut_at(&RealFs, &file, last.0 as u64, false).unwrap();
    let (log, recovered) = place.open();
    assert_eq!(rows(&recovered), model[..1]);
    assert!(recovered.cut.unwrap().by_order);
    let mut model = model[..1].to_vec();
    append_synced(&log, &[b"after the cut"], &mut model);
    drop(log);
    assert_eq!(rows(&place.open().1), model);
}

#[test]
fn the_page_proves_the_last_group_and_a_missing_last_file() {
    let (place, model) = killed();
    let recovered = place.peek().unwrap();
    assert_eq!((recovered.proven, recovered.last), (model[2].0, model[2].0));
    let (log, _) = place.open();
    let mut model = model;
    for _ in 0..12 {
        append_synced(&log, &[&[7; 1500]], &mut model);
    }
    drop(log);
    let file = place.last_file();
    let first_in_it = frames(&file).iter().map(|frame| usize::from(frame.2)).sum::<usize>();
    fs::remove_file(&file).unwrap();
    let error = place.peek().unwrap_err();
    assert_eq!(corrupt_at(&error).2, model[model.len() - first_in_it].0, "{error}");
}

#[test]
fn a_page_that_is_absent_short_foreign_or_newer_changes_nothing() {
    let (place, model) = killed();
    let whole = fs::read(page(&place)).unwrap();
    let (other, _) = killed();
    let foreign = fs::read(page(&other)).unwrap();
    let mut newer = whole.clone();
    newer[8] = 2;
    let mut long = whole.clone();
    long.push(0);
    let pages =
        [Vec::new(), whole[..100].to_vec(), whole[..4095].to_vec(), long, foreign, newer, vec![0; 4096]];
    for (i, bytes) in pages.into_iter().enumerate() {
        let copy = place.copy();
        fs::write(page(&copy), &bytes).unwrap();
        let recovered = copy.peek().unwrap();
        assert_eq!((rows(&recovered), &recovered.cut), (model.clone(), &None), "page {i}");
        assert_eq!(recovered.proven, model[0].0, "page {i} proves nothing");
        let (log, recovered) = copy.open();
        assert_eq!(rows(&recovered), model, "page {i}");
        assert_eq!(facts(&copy).epoch, log.epoch(), "page {i} was made anew");
        assert_eq!(fs::metadata(page(&copy)).unwrap().len(), 4096, "page {i}");
    }
}

#[test]
fn no_flip_in_the_page_loses_a_record_or_makes_a_false_alarm() {
    let (place, model) = killed();
    let whole = fs::read(page(&place)).unwrap();
    let seed = 11;
    println!("seed {seed}");
    let mut rng = Rng::seeded(seed);
    let mut proven = 0;
    // Every bit of the two lines that matter, and some of the rest.
    let all = (0..128 * 8).chain((0..500).map(|_| usize::try_from(rng.below(4096 * 8)).unwrap()));
    for bit in all.collect::<Vec<_>>() {
        edit(&page(&place), |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let recovered = place.peek().unwrap_or_else(|e| panic!("bit {bit}: {e}"));
        assert_eq!((rows(&recovered), &recovered.cut), (model.clone(), &None), "bit {bit}");
        let believed = recovered.proven == model[2].0;
        assert!(!believed || bit / 8 >= 72, "bit {bit} of the identity or of durable was believed");
        proven += usize::from(believed);
        fs::write(page(&place), &whole).unwrap();
    }
    assert!(proven > 400, "{proven}: what says nothing about durable is ignored");
    // An honest page from before the last group: no flip of durable alone turns that group's torn tail into damage.
    let (torn, model, page_then) = torn_tail();
    let durable = DURABLE * 8..(DURABLE + 8) * 8;
    for bit in durable {
        let mut flipped = page_then.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(page(&torn), &flipped).unwrap();
        let recovered = torn.peek().unwrap_or_else(|e| panic!("bit {bit}: {e}"));
        assert_eq!(rows(&recovered), model);
        assert!(recovered.cut.is_some());
    }
}

/// A log whose last group is torn and was never acknowledged, and its page.
fn torn_tail() -> (Place, Vec<Row>, Vec<u8>) {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    append_synced(&log, &[b"kept"], &mut model);
    let page_then = fs::read(page(&place)).unwrap();
    append(&log, &[b"torn"], &mut Vec::new());
    drop(log);
    let (file, torn) = (place.last_file(), frames(&place.last_file())[2]);
    edit(&file, |bytes| bytes[torn.0 + 45] ^= 1);
    assert_eq!(fs::read(page(&place)).unwrap()[DURABLE..DURABLE + 8], page_then[DURABLE..DURABLE + 8]);
    (place, model, page_then)
}

#[test]
fn a_page_that_cannot_be_made_stops_no_open_and_an_old_one_stays_true() {
    for (op, errno) in [
        (Op::CreateNew, ENOSPC),
        (Op::WriteAt, ENOSPC),
        (Op::Rename, EIO),
        (Op::MapAtomics, EIO),
        (Op::Open, 13),
    ] {
        for life in 0..2 {
            let (mut place, mut model) = killed();
            if life == 0 {
                fs::remove_file(page(&place)).unwrap();
            }
            let seen = Arc::new(AtomicBool::new(false));
            let hit = seen.clone();
            let hook = move |call: &akidb_host::sim::Call<'_>| {
                let control = call.path.file_name().is_some_and(|n| n.to_string_lossy().contains("control"));
                if control && call.op == op {
                    hit.store(true, Ordering::SeqCst);
                    return Act::FailMidway(errno);
                }
                Act::Go
            };
            place.fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
            let at = format!("{op:?}, life {life}");
            let (log, recovered) = place.open();
            assert_eq!(rows(&recovered), model, "{at}");
            append_synced(&log, &[b"without a page"], &mut model);
            assert!(log.truncate_below(model[0].0).is_ok());
            log.close().unwrap();
            drop(log);
            // A page left as it was is from an earlier open: it proves less, and nothing that is not so.
            assert_eq!(rows(&place.peek().unwrap()), model, "{at}");
            place.fs = Arc::new(RealFs);
            assert_eq!(rows(&place.open().1), model, "{at}");
            assert!(!place.path().join("control.tmp").exists(), "{at}");
            let not_here = life == 1 && matches!(op, Op::CreateNew | Op::Rename);
            assert_eq!(seen.load(Ordering::SeqCst), !not_here, "{at}");
        }
    }
}

/// A reader slot as another process would fill it.
fn slot(pid: u32, start: u64, seq: u64) -> [u8; 64] {
    let mut slot = [0; 64];
    slot[..4].copy_from_slice(&pid.to_le_bytes());
    slot[8..16].copy_from_slice(&start.to_le_bytes());
    slot[16..24].copy_from_slice(&seq.to_le_bytes());
    slot
}

#[test]
fn a_live_readers_file_is_not_used_again_and_a_dead_ones_is() {
    let place = Place::new();
    drop(place.open());
    let me = facts(&place);
    // This process reads file 3; another one, that had its pid, died reading file 4.
    edit(&page(&place), |bytes| {
        bytes[SLOTS..SLOTS + 64].copy_from_slice(&slot(me.pid, me.start_ticks, 3));
        bytes[SLOTS + 64..SLOTS + 128].copy_from_slice(&slot(me.pid, me.start_ticks + 1, 4));
    });
    let (log, _) = place.open();
    assert_eq!(facts(&place).readers, 2, "carried over");
    let mut model = Vec::new();
    for _ in 0..100 {
        append_synced(&log, &[&[1; 1500]], &mut model);
    }
    // Held open, so that the file system gives their inodes to nobody else.
    let open = |seq: u64| fs::File::open(place.path().join(format!("{seq:016x}.wal"))).unwrap();
    let (pinned, free) = (open(3), open(4));
    log.truncate_below(model.last().unwrap().0).unwrap();
    assert_eq!(facts(&place).readers, 1, "truncation swept the dead one");
    let inodes: Vec<_> =
        fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().ino()).collect();
    assert!(!inodes.contains(&pinned.metadata().unwrap().ino()), "unlinked");
    assert!(inodes.contains(&free.metadata().unwrap().ino()), "kept for another life");
    drop(log);
    let floor = model.last().unwrap().0;
    let recovered = Log::open(Options { floor, ..place.options() }).unwrap().1;
    assert_eq!(rows(&recovered), model[99..]);
}
