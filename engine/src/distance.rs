//! How near two vectors are: one score a row, higher is nearer, always a finite number.
//!
//! Sums run in f32 over 32 lanes. Where f32 cannot hold them (a sum that overflows, norms far from 1) that row is
//! computed again in f64, so no magnitude of finite input gives NaN, infinity or a false tie.

pub(crate) mod codes;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod simd;

use crate::schema::Metric;

#[cfg(test)]
mod tests;

/// Squared norms for which `<q,x>` with a query of norm 1..2 loses nothing in f32.
const NORM_SQUARED: std::ops::RangeInclusive<f32> = 1e-24..=1e24;
/// Squared distances that neither lost small terms nor overflowed.
const DISTANCE_SQUARED: std::ops::RangeInclusive<f32> = 1e-30..=f32::MAX;

/// The code that sums. All kinds add in the same order; with fused multiply-add the products are not rounded, so
/// results of two kinds differ by at most `(d/32 + 8) * 2^-23 * sum(|terms|)`: for sums of squares that is d/32 + 8
/// units in the last place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kernel {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(simd::Avx2),
}

impl Kernel {
    /// The fastest this machine runs.
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = simd::Avx2::detect() {
            return Self::Avx2(avx2);
        }
        Self::Scalar
    }

    /// All this machine runs, the plain one first.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let kernels = vec![
            Self::Scalar,
            #[cfg(target_arch = "x86_64")]
            simd::Avx2::detect().map_or(Self::Scalar, |avx2| Self::Avx2(avx2.narrow())),
            Self::best(),
        ];
        println!("kernels: {kernels:?}");
        kernels
    }

    /// Runs plain code compiled for this kernel's instructions, as far as `f` and what it calls are inlined. Products
    /// and sums keep their order and are not fused, so every kernel gives the same bits.
    #[inline]
    pub(crate) fn vectorised<R>(self, f: impl FnOnce() -> R) -> R {
        match self {
            Self::Scalar => f(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.vectorised(f),
        }
    }

    /// Says that a vector will be read soon.
    #[inline]
    pub(crate) fn prefetch(self, numbers: &[f32]) {
        match self {
            Self::Scalar => {}
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.prefetch(numbers),
        }
    }

    /// Says that whole numbers will be read soon.
    #[inline]
    pub(crate) fn prefetch_whole(self, numbers: &[i8]) {
        match self {
            Self::Scalar => {}
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.prefetch_near(numbers),
        }
    }

    /// Says that bytes will be read soon.
    #[inline]
    pub(crate) fn prefetch_bytes(self, bytes: &[u8]) {
        match self {
            Self::Scalar => {}
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.prefetch_bytes(bytes),
        }
    }

    /// `sum(a * b)`
    pub(crate) fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        match self {
            Self::Scalar => scalar::dot(a, b),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.dot(a, b),
        }
    }

    /// `sum((a - b)^2)`
    fn l2_squared(self, a: &[f32], b: &[f32]) -> f32 {
        match self {
            Self::Scalar => scalar::l2_squared(a, b),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.l2_squared(a, b),
        }
    }

    /// `sum(q * x)` and `sum(x^2)` in one pass over x.
    fn dot_and_norm(self, q: &[f32], x: &[f32]) -> (f32, f32) {
        match self {
            Self::Scalar => scalar::dot_and_norm(q, x),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.dot_and_norm(q, x),
        }
    }
}

/// A query made ready to score rows of its dimension.
#[derive(Clone, Debug)]
pub(crate) struct Scorer {
    metric: Metric,
    /// Under cosine scaled by a power of two, which changes no angle, to a norm of 1..2.
    query: Box<[f32]>,
    /// Norm of `query`; 0 only for a query of zeros, which scores 0 everywhere.
    query_norm: f32,
    kernel: Kernel,
}

impl Scorer {
    /// A scorer for finite numbers.
    pub(crate) fn new(metric: Metric, query: &[f32]) -> Self {
        Self::with_kernel(metric, query, Kernel::best())
    }

    fn with_kernel(metric: Metric, query: &[f32], kernel: Kernel) -> Self {
        let norm = norm(query);
        if metric != Metric::Cosine || norm == 0.0 {
            return Self { metric, query: query.into(), query_norm: 0.0, kernel };
        }
        let scale = (-norm.log2().floor()).exp2();
        let query = query.iter().map(|x| to_f32(f64::from(*x) * scale)).collect();
        Self { metric, query, query_norm: to_f32(norm * scale), kernel }
    }

    /// Numbers in a row.
    pub(crate) fn dim(&self) -> usize {
        self.query.len()
    }

    /// The score of a row: cosine in -1..=1, the inner product, or minus the Euclidean distance.
    ///
    /// # Panics
    /// If the row has another dimension than the query.
    pub(crate) fn score(&self, row: &[f32]) -> f32 {
        match self.metric {
            Metric::Cosine => self.cosine(row),
            Metric::Dot => self.inner_product(row),
            Metric::L2 => self.minus_distance(row),
        }
    }

    /// The scores of many rows that lie one behind the other.
    ///
    /// # Panics
    /// If `rows` are not `out.len()` rows of the query's dimension.
    pub(crate) fn scores_into(&self, rows: &[f32], out: &mut [f32]) {
        assert_eq!(rows.len(), out.len() * self.dim(), "numbers in a block of rows");
        let pairs = rows.chunks_exact(self.dim().max(1)).zip(out);
        match self.metric {
            Metric::Cosine => pairs.for_each(|(row, score)| *score = self.cosine(row)),
            Metric::Dot => pairs.for_each(|(row, score)| *score = self.inner_product(row)),
            Metric::L2 => pairs.for_each(|(row, score)| *score = self.minus_distance(row)),
        }
    }

    fn cosine(&self, row: &[f32]) -> f32 {
        let (dot, norm_squared) = self.kernel.dot_and_norm(&self.query, row);
        if self.query_norm == 0.0 {
            return 0.0;
        }
        if NORM_SQUARED.contains(&norm_squared) {
            return (dot / (self.query_norm * norm_squared.sqrt())).clamp(-1.0, 1.0);
        }
        let row_norm = norm(row);
        if row_norm == 0.0 {
            return 0.0;
        }
        to_f32(wide_dot(&self.query, row) / (f64::from(self.query_norm) * row_norm)).clamp(-1.0, 1.0)
    }

    fn inner_product(&self, row: &[f32]) -> f32 {
        let dot = self.kernel.dot(&self.query, row);
        if dot.is_finite() { dot } else { to_f32(wide_dot(&self.query, row)).clamp(f32::MIN, f32::MAX) }
    }

    fn minus_distance(&self, row: &[f32]) -> f32 {
        let squared = self.kernel.l2_squared(&self.query, row);
        if DISTANCE_SQUARED.contains(&squared) {
            return -squared.sqrt();
        }
        let differences = self.query.iter().zip(row).map(|(a, b)| f64::from(*a) - f64::from(*b));
        let distance = differences.map(|x| x * x).sum::<f64>().sqrt();
        // From zero, so that no distance is 0 and not -0.
        to_f32(0.0 - distance).max(f32::MIN)
    }
}

fn norm(vector: &[f32]) -> f64 {
    wide_dot(vector, vector).sqrt()
}

/// In lanes, each summed for itself: one sum after the other would wait for every addition.
fn wide_dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 16;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f64; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    sums.iter().sum::<f64>() + rest
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is asked for")]
fn to_f32(x: f64) -> f32 {
    x as f32
}
