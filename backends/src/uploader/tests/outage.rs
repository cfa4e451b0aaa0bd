//! Whole backends that fail, in simulated time: nothing becomes a letter, next to nothing is sent, and it ends alone.

use super::simulated::Sim;
use super::*;
use crate::breaker::{Failure, Permit};
use crate::guard::CallKind;

/// An hour of a file every ten seconds.
async fn an_hour_of(sim: &mut Sim, items: &mut Vec<crate::PlanItem>) -> usize {
    let mut while_open = 0;
    for n in 0..360 {
        items.push(sim.item(&format!("h{n}.parquet")));
        sim.offer(items);
        while_open += sim.drive(10).await;
    }
    while_open
}

#[tokio::test]
async fn an_hour_of_a_dead_backend_makes_no_letter_and_drains_alone() {
    let mut sim = Sim::new();
    let mut items = vec![sim.item("before.parquet")];
    sim.offer(&items);
    sim.drive(10).await;
    sim.assert_drained().await;
    sim.faults.clear_calls();
    sim.faults.set_dead(Some(Cause::Refused));
    let while_open = an_hour_of(&mut sim, &mut items).await;
    let sent = sim.faults.calls().len();
    println!(
        "an hour of a dead backend: {sent} calls, {while_open} of them while open besides the small ones"
    );
    assert_eq!((while_open, sim.letters.stats().size, sim.status().pending_files), (0, 0, 360));
    assert!(sent <= 20 + 2 * 13, "{sent} calls: a dozen until it opened, one a cooldown and a kind after it");
    sim.faults.set_dead(None);
    let healed = sim.clock.now();
    while sim.status().pending_files > 0 {
        sim.drive(5).await;
    }
    let took = sim.clock.now().saturating_duration_since(healed);
    println!("drained {} s after it was mended", took.as_secs());
    assert!(took <= Duration::from_secs(310), "{took:?}");
    sim.assert_drained().await;
}

#[tokio::test]
async fn one_file_and_a_backend_that_dies_is_an_outage_and_no_poison() {
    // Three attempts at one file are too few calls to open a breaker: the file is not to blame all the same.
    let mut sim = Sim::new();
    let items = [sim.item("a.parquet")];
    sim.drive(1).await;
    sim.faults.set_dead(Some(Cause::Reset));
    sim.offer(&items);
    sim.drive(3_600).await;
    assert_eq!((sim.letters.stats().size, sim.status().pending_files), (0, 1));
    sim.faults.set_dead(None);
    sim.drive(400).await;
    sim.assert_drained().await;
}

#[tokio::test]
async fn an_hour_of_wrong_keys_makes_no_letter_costs_a_call_an_interval_and_resumes_alone() {
    let mut sim = Sim::new();
    let mut items = vec![sim.item("before.parquet")];
    sim.offer(&items);
    sim.drive(10).await;
    sim.faults.clear_calls();
    sim.faults.set_dead(Some(Cause::Denied));
    let while_open = an_hour_of(&mut sim, &mut items).await;
    let sent = sim.faults.calls().len();
    println!("an hour of wrong keys: {sent} calls");
    assert_eq!((while_open, sim.letters.stats().size), (0, 0));
    assert!(sent <= 14, "{sent}");
    let status = sim.guard().status(CallKind::Upload);
    assert_eq!((status.reason, status.error_rate), (Some(crate::Reason::Auth), 0.0));
    sim.faults.set_dead(None);
    sim.drive(400).await;
    sim.assert_drained().await;
}

#[tokio::test]
async fn forty_nine_failures_of_each_hundred_calls_never_open_it_fifty_one_do_and_all_letters_are_redriven() {
    for (fails, opens) in [(49, false), (51, true)] {
        let mut sim = Sim::new();
        let mut items = vec![sim.item("before.parquet")];
        sim.offer(&items);
        sim.drive(10).await;
        sim.faults.set_pattern(Some((fails, Cause::Reset)));
        let (mut highest, mut most_letters) = (0.0f64, 0);
        // Ten files a second: whatever minute one looks at, it has hundreds of calls of each kind.
        for n in 0..300 {
            items.extend((0..10).map(|m| sim.item(&format!("p{n}-{m}.parquet"))));
            sim.offer(&items);
            sim.drive(1).await;
            most_letters = most_letters.max(sim.letters.stats().size);
            for kind in CallKind::ALL {
                let status = sim.guard().status(kind);
                if status.state == crate::State::Closed && status.calls >= 100 {
                    highest = highest.max(status.error_rate);
                }
            }
        }
        let opened: u64 = CallKind::ALL.iter().map(|kind| sim.guard().status(*kind).totals.opened).sum();
        let left = sim.status().pending_files;
        println!(
            "{fails} of 100: highest share while closed {highest:.3}, opened {opened}, letters {most_letters}, \
             pending {left}"
        );
        // At 51 a window may pass the threshold by old successes that leave it: the next failure opens it.
        assert!(opens || highest <= 0.5, "{highest}");
        assert_eq!(opened > 0, opens);
        assert!(opens || (left < 1_500 && most_letters > 0), "half of it goes up, some of it by a redrive");
        sim.faults.set_pattern(None);
        sim.drive(3 * 3_600).await;
        sim.assert_drained().await;
    }
}

#[tokio::test]
async fn an_idle_class_is_healed_by_a_small_call_of_its_own_kind() {
    for kind in CallKind::ALL {
        let mut sim = Sim::new();
        sim.offer(&[]);
        sim.drive(10).await;
        sim.faults.clear_calls();
        let guard = sim.guard();
        while guard.status(kind).state == crate::State::Closed {
            let permit: Permit<&crate::Breaker> = guard.breaker(kind).try_acquire(guard.now_ms()).unwrap();
            permit.failure(Failure::Fault, guard.now_ms());
        }
        assert!(!sim.is_calm());
        sim.drive(299).await;
        assert_eq!(sim.faults.calls(), [], "{kind}: nothing before the cooldown is over");
        sim.drive(2).await;
        assert!(sim.is_calm(), "{kind}");
        let calls = sim.faults.calls();
        assert_eq!(calls.len(), 10, "{kind}: what half_open_successes asks for");
        assert!(calls.iter().all(|call| CallKind::of(call.op) == kind), "{kind}: {calls:?}");
    }
}

#[tokio::test]
async fn bytes_that_arrive_changed_count_as_failures_and_are_never_marked() {
    let mut sim = Sim::new();
    let items = [sim.item("a.parquet")];
    sim.drive(1).await;
    sim.faults.script(Op::Put, "a.parquet", 0, Fault::Flip);
    sim.offer(&items);
    sim.drive(10).await;
    assert_eq!(sim.guard().status(CallKind::Upload).totals.failures, 1);
    sim.assert_drained().await;
    sim.faults.set_poison(Some(("b.parquet", Fault::Flip)));
    let items = [items[0].clone(), sim.item("b.parquet")];
    sim.offer(&items);
    sim.drive(600).await;
    assert!(!sim.worker.shared().known().has(&items[1]));
    assert!(judge(&sim.store).await.iter().all(|document| {
        document
            .content
            .as_ref()
            .is_none_or(|content| content.files.iter().all(|file| file.key != items[1].key))
    }));
    sim.faults.set_poison(None);
    sim.drive(3_700).await;
    sim.assert_drained().await;
}

#[test]
fn a_backend_that_never_answers_delays_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (stuck, stuck_store) = faulty();
    let (_, well_store) = faulty();
    stuck.script(Op::List, "manifest", 0, Fault::Hang);
    let (first, second) = (start(&stuck_store, 1), start(&well_store, 1));
    // The first is inside its call, and stays there.
    while !stuck.calls().iter().any(|call| call.op == Op::List) {
        std::thread::yield_now();
    }
    let items = [item(dir.path(), "a.parquet", 700, &mut Rng::seeded(1))];
    for number in 1..=5 {
        first.offer(plan(number, &items));
        second.offer(plan(number, &items));
        second.wait_published(number, LONG).unwrap();
    }
    assert_eq!(first.status().published_local_number, None);
    assert_eq!(stuck.calls().iter().filter(|call| call.op == Op::List).count(), 1);
    first.stop();
}
