//! Threads as the engine sees them: one-off jobs, and loops whose core is a `tick(now) -> next deadline`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::Clock;

/// What a loop wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Tick again at this time, or when woken.
    At(Instant),
    /// Tick again only when woken.
    Idle,
    /// The loop is over.
    Done,
}

/// The core of a looping thread: does what is due and says when it wants to run again. Never sleeps.
pub trait Tick: Send {
    /// Does what is due at `now`.
    fn tick(&mut self, now: Instant) -> Next;
}

/// A running loop. Dropping it stops the loop after its current tick without waiting.
pub trait Ticker: Send + Sync + fmt::Debug {
    /// Makes the loop tick soon. Cheap; never blocks; wakes sent before the loop looks are not lost.
    fn wake(&self);

    /// Stops the loop and waits until its current tick has ended. Called from the loop's own thread it only
    /// asks. Idempotent.
    fn stop(&self);
}

/// A running job.
pub trait Job: Send + Sync + fmt::Debug {
    /// Waits until the job ended; `false` if it panicked. A simulated job that has not run yet runs here.
    fn join(&self) -> bool;
}

/// Where threads come from.
pub trait Spawn: Send + Sync + fmt::Debug {
    /// Runs `job` once on a thread of its own.
    fn job(&self, name: &str, job: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Job>>;

    /// Runs `tick` in a loop on a thread of its own, first at once.
    fn ticker(&self, name: &str, tick: Box<dyn Tick>, clock: Arc<dyn Clock>) -> io::Result<Arc<dyn Ticker>>;
}

/// The machine's threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealSpawn;
