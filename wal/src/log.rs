//! The log: append, wait, rotate, truncate, close.
//!
//! Two locks, append before commit and neither across a sync: *append* orders frames and owns the files, *commit*
//! says who syncs. A sync covers the files with unsynced frames, oldest first, up to what was appended when it
//! began; appends go on meanwhile, into the next file too. START of that file claims only what was synced when it
//! was encoded, so it may reach the disk before the old file's tail does.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use akidb_host::{Clock, File, Fs, Rng};

use crate::commit::{Callback, Commit, Turn};
use crate::config::{Config, Options};
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::frame::{FrameType, HARD_MAX_PAYLOAD_BYTES, Head, MAX_RECORDS, Start, StartKind, frame_bytes};
use crate::header::{Header, Origin};
use crate::log_file::{LogFile, Plan};
use crate::lsn::Lsn;
use crate::open::{self, Identity};
use crate::recover::{Findings, OldFile, recover};
use crate::replay::{Records, Recovered};
use crate::sync::{AtomicBool, Condvar, Mutex, MutexGuard, lock, wait};
use crate::synced::Synced;
use crate::threads;
use crate::watermark::Watermark;

/// A write-ahead log. Shared by reference: any number of threads append while a sync runs.
///
/// Dropping it without [`Log::close`] is a crash: what was synced stays, the rest is known at the next open. Keep
/// the directory's lock until the drop has returned; it waits for the background threads.
#[derive(Debug)]
pub struct Log {
    pub(crate) inner: Arc<Inner>,
}

/// The numbers [`Log::append`] gave to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// LSN of the first record.
    pub first: Lsn,
    /// LSN of the last record: what to wait for.
    pub last: Lsn,
    /// Bytes the batch takes in the file.
    pub bytes: u64,
}

/// What a log can still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Open,
    /// Nothing more is acknowledged: a sync failed.
    Poisoned,
    /// Closed, or opened for reading only.
    Closed,
}

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The last record appended, or recovered.
    pub appended: Lsn,
    /// Every record up to here survives a power cut.
    pub synced: Lsn,
    /// Records below need not exist any more.
    pub floor: Lsn,
    /// Bytes used in live log files.
    pub bytes_live: u64,
    /// Above this `append` answers `Full`.
    pub bytes_limit: u64,
    /// What the log can still do.
    pub state: State,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    me: Identity,
    read_only: bool,
    append: Mutex<Writing>,
    /// A spare arrived, or could not be made.
    room: Condvar,
    pub(crate) commit: Commit,
    appended: Watermark,
    floor: Watermark,
    /// The commit thread is awake and will look again by itself.
    pub(crate) armed: AtomicBool,
    pub(crate) threads: OnceLock<threads::Threads>,
    closing: Mutex<bool>,
}

/// Guarded by the append lock.
#[derive(Debug)]
struct Writing {
    /// The file being written; `None` once the log is closed, or if it is read-only.
    active: Option<LogFile>,
    sealed: bool,
    next: Lsn,
    last: Lsn,
    /// Highest durable stamp written.
    stamped: Lsn,
    /// Files before the active one, oldest first.
    old: VecDeque<Old>,
    old_used: u64,
    spare: Spare,
    /// The next file is wanted soon.
    spare_asked: bool,
    next_file_bytes: u64,
    rng: Rng,
}

#[derive(Debug)]
struct Old {
    file: OldFile,
    /// The handle it was written through, until a sync has covered it.
    unsynced: Option<Arc<dyn File>>,
}

#[derive(Debug)]
enum Spare {
    None,
    Making,
    Ready(LogFile),
}

impl Log {
    /// Opens the log: judges what is there, begins a new epoch in a file of its own, copies unproven frames into
    /// it and syncs it, so that every record handed out survives a power cut. Blocks for all of that.
    ///
    /// The caller holds the directory's lock; the log takes none.
    ///
    /// # Errors
    /// `Corrupt`, `ForeignLog`, `NewerFormat`, `NetworkFs`: nothing was modified. `NoSpace`, `Io`: nothing was
    /// lost. `Invalid`: the directory was opened 8 million times.
    pub fn open(options: Options) -> Result<(Self, Recovered)> {
        open::check_dir(&options)?;
        let (views, leftovers) = open::survey(&*options.fs, &options.dir)?;
        let mut found = recover(&views, options.floor)?;
        let epoch = if options.read_only { found.max_epoch } else { open::next_epoch(&options, &found)? };
        let mut rng = open::rng(&options.config, epoch);
        let log_id = views.first().map_or_else(|| open::fresh_log_id(&mut rng), |v| v.header.log_id);
        let me = Identity { log_id, epoch, boot_id: open::boot_id(&*options.fs) };
        let mut legs = std::mem::take(&mut found.proven_legs);
        let active = if options.read_only {
            legs.append(&mut found.unproven_legs);
            None
        } else {
            let seq = views.last().map_or(1, |v| v.header.seq + 1);
            let file = open::begin(&options, &found, &me, seq, &mut rng)?;
            if !found.unproven_legs.is_empty() {
                legs.push(open::relogged(&file));
            }
            for path in found.dead.iter().chain(&leftovers) {
                // Nobody reads it again; if it stays, the next open tries once more.
                let _ = options.fs.unlink(path);
            }
            Some(file)
        };
        let recovered = Recovered {
            first: found.first,
            last: found.last,
            proven: found.proven,
            cut: found.cut.clone(),
            records: Records { legs, floor: options.floor },
        };
        if let Some(cut) = &found.cut {
            tracing::warn!(file = %cut.file.display(), cut.offset, cut.bytes, cut.frames, "the log was cut");
        }
        let log = Self { inner: Arc::new(Inner::new(&options, me, &found, active, rng)) };
        if !options.read_only {
            threads::start(&log.inner, &*options.spawn)?;
        }
        Ok((log, recovered))
    }

    /// The epoch of this open; of a read-only log, the highest one found.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.inner.me.epoch
    }

    /// Appends a batch as one frame: after a crash all of its records are there or none. Copies; never syncs.
    /// Blocks only when the next file is not ready yet, with no lock held.
    ///
    /// # Errors
    /// `Invalid` (no records), `TooLarge`, `Full`, `NoSpace`, `Poisoned`, `Closed`, `Io`: nothing was logged, and
    /// no open will ever show this batch.
    pub fn append(&self, records: &[&[u8]]) -> Result<Appended> {
        let inner = &*self.inner;
        let (count, len) = inner.check_batch(records).map_err(|e| e.with_fate(Fate::NotWritten))?;
        let pcrc = payload_crc(records);
        let mut writing = inner.room_for(frame_bytes(u64::from(len)))?;
        let first = writing.next;
        let durable = inner.commit.synced();
        let head = Head { kind: FrameType::Batch, lsn: first, count, len, pcrc, durable };
        let last = head.last();
        writing.next = last.plus(1);
        writing.last = last;
        writing.stamped = durable;
        let active = writing.active.as_mut().expect("room_for found it open");
        active.write(&head, lengths(records), records);
        inner.appended.raise(last);
        let half_full = active.end() * 2 > active.header.file_bytes;
        let ask = half_full && !std::mem::replace(&mut writing.spare_asked, half_full);
        drop(writing);
        inner.arm();
        if ask {
            inner.wake_prepare();
        }
        Ok(Appended { first, last, bytes: head.frame_bytes() })
    }

    /// Blocks until every record up to `lsn` survives a power cut. May lead the sync on this thread.
    ///
    /// # Errors
    /// `Poisoned`: whether the records survive is known only at the next open. `Invalid`: never appended.
    pub fn wait(&self, lsn: Lsn) -> Result<()> {
        self.inner.check_appended(lsn)?;
        self.inner.wait(lsn)
    }

    /// As [`Log::wait`], without blocking and for any runtime or none: the commit thread syncs. Dropping the
    /// future cancels only the waiting.
    pub fn synced(&self, lsn: Lsn) -> Synced<'_> {
        Synced::new(&self.inner, lsn)
    }

    /// Calls `callback` with the synced watermark after each sync, on the thread that made it, with none of the
    /// log's locks held.
    pub fn on_synced(&self, callback: Arc<dyn Fn(Lsn) + Send + Sync>) {
        let callback: Callback = callback;
        self.inner.commit.on_synced(callback);
    }

    /// Where the log stands.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        let inner = &*self.inner;
        let synced = inner.commit.synced();
        let (bytes_live, closed) = {
            let writing = lock(&inner.append);
            (writing.live(), writing.active.is_none() || writing.sealed)
        };
        let state = match inner.commit.poison() {
            Some(_) => State::Poisoned,
            None if closed => State::Closed,
            None => State::Open,
        };
        let (appended, floor, bytes_limit) =
            (inner.appended.get(), inner.floor.get(), inner.config.max_bytes);
        Watermarks { appended, synced, floor, bytes_live, bytes_limit, state }
    }

    /// Removes the files all of whose records lie below `floor` and are synced; gives the bytes freed. Idempotent.
    /// Call it only after what covers those records is durable. Blocks for the directory.
    ///
    /// # Errors
    /// `Io`: what could not be removed stays and is tried again. `Closed`: the log is read-only.
    pub fn truncate_below(&self, floor: Lsn) -> Result<u64> {
        if self.inner.read_only {
            return Err(Error::refused(ErrorKind::Closed));
        }
        self.inner.truncate_below(floor)
    }

    /// Syncs everything, seals the log and syncs that; afterwards a reopen has nothing to guess. Later appends are
    /// `Closed`; a second close does nothing.
    ///
    /// # Errors
    /// `Poisoned`: as for [`Log::wait`].
    pub fn close(&self) -> Result<()> {
        let result = self.inner.close();
        if let Some(threads) = self.inner.threads.get() {
            threads.stop();
        }
        result
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(threads) = self.inner.threads.get() {
            threads.stop();
        }
    }
}

fn lengths(records: &[&[u8]]) -> impl Iterator<Item = u32> {
    records.iter().map(|record| u32::try_from(record.len()).expect("check_batch bounds the sum"))
}

/// Checksum of the payload as it will lie in the file, without putting it together.
fn payload_crc(records: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    lengths(records).for_each(|len| crc.update(&len.to_le_bytes()));
    records.iter().for_each(|record| crc.update(record));
    crc.finalize()
}

impl Writing {
    fn live(&self) -> u64 {
        self.old_used + self.active.as_ref().map_or(0, LogFile::end)
    }
}

impl Inner {
    fn new(options: &Options, me: Identity, found: &Findings, active: Option<LogFile>, rng: Rng) -> Self {
        let old: VecDeque<_> =
            found.live.iter().map(|file| Old { file: file.clone(), unsynced: None }).collect();
        let writing = Writing {
            next: Lsn::new(me.epoch, 1),
            last: found.last,
            stamped: found.last,
            old_used: old.iter().map(|old| old.file.used).sum(),
            old,
            spare: Spare::None,
            spare_asked: false,
            sealed: false,
            next_file_bytes: options.config.first_file_bytes.saturating_mul(4),
            active,
            rng,
        };
        Self {
            fs: options.fs.clone(),
            clock: options.clock.clone(),
            dir: options.dir.clone(),
            config: options.config.clone(),
            me,
            read_only: options.read_only,
            append: Mutex::new(writing),
            room: Condvar::new(),
            commit: Commit::new(found.last),
            appended: Watermark::new(found.last),
            floor: Watermark::new(options.floor),
            armed: AtomicBool::new(false),
            threads: OnceLock::new(),
            closing: Mutex::new(false),
        }
    }

    fn check_batch(&self, records: &[&[u8]]) -> Result<(u16, u32)> {
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

    /// The append lock, with room for a frame of so many bytes in the active file.
    fn room_for(&self, bytes: u64) -> Result<MutexGuard<'_, Writing>> {
        let mut writing = lock(&self.append);
        loop {
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
                return Ok(writing);
            }
            writing = match std::mem::replace(&mut writing.spare, Spare::Making) {
                Spare::Ready(file) if file.header.file_bytes >= open::file_bytes(0, bytes) => {
                    self.rotate(&mut writing, file);
                    writing
                }
                Spare::Making => wait(&self.room, writing),
                small => self.make_spare(writing, bytes, small).map_err(|e| e.with_fate(Fate::NotWritten))?,
            };
        }
    }

    /// Goes on in `next`. Nothing is waited for: the sync path will sync the old file first.
    fn rotate(&self, writing: &mut Writing, mut next: LogFile) {
        let durable = self.commit.synced();
        let mut old = writing.active.take().expect("only an open log rotates");
        old.write_mark(FrameType::Seal, writing.next, durable, &[]);
        let start = Start {
            kind: StartKind::Continue,
            previous_seq: old.header.seq,
            previous_last: writing.last,
            previous_end: old.end(),
            epoch: self.me.epoch,
            boot_id: self.me.boot_id,
        };
        next.write_mark(FrameType::Start, writing.next, durable, &start.encode());
        writing.old_used += old.end();
        let (seq, size, used) = (old.header.seq, old.header.file_bytes, old.end());
        let file = OldFile { seq, path: old.path, used, size, last: writing.last };
        writing.old.push_back(Old { file, unsynced: Some(old.file) });
        writing.active = Some(next);
        writing.spare = Spare::None;
        writing.spare_asked = false;
        writing.stamped = durable;
        let grown = writing.next_file_bytes.saturating_mul(4);
        writing.next_file_bytes = grown.min(self.config.max_file_bytes);
    }

    /// Makes the next file with no lock held; `writing.spare` is `Making` meanwhile. `unused` is a spare that was
    /// too small.
    fn make_spare<'a>(
        &'a self,
        mut writing: MutexGuard<'a, Writing>,
        bytes: u64,
        unused: Spare,
    ) -> Result<MutexGuard<'a, Writing>> {
        let active = writing.active.as_ref().expect("only an open log wants a spare");
        let seq = active.header.seq + 1;
        let wanted = writing.next_file_bytes.min(self.config.max_file_bytes);
        let header = Header {
            log_id: self.me.log_id,
            seq,
            salt: open::fresh_salt(&mut writing.rng),
            file_bytes: open::file_bytes(wanted, bytes),
            epoch: self.me.epoch,
            origin: Origin::Spare,
        };
        drop(writing);
        let plan = Plan { header, dir: self.dir.clone() };
        let made = match unused {
            Spare::Ready(file) => self.fs.unlink(&file.path).map_err(|e| Error::io("remove", &file.path, e)),
            _ => Ok(()),
        }
        .and_then(|()| LogFile::make(&*self.fs, &plan))
        .and_then(|file| file.publish(&*self.fs, &self.dir).map(|()| file));
        let mut writing = lock(&self.append);
        let result = match made {
            Ok(file) => {
                writing.spare = Spare::Ready(file);
                Ok(())
            }
            Err(e) => {
                writing.spare = Spare::None;
                Err(e)
            }
        };
        self.room.notify_all();
        result.map(|()| writing)
    }

    /// Makes a spare ahead of need, if one was asked for.
    pub(crate) fn prepare(&self) {
        open::keep_reserve(&*self.fs, &self.dir, self.config.reserve_bytes);
        let mut writing = lock(&self.append);
        let wanted = writing.spare_asked && !writing.sealed && writing.active.is_some();
        if !wanted || !matches!(writing.spare, Spare::None) {
            return;
        }
        writing.spare = Spare::Making;
        if let Err(e) = self.make_spare(writing, 0, Spare::None) {
            tracing::warn!(dir = %self.dir.display(), error = %e, "no spare log file");
        }
    }

    pub(crate) fn check_appended(&self, lsn: Lsn) -> Result<()> {
        if lsn <= self.appended.get() {
            return Ok(());
        }
        let text = format!("record {lsn} was never appended; the last one is {}", self.appended.get());
        Err(Error::refused(ErrorKind::Invalid(text)))
    }

    fn wait(&self, lsn: Lsn) -> Result<()> {
        loop {
            match self.commit.turn(lsn) {
                Turn::Done => return Ok(()),
                Turn::Poisoned(cause) => return Err(poisoned(cause)),
                Turn::Lead => self.lead(),
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

    /// Syncs every file with unsynced frames, oldest first, up to what is appended now.
    fn sync_files(&self) -> std::result::Result<(), Arc<str>> {
        let (files, active) = {
            let writing = lock(&self.append);
            let files: Vec<_> = writing
                .old
                .iter()
                .filter_map(|old| {
                    let file = old.unsynced.clone()?;
                    Some((old.file.seq, old.file.path.clone(), file, old.file.last))
                })
                .collect();
            let active = writing.active.as_ref().map(|f| (f.path.clone(), f.file.clone(), writing.last));
            (files, active)
        };
        for (seq, path, file, last) in files {
            file.sync_data().map_err(|e| cause(&path, &e))?;
            self.commit.raise(last);
            let mut writing = lock(&self.append);
            if let Some(old) = writing.old.iter_mut().find(|old| old.file.seq == seq) {
                old.unsynced = None;
            }
        }
        if let Some((path, file, last)) = active {
            file.sync_data().map_err(|e| cause(&path, &e))?;
            self.commit.raise(last);
        }
        Ok(())
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
            active.write_mark(FrameType::Stamp, next, synced, &[]);
        }
    }

    /// What the commit thread has to know: appended, synced, and whether the last group lacks a stamp.
    pub(crate) fn pulse(&self) -> (Lsn, Lsn, bool) {
        let writing = lock(&self.append);
        let synced = self.commit.synced();
        (writing.last, synced, writing.stamped < synced && !writing.sealed)
    }

    fn truncate_below(&self, floor: Lsn) -> Result<u64> {
        self.floor.raise(floor);
        let synced = self.commit.synced();
        let mut gone = VecDeque::new();
        {
            let mut writing = lock(&self.append);
            let below =
                |old: &Old| old.file.last < floor && old.file.last <= synced && old.unsynced.is_none();
            while writing.old.front().is_some_and(below) {
                let Some(old) = writing.old.pop_front() else { break };
                writing.old_used -= old.file.used;
                gone.push_back(old);
            }
        }
        let mut freed = 0;
        let any = !gone.is_empty();
        while let Some(old) = gone.pop_front() {
            match self.fs.unlink(&old.file.path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    let error = Error::io("remove", &old.file.path, e);
                    gone.push_front(old);
                    self.put_back(gone);
                    return Err(error);
                }
                _ => freed += old.file.size,
            }
        }
        if any {
            self.fs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        }
        Ok(freed)
    }

    fn put_back(&self, mut files: VecDeque<Old>) {
        let mut writing = lock(&self.append);
        while let Some(old) = files.pop_back() {
            writing.old_used += old.file.used;
            writing.old.push_front(old);
        }
    }

    fn close(&self) -> Result<()> {
        let mut closed = lock(&self.closing);
        if let Some(cause) = self.commit.poison() {
            return Err(poisoned(cause));
        }
        if *closed || self.read_only {
            return Ok(());
        }
        *closed = true;
        let last = {
            let mut writing = lock(&self.append);
            writing.sealed = true;
            writing.last
        };
        self.room.notify_all();
        self.wait(last)?;
        let (file, path, spare) = {
            let mut writing = lock(&self.append);
            let (next, durable) = (writing.next, self.commit.synced());
            let Some(active) = writing.active.as_mut() else { return Ok(()) };
            active.write_mark(FrameType::Seal, next, durable, &[]);
            let (file, path) = (active.file.clone(), active.path.clone());
            (file, path, std::mem::replace(&mut writing.spare, Spare::None))
        };
        if let Spare::Ready(spare) = spare {
            // An unused spare holds nothing; if it stays, the next open removes it.
            let _ = self.fs.unlink(&spare.path);
        }
        file.sync_data().map_err(|e| {
            let cause = cause(&path, &e);
            self.commit.poison_now(cause.clone());
            poisoned(cause)
        })
    }
}

fn cause(path: &std::path::Path, e: &std::io::Error) -> Arc<str> {
    format!("cannot sync {}: {e}", path.display()).into()
}

pub(crate) fn poisoned(cause: Arc<str>) -> Error {
    Error::new(ErrorKind::Poisoned { cause }, Fate::Unknown)
}

#[cfg(test)]
mod tests;
