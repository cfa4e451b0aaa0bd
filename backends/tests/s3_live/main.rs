//! The checks against a live S3 server; `scripts/with-s3` starts one and counts them.
#![cfg(feature = "s3-live")]
#![expect(clippy::unwrap_used, reason = "a check that cannot go on has failed")]

mod doctor;
mod killed;
mod link;
mod speed;
mod suite;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb_backends::{
    Backend, BackendConfig, Class, Client, ErrorKind, FilePlan, Identity, Known, PlanItem, PublishOptions,
    Publisher, Restorer, Secret, TokioSleep, Uploader, UploaderParts, probe,
};
use akidb_host::{Fs, RealClock, RealFs, RealSpawn, Rng};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use tokio::sync::RwLock;

/// Held for reading by every check that needs the server, for writing by the one that kills it.
static SERVER: RwLock<()> = RwLock::const_new(());

/// A missing variable is a failure: a check that did not run must not look like one that passed.
fn variable(name: &str) -> String {
    let name = format!("AKIDB_TEST_S3_{name}");
    std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set; run through scripts/with-s3"))
}

fn config() -> BackendConfig {
    let prefix = format!("test-{:016x}", Rng::from_machine().u64());
    BackendConfig {
        endpoint: Some(variable("ENDPOINT")),
        region: Some(variable("REGION")),
        access_key: Some(variable("ACCESS_KEY_ID")),
        secret_key: Some(Secret::new(variable("SECRET_ACCESS_KEY"))),
        ..BackendConfig::new("live", format!("s3://{}/{prefix}", variable("BUCKET")))
    }
}

fn client(backend: &Backend, seed: u64) -> Client {
    Client::new(backend.clone(), Arc::new(TokioSleep), Rng::seeded(seed))
}

fn real_fs() -> Arc<dyn Fs> {
    Arc::new(RealFs)
}

fn identity(epoch: u64) -> Identity {
    Identity { db_id: "live".into(), epoch, writer: u32::try_from(epoch).unwrap() }
}

fn publisher(backend: &Backend, epoch: u64) -> Publisher {
    let options = PublishOptions { part_len_bytes: 5 << 20, ..PublishOptions::default() };
    Publisher::new(
        client(backend, epoch),
        real_fs(),
        Arc::new(RealClock),
        identity(epoch),
        Known::default(),
        options,
    )
}

fn item(dir: &Path, name: &str, len: usize) -> PlanItem {
    let mut bytes = vec![0; len];
    Rng::seeded(len as u64).fill(&mut bytes);
    let local = dir.join(name);
    std::fs::write(&local, &bytes).unwrap();
    let key = format!("collections/1-x/{name}");
    PlanItem { key, local, len: len as u64, crc32: crc32fast::hash(&bytes), ..PlanItem::default() }
}

fn plan(local_number: u64, items: &[PlanItem]) -> FilePlan {
    FilePlan { local_number, items: items.to_vec(), content: format!("manifest {local_number}\n") }
}

/// Removes everything under the test's prefix, and shows that it is gone.
async fn clean(backend: &Backend) {
    let store = backend.store();
    let paths = store.list(None).map_ok(|meta| meta.location).boxed();
    store.delete_stream(paths).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap(), [], "something was left");
}

#[tokio::test]
async fn the_server_honours_conditional_puts() {
    let _server = SERVER.read().await;
    let backend = akidb_backends::open(&config()).unwrap();
    probe(&client(&backend, 1)).await.unwrap();
    clean(&backend).await;
}

/// Who of sixteen that create the same object at once is told that it did.
async fn race(store: &Arc<dyn ObjectStore>, round: u32) -> Vec<u32> {
    let path = object_store::path::Path::from(format!("race/{round}"));
    let creates = (0..16).map(|n: u32| {
        let (store, path) = (Arc::clone(store), path.clone());
        async move { store.put_opts(&path, n.to_string().into(), PutMode::Create.into()).await.map(|_| n) }
    });
    futures::future::join_all(creates).await.into_iter().filter_map(Result::ok).collect()
}

#[tokio::test]
async fn of_sixteen_racing_creates_exactly_one_wins_each_round() {
    let _server = SERVER.read().await;
    let backend = akidb_backends::open(&config()).unwrap();
    for round in 0..4 {
        let won = race(backend.store(), round).await;
        let path = object_store::path::Path::from(format!("race/{round}"));
        let stored = backend.store().get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        assert_eq!(stored, won[0].to_string());
    }
    clean(&backend).await;
}

#[tokio::test]
async fn plans_are_published_in_one_part_and_in_many_and_come_back_whole() {
    let _server = SERVER.read().await;
    let dir = tempfile::tempdir().unwrap();
    let config = config();
    let backend = akidb_backends::open(&config).unwrap();
    let items = [
        item(dir.path(), "a.parquet", 100_000),
        item(dir.path(), "b.bin", 0),
        item(dir.path(), "c.parquet", 12 << 20),
    ];
    let mut up = publisher(&backend, 1);
    assert_eq!(up.publish(&plan(1, &items[..2])).await.unwrap().remote_number, 2);
    let done = up.publish(&plan(2, &items)).await.unwrap();
    assert_eq!((done.remote_number, done.files_put, done.bytes_put), (3, 1, 12 << 20));
    // This runtime stands still while the restorer works, and with it the connections it opened.
    let restorer = Restorer::new(client(&akidb_backends::open(&config).unwrap(), 9), Arc::new(RealSpawn));
    let document = restorer.newest().unwrap();
    let to = dir.path().join("restored");
    restorer.fetch_all(&document, &real_fs(), &to, |_| {}).unwrap();
    for item in &items {
        assert_eq!(std::fs::read(to.join(&item.key)).unwrap(), std::fs::read(&item.local).unwrap());
    }
    assert_eq!(document.content.unwrap().text, "manifest 2\n");
    clean(&backend).await;
}

#[tokio::test]
async fn the_newer_writer_claims_and_the_older_is_fenced() {
    let _server = SERVER.read().await;
    let backend = akidb_backends::open(&config()).unwrap();
    let (mut old, mut new) = (publisher(&backend, 1), publisher(&backend, 2));
    old.publish(&plan(1, &[])).await.unwrap();
    new.publish(&plan(2, &[])).await.unwrap();
    assert_eq!(old.publish(&plan(3, &[])).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(new.publish(&plan(4, &[])).await.unwrap().remote_number, 5);
    clean(&backend).await;
}

#[tokio::test]
async fn a_sweep_by_the_servers_clock_spares_the_young_and_the_named() {
    let _server = SERVER.read().await;
    let dir = tempfile::tempdir().unwrap();
    let backend = akidb_backends::open(&config()).unwrap();
    let mut up = publisher(&backend, 1);
    up.publish(&plan(1, &[item(dir.path(), "a.parquet", 10)])).await.unwrap();
    backend.store().put(&"collections/1-x/orphan.parquet".into(), "x".into()).await.unwrap();
    let swept = up.sweep("collections", &std::collections::BTreeSet::new(), false).await.unwrap();
    assert_eq!((swept.seen, swept.young, swept.removed.len()), (2, 1, 0));
    clean(&backend).await;
}

#[test]
fn the_uploader_publishes_over_the_network() {
    let _server = SERVER.blocking_read();
    let dir = tempfile::tempdir().unwrap();
    let backend = akidb_backends::open(&config()).unwrap();
    let parts = UploaderParts {
        client: client(&backend, 1),
        fs: real_fs(),
        clock: Arc::new(RealClock),
        identity: identity(1),
        known: Known::default(),
        options: PublishOptions::default(),
        letters: None,
        multiparts: None,
        memory: None,
        sweep: None,
        on_change: None,
        remote_commit_interval: Duration::ZERO,
    };
    let uploader = Uploader::start(&RealSpawn, parts).unwrap();
    let items: Vec<_> = (0..8).map(|n| item(dir.path(), &format!("{n}.parquet"), 1000 + n)).collect();
    for number in 1..=8u32 {
        uploader.offer(plan(u64::from(number), &items[..number as usize]));
    }
    uploader.wait_published(8, Duration::from_secs(60)).unwrap();
    let status = uploader.status();
    assert_eq!((status.pending_files, status.files_put, status.failures), (0, 8, 0));
    uploader.stop();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(clean(&backend));
}

#[tokio::test]
async fn a_wrong_secret_is_one_clear_error_at_once() {
    let _server = SERVER.read().await;
    let config = BackendConfig { secret_key: Some(Secret::new("wrong")), ..config() };
    let backend = akidb_backends::open(&config).unwrap();
    let error = publisher(&backend, 1).claim().await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Unavailable, Class::Auth), "{error}");
    assert!(error.help().contains("access key"));
}

#[tokio::test]
async fn a_missing_bucket_is_one_clear_error_at_once() {
    let _server = SERVER.read().await;
    let config = BackendConfig { url: "s3://akidb-no-such-bucket/p".into(), ..config() };
    let backend = akidb_backends::open(&config).unwrap();
    let error = publisher(&backend, 1).claim().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = BackendConfig { endpoint: Some(format!("http://127.0.0.1:{port}")), ..config() };
    let backend = akidb_backends::open(&config).unwrap();
    let error = publisher(&backend, 1).claim().await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Unavailable, Class::Transient), "{error}");
}
