//! A vector made ready to be compared with codes: rotated, moved to the index's mean, with its look-up table.

use crate::distance::Kernel;
use crate::index::block::Range;
use crate::index::code::{self, Bits};
use crate::index::table::Table;

/// A rotated vector less the index's mean, and what the steps of a search want of it.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    pub(crate) y: Vec<f32>,
    /// `|y|^2`
    pub(crate) norm_squared: f32,
    /// `y` as whole numbers: `y ~ step * whole`.
    pub(crate) whole: Vec<i16>,
    pub(crate) whole_step: f32,
    pub(crate) table: Table,
    pub(crate) range: Range,
}

/// Whole numbers up to this; with 4,096 products by 127 the sum stays within 32 bits.
const WHOLE_TOP: f32 = 4_095.0;

impl Probe {
    /// Makes ready `scale` times the rotated vector `rotated` for an index with this `mean`.
    pub(crate) fn set(&mut self, kernel: Kernel, bits: Bits, rotated: &[f32], scale: f32, mean: &[f32]) {
        assert_eq!(rotated.len(), mean.len(), "numbers of a rotated vector");
        self.y.resize(mean.len(), 0.0);
        self.whole.resize(mean.len(), 0);
        kernel.vectorised(
            #[inline(always)]
            || {
                for ((y, x), mean) in self.y.iter_mut().zip(rotated).zip(mean) {
                    *y = x * scale - mean;
                }
                self.norm_squared = code::sum(&self.y, &self.y, |a, b| a * b);
                let most = self.y.iter().fold(0.0f32, |most, y| most.max(y.abs()));
                self.whole_step = if most > 0.0 { most / WHOLE_TOP } else { 1.0 };
                let scale = 1.0 / self.whole_step;
                for (whole, y) in self.whole.iter_mut().zip(&self.y) {
                    *whole = rounded(y * scale);
                }
                self.table.fill(bits, &self.y);
            },
        );
        self.range = Range::of(&self.table);
    }
}

/// The nearest whole number of one within ±2^15, in a form that compilers vectorise.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits hold the number")]
pub(crate) fn rounded(x: f32) -> i16 {
    /// 1.5 * 2^23: added to a small number of either sign, its last bits are the number rounded.
    const ROUND: f32 = 12_582_912.0;
    ((x + ROUND).to_bits() as u16).cast_signed()
}
