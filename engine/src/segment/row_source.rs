//! Where the rows of a segment that is written come from.

use std::sync::Arc;

use crate::error::Result;
use crate::index::IndexBytes;
use crate::lsn::Lsn;
use crate::row::Row;

/// Where the rows of a segment come from: one version a row, ascending ids, at least one row.
pub(crate) trait RowSource {
    /// How many rows there are, from the first to the last; no less than there are.
    fn rows(&self) -> u64;

    /// The next rows: `most` of them while there are so many, or fewer, at least one, if with one more they would take more than
    /// `most_bytes` beside their vectors; none after the last.
    fn next_rows(&mut self, most: usize, most_bytes: u64) -> Result<Vec<(Lsn, Arc<Row>)>>;

    /// Whether there are rows after those that were given.
    fn has_more(&self) -> bool;

    /// Goes back to before the first row.
    fn begin_again(&mut self) -> Result<()>;

    /// The vector index of all rows, if they have one. Asked for once, after the last row.
    fn index(&mut self) -> Result<Option<Arc<IndexBytes>>>;
}

/// Rows that lie in memory.
pub(crate) struct RowsInMemory<'a> {
    all: &'a [(Lsn, Arc<Row>)],
    left: &'a [(Lsn, Arc<Row>)],
    index: IndexOf<'a>,
}

/// Makes the vector index of rows, or gives the one that was made before.
type IndexOf<'a> = &'a dyn Fn() -> Option<Arc<IndexBytes>>;

impl<'a> RowsInMemory<'a> {
    /// `index` is asked when it is written: not for a file that cannot be had, or has no room for the rows.
    pub(crate) fn new(rows: &'a [(Lsn, Arc<Row>)], index: IndexOf<'a>) -> Self {
        Self { all: rows, left: rows, index }
    }
}

impl RowSource for RowsInMemory<'_> {
    fn rows(&self) -> u64 {
        self.all.len() as u64
    }

    fn next_rows(&mut self, most: usize, most_bytes: u64) -> Result<Vec<(Lsn, Arc<Row>)>> {
        let mut room = Room::of(most_bytes);
        let fitting = self.left.iter().take(most).take_while(|(_, row)| room.takes(row)).count();
        let (now, later) = self.left.split_at(fitting);
        self.left = later;
        Ok(now.to_vec())
    }

    fn has_more(&self) -> bool {
        !self.left.is_empty()
    }

    fn begin_again(&mut self) -> Result<()> {
        self.left = self.all;
        Ok(())
    }

    fn index(&mut self) -> Result<Option<Arc<IndexBytes>>> {
        Ok((self.index)())
    }
}

/// Room for rows, by what they take beside their vectors.
pub(crate) struct Room {
    left: u64,
    is_empty: bool,
}

impl Room {
    pub(crate) fn of(bytes: u64) -> Self {
        Self { left: bytes, is_empty: true }
    }

    /// Takes one more, if it fits; the first always does.
    pub(crate) fn takes(&mut self, row: &Row) -> bool {
        let bytes = row.bytes_beside_vector();
        let fits = self.is_empty || bytes <= self.left;
        self.left = self.left.saturating_sub(bytes);
        self.is_empty = false;
        fits
    }
}
