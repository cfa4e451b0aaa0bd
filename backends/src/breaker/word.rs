//! The one word a breaker decides by: state, epoch and what the state needs, changed by a single compare-and-swap.
//!
//! ```text
//!  63 62 61         32 31                                  0
//! +-----+-------------+-------------------------------------+
//! |state| epoch 30    | payload 32                          |
//! +-----+-------------+-------------------------------------+
//! 0 closed      0
//! 1 open        reason 3 | reopens at 29, in quarter seconds of the breaker's time (4.2 years of uptime)
//! 2 half open   single 1 | started 15, in seconds, wraps | issued 8 | succeeded 8
//! 3 bypassed    0 disabled, 1 forced closed
//! ```

use super::Reason;

/// Quarter seconds: the unit of the moment an open breaker ends its cooldown.
const QUARTER_MS: u64 = 250;
const REOPEN_BITS: u32 = 29;
/// Never, or later than the word can say.
pub(super) const NEVER: u32 = (1 << REOPEN_BITS) - 1;
const EPOCH_MASK: u32 = (1 << 30) - 1;
const SECONDS_MASK: u16 = (1 << 15) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) epoch: u32,
    pub(super) phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    Open { reason: Reason, reopens_at: u32 },
    HalfOpen(Round),
    Bypassed { counts: bool },
}

/// A round of tried calls after a cooldown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// After refused credentials calls are tried one by one.
    pub(super) single: bool,
    pub(super) started: u16,
    /// Calls that succeeded or are under way.
    pub(super) issued: u8,
    pub(super) succeeded: u8,
}

impl Round {
    pub(super) fn in_flight(self) -> u8 {
        self.issued.saturating_sub(self.succeeded)
    }

    /// Seconds since the round began, as far as 15 bits can tell (9 hours).
    pub(super) fn age_secs(self, now_ms: u64) -> u16 {
        seconds(now_ms).wrapping_sub(self.started) & SECONDS_MASK
    }
}

impl Word {
    /// What follows this word: its epoch is the next one, so nothing of the old one reaches it.
    pub(super) fn then(self, phase: Phase) -> Self {
        Self { epoch: self.epoch.wrapping_add(1) & EPOCH_MASK, phase }
    }

    /// The tag of this epoch's counts.
    pub(super) fn tag(self) -> u8 {
        tag(self.epoch)
    }

    pub(super) fn pack(self) -> u64 {
        let (state, payload) = match self.phase {
            Phase::Closed => (0, 0),
            Phase::Open { reason, reopens_at } => (1, reason.bits() << REOPEN_BITS | reopens_at),
            Phase::HalfOpen(round) => {
                let counts = u32::from(round.issued) << 8 | u32::from(round.succeeded);
                (2, u32::from(round.single) << 31 | u32::from(round.started) << 16 | counts)
            }
            Phase::Bypassed { counts } => (3, u32::from(counts)),
        };
        state << 62 | u64::from(self.epoch & EPOCH_MASK) << 32 | u64::from(payload)
    }

    pub(super) fn unpack(bits: u64) -> Self {
        let [a, b, c, d] = low32(bits).to_be_bytes();
        let payload = low32(bits);
        let phase = match bits >> 62 {
            0 => Phase::Closed,
            1 => {
                Phase::Open { reason: Reason::from_bits(payload >> REOPEN_BITS), reopens_at: payload & NEVER }
            }
            2 => Phase::HalfOpen(Round {
                single: payload >> 31 == 1,
                started: u16::from_be_bytes([a, b]) & SECONDS_MASK,
                issued: c,
                succeeded: d,
            }),
            _ => Phase::Bypassed { counts: payload == 1 },
        };
        Self { epoch: low32(bits >> 32) & EPOCH_MASK, phase }
    }
}

/// The tag of an epoch's counts.
pub(super) fn tag(epoch: u32) -> u8 {
    epoch.to_be_bytes()[3]
}

pub(super) fn seconds(now_ms: u64) -> u16 {
    u16::try_from((now_ms / 1_000) & u64::from(SECONDS_MASK)).expect("masked to 15 bits")
}

/// The first quarter second that is not before this moment.
pub(super) fn quarter_at(moment_ms: u64) -> u32 {
    u32::try_from(moment_ms.div_ceil(QUARTER_MS)).map_or(NEVER - 1, |quarter| quarter.min(NEVER - 1))
}

/// Milliseconds from now to a quarter second; 0 if it has come.
pub(super) fn ms_until(quarter: u32, now_ms: u64) -> u64 {
    (u64::from(quarter) * QUARTER_MS).saturating_sub(now_ms)
}

fn low32(bits: u64) -> u32 {
    u32::try_from(bits & 0xffff_ffff).expect("masked to 32 bits")
}

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_packs_and_unpacks() {
        let round = Round { single: true, started: SECONDS_MASK, issued: 255, succeeded: 254 };
        let phases = [
            Phase::Closed,
            Phase::Open { reason: Reason::ErrorRate, reopens_at: 0 },
            Phase::Open { reason: Reason::Auth, reopens_at: NEVER },
            Phase::Open { reason: Reason::Forced, reopens_at: 7 },
            Phase::Open { reason: Reason::Slow, reopens_at: 7 },
            Phase::HalfOpen(round),
            Phase::HalfOpen(Round { single: false, started: 0, issued: 0, succeeded: 0 }),
            Phase::Bypassed { counts: false },
            Phase::Bypassed { counts: true },
        ];
        for phase in phases {
            for epoch in [0, 1, 77, EPOCH_MASK] {
                let word = Word { epoch, phase };
                assert_eq!(Word::unpack(word.pack()), word);
            }
        }
    }

    #[test]
    fn the_last_epoch_is_followed_by_the_first() {
        assert_eq!(Word { epoch: EPOCH_MASK, phase: Phase::Closed }.then(Phase::Closed).epoch, 0);
    }

    #[test]
    fn a_round_knows_its_age_over_the_wrap() {
        let last = u64::from(SECONDS_MASK) * 1_000;
        let round = Round { single: false, started: seconds(last), issued: 1, succeeded: 0 };
        assert_eq!((round.age_secs(last), round.age_secs(last + 61_000)), (0, 61));
    }

    #[test]
    fn a_moment_is_rounded_up_so_that_no_cooldown_is_shortened() {
        assert_eq!((quarter_at(0), quarter_at(1), quarter_at(250), quarter_at(251)), (0, 1, 1, 2));
        assert_eq!(quarter_at(u64::MAX), NEVER - 1);
        assert_eq!((ms_until(4, 0), ms_until(4, 999), ms_until(4, 1_000)), (1_000, 1, 0));
    }
}
