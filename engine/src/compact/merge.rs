//! The streaming merge: rows of several segments in id order, a batch of each in memory at a time, without the dead
//! ones; and where each row went.

use std::sync::Arc;
use std::vec::IntoIter;

use crate::catalog::LiveSegment;
use crate::deletion_vector::DeletionVector;
use crate::error::{Error, ErrorKind, Result};
use crate::index::{self, IndexBytes};
use crate::lsn::Lsn;
use crate::row::Row;
use crate::schema::Schema;
use crate::segment::{Batch, Room, RowSource, Scan, Segment};

/// Bytes in memory for a row of a merge, beside its index: where it came from, where it went, the hash of its id and the
/// entry made of it.
pub(crate) const ROW_BYTES: u64 = 8 + 4 + 8 + 16 + 12;
/// Rows between two looks at whether the merge is still wanted.
const LOOK_EVERY: usize = 1_024;

/// One of the segments that are merged.
struct Input<'a> {
    segment: &'a Segment,
    dead: &'a DeletionVector,
    /// Bytes of rows in memory at a time, about.
    batch_bytes: u64,
    /// The row group after the one that is read.
    next_group: u32,
    scan: Option<Scan<'a>>,
    batch: IntoIter<(u32, Lsn, Row)>,
    next: Option<(u32, Lsn, Row)>,
}

impl<'a> Input<'a> {
    fn new(live: &'a LiveSegment, schema: &Schema, batch_bytes: u64) -> Result<Self> {
        let (segment, dead) = (&*live.segment, &*live.deletion_vector);
        let batch = Vec::new().into_iter();
        let mut input = Self { segment, dead, batch_bytes, next_group: 0, scan: None, batch, next: None };
        input.advance(schema)?;
        Ok(input)
    }

    /// Goes to the next row that is not dead.
    fn advance(&mut self, schema: &Schema) -> Result<()> {
        loop {
            if let Some(row) = self.batch.find(|(row, ..)| !self.dead.contains(*row)) {
                self.next = Some(row);
                return Ok(());
            }
            // The old one is gone before the next is read.
            self.batch = Vec::new().into_iter();
            let Some(batch) = self.next_batch(schema)? else {
                self.next = None;
                return Ok(());
            };
            let numbered = (batch.first_row..).zip(batch.rows).map(|(at, (lsn, row))| (at, lsn, row));
            self.batch = numbered.collect::<Vec<_>>().into_iter();
        }
    }

    /// The next rows of the row group, or of the next; as many as its rows are short.
    fn next_batch(&mut self, schema: &Schema) -> Result<Option<Batch>> {
        loop {
            if let Some(batch) = self.scan.as_mut().and_then(Iterator::next) {
                return batch.map(Some);
            }
            self.scan = None;
            let (group, group_rows) = (self.next_group, self.segment.group_rows());
            let first = u64::from(group) * u64::from(group_rows);
            let Some(first) = u32::try_from(first).ok().filter(|first| *first < self.segment.rows()) else {
                return Ok(None);
            };
            let end = self.segment.rows().min(first.saturating_add(group_rows));
            let batch_rows = self.segment.rows_within(group, self.batch_bytes);
            self.scan = Some(self.segment.scan_by(schema, first..end, true, batch_rows)?);
            self.next_group += 1;
        }
    }
}

/// The rows of several segments as one. Rows that the deletion vectors name are left out; those that are only hidden
/// in memory are not, for a restore from a backend must find them.
pub(crate) struct Merge<'a> {
    schema: &'a Schema,
    segments: &'a [Arc<LiveSegment>],
    /// Bytes of rows in memory at a time, of all inputs together.
    batch_bytes: u64,
    inputs: Vec<Input<'a>>,
    /// Of each row so far: which input it came from, and its number there.
    order: Vec<(u32, u32)>,
    go_on: &'a dyn Fn() -> bool,
}

impl<'a> Merge<'a> {
    /// Begins at the smallest id. `go_on` answers for good once it answers `false`.
    pub(crate) fn new(
        schema: &'a Schema,
        segments: &'a [Arc<LiveSegment>],
        batch_bytes: u64,
        go_on: &'a dyn Fn() -> bool,
    ) -> Result<Self> {
        let mut merge = Self { schema, segments, batch_bytes, inputs: Vec::new(), order: Vec::new(), go_on };
        merge.begin_again()?;
        Ok(merge)
    }

    /// Where the rows went.
    pub(crate) fn into_map(self) -> RowMap {
        let mut to: Vec<Vec<u32>> =
            self.inputs.iter().map(|input| vec![DROPPED; input.segment.rows() as usize]).collect();
        for (out, (input, row)) in (0u32..).zip(&self.order) {
            to[*input as usize][*row as usize] = out;
        }
        RowMap { to }
    }

    /// The input with the smallest id.
    fn first(&self) -> Option<usize> {
        let heads = self.inputs.iter().enumerate();
        let ids = heads.filter_map(|(at, input)| input.next.as_ref().map(|(_, _, row)| (&row.id, at)));
        ids.min().map(|(_, at)| at)
    }

    fn wanted(&self) -> Result<()> {
        if (self.go_on)() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Closed, "AKI-0206", "the database is closed: a merge was given up"))
    }
}

impl RowSource for Merge<'_> {
    fn rows(&self) -> u64 {
        let live = |live: &Arc<LiveSegment>| u64::from(live.segment.rows()) - live.deletion_vector.len();
        self.segments.iter().map(live).sum()
    }

    fn has_more(&self) -> bool {
        self.first().is_some()
    }

    fn begin_again(&mut self) -> Result<()> {
        self.order.clear();
        // Those of before are gone before these are read.
        self.inputs.clear();
        let bytes = self.batch_bytes / self.segments.len().max(1) as u64;
        for live in self.segments {
            self.inputs.push(Input::new(live, self.schema, bytes)?);
        }
        Ok(())
    }

    fn next_rows(&mut self, most: usize, most_bytes: u64) -> Result<Vec<(Lsn, Arc<Row>)>> {
        let (mut rows, mut room) = (Vec::new(), Room::of(most_bytes));
        while rows.len() < most
            && let Some(at) = self.first()
            && self.inputs[at].next.as_ref().is_some_and(|(_, _, row)| room.takes(row))
        {
            if rows.len().is_multiple_of(LOOK_EVERY) {
                self.wanted()?;
            }
            let input = &mut self.inputs[at];
            let (number, lsn, row) = input.next.take().expect("an input with the smallest id has a row");
            input.advance(self.schema)?;
            self.order.push((u32::try_from(at).expect("inputs are few"), number));
            rows.push((lsn, Arc::new(row)));
        }
        Ok(rows)
    }

    fn index(&mut self) -> Result<Option<Arc<IndexBytes>>> {
        let _span = tracing::debug_span!("index").entered();
        // Where they lie: the vectors are in memory once, as pages of the inputs' files.
        let vector = |(input, row): &(u32, u32)| self.inputs[*input as usize].segment.vector(*row);
        let vectors = self.order.iter().map(vector).collect::<Result<Vec<_>>>()?;
        let index = index::index_bytes(self.schema.metric, &vectors, index::BUILD_SEED, self.go_on);
        self.wanted()?;
        Ok(index.map(Arc::new))
    }
}

/// A row that was left out.
const DROPPED: u32 = u32::MAX;

/// From the rows of the inputs to those of the output.
#[derive(Default)]
pub(crate) struct RowMap {
    to: Vec<Vec<u32>>,
}

impl RowMap {
    /// Where `row` of input `input` lies now.
    ///
    /// # Panics
    /// If it was dead and left out: nothing can happen to such a row.
    pub(crate) fn to(&self, input: usize, row: u32) -> u32 {
        let to = self.to[input][row as usize];
        assert!(to != DROPPED, "row {row} of input {input} was dropped, and changed after that");
        to
    }
}
