//! The write-ahead log as the engine uses it: its errors in our words, its sync as our drain.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use akidb_host::LockGuard;
use akidb_wal::{Error as WalError, Log};

use crate::error::{Error, ErrorKind, Fate, Result};
use crate::lsn::Lsn;
use crate::write::WriteLog;

/// The open log.
#[derive(Debug)]
pub(crate) struct EngineLog {
    log: Log,
    /// The directory's lock. Declared after the log: it is released when the log's threads have ended, whoever holds
    /// the log last.
    lock: Mutex<Option<Box<dyn LockGuard>>>,
}

impl EngineLog {
    pub(crate) fn new(log: Log, lock: Box<dyn LockGuard>) -> Self {
        Self { log, lock: Mutex::new(Some(lock)) }
    }

    /// Lets the next open have the directory; only once the log is closed and nothing is committed any more.
    pub(crate) fn release_lock(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn inner(&self) -> &Log {
        &self.log
    }
}

impl WriteLog for EngineLog {
    type Error = Error;

    fn append(&self, records: &[&[u8]]) -> Result<(Lsn, Lsn)> {
        let _span = tracing::debug_span!("append", records = records.len()).entered();
        let appended = self.log.append(records).map_err(|error| from_wal(&error))?;
        Ok((appended.first, appended.last))
    }

    fn wait(&self, lsn: Lsn) -> Result<()> {
        let _span = tracing::debug_span!("sync", %lsn).entered();
        self.log.wait(lsn).map_err(|error| from_wal(&error).fate_is(Fate::Unknown))
    }

    fn synced(&self) -> Lsn {
        self.log.watermarks().synced
    }
}

/// The log's error in the engine's words: kind, fate, place and remedy are kept.
pub(crate) fn from_wal(error: &WalError) -> Error {
    use akidb_wal::ErrorKind as Wal;
    let text = error.kind().to_string();
    let retry_after = Duration::from_millis(100);
    let (kind, code, file, offset) = match error.kind() {
        Wal::Invalid(_) => (ErrorKind::Invalid, "AKI-0240", None, None),
        Wal::TooLarge { .. } => (ErrorKind::Invalid, "AKI-0215", None, None),
        Wal::Full { .. } => (ErrorKind::Full { which: "wal_max_bytes", retry_after }, "AKI-0241", None, None),
        Wal::NoSpace { file } => (ErrorKind::NoSpace, "AKI-0242", Some(file), None),
        Wal::Poisoned { .. } => (ErrorKind::Poisoned, "AKI-0243", None, None),
        Wal::Closed => (ErrorKind::Closed, "AKI-0206", None, None),
        Wal::Corrupt { file, offset, .. } => (ErrorKind::Corrupt, "AKI-0244", Some(file), Some(*offset)),
        Wal::ForeignLog { file } => (ErrorKind::Conflict, "AKI-0245", Some(file), None),
        Wal::NewerFormat { file, .. } => (ErrorKind::NewerFormat, "AKI-0246", Some(file), None),
        Wal::NetworkFs { dir } => (ErrorKind::Invalid, "AKI-0222", Some(dir), None),
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
    match error.help() {
        Some(help) => mapped.help_is(help),
        None => mapped,
    }
}
