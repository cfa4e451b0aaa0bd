//! The backend of a world: a store in memory whose calls are steps of the run, are noted, and fail as the weather is.

use std::fmt;
use std::sync::{Arc, Weak};

use akidb::object_store::memory::InMemory;
use akidb::object_store::path::Path;
use akidb::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use akidb_backends::fault::{Cause, Fault, FaultStore};
use akidb_host::Rng;
use akidb_host::sim::FakeClock;
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::dated::Dated;
use super::world::World;

/// Calls of which one never answers, where any does.
const CALLS_TO_A_HANG: u64 = 40;

/// What a world's backend holds, and how it behaves.
pub(crate) struct Away {
    pub(crate) store: Arc<InMemory>,
    /// By which its objects are dated. It goes with that of the machine, but nobody sets it.
    pub(crate) clock: Arc<FakeClock>,
    /// The way to it.
    pub(crate) faults: FaultStore,
    /// The changes that nobody has looked at yet.
    pub(crate) changed: Vec<Changed>,
    /// The number of the newest document.
    pub(crate) newest: u64,
    /// Whether it was seen to hold a state of the database.
    pub(crate) holds_any: bool,
}

/// The store as it was right after a change.
pub(crate) struct Changed {
    pub(crate) store: Arc<InMemory>,
    /// A document was created, or else something was removed.
    pub(crate) is_published: bool,
}

impl Away {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        let dated = Dated::new();
        let (store, clock) = (Arc::clone(&dated.store), Arc::clone(&dated.clock));
        let faults = FaultStore::new(Arc::new(Shelf { store: dated, world: Arc::downgrade(world) }));
        Self { store, clock, faults, changed: Vec::new(), newest: 0, holds_any: false }
    }

    /// What lies there now, by itself.
    pub(crate) fn copy(&self) -> Arc<InMemory> {
        Arc::new(self.store.fork())
    }

    /// Calls that never answered.
    pub(crate) fn hangs(&self) -> u64 {
        self.faults.calls().iter().filter(|call| call.fault == Some(Fault::Hang)).count() as u64
    }
}

/// The number of a remote document, by its key.
pub(crate) fn document_number(key: &str) -> Option<u64> {
    key.strip_prefix("manifest/")?.strip_suffix(".json")?.parse().ok()
}

/// How calls go from now on: well, some badly, or none; and one of them may never answer.
pub(crate) fn change_weather(faults: &FaultStore, rng: &mut Rng) {
    clear(faults);
    let causes = [Cause::Refused, Cause::Timeout, Cause::Reset, Cause::Denied, Cause::SLOW_DOWN];
    match rng.below(6) {
        0 => faults.set_dead(Some(causes[usize::try_from(rng.below(5)).expect("small")])),
        1 => faults.set_seeded(rng.u64(), 0.4),
        2 | 3 => faults.set_seeded(rng.u64(), 0.08),
        _ => {}
    }
    if rng.below(2) == 0 {
        faults.script_call(usize::try_from(rng.below(CALLS_TO_A_HANG)).expect("small"), Fault::Hang);
    }
}

/// Calls go well, but for one that may never answer.
pub(crate) fn clear(faults: &FaultStore) {
    faults.set_dead(None);
    faults.set_seeded(0, 0.0);
}

/// The store itself: before each call and after each change others come first.
struct Shelf {
    store: Dated,
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
            world.created(path.as_ref());
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
        let (store, world) = (self.store.clone(), self.world.clone());
        let each = paths.and_then(move |path| {
            let shelf = Self { store: store.clone(), world: world.clone() };
            async move {
                shelf.meet("delete", &path).await;
                let one = futures::stream::iter([Ok(path.clone())]).boxed();
                shelf.store.delete_stream(one).try_collect::<Vec<_>>().await?;
                if let Some(world) = shelf.world.upgrade() {
                    world.removed(path.as_ref());
                }
                Ok(path)
            }
        });
        each.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let shelf = Self { store: self.store.clone(), world: self.world.clone() };
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
