//! Bad days by name, on a simulated disk: whatever was acknowledged or shown once is found again, and nothing else.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use akidb_host::sim::{CrashDisk, EIO, in_forked_child};
use akidb_host::{Access, Fs as _, Rng};
use akidb_wal::{Config, ErrorKind, Fate, Log, Lsn, State, WritePath};

use crate::power_cuts::machine::{DIR, Machine, half_made};
use crate::power_cuts::truth::Truth;
use crate::support::{Place, append_synced, rows, small_config};

const PATHS: [WritePath; 2] = [WritePath::Mapped, WritePath::Positioned];

/// A machine whose log has files of one size. It checks at each open that what was promised is there.
fn machine(write_path: WritePath, rng: &mut Rng) -> Machine {
    let mut config: Config = small_config();
    config.max_file_bytes = config.first_file_bytes;
    config.linger_max = Duration::ZERO;
    config.write_path = write_path;
    let disk = CrashDisk::new(rng.u64());
    Machine::new(disk, Truth::default(), config, u64::MAX, rng)
}

fn record(len: usize, fill: u8) -> Vec<Arc<[u8]>> {
    vec![vec![fill; len].into()]
}

fn commit(machine: &Machine, log: &Log, len: usize, fill: u8) -> Lsn {
    let lsn = machine.append(log, record(len, fill)).unwrap();
    machine.wait(log, lsn).unwrap();
    lsn
}

/// A record of 600 bytes for each of these; the last one's number.
fn append_each(machine: &Machine, log: &Log, fills: Range<u8>) -> Lsn {
    fills.fold(Lsn::ZERO, |_, fill| machine.append(log, record(600, fill)).unwrap())
}

fn shown(machine: &Machine) -> usize {
    machine.truth(|truth| truth.rows.len())
}

fn last_file(machine: &Machine) -> PathBuf {
    let names = machine.disk.list(Path::new(DIR)).unwrap();
    let last = names.iter().rfind(|entry| entry.name.ends_with(".wal")).unwrap();
    Path::new(DIR).join(&last.name)
}

#[test]
fn after_an_eio_the_next_sync_says_ok_and_what_was_shown_stays() {
    let mut seen = [0; 4];
    for seed in 0..200 {
        let mut rng = Rng::seeded(seed);
        let mut machine = machine(PATHS[seed as usize % 2], &mut rng);
        let log = machine.open().unwrap();
        commit(&machine, &log, 600, 1);
        let unsure = append_each(&machine, &log, 2..5);
        machine.disk.fail_next_sync(EIO);
        let error = machine.wait(&log, unsure).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Poisoned { .. }) && error.fate() == Fate::Unknown,
            "{error}"
        );
        assert!(machine.wait(&log, unsure).is_err() && log.watermarks().state == State::Poisoned);
        machine.disk.open(&last_file(&machine), Access::ReadWrite).unwrap().sync_data().unwrap();
        drop(log);
        if rng.below(2) == 0 {
            machine.reboot(machine.disk.kill());
        }
        drop(machine.open().unwrap());
        seen[shown(&machine) - 1] += 1;
        // All of that is promised now: the disk must have it although its sync of the old file lied.
        machine.reboot(machine.disk.power_cut_keeping(0, &mut rng));
        drop(machine.open().unwrap());
    }
    println!("after an EIO, opens that showed 0, 1, 2, 3 unsure records: {seen:?}");
    assert!(seen[3] > 100 && seen[0] > 0);
}

#[test]
fn a_double_crash_shows_no_ghost_of_the_first() {
    let mut ghosts = 0;
    for seed in 0..300 {
        let mut rng = Rng::seeded(seed);
        let mut machine = machine(PATHS[seed as usize % 2], &mut rng);
        let log = machine.open().unwrap();
        commit(&machine, &log, 600, 1);
        // Vectors of one dimension make frames of one length: what survives of these lines up with the next ones.
        let last = append_each(&machine, &log, 2..6);
        machine.disk.fail_next_sync(EIO);
        let _ = log.wait(last);
        drop(log);
        machine.reboot(machine.disk.power_cut(&mut rng));
        let log = machine.open().unwrap();
        ghosts += machine.truth(|truth| truth.torn_frames);
        let last = append_each(&machine, &log, 6..9);
        if rng.below(2) == 0 {
            machine.wait(&log, last).unwrap();
        }
        drop(log);
        machine.reboot(machine.disk.power_cut(&mut rng));
        drop(machine.open().unwrap());
        machine.reboot(machine.disk.power_cut(&mut rng));
        drop(machine.open().unwrap());
    }
    println!("{ghosts} intact frames lay behind a cut and were never seen again");
    assert!(ghosts > 20);
}

#[test]
fn frames_of_an_earlier_life_in_a_recycled_file_are_nobodys() {
    for write_path in PATHS {
        let mut rng = Rng::seeded(7);
        let mut machine = machine(write_path, &mut rng);
        let log = machine.open().unwrap();
        let mut in_recycled = 0;
        for fill in 0..60 {
            let lsn = commit(&machine, &log, 600, fill);
            machine.rest(Duration::from_millis(1));
            machine.truth(|truth| truth.floor = lsn);
            log.truncate_below(lsn).unwrap();
            let counters = log.counters();
            if counters.recycled < 2 || counters.rotations <= counters.recycled {
                continue;
            }
            in_recycled += 1;
            let stale = machine.disk.bytes(&last_file(&machine)).unwrap().iter().filter(|b| **b != 0).count();
            assert!(stale > 2_000, "the older life is still there");
            for killed in [true, false] {
                let disk = if killed { machine.disk.kill() } else { machine.disk.power_cut(&mut rng) };
                let truth = machine.truth(|truth| truth.clone());
                let mut after = Machine::new(disk, truth, machine.config.clone(), u64::MAX, &mut rng);
                drop(after.open().unwrap());
                assert!(!after.truth(|truth| truth.cut), "nothing was torn: old frames are no news");
            }
        }
        assert!(in_recycled > 10, "{write_path:?}: {in_recycled}");
    }
}

#[test]
fn a_full_disk_is_typed_loses_nothing_and_heals_mapped_and_not() {
    for write_path in PATHS {
        let mut rng = Rng::seeded(1);
        let mut machine = machine(write_path, &mut rng);
        machine.config.reserve_bytes = machine.config.first_file_bytes;
        let log = machine.open().unwrap();
        machine.rest(Duration::ZERO);
        commit(&machine, &log, 600, 1);
        machine.disk.set_free_bytes(Some(0));
        let error = (2..100).find_map(|fill| machine.append(&log, record(600, fill)).err()).unwrap();
        assert!(matches!(error.kind(), ErrorKind::NoSpace { .. }), "{error}");
        assert_eq!((error.fate(), log.watermarks().state), (Fate::NotWritten, State::NoSpace));
        let last = log.watermarks().appended;
        machine.wait(&log, last).unwrap();
        drop(log);
        machine.reboot(machine.disk.kill());
        assert_eq!(machine.disk.statfs(Path::new("/")).unwrap().available_bytes, 0);
        let log = machine.open().unwrap();
        commit(&machine, &log, 600, 101);
        log.close().unwrap();
        drop(log);
        let error = machine.open().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NoSpace { .. }), "the reserve is used up: {error}");
        machine.disk.set_free_bytes(None);
        let log = machine.open().unwrap();
        commit(&machine, &log, 20_000, 102);
    }
}

#[test]
fn a_disk_that_is_nearly_full_keeps_its_last_bytes_for_the_log() {
    let mut rng = Rng::seeded(1);
    let mut machine = machine(WritePath::Mapped, &mut rng);
    machine.config.reserve_bytes = 32_768;
    for (free, is_made) in [(60_000, false), (120_000, true)] {
        machine.disk.set_free_bytes(Some(free));
        let log = machine.open().unwrap();
        machine.rest(Duration::ZERO);
        let reserve = machine.disk.metadata(&Path::new(DIR).join("reserve"));
        assert_eq!(reserve.is_ok(), is_made, "{free} bytes are free");
        commit(&machine, &log, 600, 1);
        log.close().unwrap();
    }
}

#[test]
fn a_wall_clock_that_runs_backwards_changes_nothing() {
    let mut rng = Rng::seeded(1);
    let mut machine = machine(WritePath::Mapped, &mut rng);
    machine.config.stamp_after = Duration::from_millis(5);
    for _ in 0..5 {
        let log = machine.open().unwrap();
        for fill in 0..20 {
            machine.clock.jump_wall(-3_600_000_000);
            let lsn = machine.append(&log, record(600, fill)).unwrap();
            (0..2).for_each(|_| machine.rest(Duration::from_millis(6)));
            assert!(log.watermarks().synced >= lsn, "a record that nobody waits for is synced all the same");
        }
        let last = log.watermarks().synced;
        machine.truth(|truth| truth.promise(last));
        drop(log);
        machine.reboot(machine.disk.power_cut_keeping(0, &mut rng));
    }
    drop(machine.open().unwrap());
    assert_eq!(shown(&machine), 100);
}

#[test]
fn a_directory_left_by_a_process_that_died_making_it_keeps_its_log() {
    let mut rng = Rng::seeded(1);
    let mut machine = machine(WritePath::Mapped, &mut rng);
    half_made(&machine.disk);
    let log = machine.open().unwrap();
    commit(&machine, &log, 600, 1);
    drop(log);
    machine.reboot(machine.disk.power_cut_keeping(0, &mut rng));
    drop(machine.open().unwrap());
    assert_eq!(shown(&machine), 1);
}

#[test]
fn two_files_that_changed_names_are_corrupt_at_their_start() {
    let mut rng = Rng::seeded(1);
    let mut machine = machine(WritePath::Mapped, &mut rng);
    let log = machine.open().unwrap();
    (0..20).for_each(|fill| assert!(commit(&machine, &log, 600, fill) > Lsn::ZERO));
    drop(log);
    let [one, two, aside] =
        ["0000000000000001.wal", "0000000000000002.wal", "aside"].map(|n| Path::new(DIR).join(n));
    for (from, to) in [(&one, &aside), (&two, &one), (&aside, &two)] {
        machine.disk.rename(from, to).unwrap();
    }
    let error = machine.open().unwrap_err();
    let ErrorKind::Corrupt { file, offset: 0, .. } = error.kind() else { panic!("{error}") };
    assert_eq!(*file, one);
}

#[test]
fn a_child_of_fork_is_refused_and_harms_nothing() {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    let last = append_synced(&log, &[b"the parent's"], &mut model).last;
    let mut log = Some(log);
    let refused = |error: akidb_wal::Error| matches!(error.kind(), ErrorKind::Forked);
    let code = in_forked_child(|| {
        let child = log.take().unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let answers = [
            child.append(&[b"the child's"]).is_err_and(refused),
            child.append_nowait(&[b"the child's"]).is_err_and(refused),
            child.commit(&[b"the child's"]).is_err_and(refused),
            child.wait(last).is_err_and(refused),
            matches!(std::pin::pin!(child.synced(last)).poll(&mut context), Poll::Ready(Err(e)) if refused(e.clone())),
            child.truncate_below(last).is_err_and(refused),
            child.close().is_err_and(refused),
        ];
        drop(child);
        answers.iter().position(|answer| !answer).map_or(0, |at| u8::try_from(at).unwrap() + 1)
    });
    assert_eq!(code.unwrap(), 0, "the call of that number went through in the child");
    let log = log.take().unwrap();
    append_synced(&log, &[b"the parent's again"], &mut model);
    log.close().unwrap();
    drop(log);
    assert_eq!(rows(&place.open().1), model);
}
