//! Blocks of 32 codes as they lie in CODES, and the fixed-point test that reads them.
//!
//! ```text
//! for each nibble position, 16 bytes: byte b has the nibble of row b in its low half, of row b + 16 in its high half
//! then 128 bytes of factors, i16:     A of rows 0, 2 .. 30 | A of rows 1, 3 .. 31 | M of rows 0, 2 .. | M of rows 1, 3 ..
//! ```
//! A list has one scale for each factor: `add = add_scale * A`, `mul = -mul_scale * M`. A row that is padding has
//! A = 32767, M = 0.

use crate::distance::codes::{BLOCK_ROWS, FACTORS_LEN, POSITION_LEN, Passed, Test, add_at, factors_of};
use crate::index::code::Factors;
use crate::index::table::Table;

const ADD_TOP: f32 = 32_000.0;
const MUL_TOP: f32 = 32_700.0;
const PADDING: i16 = i16::MAX;
/// A row so many times as long as the median leaves the others eight of the 32,000 steps of their squares: as coarse as one bit a
/// number is.
pub(crate) const LONGEST_OF_MEDIAN: f32 = 64.0;

/// The upper median of numbers; 0 of none. Leaves them in another order.
pub(crate) fn median(numbers: &mut [f32]) -> f32 {
    let middle = numbers.len() / 2;
    if numbers.is_empty() { 0.0 } else { *numbers.select_nth_unstable_by(middle, f32::total_cmp).1 }
}

/// Bytes of a block whose codes have so many nibbles.
pub(crate) fn block_len(nibbles: usize) -> usize {
    nibbles * POSITION_LEN + FACTORS_LEN
}

/// What turns stored factors into numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Scales {
    pub(crate) add: f32,
    pub(crate) mul: f32,
}

/// The blocks of one list in the making.
#[derive(Debug)]
pub(crate) struct Blocks {
    nibbles: usize,
    bytes: Vec<u8>,
    factors: Vec<(f32, f32)>,
}

impl Blocks {
    pub(crate) fn new(nibbles: usize) -> Self {
        Self { nibbles, bytes: Vec::new(), factors: Vec::new() }
    }

    /// Appends a code, one nibble a byte.
    pub(crate) fn push(&mut self, nibbles: &[u8], factors: Factors) {
        let (block, row) = (self.factors.len() / BLOCK_ROWS, self.factors.len() % BLOCK_ROWS);
        let len = block_len(self.nibbles);
        if row == 0 {
            self.bytes.resize((block + 1) * len, 0);
        }
        let (positions, _) = self.bytes[block * len..].as_chunks_mut::<POSITION_LEN>();
        for (position, nibble) in positions.iter_mut().zip(nibbles) {
            position[row % POSITION_LEN] |= nibble << (row / POSITION_LEN * 4);
        }
        self.factors.push((factors.add, factors.mul));
    }

    /// Whether a row is so much longer than half of the others that one scale for all would flatten the factors of those.
    pub(crate) fn is_uneven(&self) -> bool {
        let mut lengths: Vec<f32> = self.factors.iter().map(|(_, mul)| mul.abs()).collect();
        let longest = lengths.iter().copied().fold(0.0, f32::max);
        longest > LONGEST_OF_MEDIAN * median(&mut lengths)
    }

    /// The bytes of all blocks, and the scales of their factors. Leaves nothing.
    pub(crate) fn finish(&mut self) -> (Vec<u8>, Scales) {
        let most = |numbers: &mut dyn Iterator<Item = f32>, top: f32| numbers.fold(0.0, f32::max) / top;
        let scales = Scales {
            add: most(&mut self.factors.iter().map(|(add, _)| add.abs()), ADD_TOP),
            mul: most(&mut self.factors.iter().map(|(_, mul)| mul.abs()), MUL_TOP),
        };
        let len = block_len(self.nibbles);
        let mut bytes = std::mem::take(&mut self.bytes);
        for (block, factors) in bytes.chunks_exact_mut(len).zip(self.factors.chunks(BLOCK_ROWS)) {
            let out = &mut block[len - FACTORS_LEN..];
            for row in 0..BLOCK_ROWS {
                let (add, mul) = factors
                    .get(row)
                    .map_or((PADDING, 0), |(add, mul)| (fixed(*add, scales.add), fixed(-mul, scales.mul)));
                let at = add_at(row);
                out[at..at + 2].copy_from_slice(&add.to_le_bytes());
                out[at + 64..at + 66].copy_from_slice(&mul.to_le_bytes());
            }
        }
        self.factors.clear();
        (bytes, scales)
    }
}

/// Appends a block without a row.
pub(crate) fn push_empty(nibbles: usize, out: &mut Vec<u8>) {
    let first = out.len();
    out.resize(first + block_len(nibbles), 0);
    let factors = &mut out[first + nibbles * POSITION_LEN..];
    for row in 0..BLOCK_ROWS {
        factors[add_at(row)..add_at(row) + 2].copy_from_slice(&PADDING.to_le_bytes());
    }
}

/// Copies code and factors from a slot of one block into an empty one of another.
pub(crate) fn copy_slot(from: &[u8], slot: usize, to: &mut [u8], empty: usize) {
    let (from, from_factors) = from.split_at(from.len() - FACTORS_LEN);
    let (to, to_factors) = to.split_at_mut(to.len() - FACTORS_LEN);
    let half = |slot: usize| slot / POSITION_LEN * 4;
    let positions = from.as_chunks::<POSITION_LEN>().0.iter().zip(to.as_chunks_mut::<POSITION_LEN>().0);
    for (from, to) in positions {
        to[empty % POSITION_LEN] |= (from[slot % POSITION_LEN] >> half(slot) & 15) << half(empty);
    }
    for factor in [0, FACTORS_LEN / 2] {
        let (from, to) = (add_at(slot) + factor, add_at(empty) + factor);
        to_factors[to..to + 2].copy_from_slice(&from_factors[from..from + 2]);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the scale keeps it within 16 bits, and a cast saturates"
)]
fn fixed(number: f32, scale: f32) -> i16 {
    if scale > 0.0 { (number / scale).round() as i16 } else { 0 }
}

/// How far the smallest and largest sums are from zero, as the shift that uses 16 bits best.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    offset: i16,
    shift: u32,
}

impl Range {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "sums and offsets stay below 2^15: 31 a nibble, 1,024 nibbles"
    )]
    pub(crate) fn of(table: &Table) -> Self {
        let offset = (table.base / table.step).round() as i16;
        let most = i32::from(offset).abs().max(i32::from(table.top) + i32::from(offset)).max(1);
        let mut shift = 0;
        while most << (shift + 1) < i32::from(i16::MAX) {
            shift += 1;
        }
        Self { offset, shift }
    }

    /// The test that lets everything below `limit` (a threshold less the list's own distance) pass, and by rounding
    /// a little more. `None`: everything passes.
    pub(crate) fn test(self, table: &Table, scales: Scales, limit: f32) -> Option<Test> {
        let mut shift = self.shift;
        let unit = |shift: u32| scales.mul * table.step * f32::from(1u16 << (15 - shift.min(15)));
        while scales.add >= unit(shift) {
            shift = shift.checked_sub(1)?;
        }
        let units = limit / unit(shift) + 2.0;
        if units.is_nan() || units >= f32::from(i16::MAX) {
            return None;
        }
        // An estimate below what 16 bits hold is stopped at the least of them: it passes, whatever the limit.
        let units = units.ceil().max(f32::from(i16::MIN + 1));
        #[expect(clippy::cast_possible_truncation, reason = "within 16 bits, and a cast saturates")]
        let (add_scale, limit) =
            ((32_768.0 * scales.add / unit(shift)).round().min(32_767.0) as i16, units as i16);
        Some(Test { add_scale, offset: self.offset, shift, limit })
    }
}

/// The estimate of a row whose entries sum to `sum`, less the list's own distance.
#[inline(always)]
pub(crate) fn estimate(factors: &[u8], row: usize, sum: u16, table: &Table, scales: Scales) -> f32 {
    let (add, mul) = factors_of(factors, row);
    scales.add * f32::from(add) - scales.mul * f32::from(mul) * (table.step * f32::from(sum) + table.base)
}

/// What [`estimate`] gives of each row of a block: those of rows 0, 2 .. 30, then of rows 1, 3 .. 31.
#[inline(always)]
pub(crate) fn estimates(factors: &[u8], passed: &Passed, table: &Table, scales: Scales) -> [f32; BLOCK_ROWS] {
    const HALF: usize = BLOCK_ROWS / 2;
    let factors = &factors.as_chunks::<2>().0[..2 * BLOCK_ROWS];
    let (step, base) = (table.step, table.base);
    let number = |at: usize| f32::from(i16::from_le_bytes(factors[at]));
    let of = |at: usize, sum: u16| {
        scales.add * number(at) - scales.mul * number(at + 32) * (step * f32::from(sum) + base)
    };
    let mut out = [0.0; BLOCK_ROWS];
    let (even, odd) = out.split_at_mut(HALF);
    for (at, (out, sum)) in even.iter_mut().zip(&passed.even).enumerate() {
        *out = of(at, *sum);
    }
    for (at, (out, sum)) in odd.iter_mut().zip(&passed.odd).enumerate() {
        *out = of(HALF + at, *sum);
    }
    out
}
