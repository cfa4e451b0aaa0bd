//! What a search asks, and what it may cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::row;
use crate::schema::Schema;

/// Most results of one search.
pub const MAX_K: usize = 10_000;
/// The recall a search aims at unless it is told otherwise.
pub const DEFAULT_RECALL: f32 = 0.95;

/// How good the answer must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Accuracy {
    /// The share of the true nearest rows, as measured when each segment was built.
    Recall(f32),
    /// About so many times the root of its rows are compared by code in each segment.
    Effort(u32),
    /// Every row is compared.
    Exact,
}

/// What a search asks.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) vector: Vec<f32>,
    pub(crate) k: usize,
    pub(crate) filter: Option<Filter>,
    pub(crate) accuracy: Accuracy,
    pub(crate) with_payload: bool,
    pub(crate) with_vector: bool,
    /// Set when nobody waits for the answer any more.
    given_up: Option<Arc<AtomicBool>>,
}

/// Gives a search up when it is dropped.
#[derive(Debug)]
pub(crate) struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Query {
    pub(crate) fn new(vector: &[f32]) -> Self {
        Self {
            vector: vector.to_vec(),
            k: 10,
            filter: None,
            accuracy: Accuracy::Recall(DEFAULT_RECALL),
            with_payload: true,
            with_vector: false,
            given_up: None,
        }
    }

    /// Lets the search end early once what this returns is dropped.
    pub(crate) fn give_up_with(&mut self) -> GiveUp {
        let given_up = Arc::clone(self.given_up.get_or_insert_default());
        GiveUp(given_up)
    }

    /// An error once the search was given up.
    #[inline]
    pub(crate) fn go_on(&self) -> Result<()> {
        match &self.given_up {
            Some(given_up) if given_up.load(Ordering::Relaxed) => {
                Err(Error::new(ErrorKind::Closed, "AKI-0233", "the search was given up"))
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with it.
    pub(crate) fn check(&self, schema: &Schema) -> Result<()> {
        self.check_wishes()?;
        row::check_vector(schema, &self.vector)
    }

    /// What is wrong with it but for its vector.
    pub(crate) fn check_wishes(&self) -> Result<()> {
        if self.k == 0 || self.k > MAX_K {
            let message = format!("k is {}; 1 to {MAX_K} rows can be asked for", self.k);
            return Err(Error::invalid("AKI-0230", message));
        }
        match self.accuracy {
            Accuracy::Recall(recall) if !(recall > 0.0 && recall <= 1.0) => {
                let message = format!("a recall of {recall}; it is a share above 0 and up to 1");
                return Err(Error::invalid("AKI-0232", message).help_is("1 asks for an exact search"));
            }
            Accuracy::Effort(0) => {
                return Err(Error::invalid("AKI-0232", "an effort of 0 compares nothing; 1 is the least"));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_goes_on_until_what_waits_for_it_is_dropped() {
        let mut query = Query::new(&[1.0]);
        assert!(query.go_on().is_ok());
        let waits = query.give_up_with();
        assert!(query.clone().go_on().is_ok());
        drop(waits);
        assert_eq!(query.go_on().unwrap_err().code(), "AKI-0233");
    }
}
