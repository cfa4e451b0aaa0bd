//! Stores whose every call panics, at once or once it is awaited, and what is made of that.

use object_store::memory::InMemory;
use object_store::{CopyMode, ObjectStoreExt, RenameTargetMode, integration};

use super::*;
use crate::class::{Class, Op};
use crate::fault::{Cause, FaultStore};
use crate::retry::classify;

/// A store, and an upload to it, that panics before there is anything to await.
#[derive(Debug)]
struct Panics;

impl fmt::Display for Panics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("panics")
    }
}

type Answer<'a, T> = futures::future::BoxFuture<'a, Result<T>>;

impl ObjectStore for Panics {
    fn put_opts<'a, 'b, 'c>(&'a self, _: &'b Path, _: PutPayload, _: PutOptions) -> Answer<'c, PutResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        panic!("at once")
    }

    fn put_multipart_opts<'a, 'b, 'c>(
        &'a self,
        _: &'b Path,
        _: PutMultipartOptions,
    ) -> Answer<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async { Ok(Box::new(Panics) as Box<dyn MultipartUpload>) })
    }

    fn get_opts<'a, 'b, 'c>(&'a self, _: &'b Path, _: GetOptions) -> Answer<'c, GetResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        panic!("at once")
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        panic!("at once")
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        panic!("at once")
    }

    fn list_with_delimiter<'a, 'b, 'c>(&'a self, _: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        panic!("at once")
    }

    fn copy_opts<'a, 'b, 'c, 'd>(&'a self, _: &'b Path, _: &'c Path, _: CopyOptions) -> Answer<'d, ()>
    where
        'a: 'd,
        'b: 'd,
        'c: 'd,
        Self: 'd,
    {
        panic!("at once")
    }
}

#[async_trait]
impl MultipartUpload for Panics {
    fn put_part(&mut self, _: PutPayload) -> UploadPart {
        panic!("at once")
    }

    async fn complete(&mut self) -> Result<PutResult> {
        panic!("awaited")
    }

    async fn abort(&mut self) -> Result<()> {
        panic!("awaited")
    }
}

fn assert_failed<T>(answer: Result<T>, op: Op) {
    let Err(error) = answer else { panic!("{op}: it did not panic") };
    assert!(error.to_string().contains("panicked: "), "{op}: {error}");
    let class = if op.is_ambiguous_without_answer() { Class::Ambiguous } else { Class::Transient };
    assert_eq!(classify(&error, op), class, "{op}: {error}");
}

async fn assert_every_call_fails(store: &dyn ObjectStore) {
    let (a, b) = (&Path::from("a"), &Path::from("b"));
    let bytes = || PutPayload::from_static(b"bytes");
    assert_failed(store.put(a, bytes()).await, Op::Put);
    let create = PutOptions { mode: object_store::PutMode::Create, ..PutOptions::default() };
    assert_failed(store.put_opts(a, bytes(), create).await, Op::Create);
    assert_failed(store.get(a).await, Op::Get);
    assert_failed(store.head(a).await, Op::Head);
    assert_failed(store.delete(a).await, Op::Delete);
    assert_failed(store.list(None).next().await.unwrap(), Op::List);
    assert_failed(store.list_with_offset(None, a).next().await.unwrap(), Op::List);
    assert_failed(store.list_with_delimiter(None).await, Op::List);
    let copy = CopyOptions { mode: CopyMode::Overwrite, ..CopyOptions::default() };
    assert_failed(store.copy_opts(a, b, copy).await, Op::Put);
    let rename = RenameOptions { target_mode: RenameTargetMode::Overwrite, ..RenameOptions::default() };
    assert_failed(store.rename_opts(a, b, rename).await, Op::Put);
}

#[tokio::test]
async fn a_call_that_panics_is_a_failed_call_whenever_it_panics() {
    let store = Contained(Arc::new(Panics));
    assert_every_call_fails(&store).await;
    let mut upload =
        store.put_multipart_opts(&Path::from("a"), PutMultipartOptions::default()).await.unwrap();
    assert_failed(upload.put_part(PutPayload::from_static(b"bytes")).await, Op::Part);
    assert_failed(upload.complete().await, Op::Complete);
    assert_failed(upload.abort().await, Op::Delete);

    let faults = FaultStore::new(Arc::new(InMemory::new()));
    let store = Contained(Arc::new(faults.clone()));
    faults.set_dead(Some(Cause::Panic));
    assert_every_call_fails(&store).await;
    faults.set_dead(None);
    store.put(&Path::from("a"), PutPayload::from_static(b"bytes")).await.unwrap();
}

#[tokio::test]
async fn over_memory_it_passes_object_stores_own_suite() {
    let store = Contained(Arc::new(InMemory::new()));
    integration::put_get_delete_list(&store).await;
    integration::get_opts(&store).await;
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::list_with_offset_exclusivity(&store).await;
    integration::rename_and_copy(&store).await;
    integration::copy_if_not_exists(&store).await;
    integration::copy_rename_nonexistent_object(&store).await;
    integration::stream_get(&store).await;
    integration::put_opts(&store, true).await;
    integration::multipart_race_condition(&store, true).await;
    integration::multipart_out_of_order(&store).await;
}
