//! Kernels against each other and against f64; scores at every magnitude.

use super::*;

/// Numbers that differ by seed and place; printed with each failure.
fn numbers(seed: u64, len: usize, magnitude: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // 24 bits, so exact in f32; in -1..1.
        f32::from(u16::try_from(state >> 48).unwrap()) / 32_768.0 - 1.0
    };
    (0..len).map(|_| next() * magnitude).collect()
}

fn dims() -> impl Iterator<Item = usize> {
    (1..=130).chain([384, 768, 1_536, 4_096])
}

/// The stated bound on how far two kinds of kernel may lie apart.
fn bound(dim: usize, terms: impl Iterator<Item = f64>) -> f64 {
    let steps = f64::from(u32::try_from(dim.div_ceil(32)).unwrap());
    let smallest = f64::from(f32::from_bits(1)) * f64::from(u32::try_from(dim).unwrap());
    (steps + 8.0) * 2f64.powi(-23) * terms.map(f64::abs).sum::<f64>() + smallest
}

fn assert_near(what: &str, a: f32, b: f64, within: f64) {
    assert!((f64::from(a) - b).abs() <= within, "{what}: {a} against {b}, within {within}");
}

#[test]
fn all_kinds_of_kernel_agree_with_each_other_and_with_f64_within_the_stated_bound() {
    // The squares of the last overflow nothing at 4,096 numbers; those of the first lie among the subnormals.
    for magnitude in [1e-20, 1e-10, 1.0, 1e6, 1e17] {
        for dim in dims() {
            let seed = dim as u64;
            let (a, b) = (numbers(seed, dim, magnitude), numbers(seed + 7_919, dim, magnitude));
            let pairs = || a.iter().zip(&b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
            let context = format!("dim {dim}, magnitude {magnitude}, seed {seed}");
            let all: Vec<_> = Kernel::all()
                .iter()
                .map(|k| (k.dot(&a, &b), k.l2_squared(&a, &b), k.dot_and_norm(&a, &b)))
                .collect();
            for (dot, l2, (one_pass_dot, norm)) in &all {
                let within = bound(dim, pairs().map(|(a, b)| a * b));
                assert_near(&format!("dot, {context}"), *dot, pairs().map(|(a, b)| a * b).sum(), within);
                assert_near(&format!("dot, {context}"), *dot, f64::from(all[0].0), within);
                assert_eq!(dot.to_bits(), one_pass_dot.to_bits(), "one pass, {context}");

                let squares = || pairs().map(|(a, b)| (a - b) * (a - b));
                let within = bound(dim, squares());
                assert_near(&format!("l2, {context}"), *l2, squares().sum(), within);
                assert_near(&format!("l2, {context}"), *l2, f64::from(all[0].1), within);

                let within = bound(dim, pairs().map(|(_, b)| b * b));
                assert_near(&format!("norm, {context}"), *norm, pairs().map(|(_, b)| b * b).sum(), within);
                assert_near(&format!("norm, {context}"), *norm, f64::from(all[0].2.1), within);
            }
        }
    }
}

#[test]
fn the_kernels_take_vectors_at_any_address() {
    let (a, b) = (numbers(1, 400, 1.0), numbers(2, 400, 1.0));
    for dim in [1, 7, 8, 31, 32, 33, 95, 384] {
        for kernel in Kernel::all() {
            let expected = kernel.dot(&a[..dim], &b[..dim]);
            for shift in 0..9 {
                let mut moved = vec![f32::NAN; shift];
                moved.extend_from_slice(&a[..dim]);
                moved.push(f32::NAN);
                let got = kernel.dot(&moved[shift..shift + dim], &b[..dim]);
                assert_eq!(got.to_bits(), expected.to_bits(), "dim {dim}, shift {shift}");
            }
        }
    }
}

#[test]
fn whole_numbers_are_multiplied_and_summed_alike() {
    for dim in dims() {
        let a: Vec<i16> = (0..dim).map(|i| i16::try_from(i * 7_919 % 8_191).unwrap() - 4_095).collect();
        let b: Vec<i8> = (0..dim).map(|i| i8::try_from(i * 104_729 % 255).unwrap_or(-127)).collect();
        let expected: i32 = a.iter().zip(&b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
        Kernel::all().iter().for_each(|kernel| assert_eq!(kernel.dot_whole(&a, &b), expected, "dim {dim}"));
    }
}

#[test]
fn many_rows_of_whole_numbers_are_multiplied_and_summed_alike() {
    for dim in [32, 64, 96, 384, 4_096] {
        let a: Vec<i16> = (0..dim).map(|i| i16::try_from(i * 7_919 % 8_191).unwrap() - 4_095).collect();
        for rows in 0..11 {
            let row = |n: usize| -> Vec<i8> {
                let number = |i: usize| i8::try_from((i + n) * 104_729 % 255).unwrap_or(-127);
                // The first two reach as far as sums may.
                let end = |a: &i16| if (*a < 0) == (n == 0) { -127 } else { 127 };
                if n < 2 { a.iter().map(end).collect() } else { (0..dim).map(number).collect() }
            };
            let all: Vec<i8> = (0..rows).flat_map(row).collect();
            let dot = |b: &[i8]| a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            let expected: Vec<i32> = all.chunks_exact(dim).map(dot).collect();
            for kernel in Kernel::all() {
                let mut sums = vec![7; rows];
                kernel.dots_whole(&a, &all, &mut sums);
                assert_eq!(sums, expected, "{rows} rows of {dim}, {kernel:?}");
            }
        }
    }
}

#[test]
fn scores_follow_their_definitions() {
    let score = |metric, q: &[f32], x: &[f32]| Scorer::new(metric, q).score(x);
    assert_eq!(score(Metric::Dot, &[1.0, 2.0], &[3.0, -4.0]), -5.0);
    assert_eq!(score(Metric::L2, &[1.0, 2.0], &[4.0, 6.0]), -5.0);
    assert_near("45 degrees", score(Metric::Cosine, &[2.0, 0.0], &[3.0, 3.0]), 0.5f64.sqrt(), 1e-7);
    assert_eq!(score(Metric::Cosine, &[2.0, 0.0], &[-7.0, 0.0]), -1.0);
    let zero = score(Metric::L2, &[1.0, 2.0], &[1.0, 2.0]);
    assert!(zero == 0.0 && zero.is_sign_positive());
}

#[test]
fn cosine_never_leaves_its_range_and_ignores_length() {
    for dim in [1, 3, 384, 1_536] {
        for seed in 1..50 {
            let q = numbers(seed, dim, 1.0);
            let scorer = Scorer::new(Metric::Cosine, &q);
            for length in [1e-30f32, 1e-3, 1.0, 3.0, 1e30] {
                let row: Vec<f32> = q.iter().map(|x| x * length).collect();
                let score = scorer.score(&row);
                assert!(
                    (0.999_999..=1.0).contains(&score),
                    "{score}, dim {dim}, seed {seed}, length {length}"
                );
            }
        }
    }
}

#[test]
fn every_magnitude_of_finite_input_scores_as_f64_says() {
    let magnitudes = [1e-44f32, 1e-38, 1e-25, 1e-12, 1.0, 1e12, 1e18, 1e25, 3e38];
    for kernel in Kernel::all() {
        for (n, a) in magnitudes.iter().enumerate() {
            for b in magnitudes {
                let (q, x) = (numbers(n as u64 + 1, 100, *a), numbers(99, 100, b));
                let pairs = || q.iter().zip(&x).map(|(q, x)| (f64::from(*q), f64::from(*x)));
                let dot: f64 = pairs().map(|(q, x)| q * x).sum();
                let distance = pairs().map(|(q, x)| (q - x) * (q - x)).sum::<f64>().sqrt();
                let lengths = norm(&q) * norm(&x);
                let score = |metric| Scorer::with_kernel(metric, &q, kernel).score(&x);
                let context = format!("{a} against {b}");

                assert_near(&format!("cosine, {context}"), score(Metric::Cosine), dot / lengths, 2e-6);
                let expected = dot.clamp(f64::from(f32::MIN), f64::from(f32::MAX));
                let within = lengths.min(f64::from(f32::MAX)) * 2e-6 + 1e-42;
                assert_near(&format!("dot, {context}"), score(Metric::Dot), expected, within);
                let expected = (-distance).max(f64::from(f32::MIN));
                let within = expected.abs() * 2e-6 + 1e-45;
                assert_near(&format!("l2, {context}"), score(Metric::L2), expected, within);
            }
        }
    }
}

#[test]
fn zeros_score_zero_under_cosine_instead_of_nothing() {
    assert_eq!(Scorer::new(Metric::Cosine, &[0.0; 5]).score(&[1.0; 5]), 0.0);
    assert_eq!(Scorer::new(Metric::Cosine, &[1.0; 5]).score(&[0.0; 5]), 0.0);
}

#[test]
fn a_block_of_rows_scores_as_its_rows_do() {
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        for dim in [1, 8, 33, 100] {
            let scorer = Scorer::new(metric, &numbers(3, dim, 1.0));
            let rows = numbers(4, dim * 17, 1.0);
            let mut scores = [f32::NAN; 17];
            scorer.scores_into(&rows, &mut scores);
            for (row, score) in rows.chunks(dim).zip(scores) {
                assert_eq!(scorer.score(row).to_bits(), score.to_bits());
            }
            scorer.scores_into(&[], &mut []);
        }
    }
}
