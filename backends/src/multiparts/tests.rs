//! The journal of multipart uploads: what it remembers after a crash, and of damaged bytes.

use std::sync::Arc;

use akidb_host::{Clock, RealClock};
use object_store::memory::InMemory;

use super::*;
use crate::Backend;
use crate::fault::{Cause, Fault, FaultStore};
use crate::test_support::{client_of, real_fs};

fn open(dir: &Path) -> Arc<Multiparts> {
    Arc::new(Multiparts::open(real_fs(), dir, "b"))
}

fn bytes(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("b.multipart.jsonl")).unwrap()
}

#[test]
fn a_line_has_these_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let uploads = dir.path().join("uploads");
    let journal = open(&uploads);
    assert!(!uploads.exists(), "nothing is made before the first upload");
    journal.begin("c/a.parquet", "id-1").end();
    let golden = "{\"c\":\"7758bcaa\",\"e\":{\"begun\":{\"key\":\"c/a.parquet\",\"id\":\"id-1\"}}}\n\
                  {\"c\":\"b27c1eee\",\"e\":{\"ended\":{\"key\":\"c/a.parquet\",\"id\":\"id-1\"}}}\n";
    assert_eq!(String::from_utf8(bytes(&uploads)).unwrap(), golden);
}

#[test]
fn what_was_begun_and_not_ended_is_left_after_a_crash_and_after_a_drop() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.begin("a", "1").end();
    let running = journal.begin("b", "2");
    drop(journal.begin("c", "3"));
    assert_eq!((journal.leftovers(), journal.under_way()), (1, 1));
    // A crash: nothing more is written by the process that had them.
    let again = open(dir.path());
    assert_eq!((again.leftovers(), again.under_way()), (2, 0));
    assert_eq!(bytes(dir.path()).iter().filter(|&&b| b == b'\n').count(), 2, "only what is left is kept");
    assert_eq!(open(dir.path()).leftovers(), 2, "until it is aborted");
    drop(running);
}

#[test]
fn every_cut_and_every_flip_loses_one_upload_at_most_and_invents_none() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let all: Vec<_> = (0..4).map(|n| journal.begin(&format!("k{n}"), "id")).collect();
    let whole = bytes(dir.path());
    let names = still_open(&whole);
    assert_eq!(names.len(), all.len());
    for cut in 0..whole.len() {
        let lines = whole[..cut].iter().filter(|&&b| b == b'\n').count();
        let found = still_open(&whole[..cut]);
        assert!(found.is_subset(&names) && found.len() >= lines, "cut {cut}");
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = still_open(&flipped);
        assert!(found.is_subset(&names) && found.len() >= names.len() - 2, "bit {bit}");
    }
}

#[test]
fn a_long_journal_is_emptied_when_nothing_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let key = "k".repeat(1_000);
    for n in 0..200 {
        journal.begin(&key, &n.to_string()).end();
    }
    assert!(bytes(dir.path()).len() < 80 << 10);
    drop(journal.begin("last", "1"));
    assert_eq!(open(dir.path()).leftovers(), 1);
}

#[tokio::test]
async fn leftovers_are_aborted_once_and_what_cannot_be_aborted_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = FaultStore::over_parts(Arc::new(InMemory::new()));
    let client = client_of(Backend::from_parts_store("b", Arc::new(store.clone())), 1);
    let parts = client.backend().parts().unwrap();
    let journal = open(dir.path());
    for key in ["a", "b", "c"] {
        let id = parts.create_multipart(&key.into()).await.unwrap();
        drop(journal.begin(key, &id));
    }
    let journal = open(dir.path());
    let (now, minute) = (RealClock.now(), Duration::from_secs(60));
    store.script(Op::Delete, "b", 0, Fault::Fail(Cause::Denied));
    let done = journal.abort_leftovers(&client, now).await;
    assert_eq!((done.aborted, done.failed, done.given_up), (2, 1, 0), "it holds up no other");
    assert_eq!((journal.leftovers(), journal.due_in(now)), (1, Some(minute)));
    store.clear_calls();
    assert_eq!(journal.abort_leftovers(&client, now + minute / 2).await, Aborted::default());
    assert_eq!(store.calls(), [], "not before its minute");
    store.script(Op::Delete, "b", 0, Fault::Fail(Cause::NotFound));
    let done = journal.abort_leftovers(&client, now + minute).await;
    assert_eq!((done.gone, journal.leftovers(), journal.due_in(now)), (1, 0, None));
    store.clear_calls();
    assert_eq!(open(dir.path()).abort_leftovers(&client, now).await, Aborted::default());
    assert_eq!(store.calls(), []);
}

#[tokio::test]
async fn one_that_may_not_be_aborted_is_tried_three_times_an_open_and_one_that_fails_for_ever_and_ever() {
    for (cause, is_given_up) in
        [(Cause::Denied, true), (Cause::Status(501, None), true), (Cause::Reset, false)]
    {
        let dir = tempfile::tempdir().unwrap();
        let store = FaultStore::over_parts(Arc::new(InMemory::new()));
        let client = client_of(Backend::from_parts_store("b", Arc::new(store.clone())), 1);
        drop(open(dir.path()).begin("a", "id"));
        for opens in 0..2 {
            let journal = open(dir.path());
            let mut now = RealClock.now();
            store.set_dead(Some(cause));
            for tries in 1..=9 {
                let Some(wait) = journal.due_in(now) else { break };
                assert!(wait <= Duration::from_secs(3_600), "{cause:?}: {wait:?}");
                now += wait;
                let done = journal.abort_leftovers(&client, now).await;
                let is_last = is_given_up && tries == 3;
                assert_eq!(
                    (done.failed, done.given_up),
                    (1, u64::from(is_last)),
                    "{cause:?} {opens} {tries}"
                );
            }
            assert_eq!(journal.given_up(), u64::from(is_given_up), "{cause:?} {opens}");
            assert_eq!(journal.leftovers(), usize::from(!is_given_up), "{cause:?} {opens}");
        }
    }
}

#[tokio::test]
async fn many_that_cannot_be_aborted_cost_one_call_each_and_none_of_the_retry_budget() {
    let dir = tempfile::tempdir().unwrap();
    let store = FaultStore::over_parts(Arc::new(InMemory::new()));
    let client = client_of(Backend::from_parts_store("b", Arc::new(store.clone())), 1);
    let journal = open(dir.path());
    for n in 0..25 {
        drop(journal.begin(&format!("k{n:02}"), "id"));
    }
    store.set_dead(Some(Cause::Reset));
    let (now, tokens) = (RealClock.now(), client.budget_tokens());
    for failed in [10, 10, 5, 0] {
        store.clear_calls();
        assert_eq!(journal.abort_leftovers(&client, now).await.failed, failed);
        assert_eq!(store.calls().len() as u64, failed);
    }
    assert_eq!(client.budget_tokens(), tokens);
    assert_eq!((journal.leftovers(), journal.due_in(now)), (25, Some(Duration::from_secs(60))));
}

#[test]
fn chaos_disk_full_a_disk_that_cannot_hold_the_journal_stops_no_upload() {
    let dir = tempfile::tempdir().unwrap();
    // A file where the directory should be.
    let blocked = dir.path().join("uploads");
    std::fs::write(&blocked, b"").unwrap();
    let journal = open(&blocked);
    let running = journal.begin("a", "1");
    assert!(journal.is_degraded());
    assert_eq!(journal.under_way(), 1);
    drop(running);
    assert_eq!(journal.leftovers(), 1, "remembered by this process");
}
