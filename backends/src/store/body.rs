//! The body of a get: its permit is settled at its end, and it may not stand still.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream};
use object_store::Result;

use crate::guard::{Guard, Pass, timed_out};
use crate::retry::Schedule;

/// Chunks of a body. Only the time spent waiting for the backend counts against its deadline: a reader may take as
/// long as it likes between two chunks.
pub(super) struct Body {
    chunks: BoxStream<'static, Result<Bytes>>,
    /// Gone once the body has ended.
    pass: Option<Pass>,
    guard: Arc<Guard>,
    limit_ms: u64,
    waited_ms: u64,
    waiting: Option<Waiting>,
}

struct Waiting {
    since_ms: u64,
    over: BoxFuture<'static, ()>,
}

impl Body {
    pub(super) fn new(
        chunks: BoxStream<'static, Result<Bytes>>,
        pass: Pass,
        guard: Arc<Guard>,
        len: u64,
    ) -> Self {
        let limit_ms = u64::try_from(Schedule::deadline(len).as_millis()).unwrap_or(u64::MAX);
        Self { chunks, pass: Some(pass), guard, limit_ms, waited_ms: 0, waiting: None }
    }

    fn settle(&mut self, answer: Result<(), &object_store::Error>) {
        if let Some(pass) = self.pass.take() {
            pass.end(answer);
        }
    }

    /// Waits for the next chunk, or for the end of the body's time.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left_ms = self.limit_ms.saturating_sub(self.waited_ms);
        let (guard, since_ms) = (&self.guard, self.guard.now_ms());
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            since_ms,
            over: guard.deadline(Duration::from_millis(left_ms)),
        });
        waiting.over.poll_unpin(cx)
    }
}

impl Stream for Body {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = &mut *self;
        if this.pass.is_none() {
            return Poll::Ready(None);
        }
        match this.chunks.as_mut().poll_next(cx) {
            Poll::Pending => {
                if this.poll_over(cx).is_pending() {
                    return Poll::Pending;
                }
                let error = timed_out(Duration::from_millis(this.limit_ms));
                this.settle(Err(&error));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(chunk) => {
                if let Some(waiting) = this.waiting.take() {
                    this.waited_ms += this.guard.now_ms().saturating_sub(waiting.since_ms);
                }
                match &chunk {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => this.settle(Err(error)),
                    None => this.settle(Ok(())),
                }
                Poll::Ready(chunk)
            }
        }
    }
}
