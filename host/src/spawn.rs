//! Threads as the engine sees them: one-off jobs, and loops whose core is a `tick(now) -> next deadline`.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
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
    /// Waits until the job ended; `false` if it panicked. A simulated job that has not run yet runs here. Called
    /// from the job itself it returns `true` at once.
    fn join(&self) -> bool;
}

/// Work that waits in between, and is polled to its end. It never leaves its thread.
pub type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Where threads come from.
pub trait Spawn: Send + Sync + fmt::Debug {
    /// Runs `job` once on a thread of its own.
    fn job(&self, name: &str, job: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Job>>;

    /// Makes work on a thread of its own, where `run` polls it to its end. A simulated thread polls it by itself instead,
    /// once in a step, whenever it was woken.
    fn work(
        &self,
        name: &str,
        make: Box<dyn FnOnce() -> Work + Send>,
        run: Box<dyn FnOnce(Work) + Send>,
    ) -> io::Result<Box<dyn Job>> {
        self.job(name, Box::new(move || run(make())))
    }

    /// Runs `tick` in a loop on a thread of its own, first at once.
    fn ticker(&self, name: &str, tick: Box<dyn Tick>, clock: Arc<dyn Clock>) -> io::Result<Arc<dyn Ticker>>;
}

/// The machine's threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealSpawn;

impl Spawn for RealSpawn {
    fn job(&self, name: &str, job: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Job>> {
        Ok(Box::new(RealJob::start(name, job)?))
    }

    fn ticker(&self, name: &str, tick: Box<dyn Tick>, clock: Arc<dyn Clock>) -> io::Result<Arc<dyn Ticker>> {
        let bell = Arc::new(Bell::default());
        let inside = Arc::clone(&bell);
        let job = RealJob::start(name, Box::new(move || run(tick, &inside, &*clock)))?;
        Ok(Arc::new(RealTicker { bell, job }))
    }
}

#[derive(Debug)]
struct RealJob {
    thread: ThreadId,
    state: Mutex<JobState>,
}

#[derive(Debug)]
enum JobState {
    Running(Option<JoinHandle<()>>),
    Ended { well: bool },
}

impl RealJob {
    fn start(name: &str, job: Box<dyn FnOnce() + Send>) -> io::Result<Self> {
        let handle = thread::Builder::new().name(name.to_owned()).spawn(job)?;
        Ok(Self { thread: handle.thread().id(), state: Mutex::new(JobState::Running(Some(handle))) })
    }
}

impl Job for RealJob {
    fn join(&self) -> bool {
        // A thread cannot wait for its own end; and it has not panicked, for it asks.
        if thread::current().id() == self.thread {
            return true;
        }
        // Held while joining: a second caller waits here and then reads the answer.
        let mut state = lock(&self.state);
        if let JobState::Running(handle) = &mut *state {
            let well = handle.take().is_none_or(|h| h.join().is_ok());
            *state = JobState::Ended { well };
        }
        matches!(*state, JobState::Ended { well: true })
    }
}

/// What the handle tells the loop. Both only ever wait for what the other sets under the lock, so no wake-up
/// falls between the loop's look and its wait.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    wake: bool,
    stop: bool,
}

impl Bell {
    fn ring(&self, stop: bool) {
        let mut rung = lock(&self.rung);
        rung.wake = true;
        rung.stop |= stop;
        self.changed.notify_one();
    }

    /// Takes the wake-ups sent so far; `false` once the loop shall stop.
    fn answer(&self) -> bool {
        let mut rung = lock(&self.rung);
        rung.wake = false;
        !rung.stop
    }

    /// Waits until rung.
    fn wait(&self) {
        let rung = self.changed.wait_while(lock(&self.rung), |rung| !rung.wake);
        drop(rung);
    }

    /// Waits until rung or `deadline`.
    fn wait_until(&self, deadline: Instant, clock: &dyn Clock) {
        let mut rung = lock(&self.rung);
        while !rung.wake {
            let left = deadline.saturating_duration_since(clock.now());
            if left.is_zero() {
                return;
            }
            rung = self
                .changed
                .wait_timeout(rung, clock.machine_time(left))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

fn run(mut tick: Box<dyn Tick>, bell: &Bell, clock: &dyn Clock) {
    // The wake-ups are taken before the tick: one that comes during it causes another tick.
    while bell.answer() {
        match tick.tick(clock.now()) {
            Next::At(deadline) => bell.wait_until(deadline, clock),
            Next::Idle => bell.wait(),
            Next::Done => return,
        }
    }
}

#[derive(Debug)]
struct RealTicker {
    bell: Arc<Bell>,
    job: RealJob,
}

impl Ticker for RealTicker {
    fn wake(&self) {
        self.bell.ring(false);
    }

    fn stop(&self) {
        self.bell.ring(true);
        self.job.join();
    }
}

impl Drop for RealTicker {
    fn drop(&mut self) {
        self.bell.ring(true);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
