//! What time it is for the age of letters: the wall clock as the run began, carried on by the monotonic one.

use std::time::Instant;

/// A wall clock that moved further than this against the monotonic one since the last look was set.
const JUMP_SECS: i64 = 3_600;

/// The time by which letters expire. A wall clock set forward makes none older; one set back makes them younger.
#[derive(Debug)]
pub(crate) struct Age {
    origin: Instant,
    origin_unix_secs: i64,
    /// How far the wall clock was ahead at the last look.
    ahead_secs: i64,
}

impl Age {
    pub(crate) fn new(now: Instant, unix_secs: i64) -> Self {
        Self { origin: now, origin_unix_secs: unix_secs, ahead_secs: 0 }
    }

    /// The time to expire letters by, seconds since the Unix epoch; `Err` with the seconds of the jump if the
    /// wall clock was set since the last look: then nothing is to expire this time.
    pub(crate) fn look(&mut self, now: Instant, unix_secs: i64) -> Result<i64, i64> {
        let ran = i64::try_from(now.saturating_duration_since(self.origin).as_secs()).unwrap_or(i64::MAX);
        let here = self.origin_unix_secs.saturating_add(ran);
        let ahead = unix_secs.saturating_sub(here);
        let jump = ahead.saturating_sub(self.ahead_secs);
        self.ahead_secs = ahead;
        if ahead < -JUMP_SECS {
            // The run began with a clock that was ahead: letters made since are younger than that.
            self.origin_unix_secs = self.origin_unix_secs.saturating_add(ahead);
            self.ahead_secs = 0;
        }
        if jump.saturating_abs() > JUMP_SECS { Err(jump) } else { Ok(here) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use akidb_host::{Clock, RealClock};

    use super::*;

    const HOUR: i64 = 3_600;
    const DAY: i64 = 24 * HOUR;

    fn at(origin: Instant, secs: i64) -> Instant {
        origin + Duration::from_secs(secs.unsigned_abs())
    }

    #[test]
    fn a_clock_that_runs_is_believed() {
        let origin = RealClock.now();
        let mut age = Age::new(origin, 1_000);
        assert_eq!(age.look(at(origin, HOUR), 1_000 + HOUR + 30), Ok(1_000 + HOUR));
        assert_eq!(age.look(at(origin, 5 * DAY), 1_000 + 5 * DAY), Ok(1_000 + 5 * DAY));
    }

    #[test]
    fn a_jump_is_told_once_and_forward_it_makes_nothing_older() {
        let origin = RealClock.now();
        let mut age = Age::new(origin, 0);
        assert_eq!(age.look(at(origin, 10), 8 * DAY + 10), Err(8 * DAY));
        assert_eq!(age.look(at(origin, 20), 8 * DAY + 20), Ok(20));
        assert_eq!(age.look(at(origin, 30), 30), Err(-8 * DAY));
        assert_eq!(age.look(at(origin, 40), 40), Ok(40));
    }

    #[test]
    fn a_clock_set_back_makes_all_younger() {
        let origin = RealClock.now();
        let mut age = Age::new(origin, 8 * DAY);
        assert_eq!(age.look(at(origin, 10), 10), Err(-8 * DAY));
        assert_eq!(age.look(at(origin, 20), 20), Ok(20));
    }
}
