//! Filters and rows of every kind, for property tests.

use proptest::prelude::*;

use crate::filter::ast::{CompareOp, Expr, Filter, Literal};
use crate::filter::eval::RowFields;
use crate::lsn::Lsn;
use crate::row::{FieldRef, FieldValue};
use crate::schema::{Metric, Schema};

pub(crate) const TWO_53: i64 = 1 << 53;

/// Positions: 0 lang text, 1 year int, 2 weight float, 3 seen bool, 4 at timestamp, 5 tags list of text.
pub(crate) fn schema() -> Schema {
    Schema::new(3, Metric::Cosine)
        .text("lang")
        .int("year")
        .float("weight")
        .bool("seen")
        .timestamp("at")
        .text_list("tags")
}

/// A row in memory.
#[derive(Clone, Debug)]
pub(crate) struct TestRow {
    pub(crate) id: String,
    pub(crate) lsn: Lsn,
    pub(crate) fields: Vec<FieldValue>,
}

impl RowFields for TestRow {
    fn id(&self) -> FieldRef<'_> {
        FieldRef::Text(&self.id)
    }

    fn lsn(&self) -> Lsn {
        self.lsn
    }

    fn field(&self, position: usize) -> FieldRef<'_> {
        self.fields.get(position).map_or(FieldRef::Null, FieldRef::from)
    }
}

fn number() -> impl Strategy<Value = Literal> {
    let ints = prop::sample::select(vec![-1, 0, 1, 2, TWO_53, TWO_53 + 1, i64::MAX, i64::MIN]);
    let floats =
        prop::sample::select(vec![-0.5, -0.0, 0.0, 0.5, 1.0, 9_007_199_254_740_992.0, 9.3e18, -9.3e18]);
    prop_oneof![ints.prop_map(Literal::Int), floats.prop_map(Literal::Float)]
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "b", "é"]).prop_map(str::to_owned)
}

/// A field with a literal that goes with it.
fn field_and_literal() -> impl Strategy<Value = (String, Literal)> {
    prop_oneof![
        text().prop_map(|text| ("lang".to_owned(), Literal::Text(text))),
        number().prop_map(|number| ("year".to_owned(), number)),
        number().prop_map(|number| ("weight".to_owned(), number)),
        prop::sample::select(vec![-1i64, 0, 1]).prop_map(|micros| ("at".to_owned(), Literal::Int(micros))),
    ]
}

/// A filter on declared fields of that schema.
pub(crate) fn any_filter() -> impl Strategy<Value = Filter> {
    use CompareOp::{Eq, Ge, Gt, Le, Lt, Ne};
    let ops = || prop::sample::select(vec![Eq, Ne, Lt, Le, Gt, Ge]);
    let leaf = prop_oneof![
        (field_and_literal(), ops()).prop_map(|((field, value), op)| Filter::of(Expr::Compare {
            field,
            op,
            value
        })),
        (prop::collection::vec(number(), 1..4), any::<bool>())
            .prop_map(|(values, negated)| { Filter::of(Expr::In { field: "year".into(), values, negated }) }),
        (prop::collection::vec(text(), 1..3), any::<bool>()).prop_map(|(texts, negated)| {
            let values = texts.into_iter().map(Literal::Text).collect();
            Filter::of(Expr::In { field: "lang".into(), values, negated })
        }),
        any::<bool>().prop_map(|value| Filter::eq("seen", value)),
        text().prop_map(|text| Filter::contains("tags", text)),
        prop::sample::select(vec!["lang", "year", "weight", "seen", "at", "tags"]).prop_map(|field| {
            if field == "at" { Filter::is_not_null(field) } else { Filter::is_null(field) }
        }),
    ];
    leaf.prop_recursive(4, 20, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|filter| !filter),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)),
            (inner.clone(), inner).prop_map(|(a, b)| a.or(b)),
        ]
    })
}

/// The fields of a row of that schema; a quarter of them null.
pub(crate) fn any_fields() -> impl Strategy<Value = Vec<FieldValue>> {
    let or_null = |value: BoxedStrategy<FieldValue>| prop_oneof![1 => Just(FieldValue::Null), 3 => value];
    let ints = prop::sample::select(vec![-1, 0, 1, TWO_53, TWO_53 + 1, i64::MAX, i64::MIN]);
    let floats = prop::sample::select(vec![-0.5, -0.0, 0.0, 0.5, 1.0, 9_007_199_254_740_992.0, 9.3e18]);
    let tags = prop::collection::vec(text().prop_map(Box::from), 0..3);
    (
        or_null(text().prop_map(|text| FieldValue::Text(text.into())).boxed()),
        or_null(ints.prop_map(FieldValue::Int).boxed()),
        or_null(floats.prop_map(FieldValue::Float).boxed()),
        or_null(any::<bool>().prop_map(FieldValue::Bool).boxed()),
        or_null((-1i64..2).prop_map(FieldValue::Timestamp).boxed()),
        or_null(tags.prop_map(|tags| FieldValue::TextList(tags.into())).boxed()),
    )
        .prop_map(|(a, b, c, d, e, f)| vec![a, b, c, d, e, f])
}
