//! The one committer of manifests.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use akidb_host::{Clock, SharedRng};

use crate::error::{Error, ErrorKind, Fate, Result};
use crate::manifest::{Committed, Manifest, Reason, Stamp, Store};

/// Holds the newest manifest and makes the next. A commit whose outcome is unknown ends all commits: reads go on,
/// reopening is the repair.
#[derive(Debug)]
pub(crate) struct Committer {
    store: Store,
    clock: Arc<dyn Clock>,
    rng: SharedRng,
    writer_epoch: u32,
    writer_id: u32,
    /// Held across the files of a commit: there is one committer.
    newest: Mutex<Arc<Committed>>,
    poisoned: OnceLock<Error>,
    /// The wall clock at the open, and when that was.
    opened_at: (i64, Instant),
}

impl Committer {
    /// A committer after `newest`, for the open with this epoch and random id.
    pub(crate) fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        rng: SharedRng,
        newest: Committed,
        writer_epoch: u32,
        writer_id: u32,
    ) -> Self {
        let newest = Mutex::new(Arc::new(newest));
        let opened_at = (clock.unix_micros(), clock.now());
        Self { store, clock, rng, writer_epoch, writer_id, newest, poisoned: OnceLock::new(), opened_at }
    }

    /// Microseconds since the Unix epoch by the wall clock at the open and what has passed since: what is kept for a time goes
    /// by it, so that setting the clock takes nothing away.
    pub(crate) fn steady_unix_micros(&self) -> i64 {
        let (micros, at) = self.opened_at;
        let passed = self.clock.now().saturating_duration_since(at).as_micros();
        micros.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn newest(&self) -> Arc<Committed> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why no more commits are made, if so.
    pub(crate) fn poisoned(&self) -> Option<&Error> {
        self.poisoned.get()
    }

    /// Ends all commits: waits for the one under way, then refuses with `reason`.
    pub(crate) fn end(&self, reason: Error) {
        let _newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.poisoned.set(reason);
    }

    /// Makes `edit` of the newest manifest durable as the next one. On return the next manifest is on disk.
    ///
    /// # Errors
    /// What `edit` answered; a failed write with fate `NotWritten`; or `Poisoned` with fate `Unknown`.
    pub(crate) fn commit(
        &self,
        reason: Reason,
        edit: impl FnOnce(&mut Manifest) -> Result<()>,
    ) -> Result<Arc<Committed>> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = self.poisoned.get() {
            return Err(error.clone());
        }
        let stamp = Stamp {
            writer_epoch: self.writer_epoch,
            writer_id: self.writer_id,
            commit_id: self.rng.u64(),
            unix_micros: self.clock.unix_micros(),
        };
        let mut next = newest.successor(stamp, reason);
        edit(&mut next)?;
        self.store.gone(&newest.manifest).for_each(|id| next.forget_dropped(id));
        let _span = tracing::debug_span!("manifest", number = next.number).entered();
        match self.store.commit(Some(&newest), next) {
            Ok(committed) => {
                let committed = Arc::new(committed);
                self.store.grows_old_from(committed.manifest.number, self.steady_unix_micros());
                *newest = Arc::clone(&committed);
                Ok(committed)
            }
            Err(error) if error.fate() == Fate::Unknown => {
                let message =
                    format!("whether the newest manifest is on disk is unknown: {}", error.message());
                let poison = Error::new(ErrorKind::Poisoned, "AKI-0204", message)
                    .fate_is(Fate::Unknown)
                    .at(error.file().unwrap_or(self.store.dir()), error.offset())
                    .help_is("acknowledged rows are safe in the log; reopen the database");
                Err(self.poisoned.get_or_init(|| poison).clone())
            }
            Err(error) => Err(error),
        }
    }
}
