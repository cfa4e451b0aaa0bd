//! The document's bytes, and the chain under lost answers, rivals and liars.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::class::Op;
use crate::fault::{Cause, Fault};
use crate::test_support::{client_over, faulty, identity, judge};
use crate::{Backend, BackendConfig, Fate};

const GOLDEN: &[u8] = include_bytes!("../../tests/golden/remote_document.json");

fn content(local_number: u64) -> Content {
    Content { local_number, files: Vec::new(), text: format!("text {local_number}\n") }
}

fn golden_document() -> Document {
    Document {
        version: 1,
        compatible: 0,
        incompatible: 0,
        number: 7,
        parent: Some(Parent { number: 6, crc32: 0x0a1b_2c3d }),
        db_id: "0190c8d2-aaaa-7bbb-8ccc-0123456789ab".into(),
        epoch: 3,
        writer: 0x9f00_aa17,
        commit: "00112233445566778899aabbccddeeff".into(),
        content: Some(Content {
            local_number: 12,
            files: vec![RemoteFile {
                key: "collections/1-notes/00000003-00000001-9f00aa17.parquet".into(),
                len: 4711,
                crc32: 0xdead_beef,
            }],
            text: "{\"version\":1}\n{\"crc32\":\"00000000\"}\n".into(),
        }),
    }
}

async fn claimed(store: &Arc<dyn ObjectStore>, epoch: u64, writer: u32) -> Chain {
    let mut chain = Chain::open(client_over(store, epoch)).await.unwrap();
    chain.claim(identity(epoch, writer)).await.unwrap();
    chain
}

#[test]
fn a_document_has_these_bytes_and_comes_back() {
    let (bytes, crc32) = encode(&golden_document());
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(GOLDEN));
    let sealed = decode("t", 7, GOLDEN).unwrap();
    assert_eq!((sealed.document, sealed.crc32), (golden_document(), crc32));
}

#[test]
fn every_flip_and_every_cut_of_a_document_is_a_typed_error_with_its_key() {
    for cut in 0..GOLDEN.len() {
        let error = decode("t", 7, &GOLDEN[..cut]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "cut {cut}");
        assert_eq!(error.file(), Some("manifest/00000000000000000007.json"));
    }
    for bit in 0..GOLDEN.len() * 8 {
        let mut flipped = GOLDEN.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // The only flips that keep the meaning are those of a checksum digit's case: there are none to lose.
        match decode("t", 7, &flipped) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}"),
            Ok(sealed) => assert_eq!(sealed.document, golden_document(), "bit {bit}"),
        }
    }
}

#[test]
fn a_newer_version_an_unknown_incompatible_feature_and_a_climbing_key_are_refused() {
    let newer = |change: fn(&mut Document)| {
        let mut document = golden_document();
        change(&mut document);
        decode("t", 7, &encode(&document).0).map_err(|error| error.kind())
    };
    assert_eq!(newer(|d| d.version = 2).unwrap_err(), ErrorKind::NewerFormat);
    assert_eq!(newer(|d| d.incompatible = 4).unwrap_err(), ErrorKind::NewerFormat);
    assert_eq!(newer(|d| d.version = 0).unwrap_err(), ErrorKind::Corrupt);
    assert_eq!(newer(|d| d.number = 8).unwrap_err(), ErrorKind::Corrupt);
    let climbing = newer(|d| d.content.as_mut().unwrap().files[0].key = "../../etc/passwd".into());
    assert_eq!(climbing.unwrap_err(), ErrorKind::Corrupt);
    assert!(newer(|d| d.compatible = 4).is_ok());
}

#[tokio::test]
async fn a_claim_carries_what_was_published_and_numbers_stay_dense() {
    let (_, store) = faulty();
    let mut first = claimed(&store, 1, 11).await;
    assert_eq!(first.newest().unwrap().content, None);
    assert_eq!(first.commit(content(5)).await.unwrap(), 2);
    assert_eq!(first.commit(content(6)).await.unwrap(), 3);
    let second = claimed(&store, 2, 22).await;
    assert_eq!(second.newest().unwrap().number, 4);
    assert_eq!(second.newest().unwrap().content, Some(content(6)));
    assert_eq!(judge(&store).await.len(), 4);
    // The same open claims once.
    assert_eq!(claimed(&store, 2, 22).await.newest().unwrap().number, 4);
}

#[tokio::test]
async fn the_newest_is_found_in_an_unsorted_list() {
    let dir = tempfile::tempdir().unwrap();
    let backend = crate::open(&BackendConfig::new("l", dir.path().to_str().unwrap())).unwrap();
    let mut chain = claimed(backend.store(), 1, 1).await;
    for n in 1..=24 {
        chain.commit(content(n)).await.unwrap();
    }
    // Strangers beside ours are no documents.
    backend.store().put(&"manifest/99.json".into(), "x".into()).await.unwrap();
    let found = Chain::open(client_over(backend.store(), 0)).await.unwrap();
    assert_eq!(found.newest().unwrap().number, 25);
}

#[tokio::test]
async fn a_lower_epoch_and_another_writer_of_the_same_epoch_are_fenced_and_a_foreign_database_is_refused() {
    let (_, store) = faulty();
    let _owner = claimed(&store, 5, 1).await;
    for (other, kind) in [
        (identity(4, 9), ErrorKind::Fenced),
        (identity(5, 2), ErrorKind::Fenced),
        (Identity { db_id: "db-2".into(), epoch: 9, writer: 1 }, ErrorKind::Conflict),
    ] {
        let mut chain = Chain::open(client_over(&store, 0)).await.unwrap();
        assert_eq!(chain.claim(other.clone()).await.unwrap_err().kind(), kind, "{other:?}");
        assert!(!chain.is_claimed());
        assert_eq!(chain.commit(content(1)).await.unwrap_err().kind(), kind, "final");
    }
    assert_eq!(judge(&store).await.len(), 1);
}

#[tokio::test]
async fn a_writer_that_meets_a_higher_epoch_publishes_nothing_more_for_ever() {
    let (faults, store) = faulty();
    let mut old = claimed(&store, 1, 1).await;
    old.commit(content(1)).await.unwrap();
    let mut new = claimed(&store, 2, 2).await;
    let error = old.commit(content(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("epoch 2"), "{error}");
    faults.clear_calls();
    assert_eq!(old.commit(content(2)).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(faults.calls(), [], "a fenced writer does not even ask");
    assert_eq!(new.commit(content(3)).await.unwrap(), 4);
}

#[tokio::test]
async fn whatever_becomes_of_the_answer_a_commit_stands_exactly_once() {
    let causes = [Cause::Reset, Cause::Timeout, Cause::Refused, Cause::Exists, Cause::NotFound];
    for cause in causes {
        for fault in [Fault::Fail(cause), Fault::ApplyThenFail(cause)] {
            let (faults, store) = faulty();
            let mut chain = claimed(&store, 1, 1).await;
            faults.script(Op::Create, "manifest", 0, fault);
            let first = chain.commit(content(7)).await;
            // A plain "not found" cannot be repeated at once (a missing bucket); the next call settles it.
            if fault == Fault::Fail(Cause::NotFound) {
                assert_eq!(first.unwrap_err().kind(), ErrorKind::NotFound);
                assert_eq!(chain.commit(content(7)).await.unwrap(), 2);
            } else {
                assert_eq!(first.unwrap(), 2, "{fault:?}");
            }
            assert_eq!(chain.commit(content(8)).await.unwrap(), 3, "{fault:?}");
            let published: Vec<_> = judge(&store).await.into_iter().map(|d| d.content).collect();
            assert_eq!(published, [None, Some(content(7)), Some(content(8))], "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_lost_race_is_read_back_and_not_taken_for_ours() {
    let (faults, store) = faulty();
    let mut old = claimed(&store, 1, 1).await;
    // The new writer's claim loses the number to a commit that lands first; it takes the next one.
    let mut new = Chain::open(client_over(&store, 2)).await.unwrap();
    old.commit(content(1)).await.unwrap();
    assert_eq!(new.claim(identity(2, 2)).await.unwrap(), 3);
    assert_eq!(new.newest().unwrap().content, Some(content(1)), "the claim carries the commit it met");
    // A reset before anything was stored, while the rival's document lands in between.
    let mut newer = claimed(&store, 3, 3).await;
    faults.script(Op::Create, "manifest", 0, Fault::Fail(Cause::Reset));
    assert_eq!(new.commit(content(2)).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(newer.commit(content(4)).await.unwrap(), 5);
}

#[tokio::test]
async fn a_commit_of_unknown_fate_is_settled_before_the_next_and_its_number_never_gets_other_bytes() {
    for applied in [true, false] {
        let (faults, store) = faulty();
        let mut chain = claimed(&store, 1, 1).await;
        let fault = if applied { Fault::ApplyThenFail(Cause::Reset) } else { Fault::Fail(Cause::Timeout) };
        faults.script(Op::Create, "manifest", 0, fault);
        for _ in 0..3 {
            faults.script(Op::Get, "manifest", 0, Fault::Fail(Cause::Reset));
        }
        let error = chain.commit(content(7)).await.unwrap_err();
        assert_eq!((error.kind(), error.fate()), (ErrorKind::Unavailable, Fate::Unknown));
        assert_eq!(chain.commit(content(8)).await.unwrap(), 3, "applied: {applied}");
        let published: Vec<_> = judge(&store).await.into_iter().map(|d| d.content).collect();
        assert_eq!(published, [None, Some(content(7)), Some(content(8))], "applied: {applied}");
    }
}

#[tokio::test]
async fn access_denied_ends_the_call_at_once_and_the_next_call_goes_on() {
    let (faults, store) = faulty();
    let mut chain = claimed(&store, 1, 1).await;
    faults.clear_calls();
    faults.script(Op::Create, "manifest", 0, Fault::Fail(Cause::Denied));
    let error = chain.commit(content(7)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.class(), error.code()),
        (ErrorKind::Unavailable, Class::Auth, "AKI-0705")
    );
    assert_eq!(faults.calls().len(), 1);
    assert_eq!(chain.commit(content(7)).await.unwrap(), 2);
}

#[tokio::test]
async fn a_damaged_newest_document_is_corrupt_and_never_stepped_over() {
    let (_, store) = faulty();
    let mut chain = claimed(&store, 1, 1).await;
    chain.commit(content(1)).await.unwrap();
    let key = key_of(2);
    let mut bytes = store.get(&key.as_str().into()).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[40] ^= 1;
    store.put(&key.as_str().into(), bytes.into()).await.unwrap();
    let error = Chain::open(client_over(&store, 2)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.file(), error.code()),
        (ErrorKind::Corrupt, Some(key.as_str()), "AKI-0706")
    );
}

#[tokio::test]
async fn an_older_writer_that_publishes_after_our_claim_is_called_out() {
    let (_, store) = faulty();
    let mut new = claimed(&store, 2, 2).await;
    let sealed = read(&client_over(&store, 0), 1).await.unwrap().unwrap();
    let late = Document {
        number: 2,
        parent: Some(Parent { number: 1, crc32: sealed.crc32 }),
        epoch: 1,
        commit: "late".into(),
        ..sealed.document
    };
    store.put(&key_of(2).as_str().into(), encode(&late).0.into()).await.unwrap();
    let error = new.commit(content(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("after epoch 2 had claimed"), "{error}");
}

async fn rivals(store: Arc<dyn ObjectStore>) {
    let mut winners = BTreeMap::new();
    for round in 0..6u64 {
        let mut tasks = Vec::new();
        for i in 0..8u64 {
            let store = Arc::clone(&store);
            tasks.push(tokio::spawn(async move {
                let mut won = Vec::new();
                let writer = u32::try_from(round * 8 + i).unwrap();
                let mut chain = Chain::open(client_over(&store, round * 8 + i)).await.unwrap();
                // Epochs in a mixed order, so that a later claim may be the lower one.
                match chain.claim(identity(round * 8 + (i * 5) % 8, writer)).await {
                    Ok(number) => won.push((number, writer)),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Fenced),
                }
                for n in 0..4 {
                    match chain.commit(content(n)).await {
                        Ok(number) => won.push((number, writer)),
                        Err(error) => {
                            assert!(matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Internal))
                        }
                    }
                }
                won
            }));
        }
        for task in tasks {
            for (number, writer) in task.await.unwrap() {
                assert_eq!(winners.insert(number, writer), None, "number {number} was won twice");
            }
        }
    }
    let documents = judge(&store).await;
    let written: BTreeMap<u64, u32> = documents.iter().map(|d| (d.number, d.writer)).collect();
    assert_eq!(winners, written);
    assert!(documents.windows(2).all(|pair| pair[0].epoch <= pair[1].epoch));
    assert!(documents.len() >= 6 * 5);
}

#[tokio::test]
async fn of_eight_concurrent_committers_exactly_one_wins_each_number_in_memory() {
    rivals(Arc::new(InMemory::new())).await;
}

#[tokio::test]
async fn of_eight_concurrent_committers_exactly_one_wins_each_number_on_a_local_disk() {
    let dir = tempfile::tempdir().unwrap();
    let config = BackendConfig::new("l", dir.path().to_str().unwrap());
    let backend: Backend = crate::open(&config).unwrap();
    rivals(Arc::clone(backend.store())).await;
}
