//! Searches measured: the truth, recall against it, and searches a second of processor time and of wall time.

use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::Duration;

use akidb::{Collection, Filter, Hit, Id};
use akidb_host::{Clock, Job, RealClock, RealSpawn, Spawn, pin_thread, thread_cpu_time};

use super::SearchError;
use super::effort::Effort;

/// A slot goes on for whole passes until it has had so much processor time on a thread, ...
const LEAST_CPU: Duration = Duration::from_millis(100);
/// ... and breaks off inside a pass after so much.
const MOST_CPU: Duration = Duration::from_millis(600);
/// Searches between two looks at the clock.
const LOOK_EVERY: usize = 8;

/// What is asked, over and over.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) collection: Collection,
    pub(super) queries: Arc<Vec<Vec<f32>>>,
    pub(super) k: usize,
    pub(super) filter: Option<Filter>,
}

impl Asked {
    fn run(&self, query: usize, effort: Effort) -> akidb::Result<Vec<Hit>> {
        let search = effort.of(self.collection.search(&self.queries[query]).k(self.k).with_payload(false));
        match &self.filter {
            Some(filter) => search.filter(filter.clone()).run(),
            None => search.run(),
        }
    }

    /// The exact answer to each query.
    pub(super) fn truth(&self) -> akidb::Result<Truth> {
        let answer = |query| self.run(query, Effort::Exact).map(|hits| Answer::of(&hits));
        (0..self.queries.len()).map(answer).collect::<akidb::Result<_>>().map(Truth)
    }

    /// Mean recall at this effort.
    pub(super) fn recall(&self, truth: &Truth, effort: Effort) -> akidb::Result<f64> {
        let mut sum = 0.0;
        for (query, answer) in truth.0.iter().enumerate() {
            sum += answer.recall(&self.run(query, effort)?);
        }
        Ok(sum / truth.0.len() as f64)
    }

    /// Processor milliseconds of one search by this thread: of the first, nothing is prepared for its filter.
    pub(super) fn once_cpu_ms(&self, effort: Effort) -> akidb::Result<f64> {
        let before = thread_cpu_time();
        self.run(0, effort)?;
        Ok((thread_cpu_time() - before).as_secs_f64() * 1e3)
    }

    /// One slot: `threads` threads, each on a processor of its own as far as there are, ask all queries in turn.
    pub(super) fn slot(&self, effort: Effort, threads: usize) -> Result<Slot, SearchError> {
        let start = Arc::new(Barrier::new(threads));
        let slots: Arc<Mutex<Vec<akidb::Result<Turn>>>> = Arc::default();
        let mut jobs: Vec<Box<dyn Job>> = Vec::with_capacity(threads);
        for thread in 0..threads {
            let (asked, start, slots) = (self.clone(), Arc::clone(&start), Arc::clone(&slots));
            let job = move || {
                // A machine that binds no thread is measured all the same.
                let _ = pin_thread(thread);
                start.wait();
                let turn = asked.turn(effort, thread * asked.queries.len() / threads);
                slots.lock().unwrap_or_else(PoisonError::into_inner).push(turn);
            };
            let job = RealSpawn.job("bench-search", Box::new(job));
            jobs.push(job.map_err(|cause| SearchError::file("".as_ref(), "starting a thread", cause))?);
        }
        for job in jobs {
            assert!(job.join(), "a searcher of the bench panicked");
        }
        let turns = std::mem::take(&mut *slots.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Slot::of(&turns.into_iter().collect::<akidb::Result<Vec<Turn>>>()?))
    }

    /// What one thread does in a slot, from this query on.
    fn turn(&self, effort: Effort, first: usize) -> akidb::Result<Turn> {
        let (count, began, before) = (self.queries.len(), RealClock.now(), thread_cpu_time());
        let mut searches = 0;
        loop {
            std::hint::black_box(self.run((first + searches) % count, effort)?);
            searches += 1;
            let pass_ends = searches.is_multiple_of(count);
            if !pass_ends && !searches.is_multiple_of(LOOK_EVERY) {
                continue;
            }
            let cpu = thread_cpu_time() - before;
            if cpu >= MOST_CPU || (pass_ends && cpu >= LEAST_CPU) {
                return Ok(Turn { searches, cpu, wall: RealClock.now().duration_since(began) });
            }
        }
    }
}

/// One thread's part of a slot.
#[derive(Clone, Copy, Debug)]
struct Turn {
    searches: usize,
    cpu: Duration,
    wall: Duration,
}

/// What a slot measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Searches a second of processor time, all threads taken together.
    pub(super) cpu_qps: f64,
    /// Searches a second of wall time: the threads' rates added up.
    pub(super) wall_qps: f64,
}

impl Slot {
    fn of(turns: &[Turn]) -> Self {
        let searches: usize = turns.iter().map(|turn| turn.searches).sum();
        let cpu: f64 = turns.iter().map(|turn| turn.cpu.as_secs_f64()).sum();
        let wall_qps = turns.iter().map(|turn| turn.searches as f64 / turn.wall.as_secs_f64()).sum();
        Self { cpu_qps: searches as f64 / cpu, wall_qps }
    }
}

/// The exact answers to all queries.
#[derive(Debug)]
pub(super) struct Truth(Vec<Answer>);

/// The exact answer to one query.
#[derive(Debug)]
pub(crate) struct Answer {
    ids: Vec<Id>,
    worst: f32,
}

impl Answer {
    pub(crate) fn of(hits: &[Hit]) -> Self {
        let worst = hits.last().map_or(f32::INFINITY, |hit| hit.score);
        Self { ids: hits.iter().map(|hit| hit.id.clone()).collect(), worst }
    }

    /// The part of the answer that was found. A row as near as the last of the answer counts as one of it, no row twice.
    pub(crate) fn recall(&self, hits: &[Hit]) -> f64 {
        if self.ids.is_empty() {
            return 1.0;
        }
        let mut found: Vec<&Id> = hits
            .iter()
            .filter(|hit| hit.score >= self.worst || self.ids.contains(&hit.id))
            .map(|hit| &hit.id)
            .collect();
        found.sort();
        found.dedup();
        found.len().min(self.ids.len()) as f64 / self.ids.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use akidb::{Lsn, Payload};

    use super::*;

    fn hits(found: &[(i64, f32)]) -> Vec<Hit> {
        let hit = |(id, score): &(i64, f32)| Hit {
            id: Id::from(*id),
            score: *score,
            lsn: Lsn::ZERO,
            payload: Payload::new(),
            vector: None,
        };
        found.iter().map(hit).collect()
    }

    #[test]
    fn a_row_as_near_as_the_last_counts_and_none_counts_twice() {
        let answer = Answer::of(&hits(&[(1, 0.9), (2, 0.8), (3, 0.7), (4, 0.7)]));
        assert_eq!(answer.recall(&hits(&[(1, 0.9), (2, 0.8), (3, 0.7), (5, 0.7)])), 1.0, "a tie");
        assert_eq!(answer.recall(&hits(&[(1, 0.9), (2, 0.8), (6, 0.6), (7, 0.5)])), 0.5);
        assert_eq!(answer.recall(&hits(&[(1, 0.9), (1, 0.9), (1, 0.9)])), 0.25, "no row twice");
        assert_eq!(answer.recall(&hits(&[(4, 0.699)])), 0.25, "an id of the answer, its score off by a bit");
        assert_eq!(answer.recall(&[]), 0.0);
        assert_eq!(Answer::of(&[]).recall(&hits(&[(1, 0.1)])), 1.0);
    }

    #[test]
    fn rates_of_threads_add_up_and_processor_time_is_shared() {
        let second = Duration::from_secs(1);
        let turn = |searches| Turn { searches, cpu: second, wall: second * 2 };
        let slot = Slot::of(&[turn(100), turn(300)]);
        assert_eq!((slot.cpu_qps, slot.wall_qps), (200.0, 200.0));
    }
}
