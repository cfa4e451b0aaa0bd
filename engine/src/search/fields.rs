//! Rows as filters see them: one in memory, and one among the decoded columns of a segment.

use arrow::array::{Array, AsArray, Int64Array};

use crate::error::Result;
use crate::filter::{Bound, RowFields};
use crate::lsn::Lsn;
use crate::row::{FieldRef, Row, Texts};
use crate::schema::Schema;
use crate::segment::{Column, Segment};

/// A row of a memtable.
pub(crate) struct MemoryRow<'a> {
    lsn: Lsn,
    row: &'a Row,
}

impl<'a> MemoryRow<'a> {
    /// Fields are only ever added at the end, so a row of an older schema has its fields at the same positions.
    pub(crate) fn new(lsn: Lsn, row: &'a Row, _schema: &Schema) -> Self {
        Self { lsn, row }
    }
}

impl RowFields for MemoryRow<'_> {
    fn id(&self) -> FieldRef<'_> {
        (&self.row.id).into()
    }

    fn lsn(&self) -> Lsn {
        self.lsn
    }

    fn field(&self, position: usize) -> FieldRef<'_> {
        self.row.fields.get(position).map_or(FieldRef::Null, FieldRef::from)
    }
}

/// Which rows of a segment match, dead ones included: one answer a row.
///
/// # Errors
/// `Corrupt` when a column the filter looks at is damaged.
pub(crate) fn matching_rows(segment: &Segment, schema: &Schema, bound: &Bound) -> Result<Vec<bool>> {
    let positions = bound.positions();
    let columns = segment.columns(schema, positions, bound.needs_id(), bound.needs_lsn())?;
    let mut by_position = vec![&Column::Missing; schema.fields.len()];
    for (position, column) in positions.iter().zip(&columns.fields) {
        by_position[*position] = column;
    }
    let row = |at| SegmentRow {
        at,
        ids: columns.ids.as_ref(),
        lsns: columns.lsns.as_ref(),
        by_position: &by_position,
    };
    Ok((0..segment.rows() as usize).map(|at| bound.matches(&row(at))).collect())
}

/// A row of decoded columns; those the filter does not look at are absent.
struct SegmentRow<'a> {
    at: usize,
    ids: Option<&'a Column>,
    lsns: Option<&'a Int64Array>,
    by_position: &'a [&'a Column],
}

impl RowFields for SegmentRow<'_> {
    fn id(&self) -> FieldRef<'_> {
        self.ids.map_or(FieldRef::Null, |column| value(column, self.at))
    }

    fn lsn(&self) -> Lsn {
        // Only LSNs are written to this column, and its bytes were checked.
        self.lsns.and_then(|lsns| Lsn::from_u64(lsns.value(self.at).cast_unsigned())).unwrap_or(Lsn::ZERO)
    }

    fn field(&self, position: usize) -> FieldRef<'_> {
        value(self.by_position[position], self.at)
    }
}

fn value(column: &Column, row: usize) -> FieldRef<'_> {
    match column {
        Column::Text(a) if a.is_valid(row) => FieldRef::Text(a.value(row)),
        Column::Int(a) if a.is_valid(row) => FieldRef::Int(a.value(row)),
        Column::Float(a) if a.is_valid(row) => FieldRef::Float(a.value(row)),
        Column::Bool(a) if a.is_valid(row) => FieldRef::Bool(a.value(row)),
        Column::Timestamp(a) if a.is_valid(row) => FieldRef::Timestamp(a.value(row)),
        Column::TextList(lists) if lists.is_valid(row) => {
            let texts = lists.values().as_string::<i32>();
            let range = |at: usize| usize::try_from(lists.value_offsets()[at]).unwrap_or(0);
            let offsets = texts.value_offsets().get(range(row)..=range(row + 1)).unwrap_or(&[]);
            FieldRef::TextList(Texts::Packed { bytes: texts.value_data(), offsets })
        }
        _ => FieldRef::Null,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, ListArray, StringArray};

    use super::*;

    #[test]
    fn a_value_of_a_column_is_borrowed_and_null_stays_null() {
        let texts = Column::Text(StringArray::from(vec![Some("a"), None]));
        assert!(matches!(value(&texts, 0), FieldRef::Text("a")));
        assert!(matches!(value(&texts, 1), FieldRef::Null));
        let floats = Column::Float(Float64Array::from(vec![None, Some(1.5)]));
        assert!(matches!(value(&floats, 0), FieldRef::Null));
        assert!(matches!(value(&floats, 1), FieldRef::Float(1.5)));
        assert!(matches!(value(&Column::Missing, 7), FieldRef::Null));
    }

    #[test]
    fn a_list_of_a_sliced_column_holds_its_own_texts_alone() {
        let mut lists = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
        lists.append_value([Some("x"), Some("y")]);
        lists.append_null();
        lists.append_value([] as [Option<&str>; 0]);
        lists.append_value([Some("z")]);
        let all: ListArray = lists.finish();
        for (column, first) in [(Column::TextList(all.clone()), 0), (Column::TextList(all.slice(1, 3)), 1)] {
            let holds = |row: usize, text| match value(&column, row - first) {
                FieldRef::TextList(texts) => Some(texts.contains(text)),
                _ => None,
            };
            assert_eq!(holds(1, "x"), None);
            assert_eq!(holds(2, "x"), Some(false));
            assert_eq!((holds(3, "z"), holds(3, "y")), (Some(true), Some(false)));
        }
    }
}
