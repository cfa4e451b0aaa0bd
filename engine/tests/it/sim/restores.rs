//! What a backend holds, seen from another machine: each document restores the database as one of its manifests had it,
//! with each collection at its `flushed_lsn`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use akidb::object_store::memory::InMemory;
use akidb::object_store::{ObjectStore, ObjectStoreExt};
use akidb::{ErrorKind, Lsn, Settings, restore_on};
use akidb_backends::{Backend, Client, Document, Restorer, TokioSleep};
use akidb_host::sim::{CrashDisk, InlineSpawn};
use akidb_host::{Fs, Rng, read_file};
use futures::FutureExt;
use serde_json::Value;

use super::machine::{DIR, Machine};
use super::rows::Scale;
use super::truth::{Tables, Truth, difference, differs, read};

/// What a restore is, and up to where each of its collections goes.
pub(crate) struct Restored {
    pub(crate) tables: Tables,
    flushed: BTreeMap<String, Lsn>,
}

/// Restores onto an empty disk. None if nothing was published yet.
pub(crate) fn restored(store: &Arc<InMemory>, scale: Scale, rng: &mut Rng) -> Option<Restored> {
    let disk = CrashDisk::new(rng.u64());
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let store: Arc<dyn ObjectStore> = Arc::clone(store) as _;
    let report = match restore_on(Arc::clone(&fs), store, DIR) {
        Ok(report) => report,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => panic!("what was published cannot be restored: {error}"),
    };
    let manifest = Path::new(DIR).join(format!("manifest/{:020}.json", report.manifest));
    let bytes = read_file(&*fs, &manifest).expect("a restore leaves a manifest");
    let mut documents = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
    let manifest = documents.next().expect("its first line").expect("JSON");
    let flushed = |collection: &Value| {
        let (name, lsn) = (collection["name"].as_str()?, collection["flushed_lsn"].as_str()?);
        Some((name.to_owned(), lsn.parse().ok()?))
    };
    let collections = manifest["collections"].as_array().expect("a list");
    let flushed = collections.iter().map(|c| flushed(c).expect("a name and an LSN")).collect();
    let db = Machine::plain(disk, rng).look(&Settings::default()).expect("a restored database opens");
    Some(Restored { tables: read(&db, scale).expect("a restored database is read"), flushed })
}

impl Restored {
    /// Each collection is what it was at its `flushed_lsn`.
    pub(crate) fn check(&self, truth: &Truth) {
        assert!(self.flushed.keys().eq(self.tables.keys()), "a manifest is restored whole");
        for (name, lsn) in &self.flushed {
            let wrong = differs(&truth.ever_at(name, *lsn), &self.tables[name]);
            assert!(wrong.is_none(), "{name} was restored at {lsn}:\n{}", wrong.unwrap_or_default());
        }
    }

    pub(crate) fn is(&self, tables: &Tables) {
        let wrong = difference(tables, &self.tables);
        assert!(wrong.is_empty(), "all was uploaded, and a restore is something else:\n{wrong}");
    }
}

/// Every document that is kept, oldest first: each follows on the one before, but where a removal in between did not go
/// through for all.
pub(crate) fn documents(store: &Arc<InMemory>) -> Vec<Document> {
    let backend = Backend::from_store("copies", Arc::clone(store) as _);
    let client = Client::new(backend, Arc::new(TokioSleep), Rng::seeded(1));
    let restorer = Restorer::new(client, Arc::new(InlineSpawn::default()));
    let numbers = restorer.numbers().expect("the store answers");
    let mut documents: Vec<Document> = Vec::new();
    for number in numbers {
        let document = match restorer.document(number) {
            Ok(document) => document,
            // A claim of a backend on which nothing was published yet.
            Err(error) if error.kind() == akidb_backends::ErrorKind::NotFound => continue,
            Err(error) => panic!("document {number}: {error}"),
        };
        if let Some(before) = documents.last() {
            assert_eq!(before.db_id, document.db_id);
            assert!(before.epoch <= document.epoch, "document {number} is of an older writer");
            assert!(before.epoch < document.epoch || before.writer == document.writer);
            let parent = document.parent.expect("the first alone has none").number;
            assert!(before.number <= parent, "document {number} is beside its parent");
        }
        documents.push(document);
    }
    documents
}

fn local_number(document: &Document) -> u64 {
    document.content.as_ref().map_or(0, |content| content.local_number)
}

/// The files that a document names.
pub(crate) fn files(document: Option<&Document>) -> BTreeMap<String, (u64, u32)> {
    let content = document.and_then(|document| document.content.as_ref());
    let files = content.map(|content| content.files.as_slice()).unwrap_or_default();
    files.iter().map(|file| (file.key.clone(), (file.len, file.crc32))).collect()
}

/// Length and checksum of an object.
pub(crate) fn object(store: &Arc<InMemory>, key: &str) -> Option<(u64, u32)> {
    let path = key.into();
    let get = async { store.get(&path).await.ok()?.bytes().await.ok() };
    let bytes = get.now_or_never().expect("what is in memory is there at once")?;
    Some((bytes.len() as u64, crc32fast::hash(&bytes)))
}

/// Every document is whole, of one line of manifests, and so is what it names.
pub(crate) fn check_all(store: &Arc<InMemory>) {
    let (mut newest, mut seen) = (0, BTreeMap::new());
    for document in documents(store) {
        assert!(local_number(&document) >= newest, "document {} goes back", document.number);
        newest = local_number(&document);
        for (key, file) in files(Some(&document)) {
            let found = *seen.entry(key.clone()).or_insert_with(|| object(store, &key));
            assert_eq!(found, Some(file), "document {} names {key}", document.number);
        }
    }
}
