//! Which lists a row goes to: the nearest, and a second one that errs in another direction (SOAR, Sun et al., NeurIPS
//! 2023), so that a query near the first list's edge finds the row from the other side.

use crate::distance::Kernel;
use crate::distance::codes::BLOCK_ROWS;
use crate::index::coarse::{Coarse, CoarseScratch, Near};
use crate::index::code::{self, Bits};
use crate::index::probe::Probe;
use crate::index::rows::CodeRows;

/// Lists the second one is chosen among.
const AMONG: usize = 12;
/// How much a residual along the first list's counts.
const LAMBDA: f32 = 1.5;

/// First and second list of every row.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(crate) first: Vec<u32>,
    /// The same as the first where there is only one list.
    pub(crate) second: Vec<u32>,
    /// What a row's place in its second list is worth: how much farther the first one is than the second seems.
    pub(crate) worth: Vec<f32>,
}

/// Assigns every row; `None` if the index is no longer wanted.
pub(crate) fn assign(
    kernel: Kernel,
    bits: Bits,
    rows: &CodeRows<'_>,
    mean: &[f32],
    coarse: &Coarse,
) -> Option<Assigned> {
    let count = rows.len();
    let mut assigned = Assigned {
        first: Vec::with_capacity(count),
        second: Vec::with_capacity(count),
        worth: Vec::with_capacity(count),
    };
    let mut rotated = vec![0.0; rows.coded()];
    let (mut probe, mut scratch, mut near) = (Probe::default(), CoarseScratch::default(), Vec::new());
    let mut residuals = [vec![0.0; rows.coded()], vec![0.0; rows.coded()]];
    for row in 0..u32::try_from(rows.len()).expect("rows are u32") {
        if !rows.go_on_at(row) {
            return None;
        }
        rows.rotated(row, &mut rotated);
        probe.set(kernel, bits, &rotated, 1.0, mean);
        coarse.nearest(kernel, &probe, AMONG, &mut scratch, &mut near);
        let (second, cost) = spill(kernel, coarse, &probe, &near, &mut residuals);
        assigned.first.push(near[0].list);
        assigned.second.push(second);
        assigned.worth.push(near[0].distance_squared / cost.max(f32::MIN_POSITIVE));
    }
    Some(assigned)
}

/// The list that minimises `|r2|^2 + LAMBDA <r2, r1>^2 / |r1|^2` over all but the first, and what that is.
fn spill(
    kernel: Kernel,
    coarse: &Coarse,
    probe: &Probe,
    near: &[Near],
    residuals: &mut [Vec<f32>; 2],
) -> (u32, f32) {
    let [first, other] = residuals;
    coarse.centroid(near[0].list as usize, first);
    kernel.vectorised(
        #[inline(always)]
        || first.iter_mut().zip(&probe.y).for_each(|(c, y)| *c = y - *c),
    );
    let first_squared = code::sum(first, first, |a, b| a * b).max(f32::MIN_POSITIVE);
    let mut best = (near[0].list, f32::INFINITY);
    for near in &near[1..] {
        coarse.centroid(near.list as usize, other);
        let along = kernel.vectorised(
            #[inline(always)]
            || {
                other.iter_mut().zip(&probe.y).for_each(|(c, y)| *c = y - *c);
                code::sum(first, other, |a, b| a * b)
            },
        );
        let cost = near.distance_squared + LAMBDA * along * along / first_squared;
        if cost < best.1 {
            best = (near.list, cost);
        }
    }
    best
}

/// The copies of a list that are kept beside so many rows of its own, in order. Where the last block would be filled by
/// half at most, those of most worth that fill the blocks before it: a block is read and stored whole. All of them where
/// there is no block before it, or it holds rows of the list's own.
pub(crate) fn kept(primaries: usize, copies: &[u32], worth: &[f32]) -> Vec<u32> {
    let mut kept = copies.to_vec();
    let slots = primaries + copies.len();
    let odd = slots % BLOCK_ROWS;
    if odd > BLOCK_ROWS / 2 || odd > copies.len() || slots < BLOCK_ROWS {
        return kept;
    }
    kept.sort_unstable_by(|a, b| worth[*b as usize].total_cmp(&worth[*a as usize]).then(a.cmp(b)));
    kept.truncate(copies.len() - odd);
    kept.sort_unstable();
    kept
}

/// An order of the lists in which neighbours lie together: a chain from each list to the nearest one left.
pub(crate) fn chain(kernel: Kernel, coarse: &Coarse) -> Vec<u32> {
    let coded = coarse.coded;
    let mut centroids = vec![0.0; coarse.count * coded];
    centroids.chunks_exact_mut(coded).enumerate().for_each(|(list, out)| coarse.centroid(list, out));
    let of = |list: usize| &centroids[list * coded..(list + 1) * coded];
    let mut left: Vec<usize> = (1..coarse.count).collect();
    let mut order = vec![0u32];
    let mut last = 0;
    while !left.is_empty() {
        let distances = left.iter().map(|list| {
            kernel.vectorised(
                #[inline(always)]
                || code::sum(of(last), of(*list), |a, b| (a - b) * (a - b)),
            )
        });
        let next = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(at, _)| at);
        last = left.swap_remove(next);
        order.push(u32::try_from(last).expect("lists are few"));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_filled_by_half_at_most_is_given_up_for_the_copies_of_least_worth() {
        let worth: Vec<f32> = (0u8..64).map(|row| f32::from(row % 8)).collect();
        let copies: Vec<u32> = (0..40).collect();
        assert_eq!(kept(40, &copies, &worth).len(), 24, "80 slots are two blocks and a half");
        assert_eq!(kept(40, &copies[..24], &worth), copies[..24], "what fills its blocks stays");
        assert_eq!(kept(41, &copies, &worth), copies, "and so does more than half a block");
        assert_eq!(kept(32, &copies[..9], &worth), [0; 0]);
        assert_eq!(kept(39, &copies[..9], &worth), copies[..9], "rows of its own do not go");
        assert_eq!(kept(5, &copies[..9], &worth), copies[..9], "nor does the only block");
        let three_gone: Vec<u32> = (0..19).filter(|row| ![0, 8, 16].contains(row)).collect();
        assert_eq!(kept(48, &copies[..19], &worth), three_gone, "ascending, without those of least worth");
    }
}
