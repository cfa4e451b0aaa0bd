//! Values of a column as they are met, a batch after the other, until they are codes.
//!
//! Of the column as it lies in the file nothing is kept: each distinct value once, and a number a row.

use std::borrow::Borrow;
use std::hash::Hash;

use super::coded::{Coded, Codes, Form, Values};
use super::dictionary::{Dictionary, Owned, Store};
use crate::bitmap::Bitmap;
use crate::texts::{Ends, Texts};

/// A column of single values on its way to be [`Coded`].
pub(crate) struct Coding<S: Store> {
    rows: u32,
    nulls: Bitmap,
    met: Met<S>,
    stored: fn(S) -> Values,
}

/// The values so far.
enum Met<S: Store> {
    Coded(Dictionary<S>),
    /// Too few of them repeat to be worth a code.
    Plain(S),
}

impl Coding<Texts> {
    /// Of texts.
    pub(crate) fn texts(rows: u32) -> Self {
        let shrunk = |mut texts: Texts| {
            texts.shrink();
            Values::Texts(texts)
        };
        Self::new(rows, shrunk)
    }
}

impl Coding<Vec<i64>> {
    /// Of integers.
    pub(crate) fn ints(rows: u32) -> Self {
        Self::new(rows, |ints| Values::Ints(ints.into()))
    }

    /// Of timestamps, in microseconds.
    pub(crate) fn timestamps(rows: u32) -> Self {
        Self::new(rows, |micros| Values::Timestamps(micros.into()))
    }

    /// Of floats, each given as its [`float_key`].
    pub(crate) fn floats(rows: u32) -> Self {
        Self::new(rows, |keys| Values::Floats(keys.into_iter().map(float_of).collect()))
    }
}

impl Coding<Vec<bool>> {
    /// Of booleans.
    pub(crate) fn bools(rows: u32) -> Self {
        Self::new(rows, |bools| Values::Bools(bools.into()))
    }
}

impl<S: Store> Coding<S>
where
    Owned<S>: Borrow<S::Value> + Eq + Hash + Ord,
{
    /// Of a column of so many rows.
    fn new(rows: u32, stored: fn(S) -> Values) -> Self {
        Self { rows, nulls: Bitmap::none(rows), met: Met::Coded(Dictionary::new(rows as usize)), stored }
    }

    /// Takes the value of the next row.
    ///
    /// # Panics
    /// If there are no more rows.
    pub(crate) fn push(&mut self, value: Option<&S::Value>) {
        let (rows, most_coded) = (self.rows as usize, self.most_coded());
        match (&mut self.met, value) {
            (Met::Coded(dictionary), Some(value)) => {
                dictionary.push(value);
                if dictionary.distinct() > most_coded {
                    self.met = Met::Plain(std::mem::take(dictionary).into_plain(rows));
                }
            }
            (Met::Plain(values), Some(value)) => values.put(value),
            (Met::Coded(dictionary), None) => {
                self.nulls.insert(u32::try_from(dictionary.rows()).expect("rows are counted in 32 bits"));
                dictionary.push_nothing();
            }
            (Met::Plain(values), None) => {
                self.nulls.insert(u32::try_from(values.len()).expect("rows are counted in 32 bits"));
                values.put_nothing();
            }
        }
    }

    /// Where most values are seen once, codes beside them are more bytes and no less work: distinct ones that get codes.
    fn most_coded(&self) -> usize {
        self.rows as usize / 2 + 1
    }

    /// Bytes on the heap, about.
    pub(crate) fn bytes(&self) -> u64 {
        let met = match &self.met {
            Met::Coded(dictionary) => dictionary.bytes(),
            Met::Plain(values) => values.bytes(),
        };
        (size_of_val(self.nulls.words()) + met) as u64
    }

    /// Bytes on the heap at most, about, while so many more rows are pushed whose values take `bytes`.
    pub(crate) fn bytes_ahead(&self, rows: usize, bytes: u64) -> u64 {
        let made_anew = match &self.met {
            Met::Coded(dictionary) if dictionary.distinct() + rows > self.most_coded() => {
                (dictionary.plain_bytes() + self.rows as usize * size_of::<Owned<S>>()) as u64 + bytes
            }
            _ => 0,
        };
        self.bytes() + bytes + made_anew
    }

    /// The column.
    ///
    /// # Panics
    /// If it has rows without a call of [`Coding::push`].
    pub(crate) fn done(self) -> Coded {
        let rows = self.rows;
        let nulls = Some(self.nulls).filter(|nulls| !nulls.is_empty());
        let (form, len) = match self.met {
            Met::Plain(values) => {
                let len = values.len();
                (Form::Plain((self.stored)(values)), len)
            }
            Met::Coded(dictionary) if dictionary.distinct() == 0 => (Form::Null, dictionary.rows()),
            Met::Coded(dictionary) => {
                let len = dictionary.rows();
                let (values, codes) = dictionary.into_sorted();
                let values = (self.stored)(values);
                (Form::Codes { codes: Codes::new(&codes, values.len()), values }, len)
            }
        };
        assert_eq!(len, rows as usize, "a value a row");
        if matches!(form, Form::Null) { Coded::null(rows) } else { Coded { rows, form, nulls } }
    }
}

/// A column of lists of texts on its way to be [`Coded`].
pub(crate) struct ListCoding {
    rows: u32,
    nulls: Bitmap,
    ends: Ends,
    dictionary: Dictionary<Texts>,
}

impl ListCoding {
    /// Of a column of so many rows.
    pub(crate) fn new(rows: u32) -> Self {
        Self { rows, nulls: Bitmap::none(rows), ends: Ends::default(), dictionary: Dictionary::default() }
    }

    /// Takes the list of the next row.
    ///
    /// # Panics
    /// If there are no more rows.
    pub(crate) fn push<'a>(&mut self, list: Option<impl Iterator<Item = &'a str>>) {
        match list {
            Some(list) => list.for_each(|text| self.dictionary.push(text)),
            None => {
                self.nulls.insert(u32::try_from(self.ends.len()).expect("rows are counted in 32 bits"));
            }
        }
        self.ends.push(self.dictionary.rows());
    }

    /// Bytes on the heap, about.
    pub(crate) fn bytes(&self) -> u64 {
        (size_of_val(self.nulls.words()) + self.ends.bytes() + self.dictionary.bytes()) as u64
    }

    /// The column.
    ///
    /// # Panics
    /// If it has rows without a call of [`ListCoding::push`].
    pub(crate) fn done(mut self) -> Coded {
        assert_eq!(self.ends.len(), self.rows as usize, "a list a row");
        self.ends.shrink();
        let (mut values, codes) = self.dictionary.into_sorted();
        values.shrink();
        let codes = Codes::new(&codes, values.len());
        let form = Form::Lists { ends: self.ends, codes, values };
        Coded { rows: self.rows, form, nulls: Some(self.nulls).filter(|nulls| !nulls.is_empty()) }
    }
}

/// Floats in their own order as integers; zero has no sign.
pub(crate) fn float_key(x: f64) -> i64 {
    let bits = (x + 0.0).to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

fn float_of(key: i64) -> f64 {
    f64::from_bits((key ^ ((key >> 63).cast_unsigned() >> 1).cast_signed()).cast_unsigned())
}
