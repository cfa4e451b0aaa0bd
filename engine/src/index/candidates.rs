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

/// Rows are kept while their estimate is within `width` errors of the `rank`-th best, at most about `cap` of each kind.
///
/// Of the best of estimates that are at least as sure: those of segments without lists, of memtables and of a filter's own codes
/// are off by several times as much as those of lists, and the luckiest of them would leave no row of a list in.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    width: f32,
    rank: usize,
    cap: usize,
    /// Rows of lists, and all others.
    pools: [Pool; 2],
    /// The pool that is offered to.
    at: usize,
    /// Whether rows came that are of no list: until then the second pool has the bounds of the first.
    is_split: bool,
    /// The kept ones in their final order, each once.
    finished: Vec<Candidate>,
    /// Room for [`Candidates::finish`]: estimates and places among the kept, and a hash table of rows.
    order: Vec<u64>,
    met: Vec<u64>,
}

/// Rows whose estimates are about as sure, and what is known of them.
#[derive(Debug, Default)]
struct Pool {
    /// The `rank` best estimates, those of surer rows among them, ascending; infinity where there are not so many yet.
    best: Vec<f32>,
    /// The least of the k-th best of rows compared exactly before, an estimate that `rank` rows are below, and the `rank`-th best
    /// estimate: what is not within the errors of it cannot be among the best.
    bar: f32,
    kept: Vec<Candidate>,
    /// Nothing above is kept: the `cap`-th best estimate seen so far.
    ceiling: f32,
}

const MIN_CAP: usize = 600;
/// No row in the hash table: a source is never that large.
const VACANT: u64 = u64::MAX;

impl Pool {
    fn begin(&mut self, rank: usize, most: usize, known: f32) {
        (self.bar, self.ceiling) = (known, f32::INFINITY);
        self.best.clear();
        self.best.resize(rank, f32::INFINITY);
        empty(&mut self.kept, most);
    }

    #[inline]
    fn note(&mut self, estimate: f32) {
        if self.best.last().is_some_and(|last| estimate < *last) {
            insert(&mut self.best, estimate);
            self.bar = self.bar.min(self.best[self.best.len() - 1]);
        }
    }
}

impl Candidates {
    /// Begins a search for `k` rows, `k` of which are known to be as near as `known` (infinity: nothing is known).
    pub(crate) fn begin(&mut self, k: usize, width: f32, known: f32) {
        self.width = width;
        // Both copies of a spilled row stand among the best, hence twice k.
        self.rank = 2 * k;
        self.cap = MIN_CAP.max(20 * k);
        let most = 2 * self.cap + 64;
        self.pools.iter_mut().for_each(|pool| pool.begin(self.rank, most, known));
        (self.at, self.is_split) = (0, false);
        empty(&mut self.order, 2 * most);
        empty(&mut self.met, 8 * most);
        empty(&mut self.finished, 2 * most);
    }

    /// What is offered from now on is of a list, or not.
    pub(crate) fn take_from(&mut self, is_list: bool) {
        self.at = usize::from(!is_list);
        if !is_list && !self.is_split {
            let [sure, unsure] = &mut self.pools;
            unsure.best.copy_from_slice(&sure.best);
            unsure.bar = sure.bar;
            self.is_split = true;
        }
    }

    /// Estimates below this are worth keeping, for a list whose estimates have this error.
    #[inline]
    pub(crate) fn threshold(&self, error: f32) -> f32 {
        let pool = &self.pools[self.at];
        (pool.bar + self.width * error).min(pool.ceiling)
    }

    /// How many estimates make a threshold, as long as there is none.
    #[inline]
    pub(crate) fn wanted(&self) -> Option<usize> {
        (self.pools[self.at].bar == f32::INFINITY).then_some(self.rank)
    }

    /// Says that so many rows as make a threshold lie below `estimate`, all of which will be offered.
    pub(crate) fn settle(&mut self, estimate: f32) {
        for pool in &mut self.pools[self.at..] {
            pool.bar = pool.bar.min(estimate);
        }
    }

    /// Keeps a row if it is below the threshold.
    #[inline]
    pub(crate) fn offer(&mut self, candidate: Candidate) {
        let is_near = candidate.estimate < self.threshold(candidate.error);
        if !is_near {
            return;
        }
        if self.at == 0 && self.is_split {
            self.pools[1].note(candidate.estimate);
        }
        let pool = &mut self.pools[self.at];
        pool.kept.push(candidate);
        pool.note(candidate.estimate);
        if pool.kept.len() >= 2 * self.cap + 64 {
            let cap = self.cap;
            pool.kept.select_nth_unstable_by(cap - 1, |a, b| a.estimate.total_cmp(&b.estimate));
            pool.kept.truncate(cap);
            pool.ceiling = pool.kept[cap - 1].estimate;
        }
    }

    /// Drops what a source gave: it is searched another way.
    pub(crate) fn forget(&mut self, source: u32) {
        for pool in &mut self.pools {
            pool.kept.retain(|candidate| candidate.source != source);
        }
    }

    /// How many errors above the best estimates are kept.
    pub(crate) fn width(&self) -> f32 {
        self.width
    }

    /// The kept rows, nearest first (equal estimates by the place they were kept at, the same for the same offers), each once (by
    /// its smaller estimate), none that the final threshold refuses.
    pub(crate) fn finish(&mut self) -> &[Candidate] {
        let [sure, unsure] = &self.pools;
        self.order.clear();
        for (pool, first) in [(sure, 0), (unsure, sure.kept.len() as u64)] {
            let kept = (first..).zip(&pool.kept);
            let near = kept.filter(|(_, kept)| kept.estimate <= pool.bar + self.width * kept.error);
            self.order.extend(near.map(|(at, kept)| u64::from(ordered(kept.estimate)) << 32 | at));
        }
        self.order.sort_unstable();
        let places = (2 * self.order.len()).next_power_of_two().max(2);
        self.met.clear();
        self.met.resize(places, VACANT);
        self.finished.clear();
        for at in &self.order {
            #[expect(clippy::cast_possible_truncation, reason = "the low half is a place among the kept")]
            let at = *at as u32 as usize;
            let candidate = sure.kept.get(at).unwrap_or_else(|| &unsure.kept[at - sure.kept.len()]);
            if meet(&mut self.met, candidate.source, candidate.row) {
                self.finished.push(*candidate);
            }
        }
        &self.finished
    }
}

/// Empties a buffer for so many; what a search for very many took is given back.
fn empty<T>(buffer: &mut Vec<T>, most: usize) {
    buffer.clear();
    if buffer.capacity() > 16 * most {
        buffer.shrink_to(most);
    }
}

/// So many numbers are moved on without asking where one goes, which cannot be foretold.
const FEW: usize = 64;

/// Puts a number among ascending ones, the last of which leaves.
#[inline]
fn insert(ascending: &mut [f32], new: f32) {
    if ascending.len() > FEW {
        let at = ascending.partition_point(|number| *number <= new);
        let filled = ascending.partition_point(|number| *number < f32::INFINITY);
        ascending.copy_within(at..filled.min(ascending.len() - 1), at + 1);
        ascending[at] = new;
        return;
    }
    let mut before = f32::NEG_INFINITY;
    for at in ascending {
        let old = *at;
        let smaller = if new < old { new } else { old };
        *at = if before > smaller { before } else { smaller };
        before = old;
    }
}

/// A whole number that orders as the estimate does.
#[inline]
pub(crate) fn ordered(estimate: f32) -> u32 {
    let bits = estimate.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The estimate that [`ordered`] made a whole number of.
#[inline]
pub(crate) fn unordered(order: u32) -> f32 {
    f32::from_bits(if order >> 31 == 1 { order & !(1 << 31) } else { !order })
}

/// Puts a row into a hash table with more places than rows; `false` if it is there already.
#[inline]
fn meet(met: &mut [u64], source: u32, row: u32) -> bool {
    /// 2^64 times the golden ratio.
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let key = u64::from(source) << 32 | u64::from(row);
    let mut at = (key.wrapping_mul(GOLDEN) >> 32) as usize & (met.len() - 1);
    while met[at] != VACANT {
        if met[at] == key {
            return false;
        }
        at = (at + 1) & (met.len() - 1);
    }
    met[at] = key;
    true
}
