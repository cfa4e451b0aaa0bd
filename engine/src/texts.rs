//! Texts one after the other, found by their numbers, as many and as long as memory holds.

/// Texts in one piece.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    text: String,
    /// Text i is `text[ends[i - 1]..ends[i]]`.
    ends: Ends,
}

impl Texts {
    /// None yet, with places for so many.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self { text: String::new(), ends: Ends { near: Vec::with_capacity(count), far: Vec::new() } }
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Text `at`.
    ///
    /// # Panics
    /// If there are fewer.
    pub(crate) fn get(&self, at: usize) -> &str {
        &self.text[self.ends.start(at)..self.ends.end(at)]
    }

    /// Gives back what was taken for more.
    pub(crate) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink();
    }

    /// Bytes on the heap, of what is in use.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + self.ends.bytes()
    }
}

/// Where things that lie one after the other end, ascending: four bytes for each that ends below 4 Gi, eight for the rest.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    near: Vec<u32>,
    far: Vec<usize>,
}

impl Ends {
    /// The next one; not below the last.
    pub(crate) fn push(&mut self, end: usize) {
        match u32::try_from(end) {
            Ok(end) => self.near.push(end),
            Err(_) => self.far.push(end),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.near.len() + self.far.len()
    }

    /// Where thing `at` begins.
    ///
    /// # Panics
    /// If there are fewer than `at`.
    pub(crate) fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.end(at - 1) }
    }

    /// Where thing `at` ends.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    pub(crate) fn end(&self, at: usize) -> usize {
        match self.near.get(at) {
            Some(end) => *end as usize,
            None => self.far[at - self.near.len()],
        }
    }

    /// Gives back what was taken for more.
    pub(crate) fn shrink(&mut self) {
        self.near.shrink_to_fit();
        self.far.shrink_to_fit();
    }

    /// Bytes on the heap, of what is in use.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.near) + size_of_val(&*self.far)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        let mut texts = Texts::default();
        let given = ["", "a", "", "äö", "b"];
        given.iter().for_each(|text| texts.push(text));
        texts.shrink();
        assert_eq!((0..texts.len()).map(|at| texts.get(at)).collect::<Vec<_>>(), given);
        assert_eq!(texts.bytes(), 6 + 4 * 5);
    }

    #[test]
    fn ends_go_on_beyond_four_gi() {
        let four_gi = 1 << 32;
        let given = [0, 7, four_gi - 1, four_gi, four_gi, 5 * four_gi];
        let mut ends = Ends::default();
        given.iter().for_each(|end| ends.push(*end));
        ends.shrink();
        assert_eq!((0..ends.len()).map(|at| ends.end(at)).collect::<Vec<_>>(), given);
        assert_eq!(
            (0..6).map(|at| ends.start(at)).collect::<Vec<_>>(),
            [[0].as_slice(), &given[..5]].concat()
        );
        assert_eq!(ends.bytes(), 3 * 4 + 3 * 8);
    }
}
