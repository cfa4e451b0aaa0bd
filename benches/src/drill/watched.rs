//! A store that notes which calls reach it, and which of them a breaker should have kept back.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use akidb::object_store::path::Path;
use akidb::object_store::{
    self, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use akidb_backends::{CallKind, Op};
use async_trait::async_trait;
use futures::stream::BoxStream;

/// Whether the breaker of a kind of calls is open now.
type IsOpen = Box<dyn Fn(CallKind) -> bool + Send + Sync>;

/// What was noted.
#[derive(Default)]
pub(super) struct Notes {
    is_open: OnceLock<IsOpen>,
    counting: AtomicBool,
    requests: AtomicU64,
    while_open: AtomicU64,
}

impl Notes {
    /// How to ask the breakers; once.
    pub(super) fn ask(&self, is_open: IsOpen) {
        let _ = self.is_open.set(is_open);
    }

    /// Counts from now on, or no more.
    pub(super) fn count(&self, counting: bool) {
        self.counting.store(counting, Ordering::SeqCst);
    }

    /// Requests that reached the store while counting.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Those of them whose breaker was open.
    pub(super) fn while_open(&self) -> u64 {
        self.while_open.load(Ordering::SeqCst)
    }

    fn call(&self, op: Op) {
        if !self.counting.load(Ordering::SeqCst) {
            return;
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        // A call takes its permit and reaches the store in one step of the uploader's only thread, so what is open here
        // was open when the permit was asked for.
        if self.is_open.get().is_some_and(|is_open| is_open(CallKind::of(op))) {
            self.while_open.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A store under watch.
pub(super) struct Watched<T> {
    pub(super) inner: T,
    pub(super) notes: Arc<Notes>,
}

#[async_trait]
impl<T: ObjectStore> ObjectStore for Watched<T> {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.notes.call(Op::Put);
        self.inner.put_opts(path, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.notes.call(Op::Part);
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.notes.call(Op::Get);
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.notes.call(Op::Delete);
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.notes.call(Op::List);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.notes.call(Op::List);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.notes.call(Op::Put);
        self.inner.copy_opts(from, to, options).await
    }
}

impl<T: fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({:?})", self.inner)
    }
}

impl<T: fmt::Display> fmt::Display for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
