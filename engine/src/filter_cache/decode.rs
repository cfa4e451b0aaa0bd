//! A column of a segment, from its file to codes, a batch after the other.

use arrow::array::{Array, AsArray, ListArray};

use crate::error::Result;
use crate::filter::{Coded, Coding, ListCoding, Source, float_key};
use crate::memory_budget::Charge;
use crate::schema::{FieldType, Schema};
use crate::segment::{Column, Segment, WholeColumn};
use crate::texts::Texts;

/// Decodes one column over all rows. A field younger than the segment has no value in any row.
///
/// # Errors
/// `Corrupt` or `Unavailable` when it cannot be read.
pub(super) fn column(segment: &Segment, schema: &Schema, source: Source) -> Result<Coded> {
    let _span = tracing::debug_span!("decode_column", file = %segment.path().display()).entered();
    match segment.whole_column(schema, source) {
        Some(column) => read(segment, column),
        None => Ok(Coded::null(segment.rows())),
    }
}

/// Reads a column batch by batch into codes: of it as it lies in the file one batch at a time is in memory.
pub(super) fn read(segment: &Segment, column: WholeColumn<'_>) -> Result<Coded> {
    let (batch_rows, batch_bytes) = (column.batch_rows(), column.batch_bytes());
    let mut coder = Coder::new(column.kind(), segment.rows());
    let mut held = Held { segment, charge: None };
    held.at_least(batch_bytes + coder.bytes_ahead(batch_rows, batch_bytes));
    for batch in column.read()? {
        coder.push(&batch?);
        held.at_least(batch_bytes + coder.bytes_ahead(batch_rows, batch_bytes));
    }
    // Sorted beside the values as they were met.
    held.at_least(2 * coder.bytes());
    Ok(coder.done())
}

/// Memory held for a read that takes more and more.
struct Held<'a> {
    segment: &'a Segment,
    charge: Option<Charge>,
}

impl Held<'_> {
    fn at_least(&mut self, bytes: u64) {
        match &self.charge {
            Some(charge) => charge.grow(bytes.saturating_sub(charge.bytes())),
            None => self.charge = self.segment.reading(bytes),
        }
    }
}

/// The codes of a column by its type.
enum Coder {
    Texts(Coding<Texts>),
    Ints(Coding<Vec<i64>>),
    Floats(Coding<Vec<i64>>),
    Bools(Coding<Vec<bool>>),
    TextLists(ListCoding),
}

impl Coder {
    fn new(kind: FieldType, rows: u32) -> Self {
        match kind {
            FieldType::Text => Self::Texts(Coding::texts(rows)),
            FieldType::Int => Self::Ints(Coding::ints(rows)),
            FieldType::Float => Self::Floats(Coding::floats(rows)),
            FieldType::Bool => Self::Bools(Coding::bools(rows)),
            FieldType::Timestamp => Self::Ints(Coding::timestamps(rows)),
            FieldType::TextList => Self::TextLists(ListCoding::new(rows)),
        }
    }

    /// Takes the next rows.
    fn push(&mut self, batch: &Column) {
        match (self, batch) {
            (Self::Texts(coding), Column::Text(values)) => values.iter().for_each(|text| coding.push(text)),
            (Self::Ints(coding), Column::Int(values)) => {
                values.iter().for_each(|int| coding.push(int.as_ref()));
            }
            (Self::Ints(coding), Column::Timestamp(values)) => {
                values.iter().for_each(|micros| coding.push(micros.as_ref()));
            }
            (Self::Floats(coding), Column::Float(values)) => {
                values.iter().for_each(|float| coding.push(float.map(float_key).as_ref()));
            }
            (Self::Bools(coding), Column::Bool(values)) => {
                values.iter().for_each(|bool| coding.push(bool.as_ref()));
            }
            (Self::TextLists(coding), Column::TextList(lists)) => push_lists(coding, lists),
            _ => unreachable!("a column is read as what it is said to be"),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Texts(coding) => coding.bytes(),
            Self::Ints(coding) | Self::Floats(coding) => coding.bytes(),
            Self::Bools(coding) => coding.bytes(),
            Self::TextLists(coding) => coding.bytes(),
        }
    }

    fn bytes_ahead(&self, rows: usize, bytes: u64) -> u64 {
        match self {
            Self::Texts(coding) => coding.bytes_ahead(rows, bytes),
            Self::Ints(coding) | Self::Floats(coding) => coding.bytes_ahead(rows, bytes),
            Self::Bools(coding) => coding.bytes_ahead(rows, bytes),
            Self::TextLists(coding) => coding.bytes() + bytes,
        }
    }

    fn done(self) -> Coded {
        match self {
            Self::Texts(coding) => coding.done(),
            Self::Ints(coding) | Self::Floats(coding) => coding.done(),
            Self::Bools(coding) => coding.done(),
            Self::TextLists(coding) => coding.done(),
        }
    }
}

fn push_lists(coding: &mut ListCoding, lists: &ListArray) {
    let texts = lists.values().as_string::<i32>();
    let place = |at: usize| usize::try_from(lists.value_offsets()[at]).expect("offsets are not below zero");
    for row in 0..lists.len() {
        let of_row = (place(row)..place(row + 1)).map(|at| texts.value(at));
        coding.push(lists.is_valid(row).then_some(of_row));
    }
}
