//! The judge of recall: exact neighbours by brute force in f64, sharing no code with the engine.

use std::cmp::Ordering;

use crate::sample::SampleRow;

/// The `k` rows of the highest cosine with `query`, best first, as (position in `rows`, cosine); fewer if there
/// are fewer rows. Ties go to the smaller id by bytes. A zero vector has cosine 0 with everything.
///
/// # Panics
/// If a row's dimension is not the query's.
#[must_use]
pub fn exact_top_k_cosine_f64(rows: &[SampleRow], query: &[f32], k: usize) -> Vec<(usize, f64)> {
    let mut scored: Vec<(usize, f64)> =
        rows.iter().enumerate().map(|(at, row)| (at, cosine_f64(&row.vector, query))).collect();
    scored.sort_by(|a, b| by_score_then_id(rows, *a, *b));
    scored.truncate(k);
    scored
}

/// The cosine of the angle between two vectors, summed in f64.
///
/// # Panics
/// If the dimensions differ.
#[must_use]
pub fn cosine_f64(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of one dimension are compared");
    let (mut dot, mut aa, mut bb) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    if aa == 0.0 || bb == 0.0 { 0.0 } else { dot / (aa.sqrt() * bb.sqrt()) }
}

fn by_score_then_id(rows: &[SampleRow], a: (usize, f64), b: (usize, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then_with(|| rows[a.0].id.as_bytes().cmp(rows[b.0].id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn row(id: &str, vector: &[f32]) -> SampleRow {
        SampleRow { id: id.into(), vector: vector.into(), payload: Map::new() }
    }

    #[test]
    fn best_come_first_and_ties_go_to_the_smaller_id() {
        let rows =
            [row("d", &[0.0, 1.0]), row("c", &[2.0, 0.0]), row("b", &[-1.0, 0.0]), row("a", &[9.0, 0.0])];
        let best = exact_top_k_cosine_f64(&rows, &[3.0, 0.0], 3);
        assert_eq!(best, [(3, 1.0), (1, 1.0), (0, 0.0)]);
        assert_eq!(exact_top_k_cosine_f64(&rows, &[0.0, 0.0], 9).len(), 4);
    }
}
