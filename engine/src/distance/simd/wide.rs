//! The sums of the scan of code blocks with AVX-512: four nibble positions a step where AVX2 takes two. The same
//! numbers in whole arithmetic, so the same sums.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_add_epi16, _mm512_add_epi8, _mm512_add_epi16, _mm512_and_si512,
    _mm512_castsi512_si256, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_maskz_loadu_epi8,
    _mm512_set1_epi8, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi16,
};

use super::codes::{LOOKUPS, Sums};

/// Bytes of a register.
const WIDTH: usize = 64;

/// Proof that this machine has AVX-512F and AVX-512BW: only [`Avx512::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")).then_some(Self(()))
    }
}

/// As `codes::sums`, before the lanes are added up.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw")]
pub(super) fn sums(codes: &[u8], table: &[u8]) -> Sums {
    let (mut low_all, mut low_odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    let (mut high_all, mut high_odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    let mut add_all = |low: __m512i, high: __m512i| {
        low_all = _mm512_add_epi16(low_all, low);
        low_odd = _mm512_add_epi16(low_odd, _mm512_srli_epi16::<8>(low));
        high_all = _mm512_add_epi16(high_all, high);
        high_odd = _mm512_add_epi16(high_odd, _mm512_srli_epi16::<8>(high));
    };
    let (codes, codes_rest) = codes.as_chunks::<{ LOOKUPS * WIDTH }>();
    let (table, table_rest) = table.as_chunks::<{ LOOKUPS * WIDTH }>();
    for (codes, table) in codes.iter().zip(table) {
        let (low, high) = look_up(codes, table);
        add_all(low, high);
    }
    if !table_rest.is_empty() {
        let (low, high) = look_up(codes_rest, table_rest);
        add_all(low, high);
    }
    Sums {
        low_all: halves(low_all),
        low_odd: halves(low_odd),
        high_all: halves(high_all),
        high_odd: halves(high_odd),
    }
}

/// The sums of at most eight look-ups, a byte each; positions that are not there look up zeros.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw")]
fn look_up(codes: &[u8], table: &[u8]) -> (__m512i, __m512i) {
    let nibble = _mm512_set1_epi8(15);
    let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    let mut add = |codes: __m512i, table: __m512i| {
        let high_codes = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), nibble);
        low = _mm512_add_epi8(low, _mm512_shuffle_epi8(table, _mm512_and_si512(codes, nibble)));
        high = _mm512_add_epi8(high, _mm512_shuffle_epi8(table, high_codes));
    };
    let ((codes, codes_rest), (table, table_rest)) = (codes.as_chunks::<WIDTH>(), table.as_chunks::<WIDTH>());
    for (codes, table) in codes.iter().zip(table) {
        add(load(codes), load(table));
    }
    if !table_rest.is_empty() {
        add(load_some(codes_rest), load_some(table_rest));
    }
    (low, high)
}

#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw")]
fn halves(sums: __m512i) -> __m256i {
    _mm256_add_epi16(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums))
}

#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw")]
fn load(bytes: &[u8; WIDTH]) -> __m512i {
    // SAFETY: 64 bytes; an unaligned load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Fewer than 64 bytes, and zeros.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw")]
fn load_some(bytes: &[u8]) -> __m512i {
    let mask = u64::MAX >> (WIDTH - bytes.len().clamp(1, WIDTH));
    // SAFETY: masked lanes touch no memory; the others are within `bytes`, which is not empty where this is called.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
}
