//! A clock that moves only when told.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock::{Clock, RealClock};

/// A clock for tests. Share it by `Arc`; every method takes `&self`.
///
/// A loop on [`crate::RealSpawn`] waits real time and does not notice it move; use [`super::InlineSpawn`].
#[derive(Debug)]
pub struct FakeClock {
    start: Instant,
    passed_nanos: AtomicU64,
    unix_micros: AtomicI64,
}

impl Default for FakeClock {
    /// Starts at 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::starting_at(1_767_225_600_000_000)
    }
}

impl FakeClock {
    /// A clock whose wall time is `unix_micros` now.
    #[must_use]
    pub fn starting_at(unix_micros: i64) -> Self {
        // `Instant` has no zero: the only way to one is the machine's. Only differences to it are ever seen.
        Self {
            start: RealClock.now(),
            passed_nanos: AtomicU64::new(0),
            unix_micros: AtomicI64::new(unix_micros),
        }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let before = self.passed_nanos.fetch_add(saturating(by.as_nanos()), Ordering::SeqCst);
        // Whole microseconds of the sum, so that many small steps add up.
        let after = before + saturating(by.as_nanos());
        self.jump_wall(i64::try_from(after / 1_000 - before / 1_000).unwrap_or(i64::MAX));
    }

    /// Lets time pass until `at`; nothing if that is over.
    pub fn advance_to(&self, at: Instant) {
        self.advance(at.saturating_duration_since(self.now()));
    }

    /// Sets the wall clock alone, as an operator or NTP does.
    pub fn set_wall(&self, unix_micros: i64) {
        self.unix_micros.store(unix_micros, Ordering::SeqCst);
    }

    /// Moves the wall clock alone, either way.
    pub fn jump_wall(&self, micros: i64) {
        self.unix_micros.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.passed_nanos.load(Ordering::SeqCst))
    }

    fn unix_micros(&self) -> i64 {
        self.unix_micros.load(Ordering::SeqCst)
    }
}

fn saturating(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_until_it_is_moved() {
        let clock = FakeClock::default();
        let (now, wall) = (clock.now(), clock.unix_micros());
        assert_eq!((clock.now(), clock.unix_micros()), (now, wall));
        clock.advance(Duration::from_millis(5));
        assert_eq!((clock.now() - now, clock.unix_micros() - wall), (Duration::from_millis(5), 5_000));
        clock.advance_to(now + Duration::from_millis(7));
        clock.advance_to(now);
        assert_eq!((clock.now() - now, clock.unix_micros() - wall), (Duration::from_millis(7), 7_000));
    }

    #[test]
    fn the_wall_clock_jumps_without_the_monotonic_one() {
        let clock = FakeClock::starting_at(1_000);
        let now = clock.now();
        clock.jump_wall(-3_000);
        assert_eq!((clock.now(), clock.unix_micros()), (now, -2_000));
        clock.set_wall(42);
        assert_eq!((clock.now(), clock.unix_micros()), (now, 42));
    }

    #[test]
    fn steps_below_a_microsecond_add_up() {
        let clock = FakeClock::starting_at(0);
        for _ in 0..2_500 {
            clock.advance(Duration::from_nanos(400));
        }
        assert_eq!(clock.unix_micros(), 1_000);
    }
}
