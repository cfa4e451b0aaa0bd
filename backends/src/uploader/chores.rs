//! What an uploader does when it is due, whatever is offered: the sweep, and the look ahead when there is nothing else.

use std::time::Duration;

use super::wait::Then;
use super::worker::Worker;
use crate::breaker::State;
use crate::error::Error;
use crate::gc::MOST_PRUNED;
use crate::guard::CallKind;

impl Worker {
    /// Aborts uploads in parts that a crash, or a call that was given up, left half-written.
    pub(super) async fn abort_leftovers(&mut self) {
        let Some(multiparts) = self.multiparts.clone() else { return };
        let is_due = self.abort_due_in().is_some_and(|left| left.is_zero());
        if !is_due || self.publisher.newest().is_none() || !self.is_calm() {
            return;
        }
        let aborted = multiparts.abort_leftovers(&self.client, self.shared.clock.now()).await;
        tracing::info!(backend = %self.client.name(), ?aborted, "half-written uploads");
    }

    /// When the next half-written upload is to be aborted, if there is one and the store can.
    fn abort_due_in(&self) -> Option<Duration> {
        self.client.backend().parts()?;
        self.multiparts.as_ref()?.due_in(self.shared.clock.now())
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
            let documents = pruned.len() as u64;
            if pruned.len() >= MOST_PRUNED {
                return Ok::<_, Error>((documents, 0, true));
            }
            let swept = self.publisher.sweep(&sweep.prefix, &pinned, false).await?;
            Ok((documents, swept.removed.len() as u64, false))
        };
        match swept.await {
            Ok((documents, objects, goes_on)) => {
                if goes_on {
                    // After the next plan, if one is there: pruning holds up none for long.
                    self.next_sweep = Some(now);
                }
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
        // Before the first plan of an open nobody knows what is still wanted of what an earlier one left.
        if self.shared.standing().status.published_local_number.is_some() {
            self.shared.letters.supersede(&[]);
        }
        let sweep = self.next_sweep.map(|due| due.saturating_duration_since(self.shared.clock.now()));
        let chores = [sweep, self.abort_due_in()].into_iter().flatten().min();
        // A chore that could not be done while a breaker was open is done after the try that closes it.
        let next = self.next_probe().or(chores);
        next.map_or(Then::Idle, |time| Then::Until(time.max(super::worker::PLAN_PAUSE_LEAST)))
    }
}
