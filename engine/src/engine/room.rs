//! Whether there is room for a write, or for a merge: the bounds of memory, log and disk, and which of them holds it back.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use akidb_host::{Clock, RealClock};

use super::Engine;
use crate::catalog::{Catalog, CollectionState, LiveSegment};
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::memory_budget::MemoryUse;
use crate::ops::Op;
use crate::write_pace::{LONGEST, LONGEST_FOR_OTHERS};
use crate::write_stall::Stall;

/// The name of the bound that memory is.
pub(crate) const MEMORY: &str = "memory_bytes";
/// The name of the bound on what is appended and not applied.
pub(crate) const PENDING_WRITES: &str = "pending_writes";

/// Whether a write may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    /// The active memtable is full.
    SealFirst,
    /// A bound is reached.
    Stalled,
}

/// The bytes of memtable that operations add, by their collections.
pub(crate) fn upserts(ops: &[Op]) -> impl Iterator<Item = (u32, u64)> {
    ops.iter().map(|op| (op.collection(), op.memtable_bytes()))
}

impl Engine {
    /// Whether a write of so many bytes to `collection` may go on, by one look.
    pub(crate) fn room(&self, collection: u32, bytes: u64) -> Room {
        let current = self.current();
        if self.is_active_full(current.content(), collection) {
            Room::SealFirst
        } else if self.stall_in(current.content(), collection, bytes).is_some() {
            Room::Stalled
        } else {
            Room::Yes
        }
    }

    /// How many sealed memtables of a collection may wait: one more than the setting says while one of them was replayed. A crash
    /// found them full and the flush under way begins anew: the first write would stand for the whole of it.
    pub(crate) fn sealed_bound(&self, state: &CollectionState) -> usize {
        let is_earlier = |lsn: Lsn| self.writer_if_any().is_some_and(|writer| lsn.epoch() < writer.epoch);
        let is_replayed =
            state.sealed.iter().any(|(memtable, _)| memtable.first_op().is_some_and(is_earlier));
        self.limits.sealed_memtables + usize::from(is_replayed)
    }

    /// How full the memtable of a collection is that no other may follow before a flush ends; `None` while others may.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn filled_last(&self, catalog: &Catalog, collection: u32) -> Option<f64> {
        let state = catalog.collections.get(&collection)?;
        let is_last = state.sealed.len() >= self.sealed_bound(state);
        is_last.then(|| state.active.bytes() as f64 / self.limits.full_memtable_bytes(state) as f64)
    }

    /// Holds a write to the pace of flushes, where they are behind: blocks for as long as its rows take at that pace, a second at
    /// most, for 50 ms at most of what others were promised before, and no longer than until a flush ends. Whether it did.
    pub(crate) fn keep_pace(&self, ops: &[Op]) -> bool {
        // Real time: so long a thread is held up.
        let since = RealClock.now();
        let pace = self.wait_at_pace(upserts(ops), LONGEST_FOR_OTHERS, since);
        let Some((wait, held_by)) = pace else { return false };
        self.stalls.pause(wait, || self.filled_last(self.current().content(), held_by).is_some());
        self.pace.note_wait(RealClock.now().saturating_duration_since(since));
        true
    }

    /// As [`Engine::keep_pace`], awaited: it holds no thread, and so may wait a second for what others were promised, too.
    /// `writes` are collections and bytes of memtable, about where the rows are not encoded yet.
    pub(crate) async fn await_turn(&self, writes: impl Iterator<Item = (u32, u64)>) {
        let turns = &self.stalls.turns;
        let since = turns.now();
        let Some((wait, held_by)) = self.wait_at_pace(writes, LONGEST, since) else { return };
        let is_held = || !self.is_closed() && self.filled_last(self.current().content(), held_by).is_some();
        turns.wait(since + wait, is_held).await;
        self.pace.note_wait(turns.now().saturating_duration_since(since));
    }

    /// How long writes of so many bytes of memtable, by collections, are to wait at `now`, and which of these holds them up most.
    fn wait_at_pace(
        &self,
        writes: impl Iterator<Item = (u32, u64)>,
        for_others: Duration,
        now: Instant,
    ) -> Option<(Duration, u32)> {
        let (mut bytes, mut fullest, mut looked) = (0, None, None);
        let current = self.current();
        for (collection, more) in writes {
            let filled = match looked {
                Some((of, filled)) if of == collection => filled,
                _ => self.filled_last(current.content(), collection),
            };
            looked = Some((collection, filled));
            if let Some(filled) = filled {
                bytes += more;
                if fullest.is_none_or(|(most, _)| filled > most) {
                    fullest = Some((filled, collection));
                }
            }
        }
        let (filled, collection) = fullest.filter(|_| bytes > 0)?;
        let wait = self.pace.wait_of(bytes, filled, for_others, now);
        (!wait.is_zero()).then_some((wait, collection))
    }

    /// The bound that holds a write of so many bytes to `collection` back, if one does.
    pub(crate) fn stall(&self, collection: u32, bytes: u64) -> Option<Stall> {
        self.stall_in(self.current().content(), collection, bytes)
    }

    fn stall_in(&self, catalog: &Catalog, collection: u32, bytes: u64) -> Option<Stall> {
        let state = catalog.collections.get(&collection);
        let (sealed, bound) = state.map_or((0, 1), |state| (state.sealed.len(), self.sealed_bound(state)));
        let cause =
            || self.flush_failure().map_or_else(String::new, |e| format!("; the last flush failed: {e}"));
        if sealed >= bound && self.is_active_full(catalog, collection) {
            let detail = format!("{sealed} sealed memtables wait for their flush{}", cause());
            return Some(Stall { which: "sealed_memtables", detail });
        }
        if let Some(small) = self.small_segments(catalog, collection) {
            let detail = format!("{small} small segments wait to be merged, and a merge is under way");
            return Some(Stall { which: "max_small_segments", detail });
        }
        if let Some(stall) = self.queue_stall(bytes) {
            return Some(stall);
        }
        if self.place.memory.holds_back(bytes) {
            let budget = self.place.memory.budget();
            let (used, limit) = (budget.used_bytes(), budget.limit_bytes());
            let detail = format!("{used} bytes are held in memory of {limit} allowed{}", cause());
            return Some(Stall { which: MEMORY, detail });
        }
        let live = self.live_wal_bytes();
        if live + bytes >= self.limits.wal_max_bytes {
            let detail =
                format!("{live} bytes of live log of {} allowed{}", self.limits.wal_max_bytes, cause());
            return Some(Stall { which: "wal_max_bytes", detail });
        }
        let free = self.free_disk_bytes.load(Ordering::Relaxed);
        if free < self.min_free_disk_bytes {
            let detail = format!(
                "{free} bytes free under {}, at least {} are kept; make room and writes go on by themselves",
                self.place.dir.display(),
                self.min_free_disk_bytes
            );
            return Some(Stall { which: "min_free_disk", detail });
        }
        self.pending.stall(self.limits.max_pending_bytes)
    }

    /// Whether too much is queued for so many bytes more. What is appended is applied once it is synced: while a sync stands
    /// still the queue grows, and no memtable does.
    fn queue_stall(&self, bytes: u64) -> Option<Stall> {
        let (queued, most) =
            (self.applier().target().queued_bytes(), self.place.memory.share(MemoryUse::Writes));
        if queued == 0 || queued + bytes <= most {
            return None;
        }
        // A log that syncs nothing more has its own word for it.
        let log = self.writer.as_ref()?.sequencer.log();
        if log.shows_unsynced() || log.is_poisoned() {
            return None;
        }
        let detail = format!("{queued} bytes of writes wait for the log's sync, of {most} allowed");
        Some(Stall { which: PENDING_WRITES, detail })
    }

    /// Until when a write that begins now waits at bounds.
    pub(crate) fn patience_ends(&self) -> Instant {
        self.stalls.turns.now() + self.limits.write_stall_timeout
    }

    /// Waits while too much is queued for so many bytes more, until `due` at most, and holds no thread.
    ///
    /// # Errors
    /// `Full` if it still is too much then; nothing was written.
    pub(crate) async fn await_queue(&self, bytes: u64, due: Instant) -> Result<()> {
        let stall = || if self.is_closed() { None } else { self.queue_stall(bytes) };
        if stall().is_none() {
            return Ok(());
        }
        let hurried = RefCell::new(None);
        let is_held = move || {
            if self.stalls.note_at_queue() {
                hurried.replace(self.writer.as_ref().map(|writer| writer.sequencer.log().hurry()));
            }
            stall().is_some()
        };
        self.stalls.turns.wait(due, is_held).await;
        stall().map_or(Ok(()), |stall| Err(stall.error()))
    }

    /// How many small segments a collection has beside those that are being merged, if that is too many and they are
    /// about to become fewer. Without a merge under way (switched off, or a damaged input) more of them are better than
    /// no writes; those that no merge takes any more do not count.
    fn small_segments(&self, catalog: &Catalog, collection: u32) -> Option<usize> {
        let segments = &catalog.collections.get(&collection)?.segments;
        if segments.len() <= self.limits.small_segments {
            return None;
        }
        let merging = self.writer.as_ref()?.merging_of(collection)?;
        let small = segments.iter().filter(|live| self.is_small(live, merging.grown_rows)).count();
        // The inputs may have left already.
        let small = small.saturating_sub(merging.small_inputs);
        (small > self.limits.small_segments).then_some(small)
    }

    /// Whether a segment counts for that bound.
    pub(crate) fn is_small(&self, live: &LiveSegment, grown_rows: u64) -> bool {
        let rows = u64::from(live.segment.rows()) - live.deletion_vector.len();
        live.segment.meta().size < self.limits.small_segment_bytes() && rows <= grown_rows
    }

    /// Refuses to write so many bytes that need not be written where less would be left free than is kept.
    ///
    /// # Errors
    /// `NoSpace`.
    pub(crate) fn has_disk_for(&self, bytes: u64) -> Result<()> {
        self.measure_disk();
        let free = self.free_disk_bytes.load(Ordering::Relaxed);
        if free.saturating_sub(bytes) >= self.min_free_disk_bytes {
            return Ok(());
        }
        let message = format!(
            "a merge needs about {bytes} bytes, {free} are free and at least {} are kept",
            self.min_free_disk_bytes
        );
        Err(Error::new(ErrorKind::NoSpace, "AKI-0268", message)
            .at(&self.place.dir, None)
            .help_is("make room; merges go on by themselves, writes do not wait for them"))
    }

    fn is_active_full(&self, catalog: &Catalog, collection: u32) -> bool {
        catalog.collections.get(&collection).is_some_and(|state| self.limits.is_active_full(state))
    }
}
