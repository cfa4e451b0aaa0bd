//! The rows of a segment that a filter takes, in the orders that searches look at them, and when codes of their own pay.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::bitmap::Bitmap;
use crate::deletion_vector::DeletionVector;

/// The rows of a segment that a filter takes, dead ones included.
#[derive(Debug)]
pub(crate) struct Matches {
    /// One bit a row of the segment.
    pub(crate) rows: Bitmap,
    /// How many are set.
    pub(crate) count: u32,
    /// Whether statistics alone said that there are none.
    pub(crate) pruned: bool,
    slots: OnceLock<Box<[u64]>>,
    concentration: OnceLock<f32>,
    /// When codes of just these rows are made.
    codes: Turn,
    /// The same of codes that prove.
    byte_codes: Turn,
    /// How many of the rows were dead when a deletion vector of so many was looked at: that many in the high half.
    dead: AtomicU64,
}

impl Matches {
    /// How many of the rows the segment's deletion vector does not name. Counted once for each that is longer than the one before:
    /// it only grows. Rows hidden in memory since count as living.
    pub(crate) fn alive(&self, deletion_vector: &DeletionVector) -> u32 {
        let len = deletion_vector.len();
        let known = self.dead.load(Ordering::Relaxed);
        let dead = if known >> 32 == len {
            known & u64::from(u32::MAX)
        } else {
            let dead = deletion_vector.iter().filter(|row| self.rows.contains(*row)).count() as u64;
            self.dead.store(len << 32 | dead, Ordering::Relaxed);
            dead
        };
        u32::try_from(u64::from(self.count).saturating_sub(dead)).unwrap_or(0)
    }

    pub(super) fn new(rows: Bitmap, pruned: bool) -> Self {
        Self {
            count: rows.count(),
            rows,
            pruned,
            slots: OnceLock::new(),
            concentration: OnceLock::new(),
            codes: Turn::default(),
            byte_codes: Turn::default(),
            dead: AtomicU64::new(0),
        }
    }

    /// The same set in the order of an index's slots: bit `i % 64` of word `i / 64` says whether the row in slot `i`
    /// matches. A row may have several slots; `u32::MAX` stands for a slot without a row. `rows_of_slots` is asked the
    /// first time only: a segment has one order.
    ///
    /// # Errors
    /// What `rows_of_slots` fails with; nothing is kept then.
    pub(crate) fn slots<E>(&self, rows_of_slots: impl FnOnce() -> Result<Vec<u32>, E>) -> Result<&[u64], E> {
        if let Some(slots) = self.slots.get() {
            return Ok(slots);
        }
        let rows = rows_of_slots()?;
        let word = |rows: &[u32]| {
            let bits = rows.iter().enumerate();
            bits.fold(0, |word, (at, row)| word | u64::from(self.rows.contains(*row)) << at)
        };
        let words = rows.chunks(64).map(word).collect();
        Ok(self.slots.get_or_init(|| words))
    }

    /// How the rows lie in the lists of the segment's index; `compute` is asked the first time only.
    pub(crate) fn concentration(&self, compute: impl FnOnce() -> f32) -> f32 {
        *self.concentration.get_or_init(compute)
    }

    /// Whether it is now that codes of just these rows pay: they are made when the searches so far could have saved what
    /// making them costs: whatever is asked later, in all no more than twice the least is spent. One search makes them, however
    /// many ask meanwhile: nobody else is told so until [`Matches::were_made`].
    pub(crate) fn is_due(&self, kind: OwnCodesKind) -> bool {
        self.codes.is_it(self.count / kind.rows_a_search())
    }

    /// They were made and kept, or could not be: searches are counted from here on.
    pub(crate) fn were_made(&self) {
        self.codes.is_over();
    }

    /// As [`Matches::is_due`], of codes that prove which rows are not among the best.
    pub(crate) fn byte_codes_are_due(&self) -> bool {
        self.byte_codes.is_it(BYTE_CODES_AFTER)
    }

    /// As [`Matches::were_made`], of those.
    pub(crate) fn byte_codes_were_made(&self) {
        self.byte_codes.is_over();
    }

    /// Bytes on the heap, slots included before they are there: about two a row where rows spill to a second list.
    pub(super) fn bytes(&self) -> u64 {
        3 * size_of_val(self.rows.words()) as u64
    }
}

/// Searches that save what it costs to make codes that prove: to encode a row takes so many times what one search saves of it.
const BYTE_CODES_AFTER: u32 = 24;

/// When something is made that pays only if it is asked often.
#[derive(Debug, Default)]
struct Turn {
    /// Searches that would have used it, had it been there.
    asked: AtomicU32,
    /// Whether a search is making it.
    is_making: AtomicBool,
}

impl Turn {
    /// Counts a search; whether it is to make the thing, `after` so many.
    fn is_it(&self, after: u32) -> bool {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        asked >= after.max(1) && !self.is_making.swap(true, Ordering::Acquire)
    }

    fn is_over(&self) {
        self.asked.store(0, Ordering::Relaxed);
        self.is_making.store(false, Ordering::Release);
    }
}

/// Which codes of its own a filter is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnCodesKind {
    Few,
    Many,
}

impl OwnCodesKind {
    /// Rows for which making such codes costs what one search of them saves: to encode a row takes 3 us, to copy its codes
    /// a quarter of one.
    fn rows_a_search(self) -> u32 {
        match self {
            Self::Few => 64,
            Self::Many => 256,
        }
    }
}

/// The mask of a block's 32 slots in what [`Matches::slots`] gives.
#[expect(clippy::cast_possible_truncation, reason = "the half of the word that is the block's")]
pub(crate) fn block_mask(masks: &[u64], block: usize) -> u32 {
    (masks[block / 2] >> (32 * (block % 2))) as u32
}
