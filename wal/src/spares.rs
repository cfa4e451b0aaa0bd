//! The files a log will need next: made ahead by the prepare thread, from retired files where there are some.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::task::{Poll, Waker};

use crate::config::WritePath;
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::header::{Header, Origin, file_name};
use crate::inner::{Inner, Old, Writing};
use crate::log_file::{LogFile, Plan, Retired};
use crate::open;
use crate::sync::{MutexGuard, lock};
use crate::wakers::wake_all;

/// Retired files kept for another life: as many as spares are ever wanted.
const MAX_RETIRED: usize = 2;

/// Guarded by the append lock.
#[derive(Debug)]
pub(crate) struct Spares {
    /// Ready files in the order they will be used, numbered on from the active one.
    pub(crate) ready: VecDeque<LogFile>,
    /// Somebody makes the next one, with no lock held.
    pub(crate) making: bool,
    /// How many are wanted: one when the active file is half full, and one more where files fill quickly.
    wanted: usize,
    /// How many are wanted as soon as a file comes into use.
    ahead: usize,
    /// Size of the next one, unless a batch needs more.
    pub(crate) next_bytes: u64,
    /// What a frame that waits needs, in bytes; 0: none waits.
    needed_bytes: u64,
    /// Files that are done with.
    pub(crate) retired: Vec<Retired>,
    /// Why the last one could not be made, and its size.
    failure: Option<(Error, u64)>,
    /// Async callers that wait for room.
    pub(crate) wakers: Vec<Waker>,
    pub(crate) recycled: u64,
}

impl Spares {
    pub(crate) fn new(next_bytes: u64) -> Self {
        Self {
            ready: VecDeque::new(),
            making: false,
            wanted: 0,
            ahead: 0,
            next_bytes,
            needed_bytes: 0,
            retired: Vec::new(),
            failure: None,
            wakers: Vec::new(),
            recycled: 0,
        }
    }

    /// A ready file came into use, after the one before it filled quickly or not.
    pub(crate) fn rotated(&mut self, quick: bool) {
        self.wanted = 0;
        self.ahead = usize::from(quick);
    }

    /// After an append; whether the prepare thread has something new to do.
    pub(crate) fn want(&mut self, half_full: bool) -> bool {
        let wanted = self.ahead + usize::from(half_full);
        let more = wanted > self.wanted;
        self.wanted = self.wanted.max(wanted);
        more && self.lacks()
    }

    /// Nobody writes: the ready files go, and none is wanted ahead.
    pub(crate) fn give_up_ready(&mut self) -> VecDeque<LogFile> {
        (self.wanted, self.ahead) = (0, 0);
        std::mem::take(&mut self.ready)
    }

    /// The disk is full.
    pub(crate) fn no_space(&self) -> bool {
        self.failure.as_ref().is_some_and(|(e, _)| matches!(e.kind(), ErrorKind::NoSpace { .. }))
    }

    /// Size of the next file, made for a frame of so many bytes.
    fn next_file_bytes(&self, bytes: u64) -> u64 {
        open::file_bytes(self.next_bytes, bytes)
    }

    /// Whether what waits needs a larger file than whoever comes next.
    fn needs_a_larger_one(&self) -> bool {
        self.next_file_bytes(self.needed_bytes) > self.next_file_bytes(0)
    }

    fn lacks(&self) -> bool {
        let fits = |file: &LogFile| file.header.file_bytes >= open::file_bytes(0, self.needed_bytes);
        self.ready.len() < self.wanted || self.needed_bytes > 0 && !self.ready.front().is_some_and(fits)
    }
}

impl Inner {
    /// Makes the next file with no lock held: the guard is given up. The caller found that nobody else makes one. It is made
    /// for a frame of `bytes`, or where those are 0 for what waits; ready files that are too small for that are replaced.
    ///
    /// # Errors
    /// What kept the file from being made. Nothing was logged, and a later call tries again.
    pub(crate) fn make_spare(&self, mut writing: MutexGuard<'_, Writing>, bytes: u64) -> Result<()> {
        assert!(!writing.spares.making, "one file is made at a time");
        // Who waits itself gets what it needs itself: there may be room on the disk for that and not for the largest batch.
        let bytes = if bytes > 0 { bytes } else { writing.spares.needed_bytes };
        let small =
            writing.spares.ready.iter().any(|file| file.header.file_bytes < open::file_bytes(0, bytes));
        let mut unused = if small { std::mem::take(&mut writing.spares.ready) } else { VecDeque::new() };
        let active = writing.active.as_ref().expect("only an open log wants a spare");
        let seq = writing.spares.ready.back().map_or(active.header.seq, |file| file.header.seq) + 1;
        let file_bytes = writing.spares.next_file_bytes(bytes);
        let retired = writing.spares.retired.pop_if(|retired| retired.bytes == file_bytes);
        let header = Header {
            log_id: self.me.log_id,
            seq,
            salt: open::fresh_salt(&mut writing.rng),
            file_bytes,
            epoch: self.me.epoch,
            origin: if retired.is_some() { Origin::Recycled } else { Origin::Spare },
        };
        writing.spares.making = true;
        drop(writing);
        let made = self.make_file(header, &mut unused, retired.as_ref());
        let mut writing = lock(&self.append);
        let spares = &mut writing.spares;
        spares.making = false;
        spares.ready.extend(unused);
        // Made or not: who still waits for it is told, comes again and says so again. A batch that the disk has no room for
        // would else be what everybody waits for.
        spares.needed_bytes = 0;
        let result = match made {
            Ok(file) => {
                spares.recycled += u64::from(retired.is_some());
                spares.ready.push_back(file);
                spares.failure = None;
                spares.next_bytes = spares.next_bytes.saturating_mul(4).min(self.config.max_file_bytes);
                Ok(())
            }
            Err(e) => {
                spares.failure = Some((e.clone(), file_bytes));
                Err(e)
            }
        };
        let waiting = std::mem::take(&mut spares.wakers);
        drop(writing);
        self.room.notify_all();
        wake_all(waiting);
        result
    }

    /// Makes a file in the place of `unused` ones, which go only once it is there; what of them could not be removed stays.
    pub(crate) fn make_file(
        &self,
        header: Header,
        unused: &mut VecDeque<LogFile>,
        retired: Option<&Retired>,
    ) -> Result<LogFile> {
        let write_path = self.config.write_path;
        let plan = Plan { header, dir: self.dir.clone(), write_path };
        let file = match retired {
            Some(retired) => LogFile::recycle(&*self.fs, &plan, retired)?,
            None => LogFile::make(&*self.fs, &plan)?,
        };
        if let Err(e) = self.remove_unused(unused) {
            file.discard(&*self.fs);
            return Err(e);
        }
        file.publish(&*self.fs, &self.dir)?;
        Ok(file)
    }

    /// Removes ready files, the last one first and for good before the one before it: a file without the one before
    /// it would look like the loss of that one. What could not be removed stays in `files`, to be used after all.
    pub(crate) fn remove_unused(&self, files: &mut VecDeque<LogFile>) -> Result<()> {
        while let Some(file) = files.back() {
            match self.fs.unlink(&file.path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &file.path, e));
                }
                _ => drop(files.pop_back()),
            }
            if !files.is_empty() {
                self.fs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
            }
        }
        Ok(())
    }

    /// Makes the wanted spares ahead of need. What the prepare thread does.
    pub(crate) fn prepare(&self) {
        let unread = std::mem::take(&mut *lock(&self.unread));
        for (path, region) in unread {
            drop(region);
            // If it stays, the next open tries once more.
            let _ = self.fs.unlink(&path);
        }
        open::keep_reserve(&*self.fs, &self.dir, self.config.reserve_bytes);
        loop {
            let writing = lock(&self.append);
            if !writing.spares.lacks() || writing.spares.making || writing.sealed || writing.active.is_none()
            {
                return;
            }
            // Where there is none for a large batch, there may be one for the others.
            let once_more = writing.spares.needs_a_larger_one();
            if let Err(e) = self.make_spare(writing, 0) {
                tracing::warn!(dir = %self.dir.display(), error = %e, "no spare log file");
                if !once_more {
                    return;
                }
            }
        }
    }

    /// As `room_for`, without waiting for the next file: `NoRoomYet` if it is still being made, and what kept it from
    /// being made the last time (the prepare thread tries again).
    ///
    /// # Errors
    /// As `room_for`, and `NoRoomYet`. Nothing was logged.
    pub(crate) fn room_now(&self, bytes: u64) -> Result<MutexGuard<'_, Writing>> {
        let mut writing = lock(&self.append);
        let taken = self.take_room(&mut writing, bytes);
        let (answer, is_wanted) = match taken {
            Ok(true) => return Ok(writing),
            Ok(false) => (self.want_file(&mut writing, bytes), true),
            Err(e) => (e, false),
        };
        drop(writing);
        self.tell_of_refusal(&answer, is_wanted);
        Err(answer)
    }

    /// After an append that was refused, once its lock is released: of a poison everybody hears, of a file that
    /// [`Inner::want_file`] asked for the prepare thread.
    fn tell_of_refusal(&self, answer: &Error, is_wanted: bool) {
        self.tell_if_poisoned(answer);
        if is_wanted {
            self.wake_prepare();
        }
    }

    /// Notes a file that is missing now, and says what to answer meanwhile. What kept a larger one from being made says
    /// nothing of this one.
    fn want_file(&self, writing: &mut Writing, bytes: u64) -> Error {
        let spares = &mut writing.spares;
        spares.needed_bytes = spares.needed_bytes.max(bytes);
        let file_bytes = spares.next_file_bytes(bytes);
        match &spares.failure {
            Some((e, failed)) if !spares.making && *failed <= file_bytes => {
                e.clone().with_fate(Fate::NotWritten)
            }
            _ => Error::refused(ErrorKind::NoRoomYet),
        }
    }

    /// Ready once an append of a frame of `bytes` may find room; else the waker is told when a file arrives.
    pub(crate) fn poll_room(&self, bytes: u64, waker: &Waker) -> Poll<Result<()>> {
        let mut mine = Some(waker.clone());
        let mut writing = lock(&self.append);
        let (answer, is_wanted) = match self.take_room(&mut writing, bytes) {
            Ok(true) => {
                drop(writing);
                return Poll::Ready(Ok(()));
            }
            Ok(false) => (self.want_file(&mut writing, bytes), true),
            Err(e) => (e, false),
        };
        let pending = matches!(answer.kind(), ErrorKind::NoRoomYet);
        if pending && !writing.spares.wakers.iter().any(|known| known.will_wake(waker)) {
            writing.spares.wakers.extend(mine.take());
        }
        drop(writing);
        self.tell_of_refusal(&answer, is_wanted);
        if pending { Poll::Pending } else { Poll::Ready(Err(answer)) }
    }

    /// A temporary name for a file that is done with and may serve again, beside `others` that just got one; `None` if
    /// it cannot.
    pub(crate) fn retired_name(&self, writing: &Writing, others: usize, old: &Old) -> Option<PathBuf> {
        let written = old.written.as_ref()?;
        let fits = written.header.file_bytes == writing.spares.next_bytes;
        let room = writing.spares.retired.len() + others < MAX_RETIRED;
        let pinned = self.commit.control.is_pinned(old.file.seq);
        (fits && room && !pinned && !writing.sealed)
            .then(|| self.dir.join(format!("retired-{}.tmp", file_name(old.file.seq))))
    }

    /// The way frames go into the active file; the configured one when the log is closed.
    pub(crate) fn write_path(&self) -> WritePath {
        lock(&self.append).active.as_ref().map_or(self.config.write_path, LogFile::write_path)
    }
}
