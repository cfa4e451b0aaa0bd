//! A place among the calls under way, and the wait for one.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Limiter, Pace, Share, Waiting};

/// A place: dropped, it goes to who waits.
#[must_use = "a place that is dropped at once was not needed"]
pub struct Place<L: Deref<Target = Limiter>> {
    limiter: L,
    bytes: u64,
    share: Share,
}

impl<L: Deref<Target = Limiter>> Place<L> {
    /// Says how the call went, which moves the limit, and gives the place back.
    pub fn end(self, pace: Pace, started_ms: u64, now_ms: u64) {
        self.limiter.judge(pace, self.bytes, started_ms, now_ms);
    }
}

impl<L: Deref<Target = Limiter>> Drop for Place<L> {
    fn drop(&mut self) {
        if !is_failed_model() {
            self.limiter.give_back(self.bytes, self.share);
        }
    }
}

/// A model that fails unwinds through the places it holds, where loom's locks work no more.
fn is_failed_model() -> bool {
    cfg!(akidb_loom) && std::thread::panicking()
}

impl<L: Deref<Target = Limiter>> fmt::Debug for Place<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("bytes", &self.bytes)
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

/// The wait for a place: a future. Dropped before its end it leaves the queue, and a place it was given meanwhile goes
/// to the next.
#[must_use = "a wait that nobody polls never ends"]
pub struct Entry<L: Deref<Target = Limiter>> {
    limiter: Option<L>,
    bytes: u64,
    share: Share,
    /// Set while in the queue, or given a place and not polled since.
    id: Option<u64>,
}

impl<L: Deref<Target = Limiter>> Entry<L> {
    /// A wait for a place for a call that moves `bytes`.
    pub fn new(limiter: L, bytes: u64, share: Share) -> Self {
        let bytes = limiter.clamped(bytes);
        Self { limiter: Some(limiter), bytes, share, id: None }
    }
}

impl<L: Deref<Target = Limiter> + Unpin> Future for Entry<L> {
    type Output = Place<L>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Place<L>> {
        let this = &mut *self;
        let limiter = this.limiter.as_ref().expect("not polled after it was ready");
        let mut queues = limiter.state.lock();
        let has_place = match this.id {
            Some(id) => match queues.granted.iter().position(|&granted| granted == id) {
                Some(at) => {
                    queues.granted.swap_remove(at);
                    true
                }
                None => {
                    if let Some(mine) = queues.queue(this.share).iter_mut().find(|one| one.id == id) {
                        mine.waker.clone_from(cx.waker());
                    }
                    false
                }
            },
            // Nobody overtakes those who wait.
            None if queues.queue(this.share).is_empty()
                && queues.has_room(&limiter.settings, this.bytes, this.share) =>
            {
                queues.take(this.bytes, this.share);
                true
            }
            None => {
                let id = queues.next_id;
                queues.next_id += 1;
                let waiting = Waiting { id, bytes: this.bytes, waker: cx.waker().clone() };
                queues.queue(this.share).push_back(waiting);
                this.id = Some(id);
                false
            }
        };
        drop(queues);
        if !has_place {
            return Poll::Pending;
        }
        this.id = None;
        let limiter = this.limiter.take().expect("looked at above");
        Poll::Ready(Place { limiter, bytes: this.bytes, share: this.share })
    }
}

impl<L: Deref<Target = Limiter>> Drop for Entry<L> {
    fn drop(&mut self) {
        let (Some(id), Some(limiter)) = (self.id, &self.limiter) else { return };
        if is_failed_model() {
            return;
        }
        let mut queues = limiter.state.lock();
        let granted = queues.granted.iter().position(|&granted| granted == id);
        match granted {
            Some(at) => {
                queues.granted.swap_remove(at);
                drop(queues);
                limiter.give_back(self.bytes, self.share);
            }
            None => {
                queues.queue(self.share).retain(|one| one.id != id);
                // A large call that waited in front may have held up smaller ones.
                let mut wakers = Vec::new();
                queues.serve(&limiter.settings, &mut wakers);
                drop(queues);
                wakers.into_iter().for_each(std::task::Waker::wake);
            }
        }
    }
}

impl<L: Deref<Target = Limiter>> fmt::Debug for Entry<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("bytes", &self.bytes).field("id", &self.id).finish_non_exhaustive()
    }
}
