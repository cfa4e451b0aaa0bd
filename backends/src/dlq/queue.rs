//! The queue as others see it: a clock, chores, and the files below.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb_host::{Clock, Fs, Rng};

use self::chores::Chores;
use super::claim::Claim;
use super::disk::Disk;
use super::id::Ids;
use super::lane;
use super::ledger::{Ledger, State};
use super::letter::{Attempt, Letter, LetterId, NewLetter};
use super::letters::{Added, Letters};
use super::load::{self, Loaded, Paths};
use super::settings::DlqSettings;
use super::which::{DlqStats, Which};
use crate::class::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, MutexGuard};

mod chores;
#[cfg(test)]
mod tests;

/// The dead letters of one database. Share it by `Arc`; every method takes `&self`.
///
/// Blocking: [`DeadLetters::add`], [`DeadLetters::drop_entry`], [`DeadLetters::persist`] and [`DeadLetters::tick`]
/// wait for the disk; everything else works in memory and reaches the files with the next of those.
#[derive(Debug)]
pub struct DeadLetters {
    ledger: Ledger<Disk>,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    ids: Mutex<Ids>,
    chores: Mutex<Chores>,
    interval: Duration,
    corrupt_lines: u64,
}

impl DeadLetters {
    /// Opens the queue whose snapshot is `path`, making nothing yet if there is none. Torn, damaged, unreadable or
    /// unwritable files never fail it: what is good in them is read, damaged ones are kept aside under
    /// `<name>.corrupt-<unix seconds>`, and the list works in memory until the files do.
    ///
    /// # Errors
    /// `Invalid`: a setting that cannot be.
    pub fn open(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        path: &Path,
        settings: DlqSettings,
    ) -> Result<(Self, Loaded)> {
        if let Some((key, why)) = settings.refusal() {
            return Err(Error::invalid("", format!("dlq_config.{key}: {why}")));
        }
        let (now, unix_ms) = (clock.now(), unix_ms(&*clock));
        let paths = Paths::of(path);
        let mut found = load::find(&*fs, &paths);
        load::keep_aside(&*fs, &paths, &mut found, unix_ms.div_euclid(1_000));
        let is_bad = found.is_journal_bad || found.is_snapshot_bad;
        let disk = Disk::new(Arc::clone(&fs), paths, &found, unix_ms.div_euclid(1_000), settings.compress);
        let newest = found.letters.iter().map(|letter| &letter.id).max();
        let ids = Ids::after(newest, Rng::from_machine());
        let letters = Letters::loaded(&settings, found.letters, found.last, unix_ms);
        let interval = Duration::from_secs(settings.cleanup_interval_seconds);
        let is_in_snapshot = found.journal_len.unwrap_or(0) == 0 && !is_bad;
        let chores = Chores::new(now, unix_ms, interval, is_in_snapshot.then_some(found.last));
        let this = Self {
            ledger: Ledger::new(letters, found.last, disk),
            fs,
            clock,
            ids: Mutex::new(ids),
            chores: Mutex::new(chores),
            interval,
            corrupt_lines: found.loaded.corrupt_lines,
        };
        if is_bad {
            tracing::warn!(
                corrupt_lines = found.loaded.corrupt_lines, is_torn = found.loaded.is_torn,
                kept_aside = ?found.loaded.kept_aside, unreadable = ?found.loaded.unreadable,
                "dead letters: what can be read was read; uploads are not affected"
            );
            this.persist_now(&mut this.chores.lock(), now);
        }
        Ok((this, found.loaded))
    }

    /// Reads the files of a queue that may be in use, and changes nothing. What was damaged is in [`Loaded`].
    ///
    /// # Errors
    /// `Unavailable`: a file is there and cannot be read.
    pub fn read(fs: &dyn Fs, path: &Path) -> Result<(Vec<Letter>, Loaded)> {
        let found = load::find(fs, &Paths::of(path));
        match found.loaded.unreadable.first() {
            Some(why) => Err(Error::new(ErrorKind::Unavailable, Class::Local, "", why)),
            None => Ok((found.letters, found.loaded)),
        }
    }

    /// Adds a letter; on `Ok` it is on disk. `None`: the upload had a letter already, which tells of the new failure
    /// now, or the list is full and keeps the oldest. Blocks for one sync, which all who add at once share.
    ///
    /// # Errors
    /// `NoSpace`, `Unavailable`: it is in memory, not on disk. A later [`DeadLetters::tick`] writes it; until then
    /// [`DlqStats::degraded`] says why.
    pub fn add(&self, new: NewLetter) -> Result<Option<LetterId>> {
        let now = unix_ms(&*self.clock);
        let backend = new.backend.clone();
        let (added, n) = {
            let mut state = self.state();
            let id = self.ids.lock().next(now);
            let added = state.letters.add(new, id, now);
            (added, state.letters.changes.last())
        };
        match added {
            Added::Rejected => {
                tracing::warn!(backend, "the list of dead letters is full: a new one is not taken");
                Ok(None)
            }
            Added::Updated => self.settle(n, &backend).map(|()| None),
            Added::New(id) => self.settle(n, &backend).map(|()| Some(id)),
        }
    }

    /// Claims a letter for one try of its upload, due or not; `None` if it is gone or somebody has it.
    pub fn claim(&self, id: &LetterId) -> Option<Claim> {
        let letter = self.state().letters.claim(id)?;
        Some(self.claimed(letter))
    }

    /// As [`DeadLetters::claim`], by the upload.
    pub fn claim_key(&self, backend: &str, key: &str) -> Option<Claim> {
        let mut state = self.state();
        let id = state.letters.id_of(backend, key)?.clone();
        let letter = state.letters.claim(&id)?;
        drop(state);
        Some(self.claimed(letter))
    }

    /// Claims at most `max` letters of a backend that are due, in the order of priority and age. Poison is not among
    /// them unless a person asked.
    pub fn claim_due(&self, backend: &str, now_unix_ms: i64, max: usize) -> Vec<Claim> {
        let letters = self.state().letters.claim_due(backend, now_unix_ms, max);
        letters.into_iter().map(|letter| self.claimed(letter)).collect()
    }

    /// The upload is done: the letter goes.
    pub fn resolve(&self, claim: Claim) {
        let id = claim.settle();
        self.state().letters.resolve(&id);
    }

    /// The upload failed again: the letter waits, twice as long as before, from a minute to an hour. It is poison when
    /// the file is bad ([`Class::Local`]), or at the third refusal for good ([`Class::Permanent`]). What the
    /// breaker held back, and missing rights, do not count.
    pub fn failed(&self, claim: Claim, class: Class, message: &str, attempt: Attempt) {
        let id = claim.settle();
        self.state().letters.failed(&id, class, message, attempt, unix_ms(&*self.clock));
    }

    /// As [`DeadLetters::failed`] for a file that its device did not read: poison at the third time.
    pub fn unread(&self, claim: Claim, message: &str, attempt: Attempt) {
        let id = claim.settle();
        self.state().letters.unread(&id, message, attempt, unix_ms(&*self.clock));
    }

    /// Letters and notes of uploads nobody wants any more go; how many letters. `still_wanted` is called with no lock
    /// held.
    pub fn supersede(&self, backend: &str, still_wanted: &dyn Fn(&str) -> bool) -> u64 {
        let keys = self.state().letters.keys(backend);
        let unwanted: BTreeSet<_> = keys.into_iter().filter(|key| !still_wanted(key)).collect();
        if unwanted.is_empty() { 0 } else { self.state().letters.supersede(backend, &unwanted) }
    }

    /// When the next letter of a backend is due, milliseconds since the Unix epoch: in the past if one is.
    #[must_use]
    pub fn next_due(&self, backend: &str) -> Option<i64> {
        // Further ahead than any wait is a clock that was set back.
        let horizon = unix_ms(&*self.clock).saturating_add(lane::LONGEST_WAIT_MS);
        let due = self.state().letters.next_due(backend)?;
        Some(if due > horizon { 0 } else { due })
    }

    /// Whether an upload has a letter, or a note of one that was evicted, expired or rejected, that says: do not try
    /// it before its time. True also while somebody has the letter's claim.
    #[must_use]
    pub fn parked(&self, backend: &str, key: &str, now_unix_ms: i64) -> bool {
        self.state().letters.parked(backend, key, now_unix_ms)
    }

    /// Whether an upload has a letter.
    pub(crate) fn has_letter(&self, backend: &str, key: &str) -> bool {
        self.state().letters.id_of(backend, key).is_some()
    }

    /// A person wants it tried now, poison too; `false` if it is gone. Wake the uploaders afterwards.
    pub fn ask_retry(&self, id: &LetterId) -> bool {
        self.state().letters.ask_retry(id, unix_ms(&*self.clock))
    }

    /// As [`DeadLetters::ask_retry`], for all that fit, and for uploads parked without a letter; how many letters.
    pub fn ask_retry_all(&self, which: &Which) -> u64 {
        self.state().letters.ask_retry_all(which, unix_ms(&*self.clock))
    }

    /// Drops a letter; `false` if there is none. Blocks for one sync.
    ///
    /// # Errors
    /// `Conflict`: its upload is being tried, or its file is still here (so it was not uploaded) and `forget` is not
    /// said. Nothing was dropped. `NoSpace`, `Unavailable`: dropped in memory, not on disk.
    pub fn drop_entry(&self, id: &LetterId, forget: bool) -> Result<bool> {
        let Some(letter) = self.get(id) else { return Ok(false) };
        if !forget && self.fs.metadata(&letter.local).is_ok() {
            let what = "this entry says why a file is not uploaded; to drop it all the same, say --forget: the file \
                        stays, and stays pending";
            return Err(Error::new(ErrorKind::Conflict, Class::Local, &letter.backend, what).at(&letter.key));
        }
        let mut state = self.state();
        let Ok(dropped) = state.letters.drop_entry(id) else {
            let what = "the upload of this entry is being tried; drop it when that has ended";
            return Err(Error::new(ErrorKind::Conflict, Class::Local, &letter.backend, what).at(&letter.key));
        };
        let n = state.letters.changes.last();
        drop(state);
        self.settle(n, &letter.backend)?;
        Ok(dropped)
    }

    /// At most `max` letters that fit, oldest first.
    #[must_use]
    pub fn list(&self, filter: &Which, max: usize) -> Vec<Letter> {
        self.state().letters.list(filter).take(max).map(|letter| Letter::clone(letter)).collect()
    }

    /// A letter.
    #[must_use]
    pub fn get(&self, id: &LetterId) -> Option<Letter> {
        self.state().letters.get(id).map(|letter| Letter::clone(letter))
    }

    /// Counts of all letters.
    #[must_use]
    pub fn stats(&self) -> DlqStats {
        self.stats_of(None)
    }

    /// Counts of one backend's letters, or of all.
    #[must_use]
    pub fn stats_of(&self, backend: Option<&str>) -> DlqStats {
        let state = self.state();
        DlqStats {
            corrupt_lines: self.corrupt_lines,
            degraded: state.trouble.as_ref().map(ToString::to_string),
            ..state.letters.stats(backend, unix_ms(&*self.clock))
        }
    }

    fn settle(&self, n: u64, backend: &str) -> Result<()> {
        self.ledger.settle(n).map_err(|trouble| Error::dead_letters(&trouble, backend))
    }

    fn claimed(&self, letter: Arc<Letter>) -> Claim {
        Claim::new(Arc::clone(&self.ledger.room), letter)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.ledger.room.lock()
    }
}

fn unix_ms(clock: &dyn Clock) -> i64 {
    clock.unix_micros().div_euclid(1_000)
}
