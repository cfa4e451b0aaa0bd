//! The scan of one list: every wanted row's estimate against the threshold, the survivors to the candidates.

use crate::distance::Kernel;
use crate::distance::codes::{BLOCK_ROWS, FACTORS_LEN, MAX_BLOCKS, Passed};
use crate::index::block::{self, Scales, block_len};
use crate::index::candidates::{Candidate, Candidates};
use crate::index::coarse;
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
    /// Whether it is one of many: its estimates are surer than those of one list of everything.
    pub(crate) is_one_of_many: bool,
    pub(crate) source: u32,
    /// What will be scanned after it, brought near meanwhile.
    pub(crate) soon: &'a [u8],
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
        candidates.take_from(self.is_one_of_many);
        let len = block_len(nibbles);
        let mut passed = [Passed::default(); MAX_BLOCKS];
        let mut masks = [0u32; MAX_BLOCKS];
        let mut scanned = 0;
        for (group, blocks) in self.blocks.chunks(MAX_BLOCKS * len).enumerate() {
            let masks = &mut masks[..blocks.len() / len];
            let rest = &self.blocks[group * MAX_BLOCKS * len + blocks.len()..];
            let soon = if rest.is_empty() { self.soon } else { rest };
            self.prefetch_rows(kernel, group);
            for (at, mask) in masks.iter_mut().enumerate() {
                *mask = wanted(group * MAX_BLOCKS + at) & self.slots_of(group * MAX_BLOCKS + at);
                scanned += mask.count_ones();
            }
            let limit = (candidates.threshold(self.error) - self.base) / self.unit;
            match probe.range.test(&probe.table, self.scales, limit) {
                Some(test) => {
                    kernel.scan_blocks(blocks, &probe.table.entries, &test, masks, soon, &mut passed)
                }
                None => {
                    self.take_all(kernel, probe, (blocks, soon), masks, &mut passed);
                    self.settle(kernel, probe, group, &mut passed, &alive, candidates);
                }
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
        (blocks, soon): (&[u8], &[u8]),
        masks: &[u32],
        passed: &mut [Passed; MAX_BLOCKS],
    ) {
        kernel.scan_blocks(blocks, &probe.table.entries, &coarse::ALL, masks, soon, passed);
    }

    /// Gives a search without a threshold one, of all rows of its first blocks at once, and lets what is beyond it not pass.
    /// (One by one most of them would be kept, as each is below the threshold of its moment.)
    fn settle(
        &self,
        kernel: Kernel,
        probe: &Probe,
        group: usize,
        passed: &mut [Passed; MAX_BLOCKS],
        alive: &impl Fn(u32) -> bool,
        candidates: &mut Candidates,
    ) {
        let Some(wanted) = candidates.wanted().filter(|wanted| *wanted <= MAX_BLOCKS * BLOCK_ROWS) else {
            return;
        };
        let len = probe.table.entries.len() + FACTORS_LEN;
        let blocks = self.blocks[group * MAX_BLOCKS * len..].chunks_exact(len);
        let mut estimates = [f32::MAX; MAX_BLOCKS * BLOCK_ROWS];
        let lowest = kernel.vectorised(
            #[inline(always)]
            || {
                let (estimates_of, _) = estimates.as_chunks_mut::<BLOCK_ROWS>();
                for ((estimates, block), passed) in estimates_of.iter_mut().zip(blocks).zip(&*passed) {
                    let codes =
                        block::estimates(&block[len - FACTORS_LEN..], passed, &probe.table, self.scales);
                    for (at, (estimate, code)) in estimates.iter_mut().zip(codes).enumerate() {
                        let is_wanted = passed.rows >> coarse::row(at) & 1 == 1;
                        *estimate = if is_wanted { self.base + self.unit * code } else { f32::MAX };
                    }
                }
                coarse::bound(&estimates, wanted)
            },
        );
        let (estimates, _) = estimates.as_chunks::<BLOCK_ROWS>();
        let mut living = 0;
        for (at, estimates) in (group * MAX_BLOCKS..).zip(estimates) {
            let mut left = below(kernel, estimates, lowest);
            while left != 0 {
                living += usize::from(alive(self.row(at * BLOCK_ROWS + left.trailing_zeros() as usize)));
                left &= left - 1;
            }
        }
        if lowest < f32::MAX && living >= wanted {
            candidates.settle(lowest);
            let limit = candidates.threshold(self.error);
            for (passed, estimates) in passed.iter_mut().zip(estimates) {
                passed.rows &= below(kernel, estimates, limit);
            }
        }
    }

    /// The slots of a block that hold a row.
    fn slots_of(&self, block: usize) -> u32 {
        match (self.len as usize).saturating_sub(block * BLOCK_ROWS) {
            BLOCK_ROWS.. => u32::MAX,
            rows => (1 << rows) - 1,
        }
    }

    /// The numbers of the few rows that pass lie apart from the codes.
    fn prefetch_rows(&self, kernel: Kernel, group: usize) {
        const LEN: usize = 4 * MAX_BLOCKS * BLOCK_ROWS;
        if let Some(rows) = self.rows.and_then(|rows| rows.chunks(LEN).nth(group)) {
            kernel.prefetch_bytes(rows);
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

/// Bit i: the estimate of row i is below `limit`. Estimates lie as [`block::estimates`] gives them.
#[inline]
fn below(kernel: Kernel, estimates: &[f32; BLOCK_ROWS], limit: f32) -> u32 {
    kernel.vectorised(
        #[inline(always)]
        || (0..BLOCK_ROWS).fold(0, |rows, at| rows | u32::from(estimates[at] < limit) << coarse::row(at)),
    )
}
