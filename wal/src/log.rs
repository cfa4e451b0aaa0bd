//! The log as its users hold it: open, append, wait, truncate, close.

use std::sync::Arc;
use std::task::{Context, Poll};

use akidb_host::seeded_bug;

use crate::commit::Callback;
use crate::config::{Durability, Options, WritePath};
use crate::control::{self, Control, Standing};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{FrameType, Head, frame_bytes};
use crate::inner::{Inner, Writing, poisoned, write_cause};
use crate::lsn::Lsn;
use crate::open::{self, Identity};
use crate::reader::Reader;
use crate::recover::recover;
use crate::replay::{Records, Recovered};
use crate::sync::{MutexGuard, Ordering, lock};
use crate::synced::Synced;
use crate::threads;

/// Files that nobody will read again, of which an open leaves so many to the prepare thread.
const MOST_UNREAD: usize = 8;

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
    /// Everything until the file in use is full: there is no space for the next one. Heals by itself.
    NoSpace,
    /// Nothing more is acknowledged: a sync failed.
    Poisoned,
    /// Closed, or opened for reading only.
    Closed,
}

/// What a log did since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Syncs of log files for records; those of file making are not among them.
    pub syncs: u64,
    /// Frames of records that those syncs made durable.
    pub frames_synced: u64,
    /// How often the leader of a sync waited for the rest of its group.
    pub lingers: u64,
    /// Files that came into use after the first.
    pub rotations: u64,
    /// Files made from older ones.
    pub recycled: u64,
    /// How frames get into the file in use; never `Auto` while the log is open.
    pub write_path: WritePath,
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
        // Before the files: a living writer may go on while they are read.
        let page = control::read_control(&*options.fs, &options.dir);
        let (views, leftovers) = open::survey(&*options.fs, &options.dir)?;
        if views.is_empty() {
            control::refuse_loss_of_all(page.as_ref(), &options.dir, options.floor)?;
        }
        let evidence = control::evidence(page.as_ref(), &views);
        let mut found = recover(&views, options.floor, evidence, &*options.spawn)?;
        let epoch = if options.read_only { found.max_epoch } else { open::next_epoch(&options, &found)? };
        let mut rng = open::rng(&options.config, epoch);
        let log_id = views.first().map_or_else(|| open::fresh_log_id(&mut rng), |v| v.header.log_id);
        let me = Identity { log_id, epoch, boot_id: open::boot_id(&*options.fs) };
        let mut legs = std::mem::take(&mut found.proven_legs);
        let mut control = Control::default();
        let active = if options.read_only {
            legs.append(&mut found.unproven_legs);
            None
        } else {
            let seq = views.last().map_or(1, |v| v.header.seq + 1);
            let file = open::begin(&options, &found, &me, seq, &mut rng)?;
            legs.iter_mut().for_each(|leg| leg.judged = true);
            if !found.unproven_legs.is_empty() {
                legs.push(open::relogged(&file));
            }
            let at = Standing { durable: found.last, floor: options.floor, active_seq: seq };
            control = Control::make(&*options.fs, &options.dir, &me, &at);
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
        let log = Self { inner: Arc::new(Inner::new(&options, me, &found, active, rng, control)) };
        if !options.read_only {
            let unread = views.into_iter().filter(|view| found.dead.contains(&view.path));
            let unread = unread.map(|view| (view.path, Some(view.region)));
            let mut unread: Vec<_> = unread.chain(leftovers.into_iter().map(|path| (path, None))).collect();
            // The thread that removes them may never come, where opens fail or end at once, again and again.
            let overdue = unread.len().saturating_sub(MOST_UNREAD);
            unread.drain(..overdue).for_each(|(path, region)| {
                drop(region);
                let _ = options.fs.unlink(&path);
            });
            *lock(&log.inner.unread) = unread;
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
    /// `Invalid` (no records), `TooLarge`, `Full`, `NoSpace`, `Poisoned`, `Closed`, `Spent`, `Forked`, `Io`: nothing was
    /// logged, and no open will ever show this batch. Only when the write call of staged frames fails is the fate
    /// `Unknown`.
    pub fn append(&self, records: &[&[u8]]) -> Result<Appended> {
        self.append_with(records, Inner::room_for)
    }

    /// As [`Log::append`], without ever waiting for the next file.
    ///
    /// # Errors
    /// As [`Log::append`], and `NoRoomYet` while the next file is being made: nothing was logged.
    pub fn append_nowait(&self, records: &[&[u8]]) -> Result<Appended> {
        self.append_with(records, Inner::room_now)
    }

    fn append_with<'a>(
        &'a self,
        records: &[&[u8]],
        room: impl FnOnce(&'a Inner, u64) -> Result<MutexGuard<'a, Writing>>,
    ) -> Result<Appended> {
        let inner = &*self.inner;
        inner.check_process()?;
        let (count, len) = inner.check_batch(records)?;
        let pcrc = payload_crc(records);
        let mut writing = room(inner, frame_bytes(u64::from(len)))?;
        let first = writing.next;
        // One is kept for what follows the batch: a mark carries the next LSN.
        if u64::from(count) > first.left() {
            return Err(Error::refused(ErrorKind::Spent { epoch: first.epoch() }));
        }
        let durable = if seeded_bug("stamp_ahead") { writing.last } else { inner.commit.synced() };
        let head = Head { kind: FrameType::Batch, lsn: first, count, len, pcrc, durable };
        let last = head.last();
        let active = writing.active.as_mut().expect("the room was found in it");
        let written =
            active.write(&head, lengths(records), records).and_then(|()| match inner.config.durability {
                // In the page cache on return, whatever becomes of this process.
                Durability::Memory if !seeded_bug("memory_stays_staged") => active.flush(),
                _ => Ok(()),
            });
        if let Err(e) = written {
            let cause = write_cause(&active.path, &e);
            if !seeded_bug("failed_write_told_late") {
                inner.write_failed(cause.clone());
            }
            drop(writing);
            inner.commit.poison_now(cause.clone());
            return Err(poisoned(cause));
        }
        let half_full = active.is_half_full();
        writing.next = last.plus(1);
        writing.last = last;
        writing.stamped = durable;
        inner.appended.raise(last);
        inner.linger.add();
        let prepare = writing.spares.want(half_full);
        drop(writing);
        inner.arm();
        if prepare {
            inner.wake_prepare();
        }
        Ok(Appended { first, last, bytes: head.frame_bytes() })
    }

    /// Appends a batch and makes it count: in [`Durability::LocalSynced`] blocks until it survives a power cut, in
    /// [`Durability::Memory`] returns at once. May lead the sync on this thread.
    ///
    /// # Errors
    /// As [`Log::append`] and [`Log::wait`].
    pub fn commit(&self, records: &[&[u8]]) -> Result<Appended> {
        let appended = self.append(records)?;
        if self.inner.config.durability == Durability::LocalSynced {
            self.inner.wait(appended.last)?;
        }
        Ok(appended)
    }

    /// Blocks, with no lock held, until [`Log::append_nowait`] of this batch may find room.
    ///
    /// # Errors
    /// As [`Log::append`]: what keeps the batch from being appended. Nothing was logged.
    pub fn wait_for_room(&self, records: &[&[u8]]) -> Result<()> {
        self.inner.check_process()?;
        let (_, len) = self.inner.check_batch(records)?;
        self.inner.room_for(frame_bytes(u64::from(len))).map(drop)
    }

    /// As [`Log::wait_for_room`], without blocking: the task is woken when the next file is ready. A caller that gives
    /// up need not say so.
    ///
    /// # Errors
    /// As [`Log::wait_for_room`].
    pub fn poll_room(&self, records: &[&[u8]], cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.check_process()?;
        let (_, len) = self.inner.check_batch(records)?;
        self.inner.poll_room(frame_bytes(u64::from(len)), cx.waker())
    }

    /// Blocks until every record up to `lsn` survives a power cut. May lead the sync on this thread.
    ///
    /// # Errors
    /// `Poisoned`: whether the records survive is known only at the next open. `Invalid`: never appended.
    pub fn wait(&self, lsn: Lsn) -> Result<()> {
        self.inner.check_process()?;
        self.inner.check_appended(lsn)?;
        self.inner.wait(lsn)
    }

    /// As [`Log::wait`], without blocking and for any runtime or none: the commit thread syncs. Dropping the
    /// future cancels only the waiting.
    pub fn synced(&self, lsn: Lsn) -> Synced<'_> {
        Synced::new(&self.inner, lsn)
    }

    /// Calls `callback` with the synced watermark after each sync, on the thread that made it, with none of the
    /// log's locks held. If it panics the others are called all the same, and the log is poisoned: what it should have
    /// done with those records is not done.
    pub fn on_synced(&self, callback: Arc<dyn Fn(Lsn) + Send + Sync>) {
        let callback: Callback = callback;
        self.inner.commit.on_synced(callback);
    }

    /// Follows the log from record `from` on: what is synced already, then what will be. `from` may lie ahead of the
    /// log.
    ///
    /// # Errors
    /// `Lagged`: `from` lies below the floor. `Invalid`: the log was opened for reading only; its records came with
    /// the open. `Forked`.
    pub fn read(&self, from: Lsn) -> Result<Reader> {
        self.inner.check_process()?;
        Reader::new(&self.inner, from)
    }

    /// Where the log stands.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        let inner = &*self.inner;
        let synced = inner.commit.synced();
        let (bytes_live, closed, no_space) = {
            let writing = lock(&inner.append);
            (writing.live(), writing.active.is_none() || writing.sealed, writing.spares.no_space())
        };
        let state = match inner.commit.poison() {
            Some(_) => State::Poisoned,
            None if closed => State::Closed,
            None if no_space => State::NoSpace,
            None => State::Open,
        };
        let (appended, floor, bytes_limit) =
            (inner.appended.get(), inner.floor.get(), inner.config.max_bytes);
        Watermarks { appended, synced, floor, bytes_live, bytes_limit, state }
    }

    /// Bytes that the log's files take on disk: live ones, those made ahead and those kept for another life.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        lock(&self.inner.append).disk()
    }

    /// What the log did since it was opened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let inner = &*self.inner;
        // Not in the expression below: its lock would still be held when the write path takes it.
        let recycled = lock(&inner.append).spares.recycled;
        Counters {
            syncs: inner.counts.syncs.load(Ordering::Relaxed),
            frames_synced: inner.counts.frames_synced.load(Ordering::Relaxed),
            lingers: inner.linger.waits(),
            rotations: inner.counts.rotations.load(Ordering::Relaxed),
            recycled,
            write_path: inner.write_path(),
        }
    }

    /// Removes the files all of whose records lie below `floor` and are synced; gives the bytes freed. Idempotent.
    /// Call it only after what covers those records is durable. Blocks for the directory.
    ///
    /// # Errors
    /// `Io`: what could not be removed stays and is tried again. `Closed`: the log is read-only.
    pub fn truncate_below(&self, floor: Lsn) -> Result<u64> {
        self.inner.check_process()?;
        if self.inner.read_only {
            return Err(Error::refused(ErrorKind::Closed));
        }
        self.inner.truncate_below(floor)
    }

    /// For a log that nobody writes to: gives back the files made ahead, and goes on in a small file, so that the one in
    /// use can go with the others below the floor. Costs no more than a rotation; appends that come meanwhile may wait
    /// for the small file. Call it after [`Log::truncate_below`]. Blocks for the directory and one sync.
    ///
    /// # Errors
    /// `Io`, `NoSpace`: the log goes on as before. `Poisoned` if a write or sync of it failed. `Closed` if it was opened for
    /// reading only; one that is closed or poisoned already has nothing to give and answers `Ok`. `Forked`.
    pub fn rest(&self) -> Result<()> {
        self.inner.check_process()?;
        if self.inner.read_only {
            return Err(Error::refused(ErrorKind::Closed));
        }
        self.inner.rest()
    }

    /// Syncs everything, seals the log and syncs that; afterwards a reopen has nothing to guess. Later appends are
    /// `Closed`; a second close does nothing. On return, with an error too, nothing writes to the directory any more: its
    /// lock may go.
    ///
    /// # Errors
    /// `Poisoned`: as for [`Log::wait`].
    pub fn close(&self) -> Result<()> {
        self.inner.check_process()?;
        let result = self.inner.close();
        if let Some(threads) = self.inner.threads.get() {
            threads.stop();
        }
        if result.is_err() {
            self.inner.wait_for_others();
        }
        result
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // In a child of fork() there are no threads to wait for.
        if self.inner.check_process().is_err() {
            return;
        }
        if let Some(threads) = self.inner.threads.get() {
            threads.stop();
        }
        self.inner.commit.end();
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

#[cfg(test)]
pub(crate) mod tests;
