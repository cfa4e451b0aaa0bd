//! What is done now and then: expiry, snapshots, and another try at files that failed.

use std::time::{Duration, Instant};

use super::{DeadLetters, unix_ms};
use crate::dlq::age::Age;
use crate::dlq::ledger::Trouble;
use crate::error::{Error, Result};

/// A journal of this length is due for a snapshot.
const JOURNAL_BYTES: u64 = 1 << 20;
/// How long after a failure the files are tried again.
pub(super) const HEAL: Duration = Duration::from_secs(5);

/// When what is due.
#[derive(Debug)]
pub(super) struct Chores {
    age: Age,
    cleanup_at: Instant,
    persist_at: Instant,
    heal_at: Instant,
    /// Number of the last change that is in a snapshot.
    persisted: Option<u64>,
}

impl Chores {
    /// `persisted`: number of the last change, if the snapshot found holds it.
    pub(super) fn new(now: Instant, unix_ms: i64, interval: Duration, persisted: Option<u64>) -> Self {
        Self {
            age: Age::new(now, unix_ms.div_euclid(1_000)),
            cleanup_at: now + interval,
            persist_at: now + interval,
            heal_at: now,
            persisted,
        }
    }
}

impl DeadLetters {
    /// Takes expired letters out; how many. None if the wall clock was set by more than an hour since the last time.
    pub fn cleanup(&self) -> u64 {
        self.cleanup_by(&mut self.chores.lock())
    }

    /// Writes a snapshot and starts a new journal; nothing if nothing has changed since the last. Blocks for a few
    /// syncs.
    ///
    /// # Errors
    /// `NoSpace`, `Unavailable`: the files tell what they told before.
    pub fn persist(&self) -> Result<()> {
        let now = self.clock.now();
        match self.persist_now(&mut self.chores.lock(), now) {
            None => Ok(()),
            Some(trouble) => Err(Error::dead_letters(&trouble, "")),
        }
    }

    /// Does what is due: takes expired letters out, writes a snapshot hourly or when the journal is long, tries the
    /// files again after trouble, writes what is only in memory. Call it every second or so; blocks while it does.
    pub fn tick(&self, now: Instant) {
        let mut chores = self.chores.lock();
        if now >= chores.cleanup_at {
            chores.cleanup_at = now + self.interval;
            self.cleanup_by(&mut chores);
        }
        let is_troubled = self.needs_snapshot();
        let is_long = self.ledger.sink.journal_len() >= JOURNAL_BYTES;
        if (is_troubled && now >= chores.heal_at) || (!is_troubled && (is_long || now >= chores.persist_at)) {
            self.persist_now(&mut chores, now);
        } else if !is_troubled {
            self.ledger.flush();
        }
    }

    fn needs_snapshot(&self) -> bool {
        let state = self.state();
        state.trouble.is_some() || state.letters.changes.has_gaps()
    }

    fn cleanup_by(&self, chores: &mut Chores) -> u64 {
        let unix_ms = unix_ms(&*self.clock);
        match chores.age.look(self.clock.now(), unix_ms.div_euclid(1_000)) {
            Ok(now_unix_secs) => self.state().letters.expire(now_unix_secs, unix_ms),
            Err(jump_secs) => {
                tracing::warn!(jump_secs, "the wall clock was set: no dead letter expires this time");
                0
            }
        }
    }

    pub(super) fn persist_now(&self, chores: &mut Chores, now: Instant) -> Option<Trouble> {
        let last = self.state().letters.changes.last();
        chores.persist_at = now + self.interval;
        if chores.persisted == Some(last) && !self.needs_snapshot() {
            return None;
        }
        match self.ledger.persist() {
            Ok(()) => {
                chores.persisted = Some(last);
                None
            }
            Err(trouble) => {
                chores.heal_at = now + HEAL;
                tracing::warn!(%trouble, "dead letters are in memory alone; uploads are not affected");
                Some(trouble)
            }
        }
    }
}
