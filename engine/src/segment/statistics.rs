//! What the footer says of a column's values, for filters that need not read it.

use parquet::data_type::AsBytes;
use parquet::file::statistics::Statistics;

use super::arrow_schema::{FIELDS, ID, LSN};
use super::reader::Segment;
use crate::filter::{Extent, Source};
use crate::row::FieldRef;
use crate::schema::{FieldType, IdKind, Schema};

impl Segment {
    /// Row groups there are.
    pub(crate) fn group_count(&self) -> usize {
        self.table.metadata().num_row_groups()
    }

    /// The extent of a column in a row group. `schema` is the current one. Reads nothing.
    pub(crate) fn extent(&self, schema: &Schema, group: usize, source: Source) -> Extent<'_> {
        let own = self.schema();
        let (column, field_type) = match source {
            Source::Id if own.id_kind == IdKind::Int => (ID, FieldType::Int),
            Source::Id => (ID, FieldType::Text),
            Source::Lsn => (LSN, FieldType::Int),
            Source::Field(position) => {
                let Some(field) = schema.fields.get(position) else { return Extent::Unknown };
                let Some(at) = own.fields.iter().position(|f| f.id == field.id) else { return Extent::Null };
                (FIELDS + at, field.field_type)
            }
        };
        let group = self.table.metadata().row_group(group);
        match group.column(column).statistics() {
            Some(statistics) => extent(statistics, field_type, group.num_rows()),
            None if source == Source::Id => self.id_extent(),
            None => Extent::Unknown,
        }
    }

    /// The extent of all ids, as the manifest has it; integer ids have no statistics in the file.
    fn id_extent(&self) -> Extent<'_> {
        let [low, high] = &self.meta().ids;
        match (low.parse(), high.parse()) {
            (Ok(low), Ok(high)) if self.schema().id_kind == IdKind::Int => {
                Extent::Between { low: FieldRef::Int(low), high: FieldRef::Int(high), full: true }
            }
            _ => Extent::Unknown,
        }
    }
}

fn extent(statistics: &Statistics, field_type: FieldType, rows: i64) -> Extent<'_> {
    // The nulls of a list's column are those of its texts.
    let nulls = statistics.null_count_opt().filter(|_| field_type != FieldType::TextList);
    if nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(rows)) {
        return Extent::Null;
    }
    let values = match (statistics, field_type) {
        (Statistics::Int64(s), FieldType::Int) => both(s.min_opt(), s.max_opt(), |n| Some(FieldRef::Int(*n))),
        (Statistics::Int64(s), FieldType::Timestamp) => {
            both(s.min_opt(), s.max_opt(), |n| Some(FieldRef::Timestamp(*n)))
        }
        (Statistics::Double(s), FieldType::Float) => {
            both(s.min_opt(), s.max_opt(), |x| (!x.is_nan()).then_some(FieldRef::Float(*x)))
        }
        (Statistics::ByteArray(s), FieldType::Text | FieldType::TextList) => {
            both(s.min_opt(), s.max_opt(), |text| {
                std::str::from_utf8(text.as_bytes()).ok().map(FieldRef::Text)
            })
        }
        _ => None,
    };
    match values {
        Some((low, high)) => Extent::Between { low, high, full: nulls == Some(0) },
        None => Extent::Unknown,
    }
}

fn both<'a, T>(
    low: Option<&'a T>,
    high: Option<&'a T>,
    value: impl Fn(&'a T) -> Option<FieldRef<'a>>,
) -> Option<(FieldRef<'a>, FieldRef<'a>)> {
    Some((value(low?)?, value(high?)?))
}
