//! Rows of a segment: point reads by page, scans in id order.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::FieldLevels;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use super::arrow_schema::{FIELDS, ID, LSN, payload_position};
use super::cells::RowCells;
use super::columns::{Column, lsn_of};
use super::reader::Segment;
use super::round::Round;
use super::source::{BatchReader, undecodable};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::lsn::Lsn;
use crate::row::{FieldValue, Row};
use crate::schema::{FieldType, IdKind, Schema};

/// Rows a scan gives at a time.
const SCAN_BATCH_ROWS: usize = 1_024;

impl Segment {
    /// Whole rows by number, in the order asked for, with fields in the order of `schema` (the current one). Without
    /// `with_vector` the vectors are empty.
    pub(crate) fn rows_at(
        &self,
        schema: &Schema,
        rows: &[u32],
        with_vector: bool,
    ) -> Result<Vec<(Lsn, Row)>> {
        self.read_rows(schema, rows, with_vector, None)
    }

    /// The row of this number, whose id is known.
    pub(crate) fn row_at(&self, schema: &Schema, row: u32, id: &Id) -> Result<Option<(Lsn, Row)>> {
        self.read_rows(schema, &[row], true, Some(id)).map(|mut rows| rows.pop())
    }

    fn read_rows(
        &self,
        schema: &Schema,
        rows: &[u32],
        with_vector: bool,
        known: Option<&Id>,
    ) -> Result<Vec<(Lsn, Row)>> {
        let mut wanted: Vec<u32> = rows.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let Some(last) = wanted.last() else { return Ok(Vec::new()) };
        self.check_row(*last)?;
        if self.is_cold() {
            let mut round = Round::default();
            round.rows(self, &wanted, with_vector);
            round.fetch()?;
        }
        let mut cells = RowCells::new(self, schema, known);
        let mut found = Vec::with_capacity(wanted.len());
        for number in &wanted {
            let (lsn, mut row) = cells.row(*number, known)?;
            if with_vector {
                row.vector = Arc::from(self.vector(*number)?);
            }
            found.push((lsn, row));
        }
        if wanted == rows {
            return Ok(found);
        }
        let taken = rows.iter().filter_map(|row| found.get(wanted.binary_search(row).ok()?).cloned());
        Ok(taken.collect())
    }

    /// The rows of `range` in id order, a batch at a time. `schema` is the current one.
    pub(crate) fn scan(&self, schema: &Schema, range: Range<u32>, with_vector: bool) -> Result<Scan<'_>> {
        self.scan_by(schema, range, with_vector, SCAN_BATCH_ROWS)
    }

    /// As [`Segment::scan`], no more than `batch_rows` at a time.
    pub(crate) fn scan_by(
        &self,
        schema: &Schema,
        range: Range<u32>,
        with_vector: bool,
        batch_rows: usize,
    ) -> Result<Scan<'_>> {
        let ranges = if range.is_empty() { Vec::new() } else { vec![range.clone()] };
        if !range.is_empty() {
            self.check_row(range.end - 1)?;
        }
        let reader = self.row_reader(&ranges, batch_rows.min(SCAN_BATCH_ROWS))?;
        Ok(Scan { segment: self, schema: schema.clone(), next: range.start, with_vector, reader })
    }

    /// The field of this file that is field `position` of `schema`.
    pub(super) fn own_position(&self, schema: &Schema, position: usize) -> Option<usize> {
        let id = schema.fields.get(position)?.id;
        self.schema().fields.iter().position(|f| f.id == id)
    }

    pub(super) fn id_column(&self, array: &ArrayRef) -> Result<Column> {
        let field_type = match self.schema().id_kind {
            IdKind::Text => FieldType::Text,
            IdKind::Int => FieldType::Int,
        };
        Column::of(field_type, array).ok_or_else(|| self.undecodable("the id column"))
    }

    fn field_column(&self, own: usize, array: &ArrayRef) -> Result<Column> {
        let field = &self.schema().fields[own];
        Column::of(field.field_type, array).ok_or_else(|| self.undecodable(&format!("column {}", field.name)))
    }

    /// Decodes a batch of [`Segment::row_reader`] whose rows have these numbers.
    fn rows_of(
        &self,
        schema: &Schema,
        batch: &RecordBatch,
        numbers: &[u32],
        with_vector: bool,
    ) -> Result<Vec<(Lsn, Row)>> {
        let own = &self.schema().fields;
        let has_ids = self.schema().id_kind == IdKind::Text;
        let column = |position: usize| batch.column(if has_ids { position } else { position - LSN });
        let ids = has_ids.then(|| self.id_column(column(ID))).transpose()?;
        let id_of = |at: usize, number: u32| match &ids {
            Some(ids) => ids.id(at).ok_or_else(|| self.undecodable("the id column")),
            None => self.id_at(number),
        };
        let lsns = column(LSN).as_primitive_opt::<Int64Type>();
        let lsns = lsns.ok_or_else(|| self.undecodable("the lsn column"))?;
        let columns = (0..own.len()).map(|at| self.field_column(at, column(FIELDS + at)));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let places: Vec<_> = (0..schema.fields.len()).map(|at| self.own_position(schema, at)).collect();
        let payload = column(payload_position(own.len())).as_string_opt::<i32>();
        let payload = payload.ok_or_else(|| self.undecodable("the payload column"))?;
        let mut out = Vec::with_capacity(numbers.len());
        for (at, number) in numbers.iter().enumerate() {
            let lsn = lsn_of(lsns.value(at)).ok_or_else(|| self.undecodable("an LSN below zero"))?;
            let id = id_of(at, *number)?;
            let value = |place: &Option<usize>| place.map_or(FieldValue::Null, |own| columns[own].value(at));
            let fields = places.iter().map(value).collect();
            let rest = payload.is_valid(at).then(|| payload.value(at).into());
            let vector = if with_vector { Arc::from(self.vector(*number)?) } else { Arc::from([]) };
            out.push((lsn, Row { id, vector, fields, rest }));
        }
        Ok(out)
    }

    /// A reader of `columns` (positions in the file) over `ranges` of rows, ascending and apart.
    pub(super) fn reader(
        &self,
        columns: &[usize],
        ranges: &[Range<u32>],
        batch_rows: usize,
    ) -> Result<BatchReader> {
        if self.is_cold() {
            let mut round = Round::default();
            round.pages(self, columns, ranges);
            round.fetch()?;
        }
        let columns = self.table.columns(columns).map_err(|e| self.undecodable(&e.to_string()))?;
        self.read(&columns, ranges, batch_rows)
    }

    /// A reader of all columns but the vector, and without the ids where they lie in place.
    fn row_reader(&self, ranges: &[Range<u32>], batch_rows: usize) -> Result<BatchReader> {
        self.read(self.table.row_columns(), ranges, batch_rows)
    }

    fn read(&self, columns: &FieldLevels, ranges: &[Range<u32>], batch_rows: usize) -> Result<BatchReader> {
        let (groups, selection) = self.select(ranges);
        BatchReader::new(&self.shared, &self.table, columns, groups, selection, batch_rows)
    }

    /// The row groups that hold `ranges`, and what of them to read; no selection where that is everything.
    fn select(&self, ranges: &[Range<u32>]) -> (Vec<usize>, Option<RowSelection>) {
        let bits = self.meta().group_bits;
        let mut groups: Vec<usize> = Vec::new();
        let mut selectors = Vec::new();
        // Rows of the chosen groups selected or skipped so far, and the row after them.
        let mut position = 0_u64;
        for range in ranges {
            for group in range.start >> bits..=(range.end - 1) >> bits {
                let first = u64::from(group) << bits;
                let last = (first + (1 << bits)).min(u64::from(self.rows()));
                if groups.last() != Some(&(group as usize)) {
                    if let Some(previous) = groups.last() {
                        let end = ((*previous as u64 + 1) << bits).min(u64::from(self.rows()));
                        push(&mut selectors, end - position, true);
                    }
                    groups.push(group as usize);
                    position = first;
                }
                let (start, end) = (u64::from(range.start).max(first), u64::from(range.end).min(last));
                push(&mut selectors, start - position, true);
                push(&mut selectors, end - start, false);
                position = end;
            }
        }
        let end_of = |group: &usize| ((*group as u64 + 1) << bits).min(u64::from(self.rows()));
        let is_whole =
            selectors.iter().all(|s| !s.skip) && groups.last().is_none_or(|last| position == end_of(last));
        (groups, (!is_whole).then(|| RowSelection::from(selectors)))
    }

    /// Bytes that match their checksums and still do not decode: written wrong, or a format we do not know.
    pub(super) fn undecodable(&self, what: &str) -> Error {
        undecodable(&self.shared, what)
    }
}

fn push(selectors: &mut Vec<RowSelector>, rows: u64, skip: bool) {
    let row_count = usize::try_from(rows).unwrap_or(usize::MAX);
    if row_count > 0 {
        selectors.push(RowSelector { row_count, skip });
    }
}

/// Neighbours joined into ranges.
pub(super) fn join(sorted: &[u32]) -> Vec<Range<u32>> {
    let mut out: Vec<Range<u32>> = Vec::new();
    for row in sorted {
        match out.last_mut() {
            Some(range) if range.end == *row => range.end += 1,
            _ => out.push(*row..*row + 1),
        }
    }
    out
}

/// A batch of a scan.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Number of the first row; the others follow.
    pub(crate) first_row: u32,
    /// The rows with their LSNs.
    pub(crate) rows: Vec<(Lsn, Row)>,
}

/// Rows of a segment in id order, about a thousand at a time.
pub(crate) struct Scan<'a> {
    segment: &'a Segment,
    schema: Schema,
    next: u32,
    with_vector: bool,
    reader: BatchReader,
}

impl Iterator for Scan<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let batch = match self.reader.next_batch() {
            Ok(batch) => batch?,
            Err(e) => return Some(Err(e)),
        };
        let first_row = self.next;
        let numbers: Vec<u32> = (first_row..).take(batch.num_rows()).collect();
        self.next = numbers.last().map_or(first_row, |last| last + 1);
        let rows = self.segment.rows_of(&self.schema, &batch, &numbers, self.with_vector);
        Some(rows.map(|rows| Batch { first_row, rows }))
    }
}
