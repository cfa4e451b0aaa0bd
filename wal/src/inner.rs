//! What the log's callers and its threads share: the file being written, the files before it, the next one.
//!
//! Two locks, append before commit and neither across a sync: *append* orders frames and owns the files, *commit*
//! says who syncs. A sync covers the files with unsynced frames, oldest first, up to what was appended when it
//! began; appends go on meanwhile, into the next file too. START of that file claims only what was synced when it
//! was encoded, so it may reach the disk before the old file's tail does.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use akidb_host::{Clock, File, ForkMark, Fs, Region, Rng, seeded_bug};

use crate::commit::{Commit, Turn};
use crate::config::{Config, Options};
use crate::control::Control;
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::findings::{Findings, OldFile};
use crate::frame::{FrameType, HARD_MAX_PAYLOAD_BYTES, MAX_RECORDS, Start, StartKind, frame_bytes};
use crate::linger::Linger;
use crate::log_file::LogFile;
use crate::lsn::Lsn;
use crate::open::{self, Identity};
use crate::spares::Spares;
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, lock, wait};
use crate::threads;
use crate::watermark::Watermark;

/// A file that fills in less calls for the next one at once.
const QUICK_FILE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) me: Identity,
    fork: ForkMark,
    pub(crate) read_only: bool,
    pub(crate) append: Mutex<Writing>,
    /// A spare arrived, or could not be made.
    pub(crate) room: Condvar,
    pub(crate) commit: Commit,
    pub(crate) linger: Linger,
    pub(crate) counts: Counts,
    pub(crate) appended: Watermark,
    pub(crate) floor: Watermark,
    /// The commit thread is awake and will look again by itself.
    pub(crate) armed: AtomicBool,
    pub(crate) threads: OnceLock<threads::Threads>,
    pub(crate) closing: Mutex<bool>,
    /// Files of earlier opens that nobody will read again, and their maps. Unmapping and removing a large one takes tens
    /// of milliseconds: the prepare thread does it.
    pub(crate) unread: Mutex<Vec<(PathBuf, Option<Region>)>>,
}

/// Guarded by the append lock.
#[derive(Debug)]
pub(crate) struct Writing {
    /// The file being written; `None` if the log is read-only.
    pub(crate) active: Option<LogFile>,
    pub(crate) sealed: bool,
    pub(crate) next: Lsn,
    pub(crate) last: Lsn,
    /// Highest durable stamp written.
    pub(crate) stamped: Lsn,
    /// Files before the active one, oldest first.
    pub(crate) old: VecDeque<Old>,
    pub(crate) old_used: u64,
    pub(crate) spares: Spares,
    /// When the active file came into use.
    pub(crate) active_since: Instant,
    pub(crate) rng: Rng,
}

/// What happened so far, for [`crate::Log::counters`].
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) syncs: AtomicU64,
    pub(crate) frames_synced: AtomicU64,
    pub(crate) rotations: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Old {
    pub(crate) file: OldFile,
    /// What it was written through, if that was since this open.
    pub(crate) written: Option<LogFile>,
    /// No sync has covered it yet.
    pub(crate) unsynced: bool,
}

/// A file with frames that no sync has covered.
struct Unsynced {
    seq: u64,
    path: Arc<Path>,
    file: Arc<dyn File>,
    /// Its last record.
    last: Lsn,
    /// Of the active file: frames since the last sync began.
    active_frames: Option<u64>,
}

impl Writing {
    fn oldest_unsynced(&self) -> Option<Unsynced> {
        let old = self.old.iter().find(|old| old.unsynced)?;
        let written = old.written.as_ref().expect("only what was written since this open is unsynced");
        Some(Unsynced {
            seq: old.file.seq,
            path: written.path.clone(),
            file: written.file.clone(),
            last: old.file.last,
            active_frames: None,
        })
    }

    /// Bytes of all files, those made ahead and those kept for another life included.
    pub(crate) fn disk(&self) -> u64 {
        let old: u64 = self.old.iter().map(|old| old.file.size).sum();
        let ahead = self.spares.ready.iter().chain(&self.active).map(|file| file.header.file_bytes);
        let retired = self.spares.retired.iter().map(|file| file.bytes);
        old + ahead.chain(retired).sum::<u64>()
    }

    pub(crate) fn live(&self) -> u64 {
        self.old_used + self.active.as_ref().map_or(0, LogFile::end)
    }
}

impl Inner {
    pub(crate) fn new(
        options: &Options,
        me: Identity,
        found: &Findings,
        active: Option<LogFile>,
        rng: Rng,
        control: Control,
    ) -> Self {
        let old: VecDeque<_> = found
            .live
            .iter()
            .map(|file| Old { file: file.clone(), written: None, unsynced: false })
            .collect();
        let writing = Writing {
            next: Lsn::new(me.epoch, 1),
            last: found.last,
            stamped: found.last,
            old_used: old.iter().map(|old| old.file.used).sum(),
            old,
            spares: Spares::new(
                options.config.first_file_bytes.saturating_mul(4).min(options.config.max_file_bytes),
            ),
            active_since: options.clock.now(),
            sealed: false,
            active,
            rng,
        };
        Self {
            fs: options.fs.clone(),
            clock: options.clock.clone(),
            dir: options.dir.clone(),
            config: options.config.clone(),
            me,
            fork: ForkMark::new(),
            read_only: options.read_only,
            append: Mutex::new(writing),
            room: Condvar::new(),
            commit: Commit::new(found.last, control),
            linger: Linger::new(options.config.linger_max),
            counts: Counts::default(),
            appended: Watermark::new(found.last),
            floor: Watermark::new(options.floor),
            armed: AtomicBool::new(false),
            threads: OnceLock::new(),
            closing: Mutex::new(false),
            unread: Mutex::default(),
        }
    }

    pub(crate) fn check_batch(&self, records: &[&[u8]]) -> Result<(u16, u32)> {
        let bytes: u64 = records.iter().map(|record| record.len() as u64).sum();
        let max = self.config.max_batch_bytes.min(HARD_MAX_PAYLOAD_BYTES - MAX_RECORDS * 4);
        let count = u16::try_from(records.len());
        let (Ok(count), true) = (count, bytes <= max) else {
            let records = records.len() as u64;
            return Err(Error::refused(ErrorKind::TooLarge {
                bytes,
                records,
                max,
                max_records: MAX_RECORDS,
            }));
        };
        if count == 0 {
            return Err(Error::refused(ErrorKind::Invalid("a batch needs at least one record".into())));
        }
        let len = u32::try_from(bytes + u64::from(count) * 4).expect("bounded by the hard limit");
        Ok((count, len))
    }

    /// The append lock, with room for a frame of so many bytes in the active file. Waits for the next file, or makes
    /// it, with no lock held.
    pub(crate) fn room_for(&self, bytes: u64) -> Result<MutexGuard<'_, Writing>> {
        let mut writing = lock(&self.append);
        loop {
            match self.take_room(&mut writing, bytes) {
                Ok(true) => return Ok(writing),
                Ok(false) if writing.spares.making => writing = wait(&self.room, writing),
                Ok(false) => {
                    self.make_spare(writing, bytes).map_err(|e| e.with_fate(Fate::NotWritten))?;
                    writing = lock(&self.append);
                }
                Err(e) => {
                    drop(writing);
                    self.tell_if_poisoned(&e);
                    return Err(e);
                }
            }
        }
    }

    /// After [`Inner::take_room`], once its lock is released: it may have poisoned the log, and tells nobody.
    pub(crate) fn tell_if_poisoned(&self, error: &Error) {
        if matches!(error.kind(), ErrorKind::Poisoned { .. }) {
            self.commit.tell_of_poison();
        }
    }

    /// Whether the active file has room for a frame of so many bytes; goes on in the next file if that is ready.
    ///
    /// # Errors
    /// Why no frame of that size can be appended now. Nothing was logged. See [`Inner::tell_if_poisoned`].
    pub(crate) fn take_room(&self, writing: &mut Writing, bytes: u64) -> Result<bool> {
        if writing.sealed || writing.active.is_none() {
            return Err(Error::refused(ErrorKind::Closed));
        }
        if let Some(cause) = self.commit.poison() {
            return Err(Error::refused(ErrorKind::Poisoned { cause }));
        }
        let (live, limit) = (writing.live(), self.config.max_bytes);
        if live + bytes > limit {
            return Err(Error::refused(ErrorKind::Full { live, limit }));
        }
        if writing.active.as_ref().is_some_and(|file| file.has_room(bytes)) {
            return Ok(true);
        }
        let fits = |next: &LogFile| next.header.file_bytes >= open::file_bytes(0, bytes);
        if !writing.spares.ready.front().is_some_and(fits) {
            return Ok(false);
        }
        let next = writing.spares.ready.pop_front().expect("one is ready");
        self.rotate(writing, next).map_err(|cause| Error::refused(ErrorKind::Poisoned { cause }))?;
        Ok(true)
    }

    /// Goes on in `next`. Nothing is waited for: the sync path will sync the old file first.
    ///
    /// # Errors
    /// Why the end of the old file could not be written: frames may be missing from it, so the log is poisoned, and
    /// nobody was told. See [`Inner::tell_if_poisoned`].
    pub(crate) fn rotate(
        &self,
        writing: &mut Writing,
        mut next: LogFile,
    ) -> std::result::Result<(), Arc<str>> {
        let durable = self.commit.synced();
        let mut old = writing.active.take().expect("only an open log rotates");
        let sealed = old.write_mark(FrameType::Seal, writing.next, durable, &[]).and_then(|()| old.flush());
        let start = Start {
            kind: StartKind::Continue,
            previous_seq: old.header.seq,
            previous_last: writing.last,
            previous_end: old.end(),
            epoch: self.me.epoch,
            boot_id: self.me.boot_id,
        };
        let started = next.write_mark(FrameType::Start, writing.next, durable, &start.encode());
        let failed = match (&sealed, &started) {
            (Err(e), _) => Some(write_cause(&old.path, e)),
            (_, Err(e)) => Some(write_cause(&next.path, e)),
            _ => None,
        };
        writing.old_used += old.end();
        let (seq, size, used) = (old.header.seq, old.header.file_bytes, old.end());
        let file = OldFile { seq, path: old.path.clone(), used, size, last: writing.last };
        writing.old.push_back(Old { file, written: Some(old), unsynced: true });
        self.commit.control.rotated(next.header.seq, writing.last);
        writing.active = Some(next);
        writing.stamped = durable;
        let now = self.clock.now();
        let quick = now.duration_since(writing.active_since) < QUICK_FILE;
        writing.active_since = now;
        writing.spares.rotated(quick);
        self.counts.rotations.fetch_add(1, Ordering::Relaxed);
        failed.map_or(Ok(()), |cause| Err(self.write_failed(cause)))
    }

    /// A write of frames failed: what of them is in the file is not known. Called under the append lock, so that whoever
    /// takes it next sees the poison: neither appends behind half a frame nor takes the file for written. Tells nobody;
    /// once the lock is released [`Commit::tell_of_poison`] is to be called, or [`Commit::finish`].
    pub(crate) fn write_failed(&self, cause: Arc<str>) -> Arc<str> {
        self.commit.poison_untold(cause.clone());
        cause
    }

    /// Refuses a child of fork(): the lock, the files and the maps are the parent's, and its threads are not here.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.fork.is_forked() { Err(Error::refused(ErrorKind::Forked)) } else { Ok(()) }
    }

    pub(crate) fn check_appended(&self, lsn: Lsn) -> Result<()> {
        if lsn <= self.appended.get() {
            return Ok(());
        }
        let text = format!("record {lsn} was never appended; the last one is {}", self.appended.get());
        Err(Error::refused(ErrorKind::Invalid(text)))
    }

    pub(crate) fn wait(&self, lsn: Lsn) -> Result<()> {
        if seeded_bug("ack_before_sync") {
            return Ok(());
        }
        loop {
            match self.commit.turn(lsn) {
                Turn::Done => return Ok(()),
                Turn::Poisoned(cause) => return Err(poisoned(cause)),
                Turn::Lead => {
                    // A clock has no place in a model.
                    if !cfg!(akidb_loom) {
                        self.linger.gather(&*self.clock);
                    }
                    self.lead();
                }
            }
        }
    }

    /// Syncs as the leader and tells everyone.
    pub(crate) fn lead(&self) {
        let result = self.sync_files();
        if self.commit.finish(result) {
            self.wake_commit();
        }
    }

    /// Syncs every file with unsynced frames, oldest first, up to what is appended when the active one's turn comes.
    pub(crate) fn sync_files(&self) -> std::result::Result<(), Arc<str>> {
        loop {
            let Some(unsynced) = self.next_unsynced(&mut lock(&self.append))? else { return Ok(()) };
            let from = self.clock.now();
            if seeded_bug("page_ahead_of_disk") {
                self.commit.control.raise(unsynced.last);
            }
            self.sync_file(&unsynced)?;
            let late = seeded_bug("target_read_after_sync");
            self.commit.raise(if late { lock(&self.append).last } else { unsynced.last });
            if let Some(frames) = unsynced.active_frames {
                self.counts.frames_synced.fetch_add(frames, Ordering::Relaxed);
                self.linger.synced(frames, self.clock.now().duration_since(from));
                return Ok(());
            }
            let mut writing = lock(&self.append);
            if let Some(old) = writing.old.iter_mut().find(|old| old.file.seq == unsynced.seq) {
                old.unsynced = false;
            }
        }
    }

    /// The file to be synced next, all of its frames written. The active one is asked for under the same lock as the older
    /// ones: a rotation in between would leave one out.
    ///
    /// # Errors
    /// Why the log is poisoned: a file whose frames could not be written may be among the older ones, and a sync of it
    /// would acknowledge them.
    fn next_unsynced(&self, writing: &mut Writing) -> std::result::Result<Option<Unsynced>, Arc<str>> {
        if let Some(cause) = self.commit.poison().filter(|_| !seeded_bug("synced_behind_a_failed_write")) {
            return Err(cause);
        }
        match writing.oldest_unsynced() {
            Some(unsynced) => Ok(Some(unsynced)),
            None => self.active_unsynced(writing),
        }
    }

    /// The active file as it is now, its staged frames written.
    fn active_unsynced(&self, writing: &mut Writing) -> std::result::Result<Option<Unsynced>, Arc<str>> {
        let last = writing.last;
        let Some(active) = writing.active.as_mut() else { return Ok(None) };
        active.flush().map_err(|e| self.write_failed(write_cause(&active.path, &e)))?;
        let active_frames = Some(self.linger.take());
        let (seq, path, file) = (active.header.seq, active.path.clone(), active.file.clone());
        Ok(Some(Unsynced { seq, path, file, last, active_frames }))
    }

    fn sync_file(&self, unsynced: &Unsynced) -> std::result::Result<(), Arc<str>> {
        if seeded_bug("rotated_file_not_synced") && unsynced.active_frames.is_none() {
            return Ok(());
        }
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        let synced = unsynced.file.sync_data().map_err(|e| cause(&unsynced.path, &e));
        if seeded_bug("sync_error_swallowed") { Ok(()) } else { synced }
    }

    /// Writes a STAMP if the last frame proves less than what is synced. True if nothing is left to stamp.
    pub(crate) fn stamp(&self) {
        let mut writing = lock(&self.append);
        let synced = self.commit.synced();
        let next = writing.next;
        if writing.stamped >= synced || writing.sealed {
            return;
        }
        writing.stamped = synced;
        if let Some(active) = writing.active.as_mut().filter(|file| file.has_room(frame_bytes(0))) {
            let written =
                active.write_mark(FrameType::Stamp, next, synced, &[]).and_then(|()| active.flush());
            if let Err(e) = written {
                self.write_failed(write_cause(&active.path, &e));
                drop(writing);
                self.commit.tell_of_poison();
            }
        }
    }

    /// What the commit thread has to know: appended, synced, and whether the last group lacks a stamp.
    pub(crate) fn pulse(&self) -> (Lsn, Lsn, bool) {
        let writing = lock(&self.append);
        let synced = self.commit.synced();
        (writing.last, synced, writing.stamped < synced && !writing.sealed)
    }
}

pub(crate) fn cause(path: &Path, e: &std::io::Error) -> Arc<str> {
    format!("cannot sync {}: {e}", path.display()).into()
}

pub(crate) fn write_cause(path: &Path, e: &std::io::Error) -> Arc<str> {
    format!("cannot write {}: {e}", path.display()).into()
}

pub(crate) fn poisoned(cause: Arc<str>) -> Error {
    Error::new(ErrorKind::Poisoned { cause }, Fate::Unknown)
}
