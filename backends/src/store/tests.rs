//! The guarded store: it is a store, it takes one permit a call, and it judges answers by their type.

use akidb_host::Clock;
use akidb_host::sim::FakeClock;
use futures::TryStreamExt;
use futures::future::{BoxFuture, join_all};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, integration};

use super::*;
use crate::breaker::{Reason, State};
use crate::config::BreakerSettings;
use crate::fault::{Cause, Fault, FaultStore};
use crate::guard::{CallKind, GuardSettings};
use crate::limiter::LimiterSettings;
use crate::retry::Sleep;
use crate::test_support::NoSleep;

mod crowd;
mod drills;
mod stores;

use stores::BrokenBodies;

fn breaker() -> BreakerSettings {
    BreakerSettings { cooldown_jitter: 0.0, ..BreakerSettings::default() }
}

fn guard_with(breaker: BreakerSettings, clock: &Arc<FakeClock>, sleep: Arc<dyn Sleep>) -> Arc<Guard> {
    let settings = GuardSettings { breaker: Some(breaker), limiter: LimiterSettings::default() };
    let clock: Arc<dyn Clock> = Arc::<FakeClock>::clone(clock);
    Guard::new("t", &settings, clock, sleep, 0)
}

fn guard() -> Arc<Guard> {
    guard_with(breaker(), &Arc::default(), Arc::new(NoSleep::default()))
}

/// A store over faults, its clock, and the faults.
fn faulty() -> (GuardedStore<FaultStore>, Arc<FakeClock>, FaultStore) {
    let clock = Arc::<FakeClock>::default();
    let faults = FaultStore::new(Arc::new(InMemory::new()));
    let guard = guard_with(breaker(), &clock, Arc::new(NoSleep::default()));
    (GuardedStore::new(faults.clone(), guard), clock, faults)
}

async fn put(store: &dyn ObjectStore, key: &str) -> Result<()> {
    store.put(&Path::from(key), PutPayload::from_static(b"bytes")).await.map(|_| ())
}

/// Every call of the suite was settled, none of them as a failure; but for the two reads past the end of an object,
/// which these two stores answer with an error that has no type.
fn assert_all_settled_well(guard: &Guard) {
    for kind in CallKind::ALL {
        let status = guard.status(kind);
        let totals = status.totals;
        let failures = if kind == CallKind::Download { 2 } else { 0 };
        assert_eq!((status.state, totals.refused), (State::Closed, 0), "{kind}");
        assert_eq!(totals.failures, failures, "{kind}");
        assert!(totals.successes > 10, "{kind}: {totals:?}");
    }
    assert_eq!(guard.in_flight().calls, 0);
}

#[tokio::test]
async fn over_memory_it_passes_object_stores_own_suite() {
    let store = GuardedStore::new(InMemory::new(), guard());
    integration::put_get_delete_list(&store).await;
    integration::get_opts(&store).await;
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::list_with_offset_exclusivity(&store).await;
    integration::rename_and_copy(&store).await;
    integration::copy_if_not_exists(&store).await;
    integration::copy_rename_nonexistent_object(&store).await;
    integration::stream_get(&store).await;
    integration::put_opts(&store, true).await;
    integration::multipart_race_condition(&store, true).await;
    integration::multipart_out_of_order(&store).await;
    integration::put_get_attributes(&store).await;
    assert_all_settled_well(store.guard());
}

#[tokio::test]
async fn over_memory_uploads_with_ids_pass_it_too() {
    let (inner, guard) = (Arc::new(InMemory::new()), guard());
    let parts = GuardedParts::new(Arc::<InMemory>::clone(&inner) as _, Arc::clone(&guard));
    let store = GuardedStore::new(Arc::<InMemory>::clone(&inner) as Arc<dyn ObjectStore>, Arc::clone(&guard));
    integration::multipart(&store, &parts).await;
    integration::multipart_put_part_out_of_order(&store, &parts).await;
    let totals = guard.status(CallKind::Upload).totals;
    assert!(totals.successes > 5 && totals.failures == 0, "{totals:?}");
    assert_eq!(guard.in_flight().calls, 0);
}

#[tokio::test]
async fn over_a_directory_it_passes_object_stores_own_suite() {
    let dir = tempfile::tempdir().unwrap();
    let inner = LocalFileSystem::new_with_prefix(dir.path()).unwrap().with_fsync(true);
    let store = GuardedStore::new(inner, guard());
    integration::put_get_delete_list(&store).await;
    integration::get_opts(&store).await;
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::list_with_offset_exclusivity(&store).await;
    integration::rename_and_copy(&store).await;
    integration::copy_if_not_exists(&store).await;
    integration::copy_rename_nonexistent_object(&store).await;
    integration::stream_get(&store).await;
    integration::put_opts(&store, false).await;
    assert_all_settled_well(store.guard());
}

/// A suite that could not fail would prove nothing: over a store that ignores conditions it must.
#[tokio::test]
#[should_panic(expected = "called `Result::unwrap_err()` on an `Ok` value")]
async fn over_a_store_that_lies_the_suite_fails() {
    let (store, _, faults) = faulty();
    faults.set_lying(true);
    integration::put_opts(&store, false).await;
}

#[tokio::test]
async fn an_open_breaker_sends_nothing_and_heals_after_its_cooldown() {
    let (store, clock, faults) = faulty();
    faults.set_dead(Some(Cause::Refused));
    for n in 0..10 {
        assert_eq!(store.guard().status(CallKind::Upload).state, State::Closed, "before call {n}");
        put(&store, "k").await.unwrap_err();
    }
    assert_eq!(faults.calls().len(), 10);
    for _ in 0..290 {
        clock.advance(Duration::from_secs(1));
        let error = put(&store, "k").await.unwrap_err();
        assert_eq!(crate::classify(&error, Op::Put), crate::Class::Refused);
    }
    assert_eq!(faults.calls().len(), 10, "requests while open");
    assert_eq!(store.guard().ready_in(CallKind::Upload), Duration::from_secs(10));
    // Downloads have a breaker of their own.
    assert!(store.head(&Path::from("k")).await.is_err());
    assert_eq!(faults.calls().len(), 11);
    clock.advance(Duration::from_secs(10));
    put(&store, "k").await.unwrap_err();
    put(&store, "k").await.unwrap_err();
    assert_eq!(faults.calls().len(), 12, "one failed try opens it again");
    faults.set_dead(None);
    clock.advance(Duration::from_secs(300));
    for _ in 0..10 {
        put(&store, "k").await.unwrap();
    }
    assert_eq!(store.guard().status(CallKind::Upload).state, State::Closed);
}

#[tokio::test]
async fn a_refusal_says_which_breaker_why_and_for_how_long() {
    let (store, _, _) = faulty();
    store.guard().breaker(CallKind::ListDelete).force_open();
    let error = store.list(None).try_collect::<Vec<_>>().await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("list_delete breaker of 't' is open (forced)"), "{said}");
    let two = stream::iter([Ok(Path::from("a")), Ok(Path::from("b"))]).boxed();
    let answers: Vec<_> = store.delete_stream(two).collect().await;
    let class = |answer: &Result<Path>| crate::classify(answer.as_ref().unwrap_err(), Op::Delete);
    assert_eq!(answers.iter().map(class).collect::<Vec<_>>(), [crate::Class::Refused; 2]);
    put(&store, "k").await.unwrap();
}

#[tokio::test]
async fn answers_are_judged_by_their_type() {
    let (store, _, faults) = faulty();
    put(&store, "there").await.unwrap();
    let totals = |store: &GuardedStore<FaultStore>, kind| store.guard().status(kind).totals;
    // Not there, there already, not as expected: the server is well.
    for _ in 0..20 {
        store.get(&Path::from("absent")).await.unwrap_err();
        let create = PutOptions::from(PutMode::Create);
        store.put_opts(&Path::from("there"), PutPayload::new(), create).await.unwrap_err();
    }
    assert_eq!(
        (totals(&store, CallKind::Download).ignored, totals(&store, CallKind::Upload).ignored),
        (20, 20)
    );
    assert_eq!(store.guard().status(CallKind::Upload).calls, 1);
    for cause in [Cause::Reset, Cause::Refused, Cause::Timeout] {
        faults.script(Op::Put, "k", 0, Fault::Fail(cause));
        put(&store, "k").await.unwrap_err();
    }
    assert_eq!(totals(&store, CallKind::Upload).failures, 3);
    faults.script(Op::Put, "k", 0, Fault::Fail(Cause::Denied));
    put(&store, "k").await.unwrap_err();
    let status = store.guard().status(CallKind::Upload);
    assert_eq!((status.state, status.reason), (State::Open, Some(Reason::Auth)));
    let error = put(&store, "k").await.unwrap_err();
    assert_eq!(crate::classify(&error, Op::Put), crate::Class::Auth);
}

#[tokio::test]
async fn a_try_that_finds_nothing_has_found_the_server() {
    let (store, clock, faults) = faulty();
    faults.set_dead(Some(Cause::Reset));
    for _ in 0..10 {
        store.head(&Path::from("absent")).await.unwrap_err();
    }
    faults.set_dead(None);
    clock.advance(Duration::from_secs(300));
    for _ in 0..10 {
        store.head(&Path::from("absent")).await.unwrap_err();
    }
    assert_eq!(store.guard().status(CallKind::Download).state, State::Closed);
}

#[tokio::test]
async fn a_call_without_an_answer_is_a_failure_and_one_that_is_dropped_is_not() {
    let clock = Arc::<FakeClock>::default();
    let faults = FaultStore::new(Arc::new(InMemory::new()));
    let guard = guard_with(breaker(), &clock, Arc::new(NoSleep { impatient: true }));
    let store = GuardedStore::new(faults.clone(), guard);
    faults.script(Op::Put, "k", 0, Fault::Hang);
    let error = put(&store, "k").await.unwrap_err();
    assert_eq!(crate::classify(&error, Op::Put), crate::Class::Timeout);
    let totals = store.guard().status(CallKind::Upload).totals;
    assert_eq!((totals.failures, totals.cancelled), (1, 0));

    let (store, _, faults) = faulty();
    faults.script(Op::Put, "k", 0, Fault::Hang);
    assert!(put(&store, "k").now_or_never().is_none());
    let totals = store.guard().status(CallKind::Upload).totals;
    assert_eq!((totals.failures, totals.cancelled, store.guard().in_flight().calls), (0, 1, 0));
}

#[tokio::test]
async fn a_get_is_settled_at_the_end_of_its_body() {
    let key = Path::from("k");
    let healthy = GuardedStore::new(InMemory::new(), guard());
    put(&healthy, "k").await.unwrap();
    let body = healthy.get(&key).await.unwrap();
    assert_eq!(healthy.guard().status(CallKind::Download).totals.successes, 0);
    assert_eq!(healthy.guard().in_flight().calls, 1);
    assert_eq!(&body.bytes().await.unwrap()[..], b"bytes");
    assert_eq!(healthy.guard().status(CallKind::Download).totals.successes, 1);
    drop(healthy.get(&key).await.unwrap());
    assert_eq!(healthy.guard().status(CallKind::Download).totals.cancelled, 1);

    // Reset in the middle, and standing still until the deadline.
    for kind in [Some(std::io::ErrorKind::ConnectionReset), None] {
        let impatient = Arc::new(NoSleep { impatient: kind.is_none() });
        let guard = guard_with(breaker(), &Arc::default(), impatient);
        let store = GuardedStore::new(BrokenBodies(InMemory::new(), kind), guard);
        put(&store, "k").await.unwrap();
        let body = store.get(&key).await.unwrap();
        body.bytes().await.unwrap_err();
        let totals = store.guard().status(CallKind::Download).totals;
        assert_eq!((totals.successes, totals.failures), (0, 1), "{kind:?}");
        assert_eq!(store.guard().in_flight().calls, 0);
    }
}

#[tokio::test]
async fn a_list_takes_a_permit_a_page_and_a_bulk_delete_one_a_batch() {
    let store = GuardedStore::new(InMemory::new(), guard());
    for n in 0..2_500 {
        put(&store, &format!("k/{n}")).await.unwrap();
    }
    let totals = || store.guard().status(CallKind::ListDelete).totals;
    let names: Vec<_> = store.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    assert_eq!((names.len(), totals().successes), (2_500, 3));
    let mut names_of_one = store.list(None);
    names_of_one.next().await.unwrap().unwrap();
    drop(names_of_one);
    assert_eq!((totals().successes, totals().cancelled), (3, 1));
    let deleted: Vec<_> =
        store.delete_stream(stream::iter(names.into_iter().map(Ok)).boxed()).try_collect().await.unwrap();
    assert_eq!((deleted.len(), totals().successes), (2_500, 6));
}

#[tokio::test]
async fn a_multipart_upload_takes_a_permit_a_part() {
    let (store, _, faults) = faulty();
    let mut upload = store.put_multipart(&Path::from("k")).await.unwrap();
    faults.script(Op::Part, "k", 1, Fault::Fail(Cause::Reset));
    upload.put_part(PutPayload::from_static(b"one")).await.unwrap();
    upload.put_part(PutPayload::from_static(b"two")).await.unwrap_err();
    upload.put_part(PutPayload::from_static(b"two")).await.unwrap();
    upload.complete().await.unwrap();
    let totals = store.guard().status(CallKind::Upload).totals;
    assert_eq!((totals.successes, totals.failures), (4, 1));
}

#[tokio::test]
async fn calls_that_wait_for_a_place_are_refused_if_the_breaker_opens_meanwhile() {
    let (store, _, faults) = faulty();
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    // The first sixteen get a place and never an answer; they are given up one by one.
    for key in &keys[..16] {
        faults.script(Op::Put, key, 0, Fault::Hang);
    }
    let mut hanging: Vec<BoxFuture<'_, _>> = keys[..16].iter().map(|key| put(&store, key).boxed()).collect();
    assert!(hanging.iter_mut().all(|call| call.now_or_never().is_none()));
    let sent = faults.calls().len();
    let mut waiting: Vec<BoxFuture<'_, _>> = keys[16..].iter().map(|key| put(&store, key).boxed()).collect();
    assert!(waiting.iter_mut().all(|call| call.now_or_never().is_none()));
    assert_eq!((sent, store.guard().in_flight().waiting), (16, 84));
    store.guard().breaker(CallKind::Upload).force_open();
    drop(hanging);
    let answers = join_all(waiting).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(faults.calls().len(), 16);
    assert_eq!(store.guard().in_flight().calls, 0);
}
