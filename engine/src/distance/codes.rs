//! The scan of code blocks in plain Rust: what the kernel of `simd` computes, bit for bit, and the code for machines
//! without it.
//!
//! A block holds the codes of 32 rows and their factors (index/block.rs draws it); a table has for each nibble
//! position 16 numbers of 5 bits. The sum S of a row's numbers stands for its inner product with the query.

use super::Kernel;

/// Rows of a block.
pub(crate) const BLOCK_ROWS: usize = 32;
/// Bytes of a block's factors: 16 i16 each of the even rows' and the odd rows' add, and of their mul.
pub(crate) const FACTORS_LEN: usize = 128;
/// Bytes a nibble position takes: 16 in a block and 16 in a table.
pub(crate) const POSITION_LEN: usize = 16;
/// Blocks one call scans.
pub(crate) const MAX_BLOCKS: usize = 8;
/// Rows of whole numbers that are compared many at a time have a multiple of so many.
pub(crate) const WHOLE_STEP: usize = 32;

/// The test of a row in 16-bit fixed point: `subs(mulhrs(add, add_scale), mulhrs((S + offset) << shift, mul)) < limit`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Test {
    pub(crate) add_scale: i16,
    pub(crate) offset: i16,
    pub(crate) shift: u32,
    pub(crate) limit: i16,
}

/// What a scan found in one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Bit i: row i passed.
    pub(crate) rows: u32,
    /// S of rows 0, 2, .. 30; only set where a row passed.
    pub(crate) even: [u16; 16],
    /// S of rows 1, 3, .. 31.
    pub(crate) odd: [u16; 16],
}

impl Passed {
    /// S of a row.
    #[inline]
    pub(crate) fn sum(&self, row: usize) -> u16 {
        if row.is_multiple_of(2) { self.even[row / 2] } else { self.odd[row / 2] }
    }
}

impl Kernel {
    /// Scans up to eight blocks that lie one behind the other. `wanted[i]` masks the rows of block i that matter:
    /// a block without any is skipped. Entries of `passed` beyond the blocks stay as they were. `soon` is what will be scanned
    /// next: it is brought near meanwhile, as much of it as is scanned.
    ///
    /// # Panics
    /// If `blocks` is not `wanted.len()` blocks for tables of `table.len()` bytes, or there are more than eight.
    pub(crate) fn scan_blocks(
        self,
        blocks: &[u8],
        table: &[u8],
        test: &Test,
        wanted: &[u32],
        soon: &[u8],
        passed: &mut [Passed; MAX_BLOCKS],
    ) {
        let block_len = table.len() + FACTORS_LEN;
        assert!(table.len().is_multiple_of(2 * POSITION_LEN), "nibble positions come in pairs");
        assert!(wanted.len() <= MAX_BLOCKS && blocks.len() == wanted.len() * block_len, "whole blocks");
        match self {
            Self::Scalar => scan_blocks(blocks, table, test, wanted, passed),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.scan_blocks(blocks, table, test, wanted, soon, passed),
        }
    }
}

fn scan_blocks(blocks: &[u8], table: &[u8], test: &Test, wanted: &[u32], passed: &mut [Passed; MAX_BLOCKS]) {
    for ((block, wanted), passed) in blocks.chunks_exact(table.len() + FACTORS_LEN).zip(wanted).zip(passed) {
        passed.rows = 0;
        if *wanted != 0 {
            let (codes, factors) = block.split_at(table.len());
            let sums = sums(codes, table);
            passed.even = std::array::from_fn(|i| sums[2 * i]);
            passed.odd = std::array::from_fn(|i| sums[2 * i + 1]);
            for (row, sum) in sums.iter().enumerate() {
                passed.rows |= u32::from(passes(test, factors, row, *sum)) << row;
            }
            passed.rows &= *wanted;
        }
    }
}

/// S of all 32 rows; wraps at 2^16, which 1,057 nibble positions of 31 do not reach.
fn sums(codes: &[u8], table: &[u8]) -> [u16; BLOCK_ROWS] {
    let mut sums = [0u16; BLOCK_ROWS];
    let positions = codes.as_chunks::<POSITION_LEN>().0.iter().zip(table.as_chunks::<POSITION_LEN>().0);
    for (codes, table) in positions {
        let (low, high) = sums.split_at_mut(POSITION_LEN);
        for ((code, low), high) in codes.iter().zip(low).zip(high) {
            *low = low.wrapping_add(u16::from(table[usize::from(code & 15)]));
            *high = high.wrapping_add(u16::from(table[usize::from(code >> 4)]));
        }
    }
    sums
}

#[inline(always)]
#[expect(clippy::cast_possible_wrap, reason = "the kernel's lanes are read as signed")]
fn passes(test: &Test, factors: &[u8], row: usize, sum: u16) -> bool {
    let (add, mul) = factors_of(factors, row);
    let shifted = ((sum as i16).wrapping_add(test.offset) as u16).wrapping_shl(test.shift) as i16;
    rounded_high(add, test.add_scale).saturating_sub(rounded_high(shifted, mul)) < test.limit
}

/// Where the add of a row lies among the factors; its mul is half of them behind.
#[inline(always)]
pub(crate) fn add_at(row: usize) -> usize {
    row / 2 * 2 + row % 2 * 32
}

/// The factors of a row as they are stored: add, mul.
#[inline(always)]
pub(crate) fn factors_of(factors: &[u8], row: usize) -> (i16, i16) {
    let at = add_at(row);
    let number = |at: usize| i16::from_le_bytes([factors[at], factors[at + 1]]);
    (number(at), number(at + 64))
}

/// `pmulhrsw`: `(a * b + 2^14) >> 15`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the instruction keeps the low 16 bits too")]
fn rounded_high(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b) + (1 << 14)) >> 15) as i16
}

impl Kernel {
    /// `sum(a * b)` of whole numbers; the products must fit 32 bits together.
    ///
    /// # Panics
    /// If there are not as many of one as of the other.
    #[inline]
    pub(crate) fn dot_whole(self, a: &[i16], b: &[i8]) -> i32 {
        assert_eq!(a.len(), b.len(), "dimensions of two vectors");
        match self {
            Self::Scalar => dot_whole(a, b),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.dot_whole(a, b),
        }
    }
}

impl Kernel {
    /// `sum(a * b)` of whole numbers for each row `b` of `rows`, which lie one behind the other; the products must fit 32 bits
    /// together.
    ///
    /// # Panics
    /// If `a` is not a multiple of [`WHOLE_STEP`] numbers, or `rows` are not a row for each of `sums`.
    pub(crate) fn dots_whole(self, a: &[i16], rows: &[i8], sums: &mut [i32]) {
        assert!(!a.is_empty() && a.len().is_multiple_of(WHOLE_STEP), "whole steps");
        assert_eq!(rows.len(), a.len() * sums.len(), "numbers in a block of rows");
        match self {
            Self::Scalar => {
                rows.chunks_exact(a.len()).zip(sums).for_each(|(row, sum)| *sum = dot_whole(a, row));
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.dots_whole(a, rows, sums),
        }
    }
}

fn dot_whole(a: &[i16], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}
