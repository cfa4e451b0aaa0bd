//! Which lists a row goes to: the nearest, and a second one that errs in another direction (SOAR, Sun et al., NeurIPS
//! 2023), so that a query near the first list's edge finds the row from the other side.

use crate::distance::Kernel;
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
}

/// Assigns every row; `None` if the index is no longer wanted.
pub(crate) fn assign(
    kernel: Kernel,
    bits: Bits,
    rows: &CodeRows<'_>,
    mean: &[f32],
    coarse: &Coarse,
) -> Option<Assigned> {
    let mut assigned =
        Assigned { first: Vec::with_capacity(rows.len()), second: Vec::with_capacity(rows.len()) };
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
        let second = spill(kernel, coarse, &probe, &near, &mut residuals);
        assigned.first.push(near[0].list);
        assigned.second.push(second);
    }
    Some(assigned)
}

/// The list that minimises `|r2|^2 + LAMBDA <r2, r1>^2 / |r1|^2` over all but the first.
fn spill(
    kernel: Kernel,
    coarse: &Coarse,
    probe: &Probe,
    near: &[Near],
    residuals: &mut [Vec<f32>; 2],
) -> u32 {
    let [first, other] = residuals;
    coarse.centroid(near[0].list as usize, first);
    kernel.vectorised(
        #[inline(always)]
        || first.iter_mut().zip(&probe.y).for_each(|(c, y)| *c = y - *c),
    );
    let first_squared = code::sum(first, first, |a, b| a * b).max(f32::MIN_POSITIVE);
    let mut best = (f32::INFINITY, near[0].list);
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
        if cost < best.0 {
            best = (cost, near.list);
        }
    }
    best.1
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
