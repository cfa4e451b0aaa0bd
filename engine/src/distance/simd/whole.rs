//! Inner products of one row of whole numbers with many, with AVX2 and, where it is, AVX-512: four rows at once, so that what
//! is loaded of the one serves four times.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_loadu_si128, _mm_storeu_si128, _mm256_add_epi32,
    _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_extracti128_si256, _mm256_hadd_epi32,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_setzero_si256, _mm512_add_epi32, _mm512_castsi512_si256,
    _mm512_cvtepi8_epi16, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_madd_epi16,
    _mm512_setzero_si512,
};

use super::Avx2;
use crate::distance::codes::WHOLE_STEP;

/// Rows at once.
const ROWS: usize = 4;
/// Numbers of 16 bits in a register of AVX2.
const WIDTH: usize = 16;

impl Avx2 {
    /// As `codes::dots_whole`, whose caller has checked the lengths.
    pub(in crate::distance) fn dots_whole(self, a: &[i16], rows: &[i8], sums: &mut [i32]) {
        match self.wide {
            // SAFETY: `self` proves the features.
            None => unsafe { narrow(a, rows, sums) },
            // SAFETY: it and `wide` prove the features.
            Some(_) => unsafe { wide(a, rows, sums) },
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn narrow(a: &[i16], rows: &[i8], sums: &mut [i32]) {
    each(a, rows, sums, |a, rows| {
        let mut sums = [_mm256_setzero_si256(); ROWS];
        for (at, a) in a.as_chunks::<WIDTH>().0.iter().enumerate() {
            let a = load(a);
            for (sum, row) in sums.iter_mut().zip(rows) {
                let row = &row[at * WIDTH..(at + 1) * WIDTH];
                // SAFETY: sixteen bytes; an unaligned load needs no alignment.
                let row = unsafe { _mm_loadu_si128(row.as_ptr().cast()) };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(a, _mm256_cvtepi8_epi16(row)));
            }
        }
        reduce(sums)
    });
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw")]
fn wide(a: &[i16], rows: &[i8], sums: &mut [i32]) {
    each(a, rows, sums, |a, rows| {
        let mut sums = [_mm512_setzero_si512(); ROWS];
        for (at, a) in a.as_chunks::<WHOLE_STEP>().0.iter().enumerate() {
            // SAFETY: 32 numbers of 16 bits; an unaligned load needs no alignment.
            let a = unsafe { _mm512_loadu_si512(a.as_ptr().cast()) };
            for (sum, row) in sums.iter_mut().zip(rows) {
                let row = &row[at * WHOLE_STEP..(at + 1) * WHOLE_STEP];
                // SAFETY: 32 bytes; an unaligned load needs no alignment.
                let row = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
                *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(a, _mm512_cvtepi8_epi16(row)));
            }
        }
        reduce(
            sums.map(|sum| {
                _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum))
            }),
        )
    });
}

/// Gives `four` of every four rows; of fewer at the end, the last one again in place of those that are not there.
#[inline(always)]
fn each(a: &[i16], rows: &[i8], sums: &mut [i32], four: impl Fn(&[i16], [&[i8]; ROWS]) -> __m128i) {
    for (rows, sums) in rows.chunks(ROWS * a.len()).zip(sums.chunks_mut(ROWS)) {
        let last = sums.len() - 1;
        let found = four(a, std::array::from_fn(|n| &rows[n.min(last) * a.len()..][..a.len()]));
        let mut all = [0i32; ROWS];
        // SAFETY: four numbers of 32 bits; an unaligned store needs no alignment. SSE2 is part of every machine of this kind.
        unsafe { _mm_storeu_si128(all.as_mut_ptr().cast(), found) }
        sums.copy_from_slice(&all[..sums.len()]);
    }
}

/// The sums of all lanes, a number each.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn reduce(sums: [__m256i; ROWS]) -> __m128i {
    let [a, b, c, d] = sums;
    let halves = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(numbers: &[i16; WIDTH]) -> __m256i {
    // SAFETY: sixteen numbers of 16 bits; an unaligned load needs no alignment.
    unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
}
