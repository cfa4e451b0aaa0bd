//! Payloads of every type in, the same payloads out; slips named.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::Metric;

fn schema() -> Schema {
    Schema::new(3, Metric::Cosine)
        .text("lang")
        .int("year")
        .float("weight")
        .bool("seen")
        .timestamp("at")
        .text_list("tags")
}

fn split(value: Value) -> Result<SplitPayload> {
    split_payload(&schema(), value.as_object().unwrap())
}

fn to_json(payload: &Payload) -> String {
    let mut text = Vec::new();
    payload_into(payload, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn refused(value: Value) -> Error {
    let error = split(value).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    error
}

#[test]
fn declared_values_become_fields_and_the_others_sorted_json() {
    let (fields, rest) = split(json!({
        "zeta": [1, null], "lang": "en", "year": 2024, "weight": 3, "seen": true,
        "at": "2024-05-01T14:30:00.123456789+02:00", "tags": ["a", "b"], "alpha": {"y": 1.5, "x": null},
    }))
    .unwrap();
    let expected = [
        FieldValue::Text("en".into()),
        FieldValue::Int(2024),
        FieldValue::Float(3.0),
        FieldValue::Bool(true),
        FieldValue::Timestamp(1_714_566_600_123_456),
        FieldValue::TextList(["a", "b"].map(Into::into).into()),
    ];
    assert_eq!(*fields, expected);
    assert_eq!(rest.as_deref(), Some(r#"{"alpha":{"x":null,"y":1.5},"zeta":[1,null]}"#));
    let back = join_payload(&schema(), &fields, rest.as_deref()).unwrap();
    let expected = json!({
        "zeta": [1, null], "lang": "en", "year": 2024, "weight": 3.0, "seen": true,
        "at": "2024-05-01T12:30:00.123456Z", "tags": ["a", "b"], "alpha": {"y": 1.5, "x": null},
    });
    assert_eq!(Value::Object(back), expected);
}

#[test]
fn absent_and_null_are_one_and_left_out_again() {
    let (fields, rest) = split(json!({"lang": null})).unwrap();
    assert!(fields.iter().all(|f| *f == FieldValue::Null) && fields.len() == 6);
    assert_eq!(rest, None);
    assert!(join_payload(&schema(), &fields, None).unwrap().is_empty());
    assert!(join_payload(&schema(), &[], None).unwrap().is_empty());
}

#[test]
fn a_wrong_type_names_field_expectation_and_value() {
    for (bad, expected) in [
        (json!({"lang": 1}), "field \"lang\": expected text, got number 1"),
        (json!({"year": 1.5}), "field \"year\": expected int (a whole number of 64 bits), got number 1.5"),
        (json!({"year": u64::MAX}), "got number 18446744073709551615"),
        (json!({"year": 1e300}), "got number 1e+300"),
        (json!({"weight": "1"}), "field \"weight\": expected float, got text \"1\""),
        (json!({"seen": 1}), "field \"seen\": expected bool, got number 1"),
        (json!({"at": 1.5}), "field \"at\": expected timestamp"),
        (json!({"tags": "a"}), "field \"tags\": expected list of text, got text \"a\""),
        (json!({"tags": ["a", 2]}), "got a list holding number 2"),
        (json!({"tags": [null]}), "got a list holding null"),
    ] {
        let error = refused(bad);
        assert_eq!(error.code(), "AKI-0124", "{error}");
        assert!(error.message().contains(expected), "{error}\nexpected {expected}");
    }
}

#[test]
fn timestamps_are_rfc_3339_or_microseconds_and_rounded_down() {
    let at = |value: Value| split(json!({ "at": value })).map(|(fields, _)| fields[4].clone());
    assert_eq!(at(json!(-1)).unwrap(), FieldValue::Timestamp(-1));
    assert_eq!(at(json!("1969-12-31T23:59:59.9999995Z")).unwrap(), FieldValue::Timestamp(-1));
    assert_eq!(at(json!("1969-12-31T23:59:59.999999Z")).unwrap(), FieldValue::Timestamp(-1));
    for bad in [json!("yesterday"), json!("2024-13-01T00:00:00Z"), json!("2024-05-01"), json!(i64::MAX)] {
        assert_eq!(at(bad).unwrap_err().code(), "AKI-0125");
    }
    assert_eq!(timestamp_text(-1), "1969-12-31T23:59:59.999999Z");
    assert_eq!(timestamp_text(i64::MAX), "9223372036854775807");
}

#[test]
fn integers_may_come_as_whole_floats() {
    let (fields, _) = split(json!({"year": 2024.0})).unwrap();
    assert_eq!(fields[1], FieldValue::Int(2024));
    assert_eq!(split(json!({"year": i64::MIN})).unwrap().0[1], FieldValue::Int(i64::MIN));
}

#[test]
fn reserved_keys_and_keys_off_by_case_are_refused() {
    for key in ["id", "lsn", "vector", "payload", "ID"] {
        assert_eq!(refused(json!({ key: 1 })).code(), "AKI-0129");
    }
    let error = refused(json!({"Year": 1}));
    assert_eq!(error.code(), "AKI-0130");
    assert_eq!(error.message(), "payload key \"Year\" differs from the field \"year\" only in case");
}

#[test]
fn size_and_depth_have_bounds() {
    let overhead = r#"{"x":""}"#.len();
    let sized = |bytes: usize| {
        let payload = json!({"x": "a".repeat(bytes - overhead)});
        payload_into(payload.as_object().unwrap(), &mut Vec::new())
    };
    sized(MAX_PAYLOAD_BYTES).unwrap();
    let error = sized(MAX_PAYLOAD_BYTES + 1).unwrap_err();
    assert_eq!(error.code(), "AKI-0127");
    assert!(error.message().contains("1048577"), "{error}");

    let nested = |depth: usize| (1..depth).fold(json!(1), |inner, _| json!([inner]));
    let (_, rest) = split(json!({"x": nested(MAX_PAYLOAD_DEPTH)})).unwrap();
    assert!(serde_json::from_str::<Value>(&rest.unwrap()).is_ok());
    assert_eq!(refused(json!({"x": nested(MAX_PAYLOAD_DEPTH + 1)})).code(), "AKI-0131");
}

#[test]
fn text_that_is_no_object_is_refused_with_its_place() {
    assert!(payload_from_json("").unwrap().is_empty());
    assert!(payload_from_json("{}").unwrap().is_empty());
    for (bad, expected) in [
        ("[1]", "got a list"),
        ("{\"a\":", "line 1 column 5"),
        ("{} x", "trailing characters"),
        ("{\"a\": NaN}", "line 1 column"),
        (&"[".repeat(100_000), "recursion limit"),
    ] {
        let error = payload_from_json(bad).unwrap_err();
        assert_eq!(error.code(), "AKI-0128");
        assert!(error.message().contains(expected), "{error}");
    }
    let error = payload_from_json(&" ".repeat(MAX_PAYLOAD_BYTES + 1)).unwrap_err();
    assert_eq!(error.code(), "AKI-0127");
}

#[test]
fn a_damaged_rest_is_an_error_and_no_panic() {
    for bad in ["", "{", "[1]", "null"] {
        assert_eq!(join_payload(&schema(), &[], Some(bad)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_logged_reads_back_as_the_same_fields_and_rest(
        year in prop::option::of(any::<i64>()),
        weight in prop::option::of(prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO),
        tags in prop::option::of(prop::collection::vec(".{0,6}", 0..3)),
        rest in prop::collection::btree_map("x[a-z]{0,4}", any_json(), 0..4),
    ) {
        let mut given: Payload = rest.into_iter().collect();
        given.insert("year".into(), json!(year));
        given.insert("weight".into(), json!(weight));
        given.insert("tags".into(), json!(tags));
        let before = split_payload(&schema(), &given).unwrap();
        // The way through the log: text, and the same split from it at replay. Floats keep every bit.
        let text = to_json(&given);
        prop_assert_eq!(&before, &split_logged(&schema(), &text).unwrap());
        let replayed = payload_from_json(&text).unwrap();
        prop_assert_eq!(&before, &split_payload(&schema(), &replayed).unwrap());
        // The way through a segment and back into a log, as an update of a row that was read.
        let joined = join_payload(&schema(), &before.0, before.1.as_deref()).unwrap();
        prop_assert_eq!(before, split_payload(&schema(), &joined).unwrap());
    }
}

#[test]
fn a_logged_text_that_is_none_of_the_schema_is_refused_and_an_unsorted_one_is_sorted() {
    for bad in ["[]", "{", "{}x", r#"{"year": "x"}"#, r#"{"lang": 1}"#, r#"{"tags": [1]}"#, r#"{"at": true}"#]
    {
        assert_eq!(split_logged(&schema(), bad).unwrap_err().code(), "AKI-0128", "{bad}");
    }
    for text in ["", "{}", r#"{"lang":null}"#] {
        let (fields, rest) = split_logged(&schema(), text).unwrap();
        assert!(
            fields.iter().all(|f| *f == FieldValue::Null) && fields.len() == 6 && rest.is_none(),
            "{text}"
        );
    }
    let (fields, rest) =
        split_logged(&schema(), r#"{"zeta":1,"year":7,"al\"pha":[2,{"x":"\u00e9"}]}"#).unwrap();
    assert_eq!(fields[1], FieldValue::Int(7));
    assert_eq!(rest.as_deref(), Some(r#"{"al\"pha":[2,{"x":"é"}],"zeta":1}"#));
}

#[test]
fn the_length_of_a_text_is_known_about_before_it_is_written() {
    let long =
        json!({ "text": "x".repeat(10_000), "list": ["one", "two", [1, 2.5, null]], "in": { "deep": true } });
    let escaped = json!({ "lines\t": "one\ntwo \"three\" \u{1}\u{8} \\ é".repeat(500) });
    let short = json!({ "lang": "en", "year": 2024, "seen": false });
    for value in [json!({}), json!({ "a": 1 }), short, long, escaped] {
        let payload = value.as_object().unwrap();
        let (guessed, written) = (text_bytes(payload), to_json(payload).len());
        assert!(guessed.abs_diff(written) <= 10 + written / 4, "{guessed} instead of {written}: {value}");
    }
}
