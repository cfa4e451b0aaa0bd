//! Threads that do not run by themselves: jobs, loops and work stepped one at a time, in an order a seed replays.

mod work;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::clock::Clock;
use crate::rng::Rng;
use crate::spawn::{Job, Next, Spawn, Tick, Ticker, Work};
use work::{InlineWork, WorkHandle};

/// More steps than this in one run mean that something wakes itself for ever.
const STEPS_LIMIT: u64 = 1_000_000;

/// A [`Spawn`] for one thread: nothing runs until [`InlineSpawn::run_until_idle`], or [`Job::join`] for that job
/// alone. Clones share one queue. Who has waited longest runs first, or a seed decides ([`InlineSpawn::shuffled`]).
#[derive(Clone, Debug, Default)]
pub struct InlineSpawn(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    /// Jobs that may not have run and loops that may not be over, the longest waiting first.
    line: Vec<Item>,
    rng: Option<Rng>,
}

#[derive(Clone, Debug)]
enum Item {
    Job(Arc<InlineJob>),
    Loop(Arc<InlineLoop>),
    Work(Arc<InlineWork>),
}

impl InlineSpawn {
    /// Runs whatever is ready in an order drawn from `seed`.
    #[must_use]
    pub fn shuffled(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Queue { line: Vec::new(), rng: Some(Rng::seeded(seed)) })))
    }

    /// Runs jobs, ticks and work, those that they start included, until none is ready at `now`; then the earliest
    /// deadline of a loop, if any waits for one.
    ///
    /// # Panics
    /// When a tick does, and after a million steps: a loop that asks for `now` again and again is never idle.
    pub fn run_until_idle(&self, now: Instant) -> Option<Instant> {
        let mut steps = 0;
        while self.step(now) {
            steps += 1;
            assert!(steps < STEPS_LIMIT, "not idle after {STEPS_LIMIT} steps: {self:?}");
        }
        let line = lock(&self.0).line.clone();
        line.iter().filter_map(Item::deadline).min()
    }

    /// Runs one job, one tick or work until it waits; `false` when none is ready at `now`.
    pub fn step(&self, now: Instant) -> bool {
        let Some(item) = self.pick(now) else { return false };
        match item {
            Item::Job(job) => job.run(),
            Item::Loop(looped) => looped.run(now),
            Item::Work(work) => work.poll(),
        }
        true
    }

    /// The next item that is ready; it goes to the end of the line.
    fn pick(&self, now: Instant) -> Option<Item> {
        let mut queue = lock(&self.0);
        queue.line.retain(|item| !item.over());
        let ready: Vec<usize> = (0..queue.line.len()).filter(|i| queue.line[*i].ready(now)).collect();
        let choice = match &mut queue.rng {
            Some(rng) => rng.below(ready.len() as u64),
            None => 0,
        };
        let index = *ready.get(usize::try_from(choice).ok()?)?;
        let item = queue.line.remove(index);
        queue.line.push(item.clone());
        Some(item)
    }
}

impl Item {
    fn ready(&self, now: Instant) -> bool {
        match self {
            Self::Job(job) => matches!(*lock(&job.state), JobState::Waiting(_)),
            Self::Loop(looped) => {
                let state = lock(&looped.state);
                let due = matches!(state.next, Next::At(at) if at <= now);
                state.core.is_some() && (state.woken || due)
            }
            Self::Work(work) => work.is_ready(),
        }
    }

    fn over(&self) -> bool {
        match self {
            Self::Job(job) => matches!(*lock(&job.state), JobState::Ended { .. }),
            Self::Loop(looped) => lock(&looped.state).next == Next::Done,
            Self::Work(work) => work.is_over(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Job(_) | Self::Work(_) => None,
            Self::Loop(looped) => match lock(&looped.state).next {
                Next::At(at) => Some(at),
                Next::Idle | Next::Done => None,
            },
        }
    }
}

impl Spawn for InlineSpawn {
    fn job(&self, name: &str, job: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Job>> {
        let job = Arc::new(InlineJob { name: name.to_owned(), state: Mutex::new(JobState::Waiting(job)) });
        lock(&self.0).line.push(Item::Job(Arc::clone(&job)));
        Ok(Box::new(JobHandle(job)))
    }

    fn work(
        &self,
        name: &str,
        make: Box<dyn FnOnce() -> Work + Send>,
        _run: Box<dyn FnOnce(Work) + Send>,
    ) -> io::Result<Box<dyn Job>> {
        let work = Arc::new(InlineWork::new(name, make));
        lock(&self.0).line.push(Item::Work(Arc::clone(&work)));
        Ok(Box::new(WorkHandle(work)))
    }

    fn ticker(&self, name: &str, tick: Box<dyn Tick>, _clock: Arc<dyn Clock>) -> io::Result<Arc<dyn Ticker>> {
        let state = LoopState { core: Some(tick), woken: true, next: Next::Idle };
        let looped = Arc::new(InlineLoop { name: name.to_owned(), state: Mutex::new(state) });
        lock(&self.0).line.push(Item::Loop(Arc::clone(&looped)));
        Ok(Arc::new(LoopHandle(looped)))
    }
}

struct InlineJob {
    name: String,
    state: Mutex<JobState>,
}

enum JobState {
    Waiting(Box<dyn FnOnce() + Send>),
    Running,
    Ended { well: bool },
}

impl InlineJob {
    /// Runs the job if it still waits, with no lock held: it may start others.
    fn run(&self) {
        let work = {
            let mut state = lock(&self.state);
            match std::mem::replace(&mut *state, JobState::Running) {
                JobState::Waiting(work) => work,
                other => {
                    *state = other;
                    return;
                }
            }
        };
        let well = catch_unwind(AssertUnwindSafe(work)).is_ok();
        *lock(&self.state) = JobState::Ended { well };
    }
}

impl fmt::Debug for InlineJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineJob").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct JobHandle(Arc<InlineJob>);

impl Job for JobHandle {
    fn join(&self) -> bool {
        self.0.run();
        !matches!(*lock(&self.0.state), JobState::Ended { well: false })
    }
}

struct InlineLoop {
    name: String,
    state: Mutex<LoopState>,
}

struct LoopState {
    /// Out while it ticks.
    core: Option<Box<dyn Tick>>,
    woken: bool,
    next: Next,
}

impl InlineLoop {
    /// One tick, with no lock held: it may wake or stop itself and start others.
    fn run(&self, now: Instant) {
        let mut state = lock(&self.state);
        let Some(mut core) = state.core.take() else { return };
        state.woken = false;
        drop(state);
        let next = core.tick(now);
        let mut state = lock(&self.state);
        if state.next != Next::Done && next != Next::Done {
            state.core = Some(core);
            state.next = next;
            return;
        }
        state.next = Next::Done;
        // The core is dropped after the lock: what it owns may call back.
        drop(state);
        drop(core);
    }

    fn stop(&self) {
        let mut state = lock(&self.state);
        state.next = Next::Done;
        let core = state.core.take();
        drop(state);
        drop(core);
    }
}

impl fmt::Debug for InlineLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = lock(&self.state).next;
        f.debug_struct("InlineLoop").field("name", &self.name).field("next", &next).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct LoopHandle(Arc<InlineLoop>);

impl Ticker for LoopHandle {
    fn wake(&self) {
        lock(&self.0.state).woken = true;
    }

    fn stop(&self) {
        self.0.stop();
    }
}

impl Drop for LoopHandle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
