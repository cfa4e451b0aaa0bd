//! A column as filters read it: each distinct value once, in order, and a small code a row.

use std::collections::HashMap;
use std::hash::Hash;

use crate::bitmap::Bitmap;
use crate::row::FieldRef;

/// All values of one column of a segment, row `i` at place `i`.
#[derive(Debug)]
pub(crate) struct Coded {
    rows: u32,
    pub(super) form: Form,
    /// The rows without a value; absent if there is none.
    pub(super) nulls: Option<Bitmap>,
}

/// How the values lie.
#[derive(Debug)]
pub(super) enum Form {
    /// No row has a value.
    Null,
    /// The place of each row's value in `values`, which ascend; the number of values where there is none.
    Codes { values: Values, codes: Codes },
    /// The value of each row, anything where there is none: too few of them repeat to be worth a code.
    Plain(Values),
    /// Texts `ends[i]..ends[i + 1]` of `codes` are row i's; each code is a place in `values`, which ascend.
    Lists { ends: Box<[u32]>, codes: Codes, values: TextValues },
}

/// Values of one type.
#[derive(Debug)]
pub(super) enum Values {
    Texts(TextValues),
    Ints(Box<[i64]>),
    Floats(Box<[f64]>),
    Bools(Box<[bool]>),
    Timestamps(Box<[i64]>),
}

/// Texts one after the other.
#[derive(Debug)]
pub(super) struct TextValues {
    text: Box<str>,
    /// Text i is `text[ends[i]..ends[i + 1]]`.
    ends: Box<[u32]>,
}

/// Codes in as few bytes as the largest needs.
#[derive(Debug)]
pub(super) enum Codes {
    One(Box<[u8]>),
    Two(Box<[u16]>),
    Four(Box<[u32]>),
}

impl Coded {
    /// A column without a value, for fields younger than the segment.
    pub(crate) fn null(rows: u32) -> Self {
        Self { rows, form: Form::Null, nulls: Some(Bitmap::all(rows)) }
    }

    /// A column of texts.
    pub(crate) fn texts<'a>(values: impl Iterator<Item = Option<&'a str>> + Clone) -> Self {
        Self::scalar(values, |texts| Values::Texts(TextValues::new(texts)))
    }

    /// A column of integers.
    pub(crate) fn ints(values: impl Iterator<Item = Option<i64>> + Clone) -> Self {
        Self::scalar(values, |ints| Values::Ints(ints.collect()))
    }

    /// A column of timestamps, in microseconds.
    pub(crate) fn timestamps(values: impl Iterator<Item = Option<i64>> + Clone) -> Self {
        Self::scalar(values, |micros| Values::Timestamps(micros.collect()))
    }

    /// A column of floats.
    pub(crate) fn floats(values: impl Iterator<Item = Option<f64>> + Clone) -> Self {
        let keys = values.map(|value| value.map(float_key));
        Self::scalar(keys, |keys| Values::Floats(keys.map(float_of).collect()))
    }

    /// A column of booleans.
    pub(crate) fn bools(values: impl Iterator<Item = Option<bool>> + Clone) -> Self {
        Self::scalar(values, |bools| Values::Bools(bools.collect()))
    }

    /// A column of lists of texts.
    pub(crate) fn lists<'a, L>(lists: impl Iterator<Item = Option<L>> + Clone) -> Self
    where
        L: IntoIterator<Item = &'a str>,
    {
        let nulls = nulls_of(lists.clone().map(|list| list.is_none()));
        let mut ends = vec![0_u32];
        let mut dictionary = Dictionary::default();
        for list in lists {
            list.into_iter().flatten().for_each(|text| dictionary.push(Some(text)));
            ends.push(u32::try_from(dictionary.codes.len()).expect("a segment's lists hold fewer texts"));
        }
        let (values, codes) = dictionary.into_sorted();
        let form = Form::Lists {
            ends: ends.into(),
            codes: Codes::new(&codes, values.len()),
            values: TextValues::new(values.into_iter()),
        };
        Self { rows: nulls.0, form, nulls: nulls.1 }
    }

    fn scalar<K: Copy + Eq + Hash + Ord + Default>(
        values: impl Iterator<Item = Option<K>> + Clone,
        stored: impl Fn(&mut dyn Iterator<Item = K>) -> Values,
    ) -> Self {
        let (rows, nulls) = nulls_of(values.clone().map(|value| value.is_none()));
        if nulls.as_ref().is_some_and(|nulls| nulls.count() == rows) {
            return Self::null(rows);
        }
        let mut dictionary = Dictionary::default();
        for value in values.clone() {
            dictionary.push(value);
            // Where most values are seen once, codes beside them are more bytes and no less work.
            if dictionary.numbers.len() > rows as usize / 2 + 1 {
                let form = Form::Plain(stored(&mut values.map(Option::unwrap_or_default)));
                return Self { rows, form, nulls };
            }
        }
        let (distinct, codes) = dictionary.into_sorted();
        let codes = Codes::new(&codes, distinct.len());
        Self { rows, form: Form::Codes { values: stored(&mut distinct.into_iter()), codes }, nulls }
    }

    /// The value of a row of a column of timestamps.
    pub(crate) fn time(&self, row: u32) -> Option<i64> {
        match &self.form {
            // The code of a row without a value is past the last.
            Form::Codes { values: Values::Timestamps(values), codes } => {
                values.get(codes.at(row as usize)?).copied()
            }
            Form::Plain(Values::Timestamps(values)) => {
                let is_null = self.nulls.as_ref().is_some_and(|nulls| nulls.contains(row));
                values.get(row as usize).copied().filter(|_| !is_null)
            }
            _ => None,
        }
    }

    /// Rows it has.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> u64 {
        let form = match &self.form {
            Form::Null => 0,
            Form::Codes { values, codes } => values.bytes() + codes.bytes(),
            Form::Plain(values) => values.bytes(),
            Form::Lists { ends, codes, values } => size_of_val(&**ends) + codes.bytes() + values.bytes(),
        };
        (form + self.nulls.as_ref().map_or(0, |nulls| size_of_val(nulls.words()))) as u64
    }
}

/// How many rows there are, and those without a value if there are any.
fn nulls_of(is_null: impl Iterator<Item = bool> + Clone) -> (u32, Option<Bitmap>) {
    let rows = u32::try_from(is_null.clone().count()).expect("rows are counted in 32 bits");
    let nulls = Bitmap::of_bits(rows, is_null);
    (rows, (!nulls.is_empty()).then_some(nulls))
}

/// Values numbered in the order they are met; equal neighbours are looked up once.
struct Dictionary<K> {
    numbers: HashMap<K, u32>,
    codes: Vec<u32>,
    last: Option<(K, u32)>,
}

/// Stands for no value until the values are sorted.
const NO_VALUE: u32 = u32::MAX;

impl<K> Default for Dictionary<K> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), codes: Vec::new(), last: None }
    }
}

impl<K: Copy + Eq + Hash + Ord> Dictionary<K> {
    fn push(&mut self, value: Option<K>) {
        let code = match (value, self.last) {
            (None, _) => NO_VALUE,
            (Some(value), Some((last, code))) if last == value => code,
            (Some(value), _) => {
                let next = u32::try_from(self.numbers.len()).expect("fewer values than rows");
                let code = *self.numbers.entry(value).or_insert(next);
                self.last = Some((value, code));
                code
            }
        };
        self.codes.push(code);
    }

    /// The values, ascending, and each row's place among them; their number where there is no value.
    fn into_sorted(self) -> (Vec<K>, Vec<u32>) {
        let mut sorted: Vec<(K, u32)> = self.numbers.into_iter().collect();
        sorted.sort_unstable_by_key(|(value, _)| *value);
        let mut places = vec![0; sorted.len()];
        for (place, (_, number)) in (0_u32..).zip(&sorted) {
            places[*number as usize] = place;
        }
        let null = u32::try_from(sorted.len()).expect("fewer values than rows");
        let place = |code: u32| places.get(code as usize).copied().unwrap_or(null);
        let codes = self.codes.into_iter().map(place).collect();
        (sorted.into_iter().map(|(value, _)| value).collect(), codes)
    }
}

impl Values {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Ints(values) | Self::Timestamps(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Bools(values) => values.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> FieldRef<'_> {
        match self {
            Self::Texts(texts) => FieldRef::Text(texts.get(at)),
            Self::Ints(values) => FieldRef::Int(values[at]),
            Self::Floats(values) => FieldRef::Float(values[at]),
            Self::Bools(values) => FieldRef::Bool(values[at]),
            Self::Timestamps(values) => FieldRef::Timestamp(values[at]),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.bytes(),
            Self::Ints(values) | Self::Timestamps(values) => size_of_val(&**values),
            Self::Floats(values) => size_of_val(&**values),
            Self::Bools(values) => size_of_val(&**values),
        }
    }
}

impl TextValues {
    fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut text = String::new();
        let mut ends = vec![0];
        for one in texts {
            text.push_str(one);
            ends.push(u32::try_from(text.len()).expect("a segment's column holds less than 4 GiB"));
        }
        Self { text: text.into(), ends: ends.into() }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len() - 1
    }

    pub(super) fn get(&self, at: usize) -> &str {
        &self.text[self.ends[at] as usize..self.ends[at + 1] as usize]
    }

    /// The place of `wanted` among ascending texts.
    pub(super) fn place(&self, wanted: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(wanted) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.ends)
    }
}

impl Codes {
    /// Codes of at most `max`.
    fn new(codes: &[u32], max: usize) -> Self {
        const FITS: &str = "no code is above the largest";
        if u8::try_from(max).is_ok() {
            Self::One(codes.iter().map(|code| u8::try_from(*code).expect(FITS)).collect())
        } else if u16::try_from(max).is_ok() {
            Self::Two(codes.iter().map(|code| u16::try_from(*code).expect(FITS)).collect())
        } else {
            Self::Four(codes.into())
        }
    }

    /// The code at a place.
    fn at(&self, at: usize) -> Option<usize> {
        match self {
            Self::One(codes) => codes.get(at).map(|code| usize::from(*code)),
            Self::Two(codes) => codes.get(at).map(|code| usize::from(*code)),
            Self::Four(codes) => codes.get(at).map(|code| *code as usize),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::One(codes) => size_of_val(&**codes),
            Self::Two(codes) => size_of_val(&**codes),
            Self::Four(codes) => size_of_val(&**codes),
        }
    }
}

/// Floats in their own order as integers; zero has no sign.
fn float_key(x: f64) -> i64 {
    let bits = (x + 0.0).to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

fn float_of(key: i64) -> f64 {
    f64::from_bits((key ^ ((key >> 63).cast_unsigned() >> 1).cast_signed()).cast_unsigned())
}

#[cfg(test)]
mod tests;
