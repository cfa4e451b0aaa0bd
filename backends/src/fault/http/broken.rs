//! Bodies of answers that break off, or come a byte at a time.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use http_body::{Body, Frame};
use object_store::client::{HttpError, HttpErrorKind};

use super::{broken, wait};

/// A body made of a stream. The lock is never contended: it makes `Sync` of what is polled by one.
pub(super) struct Broken(Mutex<BoxStream<'static, Result<Bytes, HttpError>>>);

impl Broken {
    pub(super) fn reset_at_half(body: Bytes) -> Self {
        let half = body.slice(..body.len() / 2);
        let reset = || Err(broken(HttpErrorKind::Interrupted));
        Self::of(stream::iter([Ok(half)]).chain(stream::once(async move { reset() })).boxed())
    }

    pub(super) fn trickling(body: Bytes, pause: Duration) -> Self {
        let bytes = stream::unfold(body, move |mut body| -> BoxFuture<'static, _> {
            async move {
                if body.is_empty() {
                    return None;
                }
                wait(pause).await;
                Some((Ok(body.split_to(1)), body))
            }
            .boxed()
        });
        Self::of(bytes.boxed())
    }

    fn of(chunks: BoxStream<'static, Result<Bytes, HttpError>>) -> Self {
        Self(Mutex::new(chunks))
    }
}

impl Body for Broken {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let chunks = self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        chunks.poll_next_unpin(cx).map(|next| next.map(|chunk| chunk.map(Frame::data)))
    }
}
