//! A writer that stalls in the middle of its sweep, and another one that claims meanwhile.

use std::sync::Arc;
use std::time::Duration;

use akidb_host::{RealClock, Rng};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Notify;

use super::*;
use crate::fault::{Cause, Fault, FaultStore};
use crate::known::Known;
use crate::publish::PublishOptions;
use crate::retry::Sleep;
use crate::test_support::{client_over, faulty, identity, item, judge, plan, real_fs};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A call that is late waits until the test lets it go on, and says that it does.
#[derive(Clone, Debug, Default)]
struct Stall {
    reached: Arc<Notify>,
    over: Arc<Notify>,
}

impl Sleep for Stall {
    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        let Self { reached, over } = self.clone();
        async move {
            if !time.is_zero() {
                reached.notify_one();
                over.notified().await;
            }
        }
        .boxed()
    }

    fn deadline(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

impl Stall {
    fn of(faults: &FaultStore) -> Self {
        let stall = Self::default();
        faults.set_latency(Arc::new(stall.clone()), Duration::ZERO);
        stall
    }
}

/// To whom whatever nothing names is old enough to go.
fn sweeper(store: &Arc<dyn ObjectStore>, epoch: u64) -> Publisher {
    let options = PublishOptions { gc_grace: Duration::ZERO, ..PublishOptions::default() };
    let identity = identity(epoch, u32::try_from(epoch).unwrap());
    let client = client_over(store, epoch);
    Publisher::new(client, real_fs(), Arc::new(RealClock), identity, Known::default(), options)
}

/// A copy of the directory still has a file that nothing on the backend names any more, and puts it again while the sweep of
/// the one before it stands still between its look at the objects and their removal.
#[tokio::test]
async fn a_sweep_that_stalls_takes_nothing_that_another_has_put_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(1);
    let (faults, store) = faulty();
    let items = ["a", "b"].map(|name| item(dir.path(), &format!("{name}.parquet"), 100, &mut rng));
    let mut old = sweeper(&store, 1);
    old.publish(&plan(1, &items)).await.unwrap();
    old.publish(&plan(2, &items[1..])).await.unwrap();
    old.prune(1, DAY, false).await.unwrap();
    let stall = Stall::of(&faults);
    // The list of probes is the last call before the removal.
    faults.script(Op::List, "probe", 0, Fault::Late(DAY));
    let nothing = BTreeSet::new();
    let sweep = old.sweep("collections", &nothing, false);
    let meanwhile = async {
        stall.reached.notified().await;
        let done = sweeper(&store, 2).publish(&plan(3, &items)).await.unwrap();
        stall.over.notify_one();
        done
    };
    let (swept, done) = futures::future::join(sweep, meanwhile).await;
    assert_eq!(done.files_put, 1, "the one that nothing named");
    for item in &items {
        assert!(store.head(&item.key.as_str().into()).await.is_ok(), "{} is gone", item.key);
    }
    assert_eq!(swept.expect_err("another has claimed").kind(), ErrorKind::Fenced);
    let newest = numbered::read(&client_over(&store, 0), done.remote_number).await.unwrap().unwrap();
    assert_eq!(newest.document.content, Some(plan(3, &items).content()));
}

/// A removal of many requests ends at the one before which another has claimed.
#[tokio::test]
async fn a_long_removal_looks_again_before_each_request() {
    let (faults, store) = faulty();
    let mut old = sweeper(&store, 1);
    old.publish(&plan(1, &[])).await.unwrap();
    for n in 0..LOOK_EVERY_KEYS + 500 {
        store.put(&format!("collections/1-x/orphan{n:05}.parquet").into(), "x".into()).await.unwrap();
    }
    let stall = Stall::of(&faults);
    // In the middle of the first.
    faults.script(Op::Delete, "orphan", 700, Fault::Late(DAY));
    let nothing = BTreeSet::new();
    let sweep = old.sweep("collections", &nothing, false);
    let meanwhile = async {
        stall.reached.notified().await;
        sweeper(&store, 2).claim().await.unwrap();
        stall.over.notify_one();
    };
    let (swept, ()) = futures::future::join(sweep, meanwhile).await;
    assert_eq!(swept.unwrap_err().kind(), ErrorKind::Fenced);
    let left = client_over(&store, 0).list("collections").await.unwrap();
    assert_eq!(left.len(), 500, "those of the second");
    // The newest finishes what was begun.
    let mut new = sweeper(&store, 3);
    assert_eq!(new.sweep("collections", &nothing, false).await.unwrap().removed.len(), 500);
    judge(&store).await;
}

/// Old documents are removed by the newest writer alone, too.
#[tokio::test]
async fn documents_are_pruned_by_nobody_who_stalled_while_another_claimed() {
    let (faults, store) = faulty();
    let mut old = sweeper(&store, 1);
    for number in 1..=5 {
        old.publish(&plan(number, &[])).await.unwrap();
    }
    let stall = Stall::of(&faults);
    // The first list is the look at the newest, the second the one of what may go.
    faults.script(Op::List, "manifest", 1, Fault::Late(DAY));
    let prune = old.prune(1, DAY, false);
    let meanwhile = async {
        stall.reached.notified().await;
        sweeper(&store, 2).claim().await.unwrap();
        stall.over.notify_one();
    };
    let (pruned, ()) = futures::future::join(prune, meanwhile).await;
    assert_eq!(pruned.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(judge(&store).await.len(), 7, "all of them");
}

/// Whatever cannot be removed, what is there is the end of the chain.
#[tokio::test]
async fn documents_go_in_order_and_none_after_one_that_cannot() {
    let (faults, store) = faulty();
    let mut writer = sweeper(&store, 1);
    for number in 1..=9 {
        writer.publish(&plan(number, &[])).await.unwrap();
    }
    faults.script(Op::Delete, &numbered::key_of(4), 0, Fault::Fail(Cause::Denied));
    faults.clear_calls();
    assert_eq!(writer.prune(2, DAY, false).await.unwrap_err().class(), Class::Auth);
    let removals = |call: &&crate::fault::Call| call.op == Op::Delete && call.key.starts_with("manifest");
    let asked: Vec<String> = faults.calls().iter().filter(removals).map(|call| call.key.clone()).collect();
    assert_eq!(asked, [1, 2, 3, 4].map(numbered::key_of));
    let client = client_over(&store, 0);
    let left = async || {
        let mut left = numbered::numbers(&client).await.unwrap();
        left.sort_unstable();
        left
    };
    assert_eq!(left().await, [4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(writer.prune(2, DAY, false).await.unwrap(), [4, 5, 6, 7, 8]);
    assert_eq!(left().await, [9, 10]);
}

#[test]
fn what_is_older_than_a_document_that_goes_goes_too_and_the_newest_never() {
    for (documents, keep, old) in [
        (vec![], 3, vec![]),
        (vec![(7, 0)], 0, vec![]),
        (vec![(4, 9), (1, 9), (3, 9), (2, 9)], 3, vec![1]),
        (vec![(4, 9), (1, 9), (3, 9), (2, 9)], 0, vec![1, 2, 3]),
        // By their dates the third alone.
        (vec![(1, 9), (2, 9), (3, 1), (4, 9)], 9, vec![1, 2, 3]),
        (vec![(1, 9), (2, 9), (3, 9), (4, 1)], 9, vec![]),
    ] {
        assert_eq!(old_of(documents.clone(), keep, 5), old, "{documents:?} {keep}");
    }
}
