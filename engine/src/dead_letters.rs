//! The dead letters of a database that this process has not open: read beside its writer, changed under its lock.

use std::path::Path;
use std::sync::Arc;

use akidb_backends::{
    DeadLetters, DlqSettings, ErrorKind as BackendErrorKind, Letter, LetterId, LetterState, Loaded,
};
use akidb_host::{LockGuard, RealClock, RealFs};

use crate::error::{Error, ErrorKind, Result};
use crate::repair::take_lock;
use crate::upload::from_backend;

/// The dead letters of a database that is not open, for changes. The directory's lock is held as long as this lives.
#[derive(Debug)]
pub struct ClosedLetters {
    letters: DeadLetters,
    _lock: Box<dyn LockGuard>,
}

impl ClosedLetters {
    /// The letters. Changes are on disk once [`ClosedLetters::close`] has returned.
    #[must_use]
    pub fn letters(&self) -> &DeadLetters {
        &self.letters
    }

    /// Drops a letter; `false` if there is none.
    ///
    /// # Errors
    /// As [`crate::Backends::drop_letter`].
    pub fn drop_letter(&self, id: &LetterId, forget: bool) -> Result<bool> {
        drop_letter(&self.letters, id, forget)
    }

    /// Writes what was changed and lets go of the directory. Blocks for a few syncs.
    ///
    /// # Errors
    /// `NoSpace`, `Unavailable`: the files tell what they told before.
    pub fn close(self) -> Result<()> {
        self.letters.persist().map_err(|error| from_backend(&error))
    }
}

/// Reads the dead letters of a database, also while a process has it open; changes nothing. Blocks.
///
/// # Errors
/// `NotFound` if there is no database; `Unavailable`: a file is there and cannot be read.
pub fn read_dead_letters(dir: impl AsRef<Path>, settings: &DlqSettings) -> Result<(Vec<Letter>, Loaded)> {
    let dir = dir.as_ref();
    check_database(dir)?;
    DeadLetters::read(&RealFs, &settings.path_in(dir)).map_err(|error| from_backend(&error))
}

/// Opens the dead letters of a database that no process has open, to change them. Blocks.
///
/// # Errors
/// `NotFound` if there is no database; `Locked` if a process has it open: that process must be asked; `Invalid`
/// settings.
pub fn edit_dead_letters(dir: impl AsRef<Path>, settings: &DlqSettings) -> Result<ClosedLetters> {
    let dir = dir.as_ref();
    check_database(dir)?;
    let lock = take_lock(&RealFs, dir).map_err(|error| match error.kind() {
        ErrorKind::Locked => error.help_is(
            "ask the process that has it: --admin http://127.0.0.1:8080 (or AKIDB_ADMIN) where it is `akidb serve`",
        ),
        _ => error,
    })?;
    let path = settings.path_in(dir);
    let (letters, _) = DeadLetters::open(Arc::new(RealFs), Arc::new(RealClock), &path, settings.clone())
        .map_err(|error| from_backend(&error))?;
    Ok(ClosedLetters { letters, _lock: lock })
}

/// Drops a letter, with what may be done about a refusal.
pub(crate) fn drop_letter(letters: &DeadLetters, id: &LetterId, forget: bool) -> Result<bool> {
    let is_tried = letters.get(id).is_some_and(|letter| letter.state == LetterState::Redriving);
    letters.drop_entry(id, forget).map_err(|error| match error.kind() {
        BackendErrorKind::Conflict if is_tried => {
            let message = "the upload of this dead letter is being tried; drop it when that has ended";
            Error::new(ErrorKind::Conflict, "AKI-0255", message)
        }
        BackendErrorKind::Conflict => {
            let message = "this dead letter is all that says why a file is not uploaded";
            Error::new(ErrorKind::Conflict, "AKI-0255", message).help_is(
                "say --forget (`?forget=true`) to drop it all the same: the file stays, and stays pending",
            )
        }
        _ => from_backend(&error),
    })
}

fn check_database(dir: &Path) -> Result<()> {
    let is_there = std::fs::read_dir(dir.join("manifest")).is_ok_and(|mut entries| entries.next().is_some());
    if is_there {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotFound, "AKI-0221", format!("{} holds no database", dir.display()))
        .help_is("name its directory by --db DIR"))
}
