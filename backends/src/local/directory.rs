//! A directory that is made when it is first asked for something, and whose making is tried by each call until it is there.

use std::fmt;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use tokio::runtime::Handle;

const STORE: &str = "LocalFileSystem";

/// A store in a directory that may not be there yet. Clones share what they found.
#[derive(Clone, Debug)]
pub(super) struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    made: OnceLock<LocalFileSystem>,
}

/// The store in a directory that is there.
///
/// Without fsync a put that returned can be gone, or empty, after a power cut; it is off by default.
pub(super) fn checked(dir: &FilePath) -> io::Result<LocalFileSystem> {
    if !dir.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let store = LocalFileSystem::new_with_prefix(dir).map_err(io::Error::other)?;
    Ok(store.with_fsync(true))
}

impl Directory {
    /// Makes nothing yet, and asks nothing of the disk.
    pub(super) fn to_be_made(dir: PathBuf) -> Self {
        Self(Arc::new(Inner { dir, made: OnceLock::new() }))
    }

    /// The store; the directory is made for it if it is not there. A disk that hangs holds up a thread of its own.
    async fn store(&self) -> Result<LocalFileSystem> {
        if let Some(store) = self.0.made.get() {
            return Ok(store.clone());
        }
        let this = self.clone();
        match Handle::try_current() {
            Ok(runtime) => runtime
                .spawn_blocking(move || this.make())
                .await
                .unwrap_or_else(|source| Err(Error::JoinError { source })),
            Err(_) => this.make(),
        }
    }

    fn make(&self) -> Result<LocalFileSystem> {
        let dir = &self.0.dir;
        let made = std::fs::create_dir_all(dir).and_then(|()| checked(dir)).map_err(|cause| {
            let said = format!("cannot use the directory {}: {cause}", dir.display());
            // As a server's that cannot be connected to: nothing was asked of it, so no answer was lost.
            let source = io::Error::new(io::ErrorKind::ConnectionRefused, said);
            Error::Generic { store: STORE, source: Box::new(source) }
        })?;
        Ok(self.0.made.get_or_init(|| made).clone())
    }

    /// What the store streams, once there is one.
    fn each<T: Send + 'static>(
        &self,
        make: impl FnOnce(LocalFileSystem) -> BoxStream<'static, Result<T>> + Send + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let this = self.clone();
        async move { this.store().await }.map_ok(make).into_stream().try_flatten().boxed()
    }
}

#[async_trait]
impl ObjectStore for Directory {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.store().await?.put_opts(path, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store().await?.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.store().await?.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.each(|store| store.delete_stream(paths))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        self.each(move |store| store.list(prefix.as_ref()))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (prefix, offset) = (prefix.cloned(), offset.clone());
        self.each(move |store| store.list_with_offset(prefix.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store().await?.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store().await?.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.store().await?.rename_opts(from, to, options).await
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.0.dir.display())
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::class::{Class, Op};
    use crate::retry::classify;

    #[tokio::test]
    async fn the_local_store_is_built_with_fsync_on() {
        let home = tempfile::tempdir().unwrap();
        let store = Directory::to_be_made(home.path().join("copy")).store().await.unwrap();
        // The switch has no getter; the derived Debug output shows the field.
        assert!(format!("{store:?}").contains("fsync: true"), "{store:?}");
    }

    #[tokio::test]
    async fn every_call_tries_to_make_it_until_it_is_there() {
        let home = tempfile::tempdir().unwrap();
        let blocked = home.path().join("mnt");
        std::fs::write(&blocked, b"a file where a directory is to be").unwrap();
        let store = Directory::to_be_made(blocked.join("copy"));
        let key = Path::from("k");
        let put = store.put_opts(&key, "v".into(), object_store::PutMode::Create.into()).await.unwrap_err();
        // Nothing was sent: there is nothing to look for, and no "not there" that says something of the object.
        assert_eq!(classify(&put, Op::Create), Class::Transient, "{put}");
        assert!(put.to_string().contains(&blocked.join("copy").display().to_string()), "{put}");
        let get = store.get(&key).await.unwrap_err();
        assert_eq!(classify(&get, Op::Get), Class::Transient, "{get}");
        let list = store.list(None).try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(classify(&list, Op::List), Class::Transient, "{list}");
        store.delete(&key).await.unwrap_err();
        std::fs::remove_file(&blocked).unwrap();
        store.put(&key, "v".into()).await.unwrap();
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_directory_made_when_asked_is_an_object_store() {
        let home = tempfile::tempdir().unwrap();
        let store = Directory::to_be_made(home.path().join("deep/copy"));
        object_store::integration::put_get_delete_list(&store).await;
        object_store::integration::list_with_delimiter(&store).await;
        object_store::integration::rename_and_copy(&store).await;
        object_store::integration::stream_get(&store).await;
    }
}
