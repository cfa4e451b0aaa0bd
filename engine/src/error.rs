//! The one error of this crate: what happened, where, whether the write survived, and what mends it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use akidb_wal::Lsn;
pub(crate) use akidb_wal::shell_word;

/// What a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call is wrong; the same call will fail again.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// The thing exists with other properties, or a precondition did not hold.
    Conflict,
    /// A bound is reached for now.
    Full {
        /// Which bound.
        which: &'static str,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// The disk has no room.
    NoSpace,
    /// Another handle has the directory.
    Locked,
    /// A backend or the disk does not answer now.
    Unavailable,
    /// Bytes on disk are not what was written, or a file that a manifest names is gone.
    Corrupt,
    /// The file was written by a newer version.
    NewerFormat,
    /// Another writer owns the backend now.
    Fenced,
    /// A sync failed: this handle writes no more; reopening is the repair.
    Poisoned,
    /// The database was closed.
    Closed,
    /// Our own mistake.
    Internal,
}

/// What became of the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing was written, or there was nothing to write.
    NotWritten,
    /// The write is on disk and will be there after a reopen.
    Durable,
    /// It may or may not be there after a reopen.
    Unknown,
}

/// An error of the engine.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    fate: Fate,
    code: &'static str,
    message: String,
    file: Option<PathBuf>,
    offset: Option<u64>,
    help: Option<String>,
    version_found: Option<Lsn>,
    /// Whether the disk failed to give bytes back, or to take them.
    is_of_medium: bool,
    is_in_part: bool,
    /// Whether a file is not there that a manifest names.
    is_of_missing_file: bool,
    /// Whether this process, or the machine, has no more files to open.
    is_out_of_files: bool,
}

/// Linux's number for a failed transfer: the medium, not a limit of the process or a missing mount.
pub(crate) const EIO: i32 = 5;

/// Linux's numbers for too many open files, of the machine and of the process.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// The result of most calls here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with fate `NotWritten`. `code` is stable (`AKI-` and four digits, listed in
    /// docs/operations/errors.md).
    #[must_use]
    pub(crate) fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner {
            kind,
            fate: Fate::NotWritten,
            code,
            message,
            file: None,
            offset: None,
            help: None,
            version_found: None,
            is_of_medium: false,
            is_in_part: false,
            is_of_missing_file: false,
            is_out_of_files: false,
        }))
    }

    /// A wrong call.
    #[must_use]
    pub(crate) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, code, message)
    }

    /// Damage in `file` at byte `offset`.
    #[must_use]
    pub(crate) fn corrupt(code: &'static str, file: &Path, offset: u64, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, code, message).at(file, Some(offset))
    }

    /// A failed call to the machine; a full disk becomes `NoSpace`.
    #[must_use]
    pub(crate) fn io(code: &'static str, file: &Path, doing: &str, cause: &std::io::Error) -> Self {
        let kind = match cause.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, code, format!("{doing}: {cause}")).at(file, None).caused_by(cause)
    }

    /// Notes what the machine's answer says of the medium and of open files.
    #[must_use]
    pub(crate) fn caused_by(mut self, cause: &std::io::Error) -> Self {
        self.0.is_of_medium = cause.raw_os_error() == Some(EIO);
        self.0.is_out_of_files = matches!(cause.raw_os_error(), Some(EMFILE | ENFILE));
        self
    }

    /// Says that a manifest names the file: one that is not there is damage then, and no answer to what was asked for.
    #[must_use]
    pub(crate) fn of_named_file(mut self) -> Self {
        if self.kind() == ErrorKind::NotFound {
            (self.0.kind, self.0.is_of_missing_file) = (ErrorKind::Corrupt, true);
        }
        self
    }

    /// Whether a file that a manifest names is not there: lost, or gone with that manifest meanwhile.
    pub(crate) fn is_of_missing_file(&self) -> bool {
        self.0.is_of_missing_file
    }

    /// Whether the bytes that were asked for are not what was written, or cannot be had: lost, rotten, or on a bad sector.
    /// Else asking again, or another program, may well have them.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) || self.0.is_of_medium
    }

    /// What gives access to a file that is there and could not be read.
    pub(crate) fn access_help(&self) -> &'static str {
        match self.0.is_out_of_files {
            true => "raise the limit of open files (`ulimit -n`), then look again",
            false => {
                "nothing says that it is damaged: see to the rights of this user and to the disk, then look again"
            }
        }
    }

    /// Names the command that mends the file, or what gives access to it where nothing says that it is damaged.
    #[must_use]
    pub(crate) fn mended_by(self, mending: String) -> Self {
        let help = if self.is_damage() { mending } else { self.access_help().to_owned() };
        self.help_is(help)
    }

    /// Names the place.
    #[must_use]
    pub(crate) fn at(mut self, file: &Path, offset: Option<u64>) -> Self {
        self.0.file = Some(file.to_path_buf());
        self.0.offset = offset;
        self
    }

    /// Names the byte where no file is known yet.
    #[must_use]
    pub(crate) fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Says what became of the write.
    #[must_use]
    pub(crate) fn fate_is(mut self, fate: Fate) -> Self {
        self.0.fate = fate;
        self
    }

    /// What every call answers that finds its collection dropped.
    pub(crate) fn dropped() -> Self {
        Self::new(ErrorKind::NotFound, "AKI-0201", "the collection was dropped")
    }

    /// Whether this is [`Error::dropped`].
    pub(crate) fn is_dropped(&self) -> bool {
        self.code() == Self::dropped().code()
    }

    /// Says what mends it.
    #[must_use]
    pub(crate) fn help_is(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Says that the call was several writes, and that some of them are there: this one alone was not written.
    #[must_use]
    pub(crate) fn in_part(mut self) -> Self {
        if self.0.fate == Fate::NotWritten {
            self.0.is_in_part = true;
            self.0.fate = Fate::Unknown;
        }
        self
    }

    /// Names the version a row has that was to have another.
    #[must_use]
    pub(crate) fn version_found_is(mut self, version: Option<Lsn>) -> Self {
        self.0.version_found = version;
        self
    }

    /// Says which part of a larger call it was.
    #[must_use]
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What became of the write.
    #[must_use]
    pub fn fate(&self) -> Fate {
        self.0.fate
    }

    /// Whether the call was several writes, of which some are made and the one that failed is not; the message says how
    /// many are. Its fate is `Unknown` then.
    #[must_use]
    pub fn is_in_part(&self) -> bool {
        self.0.is_in_part
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What happened, without place and help.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The file concerned.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The byte offset in that file.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// Where it is and what: two readings that fail alike found something that stays.
    pub(crate) fn place(&self) -> (Option<PathBuf>, Option<u64>, &'static str) {
        (self.0.file.clone(), self.0.offset, self.0.code)
    }

    /// The version the row has, where a write demanded another one or none ([`crate::Expect`]); `None` where there is
    /// no such row, and for every other error.
    #[must_use]
    pub fn version_found(&self) -> Option<Lsn> {
        self.0.version_found
    }

    /// What mends it, often a command.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.0.message, self.0.code)?;
        if let Some(file) = &self.0.file {
            write!(f, " in {}", file.display())?;
        }
        if let Some(offset) = self.0.offset {
            write!(f, " at byte {offset}")?;
        }
        match self.0.fate {
            Fate::NotWritten => {}
            Fate::Unknown if self.0.is_in_part => {}
            Fate::Durable => write!(f, "; the write is durable")?,
            Fate::Unknown => write!(f, "; whether the write survives is known after a reopen")?,
        }
        if let Some(help) = &self.0.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_broke_between_its_writes_is_not_called_unwritten() {
        let broke = |fate| Error::invalid("AKI-0101", "no").fate_is(fate).about("after 4096 rows").in_part();
        let error = broke(Fate::NotWritten);
        assert!(error.is_in_part() && error.fate() == Fate::Unknown);
        assert_eq!(error.to_string(), "after 4096 rows: no [AKI-0101]");
        // Of the one that failed nothing is known: that must be said.
        let error = broke(Fate::Unknown);
        assert!(!error.is_in_part() && error.to_string().contains("known after a reopen"), "{error}");
    }

    #[test]
    fn too_many_open_files_are_no_damage_and_have_a_limit_to_raise() {
        let of = |number| {
            Error::io("AKI-0101", Path::new("f"), "open", &std::io::Error::from_raw_os_error(number))
        };
        for number in [EMFILE, ENFILE] {
            assert!(!of(number).is_damage() && of(number).access_help().contains("ulimit -n"));
        }
        assert!(!of(13).is_damage() && of(13).access_help().contains("rights"));
        assert!(of(EIO).is_damage());
        let help = |number| of(number).mended_by("`mend it`".to_owned()).help().unwrap().to_owned();
        assert!(help(EMFILE).contains("ulimit -n") && help(13).contains("rights"));
        assert_eq!((help(EIO), help(2)), ("`mend it`".to_owned(), "`mend it`".to_owned()));
    }
}
