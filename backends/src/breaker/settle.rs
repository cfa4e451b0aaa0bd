//! What an outcome does to a breaker.

use std::sync::atomic::Ordering::Relaxed;

use akidb_host::seeded_bug;

use super::counts::Counts;
use super::permit::Ticket;
use super::word::{Phase, Round, Word, quarter_at};
use super::{Breaker, Failure, Outcome, Reason, Settled};
use crate::sync::{Ordering, fence};

impl Breaker {
    pub(super) fn settle(&self, ticket: Ticket, outcome: Outcome, now_ms: u64) -> Settled {
        self.counts.settled(outcome);
        let settled = match outcome {
            Outcome::Failure(Failure::Auth) => self.open(ticket.epoch, Reason::Auth, now_ms),
            Outcome::Failure(Failure::Fault) if ticket.is_probe => {
                self.open(ticket.epoch, Reason::ErrorRate, now_ms)
            }
            Outcome::Success if ticket.is_probe => self.try_succeeded(ticket.epoch),
            Outcome::Failure(Failure::Fault) => self.count(ticket, true, now_ms),
            Outcome::Success => self.count(ticket, false, now_ms),
            Outcome::Ignored | Outcome::Cancelled => self.give_back(ticket),
        };
        if settled == Settled::Late {
            Counts::add(&self.counts.late_results);
        }
        settled
    }

    /// The word, if it is still of this epoch.
    fn current(&self, epoch: u32) -> Option<Word> {
        of_epoch(self.load(), epoch)
    }

    /// Counts a call of a closed breaker, and opens it if that is due.
    fn count(&self, ticket: Ticket, failed: bool, now_ms: u64) -> Settled {
        let Some(word) = self.current(ticket.epoch) else { return Settled::Late };
        if word.phase == (Phase::Bypassed { counts: false }) {
            return Settled::Counted;
        }
        let is_current = || self.current(ticket.epoch).is_some();
        let Some(counted) = self.window.count(now_ms, word.tag(), failed, is_current) else {
            return Settled::Late;
        };
        let is_slow = self.rules.slow.is_some_and(|(slow_ms, _)| {
            let is_slow = now_ms.saturating_sub(ticket.started_ms) > slow_ms;
            let _ = self.slow.count(now_ms, word.tag(), is_slow, is_current);
            is_slow
        });
        if self.rules.adaptive && counted.opened {
            let sum = self.window.sum(now_ms, word.tag());
            if sum.total >= self.rules.minimum_calls {
                self.baseline.observe(sum.failed_ppm());
            }
        }
        // A success matters as the call that makes the window long enough to judge, or after older ones have left it:
        // as one of the first of its bucket in either case.
        let is_due = failed || is_slow || u64::from(counted.total) <= self.rules.minimum_calls;
        if is_due && word.phase == Phase::Closed { self.judge(word, now_ms) } else { Settled::Counted }
    }

    /// Opens a closed breaker if too many calls of its window failed.
    ///
    /// Of two who count in different buckets, at least one must see both: each has counted before this fence and reads
    /// after it. Acquire and release are not enough for that.
    fn judge(&self, word: Word, now_ms: u64) -> Settled {
        fence(if seeded_bug("breaker_fence_acqrel") { Ordering::AcqRel } else { Ordering::SeqCst });
        let threshold_ppm = if self.rules.adaptive {
            self.baseline.threshold_ppm(self.rules.threshold_ppm)
        } else {
            self.rules.threshold_ppm
        };
        let sum = self.window.sum(now_ms, word.tag());
        if sum.total < self.rules.minimum_calls {
            return Settled::Counted;
        }
        let slow = self.rules.slow.map(|(_, ppm)| (self.slow.sum(now_ms, word.tag()), ppm));
        let reason = if sum.is_above(threshold_ppm) {
            Reason::ErrorRate
        } else if slow.is_some_and(|(slow, ppm)| slow.is_above(ppm)) {
            Reason::Slow
        } else {
            return Settled::Counted;
        };
        self.counts.opened_at_ppm.store(sum.failed_ppm(), Relaxed);
        match self.open(word.epoch, reason, now_ms) {
            // Somebody else moved it on; this call was counted before.
            Settled::Late => Settled::Counted,
            settled => settled,
        }
    }

    /// Opens a breaker of this epoch, from whichever state.
    fn open(&self, epoch: u32, reason: Reason, now_ms: u64) -> Settled {
        let mut word = self.load();
        loop {
            if of_epoch(word, epoch).is_none() {
                return Settled::Late;
            }
            if matches!(word.phase, Phase::Bypassed { .. }) {
                return Settled::Counted;
            }
            match self.swap(word, self.opened_after(word, reason, now_ms)) {
                Ok(()) => {
                    self.note_opened(word);
                    return Settled::Opened(reason);
                }
                Err(now) => word = now,
            }
        }
    }

    /// The open word that follows this one.
    pub(super) fn opened_after(&self, word: Word, reason: Reason, now_ms: u64) -> Word {
        let cooldown_ms = self.rules.cooldown_ms(self.cooldowns_before(word), word.epoch);
        let reopens_at = quarter_at(now_ms.saturating_add(cooldown_ms));
        word.then(Phase::Open { reason, reopens_at })
    }

    /// To be called once after `from` was replaced by an open word.
    pub(super) fn note_opened(&self, from: Word) {
        self.counts.cooldowns_in_a_row.store(self.cooldowns_before(from), Relaxed);
        Counts::add(&self.counts.opened);
        if matches!(from.phase, Phase::HalfOpen(_)) {
            Counts::add(&self.counts.reopened);
        }
    }

    /// How many cooldowns in a row precede one that begins at this word.
    fn cooldowns_before(&self, word: Word) -> u64 {
        match word.phase {
            Phase::HalfOpen(_) => self.counts.cooldowns_in_a_row.load(Relaxed) + 1,
            _ => 0,
        }
    }

    fn try_succeeded(&self, epoch: u32) -> Settled {
        let mut word = self.load();
        loop {
            let Some(round) = round_of(word, epoch) else { return Settled::Late };
            let round = Round { succeeded: round.succeeded + 1, ..round };
            let closes = round.succeeded >= self.rules.half_open_successes;
            let next = if closes {
                word.then(Phase::Closed)
            } else {
                Word { phase: Phase::HalfOpen(round), ..word }
            };
            match self.swap(word, next) {
                Ok(()) if closes => {
                    self.counts.cooldowns_in_a_row.store(0, Relaxed);
                    Counts::add(&self.counts.closed);
                    return Settled::Closed;
                }
                Ok(()) => return Settled::Counted,
                Err(now) => word = now,
            }
        }
    }

    /// Gives the place of a tried call to the next one.
    fn give_back(&self, ticket: Ticket) -> Settled {
        if seeded_bug("breaker_keeps_cancelled") {
            return Settled::Counted;
        }
        let mut word = self.load();
        loop {
            if of_epoch(word, ticket.epoch).is_none() {
                return Settled::Late;
            }
            let (true, Some(round)) = (ticket.is_probe, round_of(word, ticket.epoch)) else {
                return Settled::Counted;
            };
            let round = Round { issued: round.issued.saturating_sub(1), ..round };
            match self.swap(word, Word { phase: Phase::HalfOpen(round), ..word }) {
                Ok(()) => return Settled::Counted,
                Err(now) => word = now,
            }
        }
    }
}

fn of_epoch(word: Word, epoch: u32) -> Option<Word> {
    (word.epoch == epoch || seeded_bug("breaker_late_result")).then_some(word)
}

fn round_of(word: Word, epoch: u32) -> Option<Round> {
    match (of_epoch(word, epoch)?, word.phase) {
        (_, Phase::HalfOpen(round)) => Some(round),
        _ => None,
    }
}
