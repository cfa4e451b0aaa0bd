//! Held calls stay held, the rest flows, and each release lets go of all that were held.

use std::sync::Arc;

use super::Gate;
use crate::fs::{File, Fs, RealFs};
use crate::sim::{Act, EIO, HookFs, Op};
use crate::spawn::{Job, RealSpawn, Spawn};

fn file(gate: &Arc<Gate>, dir: &tempfile::TempDir) -> Arc<dyn File> {
    HookFs::new(Arc::new(RealFs), gate.hook()).create_new(&dir.path().join("f")).unwrap()
}

fn syncing(file: &Arc<dyn File>, want: Option<i32>) -> Box<dyn Job> {
    let file = Arc::clone(file);
    let run = move || assert_eq!(file.sync_data().err().and_then(|e| e.raw_os_error()), want);
    RealSpawn.job("syncing", Box::new(run)).unwrap()
}

#[test]
fn a_held_sync_blocks_its_thread_alone() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(|call| call.op == Op::SyncData);
    let file = file(&gate, &dir);
    let job = syncing(&file, None);
    gate.wait_until_held();
    file.write_at(b"others go on", 0).unwrap();
    assert_eq!(gate.held(), 1);
    gate.release();
    assert!(job.join());
    assert_eq!(gate.held(), 0);
    file.sync_data().unwrap();
}

#[test]
fn a_gate_shut_again_holds_the_next_calls_and_lets_the_earlier_go() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(|call| call.op == Op::SyncData);
    let file = file(&gate, &dir);
    file.sync_data().unwrap();
    gate.shut();
    let first = [syncing(&file, None), syncing(&file, None)];
    gate.wait_until_holding(2);
    gate.release();
    gate.shut();
    assert!(first.iter().all(|job| job.join()));
    let later = syncing(&file, None);
    gate.wait_until_held();
    gate.release();
    assert!(later.join());
}

#[test]
fn a_held_call_can_be_made_to_fail_and_the_next_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(|call| call.op == Op::SyncData);
    let file = file(&gate, &dir);
    let job = syncing(&file, Some(EIO));
    gate.wait_until_held();
    gate.release_as(Act::Fail(EIO));
    assert!(job.join());
    file.sync_data().unwrap();
}
