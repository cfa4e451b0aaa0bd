//! A write that is in the log and could not be applied: what is said of it, which depends on how far the log is synced.

use crate::error::{Error, ErrorKind, Fate};
use crate::lsn::Lsn;

/// The write, and why it could not be applied.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    lsn: Lsn,
    /// Without what became of the write.
    cause: Error,
}

impl Damage {
    /// The record `lsn` met this error when it was applied.
    pub(crate) fn new(lsn: Lsn, error: &Error) -> Self {
        let message = format!("a logged write ({lsn}) could not be applied: {}", error.message());
        Self { lsn, cause: placed_as(error, Error::new(ErrorKind::Corrupt, "AKI-0203", message)) }
    }

    /// The record.
    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// What is said of the write while the log is synced up to there. (A frame is synced whole, so this record tells for
    /// all of its write.)
    pub(crate) fn told(&self, synced: Lsn) -> Error {
        self.told_of(self.lsn, synced)
    }

    /// What is said of a write that ends at `last` and met this.
    pub(crate) fn told_of(&self, last: Lsn, synced: Lsn) -> Error {
        let (fate, help) = if last <= synced {
            (Fate::Durable, "the log keeps the row; run `akidb verify` and reopen once the file is mended")
        } else {
            let help = "the row is kept once the log is synced; run `akidb verify`, reopen once the file is mended, \
                        and write it again if it is not there";
            (Fate::Unknown, help)
        };
        self.cause.clone().fate_is(fate).help_is(help)
    }

    /// The refusal of another write to this collection, of which nothing was logged.
    pub(crate) fn refusal(&self, collection: &str) -> Error {
        let message = format!("\"{collection}\" takes no writes: {}", self.cause.message());
        placed_as(&self.cause, Error::new(ErrorKind::Corrupt, "AKI-0254", message))
            .fate_is(Fate::NotWritten)
            .help_is("run `akidb verify` and reopen once the file is mended, then write this again")
    }
}

/// With the place of another.
fn placed_as(other: &Error, error: Error) -> Error {
    match other.file() {
        Some(file) => error.at(file, other.offset()),
        None => error,
    }
}
