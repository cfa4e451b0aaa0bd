//! The operators' room: how the backends' breakers stand, dead letters, and the hands to change both.

use std::sync::Arc;

use akidb_backends::{Breaker, CallKind, DeadLetters, LetterId, Which};

use crate::dead_letters::drop_letter;
use crate::error::{Error, ErrorKind, Result};
use crate::upload::{BreakerView, Uploads};

/// What an operator can see and do of a database's backends, from [`crate::Db::backends`]. Nothing here blocks but the
/// calls of [`DeadLetters`] that say so; what is asked for wakes the uploaders.
#[derive(Clone, Copy, Debug)]
pub struct Backends<'a> {
    uploads: &'a Uploads,
}

impl<'a> Backends<'a> {
    pub(crate) fn new(uploads: &'a Uploads) -> Self {
        Self { uploads }
    }

    /// Names of the backends, in the order of the settings.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.uploads.names()
    }

    /// How every breaker stands: three a backend.
    #[must_use]
    pub fn breakers(&self) -> Vec<BreakerView> {
        self.uploads.breakers()
    }

    /// Closes breakers with an empty window; what is under way counts no more. Of one backend or all, of one kind or
    /// all. Answers how many.
    ///
    /// # Errors
    /// `NotFound`, naming the backends there are.
    pub fn reset_breaker(&self, backend: Option<&str>, kind: Option<CallKind>) -> Result<u64> {
        self.turn(backend, kind, Breaker::reset)
    }

    /// Opens breakers: every call is refused until [`Backends::reset_breaker`]. As there.
    ///
    /// # Errors
    /// `NotFound`, naming the backends there are.
    pub fn open_breaker(&self, backend: Option<&str>, kind: Option<CallKind>) -> Result<u64> {
        self.turn(backend, kind, Breaker::force_open)
    }

    /// Holds breakers closed: every call is made, whatever happens, until [`Backends::reset_breaker`]. As there.
    ///
    /// # Errors
    /// `NotFound`, naming the backends there are.
    pub fn close_breaker(&self, backend: Option<&str>, kind: Option<CallKind>) -> Result<u64> {
        self.turn(backend, kind, Breaker::force_closed)
    }

    fn turn(&self, backend: Option<&str>, kind: Option<CallKind>, change: fn(&Breaker)) -> Result<u64> {
        let names = self.names();
        if let Some(backend) = backend
            && !names.iter().any(|name| name == backend)
        {
            let message = format!("there is no backend \"{backend}\" (there are: {})", names.join(", "));
            return Err(Error::new(ErrorKind::NotFound, "AKI-0252", message));
        }
        let mut turned = 0;
        for guard in self.uploads.guards(backend) {
            for kind in CallKind::ALL.into_iter().filter(|each| kind.is_none_or(|kind| kind == *each)) {
                change(guard.breaker(kind));
                turned += 1;
            }
        }
        self.uploads.wake(backend);
        Ok(turned)
    }

    /// The dead letters. After a change there, [`Backends::wake`].
    ///
    /// # Errors
    /// `NotFound`: the database has no backend, or is open for reading only.
    pub fn dead_letters(&self) -> Result<&'a Arc<DeadLetters>> {
        self.uploads.letters().ok_or_else(|| {
            let message = "no backend is open for writing here, so there are no dead letters";
            Error::new(ErrorKind::NotFound, "AKI-0253", message)
                .help_is("open the database for writing with its backends; `akidb dlq ls` reads the files")
        })
    }

    /// Has these letters tried now, poison too, and parked uploads without a letter. Answers how many letters.
    ///
    /// # Errors
    /// As [`Backends::dead_letters`].
    pub fn retry_all(&self, which: &Which) -> Result<u64> {
        let asked = self.dead_letters()?.ask_retry_all(which);
        self.uploads.wake(which.backend.as_deref());
        Ok(asked)
    }

    /// Has one letter tried now; `false` if it is gone.
    ///
    /// # Errors
    /// As [`Backends::dead_letters`].
    pub fn retry(&self, id: &LetterId) -> Result<bool> {
        let asked = self.dead_letters()?.ask_retry(id);
        self.wake();
        Ok(asked)
    }

    /// Drops a letter; `false` if there is none. Its file stays, and stays pending. Blocks for one sync.
    ///
    /// # Errors
    /// `Conflict`: its upload is being tried, or its file is still here (so it was not uploaded) and `forget` is not
    /// said; nothing was dropped. `NoSpace`, `Unavailable`: dropped in memory, not on disk. As
    /// [`Backends::dead_letters`].
    pub fn drop_letter(&self, id: &LetterId, forget: bool) -> Result<bool> {
        drop_letter(self.dead_letters()?, id, forget)
    }

    /// Makes every uploader look again now.
    pub fn wake(&self) {
        self.uploads.wake(None);
    }
}
