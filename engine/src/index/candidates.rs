//! The rows a scan keeps for the exact comparison: those whose estimate is near enough to the best ones' estimates.

/// A row by its estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// In units of the score turned round: smaller is nearer.
    pub(crate) estimate: f32,
    /// A standard error of the estimate.
    pub(crate) error: f32,
    /// Which memtable or segment.
    pub(crate) source: u32,
    pub(crate) row: u32,
}

/// Rows are kept while their estimate is within `width` errors of the `rank`-th best, at most about `cap`.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    width: f32,
    rank: usize,
    cap: usize,
    /// The best estimates, ascending, at most `rank`.
    best: Vec<f32>,
    kept: Vec<Candidate>,
    /// Nothing above is kept: the `cap`-th best estimate seen so far.
    ceiling: f32,
    /// The k-th best of rows compared exactly before, or an estimate that `rank` rows are below: what is not within the
    /// errors of it cannot be among the best.
    known: f32,
}

const MIN_CAP: usize = 600;

impl Candidates {
    /// Begins a search for `k` rows, `k` of which are known to be as near as `known` (infinity: nothing is known).
    pub(crate) fn begin(&mut self, k: usize, width: f32, known: f32) {
        self.known = known;
        self.width = width;
        // Both copies of a spilled row stand among the best, hence twice k.
        self.rank = 2 * k;
        self.cap = MIN_CAP.max(20 * k);
        self.best.clear();
        self.kept.clear();
        self.ceiling = f32::INFINITY;
    }

    /// Estimates below this are worth keeping, for a list whose estimates have this error.
    #[inline]
    pub(crate) fn threshold(&self, error: f32) -> f32 {
        let best =
            if self.best.len() < self.rank { self.known } else { self.known.min(self.best[self.rank - 1]) };
        (best + self.width * error).min(self.ceiling)
    }

    /// How many estimates make a threshold, as long as there is none.
    #[inline]
    pub(crate) fn wanted(&self) -> Option<usize> {
        (self.best.len() < self.rank && self.known == f32::INFINITY).then_some(self.rank)
    }

    /// Says that so many rows as make a threshold lie below `estimate`, all of which will be offered.
    pub(crate) fn settle(&mut self, estimate: f32) {
        self.known = self.known.min(estimate);
    }

    /// Keeps a row if it is below the threshold.
    #[inline]
    pub(crate) fn offer(&mut self, candidate: Candidate) {
        let is_near = candidate.estimate < self.threshold(candidate.error);
        if !is_near {
            return;
        }
        self.kept.push(candidate);
        let estimate = candidate.estimate;
        if self.best.len() < self.rank {
            let at = self.best.partition_point(|best| *best <= estimate);
            self.best.insert(at, estimate);
        } else if self.best.last().is_some_and(|last| estimate < *last) {
            let at = self.best.partition_point(|best| *best <= estimate);
            self.best.pop();
            self.best.insert(at, estimate);
        }
        if self.kept.len() >= 2 * self.cap + 64 {
            let cap = self.cap;
            self.kept.select_nth_unstable_by(cap - 1, |a, b| a.estimate.total_cmp(&b.estimate));
            self.kept.truncate(cap);
            self.ceiling = self.kept[cap - 1].estimate;
        }
    }

    /// Drops what a source gave: it is searched another way.
    pub(crate) fn forget(&mut self, source: u32) {
        self.kept.retain(|candidate| candidate.source != source);
    }

    /// How many errors above the best estimates are kept.
    pub(crate) fn width(&self) -> f32 {
        self.width
    }

    /// The kept rows, nearest first, each once (by its smaller estimate), none that the final threshold refuses.
    pub(crate) fn finish(&mut self) -> &[Candidate] {
        let (width, known) = (self.width, self.known);
        let best = if self.best.len() < self.rank { known } else { known.min(self.best[self.rank - 1]) };
        self.kept.retain(|candidate| candidate.estimate <= best + width * candidate.error);
        self.kept.sort_unstable_by(|a, b| {
            (a.source, a.row).cmp(&(b.source, b.row)).then(a.estimate.total_cmp(&b.estimate))
        });
        self.kept.dedup_by_key(|candidate| (candidate.source, candidate.row));
        self.kept.sort_unstable_by(|a, b| {
            a.estimate.total_cmp(&b.estimate).then((a.source, a.row).cmp(&(b.source, b.row)))
        });
        &self.kept
    }
}
