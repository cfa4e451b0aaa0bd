//! A scan keeps what the final threshold lets through, whatever it began with.

use super::*;
use crate::distance::Kernel;
use crate::distance::codes::{BLOCK_ROWS, FACTORS_LEN, MAX_BLOCKS, Passed};
use crate::index::block::{self, Blocks, Scales, block_len};
use crate::index::candidates::Candidates;
use crate::index::coarse::{self, ALL};
use crate::index::code::{self, Bits};
use crate::index::probe::Probe;
use crate::index::scan::ListScan;

const DIM: usize = 192;
const ERROR: f32 = 4.0;
const WIDTH: f32 = 1.5;

/// One list of codes around zero, and a query.
fn list(rows: usize, seed: u64) -> (Vec<u8>, Scales, Probe) {
    let vectors = clustered(rows + 1, DIM, 3, seed);
    let (zeros, mut nibbles) = (vec![0.0; DIM], vec![0; Bits::One.nibbles(DIM)]);
    let mut blocks = Blocks::new(nibbles.len());
    for vector in &vectors[..rows] {
        let factors = code::encode(Bits::One, vector, &zeros, &mut nibbles);
        blocks.push(&nibbles, factors);
    }
    let (bytes, scales) = blocks.finish();
    let mut probe = Probe::default();
    probe.set(Kernel::best(), Bits::One, &vectors[rows], 1.0, &zeros);
    (bytes, scales, probe)
}

/// The estimates of all rows, one by one.
fn estimates(bytes: &[u8], scales: Scales, probe: &Probe, rows: usize) -> Vec<f32> {
    let len = block_len(Bits::One.nibbles(DIM));
    let mut all = Vec::new();
    for block in bytes.chunks_exact(len) {
        let mut passed = [Passed::default(); MAX_BLOCKS];
        Kernel::best().scan_blocks(block, &probe.table.entries, &ALL, &[u32::MAX], &[], &mut passed);
        let factors = &block[len - FACTORS_LEN..];
        let one = |row: usize| block::estimate(factors, row, passed[0].sum(row), &probe.table, scales);
        let together = block::estimates(factors, &passed[0], &probe.table, scales);
        for (at, estimate) in together.iter().enumerate() {
            assert_eq!(estimate.to_bits(), one(coarse::row(at)).to_bits(), "row {}", coarse::row(at));
        }
        all.extend((0..BLOCK_ROWS).map(one));
    }
    all.truncate(rows);
    all
}

#[test]
fn a_scan_keeps_what_the_final_threshold_lets_through() {
    for (rows, k, every) in [
        (1_000, 10, 1),
        (1_000, 10, 2),
        (1_000, 10, 40),
        (300, 120, 1),
        (700, 200, 1),
        (37, 10, 1),
        (12, 10, 1),
    ] {
        let (bytes, scales, probe) = list(rows, 7 + rows as u64);
        let alive = |row: u32| row.is_multiple_of(every);
        let estimates = estimates(&bytes, scales, &probe, rows);
        let mut living: Vec<(f32, u32)> =
            estimates.iter().copied().zip(0..).filter(|(_, row)| alive(*row)).collect();
        living.sort_by(|a, b| a.0.total_cmp(&b.0));
        let limit = living.get(2 * k - 1).map_or(f32::INFINITY, |(estimate, _)| estimate + WIDTH * ERROR);
        let expected: Vec<u32> =
            living.iter().filter(|(estimate, _)| *estimate <= limit).map(|(_, row)| *row).collect();
        for kernel in Kernel::all() {
            let mut candidates = Candidates::default();
            candidates.begin(k, WIDTH, f32::INFINITY);
            let scan = ListScan {
                blocks: &bytes,
                rows: None,
                first_row: 0,
                len: u32::try_from(rows).unwrap(),
                scales,
                base: 0.0,
                unit: 1.0,
                error: ERROR,
                is_one_of_many: true,
                source: 0,
                soon: &[],
            };
            let nibbles = Bits::One.nibbles(DIM);
            scan.run(kernel, &probe, nibbles, |_| u32::MAX, alive, &mut candidates);
            let mut kept: Vec<u32> = candidates.finish().iter().map(|kept| kept.row).collect();
            let mut expected = expected.clone();
            kept.sort_unstable();
            expected.sort_unstable();
            assert_eq!(kept, expected, "{rows} rows, k = {k}, one in {every} alive");
        }
    }
}
