//! Filters from text: what parses, what prints, and where a slip is shown.

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

fn parsed(text: &str) -> Filter {
    text.parse().unwrap_or_else(|e: Error| panic!("{text}: {e}"))
}

fn eq(field: &str, value: impl Into<Literal>) -> Filter {
    Filter::eq(field, value)
}

fn refused(text: &str) -> Error {
    let error = text.parse::<Filter>().expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Invalid);
    error
}

#[test]
fn the_text_form_and_the_builder_make_the_same_filter() {
    for (text, built) in [
        ("lang = 'en'", eq("lang", "en")),
        ("lang != 'it''s'", Filter::ne("lang", "it's")),
        ("lang<>'x'", Filter::ne("lang", "x")),
        ("year<-5", Filter::lt("year", -5)),
        ("year <= +5", Filter::le("year", 5)),
        ("w > 1.5e-3", Filter::gt("w", 1.5e-3)),
        ("w >= 2e3", Filter::ge("w", 2000.0)),
        ("seen = TRUE", eq("seen", true)),
        ("a in ('x','y')", Filter::in_list("a", ["x", "y"])),
        ("a NOT IN (1, 2)", Filter::not_in_list("a", [1, 2])),
        ("a is null", Filter::is_null("a")),
        ("a Is Not Null", Filter::is_not_null("a")),
        ("tags contains ''", Filter::contains("tags", "")),
        ("\"not\" = 1", eq("not", 1)),
        ("\"two \"\"words\"\"\" = 1", eq("two \"words\"", 1)),
        ("größe_2 = 1", eq("größe_2", 1)),
        ("not a = 1 and b = 2", (!eq("a", 1)).and(eq("b", 2))),
        ("not (a = 1 and b = 2)", !eq("a", 1).and(eq("b", 2))),
        ("a = 1 or b = 2 and c = 3", eq("a", 1).or(eq("b", 2).and(eq("c", 3)))),
        ("(a = 1 or b = 2) and c = 3", eq("a", 1).or(eq("b", 2)).and(eq("c", 3))),
        ("((a = 1)) and ((b = 2 and\n\tc = 3))", eq("a", 1).and(eq("b", 2)).and(eq("c", 3))),
    ] {
        assert_eq!(parsed(text), built, "{text}");
        assert_eq!(parsed(&built.to_string()), built, "{built}");
    }
}

#[test]
fn a_slip_is_named_with_its_byte_and_what_was_expected() {
    for (text, at, what) in [
        ("", 0, "expected a field's name, `not` or `(`, found the end"),
        ("lang = 'en' and ", 16, "found the end"),
        ("lang", 4, "expected =, !=, <"),
        ("lang like 'x%'", 5, "found `like`"),
        ("lang == 'en'", 5, "write `=` once"),
        ("lang = en", 7, "texts stand in single quotes"),
        ("lang = \"en\"", 7, "texts stand in single quotes"),
        ("lang = null", 7, "found with `is null`"),
        ("lang is 5", 8, "expected `null` or `not null`, found `5`"),
        ("lang not 5", 9, "expected `in`"),
        ("a in 5", 5, "expected `(` and a list"),
        ("a in ()", 6, "expected a value, found `)`"),
        ("a in (1 2)", 8, "expected `,` or `)`"),
        ("(a = 1", 6, "expected `and`, `or` or `)`, found the end"),
        ("a = 1)", 5, "expected `and`, `or` or the end, found `)`"),
        ("a = 1 b = 2", 6, "expected `and`, `or` or the end, found `b`"),
        ("5 = a", 0, "expected a field's name"),
        ("größe = 'x", 10, "has no closing quote '"),
        ("\"x", 0, "has no closing quote \""),
        ("a = 9223372036854775808", 4, "does not fit 64 bits"),
        ("a = 1e999", 4, "too large for a float"),
        ("a = 12abc", 4, "`12abc` is neither a number nor a name"),
        ("a = 1.", 5, "means nothing"),
        ("a ~ 1", 2, "'~' means nothing in a filter"),
        ("a\u{0} = 1", 1, "means nothing"),
    ] {
        let error = refused(text);
        assert_eq!((error.code(), error.offset()), ("AKI-0150", Some(at)), "{text}: {error}");
        assert!(error.message().contains(what), "{text}: {error}");
    }
}

#[test]
fn a_caret_stands_under_the_slip() {
    let error = refused("größe = 1 und x = 2");
    assert_eq!(error.help().unwrap(), "look at the mark:\n  größe = 1 und x = 2\n            ^");
    let error = refused("a = 1 and\n\tb == 2 and\nc = 3");
    assert_eq!(error.help().unwrap(), "look at the mark:\n   b == 2 and\n     ^");
    let long = format!("a = '{}' or", "x".repeat(200));
    let help = refused(&long).help().unwrap().to_owned();
    let lines: Vec<&str> = help.lines().collect();
    assert_eq!(lines[1].chars().count() + 1, lines[2].chars().count(), "{help}");
    assert!(lines[1].starts_with("  ...xxx") && lines[1].len() < 70, "{help}");
}

#[test]
fn depth_is_bounded_and_no_text_overflows_the_stack() {
    let nested = |n: usize| format!("{}a = 1{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(parsed(&nested(64)), Filter::eq("a", 1));
    let error = refused(&nested(65));
    assert_eq!((error.code(), error.offset()), ("AKI-0151", Some(64)));
    let bombs = [
        "(".repeat(1 << 20),
        "not ".repeat(200_000),
        "not(".repeat(200_000),
        "a=1 or (a=1 and (".repeat(50_000),
        format!("{}a=1", "not ".repeat(65)),
    ];
    for bomb in &bombs {
        assert_eq!(refused(bomb).code(), "AKI-0151");
    }
    // Two levels a parenthesis: the tree's own depth is bounded too.
    let both = format!("{}a=1{}", "a=1 or a=1 and (".repeat(40), ")".repeat(40));
    assert_eq!(refused(&both).code(), "AKI-0151");
    assert_eq!(refused(&" ".repeat((1 << 20) + 1)).code(), "AKI-0152");
}

#[test]
fn a_long_row_of_parts_is_wide_and_not_deep() {
    let text = vec!["a = 1"; 100_000].join(" or ");
    assert_eq!(parsed(&text).to_string(), text);
}

#[test]
fn builders_stop_at_the_bound_and_may_go_on_for_ever() {
    let mut filter = Filter::eq("a", 1);
    for n in 0..200_000 {
        filter = if n % 2 == 0 { !filter } else { filter.or(Filter::eq("b", 2)) };
    }
    assert!(filter.is_too_deep());
    let mut deepest = Filter::eq("a", 1);
    for _ in 0..64 {
        deepest = !deepest;
    }
    assert!(!deepest.is_too_deep());
    assert_eq!(parsed(&deepest.to_string()), deepest);
    assert!((!deepest.clone()).is_too_deep());
    assert!(deepest.and(Filter::eq("b", 1)).is_too_deep());
}

fn any_literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        ".{0,8}".prop_map(Literal::Text),
        any::<i64>().prop_map(Literal::Int),
        (prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO).prop_map(Literal::Float),
        any::<bool>().prop_map(Literal::Bool),
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_][a-z0-9_]{0,6}", "\\PC{1,8}", Just("NOT".to_owned()), Just("In".to_owned())]
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let value = any_literal;
    let values = || prop::collection::vec(any_literal(), 1..4);
    let leaf = prop_oneof![
        (any_name(), 0usize..6, value()).prop_map(|(field, op, value)| Filter::of(Expr::Compare {
            field,
            op: COMPARISONS[op].1,
            value
        })),
        (any_name(), values(), any::<bool>()).prop_map(|(field, values, negated)| Filter::of(Expr::In {
            field,
            values,
            negated
        })),
        (any_name(), ".{0,8}").prop_map(|(field, text)| Filter::contains(field, text)),
        (any_name(), any::<bool>()).prop_map(|(field, negated)| Filter::of(Expr::IsNull { field, negated })),
    ];
    leaf.prop_recursive(6, 40, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|filter| !filter),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)),
            (inner.clone(), inner).prop_map(|(a, b)| a.or(b)),
        ]
    })
}

proptest! {
    #[test]
    fn what_a_filter_prints_parses_back_to_it(filter in any_filter()) {
        prop_assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
    }

    #[test]
    fn any_text_gives_a_filter_or_a_place_inside_it(
        text in prop_oneof![
            "\\PC{0,40}",
            "([ab=<>!()',\"0-9.e \n-]|and |or |not |in |is |null|contains ){0,30}",
        ],
    ) {
        match text.parse::<Filter>() {
            Ok(filter) => prop_assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter),
            Err(error) => {
                let at = usize::try_from(error.offset().unwrap()).unwrap();
                prop_assert!(text.is_char_boundary(at), "{at} in {text:?}");
                prop_assert!(error.help().unwrap().ends_with('^'));
            }
        }
    }
}
