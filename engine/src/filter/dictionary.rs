//! The distinct values of a column, numbered as they are met, and stores of values.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use crate::texts::Texts;

/// Where values are put, one after the other.
pub(crate) trait Store {
    /// One of them, as it is looked for.
    type Value: ?Sized + ToOwned + Eq + Hash;

    /// Empty, for so many.
    fn for_many(count: usize) -> Self;
    fn put(&mut self, value: &Self::Value);
    /// Puts anything.
    fn put_nothing(&mut self);
    fn len(&self) -> usize;
    /// Bytes on the heap.
    fn bytes(&self) -> usize;
    /// Bytes that one of them takes beside its place.
    fn heap_bytes(value: &Self::Value) -> usize;
}

impl Store for Texts {
    type Value = str;

    fn for_many(count: usize) -> Self {
        Self::with_capacity(count)
    }

    fn put(&mut self, value: &str) {
        self.push(value);
    }

    fn put_nothing(&mut self) {
        self.push("");
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn heap_bytes(value: &str) -> usize {
        value.len()
    }
}

impl<T: Copy + Default + Eq + Hash> Store for Vec<T> {
    type Value = T;

    fn for_many(count: usize) -> Self {
        Self::with_capacity(count)
    }

    fn put(&mut self, value: &T) {
        self.push(*value);
    }

    fn put_nothing(&mut self) {
        self.push(T::default());
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        size_of_val(&**self)
    }

    fn heap_bytes(_value: &T) -> usize {
        0
    }
}

/// A value by itself.
pub(super) type Owned<S> = <<S as Store>::Value as ToOwned>::Owned;

/// Values numbered in the order they are met; equal neighbours are looked up once.
pub(super) struct Dictionary<S: Store> {
    numbers: HashMap<Owned<S>, u32>,
    /// Bytes of the values beside the table.
    heap_bytes: usize,
    /// The same if each were there as often as it was met.
    plain_bytes: usize,
    codes: Vec<u32>,
    last: Option<(Owned<S>, u32)>,
}

/// Stands for no value until the values are sorted.
const NO_VALUE: u32 = u32::MAX;

impl<S: Store> Default for Dictionary<S> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<S: Store> Dictionary<S> {
    /// Empty, with places for so many rows.
    pub(super) fn new(rows: usize) -> Self {
        let codes = Vec::with_capacity(rows);
        Self { numbers: HashMap::new(), heap_bytes: 0, plain_bytes: 0, codes, last: None }
    }
}

impl<S: Store> Dictionary<S>
where
    Owned<S>: Borrow<S::Value> + Eq + Hash + Ord,
{
    /// Rows so far.
    pub(super) fn rows(&self) -> usize {
        self.codes.len()
    }

    /// Distinct values so far.
    pub(super) fn distinct(&self) -> usize {
        self.numbers.len()
    }

    /// Bytes that the values would take beside their places if each were there as often as it was met.
    pub(super) fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }

    /// Takes a row without a value.
    pub(super) fn push_nothing(&mut self) {
        self.codes.push(NO_VALUE);
    }

    /// Takes the next value.
    pub(super) fn push(&mut self, value: &S::Value) {
        self.plain_bytes += S::heap_bytes(value);
        if let Some((last, code)) = &self.last
            && (*last).borrow() == value
        {
            self.codes.push(*code);
            return;
        }
        let code = match self.numbers.get(value) {
            Some(code) => *code,
            None => {
                let next = u32::try_from(self.numbers.len()).expect("fewer values than rows");
                self.heap_bytes += S::heap_bytes(value);
                self.numbers.insert(value.to_owned(), next);
                next
            }
        };
        self.codes.push(code);
        match &mut self.last {
            Some((last, last_code)) => {
                value.clone_into(last);
                *last_code = code;
            }
            None => self.last = Some((value.to_owned(), code)),
        }
    }

    /// Bytes on the heap, about.
    pub(super) fn bytes(&self) -> usize {
        let entry = size_of::<Owned<S>>() + size_of::<u32>() + 1;
        self.numbers.capacity() * entry + self.heap_bytes + self.codes.capacity() * size_of::<u32>()
    }

    /// The value of each row so far, with places for `rows`.
    pub(super) fn into_plain(self, rows: usize) -> S {
        let mut by_number: Vec<Option<Owned<S>>> = Vec::new();
        by_number.resize_with(self.numbers.len(), || None);
        for (value, number) in self.numbers {
            by_number[number as usize] = Some(value);
        }
        let mut plain = S::for_many(rows);
        for code in self.codes {
            match by_number.get(code as usize) {
                Some(Some(value)) => plain.put(value.borrow()),
                _ => plain.put_nothing(),
            }
        }
        plain
    }

    /// The values, ascending, and each row's place among them; their number where there is no value.
    pub(super) fn into_sorted(self) -> (S, Vec<u32>) {
        let mut sorted: Vec<(Owned<S>, u32)> = self.numbers.into_iter().collect();
        sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut places = vec![0; sorted.len()];
        for (place, (_, number)) in (0_u32..).zip(&sorted) {
            places[*number as usize] = place;
        }
        let null = u32::try_from(sorted.len()).expect("fewer values than rows");
        let mut codes = self.codes;
        for code in &mut codes {
            *code = places.get(*code as usize).copied().unwrap_or(null);
        }
        let mut values = S::for_many(sorted.len());
        sorted.into_iter().for_each(|(value, _)| values.put(value.borrow()));
        (values, codes)
    }
}
