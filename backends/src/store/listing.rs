//! A list: one permit for each page of names.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use object_store::{ObjectMeta, Result};

use super::BATCH_LEN_BYTES;
use crate::class::Op;
use crate::guard::{Guard, Pass};
use crate::limiter::Share;
use crate::retry::Schedule;

/// Names of a page of S3. Where pages begin the store does not say; a store with smaller ones makes several requests
/// on one permit.
const PAGE: usize = 1_000;

pub(super) struct Listing {
    names: BoxStream<'static, Result<ObjectMeta>>,
    guard: Arc<Guard>,
    share: Share,
    page: Option<Pass>,
    in_page: usize,
    has_ended: bool,
}

impl Listing {
    pub(super) fn over(
        names: BoxStream<'static, Result<ObjectMeta>>,
        guard: Arc<Guard>,
        share: Share,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let start = Self { names, guard, share, page: None, in_page: 0, has_ended: false };
        stream::unfold(start, |mut listing| async move {
            let name = listing.next().await?;
            Some((name, listing))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<ObjectMeta>> {
        if self.has_ended {
            return None;
        }
        let mut page = match self.page.take() {
            Some(page) => page,
            None => match self.guard.enter(Op::List, 0, self.share).await {
                Ok(page) => page,
                Err(held) => {
                    self.has_ended = true;
                    return Some(Err(held));
                }
            },
        };
        // Names of a page that is here need no timer.
        let name = match self.names.next().now_or_never() {
            Some(name) => Ok(name),
            None => {
                let wait = self.names.next().map(Ok);
                self.guard.within(Schedule::deadline(BATCH_LEN_BYTES), wait).await
            }
        };
        match name {
            Ok(Some(Ok(name))) => {
                self.in_page += 1;
                if self.in_page == PAGE {
                    self.in_page = 0;
                    page.end(Ok(()));
                } else {
                    // Whoever lists may make a call for each name: it must not hold the place that call needs.
                    page.leave_place();
                    self.page = Some(page);
                }
                Some(Ok(name))
            }
            Ok(None) => {
                self.has_ended = true;
                page.end(Ok(()));
                None
            }
            Ok(Some(Err(error))) => {
                self.in_page = 0;
                page.end(Err(&error));
                Some(Err(error))
            }
            Err(timed_out) => {
                self.has_ended = true;
                page.end(Err(&timed_out));
                Some(Err(timed_out))
            }
        }
    }
}
