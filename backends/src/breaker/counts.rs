//! What a breaker has seen since it was made. Figures for people: nothing is decided by them, so loom does not see
//! them either.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::Outcome;

/// Calls and changes of a breaker since it was made. Every permit is in exactly one of `successes`, `failures`,
/// `ignored` and `cancelled` once it is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Calls that did what they should.
    pub successes: u64,
    /// Calls that failed by the backend's fault, refused credentials included.
    pub failures: u64,
    /// Calls that said nothing about the backend's health.
    pub ignored: u64,
    /// Calls given up before their end.
    pub cancelled: u64,
    /// Of all these, those that came after the breaker had moved on: they changed nothing.
    pub late_results: u64,
    /// Calls refused: nothing was sent.
    pub refused: u64,
    /// How often it opened.
    pub opened: u64,
    /// Of these, how often because a try after a cooldown failed.
    pub reopened: u64,
    /// How often it began to try calls after a cooldown.
    pub half_opened: u64,
    /// How often it closed again.
    pub closed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) successes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) ignored: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) late_results: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) opened: AtomicU64,
    pub(super) reopened: AtomicU64,
    pub(super) half_opened: AtomicU64,
    pub(super) closed: AtomicU64,
    /// Cooldowns that followed on each other without the breaker closing in between.
    pub(super) cooldowns_in_a_row: AtomicU64,
    /// Share of failures when it last opened, in parts of a million.
    pub(super) opened_at_ppm: AtomicU64,
}

impl Counts {
    pub(super) fn add(count: &AtomicU64) {
        count.fetch_add(1, Relaxed);
    }

    pub(super) fn settled(&self, outcome: Outcome) {
        Self::add(match outcome {
            Outcome::Success => &self.successes,
            Outcome::Failure(_) => &self.failures,
            Outcome::Ignored => &self.ignored,
            Outcome::Cancelled => &self.cancelled,
        });
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            successes: self.successes.load(Relaxed),
            failures: self.failures.load(Relaxed),
            ignored: self.ignored.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            late_results: self.late_results.load(Relaxed),
            refused: self.refused.load(Relaxed),
            // In this order: each that reopened has been counted as opened.
            reopened: self.reopened.load(Relaxed),
            opened: self.opened.load(Relaxed),
            half_opened: self.half_opened.load(Relaxed),
            closed: self.closed.load(Relaxed),
        }
    }
}
