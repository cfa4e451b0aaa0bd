//! One slot of work: how many acknowledgements in how many seconds, and what each took.

use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use akidb_host::{Clock, Job, RealClock, RealSpawn, Spawn};

use super::{Error, Result};
use crate::report::per_mille;

/// Acknowledges one record; called over and over by one writer.
pub(crate) type Work = Box<dyn FnMut() -> Result<()> + Send>;

/// What one slot measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// Acknowledged records.
    pub(crate) acks: u64,
    /// From the first writer's start to the last one's end.
    pub(crate) seconds: f64,
    /// Median of the acknowledgements, microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile of the same.
    pub(crate) p99_us: f64,
    /// `fdatasync` calls.
    pub(crate) syncs: u64,
    /// Syncs of whole files and directories: what new log files cost.
    pub(crate) other_syncs: u64,
    /// Bytes this process caused to be written to storage, where the machine tells.
    pub(crate) device_bytes: Option<u64>,
}

impl Slot {
    /// Acknowledged records a second.
    pub(crate) fn rate(&self) -> f64 {
        self.acks as f64 / self.seconds
    }

    /// Records a sync.
    pub(crate) fn batch(&self) -> f64 {
        self.acks as f64 / (self.syncs as f64).max(1.0)
    }

    /// Puts together what the writers measured.
    pub(crate) fn of(written: Vec<Written>) -> Self {
        let start = written.iter().map(|w| w.start).min();
        let end = written.iter().map(|w| w.end).max();
        let (Some(start), Some(end)) = (start, end) else { return Self::default() };
        let mut micros: Vec<f64> = written.into_iter().flat_map(|w| w.micros).collect();
        Self {
            acks: micros.len() as u64,
            seconds: end.duration_since(start).as_secs_f64(),
            p50_us: per_mille(&mut micros, 500),
            p99_us: per_mille(&mut micros, 990),
            syncs: 0,
            other_syncs: 0,
            device_bytes: None,
        }
    }
}

/// What one writer measured.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    /// Microseconds of each acknowledgement.
    pub(crate) micros: Vec<f64>,
}

impl Written {
    /// A writer that starts now, with room for so many seconds' worth of figures.
    pub(crate) fn begin(time: Duration) -> Self {
        let start = RealClock.now();
        // One in 50 us and writer: no disk is faster, and growing costs little.
        let micros = Vec::with_capacity(usize::try_from(time.as_micros() / 50).unwrap_or(0) + 64);
        Self { start, end: start, micros }
    }

    /// Notes an acknowledgement; `true` while there is time left.
    pub(crate) fn ack(&mut self, until: Instant) -> bool {
        let now = RealClock.now();
        self.micros.push(now.duration_since(self.end).as_secs_f64() * 1e6);
        self.end = now;
        now < until
    }
}

/// Runs each work on a thread of its own, all started at once, until `time` is over.
///
/// # Errors
/// The first failure of a work; the others end with their slot.
pub(crate) fn blocking(works: Vec<Work>, time: Duration) -> Result<Slot> {
    let written = on_threads(works, move |work| {
        let mut written = Written::begin(time);
        let until = written.start + time;
        loop {
            work()?;
            if !written.ack(until) {
                return Ok(written);
            }
        }
    })?;
    Ok(Slot::of(written))
}

/// Runs each work on a thread of its own, all started at once, `each` times; from the first start to the last end.
///
/// # Errors
/// The first failure of a work.
pub(crate) fn counted(works: Vec<Work>, each: u64) -> Result<Duration> {
    let times = on_threads(works, move |work| {
        let start = RealClock.now();
        (0..each).try_for_each(|_| work())?;
        Ok((start, RealClock.now()))
    })?;
    let (first, last) = (times.iter().map(|(start, _)| start).min(), times.iter().map(|(_, end)| end).max());
    Ok(first.zip(last).map_or(Duration::ZERO, |(first, last)| last.duration_since(*first)))
}

fn on_threads<T: Send + 'static>(
    works: Vec<Work>,
    run: impl Fn(&mut Work) -> Result<T> + Clone + Send + 'static,
) -> Result<Vec<T>> {
    let start = Arc::new(Barrier::new(works.len()));
    let answers: Arc<Mutex<Vec<Result<T>>>> = Arc::default();
    let mut jobs: Vec<Box<dyn Job>> = Vec::with_capacity(works.len());
    for mut work in works {
        let (start, answers, run) = (Arc::clone(&start), Arc::clone(&answers), run.clone());
        let job = move || {
            start.wait();
            let answer = run(&mut work);
            answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        };
        jobs.push(RealSpawn.job("bench-writer", Box::new(job)).map_err(Error::at("start a thread", ""))?);
    }
    for job in jobs {
        assert!(job.join(), "a writer of the bench panicked");
    }
    let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
    answers.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_writer_works_and_a_failure_is_told() {
        let works = (0..3).map(|_| Box::new(|| Ok(())) as Work).collect();
        let slot = blocking(works, Duration::from_millis(1)).unwrap();
        let works = (0..3).map(|_| Box::new(|| Ok(())) as Work).collect();
        assert!(counted(works, 10).unwrap() > Duration::ZERO);
        assert!(slot.acks >= 3 && slot.seconds > 0.0 && slot.rate() > 0.0, "{slot:?}");
        let fails = || Err(Error::at("write", "x")(std::io::ErrorKind::StorageFull.into()));
        assert!(blocking(vec![Box::new(fails)], Duration::from_millis(1)).is_err());
    }
}
