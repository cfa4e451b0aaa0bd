//! Errors as a life meets them: which have a cause, and what they say of the write that was begun last.

use akidb::{Error, ErrorKind, Fate};

use super::rows::Scale;
use super::world::State;

impl State {
    /// The event that was begun last ended in this error.
    pub(crate) fn fails(&mut self, error: &Error) {
        match error.fate() {
            Fate::NotWritten => self.truth.refused(),
            Fate::Unknown => {}
            Fate::Durable => self.truth.promise_all(),
        }
        self.expects(error);
    }

    /// Refuses an error that nothing gave cause to.
    pub(crate) fn expects(&mut self, error: &Error) {
        assert_is_typed(error);
        let full = matches!(error.kind(), ErrorKind::Full { .. });
        if is_held(error) {
            assert_eq!(error.fate(), Fate::NotWritten, "{error}");
            assert_eq!(self.scale, Scale::Heavy, "nothing waits for a backend: {error}");
            self.report.held += 1;
        }
        let closed = self.must_reopen && error.kind() == ErrorKind::Closed;
        assert!(self.ill || full || closed || self.must_reopen, "for no reason: {error}");
        self.report.refused += 1;
        if matches!(error.kind(), ErrorKind::Poisoned) || error.fate() != Fate::NotWritten {
            self.report.poisoned += u64::from(!self.must_reopen);
            self.must_reopen = true;
        }
    }
}

/// Whether it says that a backend is too far behind.
fn is_held(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Full { which: "max_pending_bytes", .. })
}

pub(crate) fn assert_is_typed(error: &Error) {
    let kind = error.kind();
    let known = matches!(
        kind,
        ErrorKind::Full { .. }
            | ErrorKind::NoSpace
            | ErrorKind::Unavailable
            | ErrorKind::Poisoned
            | ErrorKind::Corrupt
            | ErrorKind::Closed
    );
    assert!(known, "not an error of a bad disk: {kind:?}: {error}");
    let placed = error.file().is_some() || !matches!(kind, ErrorKind::Unavailable | ErrorKind::Corrupt);
    assert!(placed, "no file is named: {error}");
}

pub(crate) fn outcome<T: std::fmt::Debug, E: std::borrow::Borrow<Error>>(result: &Result<T, E>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.borrow().to_string(),
    }
}
