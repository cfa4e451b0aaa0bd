//! The receipt of a write that is in the log's order.

use std::sync::Arc;

use crate::catalog::Damage;
use crate::engine::{Engine, Writer};
use crate::error::Result;
use crate::lsn::Lsn;
use crate::ops::Op;

/// A write that is in the log's order and will happen; [`Receipt::wait`] says when it is durable.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub(super) engine: Arc<Engine>,
    pub(super) ops: Arc<Vec<Op>>,
    pub(super) first: Lsn,
    pub(super) last: Lsn,
    /// Whether these are the LSNs of an earlier write under the same key.
    pub(super) is_repeat: bool,
    /// The wall clock when it was appended.
    pub(super) appended_micros: i64,
    /// The write's span, so that waiting is part of the same tree.
    pub(super) span: tracing::Span,
}

impl Receipt {
    /// LSN of the write's first record.
    #[must_use]
    pub fn first(&self) -> Lsn {
        self.first
    }

    /// LSN of the write's last record.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// Whether a batch with this idempotency key was written before: the LSNs are of then, and nothing was written now.
    #[must_use]
    pub fn is_repeat(&self) -> bool {
        self.is_repeat
    }

    /// Blocks until the write survives a power cut and every read sees it, whatever durability the database was
    /// opened with. Dropping the receipt cancels nothing.
    ///
    /// # Errors
    /// `Poisoned` with fate `Unknown` when the sync failed: the write may or may not be there after a reopen.
    pub fn wait(&self) -> Result<Lsn> {
        let _span = self.span.enter();
        self.writer().sequencer.finish(self.last)?;
        self.applied()
    }

    /// Blocks until the write counts as written: what `upsert` waits for.
    pub(crate) fn acknowledged(&self) -> Result<Lsn> {
        let _span = self.span.enter();
        self.writer().sequencer.acknowledge(self.last)?;
        self.applied()
    }

    pub(super) fn writer(&self) -> &Writer {
        self.engine.writer_if_any().expect("a receipt comes from a writer")
    }

    /// What became of the write, which is visible. Refuses when it could not be applied: its file is damaged. What is shown
    /// before it is synced may not be durable yet, whichever of the waits it was.
    pub(super) fn applied(&self) -> Result<Lsn> {
        if let Some(damage) = self.damage() {
            return Err(damage.told_of(self.last, self.engine.synced()));
        }
        self.wake_if_due();
        Ok(self.last)
    }

    /// Why it could not be applied, if so.
    fn damage(&self) -> Option<Damage> {
        if let Some(damage) = self.ops.iter().find_map(Op::failure) {
            return Some(damage.clone());
        }
        if !self.is_repeat {
            return None;
        }
        // What became of the first is known to its collections: where one was damaged before its end, it may not be applied.
        let current = self.engine.current();
        let states = self.ops.iter().filter_map(|op| current.content().collections.get(&op.collection()));
        states.filter_map(|state| state.damage.get()).find(|damage| damage.lsn() <= self.last).cloned()
    }

    /// Whether a live row was removed or replaced; known once the write is visible.
    pub(super) fn existed(&self) -> bool {
        self.ops.iter().any(|op| op.existed(self.appended_micros))
    }

    /// Lets the driver look when a memtable this write went to, or the log, is due.
    fn wake_if_due(&self) {
        let current = self.engine.current();
        let (catalog, limits) = (current.content(), &self.engine.limits);
        let is_due = |collection: u32| {
            let state = catalog.collections.get(&collection);
            state.is_some_and(|s| !s.sealed.is_empty() || limits.is_active_full(s))
        };
        let mut looked = None;
        let mut collections = self.ops.iter().map(Op::collection);
        if collections.any(|collection| looked.replace(collection) != Some(collection) && is_due(collection))
            || self.engine.live_wal_bytes() >= limits.wal_flush_bytes
        {
            self.engine.wake_driver();
        }
        self.engine.place.memory.call_first();
    }
}
