//! How a breaker stands, for people and gauges.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::word::Phase;
use super::{Breaker, Reason, State, Totals};

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BreakerStatus {
    /// Its state.
    pub state: State,
    /// Why it is open.
    pub reason: Option<Reason>,
    /// Whether it lets every call through whatever happens: disabled or forced closed.
    pub is_bypassed: bool,
    /// Share of failed calls in the window, 0 to 1; of one that is not closed, the share at which it opened.
    pub error_rate: f64,
    /// Calls in the window.
    pub calls: u64,
    /// When the next call may be let through; zero if now.
    pub ready_in: Duration,
    /// Everything since it was made.
    pub totals: Totals,
}

impl Breaker {
    /// Its state. One whose cooldown is over stays open until somebody asks for a permit.
    #[must_use]
    pub fn state(&self) -> State {
        match self.load().phase {
            Phase::Closed | Phase::Bypassed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen(_) => State::HalfOpen,
        }
    }

    /// Share of failed calls, 0 to 1, as in [`BreakerStatus::error_rate`].
    #[must_use]
    pub fn error_rate(&self, now_ms: u64) -> f64 {
        let word = self.load();
        let ppm = match word.phase {
            Phase::Closed | Phase::Bypassed { .. } => self.window.sum(now_ms, word.tag()).failed_ppm(),
            Phase::Open { .. } | Phase::HalfOpen(_) => self.counts.opened_at_ppm.load(Relaxed),
        };
        f64::from(u32::try_from(ppm).unwrap_or(1_000_000)) / 1_000_000.0
    }

    /// How it stands. The parts are read one after another: while calls run they may belong to neighbouring moments.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> BreakerStatus {
        let word = self.load();
        let reason = match word.phase {
            Phase::Open { reason, .. } => Some(reason),
            _ => None,
        };
        BreakerStatus {
            state: self.state(),
            reason,
            is_bypassed: matches!(word.phase, Phase::Bypassed { .. }),
            error_rate: self.error_rate(now_ms),
            calls: self.window.sum(now_ms, word.tag()).total,
            ready_in: self.ready_in(now_ms),
            totals: self.counts.totals(),
        }
    }
}
