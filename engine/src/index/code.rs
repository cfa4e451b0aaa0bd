//! Codes: a rotated residual as one or two bits a number, and two factors that make its estimate unbiased.
//!
//! A residual `r` becomes levels `w` of few values. With `mul = -2 |r|^2 / <w,r>` and `add = |r|^2 - mul <w,c>`,
//! where `c` is the centre the residual was taken from, `|y-z|^2 ~ |y-c|^2 + add + mul <w,y>` for the row `z = c + r`
//! and a query `y`. One bit: w = -1, 1 (RaBitQ). Two bits: w = -1.5, -0.5, 0.5, 1.5 under the scale that brings w
//! nearest to r. A nibble holds four numbers of one bit or two of two bits, the first in the low bits.

/// Bits a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    One,
    Two,
}

/// Below this dimension even two bits say too little: such collections are searched exactly.
const TWO_FROM: usize = 48;
/// From this dimension on one bit says enough.
const ONE_FROM: usize = 192;
/// Scales tried for two bits.
const ROUNDS: usize = 3;

impl Bits {
    /// What codes of vectors of `dim` numbers have; `None` where there are no codes.
    pub(crate) fn of(dim: usize) -> Option<Self> {
        match dim {
            ONE_FROM.. => Some(Self::One),
            TWO_FROM.. => Some(Self::Two),
            _ => None,
        }
    }

    /// Numbers in a nibble.
    pub(crate) fn per_nibble(self) -> usize {
        match self {
            Self::One => 4,
            Self::Two => 2,
        }
    }

    /// The standard error of an estimate is `2 code_error |r| |y-c| / sqrt(coded)`: the rotation makes it the same for
    /// all vectors.
    pub(crate) fn code_error(self) -> f32 {
        match self {
            Self::One => 0.755,
            Self::Two => 0.36,
        }
    }

    /// `|mul| / |r|` of a code of `coded` numbers: `2 / (|w| cos)`.
    #[expect(clippy::cast_precision_loss, reason = "at most 4096")]
    pub(crate) fn mul_ratio(self, coded: usize) -> f32 {
        let (level_square, cosine) = match self {
            Self::One => (1.0f32, 0.798f32),
            Self::Two => (1.0, 0.94),
        };
        2.0 / ((coded as f32 * level_square).sqrt() * cosine)
    }

    /// Nibbles of a code of `coded` numbers, an even count.
    pub(crate) fn nibbles(self, coded: usize) -> usize {
        coded.div_ceil(self.per_nibble()).next_multiple_of(2)
    }
}

/// The factors of a code.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Factors {
    pub(crate) add: f32,
    pub(crate) mul: f32,
    /// `|r|^2`
    pub(crate) norm_squared: f32,
    /// Squared cosine between code and residual; 1 for no residual.
    pub(crate) cos_squared: f32,
}

/// Encodes `residual`, taken from `centre`, one nibble a byte.
#[inline(always)]
pub(crate) fn encode(bits: Bits, residual: &[f32], centre: &[f32], nibbles: &mut [u8]) -> Factors {
    match bits {
        Bits::One => one_bit(residual, centre, nibbles),
        Bits::Two => two_bits(residual, centre, nibbles),
    }
}

#[inline(always)]
fn one_bit(residual: &[f32], centre: &[f32], nibbles: &mut [u8]) -> Factors {
    let norm_squared = sum(residual, residual, |r, _| r * r);
    let along = sum(residual, residual, |r, _| r.abs());
    let with_centre = sum(residual, centre, |r, c| if r > 0.0 { c } else { -c });
    for (nibble, four) in nibbles.iter_mut().zip(residual.chunks(4)) {
        *nibble = four.iter().enumerate().fold(0, |code, (bit, r)| code | u8::from(*r > 0.0) << bit);
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 4096")]
    let level_norm = residual.len() as f32;
    factors(norm_squared, along, level_norm, with_centre)
}

#[inline(always)]
fn two_bits(residual: &[f32], centre: &[f32], nibbles: &mut [u8]) -> Factors {
    let norm_squared = sum(residual, residual, |r, _| r * r);
    #[expect(clippy::cast_precision_loss, reason = "at most 191")]
    let mut scale = (residual.len() as f32).sqrt() / norm_squared.sqrt();
    let (mut best_scale, mut best) = (scale, 0.0);
    for _ in 0..ROUNDS {
        let along = sum(residual, residual, |r, _| level(r, scale) * r);
        let level_norm = sum(residual, residual, |r, _| level(r, scale) * level(r, scale));
        let cos_squared = along * along / level_norm;
        let better = cos_squared > best;
        if !better {
            break;
        }
        (best_scale, best) = (scale, cos_squared);
        scale = level_norm / along;
    }
    let scale = best_scale;
    let along = sum(residual, residual, |r, _| level(r, scale) * r);
    let level_norm = sum(residual, residual, |r, _| level(r, scale) * level(r, scale));
    let with_centre = sum(residual, centre, |r, c| level(r, scale) * c);
    for (nibble, two) in nibbles.iter_mut().zip(residual.chunks(2)) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 3")]
        let code = |r: f32| (level(r, scale) + 1.5) as u8;
        *nibble = code(two[0]) | two.get(1).map_or(0, |r| code(*r)) << 2;
    }
    factors(norm_squared, along, level_norm, with_centre)
}

/// The nearest of -1.5, -0.5, 0.5, 1.5.
#[inline(always)]
fn level(r: f32, scale: f32) -> f32 {
    let x = (r * scale).clamp(-1.9, 1.9);
    let magnitude = if x.abs() > 1.0 { 1.5 } else { 0.5 };
    if x > 0.0 { magnitude } else { -magnitude }
}

#[inline(always)]
fn factors(norm_squared: f32, along: f32, level_norm: f32, with_centre: f32) -> Factors {
    let says_something = along > 0.0;
    if !says_something {
        return Factors { add: norm_squared, mul: 0.0, norm_squared, cos_squared: 1.0 };
    }
    let mul = -2.0 * norm_squared / along;
    let cos_squared = along * along / (level_norm * norm_squared);
    Factors { add: norm_squared - mul * with_centre, mul, norm_squared, cos_squared }
}

/// `sum(f(a, b))` over eight lanes, then the lanes by halves: the same on every machine.
#[inline(always)]
pub(crate) fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += f(*a, *b);
    }
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
