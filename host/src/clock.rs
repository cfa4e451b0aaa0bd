//! Time as the engine sees it: a monotonic clock and a wall clock, both replaceable.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A wait for time to pass.
pub type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where time comes from. Pure cores take `now` as an argument; shells hold one of these.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Monotonic time: never goes back, unaffected by changes of the wall clock.
    fn now(&self) -> Instant;

    /// Wall time in microseconds since the Unix epoch, UTC. May jump either way.
    fn unix_micros(&self) -> i64;

    /// How long the machine takes for `time` of this clock: as long, unless it is a fast one.
    fn machine_time(&self, time: Duration) -> Duration {
        time
    }

    /// A wait in this clock's own time, from a clock that moves only when told. None from the others: the machine's timers
    /// do for them, set to [`Clock::machine_time`].
    fn timer(&self, _time: Duration) -> Option<Timer> {
        None
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealClock;

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine for the time")]
impl Clock for RealClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_micros(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |m| -m),
        }
    }
}

/// A clock that runs some times as fast as the machine's from its making on, wall time included: for drills, where an
/// hour of outage is to pass in seconds.
#[derive(Clone, Copy, Debug)]
pub struct FastClock {
    start: Instant,
    start_unix_micros: i64,
    speed: u32,
}

impl FastClock {
    /// A clock that is `speed` times as fast; at least once.
    #[must_use]
    pub fn new(speed: u32) -> Self {
        Self { start: RealClock.now(), start_unix_micros: RealClock.unix_micros(), speed: speed.max(1) }
    }

    fn passed(&self) -> Duration {
        RealClock.now().duration_since(self.start).saturating_mul(self.speed)
    }
}

impl Clock for FastClock {
    fn now(&self) -> Instant {
        self.start + self.passed()
    }

    fn unix_micros(&self) -> i64 {
        self.start_unix_micros.saturating_add(i64::try_from(self.passed().as_micros()).unwrap_or(i64::MAX))
    }

    fn machine_time(&self, time: Duration) -> Duration {
        time / self.speed
    }
}
