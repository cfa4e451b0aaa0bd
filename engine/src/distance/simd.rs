//! The sums of `scalar` with AVX2 and fused multiply-add: the same lanes, the same order, products not rounded.
#![expect(
    unsafe_code,
    reason = "vector loads take pointers, and these functions run only where AVX2 and FMA are"
)]

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _MM_HINT_T1, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps,
    _mm_prefetch, _mm_shuffle_ps, _mm256_add_ps, _mm256_castps256_ps128, _mm256_extractf128_ps,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskload_ps, _mm256_setzero_ps,
    _mm256_sub_ps,
};

mod codes;
mod whole;
mod wide;

/// Numbers in a register.
const WIDTH: usize = 8;
/// Registers a step takes.
const REGISTERS: usize = 4;
/// Numbers a step takes.
const STEP: usize = WIDTH * REGISTERS;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Cache lines of a vector that are asked for ahead.
const LINES_AHEAD: usize = 24;

/// Proof that this machine has AVX2 and FMA: only [`Avx2::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2 {
    wide: Option<wide::Avx512>,
}

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let is_here = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        is_here.then(|| Self { wide: wide::Avx512::detect() })
    }

    /// Without what only wider machines have.
    #[cfg(test)]
    pub(super) fn narrow(self) -> Self {
        Self { wide: None }
    }

    /// `sum(a * b)`
    pub(super) fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "dimensions of two vectors");
        // SAFETY: `self` proves the features, the line above equal lengths.
        unsafe { dot(a, b) }
    }

    /// `sum((a - b)^2)`
    pub(super) fn l2_squared(self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "dimensions of two vectors");
        // SAFETY: `self` proves the features, the line above equal lengths.
        unsafe { l2_squared(a, b) }
    }

    /// Asks for the beginning to be brought near; what is behind it the machine brings once it sees the first lines
    /// read one after the other. Into the second cache, not the first, for which few lines can wait at a time: beyond
    /// those the asking itself waits.
    #[inline]
    pub(super) fn prefetch(self, numbers: &[f32]) {
        for line in numbers.chunks(16).take(LINES_AHEAD) {
            // SAFETY: a prefetch reads nothing and faults on nothing; `self` proves SSE.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
        }
    }

    /// Asks for numbers that will be read at once to be brought into the first cache.
    #[inline]
    pub(super) fn prefetch_near(self, numbers: &[i8]) {
        for line in numbers.chunks(LINE) {
            // SAFETY: a prefetch reads nothing and faults on nothing; `self` proves SSE.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr()) }
        }
    }

    /// Asks for bytes to be brought near.
    #[inline]
    pub(super) fn prefetch_bytes(self, bytes: &[u8]) {
        prefetch(bytes);
    }

    /// `sum(q * x)` and `sum(x^2)`
    pub(super) fn dot_and_norm(self, q: &[f32], x: &[f32]) -> (f32, f32) {
        assert_eq!(q.len(), x.len(), "dimensions of two vectors");
        // SAFETY: `self` proves the features, the line above equal lengths.
        unsafe { dot_and_norm(q, x) }
    }
}

/// Asks for bytes to be brought into the second cache.
#[inline]
fn prefetch(bytes: &[u8]) {
    for line in bytes.chunks(LINE) {
        // SAFETY: a prefetch reads nothing and faults on nothing; SSE is part of every machine of this kind.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
    }
}

/// # Safety
/// `a` and `b` are equally long.
#[target_feature(enable = "avx2,fma")]
unsafe fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); REGISTERS];
    // SAFETY: the lengths are equal, says the caller.
    unsafe { for_each_pair(a, b, |register, a, b| sums[register] = _mm256_fmadd_ps(a, b, sums[register])) }
    reduce(sums)
}

/// # Safety
/// `a` and `b` are equally long.
#[target_feature(enable = "avx2,fma")]
unsafe fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); REGISTERS];
    let add = |register: usize, a, b| {
        let difference = _mm256_sub_ps(a, b);
        sums[register] = _mm256_fmadd_ps(difference, difference, sums[register]);
    };
    // SAFETY: the lengths are equal, says the caller.
    unsafe { for_each_pair(a, b, add) }
    reduce(sums)
}

/// # Safety
/// `q` and `x` are equally long.
#[target_feature(enable = "avx2,fma")]
unsafe fn dot_and_norm(q: &[f32], x: &[f32]) -> (f32, f32) {
    let mut dots = [_mm256_setzero_ps(); REGISTERS];
    let mut norms = [_mm256_setzero_ps(); REGISTERS];
    let add = |register: usize, q, x| {
        dots[register] = _mm256_fmadd_ps(q, x, dots[register]);
        norms[register] = _mm256_fmadd_ps(x, x, norms[register]);
    };
    // SAFETY: the lengths are equal, says the caller.
    unsafe { for_each_pair(q, x, add) }
    (reduce(dots), reduce(norms))
}

/// Calls `add(register, a, b)` for every eight numbers of `a` and `b`, in order; numbers missing from the last
/// eight are zeros in both, which add nothing.
///
/// # Safety
/// `a` and `b` are equally long.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn for_each_pair(a: &[f32], b: &[f32], mut add: impl FnMut(usize, __m256, __m256)) {
    let len = a.len();
    let (a, b) = (a.as_ptr(), b.as_ptr());
    let mut at = 0;
    while at + STEP <= len {
        for register in 0..REGISTERS {
            let from = at + register * WIDTH;
            // SAFETY: `from + WIDTH <= at + STEP <= len`; unaligned loads need no alignment.
            unsafe { add(register, _mm256_loadu_ps(a.add(from)), _mm256_loadu_ps(b.add(from))) }
        }
        at += STEP;
    }
    let mut register = 0;
    while at + WIDTH <= len {
        // SAFETY: `at + WIDTH <= len`.
        unsafe { add(register, _mm256_loadu_ps(a.add(at)), _mm256_loadu_ps(b.add(at))) }
        at += WIDTH;
        register += 1;
    }
    if at < len {
        let mask = first(len - at);
        // SAFETY: only the `len - at` numbers below `len` are read; masked lanes touch no memory.
        unsafe { add(register, _mm256_maskload_ps(a.add(at), mask), _mm256_maskload_ps(b.add(at), mask)) }
    }
}

/// A mask of the first `n` lanes, `n <= 8`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn first(n: usize) -> __m256i {
    const MASKS: [i32; 2 * WIDTH] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let window = &MASKS[WIDTH - n..2 * WIDTH - n];
    // SAFETY: the window has eight numbers of 32 bits; an unaligned load needs no alignment.
    unsafe { _mm256_loadu_si256(window.as_ptr().cast()) }
}

/// The sum of all lanes, in the order of `scalar::reduce`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn reduce(sums: [__m256; REGISTERS]) -> f32 {
    let eight = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}
