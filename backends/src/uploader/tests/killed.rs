//! Killed at every call, and robbed of its notes: what is pending is derived again, the same.

use std::collections::BTreeSet;

use super::simulated::Sim;
use super::*;
use crate::PlanItem;

/// What the newest document lacks of a plan.
async fn derived(store: &Arc<dyn ObjectStore>, items: &[PlanItem]) -> BTreeSet<String> {
    let newest = judge(store).await.pop().and_then(|document| document.content);
    let named: BTreeSet<String> =
        newest.into_iter().flat_map(|content| content.files).map(|file| file.key).collect();
    items.iter().map(|item| item.key.clone()).filter(|key| !named.contains(key)).collect()
}

fn pending(sim: &Sim, items: &[PlanItem]) -> BTreeSet<String> {
    let known = sim.worker.shared().known();
    items.iter().filter(|item| !known.has(item)).map(|item| item.key.clone()).collect()
}

/// Works on two plans, is killed before call `k` is sent, and starts again with nothing but its directory. `false` once
/// there are not so many calls.
async fn round(k: usize) -> bool {
    let mut sim = Sim::new();
    let (b, bad) = (sim.item("b.parquet"), sim.item("bad.parquet"));
    let first = [sim.item("a.parquet"), b.clone()];
    let second = [b, sim.item("c.parquet"), bad.clone()];
    std::fs::write(&bad.local, "damaged").unwrap();
    sim.faults.script_call(k, Fault::Hang);
    let faults = sim.faults.clone();
    // A call that never comes back is where the process ends; what was sent beside it may still arrive.
    let hangs = async {
        while faults.calls().len() <= k {
            tokio::task::yield_now().await;
        }
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    };
    let works = async {
        sim.offer(&first);
        sim.drive(10).await;
        sim.offer(&second);
        sim.drive(10).await;
    };
    let killed = tokio::select! {
        biased;
        () = works => false,
        () = hangs => true,
    };
    // Not met by what comes after.
    sim.faults.script_call(usize::MAX >> 1, Fault::Hang);
    let items: &[PlanItem] = if sim.number == 1 { &first } else { &second };
    let expected = derived(&sim.store, items).await;
    // Neither dlq/ nor uploads/ is there any more.
    let mut next = sim.reopened();
    next.worker.publisher.claim().await.unwrap();
    assert_eq!(pending(&next, items), expected, "call {k}");
    next.offer(items);
    next.drive(10).await;
    if items.len() == second.len() {
        assert_eq!(pending(&next, items), BTreeSet::from([bad.key.clone()]));
        assert_eq!(next.letters.stats().poison, 1, "the letter is written again");
    } else {
        next.assert_drained().await;
    }
    judge(&next.store).await;
    killed
}

#[tokio::test]
async fn killed_at_every_call_and_without_its_notes_it_finds_the_same_pending_set() {
    let mut k = 0;
    while round(k).await {
        k += 1;
    }
    println!("killed at {k} calls");
    assert!(k > 15, "{k}");
}
