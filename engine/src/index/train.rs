//! Centroids: k-means on a sample of the rows, each round assigning through the codes of the round before.

use crate::distance::Kernel;
use crate::index::coarse::{Coarse, CoarseScratch};
use crate::index::code::Bits;
use crate::index::probe::Probe;
use crate::index::rows::CodeRows;

/// Sampled rows a list, and rounds: short codes gain from more.
fn effort(bits: Bits) -> (usize, usize) {
    match bits {
        Bits::One => (32, 4),
        Bits::Two => (64, 10),
    }
}

/// How many lists serve `rows` rows best: the multiple of 32 next to `3 sqrt(rows)`.
pub(crate) fn list_count(rows: usize) -> usize {
    let root = rows.isqrt();
    ((3 * root + 16) / 32 * 32).clamp(64, 4_096)
}

/// Row numbers to train on, drawn without repetition; the first `count` of them are the first centroids.
pub(crate) fn sample(rows: usize, count: usize, bits: Bits, seed: u64) -> Vec<u32> {
    let wanted = (effort(bits).0 * count).min(rows);
    let mut numbers: Vec<u32> = (0..u32::try_from(rows).expect("rows are u32")).collect();
    let mut state = seed;
    for at in 0..wanted {
        // Fisher and Yates, as far as it is needed.
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let other = at + ((u128::from(state >> 1) * (rows - at) as u128) >> 63) as usize;
        numbers.swap(at, other);
    }
    numbers.truncate(wanted);
    numbers
}

/// The mean of some rotated rows.
pub(crate) fn mean(rows: &CodeRows<'_>, sample: &[u32]) -> Vec<f32> {
    let mut sums = vec![0.0f64; rows.coded()];
    let mut rotated = vec![0.0; rows.coded()];
    for row in sample {
        rows.rotated(*row, &mut rotated);
        sums.iter_mut().zip(&rotated).for_each(|(sum, number)| *sum += f64::from(*number));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "rounding is what is meant"
    )]
    sums.iter().map(|sum| (sum / sample.len().max(1) as f64) as f32).collect()
}

/// `count` centroids of the sampled rows, less `mean`; `None` if the index is no longer wanted.
pub(crate) fn centroids(
    kernel: Kernel,
    bits: Bits,
    rows: &CodeRows<'_>,
    sample: &[u32],
    mean: &[f32],
    count: usize,
) -> Option<Vec<f32>> {
    let coded = rows.coded();
    let mut centroids = vec![0.0; count * coded];
    let mut rotated = vec![0.0; coded];
    for (centroid, row) in centroids.chunks_exact_mut(coded).zip(sample) {
        rows.rotated(*row, &mut rotated);
        centroid.iter_mut().zip(&rotated).zip(mean).for_each(|((c, x), m)| *c = x - m);
    }
    let (mut probe, mut scratch, mut near) = (Probe::default(), CoarseScratch::default(), Vec::new());
    for _ in 0..effort(bits).1 {
        let coarse = Coarse::new(kernel, bits, coded, &centroids);
        let mut sums = vec![0.0f32; count * coded];
        let mut sizes = vec![0u32; count];
        for (at, row) in (0u32..).zip(sample) {
            if !rows.go_on_at(at) {
                return None;
            }
            rows.rotated(*row, &mut rotated);
            probe.set(kernel, bits, &rotated, 1.0, mean);
            coarse.nearest(kernel, &probe, 1, &mut scratch, &mut near);
            let list = near[0].list as usize;
            sizes[list] += 1;
            let sums = &mut sums[list * coded..(list + 1) * coded];
            kernel.vectorised(
                #[inline(always)]
                || sums.iter_mut().zip(&probe.y).for_each(|(sum, y)| *sum += y),
            );
        }
        let means = centroids.chunks_exact_mut(coded).zip(sums.chunks_exact(coded)).zip(&sizes);
        for ((centroid, sums), size) in means {
            // A centroid that nobody is near stays where it is.
            if *size > 0 {
                #[expect(clippy::cast_precision_loss, reason = "a mean")]
                let share = 1.0 / *size as f32;
                centroid.iter_mut().zip(sums).for_each(|(c, sum)| *c = sum * share);
            }
        }
    }
    Some(centroids)
}
