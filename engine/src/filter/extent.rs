//! What statistics say of a column, and whether a filter can be true at all where that holds.

use crate::filter::ast::CompareOp;
use crate::filter::bind::Bound;
use crate::filter::eval::{Node, Number, Source, Test};
use crate::row::FieldRef;

/// What is known of the values of a column without reading it. Never more than what holds for every row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent<'a> {
    /// Nothing.
    Unknown,
    /// No row has a value.
    Null,
    /// Values are of one type and lie between these two, themselves included; of lists, the texts in them. With
    /// `full`, every row has one.
    Between {
        /// No value is below.
        low: FieldRef<'a>,
        /// No value is above.
        high: FieldRef<'a>,
        /// No row is null.
        full: bool,
    },
}

impl Bound {
    /// Whether no row with columns of these extents can match. `false` says nothing: only comparisons, and `and` and
    /// `or` of them, are looked at.
    pub(crate) fn is_never_true<'a>(&self, extent: &dyn Fn(Source) -> Extent<'a>) -> bool {
        self.root.is_never_true(extent)
    }
}

impl Node {
    fn is_never_true<'a>(&self, extent: &dyn Fn(Source) -> Extent<'a>) -> bool {
        match self {
            Self::And(parts) => parts.iter().any(|part| part.is_never_true(extent)),
            Self::Or(parts) => parts.iter().all(|part| part.is_never_true(extent)),
            Self::Not(_) => false,
            Self::Test(source, test) => test.is_never_true(extent(*source)),
        }
    }
}

impl Test {
    fn is_never_true(&self, extent: Extent<'_>) -> bool {
        let (low, high, full) = match extent {
            Extent::Unknown => return false,
            // A comparison with nothing is unknown.
            Extent::Null => return !matches!(self, Self::IsNull { negated: false }),
            Extent::Between { low, high, full } => (low, high, full),
        };
        let never = |op, wanted| Self::is_outside(op, &low, &high, wanted);
        match self {
            Self::IsNull { negated } => full && !negated,
            Self::Text(op, text) => never(*op, FieldRef::Text(text)),
            Self::Contains(text) => never(CompareOp::Eq, FieldRef::Text(text)),
            Self::Number(op, number) => never(*op, number.value()),
            Self::TextIn { texts, negated: false } => {
                texts.iter().all(|text| never(CompareOp::Eq, FieldRef::Text(text)))
            }
            Self::NumberIn { numbers, negated: false } => {
                numbers.iter().all(|number| never(CompareOp::Eq, number.value()))
            }
            Self::Bool(_) | Self::BoolIn { .. } | Self::TextIn { .. } | Self::NumberIn { .. } => false,
        }
    }

    /// Whether `value op wanted` holds for no value from `low` to `high`.
    fn is_outside(op: CompareOp, low: &FieldRef<'_>, high: &FieldRef<'_>, wanted: FieldRef<'_>) -> bool {
        let order = |bound: &FieldRef<'_>| match (bound, wanted) {
            (FieldRef::Text(bound), FieldRef::Text(wanted)) => Some((**bound).cmp(wanted)),
            (bound, wanted) => Some(Number::of(*bound)?.total_cmp(&Number::of(wanted)?)),
        };
        let (Some(low), Some(high)) = (order(low), order(high)) else { return false };
        match op {
            CompareOp::Eq => low.is_gt() || high.is_lt(),
            CompareOp::Ne => low.is_eq() && high.is_eq(),
            CompareOp::Lt => low.is_ge(),
            CompareOp::Le => low.is_gt(),
            CompareOp::Gt => high.is_le(),
            CompareOp::Ge => high.is_lt(),
        }
    }
}

impl Number {
    fn value(self) -> FieldRef<'static> {
        match self {
            Self::Int(n) => FieldRef::Int(n),
            Self::Float(x) => FieldRef::Float(x),
        }
    }
}
