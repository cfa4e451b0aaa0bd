//! Decoded columns of a segment, typed, for filters and rows.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};

use crate::id::Id;
use crate::lsn::Lsn;
use crate::row::FieldValue;
use crate::schema::FieldType;

/// One column of some rows, decoded.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    /// Text, or text ids.
    Text(StringArray),
    /// Integers, or integer ids.
    Int(Int64Array),
    /// Floats.
    Float(Float64Array),
    /// Booleans.
    Bool(BooleanArray),
    /// Microseconds since the Unix epoch.
    Timestamp(TimestampMicrosecondArray),
    /// Lists of text.
    TextList(ListArray),
}

impl Column {
    /// The column with these values; `None` if they are not of that type.
    pub(super) fn of(field_type: FieldType, array: &ArrayRef) -> Option<Self> {
        Some(match field_type {
            FieldType::Text => Self::Text(array.as_string_opt::<i32>()?.clone()),
            FieldType::Int => Self::Int(array.as_primitive_opt::<Int64Type>()?.clone()),
            FieldType::Float => Self::Float(array.as_primitive_opt::<Float64Type>()?.clone()),
            FieldType::Bool => Self::Bool(array.as_boolean_opt()?.clone()),
            FieldType::Timestamp => {
                Self::Timestamp(array.as_primitive_opt::<TimestampMicrosecondType>()?.clone())
            }
            FieldType::TextList => {
                let lists = array.as_list_opt::<i32>()?;
                lists.values().as_string_opt::<i32>()?;
                Self::TextList(lists.clone())
            }
        })
    }

    /// The value in `row`, owned.
    pub(crate) fn value(&self, row: usize) -> FieldValue {
        match self {
            Self::Text(a) if a.is_valid(row) => FieldValue::Text(a.value(row).into()),
            Self::Int(a) if a.is_valid(row) => FieldValue::Int(a.value(row)),
            Self::Float(a) if a.is_valid(row) => FieldValue::Float(a.value(row)),
            Self::Bool(a) if a.is_valid(row) => FieldValue::Bool(a.value(row)),
            Self::Timestamp(a) if a.is_valid(row) => FieldValue::Timestamp(a.value(row)),
            Self::TextList(_) => match self.texts(row) {
                Some(texts) => FieldValue::TextList(texts.map(Box::from).collect()),
                None => FieldValue::Null,
            },
            _ => FieldValue::Null,
        }
    }

    /// The texts of a list in `row`; `None` where it is null or no list.
    pub(crate) fn texts(&self, row: usize) -> Option<impl Iterator<Item = &str>> {
        let Self::TextList(lists) = self else { return None };
        if lists.is_null(row) {
            return None;
        }
        let texts = lists.values().as_string_opt::<i32>()?;
        let offsets = lists.value_offsets();
        let range = usize::try_from(offsets[row]).ok()?..usize::try_from(offsets[row + 1]).ok()?;
        Some(range.map(|at| texts.value(at)))
    }

    /// The id in `row` of an id column.
    pub(crate) fn id(&self, row: usize) -> Option<Id> {
        match self {
            Self::Text(a) => Some(Id::from(a.value(row))),
            Self::Int(a) => Some(Id::Int(a.value(row))),
            _ => None,
        }
    }
}

/// The LSN that a column holds as this number; `None` for a number that is none.
pub(super) fn lsn_of(number: i64) -> Option<Lsn> {
    Lsn::from_u64(u64::try_from(number).ok()?)
}
