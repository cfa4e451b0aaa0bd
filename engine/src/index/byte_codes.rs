//! Codes of a byte a number for some rows of a segment, each with what it leaves out: a scan of them proves which rows cannot
//! be among the best, so that an exact search reads few vectors. They live in memory alone.
//!
//! Of a row `x` (under cosine of `x / |x|`) a code keeps whole numbers `c` and a scale `s`: with the mean `m` of the rows
//! `x = m + s c + r`. `|r|` and `<m,x-m>` are kept as they are. A query `q` less its part along the mean, `y = q - b m`, becomes
//! `t w + p` of whole numbers `w` likewise. Then `<q,x> = <q,m> + b <m,x-m> + s t <w,c> + s <p,c> + <y,r>`, whatever `b` is, and by
//! Cauchy and Schwarz the last two are within `|p| |s c|` and `|y| |r|`. Under L2 `y` is `q - m`, and `|q-x|` differs from
//! `|t w - s c|` by `|p| + |r|` at most.
//!
//! What is compared with these bounds is the score as [`Scorer`](crate::distance::Scorer) computes it in f32. Its sums of `d`
//! products in 32 lanes are off by less than `(d/32 + 8) * 2^-23 * |q| |x|`; a cosine's norms and quotient and a distance's
//! differences and root add less than as much and some units: all within `(d/32 + 32) * 2^-22` of `|q| |x|`, of 1 and of
//! the distance ([`rounding`]). `|x|` is at most `|m| + |s c| + |r|`. Products below the smallest normal number lose `d * 2^-149`
//! at most ([`UNDERFLOW`]). All else here is f64: sums of 4,096 numbers and what follows of them are off by less than 2^-40 of
//! the norms they are made of ([`WIDE_ROUNDING`]).

use crate::distance::Kernel;
use crate::distance::codes::WHOLE_STEP;
use crate::schema::Metric;

mod ask;

/// Codes reach from minus this to this: with a query of numbers up to 4,095 the sum of 4,096 products fits 32 bits.
const CODE_TOP: f64 = 127.0;
/// More than what sums, products and roots in f64 are off by, of the norms that go into them: 2^-40.
const WIDE_ROUNDING: f64 = f64::from_bits((1023 - 40) << 52);
/// More than what products of f32 lose below the smallest normal number: 2^-130.
const UNDERFLOW: f64 = f64::from_bits((1023 - 130) << 52);
/// Numbers of which none is larger are taken for zeros: the square of a smaller one would be lost, and f32 has none.
const NOTHING: f64 = 1e-140;

/// More than the share by which an exact score is off: of the product of the norms, of 1, of the distance.
#[expect(clippy::cast_precision_loss, reason = "at most 4096")]
fn rounding(dim: usize) -> f64 {
    (dim as f64 / 32.0 + 32.0) / f64::from(1 << 22)
}

/// The codes of some rows.
#[derive(Debug)]
pub(crate) struct ByteCodes {
    metric: Metric,
    /// As many numbers as a vector has.
    mean: Vec<f64>,
    /// Of each row as many as a vector has, then zeros up to a whole step.
    codes: Vec<i8>,
    rows: Vec<u32>,
    scales: Vec<f64>,
    /// `<m,x-m>`
    along_mean: Vec<f64>,
    /// `|r|`
    errors: Vec<f64>,
    /// `|s c|`
    reaches: Vec<f64>,
}

impl ByteCodes {
    /// Bytes on the heap of what [`ByteCodes::new`] makes.
    pub(crate) fn bytes_for(rows: u32, dim: usize) -> u64 {
        let row = dim.next_multiple_of(WHOLE_STEP) + size_of::<u32>() + 4 * size_of::<f64>();
        u64::from(rows) * row as u64 + (dim * size_of::<f64>()) as u64
    }

    /// Encodes `vectors`, finite numbers, which are those of `rows`, ascending.
    pub(crate) fn new(metric: Metric, rows: Vec<u32>, vectors: &[&[f32]]) -> Self {
        assert_eq!(rows.len(), vectors.len(), "a vector for each row");
        let (len, dim) = (rows.len(), vectors.first().map_or(0, |vector| vector.len()));
        let mut codes = Self {
            metric,
            mean: vec![0.0; dim],
            codes: Vec::with_capacity(len * dim.next_multiple_of(WHOLE_STEP)),
            rows,
            scales: Vec::with_capacity(len),
            along_mean: Vec::with_capacity(len),
            errors: Vec::with_capacity(len),
            reaches: Vec::with_capacity(len),
        };
        let (kernel, mut row) = (Kernel::best(), vec![0.0; dim]);
        kernel.vectorised(
            #[inline(always)]
            || {
                for vector in vectors {
                    take(metric, vector, &mut row);
                    codes.mean.iter_mut().zip(&row).for_each(|(mean, x)| *mean += x);
                }
            },
        );
        #[expect(clippy::cast_precision_loss, reason = "rows are u32")]
        codes.mean.iter_mut().for_each(|mean| *mean /= len as f64);
        for vector in vectors {
            kernel.vectorised(
                #[inline(always)]
                || codes.push(vector, &mut row),
            );
        }
        codes
    }

    #[inline(always)]
    fn push(&mut self, vector: &[f32], row: &mut [f64]) {
        take(self.metric, vector, row);
        row.iter_mut().zip(&self.mean).for_each(|(x, mean)| *x -= mean);
        self.along_mean.push(product(&self.mean, row));
        let (scale, inverse) = steps(row, CODE_TOP);
        let first = self.codes.len();
        #[expect(clippy::cast_possible_truncation, reason = "the low byte holds the number")]
        self.codes.extend(row.iter().map(|x| whole(x * inverse) as i8));
        let codes = &self.codes[first..];
        let squares: i32 = codes.iter().map(|code| i32::from(*code) * i32::from(*code)).sum();
        row.iter_mut().zip(codes).for_each(|(x, code)| *x -= scale * f64::from(*code));
        self.codes.resize(first + row.len().next_multiple_of(WHOLE_STEP), 0);
        self.scales.push(scale);
        self.errors.push(product(row, row).sqrt());
        self.reaches.push(scale * f64::from(squares).sqrt());
    }

    /// How many rows have codes.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> u64 {
        let numbers = self.mean.capacity()
            + self.scales.capacity()
            + self.along_mean.capacity()
            + self.errors.capacity()
            + self.reaches.capacity();
        (self.codes.capacity() + size_of::<u32>() * self.rows.capacity() + size_of::<f64>() * numbers) as u64
    }
}

/// Writes a vector as it is coded to `row`: as it is, under cosine of norm 1, or zeros if it is zeros.
#[inline(always)]
fn take(metric: Metric, vector: &[f32], row: &mut [f64]) {
    row.iter_mut().zip(vector).for_each(|(x, given)| *x = f64::from(*given));
    let norm = product(row, row).sqrt();
    if metric == Metric::Cosine && norm > 0.0 {
        row.iter_mut().for_each(|x| *x /= norm);
    }
}

/// The step under which the numbers of a row reach from `-top` to `top`, and one over it; zeros for zeros.
#[inline(always)]
fn steps(row: &[f64], top: f64) -> (f64, f64) {
    let most = row.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    if most <= NOTHING { (0.0, 0.0) } else { (most / top, top / most) }
}

/// The nearest whole number of one within ±2^15, in a form that compilers vectorise.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits hold the number")]
fn whole(x: f64) -> i16 {
    /// 1.5 * 2^52: added to a small number of either sign, its last bits are the number rounded.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    ((x + ROUND).to_bits() as u16).cast_signed()
}

/// `<a,b>`, in lanes.
#[inline(always)]
fn product(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 16;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f64; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
