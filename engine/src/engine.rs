//! The running database below its handles: what writes, flushes, searches and the driver share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use akidb_host::{Clock, Fs, SharedRng, Spawn, Ticker};
use object_store::ObjectStore;

use crate::apply::Applier;
use crate::catalog::{Catalog, CollectionState};
use crate::commit::Committer;
use crate::error::{Error, ErrorKind, Result};
use crate::index::Coding;
use crate::limits::Limits;
use crate::log::EngineLog;
use crate::lsn::Lsn;
use crate::memory_budget::Account;
use crate::ops::Memory;
use crate::segment::SegmentName;
use crate::snapshots::Snapshots;
use crate::version::{Version, View};
use crate::workers::Workers;
use crate::write::Sequencer;
use crate::write_pace::WritePace;
use crate::write_stall::{Pending, Stalls};
use crate::write_turns::Turns;

mod dirs;
mod failures;
mod removals;
mod room;

use dirs::Dirs;
use failures::Failures;
use removals::Removals;
pub(crate) use room::{MEMORY, PENDING_WRITES, Room, upserts};

/// Where the machine and the directory are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spawn: Arc<dyn Spawn>,
    /// Where ids and salts come from.
    pub(crate) rng: SharedRng,
    /// Backends that the program brought along, by name.
    pub(crate) stores: Vec<(String, Arc<dyn ObjectStore>)>,
    /// What may be held in memory.
    pub(crate) memory: Account,
}

impl Place {
    pub(crate) fn wal_dir(&self) -> PathBuf {
        self.dir.join("wal")
    }

    pub(crate) fn manifest_dir(&self) -> PathBuf {
        self.dir.join("manifest")
    }

    pub(crate) fn collection_dir(&self, dir_name: &str) -> PathBuf {
        self.dir.join("collections").join(dir_name)
    }
}

/// A merge under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merging {
    pub(crate) collection: u32,
    /// Live rows above which a segment of this collection is merged with no other.
    pub(crate) grown_rows: u64,
    /// Inputs that are small segments.
    pub(crate) small_inputs: usize,
}

/// The writing half: absent when the directory is open for reading only.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) sequencer: Arc<Sequencer<EngineLog, Memory>>,
    pub(crate) committer: Committer,
    /// Epoch of this open and the random number that tells this writer from a copy's.
    pub(crate) epoch: u32,
    pub(crate) writer_id: u32,
    next_segment: AtomicU64,
    /// Files of this writer from this number on may be a merge's, which no manifest names yet; `u64::MAX` without one.
    merging_from: AtomicU64,
    /// The merge under way.
    merging: Mutex<Option<Merging>>,
    /// Held for a whole flush, and while a merge is committed: one owner of change.
    pub(crate) flushing: Mutex<()>,
    /// Held for a whole merge, before `flushing`.
    pub(crate) compacting: Mutex<()>,
    /// Held from the commit that makes, changes or ends a collection until that is published, after `flushing`: nobody works on
    /// what a manifest says and no version shows.
    pub(crate) altering: Mutex<()>,
    /// Whether rows are encoded as they arrive: not while the log is replayed, which must be quick.
    encodes: AtomicBool,
}

impl Writer {
    pub(crate) fn new(
        sequencer: Arc<Sequencer<EngineLog, Memory>>,
        committer: Committer,
        epoch: u32,
        writer_id: u32,
    ) -> Self {
        Self {
            sequencer,
            committer,
            epoch,
            writer_id,
            next_segment: AtomicU64::new(1),
            merging_from: AtomicU64::new(u64::MAX),
            merging: Mutex::new(None),
            flushing: Mutex::new(()),
            compacting: Mutex::new(()),
            altering: Mutex::new(()),
            encodes: AtomicBool::new(false),
        }
    }

    /// Begins to encode rows as they arrive: the log is replayed.
    pub(crate) fn begin_codes(&self) {
        self.encodes.store(true, Ordering::Relaxed);
        self.sequencer.applier().change(|published, _apply| {
            for state in published.current().content().collections.values() {
                state.active.begin_codes(state.coding());
            }
        });
    }

    /// The codes of a collection's next memtable, if rows are encoded as they arrive.
    pub(crate) fn coding(&self, state: &CollectionState) -> Option<Coding> {
        self.encodes.load(Ordering::Relaxed).then(|| state.coding()).flatten()
    }

    /// Keeps the files of a merge from being taken for leftovers, from now until the guard is dropped: unlike a flush
    /// it writes them while gc may run. One merge at a time.
    pub(crate) fn begin_merge(&self, merging: Merging) -> impl Drop + '_ {
        struct Guard<'a>(&'a Writer);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                *self.0.lock_merging() = None;
                self.0.merging_from.store(u64::MAX, Ordering::Release);
            }
        }
        self.merging_from.store(self.next_segment.load(Ordering::Acquire), Ordering::Release);
        *self.lock_merging() = Some(merging);
        Guard(self)
    }

    fn lock_merging(&self) -> MutexGuard<'_, Option<Merging>> {
        self.merging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The merge under way, if it is of this collection.
    fn merging_of(&self, collection: u32) -> Option<Merging> {
        self.lock_merging().filter(|merging| merging.collection == collection)
    }

    /// Whether this file may be of a merge under way.
    pub(crate) fn may_be_merging(&self, name: SegmentName) -> bool {
        (name.epoch, name.writer) == (self.epoch, self.writer_id)
            && name.seq >= self.merging_from.load(Ordering::Acquire)
    }

    /// A segment name never given before.
    pub(crate) fn next_segment_name(&self) -> SegmentName {
        let seq = self.next_segment.fetch_add(1, Ordering::AcqRel);
        SegmentName { epoch: self.epoch, seq, writer: self.writer_id }
    }
}

/// What is published: by the writer's applier, or once and for all when reading only.
#[derive(Debug)]
enum Reading {
    Live(Arc<Sequencer<EngineLog, Memory>>),
    Fixed(Box<Applier<Memory>>),
}

/// What merges did since the open, and why the last one failed.
#[derive(Debug, Default)]
pub(crate) struct Compactions {
    pub(crate) runs: AtomicU64,
    pub(crate) segments_merged: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) failures: Failures,
}

/// A running database.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) place: Place,
    pub(crate) limits: Limits,
    reading: Reading,
    writer: Option<Writer>,
    pub(crate) stalls: Arc<Stalls>,
    /// How fast writes go while flushes are behind.
    pub(crate) pace: WritePace,
    /// What backends lack.
    pub(crate) pending: Pending,
    /// For async callers.
    pub(crate) workers: Workers,
    pub(crate) driver: OnceLock<Arc<dyn Ticker>>,
    /// Free bytes at the last look, and the bound they are compared with.
    pub(crate) free_disk_bytes: AtomicU64,
    min_free_disk_bytes: u64,
    pub(crate) flush_failures: Failures,
    pub(crate) removals: Removals,
    /// The directories of collections.
    pub(crate) dirs: Dirs,
    pub(crate) compactor: OnceLock<Arc<dyn Ticker>>,
    /// Encodes what was replayed; none where that was little.
    pub(crate) encoder: OnceLock<Arc<dyn Ticker>>,
    pub(crate) snapshots: Snapshots,
    pub(crate) compactions: Compactions,
    /// Nobody has written for a while, and everything is flushed.
    at_rest: AtomicBool,
    closed: AtomicBool,
    /// Whether what is read lies on a backend alone.
    pub(crate) is_cold: bool,
}

impl Engine {
    pub(crate) fn writing(place: Place, limits: Limits, min_free_disk_bytes: u64, writer: Writer) -> Self {
        Self::new(
            place,
            limits,
            min_free_disk_bytes,
            Reading::Live(Arc::clone(&writer.sequencer)),
            Some(writer),
        )
    }

    pub(crate) fn read_only(place: Place, limits: Limits, applier: Applier<Memory>) -> Self {
        Self::new(place, limits, 0, Reading::Fixed(Box::new(applier)), None)
    }

    /// Reads what lies on a backend alone.
    pub(crate) fn cold(place: Place, limits: Limits, applier: Applier<Memory>) -> Self {
        Self { is_cold: true, ..Self::read_only(place, limits, applier) }
    }

    fn new(place: Place, limits: Limits, min_free: u64, reading: Reading, writer: Option<Writer>) -> Self {
        let workers = Workers::new(Arc::clone(&place.spawn));
        let turns = Turns::new(Arc::clone(&place.clock), Arc::clone(&place.spawn));
        Self {
            place,
            limits,
            reading,
            writer,
            stalls: Arc::new(Stalls::new(turns)),
            pace: WritePace::default(),
            pending: Pending::default(),
            workers,
            driver: OnceLock::new(),
            free_disk_bytes: AtomicU64::new(u64::MAX),
            min_free_disk_bytes: min_free,
            flush_failures: Failures::default(),
            removals: Removals::default(),
            dirs: Dirs::default(),
            compactor: OnceLock::new(),
            encoder: OnceLock::new(),
            snapshots: Snapshots::default(),
            compactions: Compactions::default(),
            at_rest: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            is_cold: false,
        }
    }

    pub(crate) fn applier(&self) -> &Applier<Memory> {
        match &self.reading {
            Reading::Live(sequencer) => sequencer.applier(),
            Reading::Fixed(applier) => applier,
        }
    }

    /// The snapshot a read works on.
    ///
    /// # Errors
    /// `Closed` after `close`.
    pub(crate) fn view(&self) -> Result<View<Catalog>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        Ok(self.applier().published().view(self.place.clock.unix_micros()))
    }

    /// The writing half.
    ///
    /// # Errors
    /// `Closed` after `close`; `Invalid` when the directory is open for reading only.
    pub(crate) fn writer(&self) -> Result<&Writer> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        self.writer.as_ref().ok_or_else(|| {
            Error::invalid("AKI-0205", "the database is open for reading only")
                .help_is("open it without `read_only`")
        })
    }

    /// The writing half, closed or not, for the end of a database.
    pub(crate) fn writer_if_any(&self) -> Option<&Writer> {
        self.writer.as_ref()
    }

    /// Marks the database closed; `true` for the first caller. Rows in memory stay while somebody holds a handle, and nobody
    /// flushes them.
    pub(crate) fn mark_closed(&self) -> bool {
        self.place.memory.end_flushes();
        !self.closed.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Lets the driver look soon.
    pub(crate) fn wake_driver(&self) {
        if let Some(driver) = self.driver.get() {
            driver.wake();
        }
    }

    /// Lets the compactor look soon: the set of segments changed.
    pub(crate) fn wake_compactor(&self) {
        if let Some(compactor) = self.compactor.get() {
            compactor.wake();
        }
    }

    /// Bytes of log not yet covered by a manifest.
    pub(crate) fn live_wal_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.sequencer.log().inner().watermarks().bytes_live)
    }

    /// Nobody writes and everything is flushed: the log gives back what it can, and merges have time for what they would
    /// leave for later. Blocks for the log's directory.
    pub(crate) fn rest(&self) {
        if let Some(writer) = &self.writer
            && let Err(error) = writer.sequencer.log().inner().rest()
        {
            tracing::warn!(%error, "the log could not be made smaller; it is tried again at the next rest");
        }
        self.at_rest.store(true, Ordering::Release);
        self.wake_compactor();
    }

    /// Somebody writes again.
    pub(crate) fn wake_up(&self) {
        self.at_rest.store(false, Ordering::Release);
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.at_rest.load(Ordering::Acquire)
    }

    /// The current version, also of a closed database: for work that looks again later.
    pub(crate) fn current(&self) -> Arc<Version<Catalog>> {
        self.applier().published().current()
    }

    /// Lets caches give back what they hold beyond the limit of the memory.
    pub(crate) fn shrink_caches(&self) {
        let excess = self.place.memory.excess();
        if excess > 0 {
            // Pages are the cheaper to make again.
            let current = self.current();
            current.content().pages.give_back(excess);
            current.content().filters.give_back(self.place.memory.excess());
        }
    }

    /// Looks at the free space again.
    pub(crate) fn measure_disk(&self) {
        if let Ok(stats) = self.place.fs.statfs(&self.place.dir) {
            self.free_disk_bytes.store(stats.available_bytes, Ordering::Relaxed);
            self.stalls.notify();
        }
    }

    /// Why the last flush of a collection failed, of the first for which that is so.
    pub(crate) fn flush_failure(&self) -> Option<Error> {
        self.flush_failures.first(self.current().content())
    }

    /// The same of merges.
    pub(crate) fn merge_failure(&self) -> Option<Error> {
        self.compactions.failures.first(self.current().content())
    }

    /// Up to where the log is known to survive a power cut. Of what is only read there is no more to know than that it is there.
    pub(crate) fn synced(&self) -> Lsn {
        self.writer.as_ref().map_or(Lsn::MAX, |writer| writer.sequencer.log().synced())
    }

    /// How far writes have come, the chains asserted.
    pub(crate) fn watermarks(&self) -> Watermarks {
        let log = self.writer.as_ref().map(|writer| writer.sequencer.log());
        // Read from the lowest up, so that a concurrent write cannot make a chain look broken.
        let released = log.map(|log| log.inner().watermarks().floor.pred());
        let seen = self.applier().published().visible();
        let unflushed = self.current().content().oldest_unflushed();
        let flushed = unflushed.map_or(seen, Lsn::pred).min(seen);
        let visible = self.applier().published().visible();
        let Some(log) = log else {
            return Watermarks { appended: visible, synced: visible, visible, flushed, released: flushed };
        };
        let synced = log.synced();
        let marks = Watermarks {
            appended: log.inner().watermarks().appended.max(synced),
            synced,
            visible,
            // Rows of a dropped collection are in no memtable, synced or not.
            flushed: flushed.min(synced),
            released: released.unwrap_or(flushed),
        };
        marks.assert_chains(log.shows_unsynced());
        marks
    }
}

/// How far writes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The last record given to the log.
    pub appended: Lsn,
    /// The last record that survives a power cut.
    pub synced: Lsn,
    /// The last record every read sees.
    pub visible: Lsn,
    /// Everything up to here is in segments and deletion vectors.
    pub flushed: Lsn,
    /// The log need not hold anything up to here any more.
    pub released: Lsn,
}

impl Watermarks {
    /// `appended >= synced >= visible >= flushed >= released`; where what is not synced is shown,
    /// `appended >= visible` and `synced >= flushed` instead.
    fn assert_chains(&self, shows_unsynced: bool) {
        let Self { appended, synced, visible, flushed, released } = *self;
        assert!(
            appended >= synced && synced >= flushed && flushed >= released,
            "a chain is broken: {self:?}"
        );
        assert!(visible >= flushed, "what is flushed was shown: {self:?}");
        if shows_unsynced {
            assert!(appended >= visible, "what is shown was appended: {self:?}");
        } else {
            assert!(synced >= visible, "what is shown is synced: {self:?}");
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "AKI-0206", "the database is closed").help_is("open it again")
}

/// The path of a file of a collection.
pub(crate) fn deletion_vector_dir(collection_dir: &Path) -> PathBuf {
    collection_dir.join("dv")
}
