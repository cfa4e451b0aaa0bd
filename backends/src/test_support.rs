//! What this crate's tests share: waiting that takes no time, plans over real files, a judge of backends.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb_host::{RealFs, Rng};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::fault::FaultStore;
use crate::numbered::{Document, numbers, read};
use crate::{Backend, Client, FilePlan, Identity, Kind, PlanItem, Sleep};

/// Pauses take no time; a call that is not answered at once is over its deadline if `impatient`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NoSleep {
    pub(crate) impatient: bool,
}

impl Sleep for NoSleep {
    fn pause(&self, _: Duration) -> BoxFuture<'static, ()> {
        tokio::task::yield_now().boxed()
    }

    fn deadline(&self, _: Duration) -> BoxFuture<'static, ()> {
        if self.impatient { std::future::ready(()).boxed() } else { std::future::pending().boxed() }
    }
}

pub(crate) fn client_of(backend: Backend, seed: u64) -> Client {
    Client::new(backend, Arc::new(NoSleep::default()), Rng::seeded(seed))
}

pub(crate) fn client_over(store: &Arc<dyn ObjectStore>, seed: u64) -> Client {
    client_of(Backend::from_store("t", Arc::clone(store)), seed)
}

/// A client of a store whose kind says that a checksum travels with the request (no reading back).
pub(crate) fn client_like_s3(store: &Arc<dyn ObjectStore>, seed: u64) -> Client {
    let config = crate::BackendConfig::new("t", "s3://bucket");
    client_of(Backend::assemble(&config, Kind::S3, Arc::clone(store)), seed)
}

pub(crate) fn faulty() -> (FaultStore, Arc<dyn ObjectStore>) {
    let store = FaultStore::new(Arc::new(InMemory::new()));
    (store.clone(), Arc::new(store))
}

pub(crate) fn identity(epoch: u64, writer: u32) -> Identity {
    Identity { db_id: "db-1".into(), epoch, writer }
}

pub(crate) fn real_fs() -> Arc<dyn akidb_host::Fs> {
    Arc::new(RealFs)
}

/// Writes a file of random bytes below `dir` and returns its item.
pub(crate) fn item(dir: &Path, name: &str, len: usize, rng: &mut Rng) -> PlanItem {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    let local = dir.join(name);
    std::fs::write(&local, &bytes).unwrap();
    let key = format!("collections/1-x/{name}");
    let crc32 = crc32fast::hash(&bytes);
    PlanItem { key, local, len: len as u64, crc32, ..PlanItem::default() }
}

pub(crate) fn plan(local_number: u64, items: &[PlanItem]) -> FilePlan {
    let content = format!("manifest {local_number}: \"{}\"\n{{\"crc32\":\"…\"}}\n", items.len());
    FilePlan { local_number, items: items.to_vec(), content }
}

/// Every document of a store, after checking that numbers are dense from 1, that each follows its parent and
/// that every file each names is there with its length and checksum.
pub(crate) async fn judge(store: &Arc<dyn ObjectStore>) -> Vec<Document> {
    let client = client_over(store, 0);
    let mut found = numbers(&client).await.unwrap();
    found.sort_unstable();
    assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>(), "numbers are not dense");
    let mut documents = Vec::new();
    let mut crc_before = None;
    let mut seen = BTreeMap::new();
    for number in found {
        let sealed = read(&client, number).await.unwrap().unwrap();
        assert_eq!(sealed.document.parent.map(|parent| parent.crc32), crc_before, "document {number}");
        crc_before = Some(sealed.crc32);
        for file in sealed.document.content.iter().flat_map(|content| &content.files) {
            let expected = (file.len, file.crc32);
            if seen.get(&file.key) == Some(&expected) {
                continue;
            }
            let bytes = store.get(&file.key.as_str().into()).await.unwrap().bytes().await.unwrap();
            assert_eq!(
                (bytes.len() as u64, crc32fast::hash(&bytes)),
                expected,
                "document {number}: {}",
                file.key
            );
            seen.insert(file.key.clone(), expected);
        }
        documents.push(sealed.document);
    }
    documents
}
