//! The sequencer: one lock under which a write gets its place in the log and in the queue.

use crate::apply::{Applier, Target};
use crate::lsn::Lsn;
use crate::sync::{Arc, Mutex};

/// The log as the sequencer needs it.
pub(crate) trait WriteLog {
    /// What a failed call answers.
    type Error;

    /// Appends the records as one frame, all or none; never waits for a sync.
    fn append(&self, records: &[&[u8]]) -> Result<(Lsn, Lsn), Self::Error>;

    /// Blocks until everything up to `lsn` survives a power cut. An error means: unknown.
    fn wait(&self, lsn: Lsn) -> Result<(), Self::Error>;

    /// The highest LSN that survives a power cut.
    fn synced(&self) -> Lsn;
}

/// Orders writes, and makes them visible once they are synced.
#[derive(Debug)]
pub(crate) struct Sequencer<L, T: Target> {
    log: L,
    /// The sequencer lock: taken before the log's append lock, never held across a sync.
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

    /// Appends the records and queues their frame: from here on the write will happen, whoever waits for it.
    ///
    /// `check` runs under the sequencer lock, against the newest *appended* state; if it fails nothing is logged.
    pub(crate) fn submit(
        &self,
        records: &[&[u8]],
        frame: Arc<T::Frame>,
        check: impl FnOnce() -> Result<(), L::Error>,
    ) -> Result<(Lsn, Lsn), L::Error> {
        let (first, last) = {
            let _order = self.order.lock();
            check()?;
            let (first, last) = self.log.append(records)?;
            self.applier.push(first, last, frame);
            (first, last)
        };
        // Append and push are not one step: a sync that covered the append may have drained before the push.
        if self.log.synced() >= last {
            self.drain();
        }
        Ok((first, last))
    }

    /// Blocks until the write that ends at `last` is durable and visible.
    pub(crate) fn finish(&self, last: Lsn) -> Result<(), L::Error> {
        self.log.wait(last)?;
        self.drain();
        assert!(self.applier.published().visible() >= last, "acknowledged {last} before it is visible");
        Ok(())
    }

    /// Shows what is synced. Called by every writer whose sync returned, and by the log after each sync.
    pub(crate) fn drain(&self) {
        self.applier.drain(|| self.log.synced());
    }
}
