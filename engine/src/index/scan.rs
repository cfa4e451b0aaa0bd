//! The scan of one list: every wanted row's estimate against the threshold, the survivors to the candidates.

use crate::distance::Kernel;
use crate::distance::codes::{BLOCK_ROWS, FACTORS_LEN, MAX_BLOCKS, Passed};
use crate::index::block::{self, Scales, block_len};
use crate::index::candidates::{Candidate, Candidates};
use crate::index::probe::Probe;

/// A row number that stands for none.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// The codes of a list and where its estimates lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListScan<'a> {
    /// Whole blocks.
    pub(crate) blocks: &'a [u8],
    /// The row number of each slot, 4 bytes each, little endian; without, slots are rows from `first_row` on.
    pub(crate) rows: Option<&'a [u8]>,
    pub(crate) first_row: u32,
    /// Slots with a row.
    pub(crate) len: u32,
    pub(crate) scales: Scales,
    /// A row's estimate is `base + unit * (what its code says)`.
    pub(crate) base: f32,
    pub(crate) unit: f32,
    /// A standard error of the estimates.
    pub(crate) error: f32,
    pub(crate) source: u32,
}

impl ListScan<'_> {
    /// Scans the list. `wanted(block)` masks the slots of a block that matter; `alive(row)` is asked of survivors.
    /// Gives the slots that were compared.
    #[inline]
    pub(crate) fn run(
        &self,
        kernel: Kernel,
        probe: &Probe,
        nibbles: usize,
        wanted: impl Fn(usize) -> u32,
        alive: impl Fn(u32) -> bool,
        candidates: &mut Candidates,
    ) -> u32 {
        let len = block_len(nibbles);
        let mut passed = [Passed::default(); MAX_BLOCKS];
        let mut masks = [0u32; MAX_BLOCKS];
        let mut scanned = 0;
        for (group, blocks) in self.blocks.chunks(MAX_BLOCKS * len).enumerate() {
            let masks = &mut masks[..blocks.len() / len];
            for (at, mask) in masks.iter_mut().enumerate() {
                *mask = wanted(group * MAX_BLOCKS + at) & self.slots_of(group * MAX_BLOCKS + at);
                scanned += mask.count_ones();
            }
            let limit = (candidates.threshold(self.error) - self.base) / self.unit;
            match probe.range.test(&probe.table, self.scales, limit) {
                Some(test) => kernel.scan_blocks(blocks, &probe.table.entries, &test, masks, &mut passed),
                None => self.take_all(kernel, probe, blocks, masks, &mut passed),
            }
            for (at, (block, passed)) in blocks.chunks_exact(len).zip(&passed).enumerate() {
                let factors = &block[len - FACTORS_LEN..];
                let mut left = passed.rows;
                while left != 0 {
                    let row = left.trailing_zeros() as usize;
                    left &= left - 1;
                    let code = block::estimate(factors, row, passed.sum(row), &probe.table, self.scales);
                    let estimate = self.base + self.unit * code;
                    if estimate < candidates.threshold(self.error) {
                        let row = self.row((group * MAX_BLOCKS + at) * BLOCK_ROWS + row);
                        if alive(row) {
                            let (error, source) = (self.error, self.source);
                            candidates.offer(Candidate { estimate, error, source, row });
                        }
                    }
                }
            }
        }
        scanned
    }

    /// The sums of every wanted row, where no threshold can be put in fixed point.
    fn take_all(
        &self,
        kernel: Kernel,
        probe: &Probe,
        blocks: &[u8],
        masks: &[u32],
        passed: &mut [Passed; MAX_BLOCKS],
    ) {
        kernel.scan_blocks(blocks, &probe.table.entries, &super::coarse::ALL, masks, passed);
    }

    /// The slots of a block that hold a row.
    fn slots_of(&self, block: usize) -> u32 {
        match (self.len as usize).saturating_sub(block * BLOCK_ROWS) {
            BLOCK_ROWS.. => u32::MAX,
            rows => (1 << rows) - 1,
        }
    }

    #[inline]
    fn row(&self, slot: usize) -> u32 {
        match self.rows {
            None => self.first_row + u32::try_from(slot).unwrap_or(0),
            Some(rows) => rows
                .get(4 * slot..4 * slot + 4)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(NO_ROW, u32::from_le_bytes),
        }
    }
}
