//! A query's look-up table: for every nibble position and each of its 16 codes the inner product of the levels with
//! the query's numbers there, as 5 bits under one scale.

use crate::distance::codes::POSITION_LEN;
use crate::index::code::Bits;

/// Largest entry: eight of them fit a byte.
const TOP: f32 = 31.0;

/// `<w, y> ~ step * S + base`, where S is the sum of a code's entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<u8>,
    pub(crate) step: f32,
    pub(crate) base: f32,
    /// The largest S a code can have.
    pub(crate) top: u16,
}

impl Table {
    /// Makes the table of the query `y`.
    #[inline(always)]
    pub(crate) fn fill(&mut self, bits: Bits, y: &[f32]) {
        let positions = bits.nibbles(y.len());
        self.entries.clear();
        self.entries.resize(positions * POSITION_LEN, 0);
        let (unit, most) = match bits {
            Bits::One => (1.0, 2.0),
            Bits::Two => (0.5, 3.0),
        };
        let (mut range, mut sum) = (0.0f32, 0.0f32);
        for numbers in y.chunks(bits.per_nibble()) {
            let magnitude: f32 = numbers.iter().map(|number| number.abs()).sum();
            range = range.max(most * magnitude);
            sum += magnitude;
        }
        self.base = -unit * (most / (2.0 * unit)) * sum;
        // A query in the very centre tells no rows apart.
        let scale = if range > 0.0 { TOP / range } else { 0.0 };
        self.step = if range > 0.0 { range / TOP } else { 1.0 };
        let mut top = 0u16;
        let (entries, _) = self.entries.as_chunks_mut::<POSITION_LEN>();
        for (numbers, entries) in y.chunks(bits.per_nibble()).zip(entries) {
            top += match bits {
                Bits::One => one_bit(numbers, scale, entries),
                Bits::Two => two_bits(numbers, scale, entries),
            };
        }
        self.top = top;
    }
}

#[inline(always)]
fn one_bit(numbers: &[f32], scale: f32, entries: &mut [u8; POSITION_LEN]) -> u16 {
    // What a bit adds to the smallest sum: twice the number where it has the number's sign.
    let add = |at: usize, set: bool| {
        let number = 2.0 * scale * numbers[at];
        if set { number.max(0.0) } else { (-number).max(0.0) }
    };
    let low: [f32; 4] = std::array::from_fn(|code| add(0, code & 1 != 0) + add(1, code & 2 != 0));
    let high: [f32; 4] = std::array::from_fn(|code| add(2, code & 1 != 0) + add(3, code & 2 != 0));
    fill(entries, low, high)
}

#[inline(always)]
fn two_bits(numbers: &[f32], scale: f32, entries: &mut [u8; POSITION_LEN]) -> u16 {
    let steps = |at: usize| -> [f32; 4] {
        let number = scale * numbers.get(at).copied().unwrap_or(0.0);
        let smallest = -1.5 * number.abs();
        std::array::from_fn(|code| (f32::from(u8::try_from(code).unwrap_or(0)) - 1.5) * number - smallest)
    };
    fill(entries, steps(0), steps(1))
}

#[inline(always)]
fn fill(entries: &mut [u8; POSITION_LEN], low: [f32; 4], high: [f32; 4]) -> u16 {
    /// Added to a small number, its last bits are the number rounded.
    const ROUND: f32 = 8_388_608.0;
    for high_code in 0..4 {
        for low_code in 0..4 {
            #[expect(clippy::cast_possible_truncation, reason = "0 to 31")]
            let rounded = (low[low_code] + high[high_code] + ROUND).to_bits() as u8;
            entries[4 * high_code + low_code] = rounded;
        }
    }
    u16::from(entries.iter().copied().fold(0, u8::max))
}
