//! The uploader's thread: it claims, re-targets, waits out outages, and never holds anybody up.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use akidb_host::sim::FakeClock;
use akidb_host::{RealClock, RealSpawn, Rng};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;

use super::*;
use crate::class::Op;
use crate::fault::{Cause, Fault};
use crate::restore::runtime;
use crate::test_support::{NoSleep, client_over, faulty, identity, item, judge, plan, real_fs};
use crate::{Backend, FilePlan, Sleep};

mod killed;
mod letters;
mod outage;
mod simulated;
mod sweeping;

const LONG: Duration = Duration::from_secs(60);

/// Pauses last until the end of the test, and are told: only hurry gets past them.
#[derive(Debug)]
struct Endless(mpsc::SyncSender<Duration>);

impl Sleep for Endless {
    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        let _ = self.0.try_send(time);
        std::future::pending().boxed()
    }

    fn deadline(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

fn parts(client: Client, epoch: u64, interval: Duration) -> UploaderParts {
    UploaderParts {
        client,
        fs: real_fs(),
        clock: Arc::new(RealClock),
        identity: identity(epoch, u32::try_from(epoch).unwrap()),
        known: Known::default(),
        options: PublishOptions::default(),
        remote_commit_interval: interval,
        letters: None,
        multiparts: None,
        memory: None,
        sweep: None,
        on_change: None,
    }
}

fn start(store: &Arc<dyn ObjectStore>, epoch: u64) -> Uploader {
    Uploader::start(&RealSpawn, parts(client_over(store, epoch), epoch, Duration::ZERO)).unwrap()
}

fn start_with_endless_pauses(store: &Arc<dyn ObjectStore>) -> (Uploader, mpsc::Receiver<Duration>) {
    let (send, pauses) = mpsc::sync_channel(64);
    let config = crate::BackendConfig { attempts: 1, ..crate::BackendConfig::new("t", "x") };
    let backend = Backend::assemble(&config, crate::Kind::Custom, Arc::clone(store));
    let client = Client::new(backend, Arc::new(Endless(send)), Rng::seeded(1));
    (Uploader::start(&RealSpawn, parts(client, 1, Duration::from_secs(2))).unwrap(), pauses)
}

fn judged(store: &Arc<dyn ObjectStore>) -> Vec<crate::Document> {
    runtime("t").unwrap().block_on(judge(store))
}

fn bare(number: u64) -> FilePlan {
    plan(number, &[])
}

#[test]
fn plans_offered_are_published_and_waiting_for_one_means_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(1);
    let (_, store) = faulty();
    let uploader = start(&store, 1);
    let mut items = Vec::new();
    for number in 1..=20 {
        items.push(item(dir.path(), &format!("{number}.parquet"), 100, &mut rng));
        uploader.offer(plan(number, &items));
        if number % 5 == 0 {
            uploader.wait_published(number, LONG).unwrap();
            let newest = judged(&store).pop().unwrap().content.unwrap();
            assert_eq!(newest, plan(number, &items).content());
        }
    }
    let status = uploader.status();
    assert_eq!(
        (status.published_local_number, status.pending_files, status.target_local_number),
        (Some(20), 0, None)
    );
    assert_eq!((status.files_put, status.bytes_put, status.failures), (20, 2000, 0));
    uploader.stop();
    assert_eq!(uploader.wait_published(21, LONG).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn the_backend_is_claimed_before_anything_is_offered() {
    let (_, store) = faulty();
    let (uploader, _pauses) = start_with_endless_pauses(&store);
    uploader.offer(bare(1));
    uploader.wait_published(1, LONG).unwrap();
    let documents = judged(&store);
    assert_eq!(documents[0].content, None);
    assert_eq!(documents[1].content, Some(bare(1).content()));
}

#[test]
fn between_two_remote_documents_lies_the_interval_and_the_newest_plan_wins() {
    let (_, store) = faulty();
    let (uploader, pauses) = start_with_endless_pauses(&store);
    uploader.offer(bare(1));
    assert_eq!(pauses.recv_timeout(LONG).unwrap(), Duration::from_secs(2), "after number 1 it pauses");
    for number in 2..=9 {
        uploader.offer(bare(number));
    }
    // An older plan never replaces a newer one.
    uploader.offer(bare(3));
    assert_eq!(uploader.status().target_local_number, Some(9));
    uploader.wait_published(9, LONG).unwrap();
    let published: Vec<_> =
        judged(&store).into_iter().filter_map(|d| d.content).map(|c| c.local_number).collect();
    assert_eq!(published, [1, 9]);
}

#[test]
fn a_dead_backend_is_waited_out_with_growing_pauses_and_drains_alone_when_it_heals() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, store) = faulty();
    faults.set_dead(Some(Cause::Refused));
    let (uploader, pauses) = start_with_endless_pauses(&store);
    let items = [item(dir.path(), "a.parquet", 700, &mut Rng::seeded(1))];
    uploader.offer(plan(1, &items));
    let mut before = Duration::ZERO;
    for _ in 0..3 {
        let pause = pauses.recv_timeout(LONG).unwrap();
        assert!(pause > before && pause <= Duration::from_secs(8), "{pause:?} after {before:?}");
        before = pause;
        let error = uploader.wait_published(1, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    let status = uploader.status();
    assert_eq!((status.pending_files, status.pending_bytes, status.target_local_number), (1, 700, Some(1)));
    assert!(status.failures >= 3 && status.last_error.is_some() && status.refused.is_none());
    faults.set_dead(None);
    uploader.wait_published(1, LONG).unwrap();
    assert_eq!(uploader.status().failures, 0);
    judged(&store);
}

#[test]
fn behind_a_guard_it_sends_nothing_while_the_breaker_is_open_and_burns_no_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, store) = faulty();
    faults.set_dead(Some(Cause::Refused));
    let breaker = crate::BreakerSettings { minimum_calls: 3, cooldown_jitter: 0.0, ..Default::default() };
    let config = crate::BackendConfig {
        attempts: 1,
        circuit_breaker_config: breaker,
        ..crate::BackendConfig::new("t", "x")
    };
    let clock = Arc::<FakeClock>::default();
    let time: Arc<dyn Clock> = Arc::<FakeClock>::clone(&clock);
    let backend = Backend::assemble(&config, crate::Kind::Custom, Arc::clone(&store));
    let backend = backend.guarded(time, Arc::new(NoSleep::default()), 0);
    let guard = Arc::clone(backend.guard().unwrap());
    let (send, pauses) = mpsc::sync_channel(64);
    let client = Client::new(backend, Arc::new(Endless(send)), Rng::seeded(1));
    let uploader = Uploader::start(&RealSpawn, parts(client, 1, Duration::from_secs(2))).unwrap();
    let items = [item(dir.path(), "a.parquet", 700, &mut Rng::seeded(1))];
    uploader.offer(plan(1, &items));
    let hurry = || uploader.wait_published(1, Duration::ZERO).unwrap_err();
    // Three failures open it; from then on the pause is the rest of the cooldown.
    while pauses.recv_timeout(LONG).unwrap() != Duration::from_secs(300) {
        hurry();
    }
    let (sent, failures) = (faults.calls().len(), uploader.status().failures);
    assert_eq!((sent, failures), (3, 3));
    for left in [200, 100] {
        clock.advance(Duration::from_secs(100));
        hurry();
        // A ring that comes during a turn is one more turn, in which nothing is sent.
        while pauses.recv_timeout(LONG).unwrap() != Duration::from_secs(left) {}
    }
    let status = uploader.status();
    assert_eq!((faults.calls().len(), status.failures), (sent, failures));
    let held = status.last_error.unwrap();
    assert_eq!((held.code(), held.is_held()), ("AKI-0712", true), "{held}");
    assert!(held.to_string().contains("upload breaker of 't' is open (error_rate)"), "{held}");
    faults.set_dead(None);
    clock.advance(Duration::from_secs(100));
    uploader.wait_published(1, LONG).unwrap();
    assert_eq!(judged(&store).len(), 2);
    assert_eq!(guard.status(crate::CallKind::Upload).totals.half_opened, 1);
}

#[test]
fn one_who_waits_on_a_dead_backend_makes_it_tried_once_more_and_not_in_a_loop() {
    let (faults, store) = faulty();
    faults.set_dead(Some(Cause::Refused));
    let (uploader, pauses) = start_with_endless_pauses(&store);
    pauses.recv_timeout(LONG).unwrap();
    uploader.wait_published(1, Duration::ZERO).unwrap_err();
    pauses.recv_timeout(LONG).unwrap();
    assert!(
        pauses.recv_timeout(Duration::from_millis(50)).is_err(),
        "nothing was offered, and nobody waits any more"
    );
}

#[test]
fn a_fenced_uploader_says_so_to_everybody_and_stays_silent_on_the_backend() {
    let (faults, store) = faulty();
    let old = start(&store, 1);
    old.offer(bare(1));
    old.wait_published(1, LONG).unwrap();
    let new = start(&store, 2);
    new.offer(bare(7));
    new.wait_published(7, LONG).unwrap();
    old.offer(bare(2));
    assert_eq!(old.wait_published(2, LONG).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(old.status().refused.unwrap().code(), "AKI-0709");
    let documents = judged(&store).len();
    faults.clear_calls();
    let dir = tempfile::tempdir().unwrap();
    let new_file = item(dir.path(), "3.parquet", 50, &mut Rng::seeded(3));
    old.offer(plan(3, std::slice::from_ref(&new_file)));
    assert_eq!(old.wait_published(3, LONG).unwrap_err().kind(), ErrorKind::Fenced);
    let status = old.status();
    assert_eq!(
        (status.pending_files, status.pending_bytes, status.lacking_bytes),
        (1, 50, 50),
        "it lacks it"
    );
    old.stop();
    assert_eq!(faults.calls(), []);
    assert_eq!(judged(&store).len(), documents);
}

#[test]
fn stopping_does_not_wait_for_an_answer_that_never_comes() {
    let (faults, store) = faulty();
    faults.script(Op::List, "manifest", 0, Fault::Hang);
    let uploader = start(&store, 1);
    while !faults.calls().iter().any(|call| call.op == Op::List) {
        std::thread::yield_now();
    }
    uploader.stop();
}

#[tokio::test]
async fn dropping_it_inside_a_runtime_neither_panics_nor_blocks() {
    let (faults, store) = faulty();
    faults.script(Op::List, "manifest", 0, Fault::Hang);
    let uploader = start(&store, 1);
    uploader.offer(bare(1));
    drop(uploader);
}

#[test]
fn the_list_of_uploaded_files_is_saved_and_saves_work() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, store) = faulty();
    faults.script(Op::Create, "manifest/00000000000000000002", 0, Fault::Fail(Cause::Denied));
    let (uploader, pauses) = start_with_endless_pauses(&store);
    let items = [item(dir.path(), "a.parquet", 700, &mut Rng::seeded(1))];
    uploader.offer(plan(1, &items));
    pauses.recv_timeout(LONG).unwrap();
    uploader.stop();
    let known = Known::from_json(&uploader.known_json());
    assert!(known.has(&items[0]));
    faults.clear_calls();
    let parts = UploaderParts { known, ..parts(client_over(&store, 2), 2, Duration::ZERO) };
    let second = Uploader::start(&RealSpawn, parts).unwrap();
    second.offer(plan(1, &items));
    second.wait_published(1, LONG).unwrap();
    assert!(!faults.calls().iter().any(|call| call.op == Op::Put), "{:?}", faults.calls());
    judged(&store);
}

#[test]
fn a_runtime_that_cannot_be_had_at_first_is_asked_for_until_there_is_one_or_the_end() {
    let (_, store) = faulty();
    let parts = parts(client_over(&store, 1), 1, Duration::ZERO);
    let shared = Arc::clone(Worker::new(parts).shared());
    let no_descriptor = || Error::new(ErrorKind::Internal, Class::Permanent, "t", "cannot start a runtime");
    let mut asked = 0;
    let made = shared.runtime(
        || {
            asked += 1;
            if asked < 4 { Err(no_descriptor()) } else { Ok(asked) }
        },
        Duration::ZERO,
    );
    assert_eq!((made, shared.status().last_error.is_some()), (Some(4), true));
    // Asked to end in its pause, however long that is.
    let (asked, first) = mpsc::sync_channel(1);
    let waits = std::thread::scope(|scope| {
        let shared = &shared;
        let make = move || {
            asked.send(()).unwrap();
            Err(no_descriptor())
        };
        let waits = scope.spawn(move || shared.runtime::<()>(make, Duration::MAX));
        first.recv_timeout(LONG).unwrap();
        shared.stop();
        waits.join().unwrap()
    });
    assert_eq!(waits, None);
}
