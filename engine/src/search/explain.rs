//! What a search did, part by part, for people who ask why.

use serde::Serialize;

use crate::segment::Fetched;

/// How a memtable or segment was searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// Rows in memory, compared one by one.
    Memtable,
    /// Every matching row of a segment compared by its vector.
    Exact,
    /// All codes of a segment scanned.
    Flat,
    /// The nearest lists of codes of a segment scanned.
    Lists,
    /// Codes of just the rows that the filter takes scanned, or the nearest lists of them: made for a filter that is asked often.
    /// Where the part is exact those prove which rows are not among the best; the others were compared by their vectors.
    Subset,
}

/// One memtable or segment of a search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartExplained {
    /// The segment's file name; empty for a memtable.
    pub segment: String,
    /// How it was searched.
    pub kind: PartKind,
    /// Rows it holds, dead ones included.
    pub rows: u64,
    /// Rows the filter matches, dead ones included; all without a filter. Of a memtable, whose filter is asked row by row: rows that
    /// live and match among those that were compared one by one, so without those whose codes were scanned unless it was searched
    /// exactly in the end.
    pub matched: u64,
    /// Codes or vectors compared by the scan; rows found through two lists count twice.
    pub scanned: u64,
    /// Lists scanned.
    pub lists: u64,
    /// Rows compared exactly after the scan.
    pub reranked: u64,
    /// Bytes of codes and vectors that were read.
    pub bytes: u64,
    /// Whether the segment's statistics alone showed that nothing matches.
    pub pruned: bool,
    /// Whether every matching row was compared exactly, or proved not to be among the best.
    pub exact: bool,
    /// Whether a damaged index is why it was searched exactly.
    pub damaged_index: bool,
}

impl PartExplained {
    pub(super) fn new(kind: PartKind, segment: String, rows: u32) -> Self {
        Self {
            segment,
            kind,
            rows: u64::from(rows),
            matched: 0,
            scanned: 0,
            lists: 0,
            reranked: 0,
            bytes: 0,
            pruned: false,
            exact: true,
            damaged_index: false,
        }
    }
}

/// What a search did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explained {
    /// Memtables and segments, in the order they were searched.
    pub parts: Vec<PartExplained>,
    /// Whether the answer is exact whatever was asked for.
    pub exact: bool,
    /// The recall each segment's budget was calibrated for, on rows of its own; absent for effort and exact searches.
    pub recall: Option<f32>,
    /// Microseconds for the filter, the scan, the exact comparison and the fetch of the hits.
    pub filter_us: u64,
    /// See `filter_us`.
    pub scan_us: u64,
    /// See `filter_us`.
    pub rerank_us: u64,
    /// See `filter_us`.
    pub fetch_us: u64,
    /// Times the search waited for a backend; 0 unless segments lie there alone, as the next two.
    pub rounds: u64,
    /// Requests it made there.
    pub gets: u64,
    /// Bytes they brought.
    pub fetched_bytes: u64,
}

impl Explained {
    pub(super) fn fetched(&mut self, fetched: Fetched) {
        (self.rounds, self.gets, self.fetched_bytes) = (fetched.rounds, fetched.gets, fetched.bytes);
    }
}
