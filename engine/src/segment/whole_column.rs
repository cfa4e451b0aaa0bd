//! One column of a segment over all its rows, a batch after the other: what is decoded of it never lies in one piece.

use super::arrow_schema::{FIELDS, ID, LSN};
use super::columns::Column;
use super::reader::Segment;
use super::source::BatchReader;
use crate::error::Result;
use crate::filter::Source;
use crate::schema::{FieldType, IdKind, Schema};

/// Rows decoded at a time where whole columns are wanted.
pub(super) const COLUMN_BATCH_ROWS: usize = 8_192;
/// A column that takes no more than this is decoded in batches of that many rows.
const SMALL_COLUMN_BYTES: u64 = 64 << 20;
/// What a batch of a larger one should take.
const BATCH_BYTES: u64 = 16 << 20;
/// The most rows of it. The values of a row take 1 MiB at most (`record::MAX_PAYLOAD_BYTES`), and those of a batch must lie
/// below 2 GiB together, wherever in the column the long ones are.
const LARGE_BATCH_ROWS: u64 = 1_024;

/// A column as it is read.
pub(crate) struct WholeColumn<'a> {
    segment: &'a Segment,
    column: usize,
    kind: FieldType,
    batch_rows: usize,
}

impl Segment {
    /// The column that a filter looks at; `None` for a field the segment was written without. `schema` is the current one.
    pub(crate) fn whole_column(&self, schema: &Schema, source: Source) -> Option<WholeColumn<'_>> {
        match source {
            Source::Id => Some(self.whole_ids()),
            Source::Lsn => Some(self.whole_lsns()),
            Source::Field(position) => {
                let own = self.own_position(schema, position)?;
                Some(self.whole(FIELDS + own, self.schema().fields[own].field_type))
            }
        }
    }

    pub(super) fn whole_ids(&self) -> WholeColumn<'_> {
        let kind = match self.schema().id_kind {
            IdKind::Text => FieldType::Text,
            IdKind::Int => FieldType::Int,
        };
        self.whole(ID, kind)
    }

    pub(super) fn whole_lsns(&self) -> WholeColumn<'_> {
        self.whole(LSN, FieldType::Int)
    }

    fn whole(&self, column: usize, kind: FieldType) -> WholeColumn<'_> {
        let batch_rows = batch_rows(self.column_bytes(column), self.rows());
        WholeColumn { segment: self, column, kind, batch_rows }
    }
}

/// How many rows of a column that takes so many bytes are decoded at a time.
fn batch_rows(bytes: u64, rows: u32) -> usize {
    if bytes <= SMALL_COLUMN_BYTES {
        return COLUMN_BATCH_ROWS;
    }
    let fitting = u64::from(rows) * BATCH_BYTES / bytes;
    usize::try_from(fitting.clamp(1, LARGE_BATCH_ROWS)).unwrap_or(1)
}

impl<'a> WholeColumn<'a> {
    /// In batches of so many rows.
    #[cfg(test)]
    pub(crate) fn by(self, batch_rows: usize) -> Self {
        Self { batch_rows, ..self }
    }

    /// What its values are.
    pub(crate) fn kind(&self) -> FieldType {
        self.kind
    }

    /// Rows of a batch of it.
    pub(crate) fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    /// Bytes in memory of all of it, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.segment.column_bytes(self.column)
    }

    /// Bytes in memory of a batch of it, about.
    pub(crate) fn batch_bytes(&self) -> u64 {
        let rows = u64::from(self.segment.rows().max(1));
        self.bytes().div_ceil(rows) * rows.min(self.batch_rows as u64)
    }

    /// The batches, in the order of rows: each row once, or the last one is an error.
    ///
    /// # Errors
    /// `Corrupt` or `Unavailable` when it cannot be read.
    pub(crate) fn read(self) -> Result<Batches<'a>> {
        let all = 0..self.segment.rows();
        let reader = self.segment.reader(&[self.column], std::slice::from_ref(&all), self.batch_rows)?;
        Ok(Batches { left: all.len(), column: self, reader })
    }
}

/// Batches of a column.
pub(crate) struct Batches<'a> {
    column: WholeColumn<'a>,
    reader: BatchReader,
    /// Rows still to come.
    left: usize,
}

impl Batches<'_> {
    fn next_batch(&mut self) -> Result<Option<Column>> {
        let (segment, column) = (self.column.segment, self.column.column);
        let bad = |what: &str| segment.undecodable(&format!("column {}{what}", segment.column_name(column)));
        let miscounted = || bad(", with a value too few or too many");
        let Some(batch) = self.reader.next_batch()? else {
            return if self.left == 0 { Ok(None) } else { Err(miscounted()) };
        };
        self.left = self.left.checked_sub(batch.num_rows()).ok_or_else(miscounted)?;
        let decoded = Column::of(self.column.kind, batch.column(0));
        decoded.map(Some).ok_or_else(|| bad(", of another type"))
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Column>;

    fn next(&mut self) -> Option<Result<Column>> {
        self.next_batch().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_never_too_long_for_one_array() {
        let mib = 1 << 20;
        assert_eq!(batch_rows(64 * mib, 64), COLUMN_BATCH_ROWS, "a small column, however long its values");
        assert_eq!(batch_rows(65 * mib, 65_536), 1_024);
        assert_eq!(batch_rows(4_096 * mib, 4_096), 16);
        assert_eq!(batch_rows(4_096 * mib, 1), 1);
        assert_eq!(batch_rows(65 * mib, u32::MAX), 1_024, "most rows without a value, the rest very long");
    }
}
