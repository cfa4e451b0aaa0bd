//! Follows the log while it is written: records that are synced, in order, from one file into the next.
//!
//! A reader holds a part of the map of the file it is in, so the log cannot write that file anew: the region comes
//! back only by uniqueness. It takes the part under the append lock, from a file that is still the log's; truncation
//! gives files away under the same lock. What was given away before is found missing by the START of the file that
//! is oldest now, whose word about its predecessor is checked before the first frame is.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use akidb_host::seeded_bug;

use crate::error::{Error, ErrorKind, Fate, Result};
use crate::frame::{FRAME_HEADER_BYTES, FrameType, Head, Start, read_frame, read_head, u32_at};
use crate::header::HEADER_PAGE_BYTES;
use crate::inner::{Inner, Writing, poisoned};
use crate::log_file::{LogFile, Source, View};
use crate::lsn::Lsn;
use crate::replay::Record;
use crate::sync::lock;

/// A reader of the log's tail, made by [`crate::Log::read`]: every synced record once, in LSN order, none before its
/// sync returned. It never holds writers up, and keeps at most one file from being reused.
///
/// All calls may be mixed. Errors repeat: after one the reader stands where it stood.
///
/// - `Lagged`: the record it came to has left the log by truncation. A new reader begins at `oldest`.
/// - `Poisoned`: everything that was synced has been delivered, and a sync has failed.
/// - `Corrupt`, `Io`: a file of an earlier open cannot be read, or what was synced is no longer there.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Inner>,
    /// The next record to deliver; a lower bound of it where an epoch ends.
    next: Lsn,
    file: Option<Open>,
    batch: Option<Batch>,
    /// The waker left in the commit's list.
    watch: Option<u64>,
}

/// What one step of a reader found.
#[derive(Debug)]
pub enum Step<'a> {
    /// The next record.
    Record(Record<'a>),
    /// No further record is synced yet.
    Pending,
    /// The log was closed or dropped, and everything that was synced has been delivered.
    End,
}

/// The file a reader is in; holds its map.
#[derive(Debug)]
struct Open {
    seq: u64,
    path: PathBuf,
    salt: u64,
    source: Source,
    /// Where its frames end, if that is known; else at the published end.
    end: u64,
    /// The next frame.
    at: usize,
}

/// The batch whose records are being delivered.
#[derive(Debug)]
struct Batch {
    head: Head,
    payload: Range<usize>,
    i: u16,
    /// The next record, in bytes of the payload.
    at: usize,
    record: Range<usize>,
}

/// Where the file with some record is.
enum Place {
    Here(Open),
    /// A file of an earlier open.
    Elsewhere {
        seq: u64,
        path: PathBuf,
        end: u64,
    },
}

/// What a reader does next.
enum Advance {
    Ready,
    Pending,
    End,
}

impl Reader {
    pub(crate) fn new(log: &Arc<Inner>, from: Lsn) -> Result<Self> {
        if log.read_only {
            let text =
                "a log that was opened for reading only is not followed: its records came with the open";
            return Err(Error::new(ErrorKind::Invalid(text.into()), Fate::Untouched));
        }
        let floor = log.floor.get();
        if from < floor {
            return Err(lagged(from, floor));
        }
        // Zero is no record's number.
        let next = from.max(Lsn::ZERO.next());
        Ok(Self { log: Arc::clone(log), next, file: None, batch: None, watch: None })
    }

    /// The next record, if it is synced. Never waits for a sync; opens a file of an earlier open when it comes to one.
    ///
    /// # Errors
    /// See [`Reader`].
    pub fn try_next(&mut self) -> Result<Step<'_>> {
        Ok(match self.advance()? {
            Advance::Ready => Step::Record(self.current()),
            Advance::Pending => Step::Pending,
            Advance::End => Step::End,
        })
    }

    /// The next record, once it is synced; `None` once the log is closed or dropped. Blocks; somebody else syncs, at
    /// the latest the commit thread.
    ///
    /// # Errors
    /// See [`Reader`].
    pub fn wait_next(&mut self) -> Result<Option<Record<'_>>> {
        loop {
            match self.advance()? {
                Advance::Ready => return Ok(Some(self.current())),
                Advance::End => return Ok(None),
                Advance::Pending => self.log.commit.wait_for_news(self.next),
            }
        }
    }

    /// As [`Reader::wait_next`], for any runtime or none: the task is woken by the next sync. A caller that gives up
    /// loses nothing.
    ///
    /// # Errors
    /// See [`Reader`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Record<'_>>>> {
        loop {
            match self.advance()? {
                Advance::Ready => return Poll::Ready(Ok(Some(self.current()))),
                Advance::End => return Poll::Ready(Ok(None)),
                Advance::Pending => {}
            }
            if !self.log.commit.watch(self.next, &mut self.watch, cx.waker()) {
                return Poll::Pending;
            }
        }
    }

    /// Steps to the next record.
    fn advance(&mut self) -> Result<Advance> {
        loop {
            if self.step_in_batch() {
                return Ok(Advance::Ready);
            }
            let ended = self.log.commit.ended();
            let cause = self.log.commit.poison();
            let synced = self.log.commit.synced();
            if self.next > synced {
                return match (cause, ended) {
                    (Some(cause), _) => Err(poisoned(cause)),
                    (None, true) => Ok(Advance::End),
                    (None, false) => Ok(Advance::Pending),
                };
            }
            if !self.next_batch()? {
                self.next_file()?;
            }
        }
    }

    /// Whether the open batch has another record at or above `next`.
    fn step_in_batch(&mut self) -> bool {
        let Some((file, batch)) = self.file.as_ref().zip(self.batch.as_mut()) else { return false };
        let payload = &file.bytes()[batch.payload.clone()];
        while batch.i < batch.head.count {
            let lsn = batch.head.lsn.plus(u64::from(batch.i));
            let len = u32_at(payload, usize::from(batch.i) * 4) as usize;
            batch.record = batch.payload.start + batch.at..batch.payload.start + batch.at + len;
            batch.i += 1;
            batch.at += len;
            if lsn >= self.next {
                self.next = lsn.plus(1);
                return true;
            }
        }
        self.batch = None;
        false
    }

    /// The record that `step_in_batch` came to.
    fn current(&self) -> Record<'_> {
        let (file, batch) = self.file.as_ref().zip(self.batch.as_ref()).expect("a record was found");
        let lsn = batch.head.lsn.plus(u64::from(batch.i) - 1);
        Record { lsn, frame_last: batch.head.last(), bytes: &file.bytes()[batch.record.clone()] }
    }

    /// Opens the next batch of this file that ends at or above `next`, which is synced; `false` at its end.
    fn next_batch(&mut self) -> Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        loop {
            let bytes = file.source.up_to(file.end);
            if file.at >= bytes.len() {
                return Ok(false);
            }
            let changed = || Error::corrupt(&file.path, file.at as u64, self.next, "its sync had returned");
            let head = read_head(bytes, file.at, file.salt).map_err(|_| changed())?;
            let from = file.at;
            let frame_bytes = usize::try_from(head.frame_bytes()).map_err(|_| changed())?;
            if head.kind != FrameType::Batch || head.last() < self.next {
                file.at += frame_bytes;
                continue;
            }
            let frame = read_frame(bytes, from, file.salt).map_err(|_| changed())?;
            let start = from + FRAME_HEADER_BYTES;
            let payload = start..start + frame.payload.len();
            file.at += frame_bytes;
            let at = usize::from(head.count) * 4;
            self.batch = Some(Batch { head, payload, i: 0, at, record: 0..0 });
            return Ok(true);
        }
    }

    /// Goes to the file that holds `next`, which is synced and not in this one.
    fn next_file(&mut self) -> Result<()> {
        let was = self.file.take().map(|file| file.seq);
        let place = lock(&self.log.append).place_of(self.next, was.unwrap_or(0));
        let file = match place {
            Place::Here(file) => file,
            Place::Elsewhere { seq, path, end } => self.open_old(seq, &path, end)?,
        };
        if was >= Some(file.seq) {
            // The last file was read to its end: this log began above the record.
            return Err(lagged(self.next, self.log.commit.synced().next()));
        }
        self.check_start(&file, was.unwrap_or(0))?;
        self.file = Some(file);
        Ok(())
    }

    /// Maps a file of an earlier open. Truncation may have removed it meanwhile; it never writes such a file anew.
    fn open_old(&self, seq: u64, path: &Path, end: u64) -> Result<Open> {
        match View::open(&*self.log.fs, path, seq) {
            Ok(view) => {
                view.load(0..usize::try_from(end).unwrap_or(usize::MAX))?;
                let (salt, source) = (view.header.salt, Source::Old(view.region));
                Ok(Open { seq, path: view.path, salt, source, end, at: HEADER_PAGE_BYTES })
            }
            Err(e) => {
                let floor = self.log.floor.get();
                let removed = matches!(e.kind(), ErrorKind::Io { source, .. }
                    if source.kind() == io::ErrorKind::NotFound);
                Err(if removed && self.next < floor { lagged(self.next, floor) } else { e })
            }
        }
    }

    /// Whether records between `next` and this file are in neither it nor file `was`, which was read to its end: then
    /// they were truncated.
    fn check_start(&self, file: &Open, was: u64) -> Result<()> {
        if seeded_bug("reader_no_recheck") {
            return Ok(());
        }
        let frame = read_frame(file.bytes(), HEADER_PAGE_BYTES, file.salt).ok();
        let Some((head, start)) = frame.and_then(|frame| Some((frame.head, Start::decode(frame.payload)?)))
        else {
            let evidence = "its first frame was on disk before a later one was";
            return Err(Error::corrupt(&file.path, HEADER_PAGE_BYTES as u64, self.next, evidence));
        };
        if (was == 0 || start.previous_seq != was) && start.previous_last >= self.next {
            return Err(lagged(self.next, head.lsn.max(self.log.floor.get())));
        }
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(id) = self.watch {
            self.log.commit.unwatch(id);
        }
    }
}

impl Open {
    fn bytes(&self) -> &[u8] {
        self.source.up_to(self.end)
    }

    fn live(file: &LogFile) -> Self {
        Self {
            seq: file.header.seq,
            path: file.path.to_path_buf(),
            salt: file.header.salt,
            source: Source::Live(file.tail.clone()),
            end: u64::MAX,
            at: HEADER_PAGE_BYTES,
        }
    }
}

impl Writing {
    /// The file behind file `after` with the first record at or above `lsn`. (What a file's `last` says is an upper
    /// bound where its end is not proven.)
    fn place_of(&self, lsn: Lsn, after: u64) -> Place {
        match self.old.iter().find(|old| old.file.seq > after && old.file.last >= lsn) {
            Some(old) => old.written.as_ref().map_or_else(
                || Place::Elsewhere {
                    seq: old.file.seq,
                    path: old.file.path.to_path_buf(),
                    end: old.file.used,
                },
                |written| Place::Here(Open::live(written)),
            ),
            None => Place::Here(Open::live(self.active.as_ref().expect("a log open for writing has one"))),
        }
    }
}

fn lagged(wanted: Lsn, oldest: Lsn) -> Error {
    Error::new(ErrorKind::Lagged { wanted, oldest }, Fate::Untouched)
}
