//! Time as the engine sees it: a monotonic clock and a wall clock, both replaceable.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from. Pure cores take `now` as an argument; shells hold one of these.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Monotonic time: never goes back, unaffected by changes of the wall clock.
    fn now(&self) -> Instant;

    /// Wall time in microseconds since the Unix epoch, UTC. May jump either way.
    fn unix_micros(&self) -> i64;
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
