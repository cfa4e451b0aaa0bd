//! Multipart uploads by their id, behind a guard: one permit for each call.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, PutPayload, PutResult, Result};

use super::COMPLETE_LEN_BYTES;
use crate::class::Op;
use crate::guard::Guard;
use crate::limiter::Share;
use crate::retry::Schedule;

/// What [`super::GuardedStore`] is to a store, for the multipart uploads of the same store.
pub(crate) struct GuardedParts {
    inner: Arc<dyn MultipartStore>,
    guard: Arc<Guard>,
}

impl GuardedParts {
    pub(crate) fn new(inner: Arc<dyn MultipartStore>, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }

    /// One call that moves `len` bytes and takes the backend as long as `work_len` bytes would.
    async fn call<R>(
        &self,
        op: Op,
        len: u64,
        work_len: u64,
        call: impl Future<Output = Result<R>>,
    ) -> Result<R> {
        let pass = self.guard.enter(op, len, Share::Foreground).await?;
        let answer = self.guard.within(Schedule::deadline(work_len), call).await;
        pass.end(answer.as_ref().map(|_| ()));
        answer
    }
}

#[async_trait]
impl MultipartStore for GuardedParts {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.call(Op::Part, 0, 0, self.inner.create_multipart(path)).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        index: usize,
        part: PutPayload,
    ) -> Result<PartId> {
        let len = part.content_length() as u64;
        self.call(Op::Part, len, len, self.inner.put_part(path, id, index, part)).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let complete = self.inner.complete_multipart(path, id, parts);
        self.call(Op::Complete, 0, COMPLETE_LEN_BYTES, complete).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let pass = self.guard.enter(Op::Delete, 0, Share::Foreground).await?;
        let answer = self.guard.within(Schedule::deadline(0), self.inner.abort_multipart(path, id)).await;
        pass.end_abort(answer.as_ref().copied());
        answer
    }
}

impl fmt::Debug for GuardedParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedParts").field("guard", &self.guard).finish_non_exhaustive()
    }
}
