//! Many searches at once: `docs.search_batch(&vectors).k(10).run()?`.

use std::sync::Arc;

use super::query::{SearchParts, hits};
use super::{Collection, Hit, Search};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::search;

/// Most vectors of one batch.
const MAX_VECTORS: usize = 4_096;
/// Most rows one batch can find: all of them are in memory at the same time.
const MAX_HITS: usize = 1_000_000;

/// Searches for several vectors that want the same otherwise.
#[derive(Debug)]
#[must_use]
pub struct SearchBatch<'a> {
    /// What all want; its own vector is none.
    each: Search<'a>,
    vectors: Vec<Vec<f32>>,
}

impl<'a> SearchBatch<'a> {
    pub(super) fn new(collection: &'a Collection, vectors: &[impl AsRef<[f32]>]) -> Self {
        let vectors = vectors.iter().map(|vector| vector.as_ref().to_vec()).collect();
        Self { each: Search::new(collection, &[]), vectors }
    }

    /// As [`Search::k`], of each.
    pub fn k(self, k: usize) -> Self {
        Self { each: self.each.k(k), ..self }
    }

    /// As [`Search::filter`].
    pub fn filter(self, filter: impl TryInto<Filter, Error = impl Into<Error>>) -> Self {
        Self { each: self.each.filter(filter), ..self }
    }

    /// As [`Search::with_vector`].
    pub fn with_vector(self, with_vector: bool) -> Self {
        Self { each: self.each.with_vector(with_vector), ..self }
    }

    /// As [`Search::with_payload`].
    pub fn with_payload(self, with_payload: bool) -> Self {
        Self { each: self.each.with_payload(with_payload), ..self }
    }

    /// As [`Search::recall`].
    pub fn recall(self, recall: f32) -> Self {
        Self { each: self.each.recall(recall), ..self }
    }

    /// As [`Search::effort`].
    pub fn effort(self, n: u32) -> Self {
        Self { each: self.each.effort(n), ..self }
    }

    /// As [`Search::exact`].
    pub fn exact(self) -> Self {
        Self { each: self.each.exact(), ..self }
    }

    /// Runs the searches one after the other on one moment of the collection, blocking the caller's thread: the answers
    /// in the order of the vectors, each what [`Search::run`] would give. The filter is bound once (and evaluated once where
    /// `engine.filter_cache_bytes` holds what it gives) and rows that several searches found are read once. No vectors, no answers.
    ///
    /// # Errors
    /// As [`Search::run`]; `Invalid` for more than 4,096 vectors, for more than 1,000,000 rows in all (vectors times k) and for a bad one, which is named by its place, before
    /// anything is searched.
    pub fn run(self) -> Result<Vec<Vec<Hit>>> {
        let collection = self.each.collection;
        run(collection, self.each.into_parts()?, self.vectors)
    }

    /// As [`SearchBatch::run`], awaited, on a thread of the database. Dropping the future ends the search that is under
    /// way and starts no other.
    ///
    /// # Errors
    /// As [`SearchBatch::run`]; `Full` when 4,096 async calls wait already.
    pub async fn run_async(self) -> Result<Vec<Vec<Hit>>> {
        let collection = self.each.collection.clone();
        let mut parts = self.each.into_parts()?;
        let _give_up = parts.query.give_up_with();
        let engine = Arc::clone(&collection.handle.engine);
        engine.workers.run(move || run(&collection, parts, self.vectors)).await?
    }
}

fn run(collection: &Collection, mut parts: SearchParts, vectors: Vec<Vec<f32>>) -> Result<Vec<Vec<Hit>>> {
    let hits_at_most = vectors.len().saturating_mul(parts.query.k);
    if vectors.len() <= MAX_VECTORS && hits_at_most > MAX_HITS {
        let message = format!("a batch that may find {hits_at_most} rows; up to {MAX_HITS} can be asked for");
        return Err(Error::invalid("AKI-0234", message).help_is("ask in several batches, or for a smaller k"));
    }
    if vectors.len() > MAX_VECTORS {
        let message =
            format!("a batch of {} vectors; up to {MAX_VECTORS} can be searched for", vectors.len());
        return Err(Error::invalid("AKI-0234", message));
    }
    let (view, state) = collection.readable()?;
    let found = search::batch(&view, &state, &mut parts.query, vectors)?;
    found.into_iter().map(|found| hits(&state.schema, &parts.query, found)).collect()
}
