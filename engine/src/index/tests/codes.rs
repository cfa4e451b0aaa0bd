//! The rotation turns without stretching, estimates are unbiased and as sure as they claim, kernels agree bit by bit.

use akidb_host::Rng;

use super::clustered;
use crate::distance::Kernel;
use crate::distance::codes::{BLOCK_ROWS, FACTORS_LEN, MAX_BLOCKS, POSITION_LEN, Passed, Test};
use crate::index::block::{Blocks, block_len, estimate};
use crate::index::code::{self, Bits};
use crate::index::probe::Probe;
use crate::index::rotation::Rotation;

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn a_rotation_keeps_lengths_and_angles_at_every_dimension() {
    for dim in [1, 3, 48, 100, 191, 192, 193, 256, 384, 768, 1_000, 1_536, 4_096] {
        let rows = clustered(2, dim, 2, 11);
        let rotation = Rotation::new(dim, 7);
        let mut turned = vec![vec![0.0; rotation.coded()]; 2];
        for (row, out) in rows.iter().zip(&mut turned) {
            rotation.apply(Kernel::best(), row, 1.0, out);
        }
        for (a, b) in [(0, 0), (0, 1), (1, 1)] {
            let (before, after) = (dot(&rows[a], &rows[b]), dot(&turned[a], &turned[b]));
            let scale = (dot(&rows[a], &rows[a]) * dot(&rows[b], &rows[b])).sqrt();
            assert!((before - after).abs() < 1e-4 * scale, "dimension {dim}: {before} became {after}");
        }
    }
}

/// Files hold codes made under these: they never change.
#[test]
fn the_rotation_of_a_seed_is_fixed_for_good() {
    let crcs: Vec<u32> = [50, 100, 384, 1_000].iter().map(|dim| Rotation::new(*dim, 42).crc32()).collect();
    assert_eq!(crcs, CRCS, "rotations of 50, 100, 384 and 1000 numbers under seed 42");
}

const CRCS: [u32; 4] = [4_127_938_775, 4_226_954_074, 1_120_600_479, 1_128_958_349];

#[test]
fn every_kernel_turns_to_the_same_bits() {
    for dim in [100, 384, 1_000] {
        let rows = clustered(3, dim, 3, 12);
        let rotation = Rotation::new(dim, 9);
        let mut turned = [vec![0.0; rotation.coded()], vec![0.0; rotation.coded()]];
        for row in &rows {
            rotation.apply(Kernel::Scalar, row, 0.3, &mut turned[0]);
            rotation.apply(Kernel::best(), row, 0.3, &mut turned[1]);
            assert!(
                turned[0].iter().zip(&turned[1]).all(|(a, b)| a.to_bits() == b.to_bits()),
                "dimension {dim}"
            );
        }
    }
}

#[test]
fn every_kernel_scans_blocks_as_the_plain_code_does() {
    let seed = 0x5ca1_ab1e;
    println!("seed {seed:#x}");
    let mut random = Rng::seeded(seed);
    let kernels = Kernel::all();
    for round in 0..400usize {
        let positions = [2, 16, 18, 50, 96, 256, 1_024][round % 7];
        let blocks = 1 + round % MAX_BLOCKS;
        let mut bytes = vec![0; blocks * (positions * POSITION_LEN + FACTORS_LEN)];
        random.fill(&mut bytes);
        let mut table = vec![0; positions * POSITION_LEN];
        random.fill(&mut table);
        table.iter_mut().for_each(|entry| *entry %= 32);
        #[expect(clippy::cast_possible_truncation, reason = "any 16 bits will do")]
        let mut number = || (random.u32() as u16).cast_signed();
        let test = Test {
            add_scale: number(),
            offset: number() / 4,
            shift: u32::from(number().unsigned_abs() % 8),
            limit: number(),
        };
        let wanted: Vec<u32> = (0..blocks)
            .map(|block| if (round + block) % 5 == 0 { 0 } else { random.u32() | random.u32() })
            .collect();
        let scans: Vec<_> = kernels
            .iter()
            .map(|kernel| {
                let mut passed = [Passed::default(); MAX_BLOCKS];
                kernel.scan_blocks(&bytes, &table, &test, &wanted, &bytes, &mut passed);
                passed
            })
            .collect();
        let others = scans[1..].iter().flat_map(|fast| scans[0].iter().zip(fast).enumerate().take(blocks));
        for (block, (plain, fast)) in others {
            assert_eq!(plain.rows, fast.rows, "round {round}, block {block}");
            let mut rows = (0..BLOCK_ROWS).filter(|row| plain.rows >> row & 1 == 1);
            assert!(rows.all(|row| plain.sum(row) == fast.sum(row)), "round {round}, block {block}");
        }
    }
}

#[test]
fn estimates_are_unbiased_and_as_sure_as_they_say() {
    for (dim, code_error) in [(64, 0.36), (100, 0.36), (192, 0.755), (384, 0.755)] {
        let bits = Bits::of(dim).unwrap();
        let rows = clustered(400, dim, 1, 13);
        let rotation = Rotation::new(dim, 3);
        let kernel = Kernel::best();
        let turn = |row: &[f32]| {
            let mut out = vec![0.0; rotation.coded()];
            rotation.apply(kernel, row, 1.0, &mut out);
            out
        };
        // Residuals from a centre that is not the mean, under a mean that is not zero.
        let mean = turn(&rows[0]);
        let centre: Vec<f32> = turn(&rows[1]).iter().zip(&mean).map(|(x, mean)| x - mean).collect();
        let mut blocks = Blocks::new(bits.nibbles(rotation.coded()));
        let mut nibbles = vec![0; bits.nibbles(rotation.coded())];
        let mut norms = Vec::new();
        for row in &rows {
            let turned = turn(row);
            let residual: Vec<f32> =
                turned.iter().zip(&mean).zip(&centre).map(|((x, m), c)| x - m - c).collect();
            let factors = code::encode(bits, &residual, &centre, &mut nibbles);
            norms.push(f64::from(factors.norm_squared));
            blocks.push(&nibbles, factors);
        }
        let (bytes, scales) = blocks.finish();
        let mut probe = Probe::default();
        let (mut bias, mut square, mut count) = (0.0, 0.0, 0.0);
        for query in clustered(40, dim, 1, 14) {
            probe.set(kernel, bits, &turn(&query), 1.0, &mean);
            let to_centre: f64 = probe.y.iter().zip(&centre).map(|(y, c)| f64::from(y - c).powi(2)).sum();
            for (at, row) in rows.iter().enumerate().skip(2) {
                let block = &bytes[at / BLOCK_ROWS * block_len(nibbles.len())..][..block_len(nibbles.len())];
                let (codes, factors) = block.split_at(block.len() - FACTORS_LEN);
                let sum = sum_of(codes, &probe.table.entries, at % BLOCK_ROWS);
                let code = estimate(factors, at % BLOCK_ROWS, sum, &probe.table, scales);
                let truth: f64 = query.iter().zip(row).map(|(q, x)| f64::from(q - x).powi(2)).sum();
                #[expect(clippy::cast_precision_loss, reason = "a dimension")]
                let error = 2.0 * code_error * (norms[at] * to_centre / rotation.coded() as f64).sqrt();
                let off = (f64::from(code) + to_centre - truth) / error;
                (bias, square, count) = (bias + off, square + off * off, count + 1.0);
            }
        }
        let (bias, spread) = (bias / count, f64::sqrt(square / count));
        println!("dimension {dim}: bias {bias:.3} errors, spread {spread:.3} errors");
        // All residuals share the part from the centre to the mean, so their errors are not independent.
        assert!(bias.abs() < 0.35, "dimension {dim}: bias {bias}");
        assert!((0.8..1.2).contains(&spread), "dimension {dim}: spread {spread}");
    }
}

fn sum_of(codes: &[u8], table: &[u8], row: usize) -> u16 {
    let positions = codes.chunks(POSITION_LEN).zip(table.chunks(POSITION_LEN));
    positions
        .map(|(codes, table)| u16::from(table[usize::from(codes[row % 16] >> (row / 16 * 4) & 15)]))
        .sum()
}

#[test]
fn a_row_in_the_centre_has_no_error() {
    for bits in [Bits::One, Bits::Two] {
        let (zeros, centre) = (vec![0.0; 64], vec![0.5; 64]);
        let factors = code::encode(bits, &zeros, &centre, &mut vec![0; bits.nibbles(64)]);
        assert_eq!((factors.add, factors.mul), (0.0, 0.0));
    }
}
