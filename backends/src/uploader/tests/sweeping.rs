//! The sweep by the uploader's own thread: when it is due, by the holder, never while the backend is not well.

use akidb_host::sim::InlineSpawn;
use object_store::ObjectStoreExt;

use super::simulated::Sim;
use super::*;
use crate::guard::CallKind;
use crate::retry::ClockSleep;
use crate::uploader::worker::Worker;
use crate::{DlqSettings, SweepSettings};

fn sweeping() -> Sim {
    let sweep = SweepSettings { keep_documents: 3, ..SweepSettings::new("collections") };
    Sim::with(DlqSettings::default(), Some(sweep))
}

async fn documents(sim: &Sim) -> Vec<u64> {
    let mut found = crate::numbered::numbers(&client_over(&sim.store, 0)).await.unwrap();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn old_documents_go_after_an_hour_and_the_newest_stay() {
    let mut sim = sweeping();
    let mut items = Vec::new();
    for n in 0..9 {
        items.push(sim.item(&format!("{n}.parquet")));
        sim.offer(&items);
        sim.drive(5).await;
    }
    let orphan = "collections/1-x/orphan.parquet";
    sim.store.put(&orphan.into(), "x".into()).await.unwrap();
    assert_eq!(documents(&sim).await.len(), 10, "a claim and nine");
    sim.drive(3_000).await;
    assert_eq!(documents(&sim).await.len(), 10, "not before its hour");
    sim.drive(700).await;
    assert_eq!(documents(&sim).await, [8, 9, 10]);
    assert_eq!(sim.status().pruned_documents, 7);
    assert!(sim.store.head(&orphan.into()).await.is_ok(), "too young to go");
    // The writer goes on where it was.
    items.push(sim.item("later.parquet"));
    sim.offer(&items);
    sim.drive(10).await;
    assert_eq!(documents(&sim).await, [8, 9, 10, 11]);
}

#[tokio::test]
async fn more_documents_than_one_turn_prunes_go_in_the_turns_after_it() {
    let mut sim = sweeping();
    for _ in 0..500 {
        sim.offer(&[]);
        sim.drive(3).await;
    }
    sim.drive(2_000).await;
    assert_eq!(documents(&sim).await.len(), 501);
    sim.faults.clear_calls();
    let mut turns = 0;
    while sim.status().pruned_documents == 0 {
        turns += 1;
        assert!(turns < 100_000, "nothing is pruned");
        sim.clock.advance(Duration::from_secs(1));
        sim.worker.turn().await;
    }
    assert_eq!(sim.status().pruned_documents, 200);
    sim.offer(&[]);
    sim.worker.turn().await;
    assert_eq!(documents(&sim).await, (401..=502).collect::<Vec<_>>(), "a plan is put in between");
    sim.drive(10).await;
    assert_eq!(documents(&sim).await, [500, 501, 502]);
    let calls = sim.faults.calls();
    let removals = calls.iter().filter(|call| call.op == Op::Delete && call.key.starts_with("manifest"));
    let removed: Vec<_> = removals.map(|call| call.key.clone()).collect();
    assert_eq!(removed, (1..=499).map(crate::numbered::key_of).collect::<Vec<_>>());
}

#[test]
fn asked_to_end_in_its_pause_it_begins_nothing_more() {
    let (faults, store) = faulty();
    let (clock, spawn) = (Arc::<FakeClock>::default(), InlineSpawn::default());
    let time = Arc::<FakeClock>::clone(&clock) as Arc<dyn Clock>;
    let backend = Backend::assemble(&crate::BackendConfig::new("t", "x"), crate::Kind::Custom, store);
    let client = Client::new(backend, Arc::new(ClockSleep(Arc::clone(&time))), Rng::seeded(1));
    // Due whenever it looks.
    let sweep = SweepSettings { interval: Duration::ZERO, ..SweepSettings::new("collections") };
    let parts = UploaderParts { clock: time, sweep: Some(sweep), ..parts(client, 1, Duration::from_secs(2)) };
    let uploader = Uploader::start(&spawn, parts).unwrap();
    uploader.offer(bare(1));
    spawn.run_until_idle(clock.now());
    assert_eq!(uploader.status().published_local_number, Some(1), "it pauses");
    faults.clear_calls();
    faults.script_call(0, Fault::Hang);
    // A call that is not answered would keep it until its deadline.
    uploader.stop();
    assert_eq!(faults.calls(), []);
}

#[tokio::test]
async fn nothing_is_swept_while_a_breaker_is_not_closed() {
    let mut sim = sweeping();
    for _ in 0..9 {
        sim.offer(&[]);
        sim.drive(5).await;
    }
    sim.guard().breaker(CallKind::Upload).force_open();
    sim.faults.clear_calls();
    sim.drive(3 * 3_600).await;
    assert_eq!(sim.faults.calls(), []);
    assert_eq!(documents(&sim).await.len(), 10);
    sim.guard().breaker(CallKind::Upload).reset();
    sim.drive(61).await;
    assert_eq!(documents(&sim).await.len(), 3);
}

#[tokio::test]
async fn a_writer_that_was_away_meets_the_one_that_claimed_and_pruned_meanwhile() {
    let mut old = sweeping();
    old.offer(&[]);
    old.drive(5).await;
    let parts = UploaderParts {
        clock: Arc::<FakeClock>::clone(&old.clock) as _,
        ..parts(client_over(&old.store, 2), 2, Duration::ZERO)
    };
    let mut new = Worker::new(parts);
    for number in 1..=9 {
        new.shared().offer(plan(number, &[]));
        new.turn().await;
    }
    // Its claim is pruned, so the number after the old one's last is free again.
    new.publisher.prune(2, LONG, false).await.unwrap();
    let left = documents(&old).await;
    assert!(left[0] > 3, "{left:?}");
    old.clock.advance(Duration::from_secs(2 * 3_600));
    old.offer(&[]);
    old.drive(5).await;
    assert_eq!(old.status().refused.unwrap().kind(), ErrorKind::Fenced);
    assert_eq!(documents(&old).await, left);
}

#[tokio::test]
async fn what_may_not_be_aborted_holds_up_no_sweep_and_no_other_abort() {
    for causes in [
        [Some(Cause::Denied), None],
        [Some(Cause::Denied), Some(Cause::Denied)],
        [Some(Cause::Status(501, None)), None],
        [Some(Cause::Status(500, None)), None],
    ] {
        let mut sim = sweeping();
        let uploads = sim.dir.path().join("uploads");
        let journal = Arc::new(Multiparts::open(real_fs(), &uploads, "t"));
        let parts = sim.worker.client.backend().parts().unwrap();
        for (key, cause) in ["1-large", "2-large"].into_iter().zip(causes) {
            drop(journal.begin(key, &parts.create_multipart(&key.into()).await.unwrap()));
            let always = if cause.is_some() { 100 } else { 0 };
            for cause in std::iter::repeat_n(cause, always).flatten() {
                sim.faults.script(Op::Delete, key, 0, Fault::Fail(cause));
            }
        }
        sim.worker.multiparts = Some(Arc::clone(&journal));
        for _ in 0..9 {
            sim.offer(&[]);
            sim.drive(5).await;
        }
        sim.drive(3 * 3_600).await;
        let tries = |key: &str| {
            sim.faults.calls().iter().filter(|call| call.op == Op::Delete && call.key == key).count()
        };
        println!("{causes:?}: {} and {} aborts", tries("1-large"), tries("2-large"));
        assert!(sim.status().pruned_documents > 0, "{causes:?}");
        assert!(sim.is_calm(), "{causes:?}: the right to abort is one of its own");
        let refused = |cause: Option<Cause>| cause.is_some_and(|cause| cause != Cause::Status(500, None));
        for (key, cause) in ["1-large", "2-large"].into_iter().zip(causes) {
            match cause {
                None => assert_eq!(tries(key), 1, "{causes:?}: aborted"),
                Some(_) if refused(cause) => assert_eq!(tries(key), 3, "{causes:?}: given up"),
                Some(_) => assert!(tries(key) > 5 && tries(key) < 13, "{causes:?}: {}", tries(key)),
            }
        }
        let given_up = causes.into_iter().filter(|cause| refused(*cause)).count();
        assert_eq!(journal.given_up(), given_up as u64);
    }
}
