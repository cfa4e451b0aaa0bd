//! The rotation every code is made under: it spreads a vector's energy evenly over its numbers, so that a bit or two
//! a number say almost the same of every row (RaBitQ, Gao and Long, SIGMOD 2024).
//!
//! Long vectors: four rounds of seeded sign flips and a fast Hadamard transform on the largest power of two that
//! fits, at the front and at the back by turns, with one Kac step between the halves where the length is no power of
//! two. Short ones: a dense orthogonal matrix, Gram-Schmidt of seeded uniforms in f64 with + - * / sqrt alone, which
//! gives the same matrix on every machine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::distance::Kernel;

/// From this dimension on the transform is faster than a matrix.
const DENSE_BELOW: usize = 192;
/// Long vectors are padded with zeros to a multiple of this.
const PAD: usize = 64;
const ROUNDS: usize = 4;
/// Columns of the dense matrix that are summed at once.
const WIDTH: usize = 64;

/// Rotations by dimension and seed.
type Made = HashMap<(usize, u64), Arc<Rotation>>;

/// A fixed orthogonal map from `dim` numbers to [`Rotation::coded`] numbers, the same for the same seed everywhere.
#[derive(Debug)]
pub(crate) struct Rotation {
    dim: usize,
    coded: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// `signs[round]` has a +1 or -1 for each number.
    Hadamard { signs: Vec<f32>, power: usize },
    /// By columns, each padded with zeros to a multiple of [`WIDTH`].
    Dense { columns: Vec<f32>, stride: usize },
}

impl Rotation {
    /// The rotation of vectors of `dim` numbers for a seed.
    pub(crate) fn new(dim: usize, seed: u64) -> Self {
        let mut random = SplitMix(seed);
        if dim < DENSE_BELOW {
            let (columns, stride) = dense(dim, &mut random);
            return Self { dim, coded: dim.next_multiple_of(4), kind: Kind::Dense { columns, stride } };
        }
        let coded = dim.next_multiple_of(PAD);
        let power = 1 << coded.ilog2();
        let mut signs = Vec::with_capacity(ROUNDS * coded);
        while signs.len() < ROUNDS * coded {
            let bits = random.next();
            signs.extend((0..64).map(|bit| if bits >> bit & 1 == 1 { 1.0 } else { -1.0 }));
        }
        Self { dim, coded, kind: Kind::Hadamard { signs, power } }
    }

    /// The rotation of a seed, made once for all that use it: a matrix takes milliseconds.
    pub(crate) fn shared(dim: usize, seed: u64) -> Arc<Self> {
        static MADE: OnceLock<Mutex<Made>> = OnceLock::new();
        let mut made = MADE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(made.entry((dim, seed)).or_insert_with(|| Arc::new(Self::new(dim, seed))))
    }

    /// Numbers of a rotated vector: `dim` and padding, a multiple of 4.
    pub(crate) fn coded(&self) -> usize {
        self.coded
    }

    /// What tells this rotation from another: the checksum of its numbers.
    pub(crate) fn crc32(&self) -> u32 {
        let numbers = match &self.kind {
            Kind::Hadamard { signs, .. } => signs,
            Kind::Dense { columns, .. } => columns,
        };
        let mut crc = crc32fast::Hasher::new();
        numbers.iter().for_each(|number| crc.update(&number.to_le_bytes()));
        crc.finalize()
    }

    /// Writes `scale * P x` to `out`.
    ///
    /// # Panics
    /// If `x` has not `dim` numbers or `out` not [`Rotation::coded`].
    pub(crate) fn apply(&self, kernel: Kernel, x: &[f32], scale: f32, out: &mut [f32]) {
        assert_eq!((x.len(), out.len()), (self.dim, self.coded), "numbers of a vector and of its rotation");
        match &self.kind {
            Kind::Hadamard { signs, power } => kernel.vectorised(
                #[inline(always)]
                || hadamard(signs, *power, x, scale, out),
            ),
            Kind::Dense { columns, stride } => kernel.vectorised(
                #[inline(always)]
                || multiply(columns, *stride, x, scale, out),
            ),
        }
    }
}

#[inline(always)]
fn hadamard(signs: &[f32], power: usize, x: &[f32], scale: f32, out: &mut [f32]) {
    let coded = out.len();
    out[..x.len()].copy_from_slice(x);
    out[x.len()..].fill(0.0);
    #[expect(clippy::cast_precision_loss, reason = "a power of two up to 4096")]
    let shrink = 1.0 / (power as f32).sqrt();
    for (round, signs) in signs.chunks_exact(coded).take(ROUNDS).enumerate() {
        let scale = if round == 0 { scale } else { 1.0 };
        for (number, sign) in out.iter_mut().zip(signs) {
            *number *= sign * scale;
        }
        let range = if round % 2 == 0 { 0..power } else { coded - power..coded };
        transform(&mut out[range.clone()]);
        out[range].iter_mut().for_each(|number| *number *= shrink);
        if power != coded {
            let (a, b) = out.split_at_mut(coded / 2);
            for (a, b) in a.iter_mut().zip(b) {
                let (sum, difference) = (*a + *b, *a - *b);
                *a = sum * std::f32::consts::FRAC_1_SQRT_2;
                *b = difference * std::f32::consts::FRAC_1_SQRT_2;
            }
        }
    }
}

/// The fast Walsh-Hadamard transform of a power of two of numbers, at least 64, not scaled.
#[inline(always)]
fn transform(numbers: &mut [f32]) {
    let (eights, _) = numbers.as_chunks_mut::<8>();
    for n in eights {
        // The first three stages inside eight numbers.
        let a = [
            n[0] + n[1],
            n[0] - n[1],
            n[2] + n[3],
            n[2] - n[3],
            n[4] + n[5],
            n[4] - n[5],
            n[6] + n[7],
            n[6] - n[7],
        ];
        let b = [
            a[0] + a[2],
            a[1] + a[3],
            a[0] - a[2],
            a[1] - a[3],
            a[4] + a[6],
            a[5] + a[7],
            a[4] - a[6],
            a[5] - a[7],
        ];
        *n = [
            b[0] + b[4],
            b[1] + b[5],
            b[2] + b[6],
            b[3] + b[7],
            b[0] - b[4],
            b[1] - b[5],
            b[2] - b[6],
            b[3] - b[7],
        ];
    }
    let mut half = 8;
    while half < numbers.len() {
        for pair in numbers.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[inline(always)]
fn multiply(columns: &[f32], stride: usize, x: &[f32], scale: f32, out: &mut [f32]) {
    for (from, out) in (0..).step_by(WIDTH).zip(out.chunks_mut(WIDTH)) {
        let mut sums = [0.0f32; WIDTH];
        for (x, column) in x.iter().zip(columns.chunks_exact(stride)) {
            let x = x * scale;
            let column: &[f32; WIDTH] = column[from..from + WIDTH].try_into().expect("as wide as the sums");
            for (sum, number) in sums.iter_mut().zip(column) {
                *sum += x * number;
            }
        }
        out.copy_from_slice(&sums[..out.len()]);
    }
}

/// A `dim` x `dim` orthogonal matrix by columns, and how far apart they lie.
fn dense(dim: usize, random: &mut SplitMix) -> (Vec<f32>, usize) {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(dim);
    while rows.len() < dim {
        // Twelve uniforms make nearly a Gaussian, so no direction is preferred.
        let mut row: Vec<f64> = (0..dim).map(|_| (0..12).map(|_| random.unit()).sum::<f64>() - 6.0).collect();
        for _ in 0..2 {
            for earlier in &rows {
                let along: f64 = row.iter().zip(earlier).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(earlier).for_each(|(a, b)| *a -= along * b);
            }
        }
        let norm = row.iter().map(|a| a * a).sum::<f64>().sqrt();
        if norm > 1e-6 {
            row.iter_mut().for_each(|a| *a /= norm);
            rows.push(row);
        }
    }
    let stride = dim.next_multiple_of(4).next_multiple_of(WIDTH);
    let mut columns = vec![0.0; dim * stride];
    for (at, row) in rows.iter().enumerate() {
        for (column, number) in row.iter().enumerate() {
            #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is meant")]
            let number = *number as f32;
            columns[column * stride + at] = number;
        }
    }
    (columns, stride)
}

/// Steele, Lea and Flood's SplitMix64: fixed here for good, since files depend on what it gives.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[0, 1)`.
    fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
        let bits = (self.next() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }
}
