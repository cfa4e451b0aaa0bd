//! The two background threads: one syncs for those who do not block and stamps the last group, one makes files
//! ahead of need.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use akidb_host::{Next, Spawn, Tick, Ticker};

use crate::config::Durability;
use crate::error::{Error, Result};
use crate::inner::Inner;
use crate::lsn::Lsn;
use crate::sync::Ordering;

/// Handles of the running threads.
#[derive(Debug)]
pub(crate) struct Threads {
    commit: Arc<dyn Ticker>,
    prepare: Arc<dyn Ticker>,
}

impl Threads {
    /// Stops both and waits for their current tick.
    pub(crate) fn stop(&self) {
        self.commit.stop();
        self.prepare.stop();
    }
}

pub(crate) fn start(log: &Arc<Inner>, spawn: &dyn Spawn) -> Result<()> {
    let failed = |e| Error::io("start the threads of", &log.dir, e);
    let commit = Box::new(CommitTick { log: Arc::downgrade(log), unsynced: None, idle: None });
    let prepare = Box::new(PrepareTick { log: Arc::downgrade(log) });
    let commit = spawn.ticker("wal-commit", commit, log.clock.clone()).map_err(failed)?;
    let prepare = spawn.ticker("wal-prepare", prepare, log.clock.clone()).map_err(failed)?;
    let _ = log.threads.set(Threads { commit, prepare });
    Ok(())
}

impl Inner {
    /// How long a record stays unsynced that nobody waits for.
    fn unsynced_after(&self) -> Duration {
        match self.config.durability {
            Durability::LocalSynced => self.config.stamp_after,
            // The thread may look as late as `stamp_after` after the append.
            Durability::Memory => {
                let interval = self.config.memory_sync_interval;
                interval.saturating_sub(self.config.stamp_after).max(interval / 8)
            }
        }
    }

    /// Makes the commit thread look, unless it is awake anyway.
    pub(crate) fn arm(&self) {
        if !self.armed.load(Ordering::SeqCst) && !self.armed.swap(true, Ordering::SeqCst) {
            self.wake_commit();
        }
    }

    pub(crate) fn wake_commit(&self) {
        if let Some(threads) = self.threads.get() {
            threads.commit.wake();
        }
    }

    pub(crate) fn wake_prepare(&self) {
        if let Some(threads) = self.threads.get() {
            threads.prepare.wake();
        }
    }
}

/// Syncs for async waiters at once, for records that nobody waits for within `stamp_after` (or, in memory durability,
/// `memory_sync_interval`), and stamps the last group when nothing was appended for `stamp_after`.
struct CommitTick {
    log: Weak<Inner>,
    /// Since when `.0` was appended and not synced.
    unsynced: Option<(Lsn, Instant)>,
    /// Since when `.0` is the last synced record and unstamped.
    idle: Option<(Lsn, Instant)>,
}

impl Tick for CommitTick {
    fn tick(&mut self, now: Instant) -> Next {
        let Some(log) = self.log.upgrade() else { return Next::Done };
        let (after, stamp_after) = (log.unsynced_after(), log.config.stamp_after);
        let overdue =
            self.unsynced.is_some_and(|(lsn, since)| log.commit.synced() < lsn && since + after <= now);
        if (overdue || log.commit.has_waiters()) && log.commit.try_lead() {
            log.lead();
        }
        if log.commit.poison().is_some() {
            return Next::Done;
        }
        let (appended, synced, unstamped) = log.pulse();
        if appended > synced {
            let since = match self.unsynced {
                Some((lsn, since)) if lsn > synced => since,
                _ => now,
            };
            let lsn = self.unsynced.filter(|(lsn, _)| *lsn > synced).map_or(appended, |(lsn, _)| lsn);
            self.unsynced = Some((lsn, since));
            return Next::At((since + after).max(now + after / 8));
        }
        self.unsynced = None;
        if unstamped {
            let since = self.idle.filter(|(lsn, _)| *lsn == synced).map_or(now, |(_, since)| since);
            self.idle = Some((synced, since));
            if now < since + stamp_after {
                return Next::At(since + stamp_after);
            }
            log.stamp();
        }
        self.idle = None;
        log.armed.store(false, Ordering::SeqCst);
        let (appended, synced, unstamped) = log.pulse();
        if appended > synced || unstamped {
            log.armed.store(true, Ordering::SeqCst);
            return Next::At(now + after.min(stamp_after));
        }
        Next::Idle
    }
}

struct PrepareTick {
    log: Weak<Inner>,
}

impl Tick for PrepareTick {
    fn tick(&mut self, _now: Instant) -> Next {
        let Some(log) = self.log.upgrade() else { return Next::Done };
        log.prepare();
        Next::Idle
    }
}
