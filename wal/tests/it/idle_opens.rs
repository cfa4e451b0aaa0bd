//! Opens that never get to a record, as of a process that is killed or fails right behind them, again and again: what they
//! leave does not add up, and nothing of the log rests on it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use akidb_host::{Clock, Job, RealSpawn, Spawn, Tick, Ticker};
use akidb_wal::{Lsn, Recovered};

use crate::support::{Place, Row, append, append_synced, frames, rows};

/// A machine whose loops never get a turn: as a process that is killed at once leaves it.
#[derive(Debug)]
struct NoTurns;

#[derive(Debug)]
struct NoTurn;

impl Ticker for NoTurn {
    fn wake(&self) {}

    fn stop(&self) {}
}

impl Spawn for NoTurns {
    fn job(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Job>> {
        RealSpawn.job(name, work)
    }

    fn ticker(&self, _: &str, _: Box<dyn Tick>, _: Arc<dyn Clock>) -> io::Result<Arc<dyn Ticker>> {
        Ok(Arc::new(NoTurn))
    }
}

fn hasty() -> Place {
    let mut place = Place::new();
    place.spawn = Arc::new(NoTurns);
    place
}

/// Every log file with its bytes.
fn log_files(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    place.files().into_iter().map(|file| (file.clone(), fs::read(&file).unwrap())).collect()
}

/// A session with records of which the last few may not be on the disk, left without a close.
fn session(place: &Place, model: &mut Vec<Row>, records: u8, unsynced: u8) {
    let (log, _) = place.open();
    for n in 0..records {
        append_synced(&log, &[&[n; 300]], model);
    }
    for n in 0..unsynced {
        append(&log, &[&[n; 200]], model);
    }
}

fn assert_whole(recovered: &Recovered, model: &[Row]) {
    assert_eq!(rows(recovered), model);
    assert!(recovered.cut.is_none(), "{:?}", recovered.cut);
}

#[test]
fn opens_without_a_record_leave_a_bounded_number_of_files_and_all_rows() {
    // A log with a few files, one whose last records are only in the page cache, and an empty one.
    for (records, unsynced) in [(60, 0), (3, 2), (0, 0)] {
        let place = hasty();
        let mut model = Vec::new();
        session(&place, &mut model, records, unsynced);
        let (before, mut epochs) = (place.files().len(), vec![]);
        for n in 0..40 {
            let (log, recovered) = place.open();
            assert_whole(&recovered, &model);
            epochs.push(log.epoch());
            if n % 3 == 0 {
                log.close().unwrap();
            }
            drop((log, recovered));
            let files = place.files().len();
            // The session that copied what was not proven, the newest one, and what is left to the thread.
            assert!(files <= before + 2 + 8, "{files} files after {n} opens, {before} before");
        }
        assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
        session(&place, &mut model, 5, 0);
        assert_whole(&place.peek().unwrap(), &model);
        assert_eq!(model.last().unwrap().0, Lsn::new(epochs.last().unwrap() + 1, 5));
    }
}

#[test]
fn whatever_is_left_of_the_files_of_idle_sessions_changes_nothing() {
    let place = Place::new();
    let mut model = Vec::new();
    session(&place, &mut model, 60, 0);
    // As two versions may have left them: the second of three idle sessions was begun behind the first.
    let mut idle = Vec::new();
    for _ in 0..3 {
        let known = log_files(&place);
        drop(place.open());
        idle.extend(log_files(&place).into_iter().filter(|(file, _)| !known.contains_key(file)));
    }
    assert_eq!(idle.len(), 3);
    let (newest, leapt) = idle.split_last().unwrap();
    for left in 0..4_u8 {
        let after = place.copy();
        let path = |file: &PathBuf| after.path().join(file.file_name().unwrap());
        fs::write(path(&newest.0), &newest.1).unwrap();
        for (n, (file, bytes)) in leapt.iter().enumerate() {
            if left >> n & 1 == 1 {
                fs::write(path(file), bytes).unwrap();
            } else {
                let _ = fs::remove_file(path(file));
            }
        }
        assert_whole(&after.peek().unwrap(), &model);
        let mut grown = model.clone();
        session(&after, &mut grown, 4, 0);
        assert_whole(&after.peek().unwrap(), &grown);
        session(&after, &mut grown, 0, 0);
        let (log, recovered) = after.open();
        assert_whole(&recovered, &grown);
        // A thread of the log removes it.
        let is_there = || after.files().iter().any(|file| file.ends_with(leapt[0].0.file_name().unwrap()));
        while is_there() {
            std::thread::yield_now();
        }
        drop(log);
    }
}

#[test]
fn a_session_stays_whose_end_was_cut_and_one_with_records() {
    let place = hasty();
    let mut model = Vec::new();
    session(&place, &mut model, 3, 0);
    drop(place.open());
    let torn = place.last_file();
    // Half a record behind its START, which never came to the disk whole.
    let (start, _, _, len) = frames(&torn)[0];
    let mut bytes = fs::read(&torn).unwrap();
    bytes[start + len..start + len + 20].fill(7);
    fs::write(&torn, bytes).unwrap();
    let (log, recovered) = place.open();
    assert_eq!(recovered.cut.as_ref().map(|cut| cut.file.clone()), Some(torn.clone()));
    assert_eq!(rows(&recovered), model);
    drop((log, recovered));
    for _ in 0..3 {
        assert_whole(&place.open().1, &model);
        assert!(place.files().contains(&torn), "all there is to see of what was cut");
    }
    let (log, recovered) = place.open();
    append_synced(&log, &[b"kept"], &mut model);
    drop((log, recovered));
    let with_records = place.last_file();
    for _ in 0..5 {
        assert_whole(&place.open().1, &model);
    }
    assert!(place.files().contains(&torn) && place.files().contains(&with_records));
}
