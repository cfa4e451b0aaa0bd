//! Bodies that break off, answers that are lost, bits that flip, lists that are old.

use std::collections::BTreeSet;

use object_store::ObjectStoreExt;

use super::*;
use crate::ErrorKind;
use crate::class::{Class, Op};
use crate::fault::{Cause, Fault};
use crate::test_support::{judge, plan};

#[tokio::test(start_paused = true)]
async fn chaos_torn_a_body_stored_by_half_is_seen_and_put_again_whole() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(exact(), 1);
    let files = items(dir.path(), &["small", "large"], 1_500, &mut Rng::seeded(1));
    let large = item(dir.path(), "parts", 9_000, &mut Rng::seeded(2));
    let files = [files, vec![large]].concat();
    rig.faults.script(Op::Put, "small", 0, Fault::Tear);
    rig.faults.script(Op::Part, "parts", 3, Fault::Tear);
    publisher(&rig.client, 1, None).publish(&plan(1, &files)).await.unwrap();
    let calls = rig.faults.calls();
    assert_eq!(calls.iter().filter(|call| call.op == Op::Put && call.key.contains("small")).count(), 2);
    assert_eq!(
        calls.iter().filter(|call| call.op == Op::Complete).count(),
        2,
        "the torn upload, and a fresh one"
    );
    judge(rig.store()).await;
    rig.assert_all_given_back();
}

#[tokio::test(start_paused = true)]
async fn chaos_bit_flip_in_the_read_back_never_marks_a_file_uploaded() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(exact(), 2);
    let files = items(dir.path(), &["a"], 1_500, &mut Rng::seeded(2));
    let mut up = publisher(&rig.client, 1, None);
    rig.faults.script(Op::Get, "1-x/a", 0, Fault::Flip);
    up.publish(&plan(1, &files)).await.unwrap();
    let files = items(dir.path(), &["b"], 1_500, &mut Rng::seeded(3));
    for _ in 0..3 {
        rig.faults.script(Op::Get, "1-x/b", 0, Fault::Flip);
    }
    let error = up.publish(&plan(2, &files)).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Corrupt, Class::Transient));
    assert!(!up.known().lock().unwrap().has(&files[0]), "not uploaded");
    let documents = judge(rig.store()).await;
    assert_eq!(documents.last().unwrap().content.as_ref().unwrap().local_number, 1, "and nothing names it");
    assert_eq!(crc32fast::hash(&std::fs::read(&files[0].local).unwrap()), files[0].crc32, "kept here");
}

#[tokio::test(start_paused = true)]
async fn chaos_ambiguous_put_applied_and_unanswered_is_resolved_and_no_document_is_made_twice() {
    let dir = tempfile::tempdir().unwrap();
    for cause in [Cause::Reset, Cause::Timeout, Cause::Status(500, None), Cause::Exists] {
        let rig = rig(exact(), 3);
        let files = items(dir.path(), &["a", "b"], 500, &mut Rng::seeded(3));
        let mut up = publisher(&rig.client, 1, None);
        // The probe's first create, the claim, the commit, and the put of a file.
        for (op, key) in [(Op::Create, "probe"), (Op::Create, "manifest"), (Op::Put, "1-x/a")] {
            if cause != Cause::Exists || op == Op::Create && key == "manifest" {
                rig.faults.script(op, key, 0, Fault::ApplyThenFail(cause));
            }
        }
        let done = up.publish(&plan(1, &files[..1])).await.unwrap();
        rig.faults.script(Op::Create, "manifest", 0, Fault::ApplyThenFail(cause));
        let next = up.publish(&plan(2, &files)).await.unwrap();
        assert_eq!((done.remote_number, next.remote_number), (2, 3), "{cause:?}");
        assert_eq!(judge(rig.store()).await.len(), 3, "{cause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn chaos_ambiguous_complete_is_resolved_by_a_look() {
    let dir = tempfile::tempdir().unwrap();
    let journal_dir = dir.path().join("uploads");
    for cause in [Cause::NotFound, Cause::Reset, Cause::Timeout, Cause::Status(500, None), Cause::SLOW_DOWN] {
        let rig = rig(exact(), 4);
        let journal = Arc::new(Multiparts::open(real_fs(), &journal_dir, "t"));
        let files = items(dir.path(), &["a"], 9_000, &mut Rng::seeded(4));
        rig.faults.script(Op::Complete, "a", 0, Fault::ApplyThenFail(cause));
        publisher(&rig.client, 1, Some(&journal)).publish(&plan(1, &files)).await.unwrap();
        let calls = rig.faults.calls();
        let (parts, completions) = calls.iter().fold((0, 0), |(parts, completions), call| {
            (parts + u32::from(call.op == Op::Part), completions + u32::from(call.op == Op::Complete))
        });
        assert_eq!((parts, completions), (1 + 5, 1), "{cause:?}");
        assert_eq!((journal.leftovers(), journal.under_way()), (0, 0));
        judge(rig.store()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn chaos_conflict_on_a_create_whose_key_is_absent_is_repeated_and_no_success() {
    let rig = rig(exact(), 5);
    let mut up = publisher(&rig.client, 1, None);
    // 409 for a conflict still under way: nothing was stored.
    rig.faults.script(Op::Create, "manifest", 0, Fault::Fail(Cause::Exists));
    up.claim().await.unwrap();
    assert_eq!(judge(rig.store()).await.len(), 1);
    for _ in 0..3 {
        rig.faults.script(Op::Create, "manifest", 0, Fault::Fail(Cause::Exists));
    }
    let error = up.publish(&plan(1, &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(judge(rig.store()).await.len(), 1, "nothing was published");
    up.publish(&plan(1, &[])).await.unwrap();
    assert_eq!(judge(rig.store()).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn chaos_stale_lists_and_late_objects_sweep_nothing_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for lag in 0..12 {
        let rig = rig(exact(), 6);
        rig.faults.set_stale_lists(lag);
        let files = items(dir.path(), &["a", "b", "c"], 300, &mut Rng::seeded(6));
        let mut up = publisher(&rig.client, 1, None);
        up.set_grace(Duration::ZERO);
        for number in 1..=3u64 {
            up.publish(&plan(number, &files[..usize::try_from(number).unwrap()])).await.unwrap();
            // Nothing is pinned: only the documents protect what they name.
            match up.sweep("collections", &BTreeSet::new(), false).await {
                Ok(swept) => assert_eq!(swept.removed, Vec::<String>::new(), "lag {lag}"),
                Err(error) => assert_eq!(error.class(), Class::Transient, "lag {lag}: {error}"),
            }
        }
        judge_with_fresh_lists(&rig).await;
        // A reopen that sees an old list still finds its place in the chain.
        rig.faults.set_stale_lists(lag);
        let mut next = publisher(&rig.client, 2, None);
        next.publish(&plan(4, &files)).await.unwrap();
        judge_with_fresh_lists(&rig).await;
    }
}

async fn judge_with_fresh_lists(rig: &Rig) {
    rig.faults.set_stale_lists(0);
    judge(rig.store()).await;
}

#[tokio::test(start_paused = true)]
async fn chaos_late_visibility_an_object_that_is_not_found_yet_is_not_marked_uploaded() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(exact(), 7);
    let files = items(dir.path(), &["a"], 300, &mut Rng::seeded(7));
    let mut up = publisher(&rig.client, 1, None);
    up.claim().await.unwrap();
    rig.faults.set_late_objects(10);
    let error = up.publish(&plan(1, &files)).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Corrupt, Class::Transient), "{error}");
    assert!(!up.known().lock().unwrap().has(&files[0]));
    rig.faults.set_late_objects(0);
    up.publish(&plan(1, &files)).await.unwrap();
    judge(rig.store()).await;
    assert!(rig.store().head(&files[0].key.as_str().into()).await.is_ok());
}
