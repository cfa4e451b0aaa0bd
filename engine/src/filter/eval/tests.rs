//! Answers against SQL's truth tables, exact numbers, and a naive model.

use proptest::prelude::*;

use super::*;
use crate::filter::arbitrary::{TWO_53, TestRow, any_fields, any_filter, schema};
use crate::filter::ast::{Expr, Filter, Literal};
use crate::row::FieldValue;

fn row(fields: Vec<FieldValue>) -> TestRow {
    TestRow { id: "m".into(), lsn: Lsn::new(3, 41), fields }
}

fn full_row() -> TestRow {
    row(vec![
        FieldValue::Text("en".into()),
        FieldValue::Int(2020),
        FieldValue::Float(0.5),
        FieldValue::Bool(true),
        FieldValue::Timestamp(1_714_566_600_000_000),
        FieldValue::TextList(["a", "b"].map(Into::into).into()),
    ])
}

fn eval(text: &str, row: &TestRow) -> Option<bool> {
    text.parse::<Filter>().unwrap().bind(&schema()).unwrap().root.eval(row)
}

#[test]
fn every_operator_answers_on_a_full_row() {
    for (text, answer) in [
        ("lang = 'en'", true),
        ("lang > 'em' and lang < 'eo'", true),
        ("lang in ('de', 'en')", true),
        ("lang not in ('de', 'en')", false),
        ("year >= 2020 and year <= 2020", true),
        ("year = 2020.0", true),
        ("year < 2020.5 and year > 2019.5", true),
        ("year in (1.5, 2020.0, 7)", true),
        ("weight = 0.5 and weight < 1 and weight > 0", true),
        ("weight not in (0, 1)", true),
        ("seen = true and seen != false", true),
        ("seen in (false)", false),
        ("at = '2024-05-01T14:30:00+02:00'", true),
        ("at > '2024-05-01T12:29:59.999999Z' and at < 1714566600000001", true),
        ("at in ('2024-05-01T12:30:00Z')", true),
        ("tags contains 'b'", true),
        ("tags contains 'c'", false),
        ("id = 'm' and id < 'n' and id in ('x', 'm') and id is not null", true),
        ("lsn = '3:41' and lsn < '3:42' and lsn > 41 and lsn in ('3:41')", true),
        ("lang is null or lsn is null", false),
    ] {
        assert_eq!(eval(text, &full_row()), Some(answer), "{text}");
    }
}

#[test]
fn a_comparison_with_an_absent_value_is_unknown_and_takes_no_row() {
    let absent = row(Vec::new());
    for text in [
        "lang = 'en'",
        "lang != 'en'",
        "not lang = 'en'",
        "year in (1, 2)",
        "year not in (1, 2)",
        "seen = true",
        "tags contains 'a'",
        "not tags contains 'a'",
        "year = 1 and lang is null",
        "year = 1 or lang is not null",
    ] {
        assert_eq!(eval(text, &absent), None, "{text}");
        assert!(!text.parse::<Filter>().unwrap().bind(&schema()).unwrap().matches(&absent));
    }
    assert_eq!(eval("year = 1 and lang is not null", &absent), Some(false));
    assert_eq!(eval("year = 1 or lang is null", &absent), Some(true));
    assert_eq!(eval("not (year = 1 and lang is not null)", &absent), Some(true));
}

#[test]
fn integers_and_floats_compare_by_their_exact_values() {
    let order = |n, x| Number::Int(n).total_cmp(&Number::Float(x));
    let two_53 = 9_007_199_254_740_992.0;
    assert_eq!(order(TWO_53, two_53), Ordering::Equal);
    assert_eq!(order(TWO_53 + 1, two_53), Ordering::Greater);
    assert_eq!(order(i64::MAX, ABOVE_INT), Ordering::Less);
    assert_eq!(order(i64::MIN, -ABOVE_INT), Ordering::Equal);
    assert_eq!(order(i64::MIN, -1.0e300), Ordering::Greater);
    assert_eq!(order(i64::MAX, f64::INFINITY), Ordering::Less);
    assert_eq!(order(0, -0.0), Ordering::Equal);
    assert_eq!(order(0, 5e-324), Ordering::Less);
    assert_eq!(order(0, -5e-324), Ordering::Greater);
    assert_eq!(order(-2, -2.5), Ordering::Greater);
    assert_eq!(Number::Float(0.0).total_cmp(&Number::Float(-0.0)), Ordering::Equal);
    assert_eq!(Number::Float(2.5).total_cmp(&Number::Int(2)), Ordering::Greater);
}

#[test]
fn a_float_that_is_no_number_is_unknown() {
    let mut nan = full_row();
    nan.fields[2] = FieldValue::Float(f64::NAN);
    assert_eq!(eval("weight = 1", &nan), None);
    assert_eq!(eval("weight in (1)", &nan), None);
}

/// Twice the value: exact for the halves and integers the model uses.
fn doubled(value: &FieldValue) -> Option<i128> {
    #[expect(clippy::cast_possible_truncation, reason = "a whole number")]
    match value {
        FieldValue::Int(n) | FieldValue::Timestamp(n) => Some(i128::from(*n) * 2),
        FieldValue::Float(x) => Some((x * 2.0) as i128),
        _ => None,
    }
}

fn as_value(literal: &Literal) -> FieldValue {
    match literal {
        Literal::Text(text) => FieldValue::Text(text.as_str().into()),
        Literal::Int(n) => FieldValue::Int(*n),
        Literal::Float(x) => FieldValue::Float(*x),
        Literal::Bool(b) => FieldValue::Bool(*b),
    }
}

fn model_order(a: &FieldValue, b: &FieldValue) -> Ordering {
    match (a, b) {
        (FieldValue::Text(a), FieldValue::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (FieldValue::Bool(a), FieldValue::Bool(b)) => a.cmp(b),
        _ => doubled(a).unwrap().cmp(&doubled(b).unwrap()),
    }
}

/// SQL's logic on numbers: false 0, unknown 1, true 2; `and` is min, `or` is max, `not` is 2 - x.
fn model(expr: &Expr, row: &TestRow) -> u8 {
    let truth = |value: bool| if value { 2 } else { 0 };
    let value = |field: &str| schema().position(field).and_then(|at| row.fields.get(at)).cloned().unwrap();
    match expr {
        Expr::And(parts) => parts.iter().map(|part| model(part, row)).min().unwrap(),
        Expr::Or(parts) => parts.iter().map(|part| model(part, row)).max().unwrap(),
        Expr::Not(inner) => 2 - model(inner, row),
        Expr::IsNull { field, negated } => truth((value(field) == FieldValue::Null) != *negated),
        Expr::Compare { field, op, value: literal } => match value(field) {
            FieldValue::Null => 1,
            value => {
                let order = model_order(&value, &as_value(literal));
                truth(match op {
                    CompareOp::Eq => order == Ordering::Equal,
                    CompareOp::Ne => order != Ordering::Equal,
                    CompareOp::Lt => order == Ordering::Less,
                    CompareOp::Le => order != Ordering::Greater,
                    CompareOp::Gt => order == Ordering::Greater,
                    CompareOp::Ge => order != Ordering::Less,
                })
            }
        },
        Expr::In { field, values, negated } => match value(field) {
            FieldValue::Null => 1,
            value => truth(values.iter().any(|v| model_order(&value, &as_value(v)).is_eq()) != *negated),
        },
        Expr::Contains { field, value: Literal::Text(text) } => match value(field) {
            FieldValue::TextList(texts) => truth(texts.iter().any(|t| **t == **text)),
            _ => 1,
        },
        Expr::Contains { .. } | Expr::TooDeep => unreachable!("not generated"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn answers_are_those_of_a_naive_three_valued_model(filter in any_filter(), fields in any_fields()) {
        let row = row(fields);
        let bound = filter.bind(&schema()).unwrap();
        let answer = match bound.root.eval(&row) {
            Some(false) => 0,
            None => 1,
            Some(true) => 2,
        };
        prop_assert_eq!(answer, model(&filter.expr, &row), "{} on {:?}", filter, row);
        prop_assert_eq!(bound.matches(&row), answer == 2);
    }
}
