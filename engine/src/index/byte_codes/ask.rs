//! A query against codes of a byte a number: between which scores each row lies, and which rows that leaves open.

use super::{ByteCodes, NOTHING, UNDERFLOW, WIDE_ROUNDING, product, rounding, steps, whole};
use crate::distance::Kernel;
use crate::distance::codes::WHOLE_STEP;
use crate::schema::Metric;
use crate::topk::TopK;

/// A query's whole numbers reach from minus this to this.
const QUERY_TOP: f64 = 4_095.0;
/// Rows whose bounds are computed at a time: they stay in the first cache.
const BLOCK_ROWS: usize = 256;

/// A row that may be among the best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Open {
    /// Its score is not above this.
    pub(crate) most: f64,
    pub(crate) row: u32,
}

/// A query made ready.
struct Asked {
    whole: Vec<i16>,
    bounds: Bounds,
}

/// How what is kept of a row and its `<w,c>` bound its score.
#[derive(Clone, Copy)]
enum Bounds {
    /// Around `base + of_along * along_mean + step * scale * <w,c>`.
    Product { base: f64, of_along: f64, step: f64, of_error: f64, of_reach: f64, always: f64 },
    /// Around the distance of `t w`, of this squared norm, from `s c`.
    Distance { norm_squared: f64, step: f64, always: f64, rounding: f64 },
}

impl ByteCodes {
    /// The rows that may be among the `k` best by the scores of [`Scorer`](crate::distance::Scorer), the one whose score may be
    /// highest first: all that `alive` says live but such as `k` of those surpass for sure. `None` where the codes say nothing of the query.
    pub(crate) fn open(
        &self,
        kernel: Kernel,
        query: &[f32],
        k: usize,
        alive: impl Fn(u32) -> bool,
    ) -> Option<Vec<Open>> {
        let asked = self.ask(kernel, query)?;
        let mut sure: TopK<u32, ()> = TopK::new(k);
        let mut open: Vec<Open> = Vec::new();
        let (mut dots, mut least, mut most) =
            ([0i32; BLOCK_ROWS], [0.0f64; BLOCK_ROWS], [0.0f64; BLOCK_ROWS]);
        for (block, rows) in self.rows.chunks(BLOCK_ROWS).enumerate() {
            let (first, len) = (block * BLOCK_ROWS, rows.len());
            let codes = &self.codes[first * asked.whole.len()..][..len * asked.whole.len()];
            kernel.dots_whole(&asked.whole, codes, &mut dots[..len]);
            kernel.vectorised(
                #[inline(always)]
                || self.bound(asked.bounds, first, &dots[..len], &mut least, &mut most),
            );
            let mut limit = limit(&sure);
            for ((row, least), most) in rows.iter().zip(&least).zip(&most) {
                if *most >= limit && alive(*row) {
                    open.push(Open { most: *most, row: *row });
                    sure.push(below(*least), *row, ());
                    limit = self::limit(&sure);
                }
            }
        }
        let limit = limit(&sure);
        open.retain(|open| open.most >= limit);
        open.sort_unstable_by(|a, b| b.most.total_cmp(&a.most));
        Some(open)
    }

    fn ask(&self, kernel: Kernel, query: &[f32]) -> Option<Asked> {
        assert_eq!(query.len(), self.mean.len(), "numbers of a query");
        let mut y: Vec<f64> = query.iter().map(|x| f64::from(*x)).collect();
        let mut whole_numbers = vec![0i16; query.len().next_multiple_of(WHOLE_STEP)];
        let bounds = kernel.vectorised(
            #[inline(always)]
            || self.bounds(&mut y, &mut whole_numbers),
        )?;
        Some(Asked { whole: whole_numbers, bounds })
    }

    /// The bounds of every row.
    #[cfg(test)]
    pub(in crate::index) fn every_bound(&self, query: &[f32]) -> Vec<(f64, f64)> {
        let Some(asked) = self.ask(Kernel::best(), query) else { return Vec::new() };
        let len = self.rows.len();
        let (mut dots, mut least, mut most) = (vec![0; len], vec![0.0; len], vec![0.0; len]);
        Kernel::Scalar.dots_whole(&asked.whole, &self.codes, &mut dots);
        self.bound(asked.bounds, 0, &dots, &mut least, &mut most);
        least.into_iter().zip(most).collect()
    }

    /// Writes the whole numbers of the query `y` to `whole_numbers`.
    #[inline(always)]
    fn bounds(&self, y: &mut [f64], whole_numbers: &mut [i16]) -> Option<Bounds> {
        let norm = product(y, y).sqrt();
        if self.metric == Metric::Cosine && norm == 0.0 {
            return None;
        }
        let (mean_norm, along) = (product(&self.mean, &self.mean).sqrt(), product(y, &self.mean));
        let of_mean = match self.metric {
            Metric::L2 => 1.0,
            Metric::Cosine | Metric::Dot if mean_norm > NOTHING => along / (mean_norm * mean_norm),
            Metric::Cosine | Metric::Dot => 0.0,
        };
        y.iter_mut().zip(&self.mean).for_each(|(y, mean)| *y -= of_mean * mean);
        let (step, inverse) = steps(y, QUERY_TOP);
        for (w, y) in whole_numbers.iter_mut().zip(&*y) {
            *w = whole(y * inverse);
        }
        let (mut squares, beside) = (0.0, product(y, y).sqrt());
        for (y, w) in y.iter_mut().zip(&*whole_numbers) {
            let w = f64::from(*w);
            squares += w * w;
            *y -= step * w;
        }
        let (left, rounding) = (product(y, y).sqrt(), rounding(y.len()));
        if self.metric == Metric::L2 {
            let always = left + (norm + mean_norm) * WIDE_ROUNDING;
            return Some(Bounds::Distance { norm_squared: step * step * squares, step, always, rounding });
        }
        // Scores are those of the query, or of the query of norm 1.
        let unit = if self.metric == Metric::Cosine { norm } else { 1.0 };
        let slack = norm / unit * (rounding + WIDE_ROUNDING);
        Some(Bounds::Product {
            base: along / unit,
            of_along: of_mean / unit,
            step: step / unit,
            of_error: beside / unit + slack,
            of_reach: left / unit + slack,
            always: slack * mean_norm + UNDERFLOW,
        })
    }

    /// The least and the most that the scores of the rows from `first` on can be, whose `<w,c>` are `dots`.
    #[inline(always)]
    fn bound(&self, bounds: Bounds, first: usize, dots: &[i32], least: &mut [f64], most: &mut [f64]) {
        let len = dots.len();
        let (scales, errors) = (&self.scales[first..][..len], &self.errors[first..][..len]);
        let (reaches, along_mean) = (&self.reaches[first..][..len], &self.along_mean[first..][..len]);
        let (least, most) = (&mut least[..len], &mut most[..len]);
        match bounds {
            Bounds::Product { base, of_along, step, of_error, of_reach, always } => {
                for at in 0..len {
                    let estimate = base + of_along * along_mean[at] + step * scales[at] * f64::from(dots[at]);
                    let width = of_error * errors[at] + of_reach * reaches[at] + always;
                    (least[at], most[at]) = (estimate - width, estimate + width);
                }
            }
            Bounds::Distance { norm_squared, step, always, rounding } => {
                for at in 0..len {
                    let norms = norm_squared + reaches[at] * reaches[at];
                    let squared = norms - 2.0 * step * scales[at] * f64::from(dots[at]);
                    let slack = norms * WIDE_ROUNDING;
                    let width = errors[at] + reaches[at] * WIDE_ROUNDING + always;
                    let near = ((squared - slack).max(0.0).sqrt() - width).max(0.0);
                    let far = (squared + slack).max(0.0).sqrt() + width;
                    least[at] = -far * (1.0 + rounding) - UNDERFLOW;
                    most[at] = -near * (1.0 - rounding) + UNDERFLOW;
                }
            }
        }
        // Scores end where f32 ends, and their bounds with them.
        for (least, most) in least.iter_mut().zip(most) {
            *least = least.min(f64::from(f32::MAX));
            *most = most.max(f64::from(f32::MIN));
        }
    }
}

/// What a row must be able to reach to be among the best.
#[inline]
fn limit(sure: &TopK<u32, ()>) -> f64 {
    sure.threshold().map_or(f64::NEG_INFINITY, f64::from)
}

/// A score that is not above this.
#[expect(clippy::cast_possible_truncation, reason = "the next below what it is rounded to is not above it")]
fn below(least: f64) -> f32 {
    (least as f32).next_down().max(f32::MIN)
}
