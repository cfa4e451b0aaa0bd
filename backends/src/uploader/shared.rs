//! What an uploader's thread and those who ask it share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use akidb_host::Clock;

use super::letters::Letters;
use super::status::Status;
use crate::error::Result;
use crate::known::Known;
use crate::plan::FilePlan;
use crate::queue::Queue;

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Shared {
    pub(super) backend: String,
    pub(super) queue: Queue<Arc<FilePlan>>,
    standing: Mutex<Standing>,
    /// Told whenever the standing changed.
    pub(super) changed: Condvar,
    pub(super) known: Arc<Mutex<Known>>,
    pub(super) letters: Letters,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) on_change: Option<Arc<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
pub(super) struct Standing {
    pub(super) status: Status,
    pub(super) ended: bool,
    /// Since when a file of the newest plan has been waiting.
    waiting_since: BTreeMap<String, Instant>,
    /// Files of the first plan, of which nothing is known before the first look at the backend.
    unlooked: BTreeSet<String>,
    is_offered: bool,
}

impl Shared {
    pub(super) fn new(
        backend: &str,
        known: Arc<Mutex<Known>>,
        letters: Letters,
        clock: Arc<dyn Clock>,
        on_change: Option<Arc<dyn Fn() + Send + Sync>>,
    ) -> Self {
        Self {
            backend: backend.to_owned(),
            queue: Queue::new(),
            standing: Mutex::default(),
            changed: Condvar::new(),
            known,
            letters,
            clock,
            on_change,
        }
    }

    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the status and tells those who wait.
    pub(super) fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.standing().status);
        self.told();
    }

    pub(super) fn end(&self) {
        self.standing().ended = true;
        self.told();
    }

    /// Asks the thread to end, wherever it waits.
    pub(super) fn stop(&self) {
        self.queue.stop();
        // Who has looked and not yet begun to wait holds the standing.
        drop(self.standing());
        self.changed.notify_all();
    }

    /// What `make` makes, tried again and again with growing pauses; `None` once the thread is to end. Here nothing can
    /// wait but the thread itself.
    pub(super) fn runtime<R>(&self, mut make: impl FnMut() -> Result<R>, first: Duration) -> Option<R> {
        let mut pause = first;
        while !self.queue.is_stopping() {
            let error = match make() {
                Ok(made) => return Some(made),
                Err(error) => error,
            };
            tracing::warn!(backend = %self.backend, %error, "nothing is uploaded yet; it will be tried again");
            self.change(|status| status.last_error = Some(error));
            let waits = |_: &mut Standing| !self.queue.is_stopping();
            let waited = self.changed.wait_timeout_while(self.standing(), pause, waits);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
        None
    }

    fn told(&self) {
        self.changed.notify_all();
        if let Some(on_change) = &self.on_change {
            on_change();
        }
    }

    pub(super) fn offer(&self, plan: FilePlan) {
        {
            let mut standing = self.standing();
            if standing.status.refused.is_some() {
                self.count_lacking(&mut standing.status, &plan);
                return;
            }
            if standing.status.published_local_number > Some(plan.local_number) {
                return;
            }
            let (known, now) = (self.known(), self.clock.now());
            let waits = plan.items.iter().filter(|item| !known.has(item));
            let since = |key: &String| standing.waiting_since.get(key).copied().unwrap_or(now);
            let waiting_since = waits.map(|item| (item.key.clone(), since(&item.key))).collect();
            drop(known);
            if !standing.is_offered {
                standing.unlooked = plan.items.iter().map(|item| item.key.clone()).collect();
            }
            (standing.waiting_since, standing.is_offered) = (waiting_since, true);
        }
        self.queue.offer(plan.local_number, Arc::new(plan));
    }

    /// What a backend that takes no more plans lacks of the newest: it stays so.
    pub(super) fn count_lacking(&self, status: &mut Status, plan: &FilePlan) {
        let known = self.known();
        let missing = plan.items.iter().filter(|item| !known.has(item));
        (status.pending_files, status.pending_bytes) =
            missing.fold((0, 0), |(files, bytes), item| (files + 1, bytes + item.len));
        status.lacking_bytes = status.pending_bytes;
    }

    pub(super) fn status(&self) -> Status {
        let standing = self.standing();
        let mut status = standing.status.clone();
        status.found_empty = self.known().found_empty();
        let Some(target) = self.queue.target() else { return status };
        status.target_local_number = Some(target.local_number);
        let known = self.known();
        let mut oldest: Option<Instant> = None;
        for item in target.items.iter().filter(|item| !known.has(item)) {
            status.pending_files += 1;
            status.pending_bytes += item.len;
            let is_known = status.remote_number.is_some() || !standing.unlooked.contains(&item.key);
            status.lacking_bytes += if is_known { item.len } else { 0 };
            status.parked_files += u64::from(!self.letters.is_free(&item.key));
            let since = standing.waiting_since.get(&item.key).copied();
            oldest = oldest.into_iter().chain(since).min();
        }
        status.oldest_pending_secs =
            oldest.map(|since| self.clock.now().saturating_duration_since(since).as_secs());
        status
    }
}
