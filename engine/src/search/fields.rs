//! Rows in memory as filters see them.

use crate::filter::RowFields;
use crate::lsn::Lsn;
use crate::row::{FieldRef, Row};
use crate::schema::Schema;

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
