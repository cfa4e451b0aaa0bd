//! The circuit breaker: whether a call may be sent to a backend, decided by how the last ones went.
//!
//! A breaker is closed (calls go through and are counted), open (calls are refused until a cooldown is over) or half
//! open (a few calls are tried). All it decides by is one word (`word`) and a ring of counters (`window`); every change
//! is one compare-and-swap, and each begins a new epoch. A [`Permit`] carries the epoch it was given in, so an answer
//! that comes after the breaker has moved on changes nothing.
//!
//! The time is an argument, in milliseconds since some moment that the owner chose: no clock, no lock, no runtime here.

mod baseline;
mod counts;
mod permit;
mod rules;
mod settle;
mod status;
mod word;

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Serialize;

use akidb_host::seeded_bug;

use crate::config::BreakerSettings;
use crate::sync::{AtomicU64, Ordering};
use crate::window::Window;
use baseline::Baseline;
use counts::Counts;
pub use counts::Totals;
pub use permit::Permit;
use permit::Ticket;
use rules::Rules;
pub use status::BreakerStatus;
use word::{NEVER, Phase, Round, Word, ms_until, seconds};

/// When to ask again while calls are being tried.
const HALF_OPEN_RETRY: Duration = Duration::from_secs(1);
/// When to ask again while an operator holds the breaker open.
const FORCED_RETRY: Duration = Duration::from_secs(60);

/// What a breaker does with calls. The numbers are those of the metric `akidb_circuit_breaker_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Calls go through and are counted.
    Closed = 0,
    /// Calls are refused.
    Open = 1,
    /// A few calls are tried.
    HalfOpen = 2,
}

/// Why a breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Too large a share of calls failed.
    ErrorRate,
    /// Too large a share of calls was slow.
    Slow,
    /// Credentials or rights were refused (401, 403).
    Auth,
    /// An operator said so.
    Forced,
}

impl Reason {
    fn bits(self) -> u32 {
        match self {
            Self::ErrorRate => 0,
            Self::Slow => 1,
            Self::Auth => 2,
            Self::Forced => 3,
        }
    }

    fn from_bits(bits: u32) -> Self {
        [Self::ErrorRate, Self::Slow, Self::Auth, Self::Forced][bits as usize & 3]
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ErrorRate => "error_rate",
            Self::Slow => "slow",
            Self::Auth => "auth",
            Self::Forced => "forced",
        })
    }
}

/// How a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The backend failed or gave no answer: it counts.
    Fault,
    /// It refused the credentials: the breaker opens at once, and the share of failures stays what it is.
    Auth,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Failure(Failure),
    Ignored,
    Cancelled,
}

/// What a settled permit did to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was counted; the state is the same.
    Counted,
    /// The breaker had moved on since the permit was given: nothing changed.
    Late,
    /// This call opened the breaker.
    Opened(Reason),
    /// This call closed it.
    Closed,
}

/// A call that may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Open, or half open with enough calls under way.
    pub state: State,
    /// Why it is, or was, open; of a half-open breaker only [`Reason::Auth`] is known.
    pub reason: Option<Reason>,
    /// When asking again may help.
    pub retry_in: Duration,
}

/// A circuit breaker. Share it by reference or `Arc`; all its methods take `&self`, never block and never allocate. It
/// holds about a kilobyte, whatever the rate of calls.
pub struct Breaker {
    word: AtomicU64,
    window: Window,
    slow: Window,
    baseline: Baseline,
    counts: Counts,
    rules: Rules,
}

impl Breaker {
    /// A closed breaker. `seed` is that of its jitter.
    #[must_use]
    pub fn new(settings: &BreakerSettings, seed: u64) -> Self {
        let rules = Rules::new(settings, seed);
        Self {
            word: AtomicU64::new(Word { epoch: 0, phase: Phase::Closed }.pack()),
            window: Window::new(rules.window_ms),
            slow: Window::new(rules.window_ms),
            baseline: Baseline::default(),
            counts: Counts::default(),
            rules,
        }
    }

    /// Asks for leave to make a call now.
    ///
    /// # Errors
    /// As [`Permit::acquire`].
    pub fn try_acquire(&self, now_ms: u64) -> Result<Permit<&Self>, Refused> {
        Permit::acquire(self, now_ms)
    }

    fn load(&self) -> Word {
        Word::unpack(self.word.load(Ordering::Acquire))
    }

    fn swap(&self, from: Word, to: Word) -> Result<(), Word> {
        self.word
            .compare_exchange(from.pack(), to.pack(), Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Word::unpack)
    }

    fn admit(&self, now_ms: u64) -> Result<Ticket, Refused> {
        let mut word = self.load();
        loop {
            let next = match self.next_try(word, now_ms) {
                // Closed, disabled, forced closed: nothing to change.
                Ok(None) => {
                    return Ok(Ticket { epoch: word.epoch, is_probe: false, started_ms: now_ms });
                }
                Ok(Some(next)) => next,
                Err(refused) => {
                    Counts::add(&self.counts.refused);
                    return Err(refused);
                }
            };
            match self.swap(word, next) {
                Ok(()) if matches!(next.phase, Phase::HalfOpen(_)) => {
                    if next.epoch != word.epoch {
                        Counts::add(&self.counts.half_opened);
                    }
                    return Ok(Ticket { epoch: next.epoch, is_probe: true, started_ms: now_ms });
                }
                Ok(()) => {
                    self.note_opened(word);
                    word = next;
                }
                Err(now) => word = now,
            }
        }
    }

    /// The word after one more call is let through, or `None` if it stays the same.
    fn next_try(&self, word: Word, now_ms: u64) -> Result<Option<Word>, Refused> {
        match word.phase {
            Phase::Closed | Phase::Bypassed { .. } => Ok(None),
            Phase::Open { reason, reopens_at } => match Self::open_for(reason, reopens_at, now_ms) {
                Duration::ZERO => {
                    let single = reason == Reason::Auth;
                    let round = Round { single, started: seconds(now_ms), issued: 1, succeeded: 0 };
                    Ok(Some(word.then(Phase::HalfOpen(round))))
                }
                retry_in => Err(Refused { state: State::Open, reason: Some(reason), retry_in }),
            },
            Phase::HalfOpen(round) if self.has_place(round) => {
                let round = Round { issued: round.issued + 1, ..round };
                Ok(Some(Word { phase: Phase::HalfOpen(round), ..word }))
            }
            // Calls of this round never came back: it is over, as if one had failed.
            Phase::HalfOpen(round) if round.age_secs(now_ms) >= self.rules.half_open_max_secs => {
                let reason = if round.single { Reason::Auth } else { Reason::ErrorRate };
                Ok(Some(self.opened_after(word, reason, now_ms)))
            }
            Phase::HalfOpen(round) => Err(Refused {
                state: State::HalfOpen,
                reason: round.single.then_some(Reason::Auth),
                retry_in: HALF_OPEN_RETRY,
            }),
        }
    }

    fn has_place(&self, round: Round) -> bool {
        if seeded_bug("breaker_unlimited_probes") {
            return round.issued < u8::MAX;
        }
        let at_once = if round.single { 1 } else { self.rules.half_open_max_in_flight };
        round.issued < self.rules.half_open_successes && round.in_flight() < at_once
    }

    fn open_for(reason: Reason, reopens_at: u32, now_ms: u64) -> Duration {
        match (reason, reopens_at) {
            (Reason::Forced, _) | (_, NEVER) => FORCED_RETRY,
            _ => Duration::from_millis(ms_until(reopens_at, now_ms)),
        }
    }

    /// Whether a permit would be refused now. Takes none, so a call that has yet to wait for something else can be
    /// refused at once.
    ///
    /// # Errors
    /// As [`Permit::acquire`].
    pub fn check(&self, now_ms: u64) -> Result<(), Refused> {
        self.next_try(self.load(), now_ms).map(|_| ()).inspect_err(|_| Counts::add(&self.counts.refused))
    }

    /// When the next call may be let through; zero if now. Changes nothing.
    #[must_use]
    pub fn ready_in(&self, now_ms: u64) -> Duration {
        self.next_try(self.load(), now_ms).err().map_or(Duration::ZERO, |refused| refused.retry_in)
    }

    /// Closes it with an empty window; what is under way counts no more.
    pub fn reset(&self) {
        self.turn_to(Phase::Closed);
    }

    /// Refuses every call until [`Breaker::reset`].
    pub fn force_open(&self) {
        self.turn_to(Phase::Open { reason: Reason::Forced, reopens_at: NEVER });
    }

    /// Lets every call through until [`Breaker::reset`]; calls are counted all the same.
    pub fn force_closed(&self) {
        self.turn_to(Phase::Bypassed { counts: true });
    }

    /// Lets every call through and counts none until [`Breaker::reset`].
    pub fn disable(&self) {
        self.turn_to(Phase::Bypassed { counts: false });
    }

    fn turn_to(&self, phase: Phase) {
        let mut word = self.load();
        loop {
            let same_epoch = seeded_bug("breaker_reset_keeps_epoch");
            let next = if same_epoch { Word { phase, ..word } } else { word.then(phase) };
            match self.swap(word, next) {
                Ok(()) => break,
                Err(now) => word = now,
            }
        }
        self.counts.cooldowns_in_a_row.store(0, Relaxed);
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("word", &self.load()).finish_non_exhaustive()
    }
}

#[cfg(akidb_loom)]
#[cfg(test)]
mod model;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod property;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod tests;
