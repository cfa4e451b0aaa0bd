//! What a soak saw so far: the most of everything, and searches by the second.

use std::collections::BTreeMap;
use std::time::Duration;

use super::latencies::Latencies;
use super::said::{Compared, Said, SoakOpened, Took};
use super::watch::{Files, Memory};

/// Bytes over raw count from so much raw on: before, the log alone is larger than its rows.
pub(super) const COUNTED_FROM: u64 = 64 << 20;
/// Recall is held over so many searches in a row.
const RECALLS: usize = 50;
/// The first and the last of a run that latencies are compared over; a quarter of a shorter run.
const WINDOW: Duration = Duration::from_secs(60);

/// Searches of about a second: when, their times, and their processor times.
type Slice = (Duration, Latencies, Latencies);

/// Figures that grow with a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The sample with the most files.
    pub(super) most_files: Files,
    /// Bytes on disk over raw, at most; of allocated bytes and of lengths.
    pub(super) over_raw_max: Option<f64>,
    /// The sample with the most bytes on disk over raw, and its raw bytes.
    pub(super) fullest: Option<(Files, u64)>,
    pub(super) length_over_raw_max: Option<f64>,
    /// Bytes on disk at most before raw was enough to be compared with.
    pub(super) bytes_before: u64,
    pub(super) memory_max: Memory,
    pub(super) opens: Vec<SoakOpened>,
    /// What all comparisons found wrong, and the last one right.
    pub(super) compared: Compared,
    pub(super) comparisons: u32,
    pub(super) writes: Latencies,
    /// Bare writes of a batch's bytes by the parent.
    pub(super) floor: Latencies,
    pub(super) searches: Latencies,
    pub(super) search_cpu: Latencies,
    pub(super) exact_searches: Latencies,
    pub(super) stalls: u64,
    recalls: Vec<f64>,
    /// Searches by when they were told of, from the moment on that compared rows are complete.
    slices: Vec<Slice>,
}

impl Seen {
    pub(super) fn files(&mut self, files: &Files, raw: u64) {
        if files.count > self.most_files.count {
            self.most_files = files.clone();
        }
        if raw < COUNTED_FROM {
            self.bytes_before = self.bytes_before.max(files.allocated);
            return;
        }
        let raise = |most: &mut Option<f64>, bytes: u64| {
            let (before, ratio) = (most.unwrap_or(0.0), bytes as f64 / raw as f64);
            *most = Some(before.max(ratio));
            ratio > before
        };
        raise(&mut self.length_over_raw_max, files.bytes);
        if raise(&mut self.over_raw_max, files.allocated) {
            self.fullest = Some((files.clone(), raw));
        }
    }

    pub(super) fn memory(&mut self, memory: Memory) {
        self.memory_max.anon_mib = self.memory_max.anon_mib.max(memory.anon_mib);
        self.memory_max.file_mib = self.memory_max.file_mib.max(memory.file_mib);
    }

    /// Takes down what a writer said; `at` is since the rows to begin with were there.
    pub(super) fn said(&mut self, said: Said, at: Option<Duration>) {
        match said {
            Said::Opened(opened) => self.opened(opened),
            Said::Compared(found) => self.compared(found),
            Said::Recall(recall) => self.recalls.push(recall),
            Said::Took(took) => self.took(took, at),
            Said::Acknowledged(_) | Said::Flushed | Said::Closed => {}
        }
    }

    pub(super) fn opened(&mut self, opened: SoakOpened) {
        self.opens.push(opened);
    }

    pub(super) fn compared(&mut self, found: Compared) {
        self.comparisons += 1;
        self.compared.right = found.right;
        self.compared.lost += found.lost;
        self.compared.wrong += found.wrong;
    }

    fn took(&mut self, took: Took, at: Option<Duration>) {
        self.writes.add_all(&took.writes);
        self.searches.add_all(&took.searches);
        self.search_cpu.add_all(&took.search_cpu);
        self.exact_searches.add_all(&took.exact_searches);
        self.stalls += took.stalls;
        if let Some(at) = at {
            self.slices.push((at, took.searches, took.search_cpu));
        }
    }

    /// Searches of the first and of the last minute, each in time and in processor time.
    pub(super) fn first_and_last(&self) -> [[Latencies; 2]; 2] {
        let Some((end, ..)) = self.slices.last() else { return Default::default() };
        let window = WINDOW.min(*end / 4);
        let of = |wanted: &dyn Fn(Duration) -> bool| {
            let mut sums = <[Latencies; 2]>::default();
            for (_, time, cpu) in self.slices.iter().filter(|(at, ..)| wanted(*at)) {
                sums[0].add_all(time);
                sums[1].add_all(cpu);
            }
            sums
        };
        [of(&|at| at <= window), of(&|at| at >= *end - window)]
    }

    /// Mean recall, the least over any fifty searches in a row (over all, if there were fewer), and of how many.
    pub(super) fn recall(&self) -> Option<(f64, f64, usize)> {
        let mean = |recalls: &[f64]| recalls.iter().sum::<f64>() / recalls.len() as f64;
        if self.recalls.is_empty() {
            return None;
        }
        let least = self.recalls.windows(RECALLS.min(self.recalls.len())).map(mean).min_by(f64::total_cmp);
        Some((mean(&self.recalls), least?, self.recalls.len()))
    }

    pub(super) fn most_files_by_kind(&self) -> BTreeMap<String, u64> {
        self.most_files.by_kind.iter().map(|(kind, (count, _))| (kind.clone(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_from_enough_raw_on() {
        let mut seen = Seen::default();
        let files = |count, allocated| Files { count, allocated, bytes: allocated / 2, ..Files::default() };
        seen.files(&files(7, 5_000), 10);
        assert_eq!((seen.over_raw_max, seen.bytes_before, seen.most_files.count), (None, 5_000, 7));
        seen.files(&files(3, COUNTED_FROM * 3), COUNTED_FROM * 2);
        seen.files(&files(3, COUNTED_FROM), COUNTED_FROM);
        assert_eq!((seen.over_raw_max, seen.length_over_raw_max), (Some(1.5), Some(0.75)));
        assert_eq!(seen.most_files.count, 7);
    }

    #[test]
    fn the_first_and_the_last_minute_are_told_apart() {
        let mut seen = Seen::default();
        let slice = |ms| {
            let mut searches = Latencies::default();
            searches.add(Duration::from_millis(ms));
            Said::Took(Took { searches, ..Took::default() })
        };
        seen.said(slice(900), None);
        for second in 1..=400 {
            seen.said(slice(if second > 340 { 20 } else { 10 }), Some(Duration::from_secs(second)));
        }
        let [[first, _], [last, last_cpu]] = seen.first_and_last();
        assert_eq!(last_cpu.count(), 0, "times are not processor times");
        assert_eq!((first.count(), last.count(), seen.searches.count()), (60, 61, 401));
        let ratio = last.per_mille(500).unwrap() / first.per_mille(500).unwrap();
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
    }

    #[test]
    fn recall_is_the_least_of_any_fifty_in_a_row() {
        let mut seen = Seen::default();
        assert_eq!(seen.recall(), None);
        for n in 0..200 {
            seen.said(Said::Recall(if (100..150).contains(&n) { 0.5 } else { 1.0 }), None);
        }
        assert_eq!(seen.recall(), Some((0.875, 0.5, 200)));
    }
}
