//! Filters against schemas: what binds, and what is said of what does not.

use super::*;
use crate::error::ErrorKind;
use crate::filter::arbitrary::schema;
use crate::schema::Metric;

fn refused(text: &str) -> Error {
    let error = text.parse::<Filter>().unwrap().bind(&schema()).expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Invalid);
    error
}

#[test]
fn an_unknown_field_is_answered_with_the_likely_one_and_all_of_them() {
    let error = refused("yaer = 1");
    assert_eq!(error.code(), "AKI-0153");
    let expected = "unknown field \"yaer\"; did you mean year?; the fields are lang, year, weight, seen, at, tags, id, lsn";
    assert_eq!(error.message(), expected);
    assert!(error.help().unwrap().contains("declared in the schema"));
    assert!(refused("Lang = 'x'").message().contains("did you mean lang?"));
    assert!(refused("ID = 'x'").message().contains("did you mean id?"));
    assert!(!refused("zzz = 1").message().contains("did you mean"));
    let many = (0..30).fold(Schema::new(3, Metric::L2), |schema, n| schema.int(format!("f {n}")));
    let error = Filter::eq("x", 1).bind(&many).unwrap_err();
    assert!(error.message().ends_with("\"f 19\" and 12 more"), "{error}");
}

#[test]
fn values_and_operators_go_with_the_type() {
    for (text, code, what) in [
        ("lang = 1", "AKI-0154", "lang is text: it cannot be compared with int 1"),
        ("year = 'x'", "AKI-0154", "year is int: it cannot be compared with text 'x'"),
        ("year = true", "AKI-0154", "with bool true"),
        ("weight in (1, 'x')", "AKI-0154", "weight is float: it cannot be compared with text 'x'"),
        ("seen = 'true'", "AKI-0154", "seen is bool"),
        ("seen < true", "AKI-0154", "`<` does not order it; use = or !="),
        ("tags = 'x'", "AKI-0154", "searched with `contains` alone"),
        ("tags in ('x')", "AKI-0154", "searched with `contains` alone"),
        ("tags contains 5", "AKI-0154", "cannot be compared with int 5"),
        ("lang contains 'x'", "AKI-0154", "`contains` is for lists of text"),
        ("id = 5", "AKI-0154", "id is text"),
        ("at = 1.5", "AKI-0154", "at is timestamp"),
        ("at > '2024'", "AKI-0155", "'2024' is not a timestamp; write it like"),
        ("lsn = '5'", "AKI-0155", "'5' is not an LSN; write it like '3:41'"),
    ] {
        let error = refused(text);
        assert_eq!(error.code(), code, "{text}: {error}");
        assert!(error.message().contains(what), "{text}: {error}");
    }
    let int_ids = Schema::new(3, Metric::L2).int_ids();
    assert_eq!(Filter::eq("id", "x").bind(&int_ids).unwrap_err().code(), "AKI-0154");
    Filter::eq("id", -5).bind(&int_ids).unwrap();
}

#[test]
fn what_only_a_builder_can_make_is_refused_too() {
    let code = |filter: Filter| filter.bind(&schema()).unwrap_err().code();
    assert_eq!(code(Filter::eq("weight", f64::NAN)), "AKI-0154");
    assert_eq!(code(Filter::lt("year", f64::INFINITY)), "AKI-0154");
    assert_eq!(code(Filter::in_list("year", [0i64; 0])), "AKI-0154");
    let deep = (0..65).fold(Filter::eq("year", 1), |filter, _| !filter);
    assert_eq!(code(deep.or(Filter::eq("year", 2))), "AKI-0151");
}
