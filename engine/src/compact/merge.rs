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
use crate::segment::{RowSource, Scan, Segment};

/// Bytes in memory for a row of a merge, beside its index: where it came from, where it went, the hash of its id and the
/// entry made of it.
pub(crate) const ROW_BYTES: u64 = 8 + 4 + 8 + 16 + 12;
/// Rows between two looks at whether the merge is still wanted.
const LOOK_EVERY: usize = 1_024;

/// One of the segments that are merged.
struct Input<'a> {
    segment: &'a Segment,
    dead: &'a DeletionVector,
    scan: Scan<'a>,
    batch: IntoIter<(u32, Lsn, Row)>,
    next: Option<(u32, Lsn, Row)>,
}

impl<'a> Input<'a> {
    fn new(live: &'a LiveSegment, schema: &Schema) -> Result<Self> {
        let segment = &*live.segment;
        let scan = segment.scan(schema, 0..segment.rows(), true)?;
        let dead = &*live.deletion_vector;
        let mut input = Self { segment, dead, scan, batch: Vec::new().into_iter(), next: None };
        input.advance()?;
        Ok(input)
    }

    /// Goes to the next row that is not dead.
    fn advance(&mut self) -> Result<()> {
        loop {
            if let Some(row) = self.batch.find(|(row, ..)| !self.dead.contains(*row)) {
                self.next = Some(row);
                return Ok(());
            }
            let Some(batch) = self.scan.next().transpose()? else {
                self.next = None;
                return Ok(());
            };
            let numbered = (batch.first_row..).zip(batch.rows).map(|(at, (lsn, row))| (at, lsn, row));
            self.batch = numbered.collect::<Vec<_>>().into_iter();
        }
    }
}

/// The rows of several segments as one. Rows that the deletion vectors name are left out; those that are only hidden
/// in memory are not, for a restore from a backend must find them.
pub(crate) struct Merge<'a> {
    schema: &'a Schema,
    inputs: Vec<Input<'a>>,
    /// Of each row so far: which input it came from, and its number there.
    order: Vec<(u32, u32)>,
    go_on: &'a dyn Fn() -> bool,
}

impl<'a> Merge<'a> {
    /// Begins at the smallest id. `go_on` answers for good once it answers `false`.
    pub(crate) fn new(
        schema: &'a Schema,
        inputs: &'a [Arc<LiveSegment>],
        go_on: &'a dyn Fn() -> bool,
    ) -> Result<Self> {
        let inputs = inputs.iter().map(|live| Input::new(live, schema)).collect::<Result<_>>()?;
        Ok(Self { schema, inputs, order: Vec::new(), go_on })
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
    fn next_rows(&mut self, most: usize) -> Result<Vec<(Lsn, Arc<Row>)>> {
        let mut rows = Vec::new();
        while rows.len() < most
            && let Some(at) = self.first()
        {
            if rows.len().is_multiple_of(LOOK_EVERY) {
                self.wanted()?;
            }
            let input = &mut self.inputs[at];
            let (number, lsn, row) = input.next.take().expect("an input with the smallest id has a row");
            input.advance()?;
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
