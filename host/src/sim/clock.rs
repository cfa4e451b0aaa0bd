//! A clock that moves only when told.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::clock::{Clock, RealClock, Timer};

/// A clock for tests. Share it by `Arc`; every method takes `&self`.
///
/// A loop on [`crate::RealSpawn`] waits real time and does not notice it move; use [`super::InlineSpawn`].
#[derive(Debug)]
pub struct FakeClock {
    start: Instant,
    passed: Arc<Passed>,
    unix_micros: AtomicI64,
}

/// The time that has passed, and who waits for more.
#[derive(Debug, Default)]
struct Passed {
    nanos: AtomicU64,
    waiting: Mutex<Vec<(u64, Waker)>>,
}

impl Passed {
    /// Wakes those whose time has come.
    fn wake(&self) {
        let now = self.nanos.load(Ordering::SeqCst);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let due: Vec<_> = waiting.extract_if(.., |(at, _)| *at <= now).collect();
        drop(waiting);
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// Over once so much time has passed.
struct Wait {
    passed: Arc<Passed>,
    at: u64,
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.passed.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.passed.nanos.load(Ordering::SeqCst) >= self.at {
            return Poll::Ready(());
        }
        if !waiting.iter().any(|(at, waker)| *at == self.at && waker.will_wake(context.waker())) {
            waiting.push((self.at, context.waker().clone()));
        }
        Poll::Pending
    }
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
        Self { start: RealClock.now(), passed: Arc::default(), unix_micros: AtomicI64::new(unix_micros) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let before = self.passed.nanos.fetch_add(saturating(by.as_nanos()), Ordering::SeqCst);
        // Whole microseconds of the sum, so that many small steps add up.
        let after = before + saturating(by.as_nanos());
        self.jump_wall(i64::try_from(after / 1_000 - before / 1_000).unwrap_or(i64::MAX));
        self.passed.wake();
    }

    /// When the next timer is due that somebody waited for, if any is still to come.
    #[must_use]
    pub fn next_timer(&self) -> Option<Instant> {
        let waiting = self.passed.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = waiting.iter().map(|(at, _)| *at).min()?;
        Some(self.start + Duration::from_nanos(next))
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
        self.start + Duration::from_nanos(self.passed.nanos.load(Ordering::SeqCst))
    }

    fn unix_micros(&self) -> i64 {
        self.unix_micros.load(Ordering::SeqCst)
    }

    fn timer(&self, time: Duration) -> Option<Timer> {
        let at = self.passed.nanos.load(Ordering::SeqCst).saturating_add(saturating(time.as_nanos()));
        Some(Box::pin(Wait { passed: Arc::clone(&self.passed), at }))
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
    fn a_timer_is_over_when_its_time_has_passed_and_wakes_who_waits() {
        struct Woken(AtomicU64);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (clock, woken) = (FakeClock::default(), Arc::new(Woken(AtomicU64::new(0))));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut timer = clock.timer(Duration::from_secs(2)).unwrap();
        for _ in 0..3 {
            assert!(timer.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(clock.next_timer(), Some(clock.now() + Duration::from_secs(2)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        clock.advance(Duration::from_secs(1));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1, "once, however often it was polled");
        assert!(timer.as_mut().poll(&mut context).is_ready());
        assert_eq!(clock.next_timer(), None);
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
