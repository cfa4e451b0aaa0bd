//! What the log's callers and its threads share: the file being written, the files before it, the next one.
//!
//! Two locks, append before commit and neither across a sync: *append* orders frames and owns the files, *commit*
//! says who syncs. A sync covers the files with unsynced frames, oldest first, up to what was appended when it
//! began; appends go on meanwhile, into the next file too. START of that file claims only what was synced when it
//! was encoded, so it may reach the disk before the old file's tail does.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use akidb_host::{Clock, File, Fs, Rng};

use crate::commit::{Commit, Turn};
use crate::config::{Config, Options};
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::findings::{Findings, OldFile};
use crate::frame::{FrameType, HARD_MAX_PAYLOAD_BYTES, MAX_RECORDS, Start, StartKind, frame_bytes};
use crate::header::{Header, Origin};
use crate::log_file::{LogFile, Plan};
use crate::lsn::Lsn;
use crate::open::{self, Identity};
use crate::sync::{AtomicBool, Condvar, Mutex, MutexGuard, lock, wait};
use crate::threads;
use crate::watermark::Watermark;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) me: Identity,
    pub(crate) read_only: bool,
    pub(crate) append: Mutex<Writing>,
    /// A spare arrived, or could not be made.
    pub(crate) room: Condvar,
    pub(crate) commit: Commit,
    pub(crate) appended: Watermark,
    pub(crate) floor: Watermark,
    /// The commit thread is awake and will look again by itself.
    pub(crate) armed: AtomicBool,
    pub(crate) threads: OnceLock<threads::Threads>,
    pub(crate) closing: Mutex<bool>,
}

/// Guarded by the append lock.
#[derive(Debug)]
pub(crate) struct Writing {
    /// The file being written; `None` once the log is closed, or if it is read-only.
    pub(crate) active: Option<LogFile>,
    pub(crate) sealed: bool,
    pub(crate) next: Lsn,
    pub(crate) last: Lsn,
    /// Highest durable stamp written.
    pub(crate) stamped: Lsn,
    /// Files before the active one, oldest first.
    pub(crate) old: VecDeque<Old>,
    pub(crate) old_used: u64,
    pub(crate) spare: Spare,
    /// The next file is wanted soon.
    pub(crate) spare_asked: bool,
    pub(crate) next_file_bytes: u64,
    pub(crate) rng: Rng,
}

#[derive(Debug)]
pub(crate) struct Old {
    pub(crate) file: OldFile,
    /// The handle it was written through, until a sync has covered it.
    pub(crate) unsynced: Option<Arc<dyn File>>,
}

#[derive(Debug)]
pub(crate) enum Spare {
    None,
    Making,
    Ready(LogFile),
}

impl Writing {
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
    ) -> Self {
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

    /// The append lock, with room for a frame of so many bytes in the active file.
    pub(crate) fn room_for(&self, bytes: u64) -> Result<MutexGuard<'_, Writing>> {
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
    pub(crate) fn rotate(&self, writing: &mut Writing, mut next: LogFile) {
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
    pub(crate) fn make_spare<'a>(
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

    pub(crate) fn wait(&self, lsn: Lsn) -> Result<()> {
        if cfg!(seeded_bug = "ack_before_sync") {
            return Ok(());
        }
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
    pub(crate) fn sync_files(&self) -> std::result::Result<(), Arc<str>> {
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
            if !cfg!(seeded_bug = "rotated_file_not_synced") {
                file.sync_data().map_err(|e| cause(&path, &e))?;
            }
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
}

pub(crate) fn cause(path: &Path, e: &std::io::Error) -> Arc<str> {
    format!("cannot sync {}: {e}", path.display()).into()
}

pub(crate) fn poisoned(cause: Arc<str>) -> Error {
    Error::new(ErrorKind::Poisoned { cause }, Fate::Unknown)
}
