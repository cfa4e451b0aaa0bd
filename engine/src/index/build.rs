//! Builds the index of a segment from its rows: centre and centroids, lists of codes, what each recall costs.

use crate::distance::Kernel;
use crate::index::assign::{self, Assigned};
use crate::index::block::Blocks;
use crate::index::calibrate;
use crate::index::coarse::Coarse;
use crate::index::code::{self, Bits, Factors};
use crate::index::lists::{List, Lists};
use crate::index::rotation::Rotation;
use crate::index::rows::CodeRows;
use crate::index::scan::NO_ROW;
use crate::index::train;
use crate::schema::Metric;

/// From this many rows on lists pay: below, a scan of all codes costs a search some microseconds more, and lists cost
/// twenty times as much to build.
const LISTS_FROM: usize = 32_768;
/// Rows that the mean is taken from.
const MEAN_ROWS: usize = 8_192;
/// Lists begin on multiples of this.
const ALIGN: usize = 64;
/// How much of a list's radius its place in the order counts.
const RADIUS_SHARE: f32 = 0.25;

/// An index and its codes.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) lists: Lists,
    pub(crate) codes: Vec<u8>,
}

/// Builds the index of `vectors`, by row number. `None` where exact search serves as well or better: no rows, a low
/// dimension, magnitudes that codes do not hold, in a small segment one that dwarfs the others; and soon after `go_on` says
/// that it is no longer wanted. The same rows, rotation and seed give the same bytes.
pub(crate) fn build(
    metric: Metric,
    rotation: &Rotation,
    vectors: &[&[f32]],
    seed: u64,
    go_on: &dyn Fn() -> bool,
) -> Option<Built> {
    build_from(LISTS_FROM, metric, rotation, vectors, seed, go_on)
}

/// As [`build`], always one list.
pub(super) fn build_flat(
    metric: Metric,
    rotation: &Rotation,
    vectors: &[&[f32]],
    seed: u64,
) -> Option<Built> {
    build_from(usize::MAX, metric, rotation, vectors, seed, &|| true)
}

/// As [`build`], with lists from so many rows on.
pub(super) fn build_from(
    lists_from: usize,
    metric: Metric,
    rotation: &Rotation,
    vectors: &[&[f32]],
    seed: u64,
    go_on: &dyn Fn() -> bool,
) -> Option<Built> {
    let kernel = Kernel::best();
    let dim = vectors.first()?.len();
    let bits = Bits::of(dim)?;
    let rows = CodeRows::new(kernel, metric, rotation, vectors, go_on)?;
    let mut making = Making::new(kernel, metric, bits, dim, rows);
    if rows.len() >= lists_from {
        let count = train::list_count(rows.len());
        let sample = train::sample(rows.len(), count, bits, seed);
        making.lists.mean = train::mean(&rows, &sample[..sample.len().min(MEAN_ROWS)]);
        let centroids = train::centroids(kernel, bits, &rows, &sample, &making.lists.mean, count)?;
        making.fill_lists(Coarse::new(kernel, bits, rows.coded(), &centroids))?;
    } else {
        let sample = train::sample(rows.len(), MEAN_ROWS, bits, seed);
        making.lists.mean = train::mean(&rows, &sample[..sample.len().min(MEAN_ROWS)]);
        making.fill_flat()?;
    }
    if !go_on() {
        return None;
    }
    let Making { mut lists, codes, stats, .. } = making;
    stats.settle(&mut lists);
    lists.calibrated = calibrate::calibrate(kernel, &lists, &codes, rotation, &rows, seed);
    Some(Built { lists, codes })
}

/// An index half made.
struct Making<'a> {
    kernel: Kernel,
    rows: CodeRows<'a>,
    lists: Lists,
    codes: Vec<u8>,
    stats: Stats,
    rotated: Vec<f32>,
    nibbles: Vec<u8>,
}

impl<'a> Making<'a> {
    fn new(kernel: Kernel, metric: Metric, bits: Bits, dim: usize, rows: CodeRows<'a>) -> Self {
        let lists = Lists {
            metric,
            dim,
            bits,
            rows: u32::try_from(rows.len()).expect("rows are u32"),
            code_error: 0.0,
            mul_ratio: 0.0,
            row_norm: 0.0,
            mean: Vec::new(),
            coarse: None,
            lists: Vec::new(),
            calibrated: Vec::new(),
        };
        let (rotated, nibbles) = (vec![0.0; rows.coded()], vec![0; bits.nibbles(rows.coded())]);
        Self { kernel, rows, lists, codes: Vec::new(), stats: Stats::default(), rotated, nibbles }
    }

    fn fill_flat(&mut self) -> Option<()> {
        let centre = vec![0.0; self.rows.coded()];
        let rows: Vec<u32> = (0..self.lists.rows).collect();
        self.push_list(&rows, &[], &centre, false)
    }

    fn fill_lists(&mut self, coarse: Coarse) -> Option<()> {
        let assigned = assign::assign(self.kernel, self.lists.bits, &self.rows, &self.lists.mean, &coarse)?;
        let members = Members::of(&assigned, coarse.count);
        let order: Vec<u32> = assign::chain(self.kernel, &coarse)
            .into_iter()
            .filter(|list| {
                !members.first.in_list(*list).is_empty() || !members.second.in_list(*list).is_empty()
            })
            .collect();
        let mut centre = vec![0.0; self.rows.coded()];
        let mut centroids = Vec::with_capacity(order.len() * self.rows.coded());
        for list in &order {
            coarse.centroid(*list as usize, &mut centre);
            centroids.extend_from_slice(&centre);
            let primaries = members.first.in_list(*list);
            let copies = assign::kept(primaries.len(), members.second.in_list(*list), &assigned.worth);
            self.push_list(primaries, &copies, &centre, true)?;
        }
        // The fine codes of fine codes are the same: what was encoded is what searches see.
        let mut coarse = Coarse::new(self.kernel, self.lists.bits, self.rows.coded(), &centroids);
        let dot = self.lists.metric == Metric::Dot;
        let mean = &self.lists.mean;
        let bonus = self.lists.lists.iter().enumerate().map(|(list, of)| {
            if !dot {
                return RADIUS_SHARE * of.radius_squared;
            }
            // Ordered by the inner product with the centroid where it lies, of which the mean is a part.
            coarse.centroid(list, &mut centre);
            let along_mean: f32 = mean.iter().zip(&centre).map(|(mean, number)| mean * number).sum();
            -(coarse.norm_squared[list] + 2.0 * along_mean)
        });
        let bonus = bonus.collect();
        coarse.set_bonus(bonus);
        self.lists.coarse = Some(coarse);
        Some(())
    }

    fn push_list(&mut self, primaries: &[u32], copies: &[u32], centre: &[f32], numbered: bool) -> Option<()> {
        let mut blocks = Blocks::new(self.nibbles.len());
        let mut squares = 0.0f64;
        for (at, row) in (0u32..).zip(primaries.iter().chain(copies)) {
            if !self.rows.go_on_at(at) {
                return None;
            }
            let factors = self.encode(*row, centre);
            squares += f64::from(factors.norm_squared);
            self.stats.note(factors);
            let norm_squared = self.rows.norm_squared(*row);
            self.stats.note_norm(norm_squared);
            let mut stored = factors;
            if self.lists.metric == Metric::Dot {
                stored.add -= norm_squared;
            }
            blocks.push(&self.nibbles, stored);
        }
        // One list of everything has one scale; where there are many, those of the others are their own.
        if !numbered && blocks.is_uneven() {
            return None;
        }
        let (bytes, scales) = blocks.finish();
        let count = primaries.len() + copies.len();
        let offset = self.codes.len().next_multiple_of(ALIGN);
        self.codes.resize(offset, 0);
        self.codes.extend_from_slice(&bytes);
        if numbered {
            let padding = std::iter::repeat_n(&NO_ROW, count.next_multiple_of(32) - count);
            let numbers = primaries.iter().chain(copies).chain(padding);
            self.codes.extend(numbers.flat_map(|row| row.to_le_bytes()));
        }
        let small = |n: usize| u32::try_from(n).expect("rows are u32");
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a mean")]
        let radius_squared = (squares / count.max(1) as f64) as f32;
        self.lists.lists.push(List {
            offset: offset as u64,
            blocks: small(count.div_ceil(32)),
            primaries: small(primaries.len()),
            copies: small(copies.len()),
            scales,
            radius_squared,
            crc32: crc32fast::hash(&self.codes[offset..]),
        });
        Some(())
    }

    /// Leaves the nibbles of the row's code in `self.nibbles`.
    fn encode(&mut self, row: u32, centre: &[f32]) -> Factors {
        self.rows.rotated(row, &mut self.rotated);
        let (rotated, mean, bits) = (&mut self.rotated, &self.lists.mean, self.lists.bits);
        let nibbles = &mut self.nibbles;
        self.kernel.vectorised(
            #[inline(always)]
            || {
                for ((x, mean), centre) in rotated.iter_mut().zip(mean).zip(centre) {
                    *x -= mean + centre;
                }
                code::encode(bits, rotated, centre, nibbles)
            },
        )
    }
}

/// The rows of every list, first and second.
struct Members {
    first: Grouped,
    second: Grouped,
}

impl Members {
    fn of(assigned: &Assigned, lists: usize) -> Self {
        let first = Grouped::of(lists, assigned.first.iter().copied());
        let pairs = assigned.first.iter().zip(&assigned.second);
        // A row has no copy where both lists are one.
        let second = Grouped::of(lists, pairs.map(|(a, b)| if a == b { NO_ROW } else { *b }));
        Self { first, second }
    }
}

/// Row numbers by list, ascending.
struct Grouped {
    starts: Vec<usize>,
    rows: Vec<u32>,
}

impl Grouped {
    /// Groups rows by the list each is given; [`NO_ROW`] is none.
    fn of(lists: usize, given: impl Iterator<Item = u32> + Clone) -> Self {
        let mut starts = vec![0; lists + 1];
        given.clone().filter(|list| *list != NO_ROW).for_each(|list| starts[list as usize + 1] += 1);
        (0..lists).for_each(|list| starts[list + 1] += starts[list]);
        let mut next = starts.clone();
        let mut rows = vec![0; starts[lists]];
        for (row, list) in (0u32..).zip(given).filter(|(_, list)| *list != NO_ROW) {
            rows[next[list as usize]] = row;
            next[list as usize] += 1;
        }
        Self { starts, rows }
    }

    fn in_list(&self, list: u32) -> &[u32] {
        &self.rows[self.starts[list as usize]..self.starts[list as usize + 1]]
    }
}

/// What the codes came out like.
#[derive(Debug, Default)]
struct Stats {
    codes: f64,
    cos_squared: f64,
    mul_ratio: f64,
    norms: f64,
}

impl Stats {
    fn note(&mut self, factors: Factors) {
        if factors.mul != 0.0 {
            self.codes += 1.0;
            self.cos_squared += f64::from(factors.cos_squared);
            self.mul_ratio += f64::from(factors.mul.abs()) / f64::from(factors.norm_squared).sqrt();
        }
    }

    fn note_norm(&mut self, norm_squared: f32) {
        self.norms += f64::from(norm_squared);
    }

    #[expect(clippy::cast_possible_truncation, reason = "means")]
    fn settle(&self, lists: &mut Lists) {
        let codes = self.codes.max(1.0);
        let cos_squared = (self.cos_squared / codes).clamp(1e-6, 1.0);
        lists.code_error = ((1.0 - cos_squared) / cos_squared).sqrt() as f32;
        lists.mul_ratio = (self.mul_ratio / codes) as f32;
        lists.row_norm = (self.norms / f64::from(lists.slots().max(1))).sqrt() as f32;
    }
}
