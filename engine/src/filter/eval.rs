//! Does a row match? SQL's three-valued logic: true, false, or `None` for unknown.

use std::cmp::Ordering;

use crate::filter::ast::CompareOp;
use crate::filter::bind::Bound;
use crate::lsn::Lsn;
use crate::row::FieldRef;

/// What a filter may ask of a row, wherever that lies. Only what [`Bound`] says it needs is asked for.
pub(crate) trait RowFields {
    /// The id: [`FieldRef::Text`] or [`FieldRef::Int`].
    fn id(&self) -> FieldRef<'_>;
    /// The row's version.
    fn lsn(&self) -> Lsn;
    /// The declared field at this position of the schema the filter was bound to; null if the row is older than
    /// the field.
    fn field(&self, position: usize) -> FieldRef<'_>;
}

/// A bound tree.
#[derive(Clone, Debug)]
pub(super) enum Node {
    And(Box<[Self]>),
    Or(Box<[Self]>),
    Not(Box<Self>),
    Test(Source, Test),
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The id.
    Id,
    /// The LSN.
    Lsn,
    /// The declared field at this position of the schema.
    Field(usize),
}

/// What is asked of one value. Lists are sorted.
#[derive(Clone, Debug)]
pub(super) enum Test {
    IsNull { negated: bool },
    Text(CompareOp, Box<str>),
    Number(CompareOp, Number),
    Bool(bool),
    TextIn { texts: Box<[Box<str>]>, negated: bool },
    NumberIn { numbers: Box<[Number]>, negated: bool },
    BoolIn { bools: [bool; 2], negated: bool },
    Contains(Box<str>),
}

/// An integer or a float; the two compare by their exact values, never by a rounded one. Not NaN.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

impl Bound {
    /// Whether the filter is true for this row; false and unknown are both no.
    #[inline]
    pub(crate) fn matches(&self, row: &impl RowFields) -> bool {
        self.root.eval(row) == Some(true)
    }
}

impl Bound {
    /// What it looks at, each once.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let mut sources = Vec::new();
        self.root.sources(&mut sources);
        sources
    }
}

impl Node {
    fn sources(&self, into: &mut Vec<Source>) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.sources(into)),
            Self::Not(inner) => inner.sources(into),
            Self::Test(source, _) if into.contains(source) => {}
            Self::Test(source, _) => into.push(*source),
        }
    }

    fn eval(&self, row: &impl RowFields) -> Option<bool> {
        match self {
            Self::And(parts) => all(parts, false, row),
            Self::Or(parts) => all(parts, true, row),
            Self::Not(inner) => inner.eval(row).map(|value| !value),
            Self::Test(source, test) => test.eval(match *source {
                Source::Id => row.id(),
                Source::Lsn => FieldRef::Int(row.lsn().as_i64()),
                Source::Field(position) => row.field(position),
            }),
        }
    }
}

/// `deciding` settles the whole; else an unknown part makes it unknown.
fn all(parts: &[Node], deciding: bool, row: &impl RowFields) -> Option<bool> {
    let mut whole = Some(!deciding);
    for part in parts {
        match part.eval(row) {
            Some(value) if value == deciding => return Some(deciding),
            Some(_) => {}
            None => whole = None,
        }
    }
    whole
}

impl Test {
    pub(super) fn eval(&self, value: FieldRef<'_>) -> Option<bool> {
        if let Self::IsNull { negated } = self {
            return Some(matches!(value, FieldRef::Null) != *negated);
        }
        match (self, value) {
            (_, FieldRef::Null) => None,
            (Self::Text(op, text), FieldRef::Text(value)) => Some(op.holds(value.cmp(text))),
            (Self::TextIn { texts, negated }, FieldRef::Text(value)) => {
                Some(texts.binary_search_by(|text| (**text).cmp(value)).is_ok() != *negated)
            }
            (Self::Number(op, number), value) => Some(op.holds(Number::of(value)?.total_cmp(number))),
            (Self::NumberIn { numbers, negated }, value) => {
                let value = Number::of(value)?;
                Some(numbers.binary_search_by(|number| number.total_cmp(&value)).is_ok() != *negated)
            }
            (Self::Bool(wanted), FieldRef::Bool(value)) => Some(value == *wanted),
            (Self::BoolIn { bools, negated }, FieldRef::Bool(value)) => {
                Some(bools[usize::from(value)] != *negated)
            }
            (Self::Contains(text), FieldRef::TextList(texts)) => Some(texts.contains(text)),
            _ => {
                debug_assert!(false, "a row's value is not of its field's type");
                None
            }
        }
    }
}

impl CompareOp {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Lt => order.is_lt(),
            Self::Le => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Ge => order.is_ge(),
        }
    }
}

impl Number {
    /// `None` for what is no number, NaN included.
    pub(super) fn of(value: FieldRef<'_>) -> Option<Self> {
        match value {
            FieldRef::Int(n) | FieldRef::Timestamp(n) => Some(Self::Int(n)),
            FieldRef::Float(x) if !x.is_nan() => Some(Self::Float(x)),
            _ => None,
        }
    }

    /// The order of the values themselves; zero has no sign.
    pub(super) fn total_cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Float(a), Self::Float(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
            (Self::Int(a), Self::Float(b)) => int_with_float(a, b),
            (Self::Float(a), Self::Int(b)) => int_with_float(b, a).reverse(),
        }
    }
}

/// The first float above every i64: 2^63.
const ABOVE_INT: f64 = 9_223_372_036_854_775_808.0;

#[expect(clippy::cast_possible_truncation, reason = "a whole number inside the range of i64 is exact")]
fn int_with_float(n: i64, x: f64) -> Ordering {
    if x >= ABOVE_INT {
        return Ordering::Less;
    }
    if x < -ABOVE_INT {
        return Ordering::Greater;
    }
    let whole = x.trunc();
    n.cmp(&(whole as i64)).then((whole + 0.0).total_cmp(&(x + 0.0)))
}

#[cfg(test)]
mod tests;
