//! A column as filters read it: each distinct value once, in order, and a small code a row.

use std::cmp::Ordering;

use crate::bitmap::Bitmap;
use crate::row::FieldRef;
use crate::texts::{Ends, Texts};

/// All values of one column of a segment, row `i` at place `i`.
#[derive(Debug)]
pub(crate) struct Coded {
    pub(super) rows: u32,
    pub(super) form: Form,
    /// The rows without a value; absent if there is none.
    pub(super) nulls: Option<Bitmap>,
}

/// How the values lie.
#[derive(Debug)]
pub(super) enum Form {
    /// No row has a value.
    Null,
    /// The place of each row's value in `values`, which ascend; the number of values where there is none.
    Codes { values: Values, codes: Codes },
    /// The value of each row, anything where there is none: too few of them repeat to be worth a code.
    Plain(Values),
    /// Texts `ends[i - 1]..ends[i]` of `codes` are row i's; each code is a place in `values`, which ascend.
    Lists { ends: Ends, codes: Codes, values: Texts },
}

/// Values of one type.
#[derive(Debug)]
pub(super) enum Values {
    Texts(Texts),
    Ints(Box<[i64]>),
    Floats(Box<[f64]>),
    Bools(Box<[bool]>),
    Timestamps(Box<[i64]>),
}

/// Codes in as few bytes as the largest needs.
#[derive(Debug)]
pub(super) enum Codes {
    One(Box<[u8]>),
    Two(Box<[u16]>),
    Four(Box<[u32]>),
}

impl Coded {
    /// A column without a value, for fields younger than the segment.
    pub(crate) fn null(rows: u32) -> Self {
        Self { rows, form: Form::Null, nulls: Some(Bitmap::all(rows)) }
    }

    /// The value of a row of a column of timestamps.
    pub(crate) fn time(&self, row: u32) -> Option<i64> {
        match &self.form {
            // The code of a row without a value is past the last.
            Form::Codes { values: Values::Timestamps(values), codes } => {
                values.get(codes.at(row as usize)?).copied()
            }
            Form::Plain(Values::Timestamps(values)) => {
                let is_null = self.nulls.as_ref().is_some_and(|nulls| nulls.contains(row));
                values.get(row as usize).copied().filter(|_| !is_null)
            }
            _ => None,
        }
    }

    /// Rows it has.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> u64 {
        let form = match &self.form {
            Form::Null => 0,
            Form::Codes { values, codes } => values.bytes() + codes.bytes(),
            Form::Plain(values) => values.bytes(),
            Form::Lists { ends, codes, values } => ends.bytes() + codes.bytes() + values.bytes(),
        };
        (form + self.nulls.as_ref().map_or(0, |nulls| size_of_val(nulls.words()))) as u64
    }
}

impl Values {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Ints(values) | Self::Timestamps(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Bools(values) => values.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> FieldRef<'_> {
        match self {
            Self::Texts(texts) => FieldRef::Text(texts.get(at)),
            Self::Ints(values) => FieldRef::Int(values[at]),
            Self::Floats(values) => FieldRef::Float(values[at]),
            Self::Bools(values) => FieldRef::Bool(values[at]),
            Self::Timestamps(values) => FieldRef::Timestamp(values[at]),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.bytes(),
            Self::Ints(values) | Self::Timestamps(values) => size_of_val(&**values),
            Self::Floats(values) => size_of_val(&**values),
            Self::Bools(values) => size_of_val(&**values),
        }
    }
}

/// The place of `wanted` among ascending texts.
pub(super) fn place(texts: &Texts, wanted: &str) -> Option<usize> {
    let (mut low, mut high) = (0, texts.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match texts.get(middle).cmp(wanted) {
            Ordering::Equal => return Some(middle),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    None
}

impl Codes {
    /// Codes of at most `max`.
    pub(super) fn new(codes: &[u32], max: usize) -> Self {
        const FITS: &str = "no code is above the largest";
        if u8::try_from(max).is_ok() {
            Self::One(codes.iter().map(|code| u8::try_from(*code).expect(FITS)).collect())
        } else if u16::try_from(max).is_ok() {
            Self::Two(codes.iter().map(|code| u16::try_from(*code).expect(FITS)).collect())
        } else {
            Self::Four(codes.into())
        }
    }

    /// The code at a place.
    fn at(&self, at: usize) -> Option<usize> {
        match self {
            Self::One(codes) => codes.get(at).map(|code| usize::from(*code)),
            Self::Two(codes) => codes.get(at).map(|code| usize::from(*code)),
            Self::Four(codes) => codes.get(at).map(|code| *code as usize),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::One(codes) => size_of_val(&**codes),
            Self::Two(codes) => size_of_val(&**codes),
            Self::Four(codes) => size_of_val(&**codes),
        }
    }
}

#[cfg(test)]
mod tests;
