//! What can go wrong with a log, where, whether the records survived, and the command that mends it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::header::HEADER_PAGE_BYTES;
use crate::lsn::Lsn;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What became of the records in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing was logged; no later open will show it.
    NotWritten,
    /// Not acknowledged, and not known to be lost: a later open shows all of a batch or none of it.
    Unknown,
    /// The call wrote no records; those acknowledged before are as safe as they were.
    Untouched,
}

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call itself was wrong.
    #[error("{0}")]
    Invalid(String),
    /// The batch is over a limit.
    #[error(
        "batch of {records} records and {bytes} bytes is over the limit of {max} bytes or {max_records} records"
    )]
    TooLarge {
        /// Payload bytes of the batch.
        bytes: u64,
        /// Records in the batch.
        records: u64,
        /// Payload bytes allowed.
        max: u64,
        /// Records allowed.
        max_records: u64,
    },
    /// The live log is as large as it may be; truncating it makes room.
    #[error("the log holds {live} bytes of at most {limit}")]
    Full {
        /// Bytes in live log files.
        live: u64,
        /// The limit.
        limit: u64,
    },
    /// The next log file is not ready yet and the caller does not wait. `Log::wait_for_room` does, `Log::poll_room`
    /// tells.
    #[error("the next log file is not ready yet")]
    NoRoomYet,
    /// The call came from a child of the process that opened the log (`fork`). The log is the parent's.
    #[error("the log was opened by the process that this one is a fork of")]
    Forked,
    /// The disk has no room for the next log file. Heals by itself once there is room.
    #[error("no space on the disk for log file {}", file.display())]
    NoSpace {
        /// The file that could not be made.
        file: PathBuf,
    },
    /// A sync failed earlier: this log acknowledges nothing any more. Reopening is the repair.
    #[error("the log stopped at a failed sync: {cause}")]
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
    /// A reader wants records that have left the log.
    #[error("record {wanted} has left the log: the oldest that can be read is {oldest}")]
    Lagged {
        /// The record the reader came to.
        wanted: Lsn,
        /// Where a new reader may begin.
        oldest: Lsn,
    },
    /// The log was closed, or opened for reading only.
    #[error("the log is closed for writing")]
    Closed,
    /// The epoch has no LSNs left for the batch, after 2^40 records since the open. The next open begins another.
    #[error("epoch {epoch} of the log has too few record numbers left for the batch")]
    Spent {
        /// The epoch.
        epoch: u32,
    },
    /// Acknowledged records are damaged or missing. Nothing was modified.
    #[error("log file {} is damaged at offset {offset}: record {lsn} was acknowledged ({evidence})", file.display())]
    Corrupt {
        /// The damaged or missing file.
        file: PathBuf,
        /// Where its intact part ends, in bytes.
        offset: u64,
        /// The first record that cannot be read.
        lsn: Lsn,
        /// How we know that it is damage and not a torn tail.
        evidence: String,
    },
    /// The file belongs to another log.
    #[error("log file {} belongs to another log", file.display())]
    ForeignLog {
        /// The file.
        file: PathBuf,
    },
    /// The file was written by a newer version.
    #[error("log file {} has a newer format: {what}", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// What this version does not know.
        what: String,
    },
    /// The directory lies on a network file system.
    #[error("{} lies on a network file system, whose maps and flushes cannot keep the promise", dir.display())]
    NetworkFs {
        /// The directory.
        dir: PathBuf,
    },
    /// The disk cannot read a part of a log file. Whether what lies there was acknowledged is not known; nothing was modified.
    #[error("the disk cannot read log file {} at offset {offset}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The page that cannot be read, in bytes from the file's start.
        offset: u64,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// The disk said no.
    #[error("cannot {action} {}: {source}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

/// An error of the log: a kind, and what became of the records.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Box<ErrorKind>,
    fate: Fate,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, fate: Fate) -> Self {
        Self { kind: Box::new(kind), fate }
    }

    pub(crate) fn refused(kind: ErrorKind) -> Self {
        Self::new(kind, Fate::NotWritten)
    }

    pub(crate) fn io(action: &'static str, file: &Path, source: io::Error) -> Self {
        let file = file.to_path_buf();
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace { file },
            _ => ErrorKind::Io { action, file, source: Arc::new(source) },
        };
        Self::new(kind, Fate::Untouched)
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, lsn: Lsn, evidence: impl Into<String>) -> Self {
        let file = file.to_path_buf();
        Self::new(ErrorKind::Corrupt { file, offset, lsn, evidence: evidence.into() }, Fate::Untouched)
    }

    pub(crate) fn with_fate(self, fate: Fate) -> Self {
        Self { fate, ..self }
    }

    /// What went wrong, and where.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What became of the records of this call.
    #[must_use]
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// What a person can do about it, with the command where there is one.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match &*self.kind {
            ErrorKind::Corrupt { file, offset, .. } => format!(
                "if the disk can be trusted again and no copy is at hand, `akidb repair wal-cut {} {offset}` keeps \
                 the damaged files aside and drops everything from there on",
                shell_word(file)
            ),
            // Nothing of the file can be read behind its header.
            ErrorKind::Unreadable { file, offset, .. } if *offset < HEADER_PAGE_BYTES as u64 => format!(
                "copy the directory to a disk that can be trusted while it can be read; if the place stays lost and no copy is \
                 at hand, `akidb repair wal-cut {} 0` keeps the file aside and drops everything from there on",
                shell_word(file)
            ),
            ErrorKind::Unreadable { file, .. } => format!(
                "copy the directory to a disk that can be trusted while it can be read; if the place stays lost and no copy is \
                 at hand, `akidb wal dump {}` shows where the last whole frame before it ends (END), and `akidb repair \
                 wal-cut FILE END` keeps what can be read aside and drops everything from there on",
                shell_word(file)
            ),
            ErrorKind::Poisoned { .. } => "check the disk, then reopen the database".into(),
            ErrorKind::Spent { .. } => "reopen the database: the numbers of the next epoch begin at 1".into(),
            ErrorKind::NoSpace { .. } => "free space on this disk; writing goes on by itself".into(),
            ErrorKind::Full { .. } => "let a flush finish, or raise the limit of the live log".into(),
            ErrorKind::TooLarge { .. } => "split the batch".into(),
            ErrorKind::NewerFormat { .. } => "open it with the version that wrote it".into(),
            ErrorKind::ForeignLog { file } => {
                format!("move {} out of this directory: it was not written here", file.display())
            }
            ErrorKind::NetworkFs { .. } => "use a local disk".into(),
            ErrorKind::Lagged { oldest, .. } => {
                format!("read what is missing elsewhere, then from {oldest} on")
            }
            ErrorKind::NoRoomYet => "try again, or wait for room".into(),
            ErrorKind::Forked => {
                "open the database in one process; exec or spawn others instead of forking".into()
            }
            ErrorKind::Invalid(_) | ErrorKind::Closed | ErrorKind::Io { .. } => return None,
        })
    }
}

/// A path as one word of a shell's command line.
#[doc(hidden)]
#[must_use]
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        f.write_str(match self.fate {
            Fate::NotWritten => " (nothing was logged)",
            Fate::Unknown => " (whether the records survive is known at the next open)",
            Fate::Untouched => "",
        })
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.kind {
            ErrorKind::Io { source, .. } | ErrorKind::Unreadable { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
