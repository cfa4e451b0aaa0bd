//! Searches and scans as they are written down: `docs.search(&v).k(10).filter("lang = 'en'").run()?`.

use crate::collection::{Collection, StoredRow, stored};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::id::Id;
use crate::lsn::Lsn;
use crate::read;
use crate::row::{self, Payload};
use crate::search::{self, Query};

/// Rows of a page unless [`Scan::limit`] says otherwise.
const DEFAULT_PAGE_ROWS: usize = 1_000;
/// Most rows of a page.
const MAX_PAGE_ROWS: usize = 100_000;

/// A row found, best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Id.
    pub id: Id,
    /// Higher is nearer: cosine, inner product, or minus the Euclidean distance.
    pub score: f32,
    /// The row's version.
    pub lsn: Lsn,
    /// Declared fields and the rest.
    pub payload: Payload,
    /// The vector, if [`Search::with_vector`] asked for it.
    pub vector: Option<Vec<f32>>,
}

/// A search to be run.
#[derive(Debug)]
#[must_use]
pub struct Search<'a> {
    pub(super) collection: &'a Collection,
    query: Query,
    bad_filter: Option<Error>,
    with_vector: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(collection: &'a Collection, vector: &[f32]) -> Self {
        let query = Query { vector: vector.to_vec(), k: 10, filter: None };
        Self { collection, query, bad_filter: None, with_vector: false }
    }

    /// How many rows, 1 to 10,000; 10 unless set.
    pub fn k(mut self, k: usize) -> Self {
        self.query.k = k;
        self
    }

    /// Only rows that match: text such as `"lang = 'en' and year > 2020"` or a [`Filter`]. What is wrong with it
    /// is told by `run`.
    pub fn filter(mut self, filter: impl TryInto<Filter, Error = impl Into<Error>>) -> Self {
        match filter.try_into() {
            Ok(filter) => self.query.filter = Some(filter),
            Err(error) => self.bad_filter = Some(error.into()),
        }
        self
    }

    /// Also returns the vectors of the hits.
    pub fn with_vector(mut self, with_vector: bool) -> Self {
        self.with_vector = with_vector;
        self
    }

    /// Runs the search: exact, on one moment of the collection, blocking the caller's thread. If k rows match, k
    /// rows come back.
    ///
    /// # Errors
    /// `Invalid` for a bad k, vector or filter; `Corrupt` with file and offset for a damaged block.
    pub fn run(self) -> Result<Vec<Hit>> {
        let collection = self.collection;
        self.into_parts()?.run(collection)
    }

    /// What the search asks, or what is wrong with its filter.
    pub(super) fn into_parts(self) -> Result<SearchParts> {
        match self.bad_filter {
            Some(error) => Err(error),
            None => Ok(SearchParts { query: self.query, with_vector: self.with_vector }),
        }
    }
}

/// A search without its collection, so that another thread can run it.
#[derive(Debug)]
pub(super) struct SearchParts {
    query: Query,
    with_vector: bool,
}

impl SearchParts {
    pub(super) fn run(self, collection: &Collection) -> Result<Vec<Hit>> {
        let (view, state) = collection.readable()?;
        let found = search::run(&view, &state, &self.query)?;
        let hit = |found: search::Found| {
            let payload = row::join_payload(&state.schema, &found.row.fields, found.row.rest.as_deref())?;
            let vector = self.with_vector.then(|| found.row.vector.to_vec());
            Ok(Hit { score: found.score, lsn: found.lsn, payload, vector, id: found.row.id })
        };
        found.into_iter().map(hit).collect()
    }
}

/// A scan to be run.
#[derive(Debug)]
#[must_use]
pub struct Scan<'a> {
    collection: &'a Collection,
    filter: Option<Filter>,
    bad_filter: Option<Error>,
    after: Option<Id>,
    limit: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(collection: &'a Collection) -> Self {
        Self { collection, filter: None, bad_filter: None, after: None, limit: DEFAULT_PAGE_ROWS }
    }

    /// Only rows that match.
    pub fn filter(mut self, filter: impl TryInto<Filter, Error = impl Into<Error>>) -> Self {
        match filter.try_into() {
            Ok(filter) => self.filter = Some(filter),
            Err(error) => self.bad_filter = Some(error.into()),
        }
        self
    }

    /// Only rows with ids above this one: the last id of the page before.
    pub fn after(mut self, id: impl Into<Id>) -> Self {
        self.after = Some(id.into());
        self
    }

    /// At most this many rows, up to 100,000; 1,000 unless set.
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = rows;
        self
    }

    /// Returns the page, in id order, all of one moment. An empty page is the end.
    ///
    /// # Errors
    /// `Invalid` for a bad filter or limit; `Corrupt` for a damaged block.
    pub fn run(self) -> Result<Vec<StoredRow>> {
        if let Some(error) = self.bad_filter {
            return Err(error);
        }
        if self.limit == 0 || self.limit > MAX_PAGE_ROWS {
            let message = format!("a page of {} rows; 1 to {MAX_PAGE_ROWS} can be asked for", self.limit);
            return Err(Error::invalid("AKI-0231", message));
        }
        let (view, state) = self.collection.readable()?;
        let rows = read::scan(&view, &state, self.filter.as_ref(), self.after.as_ref(), self.limit)?;
        rows.into_iter().map(|(lsn, row)| stored(&state.schema, lsn, row)).collect()
    }
}
