//! Field values borrowed from wherever a row lies: the memtable or the columns of a segment.

use crate::id::Id;
use crate::row::FieldValue;

/// A borrowed value of a declared field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FieldRef<'a> {
    /// Absent.
    Null,
    /// Text.
    Text(&'a str),
    /// Integer.
    Int(i64),
    /// Finite float.
    Float(f64),
    /// Boolean.
    Bool(bool),
    /// Microseconds since the Unix epoch, UTC.
    Timestamp(i64),
    /// List of texts.
    TextList(Texts<'a>),
}

/// A borrowed list of texts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Texts<'a> {
    /// As a row in memory holds it.
    Boxed(&'a [Box<str>]),
    /// As a string column holds it: text i is `bytes[offsets[i]..offsets[i + 1]]`, UTF-8. One more offset than
    /// texts.
    Packed {
        /// Value bytes of the whole column.
        bytes: &'a [u8],
        /// Offsets of this list's texts, and where the last ends.
        offsets: &'a [i32],
    },
}

impl Texts<'_> {
    /// Whether one of the texts is `wanted`, byte for byte.
    pub(crate) fn contains(&self, wanted: &str) -> bool {
        match *self {
            Self::Boxed(texts) => texts.iter().any(|text| **text == *wanted),
            Self::Packed { bytes, offsets } => {
                let text =
                    |ends: &[i32]| bytes.get(usize::try_from(ends[0]).ok()?..usize::try_from(ends[1]).ok()?);
                offsets.windows(2).any(|ends| text(ends) == Some(wanted.as_bytes()))
            }
        }
    }
}

impl<'a> From<&'a Id> for FieldRef<'a> {
    fn from(id: &'a Id) -> Self {
        match id {
            Id::Text(text) => Self::Text(text),
            Id::Int(n) => Self::Int(*n),
        }
    }
}

impl<'a> From<&'a FieldValue> for FieldRef<'a> {
    fn from(value: &'a FieldValue) -> Self {
        match value {
            FieldValue::Null => Self::Null,
            FieldValue::Text(text) => Self::Text(text),
            FieldValue::Int(n) => Self::Int(*n),
            FieldValue::Float(x) => Self::Float(*x),
            FieldValue::Bool(b) => Self::Bool(*b),
            FieldValue::Timestamp(micros) => Self::Timestamp(*micros),
            FieldValue::TextList(texts) => Self::TextList(Texts::Boxed(texts)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_answers_the_same_boxed_and_packed() {
        let boxed: Vec<Box<str>> = ["red", "", "straße"].map(Into::into).to_vec();
        let bytes = "--redstraßetail".as_bytes();
        let packed = Texts::Packed { bytes, offsets: &[2, 5, 5, 12] };
        for (wanted, there) in [("red", true), ("", true), ("straße", true), ("re", false), ("tail", false)]
        {
            assert_eq!(Texts::Boxed(&boxed).contains(wanted), there, "{wanted:?}");
            assert_eq!(packed.contains(wanted), there, "{wanted:?}");
        }
        for offsets in [[].as_slice(), &[3], &[5, 2], &[-1, 4], &[0, 99]] {
            assert!(!Texts::Packed { bytes, offsets }.contains("x"), "{offsets:?}");
        }
    }
}
