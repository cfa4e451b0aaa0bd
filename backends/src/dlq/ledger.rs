//! Who writes and who waits: one caller writes for everybody, the others follow. Knows nothing of files: they are
//! a [`Sink`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::seeded_bug;

use super::letter::Letter;
use super::letters::{Change, Letters};
use crate::sync::{Condvar, Mutex, MutexGuard, let_others_run, wait};

/// Where letters are written. Called by one at a time, with no lock held.
pub(crate) trait Sink {
    /// Appends to the journal; durable on `Ok`. After an `Err` nothing is known of the journal's end, and it is
    /// not appended to before a [`Sink::replace`].
    fn append(&self, changes: &[Change]) -> Result<(), Trouble>;

    /// Writes a snapshot that holds every change up to `last`, then starts a new journal; durable on `Ok`. After
    /// an `Err` the files still tell of everything they told of before. `since` are the changes that the journal
    /// has not seen.
    fn replace(&self, letters: &[Arc<Letter>], last: u64, since: &[Change]) -> Result<(), Trouble>;
}

/// Why the files are not as the memory is.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) doing: &'static str,
    pub(crate) file: PathBuf,
    pub(crate) source: Arc<io::Error>,
}

impl Trouble {
    pub(crate) fn new(doing: &'static str, file: &Path, source: io::Error) -> Self {
        Self { doing, file: file.to_owned(), source: Arc::new(source) }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} failed: {}", self.doing, self.file.display(), self.source)
    }
}

/// The letters, and those who wait for them to be written.
#[derive(Debug)]
pub(crate) struct Room {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) letters: Letters,
    /// Every change up to here is on disk.
    synced: u64,
    /// Somebody writes.
    leading: bool,
    /// The last write was for several.
    crowded: bool,
    pub(crate) trouble: Option<Trouble>,
}

impl Room {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// A room and its files.
#[derive(Debug)]
pub(crate) struct Ledger<S> {
    pub(crate) room: Arc<Room>,
    pub(crate) sink: S,
}

impl<S: Sink> Ledger<S> {
    /// `letters` are as the files have them, but for the changes they still hold.
    pub(crate) fn new(letters: Letters, synced: u64, sink: S) -> Self {
        let state = State { letters, synced, leading: false, crowded: false, trouble: None };
        Self { room: Arc::new(Room { state: Mutex::new(state), done: Condvar::new() }), sink }
    }

    /// Blocks until the change of this number is on disk, writing for everybody if nobody does.
    ///
    /// # Errors
    /// The files could not be written: the change is in memory alone, until a later [`Ledger::persist`].
    pub(crate) fn settle(&self, n: u64) -> Result<(), Trouble> {
        let mut state = self.room.lock();
        let mut has_waited = false;
        loop {
            if state.synced >= n {
                return Ok(());
            }
            if state.leading {
                state = wait(&self.room.done, state);
                continue;
            }
            if state.letters.changes.has_gaps() {
                let Some(trouble) = &state.trouble else {
                    drop(state);
                    return self.persist();
                };
                return Err(trouble.clone());
            }
            // Those the last write was for are on their way with their next: one sync for all of them.
            if state.crowded && !has_waited {
                drop(state);
                let_others_run();
                has_waited = true;
            } else {
                self.lead(state);
            }
            state = self.room.lock();
        }
    }

    /// Writes what is not on disk yet, if there is any and nobody else writes.
    pub(crate) fn flush(&self) {
        let state = self.room.lock();
        if !state.leading && !state.letters.changes.is_empty() && !state.letters.changes.has_gaps() {
            self.lead(state);
        }
    }

    fn lead(&self, mut state: MutexGuard<'_, State>) {
        state.leading = true;
        let changes = state.letters.changes.take();
        state.crowded = changes.len() > 1;
        let last = state.letters.changes.last();
        drop(state);
        let done = self.sink.append(&changes);
        let mut state = self.room.lock();
        state.leading = false;
        match done {
            Ok(()) => state.synced = last,
            Err(trouble) if seeded_bug("dlq_error_swallowed") => {
                state.synced = last;
                state.trouble = Some(trouble);
            }
            Err(trouble) => {
                state.trouble = Some(trouble);
                state.letters.changes.give_up();
            }
        }
        // They wake to a free lock.
        drop(state);
        if !seeded_bug("dlq_wakes_nobody") {
            self.room.done.notify_all();
        }
    }

    /// Writes a snapshot and starts a new journal: afterwards all that happened before the call is on disk, and
    /// earlier trouble is over. Blocks.
    pub(crate) fn persist(&self) -> Result<(), Trouble> {
        let mut state = self.room.lock();
        while state.leading {
            state = wait(&self.room.done, state);
        }
        state.leading = true;
        let (letters, mut last) = (state.letters.all(), state.letters.changes.last());
        let since = state.letters.changes.take_for_snapshot();
        drop(state);
        let done = self.sink.replace(&letters, last, &since.0);
        let mut state = self.room.lock();
        state.leading = false;
        match &done {
            Ok(()) => {
                if seeded_bug("dlq_snapshot_covers_later_adds") {
                    last = state.letters.changes.last();
                }
                state.synced = last;
                state.trouble = None;
            }
            Err(trouble) => {
                if !seeded_bug("dlq_failed_snapshot_forgets") {
                    state.letters.changes.put_back(since);
                }
                state.trouble = Some(trouble.clone());
            }
        }
        self.room.done.notify_all();
        done
    }
}
