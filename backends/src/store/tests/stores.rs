//! Stores for these tests: bodies that break off, and calls that take some turns.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::memory::InMemory;

use super::*;
use crate::fault::FaultStore;

/// A store whose bodies come in two chunks, the second of which fails or never comes.
#[derive(Debug)]
pub(super) struct BrokenBodies(pub(super) InMemory, pub(super) Option<std::io::ErrorKind>);

impl fmt::Display for BrokenBodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken bodies")
    }
}

#[async_trait]
impl ObjectStore for BrokenBodies {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.0.put_opts(path, payload, opts).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("not asked in these tests")
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.0.get_opts(path, options).await?;
        let rest = match self.1 {
            Some(kind) => stream::once(async move {
                Err(Error::Generic { store: "t", source: Box::new(std::io::Error::from(kind)) })
            })
            .boxed(),
            None => stream::pending().boxed(),
        };
        let chunk = stream::once(async { Ok(Bytes::from_static(b"by")) });
        result.payload = GetResultPayload::Stream(chunk.chain(rest).boxed());
        Ok(result)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

/// A store whose every call takes one to sixteen turns, and that counts the calls which reached it.
#[derive(Debug)]
pub(super) struct Slow {
    inner: Arc<FaultStore>,
    sent: Arc<AtomicU64>,
}

impl Slow {
    pub(super) fn over(inner: FaultStore) -> Self {
        Self { inner: Arc::new(inner), sent: Arc::default() }
    }

    pub(super) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    async fn arrive(sent: &AtomicU64) {
        for _ in 0..=sent.fetch_add(1, Ordering::Relaxed) % 16 {
            tokio::task::yield_now().await;
        }
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("slow")
    }
}

#[async_trait]
impl ObjectStore for Slow {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        Self::arrive(&self.sent).await;
        self.inner.put_opts(path, payload, opts).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("not asked in these tests")
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        Self::arrive(&self.sent).await;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, sent) = (Arc::clone(&self.inner), Arc::clone(&self.sent));
        let start = async move {
            Self::arrive(&sent).await;
            inner.delete_stream(paths)
        };
        stream::once(start).flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, sent, prefix) = (Arc::clone(&self.inner), Arc::clone(&self.sent), prefix.cloned());
        let start = async move {
            Self::arrive(&sent).await;
            inner.list(prefix.as_ref())
        };
        stream::once(start).flatten().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unreachable!("not asked in these tests")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("not asked in these tests")
    }
}
