//! Frames wait in LSN order until they are synced; whoever sees `synced` rise applies them for everybody.

use std::collections::VecDeque;

use akidb_host::seeded_bug;

use crate::lsn::Lsn;
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::version::{ApplyLock, Published};

/// What frames are applied to: the memtables and overlays of a version.
pub(crate) trait Target {
    /// The content of a version.
    type Content: std::fmt::Debug;
    /// One logged frame.
    type Frame: std::fmt::Debug;

    /// Whether what [`Target::prepare`] found for the frame still holds in this version.
    fn is_prepared(&self, content: &Self::Content, frame: &Self::Frame) -> bool;

    /// Finds what the frame hides; may read files, is called without locks. What cannot be found is remembered in
    /// the frame and makes it prepared all the same.
    fn prepare(&self, content: &Self::Content, frame: &Self::Frame);

    /// Applies the frame, whose records have the LSNs `first..=last`, to the version's memtables and overlays.
    fn apply(&self, content: &Self::Content, frame: &Self::Frame, first: Lsn, last: Lsn);
}

#[derive(Debug)]
struct Pending<F> {
    first: Lsn,
    last: Lsn,
    frame: Arc<F>,
}

/// The queue of appended frames, the apply lock, and what is published.
#[derive(Debug)]
pub(crate) struct Applier<T: Target> {
    target: T,
    published: Published<T::Content>,
    /// Locked after nothing else of this crate; never held across file I/O.
    lock: Mutex<ApplyLock>,
    /// In LSN order: pushed under the sequencer lock. Held only for a push or a pop.
    pending: Mutex<VecDeque<Pending<T::Frame>>>,
}

impl<T: Target> Applier<T> {
    pub(crate) fn new(target: T, content: T::Content, visible: Lsn) -> Self {
        Self {
            target,
            published: Published::new(content, visible),
            lock: Mutex::default(),
            pending: Mutex::new(VecDeque::new()),
        }
    }

    #[cfg(akidb_loom)]
    pub(crate) fn target(&self) -> &T {
        &self.target
    }

    pub(crate) fn published(&self) -> &Published<T::Content> {
        &self.published
    }

    /// Queues an appended frame. Called under the sequencer lock, so the queue is in LSN order.
    pub(crate) fn push(&self, first: Lsn, last: Lsn, frame: Arc<T::Frame>) {
        let mut pending = self.pending.lock();
        if let Some(back) = pending.back() {
            assert!(back.last < first, "frames queued out of order: {} then {first}", back.last);
        }
        pending.push_back(Pending { first, last, frame });
    }

    /// Applies every queued frame that ends at or below what `limit` answers, for whichever writer it is, then shows
    /// them. `visible` only ever takes the last LSN of a whole frame. On return everything that was queued and below
    /// the limit at the call is visible.
    pub(crate) fn drain(&self, limit: impl Fn() -> Lsn) {
        while let Some(stale) = self.drain_ready(&limit) {
            // The set of segments changed since the frame was prepared: look again, without the lock.
            self.target.prepare(self.published.current().content(), &stale);
        }
    }

    /// As [`Applier::drain`], up to a frame that has to be prepared first, which it answers.
    pub(crate) fn drain_ready(&self, limit: impl Fn() -> Lsn) -> Option<Arc<T::Frame>> {
        #[cfg(not(seeded_bugs))]
        let apply = self.lock.lock();
        #[cfg(seeded_bugs)]
        let apply =
            if seeded_bug("drain_skips_when_busy") { self.lock.try_lock()? } else { self.lock.lock() };
        let limit = limit();
        let current = self.published.current();
        let mut shown = None;
        let stale = loop {
            let Some(next) = self.pop_up_to(limit) else { break None };
            if !self.target.is_prepared(current.content(), &next.frame) {
                let frame = Arc::clone(&next.frame);
                self.pending.lock().push_front(next);
                break Some(frame);
            }
            self.target.apply(current.content(), &next.frame, next.first, next.last);
            shown = Some(if seeded_bug("visible_from_synced") { limit } else { next.last });
        };
        if let Some(last) = shown {
            assert!(last <= limit, "{last} is shown, {limit} may be");
            self.published.set_visible(last, &apply);
        }
        stale
    }

    /// Applies a frame past the queue and shows it. For replay: nobody else is about, so files may be read here.
    pub(crate) fn apply_now(&self, frame: &T::Frame, first: Lsn, last: Lsn) {
        let apply = self.lock.lock();
        let current = self.published.current();
        if !self.target.is_prepared(current.content(), frame) {
            self.target.prepare(current.content(), frame);
        }
        self.target.apply(current.content(), frame, first, last);
        self.published.set_visible(last, &apply);
    }

    fn pop_up_to(&self, limit: Lsn) -> Option<Pending<T::Frame>> {
        let mut pending = self.pending.lock();
        if pending.front()?.last > limit {
            return None;
        }
        if seeded_bug("applied_out_of_order") { pending.pop_back() } else { pending.pop_front() }
    }

    /// Runs `change` under the apply lock: seals, installs of flushes, DDL. It must not touch files.
    pub(crate) fn change<R>(
        &self,
        change: impl FnOnce(&Published<T::Content>, &MutexGuard<'_, ApplyLock>) -> R,
    ) -> R {
        let apply = self.lock.lock();
        change(&self.published, &apply)
    }
}
