//! A store that notes which calls reach it, and which of them a breaker should have kept back.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use akidb::object_store::path::Path;
use akidb::object_store::{
    self, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use akidb_backends::{CallKind, Op};
use akidb_host::Clock;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

/// Whether the breaker of a kind of calls is open now.
type IsOpen = Box<dyn Fn(CallKind) -> bool + Send + Sync>;

/// What was noted, and which calls shall fail.
pub(super) struct Notes {
    clock: Arc<dyn Clock>,
    is_open: OnceLock<IsOpen>,
    first_request: OnceLock<Instant>,
    counting: AtomicBool,
    requests: AtomicU64,
    while_open: AtomicU64,
    /// So many of each hundred calls of a kind fail.
    fail_of_hundred: AtomicU64,
    met: [AtomicU64; 3],
}

impl Notes {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            is_open: OnceLock::new(),
            first_request: OnceLock::new(),
            counting: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            while_open: AtomicU64::new(0),
            fail_of_hundred: AtomicU64::new(0),
            met: Default::default(),
        }
    }

    /// How to ask the breakers; once.
    pub(super) fn ask(&self, is_open: IsOpen) {
        let _ = self.is_open.set(is_open);
    }

    /// Counts from now on, or no more.
    pub(super) fn count(&self, counting: bool) {
        self.counting.store(counting, Ordering::SeqCst);
    }

    /// Lets so many of each hundred calls fail, spread evenly, for each kind of calls apart.
    pub(super) fn fail(&self, of_hundred: u64) {
        self.fail_of_hundred.store(of_hundred, Ordering::SeqCst);
        self.met.iter().for_each(|met| met.store(0, Ordering::SeqCst));
    }

    /// Requests that reached the store while counting.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Those of them whose breaker was open.
    pub(super) fn while_open(&self) -> u64 {
        self.while_open.load(Ordering::SeqCst)
    }

    /// Uploads that reached the store since calls of a kind are made to fail, or since the beginning.
    pub(super) fn uploads(&self) -> u64 {
        self.met[CallKind::Upload as usize].load(Ordering::SeqCst)
    }

    /// When the first of them came.
    pub(super) fn first_request(&self) -> Option<Instant> {
        self.first_request.get().copied()
    }

    fn call(&self, op: Op) -> object_store::Result<()> {
        let kind = CallKind::of(op);
        if self.counting.load(Ordering::SeqCst) {
            let _ = self.first_request.set(self.clock.now());
            self.requests.fetch_add(1, Ordering::SeqCst);
            // A call takes its permit and reaches the store in one step of the uploader's only thread, so what is open
            // here was open when the permit was asked for.
            if self.is_open.get().is_some_and(|is_open| is_open(kind)) {
                self.while_open.fetch_add(1, Ordering::SeqCst);
            }
        }
        let fails = self.fail_of_hundred.load(Ordering::SeqCst);
        let at = self.met[kind as usize].fetch_add(1, Ordering::SeqCst) % 100;
        if (at + 1) * fails / 100 == at * fails / 100 {
            return Ok(());
        }
        let source = Box::new(io::Error::from(io::ErrorKind::ConnectionReset));
        Err(object_store::Error::Generic { store: "drill", source })
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
        let answer = self.notes.call(Op::Put);
        if opts.mode == PutMode::Create {
            answer?;
            return self.inner.put_opts(path, payload, opts).await;
        }
        // Applied, and the answer lost: a failure takes as long as a success, so that no share of successes is still
        // under way while failures are counted already.
        let applied = self.inner.put_opts(path, payload, opts).await;
        answer.and(applied)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.notes.call(Op::Part)?;
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.notes.call(Op::Get)?;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        if let Err(error) = self.notes.call(Op::Delete) {
            return stream::once(async { Err(error) }).boxed();
        }
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        if let Err(error) = self.notes.call(Op::List) {
            return stream::once(async { Err(error) }).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.notes.call(Op::List)?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.notes.call(Op::Put)?;
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
