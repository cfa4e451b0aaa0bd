//! A store that the program brought along: other people's code. A call of it that panics is one that failed, and the
//! thread that made it goes on.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use akidb_host::panic_text;
use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// The store, each of whose calls answers, bodies, lists and parts included.
pub(crate) struct Contained(pub(crate) Arc<dyn ObjectStore>);

/// What is not known to have arrived: repeated, or looked at first, as any answer that did not come.
fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic_text(panic);
    tracing::error!(panic = text, "the store of a backend panicked: that call counts as failed");
    Error::Generic { store: "contained", source: format!("the store panicked: {text}").into() }
}

async fn answer<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(&*panic)))
}

/// A stream ends where it panics.
fn each<T: Send + 'static>(
    make: impl FnOnce() -> BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    match catch_unwind(AssertUnwindSafe(make)) {
        Ok(stream) => {
            let caught = AssertUnwindSafe(stream).catch_unwind();
            caught.map(|item| item.unwrap_or_else(|panic| Err(panicked(&*panic)))).boxed()
        }
        Err(panic) => stream::iter([Err(panicked(&*panic))]).boxed(),
    }
}

#[async_trait]
impl ObjectStore for Contained {
    // Inside, so that what panics before there is a future is caught too; the same below.
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        answer(async { self.0.put_opts(path, payload, opts).await }).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = answer(async { self.0.put_multipart_opts(path, opts).await }).await?;
        Ok(Box::new(ContainedUpload(upload)))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = answer(async { self.0.get_opts(path, options).await }).await?;
        if let GetResultPayload::Stream(chunks) = result.payload {
            result.payload = GetResultPayload::Stream(each(|| chunks));
        }
        Ok(result)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        each(|| self.0.delete_stream(paths))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        each(|| self.0.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        each(|| self.0.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        answer(async { self.0.list_with_delimiter(prefix).await }).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        answer(async { self.0.copy_opts(from, to, options).await }).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        answer(async { self.0.rename_opts(from, to, options).await }).await
    }
}

#[derive(Debug)]
struct ContainedUpload(Box<dyn MultipartUpload>);

#[async_trait]
impl MultipartUpload for ContainedUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        match catch_unwind(AssertUnwindSafe(|| self.0.put_part(part))) {
            Ok(part) => Box::pin(answer(part)),
            Err(panic) => Box::pin(std::future::ready(Err(panicked(&*panic)))),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        answer(async { self.0.complete().await }).await
    }

    async fn abort(&mut self) -> Result<()> {
        answer(async { self.0.abort().await }).await
    }
}

impl fmt::Debug for Contained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Contained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests;
