//! Files that will not go up although the backend is well: one letter each, the others unhindered, all of them mended.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use akidb_host::sim::{EIO, HookFs};

use super::simulated::Sim;
use super::*;
use crate::fault::Fault;
use crate::guard::CallKind;
use crate::uploader::worker::Worker;
use crate::{Class, DeadLetters, DlqSettings, LetterState, Which};

#[tokio::test]
async fn one_poisonous_file_holds_up_no_other_and_no_document_until_it_is_mended() {
    let mut sim = Sim::new();
    let items: Vec<_> = (0..10).map(|n| sim.item(&format!("{n}.parquet"))).collect();
    sim.faults.set_poison(Some(("4.parquet", Fault::Fail(Cause::Status(400, None)))));
    sim.offer(&items);
    sim.drive(3_600).await;
    let status = sim.status();
    assert_eq!((status.pending_files, status.parked_files, status.files_put), (1, 1, 9));
    assert_eq!(status.published_local_number, None, "a document is a whole copy or none");
    assert_eq!(sim.puts_of("4.parquet"), 1, "parked: not tried again, whatever the time");
    let letter = sim.letters.list(&Which::all(), 9).remove(0);
    assert_eq!(
        (letter.state, letter.class, letter.retry_count, letter.attempts[0].status, letter.key.as_str()),
        (LetterState::Poison, Class::Permanent, 1, Some(400), items[4].key.as_str())
    );
    assert_eq!(letter.attempts[0].request_id.as_deref(), Some("scripted-request"));
    sim.faults.set_poison(None);
    sim.letters.ask_retry_all(&Which::all());
    sim.drive(10).await;
    sim.assert_drained().await;
    assert_eq!(sim.puts_of("4.parquet"), 2);
}

#[tokio::test]
async fn a_400_for_a_body_that_stalled_or_was_damaged_on_its_way_is_tried_again_and_makes_no_letter() {
    for name in ["RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"] {
        let mut sim = Sim::new();
        let items = [sim.item("a.parquet"), sim.item("b.parquet")];
        sim.faults.script(Op::Put, "a.parquet", 0, Fault::Fail(Cause::Named(400, name)));
        sim.offer(&items);
        sim.drive(10).await;
        assert_eq!((sim.letters.stats().size, sim.puts_of("a.parquet")), (0, 2), "{name}");
        sim.assert_drained().await;
    }
}

#[tokio::test]
async fn a_backend_that_refuses_every_put_is_to_blame_and_not_its_files() {
    // Of the first it is known by its name; the other may be what any file of such a kind would meet.
    for name in ["XMinioAdminBucketQuotaExceeded", "SomethingElse"] {
        let mut sim = Sim::new();
        let items = [sim.item("a.parquet"), sim.item("b.parquet")];
        sim.drive(1).await;
        sim.faults.set_poison(Some(("", Fault::Fail(Cause::Named(400, name)))));
        sim.offer(&items);
        sim.drive(3_600).await;
        let status = sim.status();
        assert_eq!((sim.letters.stats().size, status.pending_files), (0, 2), "{name}");
        sim.faults.set_poison(None);
        sim.drive(400).await;
        sim.assert_drained().await;
    }
}

#[tokio::test]
async fn a_full_bucket_is_told_as_such() {
    let mut sim = Sim::new();
    let items = [sim.item("a.parquet")];
    sim.drive(1).await;
    let full = Fault::Fail(Cause::Named(400, "XMinioAdminBucketQuotaExceeded"));
    sim.faults.set_poison(Some(("", full)));
    sim.offer(&items);
    while sim.status().last_error.is_none() {
        sim.drive(10).await;
    }
    let error = sim.status().last_error.unwrap();
    assert!(error.to_string().contains("quota of the bucket is used up"), "{error}");
    assert_eq!((error.code(), error.class()), ("AKI-0704", Class::Throttle));
}

#[tokio::test]
async fn letters_are_not_poison_because_a_backend_refuses_all_puts_meanwhile() {
    let mut sim = Sim::new();
    let items = [sim.item("a.parquet"), sim.item("b.parquet")];
    sim.drive(1).await;
    sim.faults.set_poison(Some(("a.parquet", Fault::Fail(Cause::Status(500, None)))));
    sim.offer(&items);
    sim.drive(30).await;
    assert_eq!(sim.letters.list(&Which::all(), 9)[0].state, LetterState::Dead);
    sim.faults.set_poison(Some(("", Fault::Fail(Cause::Status(400, None)))));
    sim.drive(24 * 3_600).await;
    assert_eq!(sim.letters.list(&Which::all(), 9)[0].state, LetterState::Dead);
    sim.faults.set_poison(None);
    sim.drive(2 * 3_600).await;
    sim.assert_drained().await;
}

#[tokio::test]
async fn attempts_used_up_on_a_backend_that_is_well_make_a_letter_that_is_redriven_by_its_timer() {
    let mut sim = Sim::new();
    let items = [sim.item("a.parquet"), sim.item("b.parquet")];
    sim.drive(1).await;
    sim.faults.set_poison(Some(("a.parquet", Fault::Fail(Cause::Status(500, None)))));
    sim.offer(&items);
    sim.drive(30).await;
    let letter = sim.letters.list(&Which::all(), 9).remove(0);
    assert_eq!(
        (letter.state, letter.class, letter.retry_count, letter.attempts.len()),
        (LetterState::Dead, Class::Transient, 3, 3)
    );
    assert!(letter.attempts.iter().all(|one| (one.status, one.request_id.is_some()) == (Some(500), true)));
    assert_eq!(sim.puts_of("a.parquet"), 3);
    sim.drive(25).await;
    assert_eq!(sim.puts_of("a.parquet"), 3, "not before its minute");
    sim.drive(10).await;
    assert_eq!(sim.puts_of("a.parquet"), 6);
    sim.faults.set_poison(None);
    sim.drive(60).await;
    assert_eq!(sim.puts_of("a.parquet"), 6, "two minutes after the second failure");
    sim.drive(70).await;
    sim.assert_drained().await;
}

#[tokio::test]
async fn a_local_file_that_is_damaged_is_poison_at_once_and_goes_up_when_it_is_mended() {
    let mut sim = Sim::new();
    let items = [sim.item("a.parquet"), sim.item("b.parquet")];
    let good = std::fs::read(&items[0].local).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    std::fs::write(&items[0].local, bad).unwrap();
    sim.offer(&items);
    sim.drive(7_200).await;
    assert_eq!((sim.classes(), sim.puts_of("a.parquet")), (vec![Class::Local], 0));
    assert_eq!(sim.letters.stats().poison, 1);
    std::fs::write(&items[0].local, good).unwrap();
    assert_eq!(sim.letters.ask_retry_all(&Which::backend("t")), 1);
    sim.drive(10).await;
    sim.assert_drained().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_or_read_for_now_goes_up_later_without_anybody() {
    use akidb_host::sim::{Act, Call, Op as HookOp};
    const EINTR: i32 = 4;
    const ENOMEM: i32 = 12;
    const EMFILE: i32 = 24;
    for (op, errno, times) in [
        // Once is mended by the next attempt, three times by the letter's time.
        (HookOp::Open, EMFILE, 1),
        (HookOp::Open, EMFILE, 3),
        (HookOp::Open, EMFILE, 30),
        (HookOp::ReadAt, ENOMEM, 3),
        (HookOp::ReadAt, EINTR, 3),
        (HookOp::Open, EIO, 1),
        (HookOp::ReadAt, EIO, 1),
        // At first and at two redrives.
        (HookOp::ReadAt, EIO, 3),
    ] {
        let left = Arc::new(AtomicU32::new(times));
        let hook = move |call: &Call<'_>| {
            let is_it = call.op == op && call.path.ends_with("a.parquet");
            let less = |left: u32| is_it.then(|| left.checked_sub(1)).flatten();
            if left.fetch_update(Relaxed, Relaxed, less).is_ok() { Act::Fail(errno) } else { Act::Go }
        };
        let mut sim = Sim::over(Arc::new(HookFs::new(real_fs(), Arc::new(hook))));
        let items = [sim.item("a.parquet"), sim.item("b.parquet")];
        sim.offer(&items);
        sim.drive(1).await;
        assert_eq!(sim.letters.stats().poison, 0, "{op:?} {errno} {times}");
        assert_eq!(sim.worker.client.budget_tokens(), 500, "the backend is not charged with it");
        sim.drive(24 * 3_600).await;
        sim.assert_drained().await;
    }
}

#[tokio::test]
async fn a_file_whose_device_goes_on_failing_is_poison_at_its_third_redrive() {
    use akidb_host::sim::{Act, Call, Op as HookOp};
    const EACCES: i32 = 13;
    const ELOOP: i32 = 40;
    const ENODATA: i32 = 61;
    const EBADMSG: i32 = 74;
    const ESTALE: i32 = 116;
    const EUCLEAN: i32 = 117;
    for (op, errno) in [
        (HookOp::ReadAt, EIO),
        (HookOp::Open, EACCES),
        (HookOp::Open, ELOOP),
        (HookOp::ReadAt, ENODATA),
        (HookOp::ReadAt, EBADMSG),
        (HookOp::ReadAt, ESTALE),
        (HookOp::Open, EUCLEAN),
    ] {
        let hook = move |call: &Call<'_>| {
            let is_it = call.op == op && call.path.ends_with("a.parquet");
            if is_it { Act::Fail(errno) } else { Act::Go }
        };
        let mut sim = Sim::over(Arc::new(HookFs::new(real_fs(), Arc::new(hook))));
        let items = [sim.item("a.parquet"), sim.item("b.parquet")];
        sim.offer(&items);
        // Redriven after one, two and four minutes.
        for (after_secs, state) in
            [(30, LetterState::Dead), (330, LetterState::Dead), (100, LetterState::Poison)]
        {
            sim.drive(after_secs).await;
            let letter = sim.letters.list(&Which::all(), 9).remove(0);
            assert_eq!((letter.state, letter.class), (state, Class::Local), "{errno}: {letter:?}");
            assert!(letter.error_message.starts_with("AKI-0707"), "{}", letter.error_message);
        }
        assert_eq!(sim.puts_of("a.parquet"), 0, "{errno}");
    }
}

#[tokio::test]
async fn a_refused_file_is_buried_while_lists_and_removals_are_held_back() {
    for status in [400, 413] {
        let mut sim = Sim::new();
        let items = [sim.item("a.parquet"), sim.item("b.parquet")];
        sim.drive(1).await;
        sim.guard().breaker(CallKind::ListDelete).force_open();
        sim.faults.set_poison(Some(("a.parquet", Fault::Fail(Cause::Status(status, None)))));
        sim.offer(&items);
        sim.drive(3_600).await;
        assert!(!sim.is_calm());
        assert_eq!((sim.letters.stats().poison, sim.puts_of("a.parquet")), (1, 1), "{status}");
        assert_eq!((sim.status().pending_files, sim.status().parked_files), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn letters_are_tried_again_beside_a_file_that_fails_while_lists_are_held_back() {
    let mut sim = Sim::new();
    let items = [sim.item("a.parquet"), sim.item("b.parquet")];
    sim.drive(1).await;
    for _ in 0..3 {
        sim.faults.script(Op::Put, "b.parquet", 0, Fault::Fail(Cause::Status(500, None)));
    }
    sim.offer(&items[1..]);
    sim.drive(30).await;
    assert_eq!(sim.letters.stats().size, 1);
    // Past the letter's minute, and what the breaker of uploads remembers.
    sim.clock.advance(Duration::from_secs(60));
    sim.guard().breaker(CallKind::ListDelete).force_open();
    // Nobody can say whose fault it is while a breaker is open: no letter.
    sim.faults.set_poison(Some(("a.parquet", Fault::Fail(Cause::Status(500, None)))));
    sim.offer(&items);
    sim.drive(1).await;
    assert!(!sim.is_calm());
    assert_eq!((sim.letters.stats().size, sim.puts_of("b.parquet")), (0, 4));
    assert_eq!(sim.status().pending_files, 1);
    sim.faults.set_poison(None);
    sim.guard().breaker(CallKind::ListDelete).reset();
    sim.drive(600).await;
    sim.assert_drained().await;
}

#[tokio::test]
async fn a_file_that_is_not_there_or_too_short_is_poison_at_once() {
    for is_there in [false, true] {
        let mut sim = Sim::new();
        let items = [sim.item("a.parquet")];
        match is_there {
            true => std::fs::write(&items[0].local, "short").unwrap(),
            false => std::fs::remove_file(&items[0].local).unwrap(),
        }
        sim.offer(&items);
        sim.drive(1).await;
        assert_eq!((sim.classes(), sim.letters.stats().poison), (vec![Class::Local], 1));
    }
}

#[tokio::test]
async fn a_newer_plan_without_the_file_takes_its_letter_along() {
    let mut sim = Sim::new();
    let items = [sim.item("a.parquet"), sim.item("b.parquet")];
    sim.faults.set_poison(Some(("a.parquet", Fault::Fail(Cause::Status(413, None)))));
    sim.offer(&items);
    sim.drive(10).await;
    assert_eq!(sim.letters.stats().size, 1);
    sim.offer(&items[1..]);
    sim.drive(10).await;
    sim.assert_drained().await;
}

#[tokio::test]
async fn letters_of_an_earlier_open_stay_until_the_first_plan_is_offered_however_late_that_is() {
    let mut sim = Sim::new();
    let items = [sim.item("a.parquet"), sim.item("b.parquet")];
    sim.faults.set_poison(Some(("a.parquet", Fault::Fail(Cause::Status(400, None)))));
    sim.offer(&items);
    sim.drive(10).await;
    let before = sim.letters.list(&Which::all(), 9);
    assert_eq!(before.len(), 1);
    // The next open has other backends to start before it offers anything.
    let parts = UploaderParts {
        clock: Arc::<FakeClock>::clone(&sim.clock) as _,
        letters: Some(Arc::clone(&sim.letters)),
        ..parts(client_over(&sim.store, 2), 2, Duration::ZERO)
    };
    let mut next = Worker::new(parts);
    for _ in 0..3 {
        next.turn().await;
    }
    assert_eq!(sim.letters.list(&Which::all(), 9), before);
    next.shared().offer(plan(2, &items));
    next.turn().await;
    assert_eq!(sim.letters.list(&Which::all(), 9), before);
    assert_eq!(sim.puts_of("a.parquet"), 1, "it waits for a person");
    // A plan without the file takes it along, as ever.
    next.shared().offer(plan(3, &items[1..]));
    next.turn().await;
    assert_eq!((next.shared().status().published_local_number, sim.letters.stats().size), (Some(3), 0));
}

#[tokio::test]
async fn being_throttled_for_an_hour_makes_no_letter() {
    let mut sim = Sim::new();
    let items = [sim.item("a.parquet"), sim.item("b.parquet")];
    sim.drive(1).await;
    sim.faults.set_poison(Some(("parquet", Fault::Fail(Cause::SLOW_DOWN))));
    sim.offer(&items);
    sim.drive(3_600).await;
    assert_eq!(sim.letters.stats().size, 0);
    sim.faults.set_poison(None);
    sim.drive(400).await;
    sim.assert_drained().await;
}

#[tokio::test]
async fn letters_are_tried_again_when_a_breaker_closes() {
    let mut sim = Sim::new();
    let items = [sim.item("a.parquet")];
    sim.drive(1).await;
    sim.faults.set_poison(Some(("a.parquet", Fault::Fail(Cause::Status(500, None)))));
    sim.offer(&items);
    // Letters that wait for most of an hour by now.
    sim.drive(3_600).await;
    sim.faults.set_poison(None);
    sim.faults.set_dead(Some(Cause::Reset));
    let other = [items[0].clone(), sim.item("b.parquet")];
    sim.offer(&other);
    sim.drive(200).await;
    assert!(!sim.is_calm());
    assert_eq!((sim.letters.stats().size, sim.status().pending_files), (1, 2));
    sim.faults.set_dead(None);
    sim.drive(310).await;
    sim.assert_drained().await;
}

#[tokio::test]
async fn twenty_thousand_poisonous_files_cost_ten_thousand_letters_and_not_one_file() {
    let mut sim = Sim::with(DlqSettings { max_size: 10_000, ..DlqSettings::default() }, None);
    let one = sim.item("x.parquet");
    let items: Vec<_> = (0..20_000)
        .map(|n| crate::PlanItem { key: format!("collections/1-x/{n}.parquet"), ..one.clone() })
        .collect();
    sim.drive(1).await;
    sim.faults.set_poison(Some((".parquet", Fault::Fail(Cause::Status(400, None)))));
    sim.offer(&items);
    sim.drive(600).await;
    let stats = sim.letters.stats();
    println!("{stats:?}");
    assert_eq!((stats.size, stats.total_evictions, stats.parked), (10_000, 10_000, 10_000));
    let status = sim.status();
    assert_eq!((status.pending_files, status.parked_files), (20_000, 20_000));
    assert_eq!(sim.puts_of(".parquet"), 20_000, "each was tried once");
    sim.faults.set_poison(None);
    sim.faults.clear_calls();
    assert_eq!(sim.letters.ask_retry_all(&Which::all()), 10_000);
    let started = sim.clock.now();
    while sim.status().pending_files > 0 {
        sim.drive(60).await;
    }
    let took = sim.clock.now().saturating_duration_since(started);
    println!("all up {} s after retry-all", took.as_secs());
    assert!(took >= Duration::from_secs(990), "10 a second at most: {took:?}");
    assert_eq!(sim.puts_of(".parquet"), 20_000, "one put a file");
    sim.assert_drained().await;
}

#[test]
fn a_hundred_times_retry_all_during_a_redrive_is_one_put_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, store) = faulty();
    let clock: Arc<dyn Clock> = Arc::new(RealClock);
    let path = dir.path().join("dlq.json");
    let (letters, _) = DeadLetters::open(real_fs(), clock, &path, DlqSettings::default()).unwrap();
    let letters = Arc::new(letters);
    faults.set_poison(Some((".parquet", Fault::Fail(Cause::Status(400, None)))));
    let parts = UploaderParts {
        letters: Some(Arc::clone(&letters)),
        ..parts(client_over(&store, 1), 1, Duration::ZERO)
    };
    let uploader = Uploader::start(&RealSpawn, parts).unwrap();
    let mut rng = Rng::seeded(1);
    let items: Vec<_> = (0..50).map(|n| item(dir.path(), &format!("{n}.parquet"), 100, &mut rng)).collect();
    uploader.offer(plan(1, &items));
    while letters.stats().size < 50 {
        std::thread::yield_now();
    }
    faults.set_poison(None);
    faults.clear_calls();
    for _ in 0..100 {
        letters.ask_retry_all(&Which::all());
        uploader.wake();
    }
    uploader.wait_published(1, LONG).unwrap();
    for item in &items {
        let puts = faults.calls().iter().filter(|call| call.op == Op::Put && call.key == item.key).count();
        assert_eq!(puts, 1, "{}", item.key);
    }
    assert_eq!(letters.stats().size, 0);
    judged(&store);
}
