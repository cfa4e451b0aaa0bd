//! A store in memory whose objects bear the dates of a clock that moves only when told: to a sweep they are as old as they
//! are in the simulated world.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use akidb::object_store::memory::InMemory;
use akidb::object_store::path::Path;
use akidb::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use akidb_host::Clock;
use akidb_host::sim::FakeClock;
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

/// The store. Clones share everything.
#[derive(Clone)]
pub(crate) struct Dated {
    pub(crate) store: Arc<InMemory>,
    /// The server's. No operator sets it.
    pub(crate) clock: Arc<FakeClock>,
    /// When each object was put last, those included that are gone.
    dates: Arc<Mutex<BTreeMap<Path, i64>>>,
}

impl Dated {
    pub(crate) fn new() -> Self {
        Self { store: Arc::default(), clock: Arc::default(), dates: Arc::default() }
    }

    fn date(&self, path: &Path) {
        let mut dates = self.dates.lock().unwrap_or_else(PoisonError::into_inner);
        dates.insert(path.clone(), self.clock.unix_micros());
    }

    /// The same object with its date.
    fn dated(&self, meta: ObjectMeta) -> ObjectMeta {
        let dates = self.dates.lock().unwrap_or_else(PoisonError::into_inner);
        let date = dates.get(&meta.location).copied().unwrap_or_else(|| panic!("{meta:?} was never put"));
        let micros = date - meta.last_modified.timestamp_micros();
        let apart = Duration::from_micros(micros.unsigned_abs());
        let last_modified = if micros < 0 { meta.last_modified - apart } else { meta.last_modified + apart };
        ObjectMeta { last_modified, ..meta }
    }
}

#[async_trait]
impl ObjectStore for Dated {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let put = self.store.put_opts(path, payload, opts).await?;
        self.date(path);
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.date(path);
        self.store.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.store.get_opts(path, options).await?;
        Ok(GetResult { meta: self.dated(got.meta.clone()), ..got })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let dated = self.clone();
        self.store.list(prefix).map_ok(move |meta| dated.dated(meta)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.store.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(|meta| self.dated(meta)).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await?;
        self.date(to);
        Ok(())
    }
}

impl fmt::Debug for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dated")
    }
}

impl fmt::Display for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dated")
    }
}
