//! Every form holds what went in.

use super::*;
use crate::filter::coding::{Coding, ListCoding, float_key};

/// Columns in one go.
impl Coded {
    pub(crate) fn texts<'a>(values: impl Iterator<Item = Option<&'a str>> + Clone) -> Self {
        let mut coding = Coding::texts(count(values.clone()));
        values.for_each(|text| coding.push(text));
        coding.done()
    }

    pub(crate) fn ints(values: impl Iterator<Item = Option<i64>> + Clone) -> Self {
        let mut coding = Coding::ints(count(values.clone()));
        values.for_each(|int| coding.push(int.as_ref()));
        coding.done()
    }

    pub(crate) fn timestamps(values: impl Iterator<Item = Option<i64>> + Clone) -> Self {
        let mut coding = Coding::timestamps(count(values.clone()));
        values.for_each(|micros| coding.push(micros.as_ref()));
        coding.done()
    }

    pub(crate) fn floats(values: impl Iterator<Item = Option<f64>> + Clone) -> Self {
        let mut coding = Coding::floats(count(values.clone()));
        values.for_each(|float| coding.push(float.map(float_key).as_ref()));
        coding.done()
    }

    pub(crate) fn bools(values: impl Iterator<Item = Option<bool>> + Clone) -> Self {
        let mut coding = Coding::bools(count(values.clone()));
        values.for_each(|bool| coding.push(bool.as_ref()));
        coding.done()
    }

    pub(crate) fn lists<'a, L>(lists: impl Iterator<Item = Option<L>> + Clone) -> Self
    where
        L: IntoIterator<Item = &'a str>,
    {
        let mut coding = ListCoding::new(count(lists.clone()));
        lists.for_each(|list| coding.push(list.map(L::into_iter)));
        coding.done()
    }
}

fn count<T>(values: impl Iterator<Item = T>) -> u32 {
    u32::try_from(values.count()).unwrap()
}

/// The value of a row that is no list.
fn value(column: &Coded, row: u32) -> FieldRef<'_> {
    if column.nulls.as_ref().is_some_and(|nulls| nulls.contains(row)) {
        return FieldRef::Null;
    }
    match &column.form {
        Form::Null | Form::Lists { .. } => panic!("{:?} has no value in row {row}", column.form),
        Form::Codes { values, codes } => values.get(codes.get(row)),
        Form::Plain(values) => values.get(row as usize),
    }
}

impl Codes {
    fn get(&self, row: u32) -> usize {
        match self {
            Self::One(codes) => codes[row as usize].into(),
            Self::Two(codes) => codes[row as usize].into(),
            Self::Four(codes) => codes[row as usize] as usize,
        }
    }
}

fn form(column: &Coded) -> &'static str {
    match &column.form {
        Form::Null => "null",
        Form::Codes { codes: Codes::One(_), .. } => "1",
        Form::Codes { codes: Codes::Two(_), .. } => "2",
        Form::Codes { codes: Codes::Four(_), .. } => "4",
        Form::Plain(_) => "plain",
        Form::Lists { .. } => "lists",
    }
}

#[test]
fn codes_are_as_wide_as_the_values_need_and_say_the_value_of_every_row() {
    for (distinct, rows, wanted) in [
        (1, 600, "1"),
        (255, 600, "1"),
        (256, 600, "2"),
        (65_535, 140_000, "2"),
        (65_536, 140_000, "4"),
        (400, 600, "plain"),
        (1, 1, "1"),
    ] {
        let of = |row: i64| row * 7_919 % distinct - 3;
        let ints = Coded::ints((0..rows).map(|row| (row % 5 != 1).then_some(of(row))));
        assert_eq!((form(&ints), i64::from(ints.rows())), (wanted, rows), "{distinct} values");
        let times = Coded::timestamps((0..rows).map(|row| (row % 5 != 1).then_some(of(row))));
        assert_eq!(form(&times), wanted);
        let words: Vec<String> = (0..rows).map(|row| of(row).to_string()).collect();
        let texts = Coded::texts(words.iter().map(|word| (word != "0").then_some(word.as_str())));
        for row in 0..rows {
            let at = u32::try_from(row).unwrap();
            assert_eq!(times.time(at), (row % 5 != 1).then_some(of(row)));
            match value(&ints, at) {
                FieldRef::Int(n) => assert_eq!(n, of(row)),
                other => assert!(matches!(other, FieldRef::Null) && row % 5 == 1),
            }
            match value(&texts, at) {
                FieldRef::Text(text) => assert_eq!(text, words[at as usize]),
                other => assert!(matches!(other, FieldRef::Null) && of(row) == 0),
            }
        }
    }
}

#[test]
fn values_ascend_and_zero_has_no_sign() {
    let floats = [0.5, -0.0, f64::MIN, 0.0, -1e-300, f64::MAX, 0.5, -0.0, 0.0, 0.0, 0.0, 0.0];
    let column = Coded::floats(floats.iter().map(|x| Some(*x)));
    let Form::Codes { values: Values::Floats(values), .. } = &column.form else { panic!("{column:?}") };
    assert_eq!(**values, [f64::MIN, -1e-300, 0.0, 0.5, f64::MAX]);
    assert_eq!(values[2].to_bits(), 0);
    for (row, x) in (0_u32..).zip(floats) {
        assert!(matches!(value(&column, row), FieldRef::Float(own) if own == x));
    }
}

#[test]
fn a_column_without_values_has_nulls_alone() {
    for column in [Coded::null(70), Coded::bools((0..70).map(|_| None)), Coded::null(0)] {
        assert_eq!(form(&column), "null");
        assert_eq!(column.nulls.as_ref().map(Bitmap::count), Some(column.rows()));
        assert_eq!(column.time(3), None);
    }
}

#[test]
fn lists_share_their_texts() {
    let lists: [Option<&[&str]>; 5] = [Some(&["b", "a"]), None, Some(&[]), Some(&["a", "a"]), Some(&["c"])];
    let column = Coded::lists(lists.iter().map(|list| list.map(|list| list.iter().copied())));
    let Form::Lists { ends, codes, values } = &column.form else { panic!("{column:?}") };
    let of = |row: usize| -> Vec<&str> {
        (ends.start(row)..ends.end(row)).map(|at| values.get(codes.at(at).unwrap())).collect()
    };
    for (row, list) in lists.iter().enumerate() {
        assert_eq!(of(row), list.unwrap_or_default());
    }
    assert_eq!((values.len(), place(values, "c"), place(values, "d")), (3, Some(2), None));
    assert_eq!(column.nulls.as_ref().unwrap().iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn bytes_are_counted() {
    let one = Coded::ints((0..1_000).map(|n| Some(n % 10)));
    assert_eq!(one.bytes(), 1_000 + 80);
    let plain = Coded::ints((0..1_000).map(|n| (n != 3).then_some(n)));
    assert_eq!(plain.bytes(), 8_000 + 16 * 8);
}
