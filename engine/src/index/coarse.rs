//! The centroids of the lists: one- or two-bit codes of all, scanned first, and 8-bit codes to tell the nearest apart.

use crate::distance::Kernel;
use crate::distance::codes::{BLOCK_ROWS, MAX_BLOCKS, Passed, Test};
use crate::index::block::Blocks;
use crate::index::candidates::{ordered, unordered};
use crate::index::code::{self, Bits};
use crate::index::probe::{Probe, rounded};

/// Largest number of a fine code.
const FINE_TOP: f32 = 127.0;
/// A test that every sum passes.
pub(super) const ALL: Test = Test { add_scale: 0, offset: 0, shift: 0, limit: 1 };
/// Even or odd rows of a block.
const HALF: usize = BLOCK_ROWS / 2;
/// Steps of the search for the estimate that leaves as many centroids as are to be refined.
const BISECTIONS: usize = 12;

/// The centroids of an index, less its mean.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Coarse {
    pub(crate) count: usize,
    pub(crate) coded: usize,
    /// Blocks whose factors are not used.
    pub(crate) blocks: Vec<u8>,
    /// The blocks' factors: of each block those of rows 0, 2 .. 30, then of rows 1, 3 .. 31.
    pub(crate) add: Vec<f32>,
    pub(crate) mul: Vec<f32>,
    /// `count * coded` numbers; a centroid is `fine_step * fine`.
    pub(crate) fine: Vec<i8>,
    pub(crate) fine_step: Vec<f32>,
    /// Squared norms of the centroids as the fine codes have them.
    pub(crate) norm_squared: Vec<f32>,
    /// What the order of the lists adds to a centroid's squared distance; in `add` too.
    pub(crate) bonus: Vec<f32>,
}

/// A list and how far its centroid is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Near {
    /// What lists are ordered by.
    pub(crate) key: f32,
    /// `|y - c|^2`
    pub(crate) distance_squared: f32,
    pub(crate) list: u32,
}

/// Room for one call at a time.
#[derive(Debug, Default)]
pub(crate) struct CoarseScratch {
    estimates: Vec<f32>,
    /// The smallest of every 16 estimates, as [`ordered`] has it.
    minima: Vec<u32>,
    /// Of each block of centroids those whose estimates are small enough.
    masks: Vec<u32>,
    /// Lists to be told apart by their fine codes, then each behind what it is ordered by.
    order: Vec<u64>,
    /// `|y - c|^2` of those.
    distances: Vec<f32>,
}

impl Coarse {
    /// Encodes `centroids`, each of `coded` numbers.
    pub(crate) fn new(kernel: Kernel, bits: Bits, coded: usize, centroids: &[f32]) -> Self {
        let count = centroids.len() / coded;
        let mut blocks = Blocks::new(bits.nibbles(coded));
        let padded = count.next_multiple_of(BLOCK_ROWS);
        let mut coarse = Self {
            count,
            coded,
            blocks: Vec::new(),
            add: vec![f32::MAX; padded],
            mul: vec![0.0; padded],
            fine: vec![0; count * coded],
            fine_step: Vec::with_capacity(count),
            norm_squared: Vec::with_capacity(count),
            bonus: vec![0.0; count],
        };
        let (zeros, mut nibbles) = (vec![0.0; coded], vec![0; bits.nibbles(coded)]);
        let fine = coarse.fine.chunks_exact_mut(coded);
        for (at, (centroid, fine)) in centroids.chunks_exact(coded).zip(fine).enumerate() {
            let most = centroid.iter().fold(0.0f32, |most, number| most.max(number.abs()));
            let step = if most > 0.0 { most / FINE_TOP } else { 1.0 };
            for (fine, number) in fine.iter_mut().zip(centroid) {
                #[expect(clippy::cast_possible_truncation, reason = "at most 127")]
                let whole = rounded(number / step) as i8;
                *fine = whole;
            }
            coarse.fine_step.push(step);
            coarse.norm_squared.push(fine.iter().map(|n| f32::from(*n) * step).map(|n| n * n).sum());
            let factors = kernel.vectorised(
                #[inline(always)]
                || code::encode(bits, centroid, &zeros, &mut nibbles),
            );
            blocks.push(&nibbles, factors);
            let place = place(at);
            (coarse.add[place], coarse.mul[place]) = (factors.add, factors.mul);
        }
        coarse.blocks = blocks.finish().0;
        coarse
    }

    /// Lets lists be ordered by `|y - c|^2 + bonus[list]`.
    pub(crate) fn set_bonus(&mut self, bonus: Vec<f32>) {
        assert_eq!(bonus.len(), self.count, "one number a list");
        for (list, bonus) in bonus.iter().enumerate() {
            self.add[place(list)] += bonus - self.bonus[list];
        }
        self.bonus = bonus;
    }

    /// Writes a centroid as the fine code has it.
    pub(crate) fn centroid(&self, list: usize, out: &mut [f32]) {
        for (out, number) in out.iter_mut().zip(self.fine(list)) {
            *out = f32::from(*number) * self.fine_step[list];
        }
    }

    /// The about `wanted` nearest lists, nearest first by `|y - c|^2 + bonus[list]`; all of them from
    /// `wanted = count` on.
    pub(crate) fn nearest(
        &self,
        kernel: Kernel,
        probe: &Probe,
        wanted: usize,
        scratch: &mut CoarseScratch,
        out: &mut Vec<Near>,
    ) {
        out.clear();
        self.estimate(kernel, probe, &mut scratch.estimates);
        let refined = (wanted + wanted / 8 + 8).min(self.count);
        let bound = self.bound(kernel, refined, scratch);
        let CoarseScratch { estimates, masks, order, distances, .. } = scratch;
        order.clear();
        masks.clear();
        kernel.vectorised(
            #[inline(always)]
            || masks.extend(estimates.as_chunks().0.iter().map(|block| up_to(block, bound))),
        );
        for (block, mask) in masks.iter().enumerate() {
            let mut left = mask & self.lists_of(block);
            while left != 0 {
                let list = block * BLOCK_ROWS + left.trailing_zeros() as usize;
                left &= left - 1;
                kernel.prefetch_whole(self.fine(list));
                order.push(list as u64);
            }
        }
        distances.resize(self.count, 0.0);
        for at in order.iter_mut() {
            #[expect(clippy::cast_possible_truncation, reason = "lists are few")]
            let list = *at as usize;
            distances[list] = self.distance_squared(kernel, probe, list);
            *at |= u64::from(ordered(distances[list] + self.bonus[list])) << 32;
        }
        order.sort_unstable();
        out.extend(order.iter().take(wanted.max(1)).map(|at| {
            #[expect(clippy::cast_possible_truncation, reason = "the low half is the list")]
            let list = *at as u32;
            let distance_squared = distances[list as usize];
            Near { key: distance_squared + self.bonus[list as usize], distance_squared, list }
        }));
    }

    /// The lists of a block of centroids, as a mask.
    fn lists_of(&self, block: usize) -> u32 {
        match self.count.saturating_sub(block * BLOCK_ROWS) {
            BLOCK_ROWS.. => u32::MAX,
            lists => (1 << lists) - 1,
        }
    }

    /// The fine code of a centroid.
    #[inline]
    fn fine(&self, list: usize) -> &[i8] {
        &self.fine[list * self.coded..(list + 1) * self.coded]
    }

    /// `|y - c|^2` by the fine code.
    #[inline]
    pub(crate) fn distance_squared(&self, kernel: Kernel, probe: &Probe, list: usize) -> f32 {
        let dot = kernel.dot_whole(&probe.whole, self.fine(list));
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let dot = dot as f32 * (probe.whole_step * self.fine_step[list]);
        (probe.norm_squared + self.norm_squared[list] - 2.0 * dot).max(0.0)
    }

    /// An estimate that at least `wanted` centroids do not exceed, and not many more.
    fn bound(&self, kernel: Kernel, wanted: usize, scratch: &mut CoarseScratch) -> f32 {
        if wanted == self.count {
            return f32::MAX;
        }
        let CoarseScratch { estimates, minima: of_chunks, .. } = scratch;
        if wanted * 2 > estimates.len() / 16 {
            return kernel.vectorised(
                #[inline(always)]
                || bound(estimates, wanted),
            );
        }
        kernel.vectorised(
            #[inline(always)]
            || minima(estimates, of_chunks),
        );
        // As many chunks as are wanted have one at or below it.
        unordered(*of_chunks.select_nth_unstable(wanted - 1).1)
    }

    fn estimate(&self, kernel: Kernel, probe: &Probe, out: &mut Vec<f32>) {
        out.resize(self.add.len(), 0.0);
        let table = &probe.table;
        let len = self.blocks.len() / self.add.len().max(1) * BLOCK_ROWS;
        let mut passed = [Passed::default(); MAX_BLOCKS];
        for (group, blocks) in self.blocks.chunks(len * MAX_BLOCKS).enumerate() {
            let count = blocks.len() / len;
            kernel.scan_blocks(
                blocks,
                &table.entries,
                &ALL,
                &[u32::MAX; MAX_BLOCKS][..count],
                &[],
                &mut passed,
            );
            let first = group * MAX_BLOCKS * BLOCK_ROWS;
            let range = first..first + count * BLOCK_ROWS;
            kernel.vectorised(
                #[inline(always)]
                || {
                    let (add, mul) =
                        (self.add[range.clone()].as_chunks().0, self.mul[range.clone()].as_chunks().0);
                    let (out, _) = out[range].as_chunks_mut();
                    for (at, passed) in passed[..count].iter().enumerate() {
                        for (half, sums) in [(2 * at, &passed.even), (2 * at + 1, &passed.odd)] {
                            let (add, mul): (&[f32; HALF], &[f32; HALF]) = (&add[half], &mul[half]);
                            let out: &mut [f32; HALF] = &mut out[half];
                            for i in 0..HALF {
                                out[i] = add[i] + mul[i] * (table.step * f32::from(sums[i]) + table.base);
                            }
                        }
                    }
                },
            );
        }
    }
}

/// Bit i: the estimate of centroid i of a block is at most `bound`.
#[inline(always)]
fn up_to(estimates: &[f32; BLOCK_ROWS], bound: f32) -> u32 {
    (0..BLOCK_ROWS).fold(0, |lists, at| lists | u32::from(estimates[at] <= bound) << row(at))
}

/// The smallest of every 16 estimates, as [`ordered`] has it.
#[inline(always)]
fn minima(estimates: &[f32], out: &mut Vec<u32>) {
    out.clear();
    out.extend(estimates.as_chunks::<16>().0.iter().map(|chunk| {
        let smaller = |a: f32, b: f32| if b < a { b } else { a };
        let eight: [f32; 8] = std::array::from_fn(|i| smaller(chunk[i], chunk[i + 8]));
        let four: [f32; 4] = std::array::from_fn(|i| smaller(eight[i], eight[i + 4]));
        ordered(smaller(smaller(four[0], four[2]), smaller(four[1], four[3])))
    }));
}

/// An estimate with about `wanted` (up to a quarter more) below it; the greatest number there is if there are not so many.
#[inline(always)]
pub(super) fn bound(estimates: &[f32], wanted: usize) -> f32 {
    let (mut low, mut high) = (f32::MAX, f32::MIN);
    for estimate in estimates {
        low = low.min(*estimate);
        high = high.max(if *estimate < f32::MAX { *estimate } else { f32::MIN });
    }
    let mut best = f32::MAX;
    for _ in 0..BISECTIONS {
        let middle = low + (high - low) * 0.5;
        let below: u32 = estimates.iter().map(|estimate| u32::from(*estimate < middle)).sum();
        let below = below as usize;
        if below < wanted {
            low = middle;
        } else {
            (high, best) = (middle, middle);
            if below <= wanted + wanted / 4 {
                break;
            }
        }
    }
    best
}

/// Where row `at` stands in arrays that follow the kernel's order.
fn place(at: usize) -> usize {
    let (block, row) = (at / BLOCK_ROWS, at % BLOCK_ROWS);
    block * BLOCK_ROWS + row / 2 + row % 2 * 16
}

/// The row at a place of such an array.
pub(super) fn row(place: usize) -> usize {
    let (block, at) = (place / BLOCK_ROWS, place % BLOCK_ROWS);
    block * BLOCK_ROWS + at % 16 * 2 + at / 16
}
