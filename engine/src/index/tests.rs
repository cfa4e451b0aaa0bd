//! Codes, lists and their bytes, against plain arithmetic on the vectors.

mod byte_codes;
mod bytes;
mod candidates;
mod codes;
mod recall;
mod scan;
mod thinned;

use akidb_host::Rng;

/// Rows in clusters, as embeddings are: a centre each of `clusters`, and noise around it.
fn clustered(rows: usize, dim: usize, clusters: usize, seed: u64) -> Vec<Vec<f32>> {
    println!("seed {seed:#x}");
    let mut random = Rng::seeded(seed);
    let mut gaussian = move || {
        let sum: f64 = (0..12).map(|_| random.f64()).sum();
        #[expect(clippy::cast_possible_truncation, reason = "test data")]
        let number = (sum - 6.0) as f32;
        number
    };
    let centres: Vec<Vec<f32>> = (0..clusters).map(|_| (0..dim).map(|_| gaussian()).collect()).collect();
    (0..rows)
        .map(|row| centres[row % clusters].iter().map(|centre| centre + 0.7 * gaussian()).collect())
        .collect()
}

fn slices(rows: &[Vec<f32>]) -> Vec<&[f32]> {
    rows.iter().map(Vec::as_slice).collect()
}
