//! Idle sessions that name each other, as earlier versions left them.

use std::path::Path;

use super::*;
use crate::config::Options;
use crate::log::Log;
use crate::log::tests::options;
use crate::open::{self, Identity};

fn read(options: &Options) -> (Vec<View>, Findings) {
    let (views, _) = open::survey(&*options.fs, &options.dir).unwrap();
    let found = recover(&views, options.floor, Lsn::ZERO, &*options.spawn).unwrap();
    (views, found)
}

/// Begins a session that names the one before it, whatever was written in that.
fn begin_behind_the_last(options: &Options) {
    let (views, mut found) = read(options);
    let last = views.last().unwrap();
    let (start, _) = last.start().unwrap().unwrap();
    found.proven_seq = last.header.seq;
    found.proven_end = HEADER_PAGE_BYTES as u64 + start.head.frame_bytes();
    let epoch = open::next_epoch(options, &found).unwrap();
    let me = Identity { log_id: last.header.log_id, epoch, boot_id: [0; 16] };
    let mut rng = open::rng(&options.config, epoch);
    drop(open::begin(options, &found, &me, last.header.seq + 1, &mut rng).unwrap());
}

fn seqs(dir: &Path) -> Vec<u64> {
    read(&options(dir)).0.iter().map(|view| view.header.seq).collect()
}

#[test]
fn idle_sessions_that_name_each_other_are_left_out_together() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let (log, _) = Log::open(options.clone()).unwrap();
    log.wait(log.append(&[b"one", b"two"]).unwrap().last).unwrap();
    log.close().unwrap();
    drop(log);
    // The first of them is begun behind the rows, each other behind an idle one.
    let (_, found) = read(&options);
    let ends = (found.proven_seq, found.proven_end);
    drop(Log::open(options.clone()).unwrap());
    (0..4).for_each(|_| begin_behind_the_last(&options));
    assert_eq!(seqs(dir.path()), [1, 2, 3, 4, 5, 6]);

    let (_, found) = read(&options);
    assert_eq!((found.proven_seq, found.proven_end), ends);
    assert_eq!((found.last, found.max_epoch), (Lsn::new(1, 2), 6));
    assert_eq!(found.live.iter().map(|old| old.seq).collect::<Vec<_>>(), [1]);
    assert_eq!((found.dead.len(), found.proven_legs.len()), (5, 1));

    let (log, recovered) = Log::open(options.clone()).unwrap();
    assert_eq!(recovered.records.iter().count(), 2);
    log.close().unwrap();
    drop((log, recovered));
    let left = seqs(dir.path());
    assert!(left.first() == Some(&1) && left.last() == Some(&7), "{left:?}");
    assert_eq!(read(&options).1.last, Lsn::new(1, 2));
}
