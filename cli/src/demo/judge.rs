//! What the demo holds the database to: recall against brute force, and rows equal to what was written.

use std::collections::HashSet;

use akidb::{Collection, Id, StoredRow};
use akidb_benches::{SampleQuery, SampleRow, cosine_f64, exact_top_k_cosine_f64};

use super::kill::Ack;
use crate::failure::Result;

/// Rows asked for when recall is measured.
const K: usize = 10;
/// Scores nearer than this to the k-th are equal as far as f32 can tell.
const TIE: f64 = 1e-6;
/// Rows of a page when everything is compared.
const PAGE_ROWS: usize = 1_000;

/// Shares of the true ten nearest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recall {
    /// That exact searches return.
    pub(crate) exact: f64,
    /// That searches return which ask for nothing.
    pub(crate) usual: f64,
}

impl Recall {
    /// The smaller ones.
    pub(crate) fn min(self, other: Self) -> Self {
        Self { exact: self.exact.min(other.exact), usual: self.usual.min(other.usual) }
    }
}

/// The share of the true ten nearest that searches return, over all queries. `rows` are what the collection must
/// hold; the truth is computed from them in f64, sharing no code with the engine.
pub(crate) fn recall_at_10(
    found_in: &Collection,
    rows: &[SampleRow],
    queries: &[SampleQuery],
) -> Result<Recall> {
    let by_id: std::collections::HashMap<&str, &SampleRow> =
        rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let (mut right, mut wanted) = ([0, 0], 0);
    for query in queries {
        let truth = exact_top_k_cosine_f64(rows, &query.vector, K);
        let worst = truth.last().map_or(0.0, |(_, score)| *score);
        let search = || found_in.search(&query.vector).k(K);
        let good = |id: &&&Id| match id {
            Id::Text(text) => {
                let row = by_id.get(text.as_ref());
                row.is_some_and(|row| cosine_f64(&row.vector, &query.vector) >= worst - TIE)
            }
            Id::Int(_) => false,
        };
        for (right, hits) in right.iter_mut().zip([search().exact().run()?, search().run()?]) {
            let distinct: HashSet<&Id> = hits.iter().map(|hit| &hit.id).collect();
            *right += distinct.iter().filter(good).count();
        }
        wanted += truth.len();
    }
    let [exact, usual] = right.map(|right| right as f64 / wanted.max(1) as f64);
    Ok(Recall { exact, usual })
}

/// Whether the stored row is bit for bit the one that was given.
fn is_as_written(stored: &StoredRow, given: &SampleRow) -> bool {
    stored.id == Id::from(given.id.as_str())
        && same_bits(&stored.vector, &given.vector)
        && stored.payload == given.payload
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits())
}

/// How many of these rows are there as they were written.
pub(crate) fn found(rows: &Collection, written: &[SampleRow]) -> Result<u64> {
    let mut found = 0;
    for page in written.chunks(PAGE_ROWS) {
        let ids: Vec<Id> = page.iter().map(|row| Id::from(row.id.as_str())).collect();
        let stored = rows.get_many(&ids)?;
        let right = |(stored, given): (&Option<StoredRow>, &SampleRow)| {
            stored.as_ref().is_some_and(|stored| is_as_written(stored, given))
        };
        found += stored.iter().zip(page).filter(|pair| right(*pair)).count() as u64;
    }
    Ok(found)
}

/// How many of the child's rows are there, each as it was written and under the LSN that was told.
pub(crate) fn found_as_told(
    rows: &Collection,
    acks: &[Ack],
    written: impl Fn(u64) -> SampleRow,
) -> Result<u64> {
    let mut found = 0;
    for ack in acks {
        let given = written(ack.n);
        let stored = rows.get(given.id.as_str())?;
        let right = stored.is_some_and(|row| is_as_written(&row, &given) && row.lsn.to_string() == ack.lsn);
        found += u64::from(right);
    }
    Ok(found)
}

/// How many rows two collections have in common: the same id, LSN, vector bits and payload.
pub(crate) fn equal_rows(a: &Collection, b: &Collection) -> Result<u64> {
    let mut equal = 0;
    let mut after: Option<Id> = None;
    loop {
        let mut scan = a.scan().limit(PAGE_ROWS);
        if let Some(after) = after {
            scan = scan.after(after);
        }
        let page = scan.run()?;
        let Some(last) = page.last() else { return Ok(equal) };
        let ids: Vec<Id> = page.iter().map(|row| row.id.clone()).collect();
        let same = |(x, y): (&StoredRow, &Option<StoredRow>)| {
            y.as_ref()
                .is_some_and(|y| x.lsn == y.lsn && x.payload == y.payload && same_bits(&x.vector, &y.vector))
        };
        equal += page.iter().zip(&b.get_many(&ids)?).filter(|pair| same(*pair)).count() as u64;
        after = Some(last.id.clone());
    }
}

/// The middle of the times; 0 of none.
pub(crate) fn p50_micros(acks: &[Ack]) -> u64 {
    let mut micros: Vec<u64> = acks.iter().map(|ack| ack.micros).collect();
    micros.sort_unstable();
    micros.get(micros.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_times_is_taken() {
        let ack = |micros| Ack { n: 0, lsn: String::new(), micros };
        assert_eq!(p50_micros(&[ack(9), ack(1), ack(5)]), 5);
        assert_eq!(p50_micros(&[]), 0);
    }
}
