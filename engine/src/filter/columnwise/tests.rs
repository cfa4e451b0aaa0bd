//! Columns answer as rows do.

use proptest::prelude::*;

use super::*;
use crate::filter::Filter;
use crate::filter::arbitrary::{TestRow, any_fields, any_filter, schema};
use crate::filter::eval::RowFields;
use crate::lsn::Lsn;
use crate::row::{FieldRef, FieldValue};

/// Columns made of rows; position 5 is a list, as in the schema of the tests.
impl Columns for Vec<TestRow> {
    fn column(&self, source: Source) -> Result<Arc<Coded>> {
        macro_rules! column {
            ($make:path, $at:expr, $kind:path) => {
                $make(self.iter().map(|row| match row.field($at) {
                    $kind(value) => Some(value),
                    _ => None,
                }))
            };
        }
        Ok(Arc::new(match source {
            Source::Id => Coded::texts(self.iter().map(|row| Some(row.id.as_str()))),
            Source::Lsn => Coded::ints(self.iter().map(|row| Some(row.lsn.as_i64()))),
            Source::Field(0) => column!(Coded::texts, 0, FieldRef::Text),
            Source::Field(1) => column!(Coded::ints, 1, FieldRef::Int),
            Source::Field(2) => column!(Coded::floats, 2, FieldRef::Float),
            Source::Field(3) => column!(Coded::bools, 3, FieldRef::Bool),
            Source::Field(4) => column!(Coded::timestamps, 4, FieldRef::Timestamp),
            Source::Field(_) => Coded::lists(self.iter().map(|row| match row.field(5) {
                FieldRef::TextList(texts) => Some(texts.iter().map(|text| &**text)),
                _ => None,
            })),
        }))
    }
}

fn rows_of(fields: Vec<Vec<FieldValue>>) -> Vec<TestRow> {
    let row = |(at, fields): (u64, _)| TestRow { id: format!("k{at:03}"), lsn: Lsn::new(3, at + 1), fields };
    (0..).zip(fields).map(row).collect()
}

fn check(filter: &Filter, rows: &Vec<TestRow>) -> Result<(), TestCaseError> {
    let bound = filter.bind(&schema()).unwrap();
    let matching = bound.matching(rows).unwrap();
    prop_assert_eq!(matching.len() as usize, rows.len());
    for (at, row) in (0_u32..).zip(rows) {
        prop_assert_eq!(matching.contains(at), bound.matches(row), "{} on row {}", filter, at);
    }
    prop_assert_eq!(matching.iter().count(), matching.count() as usize);
    Ok(())
}

/// Filters of fields, ids and LSNs.
fn any_question() -> impl Strategy<Value = Filter> {
    let ids = prop::sample::select(vec![
        "id > 'k010'",
        "not id <= 'k001'",
        "id in ('k000', 'k064', 'x')",
        "id is null",
        "lsn >= '3:64'",
        "lsn not in ('3:1', '3:51')",
    ]);
    let of_row = ids.prop_map(|text| text.parse::<Filter>().unwrap());
    (any_filter(), of_row, 0..4).prop_map(|(a, b, how)| match how {
        0 => a.and(b),
        1 => b.or(a),
        2 => !(b.and(a)),
        _ => a,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]
    #[test]
    fn columns_answer_as_rows_do(
        fields in prop::collection::vec(any_fields(), 0..150),
        filters in prop::collection::vec(any_question(), 1..4),
        without in 0..12_usize,
    ) {
        let mut rows = rows_of(fields);
        // Sometimes a field has no value in any row.
        rows.iter_mut().filter_map(|row| row.fields.get_mut(without)).for_each(|f| *f = FieldValue::Null);
        for filter in &filters {
            check(filter, &rows)?;
        }
    }
}

#[test]
fn wide_codes_plain_values_and_runs_of_codes_answer_as_rows_do() {
    let null = || FieldValue::Null;
    for distinct in [100, 300, 70_000, i64::MAX] {
        let fields = |row: i64| {
            let n = row * 31 % distinct;
            let int = if row % 11 == 0 { null() } else { FieldValue::Int(n) };
            vec![FieldValue::Text((n % 1_000).to_string().into()), int, FieldValue::Float(n as f64 / 2.0)]
        };
        let rows = rows_of((0..if distinct == 70_000 { 150_000 } else { 5_000 }).map(fields).collect());
        for text in [
            "year < 50",
            "year != 62",
            "year in (31, 62, 93, 124)",
            "year not in (31, 93)",
            "not (year >= 20 and year < 90)",
            "weight <= 15.5 or year is null",
            "lang = '31' or lang > '9'",
            "year < -1",
            "year >= 0",
            "year = 31.5",
        ] {
            check(&text.parse().unwrap(), &rows).unwrap();
        }
    }
}

#[test]
fn a_float_that_is_no_number_is_unknown_in_columns_too() {
    for fill in [0, 40] {
        let mut fields = vec![vec![FieldValue::Null, FieldValue::Null, FieldValue::Float(f64::NAN)]; 2];
        fields.extend((0..fill).map(|_| vec![FieldValue::Null, FieldValue::Null, FieldValue::Float(1.0)]));
        let rows = rows_of(fields);
        for text in ["weight = 1", "not weight = 1", "weight is null", "weight in (1) or weight is not null"]
        {
            check(&text.parse().unwrap(), &rows).unwrap();
        }
    }
}

#[test]
fn a_column_that_cannot_change_the_answer_is_not_read() {
    struct OnlyYear(Vec<TestRow>);
    impl Columns for OnlyYear {
        fn column(&self, source: Source) -> Result<Arc<Coded>> {
            assert_eq!(source, Source::Field(1), "another column was read");
            self.0.column(source)
        }
    }
    let fields = (0..90).map(|n| vec![FieldValue::Null, FieldValue::Int(n)]).collect();
    let columns = OnlyYear(rows_of(fields));
    for (text, count) in [("year < 0 and lang = 'a'", 0), ("year >= 0 or lang = 'a'", 90)] {
        let bound = text.parse::<Filter>().unwrap().bind(&schema()).unwrap();
        assert_eq!(bound.matching(&columns).unwrap().count(), count, "{text}");
    }
}
