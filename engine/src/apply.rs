//! Frames wait in LSN order until they are synced; whoever sees `synced` rise applies them for everybody.

use std::collections::{HashMap, VecDeque};

use akidb_host::seeded_bug;

use crate::lsn::Lsn;
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::version::{ApplyLock, Published, Version};

/// What frames are applied to: the memtables and overlays of a version.
pub(crate) trait Target {
    /// The content of a version.
    type Content: std::fmt::Debug;
    /// One logged frame.
    type Frame: std::fmt::Debug;

    /// For each record of the frame, in their order, a number that all writes of one row share, and writes of two rows
    /// hardly ever.
    fn marks(frame: &Self::Frame) -> impl Iterator<Item = u64>;

    /// Notes that the frame is in the log's order and ends at `last`: under the sequencer lock, so that the check of the
    /// next write knows it, and under that of the queue.
    fn note_appended(&self, _frame: &Self::Frame, _last: Lsn) {}

    /// Whether what [`Target::prepare`] found for the frame still holds in this version.
    fn is_prepared(&self, content: &Self::Content, frame: &Self::Frame) -> bool;

    /// Finds what the frame hides; may read files, is called without locks. What cannot be found is remembered in
    /// the frame and makes it prepared all the same.
    fn prepare(&self, content: &Self::Content, frame: &Self::Frame);

    /// The content that has room for the frame, where this one has none: what writes go to is sealed at `shown`, up to which
    /// everything is visible. It holds for whatever was prepared.
    fn with_room(
        &self,
        _content: &Self::Content,
        _frame: &Self::Frame,
        _shown: Lsn,
    ) -> Option<Self::Content> {
        None
    }

    /// Applies the frame, whose records have the LSNs `first..=last`, to the version's memtables and overlays.
    fn apply(&self, content: &Self::Content, frame: &Self::Frame, first: Lsn, last: Lsn);
}

/// Marks the empty queue keeps room for.
const KEPT_MARKS: usize = 4_096;

#[derive(Debug)]
struct Pending<F> {
    first: Lsn,
    last: Lsn,
    frame: Arc<F>,
}

/// Frames in LSN order, and of each mark the newest record here that bears it.
#[derive(Debug)]
struct Queue<F> {
    frames: VecDeque<Pending<F>>,
    newest: HashMap<u64, Lsn>,
}

impl<F> Queue<F> {
    fn push(&mut self, pending: Pending<F>, marks: impl Iterator<Item = u64>) {
        if let Some(back) = self.frames.back() {
            assert!(back.last < pending.first, "queued out of order: {} then {}", back.last, pending.first);
        }
        self.newest.extend(marks.zip(0..).map(|(mark, n)| (mark, pending.first.plus(n))));
        self.frames.push_back(pending);
    }

    fn pop(&mut self, marks: impl Iterator<Item = u64>) {
        let gone =
            if seeded_bug("applied_out_of_order") { self.frames.pop_back() } else { self.frames.pop_front() };
        let Some(gone) = gone else { return };
        for mark in marks {
            if self.newest.get(&mark).is_some_and(|lsn| *lsn <= gone.last) {
                self.newest.remove(&mark);
            }
        }
        if self.newest.is_empty() {
            // What a large batch took is given back.
            self.newest.shrink_to(KEPT_MARKS);
        }
    }
}

/// The newest write of a row that is appended and not yet applied.
#[derive(Debug)]
pub(crate) struct Queued<R> {
    /// Its LSN.
    pub(crate) lsn: Lsn,
    /// The last LSN of its frame: visible with it.
    pub(crate) frame_last: Lsn,
    /// What the look at it gave.
    pub(crate) write: R,
}

/// The queue of appended frames, the apply lock, and what is published.
#[derive(Debug)]
pub(crate) struct Applier<T: Target> {
    target: T,
    published: Published<T::Content>,
    /// Locked after nothing else of this crate; never held across file I/O.
    lock: Mutex<ApplyLock>,
    /// Pushed under the sequencer lock; a frame leaves once it is applied. Held only for a push, a pop or a look.
    pending: Mutex<Queue<T::Frame>>,
}

impl<T: Target> Applier<T> {
    pub(crate) fn new(target: T, content: T::Content, visible: Lsn) -> Self {
        Self {
            target,
            published: Published::new(content, visible),
            lock: Mutex::default(),
            pending: Mutex::new(Queue { frames: VecDeque::new(), newest: HashMap::new() }),
        }
    }

    pub(crate) fn target(&self) -> &T {
        &self.target
    }

    pub(crate) fn published(&self) -> &Published<T::Content> {
        &self.published
    }

    /// Queues an appended frame. Called under the sequencer lock, so the queue is in LSN order.
    pub(crate) fn push(&self, first: Lsn, last: Lsn, frame: Arc<T::Frame>) {
        let seeded = seeded_bug("noted_before_it_is_queued");
        if seeded {
            self.target.note_appended(&frame, last);
        }
        let pushed = Arc::clone(&frame);
        let mut pending = self.pending.lock();
        pending.push(Pending { first, last, frame }, T::marks(&pushed));
        // Whoever learns of the frame, with no lock held, finds it in the queue or applied; and no flush covers a frame
        // that is not noted.
        if !seeded {
            self.target.note_appended(&pushed, last);
        }
    }

    /// The newest queued write of the row with this mark; `look` is given a frame and the place of a record in it, and
    /// answers `None` where that is of another row. Under the sequencer lock nothing is queued meanwhile, and what is
    /// not found here was applied to the version that is current *after* this call.
    pub(crate) fn newest_queued<R>(
        &self,
        mark: u64,
        look: impl Fn(&T::Frame, usize) -> Option<R>,
    ) -> Option<Queued<R>> {
        let queue = self.pending.lock();
        let newest = *queue.newest.get(&mark)?;
        let at = queue.frames.partition_point(|pending| pending.last < newest);
        // As a rule the first record looked at is the one; another row with the same mark may be newer.
        let older = queue.frames.iter().take(at + 1).rev();
        let records = older.flat_map(|pending| {
            let count = pending.last.min(newest).as_u64() - pending.first.as_u64() + 1;
            (0..count).rev().map(move |n| (pending, n))
        });
        let mut found = records.filter_map(|(pending, n)| {
            let write = look(&pending.frame, usize::try_from(n).ok()?)?;
            Some(Queued { lsn: pending.first.plus(n), frame_last: pending.last, write })
        });
        found.next()
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
        let mut current = self.published.current();
        let mut shown = None;
        let stale = loop {
            let Some((first, last, frame)) = self.front_up_to(limit) else { break None };
            if !self.target.is_prepared(current.content(), &frame) {
                break Some(frame);
            }
            let early = seeded_bug("queue_forgets_before_apply");
            if early {
                self.pop(&frame);
            }
            self.make_room(&mut current, &frame, shown, &apply);
            self.target.apply(current.content(), &frame, first, last);
            // Only now: whoever asks for the newest write of a row finds it here or applied.
            if !early {
                self.pop(&frame);
            }
            shown = Some(if seeded_bug("visible_from_synced") { limit } else { last });
        };
        if let Some(last) = shown {
            assert!(last <= limit, "{last} is shown, {limit} may be");
            self.published.set_visible(last, &apply);
        }
        stale
    }

    /// Applies frames past the queue, each with its first and last LSN, and shows them. For replay: nobody else is about,
    /// so files may be read here.
    pub(crate) fn apply_now<'a>(&self, frames: impl Iterator<Item = (&'a T::Frame, Lsn, Lsn)> + Clone)
    where
        T::Frame: 'a,
    {
        frames.clone().for_each(|(frame, _, last)| self.target.note_appended(frame, last));
        let apply = self.lock.lock();
        let mut current = self.published.current();
        let mut shown = None;
        for (frame, first, last) in frames {
            if !self.target.is_prepared(current.content(), frame) {
                self.target.prepare(current.content(), frame);
            }
            self.make_room(&mut current, frame, shown, &apply);
            self.target.apply(current.content(), frame, first, last);
            shown = Some(last);
        }
        if let Some(last) = shown {
            self.published.set_visible(last, &apply);
        }
    }

    /// Publishes a version with room for the frame, where the current one has none: a writer looks before it appends, and what
    /// was appended and not applied by then it does not see. Everything up to `shown` is applied.
    fn make_room(
        &self,
        current: &mut Arc<Version<T::Content>>,
        frame: &T::Frame,
        shown: Option<Lsn>,
        apply: &MutexGuard<'_, ApplyLock>,
    ) {
        let visible = shown.unwrap_or_else(|| self.published.visible());
        let Some(next) = self.target.with_room(current.content(), frame, visible) else { return };
        // What was applied to the memtables that are sealed is shown with them: a seal hides nothing of theirs.
        self.published.set_visible(visible, apply);
        self.published.publish(next, apply);
        *current = self.published.current();
    }

    /// The frame in front, if it may be shown. It stays there; whoever asks holds the apply lock.
    fn front_up_to(&self, limit: Lsn) -> Option<(Lsn, Lsn, Arc<T::Frame>)> {
        let queue = self.pending.lock();
        let front = queue.frames.front().filter(|front| front.last <= limit)?;
        let front = if seeded_bug("applied_out_of_order") { queue.frames.back()? } else { front };
        Some((front.first, front.last, Arc::clone(&front.frame)))
    }

    fn pop(&self, frame: &T::Frame) {
        self.pending.lock().pop(T::marks(frame));
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

#[cfg(all(test, not(akidb_loom)))]
mod tests {
    use super::*;

    /// Frames of row numbers, all with one mark.
    #[derive(Debug)]
    struct OneMark;

    impl Target for OneMark {
        type Content = ();
        type Frame = Vec<u32>;

        fn marks(rows: &Vec<u32>) -> impl Iterator<Item = u64> {
            rows.iter().map(|_| 7)
        }

        fn is_prepared(&self, (): &(), _: &Vec<u32>) -> bool {
            true
        }

        fn prepare(&self, (): &(), _: &Vec<u32>) {}

        fn apply(&self, (): &(), _: &Vec<u32>, _: Lsn, _: Lsn) {}
    }

    #[test]
    fn rows_with_the_same_mark_are_told_apart() {
        let applier = Applier::new(OneMark, (), Lsn::ZERO);
        let lsn = |n| Lsn::new(1, n);
        applier.push(lsn(1), lsn(2), Arc::new(vec![1, 2]));
        applier.push(lsn(3), lsn(5), Arc::new(vec![3, 1, 3]));
        let newest = |row: u32| {
            let queued = applier.newest_queued(7, |rows, n| (rows[n] == row).then_some(n))?;
            Some((queued.lsn.counter(), queued.frame_last.counter(), queued.write))
        };
        let all = || [1, 2, 3, 4].map(newest);
        assert_eq!(all(), [Some((4, 5, 1)), Some((2, 2, 1)), Some((5, 5, 2)), None]);
        applier.drain(|| lsn(4));
        assert_eq!(all(), [Some((4, 5, 1)), None, Some((5, 5, 2)), None], "half a frame was shown");
        applier.drain(|| lsn(5));
        assert_eq!((all(), applier.published().visible()), ([None; 4], lsn(5)));
    }
}
