//! Processes that die at any step, and two that share one store.

use std::future::poll_fn;
use std::task::Poll;

use akidb_host::{Clock, RealClock};

use super::*;
use crate::ErrorKind;
use crate::numbered::Chain;
use crate::test_support::{NoSleep, judge, plan};

/// Polls a future so many times, then drops it: the process has died there. Gives what it came to, if it ended.
async fn killed_after<T>(polls: u64, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    for _ in 0..polls {
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn chaos_killed_at_any_step_the_documents_stay_true_and_the_next_open_finishes() {
    let mut steps = 0;
    for step in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let uploads = dir.path().join("uploads");
        let rig = rig(exact(), step);
        // A turn before each call, so that the process may also die in the middle of one.
        rig.faults.set_latency(Arc::new(NoSleep::default()), Duration::ZERO);
        let small = items(dir.path(), &["a", "b"], 500, &mut Rng::seeded(step));
        let files = [small, items(dir.path(), &["c"], 9_000, &mut Rng::seeded(step))].concat();
        let first = plan(1, &files[..1]);
        let mut up = publisher(&rig.client, 1, None);
        up.publish(&first).await.unwrap();
        let journal = Arc::new(Multiparts::open(real_fs(), &uploads, "t"));
        let mut up = publisher(&rig.client, 2, Some(&journal));
        let second = plan(2, &files);
        let done = killed_after(step, up.publish(&second)).await;
        drop(up);
        let newest = judge(rig.store()).await.pop().unwrap().content;
        assert!([Some(first.content()), Some(second.content())].contains(&newest), "step {step}");
        // The next process: what was half-written is aborted, and the same plan is still to be published.
        let journal = Arc::new(Multiparts::open(real_fs(), &uploads, "t"));
        journal.abort_leftovers(&rig.client, RealClock.now()).await;
        let mut up = publisher(&rig.client, 3, Some(&journal));
        up.publish(&second).await.unwrap();
        assert_eq!(judge(rig.store()).await.pop().unwrap().content, Some(second.content()), "step {step}");
        assert_eq!((journal.leftovers(), journal.under_way()), (0, 0));
        rig.assert_all_given_back();
        steps = step;
        if done.is_some() {
            break;
        }
    }
    println!("killed at each of {steps} steps");
    assert!(steps > 12);
}

#[tokio::test(start_paused = true)]
async fn chaos_two_processes_of_one_store_the_newer_fences_the_older_in_any_order() {
    for seed in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let rig = rig(exact(), seed);
        rig.faults.set_latency(Arc::new(TokioSleep), Duration::from_millis(10));
        let mut rng = Rng::seeded(seed);
        let files = items(dir.path(), &["a", "b", "c", "d", "e", "f"], 300, &mut rng);
        let starts = [rng.below(300), rng.below(300)].map(Duration::from_millis);
        let run = |epoch: u64, start: Duration| {
            let (mut up, files) = (publisher(&rig.client, epoch, None), &files);
            async move {
                pass(start).await;
                for number in 1..=6u64 {
                    let plan = plan(number, &files[..usize::try_from(number).unwrap()]);
                    match up.publish(&plan).await {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::Fenced => return number,
                        Err(error) => panic!("seed {seed}: {error}"),
                    }
                }
                7
            }
        };
        let (old, new) = futures::future::join(run(1, starts[0]), run(2, starts[1])).await;
        assert_eq!(new, 7, "seed {seed}: the newer is never fenced");
        let documents = judge(rig.store()).await;
        let first_of_new = documents.iter().position(|document| document.epoch == 2).unwrap();
        assert!(documents[first_of_new..].iter().all(|document| document.epoch == 2), "seed {seed}");
        let by_old = documents.iter().filter(|d| d.epoch == 1 && d.content.is_some()).count() as u64;
        assert!(old == 7 || by_old <= old, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn chaos_a_writer_that_stood_still_for_minutes_meets_one_whose_claim_was_pruned_meanwhile() {
    let rig = rig(exact(), 1);
    let mut old = publisher(&rig.client, 1, None);
    old.publish(&plan(1, &[])).await.unwrap();
    let mut new = publisher(&rig.client, 2, None);
    for number in 1..=120 {
        pass(Duration::from_secs(2)).await;
        new.publish(&plan(number, &[])).await.unwrap();
    }
    // The claim, and the number after the old one's last, are free again.
    let pruned = new.prune(100, Duration::from_secs(24 * 3_600), false).await.unwrap();
    assert_eq!(pruned, (1..=22).collect::<Vec<_>>());
    let refused = old.publish(&plan(2, &[])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced, "{refused}");
    assert_eq!(numbers_of(&rig.client).await, (23..=122).collect::<Vec<_>>(), "nothing of it stays behind");
    assert_eq!(old.publish(&plan(3, &[])).await.unwrap_err().kind(), ErrorKind::Fenced, "for good");
    new.publish(&plan(121, &[])).await.unwrap();
    assert_eq!(newest_of(&rig.client).await, (123, 2));
}

#[tokio::test(start_paused = true)]
async fn chaos_a_claim_that_stood_still_is_made_after_what_was_published_and_pruned_meanwhile() {
    for before in [0, 1] {
        let rig = rig(exact(), before);
        let mut rival = publisher(&rig.client, 1, None);
        for number in 1..=before {
            rival.publish(&plan(number, &[])).await.unwrap();
        }
        let mut chain = Chain::open(rig.client.clone()).await.unwrap();
        for number in before + 1..=120 {
            rival.publish(&plan(number, &[])).await.unwrap();
        }
        rival.prune(100, Duration::from_secs(24 * 3_600), false).await.unwrap();
        assert_eq!(chain.claim(identity(2, 2)).await.unwrap(), 122);
        assert_eq!(numbers_of(&rig.client).await, (22..=122).collect::<Vec<_>>());
        assert_eq!(rival.publish(&plan(121, &[])).await.unwrap_err().kind(), ErrorKind::Fenced);
        let content = plan(7, &[]).content();
        assert_eq!(chain.commit(content).await.unwrap(), 123);
        assert_eq!(newest_of(&rig.client).await, (123, 2));
    }
}

async fn numbers_of(client: &Client) -> Vec<u64> {
    let mut numbers = crate::numbered::numbers(client).await.unwrap();
    numbers.sort_unstable();
    numbers
}

/// Number and epoch of the newest document.
async fn newest_of(client: &Client) -> (u64, u64) {
    let chain = Chain::open(client.clone()).await.unwrap();
    chain.newest().map(|document| (document.number, document.epoch)).unwrap()
}
