//! Who was answered has nothing to be looked for when it is dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use akidb_host::sim::InlineSpawn;

use crate::log::tests::options;
use crate::{Log, Options};

/// A drop of one with an id looks through all that wait, under the lock of those who sync: of many tasks each would.
#[test]
fn one_that_is_ready_leaves_nothing_to_look_for() {
    let dir = tempfile::tempdir().unwrap();
    let spawn = Arc::new(InlineSpawn::default());
    let (log, _) = Log::open(Options { spawn, ..options(dir.path()) }).unwrap();
    let last = log.append(&[b"record"]).unwrap().last;
    let mut context = Context::from_waker(Waker::noop());
    let mut synced = log.synced(last);
    let mut given_up = log.synced(last);
    assert!(Pin::new(&mut synced).poll(&mut context).is_pending());
    assert!(Pin::new(&mut given_up).poll(&mut context).is_pending());
    assert!(synced.id.is_some() && given_up.id != synced.id);
    drop(given_up);
    log.wait(last).unwrap();
    assert!(matches!(Pin::new(&mut synced).poll(&mut context), Poll::Ready(Ok(()))));
    assert_eq!(synced.id, None);
    assert!(!log.inner.commit.has_waiters());
}
