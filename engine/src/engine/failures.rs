//! Why the last flush, or merge, of each collection failed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::catalog::Catalog;
use crate::error::Error;

/// By collection, each until one of its own succeeds: others do not hide it.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<BTreeMap<u32, Error>>);

impl Failures {
    /// Notes how the last attempt for a collection ended.
    pub(crate) fn note(&self, collection: u32, failure: Option<Error>) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(error) => drop(failures.insert(collection, error)),
            None => drop(failures.remove(&collection)),
        }
    }

    /// That of the first collection for which the last one failed. Forgets those that are no more.
    pub(crate) fn first(&self, catalog: &Catalog) -> Option<Error> {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|id, _| catalog.collections.contains_key(id));
        failures.values().next().cloned()
    }
}
