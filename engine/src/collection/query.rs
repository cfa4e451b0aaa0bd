//! Searches and scans as they are written down: `docs.search(&v).k(10).filter("lang = 'en'").run()?`.

use crate::collection::{Collection, StoredRow, check_id_kind, stored};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::id::Id;
use crate::lsn::Lsn;
use crate::read;
use crate::row::{self, Payload};
use crate::schema::Schema;
use crate::search::{self, Accuracy, Explained, Query};

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
    /// Declared fields and the rest; empty if [`Search::with_payload`] said so.
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
}

impl<'a> Search<'a> {
    pub(super) fn new(collection: &'a Collection, vector: &[f32]) -> Self {
        Self { collection, query: Query::new(vector), bad_filter: None }
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
        self.query.with_vector = with_vector;
        self
    }

    /// Whether the hits carry their payload; they do unless this says `false`. Without it (and without the vector) a
    /// hit is an id, a score and a version, and no page of the payload is read.
    pub fn with_payload(mut self, with_payload: bool) -> Self {
        self.query.with_payload = with_payload;
        self
    }

    /// The share of the true nearest rows to find, above 0 and up to 1; 0.95 unless set. What it takes was measured
    /// when each segment was built, on rows of its own and for k = 10, and more is compared for more rows: a query unlike any row may find
    /// less. Of rows not yet in a segment all codes are scanned; 1 is [`Search::exact`].
    pub fn recall(mut self, recall: f32) -> Self {
        self.query.accuracy = Accuracy::Recall(recall);
        self
    }

    /// Instead of a recall: in each segment compare about `n` times the root of its rows by their codes. 16 to 64 are
    /// usual.
    pub fn effort(mut self, n: u32) -> Self {
        self.query.accuracy = Accuracy::Effort(n);
        self
    }

    /// Compares every row.
    pub fn exact(mut self) -> Self {
        self.query.accuracy = Accuracy::Exact;
        self
    }

    /// Runs the search on one moment of the collection, blocking the caller's thread. If k rows match, k rows come
    /// back. Scores are exact whatever the recall.
    ///
    /// # Errors
    /// `Invalid` for a bad k, vector or filter; `Corrupt` with file and offset for a damaged block.
    pub fn run(self) -> Result<Vec<Hit>> {
        let collection = self.collection;
        self.into_parts()?.run(collection)
    }

    /// As [`Search::run`], and says how each memtable and segment was searched.
    ///
    /// # Errors
    /// As [`Search::run`].
    pub fn explain(self) -> Result<(Vec<Hit>, Explained)> {
        let collection = self.collection;
        self.into_parts()?.explain(collection)
    }

    /// What the search asks, or what is wrong with its filter.
    pub(super) fn into_parts(self) -> Result<SearchParts> {
        match self.bad_filter {
            Some(error) => Err(error),
            None => Ok(SearchParts { query: self.query }),
        }
    }
}

/// A search without its collection, so that another thread can run it.
#[derive(Debug)]
pub(super) struct SearchParts {
    pub(super) query: Query,
}

impl SearchParts {
    pub(super) fn run(self, collection: &Collection) -> Result<Vec<Hit>> {
        self.explain(collection).map(|(hits, _)| hits)
    }

    fn explain(self, collection: &Collection) -> Result<(Vec<Hit>, Explained)> {
        let (view, state) = collection.readable()?;
        let query = &self.query;
        let (found, explained) = search::explain(&view, &state, query)?;
        Ok((hits(&state.schema, query, found)?, explained))
    }
}

/// What was found, as callers get it.
pub(super) fn hits(schema: &Schema, query: &Query, found: Vec<search::Found>) -> Result<Vec<Hit>> {
    let hit = |found: search::Found| {
        let payload = match query.with_payload {
            true => row::join_payload(schema, &found.row.fields, found.row.rest.as_deref())?,
            false => Payload::default(),
        };
        let vector = query.with_vector.then(|| found.row.vector.to_vec());
        Ok(Hit { score: found.score, lsn: found.lsn, payload, vector, id: found.row.id })
    };
    found.into_iter().map(hit).collect()
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
    /// `Invalid` for a bad filter or limit, or an id of another kind than the collection's; `Corrupt` for a damaged block.
    pub fn run(self) -> Result<Vec<StoredRow>> {
        if let Some(error) = self.bad_filter {
            return Err(error);
        }
        if self.limit == 0 || self.limit > MAX_PAGE_ROWS {
            let message = format!("a page of {} rows; 1 to {MAX_PAGE_ROWS} can be asked for", self.limit);
            return Err(Error::invalid("AKI-0231", message));
        }
        let (view, state) = self.collection.readable()?;
        if let Some(after) = &self.after {
            check_id_kind(&state.schema, after)?;
        }
        let rows = read::scan(&view, &state, self.filter.as_ref(), self.after.as_ref(), self.limit)?;
        rows.into_iter().map(|(lsn, row)| stored(&state.schema, lsn, row)).collect()
    }
}
