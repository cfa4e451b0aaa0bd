//! A store behind a guard, and itself a store: every call to it takes one permit and settles it.
//!
//! A get is settled at the end of its body, a list page by page, a bulk delete batch by batch, a multipart upload part
//! by part. What a call means for the guard is decided by the type of its error, never by its words. Deadlines are set
//! here too: a call that is not answered in time counts as a failure, one that its caller drops as cancelled.

mod body;
mod listing;
mod parts;
mod upload;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result,
};

use crate::class::Op;
use crate::guard::{Guard, Held, timed_out};
use crate::limiter::Share;
use crate::retry::Schedule;
use body::Body;
use listing::Listing;
pub(crate) use parts::GuardedParts;
use upload::GuardedUpload;

/// Objects removed by one call; also what one S3 request takes.
const DELETE_BATCH: usize = 1_000;
/// Calls whose answer takes the server as long as this many bytes would.
const BATCH_LEN_BYTES: u64 = 16 << 20;
const COMPLETE_LEN_BYTES: u64 = 64 << 20;

/// A store whose calls pass the gates of a [`Guard`]. Cloning is cheap; clones share store and guard.
///
/// A call that the breaker refuses fails at once with [`crate::Held`] among its error's sources and sends nothing. The
/// body of a get holds its place among the calls under way until it is read to its end or dropped.
pub struct GuardedStore<T> {
    inner: Arc<T>,
    guard: Arc<Guard>,
    share: Share,
}

impl<T> Clone for GuardedStore<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), guard: Arc::clone(&self.guard), share: self.share }
    }
}

impl<T: ObjectStore> GuardedStore<T> {
    /// Puts a store behind a guard. The store's own retries should be off: one call is meant to be one attempt.
    #[must_use]
    pub fn new(inner: T, guard: Arc<Guard>) -> Self {
        Self { inner: Arc::new(inner), guard, share: Share::Foreground }
    }

    /// The same store for work that can wait: it gets a quarter of the places at most.
    #[must_use]
    pub fn background(&self) -> Self {
        Self { share: Share::Background, ..self.clone() }
    }

    /// Its guard.
    #[must_use]
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// One call that moves `len` bytes and whose answer is its end.
    async fn call<R>(
        &self,
        op: Op,
        len: u64,
        limit: Duration,
        call: impl Future<Output = Result<R>>,
    ) -> Result<R> {
        let pass = self.guard.enter(op, len, self.share).await?;
        let answer = self.guard.within(limit, call).await;
        pass.end(answer.as_ref().map(|_| ()));
        answer
    }
}

#[async_trait]
impl<T: ObjectStore> ObjectStore for GuardedStore<T> {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let op = if opts.mode == PutMode::Overwrite { Op::Put } else { Op::Create };
        let len = payload.content_length() as u64;
        self.call(op, len, Schedule::deadline(len), self.inner.put_opts(path, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let start = self.inner.put_multipart_opts(path, opts);
        let inner = self.call(Op::Part, 0, Schedule::deadline(0), start).await?;
        Ok(Box::new(GuardedUpload { inner, guard: Arc::clone(&self.guard), share: self.share }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            return self.call(Op::Head, 0, Schedule::deadline(0), self.inner.get_opts(path, options)).await;
        }
        let pass = self.guard.enter(Op::Get, 0, self.share).await?;
        let answer = self.guard.within(Schedule::deadline(0), self.inner.get_opts(path, options)).await;
        let mut result = match answer {
            Ok(result) => result,
            Err(error) => {
                pass.end(Err(&error));
                return Err(error);
            }
        };
        let len = result.range.end.saturating_sub(result.range.start);
        result.payload = match result.payload {
            GetResultPayload::Stream(chunks) => {
                GetResultPayload::Stream(Body::new(chunks, pass, Arc::clone(&self.guard), len).boxed())
            }
            // An open file of this machine: reading it asks nothing of the backend.
            file @ GetResultPayload::File(..) => {
                pass.end(Ok(()));
                file
            }
        };
        Ok(result)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let batches = paths.chunks(DELETE_BATCH).then(move |batch| {
            let store = store.clone();
            async move { stream::iter(store.delete_batch(batch).await) }
        });
        batches.flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        Listing::over(self.inner.list(prefix), Arc::clone(&self.guard), self.share)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        Listing::over(self.inner.list_with_offset(prefix, offset), Arc::clone(&self.guard), self.share)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let limit = Schedule::deadline(COMPLETE_LEN_BYTES);
        self.call(Op::List, 0, limit, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let op = if options.mode == CopyMode::Create { Op::Create } else { Op::Put };
        let limit = Schedule::deadline(COMPLETE_LEN_BYTES);
        self.call(op, 0, limit, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let op = if options.target_mode == RenameTargetMode::Create { Op::Create } else { Op::Put };
        let limit = Schedule::deadline(COMPLETE_LEN_BYTES);
        self.call(op, 0, limit, self.inner.rename_opts(from, to, options)).await
    }
}

impl<T: ObjectStore> GuardedStore<T> {
    /// Removes a batch by one call: an answer for each path, in order.
    async fn delete_batch(&self, batch: Vec<Result<Path>>) -> Vec<Result<Path>> {
        let paths: Vec<Path> = batch.iter().filter_map(|path| path.as_ref().ok().cloned()).collect();
        if paths.is_empty() {
            return batch;
        }
        let limit = Schedule::deadline(BATCH_LEN_BYTES);
        let mut answers = match self.guard.enter(Op::Delete, 0, self.share).await {
            Err(held) => paths.iter().map(|_| Err(again(&held))).collect(),
            Ok(pass) => {
                let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
                let removed = self.inner.delete_stream(paths).collect::<Vec<_>>().map(Ok);
                let answers =
                    self.guard.within(limit, removed).await.unwrap_or_else(|error| vec![Err(error)]);
                pass.end(worst(&answers));
                answers
            }
        }
        .into_iter();
        let mut answer = || answers.next().unwrap_or_else(|| Err(timed_out(limit)));
        batch.into_iter().map(|path| path.and_then(|_| answer())).collect()
    }
}

/// The refusal of a breaker once more: a store's error cannot be cloned.
fn again(held: &Error) -> Error {
    let source = std::error::Error::source(held).and_then(|source| source.downcast_ref::<Held>());
    let source: Box<dyn std::error::Error + Send + Sync> = match source {
        Some(held) => Box::new(held.clone()),
        None => held.to_string().into(),
    };
    Error::Generic { store: "guarded", source }
}

/// The first answer of a batch that is more than "not there", else any failure, else that all went well.
fn worst(answers: &[Result<Path>]) -> Result<(), &Error> {
    let errors = || answers.iter().filter_map(|answer| answer.as_ref().err());
    let serious = errors().find(|error| !matches!(error, Error::NotFound { .. }));
    serious.or_else(|| errors().next()).map_or(Ok(()), Err)
}

impl<T: fmt::Debug> fmt::Debug for GuardedStore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<T: fmt::Display> fmt::Display for GuardedStore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardedStore({})", self.inner)
    }
}

#[cfg(test)]
mod tests;
