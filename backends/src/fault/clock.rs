//! A clock that follows the time of the tokio runtime, which tests pause.

use std::time::{Duration, Instant};

use akidb_host::Clock;

/// Time as the tokio runtime sees it: paused and advanced with it. The wall clock starts at 2026-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    start: Instant,
}

const START_UNIX_MICROS: i64 = 1_767_225_600_000_000;

impl VirtualClock {
    /// A clock that starts now. Only inside a tokio runtime.
    #[must_use]
    pub fn start() -> Self {
        Self { start: tokio::time::Instant::now().into_std() }
    }

    /// Time since the start.
    #[must_use]
    pub fn passed(&self) -> Duration {
        self.now().saturating_duration_since(self.start)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn unix_micros(&self) -> i64 {
        START_UNIX_MICROS.saturating_add(i64::try_from(self.passed().as_micros()).unwrap_or(i64::MAX))
    }
}
