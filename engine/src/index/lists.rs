//! An index in memory: its lists, their centroids, and what a search is told about them.

use crate::distance::Kernel;
use crate::index::block::Scales;
use crate::index::coarse::{Coarse, CoarseScratch, Near};
use crate::index::code::Bits;
use crate::index::probe::Probe;
use crate::index::scan::ListScan;
use crate::schema::Metric;

/// One list as the directory has it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct List {
    /// First byte in CODES.
    pub(crate) offset: u64,
    /// Blocks of 32 slots.
    pub(crate) blocks: u32,
    /// Slots of rows that belong here; they come first.
    pub(crate) primaries: u32,
    /// Slots of rows that belong elsewhere and are found here too.
    pub(crate) copies: u32,
    pub(crate) scales: Scales,
    /// Mean squared distance of its rows from the centroid.
    pub(crate) radius_squared: f32,
    /// crc32 of its bytes in CODES.
    pub(crate) crc32: u32,
}

impl List {
    /// Slots with a row.
    pub(crate) fn len(&self) -> u32 {
        self.primaries + self.copies
    }
}

/// What a recall costs in this index: measured on rows of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Calibrated {
    /// The recall at 10 that was aimed at.
    pub(crate) target: f32,
    /// Slots to compare.
    pub(crate) slots: u32,
    /// The recall that was found with them.
    pub(crate) found: f32,
}

/// Codes of a segment's rows, or of a memtable's, in lists; FLAT is one list without row numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lists {
    pub(crate) metric: Metric,
    pub(crate) dim: usize,
    pub(crate) bits: Bits,
    pub(crate) rows: u32,
    /// Standard error of an estimate: `2 code_error |r| |y-c| / sqrt(coded)`.
    pub(crate) code_error: f32,
    /// Mean of `|mul| / |r|`.
    pub(crate) mul_ratio: f32,
    /// Root of the mean squared norm of the rows.
    pub(crate) row_norm: f32,
    /// Rotated mean of the rows: what probes are taken from.
    pub(crate) mean: Vec<f32>,
    /// Without: one list around the mean.
    pub(crate) coarse: Option<Coarse>,
    pub(crate) lists: Vec<List>,
    pub(crate) calibrated: Vec<Calibrated>,
}

/// A query as an index sees it.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) probe: Probe,
    /// An estimate is `unit * (distance + code) + shift`.
    unit: f32,
    shift: f32,
}

/// What a search of an index may spend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Budget {
    pub(crate) slots: u32,
    /// How many errors above the best estimates a row is still compared.
    pub(crate) width: f32,
}

impl Lists {
    /// Numbers of a rotated vector.
    pub(crate) fn coded(&self) -> usize {
        self.mean.len()
    }

    /// Nibbles of a code.
    pub(crate) fn nibbles(&self) -> usize {
        self.bits.nibbles(self.coded())
    }

    /// Slots with a row, copies included.
    pub(crate) fn slots(&self) -> u32 {
        self.lists.iter().map(List::len).sum()
    }

    /// Makes a query ready. `rotated` is that of the query as given, normalised under cosine; `norm` its length.
    pub(crate) fn ask(&self, kernel: Kernel, rotated: &[f32], norm: f32, asked: &mut Asked) {
        // The order by inner product does not change with the query's length: as long as the rows it is near them.
        let scale = if self.metric == Metric::Dot && norm > 0.0 && self.row_norm > 0.0 {
            self.row_norm / norm
        } else {
            1.0
        };
        asked.probe.set(kernel, self.bits, rotated, scale, &self.mean);
        (asked.unit, asked.shift) = match self.metric {
            Metric::Cosine | Metric::L2 => (1.0, 0.0),
            Metric::Dot => (0.5 / scale, -0.5 * scale * norm * norm),
        };
    }

    /// The lists to scan, nearest first, until they hold `slots` slots.
    pub(crate) fn nearest(
        &self,
        kernel: Kernel,
        asked: &Asked,
        slots: u32,
        scratch: &mut CoarseScratch,
        out: &mut Vec<Near>,
    ) {
        let Some(coarse) = &self.coarse else {
            out.clear();
            let distance_squared = asked.probe.norm_squared;
            out.push(Near { key: distance_squared, distance_squared, list: 0 });
            return;
        };
        // Nearly every row stands in two lists.
        let mean = (2 * self.rows as usize / coarse.count).max(1);
        // Lists near a query are larger than most.
        let mut wanted = slots as usize / mean + 2;
        loop {
            coarse.nearest(kernel, &asked.probe, wanted, scratch, out);
            let mut held = 0u32;
            let enough = out.iter().position(|near| {
                held += self.lists[near.list as usize].len();
                held >= slots
            });
            match enough {
                Some(last) => return out.truncate(last + 1),
                None if wanted >= coarse.count => return,
                None => wanted *= 2,
            }
        }
    }

    /// The scan of a list whose codes are `bytes`, its part of CODES.
    pub(crate) fn scan<'a>(&self, asked: &Asked, near: Near, bytes: &'a [u8], source: u32) -> ListScan<'a> {
        self.scan_of(asked, near, &self.lists[near.list as usize], bytes, source)
    }

    /// As [`Lists::scan`], of a list that is not in the directory.
    pub(crate) fn scan_of<'a>(
        &self,
        asked: &Asked,
        near: Near,
        list: &List,
        bytes: &'a [u8],
        source: u32,
    ) -> ListScan<'a> {
        let blocks_len = list.blocks as usize * super::block::block_len(self.nibbles());
        let (blocks, rows) = bytes.split_at(blocks_len.min(bytes.len()));
        ListScan {
            blocks,
            rows: self.coarse.is_some().then_some(rows),
            first_row: 0,
            len: list.len(),
            scales: list.scales,
            base: asked.unit * near.distance_squared + asked.shift,
            unit: asked.unit,
            error: asked.unit * self.error(asked, list, near.distance_squared),
            is_one_of_many: self.coarse.is_some(),
            source,
            soon: &[],
        }
    }

    /// The row numbers in a list's bytes, 4 bytes each; `None` where slots are rows.
    pub(crate) fn row_numbers<'a>(&self, list: &List, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let blocks_len = list.blocks as usize * super::block::block_len(self.nibbles());
        self.coarse.is_some().then(|| bytes.get(blocks_len..).unwrap_or(&[]))
    }

    /// Bytes of a list in CODES.
    pub(crate) fn list_len(&self, list: &List) -> usize {
        let row_numbers = if self.coarse.is_some() { 4 * 32 } else { 0 };
        list.blocks as usize * (super::block::block_len(self.nibbles()) + row_numbers)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts up to 4096")]
    fn error(&self, asked: &Asked, list: &List, distance_squared: f32) -> f32 {
        let code = (2.0 * self.code_error).powi(2) * distance_squared / self.coded() as f32;
        let table = (self.mul_ratio * asked.probe.table.step).powi(2) * self.nibbles() as f32 / 12.0;
        // Of two roots: the product would leave f32 before its root does.
        list.radius_squared.sqrt() * (code + table).sqrt()
    }

    /// What to spend for a recall of `target`.
    pub(crate) fn budget(&self, target: f32) -> Budget {
        let width = width(target);
        let mut below = Calibrated { target: 0.0, slots: 0, found: 0.0 };
        for at in &self.calibrated {
            if target <= at.target {
                let part = (target - below.target) / (at.target - below.target).max(1e-6);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "between two u32"
                )]
                #[expect(clippy::cast_precision_loss, reason = "a budget")]
                let slots =
                    (below.slots as f32 + part * (at.slots as f32 - below.slots as f32)).ceil() as u32;
                return Budget { slots, width };
            }
            below = *at;
        }
        Budget { slots: u32::MAX, width }
    }

    /// The slots an effort of `n` compares: `n` times the root of the rows.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    #[expect(clippy::cast_precision_loss, reason = "a budget")]
    pub(crate) fn slots_of_effort(&self, n: u32) -> u32 {
        (n as f32 * (self.rows as f32).sqrt()).ceil() as u32
    }
}

/// How many errors above the best estimates a row is still compared, for a recall.
pub(crate) fn width(target: f32) -> f32 {
    match target {
        ..0.90 => 1.25,
        ..0.95 => 1.25 + (target - 0.90) / 0.05 * 0.5,
        ..0.98 => 1.75,
        ..0.99 => 1.75 + (target - 0.98) / 0.01 * 0.5,
        ..0.999 => 2.25 + (target - 0.99) / 0.009 * 0.75,
        _ => 3.0,
    }
}
