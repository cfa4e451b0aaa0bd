//! A multipart upload: one permit for each part, one for its end.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::COMPLETE_LEN_BYTES;
use crate::class::Op;
use crate::guard::Guard;
use crate::limiter::Share;
use crate::retry::Schedule;

pub(super) struct GuardedUpload {
    pub(super) inner: Box<dyn MultipartUpload>,
    pub(super) guard: Arc<Guard>,
    pub(super) share: Share,
}

#[async_trait]
impl MultipartUpload for GuardedUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let len = part.content_length() as u64;
        // Numbers the part now; nothing is sent before the future is polled.
        let send = self.inner.put_part(part);
        let (guard, share) = (Arc::clone(&self.guard), self.share);
        Box::pin(async move {
            let pass = guard.enter(Op::Part, len, share).await?;
            let answer = guard.within(Schedule::deadline(len), send).await;
            pass.end(answer.as_ref().copied());
            answer
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let pass = self.guard.enter(Op::Complete, 0, self.share).await?;
        let limit = Schedule::deadline(COMPLETE_LEN_BYTES);
        let answer = self.guard.within(limit, self.inner.complete()).await;
        pass.end(answer.as_ref().map(|_| ()));
        answer
    }

    async fn abort(&mut self) -> Result<()> {
        let pass = self.guard.enter(Op::Delete, 0, self.share).await?;
        let answer = self.guard.within(Schedule::deadline(0), self.inner.abort()).await;
        pass.end_abort(answer.as_ref().copied());
        answer
    }
}

impl fmt::Debug for GuardedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedUpload").field("inner", &self.inner).finish_non_exhaustive()
    }
}
