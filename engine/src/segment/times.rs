//! Times in a timestamp field: the earliest of a segment, and that of one row.

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;

use super::arrow_schema::FIELDS;
use super::reader::Segment;
use crate::error::Result;
use crate::filter::{Extent, Source};
use crate::row::FieldRef;
use crate::schema::Schema;

impl Segment {
    /// A time that no row's lies before, by the field at `position` of `schema` (the current one); `None` if no row has
    /// one. Reads nothing.
    pub(crate) fn earliest(&self, schema: &Schema, position: usize) -> Option<i64> {
        let of_group = |group| match self.extent(schema, group, Source::Field(position)) {
            Extent::Null => None,
            Extent::Between { low: FieldRef::Timestamp(low), .. } => Some(low),
            Extent::Between { .. } | Extent::Unknown => Some(i64::MIN),
        };
        (0..self.group_count()).filter_map(of_group).min()
    }

    /// The time of one row, by the field at `position` of `schema` (the current one).
    ///
    /// # Errors
    /// `Corrupt` or `Unavailable` when it cannot be read.
    pub(crate) fn time_at(&self, schema: &Schema, position: usize, row: u32) -> Result<Option<i64>> {
        self.check_row(row)?;
        let Some(own) = self.own_position(schema, position) else { return Ok(None) };
        let mut reader = self.reader(&[FIELDS + own], std::slice::from_ref(&(row..row + 1)), 1)?;
        let batch = reader.next_batch()?.ok_or_else(|| self.undecodable("no time in its row"))?;
        let times = batch.column(0).as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.filter(|times| times.len() == 1);
        let times = times.ok_or_else(|| self.undecodable("a column of times"))?;
        Ok(times.is_valid(0).then(|| times.value(0)))
    }
}
