//! Multipart uploads of the store of faults: with an id, or behind a handle.

use async_trait::async_trait;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, MultipartId, MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::script::Fault;
use super::store::{FaultStore, answered, damaged};
use crate::class::Op;

#[derive(Debug)]
pub(super) struct FaultUpload {
    pub(super) inner: Box<dyn MultipartUpload>,
    pub(super) store: FaultStore,
    pub(super) path: Path,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let (fault, pause) = self.store.meet_now(Op::Part, &self.path);
        let path = self.path.clone();
        // A part that does not arrive takes no number.
        let send = match fault {
            Some(Fault::Fail(_) | Fault::Hang) => Box::pin(async { Ok(()) }),
            _ => self.inner.put_part(damaged(fault, part)),
        };
        Box::pin(async move {
            if let Some((sleep, time)) = pause {
                sleep.pause(time).await;
            }
            answered(fault, &path, send).await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (store, path) = (self.store.clone(), self.path.clone());
        store.around(Op::Complete, &path, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        let (store, path) = (self.store.clone(), self.path.clone());
        store.around(Op::Delete, &path, self.inner.abort()).await
    }
}

impl FaultStore {
    fn parts(&self) -> Result<&dyn MultipartStore> {
        let missing = || Error::NotSupported { source: "the store beneath has no multipart ids".into() };
        self.parts.as_deref().ok_or_else(missing)
    }
}

#[async_trait]
impl MultipartStore for FaultStore {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.around(Op::Part, path, self.parts()?.create_multipart(path)).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        index: usize,
        part: PutPayload,
    ) -> Result<PartId> {
        let parts = self.parts()?;
        let fault = self.meet(Op::Part, path).await;
        answered(fault, path, parts.put_part(path, id, index, damaged(fault, part))).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.around(Op::Complete, path, self.parts()?.complete_multipart(path, id, parts)).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.around(Op::Delete, path, self.parts()?.abort_multipart(path, id)).await
    }
}
