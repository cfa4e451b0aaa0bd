//! A column of a segment, from its file to codes.

use arrow::array::{Array, AsArray};

use crate::error::Result;
use crate::filter::{Coded, Source};
use crate::schema::Schema;
use crate::segment::{Column, Segment};

/// Decodes one column over all rows. A field younger than the segment has no value in any row.
///
/// # Errors
/// `Corrupt` or `Unavailable` when it cannot be read.
pub(super) fn column(segment: &Segment, schema: &Schema, source: Source) -> Result<Coded> {
    let _span = tracing::debug_span!("decode_column", file = %segment.path().display()).entered();
    let rows = segment.rows();
    // As it is read, joined, and coded.
    let _held = segment.reading(3 * segment.source_bytes(schema, source));
    let position = match source {
        Source::Id => {
            let ids = segment.columns(schema, &[], true, false)?.ids;
            return Ok(ids.map_or_else(|| Coded::null(rows), |ids| coded(&ids, rows)));
        }
        Source::Lsn => {
            let lsns = segment.columns(schema, &[], false, true)?.lsns;
            return Ok(lsns.map_or_else(|| Coded::null(rows), |lsns| Coded::ints(lsns.iter())));
        }
        Source::Field(position) => position,
    };
    let column = segment.columns(schema, &[position], false, false)?.fields.pop();
    Ok(column.map_or_else(|| Coded::null(rows), |column| coded(&column, rows)))
}

fn coded(column: &Column, rows: u32) -> Coded {
    match column {
        Column::Missing => Coded::null(rows),
        Column::Text(values) => Coded::texts(values.iter()),
        Column::Int(values) => Coded::ints(values.iter()),
        Column::Float(values) => Coded::floats(values.iter()),
        Column::Bool(values) => Coded::bools(values.iter()),
        Column::Timestamp(values) => Coded::timestamps(values.iter()),
        Column::TextList(lists) => {
            let texts = lists.values().as_string::<i32>();
            let place =
                |at: usize| usize::try_from(lists.value_offsets()[at]).expect("offsets are not below zero");
            let list = |row: usize| {
                let of = |row| (place(row)..place(row + 1)).map(|at| texts.value(at));
                lists.is_valid(row).then(|| of(row))
            };
            Coded::lists((0..lists.len()).map(list))
        }
    }
}
