//! Which rows of a segment are hidden, and since when: kept in memory until a flush folds it into the segment's
//! deletion vector.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::lsn::Lsn;

const CHUNK_ROWS: usize = 1_024;
const ALIVE: u64 = u64::MAX;

/// For every row the LSN it is hidden from, in chunks allocated at the first hide. Written by the holder of the
/// apply lock before `visible` covers the hide; read by anyone as `hidden_at <= L`.
#[derive(Debug)]
pub(crate) struct Overlay {
    chunks: Box<[OnceLock<Box<[AtomicU64]>>]>,
    hidden: AtomicU32,
}

impl Overlay {
    pub(crate) fn new(rows: u32) -> Self {
        let chunks = (0..(rows as usize).div_ceil(CHUNK_ROWS)).map(|_| OnceLock::new()).collect();
        Self { chunks, hidden: AtomicU32::new(0) }
    }

    /// Hides `row` from `at` on. `false` if it already was hidden: then nothing changes. Apply lock.
    pub(crate) fn hide(&self, row: u32, at: Lsn) -> bool {
        let (chunk, slot) = (row as usize / CHUNK_ROWS, row as usize % CHUNK_ROWS);
        let chunk =
            self.chunks[chunk].get_or_init(|| (0..CHUNK_ROWS).map(|_| AtomicU64::new(ALIVE)).collect());
        if chunk[slot].load(Ordering::Relaxed) != ALIVE {
            return false;
        }
        chunk[slot].store(at.as_u64(), Ordering::Release);
        self.hidden.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Whether `row` is hidden at `lsn`.
    pub(crate) fn is_hidden(&self, row: u32, lsn: Lsn) -> bool {
        let (chunk, slot) = (row as usize / CHUNK_ROWS, row as usize % CHUNK_ROWS);
        self.chunks[chunk].get().is_some_and(|chunk| chunk[slot].load(Ordering::Acquire) <= lsn.as_u64())
    }

    /// Rows hidden at any LSN; 0 makes every look-up needless.
    pub(crate) fn len(&self) -> u32 {
        self.hidden.load(Ordering::Acquire)
    }

    /// Rows hidden at `lsn`, ascending.
    pub(crate) fn hidden_at(&self, lsn: Lsn) -> impl Iterator<Item = u32> {
        self.entries().filter(move |(_, at)| *at <= lsn).map(|(row, _)| row)
    }

    /// Every row that is hidden from some LSN on, and that LSN, ascending by row.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, Lsn)> {
        self.chunks.iter().enumerate().filter_map(|(n, chunk)| chunk.get().map(|chunk| (n, chunk))).flat_map(
            |(n, chunk)| {
                chunk.iter().enumerate().filter_map(move |(slot, at)| {
                    let at = Lsn::from_u64(at.load(Ordering::Acquire)).filter(|at| *at != Lsn::MAX)?;
                    Some((u32::try_from(n * CHUNK_ROWS + slot).expect("rows are u32"), at))
                })
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_row_is_hidden_from_its_lsn_on_and_only_once() {
        let overlay = Overlay::new(3_000);
        let lsn = |n| Lsn::new(1, n);
        assert!(overlay.hide(2_999, lsn(5)));
        assert!(!overlay.hide(2_999, lsn(7)));
        assert!(overlay.hide(0, lsn(9)));
        assert!(!overlay.is_hidden(2_999, lsn(4)));
        assert!(overlay.is_hidden(2_999, lsn(5)));
        assert_eq!(overlay.hidden_at(lsn(8)).collect::<Vec<_>>(), [2_999]);
        assert_eq!(overlay.hidden_at(lsn(9)).collect::<Vec<_>>(), [0, 2_999]);
        assert_eq!(overlay.len(), 2);
    }
}
