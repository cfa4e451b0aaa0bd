//! The write-ahead log as the engine uses it: its errors in our words, its sync as our drain.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use akidb_host::{LockGuard, seeded_bug};
use akidb_wal::{Error as WalError, ErrorKind as Wal, Log, State, Synced};

use crate::config::Durability;
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::lsn::Lsn;
use crate::write::WriteLog;

/// How often a reader beside a living writer looks at the log when a file changed under it.
pub(crate) const LOOKS: usize = 5;

/// The open log.
#[derive(Debug)]
pub(crate) struct EngineLog {
    log: Log,
    /// What the log is known to have synced, without asking it under its locks. Raised before anybody is told.
    synced: AtomicU64,
    /// What is not synced is shown all the same.
    shows_unsynced: bool,
    /// The directory's lock. Declared after the log: it is released when the log's threads have ended, whoever holds
    /// the log last.
    lock: Mutex<Option<Box<dyn LockGuard>>>,
}

impl EngineLog {
    pub(crate) fn new(log: Log, durability: Durability, lock: Box<dyn LockGuard>) -> Self {
        let synced = AtomicU64::new(log.watermarks().synced.as_u64());
        let shows_unsynced = durability == Durability::Memory;
        Self { log, synced, shows_unsynced, lock: Mutex::new(Some(lock)) }
    }

    /// Lets the next open have the directory; only once the log is closed and nothing is committed any more.
    pub(crate) fn release_lock(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn inner(&self) -> &Log {
        &self.log
    }

    /// Whether writes count, and are shown, before they are synced.
    pub(crate) fn shows_unsynced(&self) -> bool {
        self.shows_unsynced
    }

    /// The highest LSN known to survive a power cut.
    pub(crate) fn synced(&self) -> Lsn {
        Lsn::from_u64(self.synced.load(Ordering::Acquire)).expect("only LSNs are stored")
    }

    /// Notes that everything up to `lsn` is synced.
    pub(crate) fn note_synced(&self, lsn: Lsn) {
        self.synced.fetch_max(lsn.as_u64(), Ordering::AcqRel);
    }

    /// Has what is appended synced at once, for as long as the answer is held: somebody waits for it.
    pub(crate) fn hurry(&self) -> Synced<'_> {
        let mut synced = self.log.synced(self.log.watermarks().appended);
        // Whoever waits looks again by himself.
        let _ = Pin::new(&mut synced).poll(&mut Context::from_waker(Waker::noop()));
        synced
    }

    /// Whether nothing that is appended will be synced any more.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.log.watermarks().state == State::Poisoned
    }

    /// As [`WriteLog::wait`], for those who do not block. Dropping the future cancels only the waiting.
    pub(crate) async fn when_synced(&self, lsn: Lsn) -> Result<()> {
        if self.synced() >= lsn {
            return Ok(());
        }
        self.log.synced(lsn).await.map_err(|error| from_wal(&error).fate_is(Fate::Unknown))?;
        self.note_synced(lsn);
        Ok(())
    }

    /// As [`WriteLog::wait_for_room`], for those who do not block. Dropping the future cancels only the waiting.
    pub(crate) async fn when_room(&self, records: &[&[u8]]) -> Result<()> {
        let room = std::future::poll_fn(|context| self.log.poll_room(records, context));
        room.await.map_err(|error| from_wal(&error))
    }
}

impl WriteLog for EngineLog {
    type Error = Error;

    fn append_nowait(&self, records: &[&[u8]]) -> Result<Option<(Lsn, Lsn)>> {
        let _span = tracing::debug_span!("append", records = records.len()).entered();
        match self.log.append_nowait(records) {
            Ok(appended) => Ok(Some((appended.first, appended.last))),
            // Why the next file could not be made the last time: whoever waits for room tries again.
            Err(error) if matches!(error.kind(), Wal::NoRoomYet | Wal::NoSpace { .. } | Wal::Io { .. }) => {
                Ok(None)
            }
            Err(error) => Err(from_wal(&error)),
        }
    }

    fn wait_for_room(&self, records: &[&[u8]]) -> Result<()> {
        let _span = tracing::debug_span!("room").entered();
        self.log.wait_for_room(records).map_err(|error| from_wal(&error))
    }

    fn wait(&self, lsn: Lsn) -> Result<()> {
        let _span = tracing::debug_span!("sync", %lsn).entered();
        // Below the floor the log may know less than its owner: it need not hold those records, and a repair may have cut it.
        if self.synced() >= lsn {
            return Ok(());
        }
        self.log.wait(lsn).map_err(|error| from_wal(&error).fate_is(Fate::Unknown))?;
        self.note_synced(lsn);
        Ok(())
    }

    fn showable(&self) -> Lsn {
        // Whatever is queued is appended.
        if self.shows_unsynced || seeded_bug("shown_before_sync") { Lsn::MAX } else { self.synced() }
    }
}

/// The log's error in the engine's words: kind, fate, place and remedy are kept.
pub(crate) fn from_wal(error: &WalError) -> Error {
    let text = error.kind().to_string();
    let retry_after = Duration::from_millis(100);
    let (kind, code, file, offset) = match error.kind() {
        Wal::Invalid(_) => (ErrorKind::Invalid, "AKI-0240", None, None),
        Wal::TooLarge { .. } => (ErrorKind::Invalid, "AKI-0215", None, None),
        Wal::Full { .. } => (ErrorKind::Full { which: "wal_max_bytes", retry_after }, "AKI-0241", None, None),
        Wal::NoSpace { file } => (ErrorKind::NoSpace, "AKI-0242", Some(file), None),
        Wal::Poisoned { .. } => (ErrorKind::Poisoned, "AKI-0243", None, None),
        Wal::Closed => (ErrorKind::Closed, "AKI-0206", None, None),
        // Not `Full`: that heals by waiting, and this by no wait.
        Wal::Spent { .. } => (ErrorKind::Closed, "AKI-0520", None, None),
        Wal::Corrupt { file, offset, .. } => (ErrorKind::Corrupt, "AKI-0244", Some(file), Some(*offset)),
        Wal::ForeignLog { file } => (ErrorKind::Conflict, "AKI-0245", Some(file), None),
        Wal::NewerFormat { file, .. } => (ErrorKind::NewerFormat, "AKI-0246", Some(file), None),
        Wal::NoRoomYet => (ErrorKind::Full { which: "log_file", retry_after }, "AKI-0249", None, None),
        Wal::Forked => (ErrorKind::Invalid, "AKI-0238", None, None),
        Wal::NetworkFs { dir } => (ErrorKind::Invalid, "AKI-0222", Some(dir), None),
        Wal::Unreadable { file, offset, .. } => {
            (ErrorKind::Unavailable, "AKI-0247", Some(file), Some(*offset))
        }
        Wal::Io { file, .. } => (ErrorKind::Unavailable, "AKI-0247", Some(file), None),
        _ => (ErrorKind::Internal, "AKI-0248", None, None),
    };
    let fate = match error.fate() {
        akidb_wal::Fate::Unknown => Fate::Unknown,
        akidb_wal::Fate::NotWritten | akidb_wal::Fate::Untouched => Fate::NotWritten,
    };
    let mapped = Error::new(kind, code, text).fate_is(fate);
    let mapped = match file {
        Some(file) => mapped.at(file, offset),
        None => mapped,
    };
    let mapped = match error.kind() {
        Wal::Io { source, .. } | Wal::Unreadable { source, .. } => mapped.caused_by(source),
        _ => mapped,
    };
    match error.help() {
        Some(help) => mapped.help_is(help),
        None => mapped,
    }
}
