//! The log on a real directory: what comes back after a close, a drop, a rotation, a truncation.

use std::path::Path;
use std::sync::Arc;

use akidb_host::{RealClock, RealFs, RealSpawn};

use super::*;
use crate::config::Config;

pub(crate) fn options(dir: &Path) -> Options {
    let config =
        Config { first_file_bytes: 8192, max_file_bytes: 32768, reserve_bytes: 0, ..Config::default() };
    Options {
        dir: dir.join("wal"),
        fs: Arc::new(RealFs),
        clock: Arc::new(RealClock),
        spawn: Arc::new(RealSpawn),
        config,
        min_epoch: 0,
        floor: Lsn::ZERO,
        read_only: false,
    }
}

/// A log that has given out most of its numbers stops at the last one with an error; the next open begins anew.
#[test]
fn the_end_of_an_epochs_numbers_is_a_typed_error_and_a_reopen_begins_at_one() {
    const LAST: u64 = (1 << 40) - 2;
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    {
        let mut writing = lock(&log.inner.append);
        (writing.last, writing.next) = (Lsn::new(1, LAST - 20), Lsn::new(1, LAST - 19));
    }
    let mut model = Vec::new();
    let refused = |records: &[&[u8]]| {
        for error in [log.append(records).unwrap_err(), log.append_nowait(records).unwrap_err()] {
            assert!(matches!(error.kind(), ErrorKind::Spent { epoch: 1 }), "{error}");
            assert_eq!(error.fate(), crate::Fate::NotWritten);
            assert!(error.help().unwrap().contains("reopen"), "{error}");
        }
    };
    for i in 0..18_u8 {
        append(&log, &[&[i; 700]], &mut model);
    }
    refused(&[b"one", b"too", b"many"]);
    append(&log, &[b"the last", b"two"], &mut model);
    assert_eq!(model.last().unwrap().0, Lsn::new(1, LAST));
    refused(&[b"more"]);
    assert_eq!(log.watermarks().appended, Lsn::new(1, LAST));
    log.wait(Lsn::new(1, LAST)).unwrap();
    // What was not numbered from 1 is no whole log: from the first rotation on it is.
    let rotated = log.counters().rotations;
    assert!(rotated > 0, "all of it lies in one file");
    let floor = model[10].0;
    assert!(log.truncate_below(floor).unwrap() > 0);
    log.close().unwrap();
    drop(log);
    let (log, recovered) = Log::open(Options { floor, ..options(dir.path()) }).unwrap();
    assert_eq!(rows(&recovered), model[10..]);
    assert_eq!(log.append(&[b"next"]).unwrap().first, Lsn::new(2, 1));
}

type Row = (Lsn, Lsn, Vec<u8>);

fn rows(recovered: &Recovered) -> Vec<Row> {
    recovered.records.iter().map(|r| r.unwrap()).map(|r| (r.lsn, r.frame_last, r.bytes.to_vec())).collect()
}

fn append(log: &Log, records: &[&[u8]], model: &mut Vec<Row>) -> Appended {
    let appended = log.append(records).unwrap();
    for (i, record) in records.iter().enumerate() {
        model.push((appended.first.plus(i as u64), appended.last, record.to_vec()));
    }
    appended
}

#[test]
fn what_was_appended_comes_back_after_a_close_and_after_a_drop() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Vec::new();
    for round in 0_u8..6 {
        let (log, recovered) = Log::open(options(dir.path())).unwrap();
        assert_eq!(rows(&recovered), model, "round {round}");
        assert_eq!(log.epoch(), u32::from(round) + 1);
        assert_eq!(recovered.cut, None);
        for i in 0..40_u8 {
            let long = vec![i; 700];
            let appended = append(&log, &[&[round, i], &long, b""], &mut model);
            assert_eq!(appended.first, Lsn::new(log.epoch(), u64::from(i) * 3 + 1));
            if i % 3 == 0 {
                log.wait(appended.last).unwrap();
                assert!(log.watermarks().synced >= appended.last);
            }
        }
        if round % 2 == 0 {
            log.close().unwrap();
            assert!(matches!(log.append(&[b"x"]).unwrap_err().kind(), ErrorKind::Closed));
        }
    }
}

#[test]
fn truncation_frees_whole_files_below_the_floor_and_reopening_there_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Vec::new();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    for i in 0..200_u8 {
        append(&log, &[&[i; 500]], &mut model);
    }
    log.wait(model.last().unwrap().0).unwrap();
    let floor = model[150].0;
    let before = log.watermarks().bytes_live;
    assert!(log.truncate_below(floor).unwrap() > 0);
    assert_eq!(log.truncate_below(floor).unwrap(), 0, "idempotent");
    assert!(log.watermarks().bytes_live < before);
    drop(log);
    let (log, recovered) = Log::open(Options { floor, ..options(dir.path()) }).unwrap();
    assert_eq!(rows(&recovered), model[150..]);
    assert_eq!((recovered.first, recovered.last), (floor, model[199].0));
    drop(log);
    let error = Log::open(options(dir.path())).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}: files above the floor are missing");
}
