//! The sequencer: one lock under which a write gets its place in the log and in the queue.

use akidb_host::seeded_bug;

use crate::apply::{Applier, Target};
use crate::lsn::Lsn;
use crate::sync::{Arc, Mutex, MutexGuard};

/// The log as the sequencer needs it.
pub(crate) trait WriteLog {
    /// What a failed call answers.
    type Error;

    /// Appends the records as one frame, all or none, and waits for nothing. `None`: the next file is not ready yet,
    /// and nothing was logged.
    fn append_nowait(&self, records: &[&[u8]]) -> Result<Option<(Lsn, Lsn)>, Self::Error>;

    /// Blocks until an append of these records may fit; called with no lock held.
    fn wait_for_room(&self, records: &[&[u8]]) -> Result<(), Self::Error>;

    /// Blocks until everything up to `lsn` survives a power cut. An error means: unknown.
    fn wait(&self, lsn: Lsn) -> Result<(), Self::Error>;

    /// Up to where frames may be shown: what survives a power cut, or where the database was opened so, whatever is
    /// appended.
    fn showable(&self) -> Lsn;
}

/// What a check under the sequencer lock found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The write may go on.
    Holds,
    /// What was looked up before is out of date: look again, without the lock.
    Stale,
    /// It was written before, from the first LSN to the last; not again.
    Earlier(Lsn, Lsn),
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is in the log's order, from the first LSN to the last.
    At(Lsn, Lsn),
    /// [`Checked::Earlier`]: it had this place already; nothing happened.
    Earlier(Lsn, Lsn),
    /// The log's next file is not ready yet, and the call does not wait; nothing happened.
    NoRoom,
    /// [`Checked::Stale`]; nothing happened.
    Stale,
}

/// Orders writes, and makes them visible once they may be.
#[derive(Debug)]
pub(crate) struct Sequencer<L, T: Target> {
    log: L,
    /// The sequencer lock: taken before the log's append lock, never held across a sync or a wait for a log file.
    order: Mutex<()>,
    applier: Applier<T>,
}

impl<L: WriteLog, T: Target> Sequencer<L, T> {
    pub(crate) fn new(log: L, applier: Applier<T>) -> Self {
        Self { log, order: Mutex::new(()), applier }
    }

    pub(crate) fn log(&self) -> &L {
        &self.log
    }

    pub(crate) fn applier(&self) -> &Applier<T> {
        &self.applier
    }

    /// Appends the records and queues their frame: from here on the write will happen, whoever waits for it. Blocks for
    /// the next log file where one is needed, with no lock held, so that whoever finds room goes on.
    ///
    /// `check` runs under the sequencer lock, against the newest *appended* state; if it fails nothing is logged. It reads
    /// no file; where it would have to, nothing is logged either and the answer is [`Placed::Stale`].
    pub(crate) fn submit(
        &self,
        records: &[&[u8]],
        frame: &Arc<T::Frame>,
        check: impl Fn() -> Result<Checked, L::Error>,
    ) -> Result<Placed, L::Error> {
        let (placed, last) = loop {
            let order = self.order.lock();
            let placed = self.place(&order, records, frame, &check)?;
            let _held = seeded_bug("room_wait_under_lock").then_some(order);
            match placed {
                Placed::At(_, last) => break (placed, last),
                Placed::NoRoom => self.log.wait_for_room(records)?,
                Placed::Stale | Placed::Earlier(..) => return Ok(placed),
            }
        };
        // Append and push are not one step: a sync that covered the append may have drained before the push.
        if self.log.showable() >= last && !seeded_bug("no_drain_after_push") {
            self.drain();
        }
        Ok(placed)
    }

    /// As [`Sequencer::submit`], and waits for nothing. The caller drains afterwards, as a sync may have covered the
    /// append before the push.
    pub(crate) fn submit_nowait(
        &self,
        records: &[&[u8]],
        frame: &Arc<T::Frame>,
        check: impl Fn() -> Result<Checked, L::Error>,
    ) -> Result<Placed, L::Error> {
        self.place(&self.order.lock(), records, frame, &check)
    }

    fn place(
        &self,
        _order: &MutexGuard<'_, ()>,
        records: &[&[u8]],
        frame: &Arc<T::Frame>,
        check: &impl Fn() -> Result<Checked, L::Error>,
    ) -> Result<Placed, L::Error> {
        match check()? {
            Checked::Holds => {}
            Checked::Stale => return Ok(Placed::Stale),
            Checked::Earlier(first, last) => return Ok(Placed::Earlier(first, last)),
        }
        let Some((first, last)) = self.log.append_nowait(records)? else { return Ok(Placed::NoRoom) };
        self.applier.push(first, last, Arc::clone(frame));
        Ok(Placed::At(first, last))
    }

    /// Blocks until the write that ends at `last` counts as written: visible, and durable first unless the database
    /// was opened to show what is not.
    pub(crate) fn acknowledge(&self, last: Lsn) -> Result<(), L::Error> {
        if self.log.showable() < last {
            self.log.wait(last)?;
        }
        self.show(last);
        Ok(())
    }

    /// Blocks until the write that ends at `last` is durable and visible.
    pub(crate) fn finish(&self, last: Lsn) -> Result<(), L::Error> {
        self.log.wait(last)?;
        self.show(last);
        Ok(())
    }

    fn show(&self, last: Lsn) {
        self.drain();
        self.assert_shown(last);
    }

    /// Nothing is acknowledged before every read sees it.
    pub(crate) fn assert_shown(&self, last: Lsn) {
        assert!(self.applier.published().visible() >= last, "acknowledged {last} before it is visible");
    }

    /// Shows what may be shown. Called by every writer whose sync returned, and by the log after each sync. Reads
    /// files where a flush came between a frame and what was looked up for it.
    pub(crate) fn drain(&self) {
        self.applier.drain(|| self.log.showable());
    }

    /// As [`Sequencer::drain`], without reading a file: `false` if that is what has to be done first.
    pub(crate) fn drain_ready(&self) -> bool {
        self.applier.drain_ready(|| self.log.showable()).is_none()
    }
}
