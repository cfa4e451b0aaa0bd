//! As many rows as wanted, distributed as the sample's are: mixes of two of its rows each.

use akidb::{Collection, NewRow};
use akidb_host::Rng;

use crate::sample::Sample;

const BATCH_ROWS: usize = 500;

/// `count` rows with ids `r0000000` on; the payload is that of the heavier row of the mix. The same at each call.
pub fn mixed_rows(sample: &Sample, count: usize) -> impl Iterator<Item = NewRow> {
    let mut rng = Rng::seeded(384);
    (0..count).map(move |at| {
        let rows = &sample.rows;
        let other = usize::try_from(rng.below(rows.len() as u64)).expect("below a usize");
        let (a, b) = (&rows[at % rows.len()], &rows[other]);
        let vector = a.vector.iter().zip(&b.vector).map(|(x, y)| 0.7 * x + 0.3 * y).collect();
        NewRow { id: format!("r{at:07}").into(), vector, payload: a.payload.clone(), expires: None }
    })
}

/// Writes [`mixed_rows`] into a collection with the sample's schema.
///
/// # Errors
/// Whatever the database says.
pub fn fill_mixed(docs: &Collection, sample: &Sample, count: usize) -> akidb::Result<()> {
    let mut batch = Vec::with_capacity(BATCH_ROWS);
    for row in mixed_rows(sample, count) {
        batch.push(row);
        if batch.len() == BATCH_ROWS {
            docs.upsert_batch(&batch)?;
            batch.clear();
        }
    }
    if batch.is_empty() { Ok(()) } else { docs.upsert_batch(&batch).map(|_| ()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::sample;

    #[test]
    fn rows_are_the_same_at_each_call_and_differ_among_themselves() {
        let sample = sample();
        let rows: Vec<NewRow> = mixed_rows(&sample, 30).collect();
        assert_eq!(rows, mixed_rows(&sample, 30).collect::<Vec<_>>());
        assert!(rows.windows(2).all(|pair| pair[0].vector != pair[1].vector && pair[0].id < pair[1].id));
    }
}
