//! The backend of a world: a store in memory whose calls are steps of the run, are noted, and fail as the weather is.

use std::fmt;
use std::sync::{Arc, Weak};

use akidb::object_store::memory::InMemory;
use akidb::object_store::path::Path;
use akidb::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use akidb_backends::fault::{Cause, FaultStore};
use akidb_host::Rng;
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::machine::World;

/// What a world's backend holds, and how it behaves.
pub(crate) struct Away {
    pub(crate) store: Arc<InMemory>,
    /// The way to it.
    pub(crate) faults: FaultStore,
    /// The store as it was right after each document that nobody has looked at yet.
    pub(crate) published: Vec<Arc<InMemory>>,
    /// Whether it was seen to hold a state of the database.
    pub(crate) holds_any: bool,
}

impl Away {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        let store = Arc::new(InMemory::new());
        let shelf = Shelf { store: Arc::clone(&store), world: Arc::downgrade(world) };
        let faults = FaultStore::new(Arc::new(shelf));
        Self { store, faults, published: Vec::new(), holds_any: false }
    }

    /// What lies there now, by itself.
    pub(crate) fn copy(&self) -> Arc<InMemory> {
        Arc::new(self.store.fork())
    }

    /// How calls go from now on: well, some badly, or none.
    pub(crate) fn change_weather(&self, rng: &mut Rng) {
        self.clear();
        let causes = [Cause::Refused, Cause::Timeout, Cause::Reset, Cause::Denied, Cause::SLOW_DOWN];
        match rng.below(6) {
            0 => self.faults.set_dead(Some(causes[usize::try_from(rng.below(5)).expect("small")])),
            1 => self.faults.set_seeded(rng.u64(), 0.4),
            2 | 3 => self.faults.set_seeded(rng.u64(), 0.08),
            _ => {}
        }
    }

    pub(crate) fn clear(&self) {
        self.faults.set_dead(None);
        self.faults.set_seeded(0, 0.0);
    }
}

/// The store itself: before each call and after each change others come first.
struct Shelf {
    store: Arc<InMemory>,
    world: Weak<World>,
}

impl Shelf {
    async fn meet(&self, op: &str, path: &Path) {
        others().await;
        if let Some(world) = self.world.upgrade() {
            world.meet_store(op, path.as_ref());
        }
    }
}

/// Lets the rest of the machine go on.
async fn others() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[async_trait]
impl ObjectStore for Shelf {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let creates = opts.mode == PutMode::Create;
        self.meet(if creates { "create" } else { "put" }, path).await;
        let put = self.store.put_opts(path, payload, opts).await?;
        if creates && let Some(world) = self.world.upgrade() {
            world.published();
        }
        others().await;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.meet("parts", path).await;
        self.store.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.meet("get", path).await;
        self.store.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (store, world) = (Arc::clone(&self.store), self.world.clone());
        let each = paths.and_then(move |path| {
            let shelf = Self { store: Arc::clone(&store), world: world.clone() };
            async move {
                shelf.meet("delete", &path).await;
                let one = futures::stream::iter([Ok(path.clone())]).boxed();
                shelf.store.delete_stream(one).try_collect::<Vec<_>>().await?;
                Ok(path)
            }
        });
        each.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let shelf = Self { store: Arc::clone(&self.store), world: self.world.clone() };
        let prefix = prefix.cloned();
        let listed = async move {
            shelf.meet("list", prefix.as_ref().unwrap_or(&Path::default())).await;
            let all: Vec<_> = shelf.store.list(prefix.as_ref()).collect().await;
            futures::stream::iter(all)
        };
        listed.flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.meet("list", prefix.unwrap_or(&Path::default())).await;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.meet("copy", to).await;
        self.store.copy_opts(from, to, options).await
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf")
    }
}

impl fmt::Display for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shelf")
    }
}
