//! What an uploader does when it is due, whatever is offered: the sweep, and the look ahead when there is nothing else.

use std::time::Duration;

use super::wait::Then;
use super::worker::Worker;
use crate::breaker::State;
use crate::error::Error;
use crate::guard::CallKind;

/// The least time between two looks at half-written uploads.
const ABORT_EVERY: Duration = Duration::from_secs(60);

impl Worker {
    /// Aborts uploads in parts that a crash, or a call that was given up, left half-written.
    pub(super) async fn abort_leftovers(&mut self) {
        let Some(multiparts) = self.multiparts.clone() else { return };
        let now = self.shared.clock.now();
        if multiparts.leftovers() == 0
            || now < self.next_abort
            || self.publisher.newest().is_none()
            || !self.is_calm()
        {
            return;
        }
        // Nothing waits for it, so what fails now has time.
        self.next_abort = now + ABORT_EVERY;
        match multiparts.abort_leftovers(&self.client).await {
            Ok(aborted) => tracing::info!(backend = %self.client.name(), ?aborted, "half-written uploads"),
            Err(error) => {
                tracing::warn!(backend = %self.client.name(), %error, "half-written uploads could not be aborted yet");
            }
        }
    }

    /// Removes what nothing names on the backend, if it is time and every breaker is closed.
    pub(super) async fn sweep_if_due(&mut self) {
        let (Some(sweep), Some(due)) = (self.sweep.clone(), self.next_sweep) else { return };
        let now = self.shared.clock.now();
        if now < due || self.publisher.newest().is_none() || !self.is_calm() {
            return;
        }
        self.next_sweep = Some(now + sweep.interval);
        let pinned =
            self.shared.queue.target().map_or_else(Default::default, |plan| {
                plan.items.iter().map(|item| item.key.clone()).collect()
            });
        let swept = async {
            // First: what only a pruned document names is no longer named.
            let pruned = self.publisher.prune(sweep.keep_documents, sweep.keep_documents_for, false).await?;
            let swept = self.publisher.sweep(&sweep.prefix, &pinned, false).await?;
            Ok::<_, Error>((pruned.len() as u64, swept.removed.len() as u64))
        };
        match swept.await {
            Ok((documents, objects)) => {
                tracing::info!(backend = %self.client.name(), documents, objects, "swept");
                self.shared.change(|status| {
                    status.swept_objects += objects;
                    status.pruned_documents += documents;
                });
            }
            // What is not removed now is found by the next one.
            Err(error) => tracing::warn!(backend = %self.client.name(), %error, "the sweep was not finished"),
        }
    }

    fn is_calm(&self) -> bool {
        let guard = self.client.backend().guard();
        guard.is_none_or(|guard| {
            CallKind::ALL.iter().all(|kind| guard.breaker(*kind).state() == State::Closed)
        })
    }

    /// Nothing is offered: until when to wait for the bell.
    pub(super) fn idle(&self) -> Then {
        self.shared.letters.supersede(&[]);
        let sweep = self.next_sweep.map(|due| due.saturating_duration_since(self.shared.clock.now()));
        // A sweep that could not run while a breaker was open runs after the try that closes it.
        let next = self.next_probe().or(sweep);
        next.map_or(Then::Idle, |time| Then::Until(time.max(super::worker::PLAN_PAUSE_LEAST)))
    }
}
