//! What the codes leave open is enough for the answer of the plain comparison, to the bit, at every magnitude.

use akidb_host::Rng;

use super::{clustered, slices};
use crate::distance::{Kernel, Scorer};
use crate::index::ByteCodes;
use crate::schema::Metric;
use crate::topk::TopK;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::Dot];

/// The best k of the rows that live: scores to the bit, equal ones by row.
fn best(scorer: &Scorer, vectors: &[Vec<f32>], k: usize, rows: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut top = TopK::new(k);
    rows.for_each(|row| top.push(scorer.score(&vectors[row as usize]), row, ()));
    top.into_sorted().into_iter().map(|(score, row, ())| (row, score.to_bits())).collect()
}

fn lives(row: u32) -> bool {
    !row.is_multiple_of(7)
}

/// Compares the two; gives how many rows were left open.
fn check(metric: Metric, vectors: &[Vec<f32>], query: &[f32], k: usize, what: &str) -> Option<usize> {
    let rows: Vec<u32> = (0..u32::try_from(vectors.len()).unwrap()).collect();
    let codes = ByteCodes::new(metric, rows.clone(), &slices(vectors));
    let bytes = ByteCodes::bytes_for(u32::try_from(rows.len()).unwrap(), query.len());
    assert_eq!(codes.bytes(), bytes, "{what}");
    let scorer = Scorer::new(metric, query);
    let expected = best(&scorer, vectors, k, rows.iter().copied().filter(|row| lives(*row)));
    let mut left = None;
    for kernel in Kernel::all() {
        let Some(open) = codes.open(kernel, query, k, lives) else {
            assert!(metric == Metric::Cosine && query.iter().all(|x| *x == 0.0), "{what}");
            return None;
        };
        assert!(open.iter().all(|open| lives(open.row)), "{what}: a dead row");
        assert!(open.is_sorted_by(|a, b| a.most >= b.most), "{what}: order");
        for open in &open {
            let score = scorer.score(&vectors[open.row as usize]);
            assert!(f64::from(score) <= open.most, "{what}: row {} has {score}, of {open:?}", open.row);
        }
        assert_eq!(best(&scorer, vectors, k, open.iter().map(|open| open.row)), expected, "{what}");
        assert!(left.is_none_or(|left| left == open.len()), "{what}: kernels differ");
        left = Some(open.len());
    }
    let bounds = codes.every_bound(query);
    for ((vector, row), (least, most)) in vectors.iter().zip(rows).zip(bounds) {
        let score = f64::from(scorer.score(vector));
        assert!(least <= score && score <= most, "{what}: row {row} has {score}, of {least} to {most}");
    }
    left
}

/// Numbers in -1..1.
fn random(rng: &mut Rng, len: usize) -> Vec<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "test data")]
    let number = |rng: &mut Rng| (2.0 * rng.f64() - 1.0) as f32;
    (0..len).map(|_| number(rng)).collect()
}

fn scaled(vector: &[f32], by: f32) -> Vec<f32> {
    vector.iter().map(|x| (x * by).clamp(f32::MIN, f32::MAX)).collect()
}

fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).unwrap()
}

/// From the smallest numbers there are to the largest.
const MAGNITUDES: [f32; 12] =
    [1e-45, 1e-42, 1e-38, 1e-30, 1e-20, 1e-12, 1e-3, 1.0, 1e6, 1e18, 1e30, f32::MAX];

/// Rows of some kind that is hard for codes or for sums of f32.
fn rows_of(kind: usize, rng: &mut Rng, len: usize, dim: usize) -> Vec<Vec<f32>> {
    let magnitude = MAGNITUDES[below(rng, MAGNITUDES.len())];
    let centre = scaled(&random(rng, dim), magnitude);
    let spread = [1e-7, 1e-4, 0.1, 1.0][below(rng, 4)];
    let row = |n: usize, rng: &mut Rng| -> Vec<f32> {
        match kind {
            0 => scaled(&random(rng, dim), magnitude),
            // All alike, or of a few that are.
            1 => centre.clone(),
            2 => scaled(&centre, [1.0, 0.5, -1.0][n % 3]),
            // A last bit apart.
            3 => {
                let mut row = centre.clone();
                let at = below(rng, dim);
                row[at] = f32::from_bits(row[at].to_bits() ^ 1);
                row
            }
            // Near to each other, far from zero.
            4 => centre.iter().zip(random(rng, dim)).map(|(c, x)| c + x * spread * magnitude / 2.0).collect(),
            // Every magnitude beside every other.
            5 => scaled(&random(rng, dim), MAGNITUDES[below(rng, MAGNITUDES.len())]),
            // One number far above the others, and rows of zeros.
            6 if n.is_multiple_of(5) => vec![0.0; dim],
            6 => {
                let mut row = scaled(&random(rng, dim), magnitude * 1e-4);
                row[below(rng, dim)] = magnitude;
                row
            }
            _ => {
                let mut row = random(rng, dim);
                row.iter_mut().for_each(|x| *x *= MAGNITUDES[below(rng, MAGNITUDES.len())]);
                row
            }
        }
    };
    let rows: Vec<Vec<f32>> = (0..len).map(|n| row(n, rng)).collect();
    rows.into_iter().map(|row| scaled(&row, 1.0)).collect()
}

#[test]
fn what_is_left_open_gives_the_answer_of_the_plain_comparison() {
    let dims = [1, 2, 31, 32, 33, 64, 100, 384];
    for seed in 0..160 {
        let mut rng = Rng::seeded(seed);
        let (kind, dim) = (below(&mut rng, 8), dims[below(&mut rng, dims.len())]);
        let len = 1 + below(&mut rng, 600);
        let vectors = rows_of(kind, &mut rng, len, dim);
        let strange = MAGNITUDES[below(&mut rng, MAGNITUDES.len())];
        let queries = [
            random(&mut rng, dim),
            vectors[below(&mut rng, len)].clone(),
            scaled(&vectors[below(&mut rng, len)], -0.5),
            scaled(&random(&mut rng, dim), strange),
            vec![0.0; dim],
        ];
        let k = 1 + below(&mut rng, 20);
        for metric in METRICS {
            for (n, query) in queries.iter().enumerate() {
                let what =
                    format!("seed {seed}, kind {kind}, {len} of {dim}, {metric:?}, query {n}, k = {k}");
                check(metric, &vectors, query, k, &what);
            }
        }
    }
}

#[test]
fn the_largest_vectors_fit() {
    let mut rng = Rng::seeded(4_096);
    let signs: Vec<f32> = random(&mut rng, 4_096).iter().map(|x| x.signum()).collect();
    for magnitude in [1.0, f32::MAX, f32::MIN_POSITIVE] {
        let full = scaled(&signs, magnitude);
        let mut vectors = vec![full.clone(), scaled(&full, -1.0), vec![0.0; 4_096]];
        vectors.extend((0..30).map(|_| scaled(&random(&mut rng, 4_096), magnitude)));
        for metric in METRICS {
            for query in [&full, &vectors[1], &vectors[9], &vec![1.0; 4_096]] {
                check(metric, &vectors, query, 3, &format!("{metric:?}, {magnitude}"));
            }
        }
    }
}

#[test]
fn few_rows_are_left_open_wherever_they_lie() {
    for (dim, shift) in [(64, 0.0f32), (384, 0.0), (384, 50.0)] {
        let mut vectors = clustered(1_500, dim, 60, 0xb17e);
        vectors.iter_mut().flatten().for_each(|x| *x += shift);
        for metric in METRICS {
            let (mut open, queries) = (0, vectors.split_off(1_450));
            for query in &queries {
                open += check(metric, &vectors, query, 10, &format!("{metric:?}, {dim}")).unwrap();
            }
            println!("{metric:?}, {dim} numbers, shifted by {shift}: {} open", open / queries.len());
            assert!(open < 60 * queries.len(), "{metric:?}, {dim}, {shift}: {open}");
            vectors.extend(queries);
        }
    }
}
