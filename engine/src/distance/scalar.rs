//! Sums over 32 lanes in plain Rust, written so that the compiler vectorises them: the twin that says what the
//! kernels of `simd` must compute, and the code for machines without them.

/// Lanes: four registers of eight. Element i goes to lane i % 32.
const LANES: usize = 32;

/// `sum(a * b)`
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |sum, a, b| *sum += a * b)
}

/// `sum((a - b)^2)`
pub(super) fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |sum, a, b| {
        let difference = a - b;
        *sum += difference * difference;
    })
}

/// `sum(q * x)` and `sum(x^2)`
pub(super) fn dot_and_norm(q: &[f32], x: &[f32]) -> (f32, f32) {
    (dot(q, x), dot(x, x))
}

#[inline(always)]
fn lanes(a: &[f32], b: &[f32], add: impl Fn(&mut f32, f32, f32)) -> f32 {
    assert_eq!(a.len(), b.len(), "dimensions of two vectors");
    let mut sums = [0.0f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            add(&mut sums[lane], a[lane], b[lane]);
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        add(sum, *a, *b);
    }
    reduce(&sums)
}

/// Registers 0 and 1, 2 and 3, then both; then the halves of what is left.
fn reduce(sums: &[f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| (sums[i] + sums[8 + i]) + (sums[16 + i] + sums[24 + i]));
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
