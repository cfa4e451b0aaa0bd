//! The future that is ready when a record is synced; needs no runtime.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::inner::{Inner, poisoned};
use crate::lsn::Lsn;

/// Future of [`crate::Log::synced`]. Dropping it cancels only the waiting: the record stays appended and will be
/// synced.
#[derive(Debug)]
#[must_use = "a future does nothing until it is polled"]
pub struct Synced<'a> {
    log: &'a Inner,
    lsn: Lsn,
    id: Option<u64>,
}

impl<'a> Synced<'a> {
    pub(crate) fn new(log: &'a Inner, lsn: Lsn) -> Self {
        Self { log, lsn, id: None }
    }
}

impl Future for Synced<'_> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        this.log.check_process()?;
        this.log.check_appended(this.lsn)?;
        match this.log.commit.poll(this.lsn, &mut this.id, cx.waker()) {
            Poll::Ready(answer) => {
                // Whoever leads took the waker out, or will: there is nothing left to look for.
                this.id = None;
                Poll::Ready(answer.map_err(poisoned))
            }
            Poll::Pending => {
                this.log.wake_commit();
                Poll::Pending
            }
        }
    }
}

impl Drop for Synced<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.log.commit.forget(id);
        }
    }
}

#[cfg(test)]
mod tests;
