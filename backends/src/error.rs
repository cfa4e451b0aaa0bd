//! The one error of this crate: what happened, on which backend and object, and what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::class::{Class, Op};
use crate::dlq::Trouble;
use crate::guard::Held;
use crate::refusal::{Refusal, is_missing_bucket};
use crate::retry::retry_after;

/// What a machine answers that is short of something, or busy, at this moment: EINTR, EAGAIN, ENOMEM, ENFILE, EMFILE.
const OF_THE_MOMENT: [i32; 5] = [4, 11, 12, 23, 24];

/// What an error asks of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting or an argument is wrong; the same call will fail again.
    Invalid,
    /// The object, document or bucket is not there.
    NotFound,
    /// The backend belongs to another database.
    Conflict,
    /// The backend does not answer as it should now; later it may. 401 and 403 are here too, with
    /// [`Class::Auth`].
    Unavailable,
    /// Bytes are not what their checksum says: the local file when [`Error::class`] is [`Class::Local`],
    /// else the remote object.
    Corrupt,
    /// Written by a newer AkiDB.
    NewerFormat,
    /// Another writer has claimed the backend; this one publishes nothing more there.
    Fenced,
    /// The uploader has been stopped.
    Closed,
    /// The local disk is full: a dead letter is in memory alone for now.
    NoSpace,
    /// A fault of ours.
    Internal,
}

/// What became of the thing that was being written to the backend. Local rows are never at stake here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is not on the backend.
    NotWritten,
    /// It is on the backend.
    Durable,
    /// It may or may not be; the next attempt finds out.
    Unknown,
}

/// An error of this crate. Cheap to clone, so that every waiter can have it.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    class: Class,
    fate: Fate,
    backend: String,
    what: String,
    file: Option<String>,
    offset: Option<u64>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// How retries treat it.
    #[must_use]
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// Whether what was being published is on the backend.
    #[must_use]
    pub fn fate(&self) -> Fate {
        self.0.fate
    }

    /// The name of the backend.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.0.backend
    }

    /// The object's key, or the local file's path.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// Where in the file, in bytes, if that is known.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// How long the server asked to be left alone, if it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The HTTP status the server answered with, if it is known.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(Refusal::status)
    }

    /// The server's own name for the refused request, if it gave one: what its operators find it by.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.refusal()?.request_id()
    }

    fn refusal(&self) -> Option<&Refusal> {
        let mut next = self.source();
        while let Some(error) = next {
            if let Some(refusal) = error.downcast_ref::<Refusal>() {
                return Some(refusal);
            }
            next = error.source();
        }
        None
    }

    /// Stable code for scripts and search engines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match (self.0.kind, self.0.class) {
            (ErrorKind::Invalid, _) => "AKI-0701",
            (ErrorKind::NotFound, _) => "AKI-0702",
            (ErrorKind::Conflict, _) => "AKI-0703",
            (ErrorKind::Unavailable, Class::Auth) => "AKI-0705",
            (ErrorKind::Unavailable, Class::Refused) => "AKI-0712",
            (ErrorKind::Unavailable | ErrorKind::NoSpace, Class::Local) => "AKI-0713",
            (ErrorKind::Unavailable, _) => "AKI-0704",
            (ErrorKind::NoSpace, _) => "AKI-0713",
            (ErrorKind::Corrupt, Class::Local) => "AKI-0707",
            (ErrorKind::Corrupt, _) => "AKI-0706",
            (ErrorKind::NewerFormat, _) => "AKI-0708",
            (ErrorKind::Fenced, _) => "AKI-0709",
            (ErrorKind::Closed, _) => "AKI-0710",
            (ErrorKind::Internal, _) => "AKI-0711",
        }
    }

    /// What mends it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match (self.0.kind, self.0.class) {
            (ErrorKind::Invalid, _) => "correct the backend's settings; `akidb config check` reads them",
            (ErrorKind::NotFound, _) => {
                "check the URL, the bucket and the prefix; a bucket is never made, and what is only read is not either"
            }
            (ErrorKind::Conflict, _) => {
                "give this database a prefix of its own, or restore into a new directory"
            }
            (ErrorKind::Unavailable, Class::Auth) => {
                "check the access key, its secret and its rights; uploads resume by themselves"
            }
            (ErrorKind::Unavailable, Class::Refused) => {
                "nothing to do: writes and searches go on; uploads resume by themselves when the backend answers again"
            }
            (ErrorKind::Unavailable | ErrorKind::NoSpace, Class::Local) | (ErrorKind::NoSpace, _) => {
                "nothing is lost: what is to be uploaded is known from the manifest. Make room or mend the disk of this \
                 file; it is written again by itself"
            }
            (ErrorKind::Unavailable, _) => "nothing to do: writes and searches go on, uploads are retried",
            (ErrorKind::Corrupt, Class::Local) => {
                "run `akidb verify` on the directory; the file was not uploaded"
            }
            (ErrorKind::Corrupt, _) => {
                "run `akidb verify` and upload to a fresh prefix; local rows are intact"
            }
            (ErrorKind::NewerFormat, _) => "use the newer AkiDB that wrote it",
            (ErrorKind::Fenced, _) => {
                "another copy of this database publishes here; close one of the two, then reopen the other"
            }
            (ErrorKind::Closed, _) => "reopen the database",
            (ErrorKind::Internal, _) => "please report this",
        }
    }

    pub(crate) fn new(kind: ErrorKind, class: Class, backend: &str, what: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            class,
            fate: Fate::NotWritten,
            backend: backend.to_owned(),
            what: what.into(),
            file: None,
            offset: None,
            retry_after: None,
            source: None,
        }))
    }

    pub(crate) fn invalid(backend: &str, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, Class::Permanent, backend, what)
    }

    /// A remote object that is not what its checksum says.
    pub(crate) fn corrupt(backend: &str, key: &str, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, Class::Permanent, backend, what).at(key)
    }

    /// A local file that cannot be read, or is not what its checksum says.
    pub(crate) fn local(backend: &str, path: &std::path::Path, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, Class::Local, backend, what).at(&path.display().to_string())
    }

    /// What the disk said when a local file was to be read. Too many open files, no memory, a call that was interrupted:
    /// that is about this machine at this moment. A file that is not there, or ends too soon, is not what its manifest says;
    /// anything else is said of its device, or of what lies on it.
    pub(crate) fn unread(backend: &str, path: &std::path::Path, error: io::Error) -> Self {
        let is_of_moment = error.raw_os_error().is_some_and(|errno| OF_THE_MOMENT.contains(&errno));
        let what = "cannot read local file";
        let unread = if is_of_moment {
            Self::new(ErrorKind::Unavailable, Class::Transient, backend, what).at(&path.display().to_string())
        } else {
            Self::local(backend, path, what)
        };
        unread.because(error)
    }

    /// Whether a local file that is there could not be read: it may be yet, so this is about the file only if it goes on.
    pub(crate) fn is_of_device(&self) -> bool {
        let is_of_file = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
        };
        self.class() == Class::Local && self.disk().is_some_and(|error| !is_of_file(error))
    }

    /// What the local disk said, if it was not a store that failed.
    pub(crate) fn disk(&self) -> Option<&io::Error> {
        self.source()?.downcast_ref()
    }

    /// What a store answered, classed.
    pub(crate) fn store(backend: &str, op: Op, key: &str, class: Class, source: object_store::Error) -> Self {
        let kind = match class {
            // Not to be taken for an object that is not there.
            Class::Permanent if is_missing_bucket(&source) => ErrorKind::NotFound,
            Class::NotFound => ErrorKind::NotFound,
            Class::Permanent => ErrorKind::Invalid,
            // A conditional put that was refused is looked into by whoever made it.
            Class::Conflict => ErrorKind::Conflict,
            Class::Local => ErrorKind::Corrupt,
            Class::Transient
            | Class::Throttle
            | Class::Timeout
            | Class::Ambiguous
            | Class::Auth
            | Class::Refused => ErrorKind::Unavailable,
        };
        let what = match class {
            Class::Auth => format!("{op}: access denied"),
            Class::Refused => format!("{op} was not tried"),
            _ => format!("{op} failed"),
        };
        let fate = if class == Class::Ambiguous { Fate::Unknown } else { Fate::NotWritten };
        let mut error = Self::new(kind, class, backend, what).at(key).fated(fate);
        error.0.retry_after = retry_after(&source);
        error.because(source)
    }

    /// The files of the dead letters could not be written: the list is in memory alone for now.
    pub(crate) fn dead_letters(trouble: &Trouble, backend: &str) -> Self {
        let full = matches!(trouble.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let kind = if full { ErrorKind::NoSpace } else { ErrorKind::Unavailable };
        let what = format!("dead letters are in memory alone for now: {} failed", trouble.doing);
        let error = Self::new(kind, Class::Local, backend, what).at(&trouble.file.display().to_string());
        error.because(Arc::clone(&trouble.source))
    }

    pub(crate) fn at(mut self, file: &str) -> Self {
        self.0.file = Some(file.to_owned());
        self
    }

    pub(crate) fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    pub(crate) fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Whether the breaker refused the call: nothing was sent.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let mut next = self.source();
        while let Some(error) = next {
            if error.is::<Held>() {
                return true;
            }
            next = error.source();
        }
        false
    }

    pub(crate) fn into_unavailable(mut self) -> Self {
        self.0.kind = ErrorKind::Unavailable;
        self
    }

    pub(crate) fn into_transient(mut self) -> Self {
        self.0.class = Class::Transient;
        self
    }

    pub(crate) fn fated(mut self, fate: Fate) -> Self {
        self.0.fate = fate;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.backend.as_str() {
            "" => write!(f, "{} {}", self.code(), self.0.what)?,
            backend => write!(f, "{} backend '{backend}': {}", self.code(), self.0.what)?,
        }
        if let Some(file) = &self.0.file {
            write!(f, " ({file}")?;
            if let Some(offset) = self.0.offset {
                write!(f, " at byte {offset}")?;
            }
            write!(f, ")")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        if self.0.fate == Fate::Unknown {
            write!(f, "; whether it was stored is not known yet")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} [{:?}/{:?}]", self.0.kind, self.0.class)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
