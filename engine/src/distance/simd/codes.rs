//! The scan of code blocks with AVX2: 32 rows at once, sums and test in integers (the fast scan of André, Kermarrec
//! and Le Scouarnec, VLDB 2015, with 5-bit tables so that eight look-ups are added before they are widened). Where
//! there is AVX-512 it takes the sums.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_loadu_si128,
    _mm_shuffle_epi32, _mm_unpackhi_epi64, _mm256_add_epi8, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_and_si256, _mm256_andnot_si256, _mm256_castsi256_si128, _mm256_cmpgt_epi16, _mm256_cvtepi8_epi16,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_movemask_epi8,
    _mm256_mulhrs_epi16, _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sll_epi16, _mm256_slli_epi16, _mm256_srli_epi16,
    _mm256_storeu_si256, _mm256_sub_epi16, _mm256_subs_epi16,
};

use super::{Avx2, wide};
use crate::distance::codes::{FACTORS_LEN, MAX_BLOCKS, Passed, Test};

/// Bytes of a register.
const WIDTH: usize = 32;
/// Look-ups of up to 31 that fit a byte.
pub(super) const LOOKUPS: usize = 8;

impl Avx2 {
    /// As `codes::scan_blocks`, whose caller has checked the lengths.
    #[inline]
    pub(in crate::distance) fn scan_blocks(
        self,
        blocks: &[u8],
        table: &[u8],
        test: &Test,
        wanted: &[u32],
        soon: &[u8],
        passed: &mut [Passed; MAX_BLOCKS],
    ) {
        match self.wide {
            // SAFETY: `self` proves the features.
            None => unsafe { scan_blocks(blocks, table, test, wanted, soon, passed) },
            // SAFETY: it and `wide` prove the features.
            Some(_) => unsafe { scan_blocks_wide(blocks, table, test, wanted, soon, passed) },
        }
    }

    /// As `codes::dot_whole`, whose caller has checked the lengths.
    #[inline]
    pub(in crate::distance) fn dot_whole(self, a: &[i16], b: &[i8]) -> i32 {
        // SAFETY: `self` proves the features.
        unsafe { dot_whole(a, b) }
    }

    /// Runs `f`, compiled for AVX2 as far as it is inlined here.
    #[inline]
    pub(in crate::distance) fn vectorised<R>(self, f: impl FnOnce() -> R) -> R {
        // SAFETY: `self` proves the features.
        unsafe { vectorised(f) }
    }
}

#[target_feature(enable = "avx2,fma")]
fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[target_feature(enable = "avx2,fma")]
fn scan_blocks(
    blocks: &[u8],
    table: &[u8],
    test: &Test,
    wanted: &[u32],
    soon: &[u8],
    passed: &mut [Passed; MAX_BLOCKS],
) {
    scan_each(blocks, table, test, wanted, soon, passed, |codes, table| sums(codes, table));
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw")]
fn scan_blocks_wide(
    blocks: &[u8],
    table: &[u8],
    test: &Test,
    wanted: &[u32],
    soon: &[u8],
    passed: &mut [Passed; MAX_BLOCKS],
) {
    scan_each(blocks, table, test, wanted, soon, passed, |codes, table| wide::sums(codes, table));
}

/// `sums` gives what `Sums` says of the codes of a block and the table.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn scan_each(
    blocks: &[u8],
    table: &[u8],
    test: &Test,
    wanted: &[u32],
    soon: &[u8],
    passed: &mut [Passed; MAX_BLOCKS],
    sums: impl Fn(&[u8], &[u8]) -> Sums,
) {
    let add_scale = _mm256_set1_epi16(test.add_scale);
    let offset = _mm256_set1_epi16(test.offset);
    let shift = _mm_cvtsi32_si128(test.shift.cast_signed());
    let limit = _mm256_set1_epi16(test.limit);
    let len = table.len() + FACTORS_LEN;
    let mut soon = soon.chunks(len);
    for ((block, wanted), passed) in blocks.chunks_exact(len).zip(wanted).zip(passed) {
        super::prefetch(soon.next().unwrap_or(&[]));
        passed.rows = 0;
        if *wanted == 0 {
            continue;
        }
        let (codes, factors) = block.split_at(table.len());
        let (even, odd) = add_up(sums(codes, table));
        let even_bytes = passes(even, load(factors, 0), load(factors, 64), add_scale, offset, shift, limit);
        let odd_bytes = passes(odd, load(factors, 32), load(factors, 96), add_scale, offset, shift, limit);
        // Byte i of a lane is the answer for its row i.
        let low = _mm256_set1_epi16(0x00ff);
        let both = _mm256_or_si256(_mm256_and_si256(even_bytes, low), _mm256_andnot_si256(low, odd_bytes));
        passed.rows = _mm256_movemask_epi8(both).cast_unsigned() & wanted;
        if passed.rows != 0 {
            // SAFETY: both arrays have 16 numbers of 16 bits.
            unsafe {
                _mm256_storeu_si256(passed.even.as_mut_ptr().cast(), even);
                _mm256_storeu_si256(passed.odd.as_mut_ptr().cast(), odd);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn passes(
    sums: __m256i,
    add: __m256i,
    mul: __m256i,
    add_scale: __m256i,
    offset: __m256i,
    shift: __m128i,
    limit: __m256i,
) -> __m256i {
    let shifted = _mm256_sll_epi16(_mm256_add_epi16(sums, offset), shift);
    let estimate = _mm256_subs_epi16(_mm256_mulhrs_epi16(add, add_scale), _mm256_mulhrs_epi16(shifted, mul));
    _mm256_cmpgt_epi16(limit, estimate)
}

/// S of rows 0..15 (`low`) and of rows 16..31 (`high`): those of odd rows in 16 bits a lane, and with those of even
/// rows added to them 256-fold; the two lanes of a register are parts of one sum.
pub(super) struct Sums {
    pub(super) low_all: __m256i,
    pub(super) low_odd: __m256i,
    pub(super) high_all: __m256i,
    pub(super) high_odd: __m256i,
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn sums(codes: &[u8], table: &[u8]) -> Sums {
    let nibble = _mm256_set1_epi8(15);
    // Bytes of rows 0..15 and of rows 16..31; the low lane sums one nibble position, the high lane the next.
    let (mut low_all, mut low_odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    let (mut high_all, mut high_odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for (codes, table) in codes.chunks(LOOKUPS * WIDTH).zip(table.chunks(LOOKUPS * WIDTH)) {
        let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (codes, table) in codes.chunks_exact(WIDTH).zip(table.chunks_exact(WIDTH)) {
            let (codes, table) = (load(codes, 0), load(table, 0));
            let high_codes = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble);
            low = _mm256_add_epi8(low, _mm256_shuffle_epi8(table, _mm256_and_si256(codes, nibble)));
            high = _mm256_add_epi8(high, _mm256_shuffle_epi8(table, high_codes));
        }
        low_all = _mm256_add_epi16(low_all, low);
        low_odd = _mm256_add_epi16(low_odd, _mm256_srli_epi16::<8>(low));
        high_all = _mm256_add_epi16(high_all, high);
        high_odd = _mm256_add_epi16(high_odd, _mm256_srli_epi16::<8>(high));
    }
    Sums { low_all, low_odd, high_all, high_odd }
}

/// S of the even rows (0..14 in the low lane, 16..30 in the high one) and of the odd rows.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_up(sums: Sums) -> (__m256i, __m256i) {
    let Sums { low_all, low_odd, high_all, high_odd } = sums;
    let both = |low, high| {
        let first = _mm256_permute2x128_si256::<0x20>(low, high);
        _mm256_add_epi16(first, _mm256_permute2x128_si256::<0x31>(low, high))
    };
    let odd = both(low_odd, high_odd);
    // What was added as whole 16-bit numbers holds the odd bytes 256-fold.
    (_mm256_sub_epi16(both(low_all, high_all), _mm256_slli_epi16::<8>(odd)), odd)
}

#[target_feature(enable = "avx2,fma")]
fn dot_whole(a: &[i16], b: &[i8]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [_mm256_setzero_si256(); 2];
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        // SAFETY: sixteen numbers of 16 bits and of 8; unaligned loads need no alignment.
        let (a, b) = unsafe { (_mm256_loadu_si256(a.as_ptr().cast()), _mm_loadu_si128(b.as_ptr().cast())) };
        let sum = &mut sums[at % 2];
        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(a, _mm256_cvtepi8_epi16(b)));
    }
    let eight = _mm256_add_epi32(sums[0], sums[1]);
    let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    let one = _mm_add_epi32(two, _mm_shuffle_epi32::<1>(two));
    let rest: i32 = a_rest.iter().zip(b_rest).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
    _mm_cvtsi128_si32(one) + rest
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(bytes: &[u8], at: usize) -> __m256i {
    let bytes: &[u8] = &bytes[at..at + WIDTH];
    // SAFETY: 32 bytes; an unaligned load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}
