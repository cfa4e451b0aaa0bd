//! Plans under faults: whatever happens, every remote document tells the truth.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use akidb_host::{Clock, RealClock, RealSpawn, Rng};
use object_store::ObjectStoreExt;

use super::*;
use crate::class::Op;
use crate::fault::{Cause, Fault, FaultStore};
use crate::test_support::{client_like_s3, client_over, faulty, identity, item, judge, plan, real_fs};
use crate::{BackendConfig, Class, ErrorKind, Restorer};

fn publisher(client: Client, epoch: u64) -> Publisher {
    let options = PublishOptions { part_len_bytes: 4096, ..PublishOptions::default() };
    let writer = u32::try_from(epoch).unwrap();
    Publisher::new(client, real_fs(), Arc::new(RealClock), identity(epoch, writer), Known::default(), options)
}

fn puts(faults: &FaultStore) -> usize {
    faults.calls().iter().filter(|call| call.op == Op::Put).count()
}

#[tokio::test]
async fn a_plan_is_put_verified_and_named_and_a_second_plan_puts_only_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(1);
    let (faults, store) = faulty();
    let mut up = publisher(client_over(&store, 1), 1);
    let mut items =
        vec![item(dir.path(), "a.parquet", 1000, &mut rng), item(dir.path(), "b.bin", 0, &mut rng)];
    let done = up.publish(&plan(5, &items)).await.unwrap();
    assert_eq!((done.local_number, done.remote_number, done.files_put, done.bytes_put), (5, 2, 2, 1000));
    items.push(item(dir.path(), "c.parquet", 10, &mut rng));
    faults.clear_calls();
    assert_eq!(up.publish(&plan(6, &items)).await.unwrap().files_put, 1);
    assert_eq!(puts(&faults), 1);
    // The same plan again is there already: not one request.
    faults.clear_calls();
    assert_eq!(up.publish(&plan(6, &items)).await.unwrap().remote_number, 3);
    assert_eq!(faults.calls(), []);
    let documents = judge(&store).await;
    assert_eq!(documents[2].content.as_ref().unwrap().text, plan(6, &items).content);
}

#[tokio::test]
async fn a_reopen_takes_what_is_uploaded_from_the_newest_document_and_a_restart_mid_plan_finishes() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(2);
    let (faults, store) = faulty();
    let items: Vec<_> = (0..6).map(|n| item(dir.path(), &format!("{n}.parquet"), 500, &mut rng)).collect();
    let mut first = publisher(client_over(&store, 1), 1);
    first.publish(&plan(1, &items[..3])).await.unwrap();
    for _ in 0..3 {
        faults.script(Op::Put, "5.parquet", 0, Fault::Fail(Cause::Reset));
    }
    first.publish(&plan(2, &items)).await.unwrap_err();
    let saved = first.known().lock().unwrap().to_json();
    drop(first);
    faults.clear_calls();
    let mut second = publisher(client_over(&store, 2), 2);
    *second.known().lock().unwrap() = Known::from_json(&saved);
    second.publish(&plan(2, &items)).await.unwrap();
    let put_again: Vec<_> = faults.calls().into_iter().filter(|c| c.op == Op::Put).map(|c| c.key).collect();
    assert_eq!(put_again, ["collections/1-x/5.parquet"], "the others were verified before");
    judge(&store).await;
}

#[tokio::test]
async fn chaos_bit_flip_in_the_local_file_nothing_is_put_and_nothing_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(3);
    for len in [1000, 20_000] {
        let (faults, store) = faulty();
        let mut up = publisher(client_over(&store, 1), 1);
        let bad = item(dir.path(), "a.parquet", len, &mut rng);
        let mut bytes = std::fs::read(&bad.local).unwrap();
        bytes[len / 2] ^= 4;
        std::fs::write(&bad.local, bytes).unwrap();
        let error = up.publish(&plan(1, std::slice::from_ref(&bad))).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.class(), error.code()),
            (ErrorKind::Corrupt, Class::Local, "AKI-0707")
        );
        assert!(error.file().unwrap().ends_with("a.parquet"), "{error}");
        assert_eq!(puts(&faults), 0);
        assert!(store.head(&bad.key.as_str().into()).await.is_err(), "nothing is visible under its key");
        std::fs::write(&bad.local, vec![0; 7]).unwrap();
        let error = up.publish(&plan(1, std::slice::from_ref(&bad))).await.unwrap_err();
        assert_eq!((error.class(), error.offset()), (Class::Local, Some(7)));
        std::fs::remove_file(&bad.local).unwrap();
        let error = up.publish(&plan(1, std::slice::from_ref(&bad))).await.unwrap_err();
        assert_eq!(error.class(), Class::Local);
        assert_eq!(judge(&store).await.len(), 1, "the claim only");
    }
}

#[tokio::test]
async fn chaos_bit_flip_in_the_body_is_seen_and_put_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(4);
    let (faults, store) = faulty();
    let mut up = publisher(client_over(&store, 1), 1);
    let items = [item(dir.path(), "a.parquet", 3000, &mut rng)];
    faults.script(Op::Put, "a.parquet", 0, Fault::Flip);
    up.publish(&plan(1, &items)).await.unwrap();
    assert_eq!(puts(&faults), 2);
    judge(&store).await;
    // Damaged every time: an error, never a name.
    let items = [item(dir.path(), "b.parquet", 3000, &mut rng)];
    for _ in 0..3 {
        faults.script(Op::Put, "b.parquet", 0, Fault::Flip);
    }
    let error = up.publish(&plan(2, &items)).await.unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Corrupt, Some("collections/1-x/b.parquet")));
    assert_eq!(judge(&store).await.len(), 2);
}

#[tokio::test]
async fn on_s3_the_size_and_the_last_bytes_are_verified() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(5);
    let (faults, store) = faulty();
    let mut up = publisher(client_like_s3(&store, 1), 1);
    // 10 bytes, so that the flipped middle lies in the tail.
    let items = [item(dir.path(), "a.parquet", 10, &mut rng), item(dir.path(), "b.parquet", 9000, &mut rng)];
    faults.script(Op::Put, "a.parquet", 0, Fault::Flip);
    up.publish(&plan(1, &items)).await.unwrap();
    assert_eq!(puts(&faults), 2);
    assert_eq!(
        faults.calls().iter().filter(|c| c.op == Op::Part).count(),
        1 + 3,
        "9,000 bytes go in three parts"
    );
    judge(&store).await;
}

#[tokio::test]
async fn a_multipart_completion_whose_answer_was_lost_is_found_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(6);
    for cause in [Cause::NotFound, Cause::Reset, Cause::Timeout] {
        let (faults, store) = faulty();
        let mut up = publisher(client_over(&store, 1), 1);
        let items = [item(dir.path(), "a.parquet", 9000, &mut rng)];
        faults.script(Op::Complete, "", 0, Fault::ApplyThenFail(cause));
        up.publish(&plan(1, &items)).await.unwrap();
        assert_eq!(faults.calls().iter().filter(|c| c.op == Op::Complete).count(), 1, "{cause:?}");
        judge(&store).await;
        let items = [item(dir.path(), "b.parquet", 9000, &mut rng)];
        faults.script(Op::Complete, "", 0, Fault::Fail(Cause::Reset));
        faults.script(Op::Part, "", 2, Fault::Fail(Cause::Reset));
        up.publish(&plan(2, &items)).await.unwrap();
        judge(&store).await;
    }
}

#[tokio::test]
async fn after_every_document_of_seeded_faults_restarts_and_retargets_all_named_files_are_there_and_right() {
    let base = std::env::var("AKIDB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in base..base + 40 {
        println!("AKIDB_SEED={seed}");
        let dir = tempfile::tempdir().unwrap();
        let mut rng = Rng::seeded(seed);
        let (faults, store) = faulty();
        let (mut items, mut epoch, mut published) = (Vec::new(), 1, BTreeSet::new());
        let mut up = publisher(client_over(&store, seed), epoch);
        for number in 1..12u64 {
            for n in 0..rng.below(3) {
                let len = usize::try_from(rng.below(9000)).unwrap();
                items.push(item(dir.path(), &format!("{number}-{n}.parquet"), len, &mut rng));
            }
            if items.len() > 2 && rng.below(3) == 0 {
                // Compacted away: later plans do not name it.
                items.remove(0);
            }
            faults.set_seeded(rng.u64(), 0.25);
            let plan = plan(number, &items);
            if up.publish(&plan).await.is_ok() {
                published.insert(number);
            }
            if rng.below(4) == 0 {
                epoch += 1;
                up = publisher(client_over(&store, rng.u64()), epoch);
            }
            faults.set_seeded(0, 0.0);
            let documents = judge(&store).await;
            for content in documents.iter().filter_map(|document| document.content.as_ref()) {
                assert!(content.local_number <= number);
            }
            let newest = documents.last().and_then(|d| d.content.as_ref()).map(|c| c.local_number);
            assert!(newest >= published.last().copied(), "seed {seed}: an acknowledged plan is gone");
        }
        let last = plan(99, &items);
        up.publish(&last).await.unwrap();
        let documents = judge(&store).await;
        assert_eq!(documents.last().unwrap().content, Some(last.content()), "seed {seed}");
    }
}

#[tokio::test]
async fn a_fenced_publisher_leaves_the_rival_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(7);
    let (_, store) = faulty();
    let items = [item(dir.path(), "a.parquet", 100, &mut rng), item(dir.path(), "b.parquet", 100, &mut rng)];
    let mut old = publisher(client_over(&store, 1), 1);
    old.publish(&plan(1, &items[..1])).await.unwrap();
    let mut new = publisher(client_over(&store, 2), 2);
    new.publish(&plan(2, &items[..1])).await.unwrap();
    let before = judge(&store).await.len();
    assert_eq!(old.publish(&plan(3, &items)).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(old.publish(&plan(4, &items)).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(
        old.sweep("collections", &BTreeSet::new(), false).await.unwrap_err().kind(),
        ErrorKind::Fenced
    );
    assert_eq!(judge(&store).await.len(), before);
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_by_the_setting_that_overrides() {
    let (faults, store) = faulty();
    faults.set_lying(true);
    let error = publisher(client_over(&store, 1), 1).claim().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("single_writer_unchecked = true"), "{error}");
    assert!(faults.calls().iter().all(|call| call.key.starts_with("probe/")), "nothing else was touched");
    assert!(faults.calls().len() <= 4);
    let config = BackendConfig { single_writer_unchecked: true, ..BackendConfig::new("t", "x") };
    let backend = crate::Backend::assemble(&config, crate::Kind::Custom, Arc::clone(&store));
    let client = Client::new(backend, client_over(&store, 1).sleep().clone(), Rng::seeded(1));
    publisher(client, 1).claim().await.unwrap();
}

/// A wall clock set by hand.
#[derive(Debug, Default)]
struct WallClock(AtomicI64);

impl Clock for WallClock {
    fn now(&self) -> Instant {
        RealClock.now()
    }

    fn unix_micros(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_file_verified_half_a_grace_ago_is_looked_at_again_before_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(8);
    let (faults, store) = faulty();
    let clock = Arc::new(WallClock::default());
    let options = PublishOptions { gc_grace: Duration::from_secs(100), ..PublishOptions::default() };
    let client = client_over(&store, 1);
    let mut up = Publisher::new(client, real_fs(), clock.clone(), identity(1, 1), Known::default(), options);
    let items = [item(dir.path(), "a.parquet", 100, &mut rng), item(dir.path(), "b.parquet", 100, &mut rng)];
    up.claim().await.unwrap();
    faults.script(Op::Create, "manifest", 0, Fault::Fail(Cause::Denied));
    up.publish(&plan(1, &items)).await.unwrap_err();
    // A sweep elsewhere takes one of the two; nothing names it yet.
    store.delete(&items[0].key.as_str().into()).await.unwrap();
    clock.0.store(50_000_000, Ordering::Relaxed);
    assert_eq!(up.publish(&plan(1, &items)).await.unwrap().files_put, 1);
    judge(&store).await;
}

#[tokio::test]
async fn a_sweep_takes_only_old_objects_that_no_kept_document_and_no_plan_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(9);
    let (_, store) = faulty();
    let items: Vec<_> = (0..4).map(|n| item(dir.path(), &format!("{n}.parquet"), 50, &mut rng)).collect();
    let options = PublishOptions { gc_grace: Duration::ZERO, ..PublishOptions::default() };
    let client = client_over(&store, 1);
    let mut up =
        Publisher::new(client, real_fs(), Arc::new(RealClock), identity(1, 1), Known::default(), options);
    up.publish(&plan(1, &items[..2])).await.unwrap();
    up.publish(&plan(2, &items[1..3])).await.unwrap();
    for key in ["collections/1-x/orphan.parquet", "collections/1-x/3.parquet"] {
        store.put(&key.into(), "x".into()).await.unwrap();
    }
    // A claim that died between its requests leaves one; the uploader's own stays.
    for key in ["probe/0123456789abcdef", "probe/alive"] {
        store.put(&key.into(), "x".into()).await.unwrap();
    }
    let pinned = BTreeSet::from(["collections/1-x/3.parquet".to_owned()]);
    let dry = up.sweep("collections", &pinned, true).await.unwrap();
    assert_eq!((dry.seen, dry.removed.len()), (5, 2));
    assert_eq!(dry.removed, ["collections/1-x/orphan.parquet", "probe/0123456789abcdef"]);
    assert!(store.head(&"collections/1-x/orphan.parquet".into()).await.is_ok());
    up.options.gc_grace = Duration::from_secs(3600);
    assert_eq!(up.sweep("collections", &pinned, false).await.unwrap().young, 1);
    up.options.gc_grace = Duration::ZERO;
    assert_eq!(up.sweep("collections", &pinned, false).await.unwrap(), dry);
    assert!(store.head(&"collections/1-x/orphan.parquet".into()).await.is_err());
    assert!(store.head(&"probe/0123456789abcdef".into()).await.is_err());
    assert!(store.head(&"probe/alive".into()).await.is_ok());
    judge(&store).await;
}

#[test]
fn a_restore_brings_every_file_back_and_refuses_what_is_not_right() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(10);
    let (_, store) = faulty();
    let restorer = Restorer::new(client_over(&store, 3), Arc::new(RealSpawn));
    assert_eq!(restorer.newest().unwrap_err().kind(), ErrorKind::NotFound);
    let items = vec![item(dir.path(), "a.parquet", 5000, &mut rng), item(dir.path(), "b.bin", 0, &mut rng)];
    let runtime = crate::restore::runtime("t").unwrap();
    let mut up = publisher(client_over(&store, 1), 1);
    runtime.block_on(up.claim()).unwrap();
    assert_eq!(restorer.newest().unwrap_err().kind(), ErrorKind::NotFound, "claimed, nothing published");
    runtime.block_on(up.publish(&plan(1, &items))).unwrap();
    let to = dir.path().join("restored");
    let document = restorer.newest().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    restorer
        .fetch_all(&document, &real_fs(), &to, move |file| tell.lock().unwrap().push(file.key.clone()))
        .unwrap();
    for item in &items {
        assert_eq!(std::fs::read(to.join(&item.key)).unwrap(), std::fs::read(&item.local).unwrap());
    }
    assert_eq!(told.lock().unwrap().len(), 2);
    assert_eq!(document.content.unwrap().text, plan(1, &items).content);
    assert_eq!(restorer.numbers().unwrap(), [1, 2]);
    assert_eq!(restorer.document(9).unwrap_err().kind(), ErrorKind::NotFound);
    // A damaged, a short and a missing object.
    let key = Path::new(&items[0].key);
    let file = plan(1, &items).content().files[0].clone();
    for bytes in [Some(vec![7; 5000]), Some(vec![7; 10]), Some(vec![7; 6000]), None] {
        let path = file.key.as_str().into();
        match bytes.clone() {
            Some(bytes) => drop(runtime.block_on(store.put(&path, bytes.into())).unwrap()),
            None => runtime.block_on(store.delete(&path)).unwrap(),
        }
        let to = dir.path().join("again").join(key);
        let error = restorer.download(&file, &real_fs(), &to).unwrap_err();
        let kind = if bytes.is_some() { ErrorKind::Corrupt } else { ErrorKind::NotFound };
        assert_eq!((error.kind(), error.file()), (kind, Some(file.key.as_str())), "{error}");
        assert!(!to.exists(), "nothing stands under the final name");
    }
    // What is there and right is not asked for again.
    restorer.download(&file, &real_fs(), &to.join(key)).unwrap();
}

#[tokio::test]
async fn a_restore_may_be_called_inside_a_runtime() {
    let (_, store) = faulty();
    let restorer = Restorer::new(client_over(&store, 3), Arc::new(RealSpawn));
    assert_eq!(restorer.newest().unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_call_that_is_never_answered_ends_at_its_deadline() {
    let (faults, store) = faulty();
    let backend = crate::Backend::from_store("t", Arc::clone(&store));
    let impatient = Arc::new(crate::test_support::NoSleep { impatient: true });
    let client = Client::new(backend, impatient, Rng::seeded(1));
    let mut up = publisher(client, 1);
    up.claim().await.unwrap();
    faults.script(Op::Create, "manifest", 0, Fault::Hang);
    up.publish(&plan(1, &[])).await.unwrap();
    assert_eq!(judge(&store).await.len(), 2);
}
