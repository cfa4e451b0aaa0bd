//! A set of row numbers as flat 64-bit words, from which masks of blocks are cut.

/// Rows `0..len`, one bit each: row `i` is bit `i % 64` of word `i / 64`. Bits past the last row are 0.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bitmap {
    words: Box<[u64]>,
    len: u32,
}

impl Bitmap {
    /// No row of `len`.
    pub(crate) fn none(len: u32) -> Self {
        Self { words: vec![0; words_of(len)].into(), len }
    }

    /// Every row of `len`.
    pub(crate) fn all(len: u32) -> Self {
        let mut all = Self { words: vec![u64::MAX; words_of(len)].into(), len };
        all.cut_tail();
        all
    }

    /// The rows for which `bits`, an answer a row from the first on, is true; rows after its end are out.
    pub(crate) fn of_bits(len: u32, bits: impl IntoIterator<Item = bool>) -> Self {
        let mut bits = bits.into_iter();
        let word = |_| (0..64).fold(0, |word, at| word | u64::from(bits.next().unwrap_or(false)) << at);
        let mut rows = Self { words: (0..words_of(len)).map(word).collect(), len };
        rows.cut_tail();
        rows
    }

    /// The rows whose value is one of those `is_in` takes; a value a row. The inner loop has no branch, so that it
    /// becomes vector instructions.
    pub(crate) fn of_values<T: Copy>(values: &[T], is_in: impl Fn(T) -> bool) -> Self {
        let mut words = Vec::with_capacity(values.len().div_ceil(64));
        for chunk in values.chunks(64) {
            let mut bytes = [0_u8; 64];
            for (byte, value) in bytes.iter_mut().zip(chunk) {
                *byte = u8::from(is_in(*value));
            }
            words.push(pack(&bytes));
        }
        Self { words: words.into(), len: u32::try_from(values.len()).expect("rows are counted in 32 bits") }
    }

    /// Rows there are, in or out.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The words, as drawn above.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// How many rows are in.
    pub(crate) fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether no row is in.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether `row` is in; rows from `len` on are not.
    #[inline]
    pub(crate) fn contains(&self, row: u32) -> bool {
        self.words.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Takes `row` in.
    ///
    /// # Panics
    /// If it is not below `len`.
    pub(crate) fn insert(&mut self, row: u32) {
        assert!(row < self.len, "row {row} of {}", self.len);
        self.words[row as usize / 64] |= 1 << (row % 64);
    }

    /// The rows in, ascending.
    pub(crate) fn iter(&self) -> Rows<'_> {
        Rows { words: &self.words, at: 0, left: self.words.first().copied().unwrap_or(0) }
    }

    /// Keeps the rows that are in `other` too.
    pub(crate) fn and(&mut self, other: &Self) {
        self.combine(other, |a, b| a & b);
    }

    /// Keeps the rows that are not in `other`.
    pub(crate) fn and_not(&mut self, other: &Self) {
        self.combine(other, |a, b| a & !b);
    }

    /// Takes the rows of `other` in.
    pub(crate) fn or(&mut self, other: &Self) {
        self.combine(other, |a, b| a | b);
    }

    /// The rows that are out.
    pub(crate) fn not(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.cut_tail();
    }

    /// `op` must keep 0 and 0 at 0.
    fn combine(&mut self, other: &Self, op: impl Fn(u64, u64) -> u64) {
        assert_eq!(self.len, other.len, "sets of the same rows");
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a = op(*a, *b));
    }

    fn cut_tail(&mut self) {
        if let (tail @ 1.., Some(last)) = (self.len % 64, self.words.last_mut()) {
            *last &= (1 << tail) - 1;
        }
    }
}

impl std::fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} rows", self.count(), self.len)
    }
}

/// Rows of a bitmap, ascending.
#[derive(Clone, Debug)]
pub(crate) struct Rows<'a> {
    words: &'a [u64],
    at: usize,
    /// What is left of the word at `at`.
    left: u64,
}

impl Iterator for Rows<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        while self.left == 0 {
            self.at += 1;
            self.left = *self.words.get(self.at)?;
        }
        let bit = self.left.trailing_zeros();
        self.left &= self.left - 1;
        // As many words as a 32-bit number of rows needs.
        u32::try_from(self.at * 64).ok().map(|first| first + bit)
    }
}

fn words_of(len: u32) -> usize {
    (len as usize).div_ceil(64)
}

/// 64 bytes that are 0 or 1 as the bits of a word.
#[inline]
fn pack(bytes: &[u8; 64]) -> u64 {
    // The product puts byte i's bit at 56 + i; no two of its terms meet.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut word = 0;
    for (at, eight) in bytes.chunks_exact(8).enumerate() {
        let eight = u64::from_le_bytes(eight.try_into().expect("chunks of eight"));
        word |= (eight.wrapping_mul(GATHER) >> 56) << (8 * at);
    }
    word
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(len: u32, rows: &BTreeSet<u32>) -> Bitmap {
        let mut bitmap = Bitmap::none(len);
        rows.iter().for_each(|row| bitmap.insert(*row));
        bitmap
    }

    fn rows(bitmap: &Bitmap) -> Vec<u32> {
        bitmap.iter().collect()
    }

    #[test]
    fn all_and_none_keep_to_their_rows() {
        for len in [0, 1, 63, 64, 65, 128, 1_000] {
            let (all, none) = (Bitmap::all(len), Bitmap::none(len));
            assert_eq!((all.count(), none.count()), (len, 0));
            assert_eq!(rows(&all), (0..len).collect::<Vec<_>>());
            assert_eq!((none.is_empty(), all.is_empty(), all.contains(len)), (true, len == 0, false));
            let mut turned = none;
            turned.not();
            assert_eq!(turned, all, "{len} rows");
            turned.not();
            assert!(turned.is_empty());
        }
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(len in 1_u32..300, seeds in prop::collection::vec(any::<(u32, bool, bool)>(), 0..300)) {
            let a: BTreeSet<u32> = seeds.iter().filter(|s| s.1).map(|s| s.0 % len).collect();
            let b: BTreeSet<u32> = seeds.iter().filter(|s| s.2).map(|s| s.0 % len).collect();
            let (left, right) = (of(len, &a), of(len, &b));
            prop_assert_eq!(rows(&left), a.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(left.count() as usize, a.len());
            prop_assert!((0..len + 70).all(|row| left.contains(row) == a.contains(&row)));
            let bits: Vec<bool> = (0..len).map(|row| a.contains(&row)).collect();
            prop_assert_eq!(&Bitmap::of_bits(len, bits.iter().copied()), &left);
            prop_assert_eq!(&Bitmap::of_values(&bits, |bit| bit), &left);
            for (op, wanted) in [
                (Bitmap::and as fn(&mut Bitmap, &Bitmap), &a & &b),
                (Bitmap::and_not, &a - &b),
                (Bitmap::or, &a | &b),
            ] {
                let mut result = left.clone();
                op(&mut result, &right);
                prop_assert_eq!(&result, &of(len, &wanted));
            }
        }
    }
}
